"""Versions in Cluster API's eyes: its own table of comparisons, and what we run and report for each form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.k0s.capi_versions import (
    Form,
    Running,
    advice,
    change_problem,
    compare,
    is_provisioning,
    is_upgrading,
    parse,
    release,
    report,
    support_problem,
)
from hosted_cp.k0s.versions import Version, VersionError

CATALOGUE = json.loads((Path(__file__).parents[2] / "k0s_images" / "catalogue.json").read_text())


@pytest.mark.parametrize(
    ("text", "form", "named"),
    [
        ("v1.36.3+k0s", Form.KUBELET, Version(1, 36, 3, 0)),
        ("1.36.3+k0s", Form.KUBELET, Version(1, 36, 3, 0)),
        ("v1.36.3+k0s.2", Form.RELEASE, Version(1, 36, 3, 2)),
        ("v1.36.3+k0s.0", Form.RELEASE, Version(1, 36, 3, 0)),
        ("v1.36.3-k0s.2", Form.TAG, Version(1, 36, 3, 2)),
        ("v1.36.3", Form.PLAIN, Version(1, 36, 3, 0)),
    ],
)
def test_four_forms_are_read(text: str, form: Form, named: Version) -> None:
    asked = parse(text)
    assert (asked.text, asked.form, asked.named, asked.kubelet) == (text, form, named, "v1.36.3+k0s")


@pytest.mark.parametrize(
    "text", ["", "v1.36", "latest", "v1.36.3-k0s", "v1.36.3+k3s1", "v1.36.3+k0s.", "v1.36.3+k0s.2\n", "v١.36.3"]
)
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(VersionError, match="is no version of k0s"):
        parse(text)
    problem = support_problem(text)
    assert problem is not None
    assert problem.remedy == "write it as the kubelet reports it, like v1.36.3+k0s"


def test_support_is_that_of_the_release() -> None:
    assert support_problem("v1.36.3+k0s") is None
    assert "older than what can be hosted" in str(support_problem("v1.27.2+k0s"))
    assert "does not know" in str(support_problem("v1.99.0+k0s"))
    assert change_problem("v1.35.4+k0s.0", Version(1, 36, 3, 2)) is None
    assert "cannot go back" in str(change_problem("v1.36.3+k0s.2", Version(1, 35, 4, 0)))
    assert "cannot skip minors" in str(change_problem("v1.34.2+k0s.0", Version(1, 36, 3, 0)))


@pytest.mark.parametrize(
    ("text", "decided", "runs"),
    [
        # The packaging that is named.
        ("v1.36.3+k0s.0", "", "v1.36.3+k0s.0"),
        ("v1.36.3-k0s.1", "v1.36.3+k0s.2", "v1.36.3+k0s.1"),
        # The newest that is known of it; the first, where it is not.
        ("v1.36.3+k0s", "", "v1.36.3+k0s.2"),
        ("v1.36.3", "", "v1.36.3+k0s.2"),
        ("v1.36.9+k0s", "", "v1.36.9+k0s.0"),
        # Once decided it stays, but not for another version.
        ("v1.36.3+k0s", "v1.36.3+k0s.1", "v1.36.3+k0s.1"),
        ("v1.36.3+k0s", "v1.35.4+k0s.0", "v1.36.3+k0s.2"),
    ],
)
def test_which_release_runs(text: str, decided: str, runs: str) -> None:
    assert str(release(parse(text), catalogue=CATALOGUE, decided=decided)) == runs


#: spec.version, reported, whether Cluster API says "upgrading". Seen with a real core manager, or read from its code.
TABLE = [
    ("v1.33.1+k0s.0", "v1.33.1+k0s.0", False),
    ("v1.33.1+k0s.0", "v1.33.1+k0s", True),
    ("v1.33.1+k0s.0", "v1.33.1", True),
    ("v1.33.1+k0s.0", "v1.33.1-k0s.0", True),
    ("v1.33.1+k0s", "v1.33.1+k0s.0", False),
    ("v1.33.1", "v1.33.1+k0s.0", False),
    ("v1.33.1+k0s", "v1.33.1+k0s", False),
    ("v1.34.0+k0s", "v1.33.1+k0s", True),
    ("v1.33.1+k0s", "v1.34.0+k0s", False),
    ("v1.33.1+k0s.1", "v1.33.1+k0s.0", True),
    ("v1.33.1+k0s.10", "v1.33.1+k0s.9", True),
    ("v1.33.1+abc", "v1.33.1+def", True),
    ("v1.33.1+def", "v1.33.1+abc", True),
]


@pytest.mark.parametrize(("spec", "reported", "upgrading"), TABLE)
def test_what_cluster_api_takes_for_an_upgrade(spec: str, reported: str, *, upgrading: bool) -> None:
    assert is_upgrading(spec, [reported]) is upgrading


def test_of_several_versions_the_lowest_counts() -> None:
    assert is_upgrading("v1.34.0+k0s", ["v1.33.1+k0s", "v1.34.0+k0s"])
    assert is_upgrading("v1.34.0+k0s", ["v1.34.0+k0s", "v1.33.1+k0s"])
    assert not is_upgrading("v1.34.0+k0s", ["v1.34.0+k0s"])


def test_nothing_reported_is_provisioning_and_no_upgrade() -> None:
    for nothing in ([], [""]):
        assert is_provisioning(nothing)
        assert not is_upgrading("v1.34.0+k0s", nothing)
    assert not is_provisioning(["v1.34.0+k0s"])


@pytest.mark.parametrize(
    ("one", "other", "order"),
    [
        ("v1.2.3", "1.2.3", 0),
        ("v1.2.3", "v1.10.0", -1),
        ("v2.0.0", "v1.99.99", 1),
        ("v1.2.3-rc.1", "v1.2.3", -1),
        ("v1.2.3", "v1.2.3-rc.1", 1),
        ("v1.2.3-rc.2", "v1.2.3-rc.10", -1),
        ("v1.2.3-1", "v1.2.3-a", -1),
        ("v1.2.3-a", "v1.2.3-1", 1),
        ("v1.2.3-a", "v1.2.3-b", -1),
        ("v1.2.3-a", "v1.2.3-a.1", -1),
        ("v1.2.3-a.1", "v1.2.3-a", 1),
        ("v1.2.3+1", "v1.2.3+a", -1),
        ("v1.2.3+a", "v1.2.3+1", 1),
        ("v1.2.3+a.1", "v1.2.3+a", 1),
        ("v1.2.3+a", "v1.2.3+b", 2),
        ("v1.2.3+01", "v1.2.3+1", 0),
    ],
)
def test_comparing(one: str, other: str, order: int) -> None:
    assert compare(one, other) == order


@pytest.mark.parametrize("text", ["", "v1.2", "x", "v1.2.3+", "v1.2.3 ", "v01.2.3"])
def test_what_is_no_semantic_version_cannot_be_compared(text: str) -> None:
    with pytest.raises(ValueError, match="is no semantic version"):
        compare(text, "v1.2.3")


NUMBERS = st.integers(0, 3)
TEXTS = st.builds(
    lambda minor, patch, form: f"v1.{minor}.{patch}{form}",
    st.integers(33, 36),
    NUMBERS,
    st.sampled_from(["", "+k0s", "+k0s.0", "+k0s.1", "+k0s.10", "-k0s.0", "-k0s.1"]),
)


@given(one=TEXTS, other=TEXTS)
def test_the_order_is_one(one: str, other: str) -> None:
    assert compare(one, one) == 0
    assert compare(one, other) == -compare(other, one)


@given(TEXTS)
def test_reported_in_the_words_of_the_spec_every_form_settles(text: str) -> None:
    asked = parse(text)
    runs = release(asked, catalogue=CATALOGUE)
    told = [each.text for each in report([Running(text=text, release=runs, replicas=1)])]
    assert told == [text]
    assert not is_upgrading(text, told)


def test_what_is_reported_while_an_upgrade_rolls() -> None:
    old = Running(text="v1.35.4+k0s", release=Version(1, 35, 4, 0), replicas=2)
    new = Running(text="v1.36.3+k0s", release=Version(1, 36, 3, 2), replicas=1)
    assert report([new, old]) == (old, new)
    assert is_upgrading(new.text, [each.text for each in report([new, old])])
    gone = Running(text=old.text, release=old.release, replicas=0)
    assert report([new, gone]) == (new,)
    assert report([]) == ()
    # Two packagings that were asked for in the same words are one version to Cluster API.
    packaged = Running(text="v1.36.3+k0s", release=Version(1, 36, 3, 1), replicas=2)
    [both] = report([new, packaged])
    assert (both.text, both.replicas) == ("v1.36.3+k0s", 3)


def test_advice_names_the_form_to_write() -> None:
    assert advice(parse("v1.36.3+k0s")) == ""
    assert advice(parse("1.36.3+k0s")).endswith("; write v1.36.3+k0s, also for Machines")
    for text, says in (
        ("v1.36.3+k0s.2", "never up to date"),
        ("v1.36.3-k0s.2", "it is a prerelease of v1.36.3,"),
        ("v1.36.3", "never up to date"),
    ):
        told = advice(parse(text))
        assert told.startswith(f"spec.version {text} is understood")
        assert says in told
        assert "write v1.36.3+k0s, also for Machines" in told
