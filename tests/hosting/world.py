"""A pretend world for plans: one namespace, one tenant in it, and the loop that brings them together.

Plans are carried out as the executor carries them out (`hosted_cp.executor`, which `tests/component` tests against a
real server), round after round as the loop does (`hosted_cp.kube.loop`), against a `PretendServer`. What the planner
sees goes through the product's own observer, so facts of Secrets are facts of real keys; those come from a seeded
source, so everything is repeatable.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hosted_cp.api.cluster import ClusterSpec, parse_cluster
from hosted_cp.api.problems import Problem
from hosted_cp.controllers.tenants import watched
from hosted_cp.executor import METADATA_MANAGER
from hosted_cp.hosting.names import Names, children_of
from hosted_cp.hosting.patch_types import json_patch
from hosted_cp.hosting.plan import plan
from hosted_cp.hosting.settings import Settings
from hosted_cp.hosting.view import NodeAddress, TenantView
from hosted_cp.kube.bodies import annotated, is_ours, merge_difference, with_foreign_metadata
from hosted_cp.kube.observing import observe
from hosted_cp.kube.resources import resource_for
from hosted_cp.planning import diff
from hosted_cp.planning.actions import (
    FIELD_MANAGER,
    Action,
    AnnotatePods,
    Apply,
    Create,
    Delete,
    Event,
    Finding,
    IdentifyNode,
    MovePort,
    PatchMetadata,
    Plan,
    Probe,
    PublishEndpoint,
    Ref,
    Replace,
    Target,
)
from hosted_cp.planning.conditions import rfc3339
from hosted_cp.planning.observed import Observed
from hosted_cp.planning.recipes import (
    Amending,
    Annotating,
    Inputs,
    MaterialError,
    Recipe,
    Reusable,
    config_map_name,
    kept_by,
)
from tests.hosting import pretend_pods
from tests.hosting.pretend_pods import Script
from tests.hosting.pretend_server import Json, PretendServer, Refused, encoded, observable, secret_data

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
NAMESPACE = "tenants"
CLUSTER_API = "k0smotron.io/v1beta2"
CATALOGUE: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "k0s_images" / "catalogue.json").read_text(encoding="utf-8")
)
#: The kinds of a tenant's children.
CHILDREN = ("Service", "Secret", "StatefulSet", "PodDisruptionBudget", "NetworkPolicy")
#: As the loop: how often one key is planned in a row.
ROUNDS = 12


#: Planners see no more of an object than the operator keeps of it.
KEPT = {each.resource: each.keep for each in watched()}


class Crash(Exception):
    """The operator dies here."""


def cluster(name: str = "demo", *, spec: Json | None = None, **metadata: Any) -> Json:
    """A `Cluster` as a user writes it."""
    return {
        "apiVersion": CLUSTER_API,
        "kind": "Cluster",
        "metadata": {"name": name, "namespace": NAMESPACE, **metadata},
        "spec": {"service": {"type": "NodePort"}} if spec is None else spec,
    }


@cache
def _rsa_keys(bits: int) -> tuple[rsa.RSAPrivateKey, ...]:
    return tuple(rsa.generate_private_key(65537, bits) for _ in range(2))


@dataclass(kw_only=True)
class Material:
    """Entropy and keys, seeded; counts what it gave."""

    seed: int = 1
    given: int = 0

    def entropy(self, length: int) -> bytes:
        self.given += 1
        return hashlib.shake_256(f"{self.seed}/{self.given}".encode()).digest(length)

    def new_key(self, algorithm: str) -> Any:
        if algorithm.startswith("RSA-"):
            self.given += 1
            return _rsa_keys(int(algorithm.removeprefix("RSA-")))[self.given % 2]
        curve = {"ECDSA-P256": ec.SECP256R1(), "ECDSA-P384": ec.SECP384R1()}[algorithm]
        return ec.derive_private_key(int.from_bytes(self.entropy(31)) or 1, curve)


@dataclass(kw_only=True)
class World:
    """The management cluster as far as one tenant concerns it, and the operator's side of it."""

    name: str = "demo"
    server: PretendServer = field(default_factory=PretendServer)
    #: The tenant's own API server.
    tenant: PretendServer = field(default_factory=PretendServer)
    #: Why the tenant's API server cannot be reached; "" if it can.
    tenant_down: str = ""
    settings: Settings = field(default_factory=lambda: Settings(catalogue=CATALOGUE))
    script: Script = field(default_factory=Script)
    material: Material = field(default_factory=Material)
    now: datetime = START
    nodes: tuple[NodeAddress, ...] | None = (NodeAddress(node="n1", type="InternalIP", address="192.0.2.11"),)
    storage_classes: frozenset[str] | None = frozenset({"standard"})
    #: Probe kind -> what the world says: "" for yes, else why not.
    answers: dict[str, str] = field(default_factory=dict)
    privileged: bool = False

    failure: str = ""
    findings: dict[tuple[str, str], Finding] = field(default_factory=dict)
    #: What has been done, in order.
    done: list[Action] = field(default_factory=list)
    status_writes: int = 0
    #: Requests that change something on the management cluster, without those for status.
    writes: int = 0
    events: list[Event] = field(default_factory=list)
    #: (name of the Secret, its UID's owner) -> how often material that is made once was made for it.
    minted: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: Called with each action and "before" or "after"; may raise Crash.
    hook: Callable[[Action, str], None] = lambda action, when: None
    #: Actions that the server refuses: a predicate over the action -> the words of the server.
    refuses: Callable[[Action], str] = lambda action: ""
    _given: set[tuple[str, Ref]] = field(default_factory=set)
    _seen: dict[tuple[str, str], Observed] = field(default_factory=dict, repr=False)

    def fork(self) -> World:
        """The same world once more; what happens in one does not happen in the other."""
        return replace(
            self,
            server=self.server.fork(),
            tenant=self.tenant.fork(),
            script=replace(self.script),
            material=replace(self.material),
            answers=dict(self.answers),
            findings=dict(self.findings),
            done=list(self.done),
            events=list(self.events),
            minted=Counter(self.minted),
            _given=set(self._given),
            _seen=dict(self._seen),
        )

    def __post_init__(self) -> None:
        self.server.clock = lambda: rfc3339(self.now)

    # --- the user ------------------------------------------------------------------------------------------------

    @property
    def owner_ref(self) -> Ref:
        return Ref(api_version=CLUSTER_API, kind="Cluster", namespace=NAMESPACE, name=self.name)

    @property
    def names(self) -> Names:
        return Names(self.name)

    def asks(self, **spec: Any) -> World:
        """Create the Cluster, with this spec (in the words of the manifest)."""
        self.server.create(cluster(self.name, spec={"service": {"type": "NodePort"}, **spec}))
        return self

    def changes(self, **spec: Any) -> None:
        """Change fields of the spec; None removes one."""

        def change(body: Json) -> None:
            for key, value in spec.items():
                if value is None:
                    body["spec"].pop(key, None)
                else:
                    body["spec"][key] = copy.deepcopy(value)

        self.server.edit(self.owner_ref, change)

    def deletes(self) -> None:
        """The user deletes the Cluster."""
        self.server.delete(self.owner_ref)

    def secret(self, name: str, data: Mapping[str, bytes], *, kind: str = "Opaque") -> Json:
        """Somebody creates a Secret."""
        metadata = {"name": name, "namespace": NAMESPACE}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "data": encoded(data)}
        return self.server.create(body)

    # --- looking -------------------------------------------------------------------------------------------------

    def body(self, kind: str, name: str) -> Json:
        found = self.server.find(kind, name)
        assert found is not None, f"{kind} {name} does not exist"
        return found

    def data(self, name: str) -> dict[str, bytes]:
        """What is in a Secret."""
        return secret_data(self.body("Secret", name))

    def exists(self, kind: str, name: str) -> bool:
        return self.server.find(kind, name) is not None

    @property
    def owner(self) -> Json:
        return self.server.get(self.owner_ref)

    @property
    def status(self) -> Json:
        found: Json = self.owner.get("status") or {}
        return found

    def condition(self, kind: str) -> Json:
        return next((each for each in self.status.get("conditions", []) if each["type"] == kind), {})

    @property
    def available(self) -> bool:
        return bool(self.condition("Available").get("status") == "True")

    @property
    def why(self) -> str:
        """Reason and message of `Available`."""
        said = self.condition("Available")
        return f"{said.get('reason')}: {said.get('message')}"

    def decisions(self) -> Json:
        annotation = self.body("Secret", self.names.config)["metadata"]["annotations"]["hosted-cp.io/decisions"]
        found: Json = json.loads(annotation)
        return found

    def observed(self, body: Json) -> Observed:
        key = (body["metadata"]["uid"], body["metadata"]["resourceVersion"])
        if key not in self._seen:
            resource = resource_for(Ref.of(body))
            self._seen[key] = observe(observable(body), resource=resource, keep=KEPT.get(resource, {}))
        return self._seen[key]

    def view(self) -> TenantView:
        """What `hosted_cp.controllers.clusters` would hand to the planner."""
        owner = self.observed(self.server.objects[self.owner_ref])
        parsed = parse_cluster(owner.body)
        return self.seen_by(owner, parsed.spec, parsed.problems)

    def seen_by(self, owner: Observed, spec: ClusterSpec | None, problems: tuple[Problem, ...]) -> TenantView:
        """What is there to be seen of the tenant of an owner with this spec."""
        names = set(children_of(self.name))
        children: dict[tuple[str, str], Observed] = {}
        secrets: dict[str, Observed] = {}
        pods: list[Observed] = []
        claims: list[Observed] = []
        for ref, body in self.server.objects.items():
            if ref.kind in ("Pod", "PersistentVolumeClaim"):
                if body["metadata"].get("labels", {}).get("cluster") == self.name:
                    (pods if ref.kind == "Pod" else claims).append(self.observed(body))
            elif ref.kind in CHILDREN:
                seen = self.observed(body)
                if ref.kind == "Secret":
                    secrets[ref.name] = seen
                if (ref.kind, ref.name) in names or seen.controller_uid == owner.uid:
                    children[ref.kind, ref.name] = seen
        kine = spec.storage.kine if spec and spec.storage else None
        named = {reference.name for reference in (spec.certificate_refs or ())} if spec else set()
        named |= {kine.data_source_secret_name} if kine else set()
        return TenantView(
            now=self.now,
            owner=owner,
            name=self.name,
            spec=spec,
            problems=problems,
            settings=self.settings,
            children=children,
            pods=tuple(pods),
            claims=tuple(claims),
            references={("Secret", name): secrets[name] for name in named if name in secrets},
            nodes=self.nodes,
            storage_classes=self.storage_classes,
            findings=tuple(self.findings.values()),
            failure=self.failure,
            privileged=self.privileged,
        )

    def plan(self, *, failure: str | None = None) -> Plan:
        """The plan for what is there to be seen now; `failure`: after this has gone wrong."""
        view = self.view()
        return self.planned(view if failure is None else replace(view, failure=failure))

    def planned(self, view: TenantView) -> Plan:
        """What the planner of the owner's kind makes of a view."""
        return plan(view)

    # --- carrying out --------------------------------------------------------------------------------------------

    def carry_out(self, actions: Iterable[Action], *, about: Observed) -> str:
        """As the executor: in order, to the first that fails. Returns "done", "replan" or why it failed."""
        made: dict[str, Mapping[str, bytes]] = {}
        for action in actions:
            self.hook(action, "before")
            refusal = self.refuses(action)
            if refusal:
                return refusal
            try:
                if action.target is Target.TENANT:
                    self._in_tenant(action, made, about)
                else:
                    self._in_management(action, made)
            except (Refused, MaterialError) as no:
                stale = isinstance(no, Refused) and no.reason in ("AlreadyExists", "Conflict", "NotFound")
                useless = isinstance(no, Refused) and no.reason == "Useless"
                if useless or (action.target is not Target.TENANT and stale):
                    return "replan"
                return f"{type(action).__name__} {action.ref}: {no}"
            self.done.append(action)
            self.hook(action, "after")
        return "done"

    def _in_management(self, action: Action, made: dict[str, Mapping[str, bytes]]) -> None:
        server = self.server
        match action:
            case Create():
                body = diff.stamped(action.body, action.recipe)
                if action.recipe is not None:
                    data = self._fulfil(action.recipe, made)
                    made[action.material or action.ref.name] = data
                    body = {**annotated(body, action.recipe, self._inputs(action.recipe, made)), "data": encoded(data)}
                server.create(body, manager=FIELD_MANAGER)
                if action.recipe is not None:
                    owner = next((o["uid"] for o in body["metadata"]["ownerReferences"]), "")
                    self.minted[action.ref.name, owner] += 1
            case Apply():
                wanted = diff.stamped(action.body)
                live = server.get(action.ref)
                posted = {"manager": FIELD_MANAGER, "operation": "Update"} in live["metadata"]["managedFields"]
                self.writes += posted  # the migration of managedFields is a write of its own
                server.apply({**wanted, "metadata": {**wanted["metadata"], "uid": action.uid}})
            case Replace():
                seen = self.observed(server.objects[action.ref]) if action.ref in server.objects else None
                if seen is None or (seen.uid, seen.resource_version) != (action.uid, action.resource_version):
                    raise Refused("Conflict", f"{action.ref} has changed")
                if (said := self._keeps(action, seen, made)) is not None:
                    server.merge_patch(action.ref, {"metadata": {"annotations": said}}, manager=METADATA_MANAGER)
                    self.writes += 1
                    return
                data = self._fulfil(action.recipe, made)
                stamped = diff.stamped(action.body, action.recipe)
                stamped = annotated(stamped, action.recipe, self._inputs(action.recipe, made))
                held = secret_data(server.get(action.ref))
                whole = {**data, **{key: held[key] for key in kept_by(action.recipe)}}
                server.replace({**with_foreign_metadata(stamped, seen), "data": encoded(whole)})
                made[action.ref.name] = whole
            case PatchMetadata():
                metadata: Json = {"uid": action.uid, "resourceVersion": action.resource_version}
                metadata |= {"labels": dict(action.labels)} if action.labels else {}
                metadata |= {"annotations": dict(action.annotations)} if action.annotations else {}
                if action.owner_references is not None:
                    metadata["ownerReferences"] = [dict(each) for each in action.owner_references]
                if action.finalizers is not None:
                    metadata["finalizers"] = list(action.finalizers)
                server.merge_patch(action.ref, {"metadata": metadata}, manager=METADATA_MANAGER)
            case PublishEndpoint() | AnnotatePods():
                server.merge_patch(action.ref, dict(action.patch()), manager=METADATA_MANAGER)
            case Delete():
                try:
                    server.delete(action.ref, uid=action.uid, resource_version=action.resource_version)
                except Refused as no:
                    if no.reason != "NotFound" and not (no.reason == "Conflict" and not action.resource_version):
                        raise
        self.writes += 1

    def _keeps(
        self, action: Replace, seen: Observed, made: Mapping[str, Mapping[str, bytes]]
    ) -> Mapping[str, str] | None:
        """The annotations to write where the content stays as it is."""
        if not action.keep or not isinstance(action.recipe, Annotating):
            return None
        said = action.recipe.annotations(self._inputs(action.recipe, made))
        return said if said.get(action.keep) == seen.annotations.get(action.keep) else None

    def _in_tenant(self, action: Action, made: dict[str, Mapping[str, bytes]], about: Observed) -> None:
        if isinstance(action, Create) and not action.ours and (about.uid, action.ref) in self._given:
            return
        if self.tenant_down:
            raise Refused("Unreachable", self.tenant_down)
        match action:
            case Create():
                body = dict(action.body)
                if action.recipe is not None:
                    data = self._fulfil(action.recipe, made)
                    body["data"] = encoded(data)
                if isinstance(action.recipe, Reusable) and action.ref in self.tenant.objects:
                    made[action.material] = self._reuse(action, action.recipe, made)
                    return
                try:
                    self.tenant.create(body)
                except Refused:
                    if action.ours:
                        raise
                if action.recipe is not None:
                    made[action.material] = data
                if not action.ours:
                    self._given.add((about.uid, action.ref))
            case Delete():
                ours = {"metadata": {"labels": action.labels}}
                if action.ref in self.tenant.objects and is_ours(self.tenant.get(action.ref), ours):
                    self.tenant.delete(action.ref, uid=action.uid)
            case IdentifyNode():
                live = self.tenant.objects.get(action.ref)
                if live is None or live["metadata"]["uid"] != action.uid:
                    raise Refused("Conflict", "it is another one than a moment ago")
                if (live["spec"].get("providerID") or action.provider_id) != action.provider_id:
                    raise Refused("Invalid", "spec.providerID: Forbidden")
                self.tenant.merge_patch(action.ref, action.patch())
            case MovePort():
                if action.ref in self.tenant.objects:
                    moved = json_patch(self.tenant.get(action.ref), action.patch())
                    self.tenant.merge_patch(action.ref, {"subsets": moved["subsets"]})
            case _:
                raise AssertionError(f"nothing plans {type(action).__name__} in a tenant")

    def _reuse(self, action: Create, recipe: Reusable, made: Mapping[str, Mapping[str, bytes]]) -> Mapping[str, bytes]:
        live = self.tenant.get(action.ref)
        if not is_ours(live, action.body):
            raise Refused("Failed", "an object of this name exists that does not carry our labels")
        data = secret_data(live)
        if live["type"] != action.body["type"] or recipe.fault(data, self._inputs(recipe, made)):
            self.tenant.delete(action.ref, uid=live["metadata"]["uid"])
            raise Refused("Useless", "deleted; to be made anew")
        change = recipe.amendment(data, self._inputs(recipe, made)) if isinstance(recipe, Amending) else {}
        if change:
            self.tenant.merge_patch(action.ref, {"data": encoded(change)})
        return {**data, **change}

    def _fulfil(self, recipe: Recipe, made: Mapping[str, Mapping[str, bytes]]) -> Mapping[str, bytes]:
        return recipe.fulfil(self._inputs(recipe, made))

    def _inputs(self, recipe: Recipe, made: Mapping[str, Mapping[str, bytes]]) -> Inputs:
        secrets = dict(made)
        for name in recipe.needs:
            if name not in secrets:
                config_map = config_map_name(name)
                body = self.server.find("ConfigMap" if config_map else "Secret", config_map or name)
                if body is None:
                    raise MaterialError(f"{name} does not exist in {NAMESPACE}")
                text = {key: value.encode() for key, value in body.get("data", {}).items()}
                secrets[name] = text if config_map else secret_data(body)
        needed = {name: secrets[name] for name in recipe.needs}
        return Inputs(now=self.now, entropy=self.material.entropy, new_key=self.material.new_key, secrets=needed)

    def write_status(self, wanted: Mapping[str, Any] | None, *, ref: Ref | None = None) -> bool:
        ref = ref or self.owner_ref
        if wanted is None or ref not in self.server.objects:
            return False
        change = merge_difference(self.server.get(ref).get("status") or {}, wanted)
        if not change:
            return False
        self.server.merge_patch(ref, {"status": change}, status=True)
        self.status_writes += 1
        return True

    # --- time ----------------------------------------------------------------------------------------------------

    def reconcile(self) -> int:
        """As the loop: plan and carry out until nothing is written. Returns the number of rounds.

        Status is written in rounds without actions, so that what a plan is about to do is not first called missing.
        """
        for number in range(1, ROUNDS + 1):
            if self.owner_ref not in self.server.objects:
                return number
            view = self.view()
            made = self.planned(view)
            before = (self.writes, len(self.tenant.objects))
            result = self.carry_out(made.actions, about=view.owner)
            if result == "replan":
                continue
            if result != "done":
                self.failure = result
                told = self.plan(failure=result) if self.owner_ref in self.server.objects else Plan()
                self.write_status(told.status)
                return number
            healed, self.failure = self.failure, ""
            wrote = before != (self.writes, len(self.tenant.objects))
            if not wrote:
                wrote = self.write_status(made.status)
                self.events += made.events
                if made.last_word and wrote and not healed:
                    self._nothing_follows()
                    wrote = False
            self._ask(made.probes)
            if not wrote and not healed:
                return number
        raise AssertionError(f"not settled after {ROUNDS} rounds: {self.plan().actions}")

    def _nothing_follows(self) -> None:
        """What `Plan.last_word` promises, after which the loop does not plan again."""
        again = self.plan()
        assert not again.actions
        assert not again.events
        assert again.status is None or not merge_difference(self.status, again.status)

    def _ask(self, probes: Iterable[Probe]) -> None:
        asked = {(probe.kind, probe.key): probe for probe in probes}
        self.findings = {key: each for key, each in self.findings.items() if asked.get(key) == each.probe}
        for key, probe in asked.items():
            fault = self.answers.get(probe.kind, "")
            if probe.kind == "tenant-api" and self.tenant_down:
                fault = self.tenant_down
            old = self.findings.get(key)
            if old is None or old.message != (fault or "it answers"):
                at = self.now
                self.findings[key] = Finding(probe=probe, ok=not fault, message=fault or "it answers", at=at)

    def settle(self, *, steps: int = 40) -> Self:
        """Operator and cluster in turns, until neither has anything to do."""
        for _ in range(steps):
            findings = dict(self.findings)
            self.reconcile()
            stepped = pretend_pods.step(self.server, self.script)
            if not stepped and findings == self.findings:
                return self
        raise AssertionError(f"the world does not come to rest after {steps} steps: {self.why}")

    def passes(self, **time: float) -> None:
        """Time goes by (`timedelta`'s arguments)."""
        self.now += timedelta(**time)

    # --- for assertions --------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[Ref, tuple[str, str]]:
        """UID and resourceVersion of everything."""
        return {
            ref: (body["metadata"]["uid"], body["metadata"]["resourceVersion"])
            for ref, body in self.server.objects.items()
        }

    def owned(self) -> dict[tuple[str, str], Json]:
        """The objects that the tenant controls, by kind and name."""
        return {(ref.kind, ref.name): self.server.get(ref) for ref in self._owned_refs()}

    def _owned_refs(self) -> Iterator[Ref]:
        uid = self.owner["metadata"]["uid"]
        for ref, body in self.server.objects.items():
            if any(o["uid"] == uid and o.get("controller") for o in body["metadata"].get("ownerReferences", [])):
                yield ref


_RUNNING: dict[str, World] = {}


def running(**spec: Any) -> World:
    """A tenant that was asked for and has come to rest, Available."""
    key = json.dumps(spec, sort_keys=True)
    if key not in _RUNNING:
        world = World().asks(**spec).settle()
        assert world.available, world.why
        _RUNNING[key] = world
    return _RUNNING[key].fork()
