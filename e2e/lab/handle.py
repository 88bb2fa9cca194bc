"""A lab as those hold it who work with it: where it is, its client, its node, and the images that the node knows.

`cluster` brings it up and takes it away; edge machines are added to it by `edge` and `boot`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from e2e.lab import archive, client, machine, netns, state
from e2e.lab.network import Addresses, LabError, addresses, check_name
from e2e.lab.processes import Place, call
from e2e.lab.programs import Programs
from e2e.lab.state import Journal, State
from k0s_images import cache
from k0s_images.cache import say


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
        journal = Journal(self.folder, require(self.folder))
        holder = journal.process("node")
        if holder is None:
            raise LabError(f"the lab {self.name!r} has no node yet: run `up`")
        return machine.place(journal, netns=str(netns.namespace_file(self.folder, "node")), holder=holder)

    def client(self) -> client.Client:
        """A small API client with the administrator's rights."""
        return client.from_kubeconfig(self.kubeconfig)

    def kubectl(self, *arguments: str, input: str | None = None, seconds: float = 60.0) -> str:
        """What `kubectl` prints; `LabError` with its complaint if it fails."""
        argv: list[str | Path] = [self.programs.kubernetes / "kubectl", f"--kubeconfig={self.kubeconfig}", *arguments]
        return call(argv, input=input, seconds=seconds)

    def load_images(self, archives: Mapping[str, Path]) -> list[str]:
        """Make docker archives' images known to the node, under the given names; returns those that were new.

        An image that is there already, by digest, is left alone.
        """
        record = self.folder / "node" / "images.json"
        loaded: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
        socket = self.folder / "run" / "containerd.sock"
        ctr = [str(self.programs.ctr), "--address", str(socket), "--namespace", "k8s.io", "images"]
        where = self.node
        present = set(call([*ctr, "list", "--quiet"], place=where).split())
        new = []
        for name, path in archives.items():
            digest, tags = archive.identity(path)
            if name not in tags:
                raise LabError(f"{path} holds {', '.join(tags) or 'no named image'}, not {name}")
            if name in present and loaded.get(name) == digest:
                continue
            begun = time.monotonic()
            call([*ctr, "import", "--local", path], place=where, seconds=600)
            state.write_durably(record, json.dumps(loaded := {**loaded, name: digest}))
            say(f"lab {self.name}: image {name} loaded in {time.monotonic() - begun:.1f} s")
            new.append(name)
        return new

    def tag_image(self, name: str, other: str) -> None:
        """Give an image that the node has another name as well."""
        socket = self.folder / "run" / "containerd.sock"
        ctr = (self.programs.ctr, "--address", socket, "--namespace", "k8s.io")
        call([*ctr, "images", "tag", "--force", name, other], place=self.node)


def folder_of(name: str) -> Path:
    """Where a lab keeps everything: in the cache folder, outside the checkout."""
    return cache.root() / f"lab-{check_name(name)}"


def node_name(lab: str) -> str:
    """The name under which the node registers."""
    return f"lab-{lab}"


def describe(journal: Journal, built: Programs) -> Lab:
    """The lab that a journal is of."""
    return Lab(
        name=journal.state.name, folder=journal.folder, kubeconfig=journal.folder / "kubeconfig",
        addresses=addresses(IPv4Network(journal.state.block)), programs=built,
    )  # fmt: skip


def require(folder: Path) -> State:
    """What is recorded of the lab in this folder; `LabError` if there is none."""
    known = state.read(folder)
    if known is None:
        raise LabError(f"there is no lab in {folder}: run `up`")
    return known
