"""An executable `k0s` on this machine that is the stand-in: for edge machines and the contract tests.

In images the package is copied beside a small script; here it is copied into the cache, so that what a running worker
executes does not change under it when the checkout does.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from k0s_images.cache import cached

_PACKAGE = Path(__file__).parent / "standin"


def launcher(minor: str = "1.36") -> Path:
    """The path of the executable, which runs the package with the Python (and its libraries) that called this.

    `minor` chooses the k0s version it plays. The components it starts are looked up as k0s does: in
    `<data-dir>/bin`, then on PATH; a caller puts `k0s_images.golang.components(minor)` there.
    """
    python = Path(sys.executable)

    def build(out: Path) -> None:
        package = out / "lib" / "k0s_images"
        shutil.copytree(_PACKAGE, package / "standin", ignore=shutil.ignore_patterns("__pycache__", "VERSION"))
        (package / "__init__.py").touch()
        script = out / "k0s"
        script.write_text(
            "#!/bin/sh\n"
            "# Found through its own place, because the folder is renamed into the cache when it is complete.\n"
            'here=$(dirname "$(readlink -f "$0")")\n'
            f'export PYTHONPATH="$here/lib" K0S_STANDIN_VERSION="${{K0S_STANDIN_VERSION:-{minor}}}"\n'
            f'exec {shlex.quote(str(python))} -P -m k0s_images.standin "$@"\n'
        )
        script.chmod(0o755)

    return cached(f"k0s-stand-in-{minor}", minor, str(python), _PACKAGE, build=build, usually="a moment") / "k0s"


if __name__ == "__main__":
    print(launcher(*sys.argv[1:]))
