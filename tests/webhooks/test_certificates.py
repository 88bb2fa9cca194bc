"""Two replicas and their Secrets, with a store in memory in place of an API server: one makes, the other reads.

(With a real one: `tests/component/test_webhook.py`.)
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson
import pytest

from hosted_cp.kube.client import Answer, ApiClient, WatchEvent
from hosted_cp.kube.errors import AlreadyExists, Conflict, NotFound, Unreachable
from hosted_cp.kube.material import Sources
from hosted_cp.kube.webhook_names import CA_SECRET, SERVING_SECRET
from hosted_cp.webhooks.authority import serving_recipe
from hosted_cp.webhooks.certificates import SecretCertificates, Tls
from hosted_cp.webhooks.metrics import Metrics

RECIPE = serving_recipe(dns_names=["hosted-cp-webhook.hosted-cp.svc"])


class Store:
    """Secrets of one namespace, as far as the webhook asks for them."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.down = False
        self._version = 0
        self._news = asyncio.Condition()

    def _body(self, body: Any) -> dict[str, Any]:
        self._version += 1
        return {**body, "metadata": {**body["metadata"], "uid": "u", "resourceVersion": str(self._version)}}

    def _ask(self, verb: str, name: str) -> None:
        if self.down:
            raise Unreachable("down")
        self.asked.append(f"{verb} {name}")

    async def get(self, _: object, namespace: str, name: str) -> Answer:
        self._ask("get", name)
        await asyncio.sleep(0)
        if name not in self.secrets:
            raise NotFound("none")
        return Answer(orjson.dumps(self.secrets[name]))

    async def create(self, _: object, body: Any) -> Answer:
        name = body["metadata"]["name"]
        self._ask("create", name)
        await asyncio.sleep(0)
        if name in self.secrets:
            raise AlreadyExists("there")
        return await self._put(name, body)

    async def replace(self, _: object, body: Any) -> Answer:
        name = body["metadata"]["name"]
        self._ask("update", name)
        if self.secrets[name]["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise Conflict("changed")
        return await self._put(name, body)

    async def _put(self, name: str, body: Any) -> Answer:
        self.secrets[name] = self._body(body)
        async with self._news:
            self._news.notify_all()
        return Answer(orjson.dumps(self.secrets[name]))

    async def remove(self, name: str) -> None:
        del self.secrets[name]
        async with self._news:
            self._news.notify_all()

    async def watch(self, _: object, namespace: str, *, since: str, fields: str) -> AsyncGenerator[WatchEvent, None]:
        name = fields.removeprefix("metadata.name=")
        self._ask("watch", name)
        async with self._news:
            await self._news.wait_for(
                lambda: self.secrets.get(name, {}).get("metadata", {}).get("resourceVersion") != since
            )
        yield WatchEvent(type="MODIFIED", raw=b"{}")

    def serving(self) -> bytes:
        return base64.b64decode(self.secrets[SERVING_SECRET]["data"]["tls.crt"])


@asynccontextmanager
async def replica(store: Store, *, now: list[datetime]) -> AsyncIterator[Tls]:
    tls = Tls(metrics=Metrics())
    keeping = SecretCertificates(
        cast(ApiClient, store), namespace="hosted-cp", recipe=RECIPE, tls=tls,
        sources=Sources(now=lambda: now[0]), spread=lambda: 0.0,
    )  # fmt: skip
    task = asyncio.create_task(keeping.run())
    try:
        async with asyncio.timeout(20):
            await tls.usable.wait()
        yield tls
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(true: Any) -> None:
    async with asyncio.timeout(20):
        while True:
            if true():
                return
            await asyncio.sleep(0.01)


@pytest.fixture
def now() -> list[datetime]:
    return [datetime.now(UTC)]


async def test_two_that_start_at_once_serve_by_one_ca(now: list[datetime]) -> None:
    store = Store()
    async with replica(store, now=now) as one, replica(store, now=now) as other:
        await until(lambda: one.fingerprint == other.fingerprint != "")
        assert set(store.secrets) == {CA_SECRET, SERVING_SECRET}
        made = {name: body["metadata"]["resourceVersion"] for name, body in store.secrets.items()}
    # A third one makes nothing, and asks for two Secrets once.
    store.asked.clear()
    async with replica(store, now=now):
        await until(lambda: len(store.asked) == 4)
        await asyncio.sleep(0.05)
    assert sorted(store.asked) == sorted(f"{verb} {name}" for verb in ("get", "watch") for name in made)
    assert made == {name: body["metadata"]["resourceVersion"] for name, body in store.secrets.items()}


async def test_what_is_deleted_comes_back_and_both_take_it_into_use(now: list[datetime]) -> None:
    store = Store()
    async with replica(store, now=now) as one, replica(store, now=now) as other:
        await until(lambda: one.fingerprint == other.fingerprint)
        before, served = one.fingerprint, store.serving()
        await store.remove(SERVING_SECRET)
        await until(lambda: one.fingerprint == other.fingerprint != before)
        assert store.serving() != served
        authority = store.secrets[CA_SECRET]["data"]["ca.crt"]
        before = one.fingerprint
        await store.remove(CA_SECRET)
        await until(lambda: CA_SECRET in store.secrets)
        await asyncio.sleep(0.1)
        bundle = base64.b64decode(store.secrets[CA_SECRET]["data"]["ca.crt"])
        assert base64.b64decode(authority) in bundle
        assert bundle.count(b"BEGIN CERTIFICATE") == 2
        assert one.fingerprint == other.fingerprint == before


async def test_a_certificate_is_renewed_in_time_once_for_both(now: list[datetime]) -> None:
    store = Store()
    async with replica(store, now=now) as one, replica(store, now=now) as other:
        await until(lambda: one.fingerprint == other.fingerprint)
        before = one.fingerprint
        now[0] += timedelta(days=61)
        # A change of either Secret is a reason to look; else it is the clock, which does not pass here.
        await store._put(CA_SECRET, store.secrets[CA_SECRET])
        await until(lambda: one.fingerprint == other.fingerprint != before)
    assert sum(each == f"update {SERVING_SECRET}" for each in store.asked) <= 2
    assert b"BEGIN CERTIFICATE" in store.serving()


async def test_an_api_server_that_is_away_ends_nothing(
    now: list[datetime], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hosted_cp.webhooks.certificates._PAUSES", (0.01,))
    store = Store()
    async with replica(store, now=now) as one:
        before = one.fingerprint
        store.down = True
        await store._put(CA_SECRET, store.secrets[CA_SECRET])
        await until(lambda: "Unreachable" in caplog.text)
        store.down = False
        await store.remove(SERVING_SECRET)
        await until(lambda: one.fingerprint != before)
    assert "PRIVATE" not in caplog.text
