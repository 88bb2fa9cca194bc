"""Structural schemas of the core Kubernetes types that our kinds pass through.

They are typed where people write them by hand, so that `kubectl apply` refuses a misspelt field instead of losing it;
what is rare is let through as it is (the API server that gets the StatefulSet judges it). Facts: Kubernetes' own API
reference, `core/v1`.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import WithJsonSchema

#: apimachinery's grammar of `resource.Quantity`.
QUANTITY_PATTERN = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
    r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)

QUANTITY: dict[str, Any] = {
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "pattern": QUANTITY_PATTERN,
    "x-kubernetes-int-or-string": True,
}

_STRING = {"type": "string"}
_BOOLEAN = {"type": "boolean"}
_INT32 = {"type": "integer", "format": "int32"}
_STRING_MAP = {"type": "object", "additionalProperties": _STRING}
_ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_QUANTITIES = {"type": "object", "additionalProperties": QUANTITY}


def _object(*required: str, **properties: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "object", "properties": properties}
    return {**made, "required": sorted(required)} if required else made


def _list(items: dict[str, Any], **extra: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **extra}


def _by(*keys: str) -> dict[str, Any]:
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


_LABEL_SELECTOR = {
    **_object(
        matchLabels=_STRING_MAP,
        matchExpressions=_list(_object("key", "operator", key=_STRING, operator=_STRING, values=_list(_STRING))),
    ),
    "x-kubernetes-map-type": "atomic",
}

RESOURCES = _object(
    limits=_QUANTITIES,
    requests=_QUANTITIES,
    claims=_list(_object("name", name=_STRING, request=_STRING), **_by("name")),
)

TOPOLOGY_SPREAD_CONSTRAINT = _object(
    "maxSkew",
    "topologyKey",
    "whenUnsatisfiable",
    labelSelector=_LABEL_SELECTOR,
    matchLabelKeys=_list(_STRING),
    maxSkew=_INT32,
    minDomains=_INT32,
    nodeAffinityPolicy=_STRING,
    nodeTaintsPolicy=_STRING,
    topologyKey=_STRING,
    whenUnsatisfiable=_STRING,
)

_ITEMS = _list(_object("key", "path", key=_STRING, path=_STRING, mode=_INT32))

VOLUME_SOURCES: dict[str, Any] = {
    "configMap": _object(name=_STRING, optional=_BOOLEAN, defaultMode=_INT32, items=_ITEMS),
    "secret": _object(secretName=_STRING, optional=_BOOLEAN, defaultMode=_INT32, items=_ITEMS),
    "emptyDir": _object(medium=_STRING, sizeLimit=QUANTITY),
    "hostPath": _object("path", path=_STRING, type=_STRING),
    "persistentVolumeClaim": _object("claimName", claimName=_STRING, readOnly=_BOOLEAN),
    "nfs": _object("server", "path", server=_STRING, path=_STRING, readOnly=_BOOLEAN),
    **dict.fromkeys(
        (
            *(
                "awsElasticBlockStore",
                "azureDisk",
                "azureFile",
                "cephfs",
                "cinder",
                "csi",
                "downwardAPI",
                "ephemeral",
                "fc",
            ),
            *(
                "flexVolume",
                "flocker",
                "gcePersistentDisk",
                "gitRepo",
                "glusterfs",
                "image",
                "iscsi",
                "photonPersistentDisk",
            ),
            *("portworxVolume", "projected", "quobyte", "rbd", "scaleIO", "storageos", "vsphereVolume"),
        ),
        _ANYTHING,
    ),
}

VOLUME = _object("name", name={**_STRING, "maxLength": 63}, **VOLUME_SOURCES)

_OBJECT_REFERENCE = _object("kind", "name", apiGroup=_STRING, kind=_STRING, name=_STRING, namespace=_STRING)

PERSISTENT_VOLUME_CLAIM = _object(
    apiVersion=_STRING,
    kind=_STRING,
    metadata=_object(
        name=_STRING, namespace=_STRING, labels=_STRING_MAP, annotations=_STRING_MAP, finalizers=_list(_STRING)
    ),
    spec=_object(
        accessModes=_list(_STRING),
        dataSource=_OBJECT_REFERENCE,
        dataSourceRef=_OBJECT_REFERENCE,
        resources=_object(limits=_QUANTITIES, requests=_QUANTITIES),
        selector=_LABEL_SELECTOR,
        storageClassName=_STRING,
        volumeAttributesClassName=_STRING,
        volumeMode=_STRING,
        volumeName=_STRING,
    ),
    status=_ANYTHING,
)

Quantity: TypeAlias = Annotated[int | str, WithJsonSchema(QUANTITY)]
Resources: TypeAlias = Annotated[dict[str, Any], WithJsonSchema(RESOURCES)]
TopologySpreadConstraint: TypeAlias = Annotated[dict[str, Any], WithJsonSchema(TOPOLOGY_SPREAD_CONSTRAINT)]
Volume: TypeAlias = Annotated[dict[str, Any], WithJsonSchema(VOLUME)]
PersistentVolumeClaim: TypeAlias = Annotated[dict[str, Any], WithJsonSchema(PERSISTENT_VOLUME_CLAIM)]

# --- the one part of k0s's ClusterConfig that the API server must understand ------------------------------------------

# Server-side apply leaves null behind where the last known field of an object is taken out.
_NULLABLE = {**_ANYTHING, "nullable": True}


def _text(description: str, *, longest: int = 64) -> dict[str, Any]:
    return {"type": "string", "maxLength": longest, "description": description}


_NETWORK = {
    **_NULLABLE,
    "description": "The tenant's network. Ranges and domain are kept for life.",
    "properties": {
        "podCIDR": _text("Range of the pods' addresses. Unset: 10.244.0.0/16."),
        "serviceCIDR": _text("Range of the Services' addresses. Unset: 10.96.0.0/12."),
        "clusterDomain": _text("DNS domain of the tenant. Unset: cluster.local.", longest=253),
        "dualStack": {
            **_NULLABLE,
            "description": "Dual-stack networking.",
            "properties": {
                "enabled": {**_BOOLEAN, "description": "Whether pods and Services have IPv6 addresses, too."},
                "IPv6podCIDR": _text("IPv6 range of the pods' addresses."),
                "IPv6serviceCIDR": _text("IPv6 range of the Services' addresses."),
            },
        },
    },
}
K0S_CONFIG = {
    **_ANYTHING,
    "properties": {
        "spec": {
            **_NULLABLE,
            "description": "As k0s documents it. What hosting needs (addresses, storage, ports) is merged over it.",
            "properties": {"network": _NETWORK},
        }
    },
}

K0sConfig: TypeAlias = Annotated[dict[str, Any], WithJsonSchema(K0S_CONFIG)]
