"""The one object that we put into the tenant, and the one question that we ask it.

k0s writes the Endpoints of `default/kubernetes` only at its first ten-second tick, and workers cannot join before
(k0s.md 11.2): we create them as soon as the API answers, only if absent and only for an IP address. From then on k0s
owns them, but for one thing that it does not see to: another port at the same addresses (k0s.md 9.3).

A tenant is *initialized* when it has answered one authenticated request with credentials of its CA.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from hosted_cp.api import database
from hosted_cp.hosting import authorities, config, controllers, service
from hosted_cp.hosting.tenant import Tenant, once, serves
from hosted_cp.hosting.wanted import Wanted
from hosted_cp.k0s.config import DSN_KEY
from hosted_cp.planning.actions import MovePort, Probe, Ref, Target

_ENDPOINTS = Ref(api_version="v1", kind="Endpoints", namespace="default", name="kubernetes")


@once
def serving(t: Tenant) -> bool:
    """Whether at least one controller pod says that its API server answers."""
    return serves(t.view)


def initialized(t: Tenant) -> bool:
    """Whether the tenant has ever answered us, as our status remembers."""
    return t.view.initialized


def reachable(t: Tenant) -> bool:
    return t.view.settings.reaches_tenants


def asking(t: Tenant) -> bool:
    """Whether the tenant serves and is being asked for the first time: the answer is a moment away."""
    return (
        serving(t) and reachable(t) and in_cluster(t) is not None and not initialized(t)
        and t.view.finding("tenant-api", "initialized") is None
    )  # fmt: skip


def wanted(t: Tenant) -> list[Wanted]:
    if initialized(t) or not answered(t):
        return []
    try:
        address = ipaddress.ip_address(t.decisions.address)
    except ValueError:
        return []  # a name: k0s resolves it where its pods are
    if address.is_loopback or address.is_link_local:
        return []  # the API refuses these in Endpoints
    body: dict[str, Any] = {
        "apiVersion": _ENDPOINTS.api_version,
        "kind": _ENDPOINTS.kind,
        "metadata": {"name": _ENDPOINTS.name, "namespace": _ENDPOINTS.namespace},
        "subsets": [
            {
                "addresses": [{"ip": str(address)}],
                "ports": [{"name": "https", "port": t.decisions.apiPort, "protocol": "TCP"}],
            }
        ],
    }
    return [Wanted(body=body, target=Target.TENANT)]


def moved(t: Tenant) -> list[MovePort]:
    """What tells the tenant of another port, which its own pods reach it by.

    Until it has been told, the decisions remember the former one; those that say nothing of it any more are written
    behind this action, so that it cannot be forgotten.
    """
    due = t.former.portBefore and t.former.apiPort == t.decisions.apiPort and t.former.address == t.decisions.address
    return [MovePort(ref=_ENDPOINTS, port=t.decisions.apiPort)] if due and serving(t) and reachable(t) else []


@dataclass(frozen=True, kw_only=True)
class InCluster:
    """How the tenant's API is reached inside the management cluster, without a name server."""

    server: str
    #: The name in the server's certificate.
    server_name: str
    #: The Secret with the tenant's CA.
    authority: str


@once
def in_cluster(t: Tenant) -> InCluster | None:
    """None while the Service has no address or the CA does not exist."""
    address = next(iter(service.cluster_ips(t)), None)
    if address is None or authorities.seen(t, "ca") is None:
        return None
    return InCluster(
        server=f"https://{service.url_host(address)}:{service.in_cluster_port(t)}",
        server_name=service.in_cluster_names(t)[2],
        authority=authorities.secret_name(t, "ca"),
    )


def probes(t: Tenant) -> tuple[Probe, ...]:
    """Ask the tenant once it serves, until it has answered; and its database, while nothing serves."""
    if not serving(t):
        return _dial(t)
    at = in_cluster(t)
    if initialized(t) or not reachable(t) or at is None:
        return ()
    arguments = (("authority", at.authority), ("server", at.server), ("serverName", at.server_name))
    return (Probe(kind="tenant-api", key="initialized", arguments=arguments),)


def _dial(t: Tenant) -> tuple[Probe, ...]:
    """Whether anything listens where the tenant's database should be."""
    kine = t.spec.storage.kine if t.spec.storage and t.decisions.storage == "kine" else None
    if kine is None or controllers.seen(t) is None or not reachable(t):
        return ()
    secret = config.dsn_secret(t)
    if kine.data_source_secret_name:
        facts = secret.secret if secret else None
        if facts is None or DSN_KEY not in facts.digests:
            return ()
        # The digest makes it another question when the Secret is corrected.
        arguments = (("secret", kine.data_source_secret_name), ("key", DSN_KEY), ("digest", facts.digests[DSN_KEY]))
        return (Probe(kind="dial", key="datasource", arguments=arguments),)
    try:
        at = database.read(kine.data_source_url or "")
    except database.DataSourceError:
        return ()
    if not at.host or not at.port:
        return ()
    return (Probe(kind="dial", key="datasource", arguments=(("host", at.host), ("port", str(at.port)))),)


def answered(t: Tenant) -> bool:
    """Whether the probe has found the tenant answering, now or before."""
    if initialized(t):
        return True
    finding = t.view.finding("tenant-api", "initialized")
    return finding is not None and finding.ok
