"""Why a spec is not carried out: everything that it asks for and cannot get, with field, fault and remedy."""

from __future__ import annotations

from dataclasses import replace

from hosted_cp.api import checks
from hosted_cp.api.problems import Problem
from hosted_cp.hosting import config, controllers, privileges
from hosted_cp.hosting.tenant import Tenant
from hosted_cp.k0s import versions
from hosted_cp.k0s.command import flag_problems
from hosted_cp.planning.memo import OfSubject

#: Of how many tenants is kept what is wrong with their specs: of as many as their specs are kept as read.
_CHECKED: OfSubject[tuple[Problem, ...]] = OfSubject(most=256)


def spec_problems(t: Tenant) -> list[Problem]:
    """What the spec asks for and cannot get, whatever the world is like. While there is any, nothing is changed.

    The user's patches are judged with the objects that they are for: see `hosted_cp.hosting.patches`.
    """
    found = [
        *_of_spec(t),
        *flag_problems(t.spec.control_plane_flags, version=t.version),
        *config.problems(t),
        *controllers.problems(t),
        *privileges.problems(t),
    ]
    named = (replace(each, field=t.view.named_by) if each.field == "metadata.name" else each for each in found)
    unique = {str(problem): problem for problem in named}
    return list(unique.values())


def _of_spec(t: Tenant) -> tuple[Problem, ...]:
    """What is wrong with the spec itself: seldom another answer than to the last plan."""
    decided = t.decisions
    kept = (decided.podCIDR, decided.serviceCIDR, decided.clusterDomain, decided.networkProvider)
    question = (t.name, kept if t.former.version else None, t.former.storage)
    return _CHECKED.get(t.uid, t.spec, question, lambda: _checked(t))


def _checked(t: Tenant) -> tuple[Problem, ...]:
    asked = t.spec.network
    running = replace(
        asked,
        pod_cidr=t.decisions.podCIDR,
        service_cidr=t.decisions.serviceCIDR,
        cluster_domain=t.decisions.clusterDomain,
        provider=t.decisions.networkProvider,
    )
    return checks.problems(
        t.spec,
        name=t.name,
        old=running if t.former.version else None,
        old_storage=t.former.storage,
        support=versions.support_problem,
    )
