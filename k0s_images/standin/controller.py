"""`k0s controller`: everything one controller runs, started in order and stopped in reverse.

Order: certificates, storage, konnectivity-server, kube-apiserver; when the API server answers, leases, applier and
approver, and last the status socket, so that `k0s status` means that the API was ready once; then the bootstrap RBAC,
kube-controller-manager and kube-scheduler, and what goes into the cluster.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from k0s_images.standin import (
    addons,
    addresses,
    csrapprover,
    documents,
    endpoints,
    kubeconfig,
    layout,
    leases,
    log,
    network_addons,
    programs,
    rbac,
    service_addons,
    stacks,
    status,
    users,
    workerconfig,
)
from k0s_images.standin.applier import Applier
from k0s_images.standin.certificates import Certificates
from k0s_images.standin.config import ClusterConfig, join_host_port
from k0s_images.standin.errors import Fatal
from k0s_images.standin.kube import Api, ApiError
from k0s_images.standin.layout import Layout, RuntimeLock
from k0s_images.standin.supervisor import Child, Program
from k0s_images.standin.tasks import Tasks
from k0s_images.standin.versions import Release

#: How long a component may take until it is ready; then k0s gives up.
READY_WITHIN = 120.0
_POLL = 0.1
#: Stacks whose manifest k0s writes only so many seconds after the start.
_LATE = {"metricserver": 10.0}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line of `k0s controller` says."""

    config: ClusterConfig
    layout: Layout
    release: Release
    disabled: frozenset[str] = frozenset()
    levels: dict[str, str] = field(default_factory=dict)
    init_only: bool = False
    api_server_stop_timeout: float = 20.0
    argv: tuple[str, ...] = ()


class Controller:
    """One running controller."""

    def __init__(self, options: Options) -> None:
        self._o = options
        self._ended = threading.Event()
        self._tasks = Tasks()
        self._elector_stop = threading.Event()
        self._children: dict[str, Child] = {}
        self._undo: list[Callable[[], None]] = []
        self._events: dict[str, list[dict[str, str]]] = {}
        self._servers = 1

    # -- life ---------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run until SIGINT or SIGTERM; the exit code is 0 for a graceful end. Raises `Fatal`."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        layout.prepare(self._o.layout)
        lock = RuntimeLock(self._o.layout, taken=self._o.release.second_instance)
        lock.publish(node_config=dict(self._o.config.document))
        certificates = Certificates(self._o.config, self._o.layout, self._o.release)
        certificates.begin()
        if self._o.init_only:
            certificates.finish()
            if self._o.config.spec["storage"]["type"] == "kine" and not self._o.release.init_only_ends_with_kine:
                self._ended.wait()
            lock.withdraw()
            return 0
        try:
            self._start(certificates)
            self._ended.wait()
        finally:
            self._stop()
            lock.withdraw()
        return 0

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        log.info(f"received {signal.Signals(number).name}, stopping")
        self._ended.set()

    def _start(self, certificates: Certificates) -> None:
        try:
            self._control_plane(certificates)
            self._cluster()
        except _Interrupted:
            # To k0s an interrupted start is a failed one.
            raise Fatal("failed to start controller node components: interrupted") from None

    def _stop(self) -> None:
        self._tasks.stop.set()
        for undo in reversed(self._undo):
            try:
                undo()
            except (OSError, ApiError) as fault:
                log.warning(f"while stopping: {fault}")

    def _child(self, program: Program) -> Child:
        child = Child(program, self._o.layout)
        child.start()
        self._children[program.name] = child
        return child

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        """Wait until a component is ready; `Fatal` after the limit, `_Interrupted` when we are to end."""
        begun = time.monotonic()
        while not ready():
            if self._ended.wait(_POLL):
                raise _Interrupted
            if time.monotonic() - begun > READY_WITHIN:
                raise Fatal(
                    f"failed to start controller node components: {name} is not ready after {READY_WITHIN:.0f} s"
                )
        log.info(f"{name} is ready after {time.monotonic() - begun:.2f} s")

    # -- the control plane --------------------------------------------------------------------------------------------

    def _control_plane(self, certificates: Certificates) -> None:
        o = self._o
        self._storage()
        if "konnectivity-server" not in o.disabled:
            layout.write(o.layout.egress_conf, documents.dump(programs.egress_selector(o.layout)), 0o644)
            self._konnectivity(self._servers)
            self._undo.append(lambda: self._children["konnectivity"].stop())
        level = programs.verbosity(o.levels, "kube-apiserver")
        apiserver = self._child(programs.apiserver(
            o.config, o.layout, o.release, disabled=o.disabled, level=level,
            stop_timeout=o.api_server_stop_timeout))  # fmt: skip
        self._undo.append(apiserver.stop)
        certificates.finish()
        credentials = kubeconfig.read(o.layout.admin_conf.read_bytes())
        self._api = Api(credentials)
        # Readiness is asked under the API address, as others reach it; local work goes over localhost.
        server = f"https://{join_host_port(o.config.api['address'], int(o.config.api['port']))}"
        probe = Api(dataclasses.replace(credentials, server=server), timeout=5.0)
        self._wait("kube-apiserver", lambda: _answers(probe))

    def _storage(self) -> None:
        o = self._o
        if o.config.external_etcd is not None:
            if o.release.always_etcd_folders:
                owner = users.uid(users.ETCD)
                layout.directory(o.layout.etcd_data, 0o700, owner=owner)
                layout.directory(o.layout.etcd_pki, 0o711, owner=owner)
            return
        if o.config.spec["storage"]["type"] == "kine":
            self._undo.append(self._child(programs.kine(o.config, o.layout)).stop)
            self._wait("kine", lambda: _accepts(str(o.layout.kine_socket)))
        else:
            self._undo.append(self._child(programs.etcd(o.config, o.layout)).stop)

    def _konnectivity(self, servers: int) -> None:
        o = self._o
        level = programs.verbosity(o.levels, "konnectivity-server")
        self._child(programs.konnectivity(o.config, o.layout, o.release, level=level, servers=servers))
        self._note("Konnectivity", "successfully initialized konnectivity component")

    # -- what runs once the API answers -------------------------------------------------------------------------------

    def _cluster(self) -> None:
        o, tasks, stop = self._o, self._tasks, self._tasks.stop
        several = o.config.joinable
        main = self._elector("k0s-endpoint-reconciler", several=several)
        # Elected for its own sake: controllers of two minors each keep the ConfigMaps of theirs.
        profiles = self._elector(f"k0s-worker-config-{o.release.minor}", several=True)
        if several:
            name = f"k0s-ctrl-{addresses.hostname()}"
            counted = leases.Elector(self._api, name, o.layout.invocation)
            tasks.start("lease", lambda: counted.run(self._elector_stop))
            if "konnectivity-server" not in o.disabled:
                tasks.every("konnectivity", 10.0, leases.Counter(self._api, self._servers_changed).tick, at_once=True)
        # k0s makes the folders long before it writes into them, and an applier that looks in between sees empty stacks.
        for stack in self._stacks():
            layout.directory(o.layout.manifests / stack, 0o755)
        if "applier-manager" not in o.disabled:
            applier = Applier(self._api, o.layout.manifests)
            tasks.start("applier", lambda: applier.run(main, stop))
            self._undo.append(applier.wake)
        if "csr-approver" not in o.disabled:
            tasks.every(
                "csr-approver", csrapprover.PERIOD, self._when(main, lambda: csrapprover.approve_one(self._api))
            )
        self._undo.append(
            status.serve(o.layout.status_socket, {"/status": self._status, "/components": self._components})
        )
        if "system-rbac" not in o.disabled:
            self._bootstrap_rbac()
        self._managers()
        self._addons()
        if o.config.external_address and "endpoint-reconciler" not in o.disabled:
            tasks.every(
                "endpoint-reconciler",
                endpoints.PERIOD,
                self._when(main, lambda: endpoints.reconcile(self._api, o.config)),
            )
        tasks.start("worker-config", lambda: workerconfig.run(
            self._api, o.config, o.release, disabled=o.disabled, leading=profiles, stop=stop))  # fmt: skip

    def _elector(self, name: str, *, several: bool) -> threading.Event:
        """The event that is set while this controller leads."""
        if not several:
            always = threading.Event()
            always.set()
            return always
        elector = leases.Elector(self._api, name, self._o.layout.invocation)
        released = threading.Event()

        def run() -> None:
            elector.run(self._elector_stop)
            released.set()

        def end() -> None:
            self._elector_stop.set()
            released.wait(2.0)

        self._tasks.start(name, run)
        self._undo.append(end)
        return elector.leading

    @staticmethod
    def _when(leading: threading.Event, work: Callable[[], None]) -> Callable[[], None]:
        return lambda: work() if leading.is_set() else None

    def _bootstrap_rbac(self) -> None:
        """Blocking, on every controller: without it no worker can join. Retried while the API server settles."""

        def applied() -> bool:
            try:
                stacks.apply(self._api, rbac.STACK, rbac.bootstrap())
            except ApiError as fault:
                log.debug(str(fault), component="system-rbac")
                return False
            return True

        self._wait("the bootstrap RBAC", applied)

    def _managers(self) -> None:
        o = self._o
        for name, make in (
            ("kube-controller-manager", programs.controller_manager),
            ("kube-scheduler", programs.scheduler),
        ):
            if name not in o.disabled:
                program = make(o.config, o.layout, level=programs.verbosity(o.levels, name))
                self._undo.append(self._child(program).stop)

    def _stacks(self) -> dict[str, Callable[[], None]]:
        """The folders of the add-ons that are deployed, and what writes their manifests."""
        config, disabled = self._o.config, self._o.disabled
        network = config.spec["network"]

        def writes(stack: str, file: str, make: Callable[[ClusterConfig], list[Any]]) -> Callable[[], None]:
            return lambda: self._manifest(stack, file, make(config))

        found = {}
        if "kube-proxy" not in disabled and not network["kubeProxy"].get("disabled"):
            found["kubeproxy"] = writes("kubeproxy", "kube-proxy.yaml", network_addons.kube_proxy)
        if "coredns" not in disabled:
            found["coredns"] = writes("coredns", "coredns.yaml", service_addons.coredns)
        if "metrics-server" not in disabled:
            found["metricserver"] = writes("metricserver", "metric_server.yaml", service_addons.metrics_server)
        if "network-provider" not in disabled and network["provider"] == "kuberouter":
            found["kuberouter"] = writes("kuberouter", "kube-router.yaml", network_addons.kube_router)
        return found

    def _addons(self) -> None:
        o = self._o
        if "konnectivity-server" not in o.disabled:
            self._agents()
        if "network-provider" not in o.disabled and o.config.spec["network"]["provider"] == "calico":
            log.warning("the stand-in does not deploy Calico", component="network-provider")
        for stack, write in self._stacks().items():
            if stack in _LATE:
                self._tasks.start(stack, self._after(_LATE[stack], write))
            else:
                write()

    def _after(self, seconds: float, work: Callable[[], None]) -> Callable[[], None]:
        return lambda: None if self._tasks.stop.wait(seconds) else work()

    def _agents(self) -> None:
        things = addons.konnectivity(self._o.config, servers=self._servers)
        self._manifest("konnectivity", "konnectivity-agent.yaml", things)
        self._note("KonnectivityAgent", "wrote konnectivity agent new manifest")

    def _manifest(self, stack: str, file: str, things: list[Any]) -> None:
        folder = layout.directory(self._o.layout.manifests / stack, 0o755)
        content = documents.dump_all(things)
        target = folder / file
        if not target.is_file() or target.read_text() != content:
            layout.write(target, content, 0o644)

    def _servers_changed(self, servers: int) -> None:
        """Another number of controllers: konnectivity-server tells it to the agents, which look for as many servers."""
        self._servers = servers
        self._children["konnectivity"].stop()
        if not self._ended.is_set():
            self._konnectivity(servers)
            self._agents()

    # -- status -------------------------------------------------------------------------------------------------------

    def _note(self, component: str, message: str) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._events.setdefault(component, []).append({"at": at, "message": message})

    def _components(self) -> dict[str, Any]:
        return {"healthProbes": {}, "events": {name: entries[-1:] for name, entries in self._events.items()}}

    def _status(self) -> dict[str, Any]:
        o = self._o
        return {
            "Version": o.release.version,
            "Pid": os.getpid(),
            "PPid": os.getppid(),
            "Role": "controller",
            "SysInit": "",
            "StubFile": "",
            "Output": "",
            "Workloads": False,
            "SingleNode": False,
            "Args": list(o.argv),
            "WorkerToAPIConnectionStatus": {"Message": "", "Success": False},
            "ClusterConfig": o.config.document,
            "K0sVars": {
                "DataDir": str(o.layout.data),
                "RunDir": str(o.layout.run),
                "StatusSocketPath": str(o.layout.status_socket),
            },
        }


class _Interrupted(Exception):
    """A signal came while we were starting."""


def _accepts(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _answers(api: Api) -> bool:
    try:
        api.get("/readyz")
    except ApiError:
        return False
    return True
