"""What we want, laid over what is there, without what cannot stand beside it.

Server-side apply merges, and a merge may be what no server takes: somebody has given our port another number, and the
apply adds ours beside it under the same name; somebody has turned our probe into another kind of probe, and now there
would be two. The server refuses the whole apply then (422), for ever. The way out is to write the merged object without
the parts of others that clash with ours, and then to apply. Everything else of others stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hosted_cp.planning.actions import Object
from hosted_cp.planning.merge import NOTHING_SPECIAL, Shape, item_key, shape_of


def laid_over(live: Object, wanted: Object) -> tuple[dict[str, Any], list[str]]:
    """(the merged object, the paths of what had to go from the live one for it). No paths: an apply can do the same.

    `live` is the whole object as the server gives it; its resourceVersion and UID are the precondition of the write.
    """
    removed: list[str] = []
    merged = _mapping(live, wanted, shape_of(wanted), path="", removed=removed)
    merged["metadata"] = {
        **merged["metadata"],
        "uid": live["metadata"]["uid"],
        "resourceVersion": live["metadata"]["resourceVersion"],
    }
    return merged, removed


def operations(live: Object, merged: Object) -> list[dict[str, Any]]:
    """The JSON patch (RFC 6902) that makes the live object the merged one, but for its metadata, which nothing clashes
    in; refused (409) if somebody has written meanwhile."""
    version = {
        "op": "replace",
        "path": "/metadata/resourceVersion",
        "value": merged["metadata"]["resourceVersion"],
    }
    return [version] + [
        {"op": "add", "path": f"/{name}", "value": value}  # (of a member that is there, "add" replaces it)
        for name, value in merged.items()
        if name not in ("apiVersion", "kind", "metadata", "status") and live.get(name) != value
    ]


def _value(live: Any, wanted: Any, shape: Shape, *, path: str, removed: list[str]) -> Any:
    if isinstance(wanted, Mapping) and isinstance(live, Mapping) and not shape.whole:
        return _mapping(live, wanted, shape, path=path, removed=removed)
    if isinstance(wanted, Sequence) and not isinstance(wanted, str) and isinstance(live, list):
        if shape.unique:
            return [*live, *(each for each in wanted if each not in live)]
        if shape.keys:
            return _items(live, wanted, shape, path=path, removed=removed)
    return wanted


def _mapping(
    live: Mapping[str, Any], wanted: Mapping[str, Any], shape: Shape, *, path: str, removed: list[str]
) -> dict[str, Any]:
    ours = {key: value for key, value in wanted.items() if value is not None}
    chosen = shape.one_of & set(ours)
    merged: dict[str, Any] = {}
    for key, value in live.items():
        place = f"{path}.{key}".lstrip(".")
        if key in ours:
            merged[key] = _value(value, ours[key], shape.at(key), path=place, removed=removed)
        elif chosen and key in shape.one_of:
            removed.append(place)
        else:
            merged[key] = value
    return {**ours, **merged}


def _items(
    live: Sequence[Any], wanted: Sequence[Any], shape: Shape, *, path: str, removed: list[str]
) -> list[dict[str, Any]]:
    there = {item_key(item, shape): item for item in live if isinstance(item, Mapping)}
    taken = {name: {item[name] for item in wanted if item.get(name)} for name in shape.distinct}
    merged = []
    for item in wanted:
        key = item_key(item, shape)
        place = f"{path}[{','.join(str(part) for part in key)}]"
        merged.append(_mapping(there.pop(key, {}), item, shape.item or NOTHING_SPECIAL, path=place, removed=removed))
    for key, item in there.items():
        if any(item.get(name) in taken[name] for name in shape.distinct):
            removed.append(f"{path}[{','.join(str(part) for part in key)}]")
        else:
            merged.append(dict(item))
    return merged
