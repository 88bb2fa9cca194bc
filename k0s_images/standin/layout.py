"""Where k0s keeps its files, with which modes, and the lock that admits one k0s per run directory."""

from __future__ import annotations

import fcntl
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from k0s_images.standin import documents, kubectl
from k0s_images.standin.errors import Fatal


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Paths derived from `--data-dir`, `--status-socket` and the user that runs us."""

    data: Path = Path("/var/lib/k0s")
    socket: Path | None = None
    #: Distinguishes this start of k0s from every other; the holder identity of its leases.
    invocation: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def run(self) -> Path:
        return Path("/run/k0s") if os.geteuid() == 0 else self.data / "run"

    @property
    def status_socket(self) -> Path:
        return self.socket or self.run / "status.sock"

    @property
    def bin(self) -> Path:
        return self.data / "bin"

    @property
    def pki(self) -> Path:
        return self.data / "pki"

    @property
    def etcd_pki(self) -> Path:
        return self.pki / "etcd"

    @property
    def etcd_data(self) -> Path:
        return self.data / "etcd"

    @property
    def manifests(self) -> Path:
        return self.data / "manifests"

    @property
    def admin_conf(self) -> Path:
        return self.pki / "admin.conf"

    @property
    def egress_conf(self) -> Path:
        return self.data / "konnectivity.conf"

    @property
    def kine_socket(self) -> Path:
        """Named like an address because kine treats what follows a colon as a port."""
        return self.run / "kine" / "kine.sock:2379"

    @property
    def konnectivity_socket(self) -> Path:
        return self.run / "konnectivity-server" / "konnectivity-server.sock"

    @property
    def runtime_config(self) -> Path:
        return self.run / "k0s.yaml"


def directory(path: Path, mode: int, *, owner: int | None = None) -> Path:
    """Make a directory and its parents; its own mode (and owner) is set at every start."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    if owner is not None:
        os.chown(path, owner, -1)
    return path


def prepare(layout: Layout) -> None:
    """The standard directories with the modes of k0s.

    The data and run directories must let the components' users pass; keys inside are protected by their own modes.
    """
    directory(layout.data, 0o755)
    directory(layout.run, 0o755)
    directory(layout.bin, 0o755)
    directory(layout.pki, 0o751)
    directory(layout.manifests, 0o755)


def write(path: Path, content: str | bytes, mode: int, *, owner: int | None = None) -> None:
    """Write a file atomically: readers see the old or the new content, with the final mode and owner."""
    data = content.encode() if isinstance(content, str) else content
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
            if owner is not None:
                os.fchown(file.fileno(), owner, -1)
        new.rename(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class RuntimeLock:
    """The run directory's `k0s.yaml.lock`, held while this k0s runs; released by the kernel when it ends."""

    def __init__(self, layout: Layout, *, taken: str) -> None:
        """Take the lock; `Fatal` with the message `taken` when another process has it."""
        self._layout = layout
        path = layout.runtime_config.with_name("k0s.yaml.lock")
        self._file = open(path, "a", opener=_private)  # noqa: SIM115 - held for the life of the process
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise Fatal(f"failed to initialize runtime config: {taken}") from None

    def publish(self, *, node_config: dict[str, Any]) -> None:
        """Write the RuntimeConfig, from which other k0s commands learn where this one lives."""
        layout = self._layout
        paths = {
            "AdminKubeConfigPath": layout.admin_conf,
            "BinDir": layout.bin,
            "CertRootDir": layout.pki,
            "DataDir": layout.data,
            "EtcdCertDir": layout.etcd_pki,
            "EtcdDataDir": layout.etcd_data,
            "InvocationID": layout.invocation,
            "KineSocketPath": layout.kine_socket,
            "ManifestsDir": layout.manifests,
            "RunDir": layout.run,
            "RuntimeConfigPath": layout.runtime_config,
            "StatusSocketPath": layout.status_socket,
        }
        document = {
            "apiVersion": "k0s.k0sproject.io/v1beta1",
            "kind": "RuntimeConfig",
            "spec": {
                "k0sVars": {name: str(value) for name, value in paths.items()},
                "nodeConfig": node_config,
                "pid": os.getpid(),
            },
        }
        write(layout.runtime_config, documents.dump(document), 0o600)

    def withdraw(self) -> None:
        """Remove what `publish` wrote, at the end of a graceful stop."""
        self._layout.runtime_config.unlink(missing_ok=True)
        self._file.close()
        self._layout.runtime_config.with_name("k0s.yaml.lock").unlink(missing_ok=True)


def executable(name: str, layout: Layout) -> Path:
    """The component binary `name`: `<data-dir>/bin` first, then PATH; `Fatal` if there is none."""
    return Path(kubectl.executable(name, str(layout.bin)))
