"""A LabMachine under the real core manager: it boots, runs the user data that we render, and is a node of its tenant.

The bootstrap Secret is made by hand here, of a join token and `hosted_cp.machines`; so what is tested is that machines
of Cluster API do what our user data says. That the Secret is made is for the tests of `K0sWorkerConfig`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from e2e.capi import kinds, manifests
from e2e.capi.edges import edge_name
from e2e.lab import client, state
from e2e.tenants import Tenant
from e2e.tests.room import Room, hello_says, node_ready, run_hello
from hosted_cp.k0s import versions
from hosted_cp.machines.quoting import shell
from hosted_cp.machines.render import render
from hosted_cp.machines.worker import File, Resolved, Worker
from tests.machines.hostile import PAYLOADS, TRAP

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

_TENANT, _CLUSTER = "tenant", "machines"
_CORE = "/apis/cluster.x-k8s.io/v1beta2"
_LAB = f"/apis/{kinds.GROUP}/{kinds.VERSION}"


@pytest.fixture(scope="module")
def tenant(shared: Room) -> Tenant:
    shared.create(_TENANT)
    return shared.available(_TENANT)


def _object(kind: str, name: str, version: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _cluster() -> list[dict[str, Any]]:
    infrastructure = {"apiGroup": kinds.GROUP, "kind": "LabCluster", "name": _CLUSTER}
    spec = {"controlPlaneEndpoint": {"host": "192.0.2.1", "port": 6443}, "infrastructureRef": infrastructure}
    return [
        _object("Cluster", _CLUSTER, "cluster.x-k8s.io/v1beta2", spec),
        _object("LabCluster", _CLUSTER, f"{kinds.GROUP}/{kinds.VERSION}", {}),
    ]


def _machine(name: str, user_data: bytes) -> list[dict[str, Any]]:
    infrastructure = {"apiGroup": kinds.GROUP, "kind": "LabMachine", "name": name}
    spec = {"clusterName": _CLUSTER, "bootstrap": {"dataSecretName": name}, "infrastructureRef": infrastructure}
    secret = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "cluster.x-k8s.io/secret",
        "stringData": {"value": user_data.decode(), "format": "cloud-config"},
    }  # fmt: skip
    return [
        secret,
        _object("LabMachine", name, f"{kinds.GROUP}/{kinds.VERSION}", {}),
        _object("Machine", name, "cluster.x-k8s.io/v1beta2", spec),
    ]


@dataclass(frozen=True, kw_only=True)
class Hostile:
    """Everything that breaks out of careless quoting, and commands that find out what became of it on the machine."""

    files: tuple[File, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]


def hostile_payloads() -> Hostile:
    """Each payload as a file and as a word of a command. The machine itself compares them with their digests, so what
    does not arrive byte for byte, or is executed, ends the bootstrap."""
    files = [
        File(path=f"/srv/hostile/{index}", content=each.encode(), permissions="0640")
        for index, each in enumerate(PAYLOADS)
    ]
    said = "".join(f"{each}\n" for each in PAYLOADS).encode()
    digests = {each.path: each.content for each in files if isinstance(each.content, bytes)} | {"/srv/said": said}
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {path}\n" for path, content in digests.items())
    words = tuple(f"printf '%s\\n' {shell(each)} >> /srv/said" for each in PAYLOADS)
    return Hostile(
        files=(*files, File(path="/srv/sums", content=sums.encode())),
        before=words,
        after=("sha256sum --quiet --strict --check /srv/sums || exit 1", f"[ ! -e {TRAP} ] || exit 1"),
    )


def _bootstrapped(room: Room, name: str, *, seconds: float = 300.0) -> dict[str, Any]:
    """Wait until the machine has run its user data; its LabMachine."""
    return client.wait_for(
        room.lab.client(), f"{_LAB}/namespaces/{room.namespace}/labmachines", name=name, seconds=seconds,
        until=lambda body: body.get("status", {}).get("bootstrap", {}).get("result"), what=f"{name} has not booted",
    )  # fmt: skip


def test_a_machine_boots_and_is_a_node(
    cluster_api: None, tenant: Tenant, shared: Room, record_testsuite_property: Callable[..., None]
) -> None:
    name = "hosted-workers-x7k2p-9vqlc"
    version = versions.parse(shared.stage.k0s.version)
    download = manifests.worker_download(shared.lab, shared.stage.k0s)
    hostile = hostile_payloads()
    worker = Worker(
        name=name, version=version, download_url=download.url, checksum=download.sha256, taints=(),
        provider_id=f"lab://{shared.namespace}/{name}", files=hostile.files, pre_commands=hostile.before,
        post_commands=hostile.after,
    )  # fmt: skip
    token = shared.token(tenant.name, "machine").decode()
    begun = time.monotonic()
    shared.apply(*_cluster(), *_machine(name, render(worker, Resolved(token=token)).value))
    found = _bootstrapped(shared, name)
    record_testsuite_property("booted", round(time.monotonic() - begun, 1))
    assert found["status"]["bootstrap"] == {"result": "Succeeded", "message": ""}
    node = node_ready(tenant, name)
    record_testsuite_property("node-ready", round(time.monotonic() - begun, 1))
    assert node["spec"]["providerID"] == found["spec"]["providerID"]
    assert {each["address"] for each in found["status"]["addresses"]} == {
        each["address"] for each in node["status"]["addresses"]
    }
    assert node["metadata"]["labels"]["k0smotron.io/machine-name"] == name
    shared.kubectl("wait", f"machine/{name}", "--for=condition=InfrastructureReady", "--timeout=30s")
    run_hello(tenant)
    assert hello_says(tenant) == "hello from the edge\n"


def test_what_goes_wrong_in_user_data_is_told(cluster_api: None, tenant: Tenant, shared: Room) -> None:
    name, version = "faulty", versions.parse(shared.stage.k0s.version)
    download = manifests.worker_download(shared.lab, shared.stage.k0s)
    worker = Worker(name=name, version=version, download_url=download.url, checksum="0" * 64)
    shared.apply(*_cluster(), *_machine(name, render(worker, Resolved(token="none")).value))
    found = _bootstrapped(shared, name)
    assert found["status"]["bootstrap"]["result"] == "Failed"
    assert "another checksum" in found["status"]["bootstrap"]["message"]


def test_a_machine_that_is_deleted_is_gone(cluster_api: None, tenant: Tenant, shared: Room) -> None:
    assert tenant.name
    shared.kubectl("delete", "machines", "--all", "--timeout=120s", seconds=130)
    shared.kubectl("delete", "clusters.cluster.x-k8s.io", _CLUSTER, "--timeout=60s", seconds=70)
    assert shared.items("labmachines,labclusters") == []
    known = state.read(shared.lab.folder)
    assert known is not None
    names = {edge_name(shared.namespace, each) for each in ("hosted-workers-x7k2p-9vqlc", "faulty")}
    assert not names & set(dict(known.edges))
