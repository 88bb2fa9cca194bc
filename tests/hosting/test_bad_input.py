"""Bad input: the condition names field, fault and remedy; nothing is lost; and correcting it heals the tenant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from hosted_cp.hosting.settings import Settings
from hosted_cp.k0s.config import DSN_KEY
from hosted_cp.planning.actions import Ref
from tests.hosting import pretend_pods
from tests.hosting.pretend_server import Json, encoded
from tests.hosting.variants import SQLITE, kine
from tests.hosting.world import CATALOGUE, NAMESPACE, World, cluster, running

NODE_PORT = {"type": "NodePort"}
K0S = "k0s.k0sproject.io/v1beta1"


def k0s(**spec: Any) -> Json:
    return {"k0sConfig": {"apiVersion": K0S, "spec": spec}}


def patch(kind: str, content: str, *, target: str = "StatefulSet", component: str = "control-plane") -> Json:
    patched = {"target": {"kind": target, "component": component}, "patch": {"type": kind, "content": content}}
    return {"patches": [patched]}


#: name -> (spec, field, words of the fault, words of the remedy)
BAD: Mapping[str, tuple[Json, str, str, str]] = {
    "unknown minor": ({"version": "v1.99.0"}, "spec.version", "does not know", "use a version of 1.33"),
    "old minor": ({"version": "1.27.9"}, "spec.version", "is older than", "use a version of"),
    "no version": ({"version": "latest"}, "spec.version", "'latest' is no version", "write it like v1.36.3+k0s.2"),
    "malformed quantity": (
        {"resources": {"limits": {"memory": "1 GB"}}}, "spec.resources.limits.memory", "is no quantity", "such as 500m",
    ),
    "malformed size": (
        {"storage": {"type": "etcd", "etcd": {"persistence": {"size": "big"}}}},
        "spec.storage.etcd.persistence.size", "is no quantity", "write a number",
    ),
    "overlapping ranges": (
        k0s(network={"podCIDR": "10.0.0.0/8", "serviceCIDR": "10.96.0.0/12"}),
        "spec.k0sConfig.spec.network.serviceCIDR", "overlaps", "choose ranges",
    ),
    "no range": (
        k0s(network={"podCIDR": "10.0.0.0"}), "spec.k0sConfig.spec.network.podCIDR", "is no network range", "such as",
    ),
    "replicas -1": ({"replicas": -1}, "spec.replicas", "is below 0", "use 0 or more"),
    "replicas 0": ({"replicas": 0}, "spec.replicas", "is 0", "set 1 or more"),
    "SQLite with 3 replicas": (
        {**kine(SQLITE), "replicas": 3}, "spec.replicas", "is SQLite", "use etcd or a database server",
    ),
    "no database": ({"storage": {"type": "kine", "kine": {}}}, "spec.storage.kine", "names no database", "set data"),
    "no data source": (kine("nonsense"), "spec.storage.kine.dataSourceURL", "is no data source", "write one such as"),
    "wrong apiVersion": (
        {"k0sConfig": {"apiVersion": "v1"}}, "spec.k0sConfig.apiVersion", "is not that of a k0s config", f"set {K0S}",
    ),
    "unknown field": (k0s(apii={}), "spec.k0sConfig.spec.apii", "", "did you mean"),
    "wrong type": (k0s(api=["x"]), "spec.k0sConfig.spec.api", "", ""),
    "no object": ({"k0sConfig": {"apiVersion": K0S, "spec": "x"}}, "spec.k0sConfig.spec", "is no object", "write an"),
    "own address": (k0s(api={"address": "192.0.2.1"}), "spec.k0sConfig.spec.api.address", "", "spec.externalAddress"),
    "patch that does not apply": (
        patch("json", "[{op: remove, path: /spec/nothing}]"), "spec.patches[0]", "apply patch at index 0", "correct or",
    ),
    "patch of the selector": (
        patch("merge", "spec: {selector: {matchLabels: {a: b}}}"), "spec.patches[0]", "spec.selector", "correct or",
    ),
    "patch of the namespace": (
        patch("merge", "metadata: {namespace: kube-system}"), "spec.patches[0]", "metadata.namespace", "correct or",
    ),
    "patch to the node": (
        patch("strategic", "spec: {template: {spec: {hostNetwork: true}}}"), "spec.patches[0]", "hostNetwork", "corr",
    ),
    "patch that is no YAML": (patch("merge", "{"), "spec.patches[0].patch.content", "", "write YAML or JSON"),
    "patch of a Secret": (
        patch("merge", "type: x", target="Secret", component="certificates"), "spec.patches[0]", "cannot be patched",
        "correct or",
    ),
    "patch of nothing": (
        patch("merge", "metadata: {labels: {a: b}}", component="controlplane"), "spec.patches[0].target",
        "of kind StatefulSet and component controlplane", "StatefulSet control-plane",
    ),
    "patch of a policy that nobody makes": (
        patch("merge", "metadata: {labels: {a: b}}", target="NetworkPolicy"), "spec.patches[0].target",
        "of kind NetworkPolicy and component control-plane", "or remove the patch",
    ),
    "hostPath": (
        {"persistence": {"type": "hostPath", "hostPath": "/x"}}, "spec.persistence.type", "not allowed in namespace",
        "--privileged-namespace tenants",
    ),
    "hostPath in a mount": (
        {"mounts": [{"path": "/x", "hostPath": {"path": "/"}}]}, "spec.mounts[0]", "not allowed", "use another kind",
    ),
    "a token of the service account in a mount": (
        {"mounts": [{"path": "/x", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]},
        "spec.mounts[0]", "a service account token gives the pods an identity", "--privileged-namespace tenants",
    ),
    "a certificate of the pod in a manifest": (
        {"manifests": [{"name": "x", "projected": {"sources": [{"podCertificate": {"signerName": "x/y"}}]}}]},
        "spec.manifests[0]", "a certificate of the pod gives the pods an identity", "leave the field out",
    ),
    "a volume from another namespace": (
        {"mounts": [{"path": "/x", "ephemeral": {"volumeClaimTemplate": {"spec": {"dataSourceRef": {
            "kind": "PersistentVolumeClaim", "name": "x", "namespace": "other"}}}}}]},
        "spec.mounts[0].ephemeral.volumeClaimTemplate.spec.dataSourceRef.namespace", "names another namespace",
        "leave it out",
    ),
    "a service account": ({"serviceAccount": "x"}, "spec.serviceAccount", "not allowed", "leave the field out"),
    "pvc without a claim": (
        {"persistence": {"type": "pvc"}}, "spec.persistence.persistentVolumeClaim", "is missing", "add it",
    ),
    "unknown kind of volume": ({"persistence": {"type": "tape"}}, "spec.persistence.type", "'tape'", "use emptyDir"),
    "a URL as address": (
        {"externalAddress": "https://a.example:6443"}, "spec.externalAddress", "is neither", "without https://",
    ),
    "one port for two": (
        {"service": {"type": "NodePort", "apiPort": 30443, "konnectivityPort": 30443}},
        "spec.service.konnectivityPort", "as apiPort is", "choose another",
    ),
    "the port of the other": (
        {"service": {"type": "LoadBalancer", "apiPort": 8132}}, "spec.service.apiPort", "as konnectivityPort is",
        "choose another",
    ),
    "an address with a zone": (
        {"externalAddress": "fe80::1%eth0"}, "spec.externalAddress", "is neither an IP address", "write the address",
    ),
    "a name with a zone": (
        k0s(api={"sans": ["fe80::1%eth0"]}), "spec.k0sConfig.spec.api.sans[0]", "is neither an IP address", "one of",
    ),
    "an unknown flag": ({"controlPlaneFlags": ["--debugg"]}, "spec.controlPlaneFlags[0]", "does not know", "--debug?"),
    "a refused flag": ({"controlPlaneFlags": ["--single"]}, "spec.controlPlaneFlags[0]", "cannot be used", "remove it"),
    "two volumes of one name": (
        {"manifests": [{"name": "etc-x", "emptyDir": {}}], "mounts": [{"path": "/etc/x", "emptyDir": {}}]},
        "spec.mounts[0].path", "the name etc-x, which is that of spec.manifests[0].name", "choose another one",
    ),
    "a manifest called as the data volume": (
        {"manifests": [{"name": "kmc-demo", "emptyDir": {}}]}, "spec.manifests[0].name", "the data volume", "choose",
    ),
    "an old etcd": (
        {"storage": {"type": "etcd", "etcd": {"image": "x/etcd:v3.4.1"}}}, "spec.storage.etcd.image",
        "does not support", "use one of",
    ),
    "a denied flag of etcd": (
        {"storage": {"type": "etcd", "etcd": {"args": ["--data-dir=/x"]}}}, "spec.storage.etcd.args", "", "",
    ),
}  # fmt: skip

#: What is refused while the tenant goes on with what it had (or with the default).
_REFUSED_ALONE = {"an old etcd", "a denied flag of etcd"}


@pytest.mark.parametrize("name", BAD)
def test_the_condition_names_field_fault_and_remedy(name: str) -> None:
    spec, field, fault, remedy = BAD[name]
    world = World().asks(**spec).settle()
    said = world.condition("SpecAccepted")
    assert (said["status"], said["reason"]) == ("False", "SpecInvalid")
    sentence = next(
        each for each in said["message"].split("; spec.") if each.removeprefix("spec.").startswith(field[5:])
    )
    assert fault in sentence
    assert remedy in sentence
    if name not in _REFUSED_ALONE:
        assert not world.available
        assert field in world.why
        assert world.owned() == {}
        assert not world.done, "nothing is written for a spec that cannot be carried out"


@pytest.mark.parametrize("name", BAD)
def test_correcting_it_heals_the_tenant(name: str) -> None:
    spec, *_ = BAD[name]
    world = World().asks(**spec).settle()
    good = {key: None for key in spec if key != "service"}
    world.changes(**good, service=NODE_PORT)
    world.settle()
    assert world.available
    assert world.condition("SpecAccepted")["status"] == "True"


@pytest.mark.parametrize("name", BAD)
def test_a_running_tenant_loses_nothing(name: str) -> None:
    spec, field, *_ = BAD[name]
    world = running()
    before = {ref: seen for ref, seen in world.snapshot().items() if ref != world.owner_ref}
    world.changes(**spec)
    world.settle()
    assert world.available
    assert field in world.condition("SpecAccepted")["message"]
    assert {ref: seen for ref, seen in world.snapshot().items() if ref != world.owner_ref} == before
    world.changes(**{key: None for key in spec if key != "service"}, service=NODE_PORT)
    world.settle()
    assert world.condition("SpecAccepted")["status"] == "True"


def test_a_patch_of_etcd_where_there_is_none() -> None:
    world = World().asks(**kine(SQLITE), **patch("merge", "metadata: {labels: {a: b}}", component="etcd")).settle()
    assert world.why == (
        "SpecInvalid: spec.patches[0].target: no object of this tenant is of kind StatefulSet and component etcd; name"
        " one of those that there are (PodDisruptionBudget control-plane, Service control-plane, StatefulSet"
        " control-plane), or remove the patch"
    )


def test_a_patch_waits_in_silence_for_an_object_that_comes_later_or_with_more_replicas() -> None:
    targets = [
        ("Service", "control-plane"), ("Service", "etcd"), ("StatefulSet", "etcd"), ("StatefulSet", "control-plane"),
        ("PodDisruptionBudget", "control-plane"),
    ]  # fmt: skip
    patches = [
        patch("merge", f"metadata: {{labels: {{p: '{index}'}}}}", target=kind, component=component)["patches"][0]
        for index, (kind, component) in enumerate(targets)
    ]
    world = World().asks(patches=patches)
    for _ in range(12):
        world.reconcile()
        assert world.condition("SpecAccepted").get("status", "True") == "True", world.condition("SpecAccepted")
        pretend_pods.step(world.server, world.script)
    assert world.settle().available
    assert world.body("StatefulSet", "kmc-demo")["metadata"]["labels"]["p"] == "3"
    world.changes(replicas=2)
    world.settle()
    assert world.body("PodDisruptionBudget", "kmc-demo")["metadata"]["labels"]["p"] == "4"
    world.changes(replicas=1)
    assert world.settle().condition("SpecAccepted")["status"] == "True"
    assert not world.exists("PodDisruptionBudget", "kmc-demo")


@pytest.mark.parametrize("name", ["x" * 200, "a.b", "x" * 44])
def test_a_name_under_which_no_pod_can_exist(name: str) -> None:
    world = World(name=name)
    world.server.create(cluster(name))
    world.settle()
    assert world.why.startswith("SpecInvalid: metadata.name: ")
    assert "create the Cluster under a name of" in world.why
    assert world.owned() == {}
    world.deletes()
    world.settle()
    assert world.server.objects == {}


def test_a_spec_that_cannot_be_read_at_all() -> None:
    world = World()
    world.server.create(cluster(spec={"replicas": "three", "service": 5}))
    world.settle()
    assert "spec.replicas: " in world.why
    assert "spec.service: " in world.why
    world.changes(replicas=1, service=NODE_PORT)
    world.settle()
    assert world.available


# --- databases -------------------------------------------------------------------------------------------------------


FROM_SECRET = {"type": "kine", "kine": {"dataSourceSecretName": "database"}}


def set_dsn(world: World, dsn: bytes) -> None:
    ref = Ref(api_version="v1", kind="Secret", namespace=NAMESPACE, name="database")
    world.server.merge_patch(ref, {"data": encoded({DSN_KEY: dsn})})


def test_a_missing_secret_with_the_database_is_named_and_awaited() -> None:
    world = World().asks(storage=FROM_SECRET).settle()
    assert world.why.startswith(
        "SecretsMissing: spec.storage.kine.dataSourceSecretName: Secret database does not exist"
    )
    assert f"under the key {DSN_KEY}" in world.why
    world.secret("database", {"password": b"x"})
    world.settle()
    assert f"Secret database has no key {DSN_KEY}" in world.why
    set_dsn(world, b"hello")
    world.settle()
    assert "is no data source that kine understands" in world.why
    assert "hello" not in str(world.status)
    set_dsn(world, b"postgres://u:p@db.example:5432/x")
    world.settle()
    assert world.available


def test_sqlite_from_a_secret_is_for_one_replica_only() -> None:
    world = World()
    world.secret("database", {DSN_KEY: SQLITE.encode()})
    world.asks(storage=FROM_SECRET, replicas=3).settle()
    assert "spec.replicas: is 3, and Secret database is SQLite" in world.why
    world.changes(replicas=1)
    world.settle()
    assert world.available


def test_another_database_address_restarts_the_controllers() -> None:
    world = World()
    world.secret("database", {DSN_KEY: b"postgres://u:old@db.example:5432/x"})
    world.asks(storage=FROM_SECRET).settle()
    before = world.body("StatefulSet", "kmc-demo")
    set_dsn(world, b"postgres://u:new@db.example:5432/x")
    world.settle()
    config = world.data("kmc-demo-config")
    assert b"postgres://u@db.example:5432/x?passfile=/etc/k0s/pgpass" in config["k0s.yaml"]
    assert config["pgpass"] == b"*:*:*:*:new\n"
    assert world.body("StatefulSet", "kmc-demo")["spec"] != before["spec"]
    assert world.available


def test_a_database_that_does_not_answer_is_named_from_a_dial() -> None:
    world = World().asks(**kine("postgres://db.example:5432/x"))
    world.script.pods = lambda name: pretend_pods.STARTING
    world.answers["dial"] = "nothing answers at db.example:5432; correct the address, or start the database"
    world.settle()
    assert world.why.startswith("DatabaseUnreachable: nothing answers at db.example:5432")
    world.answers.clear()
    world.settle()
    assert world.why.startswith("ControlPlaneStarting")
    world.script.pods = lambda name: pretend_pods.READY
    world.settle()
    assert world.available


def test_a_database_that_refuses_the_password_is_named_without_it() -> None:
    world = World()
    world.secret("database", {DSN_KEY: b"postgres://u:canary@db.example:5432/x"})
    world.asks(storage=FROM_SECRET)
    world.script.pods = lambda name: pretend_pods.CRASHING
    world.script.crash_message = "connect postgres://u:canary@db.example:5432/x: password authentication failed for u"
    world.settle()
    assert world.why.startswith("PodFails: pod kmc-demo-0: controller ended with 1")
    assert "password authentication failed" in world.why
    assert "canary" not in str(world.status) + str(world.events)
    set_dsn(world, b"postgres://u:right@db.example:5432/x")
    world.script.pods = lambda name: pretend_pods.READY
    assert world.settle().available


# --- the cluster around it -------------------------------------------------------------------------------------------


def test_an_image_that_cannot_be_pulled() -> None:
    world = World().asks(image="registry.example/none")
    world.script.pods = lambda name: pretend_pods.READY if "etcd" in name else pretend_pods.NO_IMAGE
    world.settle()
    assert world.why.startswith("ImageCannotBePulled: pod kmc-demo-0: image registry.example/none:v1.36.3-k0s.2 ")
    assert "correct spec.image and spec.version" in world.why
    world.changes(image="registry.example/some")
    world.script.pods = lambda name: pretend_pods.READY
    world.settle()
    assert world.available


def test_an_image_of_etcd_that_cannot_be_pulled_names_its_field() -> None:
    world = World().asks()
    world.script.pods = lambda name: pretend_pods.NO_IMAGE
    world.settle()
    assert world.why.startswith("ImageCannotBePulled: pod kmc-demo-etcd-0")
    assert "spec.storage.etcd.image" in world.why


@pytest.mark.parametrize("what", ["kmc-demo", "kmc-demo-etcd"])
def test_pods_that_may_not_be_created(what: str) -> None:
    """A quota, or the level of Pod Security: the StatefulSet's own status says no more than that there are none."""
    world = World().asks()
    world.script.refused = what
    world.settle()
    assert world.why.startswith(f"PodsNotCreated: no pod of StatefulSet {what} can be created; a quota of namespace")
    assert f"kubectl -n tenants describe statefulset {what} says which" in world.why
    world.script.refused = ""
    assert world.settle().available


def test_a_storage_class_that_does_not_exist() -> None:
    storage = {"type": "etcd", "etcd": {"persistence": {"storageClass": "gold"}}}
    world = World().asks(storage=storage)
    world.script.pods, world.script.storage_bound = (lambda name: pretend_pods.STARTING), False
    world.settle()
    assert world.why.startswith("StorageClassNotFound: volume claim etcd-data-kmc-demo-etcd-0 wants StorageClass gold")
    assert "create it, or name one that exists (standard)" in world.why
    world.storage_classes = frozenset({"standard", "gold"})
    world.script.pods, world.script.storage_bound = (lambda name: pretend_pods.READY), True
    assert world.settle().available


@pytest.mark.parametrize("fault", ["etcdserver: request timed out", "forbidden: exceeded quota"])
def test_what_the_api_server_refuses_is_said_in_its_words(fault: str) -> None:
    world = World().asks()
    world.refuses = lambda action: f"creating {action.ref}: {fault}" if action.ref.kind == "StatefulSet" else ""
    world.settle()
    assert world.why.startswith(f"WriteFailed: creating StatefulSet tenants/kmc-demo-etcd: {fault}")
    world.refuses = lambda action: ""
    world.settle()
    assert world.available


def test_privileges_come_with_the_namespace() -> None:
    asks: list[Callable[[], Json]] = [
        lambda: {"persistence": {"type": "hostPath", "hostPath": "/x"}},
        lambda: {"serviceAccount": "x"},
        lambda: {"mounts": [{"path": "/x", "hostPath": {"path": "/"}}]},
    ]
    for ask in asks:
        world = World(privileged=True, settings=Settings(catalogue=CATALOGUE)).asks(**ask()).settle()
        assert world.available, world.why
