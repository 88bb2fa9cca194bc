"""The lab's infrastructure provider: it gives a LabMachine a machine, and its machine the user data that waits for it.

It honours the v1beta2 contract for infrastructure: nothing happens before the owner, the user data is waited for, the
provider's id is written before `provisioned`, a paused cluster is left alone, and the machine is gone before its
finalizer is. What a machine is, is the backend's affair: an edge machine of the lab, or a note in a test's memory.

Level-triggered: watches only say which object to look at, and every look reads what is there.
"""

from __future__ import annotations

import base64
import http.client
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from e2e.capi.kinds import FINALIZER, GROUP, VERSION
from e2e.lab.client import ApiError, Client
from e2e.lab.network import LabError
from k0s_images.cache import say

Object = dict[str, Any]

_CORE = "/apis/cluster.x-k8s.io/v1beta2"
_OURS = f"/apis/{GROUP}/{VERSION}"
_PAUSED = "cluster.x-k8s.io/paused"
_WATCH = 300.0


@dataclass(frozen=True, kw_only=True)
class Order:
    """A machine that is wanted."""

    namespace: str
    #: Name of the LabMachine, which is the Machine's.
    name: str
    user_data: bytes
    #: `cloud-config` or `ignition`, as the bootstrap Secret says.
    format: str
    #: Version of Kubernetes that the Machine asks for; "" if it does not say.
    version: str = ""

    @property
    def provider_id(self) -> str:
        return f"lab://{self.namespace}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Booted:
    """What has become of an order."""

    address: str
    #: What went wrong with the user data; empty: nothing.
    fault: str = ""


class Backend(Protocol):
    """Where machines come from. Both calls may be repeated, and may take their time."""

    def boot(self, order: Order) -> Booted:
        """A machine that has run its user data; the same one if it is there already."""

    def remove(self, namespace: str, name: str) -> None:
        """Take a machine away; nothing if there is none."""


class Provider:
    """Watches until `stop`. Use as a context manager."""

    def __init__(self, client: Client, backend: Backend, *, workers: int = 4) -> None:
        self._client = client
        self._backend = backend
        self._queue: queue.Queue[tuple[str, str, str] | None] = queue.Queue()
        self._waiting: set[tuple[str, str, str]] = set()
        self._busy: set[tuple[str, str, str]] = set()
        self._again: set[tuple[str, str, str]] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        watches: tuple[tuple[str, Callable[[Object], Iterator[tuple[str, str, str]]]], ...] = (
            (f"{_OURS}/labclusters", lambda o: iter([("labclusters", *_name(o))])),
            (f"{_OURS}/labmachines", lambda o: iter([("labmachines", *_name(o))])),
            (f"{_CORE}/machines", _of_machine),
            (f"{_CORE}/clusters", self._of_cluster),
        )
        self._threads = [
            *(threading.Thread(target=self._watch, args=each, daemon=True) for each in watches),
            *(threading.Thread(target=self._work, daemon=True) for _ in range(workers)),
        ]
        self._workers = workers

    def __enter__(self) -> Provider:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No new work; what is being done is done. Watches end with the process."""
        self._stopped.set()
        for _ in range(self._workers):
            self._queue.put(None)
        for thread in self._threads[-self._workers :]:
            thread.join(timeout=60)

    # -- what to look at -----------------------------------------------------------------------------------------

    def _watch(self, path: str, keys: Callable[[Object], Iterator[tuple[str, str, str]]]) -> None:
        while not self._stopped.is_set():
            try:
                for event in self._client.watch(path, seconds=_WATCH):
                    if event["type"] == "ERROR":
                        break
                    if event["type"] != "BOOKMARK":
                        for key in keys(event["object"]):
                            self._enqueue(key)
            except (OSError, http.client.HTTPException, ApiError, ValueError) as error:
                if not self._stopped.is_set():
                    say(f"lab infrastructure: watching {path}: {error}; again in a second")
                    self._stopped.wait(1)

    def _of_cluster(self, cluster: Object) -> Iterator[tuple[str, str, str]]:
        """All machines and the infrastructure of a cluster: it may have been paused, or not any more."""
        namespace, name = _name(cluster)
        for plural in ("labclusters", "labmachines"):
            listed = self._client.call(
                "GET", f"{_OURS}/namespaces/{namespace}/{plural}?labelSelector=cluster.x-k8s.io/cluster-name={name}"
            )
            for each in listed["items"]:
                yield (plural, namespace, each["metadata"]["name"])

    def _enqueue(self, key: tuple[str, str, str]) -> None:
        with self._lock:
            if key in self._busy:
                self._again.add(key)
            elif key not in self._waiting:
                self._waiting.add(key)
                self._queue.put(key)

    def _work(self) -> None:
        while (key := self._queue.get()) is not None:
            with self._lock:
                self._waiting.discard(key)
                self._busy.add(key)
            try:
                self._look(key)
            except (OSError, http.client.HTTPException, LabError) as error:
                say(f"lab infrastructure: {'/'.join(key)}: {error}; again in a second")
                time.sleep(1)  # of this thread alone
                with self._lock:
                    self._again.add(key)
            finally:
                with self._lock:
                    self._busy.discard(key)
                    again = key in self._again
                    self._again.discard(key)
                if again and not self._stopped.is_set():
                    self._enqueue(key)

    # -- what to do ----------------------------------------------------------------------------------------------

    def _look(self, key: tuple[str, str, str]) -> None:
        plural, namespace, name = key
        found = self._get(f"{_OURS}/namespaces/{namespace}/{plural}/{name}")
        if found is None:
            return
        if plural == "labclusters":
            self._cluster(found)
        else:
            self._machine(found)

    def _cluster(self, body: Object) -> None:
        if _owner(body, "Cluster") is None or self._paused(body) or body["metadata"].get("deletionTimestamp"):
            return
        self._report(body, "labclusters", {"initialization": {"provisioned": True}}, ready="")

    def _machine(self, body: Object) -> None:
        namespace, name = _name(body)
        path = f"{_OURS}/namespaces/{namespace}/labmachines/{name}"
        owner = _owner(body, "Machine")
        if self._paused(body):
            return
        finalizers = body["metadata"].get("finalizers") or []
        if body["metadata"].get("deletionTimestamp"):
            if FINALIZER in finalizers:
                self._backend.remove(namespace, name)
                self._patch(path, body, {"metadata": {"finalizers": [f for f in finalizers if f != FINALIZER]}})
            return
        if owner is None:
            return
        if FINALIZER not in finalizers:
            body = self._patch(path, body, {"metadata": {"finalizers": [*finalizers, FINALIZER]}})
        machine = self._get(f"{_CORE}/namespaces/{namespace}/machines/{owner['name']}")
        secret = ((machine or {}).get("spec", {}).get("bootstrap") or {}).get("dataSecretName")
        if not secret:
            self._report(body, "labmachines", {}, ready="its user data is waited for")
            return
        if (body.get("status") or {}).get("initialization", {}).get("provisioned"):
            return
        data = self._client.call("GET", f"/api/v1/namespaces/{namespace}/secrets/{secret}")["data"]
        order = Order(
            namespace=namespace,
            name=name,
            user_data=base64.b64decode(data["value"]),
            format=base64.b64decode(data.get("format", "")).decode() or "cloud-config",
            version=(machine or {}).get("spec", {}).get("version") or "",
        )
        if delay := (body.get("spec") or {}).get("startDelaySeconds"):
            begun = datetime.fromisoformat(body["metadata"]["creationTimestamp"])
            left = delay - (datetime.now(UTC) - begun).total_seconds()
            if left > 0:
                timer = threading.Timer(left, self._enqueue, [("labmachines", namespace, name)])
                timer.daemon = True
                timer.start()
                return
        booted = self._backend.boot(order)
        body = self._patch(path, body, {"spec": {"providerID": order.provider_id}})
        status = {
            "initialization": {"provisioned": True},
            "addresses": [{"type": "InternalIP", "address": booted.address}, {"type": "Hostname", "address": name}],
            "bootstrap": {"result": "Failed" if booted.fault else "Succeeded", "message": booted.fault[:1024]},
        }
        self._report(body, "labmachines", status, ready="")

    def _paused(self, body: Object) -> bool:
        if _PAUSED in (body["metadata"].get("annotations") or {}):
            return True
        name = (body["metadata"].get("labels") or {}).get("cluster.x-k8s.io/cluster-name")
        cluster = self._get(f"{_CORE}/namespaces/{_name(body)[0]}/clusters/{name}") if name else None
        return bool(cluster and (cluster.get("spec") or {}).get("paused"))

    # -- speaking with the API server ----------------------------------------------------------------------------

    def _get(self, path: str) -> Object | None:
        try:
            found: Object = self._client.call("GET", path)
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        return found

    def _patch(self, path: str, body: Object, change: Mapping[str, Any]) -> Object:
        about = {k: body["metadata"][k] for k in ("uid", "resourceVersion")}
        patch = {**change, "metadata": {**(change.get("metadata") or {}), **about}}
        answer: Object = self._client.call("PATCH", path, patch, content="application/merge-patch+json")
        return answer

    def _report(self, body: Object, plural: str, status: Mapping[str, Any], *, ready: str) -> None:
        """Write the status if it differs. `ready` is why it is not ready; empty: it is."""
        namespace, name = _name(body)
        old = body.get("status") or {}
        wanted = {"type": "Ready", "status": "False" if ready else "True", "message": ready,
                  "reason": "NotReady" if ready else "Ready"}  # fmt: skip
        before: Object = next((c for c in old.get("conditions") or [] if c["type"] == "Ready"), {})
        same = all(before.get(k) == v for k, v in wanted.items())
        if same and all(old.get(key) == value for key, value in status.items()):
            return
        changed = before.get("status") != wanted["status"]
        since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if changed else before["lastTransitionTime"]
        condition = {**wanted, "lastTransitionTime": since, "observedGeneration": body["metadata"].get("generation", 1)}
        path = f"{_OURS}/namespaces/{namespace}/{plural}/{name}/status"
        self._patch(path, body, {"status": {**status, "conditions": [condition]}})


def _name(body: Object) -> tuple[str, str]:
    return body["metadata"]["namespace"], body["metadata"]["name"]


def _owner(body: Object, kind: str) -> Object | None:
    """The owner of this kind of Cluster API, of whatever version."""
    for each in body["metadata"].get("ownerReferences") or []:
        if each["kind"] == kind and each["apiVersion"].partition("/")[0] == "cluster.x-k8s.io":
            found: Object = each
            return found
    return None


def _of_machine(machine: Object) -> Iterator[tuple[str, str, str]]:
    reference = machine["spec"].get("infrastructureRef") or {}
    if reference.get("kind") == "LabMachine":
        yield ("labmachines", machine["metadata"]["namespace"], reference["name"])
