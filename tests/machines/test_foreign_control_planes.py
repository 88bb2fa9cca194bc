"""Workers of control planes that others run: known by the kubeconfig that Cluster API asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hosted_cp.machines.plan import FINALIZER, plan
from hosted_cp.machines.view import cluster_of_kubeconfig, kubeconfig_name
from hosted_cp.planning.actions import Create
from tests.machines.worker_world import CLUSTER, CONFIG, KUBECONFIG, WorkerWorld, waiting
from tests.pki.test_kubeconfig import CA, config

BY_OTHERS = {"apiGroup": "controlplane.cluster.x-k8s.io", "kind": "KubeadmControlPlane", "name": "demo"}


def foreign(
    kubeconfig: bytes | None, *, reference: Any = BY_OTHERS, initialized: bool = True, **spec: Any
) -> WorkerWorld:
    world = waiting().owned(**spec).cluster(controlPlaneRef=reference, initialized=initialized)
    return world.run_by_others(kubeconfig)


def test_the_token_is_made_there_and_leads_there() -> None:
    world = foreign(config())
    assert world.work() == "", world.why()
    assert world.why() == "True Ready: "
    assert (world.token.server, world.token.ca) == ("https://192.0.2.11:31234", CA["tls.crt"])
    [known] = world.tenants
    assert known["metadata"]["name"] == f"bootstrap-token-{world.token.id}"
    assert world.base.server.get(CONFIG)["metadata"]["finalizers"] == [FINALIZER]


def test_without_a_published_endpoint_the_kubeconfigs_counts() -> None:
    world = foreign(config())
    world.edit(CLUSTER, lambda body: body["spec"].pop("controlPlaneEndpoint"))
    assert world.work() == "", world.why()
    assert world.token.server == "https://api.example:6443"


def test_a_cluster_without_any_control_plane_needs_a_kubeconfig_and_no_word_of_core() -> None:
    world = foreign(None, reference=None, initialized=False)
    world.work()
    assert world.why() == (
        "False WaitingForKubeconfig: Secret demo-kubeconfig with the kubeconfig of Cluster demo does not exist: create"
        " it, with the kubeconfig under the key value, or set spec.controlPlaneRef"
    )
    world.run_by_others(config())
    assert world.work() == ""
    assert world.why() == "True Ready: "


def test_what_is_waited_for_and_what_is_wrong() -> None:
    world = foreign(None, initialized=False)
    world.work()
    assert world.why().startswith("False WaitingForControlPlaneInitialization: ")
    world.provisioned()
    world.work()
    assert world.why().startswith("False WaitingForKubeconfig: Secret demo-kubeconfig")
    assert world.why().endswith("its control plane provider makes it")
    assert not world.plan().actions
    bad = config(user={"exec": {"command": "id"}})
    world.run_by_others(bad)
    world.work()
    assert world.why().startswith(
        "False KubeconfigUnusable: the kubeconfig in Secret demo-kubeconfig uses exec, which is not done for others: "
    )
    world.base.server.objects.pop(KUBECONFIG)
    world.run_by_others(b"nothing of the kind")
    world.work()
    assert world.why() == (
        "False KubeconfigUnusable: the kubeconfig in Secret demo-kubeconfig is missing: write it under the key value"
    )
    assert not world.base.server.get(CONFIG)["metadata"].get("finalizers")
    world.base.server.objects.pop(KUBECONFIG)
    world.run_by_others(config())
    assert world.work() == ""


def test_of_its_version_nothing_is_known() -> None:
    world = foreign(config(), version="")
    world.work()
    assert world.why().startswith("False VersionUnknown: spec.version: is not set, nor is that of Machine md-x7k2p")
    assert world.why().endswith("set spec.version of the Machine")


def test_an_operator_outside_the_cluster_reaches_it_too() -> None:
    view = replace(foreign(config()).view(), reaches_tenants=False)
    assert [type(each) for each in plan(view).actions].count(Create) == 2


def test_the_recipe_tells_where_the_ca_is_from() -> None:
    *_, made = foreign(config()).plan().actions
    assert isinstance(made, Create)
    assert made.recipe is not None
    assert "ca: CA of the kubeconfig value of Secret demo-kubeconfig" in made.recipe.printed()["token"]


@pytest.mark.parametrize(("secret", "cluster"), [("a-kubeconfig", "a"), ("kubeconfig", ""), ("a-kubeconfig-x", "")])
def test_names(secret: str, cluster: str) -> None:
    assert cluster_of_kubeconfig(secret) == cluster
    if cluster:
        assert kubeconfig_name(cluster) == secret
