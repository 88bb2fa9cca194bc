"""The manifests of k0smotron's page about its bootstrap provider, as they stand there, in v1beta1: they lead to the
bootstrap Secrets that the page promises.

Beside them stands what the page takes for granted: the cluster `cp-test`, and the kinds of the AWS provider, here as
definitions without anybody behind them. What that provider would do is done by the tests, as far as the contract goes
(that of v1beta1, which its kinds have).
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
import yaml

from e2e.capi import core
from hosted_cp.kube.resources import CORE_CLUSTER, MACHINE, SECRET, WORKER_CONFIG, Resource
from tests.component.apiserver import Server
from tests.component.capi import CapiStage, installed, staged
from tests.component.hosting import Object, conditions
from tests.component.kubelet import StandInKubelet
from tests.component.standin_tenants import StandInTenants
from tests.component.workers import DEPLOYMENT, known_tokens, made, token_of

MACHINES = """\
apiVersion: cluster.x-k8s.io/v1beta1
kind: Machine
metadata:
  name: machine-test-0
  namespace: default
spec:
  clusterName: cp-test
  bootstrap:
    configRef: # This triggers our controller to create cloud-init secret
      apiVersion: bootstrap.cluster.x-k8s.io/v1beta1
      kind: K0sWorkerConfig
      name: machine-test-config
  infrastructureRef: # This references the infrastructure provider machine object
    apiVersion: infrastructure.cluster.x-k8s.io/v1beta1
    kind: AWSMachine
    name: machine-test-0
---
apiVersion: bootstrap.cluster.x-k8s.io/v1beta1
kind: K0sWorkerConfig
metadata:
  name: machine-test-config
  namespace: default
spec:
  version: v1.27.2+k0s.0
  # Details of the worker configuration can be set here
---
apiVersion: infrastructure.cluster.x-k8s.io/v1beta2
kind: AWSMachine
metadata:
  name: machine-test-0
  namespace: default
spec:
  # More details about the aws machine can be set here
"""

MACHINE_DEPLOYMENTS = """\
apiVersion: cluster.x-k8s.io/v1beta1
kind: MachineDeployment
metadata:
  name: md-test
  namespace: default
spec:
  replicas: 2
  clusterName: cp-test
  selector:
    matchLabels:
      cluster.x-k8s.io/cluster-name: cp-test
      pool: worker-pool-1
  template:
    metadata:
      labels:
        cluster.x-k8s.io/cluster-name: cp-test
        pool: worker-pool-1
    spec:
      clusterName: cp-test
      bootstrap:
        configRef:
          apiVersion: bootstrap.cluster.x-k8s.io/v1beta1
          kind: K0sWorkerConfigTemplate
          name: md-test-config
      infrastructureRef:
        apiVersion: infrastructure.cluster.x-k8s.io/v1beta1
        kind: AWSMachineTemplate
        name: mt-test
---
apiVersion: bootstrap.cluster.x-k8s.io/v1beta1
kind: K0sWorkerConfigTemplate
metadata:
  name: md-test-config
  namespace: default
spec:
  template:
    spec:
      version: v1.27.2+k0s.0
      # More details of the worker configuration can be set here
---
apiVersion: infrastructure.cluster.x-k8s.io/v1beta2
kind: AWSMachineTemplate
metadata:
  name: mt-test
  namespace: default
spec:
  template:
    spec:
      # More details about the aws machine template can be set here
"""

#: What the page takes for granted, in the version that it is written in.
CLUSTER = """\
apiVersion: cluster.x-k8s.io/v1beta1
kind: Cluster
metadata:
  name: cp-test
  namespace: default
spec:
  clusterNetwork:
    pods:
      cidrBlocks: [10.244.0.0/16]
    services:
      cidrBlocks: [10.96.0.0/12]
  controlPlaneRef:
    apiVersion: controlplane.cluster.x-k8s.io/v1beta1
    kind: K0smotronControlPlane
    name: cp-test
  infrastructureRef:
    apiVersion: infrastructure.cluster.x-k8s.io/v1beta1
    kind: AWSCluster
    name: cp-test
---
apiVersion: controlplane.cluster.x-k8s.io/v1beta1
kind: K0smotronControlPlane
metadata:
  name: cp-test
  namespace: default
spec:
  service:
    type: NodePort
---
apiVersion: infrastructure.cluster.x-k8s.io/v1beta2
kind: AWSCluster
metadata:
  name: cp-test
  namespace: default
spec: {}
"""

#: What k0smotron's v1beta1 fills in.
DEFAULTS = {"k0sInstallDir": "/usr/local/bin", "useSystemHostname": False}

_AWS = "infrastructure.cluster.x-k8s.io"
AWS_CLUSTER = Resource(group=_AWS, version="v1beta2", kind="AWSCluster", plural="awsclusters")
AWS_MACHINE = Resource(group=_AWS, version="v1beta2", kind="AWSMachine", plural="awsmachines")
AWS_TEMPLATE = Resource(group=_AWS, version="v1beta2", kind="AWSMachineTemplate", plural="awsmachinetemplates")


def bare(resource: Resource) -> Object:
    """A kind that takes whatever it is given, in both versions of the AWS provider, for core's former contract."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    versions: list[Object] = [
        {"name": name, "served": True, "storage": name == resource.version, "schema": schema,
         "subresources": {"status": {}}}
        for name in ("v1beta1", "v1beta2")
    ]  # fmt: skip
    names = {"kind": resource.kind, "plural": resource.plural}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": resource.definition, "labels": {"cluster.x-k8s.io/v1beta1": "v1beta1_v1beta2"}},
        "spec": {"group": resource.group, "scope": "Namespaced", "names": names, "versions": versions},
    }  # fmt: skip


@pytest.fixture(scope="module")
def capi_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with installed(tmp_path_factory.mktemp("seeds")) as server:
        kinds = core.as_yaml([bare(each) for each in (AWS_CLUSTER, AWS_MACHINE, AWS_TEMPLATE)])
        server.kubectl("create", "-f", "-", stdin=kinds)
        server.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", "-", stdin=kinds)
        yield server


@pytest.fixture
async def stage(
    capi_server: Server, capi_kubelet: StandInKubelet, capi_tenants: StandInTenants
) -> AsyncIterator[CapiStage]:
    """The manifests are for the namespace `default`."""
    async with staged(capi_server, capi_kubelet, capi_tenants) as fresh:
        yield replace(fresh, namespace="default")


async def data_of(stage: CapiStage, name: str) -> dict[str, bytes]:
    found = (await stage.admin.get(SECRET, stage.namespace, name)).body
    assert found["type"] == "cluster.x-k8s.io/secret"
    assert found["metadata"]["labels"]["cluster.x-k8s.io/cluster-name"] == "cp-test"
    return {key: base64.b64decode(value) for key, value in found["data"].items()}


async def test_the_manifests_lead_to_the_secrets_that_they_promise(stage: CapiStage) -> None:
    async with stage.operating():
        stage.server.kubectl("create", "-f", "-", stdin=CLUSTER.encode())
        # Its provider's part: the contract's word that the infrastructure is there.
        await stage.admin.merge_patch(
            AWS_CLUSTER, stage.namespace, "cp-test", {"status": {"ready": True}}, subresource="status"
        )
        for manifest in (MACHINES, MACHINE_DEPLOYMENTS):
            stage.server.kubectl("create", "-f", "-", stdin=manifest.encode())
        await stage.told_core("cp-test")
        await stage.until(DEPLOYMENT, ["md-test"], lambda b: b.get("status", {}).get("replicas") == 2)
        machines = [each["metadata"]["name"] for each in await stage.admin.list(MACHINE, stage.namespace)]
        assert len(machines) == 3
        taken = await stage.until(MACHINE, machines, lambda b: bool(b["spec"]["bootstrap"].get("dataSecretName")))
        secrets = {name: str(body["spec"]["bootstrap"]["dataSecretName"]) for name, body in taken.items()}
        assert secrets["machine-test-0"] == "machine-test-config"
        configs = await stage.until(WORKER_CONFIG, secrets.values(), made)
        known = known_tokens(stage, "cp-test")
        assert len(known) == 3
        for machine, name in secrets.items():
            data = await data_of(stage, name)
            assert data["format"] == b"cloud-config"
            token = token_of(data)
            assert known[token.id] == token.secret
            commands = "\n".join(yaml.safe_load(data["value"])["runcmd"])
            assert "v1.27.2" in commands
            assert f"machine-name={machine}" in commands
            # So old a worker is the user's to want; that it is no good idea is said where he looks.
            said = conditions(configs[name])["Ready"]["message"]
            assert "v1.27.2+k0s.0 is too old for the control plane" in said

        # In the version that the page is written in they are as it has them, with that version's defaults.
        manifests = [each for text in (MACHINES, MACHINE_DEPLOYMENTS) for each in yaml.safe_load_all(text)]
        for each in manifests:
            if each["apiVersion"] == "bootstrap.cluster.x-k8s.io/v1beta1":
                kind, name = each["kind"].lower(), each["metadata"]["name"]
                words = ("get", f"{kind}s.v1beta1.bootstrap.cluster.x-k8s.io", name, "-n", "default", "-o", "yaml")
                shown = yaml.safe_load(stage.server.kubectl(*words))["spec"]
                inner = shown["template"]["spec"] if "template" in shown else shown
                assert inner == {"version": "v1.27.2+k0s.0", **DEFAULTS}

        await stage.admin.delete(CORE_CLUSTER, stage.namespace, "cp-test")
        await stage.until(WORKER_CONFIG, secrets.values(), lambda b: not b)
        await stage.until(SECRET, secrets.values(), lambda b: not b)
