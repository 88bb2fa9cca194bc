"""`JoinTokenRequest`: v1beta1 names the cluster's namespace, v1beta2 takes its own.

The namespace is kept in k0smotron's annotation and shown again at v1beta1. It is never obeyed: a request that names
another namespace is refused by `hosted_cp.api.join_token_request.parse_join_token_request`.
"""

from __future__ import annotations

from hosted_cp.api.conversions.trees import Tree, condition, mapping
from hosted_cp.api.join_token_request import CLUSTER_NAMESPACE_ANNOTATION

_OLD_STATUS = ("reconciliationStatus", "clusterUID")


def up(tree: Tree) -> Tree:
    """At v1beta2."""
    if isinstance(tree.get("spec"), dict):
        spec = dict(tree["spec"])
        reference = mapping(spec.pop("clusterRef", None))
        if "name" in reference:
            spec["clusterName"] = reference["name"]
        annotations = dict(tree["metadata"]["annotations"])
        if isinstance(namespace := reference.get("namespace"), str) and namespace:
            annotations[CLUSTER_NAMESPACE_ANNOTATION] = namespace
        tree = {**tree, "metadata": {**tree["metadata"], "annotations": annotations}, "spec": spec}
    if isinstance(tree.get("status"), dict):
        status = dict(tree["status"])
        old = {key: status.pop(key) for key in _OLD_STATUS if key in status}
        tree = {**tree, "status": {**status, "deprecated": {"v1beta1": old}}}
    return tree


def down(tree: Tree) -> Tree:
    """At v1beta1. Without the annotation, the namespace is the object's own."""
    if isinstance(tree.get("spec"), dict) and "clusterName" in tree["spec"]:
        spec = dict(tree["spec"])
        annotations = dict(tree["metadata"]["annotations"])
        namespace = annotations.pop(CLUSTER_NAMESPACE_ANNOTATION, "") or tree["metadata"].get("namespace", "")
        spec["clusterRef"] = {"name": spec.pop("clusterName"), "namespace": namespace}
        tree = {**tree, "metadata": {**tree["metadata"], "annotations": annotations}, "spec": spec}
    if isinstance(tree.get("status"), dict):
        said = mapping(mapping(tree["status"].get("deprecated")).get("v1beta1"))
        # Required at v1beta1.
        said.setdefault("reconciliationStatus", condition(tree["status"], "JoinTokenSecretCreated").get("message", ""))
        tree = {**tree, "status": {**tree["status"], **said}}
    return tree
