"""LabMachines are edge machines that boot (`e2e.lab.boot`); and the process that gives them out.

`python -m e2e.capi.edges --lab NAME` watches a lab's LabMachines until SIGTERM; it is one of the lab's own processes.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.capi.infrastructure import Booted, Order, Provider
from e2e.lab import boot, cluster, edge, state
from e2e.lab.handle import Lab
from e2e.lab.network import short_id
from e2e.lab.programs import MANAGEMENT_MINOR
from k0s_images import images

_MINOR = re.compile(r"v?(1\.\d+)\.")


def edge_name(namespace: str, name: str) -> str:
    """The edge machine of a LabMachine: names of edge machines are short, and know no namespaces."""
    start = re.sub("[^a-z0-9-]", "-", name.lower())[:13].strip("-") or "machine"
    return f"{start}-{short_id(namespace, name)}"


def minor_of(version: str, known: Sequence[str]) -> str:
    """The minor of a Machine's version, if there are programs of it here; else that of the management cluster."""
    found = _MINOR.match(version)
    return found[1] if found and found[1] in known else MANAGEMENT_MINOR


class Edges:
    """A `Backend` of a lab. `archives` are images that a machine brings along, as its workers can pull none."""

    def __init__(self, lab: Lab, archives: Mapping[str, Path]) -> None:
        self._lab = lab
        self._archives = archives

    def boot(self, order: Order) -> Booted:
        """The edge machine of a LabMachine, when its user data has been run."""
        name = edge_name(order.namespace, order.name)
        if order.format != "cloud-config":
            return Booted(address="", fault=f"machines of the lab read cloud-config, not {order.format}")
        done = boot.boot(
            self._lab, name, order.user_data, hostname=order.name, images=self._archives,
            minor=minor_of(order.version, tuple(images.STAND_INS.values())),
            meta_data={"provider-id": order.provider_id},
        )  # fmt: skip
        return Booted(address=str(done.edge.address), fault=done.fault)

    def remove(self, namespace: str, name: str) -> None:
        """The machine is gone, with everything on it."""
        machine = edge_name(namespace, name)
        known = state.read(self._lab.folder)
        if known is not None and machine in dict(known.edges):
            edge.remove(self._lab, machine)


def main(arguments: list[str]) -> None:
    """The process itself."""
    parser = argparse.ArgumentParser(prog="python -m e2e.capi.edges", description=__doc__)
    parser.add_argument("--lab", required=True)
    lab = cluster.existing(parser.parse_args(arguments).lab)
    archives = images.archives(only=(images.TOOLBOX, images.konnectivity_agent_name(), images.PAUSE))
    ended = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: ended.set())
    with Provider(lab.client(), Edges(lab, archives)):
        if address := os.environ.get("NOTIFY_SOCKET"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.sendto(b"READY=1", address)
        ended.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
