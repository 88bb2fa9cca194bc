"""The plan of one hosted control plane: same view, same plan.

The order inside a tenant comes from data, not from waiting: Service -> address and ports -> certificates, kubeconfig,
config -> etcd -> k0s. Whatever stands in the way stops the writes, never the status and never a renewal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from hosted_cp.hosting import (
    authorities,
    brought_kubeconfig,
    certificates,
    claims,
    config,
    controllers,
    deletion,
    endpoint,
    kubeconfig,
    lives,
    patches,
    rehearsal,
    unsupported,
    upkeep,
)
from hosted_cp.hosting import status as reporting
from hosted_cp.hosting.children import everything_wanted
from hosted_cp.hosting.refusals import spec_problems
from hosted_cp.hosting.tenant import Tenant, tenant
from hosted_cp.hosting.view import TenantView
from hosted_cp.hosting.wanted import Wanted, settle
from hosted_cp.planning.actions import Action, Delete, PatchMetadata, Plan, Target

#: Kinds of ours that go when they are not wanted any more. Never Secrets, StatefulSets or volumes.
_PRUNED = ("Service", "PodDisruptionBudget", "NetworkPolicy")


def plan(view: TenantView) -> Plan:
    """What to do for a tenant, and what to say about it."""
    t = readable(view)
    return of_tenant(t) if isinstance(t, Tenant) else t


def readable(view: TenantView) -> Tenant | Plan:
    """The tenant that the view is of; or all there is to do, where its spec cannot be read or does not count."""
    if lives.is_left_behind(view.owner):
        return Plan()
    blocked = lives.take_over(view)
    if view.owner.deleting:
        return deletion.plan(view, blocked)
    blocked = blocked or lives.name_taken(view)
    if blocked is not None:
        return reporting.refused(view, blocked)
    if view.spec is None or view.problems:
        said = reporting.refused(view, None)
        return replace(said, actions=tuple(upkeep.renewals(view)), retry_after=upkeep.wake(view))
    return tenant(view, view.spec)


def of_tenant(t: Tenant) -> Plan:
    """The same, of a tenant whose spec can be read."""
    problems = spec_problems(t)
    held = bool(problems) or unsupported.blocking(t.spec)
    wanted = [] if held else everything_wanted(t)
    later = [] if held else _later(t, wanted)
    patched, patch_problems = patches.apply_patches(t, wanted)
    problems += [*patch_problems, *claims.problems(t, patched)]
    if not held:
        problems += patches.problems_of_later(t, wanted, later)
    missing = [*authorities.problems(t), *config.missing(t)]
    in_the_way = lives.former_life(t) or lives.conflicts(t, [*wanted, *later])
    actions: list[Action]
    if in_the_way is None and not problems and not held:
        actions = _finalizer(t.view) + _with_port(t, _settle(t, patched)) + _prune(t, patched)
        wake = _wake(t, acting=bool(actions))
    else:
        actions, wake = [*upkeep.renewals(t.view)], upkeep.wake(t.view)
    made = Plan(
        actions=tuple(actions),
        probes=(*endpoint.probes(t), *brought_kubeconfig.probes(t)),
        retry_after=wake,
        last_word=not actions,
        **reporting.report(t, in_the_way=in_the_way, problems=problems, missing=missing),
    )
    asking = endpoint.asking(t) or brought_kubeconfig.asking(t)
    if asking and not t.view.failure and not problems:
        # A report now would be old when it is written: the answer, good or bad, comes within the probe's deadline.
        return replace(made, status=None, events=())
    return made


def _later(t: Tenant, wanted: Sequence[Wanted]) -> list[Wanted]:
    """What is not wanted yet because an input is unknown. Looked for only where something hangs on it.

    The user shall hear at once what would stop his tenant half-way: a patch that does not fit, a name that is taken.
    """
    return rehearsal.later(t, wanted) if t.spec.patches or lives.foreign(t) else []


def _finalizer(view: TenantView) -> list[Action]:
    owner = view.owner
    if view.finalizer in owner.finalizers:
        return []
    return [
        PatchMetadata(
            ref=owner.ref,
            uid=owner.uid,
            resource_version=owner.resource_version,
            finalizers=(*owner.finalizers, view.finalizer),
        )
    ]


def _settle(t: Tenant, wanted: Sequence[Wanted]) -> list[Action]:
    actions = []
    for each in wanted:
        seen = None if each.target is Target.TENANT else t.view.child(each.ref.kind, each.ref.name)
        if seen is not None and seen.deleting:
            continue  # its end is an event, whosever it was, and then ours is made
        action = settle(each, seen, owner_uid=t.uid)
        if action is not None:
            actions.append(action)
    return actions


def _with_port(t: Tenant, actions: list[Action]) -> list[Action]:
    """Before the decisions forget the tenant's former port it is told the new one. If that has failed, it holds up
    nothing else: the decisions remember it until it works (`tenant.Decisions.portBefore`)."""
    moved = endpoint.moved(t)
    return [*actions, *moved] if t.decisions.portBefore else [*moved, *actions]


def _prune(t: Tenant, wanted: Sequence[Wanted]) -> list[Action]:
    """Ours, of a listed kind, not wanted. An old Service goes only when all controllers serve the new address."""
    keep = {(each.ref.kind, each.ref.name) for each in wanted}
    serving_elsewhere = t.address_settled and endpoint.serving(t) and controllers.run_config(t)
    return [
        Delete(ref=child.ref, uid=child.uid)
        for child in t.view.owned
        if child.ref.kind in _PRUNED
        and (child.ref.kind, child.ref.name) not in keep
        and not child.deleting
        and (child.ref.kind != "Service" or serving_elsewhere)
    ]


def _wake(t: Tenant, *, acting: bool) -> float | None:
    """Seconds until the clock alone changes the plan: the next renewal or restart.

    What is due and not `acting` upon cannot be renewed (its signer is gone): that ends with an event, not with time.
    """
    moments: list[datetime | None] = [certificates.renew_at(t), kubeconfig.renew_at(t), brought_kubeconfig.ends(t)]
    if controllers.seen(t) is not None:
        moments.append(controllers.restart_at(t))
    due = [moment for moment in moments if moment is not None and (acting or moment > t.view.now)]
    return max(1.0, (min(due) - t.view.now).total_seconds()) if due else None
