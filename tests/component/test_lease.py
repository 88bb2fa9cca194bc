"""Leader election against a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.lease import Lease, Terms
from hosted_cp.kube.resources import LEASE
from tests.component.apiserver import Server
from tests.component.audit import Audit
from tests.component.faults import Fault, proxy
from tests.component.test_client import credentials_of

#: As in production, only faster.
TERMS = Terms(duration=2.0, renew_within=1.2, renew_every=0.3, pause=0.1)


@asynccontextmanager
async def candidate(
    client: ApiClient, namespace: str, identity: str, terms: Terms = TERMS
) -> AsyncIterator[tuple[Lease, asyncio.Task[None]]]:
    lease = Lease(client, namespace=namespace, name="leader", identity=identity, terms=terms)
    running = asyncio.create_task(lease.run())
    try:
        yield lease, running
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def elected(lease: Lease, *, within: float = 5.0) -> None:
    async with asyncio.timeout(within):
        await lease.elected.wait()


async def test_one_leads_and_the_other_stands_by_without_asking(
    admin: ApiClient, server: Server, namespace: str, audit: Audit
) -> None:
    async with (
        ApiClient(credentials_of(server.access("standby", "system:masters"))) as second,
        candidate(admin, namespace, "a") as (first_lease, _),
    ):
        await elected(first_lease)
        since = audit.mark()
        async with candidate(second, namespace, "b") as (second_lease, _):
            await asyncio.sleep(1.5)
            assert first_lease.held()
            assert not second_lease.elected.is_set()
            reads = audit.requests(since=since, user="standby", verb=["get", "list"])
            assert len(reads) == 1, "it looks once, then watches"


async def test_who_ends_gracefully_is_followed_at_once(admin: ApiClient, namespace: str) -> None:
    async with candidate(admin, namespace, "a") as (first, running):
        await elected(first)
        async with candidate(admin, namespace, "b") as (second, _):
            await asyncio.sleep(0.2)
            running.cancel()
            await first.release()
            await elected(second, within=1.0)
            assert not first.held()
    lease = await admin.get(LEASE, namespace, "leader")
    assert lease["spec"]["leaseTransitions"] == 1


async def test_who_dies_is_followed_after_the_lease_has_run_out(admin: ApiClient, namespace: str) -> None:
    async with candidate(admin, namespace, "a") as (first, running):
        await elected(first)
        running.cancel()
        begun = asyncio.get_running_loop().time()
        async with candidate(admin, namespace, "b") as (second, _):
            await elected(second)
            waited = asyncio.get_running_loop().time() - begun
            assert waited >= 1.6, "nobody takes a lease that may still be held"
            assert not first.held(), "the dead one knows: it compares times when asked"


async def test_who_cannot_renew_stops_before_anybody_else_starts(
    admin: ApiClient, server: Server, namespace: str
) -> None:
    async with (
        proxy(server, "cut-off", "system:masters") as faulty,
        ApiClient(credentials_of(faulty.access)) as cut,
        candidate(cut, namespace, "a") as (first, running),
    ):
        await elected(first)
        async with candidate(admin, namespace, "b") as (second, _):
            faulty.add(Fault(reset="before", times=None))
            while not second.elected.is_set():
                held = first.held()
                await asyncio.sleep(0.01)
                assert not (held and second.held())
            assert not first.held()
            async with asyncio.timeout(2):
                await running
            assert first.lost.is_set()


async def test_an_answer_that_got_lost_is_no_lost_lease(admin: ApiClient, server: Server, namespace: str) -> None:
    async with (
        proxy(server, "unlucky", "system:masters") as faulty,
        ApiClient(credentials_of(faulty.access)) as client,
        candidate(client, namespace, "a") as (lease, _),
    ):
        await elected(lease)
        faulty.add(Fault(method="PUT", reset="after"))
        await asyncio.sleep(1.5)
        assert faulty.struck
        assert lease.held()


async def test_who_was_written_over_has_lost(admin: ApiClient, namespace: str) -> None:
    async with candidate(admin, namespace, "a") as (lease, running):
        await elected(lease)
        await admin.merge_patch(LEASE, namespace, "leader", {"spec": {"holderIdentity": "usurper"}})
        async with asyncio.timeout(2):
            await running
        assert not lease.held()
        await lease.release()
    assert (await admin.get(LEASE, namespace, "leader"))["spec"]["holderIdentity"] == "usurper"
