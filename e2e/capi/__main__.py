"""`python -m e2e.capi {up,down}`: Cluster API in a lab that is up. See `e2e.capi.management`."""

from __future__ import annotations

import argparse
import os
import sys

from e2e.capi import management
from e2e.capi.programs import NEWEST, SERIES
from e2e.lab import cluster
from e2e.lab.network import LabError
from k0s_images.cache import BuildError


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m e2e.capi", description=__doc__)
    parser.add_argument("--lab", default="demo", help="which lab (default: %(default)s)")
    parser.add_argument("--series", default=NEWEST, choices=SERIES, help="of Cluster API (default: %(default)s)")
    parser.add_argument("command", choices=("up", "down"))
    chosen = parser.parse_args(arguments)
    os.environ.pop("KUBECONFIG", None)
    try:
        lab = cluster.existing(chosen.lab)
        (management.start if chosen.command == "up" else management.stop)(lab, series=chosen.series)
    except (LabError, BuildError) as error:
        print(f"lab {chosen.lab}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
