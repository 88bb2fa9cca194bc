"""Recipes: how secret or random content is made, said without making it.

A recipe is public: it can be printed, hashed and committed in a golden file. Whoever fulfils it (`hosted_cp.executor`)
brings what the pure rooms may not have: entropy, the clock, private keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeGuard, runtime_checkable


class MaterialError(Exception):
    """A recipe cannot be fulfilled from the Secrets it needs; the message names Secret and key, never a value."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a recipe is fulfilled with."""

    now: datetime
    #: n -> n random bytes, from the operating system in production, seeded in tests.
    entropy: Callable[[int], bytes]
    #: algorithm ("ECDSA-P256", "RSA-2048") -> a new private key (a `cryptography` private key object).
    new_key: Callable[[str], Any]
    #: Secret name (in the namespace of the object that is made) -> its data. Never printed.
    secrets: Mapping[str, Mapping[str, bytes]] = field(repr=False)


_CONFIG_MAP = "configmap:"


def config_map_material(name: str) -> str:
    """Under which name a recipe needs the content of a ConfigMap. No Secret can be called so, because of the colon."""
    return f"{_CONFIG_MAP}{name}"


def config_map_name(material: str) -> str | None:
    """The name of the ConfigMap that is meant by it; None where a Secret is."""
    return material.removeprefix(_CONFIG_MAP) if material.startswith(_CONFIG_MAP) else None


class Recipe(Protocol):
    """How the data of one Secret is made."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the Secrets, in the same namespace, whose data must be in `Inputs.secrets`. (A ConfigMap's
        under `config_map_material`.)"""

    def printed(self) -> Mapping[str, Any]:
        """A public description, stable for equal recipes; what `render` shows and the hash covers."""

    def fulfil(self, inputs: Inputs) -> Mapping[str, bytes]:
        """The data of the Secret. Raises `MaterialError` if a needed Secret lacks a key or holds what it should not."""


@runtime_checkable
class Reusable(Recipe, Protocol):
    """A recipe for material of which others may have been told already, by an operator that died or by one that works
    at the same moment: what exists is kept if it serves, and never replaced by something that is merely as good."""

    def fault(self, data: Mapping[str, bytes], inputs: Inputs) -> str:
        """Why a Secret with this data cannot stand for what this recipe would make; "" if it can. Quotes nothing."""


@runtime_checkable
class Amending(Reusable, Protocol):
    """A reusable recipe that may change a part of what exists and leave the rest, which others know, as it is."""

    def amendment(self, data: Mapping[str, bytes], inputs: Inputs) -> Mapping[str, bytes]:
        """The keys to write into a Secret that has no `fault`; none if it may stay as it is."""


@runtime_checkable
class Annotating(Recipe, Protocol):
    """A recipe some of whose material is public and has to be said on the Secret, but is not known to a plan."""

    def annotations(self, inputs: Inputs) -> Mapping[str, str]:
        """Annotations of the Secret; they take the place of those of the same names in the plan."""


@runtime_checkable
class Keeping(Recipe, Protocol):
    """A recipe for a part of a Secret: some keys of what exists stay as they are, and are not read for it."""

    @property
    def keeps(self) -> frozenset[str]:
        """Those keys; none if everything is made."""


def kept_by(recipe: Recipe) -> frozenset[str]:
    """The keys of an existing Secret that a recipe leaves as they are."""
    found: frozenset[str] = getattr(recipe, "keeps", frozenset())
    return found


def is_annotating(recipe: Recipe) -> TypeGuard[Annotating]:
    """As `isinstance` says, at a hundredth of its cost: for a protocol that compares all members, each time."""
    return hasattr(type(recipe), "annotations")
