"""A Cluster whose references cannot work: our control plane says so, names cause and remedy, and goes on running."""

from __future__ import annotations

from typing import Any

import pytest

from hosted_cp.hosting.capi import cluster_ties
from tests.hosting.capi_world import CapiWorld, living
from tests.hosting.pretend_server import Json

OURS = {"apiGroup": "controlplane.cluster.x-k8s.io", "kind": "K0smotronControlPlane", "name": "demo-x7k2p"}


def tie(world: CapiWorld) -> Json:
    [found] = [each for each in world.status["conditions"] if each["type"] == cluster_ties.CONDITION]
    return dict(found)


def test_in_order_it_is_said_so() -> None:
    world = living()
    assert "ClusterInOrder" not in {each.condition.partition("/")[0] for each in world.events}
    condition = tie(world)
    assert (condition["status"], condition["reason"], condition["message"]) == ("True", "ReferencesInOrder", "")


@pytest.mark.parametrize("reference", [None, {}, {"apiGroup": "", "kind": "", "name": ""}])
def test_without_infrastructure_it_runs_and_says_what_cluster_api_will_not_do(reference: Any) -> None:
    world = CapiWorld().asks().belongs(infrastructureRef=reference).settle()
    assert world.available
    condition = tie(world)
    assert (condition["status"], condition["reason"]) == ("False", "InfrastructureMissing")
    assert "Cluster demo has no spec.infrastructureRef" in condition["message"]
    assert "name it there" in condition["message"]
    world.cluster_says(infrastructureRef={"kind": "LabCluster", "name": "demo"})
    world.settle()
    assert tie(world)["status"] == "True"


@pytest.mark.parametrize(
    ("reference", "named"),
    [
        ({**OURS, "name": "another"}, "K0smotronControlPlane another"),
        ({**OURS, "kind": "KubeadmControlPlane"}, "KubeadmControlPlane demo-x7k2p"),
        ({**OURS, "apiGroup": "example.org"}, "K0smotronControlPlane demo-x7k2p"),
        (None, "none"),
    ],
)
def test_a_cluster_that_names_another_control_plane(reference: Any, named: str) -> None:
    world = CapiWorld().asks().belongs(controlPlaneRef=reference).settle()
    condition = tie(world)
    assert (condition["status"], condition["reason"]) == ("False", "ControlPlaneNotReferenced")
    assert f"its spec.controlPlaneRef names {named}: name K0smotronControlPlane demo-x7k2p" in condition["message"]


def test_a_cluster_of_the_old_api_names_it_by_version() -> None:
    old = {"apiVersion": "controlplane.cluster.x-k8s.io/v1beta1", "kind": OURS["kind"], "name": OURS["name"]}
    assert tie(CapiWorld().asks().belongs(controlPlaneRef=old).settle())["status"] == "True"


def test_deleted_alone_it_says_what_that_means() -> None:
    world = living()
    world.server.delete(world.owner_ref)
    world.reconcile()
    condition = tie(world)
    assert (condition["status"], condition["reason"]) == ("False", "ControlPlaneDeletedAlone")
    assert "Cluster demo is not being deleted" in condition["message"]
    assert "Delete the Cluster, too; or create another control plane" in condition["message"]
    told = [each for each in world.events if each.reason == "ControlPlaneDeletedAlone"]
    assert [(each.type, each.message) for each in told] == [("Warning", condition["message"])]
    world.settle()
    assert len([each for each in world.events if each.reason == "ControlPlaneDeletedAlone"]) == 1
    assert world.owner_ref not in world.server.objects


def test_deleted_with_its_cluster_it_says_nothing_of_the_kind() -> None:
    world = living()
    world.server.edit(world.cluster_ref, lambda body: body["metadata"].update(finalizers=["cluster.cluster.x-k8s.io"]))
    world.server.delete(world.cluster_ref)
    world.server.delete(world.owner_ref)
    world.reconcile()
    assert tie(world)["status"] == "True"


def test_a_spec_that_is_refused_hides_it_not() -> None:
    world = CapiWorld().asks(replicas="three").belongs(infrastructureRef=None).settle()
    assert not world.available
    assert tie(world)["reason"] == "InfrastructureMissing"
