"""The stages of `make test` leave no test out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stages import STAGES

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["component", "e2e"])
def test_every_test_of_a_kind_is_in_the_folders_of_its_stage(name: str) -> None:
    """A stage collects only these: all tests would take each of its workers ten seconds."""
    folders = [ROOT / word for word in STAGES[name].commands[-1] if (ROOT / word).is_dir()]
    assert folders
    mark = f"pytest.mark.{name}"
    marked = [
        each for part in ("tests", "e2e") for each in (ROOT / part).rglob("test_*.py") if mark in each.read_text()
    ]
    assert [str(each) for each in marked if not any(folder in each.parents for folder in folders)] == []
