"""Which control planes, Clusters and token requests an event concerns, and which tenant a name stands for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import orjson

from hosted_cp.controllers import join_tokens, tenants
from hosted_cp.controllers.clusters import Clusters
from hosted_cp.controllers.control_planes import ControlPlanes
from hosted_cp.controllers.join_tokens import JoinTokens
from hosted_cp.hosting.settings import Settings
from hosted_cp.kube.cache import Caches
from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.loop import Key
from hosted_cp.kube.observing import observe
from hosted_cp.kube.resources import (
    CLUSTER,
    CONTROL_PLANE,
    CORE_CLUSTER,
    JOIN_TOKEN_REQUEST,
    POD,
    SECRET,
    SERVICE,
    Resource,
)
from hosted_cp.kube.store import Change
from tests.hosting.world import CATALOGUE

CP = Key("ns", "demo-cp")


class House:
    """The three controllers over caches that a test fills."""

    def __init__(self) -> None:
        self.caches = Caches(cast(ApiClient, None), [*tenants.watched(), tenants.CORE_CLUSTERS, *join_tokens.watched()])
        settings = Settings(catalogue=CATALOGUE)
        words: dict[str, Any] = {"now": lambda: datetime(2026, 11, 21, tzinfo=UTC)}
        self.clusters = Clusters(self.caches, settings, **words)
        self.control_planes = ControlPlanes(self.caches, settings, **words)
        self.tokens = JoinTokens(self.caches, settings, self.clusters, self.control_planes, **words)
        self.version = 0

    def put(self, resource: Resource, name: str, *, spec: Any = None, namespace: str = "ns", **metadata: Any) -> Change:
        self.version += 1
        body = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {
                "name": name, "namespace": namespace, "uid": f"uid-{namespace}-{resource.group}-{name}",
                "resourceVersion": str(self.version), "generation": self.version, **metadata,
            },
            "spec": spec or {},
        }  # fmt: skip
        change = self.caches.store(resource).offer(observe(orjson.dumps(body), resource=resource))
        assert change is not None
        return change

    def control_plane(self, name: str = "demo-cp", *, cluster: str = "demo", uid: str = "", **spec: Any) -> Change:
        reference = {
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "name": cluster,
            "uid": uid or f"uid-ns-cluster.x-k8s.io-{cluster}",
        }  # fmt: skip
        return self.put(CONTROL_PLANE, name, spec={"version": "v1.36.3+k0s", **spec}, ownerReferences=[reference])

    def concerned(self, change: Change) -> dict[str, set[Key]]:
        return {
            "control planes": set(self.control_planes.keys(change)),
            "clusters": set(self.clusters.keys(change)),
            "requests": set(self.tokens.keys(change)),
        }


def lived() -> House:
    house = House()
    house.put(CORE_CLUSTER, "demo")
    house.control_plane()
    house.put(JOIN_TOKEN_REQUEST, "t", spec={"clusterName": "demo"})
    return house


def child_of(kind: Resource, name: str, uid: str = "uid-ns-controlplane.cluster.x-k8s.io-demo-cp") -> dict[str, Any]:
    owner = {"apiVersion": kind.api_version, "kind": kind.kind, "name": name, "uid": uid, "controller": True}
    return {"ownerReferences": [owner]}


def test_its_cluster_concerns_a_control_plane() -> None:
    house = lived()
    assert house.concerned(house.put(CORE_CLUSTER, "demo", spec={"paused": True}))["control planes"] == {CP}
    assert house.concerned(house.put(CORE_CLUSTER, "other"))["control planes"] == set()
    assert house.concerned(house.put(CORE_CLUSTER, "demo", namespace="elsewhere"))["control planes"] == set()


def test_its_children_concern_it_alone() -> None:
    house = lived()
    house.put(CLUSTER, "demo-cp")
    made = house.put(SERVICE, "kmc-demo", **child_of(CONTROL_PLANE, "demo-cp"))
    assert house.concerned(made) == {"control planes": {CP}, "clusters": set(), "requests": set()}
    made = house.put(SECRET, "demo-ca", **child_of(CONTROL_PLANE, "demo-cp"))
    assert house.concerned(made)["requests"] == {Key("ns", "t")}


def test_what_cores_cluster_controls_is_no_child_of_ours() -> None:
    house = lived()
    house.put(CLUSTER, "demo")
    made = house.put(SECRET, "anything", **child_of(CORE_CLUSTER, "demo"))
    assert house.concerned(made)["clusters"] == set()


def test_what_stands_under_its_names_concerns_it() -> None:
    house = lived()
    assert house.concerned(house.put(SECRET, "demo-ca"))["control planes"] == {CP}
    assert house.concerned(house.put(SERVICE, "kmc-demo-lb"))["control planes"] == {CP}
    assert house.concerned(house.put(SECRET, "demo-cp-ca"))["control planes"] == set()
    assert house.concerned(house.put(POD, "p", labels={"cluster": "demo"}))["control planes"] == {CP}


def test_secrets_that_its_spec_names_concern_it() -> None:
    house = lived()
    house.control_plane(certificateRefs=[{"type": "ca", "name": "brought"}])
    assert house.concerned(house.put(SECRET, "brought"))["control planes"] == {CP}


def test_a_cluster_is_told_when_a_rival_comes_and_not_what_it_says() -> None:
    house = House()
    house.put(CLUSTER, "demo")
    house.put(CORE_CLUSTER, "demo")
    assert house.concerned(house.control_plane())["clusters"] == {Key("ns", "demo")}
    assert house.concerned(house.control_plane(replicas=2))["clusters"] == set()
    assert house.concerned(house.put(CLUSTER, "demo"))["control planes"] == set()
    view = house.clusters.view(Key("ns", "demo"))
    assert view is not None
    assert view.rival is not None
    assert view.rival.ref.name == "demo-cp"


def test_the_view_of_a_control_plane() -> None:
    house = lived()
    house.put(CLUSTER, "demo")
    look = house.control_planes.look(CP)
    assert look is not None
    assert (look.view.tenant.name, look.about.ref.name) == ("demo", "demo-cp")
    assert look.view.cluster is not None
    assert look.view.tenant.rival is not None
    house.control_plane(uid="of another life")
    look = house.control_planes.look(CP)
    assert look is not None
    assert look.view.cluster is None
    assert house.control_planes.look(Key("ns", "none")) is None


def test_what_k0smotron_left_behind_is_no_rival() -> None:
    house = lived()
    house.put(CLUSTER, "demo", **child_of(CONTROL_PLANE, "demo-cp"))
    look = house.control_planes.look(CP)
    assert look is not None
    assert look.view.tenant.rival is None


def test_a_token_request_resolves_both_kinds() -> None:
    house = lived()
    look = house.tokens.look(Key("ns", "t"))
    assert look is not None
    assert look.view.cluster is not None
    assert look.view.cluster.ref.kind == "K0smotronControlPlane"
    house.put(CLUSTER, "mine")
    house.put(JOIN_TOKEN_REQUEST, "u", spec={"clusterName": "mine"})
    look = house.tokens.look(Key("ns", "u"))
    assert look is not None
    assert look.view.cluster is not None
    assert look.view.cluster.ref.kind == "Cluster"
    assert house.concerned(house.control_plane(replicas=2))["requests"] == {Key("ns", "t")}
