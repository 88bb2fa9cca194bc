"""Caches that follow an API server: for each kind one list, then one watch for as long as the process lives.

An idle cluster costs one request per kind about every ten minutes, when the server ends the watch. A watch that breaks
is begun again where it ended; only when the server has forgotten that point (410) is everything listed again. A watch
that says nothing for 70 seconds, not even a bookmark, is taken for dead.

A kind that is *optional* may be missing, or ours to read only later: then it is as if it had no objects. Its coming is
told by the definitions of kinds, which are followed like everything else, where they may be.

The caches decide nothing: whoever subscribes is told of every change, and is expected to put a key into a queue.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from hosted_cp.kube.client import Answer, ApiClient, WatchEvent
from hosted_cp.kube.errors import ApiError, Forbidden, Gone, NotFound, Unauthorized
from hosted_cp.kube.observing import Glimpse, Unreadable, glimpse, observe
from hosted_cp.kube.resources import CRD, Resource, resource_for
from hosted_cp.kube.store import Change, Name, Store
from hosted_cp.planning.actions import Ref
from hosted_cp.planning.observed import Observed

log = logging.getLogger(__name__)

Subscriber = Callable[[Change], None]

#: Seconds until a watch is ended by the server and begun again, drawn for each watch so that they spread.
WATCH_LIFE = (480.0, 600.0)

#: Seconds to wait after failures in a row, before jitter.
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)

#: The same for an optional kind that is missing, where nobody tells when it comes.
_RARELY = 300.0

#: Objects taken in before others get a turn of the event loop (facts of a Secret cost up to a millisecond).
_TURN = 25


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One kind that is followed, and how much of it."""

    resource: Resource
    #: Keep metadata only, and ask the server for no more.
    metadata_only: bool = False
    #: Of a top-level member (`spec`, `status`) keep only these of its members; all of those that are not named here.
    keep: Mapping[str, frozenset[str]] = field(default_factory=dict, hash=False)
    #: Selectors as the API writes them. Objects outside are as good as not there.
    labels: str = ""
    fields: str = ""
    #: Whether the operator runs without it, too.
    optional: bool = False
    #: An optional kind without which this one is of no use: it is followed only when that is there.
    beside: Resource | None = None


class Caches:
    """Stores for some kinds of one API server, kept up to date by `run`."""

    def __init__(
        self,
        client: ApiClient,
        watched: Iterable[Watched],
        *,
        namespaces: tuple[str, ...] = (),
        watch_life: tuple[float, float] = WATCH_LIFE,
    ) -> None:
        """`namespaces`: follow only these (cluster-scoped kinds are followed all the same); empty: all."""
        self._client = client
        self._watch_life = watch_life
        self._watched = {each.resource: each for each in watched}
        self.stores: Mapping[Resource, Store] = {resource: Store(resource) for resource in self._watched}
        self._subscribers: list[Subscriber] = []
        self._missing: set[Resource] = set()
        #: Set once it is known whether a kind is there; and while it is.
        self._told = {resource: asyncio.Event() for resource in self._watched}
        self._there = {resource: asyncio.Event() for resource in self._watched}
        #: By name of a definition: set when there is news of it.
        self._defined = {each.definition: asyncio.Event() for each in self._watched}
        self._followers = [
            _Follower(self, each, namespace)
            for each in self._watched.values()
            for namespace in (namespaces if namespaces and each.resource.namespaced else ("",))
        ]

    def store(self, resource: Resource) -> Store:
        """The store of a followed kind."""
        return self.stores[resource]

    def subscribe(self, subscriber: Subscriber) -> None:
        """Tell of every change from now on, also of those that the first list brings."""
        self._subscribers.append(subscriber)

    async def run(self) -> None:
        """Follow until cancelled. An error that is not the server's ends it, and must end the process: a kind that
        nobody follows any more would look like a quiet one."""
        async with asyncio.TaskGroup() as group:
            for follower in self._followers:
                group.create_task(follower.run(), name=f"follow {follower}")

    async def synced(self) -> None:
        """Wait until every kind has been listed once."""
        for follower in self._followers:
            await follower.synced.wait()

    @property
    def lagging(self) -> list[str]:
        """The kinds that have not been listed yet, for `/readyz` and for the log."""
        return [str(follower) for follower in self._followers if not follower.synced.is_set()]

    @property
    def refused(self) -> Mapping[str, str]:
        """The kinds that the server does not let us follow, and in which words it says so: what happens to them is not
        known meanwhile."""
        return {str(follower): follower.refused for follower in self._followers if follower.refused}

    @property
    def missing(self) -> frozenset[Resource]:
        """The optional kinds that the server does not have, or does not let us read."""
        return frozenset(self._missing)

    # -- news ----------------------------------------------------------------------------------------------------

    def feed(self, answer: Answer, ref: Ref, *, by: object = None) -> Observed | None:
        """The answer to a write of ours, or to a live read, so that the next plan knows it before the watch tells.

        Returns the object as it is to be known; None if it cannot be read.
        """
        resource = resource_for(ref)
        watched = self._watched.get(resource)
        try:
            if (known := self._told_already(answer, resource)) is not None:
                return known
            seen = _observed(answer.raw, watched) if watched is not None else observe(answer.raw, resource=resource)
        except Unreadable:
            log.warning("the answer to a write of %s cannot be read", ref)
            return None
        if watched is not None:
            self.tell(self.stores[resource].offer(seen, by=by, fed=True))
        return seen

    def _told_already(self, answer: Answer, resource: Resource) -> Observed | None:
        """What the watch has told of exactly this version: it often overtakes the answer. Raises `Unreadable`.

        Not for what is being deleted: the answer to the patch that takes the last finalizer away has no finalizer, but
        still the version from before.
        """
        if resource not in self.stores:
            return None
        seen = glimpse(answer.raw)
        known = self.stores[resource].get(seen.namespace, seen.name)
        if known is None or known.deleting or (known.uid, known.resource_version) != (seen.uid, seen.resource_version):
            return None
        return known

    def forget(self, ref: Ref, *, uid: str, by: object = None) -> None:
        """An object of ours with this UID has ended, as the answer to our delete (or a 404) said."""
        store = self.stores.get(resource_for(ref))
        if store is not None:
            self.tell(store.gone((ref.namespace or "", ref.name), uid=uid, by=by))

    def known(self, ref: Ref) -> Observed | None:
        """What the caches know of an object of a followed kind."""
        store = self.stores.get(resource_for(ref))
        return store.get(ref.namespace, ref.name) if store is not None else None

    def tell(self, change: Change | None) -> None:
        """Pass a change on to the subscribers."""
        if change is not None:
            if change.resource == CRD and change.new is not None and change.new.ref.name in self._defined:
                self._defined[change.new.ref.name].set()
            for subscriber in self._subscribers:
                subscriber(change)

    # What followers need.

    @property
    def client(self) -> ApiClient:
        """Where the objects come from."""
        return self._client

    def found(self, resource: Resource) -> None:
        """A kind has been listed."""
        self._missing.discard(resource)
        self._told[resource].set()
        self._there[resource].set()

    async def is_there(self, resource: Resource) -> bool:
        """Whether a kind is there, once that is known."""
        await self._told[resource].wait()
        return self._there[resource].is_set()

    async def until_there(self, resource: Resource) -> None:
        """Wait for a kind that may be missing."""
        await self._there[resource].wait()

    async def until_defined(self, resource: Resource, *, again: float) -> None:
        """Wait for news of the definition of a missing kind; no longer than `again` (seconds) if there is one: what is
        defined is served a moment later. Where nobody follows definitions, look again now and then."""
        self._missing.add(resource)
        self._told[resource].set()
        self._there[resource].clear()
        news = self._defined[resource.definition]
        news.clear()
        limit: float | None = _RARELY
        if CRD in self.stores and resource.group:  # (the core group's kinds have no definition)
            limit = again if self.stores[CRD].get(None, resource.definition) is not None else None
        with suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await news.wait()

    def watch_life(self) -> float:
        """Seconds for the next watch."""
        return random.uniform(*self._watch_life)  # noqa: S311


class _Follower:
    """List and watch of one kind (in one namespace)."""

    def __init__(self, caches: Caches, watched: Watched, namespace: str) -> None:
        self._caches = caches
        self._watched = watched
        self._namespace = namespace
        self._store = caches.stores[watched.resource]
        self._version = ""
        self._failures = 0
        self.synced = asyncio.Event()
        #: Why the server does not let us follow; "" as long as it does. (That it does not answer is another matter.)
        self.refused = ""

    def __str__(self) -> str:
        return self._watched.resource.plural + (f" in {self._namespace}" if self._namespace else "")

    async def run(self) -> None:
        while True:
            begun = time.monotonic()
            pause = 0.0
            try:
                beside = self._watched.beside
                if not self._version and beside is not None and not await self._caches.is_there(beside):
                    self.synced.set()
                    await self._caches.until_there(beside)
                if not self._version:
                    await self._list()
                await self._watch()
                # The server ended it, as it should after some minutes. At once again means that something is wrong.
                pause = 0.0 if time.monotonic() - begun > 1.0 else self._pause()
            except Gone:
                log.info("the watch of %s is too far behind: listing again", self)
                self._version = ""
                pause = self._pause()
            except ApiError as error:
                if self._watched.optional and isinstance(error, NotFound | Forbidden):
                    await self._absent(error)
                    continue
                if isinstance(error, Forbidden | Unauthorized):
                    self.refused = error.public()
                pause = max(self._pause(), error.retry_after or 0.0)
                level = logging.WARNING if self._failures > 2 else logging.INFO
                log.log(level, "following %s: %s; again in %.1f s", self, error.public(), pause)
            if pause:
                await asyncio.sleep(pause)

    async def _absent(self, error: ApiError) -> None:
        """The kind is missing, or not for us: nothing is there, until its definition comes."""
        if self._version or not self.synced.is_set():
            log.info("%s are not followed for now: %s", self, error.public())
        for change in self._store.emptied(self._namespace):
            self._caches.tell(change)
        self._version = ""
        self.synced.set()
        await self._caches.until_defined(self._watched.resource, again=self._pause())

    def _pause(self) -> float:
        base = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
        self._failures += 1
        return base * random.uniform(0.5, 1.5)  # noqa: S311

    async def _list(self) -> None:
        watched = self._watched
        present: set[Name] = set()
        version = ""
        pages = self._caches.client.pages(
            watched.resource, self._namespace, labels=watched.labels, fields=watched.fields,
            metadata_only=watched.metadata_only,
        )  # fmt: skip
        async with aclosing(pages):
            async for page in pages:
                for number, raw in enumerate(page.items, start=1):
                    try:
                        seen = glimpse(raw)
                    except Unreadable as fault:
                        log.error("in the list of %s: %s", self, fault)
                        continue
                    present.add((seen.namespace, seen.name))
                    self._caches.tell(self._offer(seen, raw))
                    if number % _TURN == 0:
                        await asyncio.sleep(0)
                version = page.resource_version
        for change in self._store.listed(self._namespace, present, version):
            self._caches.tell(change)
        self._version = version
        self._caches.found(watched.resource)
        self.synced.set()

    async def _watch(self) -> None:
        watched = self._watched
        events = self._caches.client.watch(
            watched.resource, self._namespace, since=self._version, labels=watched.labels, fields=watched.fields,
            metadata_only=watched.metadata_only, timeout=self._caches.watch_life(), begun=self._begun,
        )  # fmt: skip
        async with aclosing(events):
            async for event in events:
                self._failures = 0
                self._take(event)

    def _begun(self) -> None:
        self.refused = ""

    def _take(self, event: WatchEvent) -> None:
        try:
            seen = glimpse(event.raw)
        except Unreadable as fault:
            log.error("in the watch of %s: %s", self, fault)
            return
        change = None
        if event.type == "DELETED":
            change = self._store.gone((seen.namespace, seen.name), uid=seen.uid, version=seen.resource_version)
        elif event.type != "BOOKMARK":
            change = self._offer(seen, event.raw)
        self._version = seen.resource_version
        self._store.told(self._namespace, self._version)
        self._caches.tell(change)

    def _offer(self, seen: Glimpse, raw: bytes) -> Change | None:
        """Echoes of our own writes end here, before the work of reading them."""
        if not self._store.is_news(seen):
            return None
        try:
            new = _observed(raw, self._watched)
        except Unreadable as fault:
            log.error("%s %s/%s: %s", self, seen.namespace, seen.name, fault)
            return None
        return self._store.offer(new)


def _observed(raw: bytes, watched: Watched) -> Observed:
    """As much of an object as is followed. Raises `Unreadable`."""
    return observe(raw, resource=watched.resource, metadata_only=watched.metadata_only, keep=watched.keep)
