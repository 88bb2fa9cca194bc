"""When the controllers have to start anew for the sake of k0s' own leaf certificates: it makes them when it starts, and
at no other time.

What has to be known of it stands on the StatefulSet itself, so that it can be told also while nobody knows what is
wanted, because the spec is refused: when the leaves were made, on the pod template, where another date means another
start; and how long they live, on the object, where it restarts nobody.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from hosted_cp.planning.conditions import parse_rfc3339
from hosted_cp.planning.observed import Observed

#: On the pod template: when k0s last made its leaves.
MADE = "hosted-cp.io/leaves-made"
#: On the StatefulSet: for how many seconds they are valid.
LIFE = "hosted-cp.io/leaves-life"


def made(live: Observed | None) -> datetime | None:
    """When the running controllers were last told to make their leaves; None if that was lost, or spoilt."""
    text = live.get("spec", "template", "metadata", "annotations", MADE) if live is not None else None
    try:
        return parse_rfc3339(str(text))
    except ValueError:
        return None


def life(live: Observed) -> timedelta | None:
    """How long the leaves of the running controllers live; None if that was lost, or spoilt."""
    text = live.annotations.get(LIFE, "")
    return timedelta(seconds=int(text)) if text.isascii() and text.isdigit() and len(text) < 12 else None


def life_text(life: timedelta) -> str:
    """The same as an annotation."""
    return str(int(life.total_seconds()))


def restart_after(life: timedelta, *, uid: str) -> timedelta:
    """How old leaves may become: half their life, less up to a tenth of it that depends on the tenant (its UID).

    So a thousand tenants created in one hour do not restart in one hour.
    """
    spread = int(hashlib.sha256(uid.encode()).hexdigest()[:4], 16) / 0xFFFF
    return life * (0.5 - 0.1 * spread)
