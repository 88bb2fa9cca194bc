"""A lab is repaired after a killed run, goes completely, and never touches what it did not make."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import lab_name
from e2e.lab import cluster, components, edge, netns, processes, state
from e2e.lab.handle import Lab, folder_of
from e2e.lab.network import LabError
from e2e.lab.processes import call
from e2e.lab.state import Journal, State
from e2e.lab.tests import traces

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NAME = lab_name("dies")
OTHER = lab_name("other")
STANDING = lab_name("stands")


@pytest.fixture
def clean() -> Iterator[None]:
    """There is no lab of the name when the test begins, nor afterwards."""
    cluster.down(NAME)
    assert traces.of(NAME) == []
    yield
    cluster.down(NAME)


@pytest.fixture(scope="module")
def standing() -> Iterator[Lab]:
    """A lab that is repaired over and over: after each repair it is as good as new, or the test has failed."""
    cluster.down(STANDING)
    yield cluster.up(STANDING)
    cluster.down(STANDING)
    assert traces.of(STANDING) == []


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the lab's catches it."""


def _die_at_save(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the lab's run end just before it writes down its state for the `number`th time."""
    left = iter(range(number - 1))
    save = Journal.save

    def dying(self: Journal, written: State) -> None:
        if next(left, None) is None:
            raise Killed
        save(self, written)

    monkeypatch.setattr(Journal, "save", dying)


def _up_dying_at(number: int) -> bool:
    """Whether the run got to its end before it could die."""
    with pytest.MonkeyPatch.context() as patch:
        _die_at_save(patch, number)
        try:
            cluster.up(NAME)
        except Killed:
            return False
    return True


def _assert_works(name: str) -> None:
    lab = cluster.existing(name)
    assert lab.client().call("GET", "/readyz") == "ok"
    for each in components.ALL:
        assert processes.is_running(Journal(lab.folder, _state(name)), each), each


def _state(name: str) -> State:
    known = state.read(folder_of(name))
    assert known is not None
    return known


def test_a_run_that_dies_before_each_record_is_finished_by_the_next(clean: None) -> None:
    # Each run makes good what the last one had done and not written down, gets two records further, and dies. (With one
    # it would get nowhere: the node and its containerd are only started together.)
    died = 0
    while not _up_dying_at(3):
        died += 1
        assert died < 20
    assert died >= 5
    _assert_works(NAME)
    cluster.down(NAME)
    assert traces.of(NAME) == []


def test_what_a_dead_run_left_is_removed_without_finishing_it(clean: None) -> None:
    for number in (1, 3, 5, 8, 11, 14):
        assert not _up_dying_at(number)
        cluster.down(NAME)
        assert traces.of(NAME) == [], number


def test_sigkill_in_the_middle(clean: None) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "e2e.lab", "--name", NAME, "up"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        text=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    assert process.stderr is not None
    assert any("API server ready" in line for line in process.stderr)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    cluster.up(NAME)
    _assert_works(NAME)


@pytest.mark.parametrize("victim", ["etcd", "kube-apiserver", "containerd", "node", "kubelet", "cloud"])
def test_a_component_that_was_killed_comes_back(standing: Lab, victim: str) -> None:
    before = {each.name: each.pid for each in _state(STANDING).processes}
    os.kill(before[victim], signal.SIGKILL)
    cluster.up(STANDING)
    _assert_works(STANDING)
    after = {each.name: each.pid for each in _state(STANDING).processes}
    assert after[victim] != before[victim]
    untouched = set(before) - {
        victim,
        *(("node", "containerd", "kubelet", "kube-proxy") if victim in ("node", "containerd") else ()),
    }
    assert {each: after[each] for each in untouched} == {each: before[each] for each in untouched}
    assert standing.node_name in standing.kubectl("get", "nodes")


def test_a_second_up_changes_nothing(standing: Lab) -> None:
    before = _state(standing.name)
    cluster.up(standing.name)
    assert _state(standing.name) == before


def test_two_labs_have_nothing_in_common_and_one_goes_without_the_other(standing: Lab) -> None:
    try:
        other = cluster.up(OTHER)
        assert not standing.addresses.block.overlaps(other.addresses.block)
        cluster.down(OTHER)
        assert traces.of(OTHER) == []
        _assert_works(STANDING)
        assert standing.node_name in standing.kubectl("get", "nodes")
    finally:
        cluster.down(OTHER)


def test_an_edge_machine_that_died_is_made_anew_and_goes_with_its_lab() -> None:
    cluster.down(OTHER)
    try:
        lab = cluster.up(OTHER)
        first = edge.add(lab, "one")
        (first.folder / "k0s" / "disk").write_text("kept")
        left = int(first.call("sh", "-c", "echo gone > /etc/hosted-cp-lab-test; sleep 1000 > /dev/null 2>&1 & echo $!"))
        assert first.place.mounts is not None
        os.kill(first.place.mounts.pid, signal.SIGKILL)
        second = edge.add(lab, "one")
        assert second.address == first.address
        assert processes.born(left) is None
        assert not second.path("/etc/hosted-cp-lab-test").exists()
        assert second.path("/var/lib/k0s/disk").read_text() == "kept"
    finally:
        cluster.down(OTHER)
    assert traces.of(OTHER) == []


def test_an_interface_of_somebody_else_s_is_not_touched(clean: None) -> None:
    link = netns.machine_link(NAME)
    call(["ip", "link", "add", link, "type", "bridge"])
    try:
        with pytest.raises(LabError, match=f"interface {link}"):
            cluster.up(NAME)
        cluster.down(NAME)
        assert netns.link_exists(link)
    finally:
        call(["ip", "link", "delete", link])


def test_one_at_a_time(clean: None) -> None:
    with state.locked(folder_of(NAME)), pytest.raises(LabError, match="another process"):
        cluster.up(NAME)
