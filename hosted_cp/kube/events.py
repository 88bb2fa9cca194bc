"""Kubernetes Events: what people see in `kubectl describe`."""

from __future__ import annotations

import hashlib
from typing import Any

from hosted_cp.planning.actions import Event
from hosted_cp.planning.observed import Observed

COMPONENT = "hosted-cp"

#: The API refuses longer messages.
_LONGEST = 1024


def event_name(about: Observed, event: Event) -> str:
    """Derived from what the Event says about whom: saying it again after a crash is a 409, and no second Event."""
    text = "\0".join((about.uid, event.condition, event.transition))
    return f"{about.ref.name[:200]}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def event_body(about: Observed, event: Event) -> dict[str, Any]:
    """The Event as an object of the core group, in the namespace of the object it is about."""
    namespace = about.ref.namespace or "default"
    message = event.message if len(event.message) <= _LONGEST else event.message[: _LONGEST - 1] + "…"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": event_name(about, event), "namespace": namespace},
        "involvedObject": {
            "apiVersion": about.ref.api_version,
            "kind": about.ref.kind,
            "name": about.ref.name,
            "namespace": about.ref.namespace,
            "uid": about.uid,
            "resourceVersion": about.resource_version,
        },
        "type": event.type,
        "reason": event.reason,
        "message": message,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": COMPONENT,
        "firstTimestamp": event.transition,
        "lastTimestamp": event.transition,
        "count": 1,
    }
