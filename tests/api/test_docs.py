"""`docs/kinds.md` is what the models say, and lists what differs from k0smotron."""

from __future__ import annotations

from pathlib import Path

import pytest

from hosted_cp.api import docs
from hosted_cp.api.cluster import Cluster
from hosted_cp.api.kinds import VERSIONED
from hosted_cp.api.schema import openapi

FILE = Path(__file__).parents[2] / "docs" / "kinds.md"


def test_the_page_is_what_the_models_make() -> None:
    assert FILE.read_text() == docs.page(), "run `make docs`"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "kinds.md"
    assert docs.main(["--write", str(target)]) == 0
    assert docs.main([]) == 0
    assert capsys.readouterr().out == target.read_text() == docs.page()
    assert docs.main(["x"]) == 2


def test_the_dropped_defaults_are_listed_and_really_dropped() -> None:
    page = docs.page()
    assert len(docs.DROPPED_DEFAULTS) == 6
    for each in docs.DROPPED_DEFAULTS:
        kind, _, path = each.field.replace("`", "").partition(" ")
        assert each.field in page
        assert each.why in page
        schema = openapi(next(each.hub for each in VERSIONED if each.hub.__name__ == kind))
        for step in path.split("."):
            schema = schema["properties"][step]
        assert "default" not in schema


def test_fields_that_are_not_acted_on_exist() -> None:
    for path in docs.NOT_YET:
        schema = openapi(Cluster)
        for step in path.split("."):
            schema = schema["properties"][step]


def test_every_kind_is_there_at_both_versions_with_what_differs() -> None:
    page = docs.page()
    for versions in VERSIONED:
        name = versions.hub.__name__
        assert f"\n## {name}\n" in page
        old = page.partition(f"### {name} at v1beta1\n")[2].partition("\n## ")[0]
        assert old, name
    control_plane = page.partition("\n## K0smotronControlPlane\n")[2].partition("\n## ")[0]
    assert "`spec.controlPlaneEndpoint.host`" in control_plane
    assert "`spec.storage.kine`" not in control_plane  # it stands with Cluster
    worker = page.partition("\n## K0sWorkerConfig\n")[2].partition("\n## ")[0]
    hub, old = worker.split("### K0sWorkerConfig at v1beta1")
    assert "`spec.preK0sCommands`" in hub
    assert "| `spec.preStartCommands`" in old
    assert "v1beta2 alone has `spec.preK0sCommands`" in old


def test_every_rule_and_field_is_on_the_page() -> None:
    page = docs.page()
    for text in (
        *("spec.storage.kine.dataSourceURL", "spec.mounts[].path", "status.conditions[].reason", "spec.clusterName"),
        *(
            "core `ResourceRequirements`",
            "list of core `Volume`",
            "k0s `ClusterConfig`",
            "core `PersistentVolumeClaim`",
        ),
        "list of core `TopologySpreadConstraint`",
        *("the storage type cannot be changed", "expiry must be a duration", "One of `worker`, `controller`."),
    ):
        assert text in page
    # Table rows have as many cells as their head.
    for line in page.splitlines():
        if line.startswith("| `"):
            assert line.replace("\\|", "").count("|") == 5, line
