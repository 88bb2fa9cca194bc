"""An executable `k0s` on this machine that is the stand-in: for edge machines and the contract tests.

In images the package is copied beside a small script; here it is copied into the cache, so that what a running worker
executes does not change under it when the checkout does.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from k0s_images.cache import cached

_PACKAGE = Path(__file__).parent / "standin"
#: Not a shell script: a shell drops variables such as KUBE-APISERVER_GOMEMLIMIT, whose names it cannot have itself.
#: The package is found through the script's own place, because the folder is renamed when it is complete.
_SCRIPT = """#!{python} -P
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "lib"))
os.environ.setdefault("K0S_STANDIN_VERSION", "{minor}")

from k0s_images.standin.entry import main

sys.exit(main(sys.argv[1:]))
"""

_SINGLE = """#!{python} -P
import os
import sys

sys.path.insert(0, "{library}")
os.environ.setdefault("K0S_STANDIN_VERSION", "{minor}")

from k0s_images.standin.entry import main

sys.exit(main(sys.argv[1:]))
"""


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
        script.write_text(_SCRIPT.format(python=python, minor=minor))
        script.chmod(0o755)

    return (
        cached(f"k0s-stand-in-{minor}", _SCRIPT, minor, str(python), _PACKAGE, build=build, usually="a moment") / "k0s"
    )


def single_file(minor: str = "1.36") -> str:
    """The text of an executable `k0s` that can be copied anywhere on this machine, as one that is downloaded is."""
    library = launcher(minor).parent / "lib"
    return _SINGLE.format(python=sys.executable, library=library, minor=minor)


if __name__ == "__main__":
    print(launcher(*sys.argv[1:]))
