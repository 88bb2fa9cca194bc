"""Cluster API in the lab: core's kinds, its real manager as a process beside the API server, and machines of the lab.

The manager runs in the management node's network, so that kube-apiserver reaches its webhooks at 127.0.0.1.
"""

from __future__ import annotations

import http.client
import sys
import time
from ipaddress import IPv4Address
from pathlib import Path

from e2e.capi import core, edges, infrastructure, kinds
from e2e.capi.programs import NEWEST, ClusterApi, cluster_api
from e2e.lab import boot, edge, extra, pki, systemd
from e2e.lab.handle import Lab
from e2e.lab.network import LabError

MANAGER, MACHINES = "capi-core", "capi-machines"
_LOOPBACK = IPv4Address("127.0.0.1")
_WEBHOOKS, _HEALTH, _DIAGNOSTICS = 9443, 9440, 9441
_URL = f"https://{_LOOPBACK}:{_WEBHOOKS}"


def start(lab: Lab, *, series: str = NEWEST) -> ClusterApi:
    """Install and start all of it; what runs already is left alone."""
    release = cluster_api(series)
    folder = lab.folder / "capi"
    ca = pki.serving(folder, ips=[_LOOPBACK])
    definitions = core.as_yaml([*core.crds(release, webhook_url=_URL, ca=ca), *kinds.crds()]).decode()
    # Server-side: a client-side apply would keep each CRD a second time, in an annotation that is too long.
    lab.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=definitions)
    lab.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", "-", input=definitions, seconds=70)
    words = core.arguments(
        kubeconfig=lab.folder / "pki" / "admin.kubeconfig", webhook_port=_WEBHOOKS, certificates=folder,
        health=f"{lab.addresses.node}:{_HEALTH}", diagnostics=f"{_LOOPBACK}:{_DIAGNOSTICS}",
    )  # fmt: skip
    extra.keep(lab, MANAGER, [release.manager, *words], on_node=True)
    _await_ready(lab, seconds=60)
    lab.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=_hooks(release, ca))
    start_machines(lab)
    return release


def start_machines(lab: Lab) -> None:
    """The lab's provider of infrastructure."""
    code = (edges, infrastructure, boot, edge, systemd)
    texts = [Path(str(each.__file__)).read_text() for each in code]
    extra.keep(lab, MACHINES, [sys.executable, "-m", "e2e.capi.edges", "--lab", lab.name], inputs=texts, notifies=True)


def stop(lab: Lab, *, series: str = NEWEST) -> None:
    """End both processes. Admission goes first: it fails closed, and nobody would answer any more."""
    hooks = _hooks(cluster_api(series), pki.serving(lab.folder / "capi", ips=[_LOOPBACK]))
    lab.kubectl("delete", "--ignore-not-found", "-f", "-", input=hooks)
    for each in (MACHINES, MANAGER):
        extra.end(lab, each)


def _hooks(release: ClusterApi, ca: bytes) -> str:
    return core.as_yaml(core.webhook_configurations(release, webhook_url=_URL, ca=ca)).decode()


def _await_ready(lab: Lab, *, seconds: float) -> None:
    """Ask until it says yes: a process that is starting offers nothing to wait on."""
    ends = time.monotonic() + seconds
    last = ""
    while time.monotonic() < ends:
        extra.require(lab, MANAGER)
        connection = http.client.HTTPConnection(str(lab.addresses.node), _HEALTH, timeout=5)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            last = answer.read().decode()
            if answer.status == 200:
                return
        except (OSError, http.client.HTTPException) as error:
            last = str(error)
        finally:
            connection.close()
        time.sleep(0.05)
    raise LabError(f"the core manager is not ready after {seconds:.0f} s: {last} (see {lab.logs}/{MANAGER}.log)")
