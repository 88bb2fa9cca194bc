"""Many tenants: the operator as a process, a real kube-apiserver and etcd, pods that are played.

The operator runs as users run it outside a cluster (`hosted-cp run --kubeconfig`), with the rights of the ClusterRole
that is shipped and no more. Requests are counted by the API server's audit log; CPU and memory by the kernel. Nobody
plays the tenants' own API servers: an operator outside the cluster does not ask them, so a tenant's last word here is
that it serves, and that this operator cannot reach it.

For up to `FAITHFUL` tenants the real StatefulSet controller runs, and the stand-in kubelet of the component tests plays
volumes and pods; for more, statuses are written directly (see `playing`). What plays shares the machine with what is
measured, so times are upper bounds.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import orjson
import yaml

from e2e.bench import floor, process
from e2e.bench.asking import KINDS, NAMESPACE, Asking
from e2e.bench.crowd import AT_ONCE, for_each
from e2e.bench.figures import Budgets, Figure, budgets, per_tenant, percentile
from e2e.bench.playing import play
from e2e.bench.process import OperatorProcess
from e2e.lab.network import LabError
from e2e.operator import NAMESPACE as OPERATOR_NAMESPACE
from e2e.operator import ROOT
from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.credentials import certificate_credentials
from hosted_cp.kube.errors import ApiError
from hosted_cp.kube.resources import CLUSTER, CORE_CLUSTER, PERSISTENT_VOLUME_CLAIM, POD, SECRET, STATEFUL_SET, Resource
from k0s_images.cache import say
from k0s_images.golang import components
from tests.component.apiserver import CONTROLLERS, Access, Server, running
from tests.component.audit import READS, Request, summary
from tests.component.capi import bare_core_clusters
from tests.component.kubelet import NODE, StandInKubelet
from tests.component.webhook import converting

#: Up to so many tenants everything but the kubelet is real.
FAITHFUL = 100

OPERATOR = f"system:serviceaccount:{OPERATOR_NAMESPACE}:hosted-cp"

#: Seconds without a write by the operator after which it counts as done.
_QUIET = 3.0
#: For how many tenants the writes alone are measured.
_FLOOR = 50
#: How many single changes are timed.
_SINGLE_CHANGES = 50


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was measured with so many tenants."""

    tenants: int
    #: The kind of the objects that ask for them.
    kind: str
    played: str
    figures: tuple[Figure, ...]
    #: Requests of the operator for one tenant, by "verb resource", from apply until nothing was left to do.
    requests: dict[str, float]
    #: The same for one change of its configuration.
    change_requests: dict[str, float]
    #: Seconds from apply to the StatefulSets of etcd and of the controllers, of each tenant.
    etcd_seconds: tuple[float, ...] = field(repr=False)
    controller_seconds: tuple[float, ...] = field(repr=False)

    def printed(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "figures": [each.printed() for each in self.figures]}


def measure(tenants: int, *, idle: float, kind: str = CLUSTER.kind, profile: Path | None = None) -> Outcome:
    """Start everything afresh, measure with so many tenants, and leave nothing. `idle`: seconds to watch it do nothing.
    `kind`: of the objects that ask for the tenants, one of `asking.KINDS`. `profile`: where the profile of the operator
    that creates the tenants goes.

    `LabError` if tenants do not become what they should.
    """
    faithful = tenants <= FAITHFUL
    with tempfile.TemporaryDirectory(prefix="hosted-cp-bench-") as folder, ExitStack() as stack:
        say(f"{tenants} tenants: API server and etcd start")
        controllers = CONTROLLERS if faithful else tuple(c for c in CONTROLLERS if c != "statefulset-controller")
        crds = stack.enter_context(converting(Path(folder) / "webhook"))
        server = stack.enter_context(
            running(Path(folder) / "server", components("1.36"), controllers=controllers, crds=crds)
        )
        if faithful:
            stack.enter_context(StandInKubelet(server))
        operator_access = _prepare(server, with_core=kind != CLUSTER.kind)
        return asyncio.run(
            _measure(
                server, operator_access, tenants, asking=KINDS[kind], faithful=faithful, idle=idle, profile=profile
            )
        )


def _prepare(server: Server, *, with_core: bool) -> Access:
    """What an administrator applies, and a node with an address; returns the operator's access. `with_core`: with the
    Clusters of Cluster API, and nobody behind them."""
    documents = yaml.safe_load_all((ROOT / "deploy" / "operator.yaml").read_text())
    shipped = [each for each in documents if each["kind"] != "Deployment"]
    server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(shipped).encode())
    server.kubectl("create", "namespace", NAMESPACE)
    if with_core:
        server.kubectl("create", "-f", "-", stdin=orjson.dumps(bare_core_clusters()))
        server.kubectl("wait", "--for=condition=Established", "crd", CORE_CLUSTER.definition, "--timeout=30s")
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
    server.kubectl("create", "-f", "-", stdin=orjson.dumps(node))
    addresses = {"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}}
    server.kubectl(
        "patch", "node", NODE, "--subresource=status", "--type=merge", "-p", orjson.dumps(addresses).decode()
    )
    server.kubectl("wait", "--for=create", "serviceaccount/default", "-n", NAMESPACE, "--timeout=30s")
    return server.access(OPERATOR)


def _changed(value: str) -> dict[str, Any]:
    """A change that ends in k0s' configuration."""
    config = {"controllerManager": {"extraArgs": {"v": value}}}
    return {"spec": {"k0sConfig": {"apiVersion": "k0s.k0sproject.io/v1beta1", "kind": "ClusterConfig", "spec": config}}}


async def _measure(
    server: Server,
    access: Access,
    tenants: int,
    *,
    asking: Asking,
    faithful: bool,
    idle: float,
    profile: Path | None,
) -> Outcome:
    admin = certificate_credentials(
        server=server.url, ca=server.admin.ca, certificate=server.admin.pair.certificate, key=server.admin.pair.key
    )
    kubeconfig = access.kubeconfig(server.folder / "operator.kubeconfig")
    log = server.folder / "operator.log"
    async with ApiClient(admin, agent="bench", connections=AT_ONCE * 2) as client, _background() as background:
        if not faithful:
            background(play(client, NAMESPACE, node=NODE))
        bench = _Bench(
            server=server, client=client, tenants=tenants, asking=asking, background=background,
            budgets=budgets(tenants),
        )  # fmt: skip
        operator = process.start(kubeconfig, log, profile=profile)
        try:
            created = await bench.create(operator)
            await bench.idle(operator, idle)
            operator.stop()
            await bench.floor()
            operator = await bench.restart(lambda: process.start(kubeconfig, log))
            changed = await bench.change_all(operator)
            await bench.change_single()
            bench.memory(operator)
        finally:
            operator.kill()
    played = (
        "the real StatefulSet controller and the stand-in kubelet" if faithful else "statuses that are written directly"
    )
    return Outcome(
        tenants=tenants, kind=asking.resource.kind, played=played,
        figures=tuple(bench.figures), requests=created, change_requests=changed,
        etcd_seconds=tuple(sorted(bench.etcd_seconds)), controller_seconds=tuple(sorted(bench.controller_seconds)),
    )  # fmt: skip


def sorted_out(requests: Sequence[Request]) -> Counter[str]:
    """How many of the requests are writes of objects, writes of status, Events, and reads."""

    def kind(each: Request) -> str:
        if each.verb in READS:
            return "reads"
        if each.resource == "events":
            return "Events"
        return "status writes" if each.subresource == "status" else "object writes"

    return Counter(kind(each) for each in requests)


class _Metadata(msgspec.Struct):
    name: str
    generation: int = 0
    resourceVersion: str = ""


class _Status(msgspec.Struct):
    observedGeneration: int = 0
    readyReplicas: int = 0


class _Object(msgspec.Struct):
    """As much of an object as is waited for."""

    metadata: _Metadata
    status: _Status = msgspec.field(default_factory=_Status)


_decode = msgspec.json.Decoder(_Object).decode


@dataclass(kw_only=True)
class _Bench:
    """One run: the measures are methods, in the order in which they are taken."""

    server: Server
    client: ApiClient
    tenants: int
    asking: Asking
    background: Callable[..., None]
    budgets: Budgets
    figures: list[Figure] = field(default_factory=list)
    etcd_seconds: list[float] = field(default_factory=list)
    controller_seconds: list[float] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [f"t{number}" for number in range(self.tenants)]

    def figure(self, what: str, value: float, unit: str = "", budget: float | None = None, *, note: str = "") -> None:
        self.figures.append(Figure(what=what, value=value, unit=unit, budget=budget, note=note))

    async def create(self, operator: OperatorProcess) -> dict[str, float]:
        """All tenants at once, until nothing is left to do."""
        await asyncio.sleep(1)  # so that the CPU of the start is not counted
        cpu, mark = operator.cpu(), self.server.audit.mark()
        say(f"{self.tenants} tenants: applied at once")
        sent: dict[str, float] = {}
        seen: dict[str, float] = {}
        with self._seeing(STATEFUL_SET, lambda each, at: seen.setdefault(each.metadata.name, at)):
            await for_each(self.names, lambda name: self._post(name, sent))
            await self._until_all(lambda each: each.status.readyReplicas == 1, "has no ready replica")
        requests = await self._settled(since=mark)
        first = min(sent.values())
        self.etcd_seconds = [seen[f"kmc-{name}-etcd"] - sent[name] for name in self.names]
        self.controller_seconds = [seen[f"kmc-{name}"] - sent[name] for name in self.names]
        for what, waited in (("etcd's", self.etcd_seconds), ("the controllers'", self.controller_seconds)):
            self.figure(f"apply -> {what} StatefulSet, p50", percentile(waited, 50), "s")
            self.figure(f"apply -> {what} StatefulSet, p99", percentile(waited, 99), "s")
        self.figure("all manifests posted after", max(sent.values()) - first, "s")
        self.figure(
            "all StatefulSets exist after", max(seen.values()) - first, "s", self.budgets.stateful_sets_seconds,
            note="both of each tenant; the second only once etcd's pod is played",
        )  # fmt: skip
        cpu = operator.cpu() - cpu
        self.figure("operator CPU per tenant", 1000 * cpu / self.tenants, "ms", self.budgets.cpu_milliseconds)
        self.figure("operator memory", operator.memory(), "MiB", self.budgets.memory)
        self._count(requests)
        return per_tenant(summary(requests), self.tenants)

    def _count(self, requests: Sequence[Request]) -> None:
        budget = self.budgets
        self._per_tenant(requests, self.tenants, budget.writes, budget.status_writes, budget.events, budget.reads)
        self.figure("refused requests, in all", sum(each.code >= 400 for each in requests))

    def _per_tenant(
        self,
        requests: Sequence[Request],
        tenants: int,
        writes: float | None,
        status_writes: float | None,
        events: float | None = None,
        reads: float | None = None,
        *,
        what: str = "",
    ) -> None:
        """Figures of requests for one tenant, each kind with its budget."""
        counts = sorted_out(requests)
        budgets = {"object writes": writes, "status writes": status_writes, "Events": events, "reads": reads}
        for kind, budget in budgets.items():
            self.figure(f"{what}{kind} per tenant", counts[kind] / tenants, "", budget)

    async def idle(self, operator: OperatorProcess, seconds: float) -> None:
        """Nothing happens, for so long."""
        say(f"{self.tenants} tenants: idle for {seconds:.0f} s")
        mark, cpu = self.server.audit.mark(), operator.cpu()
        await asyncio.sleep(seconds)
        requests = self._asked(mark)
        renewals = len([each for each in self._all(mark) if each.verb == "watch"])
        cpu = operator.cpu() - cpu
        self.figure(
            f"requests in {seconds:.0f} s idle, in all", len(requests), "", self.budgets.idle_requests,
            note=f"besides {renewals} watches begun anew and the Lease",
        )  # fmt: skip
        self.figure("operator CPU in a minute idle", 60 * cpu / seconds, "s")

    async def floor(self) -> None:
        """What of the operator's CPU is TLS, HTTP, JSON and keys, and nothing of its own: measured beside it."""
        say(f"{self.tenants} tenants: the same writes by a bare client")
        admin = self.server.admin.kubeconfig(self.server.folder / "admin.kubeconfig")
        count = min(self.tenants, _FLOOR)
        found = await asyncio.to_thread(
            floor.measured, admin, NAMESPACE, self.names[0], count, environment=process.environment()
        )
        self.figure(
            "CPU of the writes alone, per tenant", 1000 * found.requests, "ms",
            note=f"{found.writes} dry runs by aiohttp; no plan, no watch, no cache",
        )  # fmt: skip
        self.figure("CPU of keys and certificates alone, per tenant", 1000 * found.material, "ms")

    async def restart(self, start: Callable[[], OperatorProcess]) -> OperatorProcess:
        """The operator is started again, while all tenants are as they should be."""
        say(f"{self.tenants} tenants: the operator starts again")
        mark = self.server.audit.mark()
        operator = await asyncio.to_thread(start)
        while operator.reconciled() < self.tenants:  # noqa: ASYNC110 - another process has no event for us
            await asyncio.sleep(0.2)
        await self._settled(since=mark)
        asked = self._all(mark)
        writes = [each for each in asked if each.verb not in READS]
        lists = sum(each.verb == "list" for each in asked)
        watches = sum(each.verb == "watch" for each in asked)
        self.figure("restart: ready after", operator.ready_after, "s", self.budgets.restart_seconds)
        self.figure("restart: leads after", operator.leads_after, "s")
        self.figure("restart: writes", len(writes), "", self.budgets.restart_writes)
        others = len(asked) - len(writes) - lists - watches
        self.figure("restart: lists", lists, note=f"and {watches} watches, {others} other reads")
        self.figure("restart: CPU until all were looked at", operator.cpu(), "s", note="with the imports")
        return operator

    async def change_all(self, operator: OperatorProcess) -> dict[str, float]:
        """One change of the configuration of every tenant."""
        say(f"{self.tenants} tenants: one change of configuration on all")
        mark, cpu, begun = self.server.audit.mark(), operator.cpu(), time.monotonic()
        seen: dict[str, float] = {}
        with self._seeing(SECRET, lambda each, at: seen.__setitem__(each.metadata.name, at), later=True):
            asked: dict[str, int] = {}
            await for_each(self.names, lambda name: self._change(name, "2", asked))
            await self._until_all(
                lambda each: (
                    each.status.observedGeneration >= asked[each.metadata.name] and each.status.readyReplicas == 1
                ),
                "is not changed",
            )
        requests = await self._settled(since=mark)
        budget = self.budgets
        self._per_tenant(requests, self.tenants, budget.change_writes, budget.change_status_writes, what="one change: ")
        self.figure("one change: operator CPU per tenant", 1000 * (operator.cpu() - cpu) / self.tenants, "ms")
        configs = [at for name, at in seen.items() if name.endswith("-config")]
        self.figure("one change on all: all configs written after", max(configs) - begun, "s")
        return per_tenant(summary(requests), self.tenants)

    async def change_single(self) -> None:
        """One tenant after the other is changed, while the others are idle."""
        chosen = self.names[:: max(1, self.tenants // _SINGLE_CHANGES)][:_SINGLE_CHANGES]
        mark = self.server.audit.mark()
        arrived: asyncio.Queue[tuple[str, float]] = asyncio.Queue()
        waited = []
        with self._seeing(SECRET, lambda each, at: arrived.put_nowait((each.metadata.name, at)), later=True):
            for name in chosen:
                begun = time.monotonic()
                await self._change(name, "3", {})
                async with asyncio.timeout(30):
                    while True:
                        secret, at = await arrived.get()
                        if secret == f"kmc-{name}-config":
                            waited.append(at - begun)
                            break
        requests = await self._settled(since=mark)
        budgets = self.budgets
        self._per_tenant(
            requests, len(chosen), budgets.change_writes, budgets.change_status_writes, None, budgets.reads,
            what="a further change: ",
        )  # fmt: skip
        budget = self.budgets.change_p99_milliseconds
        self.figure("change of a CR -> write of its child, p50", 1000 * percentile(waited, 50), "ms")
        self.figure(
            "change of a CR -> write of its child, p99", 1000 * percentile(waited, 99), "ms", budget,
            note=f"{len(waited)} changes, one at a time; with the request that changes the CR",
        )  # fmt: skip

    def memory(self, operator: OperatorProcess) -> None:
        """At the end of everything."""
        self.figure(
            "operator memory after all this", operator.memory(peak=True), "MiB", self.budgets.memory, note="its peak"
        )

    # -- waiting -----------------------------------------------------------------------------------------------------

    async def _post(self, name: str, sent: dict[str, float]) -> None:
        sent[name] = time.monotonic()
        await self.asking.ask(self.client, name)

    async def _change(self, name: str, value: str, asked: dict[str, int]) -> None:
        """Change the configuration of one; `asked` notes which generation that makes."""
        made = await self.client.merge_patch(self.asking.resource, NAMESPACE, name, _changed(value))
        asked[name] = int(made["metadata"]["generation"])

    @contextmanager
    def _seeing(
        self, resource: Resource, note: Callable[[_Object, float], object], *, later: bool = False
    ) -> Iterator[None]:
        """While inside, every event of a kind is noted with its moment; `later`: not those of what exists already."""

        async def see() -> None:
            since = "0"
            if later:
                async for page in self.client.pages(resource, NAMESPACE, metadata_only=True):
                    since = page.resource_version
            events = self.client.watch(
                resource, NAMESPACE, since=since, metadata_only=True, timeout=3600, inactivity=3600
            )
            async with aclosing(events):
                async for event in events:
                    if event.type in ("ADDED", "MODIFIED"):
                        note(_decode(event.raw), time.monotonic())

        task = asyncio.get_running_loop().create_task(see())
        try:
            yield
        finally:
            task.cancel()

    async def _until_all(self, true: Callable[[_Object], bool], failure: str) -> None:
        """Watch until something has been true of each tenant."""
        missing = set(self.names)
        with suppress(TimeoutError):
            async with asyncio.timeout(120 + self.tenants):
                while missing:
                    events = self.client.watch(self.asking.resource, NAMESPACE, since="0", timeout=600)
                    with suppress(ApiError):
                        async with aclosing(events):
                            async for event in events:
                                if event.type in ("ADDED", "MODIFIED") and true(each := _decode(event.raw)):
                                    missing.discard(each.metadata.name)
                                    if not missing:
                                        return
        name = min(missing)
        body = (await self.client.get(self.asking.resource, NAMESPACE, name)).body
        shown = {self.asking.resource.kind: body.get("status")}
        for resource in (STATEFUL_SET, POD, PERSISTENT_VOLUME_CLAIM):
            for found in await self.client.list(resource, NAMESPACE, labels=f"cluster={name}"):
                shown[f"{resource.kind} {found['metadata']['name']}"] = found.get("status")
        raise LabError(f"{len(missing)} tenants, one of them {name}: {failure}\n{yaml.safe_dump(shown)}")

    async def _settled(self, *, since: int) -> list[Request]:
        """Wait until the operator has written nothing for a while; its requests since then, without those that hold up
        watches and the Lease."""
        mark = since
        while any(each.verb not in READS for each in self._asked(mark)):
            mark = self.server.audit.mark()
            await asyncio.sleep(_QUIET)
        return self._asked(since)

    def _asked(self, since: int) -> list[Request]:
        """Requests about tenants."""
        return [
            each for each in self._all(since)
            if each.verb != "watch" and not (each.verb == "list" and not each.namespace)
        ]  # fmt: skip

    def _all(self, since: int) -> list[Request]:
        """All requests of the operator but those of its Lease."""
        return [each for each in self.server.audit.requests(since=since, user=OPERATOR) if each.resource != "leases"]


@asynccontextmanager
async def _background() -> AsyncIterator[Callable[..., None]]:
    """Starts things that end with the block."""
    tasks: list[asyncio.Task[None]] = []

    def start(work: Any) -> None:
        tasks.append(asyncio.get_running_loop().create_task(work))

    try:
        yield start
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
