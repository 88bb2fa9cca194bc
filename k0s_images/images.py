"""The images that the lab and the tests run, each built once from its inputs and kept as a docker archive.

No image here is pulled or pushed: the lab loads the archives into its containerd. Each has an ordinary Containerfile in
`containers/` (the operator's is `deploy/Containerfile`), which podman and docker (with BuildKit, its default since
23.0) build as well, on `debian:bookworm-slim`; here the base is made from Debian's packages, because a registry may be
out of reach.

`archives` gives them all; each single function builds one. Nothing is built before it is asked for, and nothing twice.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from k0s_images import buildah, catalogue
from k0s_images.cache import LEFTOVERS, BuildError, cached, digest, root, run
from k0s_images.golang import COMPONENTS, components, go_build, go_program

_HERE = Path(__file__).parent
_PROJECT = _HERE.parent
_CONTAINERS = _HERE / "containers"

#: Images that no registry has; `.local` is no public domain.
DOMAIN = "hosted-cp.local"
PAUSE = f"{DOMAIN}/pause:1"
TOOLBOX = f"{DOMAIN}/toolbox:1"
POSTGRES = f"{DOMAIN}/postgres:15"
MARIADB = f"{DOMAIN}/mariadb:10.11"

#: The k0s versions that the stand-in plays, newest first: one release of each minor whose components are built here.
STAND_INS: Mapping[str, str] = {"v1.36.3+k0s.2": "1.36", "v1.35.4+k0s.0": "1.35"}

#: The modules that the small static programs come from: the same pins as those of the newest components.
_MODULES = _HERE / "components"
_ETCD = "go.etcd.io/etcd/server/v3"
_KONNECTIVITY = "sigs.k8s.io/apiserver-network-proxy"

_DEBIAN = "bookworm"
#: `minbase` without what only a person at a terminal needs, and without Perl, which only the merge of /usr pulls in.
_MMDEBSTRAP = (
    "--mode=root", "--variant=minbase", "--include=usr-is-merged", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
    '--aptopt=APT::Install-Recommends "false"', '--aptopt=Dir::Cache::pkgcache ""',
    '--aptopt=Dir::Cache::srcpkgcache ""',
    *(f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in ("doc", "info", "locale", "man")),
    # Of the machine that builds, not of the image.
    '--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hostname"',
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One image: its Containerfile and what lies beside it in the build's context."""

    image: str
    containerfile: Path
    #: Path in the context -> the file or folder that is laid there, or the text of a file.
    context: Mapping[str, Path | str] = field(default_factory=dict)
    target: str = ""
    #: Built upon `base()`, or upon nothing.
    base: bool = True
    #: Packages of Python are installed, from wherever pip of this machine gets them.
    pip: bool = False
    usually: str = "10 s"

    @property
    def entry(self) -> str:
        """The name of the image in the cache: with its tag, unless that is only a digest of the inputs."""
        name, tag = self.image.removeprefix(f"{DOMAIN}/").split(":")
        return name if self.pip else f"{name}-{tag}"


def archives(*, k0s_binary: Path | None = None, only: Collection[str] = ()) -> dict[str, Path]:
    """Docker archives by image name, building what is missing; `only` restricts them to these names.

    With `k0s_binary` the image of that k0s is among them. Raises `BuildError`.
    """
    available = builders(k0s_binary=k0s_binary)
    unknown = set(only) - set(available)
    if unknown:
        raise BuildError(f"no image is called {', '.join(sorted(unknown))}; there are: {', '.join(available)}")
    return {name: build() for name, build in available.items() if not only or name in only}


def builders(*, k0s_binary: Path | None = None) -> dict[str, Callable[[], Path]]:
    """What builds each image, by image name, without building any."""
    available: dict[str, Callable[[], Path]] = {
        PAUSE: pause,
        TOOLBOX: toolbox,
        etcd_name(): etcd,
        konnectivity_agent_name(): konnectivity_agent,
        operator_name(): operator,
        POSTGRES: postgres,
        MARIADB: mariadb,
    }
    if k0s_binary is not None:
        available[k0s_name(k0s_binary)] = partial(k0s, k0s_binary)
    for version in STAND_INS:
        available[stand_in_name(version)] = partial(stand_in, version)
    return available


def base() -> Path:
    """The file system of a minimal Debian, as an image that the others are built upon."""

    def build(out: Path) -> None:
        mirror = os.environ.get("HOSTED_CP_DEBIAN_MIRROR")
        with tempfile.TemporaryDirectory(dir=out) as folder:
            run(["mmdebstrap", *_MMDEBSTRAP, _DEBIAN, Path(folder, "base.tar"), *([mirror] if mirror else [])])
            Path(folder, "Containerfile").write_text("FROM scratch\nADD base.tar /\n")
            buildah.build(Path(folder), name=f"{DOMAIN}/base:1", out=out / "image.tar", arguments={}, secrets={})

    return cached("image-base", _DEBIAN, *_MMDEBSTRAP, build=build, usually="30 s") / "image.tar"


def stand_in_name(version: str) -> str:
    return f"{DOMAIN}/k0s-stand-in:{catalogue.tag_of(version)}"


def stand_in(version: str) -> Path:
    """The stand-in for a k0s version of `STAND_INS`; `BuildError` for any other."""
    if version not in STAND_INS:
        raise BuildError(f"the stand-in plays {' and '.join(STAND_INS)}, not {version}")
    package = "standin/k0s_images"
    return build(Recipe(
        image=stand_in_name(version), containerfile=_CONTAINERS / "k0s" / "Containerfile", target="k0s-stand-in",
        context={
            **_k0s_context(STAND_INS[version]), "bin/k0s": _CONTAINERS / "k0s" / "k0s-stand-in",
            f"{package}/standin": _HERE / "standin", f"{package}/__init__.py": "",
            f"{package}/standin/VERSION": f"{version}\n",
        },
        usually="30 s",
    ))  # fmt: skip


def k0s_version(binary: Path) -> str:
    """What a k0s binary says it is; `BuildError` if it cannot be run or says something else."""
    try:
        said = subprocess.run(
            [binary, "version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()
        catalogue.tag_of(said)
    except (OSError, subprocess.SubprocessError) as problem:
        raise BuildError(f"{binary} version: {problem}; K0S_BINARY is to be a k0s for this machine") from problem
    except catalogue.CatalogueError as problem:
        raise BuildError(f"{binary} is not a released k0s: {problem}") from problem
    return said


def k0s_name(binary: Path) -> str:
    return f"{DOMAIN}/k0s:{catalogue.tag_of(k0s_version(binary))}"


def k0s(binary: Path) -> Path:
    """The image of a k0s that somebody gave us as a binary, with its minor's components if those are built here."""
    minor = catalogue.minor_of(k0s_version(binary))
    return build(Recipe(
        image=k0s_name(binary), containerfile=_CONTAINERS / "k0s" / "Containerfile", target="k0s",
        context={**_k0s_context(minor), "bin/k0s": binary.resolve()}, usually="20 s",
    ))  # fmt: skip


def _k0s_context(minor: str) -> dict[str, Path | str]:
    own: dict[str, Path | str] = {name: _CONTAINERS / "k0s" / name for name in ("entrypoint.sh", "hosts")}
    return {**own, "bin": components(minor)} if minor in COMPONENTS else own


def etcd_name() -> str:
    return f"{DOMAIN}/etcd:{pinned(_ETCD)}"


def etcd() -> Path:
    """etcd with a shell; upstream's own program, without the other components."""
    return _small_program("etcd", image=etcd_name(), package=_ETCD, base=True)


def konnectivity_agent_name() -> str:
    return f"{DOMAIN}/konnectivity-agent:{pinned(_KONNECTIVITY)}"


def konnectivity_agent() -> Path:
    """The konnectivity agent alone: a quarter of the size of all components, and every worker loads it."""
    return _small_program("proxy-agent", image=konnectivity_agent_name(), package=f"{_KONNECTIVITY}/cmd/agent")


def pinned(module: str) -> str:
    """The version of a Go module that the newest components are built from."""
    found = re.search(rf"^\s*{re.escape(module)} (v\S+)$", (_MODULES / "go.mod").read_text(), re.MULTILINE)
    if not found:
        raise BuildError(f"{_MODULES / 'go.mod'} does not require {module}")
    return found[1]


def _small_program(name: str, *, image: str, package: str, base: bool = False) -> Path:
    ldflags = "-s -w"

    def compile_it(out: Path) -> None:
        go_build(_MODULES, out / name, package=package, ldflags=ldflags)

    pins = (_MODULES / "go.mod", _MODULES / "go.sum")
    program = cached(f"go-{name}", package, ldflags, *pins, build=compile_it, usually="40 s") / name
    folder = image.rpartition("/")[2].partition(":")[0]
    return build(Recipe(
        image=image, containerfile=_CONTAINERS / folder / "Containerfile", base=base, context={name: program},
    ))  # fmt: skip


def pause() -> Path:
    program = go_program("image-pause", _HERE / "pause", usually="5 s")
    return build(Recipe(
        image=PAUSE, containerfile=_CONTAINERS / "pause" / "Containerfile", base=False, context={"pause": program},
        usually="2 s",
    ))  # fmt: skip


def toolbox() -> Path:
    """busybox for pods of tests."""
    return build(Recipe(image=TOOLBOX, containerfile=_CONTAINERS / "toolbox" / "Containerfile"))


def postgres() -> Path:
    """A database server for tenants whose store is kine on PostgreSQL."""
    return _database(POSTGRES, "postgres")


def mariadb() -> Path:
    """A database server for tenants whose store is kine on what speaks MySQL."""
    return _database(MARIADB, "mariadb")


def _database(image: str, folder: str) -> Path:
    entrypoint = _CONTAINERS / folder / "entrypoint.sh"
    return build(Recipe(
        image=image, containerfile=_CONTAINERS / folder / "Containerfile", context={entrypoint.name: entrypoint},
        usually="30 s",
    ))  # fmt: skip


def operator_name() -> str:
    """The operator's image; its tag is the digest of all that it is built from."""
    return f"{DOMAIN}/hosted-cp:{digest(*_operator_inputs())}"


def operator() -> Path:
    """The operator as it is in this checkout."""
    return build(Recipe(
        image=operator_name(), containerfile=_PROJECT / "deploy" / "Containerfile", pip=True,
        context={str(path.relative_to(_PROJECT)): path for path in _operator_inputs()[1:]},
        usually="60 s, 10 s when only the code has changed",
    ))  # fmt: skip


def _operator_inputs() -> tuple[Path, ...]:
    names = ("deploy/Containerfile", "deploy/requirements-build.txt", "requirements/runtime.txt", "pyproject.toml",
             "README.md", "LICENSE", "k0s_images/catalogue.json", "hosted_cp")  # fmt: skip
    return tuple(_PROJECT / name for name in names)


def build(recipe: Recipe) -> Path:
    """The docker archive of a recipe's image."""
    on = base() if recipe.base else None

    def fill(out: Path) -> None:
        # The context lies in the cache, so that large files of the cache can be linked into it.
        with (
            tempfile.TemporaryDirectory(dir=out) as near,
            tempfile.TemporaryDirectory() as private,
        ):
            context = Path(near)
            _lay(context / "Containerfile", recipe.containerfile)
            for name, source in recipe.context.items():
                _lay(context / name, source)
            buildah.build(
                context, name=recipe.image, out=out / "image.tar", target=recipe.target,
                arguments={"BASE": f"docker-archive:{on}"} if on else {},
                secrets=buildah.pip_secrets(Path(private)) if recipe.pip else {},
            )  # fmt: skip

    inputs: list[str | Path] = [recipe.image, recipe.target, recipe.containerfile, _input(on) if on else "scratch"]
    for name, source in recipe.context.items():
        inputs += [name, _input(source)]
    # Old ones go soon: an image of 300 MB for every change of the code would fill the disk in a day of work.
    return cached(f"image-{recipe.entry}", *inputs, build=fill, usually=recipe.usually, kept=3600) / "image.tar"


def _input(source: Path | str) -> Path | str:
    """What a file of the context adds to the cache's key; what the cache itself built has its digest in its name."""
    if isinstance(source, Path) and source.is_relative_to(root()):
        return str(source.relative_to(root()))
    return source


def _lay(target: Path, source: Path | str) -> None:
    """Put a file, a folder or a text into a build's context; large files are linked, not copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, str):
        target.unlink(missing_ok=True)
        target.write_text(source)
    elif source.is_dir():
        shutil.copytree(source, target, symlinks=True, copy_function=_link, dirs_exist_ok=True, ignore=_no_leftovers)
    else:
        _link(source, target)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


_no_leftovers = shutil.ignore_patterns(*LEFTOVERS)
