"""Finding what a lab leaves on this machine, by looking at the machine and not at the lab's own records."""

from __future__ import annotations

import json
import os
from pathlib import Path

from e2e.lab import netns, processes
from e2e.lab.handle import folder_of
from e2e.lab.processes import call


def of(name: str) -> list[str]:
    """All that names the lab: cgroups, mounts, interfaces, routes, living processes, files. Empty if it is gone."""
    cgroup, folder, link = processes.root_cgroup(name), str(folder_of(name)), netns.machine_link(name)
    found = [f"cgroup {each}" for each in Path("/sys/fs/cgroup").glob(f"*/{cgroup}")]
    found += [f"cgroup {each}" for each in Path("/sys/fs/cgroup").glob(cgroup)]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line}" for line in mounts if f"{folder}/" in line]
    found += [f"link {each['ifname']}" for each in json.loads(call(["ip", "-json", "link"])) if each["ifname"] == link]
    routes = json.loads(call(["ip", "-json", "route", "show", "table", "all"]))
    found += [f"route {each['dst']}" for each in routes if each.get("dev") == link]
    found += [f"process {each}" for each in _living(cgroup, folder)]
    if Path(folder).exists():
        found.append(f"folder {folder}")
    return found


def _living(cgroup: str, folder: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes()  # empty for what is dead and not yet reaped
            if not words:
                continue
            inside = f"/{cgroup}/" in (entry / "cgroup").read_text()
            # Mounts of the lab's folder are only in the mount namespaces of its machines.
            if inside or f"{folder}/".encode() in words or f"{folder}/" in (entry / "mountinfo").read_text():
                found.append(f"{entry.name} {words[:80]!r}")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
