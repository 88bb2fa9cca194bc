"""Objects that are nested deeper than parsers go: one of them is passed over, by its name, and takes no other along."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.kube.cache import Caches, Watched
from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.credentials import Credentials
from hosted_cp.kube.deep import cut
from hosted_cp.kube.observing import Unreadable, glimpse, observe
from hosted_cp.kube.resources import CLUSTER

#: As deep as an API server stores.
DEEPEST = 9_000

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=30,
)


def sent(name: str, *, levels: int = 1, version: int = 1) -> bytes:
    metadata = {"name": name, "namespace": "n", "uid": f"{name}-uid", "resourceVersion": str(version),
                "labels": {"a": "}{"}}  # fmt: skip
    nested = b'{"a":' * levels + b"1" + b"}" * levels
    return b'{"metadata":' + orjson.dumps(metadata) + b',"spec":{"k0sConfig":' + nested + b"}}"


@given(VALUES, st.integers(min_value=1, max_value=4), st.booleans())
def test_cut_is_null_in_the_place_of_what_is_deep(value: Any, levels: int, spaced: bool) -> None:
    raw = json.dumps([value], ensure_ascii=False, indent=1 if spaced else None).encode()
    text, pieces = cut(raw, levels=levels)
    found: list[Any] = []

    def shallow(each: Any, level: int) -> Any:
        if isinstance(each, list | dict) and level > levels:
            found.append(each)
            return None
        if isinstance(each, list):
            return [shallow(inner, level + 1) for inner in each]
        if isinstance(each, dict):
            return {key: shallow(inner, level + 1) for key, inner in each.items()}
        return each

    assert json.loads(text) == shallow([value], 1)
    assert [json.loads(each) for each in pieces] == found


def test_a_deep_object_is_known_by_its_name_and_not_read() -> None:
    raw = sent("deep", levels=DEEPEST)
    assert (glimpse(raw).namespace, glimpse(raw).name, glimpse(raw).uid) == ("n", "deep", "deep-uid")
    with pytest.raises(Unreadable, match="is nested too deeply to be read"):
        observe(raw, resource=CLUSTER)


@asynccontextmanager
async def serving(items: list[bytes], events: asyncio.Queue[bytes]) -> AsyncIterator[ApiClient]:
    """An API server that lists these and tells of those."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            body = b'{"kind":"ClusterList","metadata":{"resourceVersion":"5"},"items":[' + b",".join(items) + b"]}"
            return web.Response(body=body, content_type="application/json")
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(await events.get() + b"\n")

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        [(host, port)] = runner.addresses
        async with ApiClient(Credentials(server=f"http://{host}:{port}")) as client:
            yield client
    finally:
        await runner.cleanup()


def test_one_deep_object_blinds_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        events: asyncio.Queue[bytes] = asyncio.Queue()
        items = [sent("a"), sent("deep", levels=DEEPEST), sent("b", levels=500)]
        async with serving(items, events) as client:
            caches = Caches(client, [Watched(resource=CLUSTER)])
            told = asyncio.Event()
            caches.subscribe(lambda change: told.set() if change.name == ("n", "d") else None)
            running = asyncio.create_task(caches.run())
            try:
                async with asyncio.timeout(20):
                    await caches.synced()
                    store = caches.store(CLUSTER)
                    assert {name for _, name in store.names()} == {"a", "b"}
                    assert "clusters n/deep: an object of kind Cluster is nested too deeply" in caplog.text
                    # What was readable and is so no more stays as it was; what comes after it is told.
                    for kind, raw in (
                        ("MODIFIED", sent("a", levels=DEEPEST, version=6)), ("ADDED", sent("c", version=7)),
                        ("DELETED", sent("b", levels=DEEPEST, version=8)), ("ADDED", sent("d", version=9)),
                    ):  # fmt: skip
                        events.put_nowait(b'{"type":"' + kind.encode() + b'","object":' + raw + b"}")
                    await told.wait()
                    assert {name for _, name in store.names()} == {"a", "c", "d"}
                    former = store.get("n", "a")
                    assert former is not None
                    assert former.resource_version == "1"
                    assert not running.done()
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    caplog.set_level(logging.INFO)
    asyncio.run(scenario())
