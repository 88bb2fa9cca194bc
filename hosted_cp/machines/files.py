"""The files of a worker's machine, in writing order: the join token, then the user's."""

from __future__ import annotations

from dataclasses import dataclass, field

from hosted_cp.api.machine_rules import mode
from hosted_cp.machines.windows import SCRIPT, install_script
from hosted_cp.machines.worker import Platform, Resolved, Worker, WorkerError, token_path


@dataclass(frozen=True, kw_only=True)
class Written:
    """A file with its content."""

    path: str
    content: bytes = field(repr=False)
    #: Four octal digits, or "".
    permissions: str


def written(worker: Worker, resolved: Resolved) -> list[Written]:
    """All files. On Windows one of them is the script that does the rest. Raises `WorkerError`."""
    token = Written(path=token_path(worker), content=resolved.token.encode(), permissions="0600")
    script = []
    if worker.platform is Platform.WINDOWS:
        script.append(Written(path=SCRIPT, content=install_script(worker), permissions=""))
    return [token, *(_user_file(worker, resolved, index) for index in range(len(worker.files))), *script]


def _user_file(worker: Worker, resolved: Resolved, index: int) -> Written:
    file = worker.files[index]
    value = mode(file.permissions) if file.permissions else None
    if file.permissions and value is None:
        raise WorkerError(f"spec.files[{index}].permissions: {file.permissions[:32]!r} is no octal number")
    return Written(
        path=file.path, content=resolved.content(file.content), permissions="" if value is None else f"{value:04o}"
    )
