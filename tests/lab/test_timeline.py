"""Who was waited for, and what `clusterctl describe` leaves blank: the parts of the demo that need no lab."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from e2e.capi import timeline
from e2e.capi.hosted import blank_cells
from e2e.capi.timeline import CORE, INFRASTRUCTURE, KUBELET, US, Step, Timeline
from e2e.lab.network import LabError

DESCRIBED = """\
NAME                                           REPLICAS AVAILABLE STATUS REASON     SINCE MESSAGE
Cluster default/hosted                         2/2      2         True   Available  6s    * ControlPlaneAvailable: ok
├─K0smotronControlPlane default/hosted         1/1      1         True   Available  13s   the API server answers
├─LabCluster default/hosted                                       True   Ready      2m31s
└─Workers
  └─MachineDeployment default/hosted-workers   1/1      1         {status}
    └─Machine default/hosted-workers-a         1        1         True   Ready      2s    * NodeHealthy: Waiting for
    │                                                                                     exist
"""


def step(who: str, what: str) -> Step:
    return Step(who=who, what=what, path="/", done=lambda found: bool(found))


def test_the_time_between_two_steps_is_of_who_took_the_second() -> None:
    steps = [step(CORE, "owner"), step(US, "early"), step(US, "asked for"), step(INFRASTRUCTURE, "boots")]
    done = {"owner": 101.0, "early": 100.5, "asked for": 103.0, "boots": 110.0}
    taken = timeline.waited(steps, done, begun=100.0, ended=112.0)
    assert [(each.what, each.seconds) for each in taken] == [
        ("owner", 1.0), ("early", 0.0), ("asked for", 2.0), ("boots", 7.0), ("nodes are Ready", 2.0),
    ]  # fmt: skip
    assert timeline.shares(taken) == {CORE: 1.0, US: 2.0, INFRASTRUCTURE: 7.0, KUBELET: 2.0}
    assert "us 2.0 s" in timeline.table(taken)


@dataclass
class Told:
    """A server that tells these objects, and then falls silent; it breaks off in between, too."""

    objects: list[dict[str, Any]]
    asked: int = 0

    def watch(self, path: str, *, seconds: float) -> Iterator[dict[str, Any]]:
        self.asked += 1
        if self.asked == 1:
            raise ConnectionResetError("not yet")
        yield from ({"type": "ADDED", "object": each} for each in self.objects)


def _named(name: str) -> Step:
    return Step(who=US, what=name, path="/", done=lambda found: any(each["metadata"]["name"] == name for each in found))


def test_steps_are_seen_by_watches() -> None:
    server = Told([_body("one", metadata={"uid": "1"}), _body("two", metadata={"uid": "2"})])
    with Timeline(client=server, steps=[_named("one"), _named("two")]) as watched:
        watched.start()
        taken = watched.taken(nodes=time.monotonic())
    assert [each.what for each in taken] == ["one", "two", "nodes are Ready"]


def test_what_was_never_seen_was_not_measured() -> None:
    server = Told([_body("one", metadata={"uid": "1"})])
    steps = [_named("one"), _named("two")]
    with Timeline(client=server, steps=steps, late=1.0) as watched, pytest.raises(LabError, match="never seen: two"):
        watched.taken(nodes=time.monotonic())


def _body(name: str, **fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **fields.pop("metadata", {})}, **fields}


def test_a_step_is_done_when_it_shows_on_every_machine() -> None:
    known = {each.what: each for each in timeline.steps(cluster="a", control_plane="b", namespace="n", machines=2)}
    data = {"status": {"initialization": {"dataSecretCreated": True}}}
    assert not known["user data"].done([_body("1", **data), _body("2")])
    assert known["user data"].done([_body("1", **data), _body("2", **data)])
    owned = {"metadata": {"ownerReferences": [{"kind": "Machine"}]}}
    early = {"metadata": {"ownerReferences": [{"kind": "MachineSet"}]}}
    configs = known["Machines and their K0sWorkerConfigs"]
    assert not configs.done([_body("1", **owned), _body("2", **early)])
    assert configs.done([_body("1", **owned), _body("2", **owned)])
    ready = known["a controller is ready"]
    assert not ready.done([_body("kmc-a"), _body("kmc-a-etcd", status={"readyReplicas": 1})])
    assert ready.done([_body("kmc-a", status={"readyReplicas": 1})])


@pytest.mark.parametrize(("status", "blank"), [("True   Available  1s", 0), ("              1s", 1), ("", 1)])
def test_what_says_nothing_of_itself_is_found(status: str, blank: int) -> None:
    found = blank_cells(DESCRIBED.replace("{status}", status))
    assert len(found) == blank
    assert all("MachineDeployment" in each for each in found)
