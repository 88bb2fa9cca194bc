"""Why a spec is not carried out: everything that it asks for and cannot get, with field, fault and remedy."""

from __future__ import annotations

from dataclasses import replace

from hosted_cp.api import checks
from hosted_cp.api.cluster import Network
from hosted_cp.api.problems import Problem
from hosted_cp.hosting import config, controllers, privileges
from hosted_cp.hosting.tenant import Tenant
from hosted_cp.k0s import versions
from hosted_cp.k0s.command import flag_problems


def spec_problems(t: Tenant) -> list[Problem]:
    """What the spec asks for and cannot get, whatever the world is like. While there is any, nothing is changed.

    The user's patches are judged with the objects that they are for: see `hosted_cp.hosting.patches`.
    """
    running = Network(
        pod_cidr=t.decisions.podCIDR,
        service_cidr=t.decisions.serviceCIDR,
        cluster_domain=t.decisions.clusterDomain,
        dual_stack=t.spec.network.dual_stack,
        pod_cidr_v6=t.spec.network.pod_cidr_v6,
        service_cidr_v6=t.spec.network.service_cidr_v6,
    )
    found = [
        *checks.problems(
            t.spec,
            name=t.name,
            old=running if t.former.version else None,
            old_storage=t.former.storage,
            support=versions.support_problem,
        ),
        *flag_problems(t.spec.control_plane_flags, version=t.version),
        *config.problems(t),
        *controllers.problems(t),
        *privileges.problems(t),
    ]
    named = (replace(each, field=t.view.named_by) if each.field == "metadata.name" else each for each in found)
    unique = {str(problem): problem for problem in named}
    return list(unique.values())
