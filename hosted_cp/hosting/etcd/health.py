"""What is wrong with a tenant's etcd now, in a user's words: from its pods, their init step's refusals, its volumes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hosted_cp.hosting.etcd import permit
from hosted_cp.hosting.pods import causes, none_made, ready
from hosted_cp.hosting.tenant import Tenant, once
from hosted_cp.planning.conditions import Cause, Condition
from hosted_cp.planning.observed import Observed

#: The reasons that the init step refuses with (`scripts/etcd-permit.sh`).
REFUSALS = frozenset({"EtcdFormerLife", "EtcdMemberLostVolume", "EtcdNoPermit", "EtcdVolumeUnusable"})


@once
def explain(t: Tenant) -> Cause | None:
    """Why etcd does not serve with all its members; None if it does (or if this tenant has none).

    Refused volumes come first, because nothing but a person can help them. A cause with `starting` may pass by itself.
    """
    count = permit.members(t)
    if t.decisions.storage != "etcd" or count == 0:
        return None
    live = t.view.own("StatefulSet", t.names.etcd)
    if live is None:
        return Cause(reason="EtcdWaiting", message=f"StatefulSet {t.names.etcd} does not exist yet", starting=True)
    pods = permit.member_pods(t)
    claims = permit.member_claims(t)
    found = [cause for name in sorted(pods) if (cause := _refusal(pods[name])) is not None]
    found += _lost(claims.values())
    if found:
        return _with_quorum(t, found[0], pods)
    serving = sum(1 for pod in pods.values() if ready(pod))
    if serving == count:
        return None
    found = causes(pods.values(), claims.values(), t.view.storage_classes, image_fields="spec.storage.etcd.image")
    hard = [cause for cause in (*found, none_made(live, pods.values())) if cause is not None and not cause.starting]
    if hard:
        return _with_quorum(t, hard[0], pods)
    if permit.is_bootstrapped(t):
        quorum = "" if serving > count // 2 else "; it does not serve until more than half of them are"
        message = f"{serving} of {count} etcd members are ready{quorum}"
        return Cause(reason="EtcdWaiting", message=message, starting=True)
    return Cause(
        reason="EtcdWaiting",
        message=f"{serving} of {count} etcd members are ready; the control plane starts when all have been for once",
        starting=True,
    )


def condition(t: Tenant) -> Condition | None:
    """The condition `EtcdHealthy`: True only with all members ready. None for a tenant without etcd of its own."""
    if t.decisions.storage != "etcd":
        return None
    cause = explain(t)
    if cause is None:
        return Condition(type="EtcdHealthy", status="True", reason="AllMembersReady")
    return Condition(type="EtcdHealthy", status="False", reason=cause.reason, message=cause.message)


def _with_quorum(t: Tenant, cause: Cause, pods: dict[str, Observed]) -> Cause:
    """The cause, with what the others do if there are any."""
    count = permit.members(t)
    serving = sum(1 for pod in pods.values() if ready(pod))
    if count == 1:
        return cause
    others = "etcd still serves" if serving > count // 2 else "etcd does not serve"
    return Cause(
        reason=cause.reason,
        message=f"{cause.message} ({serving} of {count} members are ready: {others})",
        starting=cause.starting,
    )


def _refusal(pod: Observed) -> Cause | None:
    """What the init step said when it refused, if it has not let the pod pass since."""
    for status in pod.get("status", "initContainerStatuses", default=[]):
        if status.get("name") != "permit":
            continue
        ended: dict[str, Any] = (status.get("state") or {}).get("terminated") or (status.get("lastState") or {}).get(
            "terminated", {}
        )
        if not ended.get("exitCode"):
            continue
        for line in (ended.get("message") or "").splitlines():
            reason, colon, message = line.partition(": ")
            if colon and reason in REFUSALS:
                words = "".join(char if char.isprintable() else " " for char in message)
                return Cause(reason=reason, message=f"pod {pod.ref.name}: {words[:600]}")
    return None


def _lost(claims: Iterable[Observed]) -> list[Cause]:
    return [
        Cause(
            reason="EtcdMemberLostVolume",
            message=f"volume claim {claim.ref.name} has lost its volume. Bring the volume back; or, if the data is"
            " lost, restore a backup or create the tenant anew",
        )
        for claim in claims
        if claim.get("status", "phase") == "Lost"
    ]
