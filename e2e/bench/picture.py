"""The pictures: where the seconds of a start go, and how long many tenants wait for their StatefulSets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure as Drawing

from e2e.bench.figures import steps

_WIDE = (10.0, 4.0)


def phases(file: Path, rows: Mapping[str, Mapping[str, float]]) -> None:
    """One bar for each way of starting, cut where its phases end (seconds since apply)."""
    drawing = Drawing(figsize=_WIDE, layout="constrained")
    axes = drawing.add_subplot()
    names = list(dict.fromkeys(name for moments in rows.values() for name, _, _ in steps(moments)))
    colours = {name: colormaps["tab20"](number % 20) for number, name in enumerate(names)}
    for row, moments in rows.items():
        for name, at, took in steps(moments):
            axes.barh(row, took, left=at - took, color=colours[name], edgecolor="white", linewidth=0.4)
    handles = [axes.barh(0, 0, color=colours[name], label=name) for name in names]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), fontsize="small", frameon=False)
    axes.set_xlabel("seconds after kubectl apply; each colour ends with what it is named after")
    axes.set_title("From one manifest to the first successful call (medians)")
    axes.invert_yaxis()
    drawing.savefig(file, dpi=120)


def waits(file: Path, curves: Mapping[str, Sequence[float]]) -> None:
    """How many of the tenants have their StatefulSet after so many seconds."""
    drawing = Drawing(figsize=_WIDE, layout="constrained")
    axes = drawing.add_subplot()
    for name, seconds in curves.items():
        ordered = sorted(seconds)
        shares = [100 * (number + 1) / len(ordered) for number in range(len(ordered))]
        axes.step([0, *ordered], [0, *shares], where="post", label=name)
    axes.set_xlabel("seconds after the tenant's manifest was posted (all at once)")
    axes.set_ylabel("% of tenants")
    axes.set_title("From manifest to StatefulSet")
    axes.legend(frameon=False)
    drawing.savefig(file, dpi=120)
