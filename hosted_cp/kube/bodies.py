"""Bodies of requests: what is sent of what is wanted, and whose an object is that comes back. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from hosted_cp.planning import diff
from hosted_cp.planning.actions import Object
from hosted_cp.planning.observed import Observed
from hosted_cp.planning.recipes import Inputs, Recipe, is_annotating


def merge_difference(old: Object, new: Object) -> dict[str, Any]:
    """The RFC 7386 patch that turns `old` into `new`; empty if they are equal. Lists are replaced as a whole."""
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if key in old and isinstance(before, Mapping) and isinstance(value, Mapping):
            inner = merge_difference(before, value)
            if inner:
                patch[key] = inner
        elif key not in old or before != value:
            patch[key] = value
    return patch


def with_foreign_metadata(body: dict[str, Any], live: Observed) -> dict[str, Any]:
    """The body of a PUT: what we want, and what others have put onto the object's metadata."""
    wanted = body["metadata"]
    labels: dict[str, str | None] = {**live.labels}
    annotations: dict[str, str | None] = {**live.annotations}
    owners = live.owner_references
    change = diff.metadata_patch(body, live)
    if change is not None:
        labels |= change.labels
        annotations |= change.annotations
        owners = change.owner_references if change.owner_references is not None else owners
    annotations.update(wanted.get("annotations") or {})
    metadata = {
        **wanted,
        "uid": live.uid,
        "resourceVersion": live.resource_version,
        "labels": {key: value for key, value in labels.items() if value is not None},
        "annotations": {key: value for key, value in annotations.items() if value is not None},
        "ownerReferences": [dict(owner) for owner in owners],
        "finalizers": list(live.finalizers),
    }
    return {**body, "metadata": metadata}


def annotated(body: dict[str, Any], recipe: Recipe, inputs: Inputs) -> dict[str, Any]:
    """The body with what its recipe says publicly of its material."""
    if not is_annotating(recipe):
        return body
    metadata = body["metadata"]
    annotations = {**(metadata.get("annotations") or {}), **recipe.annotations(inputs)}
    return {**body, "metadata": {**metadata, "annotations": annotations}}


def is_ours(live: Object, wanted: Object) -> bool:
    """Whether an object that exists is the one we would have made: by its controller, or by labels in a tenant."""
    uid = _controller(wanted)
    if uid:
        return _controller(live) == uid
    labels = wanted["metadata"].get("labels") or {}
    has = live["metadata"].get("labels") or {}
    return bool(labels) and all(has.get(key) == value for key, value in labels.items())


def _controller(body: Object) -> str:
    owners = body["metadata"].get("ownerReferences") or ()
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), "")


def encoded(data: Mapping[str, bytes]) -> dict[str, str]:
    return {key: base64.b64encode(value).decode() for key, value in data.items()}
