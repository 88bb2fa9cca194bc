"""Fields of the API that this version does not act on. Never ignored in silence: the tenant is not Available."""

from __future__ import annotations

from hosted_cp.api.cluster import ClusterSpec
from hosted_cp.api.problems import Problem

_REMEDY = "leave it out; docs/kinds.md lists what is supported"
_KEPT = "An existing Cluster keeps its type of storage, so delete it and create it anew"


def blocking(spec: ClusterSpec) -> bool:
    """Whether what is not supported decides where the tenant would run or store: without it nothing can be made."""
    return spec.remote_host_cluster is not None or spec.storage_kind == "nats"


def problems(spec: ClusterSpec) -> list[Problem]:
    """One problem for each field that is set and not acted on."""
    etcd = spec.storage.etcd if spec.storage else None
    asked = {
        "spec.ingress": spec.ingress is not None,
        "spec.monitoring": spec.monitoring is not None and spec.monitoring.enabled,
        "spec.remoteHostCluster": spec.remote_host_cluster is not None,
        "spec.storage.nats": spec.storage is not None
        and (spec.storage.nats is not None or spec.storage.type == "nats"),
        "spec.storage.etcd.defragJob": etcd is not None and etcd.defrag_job is not None and etcd.defrag_job.enabled,
    }
    return [
        Problem(
            field=field,
            fault="is not supported by this version of hosted-cp",
            remedy=_REMEDY if field != "spec.storage.nats" else f"{_REMEDY}. {_KEPT}",
        )
        for field, is_set in asked.items()
        if is_set
    ]
