"""`k0s install worker` writes the unit that was observed of its version, and `k0s start` starts it."""

from __future__ import annotations

from pathlib import Path

from e2e.contract.conftest import Facts
from e2e.contract.installation import installation
from e2e.contract.k0s import Subject


def test_a_worker_is_installed_as_observed(subject: Subject, tmp_path: Path, facts: Facts) -> None:
    expected = facts("installation")
    found = installation(subject, tmp_path)
    assert {name: found[name] for name in expected} == expected
    assert found.keys() == expected.keys()
