"""ClusterClasses on the real core manager: our templates, as the topology controller reads, applies and rotates them.

The group of assertions is G of the contract's list. Our admission is in force, so that the dry runs by which the
topology controller finds out what would change go through it. The tenant is a real API server, because core has to
see Nodes there: without them it replaces no worker (`tests.component.joining`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from e2e.capi import core, kinds
from hosted_cp.kube.resources import CONTROL_PLANE, CORE_CLUSTER, MACHINE, SECRET
from hosted_cp.operator import Operator
from tests.component.apiserver import KubectlError, Server
from tests.component.audit import READS
from tests.component.capi import CapiStage, at_rest, installed
from tests.component.hosting import Object, conditions
from tests.component.joining import led, machines, nodes, published
from tests.component.workers import DEPLOYMENT, WORKER_TEMPLATE

OLD, NEW = "v1.35.4+k0s", "v1.36.3+k0s"


@pytest.fixture(scope="module")
def capi_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with installed(tmp_path_factory.mktemp("classes")) as server:
        yield server


@pytest.fixture
def stage(capi_stage: CapiStage) -> CapiStage:
    return capi_stage


# --- what the user writes ---------------------------------------------------------------------------------------------

_LAB = f"{kinds.GROUP}/{kinds.VERSION}"


def the_class(stage: CapiStage, tenant: Server) -> list[Object]:
    """A ClusterClass and its templates: hosted control planes, and one class of workers with a variable."""
    control_plane = {**published(tenant), "persistence": {"type": "emptyDir"}}

    def template(api_version: str, kind: str, spec: Object) -> Object:
        metadata = {"name": "hosted", "namespace": stage.namespace}
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": {"template": {"spec": spec}}}

    templates = {
        "cluster": template(_LAB, "LabClusterTemplate", {}),
        "plane": template(CONTROL_PLANE.api_version, "K0smotronControlPlaneTemplate", control_plane),
        "config": template(WORKER_TEMPLATE.api_version, "K0sWorkerConfigTemplate", {}),
        "machine": template(_LAB, "LabMachineTemplate", {}),
    }
    refs = {
        name: {"templateRef": {"apiVersion": each["apiVersion"], "kind": each["kind"], "name": "hosted"}}
        for name, each in templates.items()
    }
    arguments = {"name": "workerArguments", "required": False, "schema": {
        "openAPIV3Schema": {"type": "array", "items": {"type": "string"}}}}  # fmt: skip
    selector = {
        "apiVersion": WORKER_TEMPLATE.api_version, "kind": WORKER_TEMPLATE.kind,
        "matchResources": {"machineDeploymentClass": {"names": ["workers"]}},
    }  # fmt: skip
    patch = {"op": "add", "path": "/spec/template/spec/args", "valueFrom": {"variable": "workerArguments"}}
    made = {
        "apiVersion": CORE_CLUSTER.api_version, "kind": "ClusterClass",
        "metadata": {"name": "hosted", "namespace": stage.namespace},
        "spec": {
            "infrastructure": refs["cluster"], "controlPlane": refs["plane"],
            "workers": {"machineDeployments": [
                {"class": "workers", "bootstrap": refs["config"], "infrastructure": refs["machine"]}]},
            "variables": [arguments],
            "patches": [{
                "name": "arguments", "enabledIf": "{{ if .workerArguments }}true{{ end }}",
                "definitions": [{"selector": selector, "jsonPatches": [patch]}],
            }],
        },
    }  # fmt: skip
    return [*templates.values(), made]


def topology(stage: CapiStage, name: str, version: str) -> Object:
    """A Cluster of that class."""
    pool = {"class": "workers", "name": "pool", "replicas": 1}
    wanted = {
        "classRef": {"name": "hosted"}, "version": version, "controlPlane": {"replicas": 1},
        "workers": {"machineDeployments": [pool]},
    }  # fmt: skip
    return {
        "apiVersion": CORE_CLUSTER.api_version, "kind": "Cluster",
        "metadata": {"name": name, "namespace": stage.namespace}, "spec": {"topology": wanted},
    }  # fmt: skip


async def created(stage: CapiStage, tenant: Server, name: str, version: str) -> None:
    """The user's objects; when this returns there is a kubeconfig, so core finds the tenant at once."""
    await led(stage, name, tenant)
    objects = [*the_class(stage, tenant), topology(stage, name, version)]
    stage.server.kubectl("create", "-f", "-", stdin=core.as_yaml(objects))
    await stage.until(SECRET, [f"{name}-kubeconfig"], bool)


async def the_control_plane(stage: CapiStage) -> str:
    """The topology makes its name up."""
    [found] = await stage.admin.list(CONTROL_PLANE, stage.namespace)
    return str(found["metadata"]["name"])


async def machine_names(stage: CapiStage) -> list[str]:
    return [each["metadata"]["name"] for each in await stage.admin.list(MACHINE, stage.namespace)]


def template_of(deployment: Object) -> str:
    """The name of the template of a MachineDeployment's bootstrap configs."""
    return str(deployment["spec"]["template"]["spec"]["bootstrap"]["configRef"]["name"])


async def pool(stage: CapiStage) -> Object:
    [found] = await stage.admin.list(DEPLOYMENT, stage.namespace)
    return dict(found)


def good(cluster: Object) -> bool:
    """Whether core says of a Cluster that it is as its topology wants it, and serves."""
    known = conditions(cluster)
    return all(
        known.get(kind, {}).get("status") == "True" and known[kind]["observedGeneration"] == _generation(cluster)
        for kind in ("TopologyReconciled", "Available")
    )


def _generation(body: Object) -> int:
    return int(body["metadata"]["generation"])


def rolled_out(version: str, replicas: int, **spec: Any) -> Any:
    """Whether a MachineDeployment has so many Machines of a version, all of them available and up to date."""

    def judge(body: Object) -> bool:
        status = body.get("status", {})
        return (
            body["spec"]["template"]["spec"].get("version") == version
            and status.get("observedGeneration") == _generation(body)
            and [status.get(each) for each in ("replicas", "availableReplicas", "upToDateReplicas")] == [replicas] * 3
        )

    return judge


async def change_topology(stage: CapiStage, name: str, **topology: Any) -> None:
    await stage.change_cluster(name, topology=topology)


def workers(count: int) -> Object:
    return {"machineDeployments": [{"class": "workers", "name": "pool", "replicas": count}]}


# --- the tests --------------------------------------------------------------------------------------------------------


async def test_a_topology_is_created_scaled_upgraded_and_then_left_alone(stage: CapiStage, tenant: Server) -> None:
    async with stage.operating() as operator:
        await created(stage, tenant, "a", OLD)
        with machines(stage, tenant):
            plane, deployment = await the_control_plane(stage), (await pool(stage))["metadata"]["name"]
            found = await stage.until(CONTROL_PLANE, [plane], at_rest)
            assert plane != "a"
            assert (found[plane]["spec"]["version"], found[plane]["spec"]["replicas"]) == (OLD, 1)
            await stage.until(DEPLOYMENT, [deployment], rolled_out(OLD, 1))
            [node] = nodes(tenant).values()
            assert node["spec"]["providerID"] == f"lab://{stage.namespace}/{node['metadata']['name']}"
            await stage.until(CORE_CLUSTER, ["a"], good)

            await change_topology(stage, "a", controlPlane={"replicas": 3}, workers=workers(2))
            await stage.until(CONTROL_PLANE, [plane], lambda b: at_rest(b) and b["status"]["replicas"] == 3)
            await stage.until(DEPLOYMENT, [deployment], rolled_out(OLD, 2))
            # A worker that goes is drained, and its Node goes with it: for this core must believe that no Machine is
            # behind the control plane.
            both = await machine_names(stage)
            await change_topology(stage, "a", controlPlane={"replicas": 1}, workers=workers(1))
            await stage.until(CONTROL_PLANE, [plane], lambda b: at_rest(b) and b["status"]["replicas"] == 1)
            await stage.until(MACHINE, both, lambda b: not b, enough=lambda left: len(left) == 1)
            await stage.until(DEPLOYMENT, [deployment], rolled_out(OLD, 1))
            [last] = await machine_names(stage)
            assert list(nodes(tenant)) == [last]

            await change_topology(stage, "a", version=NEW)
            found = await stage.until(CONTROL_PLANE, [plane], lambda b: at_rest(b) and b["spec"]["version"] == NEW)
            assert [each["version"] for each in found[plane]["status"]["versions"]] == [NEW]
            await stage.until(MACHINE, [last], lambda b: not b)
            found_pool = (await stage.until(DEPLOYMENT, [deployment], rolled_out(NEW, 1)))[deployment]
            await stage.until(CORE_CLUSTER, ["a"], good)
            assert {each["status"]["nodeInfo"]["kubeletVersion"] for each in nodes(tenant).values()} == {NEW}
            await is_left_alone(stage, operator, seconds=5)

            # What core made goes; what the user made stays, and so do the data.
            await stage.admin.delete(CORE_CLUSTER, stage.namespace, "a")
            await stage.until(CORE_CLUSTER, ["a"], lambda b: not b)
            mine = {"Secret", "PersistentVolumeClaim", *(each["kind"] for each in the_class(stage, tenant))}
            await stage.until(WORKER_TEMPLATE, [template_of(found_pool)], lambda b: not b)
            left = await stage.settled(seconds=1)
            assert {each.partition(".")[0] for each in left} == mine, left


@pytest.mark.sweep
@pytest.mark.timeout(900)
async def test_a_variable_rotates_templates_and_then_nothing_changes_for_a_minute(
    stage: CapiStage, tenant: Server
) -> None:
    async with stage.operating() as operator:
        await created(stage, tenant, "a", NEW)
        with machines(stage, tenant) as backend:
            deployment = (await pool(stage))["metadata"]["name"]
            await stage.until(DEPLOYMENT, [deployment], rolled_out(NEW, 1))
            before, [first] = template_of(await pool(stage)), await machine_names(stage)
            arguments = [{"name": "workerArguments", "value": ["--debug"]}]
            await change_topology(stage, "a", variables=arguments)
            await stage.until(MACHINE, [first], lambda b: not b)
            await stage.until(DEPLOYMENT, [deployment], rolled_out(NEW, 1))
            [second] = await machine_names(stage)
            assert b"--debug" in backend.orders[second].user_data
            # The old template goes with the last Machine that was made from it; the user's own stays as it was.
            await stage.until(WORKER_TEMPLATE, [before], lambda b: not b)
            mine = await stage.admin.get(WORKER_TEMPLATE, stage.namespace, "hosted")
            assert "args" not in mine["spec"]["template"].get("spec", {})
            await stage.until(CORE_CLUSTER, ["a"], good)
            await is_left_alone(stage, operator, seconds=60)


async def is_left_alone(stage: CapiStage, operator: Operator, *, seconds: float) -> None:
    """Nothing changes any more, nobody writes, and nothing is tried out for the topology again and again."""
    await stage.rest(operator)
    await stage.settled(seconds=seconds)
    since, before = stage.audit.mark(), await stage.inventory()
    await asyncio.sleep(seconds)
    assert await stage.inventory() == before
    assert stage.spent(since) == {}
    asked = stage.audit.requests(since=since, user="core-manager", namespace=stage.namespace)
    assert [str(each) for each in asked if each.verb not in READS] == []


async def test_templates_are_not_changed_in_place(stage: CapiStage, tenant: Server) -> None:
    """A topology makes others, and our admission holds the user to it."""
    objects = the_class(stage, tenant)
    stage.server.kubectl("create", "-f", "-", stdin=core.as_yaml(objects))
    for kind, change in (
        ("k0smotroncontrolplanetemplates", {"externalAddress": "192.0.2.1"}),
        ("k0sworkerconfigtemplates", {"args": ["--debug"]}),
    ):
        patch = orjson.dumps({"spec": {"template": {"spec": change}}}).decode()
        words = (kind, "hosted", "-n", stage.namespace, "--type=merge", "-p", patch)
        with pytest.raises(KubectlError, match="create another"):
            stage.server.kubectl("patch", *words)
