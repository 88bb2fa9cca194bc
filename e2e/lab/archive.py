"""Docker archives (as `docker save` writes them) of images so small that no builder is needed: files and a command."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.lab.network import LabError

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def docker_archive(
    out: Path, name: str, *, files: Mapping[str, Path | bytes], links: Mapping[str, str] | None = None,
    folders: Sequence[str] = (), command: Sequence[str] = (), user: str = "65534:65534",
) -> None:  # fmt: skip
    """Write the image `name` with these executable files (path in the image -> source), symbolic links and folders.

    The same inputs give the same bytes, so the same digest: no times, no names of users.
    """
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for path in folders:
            tar.addfile(_member(path, kind=tarfile.DIRTYPE, mode=0o1777))
        for path, source in sorted(files.items()):
            content = source if isinstance(source, bytes) else source.read_bytes()
            tar.addfile(_member(path, mode=0o755, size=len(content)), io.BytesIO(content))
        for path, target in sorted((links or {}).items()):
            tar.addfile(_member(path, kind=tarfile.SYMTYPE, mode=0o777, target=target))
    content = layer.getvalue()
    config = json.dumps({
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()), "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {"Cmd": list(command), "User": user, "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(content).hexdigest()]},
    }, sort_keys=True).encode()  # fmt: skip
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(out, "w") as tar:
        for path, each in (("layer.tar", content), (config_name, config), ("manifest.json", manifest)):
            tar.addfile(_member(path, mode=0o644, size=len(each)), io.BytesIO(each))


def _member(path: str, *, kind: bytes = tarfile.REGTYPE, mode: int, size: int = 0, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(path.lstrip("/"))
    info.type, info.mode, info.size, info.linkname = kind, mode, size, target
    return info


def identity(path: Path) -> tuple[str, list[str]]:
    """The digest and the names of the image in a docker archive."""
    with tarfile.open(path) as tar:
        file = tar.extractfile("manifest.json")
        if file is None:
            raise LabError(f"{path} is not a docker archive")
        image = json.load(file)[0]
    return Path(image["Config"]).name.removesuffix(".json"), list(image.get("RepoTags") or [])
