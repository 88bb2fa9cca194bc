"""The operator as a process of its own, and what the kernel says about it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from e2e.lab.network import LabError
from e2e.operator import ROOT
from tests.component.apiserver import free_ports

_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE = 60.0


@dataclass(frozen=True, kw_only=True)
class OperatorProcess:
    """A running `hosted-cp run`."""

    process: subprocess.Popen[bytes]
    health: str
    metrics: str
    log: Path
    #: Seconds from the start of the process until it was ready, and until it led.
    ready_after: float
    leads_after: float

    def cpu(self) -> float:
        """CPU seconds of the process so far, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self, *, peak: bool = False) -> float:
        """Resident memory in MiB, now or at its highest."""
        wanted = "VmHWM:" if peak else "VmRSS:"
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(wanted):
                return int(line.split()[1]) / 1024
        raise LabError(f"the operator has no {wanted} it has ended:\n{tail(self.log)}")

    def reconciled(self) -> float:
        """How many keys have been worked on so far, in all controllers. Asking costs the operator CPU."""
        return _sum(_answer(f"http://{self.metrics}/metrics") or "", "hosted_cp_reconcile_seconds_count")

    def stop(self) -> float:
        """End it gracefully; seconds until it had ended. `LabError` if it ends with an error or not at all."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise LabError(f"the operator does not end:\n{tail(self.log)}") from None
        if code:
            raise LabError(f"the operator has ended with {code}:\n{tail(self.log)}")
        return time.monotonic() - begun

    def kill(self) -> None:
        """End it at once, if it still runs."""
        self.process.kill()
        self.process.wait()


def start(kubeconfig: Path, log: Path, *, profile: Path | None = None) -> OperatorProcess:
    """Start the operator and return when it leads. `LabError` with the end of its log if it does not.

    With `profile` it runs under cProfile, which makes it about twice as slow, and leaves the profile there.
    """
    health, metrics = (f"127.0.0.1:{port}" for port in free_ports(2))
    profiler = ["-m", "cProfile", "-o", str(profile)] if profile else []
    argv = [
        sys.executable, *profiler, "-m", "hosted_cp", "run", "--kubeconfig", str(kubeconfig),
        "--health-address", health, "--metrics-address", metrics, "--log-level", "warning",
    ]  # fmt: skip
    begun = time.monotonic()
    with log.open("ab") as out:
        process = subprocess.Popen(argv, env=environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        ready_after = _until(process, log, f"http://{health}/readyz", begun=begun)
        leads_after = _until(process, log, f"http://{metrics}/metrics", "hosted_cp_leader 1", begun=begun)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return OperatorProcess(
        process=process, health=health, metrics=metrics, log=log, ready_after=ready_after, leads_after=leads_after
    )


def environment() -> dict[str, str]:
    """What a process of ours is given of our environment."""
    return {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}


def _until(process: subprocess.Popen[bytes], log: Path, url: str, wanted: str = "", *, begun: float) -> float:
    """Ask until the answer is good, as a kubelet would, only more often; seconds since `begun`."""
    while time.monotonic() < begun + _PATIENCE:
        if process.poll() is not None:
            raise LabError(f"the operator has ended with {process.returncode}:\n{tail(log)}")
        answer = _answer(url)
        if answer is not None and wanted in answer:
            return time.monotonic() - begun
        time.sleep(0.02)
    raise LabError(f"the operator is not ready after {_PATIENCE:.0f} s:\n{tail(log)}")


def _answer(url: str) -> str | None:
    """What is answered with 200; None for anything else."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            text: str = answer.read().decode()
            return text
    except (urllib.error.URLError, OSError):
        return None


def _sum(metrics: str, name: str) -> float:
    lines = (line for line in metrics.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def tail(log: Path, *, lines: int = 20) -> str:
    """The end of a log file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
