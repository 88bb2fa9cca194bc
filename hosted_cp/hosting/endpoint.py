"""The one object that we put into the tenant, and the one question that we ask it.

k0s writes the Endpoints of `default/kubernetes` only at its first ten-second tick, and workers cannot join before
(k0s.md 11.2): we create them as soon as the API answers, only if absent and only for an IP address. From then on k0s
owns them. A tenant is *initialized* when it has answered one authenticated request with credentials of its CA.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from hosted_cp.hosting import authorities, controllers, service
from hosted_cp.hosting.tenant import Tenant
from hosted_cp.hosting.wanted import Wanted
from hosted_cp.planning.actions import Probe, Target


def serving(t: Tenant) -> bool:
    """Whether at least one controller pod says that its API server answers."""
    live = controllers.seen(t)
    return live is not None and int(live.get("status", "readyReplicas", default=0) or 0) > 0


def initialized(t: Tenant) -> bool:
    """Whether the tenant has ever answered us, as our status remembers."""
    return bool(t.view.owner.get("status", "initialized", default=False))


def reachable(t: Tenant) -> bool:
    return t.view.settings.reaches_tenants


def wanted(t: Tenant) -> list[Wanted]:
    if not serving(t) or initialized(t) or not reachable(t):
        return []
    try:
        address = ipaddress.ip_address(t.decisions.address)
    except ValueError:
        return []  # a name: k0s resolves it where its pods are
    if address.is_loopback or address.is_link_local:
        return []  # the API refuses these in Endpoints
    body: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default"},
        "subsets": [
            {
                "addresses": [{"ip": str(address)}],
                "ports": [{"name": "https", "port": t.decisions.apiPort, "protocol": "TCP"}],
            }
        ],
    }
    return [Wanted(body=body, target=Target.TENANT)]


def probes(t: Tenant) -> tuple[Probe, ...]:
    """Ask the tenant once it serves, until it has answered."""
    if not serving(t) or initialized(t) or not reachable(t):
        return ()
    return (
        Probe(
            kind="tenant-api",
            key="initialized",
            arguments=(("authority", authorities.secret_name(t, "ca")), ("server", service.in_cluster_url(t))),
        ),
    )


def answered(t: Tenant) -> bool:
    """Whether the probe has found the tenant answering, now or before."""
    if initialized(t):
        return True
    finding = t.view.finding("tenant-api", "initialized")
    return finding is not None and finding.ok
