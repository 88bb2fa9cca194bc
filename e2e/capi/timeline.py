"""From `kubectl apply` to nodes: which steps there are, when each was taken, and who was waited for meanwhile.

Each step is one party's turn: ours, core's, the infrastructure's, or the kubelets' (with the containers that they
start). A step shows in the API when it is done; until then everybody waits for that party. So the time between a step
and the one before is the time of the party whose step it is, and a step that was taken before its turn costs nothing.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

from e2e.capi import kinds
from e2e.lab.client import ApiError
from e2e.lab.network import LabError
from k0s_images.cache import say

Object = dict[str, Any]

US, CORE, INFRASTRUCTURE, KUBELET = "us", "core", "infrastructure", "kubelet"

_LIMIT = 600.0
#: How long after the nodes are Ready the last of the other steps may be seen.
LATE = 5.0


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something that one party has to do, and by which it can be seen that it has."""

    who: str
    what: str
    #: The collection where it shows.
    path: str
    #: Whether it is done, by the objects of the collection.
    done: Callable[[Sequence[Object]], bool]


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A step that was taken, and the seconds that were spent waiting for it alone."""

    who: str
    what: str
    seconds: float


def steps(*, cluster: str, control_plane: str, namespace: str, machines: int) -> tuple[Step, ...]:
    """The way of a Cluster with etcd of its own and so many machines, in the order in which one waits for another.

    The last step, nodes that are Ready, is in another API server: see `Timeline.taken`.
    """
    core = f"/apis/cluster.x-k8s.io/v1beta2/namespaces/{namespace}"
    control_planes = f"/apis/controlplane.cluster.x-k8s.io/v1beta2/namespaces/{namespace}/k0smotroncontrolplanes"
    configs = f"/apis/bootstrap.cluster.x-k8s.io/v1beta2/namespaces/{namespace}/k0sworkerconfigs"
    lab_machines = f"/apis/{kinds.GROUP}/{kinds.VERSION}/namespaces/{namespace}/labmachines"
    sets = f"/apis/apps/v1/namespaces/{namespace}/statefulsets"
    pods, etcd = f"kmc-{cluster}", f"kmc-{cluster}-etcd"

    def one(name: str, *keys: str) -> Callable[[Sequence[Object]], bool]:
        return lambda found: any(each["metadata"]["name"] == name and _at(each, *keys) for each in found)

    def all_of(*keys: str) -> Callable[[Sequence[Object]], bool]:
        return lambda found: sum(bool(_at(each, *keys)) for each in found) >= machines

    def step(who: str, what: str, path: str, done: Callable[[Sequence[Object]], bool]) -> Step:
        return Step(who=who, what=what, path=path, done=done)

    return (
        step(CORE, "owner of the control plane", control_planes, one(control_plane, "metadata", "ownerReferences")),
        step(US, "etcd asked for", sets, one(etcd, "spec")),
        step(KUBELET, "etcd is ready", sets, one(etcd, "status", "readyReplicas")),
        step(US, "controllers asked for", sets, one(pods, "spec")),
        step(KUBELET, "a controller is ready", sets, one(pods, "status", "readyReplicas")),
        step(US, "control plane initialized", control_planes,
             one(control_plane, "status", "initialization", "controlPlaneInitialized")),
        step(CORE, "the Cluster says so", f"{core}/clusters",
             one(cluster, "status", "initialization", "controlPlaneInitialized")),
        step(CORE, "Machines and their K0sWorkerConfigs", configs, lambda found: _owned(found) >= machines),
        step(US, "user data", configs, all_of("status", "initialization", "dataSecretCreated")),
        step(CORE, "user data known to the Machines", f"{core}/machines",
             all_of("spec", "bootstrap", "dataSecretName")),
        step(INFRASTRUCTURE, "machines boot and run it", lab_machines,
             all_of("status", "initialization", "provisioned")),
    )  # fmt: skip


def _owned(configs: Sequence[Object]) -> int:
    """How many have the owner that their bootstrap waits for: core makes a config before the Machine owns it."""
    owners = (each["metadata"].get("ownerReferences") or [] for each in configs)
    return sum(any(owner["kind"] == "Machine" for owner in each) for each in owners)


def _at(body: Mapping[str, Any], *keys: str) -> Any:
    found: Any = body
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


class Watching(Protocol):
    """What can be watched; see `e2e.lab.client.Client.watch`."""

    def watch(self, path: str, *, seconds: float) -> Iterator[Object]:
        """Events, the present objects first."""


@dataclass(kw_only=True)
class Timeline:
    """Watches from `with` on; the clock starts with `start`."""

    client: Watching
    steps: Sequence[Step]
    #: Seconds that `taken` waits for steps that have not been seen yet.
    late: float = LATE
    _done: dict[str, float] = field(default_factory=dict)
    _begun: float = 0.0
    _ended: threading.Event = field(default_factory=threading.Event)
    _all: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        for path in {each.path for each in self.steps}:
            mine = [each for each in self.steps if each.path == path]
            threading.Thread(target=self._follow, args=(path, mine), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()

    def start(self) -> None:
        """Now the user has said what he wants."""
        self._begun = time.monotonic()

    def taken(self, *, nodes: float) -> tuple[Taken, ...]:
        """All steps, the last of which (Ready nodes) was taken at `nodes` (of `time.monotonic`).

        `LabError` if one of them was never seen: then it was not measured either.
        """
        if not self._all.wait(self.late):
            missing = ", ".join(each.what for each in self.steps if each.what not in self._done)
            raise LabError(f"there are nodes, but this was never seen: {missing}")
        return waited(self.steps, self._done, begun=self._begun, ended=nodes)

    def _follow(self, path: str, steps: list[Step]) -> None:
        found: dict[str, Object] = {}
        while steps and not self._ended.is_set():
            try:
                for event in self.client.watch(path, seconds=_LIMIT):
                    if event["type"] == "ERROR":
                        break
                    uid = event["object"]["metadata"]["uid"]
                    found[uid] = event["object"]
                    if event["type"] == "DELETED":
                        del found[uid]
                    for each in [each for each in steps if each.done(list(found.values()))]:
                        self._done[each.what] = time.monotonic()
                        steps.remove(each)
                    if len(self._done) == len(self.steps):
                        self._all.set()
                    if not steps or self._ended.is_set():
                        return
            except (OSError, http.client.HTTPException, ApiError, ValueError) as error:
                say(f"timeline: watching {path}: {error}; again in a moment")
            self._ended.wait(0.5)


def waited(steps: Sequence[Step], done: Mapping[str, float], *, begun: float, ended: float) -> tuple[Taken, ...]:
    """How long each step was waited for, by the moments at which they were done; and Ready nodes at the end."""
    last, made = begun, []
    for each in steps:
        at = max(last, done[each.what])
        made.append(Taken(who=each.who, what=each.what, seconds=at - last))
        last = at
    return (*made, Taken(who=KUBELET, what="nodes are Ready", seconds=max(0.0, ended - last)))


def shares(taken: Sequence[Taken]) -> dict[str, float]:
    """Seconds of waiting by party."""
    made: dict[str, float] = {}
    for each in taken:
        made[each.who] = made.get(each.who, 0.0) + each.seconds
    return made


def table(taken: Sequence[Taken]) -> str:
    """One line a step, and the sums."""
    width = max(len(each.what) for each in taken)
    lines = [f"  {each.what:<{width}}  {each.seconds:6.2f} s  {each.who}" for each in taken]
    sums = ", ".join(f"{who} {seconds:.1f} s" for who, seconds in shares(taken).items())
    return "\n".join([*lines, f"  who was waited for: {sums}"])
