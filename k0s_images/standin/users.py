"""The operating system users under which components run."""

from __future__ import annotations

import functools
import os
import pwd

from k0s_images.standin import log

ETCD = "etcd"
KUBE_APISERVER = "kube-apiserver"
KUBE_SCHEDULER = "kube-scheduler"
KONNECTIVITY = "konnectivity-server"


@functools.cache
def uid(name: str) -> int:
    """The uid of a component's user; a missing user is a warning and means root."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        log.warning(f"user {name} not found, running as root", component="users")
        return os.geteuid()
