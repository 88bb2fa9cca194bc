"""`python -m e2e.bench [lab|scale]`: measure, print tables, leave JSON and pictures in out/bench/."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from e2e.bench import scale
from e2e.bench.figures import figures_table, number, table
from e2e.lab.network import LabError
from e2e.operator import ROOT
from k0s_images.cache import BuildError, say

OUT = ROOT / "out" / "bench"


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for. Returns 1 if something could not be measured; a budget that is broken is no failure."""
    parser = argparse.ArgumentParser(prog="python -m e2e.bench", description=__doc__)
    parser.add_argument("part", nargs="?", choices=("all", "lab", "scale"), default="all")
    parser.add_argument("--tenants", default="1,100", help="scale: numbers of tenants (default: %(default)s)")
    parser.add_argument("--idle", type=float, default=60.0, help="scale: idle seconds (default: %(default)s)")
    parser.add_argument("--profile", action="store_true", help="scale: run the operator under cProfile (slower)")
    chosen = parser.parse_args(arguments)
    os.environ.pop("KUBECONFIG", None)
    OUT.mkdir(parents=True, exist_ok=True)
    try:
        if chosen.part in ("all", "scale"):
            _scale([int(each) for each in chosen.tenants.split(",")], idle=chosen.idle, profile=chosen.profile)
    except (LabError, BuildError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _scale(sizes: Sequence[int], *, idle: float, profile: bool) -> None:
    outcomes = []
    for size in sizes:
        outcome = scale.measure(size, idle=idle, profile=OUT / f"operator-{size}.prof" if profile else None)
        outcomes.append(outcome)
        print(f"\n{size} tenant(s); pods played by {outcome.played}\n")
        print(figures_table(outcome.figures), "\n")
        _write(OUT / "scale.json", [each.printed() for each in outcomes])
    heads = [str(each.tenants) for each in outcomes]
    for title, counted in (
        ("requests per tenant, from apply until nothing is left to do", [each.requests for each in outcomes]),
        ("requests per tenant for one change of configuration", [each.change_requests for each in outcomes]),
    ):
        names = dict.fromkeys(name for each in counted for name in each)
        rows = [(name, *(number(each.get(name, 0)) for each in counted), "") for name in names]
        total = ("all", *(number(sum(each.values())) for each in counted), "")
        print(f"{table((title, *heads, ''), [*rows, total])}\n")


def _write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n")
    say(f"written: {file.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
