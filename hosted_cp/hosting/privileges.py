"""What a tenant may ask for only in namespaces that the administrator opened: the node, and other identities."""

from __future__ import annotations

from collections.abc import Mapping

from hosted_cp.api.problems import Problem
from hosted_cp.hosting.tenant import Tenant


def problems(t: Tenant) -> list[Problem]:
    """What is asked for and not allowed here; reaching into another namespace is allowed nowhere."""
    if t.view.privileged:
        return _elsewhere(t)
    asked = []
    if t.spec.persistence.type == "hostPath":
        asked.append(("spec.persistence.type", "hostPath puts the data into a directory of the node"))
    for index, mount in enumerate(t.spec.mounts or ()):
        if "hostPath" in mount.source:
            asked.append((f"spec.mounts[{index}]", "hostPath shows a directory of the node to the control plane"))
    for index, manifest in enumerate(t.spec.manifests or ()):
        if "hostPath" in manifest:
            asked.append((f"spec.manifests[{index}]", "hostPath shows a directory of the node to the control plane"))
    if t.spec.service_account:
        asked.append(("spec.serviceAccount", "a service account gives the pods an identity in the management cluster"))
    return _elsewhere(t) + [
        Problem(
            field=field,
            fault=f"{fault}; that is not allowed in namespace {t.namespace}",
            remedy="use another kind of volume or leave the field out; or ask the administrator to start the operator"
            f" with --privileged-namespace {t.namespace}",
        )
        for field, fault in asked
    ]


def _elsewhere(t: Tenant) -> list[Problem]:
    """A volume may not be filled from another namespace: the volume controller would ask with rights of its own."""
    claim = t.spec.persistence.persistent_volume_claim or {}
    source = (claim.get("spec") or {}).get("dataSourceRef") or {}
    namespace = source.get("namespace") if isinstance(source, Mapping) else None
    if not namespace or namespace == t.namespace:
        return []
    return [
        Problem(
            field="spec.persistence.persistentVolumeClaim.spec.dataSourceRef.namespace",
            fault=f"names another namespace than {t.namespace}",
            remedy="leave it out, and put the source of the volume into the namespace of the Cluster",
        )
    ]
