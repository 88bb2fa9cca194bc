"""Pre-flight checks: what a machine must have, and what it should have."""

from __future__ import annotations

import os
import resource
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from k0s_images.standin import log
from k0s_images.standin.errors import Fatal

_GIB = 1024**3


@dataclass(frozen=True, kw_only=True)
class Result:
    """One check: the verdict is `pass`, `warning` or `rejected`."""

    name: str
    value: str
    verdict: str


def checks(data: Path) -> list[Result]:
    """Run them all."""
    return [_localhost(), _memory(), _disk(data), _files()]


def check(data: Path, *, ignore: bool) -> None:
    """Log warnings; `Fatal` for a rejected check unless they are to be ignored."""
    rejected = []
    for result in checks(data):
        if result.verdict != "pass":
            log.warning(result.value, **{"pre-flight-check": result.name})
        if result.verdict == "rejected":
            rejected.append(f"{result.name}: {result.value}")
    if rejected and not ignore:
        raise Fatal(f"pre-flight checks failed: {'; '.join(rejected)}")


def _localhost() -> Result:
    try:
        found = {str(i[4][0]) for i in socket.getaddrinfo("localhost", None)}
    except OSError as fault:
        return Result(name="name-resolution", value=f"localhost does not resolve: {fault}", verdict="rejected")
    good = found <= {"127.0.0.1", "::1"}
    return Result(
        name="name-resolution", value=f"localhost: {', '.join(sorted(found))}", verdict="pass" if good else "rejected"
    )


def _memory() -> Result:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Result(name="memory", value=f"{total / _GIB:.1f} GiB", verdict="pass" if total >= _GIB else "warning")


def _disk(data: Path) -> Result:
    place = data
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    return Result(
        name="disk",
        value=f"{free / _GIB:.1f} GiB free for {data}",
        verdict="pass" if free >= 500 * 10**6 else "warning",
    )


def _files() -> Result:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    verdict = "pass" if soft >= 65536 else "warning"
    return Result(name="os/RLIMIT_NOFILE", value=f"current: {soft} / max: {hard}", verdict=verdict)
