"""Edge machines that boot: systemd starts, cloud-init runs the machine's user data, and nobody types a command there.

`edge.add` gives a machine on which its owner starts `k0s worker`; `boot` gives one as a provider of machines does, with
nothing but user data. It is recorded, repaired and removed like every other edge machine (`edge.remove`).
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from e2e.lab import cgroups, edge, machine, netns, processes, state, systemd
from e2e.lab.edge import TENANT_SERVICES, Edge, Site
from e2e.lab.handle import Lab
from e2e.lab.network import LabError, check_name
from e2e.lab.processes import Place, Ready
from e2e.lab.programs import MANAGEMENT_MINOR
from k0s_images import cache
from k0s_images.cache import say

_IMAGE = "image"
_CLOUD_INIT_LOG = "/var/log/cloud-init.log"
_OUTPUT_LOG = "/var/log/cloud-init-output.log"


@dataclass(frozen=True, kw_only=True)
class Booted:
    """A machine that has run its user data."""

    edge: Edge
    fault: str = ""
    """What went wrong with the user data, as cloud-init tells it; empty: nothing."""


def boot(
    lab: Lab, name: str, user_data: bytes, *, hostname: str = "", minor: str = MANAGEMENT_MINOR,
    images: Mapping[str, Path] | None = None, meta_data: Mapping[str, str] | None = None,
    services: IPv4Network = TENANT_SERVICES, seconds: float = 300.0,
) -> Booted:  # fmt: skip
    """The edge machine of this name, started if need be, when cloud-init is done there.

    A machine that runs keeps the user data that it was started with. `minor` chooses the programs of a k0s that has
    none of its own, `images` are docker archives that its containerd finds there. `LabError` if the machine does not
    come up within `seconds`; faults of its user data are not errors of ours (`Booted.fault`).
    """
    check_name(name)
    begun = time.monotonic()
    with state.locked(lab.folder, wait=True):
        journal = edge.journal_of(lab.folder)
        site = edge.ground(journal, lab, name, services=services)
        ready: Ready | None = None
        if not processes.is_running(journal, site.holder):
            edge.stop(journal, name, site.cgroup)
            _lay_images(site, {machine.PAUSE_IMAGE: lab.folder / "node" / "pause.tar", **(images or {})})
            _lay_image(lab, site, user_data, hostname=hostname or name, minor=minor, meta_data=meta_data or {})
            _lay_scripts(lab, site, hostname=hostname or name)
            ready = Ready(journal.folder, site.holder, seconds=seconds)
            place = Place(netns=str(netns.namespace_file(lab.folder, site.holder)))
            script = site.folder / edge.BOOTS
            processes.start(
                journal, site.holder, ["/bin/sh", script], place=place, env=ready.environment,
                inputs=[script.read_text()],
            )  # fmt: skip
        elif not (site.folder / edge.BOOTS).exists():
            raise LabError(f"there is an edge machine {name} already that does not boot by itself: remove it")
        booted = edge.described(journal, lab, site, whole=True)
    if ready is not None and booted.place.mounts is not None:
        # systemd says so when nothing is left to be started; cloud-init is part of that.
        ready.wait(booted.place.mounts, log=processes.log_file(lab.folder, site.holder))
        say(f"lab {lab.name}: edge machine {name} at {site.address} booted in {time.monotonic() - begun:.1f} s")
    else:
        booted.call("sh", "-c", "systemctl is-system-running --wait || :", seconds=seconds)
    return Booted(edge=booted, fault=fault(booted))


def fault(booted: Edge) -> str:
    """What cloud-init says went wrong on a machine; empty if nothing did."""
    result = booted.path(systemd.RESULT)
    try:
        errors = json.loads(result.read_text())["v1"]["errors"]
    except FileNotFoundError:
        return f"cloud-init has not run to its end:\n{_tail(booted)}"
    invalid = [line for line in _lines(booted, _CLOUD_INIT_LOG) if "Invalid cloud-config" in line]
    if errors or invalid:
        return "\n".join([*map(str, errors), *invalid, _tail(booted)])
    if not booted.path(systemd.SENTINEL).exists():
        return f"the user data has not written {systemd.SENTINEL}:\n{_tail(booted)}"
    return ""


def _tail(booted: Edge) -> str:
    return "\n".join(_lines(booted, _OUTPUT_LOG)[-10:])


def _lines(booted: Edge, log: str) -> list[str]:
    try:
        return booted.path(log).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _lay_images(site: Site, archives: Mapping[str, Path]) -> None:
    """What `Edge.add_images` does, before there is a machine."""
    folder = site.folder / "k0s" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    for name, archive in archives.items():
        shutil.copyfile(archive, folder / (name.replace("/", "_").replace(":", "_") + ".tar"))


def _lay_image(
    lab: Lab, site: Site, user_data: bytes, *, hostname: str, minor: str, meta_data: Mapping[str, str]
) -> None:
    """The machine's own files, in its folder."""
    tools = edge.lay_tools(site.folder, lab.programs, minor=minor)
    files = systemd.image(
        hostname=hostname, address=str(site.address), user_data=user_data, meta_data=meta_data,
        # The machine has one address and no way to the internet, by which a kubelet would find it; and may not lower
        # its score with the kernel's memory killer.
        kubelet=[f"--node-ip={site.address}", "--oom-score-adj=0", edge.EVICTION], tools=tools,
    )  # fmt: skip
    files[edge.CONTAINERD_DROP_IN] = edge.containerd_settings(minor).encode()
    files[edge.CNI_SETTINGS] = edge.network_settings().encode()
    image = site.folder / _IMAGE
    shutil.rmtree(image, ignore_errors=True)
    image.mkdir(mode=0o700)
    for path, content in files.items():
        target = image / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(systemd.MODES.get(path, 0o644))
    for path in systemd.masked():
        (image / path.lstrip("/")).symlink_to("/dev/null")


def _lay_scripts(lab: Lab, site: Site, *, hostname: str) -> None:
    """The scripts that start it, and the cgroup that is to be all that it sees of cgroups."""
    cgroups.make(site.cgroup)
    points, unified = cgroups.hierarchies()
    inner = systemd.inner_script(
        lab=lab.folder, folder=site.folder, kept=[cache.root(), Path(sys.base_prefix)], binds=_binds(site),
        hostname=hostname, covered=[each for each in systemd.WRITTEN if Path(each).is_dir()],
        hierarchies=None if unified else cgroups.mount_options(Path("/proc/self/cgroup").read_text()),
    )  # fmt: skip
    (site.folder / "inner.sh").write_text(inner)
    entrances = [point / site.cgroup / "cgroup.procs" for point in points]
    outer = systemd.outer_script(entrances=entrances, inner=site.folder / "inner.sh")
    (site.folder / edge.BOOTS).write_text(outer)


def _binds(site: Site) -> dict[Path, str]:
    """Folders of the disk: containers' file systems are overlays, which cannot lie on an overlay."""
    return {
        site.folder / "k0s": "/var/lib/k0s",
        site.folder / "kubelet": "/var/lib/kubelet",
        site.folder / "pod-logs": "/var/log/pods",
        site.folder / "container-logs": "/var/log/containers",
    }
