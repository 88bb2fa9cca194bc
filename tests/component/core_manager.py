"""The real Cluster API core manager beside the real API server: kinds, conversion and admission webhooks included."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from e2e.capi import core
from e2e.capi.programs import NEWEST, ClusterApi, cluster_api
from tests.component import certificates
from tests.component.apiserver import Server, StartError, free_ports

_PATIENCE = 60.0


@dataclass(frozen=True, kw_only=True)
class CoreManager:
    """A running core manager."""

    release: ClusterApi
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)


@contextlib.contextmanager
def managing(server: Server, *, series: str = NEWEST) -> Iterator[CoreManager]:
    """Core's kinds in `server`, and the manager that looks after them, until the end of the block."""
    release = cluster_api(series)
    folder = server.folder / f"core-{series}"
    folder.mkdir()
    authority = certificates.authority("core-webhooks")
    pair = certificates.leaf(authority, "core-webhooks", ips=("127.0.0.1",))
    (folder / "tls.crt").write_bytes(pair.certificate)
    (folder / "tls.key").write_bytes(pair.key)
    webhooks, health, diagnostics = free_ports(3)
    url = f"https://127.0.0.1:{webhooks}"
    # Server-side: a client-side apply would keep each CRD a second time, in an annotation that is too long.
    kinds = core.as_yaml(core.crds(release, webhook_url=url, ca=authority.certificate))
    server.kubectl("apply", "--server-side", "-f", "-", stdin=kinds)
    server.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", "-", stdin=kinds)
    words = core.arguments(
        kubeconfig=server.access("core-manager", "system:masters").kubeconfig(folder / "kubeconfig"),
        webhook_port=webhooks,
        certificates=folder,
        health=f"127.0.0.1:{health}",
        diagnostics=f"127.0.0.1:{diagnostics}",
    )
    log = folder / "manager.log"
    setpriv = shutil.which("setpriv")
    leash = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder)}
    with log.open("ab") as out:
        process = subprocess.Popen(
            [*leash, str(release.manager), *words],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        _await_ready(f"http://127.0.0.1:{health}/readyz", process, log)
        hooks = core.as_yaml(core.webhook_configurations(release, webhook_url=url, ca=authority.certificate))
        server.kubectl("apply", "--server-side", "-f", "-", stdin=hooks)
        yield CoreManager(release=release, log=log, process=process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)


def _await_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Ask until it says yes: a process that is starting offers nothing to wait on."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.05)
    raise StartError(
        "the core manager did not start:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-30:])
    )
