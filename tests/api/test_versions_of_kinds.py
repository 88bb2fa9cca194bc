"""All kinds in all versions: what API servers, Cluster API and k0smotron's users rely on, read off the definitions.

The numbers are those of `9.4 A`: what a provider can assert of its manifests without a server.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from hosted_cp.api import crds
from hosted_cp.api.cluster import ClusterSpec
from hosted_cp.api.control_plane import K0smotronControlPlaneSpec
from hosted_cp.api.crds import Webhook
from hosted_cp.api.kinds import VERSIONED
from hosted_cp.api.schema import defaulted, defaults, pruned
from tests.api.structural import faults
from tests.api.test_crds import CLUSTER_FIELDS, kind_of, leaves

WEBHOOK = Webhook(service="hosted-cp-webhook", namespace="hosted-cp")
ALL = {each["spec"]["names"]["kind"]: each for each in crds.generate(conversion=WEBHOOK)}
CONTRACTED = ["K0smotronControlPlane", "K0smotronControlPlaneTemplate", "K0sWorkerConfig", "K0sWorkerConfigTemplate"]


def version(kind: str, name: str = "v1beta2") -> dict[str, Any]:
    [found] = [each for each in ALL[kind]["spec"]["versions"] if each["name"] == name]
    return dict(found)


def schema(kind: str, name: str = "v1beta2") -> dict[str, Any]:
    return dict(version(kind, name)["schema"]["openAPIV3Schema"])


def field(kind: str, path: str, name: str = "v1beta2") -> dict[str, Any]:
    node = schema(kind, name)
    for step in path.split("."):
        node = node["properties"][step]
    return node


def test_the_files_name_the_webhook_that_is_shipped() -> None:
    assert crds.generate() == crds.generate(conversion=WEBHOOK)


def test_all_kinds_in_all_versions() -> None:
    assert list(ALL) == ["Cluster", "JoinTokenRequest", *CONTRACTED]
    for each in ALL.values():
        assert [(one["name"], one["served"], one["storage"]) for one in each["spec"]["versions"]] == [
            ("v1beta2", True, True),
            ("v1beta1", True, False),
        ]
        for one in each["spec"]["versions"]:
            assert faults(one["schema"]["openAPIV3Schema"]) == []
            assert one["subresources"]["status"] == {}


def test_the_stored_version_is_first_and_as_it_is_alone() -> None:
    for each in crds.KINDS:
        [alone] = crds.definition(each)["spec"]["versions"]
        assert version(each.__name__) == alone == ALL[each.__name__]["spec"]["versions"][0]


@pytest.mark.parametrize("kind", ALL)
def test_a1_name_scope_and_labels(kind: str) -> None:
    made = ALL[kind]
    names, spec = made["spec"]["names"], made["spec"]
    # Core computes the name of the definition from the kind, by the rules of Go's flect: for ours, an s.
    assert made["metadata"]["name"] == f"{kind.lower()}s.{spec['group']}"
    assert (names["plural"], names["singular"], names["listKind"]) == (f"{kind.lower()}s", kind.lower(), f"{kind}List")
    assert spec["scope"] == "Namespaced"
    labels = made["metadata"].get("labels", {})
    if kind not in CONTRACTED:
        assert labels == {}
        assert "categories" not in names
        return
    assert names["categories"] == ["cluster-api"]
    served = {each["name"] for each in spec["versions"] if each["served"]}
    assert set(labels["cluster.x-k8s.io/v1beta2"].split("_")) <= served
    assert labels["clusterctl.cluster.x-k8s.io"] == ""
    provider = "control-plane-hosted-cp" if "ControlPlane" in kind else "bootstrap-hosted-cp"
    assert labels["cluster.x-k8s.io/provider"] == provider
    # No other contract is claimed.
    assert len(labels) == 3


_CONTRACT: list[tuple[str, str, str, str | None]] = [
    ("K0smotronControlPlane", "spec.replicas", "integer", "int32"),
    ("K0smotronControlPlane", "spec.version", "string", None),
    ("K0smotronControlPlane", "spec.controlPlaneEndpoint.host", "string", None),
    ("K0smotronControlPlane", "spec.controlPlaneEndpoint.port", "integer", "int32"),
    ("K0smotronControlPlane", "status.initialization.controlPlaneInitialized", "boolean", None),
    ("K0smotronControlPlane", "status.externalManagedControlPlane", "boolean", None),
    ("K0smotronControlPlane", "status.replicas", "integer", "int32"),
    ("K0smotronControlPlane", "status.readyReplicas", "integer", "int32"),
    ("K0smotronControlPlane", "status.availableReplicas", "integer", "int32"),
    ("K0smotronControlPlane", "status.upToDateReplicas", "integer", "int32"),
    ("K0smotronControlPlane", "status.selector", "string", None),
    ("K0smotronControlPlane", "status.version", "string", None),
    ("K0smotronControlPlane", "status.versions", "array", None),
    ("K0smotronControlPlane", "status.conditions", "array", None),
    ("K0smotronControlPlane", "status.observedGeneration", "integer", "int64"),
    ("K0sWorkerConfig", "status.initialization.dataSecretCreated", "boolean", None),
    ("K0sWorkerConfig", "status.dataSecretName", "string", None),
    ("K0sWorkerConfig", "status.conditions", "array", None),
    ("K0sWorkerConfig", "status.observedGeneration", "integer", "int64"),
]


@pytest.mark.parametrize(("kind", "path", "type_", "format_"), _CONTRACT, ids=[f"{k}.{p}" for k, p, _, _ in _CONTRACT])
def test_a2_the_paths_of_the_contract(kind: str, path: str, type_: str, format_: str | None) -> None:
    found = field(kind, path)
    assert (found["type"], found.get("format")) == (type_, format_)
    if path.startswith("status"):
        # A counter that defaults to 0 could not be told from one that nobody has counted.
        assert "default" not in found


def test_a2_lists_scale_and_what_v1beta1_lacks() -> None:
    for kind in ("K0smotronControlPlane", "K0sWorkerConfig"):
        for name in ("v1beta2", "v1beta1"):
            conditions = field(kind, "status.conditions", name)
            assert conditions["x-kubernetes-list-map-keys"] == ["type"]
            assert conditions["items"]["required"] == ["lastTransitionTime", "message", "reason", "status", "type"]
            assert conditions["items"]["properties"]["status"]["enum"] == ["True", "False", "Unknown"]
    versions = field("K0smotronControlPlane", "status.versions")
    assert (versions["x-kubernetes-list-map-keys"], versions["minItems"], versions["maxItems"]) == (["version"], 1, 100)
    assert versions["items"]["properties"]["replicas"]["minimum"] == 1
    scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    for name in ("v1beta2", "v1beta1"):
        assert version("K0smotronControlPlane", name)["subresources"]["scale"] == {
            **scale,
            "labelSelectorPath": ".status.selector",
        }
    # Why the label of the contract lists v1beta2 alone.
    old = field("K0smotronControlPlane", "status", "v1beta1")["properties"]
    assert {"upToDateReplicas", "availableReplicas", "versions"}.isdisjoint(old)
    assert "initialization" not in field("K0sWorkerConfig", "status", "v1beta1")["properties"]


@pytest.mark.parametrize("kind", ["K0smotronControlPlane", "K0sWorkerConfig"])
@pytest.mark.parametrize("name", ["v1beta2", "v1beta1"])
def test_a3_templates(kind: str, name: str) -> None:
    template = field(f"{kind}Template", "spec.template", name)["properties"]
    assert template["metadata"]["properties"].keys() >= {"labels", "annotations"}
    own = field(kind, "spec", name)["properties"]
    # The endpoint is one cluster's.
    assert template["spec"]["properties"].keys() == own.keys() - {"controlPlaneEndpoint"}
    # Cluster API copies the template's spec and owns what it copies: a default would be ours no more.
    assert "default" not in template["spec"]["properties"].get("replicas", {})
    # Changes are judged by admission, which knows a dry run of the topology.
    assert "x-kubernetes-validations" not in template["spec"]
    assert not [
        path for path, node in _nodes(template["spec"]) if "oldSelf" in str(node.get("x-kubernetes-validations"))
    ]


def _nodes(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield path, {key: value for key, value in node.items() if key not in ("properties", "items")}
    for name, inner in node.get("properties", {}).items():
        yield from _nodes(inner, f"{path}.{name}")
    if "items" in node:
        yield from _nodes(node["items"], f"{path}[]")


def test_control_planes_share_the_spec_of_clusters() -> None:
    assert issubclass(K0smotronControlPlaneSpec, ClusterSpec)
    cluster, plane = (field(kind, "spec") for kind in ("Cluster", "K0smotronControlPlane"))
    assert cluster["x-kubernetes-validations"] == plane["x-kubernetes-validations"]
    differing = {"version", "controlPlaneEndpoint"}
    assert {k: v for k, v in plane["properties"].items() if k not in differing} == {
        k: v for k, v in cluster["properties"].items() if k not in differing
    }
    assert "default" not in plane


#: v1beta1's own fields of a hosted control plane, as k0smotron has them. All others are those of v1beta2.
_OLD_FIELDS: dict[str, tuple[str, Any]] = {
    "spec.controllerPlaneFlags": ("[]string", None),
    "spec.etcd": ("object", {"persistence": {}}),  # dropped: image
    "spec.kineDataSourceSecretName": ("string", None),
    "spec.kineDataSourceURL": ("string", None),
    "spec.kubeconfigRef": ("object", None),
    "spec.kubeconfigRef.key": ("string", "value"),
    "spec.kubeconfigRef.name": ("string", None),
    "spec.kubeconfigRef.namespace": ("string", None),
    "spec.persistence": ("object", {"type": "emptyDir"}),
    "spec.service.annotations": ("map[string]string", None),
    "spec.service.externalTrafficPolicy": ("string", None),
    "spec.service.labels": ("map[string]string", None),
    "spec.service.loadBalancerClass": ("string", None),
    "status.ready": ("boolean", None),
    "status.reconciliationStatus": ("string", None),
}
_NEW_FIELDS = (
    *("spec.storage", "spec.controlPlaneFlags", "spec.patches", "spec.remoteHostCluster", "status.conditions"),
    *("status.deprecated", "status.readyReplicas", "status.updatedReplicas"),
)


def test_clusters_at_v1beta1() -> None:
    actual = {
        path.lstrip("."): (kind_of(each), each.get("default"))
        for part in ("spec", "status")
        for path, each in leaves({"properties": {part: schema("Cluster", "v1beta1")["properties"][part]}}, "")
    }
    etcd = {path.replace("spec.etcd", "spec.storage.etcd"): path for path in actual if path.startswith("spec.etcd.")}
    for path, (type_, default, _, _) in CLUSTER_FIELDS.items():
        here = etcd.get(path, path)
        if path not in etcd and path.startswith(_NEW_FIELDS):
            assert here not in actual
        elif path != "spec.persistence":
            assert actual[here] == (type_, default), path
    for path, expected in _OLD_FIELDS.items():
        assert actual[path] == expected, path
    assert schema("Cluster", "v1beta1")["properties"]["spec"]["default"] == {"service": {"type": "NodePort"}}
    assert "keyAlgorithm" not in schema("Cluster", "v1beta1")["properties"]["spec"]["properties"]


_WORKER: dict[str, tuple[str, Any, str]] = {
    "args": ("[]string", None, "both"),
    "customUserDataRef": ("object", None, "v1beta1"),
    "downloadSHA256": ("string", None, "v1beta2"),  # ours
    "downloadURL": ("string", None, "both"),
    "files": ("[]object", None, "both"),
    "files[].content": ("string", None, "both"),
    "files[].contentFrom.configMapRef.key": ("string", None, "both"),
    "files[].contentFrom.secretRef.name": ("string", None, "both"),
    "files[].path": ("string", None, "both"),
    "files[].permissions": ("string", None, "both"),
    "ignition.variant": ("string", None, "v1beta1"),
    "ignition.version": ("string", None, "v1beta1"),
    "ignition.additionalConfig": ("string", None, "v1beta1"),
    "k0sInstallDir": ("string", "/usr/local/bin", "both"),
    "postK0sCommands": ("[]string", None, "v1beta2"),
    "postStartCommands": ("[]string", None, "v1beta1"),
    "preInstalledK0s": ("boolean", None, "both"),
    "preK0sCommands": ("[]string", None, "v1beta2"),
    "preStartCommands": ("[]string", None, "v1beta1"),
    "provisioner": ("object", None, "v1beta2"),
    "provisioner.customUserDataRef.secretRef.key": ("string", None, "v1beta2"),
    "provisioner.ignition.variant": ("string", None, "v1beta2"),
    "provisioner.instanceData": ("boolean", None, "v1beta2"),  # ours
    "provisioner.platform": ("string", "linux", "v1beta2"),
    "provisioner.type": ("string", "cloud-config", "v1beta2"),
    "secretMetadata.annotations": ("map[string]string", None, "both"),
    "secretMetadata.labels": ("map[string]string", None, "both"),
    "useSystemHostname": ("boolean", False, "both"),
    "version": ("string", None, "both"),
    "workingDir": ("string", None, "both"),
}


@pytest.mark.parametrize("name", ["v1beta2", "v1beta1"])
def test_worker_configs(name: str) -> None:
    actual = {
        path.lstrip("."): (kind_of(each), each.get("default"))
        for path, each in leaves(field("K0sWorkerConfig", "spec", name), "")
    }
    expected = {path: (type_, default) for path, (type_, default, where) in _WORKER.items() if where in ("both", name)}
    assert expected.items() <= actual.items()
    tops = {path.partition(".")[0].partition("[")[0] for path in expected}
    assert {path.partition(".")[0].partition("[")[0] for path in actual} == tops
    ignition = "provisioner.ignition" if name == "v1beta2" else "ignition"
    variant = field("K0sWorkerConfig", f"spec.{ignition}.variant", name)
    assert variant["enum"] == ["fcos", "flatcar", "openshift", "r4e", "fiot"]
    assert field("K0sWorkerConfig", f"spec.{ignition}", name)["required"] == ["variant", "version"]


def test_columns() -> None:
    def columns(kind: str, name: str) -> dict[str, tuple[str, int]]:
        return {
            each["name"]: (each["jsonPath"], each.get("priority", 0))
            for each in version(kind, name).get("additionalPrinterColumns", ())
        }

    cluster = (r".metadata.labels['cluster\.x-k8s\.io/cluster-name']", 0)
    shared = {"Cluster": cluster, "Desired": (".spec.replicas", 10), "Replicas": (".status.replicas", 0)}
    shared |= {"Ready": (".status.readyReplicas", 0), "Version": (".spec.version", 0)}
    new = columns("K0smotronControlPlane", "v1beta2")
    assert shared.items() <= new.items()
    assert new["UpToDate"] == (".status.upToDateReplicas", 0)
    assert new["Available"] == (".status.availableReplicas", 0)
    old = columns("K0smotronControlPlane", "v1beta1")
    assert shared.items() <= old.items()
    assert old["API Server Available"] == (".status.ready", 0)
    assert old["Updated"] == (".status.updatedReplicas", 0)
    assert old["Unavailable"] == (".status.unavailableReplicas", 0)
    assert "additionalPrinterColumns" not in version("K0sWorkerConfig", "v1beta1")


def test_who_uses_the_old_version_is_warned_where_k0smotron_warns() -> None:
    warned = {kind for kind in ALL if version(kind, "v1beta1").get("deprecated")}
    assert warned == {"Cluster", "JoinTokenRequest", "K0sWorkerConfig", "K0sWorkerConfigTemplate"}
    text = "k0smotron.io/v1beta1 Cluster is deprecated; use v1beta2"
    assert version("Cluster", "v1beta1")["deprecationWarning"] == text


def test_the_conversion_stanza() -> None:
    assert ALL["Cluster"]["spec"]["conversion"] == {
        "strategy": "Webhook",
        "webhook": {
            "clientConfig": {
                "service": {"name": "hosted-cp-webhook", "namespace": "hosted-cp", "port": 443, "path": "/convert"}
            },
            "conversionReviewVersions": ["v1"],
        },
    }
    local = Webhook(url="https://127.0.0.1:9443/convert", ca_bundle="PEM").stanza()["webhook"]["clientConfig"]
    assert local == {"url": "https://127.0.0.1:9443/convert", "caBundle": base64.b64encode(b"PEM").decode()}


def test_rules_about_changes_hold_at_v1beta1_too() -> None:
    """A write is judged by the rules of the version that it uses, and by no other."""
    new, old = (
        {each["message"] for each in field("Cluster", "spec", name)["x-kubernetes-validations"]}
        for name in ("v1beta2", "v1beta1")
    )
    assert len(new - old) == 2, "storage type (in other words) and key algorithm (which v1beta1 lacks)"
    assert any("storage type cannot be changed" in each for each in old)
    messages = [each["message"] for each in field("JoinTokenRequest", "spec", "v1beta1")["x-kubernetes-validations"]]
    assert [each.partition(" ")[0] for each in messages] == ["clusterRef", "role"]


def test_completing_and_cutting_down_as_the_server_does() -> None:
    kind = VERSIONED[0].hub
    assert defaulted({"spec": {"replicas": None, "version": None}}, defaults(kind))["spec"] == {
        "replicas": 1,
        "version": None,
        "image": "quay.io/k0sproject/k0s",
        "service": {"type": "ClusterIP"},
    }
    assert defaulted({}, defaults(kind))["spec"]["service"] == {"type": "NodePort"}
    done = {"spec": {"mounts": [{"path": "/a", "other": 1, "secret": {"x": 1}}], "k0sConfig": {"x": {"y": 1}}, "z": 1}}
    assert pruned(done, schema("Cluster"))["spec"] == {
        "mounts": [{"path": "/a", "secret": {}}],
        "k0sConfig": {"x": {"y": 1}},
    }
    config: dict[str, Any] = {"deep": {"er": []}}
    whole = {"apiVersion": "v", "kind": "k", "metadata": {}, "spec": {"k0sConfig": config}}
    assert pruned(whole, schema("Cluster"))["spec"]["k0sConfig"] is config
    assert defaulted("text", defaults(kind)) == pruned("text", schema("Cluster")) == "text"
