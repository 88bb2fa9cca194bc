"""PodDisruptionBudgets: at most one controller, and never the quorum of etcd, is evicted at a time.

From two replicas on only: a budget for a single pod would block every drain of its node.
"""

from __future__ import annotations

from typing import Any

from hosted_cp.hosting.names import selector
from hosted_cp.hosting.tenant import Tenant
from hosted_cp.hosting.wanted import Wanted


def wanted(t: Tenant) -> list[Wanted]:
    return [each for each in at_most(t) if each.ref.name != t.names.control_plane or t.replicas > 1]


def at_most(t: Tenant) -> list[Wanted]:
    """The budgets that this tenant can have, however its replicas change."""
    budgets = [_budget(t, name=t.names.control_plane, component="cluster", part="control-plane")]
    if t.decisions.etcdMembers > 1:
        budgets.append(_budget(t, name=t.names.etcd, component="etcd", part="etcd"))
    return budgets


def _budget(t: Tenant, *, name: str, component: str, part: str) -> Wanted:
    body: dict[str, Any] = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": t.metadata(name, component=component, part=part),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector(t.name, component)},
            # A broken pod must not keep a node from being drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
    return Wanted(body=body)
