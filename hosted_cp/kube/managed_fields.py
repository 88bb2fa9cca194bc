"""Turning the managedFields entry of our POST into one of server-side apply.

A POST records its fields under `operation: Update`, also those that the server filled in, and an apply by the same
manager does not take them over: a field that we stop wanting would stay, owned by that old entry. So before the first
apply the entry is merged into one with `operation: Apply` (client-go's `csaupgrade` does the same for kubectl); the
apply that follows then removes what we no longer want.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hosted_cp.planning.actions import FIELD_MANAGER


def migrated(entries: Iterable[Mapping[str, Any]], *, manager: str = FIELD_MANAGER) -> list[dict[str, Any]] | None:
    """The entries with all of this manager in one apply entry, or None if there is nothing to change.

    Entries of subresources (the status) and of other managers stay as they are.
    """
    ours: list[Mapping[str, Any]] = []
    others: list[dict[str, Any]] = []
    for entry in entries:
        if entry.get("manager") == manager and not entry.get("subresource"):
            ours.append(entry)
        else:
            others.append(dict(entry))
    if all(entry.get("operation") == "Apply" for entry in ours):
        return None
    fields: dict[str, Any] = {}
    for entry in ours:
        fields = _union(fields, entry.get("fieldsV1") or {})
    # The version of an apply entry must be one; entries of one manager in several versions are all ours to merge,
    # because we only ever write one version of a kind.
    latest = max(ours, key=lambda entry: entry.get("time") or "")
    return [{**latest, "operation": "Apply", "fieldsV1": fields}, *others]


def _union(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    joined = dict(a)
    for key, value in b.items():
        joined[key] = _union(joined[key], value) if key in joined else value
    return joined
