"""Windows: one script that makes the machine a worker, over as many restarts as it takes, and the user data in
PowerShell that writes it and runs it.

Every file goes as base64, so in the user data stand only letters, digits and paths that `quoting.powershell` has made;
that is also why nothing in it can end the `<powershell>` element of EC2 early. Windows PowerShell reads a script
without a byte order mark in the machine's own code page: the script has one.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hosted_cp.machines.arguments import install_argv
from hosted_cp.machines.quoting import powershell
from hosted_cp.machines.templating import template
from hosted_cp.machines.worker import WINDOWS_SENTINEL, Worker, binary_path

if TYPE_CHECKING:
    from hosted_cp.machines.files import Written

SCRIPT = r"C:\bootstrap\k0s_install.ps1"
_ARGUMENTS = f'-NoProfile -NonInteractive -ExecutionPolicy Bypass -File "{SCRIPT}"'

_INSTALL = template("k0s_install.ps1.j2")


def run_script() -> str:
    """The command that runs the script."""
    return f"powershell.exe {_ARGUMENTS}"


def install_script(worker: Worker) -> bytes:
    """The script. Raises `WorkerError`."""
    version = str(worker.version)
    url = worker.download_url or f"https://get.k0sproject.io/{version}/k0s-{version}-amd64.exe"
    text = _INSTALL.render(
        sentinel=WINDOWS_SENTINEL,
        binary=binary_path(worker),
        arguments=_ARGUMENTS,
        pre_commands=worker.pre_commands,
        post_commands=worker.post_commands,
        url="" if worker.pre_installed else url,
        checksum=worker.checksum,
        install_arguments=install_argv(worker)[1:],
    )
    return b"\xef\xbb\xbf" + text.encode()


def powershell_data(files: Sequence[Written], *, custom: bytes | None, xml: bool) -> bytes:
    """User data that writes the files and runs the script, then the user's own."""
    lines = ["$ErrorActionPreference = 'Stop'"]
    for file in files:
        lines += _write(file)
    lines.append(run_script())
    parts = ["\n".join([*lines, ""])]
    if custom is not None:
        parts.append(custom.decode().replace("\r\n", "\n").rstrip("\n") + "\n")
    if xml:
        parts = ["<powershell>\n", *parts, "</powershell>\n"]
    return "".join(parts).encode()


def _write(file: Written) -> list[str]:
    path = powershell(file.path)
    lines = [
        f"[void][IO.Directory]::CreateDirectory([IO.Path]::GetDirectoryName({path}))",
        f"[IO.File]::WriteAllBytes({path}, [Convert]::FromBase64String('{base64.b64encode(file.content).decode()}'))",
    ]
    if file.permissions.endswith("00"):
        # Not for group and others: only for the system (S-1-5-18) and its administrators (S-1-5-32-544).
        lines.append(f"icacls.exe {path} /inheritance:r /grant:r '*S-1-5-18:F' '*S-1-5-32-544:F' | Out-Null")
    return lines
