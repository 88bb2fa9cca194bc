"""Bad input, where only a real API server, real watches and real Secrets show what happens."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from hosted_cp.k0s.config import DSN_KEY
from hosted_cp.kube.resources import CLUSTER, SECRET, SERVICE, STATEFUL_SET
from hosted_cp.pki.facts import secret_facts
from hosted_cp.pki.recipes import KubeconfigRecipe
from hosted_cp.planning.recipes import Inputs
from tests.component.hosting import Object, Stage, conditions
from tests.hosting.variants import SQLITE, brought


def data_of(secret: Object) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in secret["data"].items()}


async def test_a_kubeconfig_is_renewed_while_the_spec_is_refused(stage: Stage) -> None:
    async with stage.operating():
        await stage.create("a")
        await stage.available("a")
    secret = (await stage.admin.get(SECRET, stage.namespace, "a-kubeconfig")).body
    facts = secret_facts(type=secret["type"], data=data_of(secret)).kubeconfigs["value"]
    authority = data_of((await stage.admin.get(SECRET, stage.namespace, "a-ca")).body)
    old = KubeconfigRecipe(cluster="a", server=facts.server, signer="a-ca", life=timedelta(minutes=2)).fulfil(
        Inputs(
            now=datetime.now(UTC),  # it is dated back, so more than half of its life is over
            entropy=lambda length: b"\x07" * length,
            new_key=lambda _: ec.generate_private_key(ec.SECP256R1()),
            secrets={"a-ca": authority},
        )
    )
    data = {key: base64.b64encode(value).decode() for key, value in old.items()}
    await stage.admin.replace(SECRET, {**secret, "data": data})
    await stage.change("a", {"version": "v1.99.0"})
    since = stage.audit.mark()
    async with stage.operating() as operator:
        state = await stage.until(SECRET, ["a-kubeconfig"], lambda body: body["data"] != data)
        await stage.until(
            CLUSTER, ["a"], lambda body: conditions(body).get("SpecAccepted", {}).get("reason") == "SpecInvalid"
        )
        await stage.rest(operator)
        written = [(each.verb, each.resource, each.subresource) for each in stage.requests(since)]
        assert [each for each in written if each[0] not in ("get", "list", "watch") and each[2] != "status"] == [
            ("update", "secrets", "")
        ]
        renewed = state["a-kubeconfig"]
        client = secret_facts(type=renewed["type"], data=data_of(renewed)).kubeconfigs["value"].client
        assert client is not None
        assert client.not_after > datetime.now(UTC) + timedelta(days=300)
        assert renewed["metadata"]["labels"] == secret["metadata"]["labels"]
        await stage.change("a", {"version": None})
        await stage.available("a")
        last = (await stage.admin.get(SECRET, stage.namespace, "a-kubeconfig")).body
        assert last["metadata"]["resourceVersion"] == renewed["metadata"]["resourceVersion"]


# -- what is wrong is named, and healed by its cause, by events alone -------------------------------------------------

K0S = "k0s.k0sproject.io/v1beta1"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A tenant that cannot be made, and how it can. `{name}` and `{namespace}` stand for the tenant's in words."""

    spec: Object
    reason: str
    #: Parts of what is said: the field or object, the fault, the remedy.
    words: tuple[str, ...]
    #: Fields of the spec that heal it; or something else that does.
    change: Object = field(default_factory=dict)
    before: Callable[[Stage, str], Awaitable[None]] | None = None
    heal: Callable[[Stage, str], Awaitable[None]] | None = None


async def _broken_authority(stage: Stage, name: str) -> None:
    await stage.secret(f"{name}-ca", {"tls.crt": b"no certificate", "tls.key": b"no key"})


async def _right_authority(stage: Stage, name: str) -> None:
    data = {key: value.decode() for key, value in brought("ca").items()}
    await stage.admin.merge_patch(SECRET, stage.namespace, f"{name}-ca", {"stringData": data})


async def _database(stage: Stage, name: str) -> None:
    await stage.secret("database", {DSN_KEY: b"postgres://u:p@192.0.2.9:5432/x"})


async def _taken_port(stage: Stage, name: str) -> None:
    port = {"name": "x", "port": 1, "nodePort": 30990}
    metadata = {"name": "other", "namespace": stage.namespace}
    spec = {"type": "NodePort", "ports": [port]}
    await stage.admin.create(SERVICE, {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})


async def _free_port(stage: Stage, name: str) -> None:
    await stage.admin.delete(SERVICE, stage.namespace, "other")


async def _balanced(stage: Stage, name: str) -> None:
    status = {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}}}
    await stage.admin.merge_patch(SERVICE, stage.namespace, f"kmc-{name}-lb", status, subresource="status")


async def _anew(stage: Stage, name: str) -> None:
    await stage.admin.delete(CLUSTER, stage.namespace, name)
    await stage.gone(name)
    await stage.create(name)


def _patch(kind: str, component: str, content: str) -> Object:
    patched = {"target": {"kind": kind, "component": component}, "patch": {"type": "merge", "content": content}}
    return {"patches": [patched]}


CASES: dict[str, Case] = {
    "minor": Case(
        spec={"version": "v1.99.0"}, reason="SpecInvalid", words=("spec.version: ", "use a version of 1.33"),
        change={"version": None},
    ),
    "ranges": Case(
        spec={"k0sConfig": {"apiVersion": K0S, "spec": {"network": {"podCIDR": "10.0.0.0/8"}}}}, reason="SpecInvalid",
        words=("spec.k0sConfig.spec.network.serviceCIDR: ", "overlaps", "choose ranges", "create it anew"), heal=_anew,
    ),
    "unknown-field": Case(
        spec={"k0sConfig": {"apiVersion": K0S, "spec": {"apii": {}}}}, reason="SpecInvalid",
        words=("spec.k0sConfig.spec.apii: ", "did you mean"), change={"k0sConfig": None},
    ),
    "api-version": Case(
        spec={"k0sConfig": {"apiVersion": "v1"}}, reason="SpecInvalid",
        words=("spec.k0sConfig.apiVersion: ", f"set {K0S}"), change={"k0sConfig": {"apiVersion": K0S}},
    ),
    "sqlite": Case(
        spec={"replicas": 3, "storage": {"type": "kine", "kine": {"dataSourceURL": SQLITE}}}, reason="SpecInvalid",
        words=("spec.replicas: ", "is SQLite", "use etcd or a database server"), change={"replicas": 1},
    ),
    "patch-of-nothing": Case(
        spec=_patch("StatefulSet", "controlplane", "{}"), reason="SpecInvalid",
        words=("spec.patches[0].target: ", "StatefulSet control-plane", "remove the patch"), change={"patches": None},
    ),
    "patch-too-far": Case(
        spec=_patch("StatefulSet", "control-plane", "metadata: {namespace: kube-system}"), reason="SpecInvalid",
        words=("spec.patches[0]: ", "metadata.namespace", "correct or remove the patch"), change={"patches": None},
    ),
    "host-path": Case(
        spec={"persistence": {"type": "hostPath", "hostPath": "/x"}}, reason="SpecInvalid",
        words=("spec.persistence.type: ", "--privileged-namespace {namespace}"), change={"persistence": None},
    ),
    "authority": Case(
        spec={}, reason="SecretsMissing", words=("Secret {name}-ca: ", "put exactly one certificate"),
        before=_broken_authority, heal=_right_authority,
    ),
    "database": Case(
        spec={"storage": {"type": "kine", "kine": {"dataSourceSecretName": "database"}}}, reason="SecretsMissing",
        words=("spec.storage.kine.dataSourceSecretName: ", "does not exist", f"under the key {DSN_KEY}"),
        heal=_database,
    ),
    "node-port": Case(
        spec={"service": {"type": "NodePort", "apiPort": 30990}}, reason="WriteFailed",
        words=("30990: provided port is already allocated", "choose other ports in spec.service.apiPort"),
        before=_taken_port, heal=_free_port,
    ),
    "balancer": Case(
        spec={"service": {"type": "LoadBalancer"}}, reason="LoadBalancerPending",
        words=("Service kmc-{name}-lb", "set spec.service.type to NodePort, or spec.externalAddress"), heal=_balanced,
    ),
}  # fmt: skip


async def test_what_is_wrong_is_named_and_heals_with_its_cause_and_no_restart(stage: Stage) -> None:
    async with stage.operating():
        for name, case in CASES.items():
            if case.before is not None:
                await case.before(stage, name)
            await stage.create(name, case.spec)
        for name, case in CASES.items():
            wanted = case.reason
            state = await stage.until(
                CLUSTER,
                [name],
                lambda body, wanted=wanted: conditions(body).get("Available", {}).get("reason") == wanted,  # type: ignore[misc]
            )
            said = conditions(state[name])["Available"]["message"]
            for words in case.words:
                assert words.format(name=name, namespace=stage.namespace) in said, f"{name}: {said}"
        for name, case in CASES.items():
            if case.change:
                await stage.change(name, case.change)
            if case.heal is not None:
                await case.heal(stage, name)
        await stage.available(*CASES)


@pytest.mark.parametrize("length", [44, 200])
async def test_a_name_under_which_no_pod_can_exist_is_said_and_can_be_deleted(stage: Stage, length: int) -> None:
    name = "x" * length
    async with stage.operating() as operator:
        await stage.create(name)
        state = await stage.until(
            CLUSTER, [name], lambda body: conditions(body).get("Available", {}).get("reason") == "SpecInvalid"
        )
        said = conditions(state[name])["Available"]["message"]
        assert said.startswith(f"metadata.name: has {length} characters")
        assert "create the Cluster under a name of at most 43 characters" in said
        await stage.admin.delete(CLUSTER, stage.namespace, name)
        await stage.gone(name)
        await stage.rest(operator)


async def test_what_a_running_tenant_keeps_is_told_from_what_the_server_fills_in(stage: Stage) -> None:
    """A volume as the server has it (mode filled in, quantities rewritten) is as it was asked for. A larger
    one, another network provider and another CA are refused, and nothing is restarted."""

    def pvc(size: str) -> Object:
        return {"type": "pvc", "persistentVolumeClaim": {"spec": {"resources": {"requests": {"storage": size}}}}}

    async def said(kind: str, words: str) -> None:
        await stage.until(CLUSTER, ["a"], lambda body: words in conditions(body).get(kind, {}).get("message", ""))

    await stage.secret("our-ca", dict(brought("ca")))
    async with stage.operating():
        await stage.create("a", {"persistence": pvc("0.5Gi")})
        await stage.available("a")
        before = (await stage.admin.get(STATEFUL_SET, stage.namespace, "kmc-a")).body
        for spec, kind, words in (
            ({"persistence": pvc("1Gi")}, "SpecAccepted", "persistentVolumeClaim.spec.resources: cannot change from"),
            (
                {"k0sConfig": {"apiVersion": K0S, "spec": {"network": {"provider": "calico"}}}},
                "SpecAccepted",
                "network.provider: cannot change from kuberouter to calico",
            ),
            (
                {"certificateRefs": [{"type": "ca", "name": "our-ca"}]},
                "CertificatesAvailable",
                "Secret our-ca holds another CA than the one that this tenant runs with",
            ),
        ):
            await stage.change("a", spec)
            await said(kind, words)
            await stage.change("a", {"persistence": pvc("512Mi"), "k0sConfig": None, "certificateRefs": None})
            await stage.available("a")
            await stage.until(CLUSTER, ["a"], lambda body: conditions(body)["SpecAccepted"]["status"] == "True")
            await stage.until(
                CLUSTER, ["a"], lambda body: conditions(body)["CertificatesAvailable"]["status"] == "True"
            )
        after = (await stage.admin.get(STATEFUL_SET, stage.namespace, "kmc-a")).body
        assert after["metadata"]["generation"] == before["metadata"]["generation"]
