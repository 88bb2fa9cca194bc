"""The work queue, in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hosted_cp.kube.queue import Closed, WorkQueue
from tests.virtual_time import run


def now() -> float:
    return round(asyncio.get_running_loop().time(), 6)


def test_a_key_put_in_often_is_handed_out_once() -> None:
    async def scenario() -> None:
        queue: WorkQueue[str] = WorkQueue()
        for _ in range(10):
            queue.add("a")
        assert await queue.get() == "a"
        queue.done("a")
        assert queue.idle
        assert not queue._entries, "a key without news leaves nothing behind"

    run(scenario())


def test_news_during_work_bring_the_key_back_afterwards_and_not_before() -> None:
    async def scenario() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        await queue.get()
        queue.add("a")
        queue.add("a")
        assert len(queue) == 0
        queue.done("a")
        assert len(queue) == 1
        await queue.get()
        queue.done("a")
        assert queue.idle

    run(scenario())


def test_news_from_before_a_look_are_seen_with_it() -> None:
    async def scenario() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        await queue.get()
        queue.add("a")
        queue.looking("a")
        queue.done("a")
        assert queue.idle, "what came before the look does not bring it back"
        queue.add("a")
        await queue.get()
        queue.looking("a")
        queue.add("a")
        queue.done("a")
        assert len(queue) == 1, "what came after the look does"

    run(scenario())


def test_failures_wait_longer_each_time_and_success_forgets_them() -> None:
    async def scenario() -> None:
        queue: WorkQueue[str] = WorkQueue(first_pause=1, longest_pause=5)
        queue.add("a")
        moments = []
        for _ in range(5):
            await queue.get()
            moments.append(now())
            queue.failed("a")
        await queue.get()
        queue.done("a")
        queue.add("a")
        await queue.get()
        begun = now()
        queue.failed("a")
        await queue.get()
        assert moments == [0, 1, 3, 7, 12]
        assert now() - begun == 1

    run(scenario())


def test_news_end_a_pause_but_not_one_the_server_asked_for() -> None:
    async def scenario() -> None:
        queue: WorkQueue[str] = WorkQueue(first_pause=10)
        queue.add("a")
        queue.add("b")
        for _ in range(2):
            await queue.get()
        queue.failed("a")
        queue.add("b")  # while it runs
        queue.failed("b", hold=7)
        queue.add("a")
        queue.add("b")
        assert await queue.get() == "a"
        assert now() == 0
        queue.done("a")
        assert await queue.get() == "b"
        assert now() == 10

    run(scenario())


def test_a_date_is_replaced_by_the_next_result() -> None:
    async def scenario() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        await queue.get()
        queue.done("a", after=100)
        queue.add("a")
        await queue.get()
        queue.done("a", after=300)
        assert await queue.get() == "a"
        assert now() == 300
        queue.done("a")
        assert queue.delayed == 0

    run(scenario())


def test_dates_that_are_replaced_again_and_again_are_not_kept() -> None:
    async def scenario() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("slow")
        await queue.get()
        queue.done("slow", after=2_000.0)
        for turn in range(1_000):
            queue.add("often")
            await queue.get()
            queue.done("often", after=10_000.0 + turn)
        assert len(queue._timers) < 100, "each of them would stay until its time has come"
        assert queue.delayed == 2
        queue.add("soon")
        await queue.get()
        queue.done("soon", after=5.0)
        assert [(await queue.get(), now()) for _ in range(3)] == [("soon", 5.0), ("slow", 2_000.0), ("often", 10_999.0)]

    run(scenario())


def test_of_two_wishes_the_earlier_counts() -> None:
    async def scenario() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add_after("a", 5)
        queue.add_after("a", 2)
        queue.add_after("a", 9)
        assert await queue.get() == "a"
        assert now() == 2
        queue.done("a")
        assert queue.delayed == 0

    run(scenario())


def test_neither_news_nor_routine_starve() -> None:
    async def scenario() -> None:
        queue: WorkQueue[int] = WorkQueue()
        for number in range(10):
            queue.add(number, routine=True)
        for number in range(100, 110):
            queue.add(number)
        order = [await queue.get() for _ in range(20)]
        assert order[:5] == [100, 101, 102, 103, 0]
        assert sorted(order) == [*range(10), *range(100, 110)]

    run(scenario())


def test_news_about_a_key_in_the_routine_line_move_it() -> None:
    async def scenario() -> None:
        queue: WorkQueue[int] = WorkQueue()
        for number in range(3):
            queue.add(number, routine=True)
        queue.add(2)
        assert [await queue.get() for _ in range(3)] == [2, 0, 1]
        assert len(queue) == 0

    run(scenario())


def test_closing_sends_the_workers_home() -> None:
    async def scenario() -> None:
        queue: WorkQueue[int] = WorkQueue()

        async def work() -> None:
            with pytest.raises(Closed):
                await queue.get()

        workers = [asyncio.create_task(work()) for _ in range(3)]
        await asyncio.sleep(1)
        queue.close()
        await asyncio.gather(*workers)
        queue.add(1)
        assert len(queue) == 0

    run(scenario())


def test_a_cancelled_worker_passes_its_turn_on() -> None:
    async def scenario() -> None:
        queue: WorkQueue[int] = WorkQueue()
        first = asyncio.create_task(queue.get())
        second = asyncio.create_task(queue.get())
        await asyncio.sleep(1)
        queue.add(7)
        first.cancel()
        assert await asyncio.wait_for(second, 1) == 7

    run(scenario())


def test_workers_that_are_cancelled_as_the_queue_closes_end_as_cancelled() -> None:
    async def scenario() -> None:
        queue: WorkQueue[int] = WorkQueue()
        workers = [asyncio.create_task(queue.get()) for _ in range(3)]
        await asyncio.sleep(1)
        workers[0].cancel()
        queue.close()
        ends = await asyncio.gather(*workers, return_exceptions=True)
        assert [type(end) for end in ends] == [asyncio.CancelledError, Closed, Closed]

    run(scenario())


def test_the_wait_of_every_key_is_told() -> None:
    async def scenario() -> None:
        waits: list[float] = []
        queue: WorkQueue[int] = WorkQueue(waited=waits.append)
        queue.add(1)
        await asyncio.sleep(3)
        await queue.get()
        assert waits == [3]

    run(scenario())


def test_a_wish_made_during_work_outlives_it() -> None:
    async def scenario() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        await queue.get()
        queue.add_after("a", 3)
        queue.done("a", after=100)
        assert await queue.get() == "a"
        assert now() == 3

    run(scenario())


_STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "routine", "after", "sleep"]), st.integers(0, 4), st.floats(0, 3)), max_size=60
)


@settings(max_examples=400)
@given(steps=_STEPS, outcomes=st.lists(st.sampled_from(["done", "after", "failed", "held"]), max_size=60))
def test_no_news_are_lost_and_no_key_runs_twice_at_once(
    steps: list[tuple[str, int, float]], outcomes: list[str]
) -> None:
    """Whatever happens: after the last news about a key there is a run that begins later, and runs never overlap."""

    async def scenario() -> None:
        queue: WorkQueue[int] = WorkQueue(first_pause=0.5, longest_pause=4)
        running: set[int] = set()
        last_news: dict[int, float] = {}
        last_run: dict[int, tuple[float, int]] = {}
        sequence = 0

        async def work() -> None:
            nonlocal sequence
            while True:
                try:
                    key = await queue.get()
                except Closed:
                    return
                assert key not in running
                running.add(key)
                sequence += 1
                last_run[key] = (now(), sequence)
                await asyncio.sleep(0.7)
                running.discard(key)
                outcome = outcomes.pop() if outcomes else "done"
                if outcome == "failed":
                    queue.failed(key)
                elif outcome == "held":
                    queue.failed(key, hold=1.5)
                else:
                    queue.done(key, after=1.0 if outcome == "after" else None)

        workers = [asyncio.create_task(work()) for _ in range(3)]
        for what, key, seconds in steps:
            if what == "sleep":
                await asyncio.sleep(seconds)
                continue
            last_news[key] = sequence + 0.5
            if what == "after":
                queue.add_after(key, seconds)
            else:
                queue.add(key, routine=what == "routine")
        await asyncio.sleep(1000)
        assert queue.idle
        assert queue.delayed == 0
        for key, news in last_news.items():
            begun_after = last_run[key][1] > news
            assert begun_after, "news that nobody has looked at"
        queue.close()
        await asyncio.gather(*workers)

    run(scenario())
