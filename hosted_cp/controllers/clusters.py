"""`Cluster`: which events concern a tenant, and the view that its plan is made from.

Nothing is decided here: events become keys, caches become a `TenantView`, and `hosted_cp.hosting.plan` says what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from hosted_cp.api.cluster import ClusterSpec, ParsedCluster, parse_cluster
from hosted_cp.hosting import endpoint
from hosted_cp.hosting.names import children_of, tenants_with
from hosted_cp.hosting.plan import plan
from hosted_cp.hosting.settings import Settings
from hosted_cp.hosting.tenant import tenant
from hosted_cp.hosting.view import NodeAddress, TenantView
from hosted_cp.kube.cache import Caches, Watched
from hosted_cp.kube.loop import Key, Look
from hosted_cp.kube.resources import (
    CLUSTER,
    NETWORK_POLICY,
    NODE,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    POD_DISRUPTION_BUDGET,
    SECRET,
    SERVICE,
    STATEFUL_SET,
    STORAGE_CLASS,
    Resource,
)
from hosted_cp.kube.store import Change
from hosted_cp.kube.tenant import TenantAccess
from hosted_cp.planning.actions import Finding, Plan
from hosted_cp.planning.memo import Latest
from hosted_cp.planning.observed import Observed

#: The kinds of a tenant's children.
CHILDREN = (SERVICE, SECRET, STATEFUL_SET, POD_DISRUPTION_BUDGET, NETWORK_POLICY)

#: The fields of a spec that name Secrets.
_NAMES_SECRETS = (b'"certificateRefs"', b'"dataSourceSecretName"')

#: What is kept of pods and nodes. A pod is mostly its template, a node mostly a list of images.
_OF_PODS = {"spec": frozenset({"volumes"})}
_OF_NODES = {"spec": frozenset[str](), "status": frozenset({"addresses"})}
_OF_THE_WORLD = (Watched(resource=NODE, keep=_OF_NODES), Watched(resource=STORAGE_CLASS, metadata_only=True))

#: How many specs are kept as read, and of how many nodes the addresses: a node is ten times as large as they are.
_SPECS = 256
_NODES = 10_000
_BY_KIND = {resource.kind: resource for resource in CHILDREN}

#: On every pod and volume claim of a tenant.
_HOSTED = "app=k0smotron"

#: Index over Clusters: by "namespace/name" of each Secret that the spec names.
_BY_SECRET = "named secret"  # noqa: S105 - the name of an index


def watched(*, cluster_wide: bool = True) -> list[Watched]:
    """What has to be followed for this kind. Cluster-scoped kinds only where the operator may see them."""
    return [
        Watched(resource=CLUSTER),
        *(Watched(resource=each) for each in CHILDREN),
        Watched(resource=POD, labels=_HOSTED, keep=_OF_PODS),
        Watched(resource=PERSISTENT_VOLUME_CLAIM, labels=_HOSTED),
        *(_OF_THE_WORLD if cluster_wide else ()),
    ]


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
        self._caches = caches
        self._settings = settings
        self._now = now
        self._findings = findings
        self._specs: Latest[ParsedCluster] = Latest(most=_SPECS)
        self._addresses: Latest[tuple[NodeAddress, ...]] = Latest(most=_NODES)
        caches.store(CLUSTER).index(_BY_SECRET, _named_secrets)
        for resource in (POD, PERSISTENT_VOLUME_CLAIM):
            caches.store(resource).index(BY_TENANT, by_tenant)

    # -- events -> keys --------------------------------------------------------------------------------------------

    @property
    def watched(self) -> tuple[Watched, ...]:
        """Every kind that a tenant's view is made of."""
        return tuple(watched(cluster_wide=NODE in self._caches.stores))

    def keys(self, change: Change) -> Iterable[Key]:
        """The tenants that a change concerns."""
        resource = change.resource
        if resource == CLUSTER:
            return (Key(*change.name),)
        if resource in (NODE, STORAGE_CLASS):
            return self._of_the_world(change)
        return {key for each in (change.old, change.new) if each is not None for key in self._of_object(resource, each)}

    def _of_object(self, resource: Resource, each: Observed) -> Iterator[Key]:
        namespace = each.ref.namespace or ""
        owned = False
        for owner in each.owner_references:
            if owner.get("controller") and owner.get("kind") == CLUSTER.kind:
                owned = True
                yield Key(namespace, str(owner.get("name")))
        if not owned:
            # Somebody else's: it may stand in the way of a tenant, or be an authority that the user brings.
            clusters = self._caches.store(CLUSTER)
            for name in tenants_with(each.ref.kind, each.ref.name):
                if clusters.get(namespace, name) is not None:
                    yield Key(namespace, name)
        if resource in (POD, PERSISTENT_VOLUME_CLAIM):
            yield Key(namespace, each.labels.get("cluster", ""))
            return
        if resource == SECRET:
            for cluster in self._caches.store(CLUSTER).by(_BY_SECRET, f"{namespace}/{each.ref.name}"):
                yield Key(namespace, cluster.ref.name)

    def _of_the_world(self, change: Change) -> list[Key]:
        """All tenants that look at nodes or storage classes, if what they look at has changed."""
        if change.resource == NODE:
            before, after = (self._addresses_of(each) if each is not None else () for each in (change.old, change.new))
            if before == after:
                return []  # a heartbeat
        if change.resource == STORAGE_CLASS and change.old is not None and change.new is not None:
            return []
        return [Key(*name) for name in self._caches.store(CLUSTER).names()]

    # -- view and plan -----------------------------------------------------------------------------------------------

    def look(self, key: Key, *, failure: str = "") -> Look[TenantView] | None:
        """Everything that is known of a tenant; None if it is gone."""
        view = self.view(key, failure=failure)
        if view is None:
            return None
        access = access_of(view, view.spec) if view.spec is not None else None
        return Look(view=view, about=view.owner, tenant=access)

    def view(self, key: Key, *, failure: str = "") -> TenantView | None:
        """The same, without the way to the tenant; also for those whose objects name a tenant."""
        owner = self._caches.store(CLUSTER).get(*key)
        if owner is None:
            return None
        namespace, name = key
        parsed = self._specs.get(owner.uid, str(owner.generation), lambda: parse_cluster(owner.body))
        stores = self._caches.stores
        children = {
            (child.ref.kind, child.ref.name): child
            for resource in CHILDREN
            for child in stores[resource].by("controller", owner.uid)
        }
        for kind, child_name in children_of(name):
            found = stores[_BY_KIND[kind]].get(namespace, child_name)
            if found is not None:
                children[found.ref.kind, found.ref.name] = found
        references = {
            ("Secret", secret.ref.name): secret
            for named in _secrets_of(owner, parsed.spec)
            if (secret := stores[SECRET].get(*named.split("/", 1))) is not None
        }
        nodes = stores.get(NODE)
        classes = stores.get(STORAGE_CLASS)
        return TenantView(
            now=self._now(),
            owner=owner,
            name=name,
            spec=parsed.spec,
            problems=parsed.problems,
            settings=self._settings,
            children=children,
            pods=self._labelled(POD, key),
            claims=self._labelled(PERSISTENT_VOLUME_CLAIM, key),
            references=references,
            nodes=None if nodes is None else tuple(each for node in nodes for each in self._addresses_of(node)),
            storage_classes=frozenset(each.ref.name for each in classes) if classes is not None else None,
            findings=self._findings(owner.uid),
            failure=failure,
            privileged=namespace in self._settings.privileged_namespaces,
        )

    def _addresses_of(self, node: Observed) -> tuple[NodeAddress, ...]:
        return self._addresses.get(node.uid, node.resource_version, lambda: _addresses(node))

    def plan(self, view: TenantView) -> Plan:
        """What to do for this tenant."""
        return plan(view)

    def _labelled(self, resource: Resource, key: Key) -> tuple[Observed, ...]:
        store = self._caches.stores[resource]
        return store.by(BY_TENANT, f"{key[0]}/{key[1]}")


#: Index over pods and volume claims: by "namespace/tenant".
BY_TENANT = "tenant"


def by_tenant(each: Observed) -> Iterable[str]:
    """The index function of `BY_TENANT`."""
    name = each.labels.get("cluster")
    return (f"{each.ref.namespace}/{name}",) if name else ()


def access_of(view: TenantView, spec: ClusterSpec) -> TenantAccess | None:
    """Where a tenant answers inside the management cluster; None while its Service or CA does not exist."""
    t = tenant(view, spec)
    at = endpoint.in_cluster(t)
    if at is None:
        return None
    return TenantAccess(
        uid=t.uid, namespace=t.namespace, authority=at.authority, server=at.server, server_name=at.server_name
    )


def _named_secrets(owner: Observed) -> Iterable[str]:
    """ "namespace/name" of every Secret that the spec of a Cluster names."""
    if not any(field in owner.json for field in _NAMES_SECRETS):
        return ()  # which is told in a thousandth of the time
    return _secrets_of(owner, parse_cluster(owner.body).spec)


def _secrets_of(owner: Observed, spec: ClusterSpec | None) -> Iterable[str]:
    if spec is None:
        return ()
    kine = spec.storage.kine if spec.storage else None
    named = [reference.name for reference in spec.certificate_refs or ()]
    named.append(kine.data_source_secret_name if kine else None)
    return {f"{owner.ref.namespace}/{name}" for name in named if name}


def _addresses(node: Observed) -> tuple[NodeAddress, ...]:
    return tuple(
        NodeAddress(node=node.ref.name, type=str(each.get("type")), address=str(each.get("address")))
        for each in node.get("status", "addresses", default=[])
    )
