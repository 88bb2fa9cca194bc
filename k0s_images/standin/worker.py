"""`k0s worker`: from a join token to a running kubelet.

The token is needed once: what it is exchanged for (`kubelet.conf`) stays, and with it every later start does without.
What the node is to be like comes from the cluster, in the worker-config ConfigMap of this version's minor.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from k0s_images.standin import documents, kubeconfig, layout, log, status, tokens
from k0s_images.standin.containerd import Containerd
from k0s_images.standin.errors import Fatal
from k0s_images.standin.kube import Api, ApiError
from k0s_images.standin.layout import Layout, RuntimeLock, executable
from k0s_images.standin.supervisor import Child, Program
from k0s_images.standin.versions import Release

_CONFIG_MAPS = "/api/v1/namespaces/kube-system/configmaps"
_RETRY = 1.0
_RUNTIME_WITHIN = 120.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line of `k0s worker` says."""

    layout: Layout
    release: Release
    token: str | None
    profile: str = "default"
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()
    kubelet_extra_args: str = ""
    kubelet_root: Path | None = None
    cri_socket: str = ""
    cloud_provider: bool = False
    levels: Mapping[str, str] = field(default_factory=dict)
    argv: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        """kubelet's root directory."""
        return self.kubelet_root or self.layout.data / "kubelet"

    @property
    def kubelet_conf(self) -> Path:
        """The kubeconfig that kubelet earns with the token."""
        return self.layout.data / "kubelet.conf"


def bootstrap_kubeconfig(options: Options) -> str | None:
    """The kubeconfig to join with, or None when this node has joined already. `Fatal` without any."""
    if options.kubelet_conf.is_file():
        log.info("this node has joined already, the token is not needed")
        return None
    prepared = options.layout.data / "kubelet-bootstrap.conf"
    if prepared.is_file():
        return prepared.read_text()
    if options.token is None:
        raise Fatal(f"{options.kubelet_conf} does not exist and no join token was given: this node cannot join")
    credentials = tokens.decode(options.token, role="worker")
    return json.dumps(kubeconfig.document(
        server=credentials.server, ca=credentials.ca, user={"token": credentials.token}, cluster_name="k0s",
        context="k0s", user_name=credentials.user))  # fmt: skip


def load_profile(api: Api, name: str, *, cache: Path, stop: threading.Event) -> dict[str, Any]:
    """The worker-config ConfigMap `name`, its values decoded; asked for until it is there.

    A node that has joined before falls back to what it learned then, so that it starts while the API is away.
    """
    said = ""
    while not stop.is_set():
        try:
            data = api.get(f"{_CONFIG_MAPS}/{name}").get("data") or {}
            layout.write(cache, documents.dump(data), 0o600)
            return {key: json.loads(value) for key, value in data.items()}
        except ApiError as fault:
            if str(fault) != said:
                log.warning(f"failed to load the worker configuration {name}: {fault}", component="worker-config")
                said = str(fault)
            if cache.is_file() and fault.status == 0:
                return {key: json.loads(value) for key, value in yaml.safe_load(cache.read_text()).items()}
        stop.wait(_RETRY)
    raise Interrupted


class Interrupted(Exception):
    """A signal came before the worker was up."""


def kubelet_configuration(options: Options, profile: Mapping[str, Any], *, runtime: str) -> dict[str, Any]:
    """The KubeletConfiguration of this node: the profile's, and what only the node can know."""
    data = options.layout.data
    result = dict(profile["kubeletConfiguration"])
    authentication = dict(result.get("authentication") or {})
    x509 = {**(authentication.get("x509") or {}), "clientCAFile": str(data / "pki" / "ca.crt")}
    result["authentication"] = {**authentication, "x509": x509}
    result["containerRuntimeEndpoint"] = runtime
    result.setdefault("kubeReservedCgroup", "system.slice")
    result.setdefault("resolvConf", _resolv_conf())
    if options.taints:
        result["registerWithTaints"] = [_taint(t) for t in options.taints]
    return result


def _taint(text: str) -> dict[str, str]:
    pair, colon, effect = text.rpartition(":")
    if not colon or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
        raise Fatal(f"failed to parse taint {text!r}: expected key=value:effect")
    key, _, value = pair.partition("=")
    return {"key": key, "effect": effect} | ({"value": value} if value else {})


def _resolv_conf() -> str:
    """The file with the real name servers: a local stub's address means nothing inside a pod."""
    behind_stub = Path("/run/systemd/resolve/resolv.conf")
    return str(behind_stub) if behind_stub.is_file() else "/etc/resolv.conf"


def kubelet_arguments(options: Options, *, bootstrap: Path | None) -> list[str]:
    """kubelet's command line. `--kubelet-extra-args` win over what is set here."""
    arguments = {
        "root-dir": str(options.root), "config": str(options.layout.run / "kubelet" / "config.yaml"),
        "kubeconfig": str(options.kubelet_conf), "cert-dir": str(options.root / "pki"),
        "v": options.levels.get("kubelet", "1"), "runtime-cgroups": "/system.slice/containerd.service",
    }  # fmt: skip
    if bootstrap is not None:
        arguments["bootstrap-kubeconfig"] = str(bootstrap)
    if options.labels:
        arguments["node-labels"] = ",".join(f"{k}={v}" for k, v in options.labels.items())
    if options.cloud_provider:
        arguments["cloud-provider"] = "external"
    extra: list[str] = []
    for word in shlex.split(options.kubelet_extra_args):
        name, sign, value = word.partition("=")
        if sign and name.startswith("--"):
            arguments[name[2:]] = value
        else:
            extra.append(word)
    return [f"--{name}={value}" for name, value in sorted(arguments.items())] + extra


class Worker:
    """One running worker."""

    def __init__(self, options: Options) -> None:
        self._o = options
        self._ended = threading.Event()
        self._undo: list[Callable[[], None]] = []

    def run(self) -> int:
        """Run until SIGINT or SIGTERM; pods and their shims keep running. Raises `Fatal`."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        places = self._o.layout
        layout.directory(places.data, 0o755)
        layout.directory(places.run, 0o755)
        layout.directory(places.bin, 0o755)
        lock = RuntimeLock(places, taken=self._o.release.second_instance)
        try:
            self._start(lock)
            self._ended.wait()
        except Interrupted:
            log.info("interrupted while starting")
        finally:
            for undo in reversed(self._undo):
                undo()
            lock.withdraw()
        return 0

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        log.info(f"received {signal.Signals(number).name}, stopping")
        self._ended.set()

    def _start(self, lock: RuntimeLock) -> None:
        o, places = self._o, self._o.layout
        joining = bootstrap_kubeconfig(o)
        credentials = kubeconfig.read(joining if joining is not None else o.kubelet_conf.read_bytes())
        lock.publish(node_config={})
        layout.directory(places.data / "pki", 0o751)
        layout.write(places.data / "pki" / "ca.crt", credentials.ca, 0o644)
        runtime = o.cri_socket.removeprefix("remote:") or f"unix://{places.run / 'containerd.sock'}"
        own = not o.cri_socket
        name = f"worker-config-{o.profile}-{o.release.minor}"
        profile = load_profile(Api(credentials), name, cache=places.data / "worker-profile.yaml", stop=self._ended)
        if own:
            pause = profile["pauseImage"]
            containerd = Containerd(places)
            image, level = f"{pause['image']}:{pause['version']}", o.levels.get("containerd", "info")
            self._undo.append(containerd.start(pause=image, log_level=level).stop)
            self._wait_for(containerd)
            # In the background: kubelet need not wait for archives of a gigabyte.
            threading.Thread(target=containerd.import_images, args=(self._ended,), name="images", daemon=True).start()
        self._undo.append(self._kubelet(joining, kubelet_configuration(o, profile, runtime=runtime)).stop)
        self._undo.append(status.serve(places.status_socket, {"/status": self._status, "/components": dict}))

    def _wait_for(self, containerd: Containerd) -> None:
        begun = time.monotonic()
        while not containerd.answers():
            if self._ended.wait(0.05):
                raise Interrupted
            if time.monotonic() - begun > _RUNTIME_WITHIN:
                raise Fatal(f"containerd does not answer after {_RUNTIME_WITHIN:.0f} s")

    def _kubelet(self, joining: str | None, configuration: Mapping[str, Any]) -> Child:
        o, places = self._o, self._o.layout
        folder = layout.directory(places.run / "kubelet", 0o700)
        layout.directory(o.root, 0o755)
        layout.write(folder / "config.yaml", documents.dump(dict(configuration)), 0o600)
        bootstrap = None
        if joining is not None:
            # In the run directory, which does not outlive the machine's next start; kubelet reads it once.
            bootstrap = folder / "bootstrap.conf"
            layout.write(bootstrap, joining, 0o600)
        argv = [str(executable("kubelet", places)), *kubelet_arguments(o, bootstrap=bootstrap)]
        child = Child(Program(name="kubelet", argv=argv), places)
        child.start()
        if bootstrap is not None:
            threading.Thread(target=self._joined, args=(bootstrap,), name="joined", daemon=True).start()
        return child

    def _joined(self, bootstrap: Path) -> None:
        """Once kubelet has credentials of its own, the token is removed from this machine."""
        while not self._o.kubelet_conf.is_file():
            if self._ended.wait(0.2):
                return
        bootstrap.unlink(missing_ok=True)
        log.info("joined")

    def _status(self) -> dict[str, Any]:
        o = self._o
        return {
            "Version": o.release.version, "Pid": os.getpid(), "PPid": os.getppid(), "Role": "worker", "SysInit": "",
            "StubFile": "", "Output": "", "Workloads": True, "SingleNode": False, "Args": list(o.argv),
            "WorkerToAPIConnectionStatus": self._reach(), "ClusterConfig": None,
            "K0sVars": {"DataDir": str(o.layout.data), "RunDir": str(o.layout.run)},
        }  # fmt: skip

    def _reach(self) -> dict[str, Any]:
        try:
            Api(kubeconfig.read(self._o.kubelet_conf.read_bytes()), timeout=5.0).get("/version")
        except (OSError, Fatal, ApiError) as fault:
            return {"Message": str(fault), "Success": False}
        return {"Message": "", "Success": True}


def run(options: Options) -> int:
    """Run a worker."""
    return Worker(options).run()
