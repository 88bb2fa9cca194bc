"""From what was seen to the moments of a tenant's start: which event ends which phase. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: The phases of a start, in the order in which the plan has them.
ACCEPTED = "Cluster accepted"
SERVICE = "Service has its ports"
KUBECONFIG = "kubeconfig delivered"
ETCD_MADE = "etcd's StatefulSet exists"
ETCD_RUNS = "etcd's container runs"
ETCD_READY = "etcd is ready"
MADE = "k0s's StatefulSet exists"
RUNS = "k0s's container runs"
READY = "k0s's pod is ready"
AVAILABLE = "the Cluster is Available"
FIRST_CALL = "first successful call"
JOINABLE = "workers can join"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One object as a watch showed it, and when (seconds since the start)."""

    at: float
    body: Mapping[str, Any]


def moments(seen: Iterable[Seen], tenant: str) -> dict[str, float]:
    """When each phase of this tenant's start ended, for those phases that were seen to end."""
    found: dict[str, float] = {}
    for each in sorted(seen, key=lambda one: one.at):
        for name in _ended(each.body, tenant):
            found.setdefault(name, each.at)
    return found


def _ended(body: Mapping[str, Any], tenant: str) -> Iterable[str]:
    """The phases that have ended if this object is as it is."""
    kind, name = body["kind"], body["metadata"]["name"]
    status = body.get("status") or {}
    match kind:
        case "Cluster" if name == tenant:
            yield ACCEPTED
            if _true(status, "Available"):
                yield AVAILABLE
        case "Service" if all(port.get("nodePort") for port in body["spec"]["ports"]):
            if name == f"kmc-{tenant}-nodeport":
                yield SERVICE
        case "Secret" if is_kubeconfig(body, tenant):
            yield KUBECONFIG
        case "StatefulSet":
            yield from {f"kmc-{tenant}": [MADE], f"kmc-{tenant}-etcd": [ETCD_MADE]}.get(name, [])
        case "Pod":
            etcd = name == f"kmc-{tenant}-etcd-0"
            if not etcd and name != f"kmc-{tenant}-0":
                return
            if any("running" in container["state"] for container in status.get("containerStatuses", ())):
                yield ETCD_RUNS if etcd else RUNS
            if _true(status, "Ready"):
                yield ETCD_READY if etcd else READY


def _true(status: Mapping[str, Any], condition: str) -> bool:
    return any(each["type"] == condition and each["status"] == "True" for each in status.get("conditions", ()))


def restarts(seen: Iterable[Seen]) -> int:
    """How often containers were started again, over all pods that were seen."""
    highest: dict[tuple[str, str], int] = {}
    for each in seen:
        if each.body["kind"] == "Pod":
            for container in (each.body.get("status") or {}).get("containerStatuses", ()):
                key = each.body["metadata"]["name"], container["name"]
                highest[key] = max(highest.get(key, 0), container["restartCount"])
    return sum(highest.values())


def is_kubeconfig(body: Mapping[str, Any], tenant: str) -> bool:
    """Whether this is the Secret with the tenant's kubeconfig."""
    return bool(body["kind"] == "Secret" and body["metadata"]["name"] == f"{tenant}-kubeconfig")


def kubeconfig(secret: Mapping[str, Any]) -> bytes:
    """The kubeconfig in that Secret."""
    return base64.b64decode(secret["data"]["value"])


def bare(body: Mapping[str, Any]) -> dict[str, Any]:
    """An object as somebody could have written it by hand: without what the API server and its controllers added.

    Addresses and node ports stay: certificates, configuration and kubeconfig name them.
    """
    metadata = body["metadata"]
    kept = {key: metadata[key] for key in ("name", "namespace", "labels", "annotations") if metadata.get(key)}
    rest = {key: value for key, value in body.items() if key not in ("metadata", "status")}
    return {**rest, "metadata": kept}
