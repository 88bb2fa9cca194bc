"""Fixtures of the tests that need the lab: one management cluster for the whole run.

With HOSTED_CP_LAB_KEEP=1 it stays up afterwards, and the next run goes on with it (a second `up` takes a moment).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.lab import cluster
from e2e.lab import edge as machines
from e2e.lab.edge import Edge
from e2e.lab.handle import Lab

Kubectl = Callable[..., str]
MakeEdge = Callable[[str], Edge]


#: Files that take longest, the longest first: where two run side by side, one that comes last is waited for alone.
LONG = (
    "test_capi", "test_recovery", "test_storage", "test_services", "test_replicas", "test_thread", "test_bad_input",
    "test_boot", "test_upgrade", "test_deletion", "test_machines", "test_worker", "test_tokens", "test_isolation",
)  # fmt: skip
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)) if _HERE in item.path.parents else len(LONG))


def lab_name(*part: str) -> str:
    """The name of this run's lab, or of another one of its own; no two runs beside one another share any."""
    run = os.environ.get("HOSTED_CP_LAB") or "test"
    return "-".join(filter(None, (run, os.environ.get("PYTEST_XDIST_WORKER"), *part)))


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The management cluster. It lives beside the demo's, and beside those of others (HOSTED_CP_LAB).

    Where files of tests run side by side, each worker of pytest-xdist has one of its own.
    """
    name = lab_name()
    yield cluster.up(name)
    if os.environ.get("HOSTED_CP_LAB_KEEP") != "1":
        cluster.down(name)


@pytest.fixture
def edge(lab: Lab) -> Iterator[MakeEdge]:
    """Makes edge machines by name; they are gone after the test."""
    made: list[str] = []

    def make(name: str) -> Edge:
        made.append(name)
        return machines.add(lab, name)

    yield make
    for each in made:
        machines.remove(lab, each)


@pytest.fixture
def kubectl(lab: Lab) -> Kubectl:
    """Runs kubectl as the management cluster's administrator and returns what it prints."""
    return lab.kubectl


@pytest.fixture
def namespace(lab: Lab) -> Iterator[str]:
    """A namespace of the management cluster for one test, and gone with all it holds after it."""
    answer = lab.client().call("POST", "/api/v1/namespaces", {"metadata": {"generateName": "test-"}})
    name = str(answer["metadata"]["name"])
    yield name
    lab.kubectl("delete", "namespace", name, "--wait=false")
