"""What the kinds that ask for tenants have in common: what a tenant's view is made of, and which events concern whom.

A tenant's objects have names that derive from the tenant's, and a controller that is the object that asks for it. For a
`Cluster` the two names are one; a `K0smotronControlPlane` has a name of its own. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from hosted_cp.api.cluster import ClusterSpec
from hosted_cp.api.problems import Problem
from hosted_cp.hosting import endpoint
from hosted_cp.hosting.names import children_of, tenants_with
from hosted_cp.hosting.settings import Settings
from hosted_cp.hosting.tenant import tenant
from hosted_cp.hosting.view import NodeAddress, TenantView
from hosted_cp.kube.cache import Caches, Watched
from hosted_cp.kube.loop import Key
from hosted_cp.kube.resources import (
    CLUSTER,
    CONTROL_PLANE,
    CORE_CLUSTER,
    CRD,
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
from hosted_cp.planning.actions import Finding
from hosted_cp.planning.memo import Latest
from hosted_cp.planning.observed import Observed

#: The kinds of a tenant's children.
CHILDREN = (SERVICE, SECRET, STATEFUL_SET, POD_DISRUPTION_BUDGET, NETWORK_POLICY)

#: What is kept of pods and nodes. A pod is mostly its template, a node mostly a list of images.
_OF_PODS = {"spec": frozenset({"volumes"})}
_OF_NODES = {"spec": frozenset[str](), "status": frozenset({"addresses"})}

#: Of the Cluster of Cluster API's core: what others have to know of it, and nothing of its topology.
CORE_CLUSTERS = Watched(
    resource=CORE_CLUSTER,
    keep={
        "spec": frozenset({"paused", "clusterNetwork", "controlPlaneEndpoint", "controlPlaneRef", "infrastructureRef"}),
        "status": frozenset({"initialization"}),
    },
    optional=True,
)
CONTROL_PLANES = Watched(resource=CONTROL_PLANE, optional=True)
_OF_THE_WORLD = (
    Watched(resource=NODE, keep=_OF_NODES),
    Watched(resource=STORAGE_CLASS, metadata_only=True),
    # By these is known when an optional kind comes.
    Watched(resource=CRD, metadata_only=True),
)

#: Of how many nodes the addresses are kept: a node is ten times as large as they are.
_NODES = 10_000
_BY_KIND = {resource.kind: resource for resource in CHILDREN}

#: On every pod and volume claim of a tenant.
_HOSTED = "app=k0smotron"

#: Index over pods and volume claims: by "namespace/tenant".
BY_TENANT = "tenant"


def watched(*, cluster_wide: bool = True) -> list[Watched]:
    """What has to be followed for tenants. Cluster-scoped kinds only where the operator may see them."""
    return [
        Watched(resource=CLUSTER, optional=True),
        CONTROL_PLANES,
        *(Watched(resource=each) for each in CHILDREN),
        Watched(resource=POD, labels=_HOSTED, keep=_OF_PODS),
        Watched(resource=PERSISTENT_VOLUME_CLAIM, labels=_HOSTED),
        *(_OF_THE_WORLD if cluster_wide else ()),
    ]


def by_tenant(each: Observed) -> Iterable[str]:
    """The index function of `BY_TENANT`."""
    name = each.labels.get("cluster")
    return (f"{each.ref.namespace}/{name}",) if name else ()


class Tenants:
    """The tenants that objects of one kind ask for."""

    def __init__(
        self,
        caches: Caches,
        settings: Settings,
        resource: Resource,
        *,
        named: Callable[[str, str], Iterable[Key]],
        naming: Callable[[str], Iterable[Key]],
        now: Callable[[], datetime],
        findings: Callable[[str], tuple[Finding, ...]],
    ) -> None:
        """`named` gives the objects that ask for a tenant, by namespace and name of the tenant; `naming` gives those
        whose spec names a Secret ("namespace/name"); `findings` what probes have found out about an object (UID)."""
        self._caches = caches
        self._settings = settings
        self._resource = resource
        self._named = named
        self._naming = naming
        self._now = now
        self._findings = findings
        self._addresses: Latest[tuple[NodeAddress, ...]] = Latest(most=_NODES)
        for each in (POD, PERSISTENT_VOLUME_CLAIM):
            caches.store(each).index(BY_TENANT, by_tenant)

    @property
    def watched(self) -> tuple[Watched, ...]:
        """Every kind that a tenant's view is made of."""
        return tuple(watched(cluster_wide=NODE in self._caches.stores))

    # -- events -> keys --------------------------------------------------------------------------------------------

    def keys(self, change: Change) -> Iterable[Key]:
        """The objects whose tenants a change concerns; of changes of tenants' children, and of the world around."""
        if change.resource in (NODE, STORAGE_CLASS):
            return self._of_the_world(change)
        if change.resource in _CONCERNING:
            some = (each for each in (change.old, change.new) if each is not None)
            return {key for each in some for key in self._of_object(change.resource, each)}
        return ()

    def _of_object(self, resource: Resource, each: Observed) -> Iterator[Key]:
        namespace = each.ref.namespace or ""
        owned = False
        for owner in each.owner_references:
            kind = (str(owner.get("apiVersion")).partition("/")[0], owner.get("kind"))
            if owner.get("controller") and kind in _ASKING:
                owned = True
                if kind == (self._resource.group, self._resource.kind):
                    yield Key(namespace, str(owner.get("name")))
        if not owned:
            # Somebody else's: it may stand in the way of a tenant, or be an authority that the user brings.
            for name in tenants_with(each.ref.kind, each.ref.name):
                yield from self._named(namespace, name)
        if resource in (POD, PERSISTENT_VOLUME_CLAIM):
            yield from self._named(namespace, each.labels.get("cluster", ""))
        elif resource == SECRET:
            yield from self._naming(f"{namespace}/{each.ref.name}")

    def _of_the_world(self, change: Change) -> list[Key]:
        """All tenants that look at nodes or storage classes, if what they look at has changed."""
        if change.resource == NODE:
            before, after = (self._addresses_of(each) if each is not None else () for each in (change.old, change.new))
            if before == after:
                return []  # a heartbeat
        if change.resource == STORAGE_CLASS and change.old is not None and change.new is not None:
            return []
        return [Key(*name) for name in self._caches.store(self._resource).names()]

    # -- the view ----------------------------------------------------------------------------------------------------

    def view(
        self,
        owner: Observed,
        *,
        name: str,
        spec: ClusterSpec | None,
        problems: tuple[Problem, ...],
        rival: Observed | None,
        failure: str,
        named_in: ClusterSpec | None = None,
    ) -> TenantView:
        """Everything that is known of the tenant `name` that `owner` asks for. `named_in`: the spec that names Secrets,
        where `spec` is not known yet."""
        namespace = owner.ref.namespace or ""
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
            for named in secrets_of(namespace, spec or named_in)
            if (secret := stores[SECRET].get(*named.split("/", 1))) is not None
        }
        nodes = stores.get(NODE)
        classes = stores.get(STORAGE_CLASS)
        return TenantView(
            now=self._now(),
            owner=owner,
            name=name,
            rival=rival,
            spec=spec,
            problems=problems,
            settings=self._settings,
            children=children,
            pods=stores[POD].by(BY_TENANT, f"{namespace}/{name}"),
            claims=stores[PERSISTENT_VOLUME_CLAIM].by(BY_TENANT, f"{namespace}/{name}"),
            references=references,
            nodes=None if nodes is None else tuple(each for node in nodes for each in self._addresses_of(node)),
            storage_classes=frozenset(each.ref.name for each in classes) if classes is not None else None,
            findings=self._findings(owner.uid),
            failure=failure,
            privileged=namespace in self._settings.privileged_namespaces,
        )

    def _addresses_of(self, node: Observed) -> tuple[NodeAddress, ...]:
        return self._addresses.get(node.uid, node.resource_version, lambda: _addresses(node))


#: Kinds of which an object may concern a tenant.
_CONCERNING = frozenset({*CHILDREN, POD, PERSISTENT_VOLUME_CLAIM})
#: Group and name of the kinds that ask for tenants. (Cluster API's core has a `Cluster`, too.)
_ASKING = frozenset({(each.group, each.kind) for each in (CLUSTER, CONTROL_PLANE)})


def access_of(view: TenantView, spec: ClusterSpec) -> TenantAccess | None:
    """Where a tenant answers inside the management cluster; None while its Service or CA does not exist."""
    t = tenant(view, spec)
    at = endpoint.in_cluster(t)
    if at is None:
        return None
    return TenantAccess(
        uid=t.uid, namespace=t.namespace, authority=at.authority, server=at.server, server_name=at.server_name
    )


def secrets_of(namespace: str, spec: ClusterSpec | None) -> Iterable[str]:
    """ "namespace/name" of every Secret that a spec names."""
    if spec is None:
        return ()
    kine = spec.storage.kine if spec.storage else None
    named = [reference.name for reference in spec.certificate_refs or ()]
    named.append(kine.data_source_secret_name if kine else None)
    return {f"{namespace}/{name}" for name in named if name}


#: The fields of a spec that name Secrets.
_NAMES_SECRETS = (b'"certificateRefs"', b'"dataSourceSecretName"')


def may_name_secrets(owner: Observed) -> bool:
    """Whether it is worth reading the spec to learn which Secrets it names: told in a thousandth of the time."""
    return any(field in owner.json for field in _NAMES_SECRETS)


def _addresses(node: Observed) -> tuple[NodeAddress, ...]:
    return tuple(
        NodeAddress(node=node.ref.name, type=str(each.get("type")), address=str(each.get("address")))
        for each in node.get("status", "addresses", default=[])
    )
