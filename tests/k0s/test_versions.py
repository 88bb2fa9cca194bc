"""k0s versions: reading, ordering, and what each range can do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hosted_cp.k0s import versions
from hosted_cp.k0s.versions import Version, VersionError, parse

CATALOGUE = Path(__file__).parents[2] / "k0s_images" / "catalogue.json"


@pytest.mark.parametrize("text", ["v1.36.3+k0s.2", "v1.36.3-k0s.2", "1.36.3+k0s.2", "1.36.3-k0s.2"])
def test_all_spellings_are_one_version(text: str) -> None:
    version = parse(text)
    assert version == Version(1, 36, 3, 2)
    assert (str(version), version.image_tag) == ("v1.36.3+k0s.2", "v1.36.3-k0s.2")
    assert (version.release, version.kubernetes_minor) == ((1, 36), "1.36")


def test_a_missing_suffix_is_the_first_packaging_as_with_k0smotron() -> None:
    assert str(parse("1.36.3")) == str(parse("v1.36.3")) == "v1.36.3+k0s.0"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v1.36",
        "latest",
        "v1.36.3-rc.1+k0s.0",
        "v1.36.3+k0s",
        "v1.36.3+k3s.1",
        "v1.36.3+k0s.2\n",
        "v1.36.3+k0s.2-amd64",
        "v١.36.3",
        "v1.36.99999",
        " v1.36.3",
    ],
)
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(VersionError, match="is no released version of k0s"):
        parse(text)
    problem = versions.support_problem(text)
    assert problem is not None
    assert (problem.field, problem.remedy) == ("spec.version", "use a version of 1.33, 1.34, 1.35, 1.36")


def test_versions_are_ordered_by_number_not_by_text() -> None:
    texts = ["v1.33.13+k0s.1", "v1.34.2+k0s.0", "v1.34.10+k0s.0", "v1.36.3+k0s.0", "v1.36.3+k0s.2", "v1.36.3+k0s.10"]
    assert [str(version) for version in sorted(map(parse, reversed(texts)))] == texts


def test_the_default_is_the_catalogues_and_every_release_of_it_is_supported() -> None:
    catalogue = json.loads(CATALOGUE.read_text())
    assert versions.default(catalogue) == catalogue["k0s"]["default"]
    assert {tuple(map(int, minor.split("."))) for minor in catalogue["k0s"]["minors"]} == set(versions.KNOWN_MINORS)
    for minor in catalogue["k0s"]["minors"].values():
        assert all(versions.support_problem(release["version"]) is None for release in minor["releases"])


def test_unknown_patches_of_known_minors_are_supported_and_other_minors_are_not() -> None:
    assert versions.support_problem("v1.36.99+k0s.7") is None
    older, newer = versions.support_problem("v1.32.1+k0s.0"), versions.support_problem("v1.37.0+k0s.0")
    assert older is not None
    assert "is older than what can be hosted" in older.fault
    assert newer is not None
    assert newer.remedy == "use a version of 1.33, 1.34, 1.35, 1.36, or upgrade hosted-cp"


@pytest.mark.parametrize(
    ("version", "host_and_port", "http_probe", "prober"),
    [
        ("v1.33.4+k0s.0", False, False, False),
        ("v1.33.6+k0s.0", True, False, True),
        ("v1.34.1+k0s.0", True, False, True),
        ("v1.35.7+k0s.0", True, False, True),
        ("v1.36.3+k0s.0", True, False, True),
        ("v1.36.3+k0s.1", True, True, True),
        ("v1.36.3+k0s.2", True, True, True),
        ("v1.36.4+k0s.0", True, True, True),
    ],
)
def test_what_a_range_can_do(version: str, host_and_port: bool, http_probe: bool, prober: bool) -> None:
    found = parse(version)
    assert found.takes_host_and_port is host_and_port
    assert found.probes_by_http is http_probe
    assert ("update-prober" in found.components) is prober
    assert ("feature-gates" in found.flags) is (found.minor >= 34)
    assert ("api-server-stop-timeout" in found.flags) is (found.minor >= 36)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("v1.35.4+k0s.0", "v1.35.4+k0s.0", None),
        ("v1.35.4+k0s.0", "v1.35.9+k0s.0", None),
        ("v1.35.4+k0s.0", "v1.36.3-k0s.2", None),
        ("v1.32.1+k0s.0", "v1.33.13+k0s.1", None),  # taken over from k0smotron
        ("v1.34.1+k0s.0", "v1.36.3+k0s.2", "a control plane cannot skip minors"),
        ("v1.36.3+k0s.2", "v1.36.3+k0s.0", "a control plane cannot go back"),
        ("v1.36.3+k0s.2", "v1.35.7+k0s.0", "a control plane cannot go back"),
        ("v1.36.3+k0s.2", "v1.37.0+k0s.0", "does not know"),
        ("v1.36.3+k0s.2", "newest", "is no released version"),
    ],
)
def test_which_upgrades_are_possible(old: str, new: str, fault: str | None) -> None:
    problem = versions.upgrade_problem(old, new)
    if fault is None:
        assert problem is None
    else:
        assert problem is not None
        assert fault in problem.fault
        assert problem.remedy
