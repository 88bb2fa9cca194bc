"""Many Machines at once: what the bootstrap of each costs the operator, and whether it costs more where there are more.

A real kube-apiserver and etcd; the operator as a process, as in `scale`. Core is not run: its part (names that are
copied, ids, Nodes that are noted) is written by us, or most of what is measured would be core's. The cluster that the
Machines join is one of others, reached by its kubeconfig: a stand-in tenant. Requests are counted by the API server's
audit log and by the stand-in, CPU by the kernel.

Each phase is measured for all Machines together, with three numbers of them in one run. What a phase costs per Machine
must not rise with that number: that is what `growth` compares.
"""

from __future__ import annotations

import asyncio
import base64
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from e2e.bench import process
from e2e.bench.crowd import AT_ONCE, for_each
from e2e.bench.figures import Figure
from e2e.bench.process import OperatorProcess
from e2e.bench.scale import OPERATOR
from e2e.lab.network import LabError
from hosted_cp.api.control_plane import K0smotronControlPlane
from hosted_cp.api.worker_config import K0sWorkerConfig
from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.credentials import certificate_credentials
from hosted_cp.kube.errors import ApiError
from hosted_cp.kube.resources import CORE_CLUSTER, MACHINE, NAMESPACE, SECRET, WORKER_CONFIG, Resource
from k0s_images.cache import say
from tests.component import certificates
from tests.component.apiserver import Server
from tests.component.audit import READS, Request
from tests.component.capi import standalone
from tests.component.standin_tenants import StandInTenants
from tests.component.workers import kubeconfig_to

_CLUSTER, _TENANT = "many", "elsewhere"
_VERSION = "v1.36.3+k0s"
#: Of one Machine, from its config to the revocation of its token: the reads, too.
REQUESTS = 15
#: A phase may cost so much more per Machine where there are ten times as many: CPU of a busy computer is not exact.
GROWTH = 1.3
#: Seconds without a write by the operator after which it counts as done.
_QUIET = 2.0
_PATIENCE = 600.0

Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What one phase cost, in all."""

    name: str
    #: To the management cluster, and to the cluster that is joined.
    requests: int
    tenant_requests: int
    cpu_seconds: float
    #: Until the last Machine was through, with the time that our own requests took.
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was measured with so many Machines."""

    machines: int
    phases: tuple[Phase, ...]
    memory: float

    def printed(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measure(machines: int) -> Outcome:
    """Start everything afresh, take so many Machines through their bootstrap, and leave nothing. `LabError` if they do
    not get there."""
    with tempfile.TemporaryDirectory(prefix="hosted-cp-bench-") as folder:
        say(f"{machines} machines: API server and etcd start")
        with standalone(Path(folder), K0smotronControlPlane, K0sWorkerConfig) as server:
            server.kubectl("create", "-f", "-", stdin=b"---\n".join(orjson.dumps(each) for each in _definitions()))
            server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
            with StandInTenants(server) as tenants:
                return asyncio.run(_measure(server, tenants, machines))


def _definitions() -> list[Object]:
    """The kinds of core that are looked at, without anybody behind them."""
    open_ended = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": open_ended, "status": open_ended}}
    version = {"served": True, "storage": True, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": schema}}
    return [
        {
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": each.definition},
            "spec": {
                "group": each.group, "scope": "Namespaced", "names": {"kind": each.kind, "plural": each.plural},
                "versions": [{"name": each.version, **version}],
            },
        }
        for each in (CORE_CLUSTER, MACHINE)
    ]  # fmt: skip


async def _measure(server: Server, tenants: StandInTenants, machines: int) -> Outcome:
    admin = certificate_credentials(
        server=server.url, ca=server.admin.ca, certificate=server.admin.pair.certificate, key=server.admin.pair.key
    )
    kubeconfig = server.access(OPERATOR).kubeconfig(server.folder / "operator.kubeconfig")
    async with ApiClient(admin, agent="bench", connections=AT_ONCE * 2) as client:
        operator = process.start(kubeconfig, server.folder / "operator.log")
        try:
            bench = _Bench(server=server, tenants=tenants, client=client, operator=operator, machines=machines)
            await bench.prepare()
            await bench.phase("bootstrap data", bench.create)
            await bench.phase("Nodes that are waited for", bench.hand_over)
            await bench.phase("Nodes get their ids", bench.register)
            await bench.phase("tokens are revoked", bench.note_nodes)
            await bench.phase("conditions of all Machines change", bench.chatter)
            return Outcome(machines=machines, phases=tuple(bench.phases), memory=operator.memory(peak=True))
        finally:
            operator.kill()


@dataclass(kw_only=True)
class _Bench:
    """One run: the phases are methods, in their order."""

    server: Server
    tenants: StandInTenants
    client: ApiClient
    operator: OperatorProcess
    machines: int
    phases: list[Phase] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [f"m{number}" for number in range(self.machines)]

    @property
    def namespace(self) -> str:
        return "machines"

    async def phase(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do it, wait until the operator has come to rest, and note what that cost."""
        say(f"{self.machines} machines: {name}")
        mark, cpu, asked = self.server.audit.mark(), self.operator.cpu(), len(self._of_tenant())
        begun = asyncio.get_running_loop().time()
        await work()
        seconds = asyncio.get_running_loop().time() - begun
        requests = await self._settled(mark)
        self.phases.append(
            Phase(
                name=name,
                requests=len(requests),
                tenant_requests=len(self._of_tenant()) - asked,
                cpu_seconds=self.operator.cpu() - cpu,
                seconds=seconds,
            )
        )

    # -- the phases --------------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """The Cluster, and the kubeconfig that leads to its API server."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        await self.client.create(NAMESPACE, body)
        authority = certificates.authority("somebody's CA")
        name = f"kmc-{_TENANT}.{self.namespace}.svc"
        await self._secret(f"{_TENANT}-ca", {"tls.crt": authority.certificate, "tls.key": authority.key})
        await self._secret(f"{_CLUSTER}-kubeconfig", {"value": kubeconfig_to(self.tenants.url, name, authority)})
        await self.client.create(CORE_CLUSTER, self._object(CORE_CLUSTER, _CLUSTER))
        status = {"status": {"initialization": {"infrastructureProvisioned": True}}}
        await self.client.merge_patch(CORE_CLUSTER, self.namespace, _CLUSTER, status, subresource="status")

    async def create(self) -> None:
        """All Machines with their configs, until all have their data."""

        async def one(name: str) -> None:
            reference = {"apiGroup": WORKER_CONFIG.group, "kind": WORKER_CONFIG.kind, "name": name}
            spec = {"clusterName": _CLUSTER, "version": _VERSION, "bootstrap": {"configRef": reference}}
            machine = await self.client.create(MACHINE, self._object(MACHINE, name, spec), manager="core")
            config = self._object(WORKER_CONFIG, name, {"args": ["--debug"]})
            config["metadata"]["ownerReferences"] = [
                {
                    "apiVersion": MACHINE.api_version, "kind": "Machine", "name": name, "controller": True,
                    "uid": machine["metadata"]["uid"],
                }
            ]  # fmt: skip
            await self.client.create(WORKER_CONFIG, config, manager="core")

        await for_each(self.names, one)
        await self._until(WORKER_CONFIG, lambda each: bool(each.get("status", {}).get("dataSecretName")))

    async def hand_over(self) -> None:
        """Core copies the names, and the infrastructure gives ids: from now on the Nodes are waited for."""

        async def one(name: str) -> None:
            spec = {"bootstrap": {"dataSecretName": name}, "providerID": f"bench://{name}"}
            await self.client.merge_patch(MACHINE, self.namespace, name, {"spec": spec}, manager="core")

        await for_each(self.names, one)

    async def register(self) -> None:
        """All machines join, until their Nodes have their ids."""
        for name in self.names:
            labels = {"k0smotron.io/machine-name": name}
            body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {}}
            await asyncio.to_thread(self.tenants.register, self.namespace, _TENANT, body)
        async with asyncio.timeout(_PATIENCE):
            while not self._identified():  # noqa: ASYNC110 - the stand-in has no event for us
                await asyncio.sleep(0.1)

    def _identified(self) -> bool:
        nodes = self.tenants.objects(self.namespace, _TENANT, "nodes")
        return all(each["spec"].get("providerID") for each in nodes)

    async def note_nodes(self) -> None:
        """Core notes the Nodes, until no config holds a token."""

        async def one(name: str) -> None:
            status = {"status": {"nodeRef": {"name": name}}}
            await self.client.merge_patch(MACHINE, self.namespace, name, status, subresource="status", manager="core")

        await for_each(self.names, one)
        await self._until(WORKER_CONFIG, lambda each: not each["metadata"].get("finalizers"))

    async def chatter(self) -> None:
        """Core says something new about every Machine and its Cluster; nothing of it concerns us."""

        async def one(name: str) -> None:
            told = {"status": {"conditions": [{"type": "Ready", "status": "True", "reason": name}]}}
            for resource, about in ((MACHINE, name), (CORE_CLUSTER, _CLUSTER)):
                await self.client.merge_patch(
                    resource, self.namespace, about, told, subresource="status", manager="core"
                )

        await for_each(self.names, one)

    # -- hands and eyes ----------------------------------------------------------------------------------------------

    def _object(self, resource: Resource, name: str, spec: Mapping[str, Any] | None = None) -> Object:
        metadata: Object = {"name": name, "namespace": self.namespace}
        return {
            "apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": dict(spec or {})
        }  # fmt: skip

    async def _secret(self, name: str, data: Mapping[str, bytes]) -> None:
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        metadata = {"name": name, "namespace": self.namespace}
        await self.client.create(SECRET, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded})

    async def _until(self, resource: Resource, true: Callable[[Object], bool]) -> None:
        """Watch until something has been true of each Machine's object."""
        missing = set(self.names)
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while missing:
                    events = self.client.watch(resource, self.namespace, since="0", timeout=600)
                    with suppress(ApiError):
                        async with aclosing(events):
                            async for event in events:
                                if event.type in ("ADDED", "MODIFIED") and true(each := orjson.loads(event.raw)):
                                    missing.discard(each["metadata"]["name"])
                                    if not missing:
                                        return
        body = (await self.client.get(resource, self.namespace, min(missing))).body
        raise LabError(f"{len(missing)} machines are not through, one of them {min(missing)}: {body.get('status')}")

    async def _settled(self, since: int) -> list[Request]:
        wrote = True
        while wrote:
            mark = self.server.audit.mark()
            await asyncio.sleep(_QUIET)
            wrote = any(each.verb not in READS for each in self._asked(mark))
        return self._asked(since)

    def _asked(self, since: int) -> list[Request]:
        seen = self.server.audit.requests(since=since, user=OPERATOR, namespace=self.namespace)
        return [each for each in seen if each.verb != "watch" and each.resource != "leases"]

    def _of_tenant(self) -> list[str]:
        return self.tenants.seen(self.namespace, _TENANT)


# --- what it says -----------------------------------------------------------------------------------------------------


def figures(outcomes: Sequence[Outcome]) -> list[Figure]:
    """Per Machine, of the largest run; and for each phase how much more it costs per Machine than in the smallest."""
    smallest, largest = outcomes[0], outcomes[-1]
    made = [
        Figure(
            what="requests per Machine, from config to revocation",
            value=sum(each.requests + each.tenant_requests for each in largest.phases) / largest.machines,
            budget=REQUESTS,
            note=f"{sum(each.tenant_requests for each in largest.phases) / largest.machines:.1f} of them to the tenant",
        ),
        Figure(what="operator CPU per Machine", value=_cpu(largest.phases, largest.machines), unit="ms"),
        Figure(what="operator memory, its peak", value=largest.memory, unit="MiB"),
    ]
    for before, after in zip(smallest.phases, largest.phases, strict=True):
        made.append(_growth(f"{after.name}: requests", before, after, smallest, largest, _requests))
        made.append(_growth(f"{after.name}: CPU", before, after, smallest, largest, lambda each: each.cpu_seconds))
    return made


def _growth(
    what: str, before: Phase, after: Phase, smallest: Outcome, largest: Outcome, measured: Callable[[Phase], float]
) -> Figure:
    """How many times as much one Machine costs among many. What is hardly there at all has no ratio: a tenth of a
    request, or a fifth of a millisecond, counts as that."""
    least = 0.1 if measured is _requests else 0.0002
    few = max(least, measured(before) / smallest.machines)
    many = max(least, measured(after) / largest.machines)
    return Figure(
        what=f"{what} per Machine, {largest.machines} compared with {smallest.machines}",
        value=many / few,
        unit="x",
        budget=GROWTH if largest is not smallest else None,
    )


def _requests(each: Phase) -> float:
    return each.requests + each.tenant_requests


def _cpu(phases: Iterable[Phase], machines: int) -> float:
    return 1000 * sum(each.cpu_seconds for each in phases) / machines


def rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """Per phase and number of Machines: requests and milliseconds of CPU for one, and seconds for all."""
    found = []
    for number, phase in enumerate(outcomes[-1].phases):
        cells = []
        for outcome in outcomes:
            each = outcome.phases[number]
            cpu = 1000 * each.cpu_seconds / outcome.machines
            cells.append(f"{_requests(each) / outcome.machines:.2f}, {cpu:.1f} ms, {each.seconds:.1f} s")
        found.append((phase.name, *cells, ""))
    return found
