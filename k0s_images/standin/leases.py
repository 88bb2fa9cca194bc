"""Leases: who leads, and how many controllers there are.

A lease is taken when it is free, released at a graceful end, and considered lost by others when its holder has not
renewed it for its duration, by the observer's own clock.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable
from typing import Any

from k0s_images.standin import log
from k0s_images.standin.kube import Api, ApiError

NAMESPACE = "kube-node-lease"
DURATION = 60
_RETRY = 5.0
_PATH = "/apis/coordination.k8s.io/v1/namespaces"


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Elector:
    """Holds one lease while it can; `leading` is set while it does."""

    def __init__(self, api: Api, name: str, identity: str, *, namespace: str = NAMESPACE) -> None:
        self._api, self._name, self._identity = api, name, identity
        self._collection = f"{_PATH}/{namespace}/leases"
        self._path = f"{self._collection}/{name}"
        self._namespace = namespace
        self._observed: tuple[str, float] = ("", 0.0)
        self.leading = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Take and renew the lease until told to stop, then release it."""
        renewed = 0.0
        while not stop.is_set():
            try:
                held = self._attempt()
                renewed = time.monotonic() if held else renewed
            except ApiError as fault:
                # Unable to renew is still leading, until others may think otherwise.
                held = self.leading.is_set() and time.monotonic() - renewed < DURATION / 4
                log.debug(f"lease {self._name}: {fault}", component="lease")
            if held != self.leading.is_set():
                log.info(f"{'acquired' if held else 'lost'} the lease {self._name}", component="lease")
                (self.leading.set if held else self.leading.clear)()
            stop.wait(_RETRY if renewed else 0.5)
        if self.leading.is_set():
            self._release()

    def _attempt(self) -> bool:
        lease = self._api.find(self._path)
        if lease is None:
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": self._spec(0),
                    "metadata": {"name": self._name, "namespace": self._namespace}}  # fmt: skip
            try:
                self._api.request("POST", self._collection, body)
            except ApiError as fault:
                if fault.status == 409:
                    return False
                raise
            return True
        spec = lease.get("spec") or {}
        version = lease["metadata"]["resourceVersion"]
        if version != self._observed[0]:
            self._observed = (version, time.monotonic())
        holder = spec.get("holderIdentity") or ""
        expired = time.monotonic() - self._observed[1] > (spec.get("leaseDurationSeconds") or DURATION)
        if holder not in ("", self._identity) and not expired:
            return False
        transitions = (spec.get("leaseTransitions") or 0) + (holder != self._identity)
        acquired = spec.get("acquireTime") if holder == self._identity else None
        lease["spec"] = self._spec(transitions, acquired=acquired)
        try:
            self._api.request("PUT", self._path, lease)
        except ApiError as fault:
            if fault.status == 409:
                return holder == self._identity and self.leading.is_set()
            raise
        return True

    def _spec(self, transitions: int, *, acquired: str | None = None) -> dict[str, Any]:
        now = _now()
        return {"holderIdentity": self._identity, "leaseDurationSeconds": DURATION, "acquireTime": acquired or now,
                "renewTime": now, "leaseTransitions": transitions}  # fmt: skip

    def _release(self) -> None:
        try:
            lease = self._api.get(self._path)
            if (lease.get("spec") or {}).get("holderIdentity") == self._identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                self._api.request("PUT", self._path, lease)
        except ApiError as fault:
            log.debug(f"cannot release {self._name}: {fault}", component="lease")
        self.leading.clear()


def controllers(api: Api, *, prefix: str = "k0s-ctrl-") -> int:
    """How many controllers hold an unexpired lease."""
    now = dt.datetime.now(dt.UTC)
    count = 0
    for lease in api.get(f"{_PATH}/{NAMESPACE}/leases").get("items") or []:
        spec = lease.get("spec") or {}
        if not lease["metadata"]["name"].startswith(prefix) or not spec.get("holderIdentity"):
            continue
        renewed = dt.datetime.fromisoformat(spec["renewTime"].replace("Z", "+00:00"))
        if renewed + dt.timedelta(seconds=spec.get("leaseDurationSeconds") or 0) > now:
            count += 1
    return count


class Counter:
    """Watches the number of controllers and calls `changed` with it, at first and whenever it changes."""

    def __init__(self, api: Api, changed: Callable[[int], None]) -> None:
        self._api, self._changed = api, changed
        self._known = 1

    def tick(self) -> None:
        """Count once."""
        count = max(1, controllers(self._api))
        if count != self._known:
            log.info(f"the number of controllers is now {count}", component="konnectivity")
            self._known = count
            self._changed(count)
