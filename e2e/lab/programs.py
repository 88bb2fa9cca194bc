"""The programs the lab runs: built from the Go module registry, cached, or found on this machine.

containerd is built here because Debian's 1.6 is too old a CRI for today's kubelet; `runc`, the CNI plugins and iptables
come from Debian (`preflight` says which packages). Every build goes through the cache, so only the first `up` is slow.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from k0s_images.golang import components, go_program

_GO = Path(__file__).parent / "go"
_CONTAINERD = "github.com/containerd/containerd/v2"
_CONTAINERD_TAGS = ("no_btrfs", "no_devmapper", "no_zfs")

#: The version of the management cluster itself; tenants may run others.
MANAGEMENT_MINOR = "1.36"


class ProgramMissingError(RuntimeError):
    """A program of the operating system is not installed; the message names the package."""


@dataclass(frozen=True, kw_only=True)
class Programs:
    """Where each program is. `kubernetes` is a folder with kube-apiserver, kubelet, etcd, kubectl and the others."""

    kubernetes: Path
    containerd: Path
    shim: Path
    ctr: Path
    coredns: Path
    pause: Path


def programs() -> Programs:
    """All programs of the management cluster, building what is not in the cache yet (about 10 min the first time)."""
    return Programs(
        kubernetes=components(MANAGEMENT_MINOR),
        containerd=_containerd("containerd"),
        shim=_containerd("containerd-shim-runc-v2"),
        ctr=_containerd("ctr"),
        coredns=go_program("coredns", _GO / "coredns", usually="1 min"),
        pause=pause(),
    )


def pause() -> Path:
    """A static program that waits for SIGTERM."""
    return go_program("pause", _GO / "pause", usually="5 s")


def _containerd(program: str) -> Path:
    flags = f"-s -w -X {_CONTAINERD}/version.Version=2.3.3"
    return go_program(program, _GO / "containerd", package=f"{_CONTAINERD}/cmd/{program}", tags=_CONTAINERD_TAGS,
                      ldflags=flags, usually="1 to 2 min")  # fmt: skip


def system_program(name: str, *, package: str) -> Path:
    """A program of the operating system, looked for where administrators' programs are as well."""
    found = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        raise ProgramMissingError(f"{name} is not installed: apt-get install {package} (or: preflight --install)")
    return Path(found)
