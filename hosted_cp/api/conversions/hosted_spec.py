"""The spec of a hosted control plane, which `Cluster`, `K0smotronControlPlane` and the latter's template have.

| v1beta1 | v1beta2 |
|---|---|
| `etcd` | `storage.etcd` |
| `kineDataSourceURL`, `kineDataSourceSecretName`, one of them not empty | `storage.type: kine` and `storage.kine` |
| neither | `storage.type: etcd` |
| `controllerPlaneFlags` | `controlPlaneFlags` |
| `kubeconfigRef` | `remoteHostCluster.kubeconfigRef` |
| `service.labels`, `.annotations`, `.externalTrafficPolicy`, `.loadBalancerClass` | annotations (see `trees`) |

Source: k0smotron's conversion. Beyond it, the annotations become fields again, and the fields alone, so that who edits
a field at v1beta1 has edited all there is.
"""

from __future__ import annotations

import json

from hosted_cp.api.conversions.trees import SERVICE_ANNOTATION, SERVICE_FIELDS, Tree, mapping, rename

_KINE = {"kineDataSourceURL": "dataSourceURL", "kineDataSourceSecretName": "dataSourceSecretName"}


def up(given: Tree, annotations: Tree) -> tuple[Tree, Tree]:
    """(spec, annotations) at v1beta2."""
    spec, annotations = dict(given), dict(annotations)
    rename(spec, "controllerPlaneFlags", "controlPlaneFlags")
    if "kubeconfigRef" in spec:
        spec["remoteHostCluster"] = {"kubeconfigRef": spec.pop("kubeconfigRef")}
    storage: Tree = {}
    kine = {new: value for old, new in _KINE.items() if isinstance(value := spec.pop(old, None), str) and value}
    if "etcd" in spec:
        storage = {"type": "etcd", "etcd": spec.pop("etcd")}
    if kine:
        storage = {**storage, "type": "kine", "kine": kine}
    if storage:
        spec["storage"] = storage
    if isinstance(spec.get("service"), dict):
        service = dict(spec["service"])
        for field in SERVICE_FIELDS:
            if _fits(field, value := service.pop(field, None)):
                annotations[f"{SERVICE_ANNOTATION}{field}"] = _text(value)
        spec["service"] = service
    return spec, annotations


def down(given: Tree, annotations: Tree) -> tuple[Tree, Tree]:
    """(spec, annotations) at v1beta1."""
    spec, annotations = dict(given), dict(annotations)
    rename(spec, "controlPlaneFlags", "controllerPlaneFlags")
    remote = mapping(spec.pop("remoteHostCluster", None))
    if "kubeconfigRef" in remote:
        spec["kubeconfigRef"] = remote["kubeconfigRef"]
    storage = mapping(spec.pop("storage", None))
    if "etcd" in storage:
        spec["etcd"] = storage["etcd"]
    if storage.get("type") == "kine":
        kine = mapping(storage.get("kine"))
        spec |= {old: kine[new] for old, new in _KINE.items() if new in kine}
    for field in SERVICE_FIELDS:
        value = _value(annotations.get(f"{SERVICE_ANNOTATION}{field}"))
        if _fits(field, value):
            spec["service"] = {**mapping(spec.get("service")), field: value}
            del annotations[f"{SERVICE_ANNOTATION}{field}"]
    return spec, annotations


def _fits(field: str, value: object) -> bool:
    """Whether v1beta1 takes the value for a field of `service`."""
    match field:
        case "externalTrafficPolicy":
            return value in ("Cluster", "Local")
        case "loadBalancerClass":
            return isinstance(value, str)
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _value(text: object) -> object:
    """What an annotation says; None if it is not one of ours."""
    try:
        return json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
