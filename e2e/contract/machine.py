"""A place to run k0s in: a process with network, mounts and host name of its own, and the users that k0s' image has.

The machine is one `sleep` in new namespaces; commands enter it. When it ends, its namespaces, mounts and addresses are
gone with it. Nothing outside the given folder is written.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: Users as in the images; the numbers are arbitrary, but nobody's on this machine.
USERS = {"etcd": 951, "kube-apiserver": 952, "kube-scheduler": 953, "konnectivity-server": 954}
_PREPARE = """
set -e
mount --make-rprivate /
for place in run var/lib etc/k0s; do
  mkdir -p "$1/$place" "/$place"
  mount --bind "$1/$place" "/$place"
done
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/hosts" /etc/hosts
hostname "$2"
ip link set lo up
mount -t tmpfs tmpfs /mnt
shift 2
number=0
for folder; do
  mkdir "/mnt/$number"
  mount --bind "$folder" "/mnt/$number"
  number=$((number + 1))
done
exec sleep infinity
"""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine that is up."""

    name: str
    folder: Path
    address: str
    holder: int
    environment: Mapping[str, str]

    def path(self, inside: str) -> Path:
        """A path of the machine as seen from outside."""
        return Path(f"/proc/{self.holder}/root") / inside.lstrip("/")

    def enter(self, argv: Sequence[str | Path]) -> list[str]:
        """The command that runs another one inside."""
        return ["nsenter", f"--target={self.holder}", "--net", "--mount", "--uts", "--wdns=/", "--", *map(str, argv)]

    def run(self, *argv: str | Path, check: bool = True, seconds: float = 30.0, env: Mapping[str, str] | None = None,
            input: str | None = None) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run a command inside and wait for it."""
        return subprocess.run(
            self.enter(argv), env={**self.environment, **(env or {})}, capture_output=True, text=True, check=check,
            timeout=seconds, input=input, stdin=None if input is not None else subprocess.DEVNULL,
        )  # fmt: skip


@contextmanager
def machine(
    name: str,
    folder: Path,
    *,
    path: Sequence[Path],
    address: str = "10.99.0.2",
    link: Callable[[int], None] | None = None,
) -> Iterator[Machine]:
    """A machine with one address, which is its only public one; `path` are the folders of component binaries.

    They appear under /mnt, because components run as users who may not enter the folders they come from.
    Without `link`, its network is a pair of interfaces that ends in itself: what is sent elsewhere is lost.
    """
    folder.mkdir(parents=True)
    for place in ("run", "var/lib", "etc/k0s"):
        (folder / place).mkdir(parents=True)
    lines = [line for line in Path("/etc/passwd").read_text().splitlines() if line.split(":")[0] not in USERS]
    lines += [f"{user}:x:{uid}:{uid}::/nonexistent:/usr/sbin/nologin" for user, uid in USERS.items()]
    (folder / "passwd").write_text("\n".join(lines) + "\n")
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n{address} {name}\n")
    environment = {
        "PATH": os.pathsep.join(
            [
                *(f"/mnt/{number}" for number in range(len(path))),
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            ]
        ),
        "HOME": "/root",
        "LANG": "C.UTF-8",
    }
    holder = subprocess.Popen(
        ["unshare", "--net", "--mount", "--uts", "--", "sh", "-c", _PREPARE, "sh", str(folder), name,
         *map(str, path)],
        env=environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        # The shell becomes `sleep` when everything is prepared.
        _until(
            lambda: Path(f"/proc/{holder.pid}/comm").read_text() == "sleep\n",
            within=10,
            what="the machine's namespaces",
        )
        made = Machine(name=name, folder=folder, address=address, holder=holder.pid, environment=environment)
        if link is None:
            made.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "wire")
            made.run("ip", "link", "set", "wire", "up")
        else:
            link(holder.pid)
        made.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        made.run("ip", "link", "set", "eth0", "up")
        made.run("ip", "route", "add", "default", "dev", "eth0")
        yield made
    finally:
        holder.kill()
        holder.wait()


def _until(ready: Callable[[], bool], *, within: float, what: str) -> None:
    """Ask until it is so. Asking starts processes, on the machine that those who are asked need to get ready: so it
    takes half of the time at most."""
    end = time.monotonic() + within
    while True:
        asked = time.monotonic()
        if ready():
            return
        now = time.monotonic()
        if now > end:
            raise TimeoutError(f"{what}: not within {within:.0f} s")
        time.sleep(max(0.05, now - asked))


def until(ready: Callable[[], object], *, within: float, what: str) -> float:
    """Wait until a condition of the world outside holds; the seconds it took. An error inside means: not yet."""
    begun = time.monotonic()
    last: Exception | None = None

    def tried() -> bool:
        nonlocal last
        try:
            return bool(ready())
        except (OSError, LookupError, ValueError, subprocess.SubprocessError) as fault:
            last = fault
            return False

    try:
        _until(tried, within=within, what=what)
    except TimeoutError as fault:
        raise TimeoutError(f"{fault} (last: {last})") from last
    return time.monotonic() - begun


class Process:
    """A process inside a machine, with its output in a file."""

    def __init__(
        self, place: Machine, argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        with open(log, "ab") as output:
            self._process = subprocess.Popen(
                place.enter(argv), env={**place.environment, **(env or {})}, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """Its process id: `nsenter` becomes the command."""
        return self._process.pid

    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait(self, seconds: float) -> int:
        """The exit code; `subprocess.TimeoutExpired` if it does not end in time."""
        return self._process.wait(seconds)

    def stop(self, number: int = signal.SIGTERM, *, within: float = 60.0) -> tuple[int, float]:
        """Send a signal; the exit code and the seconds until it ended."""
        begun = time.monotonic()
        if self.running():
            self._process.send_signal(number)
        return self.wait(within), time.monotonic() - begun

    def children(self) -> dict[str, int]:
        """Its child processes: name of the program -> process id."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[1]) == self.pid and fields[0] != "Z":
                        program = (entry / "cmdline").read_bytes().split(b"\0")[0].decode()
                        found[Path(program).name] = int(entry.name)
                except OSError:
                    continue
        return found

    def end(self) -> None:
        """Kill it and every process that it has: none may outlive the test, and nobody waits for a graceful end.

        It is halted first, or it could start another child meanwhile.
        """
        if self.running():
            self._process.send_signal(signal.SIGSTOP)
        orphans = [*self.children().values()]
        self._process.kill()
        self._process.wait()
        for pid in orphans:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def arguments(pid: int) -> list[str]:
    """The command line of a process, without the program itself."""
    return [word.decode() for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:-1]]


def status(pid: int) -> dict[str, str]:
    """The fields of `/proc/<pid>/status`."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def remove(folder: Path) -> None:
    """Remove a machine's folder."""
    shutil.rmtree(folder, ignore_errors=True)
