"""What `k0s install worker`, `k0s start` and `k0s stop` do to a machine with systemd, as plain data.

systemd itself is played: what is looked at is the unit that k0s writes and what it asks `systemctl` to change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from e2e.contract.k0s import Subject
from e2e.contract.machine import Machine, machine

_UNIT = "/etc/systemd/system/k0sworker.service"
_PREPARE = """
set -e
mkdir -p /run/systemd/system /run/played
mount -t tmpfs units /etc/systemd/system
cat > /run/played/systemctl <<'END'
#!/bin/sh
for last; do :; done
case "$1" in
    is-active) [ -e "/run/played/$last" ] && echo active || { echo inactive; exit 3; } ;;
    list-unit-files) ls /etc/systemd/system | grep -x "$last" ;;
    start) touch "/run/played/$last" ;;
    stop) rm -f "/run/played/$last" ;;
esac
case "$1" in is-active | list-unit-files | --version) ;; *) echo "$*" >> /run/played/calls ;; esac
END
chmod +x /run/played/systemctl
"""

#: One after another on the same machine: name -> words after `k0s`.
STEPS: Mapping[str, Sequence[str]] = {
    "start before": ["start"],
    "stop before": ["stop"],
    "too much": ["install", "worker", "extra"],
    "plain": ["install", "worker", "--token-file", "/etc/k0s.token"],
    "again": ["install", "worker", "--token-file", "/etc/k0s.token"],
    "start": ["start"],
    "start again": ["start"],
    "stop": ["stop"],
    "stop again": ["stop"],
    "lists": [
        "install", "worker", "--force", "--token-file=/etc/k0s.token", "--taints=k=v:NoSchedule", "--labels=c=d",
        "--taints", "x=y:NoExecute", "--labels=a=b,e=f", "--kubelet-extra-args=--hostname-override=m1 --v=2",
    ],
    "no pre-flight": ["install", "worker", "--force", "--ignore-pre-flight-checks"],
    "levels": ["install", "worker", "--force", "-l", "kubelet=2", "--enable-cloud-provider=false", "--taints", ""],
    "defaults": ["install", "worker", "--force", "--data-dir=/var/lib/k0s", "--profile", "default"],
    "variables": ["install", "worker", "--force", "-e", "B=two words", "--env", "A=1,2", "-e", "LANG"],
    "unquoted": ["install", "worker", "--force", '--kubelet-extra-args=--a="x" $HOME %n \\x20'],
    "at once": ["install", "worker", "--force", "--start", "--token-file=/etc/k0s.token"],
}  # fmt: skip


def installation(subject: Subject, folder: Path) -> dict[str, Any]:
    """Walk through all steps; what each of them came to."""
    with machine("m1", folder / "m1", path=[]) as place:
        place.run("sh", "-c", _PREPARE)
        return {name: _step(subject, place, words) for name, words in STEPS.items()}


def _step(subject: Subject, place: Machine, words: Sequence[str]) -> dict[str, Any]:
    calls = place.path("/run/played/calls")
    calls.write_text("")
    path = f"/run/played:{place.environment['PATH']}"
    done = place.run(subject.binary, *words, check=False, env={"PATH": path})
    unit = place.path(_UNIT)
    found = {
        "code": done.returncode,
        # Log lines bear the time.
        "says": [line for line in done.stderr.splitlines() if not line.startswith("time=")],
        "changes": calls.read_text().splitlines(),
        "unit": unit.read_text().replace(str(subject.binary), "/usr/local/bin/k0s") if unit.exists() else "",
    }
    return {key: value for key, value in found.items() if value}
