"""A `K0sWorkerConfig` that a MachinePool owns, under the real core manager: one Secret for machines that come and go.

The pool's infrastructure is a kind without anybody behind it: core takes the bootstrap data whatever becomes of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from e2e.capi import core
from hosted_cp.k0s import tokens
from hosted_cp.kube.resources import MACHINE_POOL, SECRET, WORKER_CONFIG, Resource
from hosted_cp.machines.plan import POOL_LIFE
from hosted_cp.planning.conditions import parse_rfc3339
from tests.component.apiserver import Server
from tests.component.capi import CapiStage, staged
from tests.component.hosting import Object
from tests.component.kubelet import StandInKubelet
from tests.component.standin_tenants import StandInTenants
from tests.component.workers import a_cluster, body, data_of, known_tokens, machine_spec, made, token_of

INFRASTRUCTURE = Resource(
    group="infrastructure.cluster.x-k8s.io", version="v1beta1", kind="BareMachinePool", plural="baremachinepools"
)


def definition() -> Object:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {
        "name": INFRASTRUCTURE.version, "served": True, "storage": True, "schema": schema,
        "subresources": {"status": {}},
    }  # fmt: skip
    names = {"kind": INFRASTRUCTURE.kind, "plural": INFRASTRUCTURE.plural}
    metadata = {"name": INFRASTRUCTURE.definition, "labels": {"cluster.x-k8s.io/v1beta2": INFRASTRUCTURE.version}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": metadata,
        "spec": {"group": INFRASTRUCTURE.group, "scope": "Namespaced", "names": names, "versions": [version]},
    }  # fmt: skip


@pytest.fixture
async def stage(
    capi_server: Server, capi_kubelet: StandInKubelet, capi_tenants: StandInTenants
) -> AsyncIterator[CapiStage]:
    kinds = core.as_yaml([definition()])
    capi_server.kubectl("apply", "-f", "-", stdin=kinds)
    capi_server.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", "-", stdin=kinds)
    async with staged(capi_server, capi_kubelet, capi_tenants) as fresh:
        yield fresh


async def test_a_pool_takes_its_data_and_its_token_ends_with_it(stage: CapiStage) -> None:
    template = machine_spec("pool")
    template["infrastructureRef"]["kind"] = INFRASTRUCTURE.kind
    pool = {"clusterName": "a", "replicas": 2, "template": {"spec": template}}
    async with stage.operating() as operator:
        await a_cluster(stage)
        before = datetime.now(UTC)
        objects = [
            body(stage, WORKER_CONFIG, "pool", spec={}),
            body(stage, INFRASTRUCTURE, "pool", spec={}),
            body(stage, MACHINE_POOL, "pool", spec=pool),
        ]
        stage.server.kubectl("create", "-f", "-", stdin=core.as_yaml(objects))
        found = await stage.until(WORKER_CONFIG, ["pool"], made)
        assert [each["kind"] for each in found["pool"]["metadata"]["ownerReferences"]] == ["MachinePool"]
        await stage.until(
            MACHINE_POOL, ["pool"],
            lambda b: b["spec"]["template"]["spec"]["bootstrap"].get("dataSecretName") == "pool",
        )  # fmt: skip
        token = token_of(await data_of(stage, "pool"))
        assert known_tokens(stage) == {token.id: token.secret}
        secret = (await stage.admin.get(SECRET, stage.namespace, "pool")).body
        ends = parse_rfc3339(secret["metadata"]["annotations"][tokens.EXPIRES])
        assert abs(ends - before - POOL_LIFE).total_seconds() < 120
        await stage.rest(operator)

        await stage.admin.delete(MACHINE_POOL, stage.namespace, "pool")
        await stage.until(WORKER_CONFIG, ["pool"], lambda b: not b)
        await stage.until(SECRET, ["pool"], lambda b: not b)
        assert known_tokens(stage) == {}
