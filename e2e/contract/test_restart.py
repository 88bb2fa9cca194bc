"""A restart without a data directory, as every restart of a pod with an `emptyDir` is, deletes no add-on of the tenant.

Why it could, and what is done about it: docs/decisions/0003-pruned-addons.md.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.contract.conftest import Start
from e2e.contract.k0s import Controller, Subject
from e2e.contract.machine import Machine
from e2e.contract.material import key_pem, new_key, pair, public_pem
from hosted_cp.hosting.scripts import CERTS_INIT
from hosted_cp.k0s.command import PENDING, disabled_components, pending_manifests

#: Outside the data directory, as a database or etcd is.
_STORE = "sqlite:///var/lib/store/state.db?_journal=WAL&_busy_timeout=30000"
_STACK = "k0s.k0sproject.io/stack"
_KINDS = (
    "deployments,daemonsets,services,configmaps,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,"
    "apiservices,customresourcedefinitions"
)
#: What others rely on of each add-on.
_ADD_ONS = {
    "coredns": "deployment/coredns service/kube-dns configmap/coredns",
    "kubeproxy": "daemonset/kube-proxy configmap/kube-proxy serviceaccount/kube-proxy",
    "metricserver": "deployment/metrics-server service/metrics-server",
    "kuberouter": "daemonset/kube-router configmap/kube-router-cfg",
    "calico": "daemonset/calico-node configmap/calico-config",
}
#: Seconds to look for a deletion once everything has been applied: the applier looks again every few seconds.
_LOOK_FOR = 12.0


@pytest.mark.parametrize(
    ("provider", "stacks"),
    [
        ("kuberouter", {"coredns", "kubeproxy", "metricserver", "kuberouter"}),
        pytest.param("calico", {"coredns", "kubeproxy", "metricserver", "calico"}, marks=pytest.mark.sweep),
    ],
)
def test_add_ons_outlive_a_restart_without_a_data_directory(
    provider: str, stacks: set[str], start: Start, subject: Subject
) -> None:
    """Each is deployed as a stack of its name, and by UID they are the same before and after the restart.

    The operator's init script has laid the placeholders.
    """
    if subject.stand_in and provider == "calico":
        pytest.skip("the stand-in does not deploy Calico")
    spec = {"storage": {"type": "kine", "kine": {"dataSource": _STORE}}, "network": {"provider": provider}}
    disabled = ",".join(disabled_components(k0s_config={"spec": spec}))
    pending = pending_manifests(k0s_config={"spec": spec})
    files = _authorities()
    # The machine is there once something runs on it; this k0s ends at once.
    machine = start(spec=spec, disable="nothing", files=files).machine
    _initialise(machine, pending)
    first = start(spec=spec, disable=disabled, on=machine)
    first.ready()
    first.wait_for(lambda: all(_deployed(first, stack) for stack in stacks), within=90, what="the add-ons")
    _await_written(first, pending)
    before = _settled(first)
    assert stacks <= {stack for stack, _ in before}
    first.process.stop()

    shutil.rmtree(first.data(""))
    _initialise(machine, pending)
    again = start(spec=spec, disable=disabled, on=machine)
    again.ready()
    _await_written(again, pending)
    _await_applier(again)
    for missing in _watched(again, before):
        assert missing == set(), "deleted, or made anew"


def test_an_unreadable_manifest_stops_its_stack_and_deletes_nothing(plain: Controller) -> None:
    """What the placeholders rely on: a stack is read as a whole, and an error leaves the tenant as it is."""
    folder = plain.data("manifests/unreadable")
    folder.mkdir(parents=True)
    manifest = _config_map("kept")
    (folder / "a.yaml").write_text(manifest)

    def uid() -> str:
        return str(plain.get("configmap", "kept")["metadata"]["uid"])

    plain.wait_for(uid, within=20, what="the stack")
    made = uid()
    # An empty stack of that name would be the end of the object; a second file that fits changes nothing of that.
    (folder / "b.yaml").write_text(_config_map("other"))
    _put(folder / "a.yaml", PENDING)
    _await_applier(plain)
    end = time.monotonic() + _LOOK_FOR
    while time.monotonic() < end:
        assert uid() == made
        time.sleep(0.5)
    _put(folder / "a.yaml", manifest)
    plain.wait_for(lambda: plain.get("configmap", "other"), within=40, what="the stack, when it can be read")
    assert uid() == made


def _deployed(controller: Controller, stack: str) -> bool:
    """Whether everything of an add-on is there, as a stack of its name."""
    found = [controller.get("-n", "kube-system", each) for each in _ADD_ONS[stack].split()]
    return all(each["metadata"]["labels"][_STACK] == stack for each in found)


def _authorities() -> dict[str, bytes]:
    """The Secrets that the operator mounts into the init container."""
    key = new_key()
    made = {"sa.key": key_pem(key), "sa.pub": public_pem(key)}
    for file, name in (("ca", "kubernetes-ca"), ("front-proxy-ca", "kubernetes-front-proxy-ca")):
        authority = pair(name)
        made |= {f"{file}.crt": authority.crt, f"{file}.key": authority.pem}
    return {f"/etc/k0s/authorities/{name}": content for name, content in made.items()}


def _initialise(machine: Machine, pending: tuple[str, ...]) -> None:
    """Run the operator's own init script, with the authorities where this machine has them."""
    script = CERTS_INIT.replace("from=/pki", "from=/etc/k0s/authorities")
    assert script != CERTS_INIT
    machine.run("sh", "-c", script, env={"PENDING": PENDING, "PENDING_MANIFESTS": " ".join(pending)})


def _objects(controller: Controller) -> dict[tuple[str, str], str]:
    """UID of everything that belongs to a stack: (stack, kind namespace/name) -> UID."""
    found: list[dict[str, Any]] = controller.get(_KINDS, "-A", "-l", _STACK)["items"]
    return {
        (
            each["metadata"]["labels"][_STACK],
            f"{each['kind']} {each['metadata'].get('namespace', '')}/{each['metadata']['name']}",
        ): each["metadata"]["uid"]
        for each in found
    }


def _await_written(controller: Controller, pending: tuple[str, ...]) -> None:
    """Wait until k0s has written every manifest over its placeholder."""

    def written() -> bool:
        folder = controller.data("manifests")
        return all((folder / each).read_text() != PENDING for each in pending)

    controller.wait_for(written, within=60, what="k0s' own manifests")


def _await_applier(controller: Controller) -> None:
    """Wait until a stack of our own is applied: then the applier leads and works."""
    _put(controller.data("manifests/marker/marker.yaml"), _config_map("marker"))
    controller.wait_for(lambda: controller.get("configmap", "marker"), within=40, what="the applier")


def _settled(controller: Controller) -> dict[tuple[str, str], str]:
    """The objects of all stacks, when there have been no new ones for a while."""
    _await_applier(controller)
    seen = _objects(controller)
    quiet = time.monotonic()
    while time.monotonic() - quiet < 6:
        time.sleep(0.5)
        now = _objects(controller)
        if now != seen:
            seen, quiet = now, time.monotonic()
    return seen


def _watched(controller: Controller, before: dict[tuple[str, str], str]) -> Iterator[set[tuple[str, str]]]:
    """What is missing of the objects from before, again and again for a while."""
    end = time.monotonic() + _LOOK_FOR
    while time.monotonic() < end:
        now = _objects(controller)
        yield {key for key, uid in before.items() if now.get(key) != uid}
        time.sleep(0.5)


def _config_map(name: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}})


def _put(file: Path, content: str) -> None:
    """Write a file at once, as k0s does: by renaming."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text(content)
    fresh.rename(file)
