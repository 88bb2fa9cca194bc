"""Actions: the only things a plan can ask for. `hosted_cp.executor` is the only code that carries them out.

An action says its target, its verb, its precondition and its deadline. Nothing random and nothing secret stands in one:
the content of a Secret is a *recipe* (see `hosted_cp.planning.recipes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

from hosted_cp.planning.recipes import Recipe

#: A Kubernetes object, as JSON would give it.
Object: TypeAlias = Mapping[str, Any]

#: The one field manager of everything we write by server-side apply.
FIELD_MANAGER = "hosted-cp"

#: Digest of what we wanted when we last wrote the object (`hosted_cp.planning.diff.desired_hash`).
HASH_ANNOTATION = "hosted-cp.io/desired-hash"


class Target(StrEnum):
    """Which API server an action speaks to."""

    MANAGEMENT = "management"
    #: Where the pods run. The same cluster as MANAGEMENT until remote hosts are supported.
    HOST = "host"
    #: The API of the tenant's own control plane.
    TENANT = "tenant"


@dataclass(frozen=True, kw_only=True, order=True, slots=True)
class Ref:
    """Names one object."""

    api_version: str
    kind: str
    namespace: str | None
    name: str

    @staticmethod
    def of(body: Object) -> Ref:
        metadata = body["metadata"]
        return Ref(
            api_version=body["apiVersion"],
            kind=body["kind"],
            namespace=metadata.get("namespace"),
            name=metadata["name"],
        )

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name}"


@dataclass(frozen=True, kw_only=True)
class Create:
    """POST the object. It must not exist: a 409 means that somebody was there first, so read it and plan again.

    With a recipe, `body` is a Secret without data, and the recipe makes the data. With a `Reusable` one, what is there
    after a 409 is compared: if it is ours and stands for what the recipe would make, it is kept, and its data are
    handed on to later recipes; if it is ours and does not, it is deleted with the UID found, and made anew by the next
    plan. "Ours" is what has the controller of `body`, or in a tenant, where nothing has one, all labels of `body`.
    What is not ours is left alone; in a tenant, of whose objects no view is kept, that is a failure.
    """

    body: Object
    target: Target = Target.MANAGEMENT
    recipe: Recipe | None = None
    #: Seconds for the whole action.
    deadline: float = 20.0
    #: False for objects of the tenant that k0s owns from then on (`default/kubernetes` Endpoints): no hash, an
    #: existing one is success.
    ours: bool = True
    #: Under this name the executor hands the data that it makes on to later recipes of the plan ("": its own name).
    material: str = ""

    @property
    def ref(self) -> Ref:
        return Ref.of(self.body)


@dataclass(frozen=True, kw_only=True)
class Apply:
    """Server-side apply of the full wanted object onto the existing one with this UID, by our one field manager.

    Never for objects that hold once-only material (CAs, keys, tokens). The executor first turns the managedFields entry
    of our POST into an apply entry, so that fields we no longer want do go.
    """

    body: Object
    uid: str
    target: Target = Target.MANAGEMENT
    deadline: float = 20.0

    @property
    def ref(self) -> Ref:
        return Ref.of(self.body)


@dataclass(frozen=True, kw_only=True)
class Replace:
    """PUT a Secret whose content is renewed by a recipe (a leaf certificate, a kubeconfig, a config).

    The precondition is UID and resourceVersion as seen. Labels and annotations of others are kept.
    """

    body: Object
    recipe: Recipe
    uid: str
    resource_version: str
    #: Of an `Annotating` recipe, the annotation that says which material the content is made of. As long as the Secret
    #: says what the recipe would, its content stays, and only the recipe's annotations are written. "": renew it.
    keep: str = ""
    target: Target = Target.MANAGEMENT
    deadline: float = 20.0

    @property
    def ref(self) -> Ref:
        return Ref.of(self.body)


@dataclass(frozen=True, kw_only=True)
class PatchMetadata:
    """Merge-patch labels, annotations, owner references or finalizers, and nothing else, of one existing object.

    A value of None removes a label or an annotation. `finalizers` and `owner_references` replace the whole list, which
    is why the seen resourceVersion is always a precondition.
    """

    ref: Ref
    uid: str
    resource_version: str
    labels: Mapping[str, str | None] = field(default_factory=dict)
    annotations: Mapping[str, str | None] = field(default_factory=dict)
    owner_references: tuple[Object, ...] | None = None
    finalizers: tuple[str, ...] | None = None
    target: Target = Target.MANAGEMENT
    deadline: float = 20.0


@dataclass(frozen=True, kw_only=True)
class IdentifyNode:
    """Write `spec.providerID` of a Node of the tenant that has none, and nothing else of it. Done once.

    The API refuses to change one that is there, so no Node can lose its own.
    """

    ref: Ref
    uid: str
    provider_id: str
    target: Target = Target.TENANT
    deadline: float = 20.0

    def patch(self) -> Object:
        """The merge patch (RFC 7386)."""
        return {"metadata": {"uid": self.uid}, "spec": {"providerID": self.provider_id}}


@dataclass(frozen=True, kw_only=True)
class MovePort:
    """Write the port of the tenant's own Endpoints `default/kubernetes`, and nothing else of them.

    k0s looks after them, but takes a new port only together with new addresses (k0s.md 9.3). Endpoints that are not
    there yet, or hold nothing, are not in need of it: k0s writes them with the port that it is configured with.
    """

    ref: Ref
    port: int
    target: Target = Target.TENANT
    deadline: float = 20.0

    def patch(self) -> list[Object]:
        """The operations (RFC 6902)."""
        return [{"op": "replace", "path": "/subsets/0/ports/0/port", "value": self.port}]


@dataclass(frozen=True, kw_only=True)
class Delete:
    """Delete exactly the object with this UID. One that is gone already is success."""

    ref: Ref
    #: None only in a tenant, of whose objects we keep no view: it is read first, and is ours with these `labels` on it.
    uid: str | None
    #: If given, only this version of it: what somebody has changed since it was seen is planned for anew.
    resource_version: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    propagation: str = "Background"
    target: Target = Target.MANAGEMENT
    deadline: float = 20.0


@dataclass(frozen=True, kw_only=True)
class PublishEndpoint:
    """Write `spec.controlPlaneEndpoint` of a user's object that has none, and nothing else of it.

    The only place where we write into a spec of a user's. By Cluster API's contract for control planes this field is
    the provider's to fill in, once: core copies it to the Cluster, and never looks again. The precondition is the seen
    resourceVersion, so what somebody else has written meanwhile stays.
    """

    ref: Ref
    uid: str
    resource_version: str
    host: str
    port: int
    target: Target = Target.MANAGEMENT
    deadline: float = 20.0

    def patch(self) -> Object:
        """The merge patch (RFC 7386)."""
        return {
            "metadata": {"uid": self.uid, "resourceVersion": self.resource_version},
            "spec": {"controlPlaneEndpoint": {"host": self.host, "port": self.port}},
        }


@dataclass(frozen=True, kw_only=True)
class AnnotatePods:
    """Write annotations of a workload's pod template and nothing else of it: its controller makes the pods anew.

    For objects of which it is not known what is wanted of the rest (`hosted_cp.hosting.upkeep`). The precondition is
    the seen resourceVersion.
    """

    ref: Ref
    uid: str
    resource_version: str
    annotations: Mapping[str, str]
    target: Target = Target.MANAGEMENT
    deadline: float = 20.0

    def patch(self) -> Object:
        """The merge patch (RFC 7386)."""
        return {
            "metadata": {"uid": self.uid, "resourceVersion": self.resource_version},
            "spec": {"template": {"metadata": {"annotations": dict(self.annotations)}}},
        }


Action: TypeAlias = (
    Create | Apply | Replace | PatchMetadata | Delete | PublishEndpoint | IdentifyNode | MovePort | AnnotatePods
)


@dataclass(frozen=True, kw_only=True)
class Event:
    """One Kubernetes Event. Its name derives from (uid, condition, transition time): a crash makes no second one."""

    type: str  # Normal | Warning
    reason: str
    message: str
    #: Condition type and the transition time (RFC 3339), from which the name is derived.
    condition: str
    transition: str
    #: Said before the status is written, so that a crash between the two does not lose it: for what has a time of its
    #: own. Where only the status keeps the transition time, the status comes first, or a crash would make two Events.
    first: bool = False


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A question to the world that the plan depends on. Its finding enters the next view; asking it changes nothing.

    `kind` names the prober (`tenant-api`, `dial`), `key` identifies the question within the tenant, `arguments` are
    public. A finding that is already there for the same kind, key and arguments is not asked again.
    """

    kind: str
    key: str
    arguments: tuple[tuple[str, str], ...] = ()
    #: Seconds.
    deadline: float = 5.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The answer to a `Probe`: what the world said, when. `message` is public."""

    probe: Probe
    ok: bool
    message: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one reconcile has decided.

    `actions` are carried out in order; the first that fails ends the run. `status` is the whole wanted status (None:
    leave it). It is written once, last, if it differs. `retry_after` (seconds) is only for what the clock alone brings
    about: an expiry, a renewal, a grace period.
    """

    actions: tuple[Action, ...] = ()
    status: Object | None = None
    events: tuple[Event, ...] = ()
    probes: tuple[Probe, ...] = ()
    retry_after: float | None = None
    #: That nothing follows from the status and the Events: seen with this status, the same world gives no other plan.
    #: It saves making one. Not so where the status is a step by itself (a reservation, an announcement).
    last_word: bool = False
