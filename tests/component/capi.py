"""Hosted control planes of Cluster API in component tests: the real core, the lab's infrastructure, our operator.

Pods are played by the stand-in kubelet, and the API servers in them by the stand-in tenants, as for `Cluster`. What a
stand-in cannot be is reached by core itself: core reads kubeconfigs, and finds nobody at the addresses in them.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from e2e.capi import core, kinds
from e2e.capi.infrastructure import Provider
from e2e.capi.programs import NEWEST
from e2e.lab.client import from_kubeconfig
from hosted_cp.api.base import Kind
from hosted_cp.api.cluster import Cluster
from hosted_cp.api.join_token_request import JoinTokenRequest
from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.credentials import certificate_credentials
from hosted_cp.kube.errors import Conflict, NotFound
from hosted_cp.kube.resources import (
    CONTROL_PLANE,
    CORE_CLUSTER,
    NAMESPACE,
    NETWORK_POLICY,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    POD_DISRUPTION_BUDGET,
    SECRET,
    SERVICE,
    STATEFUL_SET,
    Resource,
)
from k0s_images.golang import components
from tests.component.apiserver import Server, running
from tests.component.core_manager import managing
from tests.component.hosting import (
    DEPLOYED,
    NODE_ADDRESS,
    OPERATOR,
    Object,
    Stage,
    conditions,
    node,
    storage_class,
)
from tests.component.kubelet import NODE, StandInKubelet
from tests.component.standin_tenants import StandInTenants
from tests.component.test_core_manager import Shelf
from tests.component.webhook import install, judging

LAB_CLUSTER = Resource(group=kinds.GROUP, version=kinds.VERSION, kind="LabCluster", plural="labclusters")
VERSION = "v1.36.3+k0s"
#: Which series of core's releases runs; `make test-all` runs these tests with the older one, too.
CORE = os.environ.get("HOSTED_CP_CORE", NEWEST)
#: Whatever a cluster consists of, for comparisons of everything.
EVERYTHING = (
    CORE_CLUSTER, LAB_CLUSTER, CONTROL_PLANE, SERVICE, SECRET, STATEFUL_SET, POD_DISRUPTION_BUDGET, NETWORK_POLICY,
    PERSISTENT_VOLUME_CLAIM, POD,
)  # fmt: skip


@contextmanager
def standalone(folder: Path, *more: type[Kind]) -> Iterator[Server]:
    """A management cluster with kinds of ours and the webhook for them, the operator's rights, a node and storage.

    Without Cluster API: `Cluster` and `JoinTokenRequest` alone, and of the others those that are named.
    """
    ours: tuple[type[Kind], ...] = (Cluster, JoinTokenRequest, *more)
    wanted = {f"{kind.plural}.{kind.group}.json" for kind in ours}
    with judging(folder / "webhook") as (definitions, admission):
        for file in definitions.iterdir():
            if file.name not in wanted:
                file.unlink()
        with _deployed(folder, definitions) as server:
            install(server, [admission])
            yield server


@contextmanager
def _deployed(folder: Path, definitions: Path) -> Iterator[Server]:
    with running(folder / "server", components("1.36"), crds=definitions) as server:
        assert not server.refused_kinds, server.refused_kinds
        shipped = yaml.safe_load_all(DEPLOYED.read_text(encoding="utf-8"))
        rights = [each for each in shipped if each["kind"] != "Deployment"]
        server.kubectl("create", "-f", "-", stdin=core.as_yaml([*rights, node(), storage_class()]))
        address = {"status": {"addresses": [{"type": "InternalIP", "address": NODE_ADDRESS}]}}
        words = ["--subresource=status", "--type=merge", "-p", orjson.dumps(address).decode()]
        server.kubectl("patch", "node", NODE, *words)
        yield server


@contextmanager
def management(folder: Path) -> Iterator[Server]:
    """A management cluster as users have it, and an infrastructure provider, whose machines are notes on a shelf."""
    with installed(folder) as server, Provider(from_kubeconfig(server.folder / "admin.kubeconfig"), Shelf()):
        yield server


@contextmanager
def installed(folder: Path) -> Iterator[Server]:
    """Core, and all of ours as a user installs it, with conversion and admission by our webhook."""
    with judging(folder / "webhook") as (definitions, admission), _deployed(folder, definitions) as server:
        install(server, [admission])
        server.kubectl("create", "-f", "-", stdin=core.as_yaml(kinds.crds()))
        with managing(server, series=CORE):
            yield server


def bare_core_clusters() -> Object:
    """Core's Cluster as a definition without anybody behind it."""
    open_ended = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": CORE_CLUSTER.version, "served": True, "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": open_ended, "status": open_ended}}},
    }  # fmt: skip
    names = {"kind": CORE_CLUSTER.kind, "plural": CORE_CLUSTER.plural}
    spec = {"group": CORE_CLUSTER.group, "scope": "Namespaced", "names": names, "versions": [version]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": CORE_CLUSTER.definition}, "spec": spec,
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CapiStage(Stage):
    """A stage with Cluster API on it."""

    # -- the user's hands ----------------------------------------------------------------------------------------

    def cluster(self, name: str, **spec: Any) -> Object:
        """The Cluster of a control plane `<name>-cp`."""
        return {
            "apiVersion": CORE_CLUSTER.api_version,
            "kind": "Cluster",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "infrastructureRef": {"apiGroup": kinds.GROUP, "kind": "LabCluster", "name": name},
                "controlPlaneRef": {"apiGroup": CONTROL_PLANE.group, "kind": CONTROL_PLANE.kind, "name": f"{name}-cp"},
                **spec,
            },
        }

    def infrastructure(self, name: str) -> Object:
        """Its infrastructure."""
        metadata = {"name": name, "namespace": self.namespace}
        return {"apiVersion": LAB_CLUSTER.api_version, "kind": "LabCluster", "metadata": metadata}

    def control_plane(self, name: str, **spec: Any) -> Object:
        """Its control plane: etcd, one replica, node ports."""
        metadata = {"name": f"{name}-cp", "namespace": self.namespace}
        wanted = {"version": VERSION, "service": {"type": "NodePort"}, **spec}
        return {
            "apiVersion": CONTROL_PLANE.api_version, "kind": CONTROL_PLANE.kind, "metadata": metadata, "spec": wanted
        }  # fmt: skip

    async def create_cluster(self, name: str, *, cluster: Object | None = None, **spec: Any) -> None:
        """All three, as from one manifest."""
        await self.user_creates(self.cluster(name, **(cluster or {})))
        await self.user_creates(self.infrastructure(name))
        await self.user_creates(self.control_plane(name, **spec))

    async def user_creates(self, body: Object) -> Object:
        """Create an object under a field manager that is not the operator's."""
        resource = {each.kind + each.api_version: each for each in (CORE_CLUSTER, LAB_CLUSTER, CONTROL_PLANE)}
        made = await self.admin.create(resource[body["kind"] + body["apiVersion"]], body, manager="user")
        return made.body

    async def change_control_plane(self, name: str, **spec: Any) -> None:
        await self.admin.merge_patch(CONTROL_PLANE, self.namespace, f"{name}-cp", {"spec": spec})

    async def change_cluster(self, name: str, **spec: Any) -> None:
        await self.admin.merge_patch(CORE_CLUSTER, self.namespace, name, {"spec": spec})

    # -- looking and waiting ---------------------------------------------------------------------------------------

    async def seen(self, name: str) -> Object:
        """The control plane of a cluster."""
        return (await self.admin.get(CONTROL_PLANE, self.namespace, f"{name}-cp")).body

    async def core_seen(self, name: str) -> Object:
        """The Cluster."""
        return (await self.admin.get(CORE_CLUSTER, self.namespace, name)).body

    async def serving(self, *names: str, **words: Any) -> dict[str, Object]:
        """Wait until these clusters' control planes are at rest and Available, for the spec they have now."""
        return await self.until(CONTROL_PLANE, [f"{name}-cp" for name in names], at_rest, **words)

    async def told_core(self, *names: str) -> dict[str, Object]:
        """Wait until core knows that the control planes of these clusters are there, and where."""
        return await self.until(CORE_CLUSTER, names, known_to_core)

    async def all_gone(self, *names: str) -> None:
        """Wait until nothing is left of these clusters."""
        for name in names:
            await self.until(CONTROL_PLANE, [f"{name}-cp"], lambda body: not body)
            await self.until(CORE_CLUSTER, [name], lambda body: not body)
            await self.until(LAB_CLUSTER, [name], lambda body: not body)

    async def versions_of_everything(self) -> dict[str, str]:
        """resourceVersions of all objects of the namespace."""
        return {
            f"{resource.plural} {body['metadata']['name']}": body["metadata"]["resourceVersion"]
            for resource in EVERYTHING
            for body in await self.admin.list(resource, self.namespace)
        }

    async def quiet(self, *, seconds: float, patience: float = 90.0) -> None:
        """Wait until nothing has changed for so many seconds; fail if that does not come."""
        async with asyncio.timeout(patience):
            before = await self.versions_of_everything()
            while True:
                await asyncio.sleep(seconds)
                now = await self.versions_of_everything()
                if now == before:
                    return
                before = now

    async def remaining(self) -> list[str]:
        """What is left in the namespace of the kinds that a control plane consists of."""
        found = []
        for resource in EVERYTHING:
            if resource not in (PERSISTENT_VOLUME_CLAIM, POD):
                found += [f"{resource.plural} {b['metadata']['name']}" for b in await self.listed(resource)]
        return found

    async def inventory(self) -> dict[str, str]:
        """Everything that the namespace holds, of whatever kind the server knows: "kind name" -> resourceVersion.

        Without what Kubernetes itself keeps there, and without what is written about things rather than of them.
        """
        found = {}
        for resource in namespaced_kinds(self.server):
            for body in await self.listed(resource):
                name = body["metadata"]["name"]
                if (resource.kind, name) not in _OF_EVERY_NAMESPACE and resource.kind not in _MERE_WORDS:
                    found[f"{resource.kind}.{resource.group} {name}"] = body["metadata"]["resourceVersion"]
        return found

    async def settled(self, *, seconds: float, patience: float = 90.0) -> dict[str, str]:
        """The inventory, when nothing has come, gone or changed in it for so many seconds; fails if that does not
        come."""
        before = await self.inventory()
        changed: set[str] = set()
        try:
            async with asyncio.timeout(patience):
                while True:
                    await asyncio.sleep(seconds)
                    now = await self.inventory()
                    if now == before:
                        return now
                    changed = {each for each in {*now, *before} if now.get(each) != before.get(each)}
                    before = now
        except TimeoutError:
            raise AssertionError(f"no rest within {patience:.0f} s; last changed: {sorted(changed)}") from None

    async def listed(self, resource: Resource) -> list[Object]:
        try:
            return list(await self.admin.list(resource, self.namespace))
        except NotFound:
            return []


#: In every namespace, by the server's own controllers.
_OF_EVERY_NAMESPACE = {("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")}
_MERE_WORDS = {"Event", "EndpointSlice", "Endpoints", "ControllerRevision"}


def namespaced_kinds(server: Server) -> list[Resource]:
    """Every kind in namespaces that a server can list, each in the version that it prefers."""
    lines = server.kubectl("api-resources", "--namespaced=true", "--verbs=list", "--no-headers").decode().splitlines()
    found = []
    for line in lines:
        plural, *_, api_version, _, kind = line.split()
        group, _, version = api_version.rpartition("/")
        found.append(Resource(group=group, version=version, kind=kind, plural=plural))
    return found


def at_rest(body: Object) -> bool:
    """Whether a control plane is Available, rolled out and scaled, for the spec that it has now."""
    if not body:
        return False
    known, status, generation = conditions(body), body.get("status", {}), body["metadata"]["generation"]
    want = {"Available": "True", "RollingOut": "False", "ScalingUp": "False", "ScalingDown": "False"}
    replicas = body["spec"].get("replicas", 1)
    return (
        all(known.get(kind, {}).get("status") == value for kind, value in want.items())
        and status.get("observedGeneration") == generation
        and status.get("initialization", {}).get("controlPlaneInitialized") is True
        and status.get("readyReplicas") == status.get("upToDateReplicas") == status.get("replicas") == replicas
        and status.get("version") == body["spec"].get("version", status.get("version"))
        and bool(body["spec"].get("controlPlaneEndpoint"))
    )


def known_to_core(body: Object) -> bool:
    """Whether the Cluster says that its control plane is initialized and where it is."""
    initialized = body.get("status", {}).get("initialization", {}).get("controlPlaneInitialized")
    return bool(initialized) and bool(body["spec"].get("controlPlaneEndpoint"))


def status_of(body: Object, kind: str) -> str:
    """The status of a condition; "" if it is not there."""
    return str(conditions(body).get(kind, {}).get("status", "")) if body else ""


def managers(body: Object) -> set[str]:
    """Who has written any field of an object."""
    return {each["manager"] for each in body["metadata"].get("managedFields", ())}


def fields_of(body: Object, manager: str) -> list[Object]:
    """The fields that a manager has written, outside the status."""
    return [
        each["fieldsV1"]
        for each in body["metadata"].get("managedFields", ())
        if each["manager"] == manager and not each.get("subresource")
    ]


@asynccontextmanager
async def staged(server: Server, kubelet: StandInKubelet, tenants: StandInTenants) -> AsyncIterator[CapiStage]:
    """A fresh namespace; its deletion is begun at the end, and not waited for."""
    access = server.access(OPERATOR, "system:serviceaccounts", "system:serviceaccounts:hosted-cp")
    admin = server.admin
    credentials = certificate_credentials(
        server=admin.server, ca=admin.ca, certificate=admin.pair.certificate, key=admin.pair.key
    )
    name = f"capi-{uuid.uuid4().hex[:8]}"
    async with ApiClient(credentials, agent="component-test") as client:
        await client.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        yield CapiStage(server=server, admin=client, kubelet=kubelet, tenants=tenants, namespace=name, access=access)
        with suppress(NotFound, Conflict):  # a test may have done it
            await client.delete(NAMESPACE, None, name)
