"""A controller of the version under test does what was observed of that version."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from e2e.contract.conftest import Facts, controller_on_machine
from e2e.contract.k0s import Controller, Subject
from e2e.contract.observations import OBSERVATIONS, SPEC, complete


@pytest.fixture(scope="module")
def observed(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """The controller that facts are about."""
    with ExitStack() as stack:
        controller = controller_on_machine(stack, subject, tmp_path_factory.mktemp("observed"), spec=SPEC)
        controller.ready()
        controller.wait_for(lambda: complete(controller), within=30, what="the stacks")
        yield controller


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_observation(name: str, observed: Controller, facts: Facts) -> None:
    """One observation equals its facts."""
    expected = facts(name)
    assert OBSERVATIONS[name](observed) == expected


def test_every_version_has_all_facts() -> None:
    """Facts are kept for each version as a whole, so that no comparison is skipped unnoticed."""
    folder = Path(__file__).parent / "facts"
    versions = [v for v in folder.iterdir() if v.is_dir()]
    assert len(versions) >= 2
    for version in versions:
        assert {f.stem for f in version.glob("*.yaml")} >= set(OBSERVATIONS), version
