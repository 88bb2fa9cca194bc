"""Fixtures of the end-to-end tests: the operator deployed once as a user would, and a namespace for each test.

When a test fails, the report shows what the operator logged, what it said in conditions, the Events, and the ends of
the logs of pods that are not ready.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e import operator
from e2e.capi import management
from e2e.lab import edge as machines
from e2e.lab.handle import Lab
from e2e.lab.network import LabError
from e2e.tests.room import Room, Stage
from k0s_images import images
from k0s_images.cache import say
from k0s_images.choice import both_minors

_LABEL = "hosted-cp.io/e2e"
_open: list[Room] = []


@pytest.fixture(scope="session")
def stage(lab: Lab) -> Iterator[Stage]:
    """The operator runs, as a Deployment under its own ClusterRole; at the end all tenants' namespaces go cleanly."""
    k0s, older = both_minors()
    say(f"control planes run {k0s.says}; before an upgrade {older.says}")
    lab.load_images(operator.image_archives(k0s, older, extra=(images.TOOLBOX, images.POSTGRES, images.MARIADB)))
    operator.deploy(lab, k0s)
    edge = images.archives(only=(images.TOOLBOX, images.konnectivity_agent_name(), images.PAUSE))
    yield Stage(lab=lab, k0s=k0s, older=older, at_the_edge=edge)
    # What tests have left goes, and nothing holds it.
    for kind in ("jtr", "kmc"):
        lab.kubectl("wait", "--for=delete", kind, "--all", "-A", "--timeout=120s", seconds=130)
    lab.kubectl("delete", "namespace", "-l", _LABEL, "--timeout=180s", seconds=190)
    assert _restarts(lab) == 0, "the operator's container ended during the tests"


@pytest.fixture(scope="session")
def cluster_api(stage: Stage) -> Iterator[None]:
    """The real core manager of Cluster API, and the lab's provider of machines."""
    management.start(stage.lab)
    yield
    management.stop(stage.lab)


@pytest.fixture
def room(stage: Stage, tmp_path: Path) -> Iterator[Room]:
    """A namespace for one test."""
    yield from _room(stage, tmp_path)


@pytest.fixture(scope="module")
def shared(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """A namespace for the tests of one module."""
    yield from _room(stage, tmp_path_factory.mktemp("shared"))


def _room(stage: Stage, folder: Path) -> Iterator[Room]:
    answer = stage.lab.client().call(
        "POST", "/api/v1/namespaces", {"metadata": {"generateName": "e2e-", "labels": {_LABEL: "true"}}}
    )
    room = Room(stage=stage, namespace=str(answer["metadata"]["name"]), folder=folder)
    _open.append(room)
    yield room
    _open.remove(room)
    # Not the namespace: with that, all pods would end at once, and an API server without its store takes long to end.
    # As it does when a worker has vanished that it is still connected with: machines go after their tenants.
    going = ("--timeout=120s",) if room.edges else ("--wait=false",)
    room.kubectl("delete", "jtr,kmc", "--all", *going, seconds=130)
    for each in room.edges:
        machines.remove(stage.lab, each)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and report.when != "teardown":
        for room in _open:
            report.sections += _what_happened(room)
    return report


def _what_happened(room: Room) -> list[tuple[str, str]]:
    asked: dict[str, Callable[[], str]] = {
        "operator's log": lambda: operator.logs(room.lab),
        "conditions": lambda: _conditions(room),
        "objects": lambda: room.kubectl("get", "kmc,jtr,pods,pvc,svc,statefulsets", "-o", "wide"),
        "events": lambda: room.kubectl("get", "events", "--sort-by=.lastTimestamp"),
        "logs of pods that are not ready": lambda: _logs(room),
    }
    found = []
    for title, ask in asked.items():
        try:
            found.append((f"{room.namespace}: {title}", ask()))
        except (LabError, OSError) as error:
            found.append((f"{room.namespace}: {title}", f"not to be had: {error}"))
    return found


def _conditions(room: Room) -> str:
    lines = []
    for each in room.items("kmc,jtr"):
        lines.append(f"{each['kind']} {each['metadata']['name']}")
        lines += [f"  {c['type']}={c['status']} {c['reason']}: {c['message']}"
                  for c in each.get("status", {}).get("conditions", [])]  # fmt: skip
    return "\n".join(lines)


def _logs(room: Room) -> str:
    parts = []
    for pod in room.items("pods"):
        if not all(each["ready"] for each in pod["status"].get("containerStatuses", [{"ready": False}])):
            name = pod["metadata"]["name"]
            parts.append(f"--- {name}\n{room.kubectl('logs', name, '--all-containers', '--tail=60')}")
    return "\n".join(parts)


def _restarts(lab: Lab) -> int:
    pods: dict[str, Any] = json.loads(lab.kubectl("-n", operator.NAMESPACE, "get", "pods", "-o", "json"))
    return sum(status["restartCount"] for pod in pods["items"] for status in pod["status"]["containerStatuses"])
