"""A toy kind and its controller: the smallest thing that uses every part of the loop.

A Toy becomes a Secret that is made once and a ConfigMap that follows its spec. It has a finalizer, conditions, Events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hosted_cp.kube.cache import Caches, Watched
from hosted_cp.kube.loop import Key, Look
from hosted_cp.kube.resources import CONFIG_MAP, SECRET, Resource
from hosted_cp.kube.store import Change
from hosted_cp.operator import Kind, Parts
from hosted_cp.planning import conditions, diff
from hosted_cp.planning.actions import Action, Create, Delete, Finding, PatchMetadata, Plan, Probe
from hosted_cp.planning.observed import Observed
from hosted_cp.planning.recipes import Inputs

TOY = Resource(group="test.hosted-cp.io", version="v1", kind="Toy", plural="toys")
FINALIZER = "test.hosted-cp.io/toy"
CANARY = "canary-51ab"

CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "toys.test.hosted-cp.io"},
    "spec": {
        "group": TOY.group,
        "scope": "Namespaced",
        "names": {"plural": TOY.plural, "singular": "toy", "kind": TOY.kind},
        "versions": [
            {
                "name": TOY.version,
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            part: {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                            for part in ("spec", "status")
                        },
                    }
                },
            }
        ],
    },
}


def toy(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    """A Toy. `words`: what its ConfigMap says; `child`: the ConfigMap's name; `dial`: a port that must answer."""
    return {
        "apiVersion": TOY.api_version,
        "kind": TOY.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


@dataclass(frozen=True, kw_only=True)
class Random:
    """Thirty-two random hex digits after a canary."""

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    def printed(self) -> Mapping[str, Any]:
        return {"recipe": "random"}

    def fulfil(self, inputs: Inputs) -> Mapping[str, bytes]:
        return {"k": CANARY.encode() + inputs.entropy(16).hex().encode()}


@dataclass(frozen=True, kw_only=True)
class ToyView:
    """What is known of one Toy."""

    now: datetime
    owner: Observed
    secret: Observed | None
    child: Observed | None
    owned: tuple[Observed, ...]
    findings: tuple[Finding, ...]
    failure: str


def plan(view: ToyView) -> Plan:
    """What to do for a Toy."""
    owner = view.owner
    ours = tuple(each for each in owner.finalizers if each == FINALIZER)
    if owner.deleting:
        actions: list[Action] = [Delete(ref=each.ref, uid=each.uid) for each in view.owned if not each.deleting]
        if not view.owned and ours:
            rest = tuple(each for each in owner.finalizers if each != FINALIZER)
            actions = [_metadata(owner, finalizers=rest)]
        return Plan(actions=tuple(actions))
    actions = []
    if not ours:
        actions.append(_metadata(owner, finalizers=(*owner.finalizers, FINALIZER)))
    if view.secret is None:
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": _metadata_of(owner, owner.ref.name), "type": "Opaque"}
        actions.append(Create(body=body, recipe=Random()))
    wanted = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata_of(owner, owner.get("spec", "child", default=owner.ref.name)),
        "data": dict.fromkeys(owner.get("spec", "words", default="").split(), "1"),
    }
    action = diff.settle(wanted, view.child, owner.uid)
    if action is not None:
        actions.append(action)
    probes, answered = (), True
    port = owner.get("spec", "dial")
    if port:
        probes = (Probe(kind="dial", key="port", arguments=(("host", "127.0.0.1"), ("port", str(port))), deadline=1.0),)  # type: ignore[assignment]
        answered = any(finding.ok for finding in view.findings)
    good = view.child is not None and view.secret is not None and not view.failure and answered
    condition = conditions.Condition(
        type="Available",
        status="True" if good else "False",
        reason="Good" if good else "Failed" if view.failure else "Waiting",
        message=view.failure or "; ".join(finding.message for finding in view.findings),
    )
    old = owner.get("status", "conditions", default=[])
    merged = conditions.merge(wanted=[condition], old=old, generation=owner.generation, now=view.now)
    return Plan(
        actions=tuple(actions),
        status={"conditions": merged},
        events=conditions.events(merged=merged, old=old),
        probes=probes,
    )


def _metadata(owner: Observed, *, finalizers: tuple[str, ...]) -> PatchMetadata:
    return PatchMetadata(ref=owner.ref, uid=owner.uid, resource_version=owner.resource_version, finalizers=finalizers)


def _metadata_of(owner: Observed, name: str) -> dict[str, Any]:
    reference = {
        "apiVersion": owner.ref.api_version,
        "kind": owner.ref.kind,
        "name": owner.ref.name,
        "uid": owner.uid,
        "controller": True,
    }
    return {"name": name, "namespace": owner.ref.namespace, "ownerReferences": [reference]}


@dataclass(frozen=True, kw_only=True)
class ToyController:
    """The controller of Toys."""

    parts: Parts
    name: str = "toy"
    resource: Resource = TOY
    watched: tuple[Watched, ...] = (
        Watched(resource=TOY),
        Watched(resource=SECRET),
        Watched(resource=CONFIG_MAP),
    )

    @property
    def caches(self) -> Caches:
        return self.parts.caches

    def keys(self, change: Change) -> Iterable[Key]:
        if change.resource == TOY:
            return (Key(*change.name),)
        owners = {
            owner["name"]
            for each in (change.old, change.new)
            if each is not None
            for owner in each.owner_references
            if owner["kind"] == TOY.kind
        }
        return tuple(Key(change.name[0], owner) for owner in owners)

    def look(self, key: Key, *, failure: str) -> Look[ToyView] | None:
        owner = self.caches.store(TOY).get(*key)
        if owner is None:
            return None
        owned = [
            each for store in (SECRET, CONFIG_MAP) for each in self.caches.store(store).by("controller", owner.uid)
        ]
        view = ToyView(
            now=self.parts.sources.now(),
            owner=owner,
            secret=self.caches.store(SECRET).get(key.namespace, key.name),
            child=self.caches.store(CONFIG_MAP).get(key.namespace, owner.get("spec", "child", default=key.name)),
            owned=tuple(owned),
            findings=self.parts.prober.findings(owner.uid),
            failure=failure,
        )
        return Look(view=view, about=owner)

    def plan(self, view: ToyView) -> Plan:
        return plan(view)


def toy_kind() -> Kind:
    """For `Operator`."""
    return Kind(resource=TOY, watched=ToyController.watched, build=lambda parts: ToyController(parts=parts))
