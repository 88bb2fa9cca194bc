"""`K0sWorkerConfig` against the real core manager: bootstrap data as core and infrastructure take them.

Tenants are hosted control planes whose API servers are played; machines are notes on a shelf (their user data are run
for real elsewhere: `tests/component/test_machines.py` and the lab). Nodes are registered by the tests, and core, which
reaches nobody at the addresses of stand-ins, is told by them what it would have seen. The numbers of assertions (D) are
those of the contract's list.
"""

from __future__ import annotations

import asyncio
import logging

import orjson
import pytest
import yaml

from hosted_cp.k0s import tokens
from hosted_cp.kube.resources import (
    CONFIG_MAP,
    CONTROL_PLANE,
    CORE_CLUSTER,
    EVENT,
    MACHINE,
    MACHINE_POOL,
    SECRET,
    WORKER_CONFIG,
)
from hosted_cp.machines.plan import FINALIZER
from hosted_cp.operator import Operator
from tests.component.canaries import secrets_in
from tests.component.capi import LAB_CLUSTER, CapiStage
from tests.component.hosting import OPERATOR, Object, conditions
from tests.component.test_invariants_rights import OPTIONAL, ROLES, _races, used
from tests.component.workers import (
    DEPLOYMENT,
    a_cluster,
    body,
    data_of,
    deployment,
    joins,
    known_tokens,
    machine,
    made,
    plain,
    provisioned,
    seen_by_core,
    token_of,
    why,
)

#: One worker's bootstrap, from the config's first event until its token is revoked.
BUDGET = 15


@pytest.fixture
def stage(capi_stage: CapiStage) -> CapiStage:
    return capi_stage


# --- the thread -------------------------------------------------------------------------------------------------------


async def test_a_deployment_gets_its_machines(stage: CapiStage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with stage.operating() as operator:
        await a_cluster(stage)
        since = stage.audit.mark()
        metadata = {"labels": {"team": "blue"}, "annotations": {"note": "n"}}
        await deployment(stage, "md", 2, secretMetadata=metadata, args=["--debug"])
        await stage.until(DEPLOYMENT, ["md"], lambda b: b.get("status", {}).get("replicas") == 2)
        names = [each["metadata"]["name"] for each in await stage.admin.list(MACHINE, stage.namespace)]
        machines = await stage.until(MACHINE, names, provisioned)
        configs = await stage.until(WORKER_CONFIG, names, made)
        known, leaks = known_tokens(stage), set[bytes]()
        for name in names:
            # The Secret contract, and that it was taken.
            assert machines[name]["spec"]["bootstrap"]["dataSecretName"] == name
            status = configs[name]["status"]
            assert (status["dataSecretName"], status["initialization"]) == (name, {"dataSecretCreated": True})
            secret = (await stage.admin.get(SECRET, stage.namespace, name)).body
            assert secret["type"] == "cluster.x-k8s.io/secret"
            assert secret["metadata"]["labels"] == {"team": "blue", "cluster.x-k8s.io/cluster-name": "a"}
            assert secret["metadata"]["annotations"]["note"] == "n"
            [owner] = secret["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["uid"], owner["controller"]) == (
                "K0sWorkerConfig", configs[name]["metadata"]["uid"], True,
            )  # fmt: skip
            data = await data_of(stage, name)
            assert set(data) == {"value", "format"}
            token = token_of(data)
            assert known[token.id] == token.secret
            endpoint = (await stage.core_seen("a"))["spec"]["controlPlaneEndpoint"]
            assert token.server == f"https://{endpoint['host']}:{endpoint['port']}"
            commands = "\n".join(yaml.safe_load(data["value"])["runcmd"])
            assert f"machine-name={name}" in commands
            assert "/run/cluster-api/bootstrap-success.complete" in commands
            leaks |= {form for forms in secrets_in(data).values() for form in forms} | {token.secret.encode()}
        mirrored = await stage.until(
            MACHINE, names, lambda b: conditions(b)["BootstrapConfigReady"]["status"] == "True"
        )
        assert conditions(mirrored[names[0]])["BootstrapConfigReady"]["reason"] == "Ready"

        # The Nodes come, and get their ids; then the tokens go.
        assert stage.tenants.watches(stage.namespace, "a") == 1
        for name in names:
            await joins(stage, name)
        await stage.rest(operator)
        nodes = {each["metadata"]["name"]: each for each in stage.tenants.objects(stage.namespace, "a", "nodes")}
        assert {name: nodes[name]["spec"].get("providerID") for name in names} == {
            name: machines[name]["spec"]["providerID"] for name in names
        }
        for name in names:
            await seen_by_core(stage, name)
        await stage.until(WORKER_CONFIG, names, lambda b: not b["metadata"].get("finalizers"))
        assert known_tokens(stage) == {}
        await stage.rest(operator)
        assert stage.tenants.watches(stage.namespace, "a") == 0

        # What it cost, and that nothing was refused, or told what is secret.
        requests = stage.requests(since)
        of_tenant = [each for each in stage.tenants.seen(stage.namespace, "a") if "/bootstrap-token" in each]
        of_tenant += [each for each in stage.tenants.seen(stage.namespace, "a") if "/nodes" in each]
        of_tenant += [
            each for each in stage.tenants.seen(stage.namespace, "a") if each.startswith("POST") and "/secrets" in each
        ]
        ours = [str(each) for each in requests]
        assert len(ours) + len(of_tenant) <= BUDGET * len(names), "\n".join([*ours, *of_tenant])
        assert [str(each) for each in requests if each.code in (401, 403)] == []
        assert stage.created_twice(since) == []
        everywhere = [
            *(await stage.admin.list(EVENT, stage.namespace)),
            *(await stage.admin.list(MACHINE, stage.namespace)),
        ]
        everywhere += await stage.admin.list(WORKER_CONFIG, stage.namespace)
        text = orjson.dumps(everywhere) + caplog.text.encode()
        assert [form for form in leaks if len(form) >= 16 and form in text] == []


async def test_at_rest_nothing_is_written(stage: CapiStage) -> None:
    async with stage.operating() as operator:
        await a_cluster(stage)
        await machine(stage, "m")
        await stage.until(MACHINE, ["m"], provisioned)
        await stage.until(WORKER_CONFIG, ["m"], made)
        await joins(stage, "m")
        await stage.rest(operator)
        since, before = stage.audit.mark(), len(stage.tenants.seen(stage.namespace, "a"))
        await stage.rest(operator)
        assert stage.spent(since, without=("watch",)) == {}
        assert len(stage.tenants.seen(stage.namespace, "a")) == before
    # Another operator finds everything as it should be, and asks the tenant for the Node once more.
    async with stage.operating() as operator:
        since = stage.audit.mark()
        await stage.rest(operator)
        # To ask, it has to know the tenant's CA.
        assert stage.spent(since, without=("watch", "list")) in ({}, {"get secrets": 1})
        written = [each for each in stage.tenants.seen(stage.namespace, "a")[before:] if not each.startswith("WATCH")]
        assert written == []


# --- what comes late, is lost, or in the way --------------------------------------------------------------------------


async def test_everything_that_is_waited_for_comes_as_an_event(stage: CapiStage) -> None:
    source = {"configMapRef": {"name": "site", "key": "k"}}
    async with stage.operating():
        await stage.admin.create(CORE_CLUSTER, stage.cluster("a", paused=True))
        await machine(stage, "m", files=[{"path": "/etc/site", "contentFrom": source}])
        # Core makes nobody an owner while it is paused.
        await stage.until(WORKER_CONFIG, ["m"], lambda b: "WaitingForMachine" in why(b))
        await stage.change_cluster("a", paused=None)
        found = await stage.until(WORKER_CONFIG, ["m"], lambda b: "SourceMissing" in why(b))
        assert "ConfigMap site does not exist" in why(found["m"])
        await stage.admin.create(CONFIG_MAP, {**body(stage, CONFIG_MAP, "site"), "data": {"k": "content of the site"}})
        await stage.until(WORKER_CONFIG, ["m"], lambda b: "WaitingForInfrastructure" in why(b))
        await stage.admin.create(LAB_CLUSTER, stage.infrastructure("a"))
        await stage.until(WORKER_CONFIG, ["m"], lambda b: "WaitingForControlPlane" in why(b))
        await stage.admin.create(CONTROL_PLANE, stage.control_plane("a"))
        await stage.until(WORKER_CONFIG, ["m"], made)
        assert b"content of the site" in (await data_of(stage, "m"))["value"]


async def test_what_is_lost_comes_back_and_is_not_made_again(stage: CapiStage) -> None:
    """D: status, owner, labels; and a Secret that nobody owns."""
    async with stage.operating() as operator:
        await a_cluster(stage)
        stranger = body(stage, SECRET, "n", type="cluster.x-k8s.io/secret", stringData={"value": "old"})
        await stage.admin.create(SECRET, stranger)
        for name in ("m", "n"):
            await machine(stage, name)
        await stage.until(MACHINE, ["m", "n"], provisioned)
        await stage.until(WORKER_CONFIG, ["m", "n"], made)
        assert token_of(await data_of(stage, "n")).id in known_tokens(stage)
        before, secret = await data_of(stage, "m"), (await stage.admin.get(SECRET, stage.namespace, "m")).body

        empty = {"status": {"conditions": None, "dataSecretName": None, "initialization": None}}
        await stage.admin.merge_patch(WORKER_CONFIG, stage.namespace, "m", empty, subresource="status")
        found = await stage.until(WORKER_CONFIG, ["m"], made)
        assert found["m"]["status"]["dataSecretName"] == "m"
        assert found["m"]["status"]["initialization"] == {"dataSecretCreated": True}

        bare = {"metadata": {"ownerReferences": None, "labels": None}}
        await stage.admin.merge_patch(SECRET, stage.namespace, "m", bare)
        healed = await stage.until(SECRET, ["m"], lambda b: bool(b["metadata"].get("ownerReferences")))
        assert healed["m"]["metadata"]["labels"] == secret["metadata"]["labels"]

        await stage.admin.merge_patch(WORKER_CONFIG, stage.namespace, "m", {"metadata": {"finalizers": None}})
        await stage.until(WORKER_CONFIG, ["m"], lambda b: b["metadata"].get("finalizers") == [FINALIZER])
        await stage.rest(operator)
        assert await data_of(stage, "m") == before


# --- the token's life -------------------------------------------------------------------------------------------------


async def a_worker(stage: CapiStage, operator: Operator) -> None:
    """The machine `m` of a cluster `a` has its user data, and nothing is left to do."""
    await a_cluster(stage)
    await machine(stage, "m")
    await stage.until(WORKER_CONFIG, ["m"], made)
    await stage.until(MACHINE, ["m"], provisioned)
    await stage.rest(operator)


async def due(stage: CapiStage, name: str) -> None:
    """Let the token's end look near."""
    past = {"metadata": {"annotations": {tokens.EXPIRES: "2020-01-01T00:00:00Z"}}}
    await stage.admin.merge_patch(SECRET, stage.namespace, name, past)
    await stage.until(SECRET, [name], lambda b: not b["metadata"]["annotations"][tokens.EXPIRES].startswith("2020"))


async def test_its_end_is_moved_and_what_the_tenant_has_lost_is_made_anew(stage: CapiStage) -> None:
    async with stage.operating() as operator:
        await a_worker(stage, operator)
        before, uid = (
            await data_of(stage, "m"),
            (await stage.admin.get(SECRET, stage.namespace, "m"))["metadata"]["uid"],
        )
        [old] = stage.tenants.objects(stage.namespace, "a", "secrets")
        await asyncio.sleep(1.1)  # ends are told in seconds
        await due(stage, "m")
        await stage.rest(operator)
        [new] = stage.tenants.objects(stage.namespace, "a", "secrets")
        assert plain(new["data"]["expiration"]) > plain(old["data"]["expiration"])
        assert {**new["data"], "expiration": ""} == {**old["data"], "expiration": ""}
        assert await data_of(stage, "m") == before
        secret = await stage.admin.get(SECRET, stage.namespace, "m")
        assert secret["metadata"]["annotations"][tokens.EXPIRES] == plain(new["data"]["expiration"])

        stage.tenants.forget(stage.namespace, "a")
        await due(stage, "m")
        await stage.rest(operator)
        after = token_of(await data_of(stage, "m"))
        assert known_tokens(stage) == {after.id: after.secret}
        assert after.secret != token_of(before).secret
        assert (await stage.admin.get(SECRET, stage.namespace, "m"))["metadata"]["uid"] == uid


async def test_while_the_token_of_a_worker_that_has_joined_cannot_be_revoked_that_is_said(stage: CapiStage) -> None:
    async with stage.operating() as operator:
        await a_worker(stage, operator)
        stage.tenants.down(stage.namespace, "a")
        since = stage.audit.mark()
        await seen_by_core(stage, "m")
        found = await stage.until(WORKER_CONFIG, ["m"], lambda b: "JoinTokenRevoked" in conditions(b))
        said = conditions(found["m"])["JoinTokenRevoked"]
        assert (said["status"], said["reason"]) == ("False", "RevocationFailed")
        assert "put the annotation hosted-cp.io/force-delete=true" in said["message"]
        assert conditions(found["m"])["Ready"]["status"] == "True"
        await asyncio.sleep(3.0)  # a few more attempts, of which nothing is to be said
        assert known_tokens(stage)
        spent = stage.spent(since, without=("watch",))
        assert spent == {"patch k0sworkerconfigs/status": 1, "create events": 1}
        stage.tenants.down(stage.namespace, "a", down=False)
        found = await stage.until(WORKER_CONFIG, ["m"], lambda b: "JoinTokenRevoked" not in conditions(b))
        assert found["m"]["metadata"].get("finalizers") is None
        assert known_tokens(stage) == {}


# --- rights -----------------------------------------------------------------------------------------------------------


async def test_every_right_for_workers_is_used_and_no_other(stage: CapiStage) -> None:
    since = stage.audit.mark()
    async with stage.operating(with_kopf=True, hooks=_races(stage)) as operator:
        await a_cluster(stage)
        await stage.admin.create(CONFIG_MAP, {**body(stage, CONFIG_MAP, "site"), "data": {"k": "v"}})
        await machine(stage, "m", files=[{"path": "/x", "contentFrom": {"configMapRef": {"name": "site", "key": "k"}}}])
        await stage.until(WORKER_CONFIG, ["m"], made)
        await seen_by_core(stage, "m")
        await stage.until(WORKER_CONFIG, ["m"], lambda b: not b["metadata"].get("finalizers"))
        await stage.rest(operator)
    requests = stage.audit.requests(since=since, user=OPERATOR)
    assert [str(each) for each in requests if each.code in {401, 403}] == []
    assert used(requests) <= {pair for role in ROLES for pair in pairs(role)}
    [optional] = [role for role in ROLES if OPTIONAL in role["metadata"].get("labels", {})]
    ours = {WORKER_CONFIG.plural, MACHINE.plural, MACHINE_POOL.plural, CONFIG_MAP.plural}
    granted = {pair for pair in pairs(optional) if pair[0].partition("/")[0] in ours}
    assert granted - used(requests) == {("k0sworkerconfigs/finalizers", "update")}  # checked, not requested


def pairs(role: Object) -> set[tuple[str, str]]:
    return {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}


# --- the end (in every order, with the cluster: test_capi_deletion.py) ------------------------------------------------


async def test_a_machine_that_goes_takes_its_token_along(stage: CapiStage) -> None:
    async with stage.operating():
        await a_cluster(stage)
        for name in ("m", "n"):
            await machine(stage, name)
        await stage.until(WORKER_CONFIG, ["m", "n"], made)
        token = token_of(await data_of(stage, "n"))
        await stage.admin.delete(MACHINE, stage.namespace, "m")
        await stage.until(MACHINE, ["m"], lambda b: not b)
        await stage.until(WORKER_CONFIG, ["m"], lambda b: not b)
        assert known_tokens(stage) == {token.id: token.secret}
