"""Our kinds on a real API server: accepted as they are, each CEL rule lets good through and refuses bad, defaults,
scale, columns, server-side apply, and old objects that today's rules would refuse."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hosted_cp.api import crds
from hosted_cp.api.cluster import Cluster, parse_cluster
from tests.component.apiserver import KubectlError, Server

GROUP = "k0smotron.io/v1beta2"


@pytest.fixture(scope="module")
def place(server: Server, kinds: None) -> Iterator[str]:
    """One namespace for the module."""
    name = "kinds"
    server.kubectl("create", "namespace", name)
    yield name
    server.kubectl("delete", "namespace", name, "--wait=false")


class Refused(Exception):
    """The API server's words."""


Write = Callable[..., dict[str, Any]]


@pytest.fixture
def write(server: Server, place: str, request: pytest.FixtureRequest) -> Write:
    """Apply (server-side, strictly, as kubectl does) one object of a fresh name; returns it as stored.

    Refusals are `Refused`. Plain HTTP, because a kubectl for each of these small questions takes a minute in all.
    """
    context = server.admin.context(server.folder)
    unique = f"{zlib.crc32(request.node.nodeid.encode()):x}"

    def apply(kind: str, spec: Any, *, name: str = "a", manager: str = "test", group: str = GROUP) -> dict[str, Any]:
        full = f"{name}-{unique}"
        body: dict[str, Any] = {"apiVersion": group, "kind": kind, "metadata": {"name": full, "namespace": place}}
        if spec is not None:
            body["spec"] = spec
        url = (
            f"{server.url}/apis/{group}/namespaces/{place}/{kind.lower()}s/{full}"
            f"?fieldManager={manager}&force=true&fieldValidation=Strict"
        )
        headers = {"Content-Type": "application/apply-patch+yaml"}
        asked = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers, method="PATCH")
        try:
            with urllib.request.urlopen(asked, context=context, timeout=30) as answer:
                stored: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            raise Refused(json.load(error)["message"]) from None
        return stored

    return apply


def network(**ranges: Any) -> dict[str, Any]:
    return {"k0sConfig": {"apiVersion": "k0s.k0sproject.io/v1beta1", "spec": {"network": ranges, "other": {"kept": 1}}}}


def kine(**fields: Any) -> dict[str, Any]:
    return {"storage": {"type": "kine", "kine": fields}}


CLAIM = {"persistentVolumeClaim": {"spec": {"resources": {"requests": {"storage": "1Gi"}}}}}

ACCEPTED: list[Any] = [
    None,
    {},
    {"replicas": 0},
    {"storage": {"type": "etcd", "etcd": {"persistence": {"size": 1073741824}}}},
    kine(dataSourceSecretName="dsn"),
    kine(dataSourceURL="sqlite:///x"),
    kine(dataSourceSecretName="dsn", dataSourceURL="__K0SMOTRON_KINE_DATASOURCE_URL_PLACEHOLDER__"),
    {"persistence": {"type": "pvc", **CLAIM}},
    {"persistence": {"type": "hostPath", "hostPath": "/x"}},
    {"persistence": {}},
    {"service": {"type": "NodePort", "apiPort": 30443, "konnectivityPort": 30132}},
    {"resources": {"limits": {"cpu": 2, "memory": "1.5Gi"}}},
    {"certificateRefs": [{"type": "ca", "name": "a"}, {"type": "sa", "name": "a"}]},
    {"mounts": [{"path": "/x", "configMap": {"name": "a"}}], "manifests": [{"name": "a", "csi": {"driver": "x"}}]},
    {"keyAlgorithm": "RSA-2048"},
    network(podCIDR="10.1.0.0/16", anything={"goes": ["here"]}),
]

REFUSED: list[tuple[Any, str]] = [
    ({"replicas": -1}, "spec.replicas in body should be greater than or equal to 0"),
    ({"storage": {"type": "kine"}}, "spec.storage.kine: Required value: type kine needs kine.dataSourceSecretName"),
    (kine(), "type kine needs"),
    (kine(dataSourceURL="", dataSourceSecretName=""), "type kine needs"),
    (kine(dataSourceURL="mysql://x", dataSourceSecretName="dsn"), "set one of dataSourceSecretName and dataSourceURL"),
    ({"persistence": {"type": "pvc"}}, "spec.persistence.persistentVolumeClaim: Required value: type pvc needs"),
    ({"persistence": {"type": "hostPath"}}, "spec.persistence.hostPath: Required value: type hostPath needs"),
    ({"persistence": {"type": "hostPath", "hostPath": "x"}}, "type hostPath needs"),
    ({"storage": {"type": "oracle"}}, 'Unsupported value: "oracle"'),
    ({"service": {"type": "ExternalName"}}, 'Unsupported value: "ExternalName"'),
    ({"service": {"apiPort": 70000}}, "less than or equal to 65535"),
    ({"resources": {"limits": {"memory": "1 GB"}}}, "spec.resources.limits.memory in body should match"),
    ({"storage": {"etcd": {"persistence": {"size": "big"}}}}, "should match"),
    ({"certificateRefs": [{"type": "ca", "name": "a"}, {"type": "ca", "name": "b"}]}, "duplicate entries for key"),
    ({"mounts": [{"configMap": {"name": "a"}}]}, "path"),
    ({"keyAlgorithm": "Ed25519"}, "Unsupported value"),
    (network(podCIDR=7), "podCIDR: expected string"),
    ({"replcas": 1}, ".spec.replcas: field not declared in schema"),
    ({"resources": {"limit": {}}}, ".spec.resources.limit: field not declared in schema"),
]

ETCD: dict[str, Any] = {}
CHANGES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("storage", ETCD, {"storage": {"type": "etcd"}}, ""),
    ("storage", {"storage": {}}, ETCD, ""),
    (
        "storage",
        ETCD,
        kine(dataSourceURL="mysql://x"),
        "spec.storage.type: Forbidden: the storage type cannot be changed",
    ),
    ("storage", kine(dataSourceURL="mysql://x"), ETCD, "the storage type cannot be changed"),
    ("keys", ETCD, {"keyAlgorithm": "ECDSA-P256"}, ""),
    ("keys", {"keyAlgorithm": "RSA-2048"}, ETCD, "the key algorithm cannot be changed"),
    ("pods", ETCD, network(podCIDR="10.244.0.0/16"), ""),
    ("pods", network(), network(serviceCIDR="10.96.0.0/12", clusterDomain="cluster.local"), ""),
    # Server-side apply makes `network: null` of this.
    ("pods", network(podCIDR="10.244.0.0/16"), network(), ""),
    ("pods", ETCD, network(podCIDR="10.1.0.0/16"), "spec.k0sConfig.spec.network.podCIDR: Forbidden: the pods' network"),
    ("pods", network(podCIDR="10.1.0.0/16"), network(), "the pods' network range cannot be changed"),
    ("pods", network(podCIDR="10.1.0.0/16"), ETCD, "the pods' network range cannot be changed"),
    ("services", network(), network(serviceCIDR="10.1.0.0/16"), "the services' network range cannot be changed"),
    ("domain", network(), network(clusterDomain="a.b"), "the cluster domain cannot be changed"),
    ("dual", network(), network(dualStack={"enabled": False}), ""),
    ("dual", network(), network(dualStack={"enabled": True}), "dual-stack networking cannot be changed"),
    (
        "dual",
        network(dualStack={"enabled": True, "IPv6podCIDR": "fd00::/64"}),
        network(dualStack={"enabled": True, "IPv6podCIDR": "fd01::/64"}),
        "the pods' IPv6 network range cannot be changed",
    ),
    (
        "dual",
        network(dualStack={"enabled": True, "IPv6serviceCIDR": "fd00::/108"}),
        network(dualStack={"enabled": True}),
        "the services' IPv6 network range cannot be changed",
    ),
    ("other", network(podCIDR="10.1.0.0/16"), {**network(podCIDR="10.1.0.0/16"), "replicas": 3, "version": "v1"}, ""),
]


@pytest.mark.parametrize("spec", ACCEPTED, ids=str)
def test_accepts_clusters(write: Write, spec: Any) -> None:
    stored = write("Cluster", spec)
    read, asked = parse_cluster(stored), parse_cluster({"spec": spec})
    assert read.spec is not None
    # Reading the file and reading what the server made of it are the same.
    assert read.spec == asked.spec


@pytest.mark.parametrize(("spec", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_refuses_clusters(write: Write, spec: Any, says: str) -> None:
    with pytest.raises(Refused) as caught:
        write("Cluster", spec)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("what", "old", "new", "says"), CHANGES, ids=[f"{each[0]}-{i}" for i, each in enumerate(CHANGES)]
)
def test_changes_of_clusters(write: Write, what: str, old: dict[str, Any], new: dict[str, Any], says: str) -> None:
    write("Cluster", old)
    if says:
        with pytest.raises(Refused) as caught:
            write("Cluster", new)
        assert says in str(caught.value)
        assert what
    else:
        write("Cluster", new)


def test_server_and_model_agree_on_defaults(write: Write) -> None:
    assert write("Cluster", None, name="none")["spec"] == {
        "image": "quay.io/k0sproject/k0s", "replicas": 1, "service": {"type": "NodePort"}
    }  # fmt: skip
    assert write("Cluster", {"storage": {}, "persistence": {}}, name="some")["spec"] == {
        "image": "quay.io/k0sproject/k0s",
        "replicas": 1,
        "service": {"type": "ClusterIP"},
        "persistence": {"type": "emptyDir", "autoDeletePVCs": False},
        "storage": {"type": "etcd", "etcd": {"autoDeletePVCs": False, "persistence": {"size": "1Gi"}}},
    }
    assert write("JoinTokenRequest", {"clusterName": "a"})["spec"] == {"clusterName": "a", "role": "worker"}


@pytest.mark.parametrize("expiry", [None, "0s", "90s", "1h30m", "1.5h", "500ms"])
def test_accepts_token_requests(write: Write, expiry: str | None) -> None:
    spec = {"clusterName": "a"} | ({"expiry": expiry} if expiry else {})
    assert write("JoinTokenRequest", spec)["spec"].get("expiry") == expiry


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"clusterName": "a", "expiry": "1x"}, "expiry must be a duration such as 90s, 30m or 24h"),
        ({"clusterName": "a", "expiry": ""}, "expiry must be a duration"),
        ({"clusterName": "a", "expiry": "-1h"}, "expiry must be a duration"),
        ({"clusterName": "a", "expiry": "1d"}, "expiry must be a duration"),
        ({"clusterName": "a", "expiry": "9" * 60 + "h"}, "spec.expiry"),
        ({"clusterName": "a", "expiry": "1s" * 40}, "may not be more than 64"),
        ({"clusterName": ""}, "should be at least 1 chars long"),
        ({"clusterName": "a" * 64}, "may not be more than 63"),
        ({}, "spec.clusterName: Required value"),
        ({"clusterName": "a", "role": "both"}, 'Unsupported value: "both"'),
    ],
)
def test_refuses_token_requests(write: Write, spec: Any, says: str) -> None:
    with pytest.raises(Refused) as caught:
        write("JoinTokenRequest", spec)
    assert says in str(caught.value)


def test_changes_of_token_requests(write: Write) -> None:
    write("JoinTokenRequest", {"clusterName": "a"})
    write("JoinTokenRequest", {"clusterName": "a", "role": "worker", "expiry": "5m"})
    for change in ({"clusterName": "b"}, {"clusterName": "a", "role": "controller"}):
        with pytest.raises(Refused, match="cannot be changed: the token is for what was asked first"):
            write("JoinTokenRequest", change)


CONDITION = {
    "type": "Available",
    "status": "False",
    "reason": "SpecInvalid",
    "message": "spec.version: is old; take v1.36",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
    "observedGeneration": 1,
}


def test_columns_and_status(server: Server, place: str, write: Write) -> None:
    name = write("Cluster", {"replicas": 3})["metadata"]["name"]
    status = {
        "replicas": 3, "readyReplicas": 2, "updatedReplicas": 3, "selector": "app=k0smotron",
        "version": "v1.36.3+k0s.2",
        "controlPlaneEndpoint": {"host": "203.0.113.7", "port": 30443, "konnectivityPort": 30132},
        "externalAddress": "203.0.113.7", "initialized": True, "observedGeneration": 1,
        "decisions": {"version": "v1.36.3+k0s.2", "apiPort": 30443},
        "certificates": [{"name": "ca", "expires": "2036-01-01T00:00:00Z"}],
        "deprecated": {"v1beta1": {"ready": False, "reconciliationStatus": "x"}},
        "conditions": [CONDITION],
    }  # fmt: skip
    patch = json.dumps({"status": status})
    server.kubectl("patch", "-n", place, "kmc", name, "--subresource=status", "--type=merge", f"--patch={patch}")
    shown = server.kubectl("get", "-n", place, "kmc", name).decode().splitlines()
    assert shown[0].split() == ["NAME", "READY", "REPLICAS", "VERSION", "ENDPOINT", "PORT", "AGE", "REASON"]
    row = shown[1].split()
    assert row[:6] == [name, "False", "3", "v1.36.3+k0s.2", "203.0.113.7", "30443"]
    assert row[-1] == "SpecInvalid"
    wide = server.kubectl("get", "-n", place, "kmc", name, "-o", "wide").decode()
    assert str(CONDITION["message"]) in wide
    # Nothing of the status was pruned: every field is in the schema.
    stored = json.loads(server.kubectl("get", "-n", place, "kmc", name, "-o", "json"))
    assert stored["status"] == status
    assert stored["metadata"]["generation"] == 1


def test_columns_of_token_requests(server: Server, place: str, write: Write) -> None:
    name = write("JoinTokenRequest", {"clusterName": "demo"})["metadata"]["name"]
    condition = {**CONDITION, "type": "JoinTokenSecretCreated", "status": "True", "reason": "Created", "message": ""}
    status = {
        "tokenID": "abcdef", "expiration": "2036-01-01T00:00:00Z", "observedGeneration": 1,
        "deprecated": {"v1beta1": {"clusterUID": "u", "reconciliationStatus": "x"}},
        "conditions": [condition],
    }  # fmt: skip
    patch = json.dumps({"status": status})
    server.kubectl("patch", "-n", place, "jtr", name, "--subresource=status", "--type=merge", f"--patch={patch}")
    header, row = (line.split() for line in server.kubectl("get", "-n", place, "jtr", name).decode().splitlines())
    assert header == ["NAME", "CLUSTER", "ROLE", "READY", "EXPIRES", "AGE", "REASON"]
    assert row[:4] == [name, "demo", "worker", "True"]
    assert row[-1] == "Created"
    assert json.loads(server.kubectl("get", "-n", place, "jtr", name, "-o", "json"))["status"] == status


def test_scale_subresource(server: Server, place: str, write: Write) -> None:
    name = write("Cluster", {})["metadata"]["name"]
    server.kubectl("scale", "-n", place, f"kmc/{name}", "--replicas=3")
    assert json.loads(server.kubectl("get", "-n", place, "kmc", name, "-o", "json"))["spec"]["replicas"] == 3
    with pytest.raises(KubectlError, match="greater than or equal to 0"):
        server.kubectl("patch", "-n", place, "kmc", name, "--subresource=scale", "--type=merge",
                       '--patch={"spec":{"replicas":-1}}')  # fmt: skip
    server.kubectl("patch", "-n", place, "kmc", name, "--subresource=status", "--type=merge",
                   '--patch={"status":{"replicas":2,"selector":"a=b"}}')  # fmt: skip
    raw = f"/apis/{GROUP}/namespaces/{place}/clusters/{name}/scale"
    assert json.loads(server.kubectl("get", "--raw", raw))["status"] == {"replicas": 2, "selector": "a=b"}


def test_two_managers_share_lists(write: Write) -> None:
    """Lists with keys are merged, so that one tool's entries survive another's apply."""
    write("Cluster", {"mounts": [{"path": "/a", "emptyDir": {}}]}, manager="one")
    stored = write("Cluster", {"mounts": [{"path": "/b", "emptyDir": {}}]}, manager="two")
    assert [each["path"] for each in stored["spec"]["mounts"]] == ["/a", "/b"]


def test_conditions_are_checked(server: Server, place: str, write: Write) -> None:
    name = write("Cluster", {})["metadata"]["name"]
    for bad in ({**CONDITION, "status": "Maybe"}, {**CONDITION, "reason": "two words"}, {"type": "Available"}):
        with pytest.raises(KubectlError, match=r"status\.conditions"):
            server.kubectl("patch", "-n", place, "kmc", name, "--subresource=status", "--type=merge",
                           f"--patch={json.dumps({'status': {'conditions': [bad]}})}")  # fmt: skip


def test_explain_shows_descriptions(server: Server, place: str) -> None:
    shown = server.kubectl("explain", "cluster.spec.storage.kine", f"--api-version={GROUP}").decode()
    assert place
    assert "dataSourceSecretName" in shown
    assert "visible to everyone who may read the Cluster" in shown


def test_old_objects_can_still_be_reported_on_and_deleted(server: Server, place: str, write: Write) -> None:
    """What k0smotron's laxer schema let in must not be stuck: status, finalizers, labels, repair and deletion work."""
    definition = json.loads(json.dumps(crds.definition(Cluster)).replace("k0smotron.io", "old.example"))
    strict = json.loads(json.dumps(definition))
    version = definition["spec"]["versions"][0]
    version["schema"]["openAPIV3Schema"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    server.kubectl("create", "-f", "-", stdin=json.dumps(definition).encode())
    server.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/clusters.old.example")
    group = "old.example/v1beta2"
    bad = {
        "replicas": 1, "storage": {"type": "kine"}, "persistence": {"type": "pvc"}, "service": {"apiPort": 0},
        "certificateRefs": [{"type": "ca", "name": "a"}, {"type": "ca", "name": "b"}],
    }  # fmt: skip
    try:
        name = write("Cluster", bad, group=group)["metadata"]["name"]
        server.kubectl("replace", "-f", "-", stdin=json.dumps(strict).encode())
        _until_refused(lambda: write("Cluster", {"storage": {"type": "kine"}}, name="probe", group=group))
        kmc = ("-n", place, "clusters.old.example", name)
        server.kubectl(
            "patch", *kmc, "--type=merge", '--patch={"metadata":{"finalizers":["a.example/b"],"labels":{"x":"y"}}}'
        )
        server.kubectl("patch", *kmc, "--subresource=status", "--type=merge",
                       f"--patch={json.dumps({'status': {'conditions': [CONDITION]}})}")  # fmt: skip
        # One repair at a time is possible; a new fault is not.
        server.kubectl("patch", *kmc, "--type=merge", '--patch={"spec":{"service":{"apiPort":6443}}}')
        with pytest.raises(KubectlError, match="less than or equal to 65535"):
            server.kubectl("patch", *kmc, "--type=merge", '--patch={"spec":{"service":{"apiPort":70000}}}')
        stored = json.loads(server.kubectl("get", *kmc, "-o", "json"))
        assert stored["status"]["conditions"] == [CONDITION]
        assert stored["spec"]["storage"]["type"] == "kine"
        server.kubectl("delete", *kmc, "--wait=false")
        server.kubectl("patch", *kmc, "--type=merge", '--patch={"metadata":{"finalizers":null}}')
        with pytest.raises(KubectlError, match="NotFound"):
            server.kubectl("get", *kmc)
    finally:
        server.kubectl("delete", "crd", "clusters.old.example", "--wait=false")


def _until_refused(write: Callable[[], object]) -> None:
    """A replaced schema reaches the handlers a moment later, and nothing says when."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            write()
        except Refused:
            return
        time.sleep(0.1)
    pytest.fail("the new schema was not taken up")
