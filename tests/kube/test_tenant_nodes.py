"""Waiting for Nodes: one watch per tenant, as long as somebody waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson
import pytest

from hosted_cp.kube.client import WatchEvent
from hosted_cp.kube.errors import ApiError, ServerFault, Unreachable
from hosted_cp.kube.tenant import TenantAccess, TenantClients
from hosted_cp.kube.tenant_nodes import TenantNodes
from hosted_cp.planning.actions import Probe, Ref
from hosted_cp.planning.observed import Observed

LABEL = "k0smotron.io/machine-name"
ABOUT = Observed(
    ref=Ref(api_version="bootstrap.cluster.x-k8s.io/v1beta2", kind="K0sWorkerConfig", namespace="n", name="c"),
    uid="u", resource_version="1",
)  # fmt: skip


def node(machine: str, provider_id: str = "") -> bytes:
    spec = {"providerID": provider_id} if provider_id else {}
    metadata = {"name": f"node-{machine}", "uid": f"uid-{machine}", "labels": {LABEL: machine}}
    return orjson.dumps({"metadata": metadata, "spec": spec})


class Tenants:
    """Clients whose watches say what a test puts into a queue; None ends one."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[WatchEvent | ApiError | None] = asyncio.Queue()
        self.begun: list[str] = []
        self.open = 0

    @asynccontextmanager
    async def client(self, access: TenantAccess, *, deadline: float = 10.0) -> AsyncIterator[Any]:
        self.begun.append(access.uid)
        yield self

    async def watch(self, resource: Any, *, since: str, labels: str, timeout: float) -> Any:  # noqa: ASYNC109
        assert (since, labels) == ("0", LABEL)
        self.open += 1
        try:
            while (event := await self.events.get()) is not None:
                if isinstance(event, ApiError):
                    raise event
                yield event
        finally:
            self.open -= 1


def probe(machine: str, tenant: str = "t") -> Probe:
    arguments = {"tenant": tenant, "authority": "ca", "server": "https://s", "serverName": "", "label": LABEL}
    return Probe(kind="node", key="node", arguments=(*arguments.items(), ("machine", machine)))


async def asked(nodes: TenantNodes, *probes: Probe) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(nodes.ask(each, ABOUT)) for each in probes]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


@pytest.fixture
def tenants() -> Tenants:
    return Tenants()


@pytest.fixture
def nodes(tenants: Tenants) -> TenantNodes:
    return TenantNodes(tenants=cast(TenantClients, tenants))


async def test_all_who_wait_share_one_watch_and_it_ends_with_the_last(tenants: Tenants, nodes: TenantNodes) -> None:
    one, two, other = await asked(nodes, probe("one"), probe("two"), probe("one"))
    assert tenants.begun == ["t"]
    tenants.events.put_nowait(WatchEvent(type="ADDED", raw=node("stranger")))
    tenants.events.put_nowait(WatchEvent(type="ADDED", raw=node("one", "lab://x")))
    assert orjson.loads(await one) == {"name": "node-one", "uid": "uid-one", "providerID": "lab://x"}
    assert await other == await one
    assert (len(nodes), tenants.open) == (1, 1)
    [late] = await asked(nodes, probe("stranger"))
    assert late.done()  # the watch has told already
    tenants.events.put_nowait(WatchEvent(type="MODIFIED", raw=node("two")))
    assert orjson.loads(await two)["providerID"] == ""
    await asyncio.sleep(0.01)
    assert (len(nodes), tenants.open) == (0, 0)


async def test_tenants_are_watched_apart(tenants: Tenants, nodes: TenantNodes) -> None:
    tasks = await asked(nodes, probe("one", "t1"), probe("one", "t2"))
    assert tenants.begun == ["t1", "t2"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.01)
    assert (len(nodes), tenants.open) == (0, 0)


async def test_a_node_that_went_is_waited_for(tenants: Tenants, nodes: TenantNodes) -> None:
    await asked(nodes, probe("other"))
    for kind in ("ADDED", "DELETED"):
        tenants.events.put_nowait(WatchEvent(type=kind, raw=node("one")))
    tenants.events.put_nowait(WatchEvent(type="BOOKMARK", raw=b"{}"))
    await asyncio.sleep(0.01)
    [one] = await asked(nodes, probe("one"))
    assert not one.done()
    await nodes.close()
    one.cancel()


async def test_a_tenant_that_cannot_be_watched(tenants: Tenants, nodes: TenantNodes) -> None:
    one, two = await asked(nodes, probe("one"), probe("two"))
    tenants.events.put_nowait(Unreachable("gone away"))
    for task in (one, two):
        with pytest.raises(Unreachable):
            await task
    assert len(nodes) == 0
    [again] = await asked(nodes, probe("one"))
    assert tenants.begun == ["t", "t"]
    tenants.events.put_nowait(WatchEvent(type="ADDED", raw=b"what?"))
    with pytest.raises(ServerFault, match="is no Node"):
        await again


async def test_a_watch_that_ends_at_once_is_not_begun_again_at_once(tenants: Tenants, nodes: TenantNodes) -> None:
    [one] = await asked(nodes, probe("one"))
    tenants.events.put_nowait(None)
    with pytest.raises(ServerFault, match="at once"):
        await one
    assert len(nodes) == 0
