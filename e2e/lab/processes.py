"""Starting the lab's processes so that they outlive this one, can be found again, and say when they are ready."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.lab import cgroups
from e2e.lab.network import LabError
from e2e.lab.state import Journal, Process, boot_id
from k0s_images.cache import digest

_JOIN = """for entrance in $1; do echo $$ > "$entrance"; done
shift
exec "$@\""""

# The shell enters the cgroups before anything of ours runs, and leaves the program behind as an orphan, so that it does
# not end with us and leaves no zombie. In a shell without job control a background child does not lead a process
# group, so `setsid` keeps its process id.
_LAUNCH = """set -e
for entrance in $1; do echo $$ > "$entrance"; done
log=$2; shift 2
setsid "$@" < /dev/null >> "$log" 2>&1 &
echo $!"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a process runs: a network namespace by its file, a mount namespace by the process that holds it."""

    netns: str | None = None
    mounts: Process | None = None
    cgroup: str | None = None
    """Where commands that are run here (`call`) belong, so that what they leave behind is found."""
    whole: bool = False
    """The holder of the mounts started a machine with an init system: all its namespaces are entered."""

    def enter(self) -> list[str]:
        """The words before a command line that take it to the namespaces of this place.

        `ip netns exec` is no alternative: it mounts /sys anew and hides the cgroups.
        """
        words = [f"--net={self.netns}"] if self.netns else []
        words += [f"--mount=/proc/{self.mounts.pid}/ns/mnt"] if self.mounts else []
        if self.mounts and self.whole:
            names = {"pid": "pid_for_children", "uts": "uts", "ipc": "ipc", "cgroup": "cgroup"}
            words += [f"--{kind}=/proc/{self.mounts.pid}/ns/{name}" for kind, name in names.items()]
        return ["nsenter", *words, "--"] if words else []


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for children: nobody's KUBECONFIG, no proxy, no settings of other clusters."""
    kept = ("HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "HOSTED_CP_CACHE", "XDG_CACHE_HOME")
    base = {name: os.environ[name] for name in kept if name in os.environ}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, **base, **(extra or {})}


def born(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; None if there is none, or only its remains."""
    try:
        # The command name, in parentheses, may hold blanks: count from the last parenthesis.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def alive(process: Process | None) -> bool:
    """Whether this very process still runs."""
    return process is not None and born(process.pid) == process.born


def is_running(journal: Journal, name: str) -> bool:
    """Whether the recorded process of this name runs."""
    return journal.state.boot == boot_id() and alive(journal.process(name))


def made_of(argv: Sequence[str | Path], inputs: Sequence[str] = ()) -> str:
    """What a process is told apart by: its command line, and the texts of files that this names."""
    return digest("\0".join(map(str, argv)), *inputs)


def is_current(journal: Journal, name: str, argv: Sequence[str | Path], inputs: Sequence[str] = ()) -> bool:
    """Whether the process runs and was started with this very command line and configuration."""
    process = journal.process(name)
    return process is not None and process.made_of == made_of(argv, inputs) and is_running(journal, name)


def require(journal: Journal, *names: str) -> None:
    """`LabError` with the end of its log for the first of these processes that does not run."""
    for name in names:
        if not is_running(journal, name):
            raise LabError(f"{name} has ended:\n{tail(log_file(journal.folder, name))}")


def cgroup_of(journal: Journal, name: str) -> str:
    """The cgroup that the process `name` of this lab is born into."""
    return f"{root_cgroup(journal.state.name)}/system/{name}"


def root_cgroup(lab: str) -> str:
    """The cgroup that holds all of a lab."""
    return f"hosted-cp-lab-{lab}"


def start(
    journal: Journal, name: str, argv: Sequence[str | Path], *, place: Place | None = None,
    env: Mapping[str, str] | None = None, inputs: Sequence[str] = (), ready: Ready | None = None,
) -> Process:  # fmt: skip
    """Start a process that outlives us, in a cgroup of its own; anything left of an earlier one is killed first.

    `inputs` are the texts of files that the command line names (see `is_current`). With `ready`, returns when the
    process has said that it is, and raises `LabError` if it ends before.
    """
    group = cgroup_of(journal, name)
    cgroups.make(group)
    cgroups.kill(group)
    log = log_file(journal.folder, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [*(place or Place()).enter(), *map(str, argv)]
    entrances = " ".join(map(str, cgroups.entrances(group)))
    environment = clean_environment({**(env or {}), **(ready.environment if ready else {})})
    launched = subprocess.run(
        ["/bin/sh", "-c", _LAUNCH, "launch", entrances, str(log), *words], env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    if launched.returncode:
        raise LabError(f"{name} cannot be started: {launched.stderr.strip()}")
    pid = int(launched.stdout)
    process = Process(name=name, pid=pid, born=born(pid) or 0, made_of=made_of(argv, inputs))
    journal.started(process)
    if ready:
        ready.wait(process, log=log)
    return process


def log_file(folder: Path, name: str) -> Path:
    """Where the output of a process goes."""
    return folder / "logs" / f"{name}.log"


class Ready:
    """A socket of systemd's notification protocol: containerd says `READY=1` there, and so do our own programs."""

    def __init__(self, folder: Path, name: str, *, seconds: float = 60.0) -> None:
        self._path = folder / "run" / f"{name}.ready"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.bind(str(self._path))
        self._seconds = seconds

    @property
    def environment(self) -> dict[str, str]:
        """What the process must find in its environment."""
        return {"NOTIFY_SOCKET": str(self._path)}

    def wait(self, process: Process, *, log: Path) -> None:
        """Return at `READY=1`; `LabError` with the end of its log if the process ends first or takes too long."""
        ends = time.monotonic() + self._seconds
        try:
            handle = os.pidfd_open(process.pid)
        except ProcessLookupError:
            handle = -1
        try:
            while (left := ends - time.monotonic()) > 0:
                waiting = [self._socket.fileno(), *([handle] if handle >= 0 else [])]
                events, _, _ = select.select(waiting, [], [], left)
                if self._socket.fileno() in events:
                    if b"READY=1" in self._socket.recv(4096).split(b"\n"):
                        return
                elif handle in events or handle < 0:
                    raise LabError(f"{process.name} ended at once:\n{tail(log)}")
            raise LabError(f"{process.name} is not ready after {self._seconds:.0f} s:\n{tail(log)}")
        finally:
            if handle >= 0:
                os.close(handle)
            self._socket.close()
            self._path.unlink(missing_ok=True)


def stop(journal: Journal, name: str, *, seconds: float = 10.0) -> None:
    """SIGTERM, and after `seconds` SIGKILL; then SIGKILL for whatever it left behind in its cgroup."""
    process = journal.process(name)
    if process is not None and is_running(journal, name):
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(process.pid)
            try:
                signal.pidfd_send_signal(handle, signal.SIGTERM)
                select.select([handle], [], [], seconds)
            finally:
                os.close(handle)
    cgroups.kill(cgroup_of(journal, name))
    cgroups.remove(cgroup_of(journal, name))
    journal.forget_processes(name)


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return f"(no log {log})"


def call(
    argv: Sequence[str | Path], *, place: Place | None = None, input: str | None = None, seconds: float = 120.0
) -> str:
    """Run a command to its end and return what it printed; `LabError` with its complaint if it fails."""
    words = [*(place or Place()).enter(), *map(str, argv)]
    if place and place.cgroup:
        words = ["/bin/sh", "-c", _JOIN, "join", " ".join(map(str, cgroups.entrances(place.cgroup))), *words]
    try:
        done = subprocess.run(words, env=clean_environment(), input=input, capture_output=True, text=True, check=False,
                              timeout=seconds, cwd="/")  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(map(str, argv))}: no end after {seconds:.0f} s") from error
    if done.returncode:
        raise LabError(f"{' '.join(map(str, argv))}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
