"""How far a change of a StatefulSet has come, from the numbers that its controller publishes.

Nothing below it is asked: the numbers are of one moment and one template, which a look at the pods would not be.
"""

from __future__ import annotations

from hosted_cp.planning.observed import Observed


def counted(live: Observed) -> bool:
    """Whether the numbers in a StatefulSet's status are about what it asks for now."""
    return number(live, "observedGeneration") >= live.generation


def number(live: Observed | None, name: str) -> int:
    """A number of the status; 0 where it, or the whole object, is not there."""
    return int(live.get("status", name, default=0) or 0) if live is not None else 0


def serving_anew(live: Observed | None) -> int:
    """How many pods, at least, are made from the present template and ready.

    The status has no such number. Whatever is ready beyond the pods of former templates is of the present one; once
    those are gone this is exact.
    """
    if live is None or not counted(live):
        return 0
    updated = min(number(live, "replicas"), number(live, "updatedReplicas"))
    former = number(live, "replicas") - updated
    return max(0, min(updated, number(live, "readyReplicas") - former))


def done(live: Observed) -> bool:
    """Whether all pods that are asked for are made from the present template and ready."""
    wanted = int(live.get("spec", "replicas", default=1))
    return number(live, "replicas") == serving_anew(live) >= max(1, wanted)
