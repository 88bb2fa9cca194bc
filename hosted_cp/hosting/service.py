"""The Service through which a tenant is reached: API server and konnectivity, by named target ports.

Unset node ports are left to the API server, so that tenants never collide; what it allocated is a decision, asked for
again should the Service ever have to be made anew, because workers and kubeconfigs hold it.
"""

from __future__ import annotations

from typing import Any

from hosted_cp.hosting.names import selector
from hosted_cp.hosting.tenant import API_PORT, KONNECTIVITY_PORT, Tenant, once
from hosted_cp.hosting.wanted import Wanted


def wanted(t: Tenant) -> list[Wanted]:
    service = t.spec.service
    metadata = t.metadata(t.service_name, part="control-plane")
    spec: dict[str, Any] = {
        "type": service.type,
        "selector": selector(t.name, "cluster"),
        "ports": [
            _port(t, "api", service.api_port, t.decisions.apiPort, API_PORT),
            _port(t, "konnectivity", service.konnectivity_port, t.decisions.konnectivityPort, KONNECTIVITY_PORT),
        ],
    }
    return [Wanted(body={"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})]


def _port(t: Tenant, name: str, asked: int | None, decided: int, inside: int) -> dict[str, Any]:
    port: dict[str, Any] = {"name": name, "protocol": "TCP", "targetPort": name, "port": asked or inside}
    if t.spec.service.type == "NodePort":
        node_port = asked or (decided if t.address_settled else 0)
        port["port"] = inside
        if node_port:
            port["nodePort"] = node_port
    return port


def published_name(t: Tenant) -> str:
    """The Service behind the decided address: an old one, as long as a new one has no address yet."""
    return t.names.service(t.published_type)


@once
def in_cluster_names(t: Tenant) -> list[str]:
    """The DNS names of the Service inside the management cluster, shortest first."""
    name, namespace, domain = published_name(t), t.namespace, t.view.settings.cluster_domain
    return [name, f"{name}.{namespace}", f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.{domain}"]


def in_cluster_port(t: Tenant) -> int:
    """The port of the Service at which the API answers inside the management cluster."""
    if t.published_type == "NodePort":
        return API_PORT
    return t.decisions.apiPort or t.spec.service.api_port or API_PORT


def in_cluster_url(t: Tenant) -> str:
    """Where the operator speaks to the tenant's API server."""
    return f"https://{published_name(t)}.{t.namespace}.svc:{in_cluster_port(t)}"


def url_host(address: str) -> str:
    """An address as it stands in a URL: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address


@once
def cluster_ips(t: Tenant) -> list[str]:
    """The Service's addresses inside the management cluster, once the API server has given them."""
    seen = t.view.own("Service", published_name(t))
    found = seen.get("spec", "clusterIPs", default=[]) if seen else []
    return [ip for ip in found if ip and ip != "None"]
