"""Docker archives taken apart, and programs run in them as a pod would: read-only root, own namespaces, given user."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image: its tags, its configuration and the files of its last state by path (no leading slash)."""

    tags: tuple[str, ...]
    config: dict[str, Any]
    files: Mapping[str, tarfile.TarInfo]
    root: Path

    def text(self, path: str) -> str:
        return (self.root / path).read_text()

    @property
    def command(self) -> list[str]:
        """Entrypoint and default arguments."""
        return [*(self.config["config"].get("Entrypoint") or []), *(self.config["config"].get("Cmd") or [])]

    @property
    def user(self) -> str:
        return str(self.config["config"]["User"])

    @property
    def environment(self) -> dict[str, str]:
        return dict(variable.split("=", 1) for variable in self.config["config"].get("Env") or [])


def unpack(archive: Path, root: Path) -> Image:
    """Unpack an image with its owners and modes into `root`; needs root."""
    root.chmod(0o755)
    files: dict[str, tarfile.TarInfo] = {}
    with tarfile.open(archive) as outer:

        def read(name: str) -> bytes:
            member = outer.extractfile(name)
            assert member is not None
            return member.read()

        (manifest,) = json.loads(read("manifest.json"))
        config = json.loads(read(manifest["Config"]))
        for name in manifest["Layers"]:
            with tarfile.open(fileobj=outer.extractfile(name)) as layer:
                for member in layer:
                    path = PurePosixPath(member.name)
                    if path.name.startswith(".wh."):
                        _remove(root / path.parent / path.name.removeprefix(".wh."))
                        files.pop(str(path.parent / path.name.removeprefix(".wh.")), None)
                        continue
                    if not member.isdir():
                        _remove(root / path)
                    layer.extract(member, root, numeric_owner=True, filter="fully_trusted")
                    files[str(path)] = member
    return Image(tags=tuple(manifest["RepoTags"]), config=config, files=files, root=root)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


#: Run by a shell in new namespaces. PID 1 is what it becomes at the end.
_CONTAINER = """
set -e
ip link set lo up
mount --bind "$ROOT" "$ROOT"
mkdir -p "$ROOT/proc" "$ROOT/dev" "$ROOT/tmp"
mount --rbind /dev "$ROOT/dev"
mount -t proc proc "$ROOT/proc"
mount -t tmpfs -o mode=1777 tmpfs "$ROOT/tmp"
for pair in $VOLUMES; do mount --bind "${pair%%=*}" "$ROOT${pair#*=}"; done
mount -o remount,bind,ro "$ROOT"
exec env -i "$@"
"""


@contextmanager
def running(
    image: Image, words: Sequence[str], *, environment: Mapping[str, str] | None = None,
    volumes: Mapping[Path, str] | None = None,
) -> Iterator[subprocess.Popen[str]]:  # fmt: skip
    """Run `words` as PID 1 of a container of the image, as the image's user; killed at the end if it still runs."""
    variables = {**image.environment, **(environment or {})}
    identity = image.user if ":" in image.user else f"{image.user}:{image.user}"
    chroot = shutil.which("chroot", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert chroot is not None
    namespaces = ("--mount", "--propagation", "private", "--pid", "--net", "--fork", "--kill-child")
    process = subprocess.Popen(
        [
            "unshare", *namespaces, "sh", "-c", _CONTAINER, "container",
            *(f"{name}={value}" for name, value in variables.items()),
            chroot, f"--userspec={identity}", str(image.root), *words,
        ],
        env={
            **os.environ, "ROOT": str(image.root),
            "VOLUMES": " ".join(f"{source}={target}" for source, target in (volumes or {}).items()),
        },
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        # The kernel forgets `--kill-child` when the child becomes another user: PID 1 of the container is ended by us.
        for first in _children(process):
            with suppress(ProcessLookupError):
                os.kill(first, signal.SIGKILL)
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _children(process: subprocess.Popen[str]) -> list[int]:
    if process.poll() is not None:
        return []
    return [int(each) for each in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def output(image: Image, words: Sequence[str], **options: Any) -> str:
    """What a command in the image prints; fails unless it ends with 0."""
    with running(image, words, **options) as process:
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 0, printed
        return printed


def stop(process: subprocess.Popen[str], *, by: signal.Signals = signal.SIGTERM) -> float:
    """Signal the container's PID 1 and wait for its end; the seconds that took."""
    (first,) = _children(process)
    begun = time.monotonic()
    os.kill(first, by)
    process.wait(timeout=30)
    return time.monotonic() - begun


def read_until(process: subprocess.Popen[str], mark: str) -> str:
    """The output up to the first line that holds `mark`; fails if the process ends before."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if mark in line:
            return "".join(seen)
    raise AssertionError(f"ended without {mark!r}:\n{''.join(seen)}")
