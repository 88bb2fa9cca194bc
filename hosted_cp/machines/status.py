"""What is said about a worker's bootstrap: the v1beta2 bootstrap contract's fields and conditions, in one status.

`Ready` is what Cluster API's core mirrors on the Machine. Its reason and message are those of what is waited for, so
that whoever looks at the Machine need look no further. `dataSecretName` and `dataSecretCreated` always stand together:
core cannot do anything with one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hosted_cp.machines.view import WorkerView
from hosted_cp.planning.actions import Action, Plan
from hosted_cp.planning.conditions import Cause, Condition, events, merge

#: There only while it is False: the token of a machine that needs it no more is still good.
REVOKED = "JoinTokenRevoked"


def waiting(
    view: WorkerView,
    cause: Cause,
    *,
    actions: Sequence[Action] = (),
    retry_after: float | None = None,
    unrevoked: Cause | None = None,
) -> Plan:
    """There are no data, or none that anybody needs any more."""
    said = f"{cause.message}: {view.failure}" if view.failure and cause.starting else cause.message
    return _plan(
        view,
        [
            Condition(type="Ready", status="False", reason=cause.reason, message=said),
            Condition(type="DataSecretAvailable", status="False", reason=cause.reason, message=said),
        ],
        data_secret=str(_status(view).get("dataSecretName") or ""),
        actions=actions,
        retry_after=retry_after,
        starting=cause.starting and not view.failure,
        unrevoked=unrevoked,
    )


def available(
    view: WorkerView,
    data_secret: str,
    *,
    notes: Iterable[str] = (),
    actions: Sequence[Action] = (),
    retry_after: float | None = None,
    unrevoked: Cause | None = None,
) -> Plan:
    """The data are there; `notes` are what is worth knowing about them all the same; `unrevoked`: why the token in them
    is still good, although it should not be."""
    said = "; ".join(notes)
    return _plan(
        view,
        [
            Condition(type="Ready", status="True", reason="Ready", message=said),
            Condition(type="DataSecretAvailable", status="True", reason="Available", message=said),
        ],
        data_secret=data_secret,
        actions=actions,
        retry_after=retry_after,
        unrevoked=unrevoked,
    )


def since(view: WorkerView, kind: str) -> str:
    """Since when a condition has been what it is (RFC 3339); "" if it is not there."""
    said = _status(view).get("conditions") or []
    return next((str(each.get("lastTransitionTime", "")) for each in said if each.get("type") == kind), "")


def paused(view: WorkerView) -> Plan:
    """Nothing is done and nothing else is said: what was true stays written."""
    old = _status(view)
    before: list[Mapping[str, Any]] = old.get("conditions") or []
    told = Condition(type="Paused", status="True", reason="Paused", message="the Cluster or this object is paused")
    [mark] = merge(wanted=[told], old=before, generation=view.owner.generation, now=view.now)
    kept = [dict(each) for each in before if each.get("type") != "Paused"]
    return Plan(status={**old, "conditions": [*kept, mark]})


def _plan(
    view: WorkerView,
    wanted: Sequence[Condition],
    *,
    data_secret: str,
    actions: Sequence[Action],
    retry_after: float | None,
    starting: bool = False,
    unrevoked: Cause | None = None,
) -> Plan:
    old = _status(view).get("conditions") or []
    everything = [*wanted, Condition(type="Paused", status="False", reason="NotPaused")]
    if unrevoked is not None:
        everything.append(Condition(type=REVOKED, status="False", reason=unrevoked.reason, message=unrevoked.message))
    merged = merge(wanted=everything, old=old, generation=view.owner.generation, now=view.now)
    status: dict[str, Any] = {"conditions": merged, "observedGeneration": view.owner.generation}
    if data_secret:
        status |= {"dataSecretName": data_secret, "initialization": {"dataSecretCreated": True}}
    return Plan(
        actions=tuple(actions),
        status=status,
        events=(
            *events(merged=merged, old=old, about="Ready", starting=starting),
            *events(merged=merged, old=old, about=REVOKED),
        ),
        retry_after=retry_after,
    )


def _status(view: WorkerView) -> Mapping[str, Any]:
    found: Mapping[str, Any] = view.owner.get("status", default={})
    return found
