"""The lab: a real management cluster on this one machine, in network namespaces, and edge machines beside it.

etcd, kube-apiserver, controller-manager, scheduler, kubelet, kube-proxy and containerd run as plain processes in a
network namespace, a mount namespace and cgroups of their own; no Docker, no systemd and no virtual machine is needed.
The command is `python -m e2e.lab`; tests use `up`, `down`, `status` and the `Lab` that `up` returns.

Nothing is imported until it is used: `preflight` has to run with a bare system Python, to say what is missing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from e2e.lab.cluster import down, existing, status, up
    from e2e.lab.edge import Edge
    from e2e.lab.handle import Lab

__all__ = ["Edge", "Lab", "down", "existing", "status", "up"]

_CLUSTER = "e2e.lab.cluster"
_HOMES = {
    "Edge": "e2e.lab.edge", "Lab": "e2e.lab.handle", "down": _CLUSTER, "existing": _CLUSTER, "status": _CLUSTER,
    "up": _CLUSTER,
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
