"""The kinds of the lab's infrastructure provider: LabCluster, LabMachine, LabMachineTemplate.

They honour the v1beta2 contract for infrastructure and hold nothing else than what a lab needs: a LabMachine is an edge
machine. They belong to the tests, are not a product, and are installed by them alone.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

GROUP = "infrastructure.cluster.x-k8s.io"
VERSION = "v1beta1"
#: The finalizer of both kinds that have one.
FINALIZER = "lab.hosted-cp.io/finalizer"

_TEXT: Object = {"type": "string"}
_CONDITIONS: Object = {
    "type": "array",
    "maxItems": 32,
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
    "items": {
        "type": "object",
        "required": ["type", "status", "reason", "message", "lastTransitionTime"],
        "properties": {
            "type": _TEXT,
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "reason": _TEXT,
            "message": _TEXT,
            "observedGeneration": {"type": "integer", "format": "int64"},
            "lastTransitionTime": {"type": "string", "format": "date-time"},
        },
    },
}
_STATUS: Object = {
    "type": "object",
    "properties": {
        "initialization": {"type": "object", "properties": {"provisioned": {"type": "boolean"}}},
        "conditions": _CONDITIONS,
        "addresses": {
            "type": "array",
            "items": {"type": "object", "properties": {"type": _TEXT, "address": _TEXT}},
        },
        "bootstrap": {
            "type": "object",
            "description": "What became of the machine's user data.",
            "properties": {"result": _TEXT, "message": _TEXT},
        },
    },
}
_CLUSTER: Object = {
    "type": "object",
    "properties": {
        "controlPlaneEndpoint": {
            "type": "object",
            "properties": {"host": _TEXT, "port": {"type": "integer", "format": "int32"}},
        }
    },
}
_MACHINE: Object = {
    "type": "object",
    "properties": {
        "providerID": {"type": "string", "minLength": 1, "maxLength": 512},
        "startDelaySeconds": {
            "type": "integer",
            "description": "Seconds from the order of a machine until it is there, as with a slow provider.",
        },
    },
}
_METADATA: Object = {
    "type": "object",
    "properties": {
        "labels": {"type": "object", "additionalProperties": _TEXT},
        "annotations": {"type": "object", "additionalProperties": _TEXT},
    },
}


def _template(spec: Object) -> Object:
    inner = {"type": "object", "properties": {"metadata": _METADATA, "spec": spec}}
    return {"type": "object", "properties": {"template": inner}}


def crds() -> list[Object]:
    """The CRDs, with the label by which core finds out which of their versions fulfil its contract."""
    return [
        _crd("LabCluster", spec=_CLUSTER, status=_STATUS),
        _crd("LabClusterTemplate", spec=_template(_CLUSTER)),
        _crd("LabMachine", spec=_MACHINE, status=_STATUS),
        _crd("LabMachineTemplate", spec=_template(_MACHINE)),
    ]


def _crd(kind: str, *, spec: Object, status: Object | None = None) -> Object:
    plural = f"{kind.lower()}s"
    properties: Object = {"apiVersion": _TEXT, "kind": _TEXT, "metadata": {"type": "object"}, "spec": spec}
    version: Object = {"name": VERSION, "served": True, "storage": True}
    if status is not None:
        properties["status"] = status
        version["subresources"] = {"status": {}}
    version["schema"] = {"openAPIV3Schema": {"type": "object", "properties": properties}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{GROUP}",
            "labels": {
                "cluster.x-k8s.io/v1beta2": VERSION,
                "cluster.x-k8s.io/provider": "infrastructure-lab",
                "clusterctl.cluster.x-k8s.io": "",
            },
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "singular": kind.lower(),
                "plural": plural,
                "categories": ["cluster-api"],
            },
            "versions": [version],
        },
    }
