"""cert-manager's controllers and CA injector, from the Go module of its release, and its kinds.

Upstream's programs are Go modules of their own, inside the repository, that no registry serves. All that they run is in
the main module; `go/main.go` starts it. `python -m e2e.cert_manager.programs` builds what the cache lacks.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from k0s_images.cache import cached
from k0s_images.golang import go_build

_GO = Path(__file__).parent / "go"
_MODULE = "github.com/cert-manager/cert-manager"


@dataclass(frozen=True, kw_only=True)
class CertManager:
    """One release: the program with the controllers, and a folder with the kinds."""

    program: Path
    crds: Path


def cert_manager() -> CertManager:
    """Program and kinds, built if the cache lacks them."""

    def build(out: Path) -> None:
        go_build(_GO, out / "cert-manager", ldflags="-s -w")
        listed = ["go", "list", "-m", "-f", "{{.Dir}}", _MODULE]
        module = Path(subprocess.run(listed, cwd=_GO, check=True, capture_output=True, text=True).stdout.strip())
        (out / "crds").mkdir()
        for each in sorted((module / "deploy" / "crds").glob("*.yaml")):
            shutil.copyfile(each, out / "crds" / each.name)

    made = cached("cert-manager", _GO, build=build, usually="2 min on two idle cores")
    return CertManager(program=made / "cert-manager", crds=made / "crds")


if __name__ == "__main__":
    cert_manager()
