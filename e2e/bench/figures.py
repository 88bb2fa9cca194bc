"""What is measured, as data: figures with their budgets, percentiles, and tables for people. Pure."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number. With a budget it is `ok` up to it, and `over` above."""

    what: str
    value: float
    unit: str = ""
    budget: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.budget is None:
            return ""
        return "ok" if self.value <= self.budget else "over"

    def printed(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "verdict": self.verdict}


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """DESIGN section 9, for one number of tenants. None: no budget at this size."""

    #: Of one tenant, from apply until nothing is left to do.
    writes: float = 22
    status_writes: float = 5
    events: float = 3
    reads: float = 0
    #: Of all tenants in a minute.
    idle_requests: float = 0
    restart_writes: float = 0
    restart_seconds: float = 2.0
    #: Of one change of one tenant. While its pods restart, the status says so.
    change_writes: float = 4
    change_status_writes: float = 6
    cpu_milliseconds: float | None = None
    #: Of the operator, in MiB.
    memory: float | None = None
    stateful_sets_seconds: float | None = None
    change_p99_milliseconds: float | None = None


def budgets(tenants: int) -> Budgets:
    """The budgets that hold for so many tenants: those of 1,000 above 100, those of 100 up to it."""
    many = tenants > 100
    return Budgets(
        cpu_milliseconds=25 if tenants >= 100 else None,
        memory=180 if many else 120,
        stateful_sets_seconds=75 if many else 6,
        change_p99_milliseconds=250 if tenants >= 1000 else None,
    )


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that at least `percent` of all values do not exceed (nearest rank). `ValueError` if empty."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each measure over all runs that have it; in the order of first appearance."""
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: statistics.median(run[name] for run in runs if name in run) for name in names}


def steps(moments: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """(name, moment, seconds since the moment before it) in order of time."""
    made = []
    before = 0.0
    for name, at in sorted(moments.items(), key=lambda each: each[1]):
        made.append((name, at, at - before))
        before = at
    return made


def per_tenant(counts: Mapping[str, int], tenants: int) -> dict[str, float]:
    """Counts of requests by "verb resource", for one tenant on average."""
    return {name: count / tenants for name, count in Counter(counts).most_common()}


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they need to be; the first and the last one left-aligned, those between them right-aligned."""
    lines = [tuple(heads), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    lines.insert(1, tuple("-" * width for width in widths))
    last = len(heads) - 1

    def cell(text: str, column: int) -> str:
        return text.ljust(widths[column]) if column in (0, last) else text.rjust(widths[column])

    return "\n".join("  ".join(cell(text, column) for column, text in enumerate(line)).rstrip() for line in lines)


def figures_table(figures: Sequence[Figure]) -> str:
    """Each figure beside its budget, with the verdict and what is to be known about it."""
    return table(
        ("", "measured", "budget", ""),
        (
            (
                each.what,
                f"{number(each.value)} {each.unit}".strip(),
                "" if each.budget is None else f"<= {number(each.budget)}",
                f"{each.verdict:<5}{each.note}",
            )
            for each in figures
        ),
    )


def number(value: float) -> str:
    """As many digits as matter: whole numbers without decimals, small ones with two, larger ones with one."""
    if value == int(value):
        return str(int(value))
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
