"""podman and docker make of every Containerfile the image that buildah makes of it.

Where such an engine is. podman works in a store of the test's own; docker in that of its daemon, from which the images
are removed again. docker has to build with BuildKit, which is its own default since 23.0: the classic builder knows
neither secrets nor `COPY --chmod`.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from k0s_images import buildah, images
from k0s_images.cache import cached
from tests.k0s_images.unpacked import Image, unpack

pytestmark = [pytest.mark.sweep, pytest.mark.timeout(1800)]

Words = Sequence[str | Path]
Builder = Callable[..., None]

#: What an engine lays over a container's root while it builds, and may leave behind, empty.
OF_ENGINES = frozenset(
    {"dev", "proc", "sys", "run", "run/secrets", "etc", "etc/hosts", "etc/resolv.conf", "etc/hostname", "etc/mtab"}
)


def _run(words: Words, *, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip


def _options(arguments: Mapping[str, str], secrets: Mapping[str, Path], target: str) -> list[str | Path]:
    options: list[str | Path] = [each for k, v in arguments.items() for each in ("--build-arg", f"{k}={v}")]
    options += [each for k, file in secrets.items() for each in ("--secret", f"id={k},src={file}")]
    return options + (["--target", target] if target else [])


def podman(folder: Path) -> Builder:
    """`podman build` without a daemon, a cgroup or a mount that outlives it."""
    words: Words = [
        "unshare", "--mount", "--propagation", "private",
        "podman", "--root", folder / "root", "--runroot", folder / "run", "--tmpdir", folder / "tmp",
        "--storage-driver", buildah._driver(), "--cgroup-manager", "cgroupfs", "--events-backend", "none",
    ]  # fmt: skip

    def build(
        context: Path, *, name: str, out: Path, target: str = "", arguments: Mapping[str, str],
        secrets: Mapping[str, Path],
    ) -> None:  # fmt: skip
        made = _run([*words, "build", "--isolation", "chroot", "--format", "docker",
                     *_options(arguments, secrets, target), "--tag", name, context])  # fmt: skip
        assert made.returncode == 0, made.stdout[-4000:]
        saved = _run([*words, "save", "--quiet", "--format", "docker-archive", "--output", out, name])
        assert saved.returncode == 0, saved.stdout

    return build


_BUILDKIT = {"DOCKER_BUILDKIT": "1"}


def docker(tags: list[str]) -> Builder:
    """`docker build` with BuildKit; `tags` notes what it has left in the daemon's store."""

    def build(
        context: Path, *, name: str, out: Path, target: str = "", arguments: Mapping[str, str],
        secrets: Mapping[str, Path],
    ) -> None:  # fmt: skip
        tags.append(name)
        if "BASE" in arguments:
            base = f"{images.DOMAIN}/base:1"
            tags.append(base)
            loaded = _run(["docker", "load", "--input", arguments["BASE"].removeprefix("docker-archive:")])
            assert loaded.returncode == 0, loaded.stdout
            arguments = {**arguments, "BASE": base}
        made = _run(["docker", "build", "--network", "host", *_options(arguments, secrets, target), "--tag", name,
                     "--file", context / "Containerfile", context], environment=_BUILDKIT)  # fmt: skip
        assert made.returncode == 0, made.stdout[-4000:]
        saved = _run(["docker", "save", "--output", out, name])
        assert saved.returncode == 0, saved.stdout

    return build


def _cannot(engine: str) -> str:
    """Why this engine cannot build here; "" if it can."""
    if not which(engine):
        return f"{engine} is not installed"
    if engine == "docker":
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "Dockerfile").write_text("FROM scratch\nCOPY --chmod=0755 Dockerfile /\n")
            tried = _run(["docker", "build", "--output", f"{folder}/out", folder], environment=_BUILDKIT)
        if tried.returncode:
            said = tried.stdout.strip().splitlines() or [f"exit code {tried.returncode}"]
            return f"docker does not build with BuildKit here: {next((x for x in said if 'ERROR' in x), said[-1])}"
    return ""


@pytest.fixture(scope="module", params=["podman", "docker"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    if why := _cannot(request.param):
        pytest.skip(why)
    if request.param == "podman":
        yield podman(tmp_path_factory.mktemp("podman"))
        return
    tags: list[str] = []
    yield docker(tags)
    for tag in dict.fromkeys(tags):
        _run(["docker", "image", "rm", "--force", tag])


def _same_recipe(built: Builder, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive that `built` makes where buildah would, from the same context."""
    made = folder / "made"
    made.mkdir()

    def anew(entry: str, *inputs: Any, build: Callable[[Path], None], **words: Any) -> Path:
        if entry.startswith("image-") and entry != "image-base":
            build(made)
            return made
        return cached(entry, *inputs, build=build, **words)

    images.base()  # by buildah: there is no Containerfile of ours behind it
    with monkeypatch.context() as patched:
        patched.setattr(images, "cached", anew)
        patched.setattr(buildah, "build", built)
        return images.builders()[name]()


def _shown(image: Image) -> dict[str, tuple[Any, ...]]:
    """Files by path: what they are, whose, and for whom. Not what was compiled on the way, nor logs with times."""
    return {
        path: (info.type, oct(info.mode), info.uid, info.gid, info.linkname)
        for path, info in image.files.items()
        if path not in OF_ENGINES and "__pycache__" not in path
    }


#: The operator's name changes with its code, so it is asked for when it is needed.
NAMES = [name for name in images.builders() if not name.startswith(f"{images.DOMAIN}/hosted-cp:")]


@pytest.mark.parametrize("name", [*NAMES, "operator"])
def test_it_makes_the_same_image(engine: Builder, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = images.operator_name() if name == "operator" else name
    archive = _same_recipe(engine, name, tmp_path, monkeypatch)
    for each in ("theirs", "ours"):
        (tmp_path / each).mkdir()
    theirs = unpack(archive, tmp_path / "theirs")
    ours = unpack(images.archives(only=[name])[name], tmp_path / "ours")
    assert name in theirs.tags
    assert (theirs.user, theirs.command, theirs.environment) == (ours.user, ours.command, ours.environment)
    for key in ("Volumes", "ExposedPorts", "StopSignal"):
        assert (theirs.config["config"].get(key) or None) == (ours.config["config"].get(key) or None), key
    now, wanted = _shown(theirs), _shown(ours)
    assert now.keys() == wanted.keys()
    assert {path: (now[path], wanted[path]) for path in now if now[path] != wanted[path]} == {}
