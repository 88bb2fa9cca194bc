"""The pretend world of a K0sWorkerConfig: a tenant that runs, and core's part of the contract in a few lines.

Core itself is not imitated: what the real one does is seen in `tests/component/test_worker_configs.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import orjson
import yaml

from hosted_cp.api.worker_config import parse_worker_config
from hosted_cp.k0s import tokens
from hosted_cp.machines.mapping import sources_of
from hosted_cp.machines.plan import plan
from hosted_cp.machines.view import ControlPlane, Way, WorkerView
from hosted_cp.pki.recipes import CARecipe
from hosted_cp.planning.actions import Event, Finding, Plan, Ref
from hosted_cp.planning.observed import Observed
from hosted_cp.planning.recipes import Inputs
from tests.hosting.pretend_server import Json, encoded, secret_data
from tests.hosting.world import CATALOGUE, NAMESPACE, ROUNDS, START, Material, World

CORE_API = "cluster.x-k8s.io/v1beta2"
CONFIG_API = "bootstrap.cluster.x-k8s.io/v1beta2"
NAME = "md-x7k2p"
VERSION = "v1.36.3+k0s"

#: What the control plane runs.
RUNS = ControlPlane(version=VERSION, release="v1.36.3+k0s.2")

CONFIG = Ref(api_version=CONFIG_API, kind="K0sWorkerConfig", namespace=NAMESPACE, name=NAME)
MACHINE = Ref(api_version=CORE_API, kind="Machine", namespace=NAMESPACE, name=NAME)
POOL = Ref(api_version=CORE_API, kind="MachinePool", namespace=NAMESPACE, name=NAME)
CLUSTER = Ref(api_version=CORE_API, kind="Cluster", namespace=NAMESPACE, name="demo")
AUTHORITY = Ref(api_version="v1", kind="Secret", namespace=NAMESPACE, name="demo-ca")
KUBECONFIG = Ref(api_version="v1", kind="Secret", namespace=NAMESPACE, name="demo-kubeconfig")
SECRET = Ref(api_version="v1", kind="Secret", namespace=NAMESPACE, name=NAME)


@dataclass(kw_only=True)
class WorkerWorld:
    """One worker config, its Machine and its Cluster beside a tenant's CA; time is `base.now`."""

    base: World = field(default_factory=World)
    control_plane: ControlPlane | None = RUNS
    reachable: bool = True
    #: Whether the tenant is known by the kubeconfig in `demo-kubeconfig`.
    foreign: bool = False
    failure: str = ""
    finding: Finding | None = None
    said: list[Event] = field(default_factory=list)

    # --- what others do ------------------------------------------------------------------------------------------

    def configures(self, **spec: Any) -> WorkerWorld:
        """A MachineSet makes the config of its template."""
        owners = [{"apiVersion": CORE_API, "kind": "MachineSet", "name": "md", "uid": "md-uid"}]
        metadata = {"name": NAME, "namespace": NAMESPACE, "ownerReferences": owners}
        self.base.server.create(
            {"apiVersion": CONFIG_API, "kind": "K0sWorkerConfig", "metadata": metadata, "spec": spec}
        )
        return self

    def owned(self, *, pool: bool = False, **spec: Any) -> WorkerWorld:
        """There is a Machine (or a pool), and the config is its."""
        ref = POOL if pool else MACHINE
        inner = {"clusterName": "demo", "version": VERSION, "bootstrap": {}, **spec}
        whole = {"clusterName": "demo", "template": {"spec": inner}} if pool else inner
        metadata = {"name": NAME, "namespace": NAMESPACE}
        made = self.base.server.create({"apiVersion": CORE_API, "kind": ref.kind, "metadata": metadata, "spec": whole})
        self.owner(ref, made["metadata"]["uid"])
        return self

    def owner(self, ref: Ref, uid: str) -> None:
        reference = {"apiVersion": CORE_API, "kind": ref.kind, "name": ref.name, "uid": uid, "controller": True}
        self.edit(CONFIG, lambda body: body["metadata"].update(ownerReferences=[reference]))

    def cluster(self, *, infrastructure: bool = True, initialized: bool = True, **spec: Any) -> WorkerWorld:
        """The Cluster, in this state."""
        given = {"controlPlaneEndpoint": {"host": "192.0.2.11", "port": 31234},
                 "controlPlaneRef": {"kind": "K0smotronControlPlane", "name": "demo"}, **spec}  # fmt: skip
        metadata = {"name": "demo", "namespace": NAMESPACE}
        self.base.server.create({"apiVersion": CORE_API, "kind": "Cluster", "metadata": metadata, "spec": given})
        self.provisioned(infrastructure=infrastructure, initialized=initialized)
        return self

    def provisioned(self, *, infrastructure: bool = True, initialized: bool = True) -> None:
        done = {"infrastructureProvisioned": infrastructure, "controlPlaneInitialized": initialized}
        self.base.server.set_status(CLUSTER, {"initialization": done})

    def edit(self, ref: Ref, change: Any) -> None:
        self.base.server.edit(ref, change)

    def says(self, ref: Ref, **spec: Any) -> None:
        """Somebody merges this into a spec."""
        self.base.server.merge_patch(ref, {"spec": spec})

    def handed_over(self, name: str = NAME) -> None:
        """Core copies the name of the Secret to the Machine."""
        self.says(MACHINE, bootstrap={"dataSecretName": name})

    def becomes_node(self) -> None:
        self.base.server.set_status(MACHINE, {"nodeRef": {"name": NAME}})

    def registers(self, **spec: Any) -> Json:
        """The machine's kubelet makes its Node, and somebody sees it."""
        node = self.base.tenant.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME}, "spec": spec})
        self.found(node)
        return node

    def found(self, node: Json) -> None:
        [probe] = self.plan().probes
        message = {"name": NAME, "uid": node["metadata"]["uid"], "providerID": node["spec"].get("providerID", "")}
        self.finding = Finding(probe=probe, ok=True, message=orjson.dumps(message).decode(), at=self.base.now)

    def run_by_others(self, kubeconfig: bytes | None) -> WorkerWorld:
        """The control plane is none of ours; its provider leaves this kubeconfig."""
        self.foreign, self.control_plane = True, ControlPlane(foreign=True)
        if kubeconfig is not None:
            metadata = {"name": KUBECONFIG.name, "namespace": NAMESPACE}
            data = encoded({"value": kubeconfig})
            self.base.server.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
        return self

    def config_map(self, name: str, **data: str) -> None:
        metadata = {"name": name, "namespace": NAMESPACE}
        self.base.server.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})

    def passes(self, **time: float) -> None:
        self.base.passes(**time)

    # --- the operator --------------------------------------------------------------------------------------------

    def seen(self, ref: Ref) -> Any:
        body = self.base.server.objects.get(ref)
        return self.base.observed(body) if body is not None else None

    def view(self) -> WorkerView:
        owner = self.seen(CONFIG)
        parsed = parse_worker_config(owner.body)
        authority = self.seen(KUBECONFIG if self.foreign else AUTHORITY)
        named = sources_of(parsed.spec) if parsed.spec is not None else frozenset()
        sources = {
            each: self.seen(Ref(api_version="v1", kind=each[0], namespace=NAMESPACE, name=each[1])) for each in named
        }
        owners = {each["uid"] for each in owner.owner_references}
        machine = next((m for m in (self.seen(MACHINE), self.seen(POOL)) if m is not None and m.uid in owners), None)
        return WorkerView(
            now=self.base.now,
            owner=owner,
            spec=parsed.spec,
            problems=parsed.problems,
            machine=machine,
            cluster=self.seen(CLUSTER) if machine is not None else None,
            control_plane=self.control_plane,
            way=self._way(authority) if self.reachable else None,
            authority=authority,
            secret=self.seen(SECRET),
            sources={each: found for each, found in sources.items() if found is not None},
            catalogue=CATALOGUE,
            findings=() if self.finding is None else (self.finding,),
            failure=self.failure,
        )

    def _way(self, authority: Observed | None) -> Way | None:
        if not self.foreign:
            return Way(uid="cp", server="https://10.0.0.1:6443", server_name="kmc-demo", authority="demo-ca")
        facts = authority.secret if authority is not None else None
        found = facts.kubeconfigs.get("value") if facts is not None else None
        if found is None or found.unusable:
            return None
        return Way(uid="cp", server=found.server, authority=KUBECONFIG.name, kubeconfig=True)

    def plan(self) -> Plan:
        return plan(self.view())

    def work(self) -> str:
        """Plan and carry out until nothing is written. Returns why it failed, or ""."""
        for _ in range(ROUNDS):
            if CONFIG not in self.base.server.objects:
                return ""
            view = self.view()
            made = plan(view)
            before = self.base.writes
            result = self.base.carry_out(made.actions, about=view.owner)
            if result == "replan":
                continue
            if result != "done":
                self.failure = result
                told = plan(replace(self.view(), failure=result))
                self.base.write_status(told.status, ref=CONFIG)
                self.said += told.events
                return result
            self.failure = ""
            if self.base.writes == before and CONFIG in self.base.server.objects:
                wrote = self.base.write_status(made.status, ref=CONFIG)
                self.said += made.events
                if not wrote:
                    return ""
        raise AssertionError("the config does not come to rest")

    # --- looking -------------------------------------------------------------------------------------------------

    @property
    def status(self) -> Json:
        found: Json = self.base.server.get(CONFIG).get("status") or {}
        return found

    def why(self, kind: str = "Ready") -> str:
        """Status, reason and message of a condition."""
        condition = next(each for each in self.status["conditions"] if each["type"] == kind)
        return f"{condition['status']} {condition['reason']}: {condition['message']}"

    @property
    def secret(self) -> Json:
        return self.base.server.get(SECRET)

    @property
    def value(self) -> bytes:
        return secret_data(self.secret)["value"]

    @property
    def token(self) -> tokens.JoinToken:
        """The token in the user data, taken apart."""
        return tokens.decode(yaml.safe_load(self.value)["write_files"][0]["content"])

    @property
    def tenants(self) -> list[Json]:
        """The bootstrap tokens that the tenant holds."""
        return [body for ref, body in self.base.tenant.objects.items() if ref.kind == "Secret"]

    def ends(self) -> str:
        """When the one token of the tenant ends."""
        [body] = self.tenants
        return secret_data(body)["expiration"].decode()


def waiting(**spec: Any) -> WorkerWorld:
    """A config whose Machine, Cluster and tenant are there."""
    world = WorkerWorld()
    world.base.server.create(
        {"apiVersion": "v1", "kind": "Secret", "type": "cluster.x-k8s.io/secret",
         "metadata": {"name": "demo-ca", "namespace": NAMESPACE}, "data": encoded(_authority())}
    )  # fmt: skip
    return world.configures(**spec)


def ready(**spec: Any) -> WorkerWorld:
    """One for which everything is there."""
    return waiting(**spec).owned().cluster()


def made(**spec: Any) -> WorkerWorld:
    """One whose data have been made."""
    world = ready(**spec)
    assert world.work() == ""
    return world


@cache
def _authority() -> dict[str, bytes]:
    material = Material()
    inputs = Inputs(now=START, entropy=material.entropy, new_key=material.new_key, secrets={})
    return dict(CARecipe(common_name="kubernetes-ca", algorithm="ECDSA-P256").fulfil(inputs))
