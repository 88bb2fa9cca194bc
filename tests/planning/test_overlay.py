"""Ours laid over what is there. That a server takes the result, and not the apply, is shown by test_merging.py."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from hosted_cp.planning.diff import first_difference, stamped
from hosted_cp.planning.overlay import laid_over, operations
from tests.planning.samples import EVERYTHING, SERVICE, STATEFUL_SET, observed, served

each_kind = pytest.mark.parametrize("body", EVERYTHING, ids=lambda body: body["kind"])


@each_kind
def test_over_what_is_as_wanted_it_changes_nothing(body: dict[str, Any]) -> None:
    live = served(stamped(body))
    before = copy.deepcopy(live)
    whole, removed = laid_over(live, stamped(body))
    assert removed == []
    assert first_difference(body, observed(whole)) is None
    assert live == before


def test_only_what_clashes_goes() -> None:
    live = served(stamped(SERVICE))
    live["spec"]["ports"][0]["port"] = 7443
    live["spec"]["ports"].append({"name": "theirs", "port": 9, "protocol": "TCP"})
    whole, removed = laid_over(live, stamped(SERVICE))
    assert removed == ["spec.ports[7443,TCP]"]
    assert [each["port"] for each in whole["spec"]["ports"]] == [6443, 8132, 9]
    assert first_difference(SERVICE, observed(whole)) is None


def test_one_member_of_a_union_is_left_and_the_rest_of_the_struct_stays() -> None:
    live = served(stamped(STATEFUL_SET))
    controller = live["spec"]["template"]["spec"]["containers"][0]
    controller["readinessProbe"] = {"exec": {"command": ["true"]}, "initialDelaySeconds": 3}
    whole, removed = laid_over(live, stamped(STATEFUL_SET))
    assert removed == ["spec.template.spec.containers[controller].readinessProbe.exec"]
    probe = whole["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
    assert set(probe) == {"httpGet", "initialDelaySeconds"}


def test_what_is_written_is_what_differs_and_no_more() -> None:
    live = served(stamped(SERVICE))
    live["spec"]["ports"][0]["port"] = 7443
    live["metadata"]["labels"] = {"theirs": "kept"}
    whole, _ = laid_over(live, stamped(SERVICE))
    version, change = operations(live, whole)
    assert version == {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}
    assert change == {"op": "add", "path": "/spec", "value": whole["spec"]}


def test_precondition_is_the_object_that_was_read() -> None:
    live = served(stamped(SERVICE))
    whole, _ = laid_over(live, stamped(SERVICE))
    assert (whole["metadata"]["uid"], whole["metadata"]["resourceVersion"]) == ("u", "7")
