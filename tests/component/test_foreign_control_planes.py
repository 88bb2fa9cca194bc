"""Workers of clusters whose control planes others run, under the real core manager: all that we know of such a cluster
is the kubeconfig that Cluster API asks for.

The control plane is a stand-in tenant under another name than the Cluster's, so that nothing but the kubeconfig can
lead there; its provider is played by the tests, as far as the contract goes.
"""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from hosted_cp.kube.resources import CORE_CLUSTER, CRD, MACHINE, SECRET, WORKER_CONFIG, Resource
from tests.component import certificates
from tests.component.capi import LAB_CLUSTER, CapiStage
from tests.component.certificates import Pair
from tests.component.hosting import Object
from tests.component.workers import (
    data_of,
    joins,
    known_tokens,
    kubeconfig_to,
    machine,
    made,
    provisioned,
    seen_by_core,
    token_of,
    why,
)

#: The stand-in tenant that is the Cluster's control plane.
ELSEWHERE = "elsewhere"
OTHERS = Resource(
    group="controlplane.cluster.x-k8s.io", version="v1beta2", kind="OthersControlPlane", plural="otherscontrolplanes"
)


@pytest.fixture
def stage(capi_stage: CapiStage) -> CapiStage:
    return capi_stage


def others_definition() -> Object:
    """A control plane kind of another provider, as much of it as core looks at."""
    open_ended = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": open_ended, "status": open_ended}}
    version = {
        "name": OTHERS.version, "served": True, "storage": True, "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }  # fmt: skip
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": OTHERS.definition, "labels": {"cluster.x-k8s.io/v1beta2": OTHERS.version}},
        "spec": {
            "group": OTHERS.group, "scope": "Namespaced", "versions": [version],
            "names": {"kind": OTHERS.kind, "plural": OTHERS.plural},
        },
    }  # fmt: skip


async def a_foreign_cluster(stage: CapiStage, **spec: Any) -> Pair:
    """The Cluster `a`, and an API server somewhere else; returns that one's CA."""
    authority = certificates.authority("somebody's CA")
    await stage.secret(f"{ELSEWHERE}-ca", {"tls.crt": authority.certificate, "tls.key": authority.key})
    await stage.admin.create(CORE_CLUSTER, stage.cluster("a", **{"controlPlaneRef": None, **spec}), manager="user")
    await stage.admin.create(LAB_CLUSTER, stage.infrastructure("a"), manager="user")
    return authority


def kubeconfig(stage: CapiStage, authority: Pair, **user: Any) -> bytes:
    """As a provider writes it; `user` instead of a client certificate."""
    return kubeconfig_to(stage.tenants.url, f"kmc-{ELSEWHERE}.{stage.namespace}.svc", authority, **user)


async def leaves(stage: CapiStage, config: bytes) -> None:
    """The provider writes the kubeconfig's Secret."""
    labels = {"cluster.x-k8s.io/cluster-name": "a"}
    await stage.secret("a-kubeconfig", {"value": config}, labels=labels)


async def test_a_cluster_that_names_no_control_plane_is_known_by_its_kubeconfig(stage: CapiStage) -> None:
    async with stage.operating() as operator:
        authority = await a_foreign_cluster(stage)
        await machine(stage, "m")
        await stage.until(WORKER_CONFIG, ["m"], lambda b: "WaitingForKubeconfig" in why(b))
        await leaves(stage, kubeconfig(stage, authority, exec={"command": "/bin/true", "apiVersion": "v1"}))
        found = await stage.until(WORKER_CONFIG, ["m"], lambda b: "KubeconfigUnusable" in why(b))
        assert "uses exec" in why(found["m"])
        assert stage.tenants.seen(stage.namespace, ELSEWHERE) == []

        since = stage.audit.mark()
        good = {"data": {"value": base64.b64encode(kubeconfig(stage, authority)).decode()}}
        await stage.admin.merge_patch(SECRET, stage.namespace, "a-kubeconfig", good)
        await stage.until(WORKER_CONFIG, ["m"], made)
        machines = await stage.until(MACHINE, ["m"], provisioned)
        token = token_of(await data_of(stage, "m"))
        assert known_tokens(stage, ELSEWHERE) == {token.id: token.secret}
        assert (token.server, token.ca) == (stage.tenants.url, authority.certificate)

        await joins(stage, "m", cluster=ELSEWHERE)
        await stage.rest(operator)
        [node] = stage.tenants.objects(stage.namespace, ELSEWHERE, "nodes")
        assert node["spec"]["providerID"] == machines["m"]["spec"]["providerID"]
        await seen_by_core(stage, "m")
        await stage.until(WORKER_CONFIG, ["m"], lambda b: not b["metadata"].get("finalizers"))
        assert known_tokens(stage, ELSEWHERE) == {}
        await stage.rest(operator)
        requests = stage.requests(since, without=("watch",))
        asked = stage.tenants.seen(stage.namespace, ELSEWHERE)
        assert len(requests) + len(asked) <= 15, [*map(str, requests), *asked]
        assert [str(each) for each in requests if each.code in (401, 403)] == []


async def test_one_of_another_provider_is_waited_for_by_what_core_says(stage: CapiStage) -> None:
    names = {each["metadata"]["name"] for each in await stage.admin.list(CRD)}
    if OTHERS.definition not in names:
        stage.server.kubectl("create", "-f", "-", stdin=orjson.dumps(others_definition()))
        stage.server.kubectl("wait", "--for=condition=Established", f"crd/{OTHERS.definition}", "--timeout=30s")
    async with stage.operating() as operator:
        reference = {"apiGroup": OTHERS.group, "kind": OTHERS.kind, "name": "others"}
        endpoint = {"host": "192.0.2.77", "port": 6443}
        authority = await a_foreign_cluster(stage, controlPlaneRef=reference, controlPlaneEndpoint=endpoint)
        await leaves(stage, kubeconfig(stage, authority))
        await machine(stage, "m")
        await stage.until(WORKER_CONFIG, ["m"], lambda b: "WaitingForControlPlaneInitialization" in why(b))
        metadata = {"name": "others", "namespace": stage.namespace}
        others = {"apiVersion": OTHERS.api_version, "kind": OTHERS.kind, "metadata": metadata, "spec": {}}
        await stage.admin.create(OTHERS, others)
        ready = {"status": {"initialization": {"controlPlaneInitialized": True}}}
        await stage.admin.merge_patch(OTHERS, stage.namespace, "others", ready, subresource="status")
        await stage.until(WORKER_CONFIG, ["m"], made)
        token = token_of(await data_of(stage, "m"))
        assert token.server == "https://192.0.2.77:6443"
        assert known_tokens(stage, ELSEWHERE) == {token.id: token.secret}

        # A renewed kubeconfig is used as soon as it is there, and makes nothing anew.
        before = await data_of(stage, "m")
        again = {"data": {"value": base64.b64encode(kubeconfig(stage, authority)).decode()}}
        await stage.admin.merge_patch(SECRET, stage.namespace, "a-kubeconfig", again)
        await stage.rest(operator)
        assert await data_of(stage, "m") == before
        await stage.admin.delete(MACHINE, stage.namespace, "m")
        await stage.until(WORKER_CONFIG, ["m"], lambda b: not b)
        assert known_tokens(stage, ELSEWHERE) == {}
