"""What a child module wants, and how a wanted object and the seen one become an action."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hosted_cp.hosting.names import K0SMOTRON_HASH, K0SMOTRON_MANAGER
from hosted_cp.planning import diff
from hosted_cp.planning.actions import Action, Create, Object, Ref, Replace, Target
from hosted_cp.planning.observed import Observed
from hosted_cp.planning.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One object of the tenant.

    Without a recipe the body is all there is. With one, the body is a Secret without data: `once` says that the content
    is never made a second time under this name (CAs, keys); otherwise `current` says whether what is there still
    serves, and if not, the recipe makes it anew.
    """

    body: Object
    recipe: Recipe | None = None
    once: bool = False
    current: bool = True
    target: Target = Target.MANAGEMENT

    @cached_property
    def ref(self) -> Ref:
        return Ref.of(self.body)


def is_k0smotrons(seen: Observed) -> bool:
    """Whether a running k0smotron looks after this object: its hash annotation or its field manager are on it."""
    return K0SMOTRON_HASH in seen.annotations or K0SMOTRON_MANAGER in seen.managers


def settle(wanted: Wanted, seen: Observed | None, *, owner_uid: str) -> Action | None:
    """The action that makes the seen object the wanted one, or None if nothing differs.

    `seen` must be ours or absent; what is foreign is the caller's to report.
    """
    if wanted.target is Target.TENANT:
        return Create(body=wanted.body, target=wanted.target, ours=False)
    if wanted.recipe is None:
        return diff.settle(wanted.body, seen, owner_uid)
    if seen is None:
        return Create(body=wanted.body, recipe=wanted.recipe)
    if not wanted.once and not wanted.current:
        return Replace(body=wanted.body, recipe=wanted.recipe, uid=seen.uid, resource_version=seen.resource_version)
    return diff.metadata_patch(wanted.body, seen)
