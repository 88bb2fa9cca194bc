"""The catalogue obeys its rules, each rule can be broken, and it agrees with what is built here."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from k0s_images import catalogue, golang
from k0s_images.catalogue import CatalogueError

DATA = json.loads(catalogue.FILE.read_text())


def test_the_default_is_the_newest_release_and_all_supported_minors_are_there() -> None:
    loaded = catalogue.load()
    assert loaded.default == "v1.36.3+k0s.2"
    assert list(loaded.minors) == ["1.36", "1.35", "1.34", "1.33"]
    assert loaded.release("v1.35.4+k0s.0").tag == "v1.35.4-k0s.0"
    assert loaded.newest()["1.33"] == "v1.33.13+k0s.1"
    assert loaded.etcd.image == "quay.io/k0sproject/etcd:v3.6.14"


def _set(path: str, value: Any) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        *parents, last = [int(step) if step.isdigit() else step for step in path.split("/")]
        for step in parents:
            data = data[step]
        data[last] = value

    return change


def _older_first(data: Any) -> None:
    data["k0s"]["minors"]["1.35"]["releases"].reverse()


def _minors_reversed(data: Any) -> None:
    data["k0s"]["minors"] = dict(reversed(data["k0s"]["minors"].items()))


def _release_twice(data: Any) -> None:
    releases = data["k0s"]["minors"]["1.35"]["releases"]
    releases.append(copy.deepcopy(releases[-1]))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_set("schema", 2), "schema 2"),
        (_set("k0s/repository", "quay.io/k0sproject/k0s:v1"), "not an image repository"),
        (_set("k0s/default", "v1.35.7+k0s.0"), "newest release is v1.36.3"),
        (_set("k0s/defualt", "v1.36.3+k0s.2"), "defualt"),
        (_set("k0s/minors/1.36/newest", "v1.36.2+k0s.0"), "newest is v1.36.2"),
        (_set("k0s/minors/1.36/releases/0/tag", "v1.36.3+k0s.2"), "its tag is v1.36.3-k0s.2"),
        (_set("k0s/minors/1.34/releases/0/version", "v1.35.1+k0s.0"), "listed under 1.34"),
        (_set("k0s/minors/1.34/releases/0/version", "1.34.10"), "no k0s version"),
        (_set("k0s/minors/1.34/releases/0/components/kubernetes", "v1.34.9"), "cannot hold Kubernetes v1.34.9"),
        (_set("k0s/minors/1.34/releases/0/components/konnectivity", "latest"), "konnectivity: 'latest' is no version"),
        (_set("etcd/default", "v3.6.13"), "below the floor v3.6.14"),
        (_set("etcd/default", "v3.4.44"), "no floor is known"),
        (_set("etcd/floors/3.5", "v3.6.14"), "etcd.floors.3.5 holds v3.6.14"),
        (_set("etcd/floors", []), "floors is not a dict"),
        (_older_first, "the newest first"),
        (_release_twice, "listed once each"),
        (_minors_reversed, "newest minor comes first"),
    ],
)
def test_a_broken_rule_is_named(change: Callable[[Any], None], complaint: str) -> None:
    data = copy.deepcopy(DATA)
    change(data)
    with pytest.raises(CatalogueError, match=re.escape(complaint)):
        catalogue.parse(data)


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "catalogue.json").write_text("{")
    with pytest.raises(CatalogueError, match=r"catalogue\.json"):
        catalogue.load(tmp_path / "catalogue.json")


def test_the_etcd_floors_are_those_of_known_defects() -> None:
    # CVE-2026-73499 and CVE-2026-73500 were repaired in these; everything older has worse.
    assert catalogue.load().etcd.floors == {"3.5": "v3.5.33", "3.6": "v3.6.14", "3.7": "v3.7.1"}


def test_an_unlisted_version_is_refused_with_the_newest_ones_named() -> None:
    with pytest.raises(CatalogueError, match=re.escape("v1.33.13+k0s.1")):
        catalogue.load().release("v1.36.99+k0s.0")


@pytest.mark.parametrize("minor", golang.COMPONENTS)
def test_the_components_that_are_built_are_those_of_a_listed_release(minor: str) -> None:
    built = golang.COMPONENTS[minor].kubernetes
    assert built in {release.components["kubernetes"] for release in catalogue.load().minors[minor]}
