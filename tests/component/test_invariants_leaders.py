"""More than one operator, operators that see the past, and operators that are killed: the tenants cannot tell."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

import pytest

from hosted_cp.hosting.settings import Settings
from hosted_cp.kube.resources import CLUSTER, EVENT, LEASE, STATEFUL_SET
from tests.component.audit import READS
from tests.component.faults import Fault, proxy
from tests.component.hosting import CATALOGUE, Object, Stage
from tests.component.snapshots import everything, of_tenant, once_only
from tests.component.test_invariants_crashes import CHANGES, SPEC, assert_nothing_is_left


async def reference(stage: Stage, change: Object | None = None) -> dict[str, Object]:
    """What a tenant is like that one operator with clear sight looks after."""
    async with stage.operating() as operator:
        await stage.create("undisturbed", SPEC)
        await stage.available("undisturbed")
        if change is not None:
            await stage.change("undisturbed", change)
            await stage.available("undisturbed")
        await stage.rest(operator)
    return of_tenant(await everything(stage), "undisturbed")


async def test_two_leaders_at_once_are_as_one(stage: Stage) -> None:
    """Worse than a deposed leader that still runs: nobody is elected, and both write whenever they can."""
    wanted = await reference(stage, CHANGES["config"])
    since = stage.audit.mark()
    names = [f"tenant{number}x" for number in range(4)]
    async with stage.operating() as one, stage.operating() as other:
        for name in names:
            await stage.create(name, SPEC)
        await stage.available(*names)
        made = once_only(await everything(stage))
        for name in names:
            await stage.change(name, CHANGES["config"])
        await stage.available(*names)
        await stage.rest(one)
        await stage.rest(other)
        found = await everything(stage)
        for name in names:
            assert of_tenant(found, name) == wanted, name
        assert {name: once_only(found)[name] for name in made} == made
        assert stage.created_twice(since) == []
        for name in names:
            await stage.admin.delete(CLUSTER, stage.namespace, name)
        await stage.gone(*names)
    await stage.admin.delete(CLUSTER, stage.namespace, "undisturbed")
    async with stage.operating():
        await stage.gone("undisturbed")
    await assert_nothing_is_left(stage, [*names, "undisturbed"])


async def test_two_that_want_different_things_slow_down_and_say_so(stage: Stage) -> None:
    """Two installations with leases in different namespaces: each undoes what the other has written."""
    theirs = Settings(catalogue=CATALOGUE, k0s_image="other.example/k0s", priority_class="other")
    async with stage.operating() as one, stage.operating(settings=theirs) as other:
        await stage.create("tenant0x", SPEC)
        async with asyncio.timeout(60), aclosing(stage.admin.watch(EVENT, stage.namespace, since="0")) as events:
            async for event in events:
                if b'"Contended"' in event.raw:
                    break
        since = stage.audit.mark()
        await asyncio.sleep(10)
        writes = stage.requests(since, without=tuple(READS))
        assert len(writes) < 40, "no storm"
        said = [
            each["message"] for each in await stage.admin.list(EVENT, stage.namespace) if each["reason"] == "Contended"
        ]
        assert all("it is undone again and again, as by another hosted-cp" in each for each in said)
        assert one.leading.is_set()
        assert other.leading.is_set()
    # As soon as one of them has gone the other has its way.
    async with stage.operating() as operator:
        await stage.available("tenant0x")
        await stage.rest(operator)
        live = await stage.admin.get(STATEFUL_SET, stage.namespace, "kmc-tenant0x")
        assert "other.example" not in str(live["spec"])


@pytest.mark.parametrize("blind", ["secrets", "statefulsets", "services", ""])
async def test_a_leader_that_sees_the_past_does_no_harm(stage: Stage, blind: str) -> None:
    """Its watches say nothing any more (all but those of our own kinds, or those of one kind), while another works.

    Both write the status as they see it, without end, because nobody is elected here. So while both run it is looked at
    what must not be made twice, and at the rest once the blind one has gone.
    """
    wanted = await reference(stage, CHANGES["config"])
    since = stage.audit.mark()
    async with stage.operating() as sighted:
        async with proxy(stage.server, stage.access.user, "system:serviceaccounts") as late:
            for kind in [blind] if blind else ["secrets", "services", "statefulsets", "pods", "persistentvolumeclaims"]:
                late.add(Fault(method="WATCH", path=kind, cut_after=0, silent=True, times=None))
            async with stage.operating(access=late.access):
                await stage.create("tenant0x", SPEC)
                await stage.available("tenant0x")
                made = once_only(await everything(stage))
                await stage.change("tenant0x", CHANGES["config"])
                await stage.available("tenant0x")
        await stage.rest(sighted)
        assert stage.created_twice(since) == []
        found = await everything(stage)
        assert {name: once_only(found)[name] for name in made} == made
        assert of_tenant(found, "tenant0x") == wanted
    said = [each["message"] for each in await stage.admin.list(EVENT, stage.namespace)]
    assert said, "Events were written"
    # The blind one learns of one object with each plan. That is no failure, however many there are.
    assert [each for each in said if "do not come to an end" in each] == []


@asynccontextmanager
async def process(stage: Stage, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A real `hosted-cp run`, with its lease in the namespace and under the shipped rights."""
    config = stage.access.kubeconfig(folder / "kubeconfig")
    environment = {**os.environ, "POD_NAMESPACE": "hosted-cp"}
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hosted_cp", "run", f"--kubeconfig={config}", f"--namespace={stage.namespace}",
        "--health-address=127.0.0.1:0", "--metrics-address=127.0.0.1:0", "--log-level=debug",
        env=environment, stderr=(folder / "log").open("ab"), stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


#: For each life of the process how many writes it is left, by what is going on.
KILLS: dict[str, dict[str, Sequence[int]]] = {
    "few": {"create": (1, 2, 3)},
    "many": {"create": (1, 1, 2, 1, 3, 1, 2, 4, 1, 5), "config": (1, 1, 2, 1, 3), "delete": (1, 2, 1, 3, 1, 4)},
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", ["few", pytest.param("many", marks=pytest.mark.sweep)])
async def test_the_process_is_killed_again_and_again(stage: Stage, tmp_path: Path, kills: str) -> None:
    """SIGKILL as soon as a number of writes has been done; the lease of the dead is given up by hand, to save time."""
    planned = KILLS[kills]
    wanted = await reference(stage, CHANGES["config"] if "config" in planned else None)
    since = stage.audit.mark()
    await stage.create("tenant0x", SPEC)
    made = await killed(stage, tmp_path, planned["create"], {})
    if "config" in planned:
        async with stage.operating():  # (The process of its own does not find the stand-ins for tenants.)
            await stage.available("tenant0x")
        await stage.change("tenant0x", CHANGES["config"])
        made = await killed(stage, tmp_path, planned["config"], made)
    async with stage.operating() as operator:
        await stage.available("tenant0x")
        await stage.rest(operator)
    found = await everything(stage)
    assert of_tenant(found, "tenant0x") == wanted
    assert {name: once_only(found)[name] for name in made} == made
    if "delete" in planned:
        await stage.admin.delete(CLUSTER, stage.namespace, "tenant0x")
        await killed(stage, tmp_path, planned["delete"])
        async with stage.operating():
            await stage.gone("tenant0x")
        await assert_nothing_is_left(stage, ["tenant0x"])
    assert stage.created_twice(since) == []


async def killed(
    stage: Stage, folder: Path, lives: Sequence[int], made: dict[str, str] | None = None
) -> dict[str, str]:
    """Processes one after another, each killed once it has done so many writes, or has found nothing more to do.

    `made`: what was made once and has to stay what it was; None: it is being deleted. Returns what there is of it now.
    """
    for writes in lives:
        begun = stage.audit.mark()
        async with process(stage, folder) as running:
            async with asyncio.timeout(90):
                while not stage.requests(begun):
                    assert running.returncode is None, (folder / "log").read_text()[-2000:]
                    await asyncio.sleep(0.05)
            with suppress(TimeoutError):
                async with asyncio.timeout(8):
                    while len([each for each in stage.requests(begun) if each.verb not in READS]) < writes:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
            running.send_signal(signal.SIGKILL)
            await running.wait()
        now = once_only(await everything(stage))
        if made is not None:
            assert {name: now.get(name) for name in made} == made
            made = now
        await stage.admin.merge_patch(LEASE, "hosted-cp", "hosted-cp", {"spec": {"holderIdentity": ""}})
    return made or {}
