"""Everything that one reconcile of a tenant may know, read once, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hosted_cp.api.cluster import ClusterSpec
from hosted_cp.api.problems import Problem
from hosted_cp.hosting.names import FINALIZER
from hosted_cp.hosting.settings import Settings
from hosted_cp.planning.actions import Finding
from hosted_cp.planning.observed import Observed


@dataclass(frozen=True, kw_only=True)
class NodeAddress:
    """One address of a node of the management cluster. `type` is Kubernetes' (`ExternalIP`, `InternalIP`, …)."""

    node: str
    type: str
    address: str


@dataclass(frozen=True, kw_only=True)
class TenantView:
    """What is known of one tenant. Mappings are keyed by (kind, name); all objects are of the tenant's namespace.

    Tenants are asked for by a `Cluster` or by a `K0smotronControlPlane`. What differs between the two is data here:
    nothing that plans a tenant asks for the kind of its owner.
    """

    now: datetime
    #: The user's object that asks for the tenant.
    owner: Observed
    #: The tenant's name, from which the names of all its objects derive; and what gave it, in a user's words.
    name: str
    named_by: str = "metadata.name"
    #: Whether Cluster API's core reads the kubeconfig, too. It sees labelled Secrets alone.
    read_by_core: bool = False
    #: The finalizer that holds the owner until the tenant is gone.
    finalizer: str = FINALIZER
    #: What the owner's status said last, in the words of `Cluster`; None: as the owner has it.
    reported: Mapping[str, Any] | None = None
    #: The words in which the version was asked for, if they have to be remembered beside what they mean.
    version_text: str = ""
    #: Another kind's object of this namespace that asks for a tenant of the same name.
    rival: Observed | None = None
    #: Whether this owner is the one that steps back, as long as neither of the two has anything.
    gives_way: bool = True
    #: Its spec, or None where it cannot be read at all (then `problems` says why).
    spec: ClusterSpec | None
    problems: tuple[Problem, ...] = ()
    settings: Settings
    #: Objects under the names that a tenant uses, whoever owns them, and objects that the owner controls.
    children: Mapping[tuple[str, str], Observed] = field(default_factory=dict)
    #: Pods and volume claims with the tenant's selector labels.
    pods: tuple[Observed, ...] = ()
    claims: tuple[Observed, ...] = ()
    #: The Secrets that the spec names (their facts). Absent means: does not exist.
    references: Mapping[tuple[str, str], Observed] = field(default_factory=dict)
    #: Addresses of the cluster's nodes; None where the operator may not list them.
    nodes: tuple[NodeAddress, ...] | None = ()
    #: Names of the cluster's StorageClasses; None where the operator may not list them.
    storage_classes: frozenset[str] | None = None
    findings: tuple[Finding, ...] = ()
    #: Why the last plan of this tenant could not be carried out ("" if it was): the API server's words.
    failure: str = ""
    #: Whether the administrator allows hostPath and the like in the tenant's namespace.
    privileged: bool = False

    @property
    def said(self) -> Mapping[str, Any]:
        """The owner's status as it was last written, in the words of `Cluster`."""
        found: Mapping[str, Any] = self.owner.get("status", default={}) if self.reported is None else self.reported
        return found

    @property
    def initialized(self) -> bool:
        """Whether the tenant has ever answered us, as the status remembers."""
        return bool(self.said.get("initialized"))

    def child(self, kind: str, name: str) -> Observed | None:
        return self.children.get((kind, name))

    def own(self, kind: str, name: str) -> Observed | None:
        """The child if it is ours: controlled by the owner, by UID."""
        found = self.children.get((kind, name))
        return found if found is not None and found.controller_uid == self.owner.uid else None

    @property
    def owned(self) -> tuple[Observed, ...]:
        """Everything that the owner controls, by UID, in a stable order."""
        mine = (child for child in self.children.values() if child.controller_uid == self.owner.uid)
        return tuple(sorted(mine, key=lambda child: child.ref))

    def finding(self, kind: str, key: str) -> Finding | None:
        return next((f for f in self.findings if f.probe.kind == kind and f.probe.key == key), None)
