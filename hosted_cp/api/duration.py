"""Go's durations (`90s`, `1h30m`, `1.5h`), which Kubernetes and k0s use in text."""

from __future__ import annotations

import re
from datetime import timedelta
from fractions import Fraction

#: One number with a unit, as Go's time.ParseDuration reads it, without a sign.
_PART = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)"
_FORM = re.compile(rf"(?:{_PART})+")
_EACH = re.compile(_PART)
_MICROSECONDS: dict[str, Fraction | int] = {
    "ns": Fraction(1, 1000), "us": 1, "µs": 1, "μs": 1, "ms": 1000, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6,
}  # fmt: skip
#: Go counts nanoseconds in an int64.
_LARGEST = Fraction(2**63 - 1, 1000)


class DurationError(ValueError):
    """The text is no duration."""


def parse(text: str) -> timedelta:
    """The duration that Go reads from the text, cut to whole microseconds. Raises DurationError; also if negative."""
    if text == "0":
        return timedelta()
    if not _FORM.fullmatch(text):
        raise DurationError("is no duration such as 90s, 30m or 1h30m")
    total = sum((Fraction(number) * _MICROSECONDS[unit] for number, unit in _EACH.findall(text)), start=Fraction())
    if total > _LARGEST:
        raise DurationError("is longer than 292 years")
    return timedelta(microseconds=int(total))
