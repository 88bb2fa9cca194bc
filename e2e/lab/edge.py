"""Edge machines: workers of tenants that stand somewhere else.

An edge machine has a network namespace with one link, over which it reaches what the management cluster publishes and
nothing more, and over which nobody reaches it; mounts of its own (/etc, /var, /run); and a cgroup root of its own. It
has no Kubernetes until `run_worker` starts `k0s worker` with a join token, as its owner would.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from e2e.lab import cgroups, machine, netns, processes, state
from e2e.lab.handle import Lab
from e2e.lab.network import LabError, check_name
from e2e.lab.processes import Place, call
from e2e.lab.programs import Programs, system_program
from e2e.lab.state import Journal, Process, Thing
from k0s_images.cache import say
from k0s_images.golang import components

#: Pods of edge machines. Each machine may use all of it: nobody routes to them, and what they send is masqueraded.
EDGE_PODS = IPv4Network("10.244.0.0/16")
#: Where k0s puts its tenants' Services unless told otherwise.
TENANT_SERVICES = IPv4Network("10.96.0.0/12")

#: Where the containerd of a k0s looks for settings of the machine's owner.
CONTAINERD_DROP_IN = "/etc/k0s/containerd.d/lab.toml"
CNI_SETTINGS = "/etc/cni/net.d/10-lab.conflist"

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST = 200

#: As on the management cluster's node: a machine whose disk is nearly full is no reason to evict test pods.
EVICTION = "--eviction-hard=memory.available<100Mi,nodefs.available<1%,imagefs.available<1%"

#: In the folder of a machine that boots: how it does.
BOOTS = "boot.sh"


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A machine at the edge. `name` is also the name of its node, once it has joined."""

    name: str
    folder: Path
    """Its files; `k0s` in it is its /var/lib/k0s."""
    address: IPv4Address
    place: Place
    """Its network and mounts, for `processes.call`."""
    cgroup: str
    lab_folder: Path
    programs: Programs

    @property
    def worker_log(self) -> Path:
        """What `k0s worker` prints."""
        return processes.log_file(self.lab_folder, _worker(self.name))

    def call(self, *argv: str | Path, input: str | None = None, seconds: float = 60.0) -> str:
        """Run a command on this machine; `LabError` if it fails."""
        return call(argv, place=self.place, input=input, seconds=seconds)

    def path(self, inside: str) -> Path:
        """A path of this machine's, as it is seen from outside. Good as long as the machine is there."""
        if self.place.mounts is None:
            raise LabError(f"the edge machine {self.name} has no mounts of its own")
        return Path(f"/proc/{self.place.mounts.pid}/root") / inside.lstrip("/")

    def add_images(self, archives: Mapping[str, Path]) -> None:
        """Docker archives for this machine's containerd: k0s imports the folder's files when it starts.

        A containerd that runs already is given them at once.
        """
        images = self.folder / "k0s" / "images"
        images.mkdir(parents=True, exist_ok=True)
        for name, archive in archives.items():
            target = images / (name.replace("/", "_").replace(":", "_") + ".tar")
            draft = target.with_suffix(".new")
            shutil.copyfile(archive, draft)
            draft.rename(target)
            if self.path("/run/k0s/containerd.sock").is_socket():
                self.call(self.programs.ctr, "--address", "/run/k0s/containerd.sock", "--namespace", "k8s.io", "images",
                          "import", "--local", target, seconds=300)  # fmt: skip

    def run_worker(self, k0s: Path, token_file: Path, *, minor: str = "1.36", arguments: Sequence[str] = ()) -> Process:
        """Start `k0s worker` with a join token; returns at once (that the node is Ready is seen in the tenant).

        `minor` chooses the kubelet that a k0s without binaries of its own finds on its PATH. A running worker is ended.
        """
        self.stop()
        tools = lay_tools(self.folder, self.programs, minor=minor)
        drop_in = self.path(CONTAINERD_DROP_IN)
        drop_in.parent.mkdir(parents=True, exist_ok=True)
        drop_in.write_text(containerd_settings(minor))
        token = self.folder / "token"
        token.unlink(missing_ok=True)
        with open(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token_file.read_text())
        extra = (
            f"--hostname-override={self.name} --node-ip={self.address} --kubelet-cgroups= --oom-score-adj=0"
            f" {EVICTION}"
            f" --cgroup-root=/{machine.make_cgroup_root(self.cgroup)}"
        )
        with state.locked(self.lab_folder, wait=True):
            return processes.start(
                journal_of(self.lab_folder), _worker(self.name),
                [k0s, "worker", f"--token-file={token}", "--ignore-pre-flight-checks", f"--kubelet-extra-args={extra}",
                 *arguments],
                place=self.place, env={"PATH": f"{tools}:{_SYSTEM_PATH}"},
            )  # fmt: skip

    def stop(self) -> None:
        """End the worker and all its pods, as when the machine is switched off. Its disk stays."""
        with state.locked(self.lab_folder, wait=True):
            stop(journal_of(self.lab_folder), self.name, self.cgroup)


def lay_tools(folder: Path, programs: Programs, *, minor: str) -> Path:
    """A folder with the programs that a k0s without any of its own looks for on its PATH."""
    tools = folder / "bin"
    shutil.rmtree(tools, ignore_errors=True)
    tools.mkdir(parents=True)
    for each in (programs.containerd, programs.shim, programs.ctr, components(minor) / "kubelet"):
        (tools / each.name).symlink_to(each)
    # Before 1.36 k0s wants containerd 1, whose first shim no runtime of ours names, and writes its configuration.
    (tools / "containerd-shim").symlink_to(programs.shim)
    return tools


def containerd_settings(minor: str) -> str:
    """The drop-in for the containerd of a k0s: its configuration must not be of a later version than k0s' own."""
    runc, networks = system_program("runc", package="runc"), "/etc/cni/net.d"
    if tuple(map(int, minor.split("."))) < (1, 36):
        return machine.toml({"version": 2, "plugins": machine.cri_settings_1(conf_dir=networks, runc=runc)}) + "\n"
    return machine.toml({"version": 3, "plugins": machine.cri_settings(conf_dir=networks, runc=runc)}) + "\n"


def network_settings() -> str:
    """What the pods of an edge machine have for a network."""
    return machine.cni_config(pods=EDGE_PODS, masquerade=True)


def _worker(name: str) -> str:
    return f"edge-{name}-k0s"


def journal_of(folder: Path) -> Journal:
    """The journal of the lab in this folder. `LabError` if there is none."""
    known = state.read(folder)
    if known is None:
        raise LabError(f"there is no lab in {folder}: run `up`")
    return Journal(folder, known)


def stop(journal: Journal, name: str, cgroup: str) -> None:
    """End whatever runs on an edge machine; the lab's lock is held by the caller."""
    processes.stop(journal, _worker(name))
    cgroups.kill(cgroup)


def add(lab: Lab, name: str, *, services: IPv4Network = TENANT_SERVICES) -> Edge:
    """The edge machine of this name, made or repaired if need be. `services` is its tenant's service network."""
    check_name(name)
    with state.locked(lab.folder, wait=True):
        journal = journal_of(lab.folder)
        site = ground(journal, lab, name, services=services)
        if (site.folder / BOOTS).exists():
            raise LabError(f"the edge machine {name} boots by itself, as its user data says: see `boot`")
        script = _mount_script(lab, site.folder)
        if not machine.is_private(journal, site.holder, folder=site.folder, script=script):
            stop(journal, name, site.cgroup)
            _make_machine(journal, name=name, folder=site.folder, lab=lab, script=script)
            say(f"lab {lab.name}: edge machine {name} at {site.address}")
        edge = described(journal, lab, site)
    edge.add_images({machine.PAUSE_IMAGE: lab.folder / "node" / "pause.tar"})
    return edge


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where an edge machine is to be: its network and cgroup are there, the machine may not be."""

    name: str
    address: IPv4Address
    folder: Path
    holder: str
    """Name of the process that holds its namespaces."""
    cgroup: str


def ground(journal: Journal, lab: Lab, name: str, *, services: IPv4Network) -> Site:
    """The network of an edge machine, made or repaired if need be. The lab's lock is held by the caller."""
    number = dict(journal.state.edges).get(name)
    if number is None:
        number = _free_number(journal)
        journal.save(replace(journal.state, edges=(*journal.state.edges, (name, number))))
    site = Site(
        name=name, address=netns.edge_address(lab.addresses, number), folder=lab.folder / "edges" / name,
        holder=f"edge-{name}", cgroup=_cgroup(lab, name),
    )  # fmt: skip
    fresh = netns.ensure_namespace(journal, site.holder)
    if fresh:
        for each in (
            processes.cgroup_of(journal, site.holder),
            processes.cgroup_of(journal, _worker(name)),
            site.cgroup,
        ):
            cgroups.kill(each)
    netns.ensure_edge_link(lab.folder, lab.addresses, name=name, number=number, foreign=[services], fresh=fresh)
    return site


def described(journal: Journal, lab: Lab, site: Site, *, whole: bool = False) -> Edge:
    """The edge machine at a site, which has been started. `whole` if it has an init system of its own."""
    holder = journal.process(site.holder)
    if holder is None:
        raise LabError(f"the edge machine {site.name} has not started")
    network = str(netns.namespace_file(lab.folder, site.holder))
    place = replace(machine.place(journal, netns=network, holder=holder), whole=whole)
    return Edge(
        name=site.name, folder=site.folder, address=site.address, cgroup=site.cgroup, lab_folder=lab.folder,
        place=place, programs=lab.programs,
    )  # fmt: skip


def _cgroup(lab: Lab, name: str) -> str:
    return f"{processes.root_cgroup(lab.name)}/edge-{name}"


def _free_number(journal: Journal) -> int:
    taken = {number for _, number in journal.state.edges}
    free = next((number for number in range(1, _MOST + 1) if number not in taken), None)
    if free is None:
        raise LabError(f"there are {_MOST} edge machines already")
    return free


def _mount_script(lab: Lab, folder: Path) -> str:
    binds = {
        folder / "k0s": "/var/lib/k0s",
        folder / "kubelet": "/var/lib/kubelet",
        folder / "pod-logs": "/var/log/pods",
        folder / "container-logs": "/var/log/containers",
    }
    pause = lab.programs.pause
    return machine.mount_script(lab=lab.folder, folder=folder, covered=["/var", "/etc"], binds=binds, pause=pause)


def _make_machine(journal: Journal, *, name: str, folder: Path, lab: Lab, script: str) -> None:
    network = str(netns.namespace_file(lab.folder, f"edge-{name}"))
    place = machine.make_private(journal, f"edge-{name}", netns=network, folder=folder, script=script)
    files = {
        "/etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {name}\n",
        "/etc/hostname": f"{name}\n",
        CNI_SETTINGS: network_settings(),
    }
    root = Path(f"/proc/{place.mounts.pid}/root") if place.mounts else folder
    for path, content in files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)


def remove(lab: Lab, name: str) -> None:
    """Take an edge machine away with everything on it."""
    with state.locked(lab.folder, wait=True):
        journal = journal_of(lab.folder)
        if name not in dict(journal.state.edges):
            raise LabError(f"the lab {lab.name!r} has no edge machine {name!r}")
        holder_name, cgroup = f"edge-{name}", _cgroup(lab, name)
        stop(journal, name, cgroup)
        processes.stop(journal, holder_name)
        cgroups.remove(cgroup)
        netns.remove_edge_link(lab.folder, dict(journal.state.edges)[name])
        netns.remove_namespace(lab.folder, holder_name)
        journal.forget(Thing(kind="netns", name=holder_name))
        shutil.rmtree(lab.folder / "edges" / name, ignore_errors=True)
        left = tuple(each for each in journal.state.edges if each[0] != name)
        journal.save(replace(journal.state, edges=left))
    say(f"lab {lab.name}: edge machine {name} removed")
