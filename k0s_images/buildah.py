"""Building an image from an ordinary Containerfile where there is neither a Docker engine nor a registry.

buildah needs no daemon, and its chroot isolation needs no more rights than root has in a plain container. It works in
a store of its own inside the cache, so the machine's images are never touched, and in a mount namespace of its own, so
that even a build that is killed leaves no mount behind.
"""

from __future__ import annotations

import ast
import configparser
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from k0s_images.cache import BuildError, root, run

#: Layers in the store speed up the next build of a changed image. After this many seconds the store begins anew.
_STORE_LIFE = 7 * 24 * 3600

_OWN_MOUNTS = ("unshare", "--mount", "--propagation", "private")

#: What of pip's configuration tells where packages come from; the rest is a matter of the machine, not of the image.
_PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout")


def build(
    context: Path, *, name: str, out: Path, target: str = "", arguments: Mapping[str, str], secrets: Mapping[str, Path]
) -> None:
    """Build `context/Containerfile` and write it to `out`, a docker archive that holds the image under `name`.

    Raises `BuildError` with the last lines of the build's output.
    """
    options = [option for key, value in arguments.items() for option in ("--build-arg", f"{key}={value}")]
    options += [option for key, file in secrets.items() for option in ("--secret", f"id={key},src={file}")]
    options += ["--target", target] if target else []
    with _store() as buildah:
        run([*buildah, "bud", "--isolation", "chroot", "--layers", "--format", "docker", *options, "--tag", name,
             "--file", context / "Containerfile", context])  # fmt: skip
        run([*buildah, "push", "--quiet", name, f"docker-archive:{out}:{name}"])


def pull(image: str, *, out: Path, seconds: int) -> None:
    """Pull an image from its registry into a docker archive; `BuildError` if it cannot be had in that time."""
    with _store() as buildah:
        run(["timeout", str(seconds), *buildah, "pull", "--quiet", f"docker://{image}"])
        run([*buildah, "push", "--quiet", image, f"docker-archive:{out}:{image}"])


def pip_secrets(folder: Path) -> dict[str, Path]:
    """pip's configuration of this machine, as files for a build's secrets; they lie in `folder`, readable by us only.

    A mirror's address may hold a password: these files must be gone when the build is, and are no input of its cache.
    """
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
    ).stdout  # fmt: skip
    settings = pip_settings(listed)
    secrets: dict[str, Path] = {}
    authorities = settings.pop("cert", "") or os.environ.get("REQUESTS_CA_BUNDLE", "")
    if authorities and Path(authorities).is_file():
        secrets["pip-ca"] = folder / "pip-ca.crt"
        shutil.copyfile(authorities, secrets["pip-ca"])
        settings["cert"] = "/run/secrets/pip-ca.crt"
    config = configparser.RawConfigParser()
    config["global"] = settings
    secrets["pip-conf"] = folder / "pip.conf"
    with open(os.open(secrets["pip-conf"], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        config.write(file)
    return secrets


def pip_settings(listed: str) -> dict[str, str]:
    """From the output of `pip config list`, where packages come from; the environment wins over files, as in pip."""
    found: dict[str, str] = {}
    from_environment: dict[str, str] = {}
    for line in listed.splitlines():
        key, _, quoted = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in (":env:", "global", "install") and name in (*_PIP_KEYS, "cert"):
            (from_environment if section == ":env:" else found)[name] = str(ast.literal_eval(quoted))
    settings = {**found, **from_environment}
    if "default-timeout" in settings:
        settings.setdefault("timeout", settings.pop("default-timeout"))
    return settings


@contextmanager
def _store() -> Iterator[Sequence[str | Path]]:
    """The words of a buildah command on our store, which is ours alone meanwhile."""
    if not shutil.which("buildah"):
        raise BuildError("buildah is missing; `apt-get install buildah` (see k0s_images/packages.txt)")
    if os.geteuid() != 0:
        raise BuildError("building images needs root")
    driver = _driver()
    store = root() / f"buildah-{driver}"
    with open(root() / ".buildah.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        begun = store / ".begun"
        if store.is_dir() and not (begun.exists() and time.time() - begun.stat().st_mtime < _STORE_LIFE):
            shutil.rmtree(store)
        if not store.is_dir():
            store.mkdir()
            begun.touch()
        words = _words(store, driver)
        # Working containers of builds that were killed.
        run([*words, "rm", "--all"])
        yield words


def _words(store: Path, driver: str) -> list[str | Path]:
    return [*_OWN_MOUNTS, "buildah", "--root", store / "root", "--runroot", store / "run", "--storage-driver", driver]


@cache
def _driver() -> str:
    """`overlay` where the cache's file system can carry one, else `vfs`, which copies whole file systems."""
    with tempfile.TemporaryDirectory(prefix=".overlay-", dir=root()) as folder:
        lower, upper, work, merged = (Path(folder, name) for name in ("lower", "upper", "work", "merged"))
        for each in (lower, upper, work, merged):
            each.mkdir()
        mount: list[str | Path] = [
            "mount",
            "-t",
            "overlay",
            "overlay",
            "-o",
            f"lowerdir={lower},upperdir={upper},workdir={work}",
            merged,
        ]
        tried = subprocess.run(
            [*_OWN_MOUNTS, *mount], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            check=False,
        )  # fmt: skip
    return "vfs" if tried.returncode else "overlay"
