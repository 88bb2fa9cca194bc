"""The management cluster: bringing it up, saying how it is, taking it away.

`up` is a list of steps, each of which looks before it acts, so a second `up` repairs what a killed run, or somebody's
`kill`, left behind, and does nothing to what stands. Whatever it makes is in the journal first (see `state`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from e2e.lab import archive, cgroups, client, components, machine, manifests, netns, pki, processes, state
from e2e.lab.handle import Lab, describe, folder_of, require
from e2e.lab.network import LabError, addresses, choose_block
from e2e.lab.processes import call
from e2e.lab.programs import programs
from e2e.lab.state import Journal, State, Thing, boot_id
from k0s_images import cache
from k0s_images.cache import say


def up(name: str = "demo") -> Lab:
    """Bring the lab up, or repair it; returns when its node is Ready. `LabError` says what stood in the way."""
    os.environ.pop("KUBECONFIG", None)
    folder = folder_of(name)
    begun = time.monotonic()
    with state.locked(folder):
        built = programs()
        journal = _open(name, folder)
        lab = describe(journal, built)
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
    lab.load_images({machine.PAUSE_IMAGE: out})


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


def existing(name: str = "demo") -> Lab:
    """The lab that is up already, without touching it. `LabError` if there is none."""
    folder = folder_of(name)
    return describe(Journal(folder, require(folder)), programs())


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
