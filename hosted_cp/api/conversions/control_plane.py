"""`K0smotronControlPlane` and its template: the spec of `hosted_spec`, and the status of the two contracts.

| v1beta1 | v1beta2 |
|---|---|
| `initialized` | `initialization.controlPlaneInitialized` (which v1beta1 has, too; `initialized` wins) |
| `updatedReplicas` | `upToDateReplicas` |
| `unavailableReplicas` | `replicas` - `availableReplicas` |
| `ready` | whether `readyReplicas` is above 0 |

In a template the annotations that stand for fields of `service` go to `spec.template.metadata`, from where the topology
copies them to each control plane.
"""

from __future__ import annotations

from collections.abc import Callable

from hosted_cp.api.conversions import hosted_spec
from hosted_cp.api.conversions.cluster import with_spec_down, with_spec_up
from hosted_cp.api.conversions.trees import Tree, mapping, rename


def up(tree: Tree) -> Tree:
    """At v1beta2."""
    tree = with_spec_up(tree)
    if isinstance(tree.get("status"), dict):
        status = dict(tree["status"])
        rename(status, "updatedReplicas", "upToDateReplicas")
        if "initialized" in status:
            initialized = {"controlPlaneInitialized": status.pop("initialized")}
            status["initialization"] = mapping(status.get("initialization")) | initialized
        if (available := _rest(status, "unavailableReplicas")) is not None:
            status["availableReplicas"] = available
        tree = {**tree, "status": status}
    return tree


def down(tree: Tree) -> Tree:
    """At v1beta1."""
    tree = with_spec_down(tree)
    if isinstance(tree.get("status"), dict):
        status = dict(tree["status"])
        rename(status, "upToDateReplicas", "updatedReplicas")
        if "controlPlaneInitialized" in (initialization := mapping(status.get("initialization"))):
            status["initialized"] = initialization["controlPlaneInitialized"]
        if (unavailable := _rest(status, "availableReplicas")) is not None:
            status["unavailableReplicas"] = unavailable
        if isinstance(ready := status.get("readyReplicas"), int):
            status["ready"] = ready > 0
        tree = {**tree, "status": status}
    return tree


def _rest(status: Tree, field: str) -> int | None:
    """How many of the replicas are not counted by the field; None where that cannot be told."""
    replicas, counted = status.get("replicas"), status.get(field)
    return max(0, replicas - counted) if isinstance(replicas, int) and isinstance(counted, int) else None


def template_up(tree: Tree) -> Tree:
    """A template at v1beta2."""
    return _template(tree, hosted_spec.up)


def template_down(tree: Tree) -> Tree:
    """A template at v1beta1."""
    return _template(tree, hosted_spec.down)


def _template(tree: Tree, translate: Callable[[Tree, Tree], tuple[Tree, Tree]]) -> Tree:
    template = mapping(mapping(tree.get("spec")).get("template"))
    if not isinstance(template.get("spec"), dict):
        return tree
    metadata = template.get("metadata")
    before = mapping(mapping(metadata).get("annotations"))
    template["spec"], after = translate(template["spec"], before)
    if after != before:
        rest = {key: value for key, value in mapping(metadata).items() if key != "annotations"}
        template["metadata"] = {**rest, "annotations": after} if after else rest
    return {**tree, "spec": {**tree["spec"], "template": template}}
