"""Quantities are numbers, whatever they look like."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.planning import quantity


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1000m", "1"),
        ("0.5Gi", "512Mi"),
        ("1e3", "1k"),
        ("1E3", "1000"),
        ("1E", "1e18"),
        (".5", "500m"),
        ("1.", "1"),
        ("+1", 1),
        (0.5, "500m"),
        ("1e-3", "1m"),
        ("0.1n", "1n"),  # finer than nano is rounded up
        ("-0.1n", "-1n"),
        ("16Ei", "9223372036854775807"),  # capped at 2^63 - 1
        ("-0", "0"),
    ],
)
def test_spellings_of_one_amount(one: object, other: object) -> None:
    assert quantity.parse(one) == quantity.parse(other)
    assert quantity.canonical(one) == quantity.canonical(other)


@pytest.mark.parametrize(
    "bad", ["", "1 Gi", "1gi", "Gi", "1h30m", "1e", "--1", "0x10", "1Gi1", None, True, [], " 1", "１"]
)
def test_what_is_no_quantity_is_refused_and_equals_only_itself(bad: object) -> None:
    with pytest.raises(quantity.QuantityError, match="is no quantity"):
        quantity.parse(bad)
    assert quantity.canonical(bad) != quantity.canonical("1")


def test_a_truth_value_is_no_one_though_it_equals_one() -> None:
    assert quantity.canonical(1) == quantity.canonical("1") == quantity.canonical(1.0)
    assert quantity.canonical(True) != quantity.canonical(1)
    assert quantity.canonical(float("nan")) != quantity.canonical("nan")


@given(st.integers(min_value=-(10**12), max_value=10**12), st.sampled_from(["Ki", "Mi", "m", "k", "", "M", "u", "n"]))
def test_parse_is_linear_in_the_number(number: int, suffix: str) -> None:
    unit = quantity.parse(f"1{suffix}")
    wanted = max(min(number * unit, Fraction(2**63 - 1)), Fraction(-(2**63 - 1)))
    assert quantity.parse(f"{number}{suffix}") == wanted
