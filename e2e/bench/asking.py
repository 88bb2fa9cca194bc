"""The kinds of objects that ask for tenants, as users make them. Object and tenant have one name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.resources import CLUSTER, CONTROL_PLANE, CORE_CLUSTER, Resource

NAMESPACE = "tenants"


@dataclass(frozen=True, kw_only=True)
class Asking:
    """One kind of them."""

    resource: Resource
    #: Asks for the tenant of a name: node ports, one replica, etcd.
    ask: Callable[[ApiClient, str], Awaitable[object]]


def tenant(name: str) -> dict[str, Any]:
    """The manifest of a `Cluster`."""
    return _body(CLUSTER, name, {"replicas": 1, "service": {"type": "NodePort"}, "storage": {"type": "etcd"}})


async def _cluster(client: ApiClient, name: str) -> None:
    await client.create(CLUSTER, tenant(name), manager="kubectl")


async def _control_plane(client: ApiClient, name: str) -> None:
    """With Cluster API's Cluster; that this owns the control plane core would say a moment later."""
    reference = {"apiGroup": CONTROL_PLANE.group, "kind": CONTROL_PLANE.kind, "name": name}
    cluster = await client.create(CORE_CLUSTER, _body(CORE_CLUSTER, name, {"controlPlaneRef": reference}))
    body = _body(CONTROL_PLANE, name, tenant(name)["spec"])
    owner = {"apiVersion": CORE_CLUSTER.api_version, "kind": CORE_CLUSTER.kind, "name": name}
    body["metadata"] |= {
        "labels": {"cluster.x-k8s.io/cluster-name": name},
        "ownerReferences": [{**owner, "uid": cluster["metadata"]["uid"]}],
    }
    await client.create(CONTROL_PLANE, body, manager="kubectl")


def _body(resource: Resource, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": spec}


KINDS = {
    CLUSTER.kind: Asking(resource=CLUSTER, ask=_cluster),
    CONTROL_PLANE.kind: Asking(resource=CONTROL_PLANE, ask=_control_plane),
}
