"""`python -m e2e.bench [lab|scale|machines]`: measure, print tables, leave JSON and pictures in out/bench/."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from e2e.bench import first_call, machines, picture, scale
from e2e.bench.asking import KINDS
from e2e.bench.figures import figures_table, medians, number, steps, table
from e2e.bench.moments import FIRST_CALL
from e2e.lab.network import LabError
from e2e.operator import ROOT
from k0s_images.cache import BuildError, say
from tests.component.apiserver import KubectlError, StartError

OUT = ROOT / "out" / "bench"


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for. Returns 1 if something could not be measured; a budget that is broken is no failure."""
    parser = argparse.ArgumentParser(prog="python -m e2e.bench", description=__doc__)
    parser.add_argument("part", nargs="?", choices=("all", "lab", "scale", "machines"), default="all")
    parser.add_argument("--runs", type=int, default=3, help="lab: starts of each kind (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="lab: leave it up, for the next time")
    parser.add_argument("--tenants", type=_sizes, default="1,100", help="scale: how many (default: %(default)s)")
    parser.add_argument(
        "--kind", choices=tuple(KINDS), default=next(iter(KINDS)),
        help="scale: of the objects that ask for tenants (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--idle", type=float, default=60.0, help="scale: idle seconds (default: %(default)s)")
    parser.add_argument(
        "--machines", type=_sizes, default="50,100,500", help="machines: how many (default: %(default)s)"
    )
    parser.add_argument("--profile", action="store_true", help="scale: run the operator under cProfile (slower)")
    chosen = parser.parse_args(arguments)
    os.environ.pop("KUBECONFIG", None)
    OUT.mkdir(parents=True, exist_ok=True)
    try:
        if chosen.part in ("all", "lab"):
            _lab(chosen.runs, keep=chosen.keep)
        if chosen.part in ("all", "scale"):
            _scale(chosen.tenants, kind=chosen.kind, idle=chosen.idle, profile=chosen.profile)
        if chosen.part in ("all", "machines"):
            _machines(chosen.machines)
    except (LabError, BuildError, KubectlError, StartError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _sizes(text: str) -> list[int]:
    sizes = [int(each) for each in text.split(",")]
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError("at least one")
    return sizes


def _lab(runs: int, *, keep: bool) -> None:
    outcome = first_call.measure(runs, keep=keep)
    ways = {"operator": medians(outcome.operated), "by hand": medians(outcome.by_hand)}
    print(f"\nOne tenant (etcd, node ports) with {outcome.k0s}; medians of {runs} runs\n")
    rows = [
        (name, f"{at:.2f} s", f"+{took:.2f}", f"{ways['by hand'][name]:.2f} s" if name in ways["by hand"] else "", "")
        for name, at, took in steps(ways["operator"])
    ]
    print(table(("seconds after kubectl apply", "operator", "step", "by hand", ""), rows), "\n")
    for name, each in (("operator", outcome.operated), ("by hand", outcome.by_hand)):
        calls = ", ".join(f"{run[FIRST_CALL]:.2f}" for run in each)
        print(f"first call of each run, {name}: {calls} s")
    print(f"\n{figures_table(outcome.figures)}\n")
    _write(OUT / "lab.json", outcome.printed())
    picture.phases(OUT / "lab.png", ways)
    say(f"written: {OUT.relative_to(ROOT) / 'lab.png'}")


def _scale(sizes: Sequence[int], *, kind: str, idle: float, profile: bool) -> None:
    outcomes = []
    file = OUT / ("scale" if kind == next(iter(KINDS)) else f"scale-{kind}")
    for size in sizes:
        outcome = scale.measure(size, kind=kind, idle=idle, profile=OUT / f"operator-{size}.prof" if profile else None)
        outcomes.append(outcome)
        print(f"\n{size} tenant(s), each asked for by a {kind}; pods played by {outcome.played}\n")
        print(figures_table(outcome.figures), "\n")
        _write(file.with_suffix(".json"), [each.printed() for each in outcomes])
    heads = [str(each.tenants) for each in outcomes]
    for title, counted in (
        ("requests per tenant, from apply until nothing is left to do", [each.requests for each in outcomes]),
        ("requests per tenant for one change of configuration", [each.change_requests for each in outcomes]),
    ):
        names = dict.fromkeys(name for each in counted for name in each)
        rows = [(name, *(number(each.get(name, 0)) for each in counted), "") for name in names]
        total = ("all", *(number(sum(each.values())) for each in counted), "")
        print(f"{table((title, *heads, ''), [*rows, total])}\n")
    curves = {}
    for each in outcomes:
        curves[f"{each.tenants}: etcd"] = each.etcd_seconds
        curves[f"{each.tenants}: controllers"] = each.controller_seconds
    picture.waits(file.with_suffix(".png"), curves)
    say(f"written: {file.with_suffix('.png').relative_to(ROOT)}")


def _machines(sizes: Sequence[int]) -> None:
    outcomes = [machines.measure(size) for size in sizes]
    heads = (f"{size} Machines" for size in sizes)
    print("\nMachines that are bootstrapped at once: requests and CPU for each of them, seconds for all\n")
    print(table(("phase", *heads, ""), machines.rows(outcomes)), "\n")
    print(f"{figures_table(machines.figures(outcomes))}\n")
    _write(OUT / "machines.json", [each.printed() for each in outcomes])


def _write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n")
    say(f"written: {file.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
