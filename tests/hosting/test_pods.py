"""What pods and volume claims say about themselves, in a user's words."""

from __future__ import annotations

import orjson
import pytest

from hosted_cp.hosting.pods import causes, none_made
from hosted_cp.planning.actions import Ref
from hosted_cp.planning.observed import Observed


def _pod(condition: str, *claims: str) -> Observed:
    body = {
        "spec": {"volumes": [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims]},
        "status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": condition}]},
    }
    ref = Ref(api_version="v1", kind="Pod", namespace="n", name="kmc-demo-etcd-0")
    return Observed(ref=ref, uid="pod", resource_version="1", raw=orjson.dumps(body))


def _claim(name: str, phase: str) -> Observed:
    ref = Ref(api_version="v1", kind="PersistentVolumeClaim", namespace="n", name=name)
    return Observed(ref=ref, uid=name, resource_version="1", raw=orjson.dumps({"status": {"phase": phase}}))


UNBOUND = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."


@pytest.mark.parametrize(
    ("message", "volumes", "phase", "reason"),
    [
        (UNBOUND, ["data-kmc-demo-etcd-0"], "Pending", "VolumePending"),
        (UNBOUND, ["data-kmc-demo-etcd-0"], "Bound", "VolumePending"),
        (UNBOUND, ["data-kmc-demo-etcd-0", "the-users"], "Bound", "PodUnschedulable"),
        ("0/1 nodes are available: 1 Insufficient cpu.", ["data-kmc-demo-etcd-0"], "Bound", "PodUnschedulable"),
    ],
)
def test_a_volume_on_its_way_is_no_fault(message: str, volumes: list[str], phase: str, reason: str) -> None:
    """Also in the moment in which the volume is there, and the scheduler has not looked again."""
    pod, claim = _pod(message, *volumes), _claim("data-kmc-demo-etcd-0", phase)
    (cause,) = causes([pod], [claim], None)
    assert (cause.reason, cause.starting) == (reason, reason == "VolumePending")


def test_pods_that_were_made_a_moment_ago_are_not_refused() -> None:
    """The first status of a StatefulSet counts no pods, not even those that its controller has just made."""
    ref = Ref(api_version="apps/v1", kind="StatefulSet", namespace="n", name="kmc-demo-etcd")
    body = {"metadata": {"generation": 1}, "spec": {"replicas": 1}, "status": {"observedGeneration": 1, "replicas": 0}}
    live = Observed(ref=ref, uid="set", resource_version="1", raw=orjson.dumps(body))
    refused = none_made(live, [])
    assert refused is not None
    assert refused.reason == "PodsNotCreated"
    assert none_made(live, [_pod(UNBOUND)]) is None
