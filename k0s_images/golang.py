"""Building the Go programs: the upstream components (one multi-call binary for each minor) and small tools.

All source comes from the Go module registry, pinned and verified by the `go.sum` beside each `go.mod`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from k0s_images.cache import cached, run, say

_HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Components:
    """Which upstream components one k0s minor is built from (its releases pin them)."""

    minor: str
    kubernetes: str
    modfile: str


COMPONENTS: Mapping[str, Components] = {
    "1.36": Components(minor="1.36", kubernetes="v1.36.3", modfile="go.mod"),
    "1.35": Components(minor="1.35", kubernetes="v1.35.4", modfile="v1.35.mod"),
}

#: The names that the multi-call binary answers to; a link of that name runs that component.
COMPONENT_NAMES = (
    "etcd",
    "kine",
    "konnectivity-agent",
    "konnectivity-server",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)


def components(minor: str) -> Path:
    """A folder with the multi-call binary `components` of a minor and one link for each component beside it."""
    wanted = COMPONENTS[minor]
    source = _HERE / "components"
    modfile = source / wanted.modfile
    version = "k8s.io/component-base/version"
    major, middle = minor.split(".")
    ldflags = (
        f"-s -w -X {version}.gitVersion={wanted.kubernetes} -X {version}.gitMajor={major}"
        f" -X {version}.gitMinor={middle} -X {version}.gitTreeState=clean -linkmode external -extldflags -static"
    )

    def build(out: Path) -> None:
        # Static and with cgo: kine's SQLite needs cgo, and a static binary runs in any image.
        go_build(
            source,
            out / "components",
            modfile=modfile.name,
            tags=("providerless", "netgo", "osusergo"),
            ldflags=ldflags,
            cgo=True,
        )
        for name in COMPONENT_NAMES:
            (out / name).symlink_to("components")

    sources = (source / "main.go", modfile, modfile.with_suffix(".sum"))
    return cached(f"components-{minor}", ldflags, *sources, build=build, usually="6 to 9 min on two idle cores")


def go_program(
    name: str,
    source: Path,
    *,
    package: str = ".",
    tags: Sequence[str] = (),
    ldflags: str = "-s -w",
    usually: str = "1 min",
) -> Path:
    """The binary `name`, built from the module in `source`."""

    def build(out: Path) -> None:
        go_build(source, out / name, package=package, tags=tags, ldflags=ldflags)

    return cached(f"go-{name}", package, ldflags, *tags, source, build=build, usually=usually) / name


def go_build(
    source: Path,
    out: Path,
    *,
    package: str = ".",
    modfile: str | None = None,
    tags: Sequence[str] = (),
    ldflags: str = "",
    cgo: bool = False,
) -> None:
    """`go build` one package into the file `out`; modules are downloaded first so that progress can be told."""
    chosen = [f"-modfile={modfile}"] if modfile else []
    say(f"  {out.name}: fetching modules, then compiling")
    env = {"CGO_ENABLED": "1" if cgo else "0", "GOFLAGS": "-buildvcs=false"}
    run(["go", "mod", "download", *chosen], cwd=source, env=env)
    run(
        ["go", "build", *chosen, "-trimpath", "-tags", ",".join(tags), "-ldflags", ldflags, "-o", out, package],
        cwd=source,
        env=env,
    )


if __name__ == "__main__":
    import sys

    for each in sys.argv[1:] or COMPONENTS:
        print(components(each))
