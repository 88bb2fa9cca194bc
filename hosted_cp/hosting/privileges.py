"""What a tenant may ask for only in namespaces that the administrator opened: the node, and other identities."""

from __future__ import annotations

from hosted_cp.api.problems import Problem
from hosted_cp.hosting.tenant import Tenant


def problems(t: Tenant) -> list[Problem]:
    if t.view.privileged:
        return []
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
    return [
        Problem(
            field=field,
            fault=f"{fault}; that is not allowed in namespace {t.namespace}",
            remedy="use another kind of volume or leave the field out; or ask the administrator to start the operator"
            f" with --privileged-namespace {t.namespace}",
        )
        for field, fault in asked
    ]
