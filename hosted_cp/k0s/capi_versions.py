"""Versions as Cluster API writes and compares them, and which k0s release each of them asks for.

Cluster API knows a control plane's version as text: what the user asks in `spec.version`, and what the provider reports
in `status.versions` and `status.version`. It compares the two, and from v1.14 on also the version that a kubelet
reports with the one that its Machine asks for, as raw text. A k0s kubelet says `v1.36.3+k0s`: the same for all
packagings of k0s (`+k0s.0`, `+k0s.1`). From this follow the rules here:

* What runs is reported in the words in which it was asked for, and `spec.version` is never written. Any other word for
  the same release leaves the cluster "upgrading" for ever.
* `vX.Y.Z+k0s` is the form to write. The packaging is ours to choose then, once, and is shown in `status.k0sVersion`.
* The other forms are understood, and `advice` says what they lead to.

Sources: Cluster API `internal/contract/controlplane.go` and `util/version/version.go` (the rules of comparison, which
`compare` follows), `core/reconcilers/machine` (raw text); k0s (what its kubelet reports).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from hosted_cp.api.problems import Problem
from hosted_cp.k0s import versions
from hosted_cp.k0s.versions import Version

_FORM = re.compile(r"v?(\d{1,4}\.\d{1,4}\.\d{1,4})(?:(\+k0s)|\+k0s\.(\d{1,4})|-k0s\.(\d{1,4}))?", re.ASCII)
_SEMVER = re.compile(
    r"v?(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?", re.ASCII
)


class Form(Enum):
    """How a version is written."""

    #: `v1.36.3+k0s`: as the kubelet reports it. The one to write.
    KUBELET = "kubelet"
    #: `v1.36.3+k0s.2`: as k0s writes it.
    RELEASE = "release"
    #: `v1.36.3-k0s.2`: as image tags and k0smotron's documentation have it. A prerelease, by the rules of semver.
    TAG = "tag"
    #: `v1.36.3`: of Kubernetes alone.
    PLAIN = "plain"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A version as a user of Cluster API writes it."""

    text: str
    form: Form
    #: With packaging 0 where the text names none; see `release`.
    named: Version

    @property
    def kubelet(self) -> str:
        """What kubelets of this version report."""
        return f"v{self.named.major}.{self.named.minor}.{self.named.patch}+k0s"


def parse(text: str) -> Asked:
    """Read a version in any of the four forms. Raises `versions.VersionError`."""
    found = _FORM.fullmatch(text)
    if not found:
        raise versions.VersionError(f"{text[:64]!r} is no version of k0s, which looks like v1.36.3+k0s")
    core, kubelet, packaging, tagged = found.groups()
    form = Form.KUBELET if kubelet else Form.RELEASE if packaging else Form.TAG if tagged else Form.PLAIN
    return Asked(text=text, form=form, named=versions.parse(f"{core}+k0s.{packaging or tagged or 0}"))


def release(asked: Asked, *, catalogue: Mapping[str, Any], decided: str = "") -> Version:
    """The release of k0s to run.

    Where the text names a packaging, that one. Where it does not: the one `decided` before for the same version of
    Kubernetes (an upgrade of the operator restarts nobody's control plane); else the newest that the catalogue has of
    it; else the first, which exists for every version.
    """
    if asked.form in (Form.RELEASE, Form.TAG):
        return asked.named
    if decided and _same_kubernetes(before := versions.parse(decided), asked.named):
        return before
    known = [
        versions.parse(each["version"]) for minor in catalogue["k0s"]["minors"].values() for each in minor["releases"]
    ]
    return max((each for each in known if _same_kubernetes(each, asked.named)), default=asked.named)


def _same_kubernetes(one: Version, other: Version) -> bool:
    return (one.major, one.minor, one.patch) == (other.major, other.minor, other.patch)


def support_problem(text: str, *, field: str = "spec.version") -> Problem | None:
    """Why this version cannot be hosted, or None."""
    try:
        asked = parse(text)
    except versions.VersionError as error:
        return Problem(field=field, fault=str(error), remedy="write it as the kubelet reports it, like v1.36.3+k0s")
    return versions.support_problem(str(asked.named), field=field)


def change_problem(old: str, new: Version, *, field: str = "spec.version") -> Problem | None:
    """Why a control plane that runs the release `old` cannot become `new`, or None: Kubernetes' rules."""
    return versions.upgrade_problem(old, new, field=field)


# --- what is reported -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Running:
    """Controllers of one release, and the words in which it was asked for."""

    text: str
    release: Version
    replicas: int


def report(running: Sequence[Running]) -> tuple[Running, ...]:
    """For `status.versions`: oldest release first, one entry for each text, nothing that does not run.

    The first one's text is `status.version`. Nothing is reported before anything runs: Cluster API takes the control
    plane as being provisioned then, and holds back workers.
    """
    texts: dict[str, Running] = {}
    for each in sorted(running, key=lambda one: one.release):
        if each.replicas > 0:
            before = texts.get(each.text)
            texts[each.text] = Running(
                text=each.text,
                release=before.release if before else each.release,
                replicas=each.replicas + (before.replicas if before else 0),
            )
    return tuple(texts.values())


# --- what Cluster API makes of it -------------------------------------------------------------------------------------


def is_provisioning(reported: Sequence[str]) -> bool:
    """Whether Cluster API takes the control plane as not there yet: it creates no worker then."""
    return not any(reported)


def is_upgrading(spec: str, reported: Sequence[str]) -> bool:
    """Whether Cluster API takes the control plane as on its way to `spec`: it changes nothing else then.

    Raises ValueError for texts that it could not read either.
    """
    told = [each for each in reported if each]
    if not told:
        return False
    lowest = told[0]
    for each in told[1:]:
        lowest = each if compare(each, lowest) < 0 else lowest
    return compare(spec, lowest) >= 1


def compare(one: str, other: str) -> int:
    """-1, 0 or 1 as `one` is lower, equal or greater; 2 where they differ and no order can be told.

    Semver, and where that says equal, build metadata: dot by dot, numbers before words, words only for equality, and
    a longer one after its own beginning. Raises ValueError.
    """
    (core, pre, build), (other_core, other_pre, other_build) = _semver(one), _semver(other)
    if core != other_core:
        return -1 if core < other_core else 1
    if ordered := _order_prereleases(pre, other_pre):
        return ordered
    for mine, its in itertools.zip_longest(build, other_build):
        if mine is None or its is None:
            return -1 if mine is None else 1
        if mine != its:
            if mine.isdigit() and its.isdigit():
                if int(mine) != int(its):
                    return -1 if int(mine) < int(its) else 1
            elif mine.isdigit() or its.isdigit():
                return -1 if mine.isdigit() else 1
            else:
                return 2
    return 0


_Semver = tuple[tuple[int, int, int], tuple[str, ...], tuple[str, ...]]


def _semver(text: str) -> _Semver:
    found = _SEMVER.fullmatch(text)
    if not found:
        raise ValueError(f"{text[:64]!r} is no semantic version")
    major, minor, patch, pre, build = found.groups()
    return (
        (int(major), int(minor), int(patch)),
        tuple(pre.split(".") if pre else ()),
        tuple(build.split(".") if build else ()),
    )


def _order_prereleases(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Semver 2.0.0, section 11: a prerelease is lower than its release."""
    if not one or not other:
        return (not one) - (not other)
    for mine, its in itertools.zip_longest(one, other):
        if mine == its:
            continue
        if mine is None or its is None:
            return -1 if mine is None else 1
        if mine.isdigit() and its.isdigit():
            return -1 if int(mine) < int(its) else 1
        if mine.isdigit() or its.isdigit():
            return -1 if mine.isdigit() else 1
        return -1 if mine < its else 1
    return 0


# --- what to tell the user --------------------------------------------------------------------------------------------


def advice(asked: Asked) -> str:
    """What follows from the form of a version, for a condition's message; "" where nothing needs to be said."""
    write = f"write {asked.kubelet}, also for Machines"
    never = f"from v1.14 on Cluster API takes workers with {asked.text} as never up to date"
    match asked.form:
        case Form.KUBELET:
            return "" if asked.text == asked.kubelet else f"spec.version {asked.text} is understood; {write}"
        case Form.RELEASE | Form.PLAIN:
            why = f"kubelets report {asked.kubelet}: {never}"
        case Form.TAG:
            plain = asked.kubelet.partition("+")[0]
            why = (
                f"by semver it is a prerelease of {plain}, so it counts as older than {plain}, and kubelets report "
                f"{asked.kubelet}: {never}"
            )
    return f"spec.version {asked.text} is understood, but {why}; {write}"
