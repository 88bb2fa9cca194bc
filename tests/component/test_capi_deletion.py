"""The end of clusters of Cluster API, with their workers: in every order, at every age, and nothing is left over.

F of the contract's list. Of each order there is a cluster of its own, side by side in one namespace. What may be left
is what DESIGN's section on state names, and nothing else of whatever kind: the volumes of etcd, with the tenant's UID
on them, and an Event that names them.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from e2e.capi import core
from hosted_cp.hosting.names import TENANT_UID
from hosted_cp.kube.errors import NotFound
from hosted_cp.kube.resources import (
    CONTROL_PLANE,
    CORE_CLUSTER,
    EVENT,
    MACHINE,
    NAMESPACE,
    PERSISTENT_VOLUME_CLAIM,
    SECRET,
    WORKER_CONFIG,
    Resource,
)
from tests.component.capi import LAB_CLUSTER, CapiStage, status_of
from tests.component.hosting import PATIENCE, Object, conditions
from tests.component.workers import (
    DEPLOYMENT,
    LAB_MACHINE,
    LAB_MACHINE_TEMPLATE,
    WORKER_TEMPLATE,
    body,
    machine_spec,
    made,
    provisioned,
    why,
)

CLUSTER_NAME = "cluster.x-k8s.io/cluster-name"

#: What is deleted, by order: kind after kind, all that a cluster has of it, without waiting in between.
EVERYTHING = (
    DEPLOYMENT, WORKER_TEMPLATE, LAB_MACHINE_TEMPLATE, MACHINE, WORKER_CONFIG, LAB_MACHINE, LAB_CLUSTER, CONTROL_PLANE,
    CORE_CLUSTER,
)  # fmt: skip
ORDERS: dict[str, tuple[Resource, ...]] = {
    "cluster": (CORE_CLUSTER,),
    "control-plane": (CONTROL_PLANE,),
    "configs": (WORKER_CONFIG,),
    "workers": (DEPLOYMENT,),
    "templates": (WORKER_TEMPLATE, LAB_MACHINE_TEMPLATE),
    "at-once": EVERYTHING,
    "backwards": EVERYTHING[::-1],
}


@pytest.fixture
def stage(capi_stage: CapiStage) -> CapiStage:
    return capi_stage


def manifest(stage: CapiStage, name: str) -> list[Object]:
    """A cluster with two workers, as a user writes it."""
    template = machine_spec(name, name)
    for reference in (template["bootstrap"]["configRef"], template["infrastructureRef"]):
        reference["kind"] += "Template"
    empty: Object = {"template": {"spec": {}}}
    workers = {"clusterName": name, "replicas": 2, "template": {"spec": template}}
    return [
        stage.cluster(name),
        stage.infrastructure(name),
        stage.control_plane(name),
        body(stage, WORKER_TEMPLATE, name, spec=empty),
        body(stage, LAB_MACHINE_TEMPLATE, name, spec=empty),
        body(stage, DEPLOYMENT, name, spec=workers),
    ]


async def of_cluster(stage: CapiStage, resource: Resource, name: str) -> list[str]:
    """The names of the objects of one kind that belong to a cluster. (Its templates have its name and no label.)"""
    known = {name, f"{name}-cp"}
    return [
        each["metadata"]["name"]
        for each in await stage.admin.list(resource, stage.namespace)
        if each["metadata"]["name"] in known or each["metadata"].get("labels", {}).get(CLUSTER_NAME) == name
    ]


async def delete(stage: CapiStage, resource: Resource, name: str) -> list[str]:
    """Delete all that a cluster has of one kind; returns what that was."""
    found = await of_cluster(stage, resource, name)
    for each in found:
        with suppress(NotFound):  # it went along with another
            await stage.admin.delete(resource, stage.namespace, each)
    return found


def gone(found: Object) -> bool:
    return not found


async def living(stage: CapiStage) -> None:
    """All clusters serve, and their workers are there."""
    await stage.serving(*ORDERS)
    await stage.told_core(*ORDERS)
    await stage.until(DEPLOYMENT, ORDERS, lambda b: b.get("status", {}).get("replicas") == 2)
    machines = [each["metadata"]["name"] for each in await stage.admin.list(MACHINE, stage.namespace)]
    assert len(machines) == 2 * len(ORDERS)
    await stage.until(MACHINE, machines, provisioned)
    await stage.until(WORKER_CONFIG, machines, made)


@pytest.mark.parametrize("age", ["living", "young"])
async def test_nothing_is_left_but_the_data(stage: CapiStage, age: str) -> None:
    """`young`: no control plane has ever answered, so no worker has its data yet."""
    if age == "young":
        for name in ORDERS:
            stage.tenants.down(stage.namespace, name)
    async with stage.operating():
        objects = [each for name in ORDERS for each in manifest(stage, name)]
        stage.server.kubectl("create", "-f", "-", stdin=core.as_yaml(objects))
        if age == "young":
            await stage.until(SECRET, [f"{name}-ca" for name in ORDERS], bool)
        else:
            await living(stage)
        uids = {each["metadata"]["uid"] for each in await stage.admin.list(CONTROL_PLANE, stage.namespace)}
        assert len(uids) == len(ORDERS)

        waited: dict[tuple[Resource, str], list[str]] = {}
        for name, order in ORDERS.items():
            for resource in order:
                waited[resource, name] = await delete(stage, resource, name)
        # What was deleted alone goes by itself, also where everything around it stays.
        for (resource, _), names in waited.items():
            await stage.until(resource, names, gone)
        for name, order in ORDERS.items():
            if CORE_CLUSTER not in order:
                await stage.admin.delete(CORE_CLUSTER, stage.namespace, name)
        await stage.all_gone(*ORDERS)
        await only_volumes_are_left(stage, uids)


async def only_volumes_are_left(stage: CapiStage, uids: set[str]) -> None:
    """Volumes of these tenants, each named in an Event. What the garbage collector takes along goes a moment later."""
    ends = time.monotonic() + PATIENCE
    while others := [each for each in await stage.inventory() if not each.startswith("PersistentVolumeClaim.")]:
        assert time.monotonic() < ends, others
        await asyncio.sleep(0.5)  # no watch tells of everything
    claims = await stage.admin.list(PERSISTENT_VOLUME_CLAIM, stage.namespace)
    assert {each["metadata"]["labels"][TENANT_UID] for each in claims} <= uids
    said = [each for each in await stage.admin.list(EVENT, stage.namespace) if each.get("reason") == "VolumesKept"]
    told = " ".join(str(each.get("note") or each.get("message")) for each in said)
    assert [each["metadata"]["name"] for each in claims if each["metadata"]["name"] not in told] == []


async def test_a_control_plane_deleted_alone_is_told_of_where_its_workers_are(stage: CapiStage) -> None:
    """Nobody makes another in its place: core says that it is missing, and who waits for it says what to do."""
    async with stage.operating():
        stage.server.kubectl("create", "-f", "-", stdin=core.as_yaml(manifest(stage, "a")))
        await stage.until(DEPLOYMENT, ["a"], lambda b: b.get("status", {}).get("replicas") == 2)
        await stage.admin.delete(CONTROL_PLANE, stage.namespace, "a-cp")
        await stage.until(CONTROL_PLANE, ["a-cp"], gone)
        await stage.until(CORE_CLUSTER, ["a"], lambda b: "while the cluster still exists" in _of_control_plane(b))
        late = {**machine_spec("late"), "clusterName": "a"}
        await stage.admin.create(WORKER_CONFIG, body(stage, WORKER_CONFIG, "late", spec={}))
        await stage.admin.create(LAB_MACHINE, body(stage, LAB_MACHINE, "late", spec={}))
        await stage.admin.create(MACHINE, body(stage, MACHINE, "late", spec=late))
        await stage.until(WORKER_CONFIG, ["late"], lambda b: "ControlPlaneNotFound" in why(b))


def _of_control_plane(cluster: Object) -> str:
    return str(conditions(cluster).get("ControlPlaneAvailable", {}).get("message", ""))


async def test_a_worker_configs_paused_end_is_held(stage: CapiStage) -> None:
    async with stage.operating() as operator:
        stage.server.kubectl("create", "-f", "-", stdin=core.as_yaml(manifest(stage, "a")))
        await stage.until(DEPLOYMENT, ["a"], lambda b: b.get("status", {}).get("replicas") == 2)
        names = await of_cluster(stage, WORKER_CONFIG, "a")
        await stage.until(WORKER_CONFIG, names, made)
        await stage.change_cluster("a", paused=True)
        await stage.until(WORKER_CONFIG, names, lambda b: status_of(b, "Paused") == "True")
        await stage.admin.delete(WORKER_CONFIG, stage.namespace, names[0])
        await stage.rest(operator)
        held = len(stage.tenants.objects(stage.namespace, "a", "secrets"))
        assert (await stage.admin.get(WORKER_CONFIG, stage.namespace, names[0]))["metadata"]["finalizers"]
        assert held == 2
        await stage.change_cluster("a", paused=None)
        await stage.until(WORKER_CONFIG, names[:1], gone)
        assert len(stage.tenants.objects(stage.namespace, "a", "secrets")) == 1


async def test_a_namespace_ends_with_all_that_is_in_it(stage: CapiStage) -> None:
    async with stage.operating():
        stage.server.kubectl("create", "-f", "-", stdin=core.as_yaml(manifest(stage, "a")))
        await stage.until(DEPLOYMENT, ["a"], lambda b: b.get("status", {}).get("replicas") == 2)
        names = await of_cluster(stage, WORKER_CONFIG, "a")
        await stage.until(WORKER_CONFIG, names, made)
        await stage.admin.delete(NAMESPACE, None, stage.namespace)
        await stage.until(NAMESPACE, [stage.namespace], gone)
        assert await stage.inventory() == {}
