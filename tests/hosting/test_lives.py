"""Whose things they are: former lives, other operators' tenants, foreign objects; and the end of a tenant."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from hosted_cp.hosting.names import ADOPT, K0SMOTRON_HASH, TENANT_UID
from hosted_cp.hosting.plan import plan
from hosted_cp.planning.actions import Create, Delete, PatchMetadata, Ref
from hosted_cp.planning.conditions import parse_rfc3339
from tests.hosting import pretend_pods
from tests.hosting.pretend_server import Json, encoded
from tests.hosting.variants import VARIANTS, brought, settled
from tests.hosting.world import CHILDREN, CLUSTER_API, NAMESPACE, Crash, Material, World, cluster, running

CLAIM = "etcd-data-kmc-demo-etcd-0"
CAS = ("ca", "proxy", "sa", "etcd")


def ref(kind: str, name: str, api_version: str = "v1") -> Ref:
    return Ref(api_version=api_version, kind=kind, namespace=NAMESPACE, name=name)


def only_owner_changed(world: World, before: dict[Ref, tuple[str, str]]) -> bool:
    """Whether nothing but the user's object itself was written."""
    return {k: v for k, v in world.snapshot().items() if k != world.owner_ref} == {
        k: v for k, v in before.items() if k != world.owner_ref
    }


# --- former lives ----------------------------------------------------------------------------------------------------


def born_again() -> tuple[World, dict[str, Json]]:
    """A tenant was deleted and created again under its name. Its volume is there; what its Secrets held is kept."""
    world = running()
    kept = {f"demo-{purpose}": world.body("Secret", f"demo-{purpose}") for purpose in CAS}
    world.deletes()
    world.settle()
    assert not world.exists("Cluster", "demo")
    assert world.exists("PersistentVolumeClaim", CLAIM)
    world.findings.clear()
    world.asks()
    return world, kept


def bring_back(world: World, kept: dict[str, Json]) -> None:
    for name, body in kept.items():
        metadata = {"name": name, "namespace": NAMESPACE}
        world.server.create({**body, "metadata": metadata})


def test_a_volume_of_another_life_stops_everything_and_both_remedies_are_named() -> None:
    world, _ = born_again()
    before = world.snapshot()
    world.settle()
    assert only_owner_changed(world, before)
    assert world.why.startswith(f"FormerLife: data of a former tenant of this name is in {CLAIM}.")
    assert "Delete the volume claims to begin anew" in world.why
    assert f"put the annotation {ADOPT}={world.owner['metadata']['uid']} on the claims" in world.why
    assert "demo-ca, demo-proxy, demo-sa, demo-etcd" in world.why


def test_the_first_remedy_deleting_the_volume() -> None:
    world, _ = born_again()
    world.settle()
    world.server.delete(ref("PersistentVolumeClaim", CLAIM))
    world.settle()
    assert world.available


def test_the_second_remedy_secrets_and_adoption() -> None:
    world, kept = born_again()
    uid = world.owner["metadata"]["uid"]
    world.server.merge_patch(ref("PersistentVolumeClaim", CLAIM), {"metadata": {"annotations": {ADOPT: uid}}})
    world.settle()
    assert world.why.startswith("FormerLife"), "adoption alone would be new keys for old data"
    bring_back(world, kept)
    world.settle()
    assert world.available
    for name, body in kept.items():
        assert world.body("Secret", name)["data"] == body["data"]
    assert {name for name, owner in world.minted if owner == uid} & set(kept) == set()


def test_secrets_alone_do_not_adopt_a_volume() -> None:
    world, kept = born_again()
    bring_back(world, kept)
    before = world.snapshot()
    world.settle()
    assert only_owner_changed(world, before)
    assert world.why.startswith("FormerLife")


def test_an_adoption_for_another_life_counts_for_nothing() -> None:
    world, kept = born_again()
    bring_back(world, kept)
    world.server.merge_patch(ref("PersistentVolumeClaim", CLAIM), {"metadata": {"annotations": {ADOPT: "another"}}})
    world.settle()
    assert world.why.startswith("FormerLife")


def test_a_claim_without_any_mark_is_of_a_former_life() -> None:
    world = World()
    labels = {"app": "k0smotron", "cluster": "demo", "component": "etcd"}
    metadata = {"name": CLAIM, "namespace": NAMESPACE, "labels": labels}
    world.server.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": {}})
    world.asks().settle()
    assert world.why.startswith("FormerLife")
    assert world.owned() == {}


def brought_back_with_their_owners(variant: str) -> tuple[World, list[Ref]]:
    """A backup of a whole tenant was restored as it is taken: new UIDs, and the ownerReferences of the former life."""
    former = settled(variant)
    world = World(settings=former.settings, material=Material(seed=2))
    world.server.uids_from(5000)
    order = ("PersistentVolumeClaim", *CHILDREN, "Cluster")
    restored = [body for kind in order for body in former.server.every(kind)]
    for body in restored:
        metadata = {k: v for k, v in body["metadata"].items() if k not in ("uid", "resourceVersion", "finalizers")}
        world.server.create({**{k: v for k, v in body.items() if k != "status"}, "metadata": metadata})
    return world, [Ref.of(body) for body in restored if body["metadata"].get("ownerReferences")]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("variant", ["etcd-1", "kine-url"])
def test_what_the_collector_is_about_to_take_is_not_taken_for_brought(variant: str, seed: int) -> None:
    """Half of the former authorities and half new ones: that would be a tenant which nobody can repair."""
    world, stale = brought_back_with_their_owners(variant)
    random.Random(seed).shuffle(stale)
    for each in stale:
        before = world.snapshot()
        world.reconcile()
        assert only_owner_changed(world, before)
        assert world.why.startswith("FormerLife: ")
        assert "bring back its Secrets without ownerReferences" in world.why
        world.server.delete(each)  # as the collector does, one after another
    world.settle()
    if variant == "etcd-1":
        assert world.why.startswith("FormerLife: data of a former tenant"), "volumes have no owner, and stay"
        assert world.minted == {}
    else:
        assert world.available
        assert {name for name, _ in world.minted} >= {"demo-ca", "demo-proxy", "demo-sa"}, "all of them, or none"
        assert set(world.minted.values()) == {1}


def test_a_running_tenant_does_not_change_to_authorities_that_are_about_to_go() -> None:
    world = running()
    lost = world.body("Secret", "demo-ca")
    world.server.delete(ref("Secret", "demo-ca"))
    world.settle()
    workload = world.body("StatefulSet", "kmc-demo")
    owner = {**lost["metadata"]["ownerReferences"][0], "uid": "former"}
    metadata = {"name": "demo-ca", "namespace": NAMESPACE, "ownerReferences": [owner]}
    world.server.create({**lost, "metadata": metadata, "data": encoded(brought("ca"))})
    world.reconcile()
    assert world.why.startswith("FormerLife: Secret demo-ca belong")
    assert world.body("StatefulSet", "kmc-demo") == workload
    world.server.delete(ref("Secret", "demo-ca"))
    world.server.create({**lost, "metadata": {"name": "demo-ca", "namespace": NAMESPACE}})
    world.settle()
    assert world.available
    assert world.body("StatefulSet", "kmc-demo")["spec"] == workload["spec"]


def test_a_missing_ca_beside_our_own_volumes_is_never_made_anew() -> None:
    """A restore in progress, or a loss before the tenant's config was ever written."""
    world = World().asks()
    world.script.load_balancer = None
    world.changes(service={"type": "LoadBalancer"})
    world.settle()
    assert world.exists("PersistentVolumeClaim", CLAIM)
    assert not world.exists("Secret", "kmc-demo-config")
    world.server.delete(ref("Secret", "demo-etcd"))
    before = world.snapshot()
    world.settle()
    assert only_owner_changed(world, before)
    assert world.why.startswith("FormerLife: data volumes exist")
    assert "the Secrets demo-etcd with their keys are gone" in world.why


# --- k0smotron's -----------------------------------------------------------------------------------------------------


def of_k0smotron() -> World:
    """A tenant that a running k0smotron looks after: the objects of its appendix, with its marks."""
    world = World()
    world.server.create(cluster(finalizers=["k0smotron.io/finalizer"], spec={"service": {"type": "NodePort"}}))
    uid = world.owner["metadata"]["uid"]
    owner = {"apiVersion": CLUSTER_API, "kind": "Cluster", "name": "demo", "uid": uid, "controller": True}
    labels = {"app": "k0smotron", "cluster": "demo", "component": "cluster"}

    def make(api: str, kind: str, name: str, manager: str, **body: object) -> None:
        annotations = {"k0smotron.io/statefulset-hash": "77f"} if kind == "StatefulSet" else {}
        metadata = {
            "name": name, "namespace": NAMESPACE, "labels": labels, "annotations": annotations,
            "ownerReferences": [owner],
        }  # fmt: skip
        world.server.create({"apiVersion": api, "kind": kind, "metadata": metadata, **body}, manager=manager)

    for purpose in (*CAS, "apiserver-etcd-client", "etcd-server", "etcd-peer"):
        make("v1", "Secret", f"demo-{purpose}", "manager", type="cluster.x-k8s.io/secret", data={})
    make("v1", "Secret", "demo-kubeconfig", "manager", type="cluster.x-k8s.io/secret", data={})
    for name in ("kmc-demo-nodeport", "kmc-demo-etcd"):
        ports = [{"name": "api", "port": 30443}]
        make("v1", "Service", name, "k0smotron-operator", spec={"type": "ClusterIP", "ports": ports})
    for name in ("kmc-demo", "kmc-demo-etcd"):
        pod = {"containers": [{"name": "controller", "image": "quay.io/k0sproject/k0s:v1.36.3-k0s.2"}]}
        template = {"metadata": {"labels": labels}, "spec": pod}
        spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
        make("apps/v1", "StatefulSet", name, "k0smotron-operator", spec=spec)
    return world


def test_a_tenant_of_a_running_k0smotron_gets_no_write() -> None:
    world = of_k0smotron()
    before = world.snapshot()
    assert world.plan().actions == ()
    world.reconcile()
    assert world.writes == 0
    assert only_owner_changed(world, before)
    assert world.why.startswith("TakeOverRequired: k0smotron looks after this tenant")
    assert world.condition("Available")["status"] == "False"


@pytest.mark.parametrize("left", ["StatefulSet", "Service"])
def test_either_mark_is_enough(left: str) -> None:
    """The hash annotation of its StatefulSets, or its field manager."""
    world = of_k0smotron()
    for body in list(world.server.objects.values()):
        if body["kind"] not in ("Cluster", "Secret", left):
            world.server.delete(Ref.of(body))
    assert world.plan().actions == ()
    world.reconcile()
    assert world.why.startswith("TakeOverRequired")


def test_a_mark_of_k0smotron_on_what_we_made_takes_nothing_from_us() -> None:
    """Both operators in one cluster: what carries our mark stays ours, or anybody could stop us by an annotation."""
    world = running()
    marked = ref("StatefulSet", "kmc-demo", "apps/v1")
    world.server.edit(marked, lambda body: body["metadata"]["annotations"].update({K0SMOTRON_HASH: "77f"}))
    world.changes(replicas=2)
    world.settle()
    assert world.available
    assert world.body("StatefulSet", "kmc-demo")["spec"]["replicas"] == 2


def test_the_end_of_a_tenant_of_k0smotron_is_k0smotron_s() -> None:
    world = of_k0smotron()
    world.deletes()
    before = world.snapshot()
    assert world.plan().actions == ()
    world.reconcile()
    assert world.snapshot() == before


# --- foreign objects -------------------------------------------------------------------------------------------------


def foreign(kind: str, name: str) -> Json:
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {"of": "somebody else"}}
    match kind:
        case "Secret":
            return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "type": "Opaque", "data": {}}
        case "Service":
            spec: Json = {"type": "ClusterIP", "ports": [{"name": "x", "port": 1}]}
            return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec}
        case "PodDisruptionBudget":
            return {"apiVersion": "policy/v1", "kind": kind, "metadata": metadata, "spec": {}}
    labels = {"x": "y"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "x", "image": "x:1"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec}


def unchanged(body: Json, before: Json) -> bool:
    """Whether only the cluster's own controllers have written to it."""
    own = ("status", "metadata")
    managers = [each["manager"] for each in body["metadata"]["managedFields"]]
    same = {k: v for k, v in body.items() if k not in own} == {k: v for k, v in before.items() if k not in own}
    return same and managers == ["kubectl-create"] and body["metadata"]["uid"] == before["metadata"]["uid"]


#: (Authorities and the kubeconfig may be brought by the user.)
NAMES = [
    each for each in settled("etcd-3").owned() if each[1] not in {f"demo-{name}" for name in (*CAS, "kubeconfig")}
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), sorted(NAMES))
def test_a_foreign_object_under_our_name_is_reported_and_survives_everything(kind: str, name: str) -> None:
    world = World()
    world.server.create(foreign(kind, name))
    theirs = Ref.of(foreign(kind, name))
    kept = world.server.get(theirs)
    world.asks(replicas=3).settle()
    assert unchanged(world.server.get(theirs), kept)
    assert world.why.startswith(f"NameConflict: {kind} {name} exist")
    assert "give the tenant another name" in world.why
    assert world.failure == ""
    assert world.done == [], "nothing is begun that could not be ended"
    healed = world.fork()
    healed.server.delete(theirs)
    assert healed.settle().available
    world.deletes()
    world.settle()
    assert unchanged(world.server.get(theirs), kept)
    assert not world.exists("Cluster", "demo")


def test_a_name_that_is_not_needed_is_no_conflict() -> None:
    """Of one replica with one member on a node port."""
    world = World()
    names = [("Service", "kmc-demo-lb"), ("Service", "kmc-demo"), ("PodDisruptionBudget", "kmc-demo")]
    for each in names:
        world.server.create(foreign(*each))
    assert world.asks().settle().available
    world.changes(replicas=2)
    before = len(world.done)
    world.settle()
    assert world.why.startswith("NameConflict: PodDisruptionBudget kmc-demo exist")
    assert len(world.done) == before


def test_a_conflict_ends_when_the_foreign_object_goes() -> None:
    world = World()
    world.server.create(foreign("Service", "kmc-demo-etcd"))
    world.asks().settle()
    theirs = ref("Service", "kmc-demo-etcd")
    world.server.edit(theirs, lambda body: body["metadata"].update(finalizers=["their/s"]))
    world.server.delete(theirs)
    world.settle()  # it is going: nothing collides with it, and nothing is tried before it is gone
    assert world.failure == ""
    world.server.edit(theirs, lambda body: body["metadata"].pop("finalizers"))
    world.settle()
    assert world.available


def test_an_object_of_another_life_of_the_same_name_is_foreign() -> None:
    """Its owner reference carries the UID of the former object: the collector will take it, not we."""
    world = World()
    body = foreign("Service", "kmc-demo-nodeport")
    body["metadata"]["ownerReferences"] = [
        {"apiVersion": CLUSTER_API, "kind": "Cluster", "name": "demo", "uid": "former", "controller": True}
    ]
    world.server.create(body)
    world.asks()
    assert world.plan().actions == ()
    world.settle()  # the pretend collector takes it
    assert world.available


# --- deletion --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_deletion_leaves_nothing_but_volumes(variant: str) -> None:
    world = settled(variant)
    uid = world.owner["metadata"]["uid"]
    world.secret("bystander", {"x": b"y"})
    tenant_before = set(world.tenant.objects)
    world.deletes()
    world.settle()
    left = {(each.kind, each.name) for each in world.server.objects}
    brought = {("Secret", name) for name in VARIANTS[variant].secrets}
    claims = {each for each in left if each[0] == "PersistentVolumeClaim"}
    assert left == {("Secret", "bystander")} | brought | claims
    for claim in world.server.every("PersistentVolumeClaim"):
        assert claim["metadata"]["labels"][TENANT_UID] == uid
    keeps = "etcd" in str(claims) and variant != "etcd-options"
    assert bool(claims) is (keeps or variant == "pvc")
    assert set(world.tenant.objects) == tenant_before, "the tenant is not contacted"


def test_the_volumes_that_are_kept_are_named_once() -> None:
    world = running(replicas=3)
    world.deletes()
    world.settle()
    said = [each for each in world.events if each.reason == "VolumesKept"]
    assert len({(each.condition, each.transition) for each in said}) == 1
    assert f"{CLAIM}, etcd-data-kmc-demo-etcd-1, etcd-data-kmc-demo-etcd-2" in said[0].message


def test_what_keeps_a_tenant_from_ending_is_said() -> None:
    world = running()
    world.deletes()
    world.failure = "deleting Service default/kmc-demo: the server says no"
    told = plan(world.view()).status
    assert told is not None
    [deleting] = [each for each in told["conditions"] if each["type"] == "Deleting"]
    assert deleting["message"].endswith(f"are being deleted, but: {world.failure}")


def test_the_volumes_that_are_kept_are_named_also_when_something_failed_before() -> None:
    """The status of a failure must not say that the tenant is being deleted, and hide that they were not named."""
    world = running()
    world.deletes()
    world.failure = "deleting Service default/kmc-demo: the server says no"
    told = world.plan()
    assert told.actions
    assert told.status is not None
    assert [(each.reason, each.first) for each in told.events] == [("VolumesKept", True)]
    world.write_status(told.status)
    assert world.plan().events == ()


def states() -> Mapping[str, Callable[[World], None]]:
    """Ways to break what a deletion might depend on."""

    def spec_unreadable(world: World) -> None:
        world.server.edit(world.owner_ref, lambda body: body.update(spec={"replicas": "many"}))

    def spec_refused(world: World) -> None:
        world.changes(version="v1.20.0", replicas=-3)

    def secrets_gone(world: World) -> None:
        for body in world.server.every("Secret"):
            world.server.delete(Ref.of(body))

    def tenant_down(world: World) -> None:
        world.tenant_down = "no route to host"

    def no_status(world: World) -> None:
        world.server.merge_patch(world.owner_ref, {"status": None}, status=True)

    def no_nodes(world: World) -> None:
        world.nodes = ()

    return {each.__name__: each for each in (spec_unreadable, spec_refused, secrets_gone, tenant_down, no_status)} | {
        "no_nodes": no_nodes
    }


@pytest.mark.parametrize("broken", states())
def test_deletion_needs_nothing_of_what_may_be_broken(broken: str) -> None:
    world = running()
    states()[broken](world)
    world.deletes()
    world.settle()
    assert {each.kind for each in world.server.objects} == {"PersistentVolumeClaim"}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(17))
def test_a_crash_at_any_action_of_a_creation_and_deletion_after_it(number: int, when: str) -> None:
    """From every state in between, a tenant can be deleted; or comes up, with nothing made twice."""
    world = World().asks()
    count = iter(range(100))

    def hook(action: object, moment: str) -> None:
        if moment == when and next(count) == number:
            raise Crash

    world.hook = hook
    try:
        world.settle()
    except Crash:
        pass
    else:
        pytest.fail("the creation has fewer actions than that")
    world.hook = lambda action, moment: None
    world.failure = ""
    world.findings.clear()  # what only the dead process knew
    other = world.fork()
    world.settle()
    assert world.available
    assert set(world.minted.values()) == {1}
    other.deletes()
    other.settle()
    assert {each.kind for each in other.server.objects} <= {"PersistentVolumeClaim"}


def test_a_crash_at_any_action_of_a_deletion() -> None:
    for number in range(len(settled("etcd-1").owned()) + 1):
        world = running()
        world.deletes()
        count = iter(range(100))

        def hook(action: object, moment: str, count: object = count, number: int = number) -> None:
            if moment == "before" and next(count) == number:  # type: ignore[call-overload]
                raise Crash

        world.hook = hook
        with pytest.raises(Crash):
            world.settle()
        world.hook = lambda action, moment: None
        world.settle()
        assert {each.kind for each in world.server.objects} == {"PersistentVolumeClaim"}


def test_deletions_and_the_release_carry_what_was_seen() -> None:
    world = running()
    world.deletes()
    assert world.plan().actions == (), "what stays is said first"
    assert [each.reason for each in world.plan().events] == ["VolumesKept"]
    world.write_status(world.plan().status)
    first = world.plan().actions
    assert first
    assert all(isinstance(each, Delete) and each.uid and each.resource_version for each in first)
    etcd = {(kind, name) for kind, name in world.owned() if name.startswith("kmc-demo-etcd")}
    assert {(each.ref.kind, each.ref.name) for each in first} == set(world.owned()) - etcd
    world.settle()
    assert isinstance(world.done[-1], PatchMetadata)
    assert not any(isinstance(each, Create) for each in world.done[world.done.index(first[0]) :])


@pytest.mark.parametrize("seen", ["at once", "late"])
def test_who_deletes_a_tenant_without_what_it_owns_keeps_everything(seen: str) -> None:
    """`--cascade=orphan`: the collector takes the owner's name off every object, then its finalizer off the owner."""
    world = running(replicas=3)
    kept = set(world.owned())
    old = world.view()
    world.server.edit(world.owner_ref, lambda body: body["metadata"]["finalizers"].append("orphan"))
    world.deletes()
    if seen == "at once":
        world.settle()
        assert set(world.owned()) == kept
    for kind, name in kept:
        body = world.body(kind, name)
        world.server.edit(Ref.of(body), lambda body: body["metadata"].pop("ownerReferences"))
    world.server.edit(world.owner_ref, lambda body: body["metadata"]["finalizers"].remove("orphan"))
    # What is seen of the objects may be older than what is seen of their owner.
    told = world.plan()
    world.write_status(told.status)
    late = replace(world.view(), children=old.children)
    assert world.carry_out(plan(late).actions, about=late.owner) == "replan"
    world.settle()
    assert not world.exists("Cluster", "demo")
    assert {(each.kind, each.name) for each in world.server.objects} >= kept


def test_a_deletion_that_cannot_be_announced_goes_on() -> None:
    world = running()
    world.deletes()
    world.failure = "writing the status: refused"
    assert world.plan().actions


def test_the_finalizer_stays_until_everything_is_really_gone() -> None:
    world = running()
    held = ref("Service", "kmc-demo-etcd")
    world.server.edit(held, lambda body: body["metadata"].update(finalizers=["their/s"]))
    world.deletes()
    world.settle()
    assert world.exists("Cluster", "demo")
    assert world.condition("Deleting")["message"] == "1 objects are being deleted"
    world.server.edit(held, lambda body: body["metadata"].pop("finalizers"))
    world.settle()
    assert not world.exists("Cluster", "demo")


def test_a_tenant_that_is_deleted_before_it_was_begun() -> None:
    world = World().asks()
    world.deletes()
    assert not world.exists("Cluster", "demo")
    world = World().asks()
    world.server.edit(world.owner_ref, lambda body: body["metadata"].update(finalizers=["other/f"]))
    world.deletes()
    assert world.plan().actions == ()
    assert pretend_pods.step(world.server, world.script) is False


def test_etcd_goes_after_the_controllers_but_not_for_ever() -> None:
    world = running()
    world.deletes()
    world.write_status(world.plan().status)
    begun = parse_rfc3339(world.owner["metadata"]["deletionTimestamp"])
    world.now = begun + timedelta(seconds=10)
    waiting = world.plan()
    assert "kmc-demo-etcd" not in {each.ref.name for each in waiting.actions if isinstance(each, Delete)}
    assert waiting.retry_after == 20
    # The pod's node is lost: it never ends.
    world.now = begun + timedelta(seconds=30)
    late = world.plan()
    assert {(each.ref.kind, each.ref.name) for each in late.actions if isinstance(each, Delete)} == set(world.owned())
    assert late.retry_after is None
    world.now = begun + timedelta(seconds=10)
    world.settle()
    done = [each.ref for each in world.done if isinstance(each, Delete)]
    order = [each.name for each in done if each.kind == "StatefulSet"]
    assert order == ["kmc-demo", "kmc-demo-etcd"]
    assert not world.exists("StatefulSet", "kmc-demo-etcd")
