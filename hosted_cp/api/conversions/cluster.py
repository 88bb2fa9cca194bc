"""`Cluster`: the spec of `hosted_spec`, and a status that became conditions."""

from __future__ import annotations

from hosted_cp.api.conversions import hosted_spec
from hosted_cp.api.conversions.trees import Tree, condition, mapping


def up(tree: Tree) -> Tree:
    """At v1beta2."""
    tree = with_spec_up(tree)
    if isinstance(tree.get("status"), dict):
        status = dict(tree["status"])
        old = {key: status.pop(key) for key in ("ready", "reconciliationStatus") if key in status}
        tree = {**tree, "status": {**status, "deprecated": {"v1beta1": old}}}
    return tree


def down(tree: Tree) -> Tree:
    """At v1beta1. What the operator has not said in v1beta1's words is read from the condition `Available`."""
    tree = with_spec_down(tree)
    if isinstance(tree.get("status"), dict):
        available = condition(tree["status"], "Available")
        said = mapping(mapping(tree["status"].get("deprecated")).get("v1beta1"))
        if "status" in available:
            said.setdefault("ready", available["status"] == "True")
        # Required at v1beta1.
        said.setdefault("reconciliationStatus", available.get("message", ""))
        tree = {**tree, "status": {**tree["status"], **said}}
    return tree


def with_spec_up(tree: Tree) -> Tree:
    """The tree with its spec and annotations at v1beta2."""
    if not isinstance(tree.get("spec"), dict):
        return tree
    spec, annotations = hosted_spec.up(tree["spec"], tree["metadata"]["annotations"])
    return {**tree, "metadata": {**tree["metadata"], "annotations": annotations}, "spec": spec}


def with_spec_down(tree: Tree) -> Tree:
    """The tree with its spec and annotations at v1beta1."""
    if not isinstance(tree.get("spec"), dict):
        return tree
    spec, annotations = hosted_spec.down(tree["spec"], tree["metadata"]["annotations"])
    return {**tree, "metadata": {**tree["metadata"], "annotations": annotations}, "spec": spec}
