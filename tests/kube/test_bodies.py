"""Bodies of requests."""

from __future__ import annotations

from hosted_cp.kube.bodies import merge_difference


def test_merge_difference_turns_one_status_into_another() -> None:
    old = {"a": 1, "b": {"c": 1, "d": 2}, "l": [1]}
    assert merge_difference(old, {"a": 1, "b": {"c": 1}, "l": [1, 2]}) == {"b": {"d": None}, "l": [1, 2]}
    assert merge_difference(old, old) == {}
