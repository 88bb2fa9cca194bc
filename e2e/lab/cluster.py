"""The management cluster: bringing it up, saying how it is, taking it away.

`up` is a list of steps, each of which looks before it acts, so a second `up` repairs what a killed run, or somebody's
`kill`, left behind, and does nothing to what stands. Whatever it makes is in the journal first (see `state`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2e.lab import archive, cgroups, client, components, machine, manifests, netns, pki, processes, state
from e2e.lab.network import Addresses, LabError, addresses, check_name, choose_block
from e2e.lab.processes import Place, call
from e2e.lab.programs import Programs, programs
from e2e.lab.state import Journal, State, Thing, boot_id
from k0s_images import cache
from k0s_images.cache import say

if TYPE_CHECKING:
    from e2e.lab.edge import Edge


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A running management cluster."""

    name: str
    folder: Path
    kubeconfig: Path
    """Administrator of the cluster."""
    addresses: Addresses
    programs: Programs

    @property
    def node_address(self) -> IPv4Address:
        """Where the API server (6443) and node ports answer."""
        return self.addresses.node

    @property
    def node_name(self) -> str:
        """The only node's name."""
        return node_name(self.name)

    @property
    def audit_log(self) -> Path:
        """One JSON object for each request that the API server answered (level Metadata)."""
        return self.folder / "logs" / "audit.log"

    @property
    def logs(self) -> Path:
        """One file for each of the lab's processes."""
        return self.folder / "logs"

    @property
    def node(self) -> Place:
        """The node's network and mounts, for `processes.call`."""
        return _node_place(Journal(self.folder, _require(self.folder)))

    def client(self) -> client.Client:
        """A small API client with the administrator's rights."""
        return client.from_kubeconfig(self.kubeconfig)

    def kubectl(self, *arguments: str, input: str | None = None, seconds: float = 60.0) -> str:
        """What `kubectl` prints; `LabError` with its complaint if it fails."""
        argv: list[str | Path] = [self.programs.kubernetes / "kubectl", f"--kubeconfig={self.kubeconfig}", *arguments]
        return call(argv, input=input, seconds=seconds)

    def load_images(self, archives: Mapping[str, Path]) -> list[str]:
        """Make docker archives' images known to the node, under the given names; returns those that were new."""
        return load_images(self, archives)

    def tag_image(self, name: str, other: str) -> None:
        """Give an image that the node has another name as well."""
        socket = self.folder / "run" / "containerd.sock"
        ctr = (self.programs.ctr, "--address", socket, "--namespace", "k8s.io")
        call([*ctr, "images", "tag", "--force", name, other], place=self.node)

    def edge(self, name: str) -> Edge:
        """An edge machine of this name, made if need be."""
        from e2e.lab.edge import add  # a lab without edge machines needs none of it

        return add(self, name)


def folder_of(name: str) -> Path:
    """Where a lab keeps everything: in the cache folder, outside the checkout."""
    return cache.root() / f"lab-{check_name(name)}"


def node_name(lab: str) -> str:
    """The name under which the node registers."""
    return f"lab-{lab}"


def up(name: str = "demo") -> Lab:
    """Bring the lab up, or repair it; returns when its node is Ready. `LabError` says what stood in the way."""
    os.environ.pop("KUBECONFIG", None)
    folder = folder_of(name)
    begun = time.monotonic()
    with state.locked(folder):
        built = programs()
        journal = _open(name, folder)
        lab = _describe(journal, built)
        pki.create(folder / "pki", addresses=lab.addresses, node=lab.node_name)
        _ground(journal, lab)
        components.start_storage_and_api(journal, lab)
        components.ensure_node_machine(journal, lab)
        _load_pause(lab)
        admin = lab.client()
        client.wait_until_ready(admin, seconds=120, going=lambda: processes.require(journal, "etcd", "kube-apiserver"))
        say(f"lab {name}: API server ready after {time.monotonic() - begun:.1f} s")
        components.start_controllers(journal, lab)
        components.start_node(journal, lab)
        for path, manifest in (*manifests.dns(lab.addresses.dns, lab.addresses.node), *manifests.cloud()):
            admin.apply(path, manifest)
        components.start_services(journal, lab)
        client.wait_for(admin, "/api/v1/nodes", name=lab.node_name, until=_is_ready, seconds=120,
                        what=f"the node is not Ready (see {folder}/logs/kubelet.log)")  # fmt: skip
        accounts = "/api/v1/namespaces/default/serviceaccounts"
        client.wait_for(admin, accounts, name="default", until=lambda _: True, seconds=60, what="no default account")
        processes.require(journal, *components.ALL)
        say(f"lab {name}: node ready after {time.monotonic() - begun:.1f} s")
    return lab


def _is_ready(node: Mapping[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _open(name: str, folder: Path) -> Journal:
    """The lab's journal; a new one, with addresses that nobody uses, if there is no lab of this name."""
    known = state.read(folder)
    if known is not None:
        journal = Journal(folder, known)
        if known.boot != boot_id():
            # Nothing of the kernel's outlived the machine's restart; the files did, and the cluster goes on from them.
            journal.save(replace(known, boot=boot_id(), things=(), processes=(), edges=()))
            shutil.rmtree(folder / "run", ignore_errors=True)
        return journal
    with _choosing():
        others = [each.block for other in cache.root().glob("lab-*") if (each := state.read(other))]
        block = choose_block(name, [*netns.routes_in_use(), *map(IPv4Network, others)])
        fresh = State(name=name, block=str(block), boot=boot_id())
        folder.mkdir(mode=0o755, exist_ok=True)
        _empty(folder)  # what a `down` that was killed in its last moment left
        journal = Journal(folder, fresh)
        journal.save(fresh)
    return journal


@contextlib.contextmanager
def _choosing() -> Iterator[None]:
    """One lab at a time picks its addresses."""
    with open(cache.root() / ".labs.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _describe(journal: Journal, built: Programs) -> Lab:
    return Lab(
        name=journal.state.name, folder=journal.folder, kubeconfig=journal.folder / "kubeconfig",
        addresses=addresses(IPv4Network(journal.state.block)), programs=built,
    )  # fmt: skip


def _ground(journal: Journal, lab: Lab) -> None:
    """cgroups, the node's network namespace and its link; and the folders that processes write to."""
    for each in ("run", "logs", "volumes"):
        (lab.folder / each).mkdir(exist_ok=True)
    lab.kubeconfig.unlink(missing_ok=True)
    lab.kubeconfig.symlink_to(Path("pki") / "admin.kubeconfig")
    journal.expect(Thing(kind="cgroup", name=processes.root_cgroup(lab.name)))
    cgroups.make(processes.root_cgroup(lab.name))
    fresh = netns.ensure_namespace(journal, "node")
    if fresh:
        # What runs in a namespace that lost its name can neither be reached nor repaired.
        cgroups.kill(processes.root_cgroup(lab.name))
    netns.ensure_machine_link(journal, lab.addresses, fresh=fresh)


def _load_pause(lab: Lab) -> None:
    out = lab.folder / "node" / "pause.tar"
    archive.docker_archive(out, machine.PAUSE_IMAGE, files={"/pause": lab.programs.pause}, command=["/pause"])
    load_images(lab, {machine.PAUSE_IMAGE: out})


def _node_place(journal: Journal) -> Place:
    holder = journal.process("node")
    if holder is None:
        raise LabError(f"the lab {journal.state.name!r} has no node yet: run `up`")
    return machine.place(journal, netns=str(netns.namespace_file(journal.folder, "node")), holder=holder)


def load_images(lab: Lab, archives: Mapping[str, Path]) -> list[str]:
    """Import docker archives into the node's containerd; an image that is there already, by digest, is left alone."""
    record = lab.folder / "node" / "images.json"
    loaded: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
    socket = lab.folder / "run" / "containerd.sock"
    ctr = [str(lab.programs.ctr), "--address", str(socket), "--namespace", "k8s.io", "images"]
    where = lab.node
    present = set(call([*ctr, "list", "--quiet"], place=where).split())
    new = []
    for name, path in archives.items():
        digest, tags = archive_identity(path)
        if name not in tags:
            raise LabError(f"{path} holds {', '.join(tags) or 'no named image'}, not {name}")
        if name in present and loaded.get(name) == digest:
            continue
        begun = time.monotonic()
        call([*ctr, "import", "--local", path], place=where, seconds=600)
        state.write_durably(record, json.dumps(loaded := {**loaded, name: digest}))
        say(f"lab {lab.name}: image {name} loaded in {time.monotonic() - begun:.1f} s")
        new.append(name)
    return new


def archive_identity(path: Path) -> tuple[str, list[str]]:
    """The digest and the names of the image in a docker archive."""
    with tarfile.open(path) as tar:
        file = tar.extractfile("manifest.json")
        if file is None:
            raise LabError(f"{path} is not a docker archive")
        image = json.load(file)[0]
    return Path(image["Config"]).name.removesuffix(".json"), list(image.get("RepoTags") or [])


def down(name: str = "demo") -> None:
    """Remove everything the lab made: processes, mounts, cgroups, links, namespaces and files. Repeatable."""
    os.environ.pop("KUBECONFIG", None)
    folder = folder_of(name)
    if not folder.exists():
        say(f"lab {name}: there is none")
        return
    begun = time.monotonic()
    with state.locked(folder):
        known = state.read(folder)
        ended = _remove_things(Journal(folder, known)) if known else 0
        _empty(folder, but="state.json")
        (folder / "state.json").unlink(missing_ok=True)
        folder.rmdir()
    say(f"lab {name}: gone in {time.monotonic() - begun:.1f} s ({ended} processes ended)")


def _empty(folder: Path, *, but: str = "") -> None:
    for each in folder.iterdir():
        if each.name != but:
            shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()


def _remove_things(journal: Journal) -> int:
    """Processes first: mounts and interfaces are theirs and go with the last of them."""
    if journal.state.boot != boot_id():
        return 0
    things = sorted(journal.state.things, key=lambda thing: ("cgroup", "netns", "link").index(thing.kind))
    ended = 0
    for thing in things:
        if thing.kind == "cgroup":
            ended += cgroups.kill(thing.name)
            cgroups.remove(thing.name)
        elif thing.kind == "netns":
            netns.remove_namespace(journal.folder, thing.name)
        elif netns.link_exists(thing.name):
            # The kernel takes a namespace's interfaces away a moment after its last process: it may be quicker than us.
            with contextlib.suppress(LabError):
                call(["ip", "link", "delete", thing.name])
            if netns.link_exists(thing.name):
                raise LabError(f"the interface {thing.name} cannot be removed")
    return ended


def _require(folder: Path) -> State:
    known = state.read(folder)
    if known is None:
        raise LabError(f"there is no lab in {folder}: run `up`")
    return known


def existing(name: str = "demo") -> Lab:
    """The lab that is up already, without touching it. `LabError` if there is none."""
    folder = folder_of(name)
    return _describe(Journal(folder, _require(folder)), programs())


def status(name: str = "demo") -> dict[str, Any]:
    """What there is of the lab: addresses, processes (id, or null for one that ended), edge machines; or nothing."""
    folder = folder_of(name)
    known = state.read(folder)
    if known is None:
        return {}
    journal = Journal(folder, known)
    plan = addresses(IPv4Network(known.block))
    running = {each.name: each.pid if processes.is_running(journal, each.name) else None for each in known.processes}
    return {
        "name": name, "folder": str(folder), "kubeconfig": str(folder / "kubeconfig"), "node": str(plan.node),
        "networks": {"balancers": str(plan.balancers), "pods": str(plan.pods), "services": str(plan.services)},
        "processes": running, "edges": {edge: str(netns.edge_address(plan, number)) for edge, number in known.edges},
    }  # fmt: skip
