"""Durations are read as Go reads them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.api.duration import DurationError, parse


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("90s", 90),
        ("1h30m", 5400),
        ("1.5h", 5400),
        (".5m", 30),
        ("1.s", 1),
        ("30m1h", 5400),
        ("1500ms", 1.5),
        ("2us", 2e-6),
        ("3µs", 3e-6),
        ("2000ns", 2e-6),
        ("1ns", 0),
    ],
)
def test_reads(text: str, seconds: float) -> None:
    assert parse(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "1x", "1", "1d", "s", "-5s", "1h ", " 1h", "1h-5m", "1e3s", "٣s", "1,5h", "."])
def test_refuses(text: str) -> None:
    with pytest.raises(DurationError, match="no duration"):
        parse(text)


def test_refuses_what_go_cannot_hold() -> None:
    assert parse("2562047h") > timedelta(days=290 * 365)
    with pytest.raises(DurationError, match="292 years"):
        parse("2562048h")
    with pytest.raises(DurationError, match="292 years"):
        parse("9" * 60 + "h")


@given(st.integers(0, 10**9), st.integers(0, 59), st.integers(0, 999_999))
def test_parts_add_up(hours: int, minutes: int, micros: int) -> None:
    hours %= 2_000_000
    assert parse(f"{hours}h{minutes}m{micros}us") == timedelta(hours=hours, minutes=minutes, microseconds=micros)
