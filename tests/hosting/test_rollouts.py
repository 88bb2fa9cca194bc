"""What the numbers of a StatefulSet's status say of a change: never more than is true."""

from __future__ import annotations

import itertools

import pytest

from hosted_cp.hosting import rollouts
from hosted_cp.planning.observed import Observed
from tests.hosting.etcd_world import observed


def stateful_set(*, asked: int = 3, generation: int = 2, **status: int) -> Observed:
    body = {"spec": {"replicas": asked}, "status": {"observedGeneration": 2, **status}}
    return observed("StatefulSet", "x", generation=generation, body=body)


def test_no_more_is_said_to_serve_than_can_be() -> None:
    """For every mixture of pods: of the former template or the present one, ready or not."""
    for old_ready, old, new_ready, new in itertools.product(range(4), repeat=4):
        seen = stateful_set(
            replicas=old_ready + old + new_ready + new,
            readyReplicas=old_ready + new_ready,
            updatedReplicas=new_ready + new,
        )
        said = rollouts.serving_anew(seen)
        assert 0 <= said <= new_ready
        assert said == new_ready or old, "exact, as long as all of the former template are ready, or gone"


@pytest.mark.parametrize(
    ("status", "done"),
    [
        ({"replicas": 3, "updatedReplicas": 3, "readyReplicas": 3}, True),
        ({"replicas": 3, "updatedReplicas": 3, "readyReplicas": 2}, False),
        ({"replicas": 3, "updatedReplicas": 2, "readyReplicas": 3}, False),
        # The last of the former template is gone, and the one that replaces it is not made yet.
        ({"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}, False),
        ({"replicas": 4, "updatedReplicas": 3, "readyReplicas": 4}, False),
        ({}, False),
    ],
)
def test_a_change_is_done_when_all_that_are_asked_for_serve_anew(status: dict[str, int], done: bool) -> None:
    assert rollouts.done(stateful_set(**status)) is done


def test_numbers_of_a_former_template_say_nothing() -> None:
    of_former = stateful_set(generation=3, replicas=3, updatedReplicas=3, readyReplicas=3)
    assert rollouts.serving_anew(of_former) == 0
    assert not rollouts.done(of_former)
    assert rollouts.serving_anew(None) == 0


def test_without_pods_nothing_is_done() -> None:
    assert not rollouts.done(stateful_set(asked=0, replicas=0))
