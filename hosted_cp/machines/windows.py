"""Windows: one script that makes the machine a worker, over as many restarts as it takes. It is a file like any other.

Windows PowerShell reads a script without a byte order mark in the machine's own code page: the script has one.
"""

from __future__ import annotations

from hosted_cp.machines.arguments import install_argv
from hosted_cp.machines.templating import template
from hosted_cp.machines.worker import WINDOWS_SENTINEL, Worker, binary_path

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
