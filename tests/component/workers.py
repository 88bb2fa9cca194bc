"""Workers of Cluster API in component tests: the objects that a user makes, and what is looked at."""

from __future__ import annotations

import base64
from typing import Any

import yaml

from e2e.capi import kinds
from hosted_cp.k0s import tokens
from hosted_cp.kube.resources import MACHINE, SECRET, WORKER_CONFIG, Resource
from tests.component import certificates
from tests.component.capi import VERSION, CapiStage
from tests.component.certificates import Pair
from tests.component.hosting import Object, conditions

LAB_MACHINE = Resource(group=kinds.GROUP, version=kinds.VERSION, kind="LabMachine", plural="labmachines")
LAB_MACHINE_TEMPLATE = Resource(
    group=kinds.GROUP, version=kinds.VERSION, kind="LabMachineTemplate", plural="labmachinetemplates"
)
WORKER_TEMPLATE = Resource(
    group=WORKER_CONFIG.group, version="v1beta2", kind="K0sWorkerConfigTemplate", plural="k0sworkerconfigtemplates"
)
DEPLOYMENT = Resource(
    group="cluster.x-k8s.io", version="v1beta2", kind="MachineDeployment", plural="machinedeployments"
)


# --- the user's hands -------------------------------------------------------------------------------------------------


def body(stage: CapiStage, resource: Resource, name: str, **parts: Any) -> Object:
    metadata = {"name": name, "namespace": stage.namespace, **parts.pop("metadata", {})}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **parts}


async def machine(stage: CapiStage, name: str, *, cluster: str = "a", **spec: Any) -> None:
    """A Machine by itself: its config, its infrastructure, and the Machine that refers to both."""
    await stage.admin.create(WORKER_CONFIG, body(stage, WORKER_CONFIG, name, spec=spec))
    await stage.admin.create(LAB_MACHINE, body(stage, LAB_MACHINE, name, spec={}))
    await stage.admin.create(MACHINE, body(stage, MACHINE, name, spec=machine_spec(name, cluster)))


def machine_spec(name: str, cluster: str = "a") -> Object:
    config = {"apiGroup": WORKER_CONFIG.group, "kind": WORKER_CONFIG.kind, "name": name}
    return {
        "clusterName": cluster,
        "version": VERSION,
        "bootstrap": {"configRef": config},
        "infrastructureRef": {"apiGroup": kinds.GROUP, "kind": "LabMachine", "name": name},
    }


async def deployment(stage: CapiStage, name: str, replicas: int, **spec: Any) -> None:
    """A MachineDeployment with its templates."""
    await stage.admin.create(WORKER_TEMPLATE, body(stage, WORKER_TEMPLATE, name, spec={"template": {"spec": spec}}))
    inner: Object = {"template": {"spec": {}}}
    await stage.admin.create(LAB_MACHINE_TEMPLATE, body(stage, LAB_MACHINE_TEMPLATE, name, spec=inner))
    template = machine_spec(name)
    template["bootstrap"]["configRef"]["kind"] += "Template"
    template["infrastructureRef"]["kind"] += "Template"
    wanted = {"clusterName": "a", "replicas": replicas, "template": {"spec": template}}
    await stage.admin.create(DEPLOYMENT, body(stage, DEPLOYMENT, name, spec=wanted))


async def joins(stage: CapiStage, name: str, *, cluster: str = "a") -> None:
    """The machine's kubelet registers, and core sees the Node."""
    labels = {"k0smotron.io/machine-name": name}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {}}
    stage.tenants.register(stage.namespace, cluster, node)


async def seen_by_core(stage: CapiStage, name: str) -> None:
    status = {"status": {"nodeRef": {"name": name}}}
    await stage.admin.merge_patch(MACHINE, stage.namespace, name, status, subresource="status")


# --- looking ----------------------------------------------------------------------------------------------------------


def made(config: Object) -> bool:
    """Whether the bootstrap data of a config are there."""
    return conditions(config).get("Ready", {}).get("status") == "True"


def provisioned(machine: Object) -> bool:
    """Whether core knows the provider's id of a Machine."""
    return bool(machine.get("spec", {}).get("providerID"))


def why(config: Object) -> str:
    ready = conditions(config).get("Ready", {})
    return f"{ready.get('status')} {ready.get('reason')}: {ready.get('message')}"


async def data_of(stage: CapiStage, name: str) -> dict[str, bytes]:
    found = (await stage.admin.get(SECRET, stage.namespace, name)).body
    return {key: base64.b64decode(value) for key, value in found["data"].items()}


def token_of(data: dict[str, bytes]) -> tokens.JoinToken:
    return tokens.decode(yaml.safe_load(data["value"])["write_files"][0]["content"])


def known_tokens(stage: CapiStage, cluster: str = "a") -> dict[str, str]:
    """id -> secret half of the bootstrap tokens that a tenant holds."""
    held = [each["data"] for each in stage.tenants.objects(stage.namespace, cluster, "secrets")]
    return {plain(each["token-id"]): plain(each["token-secret"]) for each in held}


def plain(encoded: str) -> str:
    return base64.b64decode(encoded).decode()


async def a_cluster(stage: CapiStage, name: str = "a") -> None:
    await stage.create_cluster(name)
    await stage.serving(name)
    await stage.told_core(name)


def kubeconfig_to(server: str, server_name: str, authority: Pair, **user: Any) -> bytes:
    """A kubeconfig for an API server with this CA; `user` instead of an administrator's client certificate."""
    client = certificates.leaf(authority, "admin", organizations=("system:masters",))
    encoded = {
        "certificate-authority-data": authority.certificate, "client-certificate-data": client.certificate,
        "client-key-data": client.key,
    }  # fmt: skip
    ca, certificate, key = ({name: base64.b64encode(pem).decode()} for name, pem in encoded.items())
    cluster = {"server": server, "tls-server-name": server_name, **ca}
    return yaml.safe_dump(
        {
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": cluster}],
            "users": [{"name": "u", "user": user or {**certificate, **key}}],
        }
    ).encode()  # fmt: skip
