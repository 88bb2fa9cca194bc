"""`python -m k0s_images images` builds what is missing of the images and tells where they are; `choice` says which k0s
would run here."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from k0s_images.cache import BuildError
from k0s_images.catalogue import CatalogueError
from k0s_images.choice import choose, given_binary
from k0s_images.images import archives, builders


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m k0s_images", description="The images that the lab and the tests run."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    images = commands.add_parser("images", help="build what is missing; prints name, size and docker archive of each")
    images.add_argument("names", nargs="*", help="only these (default: all); --list prints them")
    images.add_argument("--k0s-binary", type=Path, default=os.environ.get("K0S_BINARY") or None, metavar="FILE",
                        help="also the image of this k0s (default: $K0S_BINARY)")  # fmt: skip
    images.add_argument("--list", action="store_true", help="only print the names")
    choice = commands.add_parser("choice", help="say which k0s runs here, making its image if that is missing")
    choice.add_argument("version", nargs="?", help="such as v1.36.3+k0s.2 (default: of $K0S_BINARY, or the newest)")
    chosen = parser.parse_args()
    try:
        if chosen.command == "choice":
            found = choose(chosen.version, binary=given_binary())
            print(f"{found.says}\n{found.name}  {found.archive}")
        elif chosen.list:
            print("\n".join(builders(k0s_binary=chosen.k0s_binary)))
        else:
            for name, archive in archives(k0s_binary=chosen.k0s_binary, only=chosen.names).items():
                print(f"{name:50} {archive.stat().st_size / 1e6:6.0f} MB  {archive}")
    except (BuildError, CatalogueError) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
