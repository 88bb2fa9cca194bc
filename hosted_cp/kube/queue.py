"""The work queue: which key is worked on next.

A key that is put in ten times while it waits is worked on once; one that is put in while it is worked on is worked on
once more afterwards, never twice at once. Keys of news come before keys of routine (a restart, a timer), but every
fifth turn is routine's, so neither starves. A key that failed waits longer each time; news about it may end that wait,
because what was missing may have come, but not a wait that the server asked for (Retry-After).
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

#: Seconds after the first failure in a row, doubled with each further one up to the limit.
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 60.0

#: One turn in so many goes to routine while news wait.
_ROUTINE_TURN = 5

#: So many dates that have been replaced are kept, beside as many as there are keys, before they are looked for.
_SPARE = 64


class Closed(Exception):
    """The queue gives no more keys."""


@dataclass(kw_only=True)
class _Entry:
    """What is known of one key. An entry lives as long as there is something to know."""

    #: Since when it waits for a worker (loop time); None: it does not.
    waiting_since: float | None = None
    routine: bool = False
    running: bool = False
    #: It was put in while it was worked on.
    again: bool = False
    #: When it is put in by itself (loop time), and until when nothing else may do so.
    due: float | None = None
    #: A date that somebody asked for while it was worked on.
    asked: float | None = None
    held_until: float = 0.0
    failures: int = 0


class WorkQueue(Generic[K]):
    """For one event loop; its clock is the loop's, so that tests can move it."""

    def __init__(
        self,
        *,
        first_pause: float = FIRST_PAUSE,
        longest_pause: float = LONGEST_PAUSE,
        waited: Callable[[float], None] | None = None,
    ) -> None:
        """`waited` is told, for each key handed out, how many seconds it stood in the queue."""
        self._loop = asyncio.get_running_loop()
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._waited = waited
        self._entries: dict[K, _Entry] = {}
        self._news: deque[K] = deque()
        self._routine: deque[K] = deque()
        self._turn = 0
        self._timers: list[tuple[float, int, K]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._count = 0
        self._workers: deque[asyncio.Future[None]] = deque()
        self._closed = False

    # -- putting in ----------------------------------------------------------------------------------------------

    def add(self, key: K, *, routine: bool = False) -> None:
        """Let the key be worked on, soon."""
        if self._closed:
            return
        entry = self._entries.setdefault(key, _Entry())
        if entry.running:
            entry.again = True
        elif entry.held_until > self._loop.time():
            pass  # its timer is set
        else:
            self._enqueue(key, entry, routine=routine)

    def add_after(self, key: K, seconds: float) -> None:
        """Let the key be worked on then, or earlier if that was asked for before."""
        entry = self._entries.setdefault(key, _Entry())
        due = self._loop.time() + seconds
        if entry.running:
            entry.asked = due if entry.asked is None else min(due, entry.asked)
        elif entry.due is None or due < entry.due:
            self._set_timer(key, entry, due)

    # -- working -------------------------------------------------------------------------------------------------

    async def get(self) -> K:
        """The next key; it must be given back by `done` or `failed`. Raises `Closed` once the queue is closed."""
        while not self._closed:
            key = self._next()
            if key is not None:
                return key
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._workers.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()  # it was our turn: somebody else must take it
                elif waiter in self._workers:  # (whoever looked for one to wake has passed over it already)
                    self._workers.remove(waiter)
                raise
        raise Closed

    def looking(self, key: K) -> None:
        """Whoever works on the key looks at the world now: what it was put in for until now is seen with that."""
        self._entries[key].again = False

    def done(self, key: K, *, after: float | None = None) -> None:
        """Its work is done, and older dates and failures are forgotten. `after`: seconds until it is due by itself."""
        entry = self._given_back(key)
        entry.failures = 0
        entry.due = None
        entry.held_until = 0.0
        dates = [
            date for date in (entry.asked, None if after is None else self._loop.time() + after) if date is not None
        ]
        if dates:
            self._set_timer(key, entry, min(dates))
        entry.asked = None
        self._after_work(key, entry)

    def failed(self, key: K, *, hold: float | None = None) -> float:
        """Its work failed; returns the seconds until it is tried again by itself.

        `hold`: seconds that the server asked us to wait; nothing shortens those.
        """
        entry = self._given_back(key)
        pause: float = min(self._first_pause * 2**entry.failures, self._longest_pause)
        entry.failures = min(entry.failures + 1, 32)
        now = self._loop.time()
        if hold is not None:
            entry.held_until = now + hold
            pause = max(pause, hold)
            entry.again = False  # what came meanwhile waits too
        due = now + pause if entry.asked is None else max(entry.held_until, min(entry.asked, now + pause))
        entry.asked = None
        self._set_timer(key, entry, due)
        self._after_work(key, entry)
        return pause

    def forget(self, key: K) -> None:
        """The key will not come back: drop its timer and its failures (after `done`)."""
        entry = self._entries.get(key)
        if entry is not None and not entry.running and entry.waiting_since is None:
            del self._entries[key]

    def close(self) -> None:
        """Give out no more keys; workers that wait get `Closed`."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._workers:
            self._wake()

    # -- looking -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """How many keys wait for a worker now."""
        return len(self._news) + len(self._routine)

    @property
    def running(self) -> int:
        """How many keys are worked on now."""
        return sum(entry.running for entry in self._entries.values())

    @property
    def delayed(self) -> int:
        """How many keys have a date on which they come back by themselves."""
        return sum(entry.due is not None for entry in self._entries.values())

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is worked on."""
        return not len(self) and not self.running

    # -- inside --------------------------------------------------------------------------------------------------

    def _enqueue(self, key: K, entry: _Entry, *, routine: bool) -> None:
        if entry.waiting_since is None:
            entry.waiting_since = self._loop.time()
            entry.routine = routine
            (self._routine if routine else self._news).append(key)
            self._wake()
        elif entry.routine and not routine:
            # News about a key that waits as routine: it moves, and its old place is passed over.
            entry.routine = False
            self._routine.remove(key)
            self._news.append(key)

    def _next(self) -> K | None:
        if not self._news and not self._routine:
            return None
        self._turn += 1
        prefer_routine = self._turn % _ROUTINE_TURN == 0
        line = self._routine if self._routine and (prefer_routine or not self._news) else self._news
        key = line.popleft()
        entry = self._entries[key]
        assert entry.waiting_since is not None
        if self._waited is not None:
            self._waited(self._loop.time() - entry.waiting_since)
        entry.waiting_since, entry.routine, entry.running = None, False, True
        return key

    def _given_back(self, key: K) -> _Entry:
        entry = self._entries[key]
        if not entry.running:
            raise ValueError("a key was given back that nobody works on")
        entry.running = False
        return entry

    def _after_work(self, key: K, entry: _Entry) -> None:
        if entry.again:
            entry.again = False
            self._enqueue(key, entry, routine=False)
        elif entry.due is None and not entry.failures:
            del self._entries[key]

    def _wake(self) -> None:
        while self._workers:
            waiter = self._workers.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _set_timer(self, key: K, entry: _Entry, due: float) -> None:
        entry.due = due
        self._count += 1
        heapq.heappush(self._timers, (due, self._count, key))
        if len(self._timers) > 2 * len(self._entries) + _SPARE:
            self._drop_replaced()
        self._arm()

    def _drop_replaced(self) -> None:
        """Forget the dates that others have taken the place of: a far one is set anew whenever its key is worked on."""
        self._timers = [
            timer
            for timer in self._timers
            if (entry := self._entries.get(timer[2])) is not None and entry.due == timer[0]
        ]
        heapq.heapify(self._timers)

    def _arm(self) -> None:
        """One timer of the loop for all keys, set for the earliest. (To set it anew costs more than a look.)"""
        if self._timer is not None:
            if self._timers and self._timer.when() <= self._timers[0][0]:
                return  # if it rings too early, it is set again
            self._timer.cancel()
            self._timer = None
        if self._timers and not self._closed:
            self._timer = self._loop.call_at(self._timers[0][0], self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._timers and self._timers[0][0] <= now:
            due, _, key = heapq.heappop(self._timers)
            entry = self._entries.get(key)
            if entry is None or entry.due != due:
                continue  # another date has been set since
            entry.due = None
            entry.held_until = 0.0
            if entry.running:
                entry.again = True
            else:
                self._enqueue(key, entry, routine=True)
        self._arm()
