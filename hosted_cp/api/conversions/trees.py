"""What the modules of this package share: trees, and annotations that stand for fields."""

from __future__ import annotations

from typing import Any, TypeAlias

from hosted_cp.api.join_token_request import CLUSTER_NAMESPACE_ANNOTATION

Tree: TypeAlias = dict[str, Any]

#: k0smotron keeps fields of v1beta1's `service` that v1beta2 lacks in these, as JSON, on the object at v1beta2; and
#: both its operator and ours make the Service by them.
SERVICE_ANNOTATION = "k0smotron.io/conversion-dropped-service."
SERVICE_FIELDS = ("labels", "annotations", "externalTrafficPolicy", "loadBalancerClass")

ANNOTATIONS = frozenset({*(f"{SERVICE_ANNOTATION}{field}" for field in SERVICE_FIELDS), CLUSTER_NAMESPACE_ANNOTATION})


def mapping(value: object) -> Tree:
    """A copy of an object; of anything else, an empty one."""
    return dict(value) if isinstance(value, dict) else {}


def rename(part: Tree, old: str, new: str) -> None:
    """Move a field of a tree of one's own."""
    if old in part:
        part[new] = part.pop(old)


def condition(status: Tree, kind: str) -> Tree:
    """A copy of the condition of this type, or an empty one."""
    conditions = status.get("conditions")
    found = conditions if isinstance(conditions, list) else []
    return next((dict(each) for each in found if isinstance(each, dict) and each.get("type") == kind), {})
