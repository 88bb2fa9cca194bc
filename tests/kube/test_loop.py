"""What the loop does when a key does not come to rest."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from hosted_cp.kube.cache import Caches, Watched
from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.loop import LONGEST_SLEEP, ROUNDS, Key, Look, Loop
from hosted_cp.kube.metrics import Metrics
from hosted_cp.kube.observing import Glimpse
from hosted_cp.kube.outcome import Result, Verdict
from hosted_cp.kube.probes import Prober
from hosted_cp.kube.resources import CLUSTER, SECRET
from hosted_cp.kube.store import Change
from hosted_cp.planning.actions import Action, Delete, Plan
from hosted_cp.planning.observed import Observed
from tests.virtual_time import run

ABOUT = Observed(ref=CLUSTER.ref("default", "a"), uid="1", resource_version="1")
SOMETHING: Action = Delete(ref=ABOUT.ref, uid="1")
KEY = Key("default", "a")
WRITTEN = Result(verdict=Verdict.DONE, writes=1)
NOTHING = Result(verdict=Verdict.DONE)
BEHIND = Result(verdict=Verdict.REPLAN)


@dataclass(kw_only=True)
class Always:
    """A controller whose plan always wants something; it remembers what failures it was told."""

    told: list[str] = field(default_factory=list)
    name: str = "Always"
    resource = CLUSTER
    watched = ()

    def keys(self, change: Change) -> Iterable[Key]:
        return ()

    def look(self, key: Key, *, failure: str) -> Look[None]:
        self.told.append(failure)
        return Look(view=None, about=ABOUT)

    def plan(self, view: None) -> Plan:
        return Plan(actions=(SOMETHING,), status={})


@dataclass(kw_only=True)
class Script:
    """A runner: each plan with actions ends as the script says, reports always succeed."""

    results: Iterator[Result]
    stop: asyncio.Event
    carried_out: int = 0

    async def execute(self, plan: Plan, *, about: Observed, tenant: object = None, by: object = None) -> Result:
        if not plan.actions:
            return NOTHING
        self.carried_out += 1
        result = next(self.results, None)
        if result is None:
            self.stop.set()
            return NOTHING
        return result


async def play(results: list[Result]) -> tuple[Always, Script]:
    controller, script = Always(), Script(results=iter(results), stop=asyncio.Event())
    prober: Prober[Key] = Prober(askers={}, enqueue=lambda key: None, now=cast(Any, None))
    loop = Loop(
        controller, caches=Caches(cast(ApiClient, None), []), runner=script, prober=prober, metrics=Metrics(), workers=1
    )
    running = asyncio.create_task(loop.run())
    loop.wake(KEY)
    await script.stop.wait()
    loop.stop()
    await running
    return controller, script


@dataclass(kw_only=True)
class Says(Always):
    """A controller whose plan says something new each time, and wants nothing."""

    last_word: bool

    def plan(self, view: None) -> Plan:
        return Plan(status={"said": len(self.told)}, last_word=self.last_word)


@dataclass(kw_only=True)
class Writes:
    """A runner that writes every status, up to so many."""

    most: int
    statuses: int = 0

    async def execute(self, plan: Plan, *, about: Observed, tenant: object = None, by: object = None) -> Result:
        if plan.status is None or self.statuses == self.most:
            return NOTHING
        self.statuses += 1
        return WRITTEN


@pytest.mark.parametrize("last_word", [True, False])
def test_after_a_status_it_is_planned_again_unless_nothing_can_follow(last_word: bool) -> None:
    async def scenario() -> None:
        controller, writes = Says(last_word=last_word), Writes(most=2)
        prober: Prober[Key] = Prober(askers={}, enqueue=lambda key: None, now=cast(Any, None))
        loop = Loop(
            controller, caches=Caches(cast(ApiClient, None), []), runner=writes, prober=prober, metrics=Metrics()
        )
        running = asyncio.create_task(loop.run())
        loop.wake(KEY)
        await asyncio.sleep(1)
        assert loop.queue.idle
        assert len(controller.told) == (1 if last_word else 3)
        loop.stop()
        await running

    run(scenario())


@dataclass(kw_only=True)
class Far(Always):
    """A controller that has something to do in a hundred days."""

    def plan(self, view: None) -> Plan:
        return Plan(status={}, retry_after=100 * 86400.0, last_word=True)


def test_a_far_date_is_looked_at_again_because_the_clock_on_the_wall_may_be_set() -> None:
    """The clock was wrong by months when the date was reckoned: then it is set right, and no event tells of it."""

    async def scenario() -> None:
        controller = Far()
        prober: Prober[Key] = Prober(askers={}, enqueue=lambda key: None, now=cast(Any, None))
        loop = Loop(
            controller,
            caches=Caches(cast(ApiClient, None), []),
            runner=Writes(most=0),
            prober=prober,
            metrics=Metrics(),
        )
        running = asyncio.create_task(loop.run())
        loop.wake(KEY)
        await asyncio.sleep(3 * LONGEST_SLEEP + 1)
        assert len(controller.told) == 4
        loop.stop()
        await running

    run(scenario())


def test_what_the_caches_know_wakes_nobody() -> None:
    """kopf sees every write of ours too."""

    async def scenario() -> None:
        caches = Caches(cast(ApiClient, None), [Watched(resource=CLUSTER)])
        prober: Prober[Key] = Prober(askers={}, enqueue=lambda key: None, now=cast(Any, None))
        loop = Loop(Always(), caches=caches, runner=Writes(most=0), prober=prober, metrics=Metrics())
        caches.store(CLUSTER).offer(ABOUT)
        seen = Glimpse(namespace="default", name="a", uid="1", resource_version="1")
        loop.wake(KEY, seen=seen)
        assert len(loop.queue) == 0
        loop.wake(KEY, seen=replace(seen, resource_version="2"))
        assert len(loop.queue) == 1

    run(scenario())


@dataclass(kw_only=True)
class Two(Always):
    """A controller that is woken by every Cluster of its key's name."""

    name: str

    def keys(self, change: Change) -> Iterable[Key]:
        return (Key(*change.name),)


def test_a_write_for_a_key_wakes_the_same_key_of_another_controller() -> None:
    """A token request may be called as its tenant is, and waits for the tenant's status."""

    async def scenario() -> None:
        caches = Caches(cast(ApiClient, None), [Watched(resource=CLUSTER)])
        prober: Prober[Key] = Prober(askers={}, enqueue=lambda key: None, now=cast(Any, None))
        one, other = (
            Loop(Two(name=name), caches=caches, runner=Writes(most=0), prober=prober, metrics=Metrics())
            for name in ("One", "Other")
        )
        caches.tell(caches.store(CLUSTER).offer(ABOUT, by=("One", KEY)))
        assert len(one.queue) == 0
        assert len(other.queue) == 1

    run(scenario())


@pytest.mark.parametrize("objects", [ROUNDS - 1, ROUNDS, 3 * ROUNDS])
def test_learning_object_after_object_is_no_failure_of_the_tenant(objects: int) -> None:
    """A leader whose watches are behind learns of one existing child with each plan, and a tenant has many."""

    async def scenario() -> None:
        controller, script = await play([BEHIND] * objects)
        assert script.carried_out == objects + 1, "it goes on until it knows"
        assert set(controller.told) == {""}

    run(scenario())


def test_writing_again_and_again_is_told() -> None:
    async def scenario() -> None:
        controller, _ = await play([WRITTEN] * ROUNDS)
        assert any("do not come to an end" in failure for failure in controller.told)

    run(scenario())


@dataclass(kw_only=True)
class Busy:
    """A runner whose server is busy: reports (and, if so, actions) are refused, to be sent again after five seconds."""

    actions_too: bool
    reports: list[float] = field(default_factory=list)
    actions: list[float] = field(default_factory=list)

    async def execute(self, plan: Plan, *, about: Observed, tenant: object = None, by: object = None) -> Result:
        (self.actions if plan.actions else self.reports).append(asyncio.get_running_loop().time())
        if plan.actions and not self.actions_too:
            return NOTHING
        return Result(verdict=Verdict.DEFERRED, failure="busy", retry_after=5.0)


@pytest.mark.parametrize("actions_too", [True, False])
def test_nothing_is_sent_again_before_the_server_wants_it(actions_too: bool) -> None:
    """A report that was refused least of all: not at once, to report that it was refused."""

    async def scenario() -> None:
        busy = Busy(actions_too=actions_too)
        prober: Prober[Key] = Prober(askers={}, enqueue=lambda key: None, now=cast(Any, None))
        loop = Loop(
            Always(), caches=Caches(cast(ApiClient, None), []), runner=busy, prober=prober, metrics=Metrics(), workers=1
        )
        running = asyncio.create_task(loop.run())
        loop.wake(KEY)
        await asyncio.sleep(11)
        for sent in (busy.reports, busy.actions):
            assert len(sent) == 3
            assert all(later - earlier >= 5.0 for earlier, later in itertools.pairwise(sent))
        loop.stop()
        await running

    run(scenario())


def test_while_there_is_no_object_of_ours_nobody_asks_what_a_change_elsewhere_concerns() -> None:
    @dataclass(kw_only=True)
    class Asked(Always):
        changes: list[Change] = field(default_factory=list)

        def keys(self, change: Change) -> Iterable[Key]:
            self.changes.append(change)
            return (KEY,)

    async def scenario() -> None:
        caches = Caches(cast(ApiClient, None), [Watched(resource=each) for each in (CLUSTER, SECRET)])
        controller = Asked()
        prober: Prober[Key] = Prober(askers={}, enqueue=lambda key: None, now=cast(Any, None))
        loop = Loop(controller, caches=caches, runner=Writes(most=0), prober=prober, metrics=Metrics())
        ours, other = caches.store(CLUSTER), caches.store(SECRET)
        secret = replace(ABOUT, ref=SECRET.ref("default", "s"), uid="2")

        caches.tell(other.offer(secret))
        assert not controller.changes
        assert loop.queue.idle
        caches.tell(ours.offer(ABOUT))
        caches.tell(other.offer(replace(secret, resource_version="2")))
        caches.tell(ours.gone(("default", "a"), uid="1"))
        assert [each.resource for each in controller.changes] == [CLUSTER, SECRET, CLUSTER]
        assert len(loop.queue) == 1

    run(scenario())
