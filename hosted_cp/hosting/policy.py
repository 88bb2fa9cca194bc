"""NetworkPolicies: who may speak to a tenant's pods. Made only where the administrator says that they are enforced.

k0s listens on all interfaces for more than the two ports that workers need (kine's metrics on 2380, the join API on
9443), and a tenant's etcd is nobody's business but its own control plane's. Egress is left open: control planes call
webhooks and OIDC issuers that only the tenant knows.
"""

from __future__ import annotations

from typing import Any

from hosted_cp.hosting.names import selector
from hosted_cp.hosting.tenant import API_PORT, KONNECTIVITY_PORT, Tenant
from hosted_cp.hosting.wanted import Wanted

ETCD_CLIENT_PORT, ETCD_PEER_PORT, ETCD_HEALTH_PORT = 2379, 2380, 2381


def wanted(t: Tenant) -> list[Wanted]:
    if not t.view.settings.network_policies:
        return []
    policies = [
        _policy(
            t, name=t.names.control_plane, component="cluster", part="control-plane",
            ingress=[{"ports": _ports(API_PORT, KONNECTIVITY_PORT)}],
        )
    ]  # fmt: skip
    if t.decisions.storage == "etcd":
        from_cluster = [{"podSelector": {"matchLabels": selector(t.name, "cluster")}}]
        from_etcd = [{"podSelector": {"matchLabels": selector(t.name, "etcd")}}]
        policies.append(
            _policy(
                t, name=t.names.etcd, component="etcd", part="etcd",
                ingress=[
                    {"from": from_cluster, "ports": _ports(ETCD_CLIENT_PORT)},
                    {"from": from_etcd, "ports": _ports(ETCD_CLIENT_PORT, ETCD_PEER_PORT)},
                ],
            )
        )  # fmt: skip
    return policies


def _ports(*numbers: int) -> list[dict[str, Any]]:
    return [{"protocol": "TCP", "port": number} for number in numbers]


def _policy(t: Tenant, *, name: str, component: str, part: str, ingress: list[dict[str, Any]]) -> Wanted:
    body: dict[str, Any] = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": t.metadata(name, component=component, part=part),
        "spec": {
            "podSelector": {"matchLabels": selector(t.name, component)},
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    }
    return Wanted(body=body)
