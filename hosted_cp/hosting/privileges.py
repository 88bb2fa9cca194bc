"""What a tenant may ask for only in namespaces that the administrator opened: the node, and other identities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hosted_cp.api.problems import Problem
from hosted_cp.hosting.tenant import Tenant

#: Sources of projected volumes that speak for a service account in the management cluster.
IDENTITIES = {"serviceAccountToken": "a service account token", "podCertificate": "a certificate of the pod"}


def problems(t: Tenant) -> list[Problem]:
    """What is asked for and not allowed here; reaching into another namespace is allowed nowhere."""
    if t.view.privileged:
        return _elsewhere(t)
    asked = []
    if t.spec.persistence.type == "hostPath":
        asked.append(("spec.persistence.type", "hostPath puts the data into a directory of the node"))
    for field, volume in _volumes(t):
        if "hostPath" in volume:
            asked.append((field, "hostPath shows a directory of the node to the control plane"))
        for what in identities(volume):
            asked.append((field, f"{what} gives the pods an identity in the management cluster"))
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


def identities(volume: Mapping[str, Any]) -> list[str]:
    """What a projected volume holds, in words, that would speak for a service account."""
    projected = volume.get("projected")
    sources = projected.get("sources") if isinstance(projected, Mapping) else None
    listed = sources if isinstance(sources, list) else []
    named = {key for source in listed if isinstance(source, Mapping) for key in source}
    return [words for key, words in IDENTITIES.items() if key in named]


def _volumes(t: Tenant) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The volumes that the spec adds, by field."""
    for index, mount in enumerate(t.spec.mounts or ()):
        yield f"spec.mounts[{index}]", mount.source
    for index, manifest in enumerate(t.spec.manifests or ()):
        yield f"spec.manifests[{index}]", manifest


def _claims(t: Tenant) -> Iterator[tuple[str, Any]]:
    """The volume claims that pods would make, by field."""
    yield "spec.persistence.persistentVolumeClaim", t.spec.persistence.persistent_volume_claim
    for field, volume in _volumes(t):
        ephemeral = volume.get("ephemeral")
        if isinstance(ephemeral, Mapping):
            yield f"{field}.ephemeral.volumeClaimTemplate", ephemeral.get("volumeClaimTemplate")


def _elsewhere(t: Tenant) -> list[Problem]:
    """A volume may not be filled from another namespace: the volume controller would ask with rights of its own."""
    found = []
    for field, claim in _claims(t):
        spec = claim.get("spec") if isinstance(claim, Mapping) else None
        source = spec.get("dataSourceRef") if isinstance(spec, Mapping) else None
        namespace = source.get("namespace") if isinstance(source, Mapping) else None
        if namespace and namespace != t.namespace:
            found.append(
                Problem(
                    field=f"{field}.spec.dataSourceRef.namespace",
                    fault=f"names another namespace than {t.namespace}",
                    remedy="leave it out, and put the source of the volume into the namespace of the Cluster",
                )
            )
    return found
