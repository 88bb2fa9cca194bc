"""What stands in a new tenant's way: a former life under its name, another operator's objects, foreign objects.

In all three cases nothing is written. The worst thing an operator can do is to start a new control plane on old data
with new keys, or to write into what somebody else looks after.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hosted_cp.hosting import authorities, brought_kubeconfig
from hosted_cp.hosting.names import ADOPT, TENANT_UID
from hosted_cp.hosting.tenant import Tenant
from hosted_cp.hosting.view import TenantView
from hosted_cp.hosting.wanted import Wanted, is_k0smotrons
from hosted_cp.planning.actions import HASH_ANNOTATION, Ref, Target
from hosted_cp.planning.conditions import Cause
from hosted_cp.planning.observed import Observed


def take_over(view: TenantView) -> Cause | None:
    """A running k0smotron looks after this tenant: its mark is on children that do not have ours."""
    theirs = [
        str(child.ref)
        for child in view.children.values()
        if is_k0smotrons(child) and HASH_ANNOTATION not in child.annotations
    ]
    if not theirs:
        return None
    return Cause(
        reason="TakeOverRequired",
        message=f"k0smotron looks after this tenant ({_few(theirs)}); hosted-cp writes nothing to it. Leave it to"
        " k0smotron, or ask for the take-over once this version offers it",
    )


#: The kind of Cluster API of which k0smotron made hidden Clusters.
_CONTROL_PLANE = ("controlplane.cluster.x-k8s.io", "K0smotronControlPlane")


def is_left_behind(cluster: Observed) -> bool:
    """Whether k0smotron made this Cluster for a control plane of Cluster API: it is nothing of a user's, and not ours.

    We plan such a control plane directly. Who would care for what was made in between as well would do all twice.
    """
    owners = cluster.owner_references
    return any((str(o.get("apiVersion")).partition("/")[0], o.get("kind")) == _CONTROL_PLANE for o in owners)


def name_taken(view: TenantView) -> Cause | None:
    """An object of another kind asks for a tenant of this name. Whoever has something of it already goes on."""
    rival = view.rival
    if rival is None:
        return None
    theirs = any(child.controller_uid == rival.uid for child in view.children.values())
    if not theirs and (view.owned or not view.gives_way):
        return None
    return Cause(
        reason="NameTaken",
        message=f"{rival.ref.kind} {rival.ref.name} has the control plane that is called {view.name} in namespace"
        f" {rival.ref.namespace}, and two would have the same objects. Delete the one that is not wanted, or create it"
        " under another name",
    )


def former_life(t: Tenant) -> Cause | None:
    """What a former tenant of this name has left: objects, or data volumes; or volumes of this one without its keys."""
    left = _left_behind_by_former(t)
    if left:
        owner = t.view.owner.ref
        return Cause(
            reason="FormerLife",
            message=f"{_few(left)} belong to a former {owner.kind} {owner.name}, as their ownerReferences say, and go"
            " with it: Kubernetes removes them. To go on with the former tenant, bring back its Secrets without"
            " ownerReferences",
        )
    if t.former.version:
        return None
    strangers = [claim for claim in t.view.claims if claim.labels.get(TENANT_UID) != t.uid and not _adopted(t, claim)]
    if strangers:
        names = [claim.ref.name for claim in strangers]
        brought = ", ".join(authorities.secret_name(t, purpose) for purpose in authorities.purposes(t))
        return Cause(
            reason="FormerLife",
            message=f"data of a former tenant of this name is in {_few(names)}. Delete the volume claims to begin anew;"
            f" or bring back its Secrets {brought} and put the annotation {ADOPT}={t.uid} on the claims to go on with"
            " it",
        )
    missing = authorities.missing(t)
    if t.view.claims and missing:
        return Cause(
            reason="FormerLife",
            message=f"data volumes exist ({_few([claim.ref.name for claim in t.view.claims])}) but the Secrets"
            f" {_few(missing)} with their keys are gone. Bring the Secrets back from a backup; or delete the volume"
            " claims to begin anew",
        )
    return None


def _left_behind_by_former(t: Tenant) -> list[str]:
    """Objects whose controller is an object of the owner's kind and name that is no more.

    What restores a backup brings objects back with the ownerReferences that they had, and the garbage collector takes
    them away again. The Secrets of authorities among them are not brought by a user: a tenant that begins with them
    loses them a moment later, some of them before it has begun, and then has new keys beside old ones.
    """
    me = t.view.owner
    return [
        f"{child.ref.kind} {child.ref.name}"
        for child in t.view.children.values()
        if child.controller_uid != me.uid and any(_names(each, me.ref) for each in child.owner_references)
    ]


def _names(reference: Mapping[str, Any], who: Ref) -> bool:
    """Whether an owner reference of a controller names an object of this kind and name, of whatever life."""
    group = str(reference.get("apiVersion")).partition("/")[0]
    named = (group, reference.get("kind"), reference.get("name"))
    return bool(reference.get("controller")) and named == (who.api_version.partition("/")[0], who.kind, who.name)


def _adopted(t: Tenant, claim: Observed) -> bool:
    return claim.annotations.get(ADOPT) == t.uid and not authorities.missing(t)


def foreign(t: Tenant) -> list[Observed]:
    """Objects of somebody else under names of ours, needed or not. What the user may bring is none: a certificate's
    Secret, a kubeconfig."""
    brought = {t.names.secret(purpose) for purpose in authorities.ALL}
    if brought_kubeconfig.seen(t) is not None:
        brought.add(t.names.kubeconfig)
    return [
        child
        for child in t.view.children.values()
        if child.controller_uid != t.uid
        and not child.deleting
        and not (child.ref.kind == "Secret" and child.ref.name in brought)
    ]


def conflicts(t: Tenant, wanted: Iterable[Wanted]) -> Cause | None:
    """Objects of somebody else under the names of these, of what is wanted now and of what will be."""
    theirs = foreign(t)
    names = {(each.ref.kind, each.ref.name) for each in wanted if each.target is not Target.TENANT} if theirs else set()
    found = [f"{each.ref.kind} {each.ref.name}" for each in theirs if (each.ref.kind, each.ref.name) in names]
    if not found:
        return None
    return Cause(
        reason="NameConflict",
        message=f"{_few(found)} exist in namespace {t.namespace} and belong to somebody else; hosted-cp does not touch"
        " them. Delete or rename them, or give the tenant another name",
    )


def _few(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
