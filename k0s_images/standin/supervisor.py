"""Child processes that are kept running and stopped gracefully.

A child that ends is started again after five seconds. To stop means SIGTERM and patience, never SIGKILL: a store that
is killed may lose what it had acknowledged. A process left over from a k0s that was killed is recognised by its
command and by `_K0S_MANAGED=yes` in its environment, and ended before a new one starts.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from k0s_images.standin import log
from k0s_images.standin.layout import Layout, write

MARK = "_K0S_MANAGED"
_RESTART_AFTER = 5.0


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run: `uid` is the user that the child runs as; its group is always 0."""

    name: str
    argv: Sequence[str]
    uid: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Seconds after which a stop is worth a warning.
    stop_timeout: float = 5.0


def child_environment(name: str, base: Mapping[str, str], *, bin_dir: Path) -> dict[str, str]:
    """The environment of component `name`: variables `<NAME>_X` reach it as `X`, everything else unchanged.

    The prefix is the upper-cased name with its hyphens (`KUBE-APISERVER_GOMEMLIMIT`). etcd reads `ETCD_*` itself.
    """
    prefix = name.upper() + "_"
    result, own = {}, {}
    for key, value in base.items():
        if key.startswith(prefix) and name != "etcd":
            own[key.removeprefix(prefix)] = value
        else:
            result[key] = value
    result |= own
    result["PATH"] = (
        f"{bin_dir}{os.pathsep}{base.get('PATH', '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin')}"
    )
    result[MARK] = "yes"
    return result


class Child:
    """One supervised process."""

    def __init__(self, program: Program, layout: Layout) -> None:
        self._program, self._layout = program, layout
        self._stopping = threading.Event()
        self._first = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"supervise {program.name}", daemon=True)
        self._pid_file = layout.run / f"{program.name}.pid"

    @property
    def program(self) -> Program:
        return self._program

    def start(self) -> None:
        """Start and keep running; returns when the first process exists."""
        _end_leftover(self._pid_file, self._program)
        self._thread.start()
        self._first.wait()

    def _spawn(self) -> subprocess.Popen[bytes]:
        program = self._program
        environment = child_environment(program.name, os.environ, bin_dir=self._layout.bin) | dict(program.environment)
        switch = os.geteuid() == 0
        process = subprocess.Popen(
            list(program.argv), env=environment, cwd=self._layout.data, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0,
            user=program.uid if switch else None, group=0 if switch else None, extra_groups=[] if switch else None,
        )  # fmt: skip
        write(self._pid_file, f"{process.pid}\n", 0o644)
        threading.Thread(target=_relay, args=(process, program.name), name=f"log {program.name}", daemon=True).start()
        return process

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._guard:
                    if self._stopping.is_set():
                        break
                    self._process = process = self._spawn()
            except OSError as fault:
                log.error(f"failed to start: {fault}", component=self._program.name)
            else:
                log.info("started", component=self._program.name)
                self._first.set()
                code = process.wait()
                if not self._stopping.is_set():
                    log.warning(
                        f"ended with {code}, restarting in {_RESTART_AFTER:.0f} s", component=self._program.name
                    )
            self._first.set()
            self._stopping.wait(_RESTART_AFTER)
        self._pid_file.unlink(missing_ok=True)

    def alive(self) -> bool:
        """Whether a process of this child runs now."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """SIGTERM, then wait as long as it takes; a line is logged when the stop timeout has passed."""
        with self._guard:
            self._stopping.set()
            process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            begun = time.monotonic()
            try:
                process.wait(self._program.stop_timeout)
            except subprocess.TimeoutExpired:
                log.warning("still stopping", component=self._program.name)
                process.wait()
            log.info(f"stopped after {time.monotonic() - begun:.1f} s", component=self._program.name)
        if self._thread.is_alive():
            self._thread.join()


def _relay(process: subprocess.Popen[bytes], name: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        log.info(line.rstrip(b"\n").decode(errors="replace"), component=name)


def _end_leftover(pid_file: Path, program: Program) -> None:
    try:
        pid = int(pid_file.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
        managed = f"{MARK}=yes".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return
    if not managed or Path(command).name != Path(program.argv[0]).name:
        return
    log.warning(f"ending process {pid}, left over from an earlier k0s", component=program.name)
    try:
        waiting = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(waiting, signal.SIGTERM)
        _wait_for_end(waiting)
    finally:
        os.close(waiting)


def _wait_for_end(pidfd: int) -> None:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.poll()
