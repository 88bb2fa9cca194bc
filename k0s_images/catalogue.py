"""Which k0s versions hosted-cp supports, and the images that run them: `catalogue.json`, read and judged.

The file is data with two readers. The operator carries a copy of it in its package (the two code bases do not import
each other); this module is the reader on the side of the images, and the one place where its rules are enforced: a
catalogue that breaks one of them does not load.

* A release is listed under its minor, its tag is its version with `+` replaced by `-`, the newest is the first.
* Each listed release pins the Kubernetes version that its own name states.
* The etcd floors are the oldest versions without a defect that loses data or lets a tenant past its permissions; the
  default is not below its floor. They bind the etcd that the *operator* runs beside a control plane. The etcd inside a
  k0s release is told only so that people can see it; hosted control planes never start it.

Patches of a listed minor that are not in the catalogue are accepted too: k0s releases more often than we do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

#: The canonical file; it travels as `hosted_cp/catalogue.json` in the operator's package.
FILE = Path(__file__).with_name("catalogue.json")

_K0S_VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)\+k0s\.(\d+)")
_VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
_REPOSITORY = re.compile(r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)+")


class CatalogueError(ValueError):
    """The catalogue breaks one of its rules; the message names the place and the rule."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """One k0s release: its image tag and the versions of the components in it."""

    version: str
    tag: str
    components: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Etcd:
    """The etcd image that runs beside hosted control planes, and the oldest version allowed of each minor."""

    repository: str
    default: str
    floors: Mapping[str, str]

    @property
    def image(self) -> str:
        return f"{self.repository}:{self.default}"


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The supported k0s versions and the images that run them."""

    repository: str
    default: str
    minors: Mapping[str, tuple[Release, ...]]
    etcd: Etcd

    def release(self, version: str) -> Release:
        """The entry of a listed version; `CatalogueError` for any other."""
        for release in self.minors.get(minor_of(version), ()):
            if release.version == version:
                return release
        raise CatalogueError(f"k0s {version} is not in the catalogue; newest: {', '.join(self.newest().values())}")

    def newest(self) -> dict[str, str]:
        """The newest listed version of each minor, newest minor first."""
        return {minor: releases[0].version for minor, releases in self.minors.items()}


@cache
def load(path: Path = FILE) -> Catalogue:
    """The catalogue in a file. Raises `CatalogueError` when it breaks a rule, `OSError` when it cannot be read."""
    try:
        return parse(json.loads(path.read_text()))
    except json.JSONDecodeError as problem:
        raise CatalogueError(f"{path.name}: {problem}") from problem


def parse(data: Any) -> Catalogue:
    """The catalogue in decoded JSON. Raises `CatalogueError` when it breaks a rule."""
    top = _fields(data, "the catalogue", schema=int, k0s=dict, etcd=dict)
    _rule(top["schema"] == 1, f"schema {top['schema']} is unknown, this code reads schema 1")
    k0s = _fields(top["k0s"], "k0s", repository=str, default=str, minors=dict)
    _rule(_REPOSITORY.fullmatch(k0s["repository"]), f"k0s.repository {k0s['repository']!r} is not an image repository")
    minors = {name: _minor(name, entry) for name, entry in k0s["minors"].items()}
    order = [tuple(map(int, name.split("."))) for name in minors]
    _rule(order and order == sorted(order, reverse=True), "k0s.minors: the newest minor comes first")
    newest = next(iter(minors.values()))[0].version
    _rule(k0s["default"] == newest, f"k0s.default is {k0s['default']}, the newest release is {newest}")
    return Catalogue(repository=k0s["repository"], default=k0s["default"], minors=minors, etcd=_etcd(top["etcd"]))


def tag_of(version: str) -> str:
    """The image tag of a k0s version: tags cannot hold `+`. `CatalogueError` for what is no k0s version."""
    _rule(_K0S_VERSION.fullmatch(version), f"{version!r} is no k0s version such as v1.36.3+k0s.2")
    return version.replace("+", "-")


def minor_of(version: str) -> str:
    """`1.36` for `v1.36.3+k0s.2`. `CatalogueError` for what is no k0s version."""
    found = _K0S_VERSION.fullmatch(version)
    if not found:
        raise CatalogueError(f"{version!r} is no k0s version such as v1.36.3+k0s.2")
    return f"{found[1]}.{found[2]}"


def _minor(name: str, data: Any) -> tuple[Release, ...]:
    entry = _fields(data, f"k0s.minors.{name}", newest=str, releases=list)
    releases = tuple(_release(name, each) for each in entry["releases"])
    order = [_numbers(_K0S_VERSION, release.version) for release in releases]
    _rule(
        order and order == sorted(set(order), reverse=True), f"{name}: releases are listed once each, the newest first"
    )
    _rule(
        entry["newest"] == releases[0].version,
        f"{name}: newest is {entry['newest']}, listed first is {releases[0].version}",
    )
    return releases


def _release(minor: str, data: Any) -> Release:
    entry = _fields(data, f"a release of {minor}", version=str, tag=str, components=dict)
    version, tag = entry["version"], entry["tag"]
    _rule(minor_of(version) == minor, f"{version} is listed under {minor}")
    _rule(tag == tag_of(version), f"{version}: its tag is {tag_of(version)}, not {tag}")
    components = _fields(entry["components"], version, kubernetes=str, etcd=str, kine=str, konnectivity=str)
    for component, pinned in components.items():
        _numbers(_VERSION, pinned, where=f"{version}: {component}")
    _rule(
        components["kubernetes"] == version.split("+")[0],
        f"{version} cannot hold Kubernetes {components['kubernetes']}",
    )
    return Release(version=version, tag=tag, components=components)


def _etcd(data: Any) -> Etcd:
    entry = _fields(data, "etcd", repository=str, default=str, floors=dict)
    _rule(
        _REPOSITORY.fullmatch(entry["repository"]),
        f"etcd.repository {entry['repository']!r} is not an image repository",
    )
    for minor, floor in entry["floors"].items():
        numbers = _numbers(_VERSION, floor, where=f"etcd.floors.{minor}")
        _rule(minor == f"{numbers[0]}.{numbers[1]}", f"etcd.floors.{minor} holds {floor}")
    default = _numbers(_VERSION, entry["default"], where="etcd.default")
    floor = entry["floors"].get(f"{default[0]}.{default[1]}")
    _rule(floor, f"etcd.default {entry['default']}: no floor is known for its minor")
    _rule(default >= _numbers(_VERSION, floor), f"etcd.default {entry['default']} is below the floor {floor}")
    return Etcd(repository=entry["repository"], default=entry["default"], floors=dict(entry["floors"]))


def _fields(data: Any, where: str, **types: type) -> dict[str, Any]:
    """Exactly these fields with these types: a misspelt field is an error, not an absent one."""
    _rule(isinstance(data, dict), f"{where} is not an object")
    _rule(set(data) == set(types), f"{where} has the fields {sorted(data)}, wanted are {sorted(types)}")
    for field, kind in types.items():
        _rule(isinstance(data[field], kind), f"{where}: {field} is not a {kind.__name__}")
    return dict(data)


def _numbers(form: re.Pattern[str], version: str, *, where: str = "") -> tuple[int, ...]:
    found = form.fullmatch(version)
    if not found:
        raise CatalogueError(f"{where}: {version!r} is no version".lstrip(": "))
    return tuple(map(int, found.groups()))


def _rule(holds: object, otherwise: str) -> None:
    if not holds:
        raise CatalogueError(otherwise)
