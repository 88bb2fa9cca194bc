"""What a control plane has to say of the Cluster that owns it: whether its references are such that it can ever work.

Cluster API lets a Cluster be written in ways of which its own conditions say little. Without an `infrastructureRef` its
`InfrastructureReady` stays Unknown ("check controller logs"), so it is never Available and no Machine of it is ever
repaired, while everything of ours runs. And a control plane may be deleted, or replaced in `controlPlaneRef`, while its
Cluster lives on. The object that the user looks at for the reason is ours, so it is said there; what runs goes on.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from hosted_cp.planning.actions import Plan
from hosted_cp.planning.conditions import Cause, Condition, events, merge
from hosted_cp.planning.observed import Observed

CONDITION = "ClusterInOrder"


def with_ties(plan: Plan, *, owner: Observed, cluster: Observed | None, now: datetime) -> Plan:
    """The plan with what there is to say of the Cluster in its status, and once, where it is bad, in an Event: what is
    being deleted will soon have no status. As it is where there is no Cluster (any more)."""
    if cluster is None or plan.status is None:
        return plan
    wrong = _wrong(owner, cluster)
    if wrong is None:
        condition = Condition(type=CONDITION, status="True", reason="ReferencesInOrder")
    else:
        condition = Condition(type=CONDITION, status="False", reason=wrong.reason, message=wrong.message)
    old = owner.get("status", "conditions", default=[])
    said = merge(wanted=[condition], old=old, generation=owner.generation, now=now)
    others = [each for each in plan.status.get("conditions") or [] if each["type"] != CONDITION]
    told = events(merged=said, old=old, about=CONDITION) if wrong is not None else ()
    return replace(plan, status={**plan.status, "conditions": [*others, *said]}, events=(*plan.events, *told))


def _wrong(owner: Observed, cluster: Observed) -> Cause | None:
    name = cluster.ref.name
    if owner.deleting and not cluster.deleting:
        return Cause(
            reason="ControlPlaneDeletedAlone",
            message=f"Cluster {name} is not being deleted, and loses its control plane for good: the authorities go"
            " with it, so no worker of it can be taken over. Delete the Cluster, too; or create another control plane,"
            " and all Machines anew",
        )
    if (other := _other_control_plane(owner, cluster)) is not None:
        return Cause(
            reason="ControlPlaneNotReferenced",
            message=f"Cluster {name} owns this control plane, but its spec.controlPlaneRef names {other}: name"
            f" {owner.ref.kind} {owner.ref.name} there, or delete this one",
        )
    if not cluster.get("spec", "infrastructureRef", "kind"):
        return Cause(
            reason="InfrastructureMissing",
            message=f"Cluster {name} has no spec.infrastructureRef: Cluster API never calls it Available then, and"
            " repairs no Machine of it. Create an infrastructure cluster of the provider that makes its Machines, and"
            " name it there",
        )
    return None


def _other_control_plane(owner: Observed, cluster: Observed) -> str | None:
    """What the Cluster names as its control plane, if that is another object."""
    named = cluster.get("spec", "controlPlaneRef", default={})
    kind, name = str(named.get("kind") or ""), str(named.get("name") or "")
    group = str(named.get("apiGroup") or named.get("apiVersion") or "").partition("/")[0]
    ours = (owner.ref.api_version.partition("/")[0], owner.ref.kind, owner.ref.name)
    if (group or ours[0], kind, name) == ours:
        return None
    return f"{kind} {name}" if kind or name else "none"
