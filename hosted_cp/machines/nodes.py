"""The Node of a Machine: found by its label, given the id by which Cluster API knows whose it is.

Core finds a Machine's Node by `spec.providerID`. Where no cloud controller writes it we do, as k0smotron does. The
tenant is asked by a probe that waits for the Node (a watch: waiting costs nothing), and only while it has to be known:
from when the Machine has its id until it has its Node.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from hosted_cp.machines.view import WorkerView
from hosted_cp.machines.worker import LABEL_VALUE, MACHINE_LABEL
from hosted_cp.pki.recipes import KUBECONFIG_KEY
from hosted_cp.planning.actions import Action, IdentifyNode, Probe, Ref

#: Seconds for which a Node is waited for before the question is asked again.
PATIENCE = 600.0


@dataclass(frozen=True, kw_only=True)
class Node:
    """As it was seen."""

    name: str
    uid: str
    provider_id: str


def _wanted(view: WorkerView) -> str:
    """The id that the Node is to have; "" where none is known, or nobody waits for it."""
    return "" if view.pool or view.joined or view.leaving else view.asks("providerID")


def probes(view: WorkerView) -> Iterator[Probe]:
    """Wait for the Node."""
    way, machine = view.way, view.machine
    if way is None or machine is None or not _wanted(view) or not (way.kubeconfig or view.reaches_tenants):
        return
    if not LABEL_VALUE.fullmatch(machine.ref.name):
        return
    arguments = [
        ("tenant", way.uid), ("authority", way.authority), ("server", way.server), ("serverName", way.server_name),
        ("label", MACHINE_LABEL), ("machine", machine.ref.name),
    ]  # fmt: skip
    if way.kubeconfig:
        arguments.append(("kubeconfig", KUBECONFIG_KEY))
    if view.failure and (found := node(view)) is not None:
        arguments.append(("again", found.uid))  # another question: what was found may be gone
    yield Probe(kind="node", key="node", arguments=tuple(arguments), deadline=PATIENCE)


def node(view: WorkerView) -> Node | None:
    """The Node, once the probe has seen it."""
    finding = view.finding("node")
    if finding is None or not finding.ok:
        return None
    said = orjson.loads(finding.message)
    return Node(name=said["name"], uid=said["uid"], provider_id=said["providerID"])


def identification(view: WorkerView) -> list[Action]:
    """Give the Node its id, where it has none."""
    found, wanted = node(view), _wanted(view)
    if found is None or found.provider_id or not wanted or view.way is None:
        return []
    ref = Ref(api_version="v1", kind="Node", namespace=None, name=found.name)
    return [IdentifyNode(ref=ref, uid=found.uid, provider_id=wanted)]


def notes(view: WorkerView) -> Iterator[str]:
    """Why Machine and Node may never meet."""
    machine, wanted = view.machine, view.asks("providerID")
    if machine is None or view.pool or view.joined:
        return
    if not LABEL_VALUE.fullmatch(machine.ref.name):
        yield (
            f"the name of Machine {machine.ref.name} cannot be the value of a label, so its Node must get the"
            " providerID from a cloud controller"
        )
    found = node(view)
    if found is not None and wanted and found.provider_id not in ("", wanted):
        yield (
            f"Node {found.name} has providerID {found.provider_id[:253]}, and Machine {machine.ref.name} has"
            f" {wanted[:253]}: they never meet; delete the Machine, or correct its infrastructure"
        )
