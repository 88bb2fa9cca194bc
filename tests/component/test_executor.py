"""The executor against a real API server: every action, its precondition, and what it costs."""

from __future__ import annotations

import asyncio
from typing import Any

from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.outcome import Result, Verdict
from hosted_cp.kube.resources import CONFIG_MAP, SECRET, SERVICE, STATEFUL_SET
from hosted_cp.pki.recipes import CARecipe, LeafRecipe
from hosted_cp.planning import diff
from hosted_cp.planning.actions import AnnotatePods, Apply, Create, Delete, PatchMetadata, Replace
from tests.component.apiserver import Server
from tests.component.audit import Audit
from tests.component.desk import CANARY, Bench, Password, Words, bench, data_of, owned, secret, spent, with_data
from tests.component.test_client import config_map, credentials_of
from tests.component.test_harness import stateful_set

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
    # (Its controller writes a status, which must not come between what the executor reads and what it writes.)
    await desk.told(ref, lambda seen: seen.get("status", "observedGeneration") == 1)
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
    assert await spent(audit, namespace, since) == {"get services": 2, "patch services": 4}
    live = await admin.get(SERVICE, namespace, "web")
    assert [(each["name"], each["port"]) for each in live["spec"]["ports"]] == [("api", 6443), ("theirs", 9)]
    assert diff.settle(body, desk.known(ref), desk.about.uid) is None


async def test_what_is_refused_for_its_own_sake_is_not_written(desk: Bench, namespace: str, audit: Audit) -> None:
    body = stateful_set(namespace, "web", replicas=0)
    await desk.run(Create(body=body))
    body["spec"]["template"]["spec"]["containers"][0]["image"] = ""
    since = audit.mark()
    result = await desk.run(Apply(body=body, uid=desk.known(STATEFUL_SET.ref(namespace, "web")).uid))
    assert result.failure.startswith(f"changing StatefulSet {namespace}/web: ")
    assert "spec.template.spec.containers[0].image: Required value" in result.failure
    assert (await spent(audit, namespace, since)).get("patch statefulsets") == 2, "the fields migrated, and the apply"


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


async def test_pods_are_made_anew_and_what_is_wanted_later_is_what_counts(
    desk: Bench, admin: ApiClient, namespace: str
) -> None:
    """As for leaves while a spec is refused: an annotation of the template, and nothing else."""
    ref = STATEFUL_SET.ref(namespace, "web")
    body = owned(stateful_set(namespace, "web", replicas=0), desk.about)
    body["spec"]["template"]["metadata"]["annotations"] = {"made": "before", "other": "stays"}
    await desk.run(Create(body=body))
    await desk.told(ref, lambda seen: int(seen.get("status", "observedGeneration", default=0)) >= seen.generation)
    before = (await admin.get(STATEFUL_SET, namespace, "web")).body

    def restart(when: str) -> AnnotatePods:
        known = desk.known(ref)
        return AnnotatePods(ref=ref, uid=known.uid, resource_version=known.resource_version, annotations={"made": when})

    old = restart("never")
    assert await desk.run(restart("now")) == Result(verdict=Verdict.DONE, writes=1)
    after = (await admin.get(STATEFUL_SET, namespace, "web")).body
    before["spec"]["template"]["metadata"]["annotations"]["made"] = "now"
    assert after["spec"] == before["spec"]
    assert (await desk.run(old)).verdict is Verdict.REPLAN, "it was another version that was seen"
    # What is wanted from then on is applied as ever, and takes the field over.
    body["spec"]["template"]["metadata"]["annotations"] = {"made": "later"}
    action = diff.settle(body, desk.known(ref), desk.about.uid)
    assert isinstance(action, Apply)
    assert (await desk.run(action)).verdict is Verdict.DONE
    live = await admin.get(STATEFUL_SET, namespace, "web")
    assert live["spec"]["template"]["metadata"]["annotations"] == {"made": "later"}


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
