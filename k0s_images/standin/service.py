"""`k0s install`, `k0s start`, `k0s stop`: k0s as a service of systemd.

The unit is k0s' own, byte by byte, with its faults: of what systemd takes for something else only spaces are escaped.
k0s knows other init systems as well; the stand-in does not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from k0s_images.standin import log
from k0s_images.standin.errors import Fatal

#: Where k0s itself looks for a running systemd.
_SYSTEMD = Path("/run/systemd/system")
_UNITS = Path("/etc/systemd/system")
_ROLES = ("controller", "worker")
#: What a k0s says of its components where only one of them is named.
_LEVELS = {
    "containerd": "info", "etcd": "info", "konnectivity-server": "1", "kube-apiserver": "1",
    "kube-controller-manager": "1", "kube-scheduler": "1", "kubelet": "1",
}  # fmt: skip


def unit(binary: Path, role: str, words: Sequence[str], environment: Mapping[str, str]) -> str:
    """The unit of a role that runs `binary` with these words."""
    start = " ".join(word.replace(" ", r"\x20") for word in (str(binary), role, *words))
    given = "".join(f'Environment="{name}={value}"\n' for name, value in environment.items())
    return f"""[Unit]
Description=k0s - Zero Friction Kubernetes
Documentation=https://docs.k0sproject.io
ConditionFileIsExecutable={binary}

After=network-online.target 
Wants=network-online.target 

[Service]
StartLimitInterval=5
StartLimitBurst=10
ExecStart={start}
{given}
RestartSec=10
Delegate=yes
KillMode=process
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
LimitNOFILE=999999
Restart=always

[Install]
WantedBy=multi-user.target
"""  # noqa: W291 - k0s writes these lines so


def arguments(values: Mapping[str, Any], given: frozenset[str]) -> list[str]:
    """The flags that were given, as they stand in a unit: by name, with lists joined and files found from anywhere."""
    return [f"--{name}={_text(name, values[name])}" for name in sorted(given)]


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        pairs = {**_LEVELS, **value} if name == "logging" else value
        return ",".join(f"{key}={each}" for key, each in sorted(pairs.items()))
    if isinstance(value, list):
        return ",".join(value)
    return os.path.abspath(value) if name in ("token-file", "config") and value != "-" else str(value)


def variables(given: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """What `--env NAME=value` and `--env NAME` come to."""
    pairs = (each.partition("=") for each in given)
    return {name: value if equals else environment.get(name, "") for name, equals, value in pairs}


def install(role: str, words: Sequence[str], *, environment: Mapping[str, str], force: bool, start_now: bool) -> None:
    """Write the unit and enable it. `Fatal` if there is one and it is not to be replaced."""
    _require_systemd()
    name = f"k0s{role}"
    file = _UNITS / f"{name}.service"
    if force:
        log.info(f"Uninstalling {name} service")
        if file.exists():
            _systemctl("disable", file.name)
            file.unlink()
            _systemctl("daemon-reload")
        log.info(f"Installing {name} service")
    elif file.exists():
        raise Fatal(f"failed to install {role} service: Init already exists: {file}")
    binary = Path(shutil.which(sys.argv[0]) or sys.argv[0]).absolute()
    file.write_text(unit(binary, role, words, environment))
    file.chmod(0o644)
    _systemctl("enable", file.name)
    _systemctl("daemon-reload")
    if start_now:
        start()


def start() -> None:
    """Start the service that is installed. `Fatal` if none is, or it runs."""
    name, active = _installed()
    if active:
        raise Fatal("already running")
    _systemctl("start", name)


def stop() -> None:
    """Stop the service that is installed. `Fatal` if none is, or it does not run."""
    name, active = _installed()
    if not active:
        raise Fatal("already stopped")
    _systemctl("stop", name)


def _installed() -> tuple[str, bool]:
    """The name of the unit, and whether it is active."""
    _require_systemd()
    for role in _ROLES:
        name = f"k0s{role}.service"
        if (_UNITS / name).exists():
            asked = subprocess.run(["systemctl", "is-active", name], capture_output=True, text=True, check=False)
            return name, asked.stdout.strip() in ("active", "activating")
    raise Fatal("k0s has not been installed as a service")


def _require_systemd() -> None:
    if not _SYSTEMD.is_dir():
        raise Fatal("the k0s stand-in can be installed as a service of systemd only, and systemd does not run here")


def _systemctl(*words: str) -> None:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Fatal(f'"systemctl {" ".join(words)}" failed: {done.stderr.strip()}')
