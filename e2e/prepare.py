"""`python -m e2e.prepare`: builds whatever the tests and the lab run and the cache lacks, before any test is timed.

A fixture would build it too, but unseen: pytest keeps a fixture's output to itself, and counts a build of many minutes
as a test that hangs. Here each build says what it is and how long it usually takes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from e2e.capi.programs import cluster_api
from e2e.lab import programs
from e2e.lab.programs import ProgramMissingError
from k0s_images import images
from k0s_images.cache import BuildError
from k0s_images.choice import given_binary
from k0s_images.golang import components
from k0s_images.standin_launcher import launcher


def _servers() -> None:
    """What component tests start: kube-apiserver, etcd and the others of the newest minor, Cluster API's manager."""
    components(programs.MANAGEMENT_MINOR)
    cluster_api()


def _control_planes() -> None:
    """What contract tests start: the stand-in and its components, of both minors."""
    for minor in images.STAND_INS.values():
        components(minor)
        launcher(minor)


def _lab() -> None:
    """What the lab runs, and the images that are loaded into it."""
    programs.programs()
    images.archives(k0s_binary=given_binary())


PARTS: dict[str, Callable[[], None]] = {"servers": _servers, "control-planes": _control_planes, "lab": _lab}


def main(parts: Sequence[str]) -> int:
    """Build the named parts (none: all). Returns 1, having said why, if one cannot be built."""
    try:
        for part in parts or PARTS:
            PARTS[part]()
    except KeyError as unknown:
        print(f"no such part: {unknown}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    except (BuildError, ProgramMissingError) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
