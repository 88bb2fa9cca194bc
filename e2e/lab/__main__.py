"""`python -m e2e.lab`: the lab's command. See `e2e.lab`."""

from __future__ import annotations

import argparse
import json
import os
import sys


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m e2e.lab", description="a real management cluster on this machine")
    parser.add_argument("--name", default="demo", help="which lab (default: demo)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="bring the lab up, or repair it")
    commands.add_parser("down", help="remove every trace of it")
    commands.add_parser("status", help="what there is of it, as JSON")
    preflight = commands.add_parser("preflight", help="what this machine lacks for a lab, and what can be installed")
    preflight.add_argument("--install", action="store_true", help="install the missing Debian packages")
    for command, text in (("edge-add", "add an edge machine"), ("edge-remove", "remove an edge machine")):
        commands.add_parser(command, help=text).add_argument("edge")
    chosen = parser.parse_args(arguments)
    os.environ.pop("KUBECONFIG", None)
    if chosen.command == "preflight":
        from e2e.lab import preflight as checks

        return checks.main(install=chosen.install)

    # Only now: `preflight` runs without the environment that everything else needs.
    from e2e.lab import cluster, edge
    from e2e.lab.network import LabError
    from k0s_images.cache import BuildError

    try:
        if chosen.command == "up":
            lab = cluster.up(chosen.name)
            print(lab.kubeconfig)
        elif chosen.command == "down":
            cluster.down(chosen.name)
        elif chosen.command == "status":
            found = cluster.status(chosen.name)
            print(json.dumps(found, indent=2))
            return 0 if found else 1
        elif chosen.command == "edge-add":
            print(edge.add(cluster.existing(chosen.name), chosen.edge).address)
        else:
            edge.remove(cluster.existing(chosen.name), chosen.edge)
    except (LabError, BuildError) as error:
        print(f"lab {chosen.name}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
