"""The three kinds of patches that Kubernetes knows, with the meaning that its API server gives them.

`json` is RFC 6902 (with the server's negative indices, and its `replace` of what is not there), `merge` is RFC 7386,
`strategic` is Kubernetes' strategic merge with the server's merge keys (`hosted_cp.planning.merge`) and its directives.
The component tests apply the same patches here and by a real API server. Nothing that is passed in is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hosted_cp.planning.actions import Object
from hosted_cp.planning.merge import NOTHING_SPECIAL, Shape, shape_of


class PatchError(ValueError):
    """The patch does not apply; the message says where and why."""


def apply(body: Object, *, type: str, patch: Any) -> dict[str, Any]:
    """The patched copy of the object. `type` is `json`, `merge` or `strategic`. Raises `PatchError`."""
    if type == "json":
        return json_patch(body, patch)
    if not isinstance(patch, Mapping):
        raise PatchError("the patch is no mapping")
    patched = merge_patch(body, patch) if type == "merge" else strategic_patch(body, patch)
    if not isinstance(patched, dict):
        raise PatchError("the result is no object")
    return patched


def _copied(value: Any) -> Any:
    """A copy in which nothing is shared: what stands in two places of an object must not change in both."""
    if isinstance(value, Mapping):
        return {key: _copied(member) for key, member in value.items()}
    return [_copied(item) for item in value] if isinstance(value, (list, tuple)) else value


# --- RFC 7386 --------------------------------------------------------------------------------------------------------


def merge_patch(target: Any, patch: Any) -> Any:
    """Mappings are merged, null removes, everything else replaces."""
    if not isinstance(patch, Mapping):
        return _copied(patch)
    merged = _copied(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


# --- RFC 6902 --------------------------------------------------------------------------------------------------------


def json_patch(body: Object, patch: Any) -> dict[str, Any]:
    """Operations in their order; the first that does not apply spoils the whole patch."""
    if not isinstance(patch, Sequence) or isinstance(patch, str):
        raise PatchError("the patch is no list of operations")
    document: Any = _copied(body)
    for index, operation in enumerate(patch):
        try:
            document = _operate(document, operation)
        except PatchError as error:
            raise PatchError(f"operation {index}: {error}") from None
    if not isinstance(document, dict):
        raise PatchError("the result is no object")
    return document


def _operate(document: Any, operation: Any) -> Any:
    if not isinstance(operation, Mapping):
        raise PatchError("it is no mapping with op and path")
    op = operation.get("op")
    if op in ("add", "replace", "test") and "value" not in operation:
        raise PatchError(f"{op} needs a value")
    path = _pointer(operation, "path")
    match op:
        case "add":
            return _add(document, path, _copied(operation["value"]))
        case "remove":
            _remove(document, path)
            return document
        case "replace":
            return _replace(document, path, _copied(operation["value"]))
        case "move":
            value = _get(document, _pointer(operation, "from"))
            _remove(document, _pointer(operation, "from"))
            return _add(document, path, value)
        case "copy":
            return _add(document, path, _copied(_get(document, _pointer(operation, "from"))))
        case "test":
            if not _equal(_get(document, path), operation["value"]):
                raise PatchError(f"the test of {operation['path']} fails")
            return document
        case _:
            raise PatchError(f"there is no operation {str(op)[:32]!r}")


def _pointer(operation: Mapping[str, Any], name: str) -> list[str]:
    text = operation.get(name)
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise PatchError(f"{name} must be a path that begins with /")
    return [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:]]


def _get(document: Any, path: Sequence[str]) -> Any:
    for depth, step in enumerate(path):
        if isinstance(document, Mapping) and step in document:
            document = document[step]
        elif isinstance(document, list):
            document = document[_index(step, len(document), path)]
        else:
            raise PatchError(f"nothing is at {_show(path[: depth + 1])}")
    return document


def _index(step: str, length: int, path: Sequence[str]) -> int:
    """An index that exists, counted from the end if it is negative."""
    try:
        index = int(step)
    except ValueError:
        raise PatchError(f"{step[:32]!r} in {_show(path)} is no index of a list") from None
    if not -length <= index < length:
        raise PatchError(f"the list at {_show(path[:-1])} has {length} items, there is no {index}")
    return index % length


def _add(document: Any, path: Sequence[str], value: Any) -> Any:
    if not path:
        return value
    parent = _get(document, path[:-1])
    if isinstance(parent, dict):
        parent[path[-1]] = value
    elif isinstance(parent, list):
        index = len(parent) if path[-1] == "-" else _index(path[-1], len(parent) + 1, path)
        parent.insert(index, value)
    else:
        raise PatchError(f"nothing can be added at {_show(path)}")
    return document


def _replace(document: Any, path: Sequence[str], value: Any) -> Any:
    if not path:
        return value
    parent = _get(document, path[:-1])
    if not isinstance(parent, (dict, list)):
        raise PatchError(f"nothing is at {_show(path)}")
    key: Any = _index(path[-1], len(parent), path) if isinstance(parent, list) else path[-1]
    parent[key] = value
    return document


def _remove(document: Any, path: Sequence[str]) -> None:
    _get(document, path)
    if not path:
        raise PatchError("the whole object cannot be removed")
    parent = _get(document, path[:-1])
    del parent[_index(path[-1], len(parent), path) if isinstance(parent, list) else path[-1]]


def _equal(one: Any, other: Any) -> bool:
    """As JSON: true is not 1."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _show(path: Sequence[str]) -> str:
    return "/" + "/".join(path)


# --- strategic merge -------------------------------------------------------------------------------------------------

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_DELETE = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"


def strategic_patch(body: Object, patch: Mapping[str, Any]) -> dict[str, Any]:
    """Kubernetes' strategic merge with the merge keys of the object's kind."""
    return _merge(_copied(body), _copied(patch), shape_of(body), "")


def _merge(original: dict[str, Any], patch: dict[str, Any], shape: Shape, path: str) -> dict[str, Any]:
    directive = patch.get(_DIRECTIVE)
    if directive is not None:
        if directive == "replace":
            return {key: value for key, value in patch.items() if key != _DIRECTIVE}
        if directive == "delete":
            return {}
        if directive != "merge":
            raise PatchError(f"{path or 'the patch'} has the unknown directive $patch: {str(directive)[:32]}")
    _retain_keys(original, patch, path)
    orders = {key.removeprefix(_ORDER): value for key, value in patch.items() if key.startswith(_ORDER)}
    for key, value in patch.items():
        if key.startswith(_DELETE):
            name = key.removeprefix(_DELETE)
            unwanted = _list(value, f"{path}.{key}")
            if isinstance(original.get(name), list):
                original[name] = [item for item in original[name] if not any(_equal(item, each) for each in unwanted)]
    for key, value in patch.items():
        if key in (_DIRECTIVE, _RETAIN) or key.startswith((_DELETE, _ORDER)):
            continue
        _merge_field(original, key, value, shape.at(key), orders.get(key), f"{path}.{key}".lstrip("."))
    for key, order in orders.items():
        if key not in patch and isinstance(original.get(key), list):
            place = f"{path}.{_ORDER}{key}"
            original[key] = _in_order(original[key], original[key], _list(order, place), shape.at(key).patch_key, place)
    return original


def _merge_field(original: dict[str, Any], key: str, value: Any, shape: Shape, order: Any, path: str) -> None:
    before = original.get(key)
    if value is None:
        original.pop(key, None)
    elif isinstance(before, dict) and isinstance(value, dict) and not shape.replaced:
        original[key] = _merge(before, value, shape, path)
    elif isinstance(before, list) and isinstance(value, list) and (shape.patch_key or shape.unique):
        original[key] = _merge_list(before, value, shape, order, path)
    else:
        kept = _without_directives(value)
        if kept is _NOTHING:
            original.pop(key, None)
        else:
            original[key] = kept


def _merge_list(original: list[Any], patch: list[Any], shape: Shape, order: Any, path: str) -> list[Any]:
    if shape.unique:
        merged = [*original, *(item for item in patch if item not in original)]
        return _in_order(merged, original, _list(order or patch, path), "", path)
    key = shape.patch_key
    plain, replaced = [], False
    for item in patch:
        if not isinstance(item, dict):
            raise PatchError(f"{path}: every item must be a mapping with {key}")
        directive = item.get(_DIRECTIVE)
        if directive is None:
            plain.append(item)
        elif directive == "delete":
            gone = _key(item, key, path)
            original = [each for each in original if not _equal(each.get(key), gone)]
        elif directive == "replace":
            replaced = True
        else:
            raise PatchError(f"{path} has the unknown directive $patch: {str(directive)[:32]}")
    if replaced:
        return plain
    before = list(original)
    merged = list(original)
    for item in plain:
        name = _key(item, key, path)
        found = next((index for index, each in enumerate(merged) if _equal(each.get(key), name)), None)
        if found is None:
            merged.append(_without_nulls(_cleaned(item)))
        else:
            merged[found] = _merge(merged[found], item, shape.item or NOTHING_SPECIAL, f"{path}[{name}]")
    wanted = _list(order, path) if order is not None else plain
    return _in_order(merged, before, wanted, key, path)


def _in_order(merged: list[Any], before: list[Any], wanted: list[Any], key: str, path: str) -> list[Any]:
    """The server's order: items of the patch as the patch has them, the others as they were; what is new stands before
    what the patch does not name."""

    def name(item: Any) -> Any:
        if not key:
            return item
        return _key(item, key, path) if isinstance(item, dict) else item

    positions = [name(item) for item in wanted]
    former = [name(item) for item in before]
    ours = sorted((item for item in merged if name(item) in positions), key=lambda item: positions.index(name(item)))
    others = [item for item in merged if name(item) not in positions]
    result: list[Any] = []
    while ours and others:
        one, other = name(ours[0]), name(others[0])
        first = one in former and other in former and former.index(other) < former.index(one)
        result.append(others.pop(0) if first else ours.pop(0))
    return result + ours + others


def _retain_keys(original: dict[str, Any], patch: dict[str, Any], path: str) -> None:
    if _RETAIN not in patch:
        return
    kept = _list(patch[_RETAIN], f"{path}.{_RETAIN}")
    for key, value in patch.items():
        if value is not None and not key.startswith("$") and key not in kept:
            raise PatchError(f"{path}.{key} is not in {_RETAIN}")
    for key in [key for key in original if key not in kept]:
        del original[key]


def _key(item: Mapping[str, Any], key: str, path: str) -> Any:
    if key not in item:
        raise PatchError(f"{path}: an item lacks {key}, by which items are told apart")
    return item[key]


def _list(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise PatchError(f"{path} is no list")
    return value


_NOTHING = object()


def _without_directives(value: Any) -> Any:
    """What is new loses its directives; a part that is nothing but a directive is left out."""
    if isinstance(value, dict):
        if _DIRECTIVE in value:
            return _NOTHING
        members = ((key, _without_directives(member)) for key, member in value.items() if member is not None)
        return {key: member for key, member in members if member is not _NOTHING}
    if isinstance(value, list):
        return [item for item in map(_without_directives, value) if item is not _NOTHING]
    return value


def _cleaned(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if not key.startswith("$")}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(member) for key, member in value.items() if member is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
