"""From `kubectl apply` to the first successful call, in the lab, with real pods; and the same pods started by hand.

By hand means: what the operator made for a tenant is kept, the tenant goes, and the same objects (Services, Secrets,
StatefulSets, the permit for empty volumes granted) are applied to the same namespace by one `kubectl apply`. Nobody
decides, waits or signs anything then, so it is what the operator can be compared with. The two alternate, so that the
machine is as busy for one as for the other.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from e2e import operator, tenants
from e2e.bench import moments as phases
from e2e.bench.figures import Figure, medians
from e2e.bench.moments import FIRST_CALL, Seen, bare, moments, restarts
from e2e.lab import client, cluster
from e2e.lab.handle import Lab
from e2e.lab.network import LabError
from hosted_cp.hosting.names import TENANT_UID
from k0s_images.cache import say
from k0s_images.choice import K0sImage, choose, given_binary

LAB = "bench"
TENANT = "timed"
_NAMESPACE = "bench"

#: Seconds after which a start counts as failed.
_LIMIT = 180.0
#: Seconds between two attempts of the first call.
_ATTEMPT = 0.05

_WATCHED = {
    "Cluster": "/apis/k0smotron.io/v1beta2/namespaces/{}/clusters",
    "Service": "/api/v1/namespaces/{}/services",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
    "Pod": "/api/v1/namespaces/{}/pods",
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All runs, and what they say together."""

    k0s: str
    #: Moments by phase, in seconds after `kubectl apply` was started, of each run.
    operated: tuple[dict[str, float], ...]
    by_hand: tuple[dict[str, float], ...]
    #: Containers that were started again, in all runs.
    restarts: tuple[int, int]

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Medians, and how the two ways compare."""
        ours, hand = medians(self.operated), medians(self.by_hand)
        first, by_hand = ours[FIRST_CALL], hand[FIRST_CALL]
        return (
            Figure(what="first call with the operator", value=first, unit="s"),
            Figure(what="first call by hand", value=by_hand, unit="s"),
            Figure(what="difference", value=first - by_hand, unit="s", budget=2.0),
            Figure(what="ratio", value=first / by_hand),
            Figure(
                what="workers can join, after the first call", value=ours[phases.JOINABLE] - first, unit="s", budget=1.0
            ),
            Figure(what="the same by hand", value=hand[phases.JOINABLE] - by_hand, unit="s", note="k0s's own tick"),
            Figure(what="containers started again: operator", value=self.restarts[0]),
            Figure(what="containers started again: by hand", value=self.restarts[1]),
        )

    def printed(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "k0s": self.k0s, "operated": self.operated, "byHand": self.by_hand,
            "figures": [each.printed() for each in self.figures],
        }  # fmt: skip


def measure(runs: int, *, keep: bool = False) -> Outcome:
    """So many starts of each kind, one after the other. The lab is taken down at the end, unless it is to be kept."""
    k0s = choose(binary=given_binary())
    say(f"control planes run {k0s.says}")
    lab = cluster.up(LAB)
    try:
        lab.load_images(operator.image_archives(k0s))
        operator.deploy(lab, k0s)
        lab.kubectl("api-resources")  # kubectl keeps what it learns: the first apply shall not be the one that learns
        operated, by_hand, again = [], [], [0, 0]
        for number in range(1, runs + 1):
            with _namespace(lab):
                say(f"run {number} of {runs}: with the operator")
                seen, took = _with_operator(lab, k0s)
            operated.append(took)
            again[0] += restarts(seen)
            objects = _as_first_seen(seen)
            with _namespace(lab):
                say(f"run {number} of {runs}: by hand")
                seen, took = _by_hand(lab, objects)
            by_hand.append(took)
            again[1] += restarts(seen)
    finally:
        if not keep:
            cluster.down(LAB)
    return Outcome(k0s=k0s.says, operated=tuple(operated), by_hand=tuple(by_hand), restarts=(again[0], again[1]))


@contextmanager
def _namespace(lab: Lab) -> Iterator[None]:
    """The one namespace of all starts; gone with everything in it afterwards."""
    _clear(lab)  # what a run that was killed has left
    lab.kubectl("create", "namespace", _NAMESPACE)
    try:
        lab.kubectl("wait", "--for=create", "serviceaccount/default", "-n", _NAMESPACE, "--timeout=30s")
        yield
    finally:
        _clear(lab)


def _clear(lab: Lab) -> None:
    lab.kubectl("-n", _NAMESPACE, "delete", "kmc", "--all", "--timeout=60s", seconds=70)
    # The controllers before their store: without it they would need their whole grace period.
    controllers = ("delete", f"statefulset/kmc-{TENANT}", "--ignore-not-found", "--cascade=foreground")
    lab.kubectl("-n", _NAMESPACE, *controllers, "--timeout=120s", seconds=130)
    lab.kubectl("delete", "namespace", _NAMESPACE, "--ignore-not-found", "--timeout=120s", seconds=130)


def _with_operator(lab: Lab, k0s: K0sImage) -> tuple[list[Seen], dict[str, float]]:
    manifest = tenants.for_lab(
        {
            "apiVersion": "k0smotron.io/v1beta2",
            "kind": "Cluster",
            "metadata": {"name": TENANT, "namespace": _NAMESPACE},
            "spec": {
                "version": k0s.tag.replace("-k0s.", "+k0s."),
                "service": {"type": "NodePort"},
                "storage": {"type": "etcd"},
            },
        }
    )
    return _timed(lab, [manifest], wanted=(FIRST_CALL, phases.JOINABLE, phases.READY, phases.AVAILABLE))


def _by_hand(lab: Lab, objects: list[dict[str, Any]]) -> tuple[list[Seen], dict[str, float]]:
    return _timed(lab, objects, wanted=(FIRST_CALL, phases.JOINABLE, phases.READY))


def _as_first_seen(seen: list[Seen]) -> list[dict[str, Any]]:
    """The objects of the tenant as they were when they were made: so the permit grants a first start."""
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for each in sorted(seen, key=lambda one: one.at):
        kind, metadata = each.body["kind"], each.body["metadata"]
        if kind in ("Service", "Secret", "StatefulSet") and TENANT_UID in metadata.get("labels", {}):
            first.setdefault((kind, metadata["name"]), bare(each.body))
    return list(first.values())


def _timed(lab: Lab, objects: list[dict[str, Any]], *, wanted: tuple[str, ...]) -> tuple[list[Seen], dict[str, float]]:
    """Apply and watch until all wanted phases have ended. The moments are seconds since kubectl was started."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    with TemporaryDirectory(prefix="hosted-cp-bench-") as folder:
        watching = _Watching(lab=lab, folder=Path(folder))
        watching.begin()
        try:
            watching.start_clock()
            lab.kubectl("apply", "-f", "-", input=text)
            watching.until(wanted)
            return watching.seen, watching.moments()
        finally:
            watching.end()


@dataclass(kw_only=True)
class _Watching:
    """Threads that note what happens to a tenant: one for each watched kind, and one that tries the first call."""

    lab: Lab
    folder: Path
    seen: list[Seen] = field(default_factory=list)
    called: dict[str, float] = field(default_factory=dict)
    _zero: float = 0.0
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def begin(self) -> None:
        """Start watching, and return when every watch stands."""
        standing = threading.Barrier(len(_WATCHED) + 1, timeout=30)
        for kind in _WATCHED:
            self._thread(partial(self._follow, kind, standing))
        self._thread(self._call)
        standing.wait()

    def start_clock(self) -> None:
        self._zero = time.monotonic()

    def end(self) -> None:
        """No thread outlives this for longer than its next event; they are daemons."""
        self._over.set()
        with self._changed:
            self._changed.notify_all()

    def moments(self) -> dict[str, float]:
        """What is known so far."""
        with self._changed:
            return {**moments(self.seen, TENANT), **self.called}

    def until(self, wanted: tuple[str, ...]) -> None:
        """Wait until all these phases have ended. `LabError` with those that have not."""
        with self._changed:
            missing: list[str] = []

            def done() -> bool:
                known = {**moments(self.seen, TENANT), **self.called}
                missing[:] = [each for each in wanted if each not in known]
                return not missing

            if not self._changed.wait_for(done, timeout=_LIMIT):
                raise LabError(f"after {_LIMIT:.0f} s still missing: {', '.join(missing)}")

    def _thread(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _note(self, name: str) -> None:
        with self._changed:
            self.called[name] = time.monotonic() - self._zero
            self._changed.notify_all()

    def _follow(self, kind: str, standing: threading.Barrier) -> None:
        api = self.lab.client()
        path = _WATCHED[kind].format(_NAMESPACE)
        version = api.call("GET", path)["metadata"]["resourceVersion"]
        # From this revision on nothing is missed, however long the watch takes to begin.
        standing.wait()
        for event in api.watch(path, seconds=_LIMIT, resourceVersion=version):
            at = time.monotonic() - self._zero
            if self._over.is_set():
                return
            if event["type"] in ("ADDED", "MODIFIED"):
                with self._changed:
                    self.seen.append(Seen(at=at, body=event["object"]))
                    self._changed.notify_all()

    def _delivered(self) -> bytes | None:
        """The kubeconfig, once there is one."""

        def find() -> Mapping[str, Any] | None:
            return next((s.body for s in self.seen if phases.is_kubeconfig(s.body, TENANT)), None)

        with self._changed:
            self._changed.wait_for(lambda: find() is not None or self._over.is_set(), timeout=_LIMIT)
            body = find()
        return phases.kubeconfig(body) if body is not None else None

    def _call(self) -> None:
        """What a user with the delivered kubeconfig would do: call until there is an answer; then see who may join."""
        content = self._delivered()
        if content is None:
            return
        file = self.folder / "kubeconfig"
        file.touch(mode=0o600)
        file.write_bytes(content)
        api = client.from_kubeconfig(file)
        while not self._over.is_set():
            try:
                api.call("GET", "/api/v1/namespaces", seconds=5)
            except (OSError, http.client.HTTPException, client.ApiError):
                time.sleep(_ATTEMPT)  # nothing can be watched yet
            else:
                break
        self._note(FIRST_CALL)
        path = "/api/v1/namespaces/kube-system/configmaps"
        while not self._over.is_set():
            try:
                for event in api.watch(path, seconds=_LIMIT):
                    if event["object"]["metadata"]["name"].startswith("worker-config-default-"):
                        self._note(phases.JOINABLE)
                        return
            except (OSError, http.client.HTTPException, client.ApiError):
                time.sleep(_ATTEMPT)
