"""The operator process: wires clients, caches, lease, controllers and servers together, and ends them in order.

kopf is the shell around our own kinds: it keeps a watch on them and wakes us up, and brings its care for processes and
credentials. It is given nothing to remember and nothing to say: no annotation, finalizer, Event or peering object of
its own is ever written. What is true is read from our caches, so a wake-up costs nothing if they knew already.

The end of anything that should run for ever is the end of the process: a Deployment starts it again, and a start is
cheap (lists only). The order of a graceful end: no new keys, what is worked on gets done, the lease is given up, kopf.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import aiohttp

from hosted_cp.executor import Executor, Hooks
from hosted_cp.kube.cache import Caches, Watched
from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.credentials import Credentials
from hosted_cp.kube.definitions import Definitions, pause_after, unproven
from hosted_cp.kube.lease import Leadership, Lease, Terms, Unelected
from hosted_cp.kube.loop import Controller, Key, Loop
from hosted_cp.kube.material import RecentMaterial, Sources
from hosted_cp.kube.metrics import Metrics
from hosted_cp.kube.observing import Glimpse
from hosted_cp.kube.probes import Prober, dial, tenant_api
from hosted_cp.kube.resources import SECRET, Resource
from hosted_cp.kube.secret_data import SecretData
from hosted_cp.kube.serving import LoopLag, serving
from hosted_cp.kube.tenant import TenantClients
from hosted_cp.kube.tenant_nodes import TenantNodes
from hosted_cp.kube.webhook_names import installation

log = logging.getLogger(__name__)

#: Seconds for what is being worked on when the process is asked to end.
GRACE = 20.0

LEASE_NAME = installation()


@dataclass(frozen=True, kw_only=True)
class Options:
    """How one operator runs."""

    #: Only these; empty: all.
    namespaces: tuple[str, ...] = ()
    workers: int = 16
    connections: int = 32
    #: "host:port"; empty metrics address: beside the health. None: serve nothing.
    health_address: str | None = None
    metrics_address: str = ""
    #: Where the lease is; None: no election.
    lease_namespace: str | None = None
    terms: Terms = field(default_factory=Terms)
    #: Where the webhook keeps its CA; None: nobody looks after our definitions.
    webhook_namespace: str | None = None
    #: The provider of Cluster API that this installation is alone, by which its Lease and webhook are named; "": all.
    provider: str = ""
    identity: str = field(
        default_factory=lambda: f"{os.environ.get('HOSTNAME') or socket.gethostname()}_{uuid.uuid4()}"
    )
    #: Whether kopf watches our own kinds too and wakes us up. Component tests of single parts go without.
    with_kopf: bool = True
    user_agent: str = "hosted-cp"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What controllers are built from."""

    caches: Caches
    prober: Prober[Key]
    sources: Sources
    options: Options


#: Builds one controller. It is called before the caches are filled, and may add indexes to their stores.
ControllerFactory = Callable[[Parts], Controller[Any]]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One controller to run: what has to be watched for it, and how it is built."""

    resource: Resource
    watched: tuple[Watched, ...]
    build: ControllerFactory
    #: How many of its probes are asked at once.
    questions: int = 32


class Operator:
    """One operator. `run` once; `stop` ends it gracefully; `crash` is `run`'s cancellation."""

    def __init__(
        self,
        credentials: Credentials,
        kinds: Sequence[Kind],
        *,
        options: Options,
        sources: Sources | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self._credentials = credentials
        self._kinds = tuple(kinds)
        self._options = options
        self._sources = sources if sources is not None else Sources()
        self._hooks = hooks if hooks is not None else Hooks()
        self._stop = asyncio.Event()
        self.metrics = Metrics()
        #: Set once the caches are filled, and once we lead and the workers run.
        self.synced = asyncio.Event()
        self.leading = asyncio.Event()
        self.loops: tuple[Loop[Any], ...] = ()
        self.caches: Caches | None = None
        #: What is listened on, once it is: health first.
        self.addresses: list[tuple[str, int]] = []
        #: Why stored objects cannot be read as they are meant; "" once it is proven that they can.
        self._unproven = "it is not proven yet that stored objects can be converted"

    def stop(self) -> None:
        """End gracefully: what is being worked on is done first."""
        self._stop.set()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do now (for tests: converged, as far as the caches know)."""
        return self.leading.is_set() and all(loop.queue.idle for loop in self.loops)

    async def run(self) -> None:
        """Run until `stop`. Raises what ended a part that should not have ended."""
        options = self._options
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(
                ApiClient(
                    self._credentials,
                    agent=options.user_agent,
                    connections=options.connections,
                    observe=self.metrics.request,
                )
            )
            caches = self.caches = Caches(client, _merged(self._kinds), namespaces=options.namespaces)
            secrets = SecretData(client, caches, recent=RecentMaterial())
            tenants = TenantClients(caches=caches, secrets=secrets, now=self._sources.now, observe=self.metrics.request)
            stack.push_async_callback(tenants.close)
            nodes = TenantNodes(tenants=tenants)
            stack.push_async_callback(nodes.close)
            lease = self._lease(client)
            leadership: Leadership = lease if lease is not None else Unelected()
            executor = Executor(
                client=client, caches=caches, secrets=secrets, leadership=leadership, sources=self._sources,
                tenants=tenants, hooks=self._hooks,
            )  # fmt: skip
            loops = []
            for kind in self._kinds:
                prober: Prober[Key] = Prober(
                    askers={"tenant-api": tenant_api(tenants), "dial": dial(secrets), "node": nodes.ask},
                    enqueue=lambda key: None,  # the loop sets its own
                    now=self._sources.now,
                    most=kind.questions,
                )
                stack.push_async_callback(prober.close)
                controller = kind.build(Parts(caches=caches, prober=prober, sources=self._sources, options=options))
                loops.append(
                    Loop(
                        controller, caches=caches, runner=executor, prober=prober, metrics=self.metrics,
                        workers=options.workers,
                    )
                )  # fmt: skip
                self.metrics.conditions(caches.store(kind.resource))
            self.loops = tuple(loops)
            if SECRET in caches.stores:
                self.metrics.certificates(caches.store(SECRET), now=self._sources.now)
            self.metrics.refused(lambda: {each.partition(" ")[0] for each in caches.refused})
            lag = LoopLag(self.metrics)
            if options.health_address is not None:
                self.addresses = await stack.enter_async_context(
                    serving(
                        health_address=options.health_address,
                        metrics_address=options.metrics_address,
                        lag=lag,
                        not_ready=lambda: self._unproven or _not_followed(caches),
                        metrics=self.metrics,
                    )
                )
            definitions = None
            if options.webhook_namespace is not None:
                definitions = Definitions(
                    client, namespace=options.webhook_namespace, leadership=leadership, metrics=self.metrics,
                    provider=options.provider,
                )  # fmt: skip
            await self._run_parts(caches, lease, lag, definitions, client)

    async def _run_parts(
        self, caches: Caches, lease: Lease | None, lag: LoopLag, definitions: Definitions | None, client: ApiClient
    ) -> None:
        """Start everything that runs for ever; wait for `stop`, or for the first part that ends."""
        background, executor_loops = _Supervised(), self.loops
        try:
            background.start("heart", lag.run())
            if definitions is not None:
                self._on_signals()
                background.start("definitions", _once_elected(lease, definitions.run()))
                await background.until(self._prove(client, lambda: _elect(background, lease)))
            self._unproven = ""
            background.start("caches", caches.run())
            await background.until(_first(caches.synced(), self._stop.wait()))
            if self._stop.is_set() and caches.lagging:
                log.info("ending: nothing was begun")
                if lease is not None:
                    await lease.release()
                return
            self.synced.set()
            log.info("caches are filled: %s", {r.plural: len(s) for r, s in caches.stores.items()})
            if self._options.with_kopf:
                # It cannot wait for a kind to come; our own watches can.
                there = tuple(each for each in executor_loops if each.controller.resource not in caches.missing)
                background.start("kopf", _kopf(self._credentials, there, self._options, self._on_signals))
            else:
                self._on_signals()
            if lease is not None:
                _elect(background, lease)
                await background.until(_first(lease.elected.wait(), self._stop.wait()))
            if not self._stop.is_set():
                self.metrics.leads(True)
                for loop in executor_loops:
                    background.start(f"loop {loop.controller.name}", loop.run(), may_end=True)
                self.leading.set()
                await background.until(self._stop.wait())
            log.info("ending: finishing what is being worked on")
            for loop in executor_loops:
                loop.stop()
            await background.finish("loop ", within=GRACE)
            if lease is not None:
                await lease.release()
        finally:
            self.metrics.leads(False)
            await background.end()

    async def _prove(self, client: ApiClient, elect: Callable[[], None]) -> None:
        """Wait until what is stored can be read as it is meant, or `stop`.

        What is missing may be what only a leader writes: whom to trust. So whoever waits here stands for election.
        There is no event for a webhook that begins to answer: it is asked again, with growing pauses.
        """
        failures = 0
        resources = [kind.resource for kind in self._kinds]
        while not self._stop.is_set():
            why = await unproven(client, resources, namespaces=self._options.namespaces)
            if not why:
                return
            if why != self._unproven:
                log.warning("nothing is looked after yet: %s", why)
            self._unproven = why
            elect()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_after(failures)):
                    await self._stop.wait()
            failures += 1

    def _lease(self, client: ApiClient) -> Lease | None:
        options = self._options
        if options.lease_namespace is None:
            return None
        return Lease(
            client, namespace=options.lease_namespace, name=installation(options.provider),
            identity=options.identity, terms=options.terms,
        )  # fmt: skip

    def _on_signals(self) -> None:
        """Take SIGTERM and SIGINT (back: kopf has put its own handlers there, which would cancel everything)."""
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            with suppress(ValueError, RuntimeError):  # not in the main thread: somebody else has them
                loop.add_signal_handler(each, self.stop)


class PartEnded(RuntimeError):
    """Something that should run for ever has ended."""


class _Supervised:
    """Tasks that should run for ever. The first that does not takes everything down."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], bool] = {}

    def start(self, name: str, work: Coroutine[Any, Any, None], *, may_end: bool = False) -> None:
        self._tasks[asyncio.create_task(work, name=name)] = may_end

    def runs(self, name: str) -> bool:
        """Whether a task of this name was started."""
        return any(task.get_name() == name for task in self._tasks)

    async def until(self, wanted: Awaitable[Any]) -> None:
        """Wait for something, as long as everything runs."""
        waiting = asyncio.ensure_future(wanted)
        try:
            await asyncio.wait({waiting, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks:
                if task.done():
                    task.result()
                    raise PartEnded(f"{task.get_name()} has ended")
        finally:
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting

    async def finish(self, prefix: str, *, within: float) -> None:
        """Let the tasks of this name end by themselves."""
        chosen = [task for task in self._tasks if task.get_name().startswith(prefix)]
        if chosen:
            await asyncio.wait(chosen, timeout=within)

    async def end(self) -> None:
        """Cancel what still runs, the youngest first."""
        for task in reversed(self._tasks):
            task.cancel()
            await asyncio.wait({task}, timeout=10)


def _elect(background: _Supervised, lease: Lease | None) -> None:
    """Stand for election, if we do not yet."""
    if lease is not None and not background.runs("lease"):
        background.start("lease", lease.run())


async def _once_elected(lease: Lease | None, work: Coroutine[Any, Any, None]) -> None:
    """Begin when we lead; never end."""
    try:
        if lease is not None:
            await lease.elected.wait()
        await work
        await asyncio.Event().wait()
    finally:
        work.close()


def _not_followed(caches: Caches) -> str:
    """What is not known of the world, in a sentence for `/readyz`; "" if everything is."""
    said = [f"not listed yet: {', '.join(caches.lagging)}"] if caches.lagging else []
    said += [f"may not be followed: {kind}: {why}" for kind, why in caches.refused.items()]
    return "; ".join(said)


async def _first(*wanted: Coroutine[Any, Any, Any]) -> None:
    """Wait for the first of them."""
    waits = [asyncio.create_task(each) for each in wanted]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _merged(kinds: Iterable[Kind]) -> list[Watched]:
    """Each kind once, as much of it as the most demanding controller wants."""
    merged: dict[Resource, Watched] = {}
    for kind in kinds:
        for each in kind.watched:
            known = merged.setdefault(each.resource, each)
            if known != each:
                if (known.labels, known.fields) != (each.labels, each.fields):
                    raise ValueError(f"two controllers want different parts of {each.resource.plural}")
                merged[each.resource] = _both(known, each)
    return list(merged.values())


def _both(one: Watched, other: Watched) -> Watched:
    """As much of a kind as two controllers want together."""
    if one.metadata_only or other.metadata_only:
        more = other if one.metadata_only else one
    else:
        keep = {part: one.keep[part] | other.keep[part] for part in one.keep.keys() & other.keep.keys()}
        more = replace(one, keep=keep)
    beside = one.beside if one.beside == other.beside else None
    return replace(more, optional=one.optional and other.optional, beside=beside)


# -- kopf ------------------------------------------------------------------------------------------------------------


def import_kopf() -> ModuleType:
    """kopf, without the `kubernetes` package that it would import if it is installed (18 MiB, and never used)."""
    if "kopf" not in sys.modules and "kubernetes" not in sys.modules:
        sys.modules["kubernetes"] = None  # type: ignore[assignment]
        try:
            import kopf
        finally:
            del sys.modules["kubernetes"]
    import kopf

    return kopf


async def _kopf(
    credentials: Credentials, loops: Sequence[Loop[Any]], options: Options, started: Callable[[], None]
) -> None:
    """Run kopf until cancelled; `started` is called once it has taken what it takes (the signals)."""
    kopf = import_kopf()
    registry = kopf.OperatorRegistry()
    for loop in loops:
        resource = loop.controller.resource
        kopf.on.event(resource.group, resource.version, resource.plural, registry=registry, id="wake")(_waker(loop))

    async def authorize(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        if credentials.authorization is not None:
            value = await credentials.authorization(False)
            if value:
                request.headers["Authorization"] = value
        return await send(request)

    tls = credentials.context if credentials.context is not None else True
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls, limit=0),
        headers={"User-Agent": f"{options.user_agent} kopf"},
        middlewares=(authorize,),
    ) as session:

        async def login(**_: Any) -> Any:
            return kopf.AiohttpSession(server=credentials.server, aiohttp_session=session)

        kopf.on.login(registry=registry, id="login")(login)
        ready = asyncio.Event()
        stop = asyncio.Event()
        running = asyncio.create_task(
            kopf.operator(
                registry=registry,
                settings=_settings(kopf),
                standalone=True,
                identity=options.identity,  # else it asks the system for the name of its user, which need not have one
                clusterwide=not options.namespaces,
                namespaces=options.namespaces,
                ready_flag=ready,
                stop_flag=stop,
            ),
            name="kopf.operator",
        )
        try:
            await asyncio.wait({running, asyncio.ensure_future(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
            started()
            await asyncio.shield(running)
        finally:
            stop.set()
            with suppress(asyncio.CancelledError, TimeoutError):
                async with asyncio.timeout(5):
                    await running


def _waker(loop: Loop[Any]) -> Callable[..., Awaitable[None]]:
    async def wake(name: str, namespace: str | None, meta: Mapping[str, Any], **_: Any) -> None:
        seen = Glimpse(
            namespace=namespace or "", name=name, uid=meta.get("uid", ""),
            resource_version=meta.get("resourceVersion", ""),
        )  # fmt: skip
        loop.wake(Key(namespace or "", name), seen=seen)

    return wake


def _settings(kopf: ModuleType) -> Any:
    """kopf as a watcher only: it remembers nothing on objects, says nothing, and holds nothing up."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.watching.chunk_size = 100  # it decodes a page as a whole, and keeps it until each object had its turn
    settings.persistence.diffbase_storage = _no_diffbase(kopf)
    settings.persistence.progress_storage = _no_progress(kopf)
    settings.execution.max_workers = 1
    return settings


def _no_diffbase(kopf: ModuleType) -> Any:
    class NoDiffBase(kopf.DiffBaseStorage):  # type: ignore[misc,name-defined]
        """Builds and keeps no copy of what an object was like: nobody here asks what has changed."""

        def build(self, **_: Any) -> Any:
            return {}

        def fetch(self, **_: Any) -> Any:
            return None

        def store(self, **_: Any) -> None:
            pass

    return NoDiffBase()


def _no_progress(kopf: ModuleType) -> Any:
    class NoProgress(kopf.ProgressStorage):  # type: ignore[misc,name-defined]
        """Keeps no progress of handlers: ours do nothing that could fail."""

        def fetch(self, **_: Any) -> Any:
            return None

        def store(self, **_: Any) -> None:
            pass

        def purge(self, **_: Any) -> None:
            pass

        def touch(self, **_: Any) -> None:
            pass

        def clear(self, *, essence: Any) -> Any:
            return essence

    return NoProgress()
