"""ClusterConfig: what is refused, what is merged, what is ignored. The cases and their verdicts are facts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.contract.config_cases import CASES, validate
from e2e.contract.conftest import Facts, Start
from e2e.contract.k0s import Subject


@pytest.mark.parametrize("name", CASES)
def test_verdict(name: str, subject: Subject, facts: Facts, tmp_path: Path) -> None:
    """`k0s config validate` accepts and refuses what k0s was seen to accept and refuse, naming the same field."""
    expected = facts("config-verdicts")[name]
    verdict, said = validate(subject.binary, CASES[name], tmp_path / "k0s.yaml")
    assert verdict == expected["verdict"], said
    for word in expected["names"]:
        assert word in said


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("spec: {foo: 1}", "foo"),
        ("spec: {konnectivity: {agentPortt: 1}}", "agentPortt"),
        ("spec: {api: {port: '6443'}}", "port"),
        ("spec: {network: {podCIDR: '10.0.0.0'}}", "podCIDR"),
        ("spec: {storage: {type: kine}, storage: {type: etcd}}", "storage"),
    ],
)
def test_controller_does_not_start_with_a_bad_configuration(content: str, names: str, start: Start) -> None:
    """A bad file ends `k0s controller` with code 1 before it writes any key."""
    controller = start(config=content)
    assert names in controller.refused()
    assert not controller.data("pki").exists()


def test_partial_files_are_merged_over_the_defaults(subject: Subject, start: Start) -> None:
    """A file that says one thing changes one thing."""
    controller = start(
        spec={"storage": {"type": "kine"}, "api": {"sans": ["a.example"]}, "konnectivity": {"agentPort": 18132}}
    )
    controller.ready()
    spec = json.loads(controller.k0s("status", "-o", "json"))["ClusterConfig"]["spec"]
    defaults: dict[str, Any] = yaml.safe_load(controller.k0s("config", "create", "--include-images"))["spec"]
    assert spec["konnectivity"] == {"agentPort": 18132, "adminPort": 8133}
    assert spec["api"] == defaults["api"] | {"sans": ["a.example"]}
    assert spec["network"] == defaults["network"]
    assert controller.flags("konnectivity-server")["agent-port"] == "18132"


def test_configuration_from_standard_input(subject: Subject) -> None:
    """`--config -` reads standard input."""
    import subprocess

    argv = [str(subject.binary), "config", "validate", "--config", "-"]
    good = subprocess.run(argv, input="spec: {}", text=True, capture_output=True, check=False)
    bad = subprocess.run(argv, input="spec: {foo: 1}", text=True, capture_output=True, check=False)
    assert (good.returncode, bad.returncode) == (0, 1)
