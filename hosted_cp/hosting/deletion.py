"""The end of a tenant: everything we own is deleted by UID, then the finalizer goes. Nothing is created or contacted.

But for what the user asked to keep (`--cascade=orphan`): that is somebody else's as soon as it has no owner any more.

Volumes that the user did not ask to delete stay; they carry the tenant's UID and are named in an Event, so that nobody
finds unlabelled volumes years later. etcd goes after the controllers: an API server that has lost its store does not
end when it is told to, but holds its pod for the whole grace period.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from hosted_cp.hosting.view import TenantView
from hosted_cp.planning.actions import Action, Delete, Event, PatchMetadata, Plan
from hosted_cp.planning.conditions import Cause, Condition, merge, parse_rfc3339
from hosted_cp.planning.observed import Observed

#: The finalizer by which the garbage collector has been asked to leave what an object owns (`--cascade=orphan`).
_ORPHAN = "orphan"
#: For how long the controllers' end is waited for. One on a node that is lost must not hold up the tenant's.
_PATIENCE = timedelta(seconds=30)


def plan(view: TenantView, blocked: Cause | None) -> Plan:
    """Delete what is ours, then let go. `blocked`: another operator looks after the tenant; its end is not ours."""
    owner = view.owner
    if view.finalizer not in owner.finalizers or blocked is not None:
        return Plan()
    if _ORPHAN in owner.finalizers:
        # Who deletes in this way wants to keep everything. The collector takes the owner's name off it, and then its
        # finalizer; from there on nothing of it is ours.
        return Plan()
    owned = view.owned
    events = _kept_volumes(view)
    if events and not _said(view) and not view.failure:
        # What stays is said first, in a plan of its own: with the last action there is nobody left to say it about. The
        # status, from which the next plan sees that it was said, comes after it. If it cannot be said, the end goes on
        # all the same.
        return Plan(status=_status(view, owned), events=events)
    patience = _patience(view)
    waits = [child for child in owned if patience and _of_etcd(child)]
    actions: list[Action] = [
        # Exactly as it was seen: what was given away since then is not ours to delete.
        Delete(ref=child.ref, uid=child.uid, resource_version=child.resource_version)
        for child in owned
        if not child.deleting and child not in waits
    ]
    if not owned:
        remaining = tuple(each for each in owner.finalizers if each != view.finalizer)
        actions.append(
            PatchMetadata(ref=owner.ref, uid=owner.uid, resource_version=owner.resource_version, finalizers=remaining)
        )
    # With the finalizer gone there may be nothing left to write a status to.
    return Plan(
        actions=tuple(actions),
        # Where a failure is told, the status is written without the plan above.
        events=() if _said(view) else events,
        status=_status(view, owned) if owned or view.failure else None,
        retry_after=patience if waits else None,
    )


def _patience(view: TenantView) -> float | None:
    """Seconds for which etcd still waits for controllers' pods to end; None if there are none, or no longer."""
    if not any(pod.labels.get("component") == "cluster" for pod in view.pods):
        return None
    try:
        begun = parse_rfc3339(view.owner.get("metadata", "deletionTimestamp", default=""))
    except ValueError:
        return None
    left = (begun + _PATIENCE - view.now).total_seconds()
    return left if left > 0 else None


def _of_etcd(child: Observed) -> bool:
    """Whether it is etcd's StatefulSet, Service, permit or policy. Certificates may go: running pods have them."""
    return child.labels.get("component") == "etcd"


def _said(view: TenantView) -> bool:
    """Whether the status says already that the tenant is being deleted."""
    conditions = view.said.get("conditions") or []
    return any(each.get("type") == "Deleting" and each.get("status") == "True" for each in conditions)


def _status(view: TenantView, owned: Sequence[Observed]) -> dict[str, Any]:
    owner = view.owner
    status = dict(view.said)
    old = status.get("conditions") or []
    message = f"{len(owned)} objects are being deleted" if owned else "everything is deleted"
    if view.failure:
        message += f", but: {view.failure}"
    deleting = Condition(type="Deleting", status="True", reason="Deleting", message=message)
    gone = Condition(type="Available", status="False", reason="Deleting", message="the tenant is being deleted")
    kept = [
        Condition(type=c["type"], status=c["status"], reason=c["reason"], message=c.get("message", ""))
        for c in old
        if c.get("type") not in ("Deleting", "Available")
    ]
    status["conditions"] = merge(wanted=[gone, *kept, deleting], old=old, generation=owner.generation, now=view.now)
    return status


def _kept_volumes(view: TenantView) -> tuple[Event, ...]:
    kept = sorted(claim.ref.name for claim in view.claims if not claim.deleting and not claim.owner_references)
    if not kept:
        return ()
    transition = view.owner.get("metadata", "deletionTimestamp", default="")
    return (
        Event(
            type="Normal",
            reason="VolumesKept",
            message=f"data volumes are kept: {', '.join(kept)}. Delete the volume claims if the data is not wanted",
            condition="VolumesKept",
            transition=transition,
            first=True,
        ),
    )
