"""Every way in which somebody can change an object of ours, worked out from what the planner wants of it.

What we own of an object is what the planner asks for, so that is where the drifts come from: each value changed, each
value (and everything below a place) removed, and something added wherever the API knows only the whole. A new field of
the product is thereby covered without a word here.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hosted_cp.controllers.clusters import Clusters
from hosted_cp.hosting import patches
from hosted_cp.hosting.children import everything_wanted
from hosted_cp.hosting.tenant import tenant
from hosted_cp.hosting.wanted import Wanted
from hosted_cp.kube.loop import Key
from hosted_cp.operator import Operator
from hosted_cp.planning.actions import Target
from hosted_cp.planning.diff import stamped
from hosted_cp.planning.merge import NOTHING_SPECIAL, Shape, item_key, shape_of
from tests.component.hosting import Object, Routed

Path = tuple[str, ...]

#: What an object is, and what cannot be changed for as long as it lives.
FIXED: tuple[Path, ...] = (
    ("apiVersion",),
    ("kind",),
    ("type",),
    ("metadata", "name"),
    ("metadata", "namespace"),
    # Without its owner it is not ours any more: a case of its own.
    ("metadata", "ownerReferences"),
)
FIXED_OF: Mapping[str, tuple[Path, ...]] = {
    "StatefulSet": tuple(
        ("spec", name) for name in ("podManagementPolicy", "serviceName", "selector", "volumeClaimTemplates")
    ),
}

#: A value that is as good as another one: words of which the API knows only a few.
_OTHER_WORDS = {
    "TCP": "UDP",
    "IfNotPresent": "Always",
    "FallbackToLogsOnError": "File",
    "RuntimeDefault": "Unconfined",
    "HTTP": "HTTPS",
    "HTTPS": "HTTP",
    "OnRootMismatch": "Always",
    "AlwaysAllow": "IfHealthyBudget",
    "NodePort": "LoadBalancer",
    "ClusterIP": "NodePort",
    "Retain": "Delete",
    "Delete": "Retain",
    "ALL": "NET_RAW",
    "metadata.name": "metadata.namespace",
    "ScheduleAnyway": "DoNotSchedule",
    "Ingress": "Egress",
}


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One thing that somebody does to an object: a JSON patch."""

    how: str
    path: Path
    operation: Object

    def __str__(self) -> str:
        return f"{self.how} {'.'.join(self.path)}"


def wanted_of(operator: Operator, namespace: str, name: str) -> list[Wanted]:
    """What the operator's planner wants of the tenant's objects at this moment, patches and stamps included."""
    [clusters] = [loop.controller.inner for loop in operator.loops if isinstance(loop.controller, Routed)
                  and isinstance(loop.controller.inner, Clusters)]  # fmt: skip
    view = clusters.view(Key(namespace, name))
    assert view is not None
    assert view.spec is not None
    t = tenant(view, view.spec)
    patched, problems = patches.apply_patches(t, everything_wanted(t))
    assert problems == []
    return [each for each in patched if each.target is not Target.TENANT]


def drifts(wanted: Wanted, live: Object) -> list[Drift]:
    """Everything that can be done to what we want of an object, as it is on the server now."""
    body = stamped(wanted.body, wanted.recipe)
    fixed = FIXED + FIXED_OF.get(body["kind"], ())
    found = [each for each in _walk(body, live, shape_of(body), (), ()) if not _within(each.path, fixed)]
    if wanted.recipe is not None:
        found += _of_data(live)
    return found


def _within(path: Path, places: Sequence[Path]) -> bool:
    return path in {("metadata",), ("spec",)} or any(path[: len(each)] == each for each in places)


def _walk(wanted: Any, live: Any, shape: Shape, path: Path, at: Path) -> Iterator[Drift]:
    """`path` is for people, `at` is the place as a JSON pointer has it."""
    if path:
        yield _drift("removed", path, {"op": "remove", "path": _pointer(at)})
    if isinstance(wanted, Mapping):
        for key, value in wanted.items():
            if value is not None and isinstance(live, Mapping) and key in live:
                yield from _walk(value, live[key], shape.at(key), (*path, key), (*at, key))
        if shape.free and shape.whole:
            yield _drift("added to", path, {"op": "add", "path": _pointer((*at, "stray")), "value": "stray"})
    elif isinstance(wanted, list | tuple):
        yield from _walk_list(wanted, live, shape, path, at)
    else:
        yield _drift("changed", path, {"op": "replace", "path": _pointer(at), "value": _other(live)})


def _walk_list(wanted: Sequence[Any], live: Any, shape: Shape, path: Path, at: Path) -> Iterator[Drift]:
    inner = shape.item or NOTHING_SPECIAL
    if shape.keys:
        places = {item_key(item, shape): index for index, item in enumerate(live)}
        for item in wanted:
            key = item_key(item, shape)
            index = places[key]
            name = ",".join(str(each) for each in key)
            # (What an item is known by cannot be changed, only the item be removed and another one added.)
            yield from (
                each
                for each in _walk(item, live[index], inner, (*path, name), (*at, str(index)))
                if not (each.how == "changed" and each.path[len(path) + 1 :] in {(part,) for part in shape.keys})
            )
        return
    for index, item in enumerate(wanted):
        yield from _walk(item, live[index], inner, (*path, str(index)), (*at, str(index)))
    if not shape.unique and wanted:
        more = _other(live[-1]) if isinstance(live[-1], str) else copy.deepcopy(live[-1])
        yield _drift("added to", path, {"op": "add", "path": _pointer((*at, "-")), "value": more})


def _of_data(live: Object) -> Iterator[Drift]:
    """The content of a Secret, key by key."""
    for key, value in live["data"].items():
        path, at = ("data", key), _pointer(("data", key))
        yield _drift("removed", path, {"op": "remove", "path": at})
        spoilt = base64.b64encode(b"spoilt " + base64.b64decode(value)[:20]).decode()
        yield _drift("changed", path, {"op": "replace", "path": at, "value": spoilt})


def _other(value: Any) -> Any:
    """Another value that the API takes in the same place."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    assert isinstance(value, str)
    if value in _OTHER_WORDS:
        return _OTHER_WORDS[value]
    if value[:1].isdigit() and value.endswith(("m", "Mi", "Gi")):  # a quantity
        return f"1{value}"
    return f"{value}x"


def _drift(how: str, path: Path, operation: Object) -> Drift:
    return Drift(how=how, path=path, operation=operation)


def _pointer(at: Path) -> str:
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in at)
