"""User data of a worker's machine, in the format that was asked for."""

from __future__ import annotations

from collections.abc import Iterator

from hosted_cp.machines.cloud_config import INSTANCE_DATA, cloud_config
from hosted_cp.machines.files import written
from hosted_cp.machines.ignition import ignition
from hosted_cp.machines.powershell import powershell_data
from hosted_cp.machines.worker import (
    SMALLEST_LIMIT,
    Format,
    Platform,
    Resolved,
    UserData,
    Worker,
    WorkerError,
    secret_values,
)


def render(worker: Worker, resolved: Resolved) -> UserData:
    """The user data. Equal inputs give equal bytes. Raises `WorkerError`; never for a worker without `problems`."""
    try:
        value = _value(worker, resolved)
    except WorkerError:
        raise
    except ValueError:  # of `quoting`, and of encoding and decoding
        raise WorkerError("a text of the worker holds a NUL or half of a character, or is no UTF-8") from None
    warnings = (*size_warnings(len(value)), *warnings_of(worker))
    return UserData(value=value, format=worker.format, warnings=warnings)


def preview(worker: Worker) -> UserData:
    """The user data with descriptions in the places of secrets, for people."""
    contents = {each: str(each).encode() for each in secret_values(worker)}
    return render(worker, Resolved(token="<join token>", contents=contents))  # noqa: S106 - a description


def _value(worker: Worker, resolved: Resolved) -> bytes:
    windows = worker.platform is Platform.WINDOWS
    match worker.format:
        case Format.CLOUD_CONFIG:
            return cloud_config(worker, resolved)
        case Format.IGNITION if not windows:
            return ignition(worker, resolved)
        case Format.POWERSHELL | Format.POWERSHELL_XML if windows:
            custom = None if worker.custom is None else resolved.content(worker.custom)
            xml = worker.format is Format.POWERSHELL_XML
            return powershell_data(written(worker, resolved), custom=custom, xml=xml)
    raise WorkerError(f"spec.provisioner: {worker.format} is no format of {worker.platform}")


def size_warnings(size: int) -> Iterator[str]:
    """What is to be said of user data of this many bytes."""
    if size > SMALLEST_LIMIT:
        yield (
            f"the user data has {size} bytes; some providers (EC2 for one) take {SMALLEST_LIMIT} at most:"
            " make spec.files smaller, or let the machine fetch them"
        )


def warnings_of(worker: Worker) -> Iterator[str]:
    """What is to be said of the worker, whatever its user data look like."""
    if worker.format is Format.IGNITION and worker.custom is not None:
        yield "spec.provisioner.customUserDataRef is not used with Ignition: write additionalConfig instead"
    instance_data = worker.format is Format.CLOUD_CONFIG and worker.platform is Platform.LINUX and worker.instance_data
    looking = [each for each in (*worker.args, worker.provider_id) if INSTANCE_DATA.search(each)]
    if looking and not instance_data:
        yield (
            f"{looking[0][:128]!r} is passed on as it is written, and not filled in with data of the instance: if it"
            " should be, set spec.provisioner.instanceData, with type cloud-config on linux"
        )
