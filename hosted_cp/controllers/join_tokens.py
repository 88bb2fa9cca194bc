"""`JoinTokenRequest`: which events concern a request, and the view that its plan is made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from hosted_cp.api.join_token_request import parse_join_token_request
from hosted_cp.controllers.clusters import Clusters, access_of
from hosted_cp.hosting import authorities
from hosted_cp.hosting.settings import Settings
from hosted_cp.hosting.tenant import Decisions, tenant
from hosted_cp.hosting.tokens import TokenView, plan
from hosted_cp.kube.cache import Caches, Watched
from hosted_cp.kube.loop import Key, Look
from hosted_cp.kube.resources import CLUSTER, JOIN_TOKEN_REQUEST, SECRET
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

    def __init__(self, caches: Caches, settings: Settings, clusters: Clusters, *, now: Callable[[], datetime]) -> None:
        self._caches = caches
        self._settings = settings
        self._clusters = clusters
        self._now = now
        caches.store(JOIN_TOKEN_REQUEST).index(_BY_CLUSTER, _cluster)

    @property
    def watched(self) -> tuple[Watched, ...]:
        """Every kind that a request's view is made of: its own, and the tenant's."""
        return (*watched(), *self._clusters.watched)

    def keys(self, change: Change) -> Iterable[Key]:
        """The requests that a change concerns: themselves, their Secrets, and those of a Cluster."""
        if change.resource == JOIN_TOKEN_REQUEST:
            return (Key(*change.name),)
        some = change.new or change.old
        assert some is not None
        if change.resource == CLUSTER:
            return self._of_clusters([Key(*change.name)])
        if change.resource == SECRET:
            namespace = some.ref.namespace or ""
            own = [
                Key(namespace, str(owner.get("name")))
                for owner in some.owner_references
                if owner.get("controller") and owner.get("kind") == JOIN_TOKEN_REQUEST.kind
            ]
            # Where a tenant is, and its CA, stand in Secrets: its own, or those that its spec names.
            return [*own, *self._of_clusters(self._clusters.keys(change))]
        return ()

    def _of_clusters(self, clusters: Iterable[Key]) -> list[Key]:
        """The requests for these tenants."""
        requests = self._caches.store(JOIN_TOKEN_REQUEST)
        return [
            Key(request.ref.namespace or "", request.ref.name)
            for cluster in clusters
            for request in requests.by(_BY_CLUSTER, str(cluster))
        ]

    def look(self, key: Key, *, failure: str = "") -> Look[TokenView] | None:
        """Everything that is known of a request; None if it is gone."""
        owner = self._caches.store(JOIN_TOKEN_REQUEST).get(*key)
        if owner is None:
            return None
        parsed = parse_join_token_request(owner.body)
        cluster = self._cluster_of(owner)
        decisions, authority, access = Decisions(), None, None
        seen = self._clusters.view(Key(key.namespace, cluster.ref.name)) if cluster is not None else None
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
            cluster=cluster,
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

    def _cluster_of(self, owner: Observed) -> Observed | None:
        name = owner.get("spec", "clusterName")
        return self._caches.store(CLUSTER).get(owner.ref.namespace, name) if isinstance(name, str) else None


def _cluster(request: Observed) -> Iterable[str]:
    name = request.get("spec", "clusterName")
    return (f"{request.ref.namespace}/{name}",) if isinstance(name, str) else ()
