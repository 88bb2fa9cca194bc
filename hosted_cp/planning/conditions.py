"""Conditions and the Events that their changes cause: pure functions over the old status and the wanted one.

Rules (Kubernetes API conventions, `metav1.Condition`): `lastTransitionTime` changes only with `status`; every condition
carries the generation it was derived from; the message names the cause and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hosted_cp.api.problems import Problem
from hosted_cp.planning.actions import Event


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One wanted condition. `status` is "True", "False" or "Unknown"; `reason` is from a closed list, CamelCase."""

    type: str
    status: str
    reason: str
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why something is not as it should be: a reason from a closed list, and a sentence with cause and remedy."""

    reason: str
    message: str
    #: Whether waiting alone is expected to help: nobody has done anything wrong, and it is on its way.
    starting: bool = False


def of_problems(reason: str, problems: Iterable[Problem], *, starting: bool = False) -> Cause:
    """One cause from several problems, each with field, fault and remedy."""
    return Cause(reason=reason, message="; ".join(str(problem) for problem in problems), starting=starting)


def rfc3339(moment: datetime) -> str:
    """UTC with whole seconds, as the Kubernetes API writes times."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_rfc3339(text: str) -> datetime:
    """The moment that `rfc3339` wrote. Raises ValueError for anything without a time zone, or unreadable."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment


def merge(
    *, wanted: Iterable[Condition], old: Sequence[Mapping[str, Any]], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """The condition list of the new status: the old transition time is kept wherever `status` did not change."""
    before = {condition.get("type"): condition for condition in old}
    merged = []
    for condition in wanted:
        last = before.get(condition.type, {})
        same = last.get("status") == condition.status and last.get("lastTransitionTime")
        merged.append(
            {
                "type": condition.type,
                "status": condition.status,
                "reason": condition.reason,
                "message": condition.message[:32768],
                "observedGeneration": generation,
                "lastTransitionTime": last["lastTransitionTime"] if same else rfc3339(now),
            }
        )
    return merged


def events(
    *,
    merged: Sequence[Mapping[str, Any]],
    old: Sequence[Mapping[str, Any]],
    about: str = "Available",
    starting: bool = False,
) -> tuple[Event, ...]:
    """One Event when `about` changes its status, or changes its reason while it is not True.

    `starting`: what keeps it from being True is on its way. That is no failure: it is said only if it was True before.
    """
    new = next((c for c in merged if c["type"] == about), None)
    last = next((c for c in old if c.get("type") == about), {})
    if new is None:
        return ()
    if starting and new["status"] != "True" and last.get("status") != "True":
        return ()
    if last.get("status") == new["status"] and (new["status"] == "True" or last.get("reason") == new["reason"]):
        return ()
    good = new["status"] == "True"
    transition = new["lastTransitionTime"]
    return (
        Event(
            type="Normal" if good else "Warning",
            reason=new["reason"],
            message=new["message"] or new["reason"],
            condition=f"{about}/{new['status']}/{new['reason']}",
            transition=transition,
        ),
    )
