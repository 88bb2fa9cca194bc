"""Leader election by a Lease: of several operators one writes, and one that was deposed knows it in time.

The rules are those of client-go: a lease is judged by what *we* saw change and when, by our own monotonic clock, so
clocks of different machines need not agree. A leader that could not renew for `renew_within` seconds stops writing,
which is well before anybody else may take over (`duration`). A process that was paused wakes up with `held()` already
false, because it compares times when asked, not by a timer; what slips through the gap between that check and the
server is caught by the UID and resourceVersion in every write.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson

from hosted_cp.kube.client import Answer, ApiClient
from hosted_cp.kube.errors import AlreadyExists, ApiError, Conflict, NotFound
from hosted_cp.kube.resources import LEASE

log = logging.getLogger(__name__)


class Leadership(Protocol):
    """What whoever writes asks before each write."""

    def held(self) -> bool:
        """Whether we are the leader at this moment."""


@dataclass(frozen=True)
class Unelected:
    """For a single operator outside of a cluster, for tests, and for commands: always the leader."""

    def held(self) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class Terms:
    """All in seconds."""

    #: For how long a lease counts after it was last seen to change.
    duration: float = 15.0
    #: A leader that did not manage to renew for so long has stopped being one.
    renew_within: float = 10.0
    renew_every: float = 4.0
    #: Pause after a request that failed.
    pause: float = 1.0


class Lease:
    """One candidate. `run` until cancelled; `elected` is set once we lead, `lost` when we do no longer."""

    def __init__(
        self,
        client: ApiClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        terms: Terms = Terms(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._terms = terms
        self._clock = clock
        self._renewed = float("-inf")
        self._mine: dict[str, Any] | None = None
        self.elected = asyncio.Event()
        self.lost = asyncio.Event()

    def held(self) -> bool:
        """Whether we are the leader at this moment."""
        return self._mine is not None and self._clock() - self._renewed < self._terms.renew_within

    async def run(self) -> None:
        """Wait to be elected, then renew. Returns when leadership was lost: the process must end, and start anew."""
        # It waits for the events of the lease itself; the pause is for errors and lost races.
        while not await self._take():  # noqa: ASYNC110
            await asyncio.sleep(self._terms.pause)
        self.elected.set()
        log.info("elected: %s leads", self._identity)
        try:
            while self.held():
                await asyncio.sleep(self._terms.renew_every if self._fresh() else self._terms.pause)
                await self._renew()
            log.error("the lease could not be renewed for %g s: no longer the leader", self._terms.renew_within)
        finally:
            self.lost.set()

    async def release(self) -> None:
        """Let somebody else take over at once. For a graceful end; failing to is no harm."""
        mine, self._mine = self._mine, None
        if mine is not None:
            spec = {**mine["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
            with contextlib.suppress(ApiError):
                await self._client.replace(LEASE, {**mine, "spec": spec}, deadline=2.0)

    # -- inside --------------------------------------------------------------------------------------------------

    def _fresh(self) -> bool:
        return self._clock() - self._renewed < self._terms.renew_every

    async def _take(self) -> bool:
        """One try: look, wait until the lease is free, write our name. False: somebody was faster, or an error."""
        try:
            try:
                lease = (await self._client.get(LEASE, self._namespace, self._name)).body
            except NotFound:
                begun = self._clock()
                return self._became(begun, await self._client.create(LEASE, self._lease(transitions=0)))
            lease = await self._await_free(lease)
            begun = self._clock()
            metadata = {**lease["metadata"], "managedFields": None}
            transitions = int(lease["spec"].get("leaseTransitions") or 0) + 1
            body = {**self._lease(transitions=transitions), "metadata": metadata}
            return self._became(begun, await self._client.replace(LEASE, body))
        except (AlreadyExists, Conflict):
            return False
        except ApiError as error:
            log.warning("the lease %s/%s: %s", self._namespace, self._name, error)
            return False

    async def _await_free(self, lease: dict[str, Any]) -> dict[str, Any]:
        """Watch the lease until its holder gives it up, or has not renewed it for its duration."""
        while holder := lease["spec"].get("holderIdentity"):
            if holder == self._identity:
                break  # ours, from before we forgot
            duration = float(lease["spec"].get("leaseDurationSeconds") or self._terms.duration)
            changed = await self._next_change(lease, within=duration)
            if changed is None:
                break
            lease = changed
        return lease

    async def _next_change(self, lease: dict[str, Any], *, within: float) -> dict[str, Any] | None:
        """The lease after its next change; None if there was none in time, or it was deleted."""
        events = self._client.watch(
            LEASE, self._namespace, since=lease["metadata"]["resourceVersion"], fields=f"metadata.name={self._name}"
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within), aclosing(events):
                async for event in events:
                    if event.type in {"ADDED", "MODIFIED"}:
                        changed: dict[str, Any] = orjson.loads(event.raw)
                        return changed
        return None

    async def _renew(self) -> None:
        assert self._mine is not None
        begun = self._clock()
        spec = {**self._mine["spec"], "renewTime": _now()}
        left = self._terms.renew_within - (begun - self._renewed)
        try:
            answer = await self._client.replace(LEASE, {**self._mine, "spec": spec}, deadline=max(0.1, left))
            self._became(begun, answer)
        except (Conflict, NotFound):
            # Somebody else has written it. If that was us (an answer that got lost), go on; else it is over.
            with contextlib.suppress(ApiError):
                lease = (await self._client.get(LEASE, self._namespace, self._name, deadline=max(0.1, left))).body
                if lease["spec"].get("holderIdentity") == self._identity:
                    self._mine = {**lease, "metadata": {**lease["metadata"], "managedFields": None}}
                    return
            self._mine = None
        except ApiError as error:
            log.warning("renewing the lease: %s", error)

    def _became(self, begun: float, answer: Answer) -> bool:
        # Counted from before the request: the server may have written it at any moment since.
        self._renewed = begun
        body = answer.body
        self._mine = {**body, "metadata": {**body["metadata"], "managedFields": None}}
        return True

    def _lease(self, *, transitions: int) -> dict[str, Any]:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": max(1, int(self._terms.duration)),
                "acquireTime": _now(),
                "renewTime": _now(),
                "leaseTransitions": transitions,
            },
        }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
