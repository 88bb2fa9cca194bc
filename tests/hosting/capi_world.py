"""The pretend world of a `K0smotronControlPlane`: its Cluster, and core's part of the contract in a few lines.

Core itself is not imitated: what the real one does is seen in `tests/component/test_control_planes.py`. Here it only
says what a test wants it to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hosted_cp.api.control_plane import parse_control_plane
from hosted_cp.hosting.capi import control_plane
from hosted_cp.hosting.capi.control_plane import ControlPlaneView
from hosted_cp.hosting.view import TenantView
from hosted_cp.planning.actions import Plan, Ref
from tests.hosting.pretend_server import Json
from tests.hosting.world import NAMESPACE, World

CONTROL_PLANE_API = "controlplane.cluster.x-k8s.io/v1beta2"
CORE_API = "cluster.x-k8s.io/v1beta2"
VERSION = "v1.36.3+k0s"
NETWORK = {"pods": {"cidrBlocks": ["192.168.0.0/16"]}, "services": {"cidrBlocks": ["10.128.0.0/12"]}}


@dataclass(kw_only=True)
class CapiWorld(World):
    """A control plane `demo-x7k2p` of the Cluster `demo`."""

    control_plane: str = "demo-x7k2p"

    @property
    def owner_ref(self) -> Ref:
        return Ref(
            api_version=CONTROL_PLANE_API, kind="K0smotronControlPlane", namespace=NAMESPACE, name=self.control_plane
        )

    @property
    def cluster_ref(self) -> Ref:
        return Ref(api_version=CORE_API, kind="Cluster", namespace=NAMESPACE, name=self.name)

    def asks(self, **spec: Any) -> CapiWorld:
        """The user creates the control plane, with this spec; nobody has said yet whose it is."""
        metadata = {"name": self.control_plane, "namespace": NAMESPACE}
        wanted = {"version": VERSION, "service": {"type": "NodePort"}, **spec}
        body = {"apiVersion": CONTROL_PLANE_API, "kind": "K0smotronControlPlane", "metadata": metadata}
        self.server.create({**body, "spec": {key: value for key, value in wanted.items() if value is not None}})
        return self

    def belongs(self, **spec: Any) -> CapiWorld:
        """There is a Cluster, and core says that the control plane is its."""
        metadata = {"name": self.name, "namespace": NAMESPACE}
        references = {
            "controlPlaneRef": {
                "apiGroup": "controlplane.cluster.x-k8s.io", "kind": "K0smotronControlPlane", "name": self.control_plane
            },
            "infrastructureRef": {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "LabCluster", "name": "demo"},
        }  # fmt: skip
        given = {key: each for key, each in {**references, **spec}.items() if each}
        made = self.server.create({"apiVersion": CORE_API, "kind": "Cluster", "metadata": metadata, "spec": given})
        self.owned_by(made)
        return self

    def owned_by(self, cluster: Json) -> None:
        """Core puts its owner reference and label onto the control plane."""
        reference = {"apiVersion": CORE_API, "kind": "Cluster", "name": self.name, "uid": cluster["metadata"]["uid"]}

        def change(body: Json) -> None:
            body["metadata"]["ownerReferences"] = [reference]
            body["metadata"]["labels"] = {control_plane.CLUSTER_LABEL: self.name}

        self.server.edit(self.owner_ref, change)

    def cluster_says(self, **spec: Any) -> None:
        """Somebody changes the spec of the Cluster; None removes a field."""
        self.server.merge_patch(self.cluster_ref, {"spec": spec})

    # --- looking -------------------------------------------------------------------------------------------------

    def view(self) -> TenantView:
        """What `hosted_cp.controllers.control_planes` would know of the tenant."""
        owner = self.observed(self.server.objects[self.owner_ref])
        parsed = parse_control_plane(owner.body)
        return self.seen_by(owner, parsed.spec, parsed.problems)

    def planned(self, view: TenantView) -> Plan:
        return control_plane.plan_of(self.whole(view))

    def whole(self, view: TenantView) -> ControlPlaneView:
        """The view of the control plane."""
        cluster = self.server.objects.get(self.cluster_ref)
        reference = control_plane.owner_of(view.owner)
        owned = cluster is not None and reference is not None and reference["uid"] == cluster["metadata"]["uid"]
        return ControlPlaneView(
            tenant=view,
            spec=parse_control_plane(view.owner.body).spec,
            cluster=self.observed(cluster) if cluster is not None and owned else None,
        )

    @property
    def versions(self) -> list[Json]:
        """What is reported to run."""
        return list(self.status.get("versions") or [])


def living(**spec: Any) -> CapiWorld:
    """A control plane that has come to rest, Available."""
    world = CapiWorld().asks(**spec).belongs()
    world.settle()
    assert world.available, world.why
    return world
