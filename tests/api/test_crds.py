"""`crds/` is what the models say, and says what k0smotron's users rely on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from hosted_cp.api import crds
from hosted_cp.api.cluster import Cluster
from hosted_cp.api.join_token_request import JoinTokenRequest
from hosted_cp.api.kinds import VERSIONED
from hosted_cp.api.schema import openapi

FOLDER = Path(__file__).parents[2] / "crds"


def test_the_folder_is_what_the_models_make() -> None:
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == crds.files(), "run `make crds`"


def test_the_command_writes_prints_and_removes_what_is_stale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = tmp_path / "old.yaml"
    stale.write_text("x")
    assert crds.main(["--write", str(tmp_path)]) == 0
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == crds.files()
    assert crds.main([]) == 0
    assert [each["metadata"]["name"] for each in yaml.safe_load_all(capsys.readouterr().out)] == [
        f"{each.hub.plural}.{each.hub.group}" for each in VERSIONED
    ]
    assert crds.main(["--frobnicate"]) == 2


def test_it_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "hosted_cp.api.crds"], check=True, capture_output=True, text=True)
    assert done.stdout == crds.manifests()
    assert "&id" not in done.stdout


def leaves(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(path, schema) of every named field, as k0smotron's tables write them."""
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}.{name}", inner
        yield from leaves(inner, f"{path}.{name}")
        if inner.get("type") == "array":
            yield from leaves(inner["items"], f"{path}.{name}[]")


def kind_of(schema: Mapping[str, Any]) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "int-or-string"
    if schema["type"] == "array":
        return "[]" + kind_of(schema["items"])
    if "additionalProperties" in schema:
        return "map[string]" + kind_of(schema["additionalProperties"])
    return str(schema["type"])


_MISSING = object()

#: path -> (type, default, enum, required), at v1beta2, without the fields of core Kubernetes types. From the published
#: CRDs of k0smotron; the four defaults that we leave out are marked.
CLUSTER_FIELDS: dict[str, tuple[str, Any, list[str] | None, bool]] = {
    "spec.certificateRefs": ("[]object", None, None, False),
    "spec.certificateRefs[].name": ("string", None, None, False),
    "spec.certificateRefs[].type": (
        "string",
        None,
        ["ca", "sa", "proxy", "etcd", "apiserver-etcd-client", "etcd-peer", "etcd-server"],
        True,
    ),
    "spec.controlPlaneFlags": ("[]string", None, None, False),
    "spec.externalAddress": ("string", None, None, False),
    "spec.image": ("string", "quay.io/k0sproject/k0s", None, False),
    "spec.ingress": ("object", None, None, False),
    "spec.ingress.annotations": ("map[string]string", None, None, False),
    "spec.ingress.apiHost": ("string", None, None, True),
    "spec.ingress.className": ("string", None, None, False),
    "spec.ingress.deploy": ("boolean", None, None, False),
    "spec.ingress.konnectivityHost": ("string", None, None, True),
    "spec.ingress.port": ("integer", 443, None, False),
    "spec.k0sConfig": ("object", None, None, False),
    "spec.kubeconfigSecretMetadata": ("object", None, None, False),
    "spec.kubeconfigSecretMetadata.annotations": ("map[string]string", None, None, False),
    "spec.kubeconfigSecretMetadata.labels": ("map[string]string", None, None, False),
    "spec.manifests": ("[]object", None, None, False),
    "spec.monitoring": ("object", None, None, False),
    "spec.monitoring.enabled": ("boolean", None, None, True),
    "spec.monitoring.prometheusImage": ("string", "quay.io/k0sproject/prometheus:v2.44.0", None, True),
    "spec.monitoring.proxyImage": ("string", "nginx:1.19.10", None, True),
    "spec.mounts": ("[]object", None, None, False),
    "spec.mounts[].path": ("string", None, None, True),
    "spec.mounts[].readOnly": ("boolean", None, None, False),
    "spec.patches": ("[]object", None, None, False),
    "spec.patches[].patch": ("object", None, None, True),
    "spec.patches[].patch.content": ("string", None, None, True),
    "spec.patches[].patch.type": ("string", None, ["json", "strategic", "merge"], True),
    "spec.patches[].target": ("object", None, None, True),
    "spec.patches[].target.component": ("string", None, None, True),
    "spec.patches[].target.kind": ("string", None, None, True),
    "spec.persistence": ("object", None, None, False),
    "spec.persistence.autoDeletePVCs": ("boolean", False, None, False),
    "spec.persistence.hostPath": ("string", None, None, False),
    "spec.persistence.persistentVolumeClaim": ("object", None, None, False),
    "spec.persistence.type": ("string", "emptyDir", None, True),
    "spec.remoteHostCluster": ("object", None, None, False),
    "spec.remoteHostCluster.kubeconfigRef": ("object", None, None, False),
    "spec.remoteHostCluster.kubeconfigRef.key": ("string", "value", None, False),
    "spec.remoteHostCluster.kubeconfigRef.name": ("string", None, None, True),
    "spec.remoteHostCluster.kubeconfigRef.namespace": ("string", None, None, True),
    "spec.replicas": ("integer", 1, None, False),
    "spec.resources": ("object", None, None, False),
    "spec.service": ("object", {"type": "ClusterIP"}, None, False),  # dropped: apiPort, konnectivityPort
    "spec.service.apiPort": ("integer", None, None, False),  # dropped: 30443
    "spec.service.konnectivityPort": ("integer", None, None, False),  # dropped: 30132
    "spec.service.type": ("string", "ClusterIP", ["ClusterIP", "NodePort", "LoadBalancer"], True),
    "spec.serviceAccount": ("string", None, None, False),
    "spec.storage": ("object", None, None, False),
    "spec.storage.etcd": ("object", {"persistence": {}}, None, False),  # dropped: image
    "spec.storage.etcd.args": ("[]string", None, None, False),
    "spec.storage.etcd.autoDeletePVCs": ("boolean", False, None, False),
    "spec.storage.etcd.defragJob": ("object", None, None, False),
    "spec.storage.etcd.defragJob.enabled": ("boolean", False, None, True),
    "spec.storage.etcd.defragJob.image": ("string", "ghcr.io/ahrtr/etcd-defrag:v0.16.0", None, True),
    "spec.storage.etcd.defragJob.rule": (
        "string",
        "dbQuotaUsage > 0.8 || dbSize - dbSizeInUse > 200*1024*1024",
        None,
        True,
    ),
    "spec.storage.etcd.defragJob.schedule": ("string", "0 12 * * *", None, True),
    "spec.storage.etcd.image": ("string", None, None, False),  # dropped, and so no longer required
    "spec.storage.etcd.persistence": ("object", None, None, False),
    "spec.storage.etcd.persistence.size": ("int-or-string", "1Gi", None, False),
    "spec.storage.etcd.persistence.storageClass": ("string", None, None, False),
    "spec.storage.etcd.resources": ("object", None, None, False),
    "spec.storage.kine": ("object", None, None, False),
    "spec.storage.kine.dataSourceSecretName": ("string", None, None, False),
    "spec.storage.kine.dataSourceURL": ("string", None, None, False),
    "spec.storage.nats": ("object", None, None, False),
    "spec.storage.nats.persistence": ("object", None, None, False),
    "spec.storage.nats.persistence.size": ("int-or-string", "1Gi", None, False),
    "spec.storage.nats.persistence.storageClass": ("string", None, None, False),
    "spec.storage.type": ("string", "etcd", ["etcd", "kine", "nats"], False),
    "spec.topologySpreadConstraints": ("[]object", None, None, False),
    "spec.version": ("string", None, None, False),
    "status.conditions": ("[]object", None, None, False),
    "status.deprecated": ("object", None, None, False),
    "status.deprecated.v1beta1": ("object", None, None, False),
    "status.deprecated.v1beta1.ready": ("boolean", None, None, False),
    "status.deprecated.v1beta1.reconciliationStatus": ("string", None, None, False),
    "status.readyReplicas": ("integer", None, None, False),
    "status.replicas": ("integer", None, None, False),
    "status.selector": ("string", None, None, False),
    "status.updatedReplicas": ("integer", None, None, False),
}

TOKEN_FIELDS: dict[str, tuple[str, Any, list[str] | None, bool]] = {
    "spec.clusterName": ("string", None, None, True),
    "spec.expiry": ("string", None, None, False),  # dropped: 0s
    "spec.role": ("string", "worker", ["worker", "controller"], False),
    "status.conditions": ("[]object", None, None, False),
    "status.deprecated": ("object", None, None, False),
    "status.deprecated.v1beta1": ("object", None, None, False),
    "status.deprecated.v1beta1.clusterUID": ("string", None, None, False),
    "status.deprecated.v1beta1.reconciliationStatus": ("string", None, None, False),
    "status.tokenID": ("string", None, None, False),
}

#: What we added. Anything else that is not k0smotron's is a mistake.
ADDED = {
    *(
        "spec.keyAlgorithm",
        "status.observedGeneration",
        "status.version",
        "status.initialized",
        "status.externalAddress",
    ),
    *("status.controlPlaneEndpoint", "status.decisions", "status.certificates", "status.expiration"),
    "status.conversionData",
}
#: Fields whose inside is a core Kubernetes type or free-form.
OPAQUE = (
    *("spec.manifests[]", "spec.resources", "spec.storage.etcd.resources", "spec.topologySpreadConstraints[]"),
    *("spec.persistence.persistentVolumeClaim", "spec.k0sConfig", "status.conditions[]"),
)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(Cluster, CLUSTER_FIELDS), (JoinTokenRequest, TOKEN_FIELDS)],
    ids=["Cluster", "JoinTokenRequest"],
)
def test_every_field_is_k0smotrons(kind: Any, expected: dict[str, tuple[str, Any, list[str] | None, bool]]) -> None:
    schema = openapi(kind)
    actual: dict[str, tuple[str, Any, list[str] | None, bool]] = {}
    required = {
        f"{path}.{name}".replace("(root).", "")
        for path, each in _nodes(schema, "(root)")
        for name in each.get("required", ())
    }
    for path, each in leaves({"properties": {k: schema["properties"][k] for k in ("spec", "status")}}, ""):
        name = path.lstrip(".")
        inside = any(name.startswith(f"{opaque}.") for opaque in OPAQUE)
        volume = name.startswith("spec.mounts[].") and name not in expected
        added = any(name == each or name.startswith((f"{each}.", f"{each}[]")) for each in ADDED)
        if name in ("spec", "status") or inside or volume or added:
            continue
        actual[name] = (kind_of(each), each.get("default"), each.get("enum"), name in required)
    assert actual == expected
    assert all(
        each in dict(_names(schema))
        for each in ADDED
        if each.split(".")[1] in schema["properties"][each.split(".")[0]]["properties"]
    )


def _nodes(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from _nodes(inner, f"{path}.{name}")
        if inner.get("type") == "array":
            yield from _nodes(inner["items"], f"{path}.{name}[]")


def _names(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path, each in _nodes(schema, "(root)"):
        yield path.removeprefix("(root)."), each


def test_formats_of_numbers() -> None:
    formats = {path: each.get("format") for path, each in _names(openapi(Cluster)) if each.get("type") == "integer"}
    assert formats["spec.replicas"] == "int32"
    assert formats["spec.ingress.port"] == "int64"
    assert formats["status.replicas"] == formats["status.readyReplicas"] == formats["status.updatedReplicas"] == "int32"
    assert None not in formats.values()


def test_names_and_subresources() -> None:
    cluster, token = (crds.definition(each)["spec"] for each in (Cluster, JoinTokenRequest))
    assert cluster["names"]["shortNames"] == ["kmc"]
    assert token["names"]["shortNames"] == ["jtr"]
    assert cluster["names"]["plural"] == "clusters"
    assert token["names"]["plural"] == "jointokenrequests"
    [version] = cluster["versions"]
    assert (version["name"], version["served"], version["storage"]) == ("v1beta2", True, True)
    assert version["subresources"] == {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    }
    assert token["versions"][0]["subresources"] == {"status": {}}
    assert version["schema"]["openAPIV3Schema"]["properties"]["spec"]["default"] == {"service": {"type": "NodePort"}}


def test_every_field_is_described() -> None:
    """By itself, or by what its name says in an object that is described."""
    plain = {
        "enabled",
        "name",
        "namespace",
        "key",
        "annotations",
        "labels",
        "size",
        "storageClass",
        "image",
        "className",
    }
    plain |= {"prometheusImage", "proxyImage", "host", "port", "type", "status", "ready", "reconciliationStatus"}
    plain |= {"clusterUID", "patch", "target"}
    for kind in (Cluster, JoinTokenRequest):
        for path, each in _names(openapi(kind)):
            name = path.rpartition(".")[2]
            opaque = any(path.startswith(f"{start}.") or path == start for start in OPAQUE) or "mounts[]." in path
            if path == "(root)" or opaque or name in plain or name in ("apiVersion", "kind", "metadata"):
                continue
            assert each.get("description") or path.endswith("[]"), path
