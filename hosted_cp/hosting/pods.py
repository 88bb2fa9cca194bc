"""Why pods do not serve: the cause in words for a user, from what kubelet, scheduler and volume controller report.

Only what is known is said. A pod that is starting is no failure; one that cannot start is named with its cause within
the seconds that its own status needs, whatever the StatefulSet counts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from hosted_cp.hosting import rollouts
from hosted_cp.planning.conditions import Cause
from hosted_cp.planning.observed import Observed

#: Reasons of waiting containers that mean an image cannot be had.
_IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}


def ready(pod: Observed) -> bool:
    """Whether the pod's Ready condition is True."""
    return _condition(pod, "Ready").get("status") == "True" and not pod.deleting


def causes(
    pods: Iterable[Observed],
    claims: Iterable[Observed],
    storage_classes: frozenset[str] | None,
    *,
    image_fields: str = "spec.image and spec.version",
) -> list[Cause]:
    """One cause for each pod and claim that is in trouble, the hardest first. `storage_classes`: None if not known.

    `image_fields` is what decides about the image, for the remedy.
    """
    claims = tuple(claims)
    found = [cause for claim in claims if (cause := _claim(claim, storage_classes)) is not None]
    bound = {claim.ref.name: claim.get("status", "phase") == "Bound" for claim in claims}
    for pod in sorted(pods, key=lambda each: each.ref.name):
        if not ready(pod) and (cause := _pod(pod, image_fields, bound)) is not None:
            found.append(cause)
    return sorted(found, key=lambda cause: cause.starting)


def none_made(live: Observed | None, pods: Collection[Observed]) -> Cause | None:
    """A StatefulSet whose controller has done what it can, and there is no pod: each was refused when it was created.

    Nothing in its status says by whom; that stands in Events, which we do not follow. Pods that its controller has just
    made are not counted in its first status either: `pods` are those that are seen.
    """
    if pods or live is None or not rollouts.counted(live) or not rollouts.number(live, "observedGeneration"):
        return None
    if rollouts.number(live, "replicas") or not int(live.get("spec", "replicas", default=1)):
        return None
    where = f"-n {live.ref.namespace} describe statefulset {live.ref.name}"
    return Cause(
        reason="PodsNotCreated",
        message=f"no pod of StatefulSet {live.ref.name} can be created; a quota of namespace {live.ref.namespace}, its"
        f" level of Pod Security or an admission webhook refuses it: kubectl {where} says which",
    )


def _claim(claim: Observed, storage_classes: frozenset[str] | None) -> Cause | None:
    if claim.get("status", "phase") == "Bound":
        return None
    wanted = claim.get("spec", "storageClassName")
    if storage_classes is not None and wanted and wanted not in storage_classes:
        return Cause(
            reason="StorageClassNotFound",
            message=f"volume claim {claim.ref.name} wants StorageClass {wanted}, which does not exist; create it, or"
            f" name one that exists{_known(storage_classes)} and delete the claim",
        )
    if storage_classes is not None and not wanted and not storage_classes:
        return Cause(
            reason="StorageClassNotFound",
            message=f"volume claim {claim.ref.name} has no StorageClass and the cluster has none; create a default one",
        )
    return None


def _known(storage_classes: frozenset[str]) -> str:
    return f" ({', '.join(sorted(storage_classes)[:5])})" if storage_classes else ""


def _pod(pod: Observed, image_fields: str, bound: Mapping[str, bool]) -> Cause | None:
    name = pod.ref.name
    for status in _container_statuses(pod):
        waiting = status.get("state", {}).get("waiting", {})
        reason = waiting.get("reason", "")
        if reason in _IMAGE:
            return Cause(
                reason="ImageCannotBePulled",
                message=f"pod {name}: image {status.get('image')} cannot be pulled: {waiting.get('message', reason)};"
                f" correct {image_fields}, or make the image available to the nodes",
            )
        if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
            return Cause(reason="PodCannotStart", message=f"pod {name}: {waiting.get('message', reason)}")
        ended = _last_end(status)
        if ended and (reason == "CrashLoopBackOff" or ended.get("exitCode")):
            said = _without_credentials(" ".join((ended.get("message") or "").split()))[-700:]
            return Cause(
                reason="PodFails",
                message=f"pod {name}: {status.get('name')} ended with {ended.get('exitCode')}"
                f"{': ' + said if said else ''}",
            )
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False" and _waits_for_volume(pod, str(scheduled.get("message")), bound):
        # Every pod with a new volume is unschedulable for the moment that its volume takes.
        return Cause(
            reason="VolumePending", message=f"pod {name} waits for its volume to be provisioned", starting=True
        )
    if scheduled.get("status") == "False":
        return Cause(
            reason="PodUnschedulable",
            message=f"pod {name} cannot be scheduled: {scheduled.get('message', 'no reason given')}",
        )
    return Cause(reason="PodStarting", message=f"pod {name} is starting", starting=True)


def _waits_for_volume(pod: Observed, message: str, bound: Mapping[str, bool]) -> bool:
    """Whether a claim of the pod's own is not bound yet; or all its claims are, and the scheduler has not seen it."""
    if any(claim.endswith(f"-{pod.ref.name}") and not is_bound for claim, is_bound in bound.items()):
        return True
    volumes = pod.get("spec", "volumes", default=[])
    claims = [each["persistentVolumeClaim"].get("claimName") for each in volumes if "persistentVolumeClaim" in each]
    return "unbound" in message and bool(claims) and all(bound.get(claim, False) for claim in claims)


def _without_credentials(log: str) -> str:
    """Text of a program's log, without what may be user and password of a database in it."""
    return re.sub(r"(://|\b)[^\s/@]*:[^\s@]*@", r"\1…@", log)


def _last_end(status: Mapping[str, Any]) -> Mapping[str, Any]:
    state, last = status.get("state", {}), status.get("lastState", {})
    found: Mapping[str, Any] = state.get("terminated") or last.get("terminated") or {}
    return found if found.get("exitCode") or not status.get("ready", False) else {}


def _container_statuses(pod: Observed) -> Iterator[Mapping[str, Any]]:
    yield from pod.get("status", "initContainerStatuses", default=[])
    yield from pod.get("status", "containerStatuses", default=[])


def _condition(pod: Observed, kind: str) -> Mapping[str, Any]:
    for condition in pod.get("status", "conditions", default=[]):
        if condition.get("type") == kind:
            found: Mapping[str, Any] = condition
            return found
    return {}
