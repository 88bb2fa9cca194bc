"""Conversion as it is shipped: the webhook's process with certificates of its own, and the operator that says whom to
trust. Objects are readable whatever the operator does; nothing of it costs a request that fails."""

from __future__ import annotations

import asyncio
import base64
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest
import yaml

from hosted_cp.api.kinds import VERSIONED
from hosted_cp.cli import run as product
from hosted_cp.hosting.settings import Settings
from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.definitions import WEBHOOK_CONFIGURATION
from hosted_cp.kube.errors import ApiError
from hosted_cp.kube.resources import CRD, NAMESPACE, SECRET, Resource
from hosted_cp.kube.webhook_names import BUNDLE, CA_SECRET, CONFIGURATION, SERVING_SECRET
from hosted_cp.operator import Operator, Options
from k0s_images.golang import components
from tests.component.apiserver import Server, running
from tests.component.hosting import CATALOGUE, DEPLOYED, OPERATOR, PATIENCE
from tests.component.test_client import credentials_of
from tests.component.webhook import (
    GROUPS,
    SHIPPED,
    USER,
    Webhook,
    answering,
    definitions,
    install,
    own_certificates,
    shipped,
)
from tests.webhooks.test_admission import GOOD

#: Here the operator looks after what it finds; elsewhere objects stay as they are.
OPERATED = "operated"
CLUSTERS = "clusters.k0smotron.io"
NAMES = [f"{each.hub.plural}.{each.hub.group}" for each in VERSIONED]


def resource(kind: str, version: str) -> Resource:
    [hub] = [each.hub for each in VERSIONED if each.hub.__name__ == kind]
    return Resource(group=hub.group, version=version, kind=kind, plural=hub.plural)


def body(kind: str, name: str, **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", **more.pop("metadata", {})}
    return {
        "apiVersion": resource(kind, "v1beta2").api_version,
        "kind": kind,
        "metadata": metadata,
        "spec": GOOD[kind],
        **more,
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own, with the rights as shipped and no kind yet."""
    with running(tmp_path_factory.mktemp("webhooked"), components("1.36"), controllers=()) as started:
        rights = [
            each
            for each in yaml.safe_load_all(DEPLOYED.read_text(encoding="utf-8"))
            if each["kind"] not in {"Deployment", "Namespace"}
        ]
        install(started, shipped("Namespace"))
        install(started, [*shipped(), *rights])
        yield started


@pytest.fixture(scope="module")
def webhook(server: Server) -> Iterator[Webhook]:
    """Ready; its first certificates are made under its own service account."""
    folder = server.folder / "webhook"
    with answering(folder, *own_certificates(server, folder)) as started:
        yield started


@pytest.fixture
async def admin(server: Server) -> AsyncIterator[ApiClient]:
    async with ApiClient(credentials_of(server.admin), agent="component-test") as client:
        yield client


@asynccontextmanager
async def operating(server: Server, *, leads: bool = True) -> AsyncIterator[Operator]:
    """The whole operator, under the rights that are shipped."""
    operator = Operator(
        credentials_of(server.access(OPERATOR, *GROUPS)),
        product.kinds(Settings(catalogue=CATALOGUE)),
        options=Options(
            with_kopf=False, workers=2, webhook_namespace="hosted-cp", health_address="127.0.0.1:0",
            lease_namespace="hosted-cp", namespaces=(OPERATED,),
        ),
    )  # fmt: skip
    task = asyncio.create_task(operator.run())
    waiting = asyncio.create_task(operator.leading.wait())
    try:
        if leads:
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
        yield operator
    finally:
        waiting.cancel()
        operator.stop()
        async with asyncio.timeout(PATIENCE):
            await task


async def bundle(admin: ApiClient) -> str:
    return str((await admin.get(SECRET, "hosted-cp", CA_SECRET))["data"][BUNDLE])


async def trusted(admin: ApiClient) -> list[str]:
    """Every `caBundle` that stands anywhere."""
    found = [
        (await admin.get(CRD, None, name))["spec"]["conversion"]["webhook"]["clientConfig"].get("caBundle", "")
        for name in NAMES
    ]
    configuration = await admin.get(WEBHOOK_CONFIGURATION, None, CONFIGURATION)
    return [*found, *(each["clientConfig"].get("caBundle", "") for each in configuration["webhooks"])]


async def until_trusted(admin: ApiClient) -> None:
    async def true() -> bool:
        return set(await trusted(admin)) == {await bundle(admin)}

    await until(true)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """For what no event tells of; nothing here is about time."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if await true():
                return
            await asyncio.sleep(0.05)


async def until_converts(admin: ApiClient) -> None:
    """An API server takes a changed definition into use a moment after it has stored it."""
    async with asyncio.timeout(PATIENCE):
        for each in VERSIONED:
            while True:
                try:
                    kind = each.hub.__name__
                    probe = {**body(kind, "probe"), "apiVersion": resource(kind, "v1beta1").api_version, "spec": None}
                    await admin.create(resource(kind, "v1beta1"), {**probe, "spec": _old(kind)})
                    await admin.delete(resource(kind, "v1beta2"), "default", "probe")
                    break
                except ApiError:
                    await asyncio.sleep(0.1)


def _old(kind: str) -> Any:
    return {"clusterRef": {"name": "a", "namespace": "default"}} if kind == "JoinTokenRequest" else {}


@pytest.fixture(scope="module", autouse=True)
def _installed(server: Server, webhook: Webhook) -> None:
    """Definitions without a CA, as in `crds/`; then the operator starts, and leads."""
    install(server, [*definitions(webhook.url), *shipped("ValidatingWebhookConfiguration", url=webhook.url)])
    asyncio.run(_begin(server))


async def _begin(server: Server) -> None:
    async with ApiClient(credentials_of(server.admin)) as admin:
        await admin.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATED}})
        assert set(await trusted(admin)) == {""}
        async with operating(server):
            await until_trusted(admin)
        await until_converts(admin)


async def test_with_the_operator_stopped_every_object_is_readable_in_both_versions(admin: ApiClient) -> None:
    for each in VERSIONED:
        kind = each.hub.__name__
        made = await admin.create(resource(kind, "v1beta2"), body(kind, "readable"))
        for version in ("v1beta1", "v1beta2"):
            there = await admin.get(resource(kind, version), "default", "readable")
            assert there["apiVersion"] == resource(kind, version).api_version
            assert there["metadata"]["uid"] == made["metadata"]["uid"]
            listed = await admin.list(resource(kind, version), "default")
            assert [found["metadata"]["name"] for found in listed] == ["readable"]
        # What was read as v1beta1 and is written so again is the same.
        old = (await admin.get(resource(kind, "v1beta1"), "default", "readable")).body
        again = await admin.replace(resource(kind, "v1beta1"), old)
        assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
        await admin.delete(resource(kind, "v1beta1"), "default", "readable")


async def test_a_webhook_that_starts_anew_takes_what_is_there(admin: ApiClient, webhook: Webhook) -> None:
    before = [(await admin.get(SECRET, "hosted-cp", name))["metadata"] for name in (CA_SECRET, SERVING_SECRET)]
    assert webhook.stop() == 0
    webhook.start()
    after = [(await admin.get(SECRET, "hosted-cp", name))["metadata"] for name in (CA_SECRET, SERVING_SECRET)]
    assert before == after
    await until_converts(admin)


async def test_a_ca_bundle_that_somebody_strips_is_written_again(server: Server, admin: ApiClient) -> None:
    async with operating(server):
        for name in NAMES:
            strip = {"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": None}}}}}
            await admin.merge_patch(CRD, None, name, strip)
        first = {"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}
        await admin.json_patch(WEBHOOK_CONFIGURATION, None, CONFIGURATION, [first])
        await until_trusted(admin)
    # And with the operator at rest nothing more is written.
    since = server.audit.mark()
    async with operating(server) as operator:
        await asyncio.sleep(1.0)
        text = operator.metrics.text().decode()
    assert "hosted_cp_ca_bundle_writes_total 0.0" in text
    written = server.audit.writes(since=since, user=OPERATOR)
    assert written == []
    await until_converts(admin)


async def test_certificates_are_renewed_while_serving_and_no_request_fails(
    server: Server, admin: ApiClient, webhook: Webhook
) -> None:
    cluster = resource("Cluster", "v1beta1")
    await admin.create(resource("Cluster", "v1beta2"), body("Cluster", "renewed"))
    old_ca = await bundle(admin)
    stop, asked = asyncio.Event(), 0

    async def ask() -> None:
        nonlocal asked
        context = ssl.create_default_context(cadata=base64.b64decode(old_ca).decode())
        request = {"uid": "u", "desiredAPIVersion": "k0smotron.io/v1beta1", "objects": [body("Cluster", "x")]}
        while not stop.is_set():
            assert (await admin.get(cluster, "default", "renewed"))["apiVersion"] == cluster.api_version
            # A new connection each time, which trusts what was trusted at the start.
            async with (
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
                session.post(f"{webhook.url}/convert", json={"request": request}) as answer,
            ):
                assert answer.status == 200
            asked += 1

    async def _until_more(count: int) -> None:
        wanted = asked + count

        async def true() -> bool:
            for task in asking:
                if task.done():
                    task.result()  # raises what has failed
            return asked >= wanted

        await until(true)

    asking = [asyncio.create_task(ask()) for _ in range(4)]
    try:
        for _ in range(3):
            # What is gone is due, as what is old is.
            former = (await admin.get(SECRET, "hosted-cp", SERVING_SECRET))["data"]["tls.crt"]
            await admin.delete(SECRET, "hosted-cp", SERVING_SECRET)
            renewed = await _until_there(admin, SERVING_SECRET)
            assert renewed["tls.crt"] != former
            certificate = base64.b64decode(renewed["tls.crt"]).decode()
            await _until_served(webhook, ssl.PEM_cert_to_DER_cert(certificate))
            await _until_more(20)
        # A CA that is lost is made anew; the old one is trusted on, and what it signed serves on.
        await admin.delete(SECRET, "hosted-cp", CA_SECRET)
        made = base64.b64decode((await _until_there(admin, CA_SECRET))[BUNDLE])
        assert made.endswith(base64.b64decode(old_ca))
        assert made != base64.b64decode(old_ca)
        async with operating(server):
            await until_trusted(admin)
            await _until_more(50)
    finally:
        stop.set()
        await asyncio.gather(*asking)
    await admin.delete(resource("Cluster", "v1beta2"), "default", "renewed")
    assert "PRIVATE KEY" not in webhook.said()


async def _until_served(webhook: Webhook, certificate: bytes) -> None:
    async def true() -> bool:
        return await asyncio.to_thread(_served, webhook.port) == certificate

    await until(true)


def _served(port: int) -> bytes:
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port)))


async def _until_there(admin: ApiClient, name: str) -> Any:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return (await admin.get(SECRET, "hosted-cp", name))["data"]
            except ApiError:
                await asyncio.sleep(0.02)


async def test_fifty_lists_at_once_of_a_hundred_objects_each(admin: ApiClient) -> None:
    names = [f"many-{number:03}" for number in range(100)]
    for name in names:
        await admin.create(resource("Cluster", "v1beta2"), body("Cluster", name))
    old = resource("Cluster", "v1beta1")
    lists = await asyncio.gather(*(admin.list(old, "default") for _ in range(50)))
    for found in lists:
        assert [each["metadata"]["name"] for each in found] == names
        assert {each["spec"]["service"]["type"] for each in found} == {"NodePort"}
    for name in names:
        await admin.delete(resource("Cluster", "v1beta2"), "default", name)


async def test_the_webhook_needs_exactly_the_rights_that_it_has(
    server: Server, admin: ApiClient, webhook: Webhook
) -> None:
    """Over all tests so far, and one renewal of a certificate that has ended."""
    held = (await admin.get(SECRET, "hosted-cp", SERVING_SECRET)).body
    await admin.replace(SECRET, {**held, "data": {"tls.crt": "AA==", "tls.key": "AA=="}})

    async def renewed() -> bool:
        return bool((await admin.get(SECRET, "hosted-cp", SERVING_SECRET))["data"]["tls.crt"] != "AA==")

    await until(renewed)
    requests = server.audit.requests(user=USER)
    assert [str(each) for each in requests if each.code == 403] == []
    assert {(each.resource, each.verb) for each in requests if each.code < 400} == {
        ("secrets", verb) for verb in ("create", "get", "update", "watch")
    }
    assert {each.name for each in requests if each.verb != "create"} == {CA_SECRET, SERVING_SECRET}
    [rules] = [each["rules"] for each in shipped("Role") if each["metadata"]["name"] == "hosted-cp-webhook"]
    assert {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]} == {
        ("secrets", verb) for verb in ("create", "get", "update", "watch")
    }
    assert await _status(server, "secrets", namespace="default") == 403
    assert await _status(server, "pods", namespace="hosted-cp") == 403
    assert SHIPPED.read_text().count("*") == 0


async def _status(server: Server, plural: str, *, namespace: str) -> int:
    async with ApiClient(credentials_of(server.access(USER, *GROUPS))) as client:
        kind = Resource(group="", version="v1", kind="X", plural=plural)
        try:
            await client.list(kind, namespace)
        except ApiError as error:
            return error.code
    return 200


async def test_while_nobody_converts_stored_objects_are_read_written_and_deleted(
    server: Server, admin: ApiClient, webhook: Webhook
) -> None:
    """What is stored as v1beta2 needs nobody. Only v1beta1 does, and its users are told why."""
    await admin.create(resource("Cluster", "v1beta2"), body("Cluster", "alone", metadata={"finalizers": ["a.b/c"]}))
    webhook.stop(signal.SIGKILL)
    try:
        with pytest.raises(ApiError, match=r"conversion webhook for k0smotron\.io/v1beta2, Kind=Cluster failed"):
            await admin.get(resource("Cluster", "v1beta1"), "default", "alone")
        new = resource("Cluster", "v1beta2")
        assert len(await admin.list(new, "default")) == 1
        await admin.merge_patch(new, "default", "alone", {"spec": {"replicas": 3}})
        async with operating(server) as operator:
            assert operator.synced.is_set()
        # Who would be refused is let in: a condition says the rest.
        await admin.create(new, {**body("Cluster", "bad"), "spec": {"controlPlaneFlags": ["--single"]}})
        for name in ("alone", "bad"):
            await admin.delete(new, "default", name)
        await admin.merge_patch(new, "default", "alone", {"metadata": {"finalizers": None}})
        assert await admin.list(new, "default") == []
    finally:
        webhook.start()
    await until_converts(admin)


async def _ready(operator: Operator) -> tuple[int, str]:
    async def listens() -> bool:
        return bool(operator.addresses)

    await until(listens)
    host, port = operator.addresses[0]
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/readyz") as answer:
        return answer.status, await answer.text()


async def _store_old(admin: ApiClient, *names: str) -> None:
    """Clusters as k0smotron has stored them."""
    old = resource("Cluster", "v1beta1")
    await _store(admin, CLUSTERS, "v1beta1")
    for name in names:
        spec = {"etcd": {"args": [f"--max-txn-ops={1000 + len(name)}"]}, "service": {"type": "NodePort"}}
        metadata = {"name": name, "namespace": OPERATED}
        await admin.create(old, {"apiVersion": old.api_version, "kind": "Cluster", "metadata": metadata, "spec": spec})


async def _specs(admin: ApiClient) -> dict[str, Any]:
    return {
        each["metadata"]["name"]: each["spec"] for each in await admin.list(resource("Cluster", "v1beta2"), OPERATED)
    }


async def test_what_is_stored_in_the_old_version_is_written_anew_and_the_version_is_given_up(
    server: Server, admin: ApiClient
) -> None:
    names = [f"old-{number:02}" for number in range(30)]
    await _store_old(admin, *names)
    await _store(admin, CLUSTERS, "v1beta2")
    assert (await admin.get(CRD, None, CLUSTERS))["status"]["storedVersions"] == ["v1beta2", "v1beta1"]
    assert set(_stored(server)) == {"k0smotron.io/v1beta1"}
    before = await _specs(admin)
    assert sorted(before) == names
    async with operating(server) as operator:
        await _until_stored_as(admin, CLUSTERS, ["v1beta2"])
        assert 'hosted_cp_storage_migrated_total{kind="Cluster"} 30.0' in operator.metrics.text().decode()
    assert set(_stored(server)) == {"k0smotron.io/v1beta2"}
    assert await _specs(admin) == before


async def test_nothing_is_listed_before_the_webhook_answers(
    server: Server, admin: ApiClient, webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    await _store_old(admin, "unread")
    # A definition that changes is served afresh, from what is stored: what was converted before is forgotten.
    webhook.stop(signal.SIGKILL)
    await _store(admin, CLUSTERS, "v1beta2")
    since = server.audit.mark()
    async with operating(server, leads=False) as operator:
        status, said = await _until_it_says(operator, "cannot be read as")
        assert status == 503
        assert "objects of kind Cluster cannot be read as v1beta" in said
        assert "does the webhook answer?" in said
        assert not operator.synced.is_set()
        assert "nothing is looked after yet: objects of kind Cluster cannot be read" in caplog.text
        assert server.audit.writes(since=since, user=OPERATOR) == []
        webhook.start()
        async with asyncio.timeout(PATIENCE):
            await operator.leading.wait()
        assert (await _ready(operator))[0] == 200
        await _until_stored_as(admin, CLUSTERS, ["v1beta2"])


async def test_without_a_converter_what_is_stored_in_another_version_is_not_looked_at(
    server: Server, admin: ApiClient, webhook: Webhook
) -> None:
    """With strategy None an API server renames the version, and prunes: the operator would see another spec."""
    conversion = (await admin.get(CRD, None, CLUSTERS))["spec"]["conversion"]
    await _store(admin, CLUSTERS, "v1beta1")
    await _store(admin, CLUSTERS, "v1beta2")
    await admin.merge_patch(CRD, None, CLUSTERS, {"spec": {"conversion": {"strategy": "None", "webhook": None}}})
    async with operating(server, leads=False) as operator:
        await _until_it_says(operator, "nobody is named who converts")
        assert not operator.synced.is_set()
        # It leads meanwhile, for whoever converts may only lack trust.
        await admin.merge_patch(CRD, None, CLUSTERS, {"spec": {"conversion": conversion}})
        async with asyncio.timeout(PATIENCE):
            await operator.synced.wait()


async def _until_it_says(operator: Operator, words: str) -> tuple[int, str]:
    """What `/readyz` answers, once these words are in it."""

    async def says() -> bool:
        return words in (await _ready(operator))[1]

    await until(says)
    return await _ready(operator)


async def _until_stored_as(admin: ApiClient, name: str, versions: list[str]) -> None:
    async def stored() -> bool:
        return bool((await admin.get(CRD, None, name))["status"]["storedVersions"] == versions)

    await until(stored)


async def _store(admin: ApiClient, name: str, version: str) -> None:
    """Let this version be the one that is stored, and wait until it is."""
    definition = (await admin.get(CRD, None, name)).body
    versions = [{**each, "storage": each["name"] == version} for each in definition["spec"]["versions"]]
    await admin.merge_patch(CRD, None, name, {"spec": {"versions": versions}})
    if version == "v1beta1":
        await _until_stored_as(admin, name, ["v1beta2", "v1beta1"])
    # The handler of the old storage goes on for a moment, and nothing tells when it ends.
    await asyncio.sleep(2.0)


def _stored(server: Server) -> Iterator[str]:
    """The apiVersion of each Cluster as it lies in etcd."""
    prefix = b"/registry/k0smotron.io/clusters/"
    asked: dict[str, object] = {
        "key": base64.b64encode(prefix).decode(),
        "range_end": base64.b64encode(prefix[:-1] + b"0").decode(),
    }
    for each in orjson.loads(server.etcd("/v3/kv/range", asked)).get("kvs", ()):
        yield orjson.loads(base64.b64decode(each["value"]))["apiVersion"]
