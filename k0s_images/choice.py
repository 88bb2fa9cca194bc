"""Which k0s runs here: one that was given, the official image, or the stand-in; and the sentence that says so.

The order is that of trust. `K0S_BINARY` is the developer's own word. The official image is what users run; whether its
registry answers is tried once in a process, for a few seconds. The stand-in is what remains where neither is to be
had, and nobody shall mistake a run with it for a run with k0s: whoever chooses prints `K0sImage.says`.
"""

from __future__ import annotations

import http.client
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from k0s_images import buildah, catalogue, images
from k0s_images.cache import BuildError, cached

#: How long a registry may take to answer at all, and then to deliver the image (about 100 MB), in seconds.
_ANSWER, _DELIVERY = 4.0, 300


class Unavailable(Exception):
    """The official image cannot be had here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class K0sImage:
    """The image that plays k0s, and what it is."""

    repository: str
    tag: str
    kind: Literal["given", "official", "stand-in"]
    #: The k0s that was given, for machines that are to run the same.
    binary: Path | None = None
    #: A docker archive that holds the image under `name`, for a container runtime that cannot pull.
    archive: Path
    says: str

    @property
    def name(self) -> str:
        return f"{self.repository}:{self.tag}"

    @property
    def version(self) -> str:
        """`v1.36.3+k0s.2`, as `spec.version` has it."""
        return self.tag.replace("-k0s.", "+k0s.")

    @property
    def minor(self) -> str:
        """`1.36`."""
        return catalogue.minor_of(self.version)


def given_binary(variable: str = "K0S_BINARY") -> Path | None:
    """The k0s that `K0S_BINARY` (or another variable) names; `BuildError` if it names no file."""
    named = os.environ.get(variable)
    if not named:
        return None
    binary = Path(named).resolve()
    if not binary.is_file():
        raise BuildError(f"{variable}={named}: there is no such file")
    return binary


def choose(
    version: str | None = None,
    *,
    binary: Path | None = None,
    given: Callable[[Path], Path] = images.k0s,
    version_of: Callable[[Path], str] = images.k0s_version,
    official: Callable[[str], Path] | None = None,
    stand_in: Callable[[str], Path] = images.stand_in,
) -> K0sImage:
    """The image for a k0s version; without one, for that of `binary`, or else for the catalogue's default.

    `binary` is usually `given_binary()`. It is taken only for the version it is: a test of an upgrade asks for two.
    Raises `BuildError` when the image has to be built and cannot be, or when nothing here plays that version.
    """
    is_given = version_of(binary) if binary else None
    wanted = version or is_given or catalogue.load().default
    tag = catalogue.tag_of(wanted)
    if binary and is_given == wanted:
        return K0sImage(
            repository=f"{images.DOMAIN}/k0s", tag=tag, kind="given", archive=given(binary), binary=binary,
            says=f"k0s {wanted}: the binary {binary}, given by K0S_BINARY",
        )  # fmt: skip
    try:
        repository = catalogue.load().repository
        return K0sImage(
            repository=repository, tag=tag, kind="official", archive=(official or official_image)(wanted),
            says=f"k0s {wanted}: the official image {repository}:{tag}",
        )  # fmt: skip
    except Unavailable as reason:
        because = f"{reason}, and K0S_BINARY is {is_given or 'not set'}"
    if wanted not in images.STAND_INS:
        raise BuildError(f"no k0s {wanted} here: {because}; the stand-in plays {' and '.join(images.STAND_INS)}")
    return K0sImage(
        repository=f"{images.DOMAIN}/k0s-stand-in", tag=tag, kind="stand-in", archive=stand_in(wanted),
        says=f"k0s {wanted}: the STAND-IN, not k0s itself (upstream's components, a supervisor of ours): {because}",
    )  # fmt: skip


def both_minors() -> tuple[K0sImage, K0sImage]:
    """The k0s of this run, and an older one: K0S_BINARY and K0S_BINARY_OLD where given, else what can be had."""
    newer = choose(binary=given_binary())
    given = given_binary("K0S_BINARY_OLD")
    older = choose(binary=given) if given else choose(next(each for each in images.STAND_INS if each != newer.version))
    return newer, older


def official_image(version: str) -> Path:
    """The official image as a docker archive, pulled once and kept. Raises `Unavailable`."""
    archive, reason = _pulled(version)
    if archive is None:
        raise Unavailable(reason)
    return archive


@cache
def _pulled(version: str) -> tuple[Path | None, str]:
    repository = catalogue.load().repository
    image = f"{repository}:{catalogue.tag_of(version)}"
    if os.environ.get("HOSTED_CP_OFFLINE"):
        return None, "HOSTED_CP_OFFLINE is set"
    registry = repository.partition("/")[0]
    reason = silence(registry, seconds=_ANSWER)
    if reason:
        return None, reason

    def pull(out: Path) -> None:
        buildah.pull(image, out=out / "image.tar", seconds=_DELIVERY)

    try:
        return cached(
            f"image-k0s-official-{catalogue.tag_of(version)}", image, build=pull, usually="30 s"
        ) / "image.tar", ""
    except BuildError as problem:
        return None, f"{image} could not be pulled ({str(problem).splitlines()[-1]})"


def silence(
    registry: str, *, seconds: float, connect: Callable[..., http.client.HTTPConnection] = http.client.HTTPSConnection
) -> str:
    """Why a registry cannot be used, or "" when it answers as a registry does. Takes at most `seconds`."""
    answers: queue.Queue[str] = queue.Queue()

    def ask() -> None:
        connection = connect(registry, timeout=seconds)
        try:
            connection.request("GET", "/v2/")
            status = connection.getresponse().status
            answers.put("" if status in (200, 401) else f"{registry} answered with HTTP status {status}")
        except (OSError, http.client.HTTPException) as problem:
            answers.put(f"{registry} cannot be reached ({problem})")
        finally:
            connection.close()

    # A thread, because looking a name up obeys no time limit.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except queue.Empty:
        return f"{registry} did not answer within {seconds:g} s"
