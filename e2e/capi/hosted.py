"""A cluster of `examples/capi/hosted.yaml` in the lab, from its creation to its end, step by step.

The demo shows these steps, and the end-to-end test takes them. All of them wait by watches, and bear that the tenant's
API does not answer while its only controller is replaced.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from e2e import tenants
from e2e.capi import manifests, timeline
from e2e.capi.programs import cluster_api
from e2e.capi.timeline import Timeline
from e2e.lab import client, state
from e2e.lab.client import ApiError
from e2e.lab.handle import Lab
from e2e.lab.network import LabError
from e2e.lab.processes import call
from e2e.tenants import Tenant
from k0s_images.choice import K0sImage

Object = dict[str, Any]

EXAMPLE = Path(__file__).parents[2] / "examples" / "capi" / "hosted.yaml"
_CORE = "/apis/cluster.x-k8s.io/v1beta2"
_CLUSTERS = "clusters.cluster.x-k8s.io"
_LIMIT = 300.0
#: How long the last objects may take to go once their Cluster is gone.
_COLLECTED = 60.0
#: What Kubernetes itself puts into every namespace, a moment after it was made.
_KUBERNETES_OWN = {"configmap/kube-root-ca.crt", "serviceaccount/default"}


@dataclass(frozen=True, kw_only=True)
class Hosted:
    """One such cluster: its name is that of the example."""

    lab: Lab
    namespace: str
    documents: Sequence[Object]
    #: What was there before.
    before: frozenset[str]

    @property
    def name(self) -> str:
        return self._named("Cluster")

    @property
    def control_plane(self) -> str:
        return f"k0smotroncontrolplanes/{self._named('K0smotronControlPlane')}"

    @property
    def workers(self) -> str:
        return f"machinedeployments/{self._named('MachineDeployment')}"

    def _named(self, kind: str) -> str:
        return str(next(each["metadata"]["name"] for each in self.documents if each["kind"] == kind))

    # -- the user's hands ----------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str, input: str | None = None, seconds: float = 60.0) -> str:
        """kubectl in the cluster's namespace, as the administrator of the management cluster."""
        return self.lab.kubectl("-n", self.namespace, *arguments, input=input, seconds=seconds)

    def apply(self, k0s: K0sImage) -> None:
        """`kubectl apply` the example, for this k0s."""
        self._apply(manifests.for_lab(self.lab, self.documents, k0s))

    def scale(self, count: int) -> None:
        """Ask for so many workers."""
        self.kubectl("scale", self.workers, f"--replicas={count}")

    def upgrade(self, k0s: K0sImage) -> None:
        """Ask for another version of the control plane."""
        change = {"version": manifests.kubelet_version(k0s), "image": k0s.repository}
        self._patch(self.control_plane, {"spec": change})

    def roll(self, k0s: K0sImage) -> None:
        """Ask for another version of the workers: by another template, as templates are not changed."""
        templates = [each for each in self.documents if each["kind"] == "K0sWorkerConfigTemplate"]
        found = manifests.for_lab(self.lab, templates, k0s)[0]
        found["metadata"]["name"] += f"-{k0s.minor.replace('.', '-')}"
        self._apply([found])
        spec = {
            "version": manifests.kubelet_version(k0s),
            "bootstrap": {"configRef": {"name": found["metadata"]["name"]}},
        }
        self._patch(self.workers, {"spec": {"template": {"spec": spec}}})

    def delete(self) -> None:
        """Delete the Cluster, and wait until nothing is left of it; `LabError` names what is."""
        self.kubectl("delete", f"{_CLUSTERS}/{self.name}", f"--timeout={_LIMIT:.0f}s", seconds=_LIMIT + 10)
        ends = time.monotonic() + _COLLECTED
        # What belonged to the Cluster is collected a moment later. No watch spans all kinds: it is looked again.
        while left := self.leftovers():
            if time.monotonic() > ends:
                raise LabError(f"the cluster {self.name} was deleted and has left {', '.join(left)}")
            time.sleep(0.5)

    def _apply(self, documents: Sequence[Object]) -> None:
        self.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(documents))

    def _patch(self, what: str, change: Object) -> None:
        self.kubectl("patch", what, "--type=merge", "-p", json.dumps(change))

    # -- waiting -------------------------------------------------------------------------------------------------

    def answers(self, folder: Path) -> Tenant:
        """Wait until core knows that the API server has answered; the tenant, by the kubeconfig that users get."""
        self._until(f"{_CORE}/namespaces/{self.namespace}/clusters", self.name, _initialized, what="no control plane")
        return tenants.kubeconfig(self.lab, self.name, folder, namespace=self.namespace)

    def runs(self, k0s: K0sImage) -> None:
        """Wait until core knows that all controllers run this version, and nothing else."""
        version = manifests.kubelet_version(k0s)

        def done(cluster: Object) -> bool:
            told = cluster.get("status", {}).get("controlPlane", {}).get("versions") or []
            return [each["version"] for each in told] == [version]

        path = f"{_CORE}/namespaces/{self.namespace}/clusters"
        self._until(path, self.name, done, what=f"the control plane does not run {version}")

    def works(self, tenant: Tenant, count: int, k0s: K0sImage) -> None:
        """Wait until the workers are exactly so many, of this version, all Ready, and no other Machine is there."""
        version = manifests.kubelet_version(k0s)

        def settled(workers: Object) -> bool:
            status = workers.get("status", {})
            counts = [status.get(key) for key in ("replicas", "upToDateReplicas", "readyReplicas", "availableReplicas")]
            seen = status.get("observedGeneration") == workers["metadata"]["generation"]
            return seen and counts == [count] * 4

        # Nodes first: right after a change core reports numbers that it has counted before.
        try:
            wait_for_nodes(tenant, count=count, version=version)
        except LabError as error:
            raise LabError(f"{error}\n{self.describe()}") from None
        path = f"{_CORE}/namespaces/{self.namespace}/machinedeployments"
        self._until(path, self._named("MachineDeployment"), settled, what=f"not {count} workers of {version}")

    def sums_up(self, count: int) -> None:
        """Wait until core has added up the workers in the Cluster itself, which it does last."""

        def done(cluster: Object) -> bool:
            workers = cluster.get("status", {}).get("workers", {})
            return [workers.get(key) for key in ("desiredReplicas", "replicas", "readyReplicas")] == [count] * 3

        path = f"{_CORE}/namespaces/{self.namespace}/clusters"
        self._until(path, self.name, done, what=f"the Cluster does not speak of {count} workers")

    def _until(self, path: str, name: str, until: Callable[[Object], bool], *, what: str) -> None:
        """Wait by watch; on failure say what core knows about it."""
        try:
            client.wait_for(self.lab.client(), path, name=name, until=until, seconds=_LIMIT, what=what)
        except LabError as error:
            raise LabError(f"{error}\n{self.describe()}") from None

    # -- looking -------------------------------------------------------------------------------------------------

    def timeline(self) -> Timeline:
        """The steps of this cluster's creation; to be entered before `apply`."""
        replicas = next(each["spec"]["replicas"] for each in self.documents if each["kind"] == "MachineDeployment")
        return Timeline(
            client=self.lab.client(),
            steps=timeline.steps(
                cluster=self.name, control_plane=self._named("K0smotronControlPlane"), namespace=self.namespace,
                machines=replicas,
            ),
        )  # fmt: skip

    def describe(self) -> str:
        """What `clusterctl describe cluster` shows; empty where there is no clusterctl."""
        clusterctl = cluster_api().clusterctl
        if clusterctl is None:
            return ""
        words = ["describe", "cluster", self.name, "--namespace", self.namespace]
        return call([clusterctl, *words, "--kubeconfig", self.lab.kubeconfig])

    def leftovers(self) -> list[str]:
        """Objects and machines that were not there before."""
        return sorted(_inventory(self.lab, self.namespace) - self.before)


def hosted(lab: Lab, *, namespace: str = "default") -> Hosted:
    """The cluster of the example, to be created in this namespace."""
    documents: list[Object] = list(yaml.safe_load_all(EXAMPLE.read_text(encoding="utf-8")))
    for each in documents:
        each["metadata"]["namespace"] = namespace
    return Hosted(lab=lab, namespace=namespace, documents=documents, before=_inventory(lab, namespace))


def wait_for_nodes(tenant: Tenant, *, count: int, version: str, seconds: float = _LIMIT) -> None:
    """Wait until a tenant has exactly so many nodes, all Ready and of this version; `LabError` says what it has.

    By a watch of the tenant, which may be away: its only controller may be just being replaced.
    """
    api = client.from_kubeconfig(tenant.kubeconfig)
    ends = time.monotonic() + seconds
    said = "it has not answered"
    while (left := ends - time.monotonic()) > 0:
        nodes: dict[str, Object] = {}
        try:
            for event in api.watch("/api/v1/nodes", seconds=left):
                if event["type"] == "ERROR":
                    break
                name = event["object"]["metadata"]["name"]
                nodes[name] = event["object"]
                if event["type"] == "DELETED":
                    del nodes[name]
                said = ", ".join(_in_short(each) for each in nodes.values()) or "no nodes"
                if len(nodes) == count and all(_is_ready(each, version) for each in nodes.values()):
                    return
        except (OSError, http.client.HTTPException, ssl.SSLError, ApiError, ValueError) as error:
            said = str(error)
            time.sleep(0.2)  # nobody there who could tell us when
    raise LabError(f"tenant {tenant.name}: not {count} Ready nodes of {version} after {seconds:.0f} s: {said}")


def _initialized(cluster: Object) -> bool:
    return bool(cluster.get("status", {}).get("initialization", {}).get("controlPlaneInitialized"))


def _is_ready(node: Object, version: str) -> bool:
    return _readiness(node) == "True" and node["status"]["nodeInfo"]["kubeletVersion"] == version


def _readiness(node: Object) -> str:
    conditions = node.get("status", {}).get("conditions") or []
    return str(next((each["status"] for each in conditions if each["type"] == "Ready"), "not told"))


def _in_short(node: Object) -> str:
    version = node.get("status", {}).get("nodeInfo", {}).get("kubeletVersion", "")
    return f"{node['metadata']['name']} {version} Ready={_readiness(node)}"


def _inventory(lab: Lab, namespace: str) -> frozenset[str]:
    """All objects of a namespace but Events, the volumes that are claimed from it, and the lab's edge machines."""
    kinds = lab.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    wanted = ",".join(each for each in kinds if each.partition(".")[0] != "events")
    objects = lab.kubectl("-n", namespace, "get", wanted, "--ignore-not-found", "-o", "name").split()
    volumes = json.loads(lab.kubectl("get", "persistentvolumes", "-o", "json"))["items"]
    claimed = [each for each in volumes if each["spec"].get("claimRef", {}).get("namespace") == namespace]
    known = state.read(lab.folder)
    return frozenset([
        *(each for each in objects if each not in _KUBERNETES_OWN),
        *(f"persistentvolume/{each['metadata']['name']}" for each in claimed),
        *(f"machine {name}" for name, _ in (known.edges if known else ())),
    ])  # fmt: skip


def blank_cells(described: str) -> list[str]:
    """Lines of `clusterctl describe` that say of an object neither whether it is well nor since when.

    Columns are where their titles are. Groups of objects, and what has no replicas, have empty cells by nature.
    """
    lines = described.strip().splitlines()
    title = lines[0]
    status, reason, since, message = (title.index(each) for each in ("STATUS", "REASON", "SINCE", "MESSAGE"))
    objects = [
        line for line in lines[1:] if ("/" in line[:status] and "─" in line[:status]) or line.startswith("Cluster")
    ]
    spans = ((status, reason), (reason, since), (since, message))
    return [line for line in objects if not all(line[start:end].strip() for start, end in spans)]
