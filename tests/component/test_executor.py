"""The executor against a real API server: every action, its precondition, and what it costs."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from hosted_cp.executor import Executor, Hooks, Step, merge_difference
from hosted_cp.kube.cache import Caches, Watched
from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.material import Sources
from hosted_cp.kube.outcome import Result, Verdict
from hosted_cp.kube.probes import Prober, tenant_api
from hosted_cp.kube.resources import CONFIG_MAP, EVENT, SECRET, SERVICE, STATEFUL_SET, resource_for
from hosted_cp.kube.secret_data import SecretData
from hosted_cp.kube.tenant import TenantAccess, TenantClients
from hosted_cp.pki.recipes import CARecipe, LeafRecipe
from hosted_cp.planning import diff
from hosted_cp.planning.actions import (
    Action,
    Apply,
    Create,
    Delete,
    Event,
    PatchMetadata,
    Plan,
    Probe,
    Ref,
    Replace,
    Target,
)
from hosted_cp.planning.observed import Observed
from hosted_cp.planning.recipes import Inputs
from tests.component.apiserver import Server
from tests.component.audit import Audit, summary
from tests.component.faults import Fault, proxy
from tests.component.test_client import config_map, credentials_of
from tests.component.test_harness import stateful_set

CANARY = "canary-93c2"


@dataclass
class Leader:
    leads: bool = True

    def held(self) -> bool:
        return self.leads


@dataclass(frozen=True, kw_only=True)
class Words:
    """A recipe for tests: it holds no secret itself, and makes one."""

    text: str
    needs: tuple[str, ...] = ()

    def printed(self) -> Mapping[str, Any]:
        return {"recipe": "words", "text": self.text}

    def fulfil(self, inputs: Inputs) -> Mapping[str, bytes]:
        needed = [inputs.secrets[name]["k"] for name in self.needs]
        return {"k": b"-".join([CANARY.encode(), self.text.encode(), *needed])}


@dataclass(kw_only=True)
class Bench:
    """An executor with caches, and the user's object that plans are about."""

    executor: Executor
    caches: Caches
    about: Observed
    leader: Leader
    steps: list[str] = field(default_factory=list)

    async def run(self, *actions: Action, **words: Any) -> Result:
        tenant = words.pop("tenant", None)
        return await self.executor.execute(Plan(actions=actions, **words), about=self.about, tenant=tenant, by="me")

    async def told(self, ref: Ref, true: Callable[[Observed], bool]) -> Observed:
        """Wait until the watch has told of the object as wanted."""
        async with asyncio.timeout(10):
            while (found := self.caches.known(ref)) is None or not true(found):
                news = asyncio.Event()
                self.caches.subscribe(lambda _, news=news: news.set())  # type: ignore[misc]
                await news.wait()
        return found

    def known(self, ref: Ref) -> Observed:
        found = self.caches.known(ref)
        assert found is not None
        return found


@asynccontextmanager
async def bench(client: ApiClient, admin: ApiClient, namespace: str, **options: Any) -> AsyncIterator[Bench]:
    """Everything that is created in the namespace is followed. The user's object is played by a Service, which has a
    status."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "owner", "namespace": namespace},
        "spec": {"ports": [{"port": 1}]},
    }
    await admin.create(SERVICE, service, manager="user")
    kinds = [Watched(resource=each) for each in (SERVICE, SECRET, CONFIG_MAP, STATEFUL_SET)]
    caches = Caches(client, kinds, namespaces=(namespace,))
    running = asyncio.create_task(caches.run())
    await caches.synced()
    secrets = SecretData(client, caches)
    leader = Leader()
    steps: list[str] = []

    def note(step: Step, number: int) -> None:
        steps.append(f"{number} {type(step).__name__}")

    sources = Sources()
    tenants = TenantClients(caches=caches, secrets=secrets, now=sources.now)
    executor = Executor(
        client=client, caches=caches, secrets=secrets, leadership=leader, sources=sources, tenants=tenants,
        hooks=options.get("hooks", Hooks(before=note)),
    )  # fmt: skip
    about = caches.known(SERVICE.ref(namespace, "owner"))
    assert about is not None
    try:
        yield Bench(executor=executor, caches=caches, about=about, leader=leader, steps=steps)
    finally:
        await tenants.close()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


@pytest.fixture
async def desk(server: Server, admin: ApiClient, namespace: str) -> AsyncIterator[Bench]:
    async with (
        ApiClient(credentials_of(server.access(f"operator-{namespace}", "system:masters"))) as client,
        bench(client, admin, namespace) as made,
    ):
        yield made


def secret(namespace: str, name: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": labels or {"a": "1"}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque"}


def data_of(answer: Any) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in answer["data"].items()}


async def spent(audit: Audit, namespace: str, since: int) -> dict[str, int]:
    """Requests of the operator, without its lists and watches."""
    seen = audit.requests(since=since, user=f"operator-{namespace}")
    return summary([request for request in seen if request.verb not in {"list", "watch"}])


# -- create ----------------------------------------------------------------------------------------------------------


async def test_a_plan_of_creations_costs_one_request_each(
    desk: Bench, admin: ApiClient, namespace: str, audit: Audit
) -> None:
    """CA, a leaf signed by it, and an object that is no Secret: no reads."""
    since = audit.mark()
    result = await desk.run(
        Create(body=secret(namespace, "ca"), recipe=CARecipe(common_name="kubernetes-ca")),
        Create(body=secret(namespace, "leaf"), recipe=LeafRecipe(common_name="x", signer="ca")),
        Create(body=config_map(namespace, "a", x="1")),
    )
    assert result == Result(verdict=Verdict.DONE, writes=3)
    assert await spent(audit, namespace, since) == {"create configmaps": 1, "create secrets": 2}
    facts = desk.known(SECRET.ref(namespace, "leaf")).secret
    assert facts is not None
    assert facts.certificates["tls.crt"].issuer == "kubernetes-ca"
    assert desk.steps == ["0 Create", "1 Create", "2 Create"]
    later = await desk.run(Create(body=secret(namespace, "b"), recipe=LeafRecipe(common_name="y", signer="ca")))
    assert later.verdict is Verdict.DONE
    assert await spent(audit, namespace, since) == {"create configmaps": 1, "create secrets": 3}


async def test_after_a_restart_what_signs_is_read_live(
    desk: Bench, admin: ApiClient, server: Server, namespace: str, audit: Audit
) -> None:
    await desk.run(Create(body=secret(namespace, "ca"), recipe=CARecipe(common_name="kubernetes-ca")))
    await admin.delete(SERVICE, namespace, "owner")
    async with (
        ApiClient(credentials_of(server.access(f"operator-{namespace}", "system:masters"))) as client,
        bench(client, admin, namespace) as fresh,
    ):
        since = audit.mark()
        leaf = LeafRecipe(common_name="x", signer="ca")
        await fresh.run(Create(body=secret(namespace, "leaf"), recipe=leaf))
        assert await spent(audit, namespace, since) == {"create secrets": 1, "get secrets": 1}


async def test_what_exists_is_read_and_planned_again(
    desk: Bench, admin: ApiClient, namespace: str, audit: Audit
) -> None:
    await admin.create(SECRET, {**secret(namespace, "ca"), "data": {"k": "Zm9yZWlnbg=="}})
    since = audit.mark()
    result = await desk.run(
        Create(body=secret(namespace, "ca"), recipe=CARecipe(common_name="kubernetes-ca")),
        Create(body=config_map(namespace, "never")),
    )
    assert result == Result(verdict=Verdict.REPLAN)
    assert await spent(audit, namespace, since) == {"create secrets": 1, "get secrets": 1}
    assert desk.caches.known(SECRET.ref(namespace, "ca")) is not None
    assert data_of(await admin.get(SECRET, namespace, "ca")) == {"k": "foreign"}


async def test_a_needed_secret_that_is_not_there_is_named(desk: Bench, namespace: str) -> None:
    result = await desk.run(Create(body=secret(namespace, "leaf"), recipe=LeafRecipe(common_name="x", signer="none")))
    assert result.verdict is Verdict.DEFERRED
    assert f"Secret {namespace}/none does not exist" in result.failure


async def test_material_is_handed_on_under_its_name(desk: Bench, admin: ApiClient, namespace: str) -> None:
    result = await desk.run(
        Create(body=secret(namespace, "first"), recipe=Words(text="a"), material="token"),
        Create(body=secret(namespace, "second"), recipe=Words(text="b", needs=("token",))),
    )
    assert result.verdict is Verdict.DONE
    assert data_of(await admin.get(SECRET, namespace, "second")) == {"k": f"{CANARY}-b-{CANARY}-a"}


@dataclass(frozen=True, kw_only=True)
class Password:
    """A recipe for what others may have been told already."""

    text: str
    needs: tuple[str, ...] = ()

    def printed(self) -> Mapping[str, Any]:
        return {"recipe": "password"}

    def fulfil(self, inputs: Inputs) -> Mapping[str, bytes]:
        return {"k": f"{CANARY}-{self.text}".encode()}

    def fault(self, data: Mapping[str, bytes], inputs: Inputs) -> str:
        return "" if data.get("k", b"").startswith(CANARY.encode()) else "it is too simple"

    def annotations(self, inputs: Inputs) -> Mapping[str, str]:
        return {"example.com/long": "yes"}


async def test_a_secret_says_what_its_recipe_says_of_it(desk: Bench, admin: ApiClient, namespace: str) -> None:
    body = secret(namespace, "a")
    body["metadata"]["annotations"] = {"example.com/long": "no", "example.com/other": "stays"}
    await desk.run(Create(body=body, recipe=Password(text="first")))

    async def said() -> tuple[str, str]:
        annotations = (await admin.get(SECRET, namespace, "a"))["metadata"]["annotations"]
        return annotations["example.com/long"], annotations["example.com/other"]

    assert await said() == ("yes", "stays")
    known = desk.known(SECRET.ref(namespace, "a"))
    again = Replace(body=body, recipe=Password(text="second"), uid=known.uid, resource_version=known.resource_version)
    assert (await desk.run(again)).verdict is Verdict.DONE
    assert await said() == ("yes", "stays")


def owned(body: dict[str, Any], owner: Observed) -> dict[str, Any]:
    reference = {"apiVersion": "v1", "kind": "Service", "name": owner.ref.name, "uid": owner.uid, "controller": True}
    return {**body, "metadata": {**body["metadata"], "ownerReferences": [reference]}}


def with_data(body: dict[str, Any], text: str) -> dict[str, Any]:
    return {**body, "data": {"k": base64.b64encode(text.encode()).decode()}}


async def test_material_that_is_there_is_kept_if_it_serves(
    desk: Bench, admin: ApiClient, namespace: str, audit: Audit
) -> None:
    """By a former life or by another operator: the next plan finds it, and it is not written again."""
    body = owned(secret(namespace, "a"), desk.about)
    made = await admin.create(SECRET, with_data(body, f"{CANARY}-theirs"))
    since = audit.mark()
    result = await desk.run(Create(body=body, recipe=Password(text="ours")))
    assert result == Result(verdict=Verdict.REPLAN)
    assert await spent(audit, namespace, since) == {"create secrets": 1, "get secrets": 1}
    assert desk.known(SECRET.ref(namespace, "a")).uid == made["metadata"]["uid"]
    assert data_of(await admin.get(SECRET, namespace, "a")) == {"k": f"{CANARY}-theirs"}


async def test_material_that_does_not_serve_is_made_anew(desk: Bench, admin: ApiClient, namespace: str) -> None:
    body = owned(secret(namespace, "a"), desk.about)
    old = await admin.create(SECRET, with_data(body, "simple"))
    create = Create(body=body, recipe=Password(text="ours"))
    assert await desk.run(create) == Result(verdict=Verdict.REPLAN, writes=1)
    assert (await desk.run(create)).verdict is Verdict.DONE
    new = await admin.get(SECRET, namespace, "a")
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    assert data_of(new) == {"k": f"{CANARY}-ours"}


async def test_material_of_somebody_else_is_left_to_the_next_plan(
    desk: Bench, admin: ApiClient, namespace: str
) -> None:
    body = owned(secret(namespace, "a"), desk.about)
    theirs = await admin.create(SECRET, with_data(secret(namespace, "a"), "simple"))
    assert await desk.run(Create(body=body, recipe=Password(text="ours"))) == Result(verdict=Verdict.REPLAN)
    assert desk.known(SECRET.ref(namespace, "a")).controller_uid == ""
    assert (await admin.get(SECRET, namespace, "a"))["metadata"]["uid"] == theirs["metadata"]["uid"]


async def test_rsa_keys_are_made_beside_the_loop(desk: Bench, namespace: str) -> None:
    longest = 0.0

    async def heart() -> None:
        nonlocal longest
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            await asyncio.sleep(0.005)
            longest = max(longest, loop.time() - begun)

    beating = asyncio.create_task(heart())
    recipe = CARecipe(common_name="kubernetes-ca", algorithm="RSA-4096")
    result = await desk.run(Create(body=secret(namespace, "ca"), recipe=recipe))
    beating.cancel()
    assert result.verdict is Verdict.DONE
    facts = desk.known(SECRET.ref(namespace, "ca")).secret
    assert facts is not None
    assert facts.certificates["tls.crt"].key_algorithm == "RSA-4096"
    assert longest < 0.15


# -- apply -----------------------------------------------------------------------------------------------------------


async def test_a_field_we_drop_goes_although_we_had_posted_it(
    desk: Bench, admin: ApiClient, namespace: str, audit: Audit
) -> None:
    """The entry that our POST left in managedFields is made ours to remove; once is enough."""
    ref = CONFIG_MAP.ref(namespace, "a")
    body = config_map(namespace, "a", keep="1", drop="1", later="1")
    await desk.run(Create(body=body))
    await admin.merge_patch(CONFIG_MAP, namespace, "a", {"data": {"foreign": "1"}}, manager="somebody")
    since = audit.mark()
    known = desk.known(ref)
    assert known.posted
    first = await desk.run(Apply(body=config_map(namespace, "a", keep="2", later="1"), uid=known.uid))
    assert first.verdict is Verdict.DONE
    live = await admin.get(CONFIG_MAP, namespace, "a")
    assert live["data"] == {"keep": "2", "later": "1", "foreign": "1"}
    assert await spent(audit, namespace, since) == {"get configmaps": 1, "patch configmaps": 2}
    since = audit.mark()
    assert not desk.known(ref).posted
    await desk.run(Apply(body=config_map(namespace, "a", keep="2"), uid=known.uid))
    live = await admin.get(CONFIG_MAP, namespace, "a")
    assert live["data"] == {"keep": "2", "foreign": "1"}
    assert await spent(audit, namespace, since) == {"patch configmaps": 1}
    entries = {(e["manager"], e["operation"]) for e in live["metadata"]["managedFields"]}
    assert entries == {("hosted-cp", "Apply"), ("somebody", "Update")}


async def test_a_stateful_set_is_changed_and_then_nothing_differs(
    desk: Bench, admin: ApiClient, namespace: str
) -> None:
    ref = STATEFUL_SET.ref(namespace, "web")
    body = stateful_set(namespace, "web", replicas=0)
    body["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "Service", "name": "owner", "uid": desk.about.uid, "controller": True}
    ]
    body["spec"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "2"},
    ]
    await desk.run(Create(body=body))
    assert diff.settle(body, desk.known(ref), desk.about.uid) is None
    body["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "B", "value": "3"}]
    body["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1000m", "memory": "0.5Gi"}}
    action = diff.settle(body, desk.known(ref), desk.about.uid)
    assert isinstance(action, Apply)
    assert (await desk.run(action)).verdict is Verdict.DONE
    live = await admin.get(STATEFUL_SET, namespace, "web")
    container = live["spec"]["template"]["spec"]["containers"][0]
    assert container["env"] == [{"name": "B", "value": "3"}]
    assert diff.settle(body, desk.known(ref), desk.about.uid) is None, (
        "hostile quantities write nothing the second time"
    )


async def test_what_somebody_renamed_is_put_right_though_no_merge_can_do_it(
    desk: Bench, admin: ApiClient, namespace: str, audit: Audit
) -> None:
    ref = SERVICE.ref(namespace, "web")
    owner = {"apiVersion": "v1", "kind": "Service", "name": "owner", "uid": desk.about.uid, "controller": True}
    body: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": namespace, "ownerReferences": [owner]},
        "spec": {
            "ports": [{"name": "api", "port": 6443, "protocol": "TCP"}, {"name": "b", "port": 2, "protocol": "TCP"}]
        },
    }
    await desk.run(Create(body=body))
    renamed: list[dict[str, Any]] = [{"op": "replace", "path": "/spec/ports/0/port", "value": 7443}]
    more = [{"op": "add", "path": "/spec/ports/-", "value": {"name": "theirs", "port": 9}}]
    answer = await admin.json_patch(SERVICE, namespace, "web", renamed + more, manager="somebody")
    await desk.told(ref, lambda seen: seen.resource_version == answer["metadata"]["resourceVersion"])
    body["spec"]["ports"] = body["spec"]["ports"][:1]
    action = diff.settle(body, desk.known(ref), desk.about.uid)
    assert isinstance(action, Apply)
    since = audit.mark()
    assert (await desk.run(action)).verdict is Verdict.DONE
    assert await spent(audit, namespace, since) == {"get services": 2, "patch services": 3, "update services": 1}
    live = await admin.get(SERVICE, namespace, "web")
    assert [(each["name"], each["port"]) for each in live["spec"]["ports"]] == [("api", 6443), ("theirs", 9)]
    assert diff.settle(body, desk.known(ref), desk.about.uid) is None


async def test_what_is_refused_for_its_own_sake_is_not_put(desk: Bench, namespace: str, audit: Audit) -> None:
    body = stateful_set(namespace, "web", replicas=0)
    await desk.run(Create(body=body))
    body["spec"]["template"]["spec"]["containers"][0]["image"] = ""
    since = audit.mark()
    result = await desk.run(Apply(body=body, uid=desk.known(STATEFUL_SET.ref(namespace, "web")).uid))
    assert result.failure.startswith(f"changing StatefulSet {namespace}/web: ")
    assert "spec.template.spec.containers[0].image: Required value" in result.failure
    assert "update statefulsets" not in await spent(audit, namespace, since)


async def test_apply_is_never_done_to_another_life(desk: Bench, admin: ApiClient, namespace: str) -> None:
    await desk.run(Create(body=config_map(namespace, "a", x="1")))
    old = desk.known(CONFIG_MAP.ref(namespace, "a"))
    await admin.delete(CONFIG_MAP, namespace, "a")
    gone = await desk.run(Apply(body=config_map(namespace, "a", x="2"), uid=old.uid))
    assert gone.verdict is Verdict.REPLAN
    assert desk.caches.known(CONFIG_MAP.ref(namespace, "a")) is None
    await admin.create(CONFIG_MAP, config_map(namespace, "a", x="theirs"))
    other = await desk.run(Apply(body=config_map(namespace, "a", x="2"), uid=old.uid))
    assert other.verdict is Verdict.REPLAN
    assert (await admin.get(CONFIG_MAP, namespace, "a"))["data"] == {"x": "theirs"}
    assert desk.known(CONFIG_MAP.ref(namespace, "a")).uid != old.uid


async def test_what_the_server_refuses_is_told_in_its_words(desk: Bench, namespace: str) -> None:
    body = stateful_set(namespace, "web", replicas=0)
    body["spec"]["template"]["spec"]["containers"][0]["image"] = ""
    result = await desk.run(Create(body=body), Create(body=config_map(namespace, "never")))
    assert result.verdict is Verdict.DEFERRED
    assert result.failure.startswith(f"creating StatefulSet {namespace}/web: ")
    assert "spec.template.spec.containers[0].image: Required value" in result.failure
    assert desk.steps == ["0 Create"]


# -- replace, metadata, delete ---------------------------------------------------------------------------------------


async def test_a_secret_is_renewed_and_keeps_what_others_put_on_it(
    desk: Bench, admin: ApiClient, namespace: str
) -> None:
    ref = SECRET.ref(namespace, "leaf")
    await desk.run(Create(body=secret(namespace, "leaf", ours="1", dropped="1"), recipe=Words(text="one")))
    patch = {"metadata": {"labels": {"foreign": "1"}, "finalizers": ["example.com/held"]}}
    await admin.merge_patch(SECRET, namespace, "leaf", patch, manager="somebody")
    old = desk.known(ref)
    stale = await desk.run(
        Replace(body=secret(namespace, "leaf", ours="2"), recipe=Words(text="two"), uid=old.uid, resource_version="1")
    )
    assert stale.verdict is Verdict.REPLAN
    now = (await desk.told(ref, lambda seen: "foreign" in seen.labels)).resource_version
    fresh = Replace(
        body=secret(namespace, "leaf", ours="2"), recipe=Words(text="two"), uid=old.uid, resource_version=now
    )
    assert (await desk.run(fresh)).verdict is Verdict.DONE
    live = await admin.get(SECRET, namespace, "leaf")
    assert data_of(live) == {"k": f"{CANARY}-two"}
    assert live["metadata"]["labels"] == {"ours": "2", "foreign": "1"}
    assert live["metadata"]["finalizers"] == ["example.com/held"]
    assert (await desk.run(fresh)).verdict is Verdict.REPLAN, "it has another version now"
    await admin.merge_patch(SECRET, namespace, "leaf", {"metadata": {"finalizers": []}})


async def test_metadata_is_patched_and_nothing_else(desk: Bench, admin: ApiClient, namespace: str) -> None:
    ref = CONFIG_MAP.ref(namespace, "a")
    await desk.run(Create(body=config_map(namespace, "a", x="1")))
    known = desk.known(ref)
    patch = PatchMetadata(
        ref=ref,
        uid=known.uid,
        resource_version=known.resource_version,
        labels={"test": None, "new": "1"},
        annotations={"b": "2"},
        finalizers=("example.com/held",),
    )
    assert (await desk.run(patch)).verdict is Verdict.DONE
    live = await admin.get(CONFIG_MAP, namespace, "a")
    assert live["metadata"]["labels"] == {"new": "1"}
    assert live["data"] == {"x": "1"}
    assert (await desk.run(patch)).verdict is Verdict.REPLAN, "made for an older version"
    # An apply does not take away what was patched.
    assert (await desk.run(Apply(body=config_map(namespace, "a", x="2"), uid=known.uid))).verdict is Verdict.DONE
    live = await admin.get(CONFIG_MAP, namespace, "a")
    assert live["metadata"]["labels"] == {"new": "1", "test": "yes"}
    # Deleted, it waits for its finalizer; without, it is gone from the cache at once.
    await desk.run(Delete(ref=ref, uid=known.uid))
    assert desk.known(ref).deleting
    held = desk.known(ref)
    await desk.run(PatchMetadata(ref=ref, uid=held.uid, resource_version=held.resource_version, finalizers=()))
    assert desk.caches.known(ref) is None


async def test_only_the_life_that_was_meant_is_deleted(desk: Bench, admin: ApiClient, namespace: str) -> None:
    ref = CONFIG_MAP.ref(namespace, "a")
    await desk.run(Create(body=config_map(namespace, "a")))
    old = desk.known(ref)
    result = await desk.run(Delete(ref=ref, uid=old.uid), Delete(ref=ref, uid=old.uid))
    assert result == Result(verdict=Verdict.DONE, writes=1)
    assert desk.caches.known(ref) is None
    await admin.create(CONFIG_MAP, config_map(namespace, "a", x="theirs"))
    assert (await desk.run(Delete(ref=ref, uid=old.uid))).verdict is Verdict.DONE
    assert (await admin.get(CONFIG_MAP, namespace, "a"))["data"] == {"x": "theirs"}
    assert desk.known(ref).uid != old.uid


# -- status and events -----------------------------------------------------------------------------------------------


async def test_a_status_is_written_once_and_only_if_it_differs(
    desk: Bench, admin: ApiClient, namespace: str, audit: Audit
) -> None:
    since = audit.mark()
    status = {"loadBalancer": {"ingress": [{"ip": "203.0.113.9", "ipMode": "VIP"}]}}
    await admin.merge_patch(SERVICE, namespace, "owner", {"spec": {"type": "LoadBalancer"}}, manager="user")
    desk.about = await desk.told(desk.about.ref, lambda seen: bool(seen.get("spec", "type") == "LoadBalancer"))
    assert (await desk.run(status=status)).writes == 1
    desk.about = desk.known(desk.about.ref)
    assert (await desk.run(status=status)).writes == 0
    assert (await desk.run(status={"loadBalancer": {}})).writes == 1
    assert "ingress" not in (await admin.get(SERVICE, namespace, "owner"))["status"]["loadBalancer"]
    assert await spent(audit, namespace, since) == {"patch services/status": 2}


async def test_a_status_made_for_an_older_object_is_not_written(desk: Bench, admin: ApiClient, namespace: str) -> None:
    patch = {"metadata": {"labels": {"changed": "1"}}}
    await admin.merge_patch(SERVICE, namespace, "owner", patch, manager="user")
    result = await desk.run(status={"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}})
    if result.verdict is Verdict.REPLAN:  # the watch had not told yet
        assert desk.known(desk.about.ref).labels == {"changed": "1"}
        assert (await admin.get(SERVICE, namespace, "owner"))["status"] == {"loadBalancer": {}}


async def test_a_finalizer_and_a_status_in_one_plan(desk: Bench, namespace: str) -> None:
    about = desk.about
    finalizer = PatchMetadata(
        ref=about.ref, uid=about.uid, resource_version=about.resource_version, finalizers=("example.com/held",)
    )
    result = await desk.run(finalizer, status={"loadBalancer": {}, "conditions": []})
    assert result.verdict is Verdict.DONE
    held = desk.known(about.ref)
    await desk.run(PatchMetadata(ref=about.ref, uid=held.uid, resource_version=held.resource_version, finalizers=()))


async def test_an_event_said_twice_exists_once(desk: Bench, admin: ApiClient, namespace: str) -> None:
    when = "2026-01-01T00:00:00Z"
    event = Event(type="Warning", reason="Broken", message="m" * 2000, condition="Available", transition=when)
    assert (await desk.run(events=(event,))).writes == 1
    assert (await desk.run(events=(event,))).verdict is Verdict.DONE
    found = await admin.list(EVENT, namespace, fields="involvedObject.name=owner")
    assert [(each["reason"], len(each["message"])) for each in found] == [("Broken", 1024)]


async def test_an_event_with_a_time_of_its_own_is_said_before_the_status(desk: Bench) -> None:
    when = "2026-01-01T00:00:00Z"
    later = Event(type="Normal", reason="Later", message="m", condition="Available", transition=when)
    sooner = Event(type="Normal", reason="Sooner", message="m", condition="Kept", transition=when, first=True)
    kept = {"type": "Kept", "status": "True", "reason": "Kept", "message": "", "lastTransitionTime": when}
    status = {"loadBalancer": {}, "conditions": [kept]}
    assert (await desk.run(status=status, events=(later, sooner))).writes == 3
    assert desk.steps == ["0 Event", "1 StatusWrite", "2 Event"]


# -- who may, and what goes wrong ------------------------------------------------------------------------------------


async def test_who_does_not_lead_writes_nothing(desk: Bench, namespace: str, audit: Audit) -> None:
    since = audit.mark()
    desk.leader.leads = False
    result = await desk.run(Create(body=config_map(namespace, "a")), status={"loadBalancer": {"ingress": []}})
    assert result.verdict is Verdict.DEPOSED
    assert await spent(audit, namespace, since) == {}
    assert desk.steps == []


async def test_leadership_is_asked_for_before_every_write(server: Server, admin: ApiClient, namespace: str) -> None:
    async with ApiClient(credentials_of(server.admin)) as client:
        made: list[Bench] = []

        def after(step: Step, number: int) -> None:
            made[0].leader.leads = False

        async with bench(client, admin, namespace, hooks=Hooks(after=after)) as desk:
            made.append(desk)
            result = await desk.run(*(Create(body=config_map(namespace, name)) for name in "abc"))
            assert result == Result(verdict=Verdict.DEPOSED, writes=1)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(method="POST", status=429, retry_after=7), "429"),
        (Fault(method="POST", status=500), "500"),
        (Fault(method="POST", reset="before"), "ServerDisconnected"),
        (Fault(method="POST", reset="after"), "ServerDisconnected"),
        (Fault(method="POST", delay=3), "not done within 0.4 s"),
    ],
    ids=["429", "500", "reset-before", "reset-after", "slow"],
)
async def test_faults_defer_and_the_next_run_converges(
    server: Server, admin: ApiClient, namespace: str, fault: Fault, says: str
) -> None:
    async with (
        proxy(server, "faulty", "system:masters") as faulty,
        ApiClient(credentials_of(faulty.access)) as client,
        bench(client, admin, namespace) as desk,
    ):
        faulty.add(fault)
        create = Create(body=secret(namespace, "a"), recipe=Words(text="x"), deadline=0.4)
        result = await desk.run(create)
        assert result.verdict is Verdict.DEFERRED
        assert says in result.failure or "made by the fault proxy" in result.failure or "Fault" in result.failure
        assert result.retry_after == fault.retry_after
        assert sum(each.startswith("POST") for each in faulty.seen) == 1
        again = await desk.run(create)
        assert again.verdict is (Verdict.REPLAN if fault.reset == "after" else Verdict.DONE)
        assert desk.caches.known(SECRET.ref(namespace, "a")) is not None


async def test_nothing_secret_is_ever_logged_or_told(
    desk: Bench, namespace: str, caplog: pytest.LogCaptureFixture, server: Server
) -> None:
    caplog.set_level(logging.DEBUG)
    broken = secret(namespace, "tls")
    broken["type"] = "kubernetes.io/tls"
    results = [
        await desk.run(Create(body=secret(namespace, "a"), recipe=Words(text="x"))),
        await desk.run(Create(body=secret(namespace, "a"), recipe=Words(text="x"))),
        await desk.run(Create(body=secret(namespace, "UPPER"), recipe=Words(text="x"))),
        await desk.run(Create(body=broken, recipe=Words(text="x"))),
    ]
    assert [each.verdict for each in results] == ["done", "replan", "deferred", "deferred"]
    assert "Invalid (422) in metadata.name" in results[2].failure
    encoded = base64.b64encode(CANARY.encode()).decode().rstrip("=")[:10]
    everything = caplog.text + repr(results) + repr(vars(desk.executor)) + repr(desk.executor._secrets._recent)
    assert CANARY not in everything
    assert encoded not in everything


# -- in the tenant ---------------------------------------------------------------------------------------------------


def endpoints(name: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    subsets = [{"addresses": [{"ip": "203.0.113.1"}], "ports": [{"name": "https", "port": 6443}]}]
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets}


async def test_actions_in_the_tenant_use_a_certificate_of_its_ca(
    desk: Bench, admin: ApiClient, server: Server, namespace: str, audit: Audit
) -> None:
    """The management API server plays the tenant: its CA is put where a tenant's would be."""
    encoded = {
        "tls.crt": base64.b64encode(server.authority.certificate).decode(),
        "tls.key": base64.b64encode(server.authority.key).decode(),
    }
    await admin.create(SECRET, {**secret(namespace, "t-ca"), "data": encoded})
    access = TenantAccess(uid=desk.about.uid, namespace=namespace, authority="t-ca", server=server.url)
    since = audit.mark()
    give = Create(body=endpoints(namespace[-20:].strip("-")), target=Target.TENANT, ours=False)
    first = await desk.run(give, tenant=access)
    assert first == Result(verdict=Verdict.DONE, writes=1)
    assert (await desk.run(give, tenant=access)).writes == 0
    seen = audit.requests(since=since, user="hosted-cp")
    assert summary(seen) == {"create endpoints": 1}, "given once, then never asked about again"
    assert await spent(audit, namespace, since) == {"get secrets": 1}
    resource = resource_for(give.ref)
    body = (await admin.get(resource, "default", give.ref.name)).body
    assert "annotations" not in body["metadata"], "what is given away carries no mark of ours"
    await admin.delete(resource, "default", give.ref.name)


async def playing_tenant(desk: Bench, admin: ApiClient, server: Server, namespace: str) -> TenantAccess:
    """The way to a tenant that the management API server plays."""
    encoded = {
        "tls.crt": base64.b64encode(server.authority.certificate).decode(),
        "tls.key": base64.b64encode(server.authority.key).decode(),
    }
    await admin.create(SECRET, {**secret(namespace, "t-ca"), "data": encoded})
    return TenantAccess(uid=desk.about.uid, namespace=namespace, authority="t-ca", server=server.url)


async def test_material_in_a_tenant_is_handed_on_whoever_made_it(
    desk: Bench, admin: ApiClient, server: Server, namespace: str, audit: Audit
) -> None:
    access = await playing_tenant(desk, admin, server, namespace)
    body = secret(namespace, "half", request="u1")
    halves = (
        Create(body=body, recipe=Password(text="ours"), target=Target.TENANT, material="half"),
        Create(body=secret(namespace, "whole"), recipe=Words(text="b", needs=("half",))),
    )
    await admin.create(SECRET, with_data(body, f"{CANARY}-theirs"))
    since = audit.mark()
    assert await desk.run(*halves, tenant=access) == Result(verdict=Verdict.DONE, writes=1)
    assert summary(audit.requests(since=since, user="hosted-cp")) == {"create secrets": 1, "get secrets": 1}
    assert data_of(await admin.get(SECRET, namespace, "whole")) == {"k": f"{CANARY}-b-{CANARY}-theirs"}


@pytest.mark.parametrize("spoilt", [("simple", "Opaque"), (f"{CANARY}-x", "example.com/other")])
async def test_useless_material_in_a_tenant_is_made_anew(
    desk: Bench, admin: ApiClient, server: Server, namespace: str, spoilt: tuple[str, str]
) -> None:
    """It is deleted by its UID: what another has put there meanwhile stays, and is used."""
    access = await playing_tenant(desk, admin, server, namespace)
    body = secret(namespace, "half", request="u1")
    half = Create(body=body, recipe=Password(text="ours"), target=Target.TENANT, material="half")
    text, kind = spoilt
    old = await admin.create(SECRET, {**with_data(body, text), "type": kind})
    assert await desk.run(half, tenant=access) == Result(verdict=Verdict.REPLAN, writes=1)
    assert await desk.run(half, tenant=access) == Result(verdict=Verdict.DONE, writes=1)
    new = await admin.get(SECRET, namespace, "half")
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    assert data_of(new) == {"k": f"{CANARY}-ours"}


async def test_in_a_tenant_only_what_has_our_labels_is_used_or_deleted(
    desk: Bench, admin: ApiClient, server: Server, namespace: str
) -> None:
    access = await playing_tenant(desk, admin, server, namespace)
    body = secret(namespace, "half", request="u1")
    create = Create(body=body, recipe=Password(text="ours"), target=Target.TENANT, material="half")
    delete = Delete(ref=create.ref, uid=None, labels={"request": "u1"}, target=Target.TENANT)
    theirs = await admin.create(SECRET, with_data(secret(namespace, "half", request="u2"), f"{CANARY}-theirs"))
    refused = await desk.run(create, tenant=access)
    assert refused.verdict is Verdict.DEFERRED
    assert "does not carry our labels" in refused.failure
    assert await desk.run(delete, tenant=access) == Result(verdict=Verdict.DONE)
    left = await admin.get(SECRET, namespace, "half")
    assert left["metadata"]["resourceVersion"] == theirs["metadata"]["resourceVersion"]
    ours = Delete(ref=create.ref, uid=None, labels={"request": "u2"}, target=Target.TENANT)
    assert await desk.run(ours, tenant=access) == Result(verdict=Verdict.DONE, writes=1)
    assert await desk.run(ours, tenant=access) == Result(verdict=Verdict.DONE), "gone already"


async def test_what_is_going_in_a_tenant_is_waited_for(
    desk: Bench, admin: ApiClient, server: Server, namespace: str
) -> None:
    access = await playing_tenant(desk, admin, server, namespace)
    body = secret(namespace, "half", request="u1")
    held = with_data(body, f"{CANARY}-theirs")
    held["metadata"] = {**held["metadata"], "finalizers": ["example.com/held"]}
    made = await admin.create(SECRET, held)
    await admin.delete(SECRET, namespace, "half", uid=made["metadata"]["uid"])
    create = Create(body=body, recipe=Password(text="ours"), target=Target.TENANT, material="half")
    waiting = await desk.run(create, tenant=access)
    assert waiting.verdict is Verdict.DEFERRED
    assert "still being deleted" in waiting.failure
    await admin.merge_patch(SECRET, namespace, "half", {"metadata": {"finalizers": None}})
    assert (await desk.run(create, tenant=access)).verdict is Verdict.DONE


async def test_a_tenant_whose_ca_is_broken_is_told_without_quoting(
    desk: Bench, admin: ApiClient, namespace: str, server: Server
) -> None:
    encoded = base64.b64encode(CANARY.encode()).decode()
    await admin.create(SECRET, {**secret(namespace, "t-ca"), "data": {"tls.crt": encoded, "tls.key": encoded}})
    access = TenantAccess(uid=desk.about.uid, namespace=namespace, authority="t-ca", server=server.url)
    give = Create(body=endpoints("x"), target=Target.TENANT, ours=False)
    result = await desk.run(give, tenant=access)
    assert result.verdict is Verdict.DEFERRED
    assert f"Secret {namespace}/t-ca cannot be used" in result.failure
    assert CANARY not in result.failure


async def test_a_tenant_is_asked_once_it_answers_and_no_more(
    desk: Bench, admin: ApiClient, server: Server, namespace: str, audit: Audit
) -> None:
    """The probe `tenant-api`: a bad answer names its cause and is asked again, a good one is kept."""
    encoded = {
        "tls.crt": base64.b64encode(server.authority.certificate).decode(),
        "tls.key": base64.b64encode(server.authority.key).decode(),
    }
    tenants = desk.executor._tenants
    assert tenants is not None
    woken: asyncio.Queue[str] = asyncio.Queue()
    prober: Prober[str] = Prober(
        askers={"tenant-api": tenant_api(tenants)}, enqueue=woken.put_nowait, now=Sources().now
    )
    probe = Probe(kind="tenant-api", key="initialized", arguments=(("authority", "t-ca"), ("server", server.url)))
    assert prober.ask("key", desk.about, [probe]) is None
    assert await asyncio.wait_for(woken.get(), 5) == "key"
    [bad] = prober.findings(desk.about.uid)
    assert not bad.ok
    assert "t-ca" in bad.message
    again = prober.ask("key", desk.about, [probe])
    assert again is not None
    assert 0 < again <= 1.0
    await admin.create(SECRET, {**secret(namespace, "t-ca"), "data": encoded})
    await desk.told(SECRET.ref(namespace, "t-ca"), lambda seen: True)
    await asyncio.sleep(again)
    since = audit.mark()
    prober.ask("key", desk.about, [probe])
    await asyncio.wait_for(woken.get(), 5)
    [good] = prober.findings(desk.about.uid)
    assert good.ok
    for _ in range(3):
        assert prober.ask("key", desk.about, [probe]) is None
    assert summary(audit.requests(since=since, user="hosted-cp")) == {"get namespaces": 1}
    prober.forget(desk.about.uid)
    assert prober.findings(desk.about.uid) == ()
    await prober.close()


async def test_a_tenant_that_hangs_costs_its_neighbours_nothing(desk: Bench) -> None:
    async def asker(probe: Probe, about: Observed) -> str:
        if probe.key == "hangs":
            await asyncio.Event().wait()
        return "fine"

    woken: asyncio.Queue[str] = asyncio.Queue()
    prober: Prober[str] = Prober(askers={"x": asker}, enqueue=woken.put_nowait, now=Sources().now)
    hangs = Probe(kind="x", key="hangs", deadline=0.5)
    prober.ask("slow", desk.about, [hangs, hangs])
    prober.ask("fast", desk.about, [Probe(kind="x", key="answers")])
    assert await asyncio.wait_for(woken.get(), 0.4) == "fast"
    assert await asyncio.wait_for(woken.get(), 2) == "slow"
    assert {(each.probe.key, each.message) for each in prober.findings(desk.about.uid)} == {
        ("hangs", "no answer within 0.5 s"),
        ("answers", "fine"),
    }
    await prober.close()


def test_merge_difference_turns_one_status_into_another() -> None:
    old = {"a": 1, "b": {"c": 1, "d": 2}, "l": [1]}
    assert merge_difference(old, {"a": 1, "b": {"c": 1}, "l": [1, 2]}) == {"b": {"d": None}, "l": [1, 2]}
    assert merge_difference(old, old) == {}
