"""What a Linux machine runs to become a worker, line by line for its shell, in the order of k0smotron: the user's pre
commands, the download, `k0s install worker`, the start of the service, the user's post commands, the sentinel.

Our own lines end the script when they fail. So the sentinel says what the contract wants it to say, that the worker has
been started, and a machine whose download failed is told apart from one that works; k0smotron's says only that the end
of the script was reached.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from hosted_cp.machines.arguments import install_argv, needs_real_init
from hosted_cp.machines.quoting import shell
from hosted_cp.machines.worker import SENTINEL, Worker, WorkerError, binary_path

#: k0s' own installer; it takes the architecture from the machine.
INSTALLER = "https://get.k0s.sh"
_DEFAULT_DIR = "/usr/local/bin"

_START = (
    "(command -v systemctl > /dev/null 2>&1 && systemctl start k0sworker)"
    " || (command -v rc-service > /dev/null 2>&1 && rc-service k0sworker start)"
    " || (command -v service > /dev/null 2>&1 && service k0sworker start)"
    " || { echo 'k0sworker could not be started: neither systemd nor OpenRC nor SysV did it' >&2; exit 1; }"
)
_SENTINEL = f"mkdir -p {SENTINEL.rpartition('/')[0]} && touch {SENTINEL}"
_GUARD = (
    "[ -d /run/systemd/system ] || command -v rc-service > /dev/null 2>&1"
    " || { echo 'the SysV script of k0s cannot hold these arguments (spec.args): use systemd or OpenRC' >&2; exit 1; }"
)


def linux_commands(worker: Worker, *, systemd: bool = False) -> list[str]:
    """Lines of POSIX shell. `systemd` if the machine is known to have it. Raises `WorkerError`."""
    guard = [_GUARD] if not systemd and needs_real_init(worker) else []
    return [
        *worker.pre_commands,
        *_download(worker),
        *guard,
        f"{' '.join(map(shell, install_argv(worker)))} || exit 1",
        _START,
        *worker.post_commands,
        _SENTINEL,
    ]


def _download(worker: Worker) -> Iterator[str]:
    if worker.pre_installed:
        return
    url, checksum = worker.download_url, worker.checksum.lower()
    folder, binary = shell(worker.install_dir), shell(binary_path(worker))
    if worker.install_dir.rstrip("/") != _DEFAULT_DIR:
        yield f"mkdir -p {folder} || exit 1"
    if not url:
        # A failed download leaves the shell without a script, which is no failure; the install command will be one.
        settings = f"K0S_INSTALL_PATH={folder} K0S_VERSION={shell(str(worker.version))}"
        yield f"curl -sSfL --retry 5 {INSTALLER} | {settings} sh"
    else:
        match urlsplit(url).scheme:
            case "http" | "https":
                # curl makes many URLs of one with these characters.
                literal = "--globoff " if set(url) & set("[]{}") else ""
                yield f"curl -sSfL --retry 5 {literal}{shell(url)} -o {binary} || exit 1"
            case "oci":
                yield "export HOME=/root"
                yield f"oras blob fetch --output {binary} {shell(url.removeprefix('oci://'))} || exit 1"
            case scheme:
                raise WorkerError(f"spec.downloadURL: unsupported URL scheme '{scheme}'")
    if checksum:
        yield (
            f"[ \"$(sha256sum < {binary} | cut -d ' ' -f 1)\" = {shell(checksum)} ]"
            f" || {{ rm -f {binary}; echo 'the k0s that was downloaded has another checksum' >&2; exit 1; }}"
        )
    if url:
        yield f"chmod +x {binary} || exit 1"
