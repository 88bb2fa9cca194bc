"""What is said of many Machines: per Machine, and whether many cost more than few."""

from __future__ import annotations

import pytest

from e2e.bench.machines import GROWTH, REQUESTS, Outcome, Phase, figures, rows


def outcome(machines: int, *, requests: int, tenant_requests: int = 0, cpu: float) -> Outcome:
    phase = Phase(
        name="data", requests=requests, tenant_requests=tenant_requests, cpu_seconds=cpu, seconds=machines / 10
    )
    return Outcome(machines=machines, phases=(phase,), memory=100)


def test_costs_are_told_for_one_machine_of_the_largest_run() -> None:
    found = figures([outcome(50, requests=250, cpu=0.5), outcome(500, requests=2500, tenant_requests=500, cpu=5)])
    assert [(each.value, each.budget) for each in found[:3]] == [(6, REQUESTS), (10, None), (100, None)]
    assert rows([outcome(50, requests=250, cpu=0.5)]) == [("data", "5.00, 10.0 ms, 5.0 s", "")]


@pytest.mark.parametrize(
    ("requests", "cpu", "verdicts"),
    [(2500, 5.0, ["ok", "ok"]), (5000, 5.0, ["over", "ok"]), (2500, 7.0, ["ok", "over"])],
)
def test_what_grows_faster_than_their_number_is_over_budget(requests: int, cpu: float, verdicts: list[str]) -> None:
    found = figures([outcome(50, requests=250, cpu=0.5), outcome(500, requests=requests, cpu=cpu)])
    assert [each.verdict for each in found[3:]] == verdicts
    assert {each.budget for each in found[3:]} == {GROWTH}


def test_what_is_hardly_there_has_no_growth() -> None:
    found = figures([outcome(50, requests=1, cpu=0.0), outcome(500, requests=1, cpu=0.02)])
    assert [each.value for each in found[3:]] == [1, 1]


def test_one_size_alone_has_nothing_to_be_compared_with() -> None:
    assert [each.verdict for each in figures([outcome(50, requests=250, cpu=0.5)])[3:]] == ["", ""]
