"""What a spec comes to, without a cluster: the plan is made again and again against a world that does as it is told.

For `hosted-cp render` and for golden files. What only a real cluster can say stands in the result as a marked text
(`<node port of api>`), so that nobody takes it for a fact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from hosted_cp.api.problems import Problem
from hosted_cp.hosting import patches
from hosted_cp.hosting.permit import PermitRecipe
from hosted_cp.hosting.plan import everything_wanted, spec_problems
from hosted_cp.hosting.tenant import tenant
from hosted_cp.hosting.view import NodeAddress, TenantView
from hosted_cp.hosting.wanted import Wanted
from hosted_cp.planning.actions import Ref, Target
from hosted_cp.planning.observed import Observed

#: What stands for what the cluster will say: value while rehearsing -> text in the result.
_PLACEHOLDERS: Mapping[Any, str] = {
    64901: "<node port of api>",
    64902: "<node port of konnectivity>",
    "192.0.2.101": "<address of a node>",
    "192.0.2.102": "<address of the load balancer>",
    "192.0.2.103": "<cluster IP>",
}
_ROUNDS = 8


def rehearse(view: TenantView) -> tuple[list[Wanted], list[Problem]]:
    """Every object that the spec of this view comes to, in writing order, and what keeps it from being carried out.

    Each is as it is first written; what changes afterwards (the etcd permit is taken back) is not shown.
    """
    if view.spec is None or view.problems:
        return [], list(view.problems)
    nodes = (NodeAddress(node="node", type="InternalIP", address="192.0.2.101"),)
    world = dict(view.children)
    wanted: list[Wanted] = []
    first: dict[Ref, Wanted] = {}
    problems: list[Problem] = []
    for _ in range(_ROUNDS):
        t = tenant(replace(view, children=dict(world), nodes=nodes, pods=tuple(_pods(world.values(), view))), view.spec)
        problems = spec_problems(t)
        if problems:
            break
        patched, problems = patches.apply_patches(t, everything_wanted(t))
        before = len(wanted)
        wanted = patched
        if problems or len(wanted) == before:
            break
        for each in wanted:
            if each.target is not Target.TENANT:
                first.setdefault(each.ref, each)
                world[each.ref.kind, each.ref.name] = _made(each, view)
    shown = [first[each.ref] for each in wanted if each.ref in first]
    return [replace(each, body=marked(each.body)) for each in shown], problems


def _made(wanted: Wanted, view: TenantView) -> Observed:
    """The object as a cluster would have it a moment later."""
    body: dict[str, Any] = orjson.loads(orjson.dumps(wanted.body))
    if wanted.ref.kind == "Service" and body["spec"].get("clusterIP") != "None":
        body["spec"].setdefault("clusterIPs", ["192.0.2.103"])
        for port, number in zip(body["spec"]["ports"], (64901, 64902), strict=False):
            if body["spec"]["type"] == "NodePort":
                port.setdefault("nodePort", number)
        if body["spec"]["type"] == "LoadBalancer":
            body["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.102"}]}}
    if wanted.ref.kind == "StatefulSet":
        count = body["spec"]["replicas"]
        body["status"] = {
            "observedGeneration": 1, "replicas": count, "readyReplicas": count, "updatedReplicas": count,
            "updateRevision": "1",
        }  # fmt: skip
    metadata = body["metadata"]
    # Of secrets nothing is known, except what stands in the permit in public: k0s waits for it.
    granted = wanted.recipe.facts() if isinstance(wanted.recipe, PermitRecipe) else None
    return Observed(
        ref=wanted.ref,
        uid=f"{wanted.ref.kind}-{wanted.ref.name}",
        resource_version="1",
        generation=1,
        labels=metadata.get("labels") or {},
        annotations=metadata.get("annotations") or {},
        controller_uid=view.owner.uid,
        secret=granted,
        raw=orjson.dumps(body),
    )


def _pods(world: Iterable[Observed], view: TenantView) -> list[Observed]:
    """Ready pods of every StatefulSet."""
    ready = orjson.dumps({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    return [
        Observed(
            ref=Ref(api_version="v1", kind="Pod", namespace=view.owner.ref.namespace, name=f"{each.ref.name}-{index}"),
            uid=f"Pod-{each.ref.name}-{index}",
            resource_version="1",
            labels={**each.get("spec", "template", "metadata", "labels"), "controller-revision-hash": "1"},
            controller_uid=each.uid,
            raw=ready,
        )
        for each in world
        if each.ref.kind == "StatefulSet"
        for index in range(each.get("spec", "replicas"))
    ]


def marked(value: Any) -> Any:
    """A copy in which every placeholder is the text that says what will stand there."""
    if isinstance(value, Mapping):
        return {key: marked(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [marked(each) for each in value]
    if isinstance(value, str):
        for placeholder, text in _PLACEHOLDERS.items():
            value = value.replace(str(placeholder), text)
        return value
    return _PLACEHOLDERS.get(value, value) if isinstance(value, int) and not isinstance(value, bool) else value
