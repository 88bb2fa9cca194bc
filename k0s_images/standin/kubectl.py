"""`k0s kubectl`: becomes the kubectl beside the other components, with the administrator's kubeconfig.

Probes run it again and again, so it imports next to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from k0s_images.standin.errors import Fatal

NAMES = ("kubectl", "kc")


def run(words: Sequence[str]) -> int:
    """Does not return, unless kubectl cannot be found (`Fatal`)."""
    data = os.environ.get("K0S_DATA_DIR", "/var/lib/k0s")
    environment = dict(os.environ)
    if not any(w.split("=")[0] == "--kubeconfig" for w in words) and not environment.get("KUBECONFIG"):
        environment["KUBECONFIG"] = f"{data}/pki/admin.conf"
    os.execve(executable("kubectl", f"{data}/bin"), ["kubectl", *words], environment)  # noqa: S606 - no shell is wanted


def executable(name: str, own: str) -> str:
    """The component binary `name`: in k0s' `own` folder first, then on PATH; `Fatal` if there is none."""
    for folder in (own, *os.environ.get("PATH", "").split(os.pathsep)):
        candidate = f"{folder}/{name}"
        if folder and os.access(candidate, os.X_OK) and os.path.isfile(candidate):
            return candidate
    raise Fatal(f"failed to find the executable {name!r} in {own} or on PATH")
