"""Kubernetes quantities: `1000m` is `1`, `0.5Gi` is `512Mi`, `1e3` is `1k`.

The server rewrites every quantity into one canonical form, so what we sent and what we read back must be compared as
numbers, not as texts. The grammar and the limits are those of apimachinery's `resource.Quantity`.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

_FORM = re.compile(
    r"(?P<sign>[+-]?)(?P<number>\d+\.?\d*|\.\d+)(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<exponent>[+-]?\d{1,4}))?",
    re.ASCII,
)
_SUFFIXES = {
    **{suffix: Fraction(1024**power) for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)},
    **{suffix: Fraction(1000**power) for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), start=1)},
    **{suffix: Fraction(1, 1000**power) for power, suffix in enumerate(("m", "u", "n"), start=1)},
}
#: The server caps what is larger and rounds what is finer, away from zero.
_LARGEST = 2**63 - 1
_NANO = 10**9


class QuantityError(ValueError):
    """The text is no quantity; the message quotes it and says what one looks like."""


def parse(text: object) -> Fraction:
    """The number behind a quantity, as the server would store it. JSON numbers are quantities, too.

    Raises `QuantityError` for everything else, booleans included.
    """
    if isinstance(text, bool) or not isinstance(text, (str, int, float)):
        raise QuantityError(f"{text!r} is no quantity: write a number with a unit, such as 500m, 2 or 1.5Gi")
    return _parse(str(text))


@lru_cache(maxsize=1024)
def _parse(text: str) -> Fraction:
    found = _FORM.fullmatch(text)
    if not found:
        raise QuantityError(f"{text!r} is no quantity: write a number with a unit, such as 500m, 2 or 1.5Gi")
    number = Fraction(found["number"])
    if found["suffix"]:
        number *= _SUFFIXES[found["suffix"]]
    elif found["exponent"]:
        number *= Fraction(10) ** int(found["exponent"])
    nanos = -((-number * _NANO) // 1)  # rounded up: the sign is applied last
    number = min(Fraction(nanos, _NANO), Fraction(_LARGEST))
    return -number if found["sign"] == "-" else number


def canonical(text: object) -> str:
    """One text for all spellings of the same amount, for comparing and hashing only (`3/2`, not the server's `1500m`).

    What is no quantity comes back as it is, so that it equals only itself.
    """
    amount = None
    if isinstance(text, (str, int, float)) and not isinstance(text, bool):
        amount = _amount(str(text))
    return f"not a quantity: {text!r}" if amount is None else amount


@lru_cache(maxsize=1024)
def _amount(text: str) -> str | None:
    """Seventy times for each tenant that is made: writing down a fraction takes longer than finding it."""
    try:
        return str(_parse(text))
    except QuantityError:
        return None
