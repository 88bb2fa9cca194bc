"""What a spec comes to, without a cluster: the plan is made again and again against a world that does as it is told.

For `hosted-cp render`, for golden files, and for plans that have to know early what will be wanted late. What only a
real cluster can say stands in the result as a marked text (`<node port of api>`), so that nobody takes it for a fact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from hosted_cp.api.cluster import ClusterSpec
from hosted_cp.api.problems import Problem
from hosted_cp.hosting import authorities, config, patches, unsupported
from hosted_cp.hosting.children import everything_wanted
from hosted_cp.hosting.etcd.permit import PermitRecipe
from hosted_cp.hosting.refusals import spec_problems
from hosted_cp.hosting.tenant import Tenant, tenant
from hosted_cp.hosting.view import NodeAddress, TenantView
from hosted_cp.hosting.wanted import Wanted
from hosted_cp.k0s.config import DSN_KEY
from hosted_cp.planning import marks
from hosted_cp.planning.actions import Ref, Target
from hosted_cp.planning.observed import Observed, SecretFacts

#: What stands for what the cluster will say: value while rehearsing -> text in the result.
_PLACEHOLDERS: Mapping[str | int, str] = {
    64901: "<node port of api>",
    64902: "<node port of konnectivity>",
    "192.0.2.101": "<address of a node>",
    "192.0.2.102": "<address of the load balancer>",
    "192.0.2.103": "<cluster IP>",
}
#: More than any tenant needs from nothing to its last object.
_ROUNDS = 12


def rehearse(view: TenantView) -> tuple[list[Wanted], list[Problem]]:
    """Every object that the spec of this view comes to, in writing order, and what keeps it from being carried out.

    Each is as it is first written; what changes afterwards (the etcd permit is taken back) is not shown.
    """
    if view.spec is None or view.problems:
        return [], list(view.problems)
    not_yet = unsupported.problems(view.spec)
    if unsupported.blocking(view.spec):
        return [], not_yet
    problems = spec_problems(tenant(view, view.spec))
    if problems:
        return [], not_yet + problems
    t, wanted = _played(view, view.spec)
    patched, patch_problems = patches.apply_patches(t, wanted)
    problems = [*not_yet, *spec_problems(t), *patch_problems, *patches.problems_of_later(t, wanted, [])]
    return [replace(each, body=marked(each.body)) for each in patched], problems


def decided(view: TenantView) -> Tenant | None:
    """The tenant as it is when everything is there; None if its spec cannot be carried out."""
    if view.spec is None or view.problems or unsupported.blocking(view.spec):
        return None
    return None if spec_problems(tenant(view, view.spec)) else _played(view, view.spec)[0]


def later(t: Tenant, wanted: Sequence[Wanted]) -> list[Wanted]:
    """What this tenant will want and does not want yet, before the user's patches.

    Only for a spec without problems, of which `wanted` is what is wanted now. The StatefulSet of the controllers is
    what needs everything else: once it is wanted, nothing is to come.
    """
    there = {each.ref for each in wanted}
    if any((ref.kind, ref.name) == ("StatefulSet", t.names.control_plane) for ref in there):
        return []
    _, everything = _played(t.view, t.spec)
    return [each for each in everything if each.ref not in there]


def _played(view: TenantView, spec: ClusterSpec) -> tuple[Tenant, list[Wanted]]:
    """The tenant at the end of the play, and every object as it was first wanted, in writing order, before patches."""
    view = _with_what_others_bring(view, spec)
    world = {key: child for key, child in view.children.items() if _stays(child, view, spec)}
    first: dict[Ref, Wanted] = {}
    wanted: list[Wanted] = []
    for _ in range(_ROUNDS):
        t = tenant(replace(view, children=dict(world), pods=tuple(_pods(world.values(), view))), spec)
        wanted = [each for each in everything_wanted(t) if each.target is not Target.TENANT]
        for each in wanted:
            first.setdefault(each.ref, each)
        patched, _ = patches.apply_patches(t, wanted)
        made = {(each.ref.kind, each.ref.name): _made(each, view) for each in patched}
        if made.items() <= world.items():
            break
        world |= made
    return t, [first[each.ref] for each in wanted]


def _stays(child: Observed, view: TenantView, spec: ClusterSpec) -> bool:
    """Whether an object is there in the play: ours, and the authorities that the user brought. Others are gone."""
    t = tenant(view, spec)
    brought = {t.names.secret(purpose) for purpose in authorities.purposes(t)}
    return child.controller_uid == view.owner.uid or (child.ref.kind == "Secret" and child.ref.name in brought)


def _with_what_others_bring(view: TenantView, spec: ClusterSpec) -> TenantView:
    """A world in which nodes have addresses, and the Secrets that the spec names exist and hold what they should."""
    t = tenant(view, spec)
    children, references = dict(view.children), dict(view.references)
    for purpose in authorities.purposes(t):
        name = authorities.secret_name(t, purpose)
        brought = name != t.names.secret(purpose) or (
            authorities.seen(t, purpose) and not authorities.is_ours(t, purpose)
        )
        if (brought or t.former.version) and not authorities.usable(t, purpose):
            children.pop(("Secret", name), None)
            references["Secret", name] = _unknown(name, view, facts=None)
    kine = spec.storage.kine if spec.storage else None
    database = kine.data_source_secret_name if kine and config.missing(t) else None
    if database:
        facts = SecretFacts(type="Opaque", digests={DSN_KEY: "unknown"})
        references["Secret", database] = _unknown(database, view, facts=facts)
    nodes = (NodeAddress(node="node", type="InternalIP", address="192.0.2.101"),)
    return replace(view, children=children, references=references, nodes=nodes)


def _unknown(name: str, view: TenantView, *, facts: SecretFacts | None) -> Observed:
    """A Secret of somebody else, of whose content nothing is known."""
    ref = Ref(api_version="v1", kind="Secret", namespace=view.owner.ref.namespace, name=name)
    return Observed(ref=ref, uid=f"Secret-{name}", resource_version="1", secret=facts)


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
    return marks.marked(value, _PLACEHOLDERS)
