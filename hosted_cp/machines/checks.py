"""What is wrong with a worker, field by field: everything that would keep its user data from being rendered, from being
understood by the machine, or from arriving as it is written."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hosted_cp.api import butane, machine_rules
from hosted_cp.api.problems import Problem
from hosted_cp.machines.arguments import argument_problems
from hosted_cp.machines.worker import Format, Platform, Worker

_DIGEST = re.compile(r"[0-9a-fA-F]{64}")


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
    yield from machine_rules.format_problems(place, type=worker.format, platform=worker.platform)
    if worker.platform is Platform.WINDOWS:
        yield from machine_rules.windows_problems(str(worker.version), field=f"{field}.version")
    if worker.format is not Format.IGNITION:
        return
    if worker.ignition is None:
        yield machine_rules.ignition_missing(place)
        return
    yield from butane.problems(
        variant=worker.ignition.variant,
        version=worker.ignition.version,
        additional=worker.ignition.additional_config,
        field=f"{place}.ignition",
    )


def _download(worker: Worker, field: str) -> Iterator[Problem]:
    if worker.checksum and not _DIGEST.fullmatch(worker.checksum):
        yield Problem(field=f"{field}.downloadSHA256", fault="is no SHA-256", remedy="write 64 hex digits")
    if worker.download_url:
        windows = worker.platform is Platform.WINDOWS
        yield from machine_rules.url_problems(f"{field}.downloadURL", worker.download_url, windows=windows)


def _folders(worker: Worker, field: str) -> Iterator[Problem]:
    windows = worker.platform is Platform.WINDOWS
    for name, value in (("k0sInstallDir", worker.install_dir), ("workingDir", worker.working_dir)):
        if value or name == "k0sInstallDir":
            yield from machine_rules.path_problems(f"{field}.{name}", value, windows=windows, what="of a directory")


def _commands(worker: Worker, field: str) -> Iterator[Problem]:
    yield from machine_rules.command_problems(f"{field}.preK0sCommands", worker.pre_commands)
    yield from machine_rules.command_problems(f"{field}.postK0sCommands", worker.post_commands)


def _files(worker: Worker, field: str) -> Iterator[Problem]:
    yield from machine_rules.file_problems(
        ((each.path, each.permissions) for each in worker.files), field=f"{field}.files",
        working_dir=worker.working_dir, windows=worker.platform is Platform.WINDOWS,
    )  # fmt: skip
    for index, file in enumerate(worker.files):
        if worker.format is Format.IGNITION and (machine_rules.mode(file.permissions) or 0) > 0o777:
            yield Problem(
                field=f"{field}.files[{index}].permissions",
                fault="has a special bit, which Ignition does not set on files",
                remedy="set it by a command of spec.postK0sCommands",
            )


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
