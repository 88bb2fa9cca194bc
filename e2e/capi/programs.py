"""The Cluster API programs and manifests that the tests run, from the Go modules of its releases.

The core manager and clusterctl are built unchanged. CRDs and webhook configurations lie in the downloaded module; they
are copied beside the programs, so that a run needs neither Go nor the module's folder.

`python -m e2e.capi.programs [SERIES ...]` builds what the cache lacks (of all series, if none is named).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from k0s_images.cache import cached
from k0s_images.golang import go_build

_GO = Path(__file__).parent / "go"
_MODULE = "sigs.k8s.io/cluster-api"

#: What `make test` runs; the older one belongs to `make test-all`.
NEWEST = "1.14"


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Where a series of releases keeps what we need."""

    version: str
    manager: str
    config: str
    #: clusterctl is taken from the newest series only: it serves all.
    clusterctl: str = ""


_LAYOUTS: Mapping[str, _Layout] = {
    "1.14": _Layout(
        version="v1.14.2", manager=f"{_MODULE}/core", config="core/config", clusterctl=f"{_MODULE}/cmd/clusterctl"
    ),
    "1.13": _Layout(version="v1.13.6", manager=_MODULE, config="config"),
}

SERIES = tuple(_LAYOUTS)


@dataclass(frozen=True, kw_only=True)
class ClusterApi:
    """One release: the core manager, its CRDs (a folder), its webhook configurations (a file), clusterctl."""

    version: str
    manager: Path
    crds: Path
    webhooks: Path
    clusterctl: Path | None


def cluster_api(series: str = NEWEST) -> ClusterApi:
    """The programs and manifests of a series, built if the cache lacks them (about 3 min on two idle cores)."""
    layout = _LAYOUTS[series]
    source = _GO / f"v{series}"
    stamp = f"-s -w -X {_MODULE}/version.gitVersion={layout.version}"

    def build(out: Path) -> None:
        go_build(source, out / "manager", package=layout.manager, ldflags=stamp)
        if layout.clusterctl:
            go_build(source, out / "clusterctl", package=layout.clusterctl, ldflags=stamp)
        module = Path(
            subprocess.run(
                ["go", "list", "-m", "-f", "{{.Dir}}", _MODULE], cwd=source, check=True, capture_output=True, text=True
            ).stdout.strip()
        )
        (out / "crds").mkdir()
        for each in sorted((module / layout.config / "crd" / "bases").glob("*.yaml")):
            shutil.copyfile(each, out / "crds" / each.name)
        shutil.copyfile(module / layout.config / "webhook" / "manifests.yaml", out / "webhooks.yaml")

    made = cached(f"cluster-api-{series}", stamp, layout.manager, layout.config, layout.clusterctl, source,
                  build=build, usually="3 min on two idle cores")  # fmt: skip
    return ClusterApi(
        version=layout.version,
        manager=made / "manager",
        crds=made / "crds",
        webhooks=made / "webhooks.yaml",
        clusterctl=made / "clusterctl" if layout.clusterctl else None,
    )


if __name__ == "__main__":
    for each in sys.argv[1:] or SERIES:
        cluster_api(each)
