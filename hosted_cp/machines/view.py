"""Everything that one reconcile of a worker's bootstrap may know, read once, frozen.

Facts of others (Machines, Cluster API's Cluster, the control plane) are read here and nowhere else, by the paths of the
v1beta2 contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hosted_cp.api.problems import Problem
from hosted_cp.api.worker_config import K0sWorkerConfigSpec
from hosted_cp.pki.kubeconfig import host_and_port
from hosted_cp.planning.actions import Finding
from hosted_cp.planning.observed import Observed

CORE_GROUP = "cluster.x-k8s.io"
MACHINE = "Machine"
MACHINE_POOL = "MachinePool"
PAUSED = "cluster.x-k8s.io/paused"

_KUBECONFIG = "-kubeconfig"


@dataclass(frozen=True, kw_only=True)
class ControlPlane:
    """What a worker has to know of the control plane that it joins, of whatever kind that is."""

    #: In the words of Cluster API (`v1.36.3+k0s`); "" if nothing is known yet.
    version: str = ""
    #: The release of k0s that it runs (`v1.36.3+k0s.2`); "" if that is not known.
    release: str = ""
    #: Whether others run it: then of its version nothing is known here, and it is reached by its kubeconfig.
    foreign: bool = False


@dataclass(frozen=True, kw_only=True)
class Way:
    """How the operator reaches the tenant, and by which CA that is known."""

    #: UID of the object that stands for the tenant.
    uid: str
    #: URL for the operator, and the name in the certificate where it is not the host.
    server: str
    server_name: str = ""
    #: Name of the Secret with the tenant's CA; or with a kubeconfig, in which that CA is.
    authority: str
    kubeconfig: bool = False


@dataclass(frozen=True, kw_only=True)
class WorkerView:
    """What is known of one K0sWorkerConfig; all objects are of its namespace."""

    now: datetime
    owner: Observed
    #: None where it cannot be read at all (then `problems` says why).
    spec: K0sWorkerConfigSpec | None
    problems: tuple[Problem, ...] = ()
    #: The Machine or MachinePool that owns it, if that exists.
    machine: Observed | None = None
    #: The Cluster of Cluster API that the machine names.
    cluster: Observed | None = None
    #: None where the Cluster's control plane is to be one of ours, and does not exist.
    control_plane: ControlPlane | None = None
    #: None while the tenant cannot be reached.
    way: Way | None = None
    #: The Secret with the tenant's CA, or with its kubeconfig.
    authority: Observed | None = None
    #: The object under the config's own name, whoever owns it.
    secret: Observed | None = None
    #: (kind, name) -> the Secrets and ConfigMaps that the spec takes content from. Absent means: does not exist.
    sources: Mapping[tuple[str, str], Observed] = field(default_factory=dict)
    catalogue: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    #: Why the last plan could not be carried out ("" if it was).
    failure: str = ""
    reaches_tenants: bool = True

    # -- the machine ---------------------------------------------------------------------------------------------

    @property
    def pool(self) -> bool:
        return self.machine is not None and self.machine.ref.kind == MACHINE_POOL

    def asks(self, *path: str) -> str:
        """A text of the machine's spec (of a pool: of each of its machines)."""
        before = ("spec", "template", "spec") if self.pool else ("spec",)
        found = self.machine.get(*before, *path, default="") if self.machine is not None else ""
        return found if isinstance(found, str) else ""

    @property
    def handed_over(self) -> str:
        """The name of the Secret that Cluster API has taken note of: from then on the data may be in use."""
        return self.asks("bootstrap", "dataSecretName")

    @property
    def joined(self) -> bool:
        """Whether the machine has become a Node. A pool never has: others may join at any time."""
        return not self.pool and self.machine is not None and bool(self.machine.get("status", "nodeRef", "name"))

    @property
    def leaving(self) -> bool:
        """Whether the machine is on its way out, so that it need not join any more."""
        return self.machine is not None and self.machine.deleting

    # -- the cluster ---------------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        stopped = self.cluster is not None and self.cluster.get("spec", "paused", default=False) is True
        return stopped or PAUSED in self.owner.annotations

    def initialized(self, what: str) -> bool:
        """A member of the Cluster's `status.initialization`."""
        return self.cluster is not None and self.cluster.get("status", "initialization", what, default=False) is True

    @property
    def endpoint(self) -> tuple[str, int] | None:
        """Where machines reach the API: what the Cluster has published; else what its kubeconfig says."""
        if self.cluster is None:
            return None
        host = self.cluster.get("spec", "controlPlaneEndpoint", "host", default="")
        port = self.cluster.get("spec", "controlPlaneEndpoint", "port", default=0)
        if isinstance(host, str) and host and isinstance(port, int) and port:
            return host, port
        return host_and_port(self.way.server) if self.way is not None and self.way.kubeconfig else None

    @property
    def names_control_plane(self) -> bool:
        """Whether the Cluster says what its control plane is. Where it does not, core never calls it initialized."""
        return self.cluster is not None and bool(self.cluster.get("spec", "controlPlaneRef", "kind", default=""))

    def finding(self, kind: str) -> Finding | None:
        return next((each for each in self.findings if each.probe.kind == kind), None)


def cluster_name(machine: Observed) -> str:
    """The name of the Cluster that a Machine or MachinePool belongs to."""
    found = machine.get("spec", "clusterName", default="")
    return found if isinstance(found, str) else ""


def kubeconfig_name(cluster: str) -> str:
    """The Secret with the kubeconfig of a Cluster (core's rule)."""
    return f"{cluster}{_KUBECONFIG}"


def cluster_of_kubeconfig(secret: str) -> str:
    """The Cluster whose kubeconfig a Secret of this name would hold; "" if it is none of these."""
    return secret.removesuffix(_KUBECONFIG) if secret.endswith(_KUBECONFIG) else ""


def owning_machine(owner: Observed) -> Mapping[str, Any] | None:
    """The owner reference to a Machine or MachinePool of Cluster API, of whatever version."""
    for each in owner.owner_references:
        if each.get("kind") in (MACHINE, MACHINE_POOL) and group_of(each) == CORE_GROUP:
            return each
    return None


def group_of(reference: Mapping[str, Any]) -> str:
    """The API group of an owner reference."""
    return str(reference.get("apiVersion", "")).partition("/")[0]
