"""Machines that boot: their user data runs as on any machine, does nothing to this one, and they go without a trace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import lab_name
from e2e.lab import boot, cluster, downloads, edge, processes, systemd
from e2e.lab.boot import Booted
from e2e.lab.handle import Lab
from e2e.lab.network import LabError

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

_MARK = "hosted-cp-lab-boot-test"
_SENTINEL = f"mkdir -p $(dirname {systemd.SENTINEL}) && touch {systemd.SENTINEL}"


def _user_data(*commands: str) -> bytes:
    lines = [f"  - {command}\n" for command in (*commands, _SENTINEL)]
    file = f"  - path: /root/{_MARK}\n    content: written\n    permissions: '0640'\n"
    return f"#cloud-config\nwrite_files:\n{file}runcmd:\n{''.join(lines)}".encode()


@pytest.fixture(scope="module")
def booted(lab: Lab) -> Iterator[Booted]:
    served = downloads.publish(lab, "some/file", "to be downloaded\n")
    commands = (
        f"curl -sSf {served.url} > /usr/local/bin/{_MARK}",
        f"for each in /etc /var /opt /srv /home /tmp /run /usr/local; do touch $each/{_MARK}; done",
        f"touch /{_MARK} 2> /tmp/refused || touch /usr/{_MARK} 2>> /tmp/refused || true",
    )
    yield boot.boot(lab, "booted", _user_data(*commands), hostname="a-long-name-of-a-machine")
    edge.remove(lab, "booted")


def test_the_user_data_has_run(booted: Booted) -> None:
    assert booted.fault == ""
    machine = booted.edge
    assert machine.call("cat", f"/root/{_MARK}") == "written"
    assert machine.call("stat", "-c", "%a", f"/root/{_MARK}").strip() == "640"
    assert machine.call("cat", f"/usr/local/bin/{_MARK}") == "to be downloaded\n"


def test_it_is_a_machine_of_its_own(booted: Booted) -> None:
    machine = booted.edge
    assert machine.call("hostname").strip() == "a-long-name-of-a-machine"
    assert machine.call("cat", "/proc/1/comm").strip() == "systemd"
    assert machine.call("systemctl", "is-system-running").strip() == "running"
    assert set(Path("/proc/self/cgroup").read_text().splitlines()) != set(
        machine.call("cat", "/proc/1/cgroup").splitlines()
    )
    assert "init.scope" in machine.call("cat", "/proc/1/cgroup")
    assert machine.call("getent", "hosts", "a-long-name-of-a-machine").split()[0] == str(machine.address)


def test_this_machine_has_not_noticed(booted: Booted) -> None:
    folders = (
        "/",
        "/etc",
        "/var",
        "/opt",
        "/srv",
        "/home",
        "/tmp",
        "/run",
        "/usr",
        "/usr/local",
        "/usr/local/bin",
        "/root",
    )
    assert [each for each in folders if Path(each, _MARK).exists()] == []
    assert "Read-only file system" in booted.edge.call("cat", "/tmp/refused")
    assert os.uname().nodename != "a-long-name-of-a-machine"


def test_a_machine_is_booted_once(lab: Lab, booted: Booted) -> None:
    again = boot.boot(lab, "booted", b"#cloud-config\nruncmd: [false]\n")
    assert again == booted


def test_nobody_works_by_hand_on_it(lab: Lab, booted: Booted) -> None:
    assert booted.edge.name == "booted"
    with pytest.raises(LabError, match="boots by itself"):
        edge.add(lab, "booted")


@pytest.mark.parametrize(
    ("user_data", "fault"),
    [
        (_user_data("echo no such thing >&2; exit 1"), "no such thing"),
        (b"#cloud-config\nruncmd: ['true']\n", "has not written /run/cluster-api/bootstrap-success.complete"),
        (b"#cloud-config\nruncmd: 5\n", "Invalid cloud-config"),
    ],
)
def test_what_goes_wrong_is_told(lab: Lab, user_data: bytes, fault: str) -> None:
    try:
        assert fault in boot.boot(lab, "faulty", user_data).fault
    finally:
        edge.remove(lab, "faulty")


def test_a_machine_that_died_starts_again_and_keeps_its_disk(lab: Lab) -> None:
    try:
        first = boot.boot(lab, "mortal", _user_data()).edge
        (first.folder / "k0s" / "disk").write_text("kept")
        holder = first.place.mounts
        assert holder is not None
        os.kill(holder.pid, 9)
        second = boot.boot(lab, "mortal", _user_data()).edge
        assert not processes.alive(holder)
        assert second.address == first.address
        assert second.path("/var/lib/k0s/disk").read_text() == "kept"
        assert boot.fault(second) == ""
    finally:
        edge.remove(lab, "mortal")


def test_a_lab_goes_with_the_machines_in_it() -> None:
    from e2e.lab.tests import traces

    name = lab_name("boot")
    try:
        lab = cluster.up(name)
        boot.boot(lab, "one", _user_data())
        downloads.publish(lab, "x", "y")
    finally:
        cluster.down(name)
    assert traces.of(name) == []
