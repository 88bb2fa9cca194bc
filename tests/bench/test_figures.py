"""The arithmetic and the tables of the bench: percentiles, medians, verdicts, widths."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.bench.figures import Figure, budgets, figures_table, medians, number, per_tenant, percentile, steps, table


@pytest.mark.parametrize(
    ("values", "percent", "wanted"),
    [
        ([5.0], 50, 5.0),
        ([5.0], 99, 5.0),
        ([3.0, 1.0, 2.0, 4.0], 50, 2.0),
        (range(1, 101), 99, 99),
        (range(1, 101), 100, 100),
        (range(1, 1001), 99, 990),
        ([1.0, 9.0], 99, 9.0),
    ],
)
def test_percentiles_are_values_that_were_measured(values: list[float], percent: float, wanted: float) -> None:
    assert percentile(values, percent) == wanted


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(1, 100))
def test_enough_values_do_not_exceed_a_percentile(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= percent / 100 * len(values) - 1e-9
    assert sum(value < found for value in values) < percent / 100 * len(values) + 1e-9


def test_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_medians_skip_what_a_run_did_not_see() -> None:
    assert medians([{"a": 1, "b": 9}, {"a": 5}, {"a": 3, "c": 2}]) == {"a": 3, "b": 9, "c": 2}


def test_steps_are_in_order_of_time_and_add_up() -> None:
    made = steps({"ready": 5.0, "accepted": 0.5, "made": 1.5})
    assert made == [("accepted", 0.5, 0.5), ("made", 1.5, 1.0), ("ready", 5.0, 3.5)]
    assert sum(step for _, _, step in made) == 5.0


def test_requests_per_tenant_the_most_frequent_first() -> None:
    counted = per_tenant({"patch clusters/status": 250, "create secrets": 1000}, 100)
    assert list(counted.items()) == [("create secrets", 10.0), ("patch clusters/status", 2.5)]


@pytest.mark.parametrize(
    ("value", "budget", "verdict"), [(4, 4, "ok"), (4.01, 4, "over"), (0, 0, "ok"), (1, 0, "over"), (9, None, "")]
)
def test_a_budget_is_kept_up_to_its_number(value: float, budget: float | None, verdict: str) -> None:
    figure = Figure(what="x", value=value, budget=budget)
    assert figure.verdict == verdict
    assert json.loads(json.dumps(figure.printed()))["verdict"] == verdict


def test_budgets_grow_with_the_number_of_tenants_and_bind_only_where_they_are_set() -> None:
    one, hundred, thousand = budgets(1), budgets(100), budgets(1000)
    assert (one.cpu_milliseconds, hundred.cpu_milliseconds) == (None, 25)
    assert (hundred.memory, thousand.memory) == (120, 180)
    assert (hundred.stateful_sets_seconds, thousand.stateful_sets_seconds) == (6, 75)
    assert (hundred.change_p99_milliseconds, thousand.change_p99_milliseconds) == (None, 250)


@pytest.mark.parametrize(
    ("value", "text"), [(4, "4"), (4.0, "4"), (0.126, "0.13"), (9.99, "9.99"), (12.345, "12.3"), (1000, "1000")]
)
def test_numbers_have_the_digits_that_matter(value: float, text: str) -> None:
    assert number(value) == text


def test_a_table_aligns_names_left_and_numbers_right() -> None:
    assert table(("", "100", ""), [("create", "1.5", "ok"), ("x", "22", "")]) == (
        "        100\n"
        "------  ---  --\n"
        "create  1.5  ok\n"
        "x        22"
    )  # fmt: skip


def test_figures_show_budget_verdict_and_note() -> None:
    text = figures_table(
        [
            Figure(what="writes", value=23, budget=22, note="of which 2 are late"),
            Figure(what="memory", value=90.26, unit="MiB", budget=120),
            Figure(what="seen", value=3),
        ]
    )
    lines = [" ".join(line.split()) for line in text.splitlines()[2:]]
    assert lines == ["writes 23 <= 22 over of which 2 are late", "memory 90.3 MiB <= 120 ok", "seen 3"]
