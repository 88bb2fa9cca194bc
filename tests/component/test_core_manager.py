"""That the real core manager runs beside our API server, so that what is tested with it is tested with the real one."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson
import pytest

from e2e.capi import core, kinds
from e2e.capi.infrastructure import Booted, Order, Provider
from e2e.lab.client import from_kubeconfig
from k0s_images.golang import components
from tests.component.apiserver import KubectlError, Server, running
from tests.component.core_manager import CoreManager, managing


@pytest.fixture(scope="module")
def management(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("capi"), components("1.36")) as server:
        server.kubectl("create", "-f", "-", stdin=core.as_yaml(kinds.crds()))
        yield server


@pytest.fixture(scope="module")
def manager(management: Server) -> Iterator[CoreManager]:
    with managing(management) as started:
        yield started


def test_a_cluster_is_taken_care_of_in_every_version(management: Server, manager: CoreManager) -> None:
    body = {
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "Cluster",
        "metadata": {"name": "one", "namespace": "default"},
        "spec": {
            "controlPlaneEndpoint": {"host": "192.0.2.1", "port": 6443},
            "infrastructureRef": {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "LabCluster", "name": "one"},
        },
    }
    management.kubectl("create", "-f", "-", stdin=orjson.dumps(body))
    management.kubectl(
        "wait", "cluster/one", "--for=jsonpath={.metadata.finalizers[0]}=cluster.cluster.x-k8s.io", "--timeout=60s"
    )
    old = orjson.loads(management.kubectl("get", "clusters.v1beta1.cluster.x-k8s.io", "one", "-o", "json"))
    assert old["spec"]["controlPlaneEndpoint"] == {"host": "192.0.2.1", "port": 6443}


def test_its_admission_is_in_force(management: Server, manager: CoreManager) -> None:
    body = {
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "MachineDeployment",
        "metadata": {"name": "md", "namespace": "default"},
        "spec": {
            "clusterName": "one",
            "template": {
                "spec": {
                    "clusterName": "one",
                    "version": "no version",
                    "bootstrap": {"dataSecretName": "x"},
                    "infrastructureRef": {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "X", "name": "x"},
                }
            },
        },
    }
    with pytest.raises(KubectlError, match="must be a valid semantic version"):
        management.kubectl("create", "-f", "-", stdin=orjson.dumps(body))


@dataclass
class Shelf:
    """A backend whose machines are orders on a shelf."""

    orders: dict[str, Order] = field(default_factory=dict)

    def boot(self, order: Order) -> Booted:
        self.orders[order.name] = order
        return Booted(address="192.0.2.7")

    def remove(self, namespace: str, name: str) -> None:
        self.orders.pop(name, None)


def test_the_labs_infrastructure_keeps_cores_contract(management: Server, manager: CoreManager) -> None:
    shelf = Shelf()
    reference = {"apiGroup": kinds.GROUP, "name": "two"}
    namespace = {"namespace": "default"}
    objects = [
        {
            "apiVersion": "cluster.x-k8s.io/v1beta2",
            "kind": "Cluster",
            "metadata": {"name": "two", **namespace},
            "spec": {
                "controlPlaneEndpoint": {"host": "192.0.2.1", "port": 6443},
                "infrastructureRef": {**reference, "kind": "LabCluster"},
            },
        },
        {
            "apiVersion": f"{kinds.GROUP}/{kinds.VERSION}",
            "kind": "LabCluster",
            "metadata": {"name": "two", **namespace},
        },
        {
            "apiVersion": f"{kinds.GROUP}/{kinds.VERSION}",
            "kind": "LabMachine",
            "metadata": {"name": "two", **namespace},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "data", **namespace},
            "data": {"value": base64.b64encode(b"#cloud-config").decode()},
        },
        {
            "apiVersion": "cluster.x-k8s.io/v1beta2",
            "kind": "Machine",
            "metadata": {"name": "two", **namespace},
            "spec": {
                "clusterName": "two",
                "bootstrap": {"dataSecretName": "data"},
                "infrastructureRef": {**reference, "kind": "LabMachine"},
            },
        },
    ]
    with Provider(from_kubeconfig(management.folder / "admin.kubeconfig"), shelf):
        management.kubectl("create", "-f", "-", stdin=core.as_yaml(objects))
        management.kubectl("wait", "cluster/two", "--for=condition=InfrastructureReady", "--timeout=60s")
        management.kubectl("wait", "machine/two", "--for=condition=InfrastructureReady", "--timeout=60s")
        machine = orjson.loads(management.kubectl("get", "machine", "two", "-o", "json"))
        assert machine["spec"]["providerID"] == "lab://default/two"
        assert machine["status"]["addresses"][0] == {"type": "InternalIP", "address": "192.0.2.7"}
        assert shelf.orders["two"].user_data == b"#cloud-config"

        management.kubectl("delete", "machine", "two", "--timeout=60s")
        assert not shelf.orders
        management.kubectl("delete", "cluster", "two", "--timeout=60s")
        assert not orjson.loads(management.kubectl("get", "labclusters", "-o", "json"))["items"]
