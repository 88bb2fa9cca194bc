"""Which events concern a worker's bootstrap, and what is looked at for one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import orjson

from hosted_cp.cli.run import kinds
from hosted_cp.controllers.control_planes import ControlPlanes
from hosted_cp.controllers.worker_configs import WorkerConfigs
from hosted_cp.hosting.settings import Settings
from hosted_cp.kube.cache import Caches
from hosted_cp.kube.client import Answer, ApiClient
from hosted_cp.kube.loop import Key
from hosted_cp.kube.resources import (
    CONFIG_MAP,
    CONTROL_PLANE,
    CORE_CLUSTER,
    MACHINE,
    MACHINE_POOL,
    SECRET,
    SERVICE,
    WORKER_CONFIG,
    Resource,
)
from hosted_cp.kube.store import Change
from hosted_cp.machines.plan import FINALIZER
from hosted_cp.operator import _merged
from hosted_cp.planning.observed import Observed
from tests.hosting.world import CATALOGUE

NS = "tenants"
SETTINGS = Settings(catalogue=CATALOGUE)
CORE_API = CORE_CLUSTER.api_version


class Caching:
    """Caches without a server, and a controller that is told of what comes."""

    def __init__(self) -> None:
        watched = _merged(kinds(SETTINGS))
        self.caches = Caches(cast(ApiClient, None), watched)
        now = datetime(2026, 11, 21, tzinfo=UTC)
        planes = ControlPlanes(self.caches, SETTINGS, now=lambda: now)
        self.controller = WorkerConfigs(self.caches, SETTINGS, planes, now=lambda: now)
        self.changes: list[Change] = []
        self.caches.subscribe(self.changes.append)
        self._version = 0

    def put(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str = NS,
        spec: Any = None,
        status: Any = None,
        **metadata: Any,
    ) -> set[str]:
        """An object comes or changes; returns whose keys are told."""
        self._version += 1
        about = {"name": name, "namespace": namespace, "uid": f"{resource.plural}-{name}", "generation": self._version}
        body = {"metadata": {**about, "resourceVersion": str(self._version), **metadata}}
        body |= (
            {"data": spec or {}} if resource in (SECRET, CONFIG_MAP) else {"spec": spec or {}, "status": status or {}}
        )
        self.changes.clear()
        assert self.caches.feed(Answer(orjson.dumps(body)), resource.ref(namespace, name)) is not None
        return {key.name for change in self.changes for key in self.controller.keys(change)}

    def config(self, name: str, owner: Resource = MACHINE, **spec: Any) -> set[str]:
        return self.put(WORKER_CONFIG, name, spec=spec, ownerReferences=[reference(owner, name)])

    def machine(self, name: str, cluster: str = "demo", *, status: Any = None, **spec: Any) -> set[str]:
        return self.put(MACHINE, name, spec={"clusterName": cluster, **spec}, status=status)

    def world(self) -> None:
        """Two workers of a Cluster with a control plane of ours, and one of another."""
        for name, cluster in (("a", "demo"), ("b", "demo"), ("c", "other")):
            self.machine(name, cluster)
            self.config(name)
        self.put(CORE_CLUSTER, "demo")
        owners = [{"apiVersion": CORE_API, "kind": "Cluster", "name": "demo", "uid": "clusters-demo"}]
        self.put(CONTROL_PLANE, "demo-cp", spec={"version": "v1.36.3+k0s"}, ownerReferences=owners)


def reference(resource: Resource, name: str) -> dict[str, Any]:
    """An owner reference to an object that `Caching` has made."""
    about = {"apiVersion": resource.api_version, "kind": resource.kind, "name": name}
    return {**about, "uid": f"{resource.plural}-{name}", "controller": True}


def test_a_config_and_its_machine() -> None:
    seen = Caching()
    assert seen.machine("a") == set()
    assert seen.config("a") == {"a"}
    assert seen.machine("a", bootstrap={"dataSecretName": "a"}) == {"a"}
    assert seen.machine("a", bootstrap={"dataSecretName": "a"}, status={"nodeRef": {"name": "a"}}) == {"a"}


def test_most_changes_of_a_machine_concern_nobody() -> None:
    seen = Caching()
    seen.machine("a")
    seen.config("a")
    assert seen.machine("a", status={"conditions": [{"type": "Ready"}], "phase": "Running"}) == set()
    [kept] = [each for each in seen.caches.store(MACHINE) if each.ref.name == "a"]
    assert kept.get("status") == {}


def test_a_pool_is_an_owner_too() -> None:
    seen = Caching()
    seen.put(MACHINE_POOL, "p", spec={"clusterName": "demo", "template": {"spec": {"version": "v1.36.3+k0s"}}})
    seen.config("p", owner=MACHINE_POOL)
    assert seen.put(CORE_CLUSTER, "demo") == {"p"}
    look = seen.controller.look(Key(NS, "p"))
    assert look is not None
    assert look.view.pool
    assert look.view.asks("version") == "v1.36.3+k0s"


def test_what_concerns_a_cluster_concerns_its_workers() -> None:
    seen = Caching()
    seen.world()
    assert seen.put(CORE_CLUSTER, "demo", spec={"paused": True}) == {"a", "b"}
    assert seen.put(SERVICE, "kmc-demo-nodeport", ownerReferences=[reference(CONTROL_PLANE, "demo-cp")]) == {"a", "b"}
    assert seen.put(SECRET, "demo-ca", ownerReferences=[reference(CONTROL_PLANE, "demo-cp")]) == {"a", "b"}
    assert seen.put(SECRET, "another") == set()


def test_what_core_counts_in_a_cluster_concerns_nobody() -> None:
    """Or many workers would be looked at again for each of many."""
    seen = Caching()
    seen.world()
    assert seen.put(CORE_CLUSTER, "demo", status={"workers": {"replicas": 3}, "conditions": []}) == set()
    ready = {"initialization": {"infrastructureProvisioned": True}}
    assert seen.put(CORE_CLUSTER, "demo", status=ready) == {"a", "b"}
    owners = [{"apiVersion": CORE_API, "kind": "Cluster", "name": "demo", "uid": "clusters-demo"}]

    def control_plane(**status: Any) -> set[str]:
        spec = {"version": "v1.36.3+k0s"}
        return seen.put(CONTROL_PLANE, "demo-cp", spec=spec, status=status, ownerReferences=owners)

    assert control_plane(conditions=[{"type": "Available"}]) == set()
    assert control_plane(version="v1.36.3+k0s") == {"a", "b"}


def test_secrets_and_config_maps_concern_who_takes_content_from_them() -> None:
    seen = Caching()
    seen.world()
    assert seen.put(SECRET, "a") == {"a"}  # its own, or what stands in the place of it
    files = [{"path": "/x", "contentFrom": {"secretRef": {"name": "site", "key": "k"}}}]
    seen.config("b", files=files, provisioner={"customUserDataRef": {"configMapRef": {"name": "custom", "key": "k"}}})
    assert seen.put(SECRET, "site", spec={"k": "eA=="}) == {"b"}
    assert seen.put(CONFIG_MAP, "site") == set()
    assert seen.put(CONFIG_MAP, "custom", spec={"k": "v"}) == {"b"}
    look = seen.controller.look(Key(NS, "b"))
    assert look is not None
    assert {key: set(facts(each)) for key, each in look.view.sources.items()} == {
        ("Secret", "site"): {"k"}, ("ConfigMap", "custom"): {"k"},
    }  # fmt: skip


def facts(each: Observed) -> Any:
    assert each.secret is not None
    return each.secret.digests


def test_the_tenant_is_looked_at_again_when_it_has_changed() -> None:
    seen = Caching()
    seen.world()

    def version() -> str:
        look = seen.controller.look(Key(NS, "a"))
        assert look is not None
        assert look.view.control_plane is not None
        return look.view.control_plane.version + look.view.control_plane.release

    assert version() == "v1.36.3+k0s"
    owners = [{"apiVersion": CORE_API, "kind": "Cluster", "name": "demo", "uid": "clusters-demo"}]
    status = {"version": "v1.36.3+k0s", "k0sVersion": "v1.36.3+k0s.2"}
    assert seen.put(CONTROL_PLANE, "demo-cp", status=status, ownerReferences=owners) == {"a", "b"}
    assert version() == "v1.36.3+k0sv1.36.3+k0s.2"


def test_what_is_in_another_namespace_is_not_there() -> None:
    """Neither a Machine, nor a Cluster with all that is its, nor what files are taken from."""
    elsewhere = "elsewhere"
    seen = Caching()
    seen.machine("b")
    seen.config("b", files=[{"path": "/x", "contentFrom": {"secretRef": {"name": "s", "key": "k"}}}])
    seen.put(MACHINE, "a", namespace=elsewhere, spec={"clusterName": "demo"})
    seen.config("a")
    owners = [{"apiVersion": CORE_API, "kind": "Cluster", "name": "demo", "uid": "clusters-demo"}]
    spec = {"version": "v1.36.3+k0s"}
    for resource, name, more in (
        (CORE_CLUSTER, "demo", {}), (CONTROL_PLANE, "demo-cp", {"spec": spec, "ownerReferences": owners}),
        (SECRET, "demo-ca", {}), (SECRET, "demo-kubeconfig", {}), (SECRET, "s", {}), (SECRET, "b", {}),
    ):  # fmt: skip
        seen.put(resource, name, namespace=elsewhere, **more)
    lonely, other = seen.controller.look(Key(NS, "a")), seen.controller.look(Key(NS, "b"))
    assert lonely is not None
    assert lonely.view.machine is None
    assert other is not None
    found = other.view
    assert found.machine is not None
    assert (found.cluster, found.control_plane, found.authority, found.secret, found.sources) == (
        None, None, None, None, {},
    )  # fmt: skip


def test_a_machine_made_anew_is_another_one() -> None:
    seen = Caching()
    seen.world()
    seen.put(WORKER_CONFIG, "a", ownerReferences=[{**reference(MACHINE, "a"), "uid": "former"}])
    look = seen.controller.look(Key(NS, "a"))
    assert look is not None
    assert look.view.machine is None


def test_a_worker_that_has_joined_needs_no_tenant_unless_its_token_is_to_be_revoked() -> None:
    seen = Caching()
    seen.world()
    seen.machine("a", status={"nodeRef": {"name": "a"}})
    look = seen.controller.look(Key(NS, "a"))
    assert look is not None
    assert look.view.control_plane is None
    seen.put(WORKER_CONFIG, "a", ownerReferences=[reference(MACHINE, "a")], finalizers=[FINALIZER])
    look = seen.controller.look(Key(NS, "a"))
    assert look is not None
    assert look.view.control_plane is not None


def test_one_whose_machine_is_gone_still_knows_its_cluster() -> None:
    seen = Caching()
    seen.world()
    seen.put(WORKER_CONFIG, "d", labels={"cluster.x-k8s.io/cluster-name": "demo"}, finalizers=[FINALIZER])
    look = seen.controller.look(Key(NS, "d"))
    assert look is not None
    assert look.view.cluster is not None
    assert look.view.control_plane is not None
    assert seen.controller.look(Key(NS, "gone")) is None
