"""A build cache outside the checkout: what was built once from the same inputs is never built again.

Everything slow (Go programs, base file systems, images, the Python environment) goes through `cached`. An entry is a
folder named after what it is and the digest of its inputs; it appears by an atomic rename, so a build that was killed
leaves nothing that could be taken for a result. Only the standard library is used here: this module runs before any
environment exists.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path


class BuildError(RuntimeError):
    """A build step failed; the message names the step, its log and what to do."""


def root() -> Path:
    """The cache folder: `$HOSTED_CP_CACHE`, or `hosted-cp` in the user's cache folder."""
    configured = os.environ.get("HOSTED_CP_CACHE")
    if configured:
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hosted-cp"


def digest(*parts: str | bytes | Path) -> str:
    """Sixteen hex digits over texts, and over names and contents of files and folders."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for file in sorted(_files(part)):
                total.update(b"\0file\0" + str(file.relative_to(part.parent)).encode() + b"\0")
                total.update(str(file.stat().st_mode & 0o111).encode() + b"\0" + file.read_bytes())
        else:
            total.update(b"\0text\0" + (part.encode() if isinstance(part, str) else part))
    return total.hexdigest()[:16]


#: Folders that tools leave among sources; never an input of anything.
LEFTOVERS = frozenset({"__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache"})


def _files(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path]
    return [f for f in path.rglob("*") if f.is_file() and not LEFTOVERS.intersection(f.relative_to(path).parts)]


def say(message: str) -> None:
    """One line of progress, on standard error, with the time of day."""
    print(f"{time.strftime('%H:%M:%S')}  {message}", file=sys.stderr, flush=True)


def cached(
    name: str,
    *inputs: str | bytes | Path,
    build: Callable[[Path], None],
    usually: str = "",
    kept: float = 7 * 24 * 3600,
) -> Path:
    """The folder with the result of `build`, building it only if no entry for these inputs exists.

    `build` is given an empty folder to fill. `usually` tells people how long it takes ("6 min on two idle cores").
    Two processes that want the same entry at once build it once. Older entries of the same name go when nobody
    has asked for them for `kept` seconds (a week).
    """
    entry = root() / f"{name}-{digest(*inputs)}"
    if entry.is_dir():
        os.utime(entry)
        return entry
    root().mkdir(parents=True, exist_ok=True)
    with open(root() / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if entry.is_dir():
            return entry
        say(f"building {name}" + (f" (usually {usually})" if usually else ""))
        begun = time.monotonic()
        work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root()))
        try:
            build(work)
            work.chmod(0o755)
            work.rename(entry)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        say(f"built {name} in {time.monotonic() - begun:.0f} s")
        _forget_old(name, keep=entry, kept=kept)
    return entry


def _forget_old(name: str, *, keep: Path, kept: float) -> None:
    old = [other for other in root().glob(f"{name}-" + "[0-9a-f]" * 16) if other != keep and _idle(other) > kept]
    # What builds that were killed left behind; no build takes a day.
    killed = [work for work in root().glob(f".{name}-*") if work.is_dir() and _idle(work) > 24 * 3600]
    for folder in [*old, *killed]:
        shutil.rmtree(folder, ignore_errors=True)


def _idle(folder: Path) -> float:
    """Seconds since an entry was made or asked for; 0 if another process has just removed it."""
    try:
        return time.time() - folder.stat().st_mtime
    except FileNotFoundError:
        return 0


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> None:
    """Run a build command quietly; on failure raise `BuildError` with the last lines of what it printed."""
    words = [str(word) for word in argv]
    done = subprocess.run(
        words,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if log is not None:
        log.write_bytes(done.stdout)
    if done.returncode:
        tail = b"\n".join(done.stdout.splitlines()[-25:]).decode(errors="replace")
        raise BuildError(f"{' '.join(words[:4])} … ended with {done.returncode}:\n{tail}")
