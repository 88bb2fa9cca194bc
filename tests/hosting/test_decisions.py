"""Decisions do not wander: address, ports and version stay what they are until the user asks for something else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hosted_cp.hosting.names import DECISIONS
from hosted_cp.hosting.view import NodeAddress
from hosted_cp.planning.actions import Action, Apply, Delete, MovePort, Ref
from tests.hosting import pretend_pods
from tests.hosting.pretend_pods import pods_of
from tests.hosting.pretend_server import Json
from tests.hosting.variants import settled
from tests.hosting.world import NAMESPACE, Crash, World, running

CONFIG = Ref(api_version="v1", kind="Secret", namespace=NAMESPACE, name="kmc-demo-config")


def node(name: str, address: str, kind: str = "InternalIP") -> NodeAddress:
    return NodeAddress(node=name, type=kind, address=address)


def server_in_kubeconfig(world: World) -> str:
    text = world.data("demo-kubeconfig")["value"].decode()
    return next(line.strip() for line in text.splitlines() if "server:" in line).removeprefix("server: ")


ENDPOINTS = Ref(api_version="v1", kind="Endpoints", namespace="default", name="kubernetes")


def port_in_tenant(world: World) -> int:
    """Where the tenant's own pods reach its API server. For an address that is a name k0s has written it."""
    if ENDPOINTS not in world.tenant.objects:
        subset = {
            "addresses": [{"ip": "192.0.2.7"}],
            "ports": [{"name": "https", "port": world.decisions()["apiPort"]}],
        }
        metadata = {"name": ENDPOINTS.name, "namespace": ENDPOINTS.namespace}
        world.tenant.create({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": [subset]})
    port: int = world.tenant.get(ENDPOINTS)["subsets"][0]["ports"][0]["port"]
    return port


def sans(world: World) -> list[str]:
    found: list[str] = json.loads(world.data("kmc-demo-config")["k0s.yaml"])["spec"]["api"]["sans"]
    return found


def image(world: World) -> str:
    found: str = world.body("StatefulSet", "kmc-demo")["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


# --- the address -----------------------------------------------------------------------------------------------------


def test_an_external_address_of_a_node_comes_before_an_internal_one_and_the_smallest_first() -> None:
    world = World().asks()
    world.nodes = (
        node("a", "192.0.2.9"), node("b", "203.0.113.9", "ExternalIP"), node("c", "203.0.113.1", "ExternalDNS"),
    )  # fmt: skip
    world.settle()
    assert world.decisions()["address"] == "203.0.113.1"


def test_without_any_address_the_condition_says_what_to_do_and_an_address_heals() -> None:
    world = World().asks()
    world.nodes = ()
    world.settle()
    assert world.why.startswith("NoNodeAddress: ")
    assert "set spec.externalAddress" in world.why
    assert not world.exists("Secret", "demo-kubeconfig")
    world.changes(externalAddress="api.example")
    world.settle()
    assert world.available
    assert server_in_kubeconfig(world) == "https://api.example:31234"


def test_where_nodes_may_not_be_read_the_condition_says_so() -> None:
    world = World().asks()
    world.nodes = None
    world.settle()
    assert world.why.startswith("NoNodeAddress: the operator looks after single namespaces and reads no nodes")
    assert "set spec.externalAddress" in world.why
    world.changes(externalAddress="192.0.2.11")
    world.settle()
    assert world.available


def test_a_node_that_is_gone_is_reported_and_changes_nothing() -> None:
    world = running()
    before = world.snapshot()
    world.nodes = (node("n2", "192.0.2.22"),)
    world.settle()
    del before[world.owner_ref]
    assert {ref: seen for ref, seen in world.snapshot().items() if ref != world.owner_ref} == before
    said = world.condition("AddressStable")
    assert (said["status"], said["reason"]) == ("False", "AddressDrifted")
    assert "now offer 192.0.2.22, but" in said["message"]
    assert "use 192.0.2.11" in said["message"]
    assert world.available
    world.nodes = (node("n1", "192.0.2.11"),)
    world.settle()
    assert world.condition("AddressStable")["status"] == "True"


def test_the_drifted_address_is_taken_when_the_user_asks_for_it() -> None:
    world = running()
    world.nodes = (node("n2", "192.0.2.22"),)
    world.settle()
    world.changes(externalAddress="192.0.2.22")
    world.settle()
    assert world.available
    assert server_in_kubeconfig(world) == "https://192.0.2.22:31234"
    assert "192.0.2.22" in sans(world)
    assert world.condition("AddressStable")["status"] == "True"


def test_a_load_balancer_is_awaited_without_blocking_anything_else() -> None:
    world = World().asks(service={"type": "LoadBalancer"})
    world.script.load_balancer = None
    world.settle()
    assert world.why.startswith("LoadBalancerPending: Service kmc-demo-lb has no load balancer address yet")
    assert "set spec.service.type to NodePort, or spec.externalAddress" in world.why
    assert world.exists("StatefulSet", "kmc-demo-etcd")
    world.script.load_balancer = {"hostname": "lb.example"}
    world.settle()
    assert world.available
    assert server_in_kubeconfig(world) == "https://lb.example:6443"


def test_a_load_balancer_whose_address_changes_is_reported() -> None:
    world = running(service={"type": "LoadBalancer"})
    world.script.load_balancer = {"ip": "203.0.113.77"}
    world.settle()
    assert "the load balancer now offer" in world.condition("AddressStable")["message"]
    assert world.decisions()["address"] == "203.0.113.10"


@pytest.mark.parametrize(
    ("first", "then", "address", "old_service", "new_service"),
    [
        ("NodePort", "LoadBalancer", "https://203.0.113.10:6443", "kmc-demo-nodeport", "kmc-demo-lb"),
        ("LoadBalancer", "NodePort", "https://192.0.2.11:31234", "kmc-demo-lb", "kmc-demo-nodeport"),
        ("NodePort", "ClusterIP", "https://kmc-demo.tenants.svc:6443", "kmc-demo-nodeport", "kmc-demo"),
        ("ClusterIP", "NodePort", "https://192.0.2.11:31234", "kmc-demo", "kmc-demo-nodeport"),
    ],
)
def test_another_service_type_brings_another_address_and_prunes_the_old_service(
    first: str, then: str, address: str, old_service: str, new_service: str
) -> None:
    world = running(service={"type": first})
    world.changes(service={"type": then})
    world.settle()
    assert world.available
    assert server_in_kubeconfig(world).rpartition(":")[0] == address.rpartition(":")[0]
    assert not world.exists("Service", old_service)
    assert world.exists("Service", new_service)
    assert new_service in sans(world)
    assert old_service not in sans(world)


def test_the_old_address_serves_until_the_new_one_is_known() -> None:
    world = running()
    before = {ref: seen for ref, seen in world.snapshot().items() if ref != world.owner_ref}
    world.script.load_balancer = None
    world.changes(service={"type": "LoadBalancer"})
    world.settle()
    after = world.snapshot()
    # The new Service is there, and everything else stands as it was, restarted by nothing.
    assert {ref.name for ref in after if ref not in before and ref != world.owner_ref} == {"kmc-demo-lb"}
    assert {ref: seen for ref, seen in after.items() if ref in before} == before
    assert world.available
    assert world.status["controlPlaneEndpoint"]["host"] == "192.0.2.11"


def test_the_old_service_goes_only_when_all_controllers_serve_the_new_address() -> None:
    world = running()
    world.script.pods = lambda name: pretend_pods.READY if "etcd" in name else pretend_pods.STARTING
    world.changes(service={"type": "LoadBalancer"})
    world.settle()
    assert world.exists("Service", "kmc-demo-nodeport")
    assert not any(isinstance(each, Delete) for each in world.done)
    world.script.pods = lambda name: pretend_pods.READY
    world.settle()
    assert not world.exists("Service", "kmc-demo-nodeport")


def test_a_crash_before_the_controllers_hear_of_a_new_address_prunes_nothing() -> None:
    """The config says what is wanted, and all controllers have rolled out: to what was wanted before."""
    world = running()
    world.changes(service={"type": "LoadBalancer"})

    def dies(action: Action, when: str) -> None:
        if when == "before" and isinstance(action, Apply) and action.ref.name == "kmc-demo":
            raise Crash

    world.hook = dies
    with pytest.raises(Crash):
        world.settle()
    assert world.decisions()["asked"].startswith("LoadBalancer"), "the config was written"
    world.hook = lambda action, when: None
    planned = world.plan().actions
    assert [type(each) for each in planned] == [Apply]
    assert not world.settle().exists("Service", "kmc-demo-nodeport")


def test_a_node_port_that_cannot_be_one() -> None:
    world = World().asks(service={"type": "NodePort", "apiPort": 6443}).settle()
    assert "6443" in world.why
    assert "choose ports of that range in spec.service.apiPort" in world.why
    world.changes(service={"type": "NodePort"})
    assert world.settle().available


def test_a_change_of_mind_while_the_load_balancer_is_awaited() -> None:
    world = running()
    world.script.load_balancer = None
    world.changes(service={"type": "LoadBalancer"})
    world.settle()
    world.changes(service={"type": "NodePort"})
    world.settle()
    assert world.available
    assert not world.exists("Service", "kmc-demo-lb")
    assert server_in_kubeconfig(world) == "https://192.0.2.11:31234"


@pytest.mark.parametrize(
    ("service", "ports", "at"),
    [
        ("ClusterIP", {"apiPort": 7443}, ":7443"),
        ("LoadBalancer", {"apiPort": 443, "konnectivityPort": 8443}, ":443"),
        ("NodePort", {"apiPort": 30443, "konnectivityPort": 30132}, ":30443"),
    ],
)
def test_a_changed_port_reaches_service_kubeconfig_and_config(service: str, ports: dict[str, int], at: str) -> None:
    world = running(service={"type": service})
    assert port_in_tenant(world) == world.decisions()["apiPort"]
    world.changes(service={"type": service, **ports})
    world.settle()
    assert world.available
    assert server_in_kubeconfig(world).endswith(at)
    assert world.decisions()["apiPort"] == ports["apiPort"]
    assert world.status["controlPlaneEndpoint"]["port"] == ports["apiPort"]
    assert port_in_tenant(world) == ports["apiPort"]
    config = json.loads(world.data("kmc-demo-config")["k0s.yaml"])["spec"]
    assert config["api"]["externalAddress"].endswith(at)
    world.changes(service={"type": service})
    world.settle()
    assert world.available
    published = world.body("Service", world.names.service(service))["spec"]["ports"][0]
    expected = published["nodePort"] if service == "NodePort" else 6443
    assert server_in_kubeconfig(world).endswith(f":{expected}")
    assert port_in_tenant(world) == expected
    assert "portBefore" not in world.decisions()


def test_a_tenant_that_cannot_be_told_of_its_port_is_told_later_and_holds_up_nothing() -> None:
    world = running(service={"type": "NodePort"})
    former = port_in_tenant(world)
    world.tenant_down = "nobody listens"
    world.changes(service={"type": "NodePort", "apiPort": 30443})
    world.settle()
    assert "nobody listens" in world.failure
    assert server_in_kubeconfig(world).endswith(":30443"), "all else goes on"
    assert (port_in_tenant(world), world.decisions()["portBefore"]) == (former, former)
    world.tenant_down = ""
    world.settle()
    assert port_in_tenant(world) == 30443
    assert "portBefore" not in world.decisions()
    told = [each for each in world.done if isinstance(each, MovePort)]
    world.settle()
    assert [each for each in world.done if isinstance(each, MovePort)] == told, "it is told once"


def test_two_tenants_that_want_one_node_port() -> None:
    world = World()
    other = {"name": "other", "namespace": NAMESPACE}
    ports = [{"name": "api", "port": 6443, "nodePort": 30443}]
    taken = {"apiVersion": "v1", "kind": "Service", "metadata": other, "spec": {"type": "NodePort", "ports": ports}}
    world.server.create(taken)
    world.asks(service={"type": "NodePort", "apiPort": 30443, "konnectivityPort": 30444}).settle()
    assert world.why.startswith("WriteFailed: ")
    assert "30443: provided port is already allocated" in world.why
    assert "choose other ports in spec.service.apiPort" in world.why
    world.changes(service={"type": "NodePort"})
    world.settle()
    assert world.available


# --- the version -----------------------------------------------------------------------------------------------------


def test_the_version_that_nobody_asked_for_stays_when_the_catalogue_moves_on() -> None:
    world = running()
    catalogue = json.loads(json.dumps(world.settings.catalogue))
    catalogue["k0s"]["default"] = "v1.36.9+k0s.0"
    world.settings = type(world.settings)(catalogue=catalogue)
    before = world.snapshot()
    world.settle()
    assert world.snapshot() == before


def test_an_upgrade_rolls_the_controllers_one_by_one_and_touches_nothing_else() -> None:
    world = running(version="v1.35.4+k0s.0", replicas=3)
    untouched = {ref: seen for ref, seen in world.snapshot().items() if ref.kind in ("Service", "PodDisruptionBudget")}
    etcd = world.body("StatefulSet", "kmc-demo-etcd")
    world.changes(version="1.36.3+k0s.2")
    fewest = 3
    for _ in range(20):
        world.reconcile()
        pretend_pods.step(world.server, world.script)
        fewest = min(fewest, sum(1 for pod in pods_of(world.server, "kmc-demo") if pretend_pods.is_ready(pod)))
    world.settle()
    assert world.available
    assert fewest == 2
    assert image(world).endswith(":v1.36.3-k0s.2")
    assert world.status["version"] == "v1.36.3+k0s.2"
    assert {ref: seen for ref, seen in world.snapshot().items() if ref in untouched} == untouched
    assert world.body("StatefulSet", "kmc-demo-etcd")["metadata"]["generation"] == etcd["metadata"]["generation"]


@pytest.mark.parametrize(
    ("start", "wish", "words"),
    [
        ("v1.36.3+k0s.2", "v1.35.4+k0s.0", "cannot go back"),
        ("v1.36.3+k0s.2", "v1.36.3+k0s.1", "cannot go back"),
        ("v1.34.10+k0s.0", "v1.36.3+k0s.2", "cannot skip minors"),
        ("v1.36.3+k0s.2", "v1.38.0+k0s.0", "does not know"),
        ("v1.36.3+k0s.2", "latest", "is no version of k0s"),
    ],
)
def test_a_version_that_cannot_be_reached_is_refused_and_the_tenant_stays_available(
    start: str, wish: str, words: str
) -> None:
    world = running(version=start)
    before = {ref: seen for ref, seen in world.snapshot().items() if ref != world.owner_ref}
    world.changes(version=wish)
    world.settle()
    assert world.available
    said = world.condition("SpecAccepted")
    assert said["status"] == "False"
    assert said["message"].startswith("spec.version: ")
    assert words in said["message"]
    assert said["message"].count("spec.version") == 1, "said once"
    assert {ref: seen for ref, seen in world.snapshot().items() if ref != world.owner_ref} == before
    assert world.status["version"] == start
    world.changes(version=start)
    world.settle()
    assert world.condition("SpecAccepted")["status"] == "True"


def versions_of_pods(world: World) -> set[str]:
    return {pod["spec"]["containers"][0]["image"].rpartition(":")[2] for pod in pods_of(world.server, "kmc-demo")}


def test_the_next_minor_waits_until_all_controllers_are_at_the_one_before() -> None:
    """From where the others still are it would skip a minor, and there would be controllers two minors apart."""
    world = running(version="v1.34.10+k0s.0", replicas=3)
    world.script.pods = lambda name: pretend_pods.READY if "etcd" in name else pretend_pods.STARTING
    world.changes(version="v1.35.4+k0s.0")
    world.settle()
    world.changes(version="v1.36.3+k0s.2")
    world.settle()
    assert versions_of_pods(world) == {"v1.34.10-k0s.0", "v1.35.4-k0s.0"}
    said = world.condition("SpecAccepted")
    assert said["reason"] == "ChangeRefused"
    assert "not all controllers are ready at v1.35.4+k0s.0, and minors cannot be skipped" in said["message"]
    assert "set a newer patch of 1.35 first" in said["message"]
    world.script.pods = lambda name: pretend_pods.READY
    seen = []
    for _ in range(40):
        world.reconcile()
        pretend_pods.step(world.server, world.script)
        seen.append(versions_of_pods(world))
    assert world.settle().available
    assert versions_of_pods(world) == {"v1.36.3-k0s.2"}
    assert world.condition("SpecAccepted")["status"] == "True"
    assert not [each for each in seen if {"v1.34.10-k0s.0", "v1.36.3-k0s.2"} <= each]


def test_the_next_minor_waits_also_after_a_crash_before_the_controllers_heard_of_the_one_before() -> None:
    world = running(version="v1.34.10+k0s.0")

    def dies(action: Action, when: str) -> None:
        if when == "before" and isinstance(action, Apply) and action.ref.name == "kmc-demo":
            raise Crash

    world.changes(version="v1.35.4+k0s.0")
    world.hook = dies
    with pytest.raises(Crash):
        world.settle()
    world.hook = lambda action, when: None
    assert world.decisions()["version"] == "v1.35.4+k0s.0"
    world.changes(version="v1.36.3+k0s.2")
    world.reconcile()
    assert image(world).endswith(":v1.35.4-k0s.0")
    world.settle()
    assert image(world).endswith(":v1.36.3-k0s.2")


def test_another_patch_of_a_version_that_does_not_start_is_taken_at_once() -> None:
    world = running(version="v1.35.4+k0s.0")
    world.script.pods = lambda name: pretend_pods.READY if "etcd" in name else pretend_pods.NO_IMAGE
    world.changes(version="v1.36.2+k0s.0")
    world.settle()
    world.script.pods = lambda name: pretend_pods.READY
    world.changes(version="v1.36.3+k0s.2")
    assert world.settle().available
    assert image(world).endswith(":v1.36.3-k0s.2")


# --- decisions that are lost -----------------------------------------------------------------------------------------

GARBLED = ["", "null", "[]", '"x"', "{", "7", "{}", '{"version": "banana"}', '{"version": 7}', '{"apiPort": "x"}']


@pytest.mark.parametrize("annotation", GARBLED)
def test_lost_or_garbled_decisions_are_read_from_the_status(annotation: str) -> None:
    world = running(version="v1.35.4+k0s.0")
    kept = world.decisions()
    world.changes(version=None)  # the version is a decision now
    world.settle()
    world.nodes = (node("n2", "192.0.2.22"),)
    spoil(world, annotation)
    world.settle()
    assert world.decisions() == kept
    assert world.available
    assert image(world).endswith(":v1.35.4-k0s.0")


def test_without_the_status_at_least_the_version_that_runs_is_kept() -> None:
    world = running(version="v1.35.4+k0s.0")
    world.changes(version=None)
    world.settle()
    spoil(world, "")
    world.server.merge_patch(world.owner_ref, {"status": None}, status=True)
    world.settle()
    assert world.decisions()["version"] == "v1.35.4+k0s.0"
    assert image(world).endswith(":v1.35.4-k0s.0")
    assert world.available


def test_a_lost_config_secret_is_made_again_as_it_was() -> None:
    world = running(version="v1.35.4+k0s.0")
    before, data = world.decisions(), world.data("kmc-demo-config")
    world.changes(version=None)
    world.nodes = (node("n2", "192.0.2.22"),)
    world.server.delete(CONFIG)
    world.settle()
    assert world.decisions() == before
    assert world.data("kmc-demo-config") == data


def test_a_lost_authority_is_not_made_anew_even_if_the_config_is_lost_with_it() -> None:
    world = running(storage={"type": "kine", "kine": {"dataSourceURL": "postgres://db.example/demo"}})
    world.server.delete(CONFIG)
    world.server.delete(Ref(api_version="v1", kind="Secret", namespace=NAMESPACE, name="demo-ca"))
    world.settle()
    assert not world.exists("Secret", "demo-ca")
    assert "Secret demo-ca: is gone" in world.condition("CertificatesAvailable")["message"]


def test_decisions_of_an_older_operator_that_knew_fewer_of_them() -> None:
    world = running()
    kept = world.decisions()
    older = {key: kept[key] for key in ("version", "asked", "address", "apiPort", "konnectivityPort")}
    spoil(world, json.dumps({**older, "unknown": 1}))
    world.settle()
    assert world.available
    assert world.condition("SpecAccepted")["status"] == "True"
    assert world.decisions() == kept


def spoil(world: World, annotation: str) -> None:
    def change(body: Json) -> None:
        body["metadata"]["annotations"][DECISIONS] = annotation

    world.server.edit(CONFIG, change)


# --- what cannot change at all ---------------------------------------------------------------------------------------


def k0s_network(**network: Any) -> Json:
    return {"k0sConfig": {"apiVersion": "k0s.k0sproject.io/v1beta1", "spec": {"network": network}}}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (k0s_network(podCIDR="10.60.0.0/16"), "spec.k0sConfig.spec.network.podCIDR"),
        (k0s_network(serviceCIDR="10.61.0.0/16"), "spec.k0sConfig.spec.network.serviceCIDR"),
        (k0s_network(clusterDomain="other.example"), "spec.k0sConfig.spec.network.clusterDomain"),
        (k0s_network(provider="calico"), "spec.k0sConfig.spec.network.provider"),
        ({"storage": {"type": "kine", "kine": {"dataSourceURL": "postgres://db/x"}}}, "spec.storage.type"),
    ],
)
def test_what_a_running_tenant_cannot_change_is_refused_by_name(change: Json, field: str) -> None:
    world = running()
    kept = world.decisions()
    world.changes(**change)
    world.settle()
    said = world.condition("SpecAccepted")["message"]
    assert said.startswith(f"{field}: cannot change from")
    assert "set it back to" in said
    assert world.available
    assert world.decisions() == kept
    assert world.status["decisions"] == kept
    world.changes(**dict.fromkeys(change))
    world.settle()
    assert world.condition("SpecAccepted")["status"] == "True"


_GI: Json = {"spec": {"resources": {"requests": {"storage": "1Gi"}}}}


@pytest.mark.parametrize(
    ("variant", "then", "field", "words"),
    [
        ("empty-dir", {"type": "pvc", "persistentVolumeClaim": _GI}, "type", "to pvc"),
        ("pvc", {"type": "emptyDir"}, "type", "from pvc to emptyDir"),
        ("pvc", {"type": "pvc", "persistentVolumeClaim": _GI}, "persistentVolumeClaim.spec.resources", '"1Gi"'),
        (
            "pvc",
            {
                "type": "pvc",
                "persistentVolumeClaim": {
                    "metadata": {"name": "other"},
                    "spec": {"resources": {"requests": {"storage": "512Mi"}}},
                },
            },
            "persistentVolumeClaim.metadata.name",
            "from kmc-demo to other",
        ),
        (
            "pvc",
            {
                "type": "pvc",
                "persistentVolumeClaim": {
                    "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "512Mi"}}}
                },
            },
            "persistentVolumeClaim.spec.storageClassName",
            'from unset to "fast"',
        ),
    ],
)
def test_volumes_that_are_asked_for_otherwise_than_they_were_made_are_refused_by_name(
    variant: str, then: Json, field: str, words: str
) -> None:
    """A StatefulSet keeps its claims, so the wish would be left out in silence, or leave pods that cannot start."""
    world = settled(variant)
    before = world.body("StatefulSet", "kmc-demo")
    had = world.owner["spec"]["persistence"]
    world.changes(persistence=then)
    world.settle()
    said = world.condition("SpecAccepted")["message"]
    assert said.startswith(f"spec.persistence.{field}: cannot change from")
    assert words in said
    assert "delete StatefulSet kmc-demo and its volume claims" in said
    assert world.available
    assert world.body("StatefulSet", "kmc-demo") == before
    if variant == "pvc":
        world.changes(persistence=had)
        world.settle()
        assert world.condition("SpecAccepted")["status"] == "True"
        return
    world.server.delete(Ref.of(before))
    world.settle()
    assert world.available
    assert world.body("StatefulSet", "kmc-demo")["spec"]["volumeClaimTemplates"]
    assert world.condition("SpecAccepted")["status"] == "True"


def test_the_volume_of_a_database_is_not_to_be_deleted() -> None:
    world = settled("kine-sqlite-pvc")
    world.changes(persistence={"type": "emptyDir"})
    said = world.settle().condition("SpecAccepted")["message"]
    assert "set it back; or create a new Cluster" in said
    assert "delete" not in said


def test_claims_that_a_patch_has_changed_are_no_change() -> None:
    content = "[{op: add, path: /spec/volumeClaimTemplates/0/spec/storageClassName, value: standard}]"
    patch = {"target": {"kind": "StatefulSet", "component": "control-plane"}, "patch": {"type": "json"}}
    patch["patch"]["content"] = content
    world = running(persistence={"type": "pvc", "persistentVolumeClaim": _GI}, patches=[patch])
    assert world.condition("SpecAccepted")["status"] == "True"
    world.changes(patches=None)
    assert "storageClassName: cannot change from" in world.settle().condition("SpecAccepted")["message"]


def test_the_key_algorithm_of_a_tenant_stays() -> None:
    world = running()
    world.changes(keyAlgorithm="RSA-2048")
    before = world.snapshot()
    world.settle()
    assert {k: v for k, v in world.snapshot().items() if k.kind == "Secret"} == {
        k: v for k, v in before.items() if k.kind == "Secret"
    }
