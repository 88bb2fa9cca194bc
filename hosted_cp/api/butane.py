"""Butane, as far as a bootstrap provider needs it: `spec.provisioner.ignition` names a version of it, and
`additionalConfig` is written in it.

Butane's documents are Ignition's in YAML with other spellings, plus sugar. The spellings are translated here. Sugar
that stands for a layout of disks, mount units or MachineConfigs is refused by name, and so are keys that Butane does
not know: half a translation would boot a machine that lacks something. Rules: Butane's published specifications.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from hosted_cp.api.problems import Problem, path
from hosted_cp.api.text import TextError, load

_OPENSHIFT = {f"4.{minor}.0": "3.2.0" for minor in range(8, 14)}
_OPENSHIFT |= {f"4.{minor}.0": "3.4.0" for minor in range(14, 19)} | {
    f"4.{minor}.0": "3.5.0" for minor in range(19, 23)
}

#: variant -> version of Butane's language -> Ignition's. Stable ones only.
SPECIFICATIONS: Mapping[str, Mapping[str, str]] = {
    "fcos": {
        "1.0.0": "3.0.0",
        "1.1.0": "3.1.0",
        "1.2.0": "3.2.0",
        "1.3.0": "3.2.0",
        "1.4.0": "3.3.0",
        "1.5.0": "3.4.0",
        "1.6.0": "3.5.0",
        "1.7.0": "3.6.0",
    },
    "flatcar": {"1.0.0": "3.3.0", "1.1.0": "3.4.0"},
    "openshift": _OPENSHIFT,
    "r4e": {"1.0.0": "3.3.0", "1.1.0": "3.4.0"},
    "fiot": {"1.0.0": "3.4.0"},
}

_KEYS = (
    "ignition config merge replace source inline compression http_headers name value verification hash timeouts "
    "http_response_headers http_total security tls certificate_authorities proxy http_proxy https_proxy no_proxy "
    "storage disks device wipe_table partitions label number size_mib start_mib type_guid guid "
    "wipe_partition_entry should_exist resize raid level devices spares options filesystems format path "
    "wipe_filesystem uuid mount_options with_mount_unit files overwrite contents append mode user id group "
    "directories links target hard luks key_file discard open_options wipe_volume clevis tang url thumbprint "
    "advertisement tpm2 threshold custom pin needs_network cex enabled systemd units mask dropins passwd users "
    "password_hash ssh_authorized_keys uid gecos home_dir no_create_home primary_group groups no_user_group "
    "no_log_init shell system gid kernel_arguments should_not_exist "
)
_KNOWN = frozenset(_KEYS.split())
_SUGAR = {
    "local": "there is no folder to take a local file from; write it inline",
    "contents_local": "there is no folder to take a local file from; write it as contents",
    "ssh_authorized_keys_local": "there is no folder to take a local file from; write ssh_authorized_keys",
    "trees": "there is no folder to take a tree from; write storage.files",
    "boot_device": "is not supported here; write the disks, raid, luks and filesystems it stands for",
    "grub": "is not supported here; write the files it stands for",
    "openshift": "is not supported here; write what it stands for",
    "metadata": "belongs to a MachineConfig, which nobody makes here; remove it",
    "extensions": "belongs to a MachineConfig, which nobody makes here; remove it",
}
_SPELLINGS = {"size_mib": "sizeMiB", "start_mib": "startMiB"}


class ButaneError(ValueError):
    """The document cannot be translated; the message says where and why, and what to do."""


def problems(*, variant: str, version: str, additional: str, field: str) -> Iterator[Problem]:
    """Everything that is wrong with `spec.provisioner.ignition` (its place is `field`): asked when it is written, and
    of the worker that was made of it. None where `ignition_version` and `ignition_config` do."""
    try:
        ours = ignition_version(variant, version)
    except ButaneError as error:
        yield _problem(f"{field}.{'version' if variant in SPECIFICATIONS else 'variant'}", error)
        return
    if not additional:
        return
    place = f"{field}.additionalConfig"
    try:
        document = _document(additional)
    except ButaneError as error:
        yield _problem(place, error)
        return
    unsaid = [key for key in ("variant", "version") if not isinstance(document.get(key), str)]
    for key in unsaid:
        said = {"variant": variant, "version": version}[key]
        fault = f"has no {key}, and is a Butane config of its own"
        yield Problem(field=place, fault=fault, remedy=f"write {key}: {said} into it")
    if unsaid:
        return
    try:
        theirs = ignition_config(additional)["ignition"]["version"]
    except ButaneError as error:
        yield _problem(place, error)
        return
    if theirs != ours:
        yield Problem(
            field=place,
            fault=f"mismatched Ignition versions between initial config ({ours}) and additional config ({theirs})",
            remedy="use the same variant and version in both",
        )


def _problem(field: str, error: ButaneError) -> Problem:
    fault, _, remedy = str(error).removeprefix("it ").partition("; ")
    return Problem(field=field, fault=fault, remedy=remedy or "correct it")


def ignition_version(variant: str, version: str) -> str:
    """Ignition's version for a version of Butane. Raises `ButaneError`."""
    versions = SPECIFICATIONS.get(variant)
    if versions is None:
        raise ButaneError(f"variant {variant[:32]!r} is unknown; use one of {', '.join(SPECIFICATIONS)}")
    if version not in versions:
        raise ButaneError(f"version {version[:32]!r} of {variant} is unknown; use one of {', '.join(versions)}")
    return versions[version]


def ignition_config(text: str) -> dict[str, Any]:
    """The Ignition config that a Butane document stands for. Raises `ButaneError`."""
    document = _document(text)
    rest = {key: value for key, value in document.items() if key not in ("variant", "version")}
    version = ignition_version(str(document.get("variant", "")), str(document.get("version", "")))
    translated: dict[str, Any] = _translate(rest, ())
    return {**translated, "ignition": {**translated.get("ignition", {}), "version": version}}


def _document(text: str) -> Mapping[Any, Any]:
    try:
        document = load(text)
    except TextError as error:
        raise ButaneError(f"{error}; write a Butane config") from None
    if not isinstance(document, Mapping):
        raise ButaneError("it is no object; write a Butane config")
    return document


def _translate(value: Any, place: tuple[str | int, ...]) -> Any:
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for key, each in value.items():
            here = (*place, str(key))
            if key in _SUGAR:
                raise ButaneError(f"{_at(here)}: {_SUGAR[key]}")
            if key not in _KNOWN:
                raise ButaneError(f"{_at(here)}: is no key of Butane; correct or remove it")
            if key == "inline":
                found["source"] = data_url(_string(each, here).encode())
            elif key == "with_mount_unit":
                if each:
                    raise ButaneError(f"{_at(here)}: is not supported here; write the mount unit under systemd.units")
            else:
                found[_spelling(key)] = _translate(each, here)
        return found
    if isinstance(value, list):
        return [_translate(each, (*place, index)) for index, each in enumerate(value)]
    if value is None or isinstance(value, str | int | bool):
        return value
    raise ButaneError(f"{_at(place)}: is of a type that Butane does not have; write it in quotes")


def _string(value: Any, place: tuple[str | int, ...]) -> str:
    if not isinstance(value, str):
        raise ButaneError(f"{_at(place)}: is no text; write it in quotes")
    return value


def _spelling(key: str) -> str:
    first, *others = key.split("_")
    return _SPELLINGS.get(key) or first + "".join(each.capitalize() for each in others)


def _at(place: tuple[str | int, ...]) -> str:
    return path("", place).removeprefix(".")[:200]


def data_url(content: bytes) -> str:
    """The content as a URL (RFC 2397)."""
    return f"data:;base64,{base64.b64encode(content).decode()}"
