"""The plan of a tenant as a whole: it converges, comes to rest, costs what it may cost, and says the same twice."""

from __future__ import annotations

import dataclasses

import pytest

from hosted_cp.hosting.children import MODULES
from hosted_cp.planning.actions import Apply, Create, PatchMetadata, Replace
from tests.hosting import pretend_pods
from tests.hosting.variants import VARIANTS, settled
from tests.hosting.world import ROUNDS, World, running


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_tenant_at_rest_costs_nothing(variant: str) -> None:
    """Also with quantities that the server writes in another way than the user did."""
    world = settled(variant)
    made = world.plan()
    assert made.actions == ()
    assert made.probes == ()
    assert made.events == ()
    assert made.status == world.status
    before = world.snapshot()
    world.passes(hours=1)
    world.settle()
    assert world.snapshot() == before


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_view_gives_the_same_plan(variant: str) -> None:
    world = VARIANTS[variant].world()
    for _ in range(3):
        view = world.view()
        assert repr(world.plan()) == repr(world.plan())
        assert view == world.view()
        world.reconcile()
        pretend_pods.step(world.server, world.script)


@pytest.mark.parametrize("variant", VARIANTS)
def test_once_only_material_is_made_once(variant: str) -> None:
    assert set(settled(variant).minted.values()) == {1}


def test_a_tenant_is_available_after_few_rounds() -> None:
    world = World().asks()
    rounds = []
    for _ in range(6):
        rounds.append(world.reconcile())
        pretend_pods.step(world.server, world.script)
    assert world.available
    # Service, authorities and etcd; config and kubeconfig; then only what the world brings about.
    assert max(rounds) <= 4 < ROUNDS


def test_the_requests_of_a_creation() -> None:
    """From apply to Available, etcd, NodePort, one replica (DESIGN 9): at most 22 writes of objects and 5 of status."""
    world = settled("etcd-1")
    assert len(world.owned()) == 14
    # The finalizer, 14 objects, and the permit that is taken back.
    assert world.writes == 16
    assert world.status_writes <= 5
    assert [type(each) for each in world.done if not isinstance(each, Create)] == [PatchMetadata, Replace]


def test_nothing_is_written_before_the_finalizer() -> None:
    first, *others = World().asks().plan().actions
    assert isinstance(first, PatchMetadata)
    assert first.finalizers == ("k0smotron.io/finalizer",)
    assert all(isinstance(each, Create) for each in others)


def test_nobody_else_s_finalizer_is_lost() -> None:
    world = World().asks()
    world.server.edit(world.owner_ref, lambda body: body["metadata"].update(finalizers=["theirs/f"]))
    world.settle()
    assert world.owner["metadata"]["finalizers"] == ["theirs/f", "k0smotron.io/finalizer"]


def test_k0s_starts_only_after_etcd_was_recorded_as_bootstrapped() -> None:
    world = World().asks(replicas=3)
    world.script.pods = lambda name: pretend_pods.STARTING if name.endswith("etcd-2") else pretend_pods.READY
    world.settle()
    assert not world.exists("StatefulSet", "kmc-demo")
    assert world.data("kmc-demo-etcd-permit")["bootstrapped"] == b"false"
    assert "EtcdWaiting: 2 of 3 etcd members are ready" in world.why
    world.script.pods = lambda name: pretend_pods.READY
    world.settle()
    assert world.available
    order = [(type(each), each.ref.kind, each.ref.name) for each in world.done]
    flip, start = (Replace, "Secret", "kmc-demo-etcd-permit"), (Create, "StatefulSet", "kmc-demo")
    assert order.index(flip) < order.index(start)


def test_the_kubeconfig_is_there_before_any_pod() -> None:
    world = World().asks()
    world.reconcile()
    assert world.exists("Secret", "demo-kubeconfig")
    assert world.server.every("Pod") == []
    assert world.condition("KubeconfigSecretAvailable")["status"] == "True"


def test_every_module_of_the_list_is_used() -> None:
    """A child object that no variant makes is one that nobody tests."""
    assert len(MODULES) == 10
    kinds = {ref.kind for variant in VARIANTS for ref in settled(variant).server.objects}
    assert {"Service", "Secret", "StatefulSet", "PodDisruptionBudget", "NetworkPolicy"} <= kinds


# --- replicas ---------------------------------------------------------------------------------------------------------


def test_scaling_up_and_down_leaves_etcd_alone() -> None:
    world = running()
    etcd = world.body("StatefulSet", "kmc-demo-etcd")
    world.changes(replicas=3)
    world.settle()
    assert world.available
    assert len(pretend_pods.pods_of(world.server, "kmc-demo")) == 3
    assert world.exists("PodDisruptionBudget", "kmc-demo")
    assert not world.exists("PodDisruptionBudget", "kmc-demo-etcd")
    assert world.body("StatefulSet", "kmc-demo-etcd") == etcd
    assert world.decisions()["etcdMembers"] == 1
    world.changes(replicas=1)
    world.settle()
    assert world.available
    assert not world.exists("PodDisruptionBudget", "kmc-demo")
    assert len(pretend_pods.pods_of(world.server, "kmc-demo")) == 1


def test_scaling_touches_only_what_depends_on_it() -> None:
    world = running()
    world.changes(replicas=2)
    actions = {(type(each), each.ref.kind, each.ref.name) for each in world.plan().actions}
    assert actions == {(Apply, "StatefulSet", "kmc-demo"), (Create, "PodDisruptionBudget", "kmc-demo")}


def test_three_members_stay_three_when_replicas_shrink() -> None:
    world = running(replicas=3)
    world.changes(replicas=1)
    world.settle()
    assert world.available
    assert len(pretend_pods.pods_of(world.server, "kmc-demo-etcd")) == 3


@pytest.mark.parametrize("spec", [{}, {"replicas": 3}])
def test_no_replicas_is_answered_by_a_condition(spec: dict[str, int]) -> None:
    world = World().asks(replicas=0).settle()
    assert world.why.startswith("SpecInvalid: spec.replicas: is 0")
    assert world.owned() == {}
    world = running(**spec)
    world.changes(replicas=0)
    world.settle()
    assert world.available, "what runs goes on running"
    assert world.condition("SpecAccepted")["reason"] == "SpecInvalid"


# --- what the status says ---------------------------------------------------------------------------------------------


def test_the_status_of_a_running_tenant() -> None:
    world = running(replicas=3)
    said = world.status
    assert (said["replicas"], said["readyReplicas"], said["updatedReplicas"]) == (3, 3, 3)
    assert said["controlPlaneEndpoint"] == {"host": "192.0.2.11", "port": 31234, "konnectivityPort": 31235}
    assert said["version"] == "v1.36.3+k0s.2"
    assert said["selector"] == "app=k0smotron,cluster=demo,cluster.x-k8s.io/control-plane=true,component=cluster"
    assert said["initialized"] is True
    assert said["observedGeneration"] == world.owner["metadata"]["generation"]
    assert said["deprecated"]["v1beta1"] == {"ready": True, "reconciliationStatus": "Reconciliation successful"}
    assert {each["name"] for each in said["certificates"]} == {
        "apiserver-etcd-client", "ca", "etcd", "etcd-peer", "etcd-server", "kubeconfig", "proxy",
    }  # fmt: skip
    assert {key: said["decisions"].get(key) for key in world.decisions()} == world.decisions()
    assert {each["type"]: each["status"] for each in said["conditions"]} == {
        "Available": "True", "ControlPlaneFunctional": "True", "KubeconfigSecretAvailable": "True",
        "ControlPlaneExposed": "True", "ControlPlaneUpToDate": "True", "ControlPlaneScaling": "False",
        "CertificatesAvailable": "True", "SpecAccepted": "True", "AddressStable": "True", "EtcdHealthy": "True",
        "TenantReachable": "True",
    }  # fmt: skip


def test_what_is_said_about_a_rollout_is_true_at_every_moment_of_it() -> None:
    world = running()
    world.changes(resources={"limits": {"memory": "2Gi"}})
    world.reconcile()
    said = world.condition("ControlPlaneUpToDate")
    assert (said["status"], said["reason"]) == ("False", "NotAllReplicasUpToDate")
    assert said["message"] == "the StatefulSet controller has not seen the change yet"
    world.script.pods = lambda name: pretend_pods.READY if "etcd" in name else pretend_pods.STARTING
    seen = [said["message"]]
    for _ in range(4):
        pretend_pods.step(world.server, world.script)
        world.reconcile()
        seen.append(world.condition("ControlPlaneUpToDate")["message"])
    assert "0 of 1 replicas are up to date" in seen
    assert "1 of 1 replicas are up to date" not in seen


def test_one_event_when_a_tenant_becomes_available_and_one_for_each_cause() -> None:
    world = running()
    assert [(each.type, each.reason) for each in world.events] == [("Normal", "Available")]
    world.script.pods = lambda name: pretend_pods.READY if "etcd" in name else pretend_pods.NO_IMAGE
    world.passes(minutes=1)
    world.settle()
    assert world.events[-1].reason == "ImageCannotBePulled"
    assert len(world.events) == 2
    world.settle()
    assert len(world.events) == 2


def test_a_version_that_was_never_to_be_had_is_corrected_also_by_an_older_one() -> None:
    world = World().asks(version="v1.36.9+k0s.0")
    world.script.pods = lambda name: pretend_pods.READY if "etcd" in name else pretend_pods.NO_IMAGE
    world.settle()
    assert world.why.startswith("ImageCannotBePulled: ")
    world.script.pods = lambda name: pretend_pods.READY
    world.changes(version="v1.36.3+k0s.2")
    world.settle()
    assert world.available
    assert world.status["version"] == "v1.36.3+k0s.2"
    assert world.condition("SpecAccepted")["status"] == "True"


def test_a_change_that_could_not_be_written_is_said_although_the_tenant_serves() -> None:
    world = running()
    world.refuses = lambda action: "changing it: quota exceeded" if isinstance(action, Apply) else ""
    world.changes(replicas=2)
    world.reconcile()
    assert world.available
    assert world.condition("ControlPlaneUpToDate")["reason"] == "WriteFailed"
    assert "quota exceeded" in world.condition("ControlPlaneUpToDate")["message"]
    world.refuses = lambda action: ""
    world.settle()
    assert world.condition("ControlPlaneUpToDate")["status"] == "True"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"ingress": {"apiHost": "a.example", "konnectivityHost": "b.example"}}, "spec.ingress"),
        ({"monitoring": {"enabled": True}}, "spec.monitoring"),
        ({"remoteHostCluster": {"kubeconfigRef": {"name": "x", "namespace": "y"}}}, "spec.remoteHostCluster"),
        ({"storage": {"type": "nats", "nats": {}}}, "spec.storage.nats"),
        ({"storage": {"type": "etcd", "etcd": {"defragJob": {"enabled": True}}}}, "spec.storage.etcd.defragJob"),
    ],
)  # fmt: skip
def test_a_field_that_is_not_acted_on_is_never_ignored_in_silence(spec: dict[str, object], field: str) -> None:
    world = World().asks(**spec).settle()
    assert not world.available
    assert world.why.startswith(f"FieldNotSupported: {field}: is not supported")
    assert field in world.condition("SpecAccepted")["message"]
    # Without knowing where to run or to store, nothing is begun.
    assert (world.owned() == {}) is (field in ("spec.remoteHostCluster", "spec.storage.nats"))


def test_an_operator_outside_the_cluster_says_what_it_cannot_do() -> None:
    world = World().asks()
    world.settings = dataclasses.replace(world.settings, reaches_tenants=False)
    world.settle()
    assert world.condition("TenantReachable")["reason"] == "OperatorOutsideCluster"
    assert world.tenant.objects == {}
    assert world.plan().probes == ()


def test_the_tenant_gets_its_endpoints_once() -> None:
    world = running()
    (body,) = world.tenant.objects.values()
    assert body["subsets"] == [
        {"addresses": [{"ip": "192.0.2.11"}], "ports": [{"name": "https", "port": 31234, "protocol": "TCP"}]}
    ]
    world.tenant.objects.clear()
    world.settle()
    assert world.tenant.objects == {}, "from then on they are k0s' own"


def test_a_name_is_left_to_k0s_to_resolve() -> None:
    assert settled("external-address").tenant.objects == {}
