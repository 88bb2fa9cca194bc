"""What is wrong with a worker, field by field: everything that would keep its user data from being rendered, from being
understood by the machine, or from arriving as it is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from hosted_cp.api.problems import Problem
from hosted_cp.machines.arguments import argument_problems
from hosted_cp.machines.butane import ButaneError, ignition_config, ignition_version
from hosted_cp.machines.files import mode
from hosted_cp.machines.worker import WINDOWS_SINCE, Format, Platform, Worker, token_path

_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_FORMATS = {
    Platform.LINUX: (Format.CLOUD_CONFIG, Format.IGNITION),
    Platform.WINDOWS: (Format.CLOUD_CONFIG, Format.POWERSHELL, Format.POWERSHELL_XML),
}


def problems(worker: Worker, *, field: str = "spec") -> list[Problem]:
    """Empty if `render` will do (given the secrets, whose content is not known here)."""
    return [
        *_format(worker, field),
        *_download(worker, field),
        *_folders(worker, field),
        *argument_problems(worker, field=field),
        *_commands(worker, field),
        *_files(worker, field),
        *_custom(worker, field),
    ]


def _format(worker: Worker, field: str) -> Iterator[Problem]:
    place = f"{field}.provisioner"
    formats = _FORMATS[worker.platform]
    if worker.format not in formats:
        yield Problem(
            field=f"{place}.type",
            fault=f"{worker.format} is no format for {worker.platform}",
            remedy=f"use {' or '.join(formats)}, or another platform",
        )
    if worker.platform is Platform.WINDOWS and worker.version < WINDOWS_SINCE:
        yield Problem(
            field=f"{field}.version",
            fault=f"windows worker nodes require k0s version {WINDOWS_SINCE} or higher, and this is {worker.version}",
            remedy=f"use {WINDOWS_SINCE} or newer",
        )
    if worker.format is not Format.IGNITION:
        return
    if worker.ignition is None:
        yield Problem(field=f"{place}.ignition", fault="is missing", remedy="write variant and version")
        return
    try:
        version = ignition_version(worker.ignition.variant, worker.ignition.version)
    except ButaneError as error:
        fault, _, remedy = str(error).partition("; ")
        yield Problem(field=f"{place}.ignition", fault=fault, remedy=remedy)
        return
    if not worker.ignition.additional_config:
        return
    place = f"{place}.ignition.additionalConfig"
    try:
        other = ignition_config(worker.ignition.additional_config)["ignition"]["version"]
    except ButaneError as error:
        fault, _, remedy = str(error).partition("; ")
        yield Problem(field=place, fault=fault, remedy=remedy or "correct it")
        return
    if other != version:
        yield Problem(
            field=place,
            fault=f"mismatched Ignition versions between initial config ({version}) and additional config ({other})",
            remedy="use the same variant and version in both",
        )


def _download(worker: Worker, field: str) -> Iterator[Problem]:
    url = worker.download_url
    if worker.checksum and not _DIGEST.fullmatch(worker.checksum):
        yield Problem(field=f"{field}.downloadSHA256", fault="is no SHA-256", remedy="write 64 hex digits")
    if not url:
        return
    place = f"{field}.downloadURL"
    try:
        parts = urlsplit(url)
    except ValueError:
        yield Problem(field=place, fault="is no URL", remedy="write https://host/path")
        return
    known = ("http", "https") if worker.platform is Platform.WINDOWS else ("http", "https", "oci")
    if parts.scheme not in known:
        yield Problem(
            field=place,
            fault=f"unsupported URL scheme '{parts.scheme[:32]}'",
            remedy=f"use {', '.join(known[:-1])} or {known[-1]}",
        )
    elif not parts.netloc or not url.isprintable() or " " in url:
        yield Problem(field=place, fault="is no URL", remedy="write scheme, host and path without spaces")


def _folders(worker: Worker, field: str) -> Iterator[Problem]:
    for name, value in (("k0sInstallDir", worker.install_dir), ("workingDir", worker.working_dir)):
        if (value or name == "k0sInstallDir") and not _absolute(value, worker):
            yield Problem(field=f"{field}.{name}", fault="is no absolute path", remedy="begin it at the root")


def _absolute(path: str, worker: Worker) -> bool:
    return path.startswith("/") or (worker.platform is Platform.WINDOWS and _DRIVE.match(path) is not None)


def _commands(worker: Worker, field: str) -> Iterator[Problem]:
    for name, commands in (("preK0sCommands", worker.pre_commands), ("postK0sCommands", worker.post_commands)):
        for index, command in enumerate(commands):
            if "\0" in command or not _encodable(command):
                yield Problem(
                    field=f"{field}.{name}[{index}]", fault="holds what no script can hold", remedy="remove the NUL"
                )


def _files(worker: Worker, field: str) -> Iterator[Problem]:
    seen = {token_path(worker)}
    for index, file in enumerate(worker.files):
        place = f"{field}.files[{index}]"
        if not file.path:
            yield Problem(field=f"{place}.path", fault="is missing", remedy="add it")
        elif not _absolute(file.path, worker) or "\0" in file.path or not _encodable(file.path):
            yield Problem(field=f"{place}.path", fault="is no absolute path", remedy="begin it at the root")
        elif file.path in seen:
            yield Problem(
                field=f"{place}.path", fault="path property must be unique among all files", remedy="remove one"
            )
        seen.add(file.path)
        value = mode(file.permissions) if file.permissions else 0
        if value is None:
            yield Problem(
                field=f"{place}.permissions",
                fault=f"{file.permissions[:32]!r} is no octal number",
                remedy='write four octal digits in quotes, like "0644"',
            )
        elif value > 0o777 and worker.format is Format.IGNITION:
            yield Problem(
                field=f"{place}.permissions",
                fault="has a special bit, which Ignition does not set on files",
                remedy="set it by a command of spec.postK0sCommands",
            )


def _encodable(text: str) -> bool:
    return not any(0xD800 <= ord(each) < 0xE000 for each in text)


def _custom(worker: Worker, field: str) -> Iterator[Problem]:
    if not isinstance(worker.custom, bytes) or worker.platform is not Platform.WINDOWS:
        return
    place = f"{field}.provisioner.customUserDataRef"
    if worker.format in (Format.POWERSHELL, Format.POWERSHELL_XML):
        try:
            text = worker.custom.decode()
        except UnicodeDecodeError:
            yield Problem(field=place, fault="is no text", remedy="store it as UTF-8")
            return
        if worker.format is Format.POWERSHELL_XML and "</powershell" in text.lower():
            yield Problem(
                field=place, fault="would end the <powershell> element", remedy="take </powershell> out of it"
            )
