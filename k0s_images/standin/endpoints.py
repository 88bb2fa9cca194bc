"""k0s' endpoint reconciler: the Endpoints `default/kubernetes` name what `spec.api.externalAddress` resolves to.

It runs in place of the API server's own when an external address is set. Only a change of the IPs is written: a
changed port alone is not noticed, as in k0s.
"""

from __future__ import annotations

import socket

from k0s_images.standin import log
from k0s_images.standin.config import ClusterConfig, is_ip
from k0s_images.standin.kube import Api

PERIOD = 10.0
_PATH = "/api/v1/namespaces/default/endpoints"


def resolve(host: str) -> list[str]:
    """The addresses of a host name, or the address itself. Raises `OSError`."""
    if is_ip(host):
        return [host]
    found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    return sorted({str(info[4][0]) for info in found})


def reconcile(api: Api, config: ClusterConfig) -> None:
    """Bring the Endpoints up to date. Raises `ApiError`, or `OSError` when the address does not resolve."""
    wanted = resolve(config.external_host)
    there = api.find(f"{_PATH}/kubernetes")
    have = sorted(a["ip"] for s in (there or {}).get("subsets") or [] for a in s.get("addresses") or [])
    if there is not None and have == wanted:
        return
    subsets = [{
        "addresses": [{"ip": ip} for ip in wanted],
        "ports": [{"name": "https", "port": config.external_port, "protocol": "TCP"}],
    }]  # fmt: skip
    body = there or {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default"},
    }
    body["subsets"] = subsets
    if there is None:
        api.request("POST", _PATH, body)
    else:
        api.request("PUT", f"{_PATH}/kubernetes", body)
    log.info(f"Endpoints default/kubernetes: {', '.join(wanted)}", component="endpoint-reconciler")
