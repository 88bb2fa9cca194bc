"""What a lab has made on this machine, written down before it is made.

A run can be killed at any moment. So every thing that outlives its maker (a network namespace, a link, a route, a
folder of cgroups, a process) is recorded first and made second, and `down` removes exactly what is recorded, whether
or not it came to be. What is not recorded was made by somebody else and is never touched: if it stands in the way,
that is an error.

Processes cannot be recorded before they have an id. They need not be: each is born into a cgroup of the lab, which is.
Their ids are recorded only so that `up` and `status` know which one is which.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Literal

from e2e.lab.network import LabError

Kind = Literal["netns", "link", "route", "cgroup"]

#: Longest path of a lab's folder: below it lie Unix sockets, whose whole path must stay under 108 bytes.
MAX_FOLDER = 64


@dataclass(frozen=True, kw_only=True)
class Thing:
    """Something of the kernel's that this lab makes. `name` is enough to find and remove it."""

    kind: Kind
    name: str


@dataclass(frozen=True, kw_only=True)
class Process:
    """One started process; `born` (clock ticks since boot) tells it from a later one with the same id."""

    name: str
    pid: int
    born: int
    made_of: str = ""
    """Digest of its command line and configuration: another one means that it has to be started anew."""


@dataclass(frozen=True, kw_only=True)
class State:
    """All that a lab remembers from run to run."""

    name: str
    block: str
    boot: str
    things: tuple[Thing, ...] = ()
    processes: tuple[Process, ...] = ()
    edges: tuple[tuple[str, int], ...] = field(default=())
    """Edge machines and their number in the edge network."""


def encode(state: State) -> str:
    """The state as it stands in its file."""
    return json.dumps({"version": 1, **asdict(state)}, indent=1)


def decode(text: str) -> State:
    """The state from its file's text. `LabError` if it is not one this program wrote."""
    try:
        raw = json.loads(text)
        if raw.pop("version") != 1:
            raise LabError("the lab was made by another version of this program: remove it with that one")
        return State(
            name=raw["name"], block=str(IPv4Network(raw["block"])), boot=raw["boot"],
            things=tuple(Thing(**thing) for thing in raw["things"]),
            processes=tuple(Process(**process) for process in raw["processes"]),
            edges=tuple((str(name), int(number)) for name, number in raw["edges"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise LabError(f"the lab's state file cannot be read: {error!r}") from error


def boot_id() -> str:
    """Changes with every start of the machine: after one, no recorded process or namespace exists any more."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Journal:
    """The state file of one lab, open for changes by one process at a time."""

    def __init__(self, folder: Path, state: State) -> None:
        self.folder = folder
        self._state = state

    @property
    def state(self) -> State:
        """What is written down now."""
        return self._state

    def save(self, state: State) -> None:
        """Write the state to the disk; it is there when this returns, whole or not at all."""
        write_durably(self.folder / "state.json", encode(state))
        self._state = state

    def expect(self, thing: Thing) -> bool:
        """Record something that is about to be made. False if it is recorded already, and so may exist already."""
        if thing in self._state.things:
            return False
        self.save(replace(self._state, things=(*self._state.things, thing)))
        return True

    def forget(self, thing: Thing) -> None:
        """Strike out something that is gone."""
        self.save(replace(self._state, things=tuple(each for each in self._state.things if each != thing)))

    def started(self, process: Process) -> None:
        """Record a process in place of any earlier one of its name."""
        others = tuple(each for each in self._state.processes if each.name != process.name)
        self.save(replace(self._state, processes=(*others, process)))

    def process(self, name: str) -> Process | None:
        """The recorded process of this name, alive or not."""
        return next((each for each in self._state.processes if each.name == name), None)

    def forget_processes(self, *names: str) -> None:
        """Strike out processes that are gone."""
        left = tuple(each for each in self._state.processes if each.name not in names)
        if left != self._state.processes:
            self.save(replace(self._state, processes=left))


def read(folder: Path) -> State | None:
    """The state of the lab in this folder, or None if there is no lab."""
    try:
        return decode((folder / "state.json").read_text())
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lab's lock (a file beside its folder).

    If another process holds it: `LabError` at once or, with `wait` (for what takes a moment), wait for it to end.
    """
    if len(str(folder)) > MAX_FOLDER:
        raise LabError(f"{folder} is too long a path for the lab's sockets: set HOSTED_CP_CACHE to a shorter one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise LabError(f"another process is working on the lab {folder.name.removeprefix('lab-')!r}") from error
        yield


def write_durably(path: Path, text: str) -> None:
    """Replace a file's content so that a crash leaves the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    with open(draft, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
