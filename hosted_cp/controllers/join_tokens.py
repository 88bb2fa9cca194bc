"""`JoinTokenRequest`: which events concern a request, and the view that its plan is made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from hosted_cp.api.join_token_request import parse_join_token_request
from hosted_cp.controllers.clusters import Clusters
from hosted_cp.controllers.control_planes import ControlPlanes
from hosted_cp.controllers.tenants import access_of
from hosted_cp.hosting import authorities
from hosted_cp.hosting.capi import control_plane
from hosted_cp.hosting.settings import Settings
from hosted_cp.hosting.tenant import Decisions, tenant
from hosted_cp.hosting.tokens import TokenView, plan
from hosted_cp.hosting.view import TenantView
from hosted_cp.kube.cache import Caches, Watched
from hosted_cp.kube.loop import Key, Look
from hosted_cp.kube.resources import CLUSTER, CONTROL_PLANE, CORE_CLUSTER, JOIN_TOKEN_REQUEST, SECRET
from hosted_cp.kube.store import Change
from hosted_cp.planning.actions import Plan
from hosted_cp.planning.observed import Observed

#: Index over requests: by "namespace/cluster".
_BY_CLUSTER = "cluster"


def watched() -> list[Watched]:
    """What has to be followed for this kind, beside what is for `Cluster`."""
    return [Watched(resource=JOIN_TOKEN_REQUEST)]


class JoinTokens:
    """The reconciler of `JoinTokenRequest`."""

    name = "JoinTokenRequest"
    resource = JOIN_TOKEN_REQUEST

    def __init__(
        self,
        caches: Caches,
        settings: Settings,
        clusters: Clusters,
        control_planes: ControlPlanes,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._caches = caches
        self._settings = settings
        self._clusters = clusters
        self._control_planes = control_planes
        self._now = now
        caches.store(JOIN_TOKEN_REQUEST).index(_BY_CLUSTER, _cluster)

    @property
    def watched(self) -> tuple[Watched, ...]:
        """Every kind that a request's view is made of: its own, and the tenant's."""
        return (*watched(), *self._clusters.watched, *self._control_planes.watched)

    def keys(self, change: Change) -> Iterable[Key]:
        """The requests that a change concerns: themselves, their Secrets, and those of a Cluster."""
        if change.resource == JOIN_TOKEN_REQUEST:
            return (Key(*change.name),)
        some = change.new or change.old
        assert some is not None
        if change.resource == CLUSTER:
            return self._of_clusters([change.name])
        if change.resource == CONTROL_PLANE:
            return self._of_clusters([(some.ref.namespace or "", control_plane.tenant_name(some))])
        if change.resource == CORE_CLUSTER:
            # Before it was there, the control plane had no tenant.
            return self._of_clusters([change.name]) if change.old is None or change.new is None else ()
        if change.resource == SECRET:
            namespace = some.ref.namespace or ""
            own = [
                Key(namespace, str(owner.get("name")))
                for owner in some.owner_references
                if owner.get("controller") and owner.get("kind") == JOIN_TOKEN_REQUEST.kind
            ]
            if not len(self._caches.store(JOIN_TOKEN_REQUEST)):
                return own
            # Where a tenant is, and its CA, stand in Secrets: its own, or those that its spec names.
            concerned = [*self._clusters.keys(change), *self._control_planes.tenants(change)]
            return [*own, *self._of_clusters(concerned)]
        return ()

    def _of_clusters(self, clusters: Iterable[tuple[str, str]]) -> list[Key]:
        """The requests for these tenants, by namespace and name."""
        requests = self._caches.store(JOIN_TOKEN_REQUEST)
        return [
            Key(request.ref.namespace or "", request.ref.name)
            for cluster in clusters
            for request in requests.by(_BY_CLUSTER, f"{cluster[0]}/{cluster[1]}")
        ]

    def look(self, key: Key, *, failure: str = "") -> Look[TokenView] | None:
        """Everything that is known of a request; None if it is gone."""
        owner = self._caches.store(JOIN_TOKEN_REQUEST).get(*key)
        if owner is None:
            return None
        parsed = parse_join_token_request(owner.body)
        seen = self._tenant_of(owner)
        decisions, authority, access = Decisions(), None, None
        if seen is not None and seen.spec is not None:
            t = tenant(seen, seen.spec)
            decisions, authority = t.former, authorities.seen(t, "ca")
            access = access_of(seen, seen.spec)
        view = TokenView(
            initialized=seen is not None and seen.initialized,
            now=self._now(),
            owner=owner,
            spec=parsed.spec,
            problems=parsed.problems,
            cluster=seen.owner if seen is not None else None,
            decisions=decisions,
            authority=authority,
            secret=self._caches.store(SECRET).get(*key),
            failure=failure,
            reaches_tenants=self._settings.reaches_tenants,
        )
        return Look(view=view, about=owner, tenant=access)

    def plan(self, view: TokenView) -> Plan:
        """What to do for this request."""
        return plan(view)

    def _tenant_of(self, owner: Observed) -> TenantView | None:
        """The tenant that a request names: a control plane's, where Cluster API has a Cluster of that name and ours,
        else a `Cluster`'s. (No two can have the same: see `hosted_cp.hosting.lives.name_taken`.)"""
        namespace, name = owner.ref.namespace or "", owner.get("spec", "clusterName")
        if not isinstance(name, str):
            return None
        of_control_plane = self._control_planes.tenant(namespace, name)
        of_cluster = self._clusters.view(Key(namespace, name))
        both = (each for each in (of_control_plane, of_cluster) if each is not None)
        return max(both, key=lambda each: bool(each.owned), default=None)


def _cluster(request: Observed) -> Iterable[str]:
    name = request.get("spec", "clusterName")
    return (f"{request.ref.namespace}/{name}",) if isinstance(name, str) else ()
