"""User data in PowerShell, plain or as an element: it writes the files, and runs the one that is the script of
`windows`.

Every file goes as base64, so in the user data stand only letters, digits and paths that `quoting.powershell` has made;
that is also why nothing in it can end the `<powershell>` element of EC2 early.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from hosted_cp.machines.files import Written
from hosted_cp.machines.quoting import powershell
from hosted_cp.machines.windows import run_script


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
