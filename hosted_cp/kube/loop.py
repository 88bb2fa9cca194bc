"""One loop, the same for every kind:

    event -> queue(key) -> look -> plan -> execute -> look -> plan -> ... until nothing is left to do

A controller brings three functions and no I/O: which keys a change concerns, what there is to know about a key, and
what to do about it. Everything else is here: one worker for a key at a time, planning again at once after something was
done, pauses after failures, telling the user about failures, and stopping.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, Protocol, TypeVar

from hosted_cp.kube.cache import Caches, Watched
from hosted_cp.kube.metrics import Metrics
from hosted_cp.kube.observing import Glimpse
from hosted_cp.kube.outcome import Result, Verdict
from hosted_cp.kube.probes import Prober
from hosted_cp.kube.queue import Closed, WorkQueue
from hosted_cp.kube.resources import Resource
from hosted_cp.kube.store import Change
from hosted_cp.kube.tenant import TenantAccess
from hosted_cp.planning.actions import Plan, Target
from hosted_cp.planning.observed import Observed

log = logging.getLogger(__name__)

V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)

#: How often one key is planned in a row before others get a turn. If something was written each time, it is a failure.
ROUNDS = 12

#: Seconds after which a key with a later date is planned all the same. Dates are kept by a clock that only counts, and
#: stand for moments of the clock on the wall: one that was wrong and has been set right, or a machine that slept, would
#: make a renewal late by as much. A plan that finds nothing due costs no request.
LONGEST_SLEEP = 3600.0


class Key(NamedTuple):
    """Names the object of a controller's kind that is worked on."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Look(Generic[V_co]):
    """What there is to know about one key."""

    #: What the planner is given; frozen.
    view: V_co
    #: The user's object itself: whose status is written and whom Events are about.
    about: Observed
    #: How to reach the tenant's API server, if the plan may want to and it is known; or what finds that out, which is
    #: asked only where something is to be done there.
    tenant: TenantAccess | Callable[[], TenantAccess | None] | None = None

    def access(self, plan: Plan) -> TenantAccess | None:
        """The same, if the plan wants to."""
        if not any(each.target is Target.TENANT for each in plan.actions):
            return None
        return self.tenant() if callable(self.tenant) else self.tenant


class Controller(Protocol[V]):
    """One kind of ours. Its methods do no I/O, do not wait, and may be called at any time."""

    @property
    def name(self) -> str:
        """For metrics and logs."""

    @property
    def resource(self) -> Resource:
        """The kind whose objects are the keys."""

    @property
    def watched(self) -> tuple[Watched, ...]:
        """Every kind that `look` reads from the caches, the own one included."""

    def keys(self, change: Change) -> Iterable[Key]:
        """Which keys a change concerns; `change.old` or `change.new` is None where an object came or went."""

    def look(self, key: Key, *, failure: str) -> Look[V] | None:
        """Everything known about a key, from the caches; None if its object does not exist (any more).

        `failure` says why the last plan for it could not be carried out ("" if it was).
        """

    def plan(self, view: V) -> Plan:
        """What to do. Pure."""


class Runner(Protocol):
    """What carries out plans (`hosted_cp.executor.Executor`, which stands above this room)."""

    async def execute(
        self, plan: Plan, *, about: Observed, tenant: TenantAccess | None = None, by: object = None
    ) -> Result:
        """Carry out a plan."""


class Loop(Generic[V]):
    """Runs one controller."""

    def __init__(
        self,
        controller: Controller[V],
        *,
        caches: Caches,
        runner: Runner,
        prober: Prober[Key],
        metrics: Metrics,
        workers: int = 16,
    ) -> None:
        """`prober.enqueue` is set here: findings put their key into our queue."""
        self.controller = controller
        self._caches = caches
        self._runner = runner
        self._prober = prober
        self._metrics = metrics
        self._workers = workers
        self.queue: WorkQueue[Key] = WorkQueue(waited=metrics.waited(controller.name))
        self._failures: dict[Key, str] = {}
        self._uids: dict[Key, str] = {}
        self._settled = False
        prober.enqueue = self.queue.add
        caches.subscribe(self._on_change)
        metrics.queue(controller.name, self.queue.__len__)

    async def run(self) -> None:
        """Work until `stop`. The caches must be synced, or plans would be made for an empty world."""
        self._settled = True
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"{self.controller.name} worker {number}")

    def stop(self) -> None:
        """Let `run` end when the keys that are worked on are done; what waits stays undone."""
        self.queue.close()

    def wake(self, key: Key, *, seen: Glimpse | None = None) -> None:
        """Somebody says that a key should be looked at, because he has seen its object like this. What the caches know
        too they have told already: most of it are echoes of our own writes."""
        if seen is None or self._caches.store(self.controller.resource).is_news(seen):
            self.queue.add(key)

    def _on_change(self, change: Change) -> None:
        if change.resource != self.controller.resource and not self._any():
            return  # whatever it concerns, there is nothing to look at; and when there is, that is a change
        for key in self.controller.keys(change):
            # Our own writes: the key they were made for is planned again by whoever made them.
            if change.by != (self.controller.name, key):
                self.queue.add(key, routine=not self._settled)

    def _any(self) -> bool:
        """Whether there are objects of the controller's kind."""
        store = self._caches.stores.get(self.controller.resource)
        return store is None or len(store) > 0

    async def _work(self) -> None:
        while True:
            try:
                key = await self.queue.get()
            except Closed:
                return
            begun = time.perf_counter()
            try:
                outcome = await self._reconcile(key)
            except Exception:
                # A fault of ours with one object must not stop the others. It is logged with its trace, counted, and
                # tried again with growing pauses.
                log.exception("%s %s: a fault of the operator", self.controller.name, key)
                self.queue.failed(key)
                outcome = "fault"
            self._metrics.reconciled(self.controller.name, outcome, time.perf_counter() - begun)

    async def _reconcile(self, key: Key) -> str:
        by = (self.controller.name, key)
        for _ in range(ROUNDS):
            self.queue.looking(key)
            look = self.controller.look(key, failure=self._failures.get(key, ""))
            if look is None:
                self._forget(key)
                return "gone"
            self._met(key, look.about.uid)
            plan = self.controller.plan(look.view)
            ask_again = self._prober.ask(key, look.about, plan.probes)
            # While there is something to do, what is said would be old a moment later: it is said when it is done.
            result = Result(verdict=Verdict.DONE)
            if plan.actions:
                doing = replace(plan, status=None, events=())
                result = await self._runner.execute(doing, about=look.about, tenant=look.access(doing), by=by)
            settled = result.verdict is Verdict.DONE and not result.writes
            if settled:
                saying = replace(plan, actions=()) if plan.actions else plan
                result = await self._runner.execute(saying, about=look.about, by=by)
            match result.verdict:
                case Verdict.DONE:
                    healed = self._failures.pop(key, "")
                    said_all = plan.last_word and not plan.actions
                    if (said_all or not result.writes) and not healed:
                        pauses = [pause for pause in (plan.retry_after, ask_again) if pause is not None]
                        self.queue.done(key, after=min(*pauses, LONGEST_SLEEP) if pauses else None)
                        return "settled"
                case Verdict.REPLAN:
                    pass
                case Verdict.DEFERRED:
                    waits = [result.retry_after]
                    # A report that was refused is not sent again at once to report that.
                    if not settled:
                        waits.append(await self._tell(key, result.failure))
                    self.queue.failed(key, hold=max((each for each in waits if each is not None), default=None))
                    return "deferred"
                case Verdict.DEPOSED:
                    self.queue.failed(key)
                    return "deposed"
        if result.verdict is Verdict.REPLAN:
            # Each time one thing more was learnt that our watches had not told: they are behind. No fault of the
            # tenant's, and its user is not bothered with it.
            log.info("%s %s: what the caches know is behind", self.controller.name, key)
            self.queue.failed(key)
            return "behind"
        log.warning("%s %s: not settled after %d rounds", self.controller.name, key, ROUNDS)
        await self._tell(key, f"changes do not come to an end: {ROUNDS} in a row, and each plan wanted more")
        self.queue.failed(key)
        return "unsettled"

    async def _tell(self, key: Key, failure: str) -> float | None:
        """Let the user's object say what failed: the same plan with that knowledge, and nothing of it but the words.

        Returns the seconds that the server wants us to wait before it is said again.
        """
        # Said again after each failure: what stands there already costs no request, and what could not be written does.
        self._failures[key] = failure
        look = self.controller.look(key, failure=failure)
        if look is None:
            return None
        plan = self.controller.plan(look.view)
        result = await self._runner.execute(
            replace(plan, actions=(), probes=()), about=look.about, by=(self.controller.name, key)
        )
        return result.retry_after

    def _met(self, key: Key, uid: str) -> None:
        """An object made anew under the same name is another one: what was found out about the old counts no more."""
        before = self._uids.get(key)
        if before is not None and before != uid:
            self._prober.forget(before)
            self._failures.pop(key, None)
        self._uids[key] = uid

    def _forget(self, key: Key) -> None:
        uid = self._uids.pop(key, None)
        if uid is not None:
            self._prober.forget(uid)
        self._failures.pop(key, None)
        self.queue.done(key)
        self.queue.forget(key)
