"""The caches against a real API server and its faults."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from hosted_cp.kube.cache import Caches, Watched
from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.resources import CONFIG_MAP, CRON_JOB, SECRET
from hosted_cp.kube.store import Change
from tests.component.apiserver import Server
from tests.component.audit import Audit, summary
from tests.component.faults import Fault, proxy
from tests.component.test_client import config_map, credentials_of, cron_job

CANARY = "canary-7d1f"


class Told:
    """The changes that a subscriber was told, and a way to wait for one."""

    def __init__(self, caches: Caches) -> None:
        self.changes: list[Change] = []
        self._news = asyncio.Event()
        caches.subscribe(self._on_change)

    def _on_change(self, change: Change) -> None:
        self.changes.append(change)
        self._news.set()

    async def until(self, true: Callable[[], bool], *, seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while not true():
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def following(client: ApiClient, *watched: Watched, **options: Any) -> AsyncIterator[tuple[Caches, Told]]:
    caches = Caches(client, watched, **options)
    told = Told(caches)
    running = asyncio.create_task(caches.run())
    try:
        async with asyncio.timeout(10):
            await caches.synced()
        yield caches, told
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def value(caches: Caches, namespace: str, name: str = "a") -> Any:
    found = caches.store(CONFIG_MAP).get(namespace, name)
    return None if found is None else found.get("data", "x")


async def test_it_follows(admin: ApiClient, namespace: str) -> None:
    await admin.create(CONFIG_MAP, config_map(namespace, "a", x="1"))
    async with following(admin, Watched(resource=CONFIG_MAP), namespaces=(namespace,)) as (caches, told):
        assert value(caches, namespace) == "1"
        await admin.merge_patch(CONFIG_MAP, namespace, "a", {"data": {"x": "2"}})
        await told.until(lambda: value(caches, namespace) == "2")
        kept = caches.store(CONFIG_MAP).get(namespace, "a")
        assert kept is not None
        assert kept.managers == {"hosted-cp"}
        assert kept.posted
        assert b"managedFields" not in kept.json
        await admin.delete(CONFIG_MAP, namespace, "a")
        await told.until(lambda: value(caches, namespace) is None)
        assert [(c.old is None, c.new is None) for c in told.changes] == [(True, False), (False, False), (False, True)]


async def test_our_own_writes_are_known_at_once_and_their_echoes_are_not_told(admin: ApiClient, namespace: str) -> None:
    async with following(admin, Watched(resource=CONFIG_MAP), namespaces=(namespace,)) as (caches, told):
        ref = CONFIG_MAP.ref(namespace, "a")
        caches.feed(await admin.create(CONFIG_MAP, config_map(namespace, "a", x="1")), ref, by="me")
        caches.feed(await admin.merge_patch(CONFIG_MAP, namespace, "a", {"data": {"x": "2"}}), ref, by="me")
        assert value(caches, namespace) == "2"
        await admin.create(CONFIG_MAP, config_map(namespace, "b"))
        await told.until(lambda: caches.store(CONFIG_MAP).get(namespace, "b") is not None)
        # (The watch may be faster than an answer; what matters is that nothing is told twice.)
        told_names = [(change.name[1], change.by in {"me", None}) for change in told.changes]
        assert told_names == [("a", True), ("a", True), ("b", True)]


async def test_secrets_are_kept_without_what_is_secret(admin: ApiClient, namespace: str) -> None:
    encoded = base64.b64encode(CANARY.encode()).decode()
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "a",
            "namespace": namespace,
            # As `kubectl apply` leaves it.
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": f'{{"data":{{"k":"{encoded}"}}}}'},
        },
        "data": {"k": encoded},
    }
    async with following(admin, Watched(resource=SECRET), namespaces=(namespace,)) as (caches, told):
        await admin.create(SECRET, body)
        await told.until(lambda: caches.store(SECRET).get(namespace, "a") is not None)
        kept = caches.store(SECRET).get(namespace, "a")
        assert kept is not None
        assert kept.secret is not None
        assert set(kept.secret.digests) == {"k"}
        everything = repr(kept) + kept.json.decode() + repr(kept.__dict__)
        assert encoded not in everything
        assert CANARY not in everything


async def test_only_metadata_where_no_more_is_wanted(admin: ApiClient, namespace: str) -> None:
    await admin.create(CONFIG_MAP, config_map(namespace, "a", x="1"))
    watched = Watched(resource=CONFIG_MAP, metadata_only=True)
    async with following(admin, watched, namespaces=(namespace,)) as (caches, told):
        await admin.create(CONFIG_MAP, config_map(namespace, "b", x="1"))
        await told.until(lambda: caches.store(CONFIG_MAP).get(namespace, "b") is not None)
        for name in "ab":
            kept = caches.store(CONFIG_MAP).get(namespace, name)
            assert kept is not None
            assert kept.raw == b""
            assert kept.labels == {"test": "yes"}
            assert kept.ref == CONFIG_MAP.ref(namespace, name)


async def test_following_costs_nothing_when_nothing_happens_and_no_list_when_a_watch_ends(
    server: Server, admin: ApiClient, namespace: str, audit: Audit
) -> None:
    await admin.create(CONFIG_MAP, config_map(namespace, "a", x="1"))
    async with ApiClient(credentials_of(server.access("follower", "system:masters"))) as client:
        since = audit.mark()
        watched = Watched(resource=CONFIG_MAP)
        async with following(client, watched, namespaces=(namespace,), watch_life=(1.0, 1.0)) as (caches, told):
            await asyncio.sleep(3.5)
            await admin.merge_patch(CONFIG_MAP, namespace, "a", {"data": {"x": "2"}})
            await told.until(lambda: value(caches, namespace) == "2")
        seen = audit.requests(since=since, user="follower", resource="configmaps", namespace=namespace)
        counted = summary(seen)
        assert counted.pop("list configmaps") == 1
        assert set(counted) == {"watch configmaps"}
        assert 3 <= counted["watch configmaps"] <= 5


async def test_a_watch_that_breaks_loses_nothing(server: Server, admin: ApiClient, namespace: str) -> None:
    async with proxy(server, "broken", "system:masters") as faulty:
        faulty.add(*[Fault(method="WATCH", cut_after=1) for _ in range(4)])
        async with (
            ApiClient(credentials_of(faulty.access)) as client,
            following(client, Watched(resource=CONFIG_MAP), namespaces=(namespace,)) as (caches, told),
        ):
            for number in range(8):
                await admin.apply(CONFIG_MAP, config_map(namespace, f"a{number}", x="1"))
            await told.until(lambda: len(caches.store(CONFIG_MAP)) == 8)
            assert len(faulty.struck) >= 4
            assert sum(each.startswith("GET") for each in faulty.seen) == 1, "one list is enough"


async def test_a_watch_that_is_too_far_behind_lists_again_and_notices_what_has_gone(
    server: Server, admin: ApiClient, namespace: str
) -> None:
    """The watch breaks and cannot be begun again until etcd has forgotten the point where it broke."""
    await admin.create(CRON_JOB, cron_job(namespace, "gone"))
    async with proxy(server, "behind", "system:masters") as faulty:
        faulty.add(Fault(method="WATCH", cut_after=1), Fault(method="WATCH", status=503, times=2))
        async with (
            ApiClient(credentials_of(faulty.access)) as client,
            following(client, Watched(resource=CRON_JOB), namespaces=(namespace,)) as (caches, told),
        ):
            await admin.create(CRON_JOB, cron_job(namespace, "first"))
            await told.until(lambda: caches.store(CRON_JOB).get(namespace, "first") is not None)
            await admin.delete(CRON_JOB, namespace, "gone")
            await admin.create(CRON_JOB, cron_job(namespace, "second"))
            server.compact()
            await told.until(lambda: caches.store(CRON_JOB).get(namespace, "second") is not None)
            assert caches.store(CRON_JOB).get(namespace, "gone") is None
            assert sum(each.startswith("GET") for each in faulty.seen) == 2


async def test_a_watch_that_goes_silent_is_begun_again(
    server: Server, admin: ApiClient, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = ApiClient.watch

    def impatient(self: ApiClient, *words: Any, **named: Any) -> Any:
        return original(self, *words, **{**named, "inactivity": 0.5})

    monkeypatch.setattr(ApiClient, "watch", impatient)
    async with proxy(server, "silent", "system:masters") as faulty:
        faulty.add(Fault(method="WATCH", cut_after=0, silent=True))
        async with (
            ApiClient(credentials_of(faulty.access)) as client,
            following(client, Watched(resource=CONFIG_MAP), namespaces=(namespace,)) as (caches, told),
        ):
            await admin.create(CONFIG_MAP, config_map(namespace, "a", x="1"))
            await told.until(lambda: value(caches, namespace) == "1")
            assert faulty.struck


async def test_a_server_that_refuses_is_not_stormed(server: Server, admin: ApiClient, namespace: str) -> None:
    async with proxy(server, "refused", "system:masters") as faulty:
        faulty.add(Fault(status=500, times=None))
        async with ApiClient(credentials_of(faulty.access)) as client:
            caches = Caches(client, [Watched(resource=CONFIG_MAP)], namespaces=(namespace,))
            running = asyncio.create_task(caches.run())
            await asyncio.sleep(2.5)
            assert 2 <= len(faulty.seen) <= 6
            assert caches.lagging == [f"configmaps in {namespace}"]
            faulty.heal()
            async with asyncio.timeout(10):
                await caches.synced()
            assert caches.lagging == []
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
