"""`K0smotronControlPlane`: which events concern one, and the view that its plan is made from.

Its tenant is looked at as a `Cluster`'s is (`hosted_cp.controllers.tenants`). Beyond that it has a Cluster of Cluster
API: what that says of pause, network and endpoint counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from hosted_cp.api.control_plane import ParsedControlPlane, parse_control_plane
from hosted_cp.controllers.clusters import BY_TENANT_NAME, by_tenant_name
from hosted_cp.controllers.tenants import CORE_CLUSTERS, Tenants, access_of, may_name_secrets, secrets_of
from hosted_cp.hosting import lives
from hosted_cp.hosting.capi import control_plane
from hosted_cp.hosting.capi.control_plane import ControlPlaneView
from hosted_cp.hosting.settings import Settings
from hosted_cp.hosting.view import TenantView
from hosted_cp.kube.cache import Caches, Watched
from hosted_cp.kube.loop import Key, Look
from hosted_cp.kube.resources import CLUSTER, CONTROL_PLANE, CORE_CLUSTER
from hosted_cp.kube.store import Change
from hosted_cp.kube.tenant import TenantAccess
from hosted_cp.planning.actions import Finding, Plan
from hosted_cp.planning.memo import Latest
from hosted_cp.planning.observed import Observed

_SPECS = 256

#: Index over control planes: by "namespace/name" of each Secret that the spec names.
_BY_SECRET = "named secret"  # noqa: S105 - the name of an index


class ControlPlanes:
    """The reconciler of `K0smotronControlPlane`."""

    name = "K0smotronControlPlane"
    resource = CONTROL_PLANE

    def __init__(
        self,
        caches: Caches,
        settings: Settings,
        *,
        now: Callable[[], datetime],
        findings: Callable[[str], tuple[Finding, ...]] = lambda _: (),
    ) -> None:
        """`findings` gives what probes have found out about the object with a UID."""
        self._own = caches.store(CONTROL_PLANE)
        self._clusters = caches.store(CLUSTER)
        self._core_clusters = caches.store(CORE_CLUSTER)
        self._tenants = Tenants(
            caches, settings, CONTROL_PLANE, named=self._named, naming=self._naming, now=now, findings=findings
        )
        self._specs: Latest[ParsedControlPlane] = Latest(most=_SPECS)
        self._own.index(_BY_SECRET, _named_secrets)
        self._own.index(BY_TENANT_NAME, by_tenant_name)

    # -- events -> keys --------------------------------------------------------------------------------------------

    @property
    def watched(self) -> tuple[Watched, ...]:
        """Every kind that the view of a control plane is made of."""
        return (*self._tenants.watched, CORE_CLUSTERS)

    def keys(self, change: Change) -> Iterable[Key]:
        """The control planes that a change concerns."""
        if change.resource == CONTROL_PLANE:
            return (Key(*change.name),)
        if change.resource == CORE_CLUSTER:
            return self._named(*change.name)
        if change.resource == CLUSTER:
            # One of the name that a control plane's tenant has: it matters that it is there, and not what it says.
            came_or_went = change.old is None or change.new is None
            return self._named(*change.name) if came_or_went else ()
        return self._tenants.keys(change) if len(self._own) else ()

    def tenants(self, change: Change) -> Iterable[tuple[str, str]]:
        """The same, by namespace and name of their tenants."""
        found = (self._own.get(*key) for key in self.keys(change))
        return [(each.ref.namespace or "", control_plane.tenant_name(each)) for each in found if each is not None]

    def _named(self, namespace: str, name: str) -> Iterable[Key]:
        found = self._own.by(BY_TENANT_NAME, f"{namespace}/{name}")
        return [Key(each.ref.namespace or "", each.ref.name) for each in found]

    def _naming(self, secret: str) -> Iterable[Key]:
        return [Key(each.ref.namespace or "", each.ref.name) for each in self._own.by(_BY_SECRET, secret)]

    # -- view and plan -----------------------------------------------------------------------------------------------

    def look(self, key: Key, *, failure: str = "") -> Look[ControlPlaneView] | None:
        """Everything that is known of a control plane; None if it is gone."""
        view = self._view(key, failure=failure)
        if view is None:
            return None

        def access() -> TenantAccess | None:
            hosted = control_plane.as_tenant(view) if view.tenant.name else None
            return access_of(hosted, hosted.spec) if hosted is not None and hosted.spec is not None else None

        return Look(view=view, about=view.tenant.owner, tenant=access)

    def tenant(self, namespace: str, name: str) -> TenantView | None:
        """The tenant of this name, if a control plane asks for it; for those whose objects name a tenant."""
        for key in self._named(namespace, name):
            view = self._view(key)
            if view is not None and (view.cluster is not None or view.tenant.owner.deleting):
                return control_plane.as_tenant(view)
        return None

    def _view(self, key: Key, *, failure: str = "") -> ControlPlaneView | None:
        owner = self._own.get(*key)
        if owner is None:
            return None
        parsed = self._specs.get(owner.uid, str(owner.generation), lambda: parse_control_plane(owner.body))
        name = control_plane.tenant_name(owner)
        rival = self._clusters.get(key.namespace, name) if name else None
        tenant = self._tenants.view(
            owner,
            name=name,
            spec=None,
            problems=parsed.problems,
            rival=rival if rival is not None and not lives.is_left_behind(rival) else None,
            failure=failure,
            named_in=parsed.spec,
        )
        return ControlPlaneView(tenant=tenant, spec=parsed.spec, cluster=self._cluster_of(owner))

    def _cluster_of(self, owner: Observed) -> Observed | None:
        """The Cluster that owns a control plane, if it is still the one of its owner reference."""
        reference = control_plane.owner_of(owner)
        if reference is None:
            return None
        found = self._core_clusters.get(owner.ref.namespace, str(reference.get("name")))
        return found if found is not None and found.uid == reference.get("uid") else None

    def plan(self, view: ControlPlaneView) -> Plan:
        """What to do for this control plane."""
        return control_plane.plan_of(view)


def _named_secrets(owner: Observed) -> Iterable[str]:
    """ "namespace/name" of every Secret that the spec of a control plane names."""
    if not may_name_secrets(owner):
        return ()
    return secrets_of(owner.ref.namespace or "", parse_control_plane(owner.body).spec)
