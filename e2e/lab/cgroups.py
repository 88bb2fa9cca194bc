"""The lab's own cgroups: every process of a lab lives below one folder, in every hierarchy of the machine.

They are how a lab knows its processes: whatever a component starts (shims, pods, what a pod forks) is born below the
lab's folder and cannot leave it, so `kill` finds all of it, also after a run that was killed half-way.

Works with cgroup v1 hierarchies and with the unified one. On a hybrid machine, where the unified hierarchy is mounted
without controllers beside v1, only the v1 hierarchies are used, as the kubelet does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from e2e.lab.network import LabError

#: Hierarchies that the kubelet wants to find its root cgroup in. "systemd" has no controller and only names processes.
_WANTED = frozenset({"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd", "hugetlb"})
_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids", "hugetlb")


def mounted(mountinfo: str) -> tuple[list[Path], list[Path]]:
    """Mount points of the v1 hierarchies that matter, and of the unified one, as /proc/self/mountinfo tells."""
    first: list[Path] = []
    unified: list[Path] = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        point = Path(left.split()[4])
        if kind == "cgroup" and {part.removeprefix("name=") for part in options.split(",")} & _WANTED:
            first.append(point)
        elif kind == "cgroup2":
            unified.append(point)
    return sorted(set(first)), unified[:1]


def hierarchies() -> tuple[list[Path], bool]:
    """Mount points of the hierarchies to use, and whether it is the unified one (cgroup v2)."""
    first, unified = mounted(Path("/proc/self/mountinfo").read_text())
    if first:
        return first, False
    if unified:
        return unified, True
    raise LabError("no cgroup hierarchy is mounted: mount one below /sys/fs/cgroup")


def mount_options(own: str) -> list[tuple[str, str]]:
    """Names and mount options of the v1 hierarchies that matter, as /proc/self/cgroup tells; to mount them anew."""
    names = [line.split(":", 2)[1] for line in own.splitlines()]
    found = [name for name in names if {part.removeprefix("name=") for part in name.split(",")} & _WANTED]
    return [(name.removeprefix("name="), f"none,{name}" if "=" in name else name) for name in reversed(found)]


def _everywhere() -> list[Path]:
    """All hierarchies: on a hybrid machine runc makes folders in the unified one as well, unasked."""
    first, unified = mounted(Path("/proc/self/mountinfo").read_text())
    return [*first, *unified]


def make(name: str) -> None:
    """Make the cgroup `name` (a path relative to the root) and its parents in every hierarchy, unless they exist."""
    points, unified = hierarchies()
    for point in points:
        folder = point
        for part in Path(name).parts:
            try:
                if unified:
                    _delegate(folder)
                folder = folder / part
                folder.mkdir(exist_ok=True)
                if not unified:
                    _inherit_cpuset(folder)
            except OSError as error:
                raise LabError(f"the cgroup {folder} cannot be made: {error}; cgroups have to be writable") from error


def _inherit_cpuset(folder: Path) -> None:
    # A v1 cpuset is born empty, and no process can enter it until it names processors and memory nodes.
    for each in ("cpuset.cpus", "cpuset.mems"):
        file = folder / each
        if file.exists() and not file.read_text().strip():
            file.write_text((folder.parent / each).read_text())


def _delegate(folder: Path) -> None:
    have = set((folder / "cgroup.controllers").read_text().split())
    wanted = " ".join(f"+{each}" for each in _V2_CONTROLLERS if each in have)
    (folder / "cgroup.subtree_control").write_text(wanted)


def entrances(name: str) -> list[Path]:
    """The files into which a process writes its id to enter the cgroup."""
    return [point / name / "cgroup.procs" for point in hierarchies()[0]]


def members(name: str) -> set[int]:
    """Ids of all processes in the cgroup and below it."""
    found: set[int] = set()
    for point in _everywhere():
        for folder in _folders(point / name):
            with contextlib.suppress(FileNotFoundError, OSError):
                found.update(int(line) for line in (folder / "cgroup.procs").read_text().split())
    return found - {0}


def _folders(top: Path) -> Iterator[Path]:
    """The folder and all below it, deepest first."""
    for where, _, _ in os.walk(top, topdown=False):
        yield Path(where)


def kill(name: str, *, deadline: float = 20.0) -> int:
    """SIGKILL everything in the cgroup until nothing is left, and say how many processes that were.

    `LabError` after `deadline` seconds. Processes are addressed by file descriptors, so a reused id is never hit.
    """
    ends = time.monotonic() + deadline
    killed: set[int] = set()
    while left := members(name):
        if time.monotonic() > ends:
            raise LabError(f"processes {sorted(left)} of {name} do not end")
        killed |= left
        _kill_and_wait(left, name=name, seconds=min(2.0, deadline))
    return len(killed)


def _kill_and_wait(pids: Iterable[int], *, name: str, seconds: float) -> None:
    with contextlib.ExitStack() as stack:
        waiting = select.poll()
        open_ones: set[int] = set()
        for pid in pids:
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            stack.callback(os.close, handle)
            # Between reading the list and opening the descriptor the id may have passed to a stranger.
            if not _belongs(pid, name):
                continue
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            waiting.register(handle, select.POLLIN)
            open_ones.add(handle)
        ends = time.monotonic() + seconds
        while open_ones and (left := ends - time.monotonic()) > 0:
            for handle, _ in waiting.poll(left * 1000):
                waiting.unregister(handle)
                open_ones.discard(handle)


def _belongs(pid: int, name: str) -> bool:
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return False
    wanted = "/" + name
    return any((path := line.split(":", 2)[2]) == wanted or path.startswith(wanted + "/") for line in lines)


def remove(name: str, *, deadline: float = 10.0) -> None:
    """Remove the cgroup and all below it. No process may be in it any more."""
    ends = time.monotonic() + deadline
    for point in _everywhere():
        for folder in _folders(point / name):
            while True:
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    pass
                except OSError as error:
                    # The kernel gives no sign when a dead process has left its cgroup; it takes milliseconds.
                    if error.errno == errno.EBUSY and time.monotonic() < ends:
                        time.sleep(0.02)
                        continue
                    raise LabError(f"the cgroup {folder} cannot be removed: {error}") from error
                break
