"""The life of a tenant in random order: users, drift, failing pods, crashes, races. What must never happen does not;
and once the world is healthy again, so is the tenant."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hosted_cp.hosting.plan import plan
from hosted_cp.hosting.view import NodeAddress
from hosted_cp.planning.actions import HASH_ANNOTATION, Action, Apply, Delete, Ref, Replace, Target
from tests.hosting import pretend_pods
from tests.hosting.pretend_server import Json
from tests.hosting.variants import SQLITE, kine
from tests.hosting.world import NAMESPACE, Crash, World

CAS = ("demo-ca", "demo-proxy", "demo-sa", "demo-etcd")
STORAGE: dict[str, Json] = {
    "etcd": {},
    "etcd-3": {"replicas": 3},
    "postgres": kine("postgres://db.example:5432/x"),
    "sqlite": kine(SQLITE),
}
EDITS: tuple[Json, ...] = (
    {"replicas": 1}, {"replicas": 3}, {"replicas": 2}, {"replicas": 0},
    {"service": {"type": "NodePort"}}, {"service": {"type": "LoadBalancer"}}, {"service": {"type": "ClusterIP"}},
    {"service": {"type": "ClusterIP", "apiPort": 7443}}, {"service": {"type": "NodePort", "apiPort": 30443}},
    {"version": "v1.35.4+k0s.0"}, {"version": "v1.36.3+k0s.2"}, {"version": "v1.33.13+k0s.1"}, {"version": "latest"},
    {"version": None}, {"externalAddress": "api.example"}, {"externalAddress": None},
    {"resources": {"limits": {"cpu": "1000m", "memory": "0.5Gi"}}}, {"resources": {"limits": {"cpu": "much"}}},
    {"resources": None}, {"monitoring": {"enabled": True}}, {"monitoring": None},
    {"kubeconfigSecretMetadata": {"labels": {"a": "b"}}}, {"kubeconfigSecretMetadata": None},
    {"keyAlgorithm": "ECDSA-P384"}, {"controlPlaneFlags": ["--debug"]}, {"controlPlaneFlags": None},
    {"patches": [{"target": {"kind": "Service", "component": "control-plane"},
                  "patch": {"type": "merge", "content": "metadata: {annotations: {x: y}}"}}]},
    {"patches": None},
)  # fmt: skip
FATES = (pretend_pods.READY, pretend_pods.STARTING, pretend_pods.NO_IMAGE, pretend_pods.CRASHING)


def _label(body: Json) -> None:
    body["metadata"]["labels"].pop("cluster", None)


def _hash(body: Json) -> None:
    body["metadata"].get("annotations", {}).pop(HASH_ANNOTATION, None)


def _annotations(body: Json) -> None:
    body["metadata"]["annotations"] = {}


def _content(body: Json) -> None:
    """Something of the content; of a Secret one value, but never a CA."""
    match body["kind"]:
        case "Secret" if body["metadata"]["name"] not in CAS:
            body["data"] = dict(sorted(body["data"].items())[1:])
        case "StatefulSet":
            body["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 1
        case "Service":
            body["spec"]["ports"] = body["spec"]["ports"][:1]


DRIFTS = (_label, _hash, _annotations, _content)


class Life(RuleBasedStateMachine):
    """One tenant, and everything that can happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.lost: dict[str, Json] = {}
        self.kept: dict[Ref, Json] = {}
        self.bootstrapped = False

    @initialize(storage=st.sampled_from(sorted(STORAGE)))
    def begins(self, storage: str) -> None:
        self.storage = STORAGE[storage]
        # What is somebody else's, under names close to ours.
        self.world.secret("demo-extra", {"x": b"y"})
        self.world.secret("kmc-demo", {"x": b"y"})
        for body in self.world.server.every("Secret"):
            self.kept[Ref.of(body)] = body
        self.world.asks(**self.storage)

    # --- what happens -------------------------------------------------------------------------------------------------

    @rule()
    def works(self) -> None:
        self._work()

    @rule(steps=st.integers(1, 4))
    def cluster_works(self, steps: int) -> None:
        for _ in range(steps):
            pretend_pods.step(self.world.server, self.world.script)

    @rule()
    def rests(self) -> None:
        self._check_actions()
        self.world.settle()

    @rule(change=st.sampled_from(EDITS))
    def user_edits(self, change: Json) -> None:
        self.world.changes(**change)

    @rule(labels=st.dictionaries(st.sampled_from(["team", "app", "tier"]), st.sampled_from(["a", "b"])))
    def user_labels(self, labels: dict[str, str]) -> None:
        self.world.server.edit(self.world.owner_ref, lambda body: body["metadata"].update(labels=labels))

    @rule(data=st.data(), drift=st.sampled_from(DRIFTS))
    def somebody_spoils(self, data: st.DataObject, drift: Any) -> None:
        self._spoil(data, drift)

    @rule(data=st.data())
    def somebody_deletes(self, data: st.DataObject) -> None:
        owned = [each for each in self.world.owned() if each[1] not in CAS]
        # Without its config nobody can tell a tenant that has lived from one that has not, so here it stays.
        owned = [each for each in owned if each[1] != "kmc-demo-config" or self.world.exists("StatefulSet", "kmc-demo")]
        if owned:
            kind, name = data.draw(st.sampled_from(sorted(owned)))
            self.world.server.delete(Ref.of(self.world.body(kind, name)))

    @precondition(lambda self: self.world.exists("Secret", "kmc-demo-config"))
    @rule(name=st.sampled_from(CAS))
    def an_authority_is_lost(self, name: str) -> None:
        if self.world.exists("Secret", name):
            self.lost[name] = self.world.body("Secret", name)
            self.world.server.delete(Ref.of(self.lost[name]))

    @rule(fate=st.sampled_from(FATES), where=st.sampled_from(["etcd", "kmc", "-0", "-2"]))
    def pods_fare(self, fate: str, where: str) -> None:
        self.world.script.pods = lambda name: fate if where in name else pretend_pods.READY
        for pod in self.world.server.every("Pod"):
            if where in pod["metadata"]["name"]:
                self.world.server.delete(Ref.of(pod))

    @rule(address=st.sampled_from([None, {"ip": "203.0.113.10"}, {"ip": "203.0.113.11"}, {"hostname": "lb.example"}]))
    def load_balancer_says(self, address: Json | None) -> None:
        self.world.script.load_balancer = address

    @rule(addresses=st.lists(st.sampled_from(["192.0.2.11", "192.0.2.22"]), max_size=2))
    def nodes_come_and_go(self, addresses: list[str]) -> None:
        self.world.nodes = tuple(NodeAddress(node=each, type="InternalIP", address=each) for each in addresses)

    @rule(down=st.sampled_from(["", "no route to host"]))
    def tenant_is_reachable_or_not(self, down: str) -> None:
        self.world.tenant_down = down

    @rule(days=st.sampled_from([1, 30, 150]))
    def time_passes(self, days: int) -> None:
        self.world.passes(days=days)

    @rule(number=st.integers(0, 14), when=st.sampled_from(["before", "after"]))
    def operator_crashes(self, number: int, when: str) -> None:
        count = iter(range(1000))

        def hook(action: Action, moment: str) -> None:
            if moment == when and next(count) == number:
                raise Crash

        self.world.hook = hook
        try:
            self._work()
        except Crash:
            self.world.failure, self.world.findings = "", {}
        finally:
            self.world.hook = lambda action, moment: None

    @rule(data=st.data(), drift=st.sampled_from(DRIFTS), change=st.sampled_from(EDITS))
    def world_changes_while_a_plan_is_carried_out(self, data: st.DataObject, drift: Any, change: Json) -> None:
        view = self.world.view()
        actions = plan(view).actions
        self._spoil(data, drift)
        self.world.changes(**change)
        self.world.carry_out(actions, about=view.owner)

    @rule()
    def tenant_ends_and_begins_anew(self) -> None:
        self.world.deletes()
        self.world.settle()
        assert not self.world.exists("Cluster", "demo")
        left = {ref for ref in self.world.server.objects if ref not in self.kept}
        assert {ref.kind for ref in left} <= {"PersistentVolumeClaim"}
        for ref in left:
            self.world.server.delete(ref)
        self.lost.clear()
        self.bootstrapped = False
        self.world.findings.clear()
        self.world.tenant.objects.clear()
        self.world.asks(**self.storage)

    # --- what holds ---------------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_minted_twice(self) -> None:
        made_once = {each: count for each, count in self.world.minted.items() if each[0] in CAS}
        assert set(made_once.values()) <= {1}, made_once

    @invariant()
    def nobody_else_s_object_is_touched(self) -> None:
        for ref, body in self.kept.items():
            assert self.world.server.get(ref) == body

    @invariant()
    def a_bootstrap_is_never_taken_back(self) -> None:
        permit = self.world.server.find("Secret", "kmc-demo-etcd-permit")
        if permit is None or "bootstrapped" not in permit["data"]:
            return
        said = self.world.data("kmc-demo-etcd-permit")["bootstrapped"] == b"true"
        assert said or not self.bootstrapped
        self.bootstrapped = said

    @invariant()
    def no_controller_without_a_bootstrapped_store(self) -> None:
        if "storage" not in self.storage and self.world.exists("StatefulSet", "kmc-demo"):
            assert self.bootstrapped or not self.world.exists("Secret", "kmc-demo-etcd-permit")

    @invariant()
    def a_plan_is_made_and_is_the_same_twice(self) -> None:
        if self.world.owner_ref in self.world.server.objects:
            self._check_actions()

    def teardown(self) -> None:
        """All is well again: so is the tenant, and then there is nothing left to do."""
        world = self.world
        if world.owner_ref not in world.server.objects:
            return
        world.script.pods = lambda name: pretend_pods.READY
        world.script.load_balancer = {"ip": "203.0.113.10"}
        world.nodes = (NodeAddress(node="n1", type="InternalIP", address="192.0.2.11"),)
        world.tenant_down = ""
        for name, body in self.lost.items():
            if not world.exists("Secret", name):
                metadata = {"name": name, "namespace": NAMESPACE}
                world.server.create({**body, "metadata": metadata})
        for pod in world.server.every("Pod"):
            if not pretend_pods.is_ready(pod):
                world.server.delete(Ref.of(pod))
        for field in ("resources", "monitoring", "patches", "externalAddress", "version", "controlPlaneFlags"):
            world.changes(**{field: None})
        world.changes(**{"replicas": 1, "service": {"type": "NodePort"}, **self.storage})
        world.settle()
        assert world.available, world.why
        assert world.plan().actions == ()
        assert world.condition("SpecAccepted")["status"] == "True", world.condition("SpecAccepted")
        services = {body["metadata"]["name"] for body in world.server.every("Service")}
        assert services == {"kmc-demo-nodeport"} | ({"kmc-demo-etcd"} if "storage" not in self.storage else set())

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        self._check_actions()
        self.world.reconcile()

    def _check_actions(self) -> None:
        """Each action names what is ours, as it is now."""
        view = self.world.view()
        made = plan(view)
        assert made == plan(view)
        for action in made.actions:
            if action.target is Target.TENANT:
                continue
            if isinstance(action, Apply | Replace | Delete):
                live = self.world.server.get(action.ref)
                assert action.uid == live["metadata"]["uid"]
                owners = live["metadata"]["ownerReferences"]
                assert any(owner["uid"] == view.owner.uid for owner in owners)
            if isinstance(action, Delete):
                assert action.ref.kind in ("Service", "PodDisruptionBudget", "NetworkPolicy") or view.owner.deleting

    def _spoil(self, data: st.DataObject, drift: Any) -> None:
        owned = sorted(each for each in self.world.owned() if each[1] not in CAS or drift is _label)
        if owned:
            kind, name = data.draw(st.sampled_from(owned))
            self.world.server.edit(Ref.of(self.world.body(kind, name)), drift)


_SOME = settings(
    max_examples=12,
    stateful_step_count=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def test_the_life_of_a_tenant() -> None:
    run_state_machine_as_test(Life, settings=_SOME)


@pytest.mark.sweep
@pytest.mark.timeout(3600)
def test_many_lives_of_tenants() -> None:
    many = settings(_SOME, derandomize=False, max_examples=400, stateful_step_count=30)
    run_state_machine_as_test(Life, settings=many)
