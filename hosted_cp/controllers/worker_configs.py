"""`K0sWorkerConfig`: which events concern a worker's bootstrap, and the view that its plan is made from.

What has to be known of others is little, and no more of it is kept: of Machines the names, the version and the Node; of
ConfigMaps the names of keys. The tenant is looked at once for all the workers that join it, until something about it
changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hosted_cp.api.worker_config import ParsedWorkerConfig, parse_worker_config
from hosted_cp.controllers.control_planes import ControlPlanes
from hosted_cp.controllers.tenants import CORE_CLUSTERS, access_of
from hosted_cp.hosting.capi import control_plane
from hosted_cp.hosting.settings import Settings
from hosted_cp.kube.cache import Caches, Watched
from hosted_cp.kube.loop import Key, Look
from hosted_cp.kube.resources import (
    CONFIG_MAP,
    CONTROL_PLANE,
    CORE_CLUSTER,
    MACHINE,
    MACHINE_POOL,
    SECRET,
    SERVICE,
    WORKER_CONFIG,
)
from hosted_cp.kube.store import Change
from hosted_cp.kube.tenant import TenantAccess
from hosted_cp.machines.mapping import sources_of
from hosted_cp.machines.plan import FINALIZER, plan
from hosted_cp.machines.view import (
    ControlPlane,
    Way,
    WorkerView,
    cluster_name,
    cluster_of_kubeconfig,
    kubeconfig_name,
    owning_machine,
)
from hosted_cp.pki.recipes import KUBECONFIG_KEY
from hosted_cp.planning.actions import Finding, Plan
from hosted_cp.planning.memo import Latest
from hosted_cp.planning.observed import Observed

_OF_MACHINES = {
    "spec": frozenset({"clusterName", "version", "bootstrap", "providerID"}),
    "status": frozenset({"nodeRef"}),
}
_OF_POOLS = {"spec": frozenset({"clusterName", "template"}), "status": frozenset[str]()}

#: How many specs are kept as read.
_SPECS = 1024

#: Index over configs: by the UIDs of their owners; and by "kind/namespace/name" of what the spec takes content from.
_BY_OWNER = "owner"
_BY_SOURCE = "source"
#: The fields that name such. Whether they are there is told in a thousandth of the time.
_NAMES_SOURCES = (b'"contentFrom"', b'"customUserDataRef"')
#: Index over Machines and pools: by "namespace/name" of their Cluster.
_BY_CLUSTER = "cluster"

_MACHINES = {each.kind: each for each in (MACHINE, MACHINE_POOL)}
#: Of ConfigMaps, of which others have large ones, no more than whether what a file is made from has changed.
_FACTS_ALONE: Mapping[str, frozenset[str]] = {"data": frozenset(), "binaryData": frozenset()}
_SOURCES = {each.kind: each for each in (SECRET, CONFIG_MAP)}


def watched() -> list[Watched]:
    """What has to be followed for this kind, beside what is for control planes."""
    return [
        Watched(resource=WORKER_CONFIG, optional=True),
        Watched(resource=MACHINE, keep=_OF_MACHINES, optional=True),
        Watched(resource=MACHINE_POOL, keep=_OF_POOLS, optional=True),
        Watched(resource=CONFIG_MAP, optional=True, keep=_FACTS_ALONE, beside=WORKER_CONFIG),
        CORE_CLUSTERS,
    ]


@dataclass(frozen=True, kw_only=True)
class _Hosted:
    """What workers have to know of a tenant."""

    control_plane: ControlPlane
    access: TenantAccess | None


class WorkerConfigs:
    """The reconciler of `K0sWorkerConfig`."""

    name = "K0sWorkerConfig"
    resource = WORKER_CONFIG

    def __init__(
        self,
        caches: Caches,
        settings: Settings,
        control_planes: ControlPlanes,
        *,
        now: Callable[[], datetime],
        findings: Callable[[str], tuple[Finding, ...]] = lambda _: (),
    ) -> None:
        """`findings` gives what probes have found out about the object with a UID."""
        self._caches = caches
        self._settings = settings
        self._control_planes = control_planes
        self._now = now
        self._findings = findings
        self._own = caches.store(WORKER_CONFIG)
        self._specs: Latest[ParsedWorkerConfig] = Latest(most=_SPECS)
        #: By namespace and name of the Cluster; forgotten when something about it changes.
        self._hosted: dict[tuple[str, str], _Hosted | None] = {}
        self._own.index(_BY_OWNER, _owners)
        self._own.index(_BY_SOURCE, _sources)
        for resource in _MACHINES.values():
            caches.store(resource).index(_BY_CLUSTER, _cluster)

    @property
    def watched(self) -> tuple[Watched, ...]:
        """Every kind that the view of a config is made of: its own, and the tenant's."""
        return (*watched(), *self._control_planes.watched)

    # -- events -> keys --------------------------------------------------------------------------------------------

    def keys(self, change: Change) -> Iterable[Key]:
        """The configs that a change concerns."""
        some = change.new or change.old
        assert some is not None
        if change.resource == WORKER_CONFIG:
            return (Key(*change.name),)
        if change.resource in (MACHINE, MACHINE_POOL):
            return () if _nothing_new(change) else self._owned_by(some)
        # All workers of a Cluster are looked at again, so it has to be worth it: while many of them are made, core
        # counts them in the Cluster's status.
        if change.resource == CORE_CLUSTER:
            return () if _nothing_new(change) else self._of_clusters([change.name])
        if change.resource == CONTROL_PLANE:
            if _nothing_new(change, of_status=("version", "k0sVersion", "decisions")):
                return ()
            return self._of_clusters([(some.ref.namespace or "", control_plane.tenant_name(some))])
        if change.resource == SERVICE:
            return self._of_clusters(self._control_planes.tenants(change))
        if change.resource == CONFIG_MAP:
            return self._taking(some)
        if change.resource == SECRET:
            clusters = {*self._control_planes.tenants(change)}
            if (named := cluster_of_kubeconfig(some.ref.name)) != "":
                clusters.add((some.ref.namespace or "", named))
            return {*self._named_as(some), *self._taking(some), *self._of_clusters(clusters)}
        return ()

    def _owned_by(self, machine: Observed) -> list[Key]:
        return [_key(each) for each in self._own.by(_BY_OWNER, machine.uid)]

    def _of_clusters(self, clusters: Iterable[tuple[str, str]]) -> list[Key]:
        """The configs of all machines of these Clusters, by namespace and name."""
        found = []
        for cluster in clusters:
            self._hosted.pop(cluster, None)
            for resource in _MACHINES.values():
                for machine in self._caches.store(resource).by(_BY_CLUSTER, f"{cluster[0]}/{cluster[1]}"):
                    found += self._owned_by(machine)
        return found

    def _taking(self, source: Observed) -> list[Key]:
        """The configs that take content from a Secret or ConfigMap."""
        name = f"{source.ref.kind}/{source.ref.namespace}/{source.ref.name}"
        return [_key(each) for each in self._own.by(_BY_SOURCE, name)]

    def _named_as(self, secret: Observed) -> list[Key]:
        """The config whose bootstrap Secret this is, or stands in the place of."""
        found = self._own.get(secret.ref.namespace, secret.ref.name)
        return [_key(found)] if found is not None else []

    # -- view and plan -----------------------------------------------------------------------------------------------

    def look(self, key: Key, *, failure: str = "") -> Look[WorkerView] | None:
        """Everything that is known of a config; None if it is gone."""
        owner = self._own.get(*key)
        if owner is None:
            return None
        parsed = self._specs.get(owner.uid, str(owner.generation), lambda: parse_worker_config(owner.body))
        stores = self._caches.stores
        machine = self._machine_of(owner)
        name = cluster_name(machine) if machine is not None else _label(owner)
        hosted = self._hosted_for(key.namespace, name) if name and _may_need_it(owner, machine) else None
        access = hosted.access if hosted is not None else None
        named = sources_of(parsed.spec) if parsed.spec is not None else frozenset()
        sources = {each: stores[_SOURCES[each[0]]].get(key.namespace, each[1]) for each in named}
        view = WorkerView(
            now=self._now(),
            owner=owner,
            spec=parsed.spec,
            problems=parsed.problems,
            machine=machine,
            cluster=stores[CORE_CLUSTER].get(key.namespace, name) if name else None,
            control_plane=hosted.control_plane if hosted is not None else None,
            way=_way(access) if access is not None else None,
            authority=self._authority(key.namespace, name, hosted),
            secret=stores[SECRET].get(*key),
            sources={each: found for each, found in sources.items() if found is not None},
            catalogue=self._settings.catalogue,
            findings=self._findings(owner.uid),
            failure=failure,
            reaches_tenants=self._settings.reaches_tenants,
        )
        return Look(view=view, about=owner, tenant=access)

    def plan(self, view: WorkerView) -> Plan:
        """What to do for this config."""
        return plan(view)

    def _machine_of(self, owner: Observed) -> Observed | None:
        """The Machine or pool that owns a config, if it is still the one of its owner reference."""
        reference = owning_machine(owner)
        if reference is None:
            return None
        store = self._caches.store(_MACHINES[reference["kind"]])
        found = store.get(owner.ref.namespace, str(reference.get("name")))
        return found if found is not None and found.uid == reference.get("uid") else None

    def _authority(self, namespace: str, name: str, hosted: _Hosted | None) -> Observed | None:
        """The Secret by which the tenant is known: also one that cannot be used, so that it can be said why."""
        if hosted is None or (hosted.access is None and not hosted.control_plane.foreign):
            return None
        secret = hosted.access.authority if hosted.access is not None else kubeconfig_name(name)
        return self._caches.store(SECRET).get(namespace, secret)

    def _hosted_for(self, namespace: str, name: str) -> _Hosted | None:
        """The tenant of a Cluster: one of ours, or whatever its kubeconfig leads to. None if neither can be."""
        if (namespace, name) not in self._hosted:
            self._hosted[namespace, name] = self._look_at(namespace, name)
        return self._hosted[namespace, name]

    def _look_at(self, namespace: str, name: str) -> _Hosted | None:
        seen = self._control_planes.tenant(namespace, name)
        if seen is None:
            return self._look_outside(namespace, name)
        owner = seen.owner
        version = owner.get("status", "version") or owner.get("spec", "version", default="")
        return _Hosted(
            control_plane=ControlPlane(
                version=str(version or ""), release=str(owner.get("status", "k0sVersion", default="") or "")
            ),
            access=access_of(seen, seen.spec) if seen.spec is not None and not owner.deleting else None,
        )

    def _look_outside(self, namespace: str, name: str) -> _Hosted | None:
        """A Cluster whose control plane is none of ours."""
        cluster = self._caches.store(CORE_CLUSTER).get(namespace, name)
        if cluster is None or _is_ours(cluster.get("spec", "controlPlaneRef", default={})):
            return None
        secret = self._caches.store(SECRET).get(namespace, kubeconfig_name(name))
        found = secret.secret.kubeconfigs.get(KUBECONFIG_KEY) if secret is not None and secret.secret else None
        access = None
        if found is not None and not found.unusable and not cluster.deleting:
            access = TenantAccess(
                uid=cluster.uid, namespace=namespace, authority=kubeconfig_name(name), server=found.server.rstrip("/"),
                server_name=found.server_name or None, kubeconfig=True,
            )  # fmt: skip
        return _Hosted(control_plane=ControlPlane(foreign=True), access=access)


def _is_ours(reference: Mapping[str, Any]) -> bool:
    """Whether a Cluster's control plane is to be one of ours."""
    return (reference.get("apiGroup"), reference.get("kind")) == (CONTROL_PLANE.group, CONTROL_PLANE.kind)


def _may_need_it(owner: Observed, machine: Observed | None) -> bool:
    """Whether anything is still to be done in the tenant. A worker that has joined needs it no more."""
    joined = machine is not None and machine.get("status", "nodeRef", "name")
    return not joined or FINALIZER in owner.finalizers


def _way(access: TenantAccess) -> Way:
    return Way(
        uid=access.uid, server=access.server, server_name=access.server_name or "", authority=access.authority,
        kubeconfig=access.kubeconfig,
    )  # fmt: skip


def _key(each: Observed) -> Key:
    return Key(each.ref.namespace or "", each.ref.name)


def _nothing_new(change: Change, *, of_status: Iterable[str] | None = None) -> bool:
    """Whether an object has changed in nothing that counts here: spec, owners, end, and what is kept of the status (or
    these members of it). Most changes of Machines and Clusters are conditions."""
    old, new = change.old, change.new
    if old is None or new is None or old.uid != new.uid or old.deleting != new.deleting:
        return False
    if old.owner_references != new.owner_references or old.get("spec") != new.get("spec"):
        return False
    paths = [("status",)] if of_status is None else [("status", each) for each in of_status]
    return all(old.get(*path) == new.get(*path) for path in paths)


def _label(owner: Observed) -> str:
    """The name of the Cluster of a config whose machine is gone."""
    return owner.labels.get(control_plane.CLUSTER_LABEL, "")


def _owners(config: Observed) -> Iterable[str]:
    return {str(each.get("uid")) for each in config.owner_references}


def _sources(config: Observed) -> Iterator[str]:
    """ "kind/namespace/name" of everything that the spec takes content from."""
    if any(field in config.json for field in _NAMES_SOURCES):
        spec = parse_worker_config(config.body).spec
        for kind, name in sources_of(spec) if spec is not None else ():
            yield f"{kind}/{config.ref.namespace}/{name}"


def _cluster(machine: Observed) -> Iterable[str]:
    name = cluster_name(machine)
    return (f"{machine.ref.namespace}/{name}",) if name else ()
