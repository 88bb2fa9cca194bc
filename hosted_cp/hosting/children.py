"""What a hosted control plane consists of: the ordered list of its child objects."""

from __future__ import annotations

from collections.abc import Callable

from hosted_cp.hosting import (
    authorities,
    budget,
    certificates,
    config,
    controllers,
    endpoint,
    kubeconfig,
    policy,
    service,
)
from hosted_cp.hosting.etcd import store
from hosted_cp.hosting.tenant import Tenant
from hosted_cp.hosting.wanted import Wanted

#: The child objects, in the order in which they are written. A new one is a new module and a line here.
MODULES: tuple[Callable[[Tenant], list[Wanted]], ...] = (
    service.wanted,
    authorities.wanted,
    certificates.wanted,
    store.wanted,
    kubeconfig.wanted,
    config.wanted,
    controllers.wanted,
    budget.wanted,
    policy.wanted,
    endpoint.wanted,
)


def everything_wanted(t: Tenant) -> list[Wanted]:
    """All objects of the tenant whose inputs are known, in writing order, before the user's patches.

    Only for a spec without problems: what k0s or the API would refuse is not looked at again.
    """
    return [each for module in MODULES for each in module(t)]
