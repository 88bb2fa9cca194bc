"""Tenants that are real API servers, and machines whose kubelets join them: where core has to see Nodes.

Without Nodes that it sees core calls no worker available and replaces none, and without an API server at the address in
the kubeconfig no Cluster. The way of the operator to the tenant's Service leads to the same server
(`StandInTenants.lead`). Kubelets are played: each machine that is booted is a Node with the version that its Machine
asks for; its provider's id is the operator's to add.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from e2e.capi.infrastructure import Booted, Order, Provider
from e2e.lab.client import ApiError, Client, from_kubeconfig
from tests.component.apiserver import Server
from tests.component.capi import CapiStage
from tests.component.hosting import Object
from tests.component.test_core_manager import Shelf


def published(tenant: Server) -> Object:
    """The part of a control plane's spec by which its address is that of a real API server."""
    address, port = tenant.url.removeprefix("https://").split(":")
    return {"service": {"type": "LoadBalancer", "apiPort": int(port)}, "externalAddress": address}


async def led(stage: CapiStage, name: str, tenant: Server) -> None:
    """The tenant `name` is this API server: it has its CA, as users may give one."""
    stage.tenants.lead(stage.namespace, name, tenant)
    authority = {"tls.crt": tenant.authority.certificate, "tls.key": tenant.authority.key}
    await stage.secret(f"{name}-ca", authority, labels={"cluster.x-k8s.io/cluster-name": name})


@dataclass
class Joining(Shelf):
    """A backend whose machines' kubelets register at an API server, in the version that is asked for."""

    tenant: Client | None = field(default=None, kw_only=True)

    def boot(self, order: Order) -> Booted:
        assert self.tenant is not None
        booted = super().boot(order)
        try:
            self.tenant.call("POST", "/api/v1/nodes", _node(order))
        except ApiError as error:
            if error.code != 409:
                raise
        return booted


def _node(order: Order) -> Object:
    """As a healthy kubelet would say it. Its provider's id is the operator's to add."""
    good = {"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"}
    since = "2026-11-21T10:00:00Z"
    said = [{"type": kind, "status": status, "lastTransitionTime": since} for kind, status in good.items()]
    labels = {"k0smotron.io/machine-name": order.name}
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": order.name, "labels": labels},
        "status": {"conditions": said, "nodeInfo": {"kubeletVersion": order.version}},
    }  # fmt: skip


@contextmanager
def machines(stage: CapiStage, tenant: Server) -> Iterator[Joining]:
    """The infrastructure provider, from now on."""
    backend = Joining(tenant=from_kubeconfig(tenant.folder / "admin.kubeconfig"))
    with Provider(from_kubeconfig(stage.server.folder / "admin.kubeconfig"), backend):
        yield backend


def nodes(tenant: Server) -> dict[str, Object]:
    """The Nodes of a tenant."""
    found = from_kubeconfig(tenant.folder / "admin.kubeconfig").call("GET", "/api/v1/nodes")["items"]
    return {each["metadata"]["name"]: each for each in found}
