"""That the real core manager runs beside our API server, so that what is tested with it is tested with the real one."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest

from e2e.capi import core, kinds
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
