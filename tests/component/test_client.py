"""The client against a real API server: what each request does, and which error each fault becomes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import orjson
import pytest

from hosted_cp.kube import errors
from hosted_cp.kube.client import ApiClient, Sample
from hosted_cp.kube.credentials import Credentials, certificate_credentials, from_kubeconfig
from hosted_cp.kube.resources import CONFIG_MAP, CRON_JOB, NAMESPACE, SECRET, SERVICE
from tests.component.apiserver import Access, Server
from tests.component.faults import Fault, Proxy, proxy


def config_map(namespace: str, name: str, **data: str) -> dict[str, Any]:
    """A ConfigMap."""
    metadata = {"name": name, "namespace": namespace, "labels": {"test": "yes"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def cron_job(namespace: str, name: str) -> dict[str, Any]:
    """A CronJob that never runs: the kind whose watches feel a compaction (`apiserver.py`)."""
    pod = {"containers": [{"name": "a", "image": "example.invalid/a:1"}], "restartPolicy": "Never"}
    spec = {"schedule": "0 0 30 2 *", "jobTemplate": {"spec": {"template": {"spec": pod}}}}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def credentials_of(access: Access) -> Credentials:
    """The product's credentials for a user of the test server."""
    return certificate_credentials(
        server=access.server, ca=access.ca, certificate=access.pair.certificate, key=access.pair.key
    )


@pytest.fixture
async def faulty(server: Server) -> AsyncIterator[Proxy]:
    async with proxy(server, "faulty", "system:masters") as running:
        yield running


@pytest.fixture
async def through(faulty: Proxy) -> AsyncIterator[ApiClient]:
    async with ApiClient(credentials_of(faulty.access)) as client:
        yield client


async def test_an_object_lives_and_dies(admin: ApiClient, namespace: str) -> None:
    created = await admin.create(CONFIG_MAP, config_map(namespace, "a", x="1"))
    assert created["data"] == {"x": "1"}
    with pytest.raises(errors.AlreadyExists):
        await admin.create(CONFIG_MAP, config_map(namespace, "a"))
    patched = await admin.merge_patch(CONFIG_MAP, namespace, "a", {"data": {"y": "2"}})
    assert patched["data"] == {"x": "1", "y": "2"}
    with pytest.raises(errors.Conflict):
        await admin.replace(CONFIG_MAP, created.body)
    with pytest.raises(errors.Conflict):
        await admin.delete(CONFIG_MAP, namespace, "a", uid="another")
    await admin.delete(CONFIG_MAP, namespace, "a", uid=created["metadata"]["uid"])
    with pytest.raises(errors.NotFound):
        await admin.get(CONFIG_MAP, namespace, "a")


async def test_apply_with_the_uid_of_another_life_is_a_conflict(admin: ApiClient, namespace: str) -> None:
    body = config_map(namespace, "a", x="1")
    body["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555"
    with pytest.raises(errors.Conflict):
        await admin.apply(CONFIG_MAP, body)
    await admin.create(CONFIG_MAP, config_map(namespace, "a"))
    with pytest.raises(errors.Conflict):
        await admin.apply(CONFIG_MAP, body)


async def test_a_field_the_server_does_not_know_is_refused(admin: ApiClient, namespace: str) -> None:
    body = {**config_map(namespace, "a"), "dta": {}}
    with pytest.raises(errors.Invalid, match="dta"):
        await admin.create(CONFIG_MAP, body)
    with pytest.raises(errors.Invalid, match="dta"):
        await admin.apply(CONFIG_MAP, body)


async def test_an_invalid_object_names_its_fields(admin: ApiClient, namespace: str) -> None:
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": namespace}}
    with pytest.raises(errors.Invalid) as caught:
        await admin.create(SERVICE, {**body, "spec": {"ports": [{"port": 99999}]}})
    assert "spec.ports[0].port" in [field for field, _ in caught.value.causes]
    assert caught.value.public() == "Invalid (422) in spec.ports[0].port, spec.ports[0].targetPort"


async def test_what_rbac_refuses_is_forbidden(server: Server, namespace: str) -> None:
    async with ApiClient(credentials_of(server.access("nobody"))) as nobody:
        with pytest.raises(errors.Forbidden):
            await nobody.get(CONFIG_MAP, namespace, "a")


async def test_a_stranger_is_unauthorized(server: Server) -> None:
    asked: list[bool] = []

    async def token(renew: bool) -> str | None:
        asked.append(renew)
        return "Bearer none"

    plain = Credentials(server=server.url, context=_trusting(server), authorization=token)
    async with ApiClient(plain) as client:
        with pytest.raises(errors.Unauthorized):
            await client.get(NAMESPACE, None, "default")
    assert asked == [False, True], "refused once, renewed once, and no more"


def _trusting(server: Server) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=server.authority.certificate.decode())


async def test_lists_come_in_pages(admin: ApiClient, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hosted_cp.kube.client.PAGE", 2)
    for number in range(5):
        await admin.create(CONFIG_MAP, config_map(namespace, f"a{number}"))
    sizes = [len(page.items) async for page in admin.pages(CONFIG_MAP, namespace, labels="test=yes")]
    assert sizes == [2, 2, 1]
    partial = [page async for page in admin.pages(CONFIG_MAP, namespace, labels="test=yes", metadata_only=True)]
    assert b'"data"' not in b"".join(item for page in partial for item in page.items)
    assert [page.items async for page in admin.pages(CONFIG_MAP, namespace, labels="a=b", metadata_only=True)] == [()]


async def test_a_watch_tells_what_happens(admin: ApiClient, namespace: str) -> None:
    since = (await admin.create(CONFIG_MAP, config_map(namespace, "a")))["metadata"]["resourceVersion"]
    big = "x" * 700_000  # far beyond what a line reader would take
    await admin.merge_patch(CONFIG_MAP, namespace, "a", {"data": {"big": big}})
    await admin.delete(CONFIG_MAP, namespace, "a")
    told = []
    async with aclosing(admin.watch(CONFIG_MAP, namespace, since=since)) as events:
        async for event in events:
            told.append((event.type, len(orjson.loads(event.raw).get("data", {}).get("big", ""))))
            if event.type == "DELETED":
                break
    assert told == [("MODIFIED", 700_000), ("DELETED", 700_000)]


async def test_a_watch_ends_after_its_time(admin: ApiClient, namespace: str) -> None:
    found = await admin.create(CONFIG_MAP, config_map(namespace, "a"))
    since = found["metadata"]["resourceVersion"]
    async with asyncio.timeout(10):
        async for event in admin.watch(CONFIG_MAP, namespace, since=since, timeout=1):
            assert event.type == "BOOKMARK"


async def test_a_watch_from_a_forgotten_version_is_gone(admin: ApiClient, namespace: str, server: Server) -> None:
    for value in "abc":
        await admin.apply(CRON_JOB, cron_job(namespace, value))
    server.compact()
    with pytest.raises(errors.Gone):
        async for _ in admin.watch(CRON_JOB, namespace, since="1"):
            pass


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(status=429, retry_after=3), errors.TooManyRequests),
        (Fault(status=500), errors.ServerFault),
        (Fault(status=503, retry_after=3), errors.ServerFault),
        (Fault(status=410), errors.Gone),
        (Fault(reset="before"), errors.Unreachable),
        (Fault(reset="after"), errors.Unreachable),
        (Fault(delay=5), errors.DeadlineExceeded),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
async def test_every_fault_has_its_error(
    through: ApiClient, faulty: Proxy, namespace: str, fault: Fault, error: type[errors.ApiError]
) -> None:
    faulty.add(fault)
    with pytest.raises(error) as caught:
        await through.create(CONFIG_MAP, config_map(namespace, "a"), deadline=0.5)
    assert type(caught.value) is error
    assert caught.value.retry_after == fault.retry_after
    assert len(faulty.seen) == 1, "nothing is tried twice behind the caller's back"


async def test_a_reset_after_commit_has_done_its_work(
    through: ApiClient, admin: ApiClient, faulty: Proxy, namespace: str
) -> None:
    faulty.add(Fault(reset="after"))
    with pytest.raises(errors.Unreachable):
        await through.create(CONFIG_MAP, config_map(namespace, "a", x="1"))
    assert (await admin.get(CONFIG_MAP, namespace, "a"))["data"] == {"x": "1"}


async def test_a_silent_watch_is_given_up(through: ApiClient, faulty: Proxy, namespace: str) -> None:
    faulty.add(Fault(method="WATCH", cut_after=0, silent=True))
    with pytest.raises(errors.DeadlineExceeded):
        async for _ in through.watch(CONFIG_MAP, namespace, since="0", inactivity=0.3):
            pass


async def test_nobody_listens() -> None:
    async with ApiClient(Credentials(server="https://127.0.0.1:1")) as client:
        with pytest.raises(errors.Unreachable):
            await client.get(NAMESPACE, None, "default")


async def test_every_request_is_observed(server: Server) -> None:
    samples: list[Sample] = []
    async with ApiClient(credentials_of(server.admin), observe=samples.append) as client:
        await client.get(NAMESPACE, None, "default")
        with pytest.raises(errors.NotFound):
            await client.get(SECRET, "default", "none-such")
    assert [(each.verb, each.kind, each.code) for each in samples] == [
        ("get", "Namespace", 200),
        ("get", "Secret", 404),
    ]


async def test_a_kubeconfig_file_is_understood(server: Server, tmp_path: Path) -> None:
    credentials = await from_kubeconfig(server.admin.kubeconfig(tmp_path / "kubeconfig"))
    async with ApiClient(credentials) as client:
        assert (await client.get(NAMESPACE, None, "default"))["kind"] == "Namespace"
    assert "PRIVATE" not in repr(credentials)


async def test_an_exec_plugin_is_asked_for_the_token(server: Server, tmp_path: Path) -> None:
    """The token of a real service account, given by a real plug-in."""
    token = server.kubectl("-n", "default", "create", "token", "default").decode().strip()
    plugin = tmp_path / "plugin"
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": token, "expirationTimestamp": "2099-01-01T00:00:00Z"},
    }
    plugin.write_text(f"#!/bin/sh\necho '{orjson.dumps(answer).decode()}'\n")
    plugin.chmod(0o755)
    config = orjson.loads(server.admin.kubeconfig(tmp_path / "kubeconfig").read_bytes())
    config["users"][0]["user"] = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(plugin),
            "interactiveMode": "Never",
        }
    }
    (tmp_path / "kubeconfig").write_bytes(orjson.dumps(config))
    credentials = await from_kubeconfig(tmp_path / "kubeconfig")
    async with ApiClient(credentials) as client:
        with pytest.raises(errors.Forbidden, match="system:serviceaccount:default:default"):
            await client.get(SECRET, "default", "any")
