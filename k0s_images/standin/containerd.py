"""The worker's own containerd: its configuration with drop-ins, and the import of image archives.

`/etc/k0s/containerd.toml` is ours as long as its first line says so; an administrator who removes that line keeps the
file. Files in `/etc/k0s/containerd.d/*.toml` are imported by it.
"""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from pathlib import Path

from k0s_images.standin import layout, log
from k0s_images.standin.errors import Fatal
from k0s_images.standin.inotify import Watcher
from k0s_images.standin.layout import Layout, executable
from k0s_images.standin.supervisor import Child, Program

MAGIC = "# k0s_managed=true"
_CONFIG = Path("/etc/k0s/containerd.toml")
_DROP_INS = Path("/etc/k0s/containerd.d")
_PLUGINS = {
    2: ('[plugins."io.containerd.grpc.v1.cri"]\n  sandbox_image = "{pause}"\n'),
    3: ('[plugins."io.containerd.cri.v1.images".pinned_images]\n  sandbox = "{pause}"\n'),
}


def configuration(*, version: int, pause: str, drop_ins: Path = _DROP_INS) -> str:
    """The content of `containerd.toml`; drop-ins override it."""
    return (
        f"{MAGIC}\n# Written at every start. Without the line above it is left alone.\n\n"
        f'version = {version}\nimports = ["{drop_ins}/*.toml"]\n\n' + _PLUGINS[version].format(pause=pause)
    )


def config_version(containerd: Path) -> int:
    """The configuration version that this containerd speaks: 3 from containerd 2 on.

    A stand-in takes the containerd it finds, which may be another major than the one k0s pins.
    """
    try:
        said = subprocess.run([containerd, "--version"], capture_output=True, text=True, check=True).stdout
        major = int(said.split()[2].removeprefix("v").partition(".")[0])
    except (OSError, subprocess.CalledProcessError, IndexError, ValueError) as fault:
        raise Fatal(f"cannot tell the version of {containerd}: {fault}") from None
    return 3 if major >= 2 else 2


class Containerd:
    """containerd below a worker's directories."""

    def __init__(self, places: Layout) -> None:
        self._layout = places
        self.socket = places.run / "containerd.sock"

    def start(self, *, pause: str, log_level: str) -> Child:
        """Write the configuration and start."""
        binary = executable("containerd", self._layout)
        layout.directory(_DROP_INS, 0o755)
        if not _CONFIG.is_file() or _CONFIG.read_text().startswith(MAGIC):
            content = configuration(version=config_version(binary), pause=pause)
            layout.write(_CONFIG, content, 0o644)
        argv = [
            str(binary),
            f"--root={self._layout.data / 'containerd'}",
            f"--state={self._layout.run / 'containerd'}",
            f"--address={self.socket}",
            f"--log-level={log_level}",
            f"--config={_CONFIG}",
        ]
        child = Child(Program(name="containerd", argv=argv), self._layout)
        child.start()
        return child

    def answers(self) -> bool:
        """Whether containerd accepts connections."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self.socket))
            except OSError:
                return False
        return True

    def import_images(self, stop: threading.Event) -> None:
        """Import the archives in `<data-dir>/images`, now and when some arrive, until told to stop."""
        folder = layout.directory(self._layout.data / "images", 0o755)
        try:
            ctr = executable("ctr", self._layout)
        except Fatal:
            log.info("no ctr on PATH, images are not imported", component="images")
            return
        watcher = Watcher()
        watcher.watch([folder])
        done: set[tuple[str, int, int]] = set()
        while not stop.is_set():
            for archive in sorted(folder.iterdir()):
                facts = archive.stat()
                known = (archive.name, facts.st_size, facts.st_mtime_ns)
                if archive.is_file() and not archive.name.endswith(".new") and known not in done:
                    done.add(known)
                    self._import(ctr, archive)
            watcher.wait(None)

    def _import(self, ctr: Path, archive: Path) -> None:
        begun = time.monotonic()
        argv = [
            str(ctr),
            "--address",
            str(self.socket),
            "--namespace",
            "k8s.io",
            "images",
            "import",
            "--local",
            str(archive),
        ]
        result = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
        if result.returncode:
            log.error(f"importing {archive.name}: {result.stderr.strip()}", component="images")
        else:
            log.info(f"imported {archive.name} in {time.monotonic() - begun:.1f} s", component="images")
