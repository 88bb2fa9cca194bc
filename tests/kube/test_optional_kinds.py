"""Kinds that need not be there: the caches are filled without them, and follow them from the moment they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
import pytest

from hosted_cp.kube import cache
from hosted_cp.kube.cache import Caches, Watched
from hosted_cp.kube.client import ApiClient, Page, WatchEvent
from hosted_cp.kube.errors import Forbidden, NotFound
from hosted_cp.kube.resources import CONFIG_MAP, CONTROL_PLANE, CRD, SECRET, Resource
from hosted_cp.kube.store import Change

OPTIONAL = Watched(resource=CONTROL_PLANE, optional=True)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await scenario

    asyncio.run(bounded())


def body(resource: Resource, name: str, version: int) -> bytes:
    metadata: dict[str, Any] = {"name": name, "uid": f"{name}-{version}", "resourceVersion": str(version)}
    if resource.namespaced:
        metadata["namespace"] = "ns"
    return orjson.dumps({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata})


@dataclass
class Server:
    """An API server as far as lists and watches go."""

    objects: dict[Resource, list[bytes]] = field(default_factory=lambda: {CRD: [], SECRET: []})
    refusing: set[Resource] = field(default_factory=set)
    lists: dict[Resource, int] = field(default_factory=dict)
    watches: dict[Resource, asyncio.Queue[WatchEvent | None]] = field(default_factory=dict)
    version: int = 1

    async def pages(self, resource: Resource, namespace: str = "", **_: Any) -> AsyncGenerator[Page, None]:
        self.lists[resource] = self.lists.get(resource, 0) + 1
        if resource in self.refusing:
            raise Forbidden("no", code=403)
        if resource not in self.objects:
            raise NotFound("no such kind", code=404)
        yield Page(items=tuple(self.objects[resource]), resource_version=str(self.version))

    async def watch(self, resource: Resource, namespace: str = "", **_: Any) -> AsyncGenerator[WatchEvent, None]:
        if resource not in self.objects:
            raise NotFound("no such kind", code=404)
        events = self.watches[resource] = asyncio.Queue()
        while (event := await events.get()) is not None:
            yield event

    def tell(self, kind: str, resource: Resource, name: str) -> None:
        self.version += 1
        self.watches[resource].put_nowait(WatchEvent(type=kind, raw=body(resource, name, self.version)))

    def serve(self, resource: Resource, *names: str) -> None:
        """The kind is installed, with these objects; its definition is told of a moment before."""
        self.tell("ADDED", CRD, resource.definition)
        self.version += 1
        self.objects[resource] = [body(resource, name, self.version) for name in names]

    def end(self, resource: Resource) -> None:
        """The kind is taken away: its objects first, then its watches end."""
        del self.objects[resource]
        self.watches.pop(resource).put_nowait(None)


@asynccontextmanager
async def following(server: Server, *watched: Watched) -> AsyncIterator[tuple[Caches, list[Change]]]:
    caches = Caches(cast(ApiClient, server), watched)
    told: list[Change] = []
    caches.subscribe(told.append)
    running = asyncio.create_task(caches.run())
    try:
        await caches.synced()
        yield caches, told
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def until(true: Any) -> None:
    while not true():  # noqa: ASYNC110 - what caches hold offers nothing to wait on
        await asyncio.sleep(0.01)


def test_a_kind_comes_and_goes_and_comes_again() -> None:
    async def scenario() -> None:
        server = Server()
        async with following(server, Watched(resource=CRD, metadata_only=True), OPTIONAL) as (caches, told):
            assert caches.missing == {CONTROL_PLANE}
            assert caches.lagging == []
            await until(lambda: CRD in server.watches)
            for life in (1, 2):
                server.serve(CONTROL_PLANE, "a", "b")
                store = caches.store(CONTROL_PLANE)
                await until(lambda store=store: len(store) == 2)
                assert caches.missing == frozenset()
                told.clear()
                server.end(CONTROL_PLANE)
                server.tell("DELETED", CRD, CONTROL_PLANE.definition)
                await until(lambda store=store: not len(store))
                assert {c.name for c in told if c.resource == CONTROL_PLANE and c.new is None} == {
                    ("ns", "a"), ("ns", "b"),
                }, life  # fmt: skip
                await until(lambda: caches.missing == {CONTROL_PLANE})

    run(scenario())


def test_a_missing_kind_is_not_asked_for_again_and_again() -> None:
    async def scenario() -> None:
        server = Server()
        async with following(server, Watched(resource=CRD, metadata_only=True), OPTIONAL):
            asked = server.lists[CONTROL_PLANE]
            await asyncio.sleep(1)
            assert server.lists[CONTROL_PLANE] == asked == 1

    run(scenario())


def test_a_kind_that_is_defined_and_not_served_yet_is_asked_for_again() -> None:
    async def scenario() -> None:
        server = Server()
        server.objects[CRD] = [body(CRD, CONTROL_PLANE.definition, 1)]
        async with following(server, Watched(resource=CRD, metadata_only=True), OPTIONAL) as (caches, _):
            server.objects[CONTROL_PLANE] = [body(CONTROL_PLANE, "a", 1)]
            await until(lambda: len(caches.store(CONTROL_PLANE)) == 1)

    run(scenario())


def test_where_nobody_tells_it_is_looked_for_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `--namespace`, where definitions may not be read."""
    monkeypatch.setattr(cache, "_RARELY", 0.2)

    async def scenario() -> None:
        server = Server()
        async with following(server, Watched(resource=SECRET), OPTIONAL) as (caches, _):
            server.objects[CONTROL_PLANE] = [body(CONTROL_PLANE, "a", 1)]
            await until(lambda: len(caches.store(CONTROL_PLANE)) == 1)

    run(scenario())


def test_an_optional_kind_that_may_not_be_read_holds_nothing_up() -> None:
    async def scenario() -> None:
        server = Server(refusing={CONTROL_PLANE})
        async with following(server, Watched(resource=CRD, metadata_only=True), OPTIONAL) as (caches, _):
            assert caches.missing == {CONTROL_PLANE}

    run(scenario())


def test_what_is_of_use_only_beside_another_kind_is_followed_with_that() -> None:
    async def scenario() -> None:
        server = Server()
        server.objects[CONFIG_MAP] = [body(CONFIG_MAP, "a", 1)]
        companion = Watched(resource=CONFIG_MAP, optional=True, beside=CONTROL_PLANE)
        async with following(server, Watched(resource=CRD, metadata_only=True), OPTIONAL, companion) as (caches, _):
            assert CONFIG_MAP not in server.lists
            server.serve(CONTROL_PLANE, "b")
            await until(lambda: len(caches.store(CONFIG_MAP)) == 1)

    run(scenario())


def test_a_kind_that_is_needed_holds_everything_up() -> None:
    async def scenario() -> None:
        server = Server()
        caches = Caches(cast(ApiClient, server), [Watched(resource=CONTROL_PLANE)])
        running = asyncio.create_task(caches.run())
        with suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await caches.synced()
        assert caches.lagging == ["k0smotroncontrolplanes"]
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    run(scenario())
