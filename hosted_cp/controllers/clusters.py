"""`Cluster`: which events concern a tenant, and the view that its plan is made from.

Nothing is decided here: events become keys, caches become a `TenantView`, and `hosted_cp.hosting.plan` says what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial

from hosted_cp.api.cluster import ParsedCluster, parse_cluster
from hosted_cp.controllers.tenants import Tenants, access_of, may_name_secrets, secrets_of
from hosted_cp.hosting.capi import control_plane
from hosted_cp.hosting.plan import plan
from hosted_cp.hosting.settings import Settings
from hosted_cp.hosting.view import TenantView
from hosted_cp.kube.cache import Caches, Watched
from hosted_cp.kube.loop import Key, Look
from hosted_cp.kube.resources import CLUSTER, CONTROL_PLANE
from hosted_cp.kube.store import Change
from hosted_cp.planning.actions import Finding, Plan
from hosted_cp.planning.memo import Latest
from hosted_cp.planning.observed import Observed

#: How many specs are kept as read.
_SPECS = 256

#: Index over Clusters: by "namespace/name" of each Secret that the spec names.
_BY_SECRET = "named secret"  # noqa: S105 - the name of an index

#: Index over control planes: by "namespace/tenant".
BY_TENANT_NAME = "tenant name"


def by_tenant_name(owner: Observed) -> Iterable[str]:
    """The index function of `BY_TENANT_NAME`."""
    name = control_plane.tenant_name(owner)
    return (f"{owner.ref.namespace}/{name}",) if name else ()


class Clusters:
    """The reconciler of `Cluster`."""

    name = "Cluster"
    resource = CLUSTER

    def __init__(
        self,
        caches: Caches,
        settings: Settings,
        *,
        now: Callable[[], datetime],
        findings: Callable[[str], tuple[Finding, ...]] = lambda _: (),
    ) -> None:
        """`findings` gives what probes have found out about the object with a UID."""
        self._clusters = caches.store(CLUSTER)
        self._control_planes = caches.store(CONTROL_PLANE)
        self._tenants = Tenants(
            caches, settings, CLUSTER, named=self._named, naming=self._naming, now=now, findings=findings
        )
        self._specs: Latest[ParsedCluster] = Latest(most=_SPECS)
        self._clusters.index(_BY_SECRET, _named_secrets)
        self._control_planes.index(BY_TENANT_NAME, by_tenant_name)

    # -- events -> keys --------------------------------------------------------------------------------------------

    @property
    def watched(self) -> tuple[Watched, ...]:
        """Every kind that a tenant's view is made of."""
        return self._tenants.watched

    def keys(self, change: Change) -> Iterable[Key]:
        """The tenants that a change concerns."""
        if change.resource == CLUSTER:
            return (Key(*change.name),)
        if change.resource == CONTROL_PLANE:
            return self._rivals(change)
        return self._tenants.keys(change)

    def _named(self, namespace: str, name: str) -> Iterable[Key]:
        return (Key(namespace, name),) if self._clusters.get(namespace, name) is not None else ()

    def _naming(self, secret: str) -> Iterable[Key]:
        return [Key(each.ref.namespace or "", each.ref.name) for each in self._clusters.by(_BY_SECRET, secret)]

    def _rivals(self, change: Change) -> Iterable[Key]:
        """A control plane has come, or gone, that asks for a tenant of the same name."""
        names = [set(by_tenant_name(each)) if each is not None else set() for each in (change.old, change.new)]
        return {key for each in names[0] ^ names[1] for key in self._named(*each.split("/", 1))}

    # -- view and plan -----------------------------------------------------------------------------------------------

    def look(self, key: Key, *, failure: str = "") -> Look[TenantView] | None:
        """Everything that is known of a tenant; None if it is gone."""
        view = self.view(key, failure=failure)
        if view is None:
            return None
        access = partial(access_of, view, view.spec) if view.spec is not None else None
        return Look(view=view, about=view.owner, tenant=access)

    def view(self, key: Key, *, failure: str = "") -> TenantView | None:
        """The same, without the way to the tenant; also for those whose objects name a tenant."""
        owner = self._clusters.get(*key)
        if owner is None:
            return None
        parsed = self._specs.get(owner.uid, str(owner.generation), lambda: parse_cluster(owner.body))
        rivals = self._control_planes.by(BY_TENANT_NAME, str(key))
        return self._tenants.view(
            owner,
            name=key.name,
            spec=parsed.spec,
            problems=parsed.problems,
            rival=rivals[0] if rivals else None,
            failure=failure,
        )

    def plan(self, view: TenantView) -> Plan:
        """What to do for this tenant."""
        return plan(view)


def _named_secrets(owner: Observed) -> Iterable[str]:
    """ "namespace/name" of every Secret that the spec of a Cluster names."""
    if not may_name_secrets(owner):
        return ()
    return secrets_of(owner.ref.namespace or "", parse_cluster(owner.body).spec)
