"""From the spec of a K0sWorkerConfig and its Machine to the worker: nothing of what a user wrote is lost."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from hosted_cp.k0s.versions import Version
from hosted_cp.machines.mapping import Unclear, age_warning, sources_of, worker_of
from hosted_cp.machines.view import ControlPlane
from hosted_cp.machines.worker import File, Format, Ignition, Platform, SecretValue, Worker
from tests.machines.worker_world import NAME, WorkerWorld, made, waiting

EVERYTHING: dict[str, Any] = {
    "version": "v1.36.3+k0s.1",
    "args": ["--debug"],
    "files": [{"path": "/etc/a", "permissions": "0600", "content": "grüße"}, {"path": "/etc/empty", "content": ""}],
    "preK0sCommands": ["before"],
    "postK0sCommands": ["after"],
    "downloadURL": "https://example.org/k0s",
    "downloadSHA256": "ab" * 32,
    "preInstalledK0s": True,
    "k0sInstallDir": "/opt/bin",
    "workingDir": "/var/k0s",
    "useSystemHostname": True,
    "provisioner": {
        "type": "ignition",
        "platform": "linux",
        "ignition": {"variant": "fcos", "version": "1.5.0", "additionalConfig": "variant: fcos"},
        "customUserDataRef": {"secretRef": {"name": "custom", "key": "data"}},
    },
}


def mapped(world: WorkerWorld) -> Worker | Unclear:
    view = world.view()
    assert view.spec is not None
    return worker_of(view, view.spec)


def test_every_field_arrives() -> None:
    world = waiting(**EVERYTHING).owned(providerID="lab://x").cluster()
    world.base.secret("custom", {"data": b"more"})
    worker = mapped(world)
    assert isinstance(worker, Worker)
    assert isinstance(worker.custom, SecretValue)
    assert worker == Worker(
        name=NAME,
        version=Version(1, 36, 3, 1),
        format=Format.IGNITION,
        platform=Platform.LINUX,
        download_url="https://example.org/k0s",
        checksum="ab" * 32,
        pre_installed=True,
        install_dir="/opt/bin",
        working_dir="/var/k0s",
        use_system_hostname=True,
        args=("--debug",),
        pre_commands=("before",),
        post_commands=("after",),
        files=(
            File(path="/etc/a", permissions="0600", content="grüße".encode()),
            File(path="/etc/empty", content=b""),
        ),
        provider_id="lab://x",
        ignition=Ignition(variant="fcos", version="1.5.0", additional_config="variant: fcos"),
        custom=SecretValue(secret="custom", key="data", digest=worker.custom.digest),
    )
    unsaid = {"pool", "taints", "instance_data"}  # the last cannot be with Ignition; see below
    plain = Worker(name="", version=Version(1, 1, 1))
    fields = {each.name for each in dataclasses.fields(Worker)} - unsaid
    same = {name for name in fields if getattr(worker, name) == getattr(plain, name)}
    assert same == {"platform"}, "a field that no test sets"


def test_what_is_unset_has_the_defaults() -> None:
    worker = mapped(waiting().owned().cluster())
    assert worker == Worker(name=NAME, version=Version(1, 36, 3, 2))


@pytest.mark.parametrize("kind", ["powershell", "powershell-xml", "cloud-config"])
def test_windows(kind: str) -> None:
    worker = mapped(waiting(provisioner={"type": kind, "platform": "windows"}).owned().cluster())
    assert isinstance(worker, Worker)
    assert (worker.format, worker.platform) == (Format(kind), Platform.WINDOWS)


def test_instance_data_is_asked_for() -> None:
    worker = mapped(waiting(provisioner={"instanceData": True}).owned().cluster())
    assert isinstance(worker, Worker)
    assert worker.instance_data


def test_where_content_comes_from() -> None:
    world = waiting(**EVERYTHING).owned().cluster()
    spec = world.view().spec
    assert spec is not None
    assert sources_of(spec) == {("Secret", "custom")}
    unclear = mapped(world)
    assert isinstance(unclear, Unclear)
    assert [each.field for each in unclear.problems] == ["spec.provisioner.customUserDataRef.secretRef.name"]


def test_a_worker_that_is_more_than_three_minors_older_is_made_and_said_to_be_old() -> None:
    world = waiting().owned(version="v1.33.4+k0s").cluster()
    for runs, said in (("v1.36.3+k0s.2", ""), ("v1.37.0+k0s.0", "use v1.34 or newer")):
        world.control_plane = ControlPlane(version=runs, release=runs)
        worker = mapped(world)
        assert isinstance(worker, Worker)
        assert said in age_warning(worker, world.control_plane)
        assert bool(said) is bool(age_warning(worker, world.control_plane))


def test_an_ignition_machine_gets_ignition() -> None:
    world = made(provisioner={"type": "ignition", "ignition": {"variant": "fcos", "version": "1.5.0"}})
    assert world.value.startswith(b'{"')
    assert world.why() == "True Ready: "
