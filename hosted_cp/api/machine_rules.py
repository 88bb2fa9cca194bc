"""What a value that reaches a machine may be, whoever asks: rules on paths, modes, URLs, commands and versions.

They are asked twice: for the spec as its user writes it (`worker_config_checks`), and for the worker that was made of
it and of a Machine (`hosted_cp.machines.checks`), just before it is rendered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from hosted_cp.api.problems import Problem

#: Where the join token is put, unless `workingDir` says otherwise. (On Windows, too: so does k0smotron.)
DEFAULT_WORKING_DIR = "/etc"
TOKEN_FILE = "k0s.token"  # noqa: S105 - a file's name

#: `0644`, `644`, and as Go and Python write octal numbers.
_MODE = re.compile(r"(?:0o)?0*([0-7]{1,4})", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HALF = re.compile("[\ud800-\udfff]")
_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/].*", re.DOTALL)
_WINDOWS_SINCE = (1, 34, 2)
_CORE = re.compile(r"v?(\d+)\.(\d+)\.(\d+)", re.ASCII)


def mode(permissions: str) -> int | None:
    """What `permissions` mean; None if they mean nothing."""
    found = _MODE.fullmatch(permissions)
    return int(found[1], 8) if found else None


def mode_problems(field: str, permissions: str) -> Iterator[Problem]:
    """Of a mode that is set."""
    if mode(permissions) is None:
        yield Problem(
            field=field, fault=f"{permissions[:64]!r} is no mode in octal", remedy='write one such as "0644", in quotes'
        )


def token_path(working_dir: str, *, windows: bool) -> str:
    """Where the join token is put on the machine."""
    folder = working_dir or DEFAULT_WORKING_DIR
    separator = "\\" if windows and "\\" in folder else "/"
    return f"{folder.rstrip(separator)}{separator}{TOKEN_FILE}"


def path_problems(field: str, path: str, *, windows: bool, what: str) -> Iterator[Problem]:
    """`what`: "of the file", "of a directory"."""
    # On Windows, paths from / are taken as those of the drive of the system: k0smotron's defaults are such.
    absolute = path.startswith("/") or (windows and bool(_WINDOWS_PATH.fullmatch(path)))
    steps = re.split(r"[\\/]" if windows else "/", path)
    if not path:
        yield Problem(field=field, fault="is missing", remedy=f"write the absolute path {what}")
    elif not absolute or ".." in steps:
        example = "/etc/example or C:\\example" if windows else "/etc/example"
        yield Problem(
            field=field,
            fault=f"{path[:253]!r} is no absolute path",
            remedy=f"write the whole path {what} without .., such as {example}",
        )
    elif _CONTROL.search(path) or _HALF.search(path):
        yield Problem(field=field, fault="has a control character in it", remedy="write a path without line breaks")


def file_problems(
    files: Iterable[tuple[str, str]], *, field: str, working_dir: str, windows: bool
) -> Iterator[Problem]:
    """Of (path, permissions) of each file; `field` is the list's."""
    seen: dict[str, int] = {}
    token = _same(token_path(working_dir, windows=windows), windows=windows)
    for index, (path, permissions) in enumerate(files):
        place, name = f"{field}[{index}]", _same(path, windows=windows)
        yield from path_problems(f"{place}.path", path, windows=windows, what="of the file")
        if path and name in seen:
            yield Problem(
                field=f"{place}.path",
                fault=f"{path[:253]} is also that of {field}[{seen[name]}]",
                remedy="give each file its own path",
            )
        elif path and name == token:
            yield Problem(
                field=f"{place}.path",
                fault=f"{path[:253]} is where the join token is put",
                remedy="use another path, or set spec.workingDir",
            )
        seen.setdefault(name, index)
        if permissions:
            yield from mode_problems(f"{place}.permissions", permissions)


def _same(path: str, *, windows: bool) -> str:
    """Equal for paths that are of one file."""
    return path.replace("\\", "/").lower() if windows else path


def url_problems(field: str, url: str, *, windows: bool) -> Iterator[Problem]:
    """Of what a machine downloads. (There is no client for registries on Windows.)"""
    schemes = ("http", "https") if windows else ("http", "https", "oci")
    try:
        parts = urlsplit(url)
        good = parts.scheme in schemes and bool(parts.hostname) and url.isprintable() and " " not in url
    except ValueError:
        good = False
    if not good:
        yield Problem(
            field=field,
            fault=f"is no URL of scheme {', '.join(schemes[:-1])} or {schemes[-1]}",
            remedy="write one such as https://example.org/k0s-v1.36.3+k0s.2-amd64",
        )


def command_problems(field: str, commands: Iterable[str]) -> Iterator[Problem]:
    """Of commands for the machine's own shell; `field` is the list's."""
    for index, command in enumerate(commands):
        if not command.strip() or "\0" in command or _HALF.search(command):
            yield Problem(field=f"{field}[{index}]", fault="is no command", remedy="write one, or leave it out")


def windows_problems(version: str | None, *, field: str = "spec.version") -> Iterator[Problem]:
    """Why a worker on Windows cannot be of this version. Also for a Machine's version (`field` names it)."""
    found = _CORE.match(version or "")
    if found and tuple(map(int, found.groups())) < _WINDOWS_SINCE:
        yield Problem(
            field=field,
            fault=f"{(version or '')[:64]} has no workers on Windows that k0s supports",
            remedy="use v1.34.2+k0s or newer",
        )


def format_problems(field: str, *, type: str, platform: str) -> Iterator[Problem]:
    """Whether the platform runs what the type makes; `field` is the provisioner's."""
    if type in ("powershell", "powershell-xml") and platform != "windows":
        yield Problem(
            field=f"{field}.platform",
            fault=f"is {platform}, which does not run what type {type} makes",
            remedy="set windows, or use type cloud-config",
        )
    if type == "ignition" and platform != "linux":
        yield Problem(
            field=f"{field}.platform", fault="is windows, where there is no Ignition", remedy="use type powershell"
        )


def ignition_missing(field: str) -> Problem:
    """Type ignition, and nothing about it; `field` is the provisioner's."""
    return Problem(
        field=f"{field}.ignition",
        fault="is missing, and type ignition needs it",
        remedy="add variant and version, such as fcos and 1.5.0",
    )
