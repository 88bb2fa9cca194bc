"""Nodes that are waited for in tenants: one watch per tenant, for as long as somebody waits there.

When a machine has booted, its kubelet makes a Node in the tenant, of which nothing in the management cluster tells. To
ask for it again and again would cost most where most machines are slow. So all who wait for a Node of the same tenant
share one watch of the Nodes with the label by which a machine's is known. It begins with the first of them and ends
with the last: in a tenant all of whose machines have joined nothing is open.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec
import orjson

from hosted_cp.kube.client import WatchEvent
from hosted_cp.kube.errors import ApiError, ServerFault
from hosted_cp.kube.resources import NODE
from hosted_cp.kube.tenant import TenantAccess, TenantClients
from hosted_cp.planning.actions import Probe
from hosted_cp.planning.observed import Observed
from hosted_cp.planning.recipes import MaterialError

#: Seconds until the server ends a watch. It is begun again if somebody still waits.
_WATCH_LIFE = 540.0

#: A watch that ends sooner (seconds) has not been ended for its age.
_TOO_SOON = 1.0


class _Metadata(msgspec.Struct):
    name: str
    uid: str
    labels: dict[str, str] | None = None


class _Spec(msgspec.Struct):
    providerID: str = ""


class _Node(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)


_decode = msgspec.json.Decoder(_Node).decode


@dataclass(kw_only=True)
class _Waiting:
    """Those who wait in one tenant."""

    access: TenantAccess
    #: The label by whose value a machine's Node is known.
    label: str
    task: asyncio.Task[None] | None = None
    #: By name of the machine: what is known of its Node, and who wants to know.
    found: dict[str, str] = field(default_factory=dict)
    asking: dict[str, set[asyncio.Future[str]]] = field(default_factory=dict)


@dataclass(kw_only=True)
class TenantNodes:
    """Answers `node` probes. `close` at the end."""

    tenants: TenantClients
    _waiting: dict[tuple[TenantAccess, str], _Waiting] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        """How many watches are open."""
        return len(self._waiting)

    async def ask(self, probe: Probe, about: Observed) -> str:
        """`node`: wait for the Node of a machine. Arguments: `tenant` (UID), `authority`, `server`, `serverName` as for
        `tenant-api`, and `kubeconfig` where one stands in the Secret `authority`; `label` and `machine` are the label
        that the Node has. The answer is JSON with `name`, `uid` and `providerID`.

        Raises `ApiError` or `MaterialError` if the tenant cannot be watched.
        """
        arguments = dict(probe.arguments)
        access = TenantAccess(
            uid=arguments["tenant"],
            namespace=about.ref.namespace or "",
            authority=arguments["authority"],
            server=arguments["server"],
            server_name=arguments.get("serverName") or None,
            kubeconfig="kubeconfig" in arguments,
        )
        return await self._wait(access, arguments["label"], arguments["machine"])

    async def close(self) -> None:
        """End all watches."""
        tasks = [each.task for each in self._waiting.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(self, access: TenantAccess, label: str, machine: str) -> str:
        waiting = self._waiting.setdefault((access, label), _Waiting(access=access, label=label))
        if machine in waiting.found:
            return waiting.found[machine]
        if waiting.task is None:
            waiting.task = asyncio.create_task(self._watch(waiting), name="watch a tenant's nodes")
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        waiting.asking.setdefault(machine, set()).add(answer)
        try:
            return await answer
        finally:
            asking = waiting.asking.get(machine, set())
            asking.discard(answer)
            if not asking:
                waiting.asking.pop(machine, None)
            if not waiting.asking:
                # Nobody waits any more.
                self._forget(waiting)
                waiting.task.cancel()

    def _forget(self, waiting: _Waiting) -> None:
        if self._waiting.get((waiting.access, waiting.label)) is waiting:
            del self._waiting[waiting.access, waiting.label]

    async def _watch(self, waiting: _Waiting) -> None:
        try:
            async with self.tenants.client(waiting.access) as client:
                begun = -_TOO_SOON
                while time.monotonic() - begun > _TOO_SOON:
                    begun = time.monotonic()
                    waiting.found.clear()
                    # From "any" version: the Nodes that are there are told first.
                    events = client.watch(NODE, since="0", labels=waiting.label, timeout=_WATCH_LIFE)
                    async with aclosing(events):
                        async for event in events:
                            _take(event, waiting)
            fault: Exception = ServerFault("the tenant ends watches of its Nodes at once")
        except (ApiError, MaterialError) as error:
            fault = error
        except msgspec.DecodeError:
            fault = ServerFault("what the tenant sent is no Node")
        self._forget(waiting)
        for each in [one for some in waiting.asking.values() for one in some]:
            if not each.done():
                each.set_exception(fault)


def _take(event: WatchEvent, waiting: _Waiting) -> None:
    if event.type == "BOOKMARK":
        return
    node = _decode(event.raw)
    machine = (node.metadata.labels or {}).get(waiting.label, "")
    if event.type == "DELETED":
        waiting.found.pop(machine, None)
        return
    said = {"name": node.metadata.name, "uid": node.metadata.uid, "providerID": node.spec.providerID}
    waiting.found[machine] = orjson.dumps(said).decode()
    for each in waiting.asking.get(machine, ()):
        if not each.done():
            each.set_result(waiting.found[machine])
