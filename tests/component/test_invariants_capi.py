"""The foundation's invariants for the kinds of Cluster API, beside the real core: the operator dies before and after
each step and at every cut of a request, and in the end nobody can tell; nothing is made twice, nothing is told.

Worker number k loses its operator at step k of its bootstrap, of the moving of its token's end, and of its revocation;
so does control plane number k when it is created, changes its version and is deleted. The next life, which knows
nothing, finishes them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson
import pytest
import yaml

from hosted_cp.k0s import tokens
from hosted_cp.kube.resources import (
    CONTROL_PLANE,
    CORE_CLUSTER,
    EVENT,
    MACHINE,
    NETWORK_POLICY,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    POD_DISRUPTION_BUDGET,
    SECRET,
    SERVICE,
    STATEFUL_SET,
    WORKER_CONFIG,
    Resource,
)
from tests.component.canaries import Net, logged
from tests.component.capi import LAB_CLUSTER, CapiStage, at_rest
from tests.component.cutting import MOMENTS, Cutter, one_life
from tests.component.hosting import Freezer, Object
from tests.component.snapshots import data_of as decoded
from tests.component.snapshots import everything, masked, of_tenant, once_only
from tests.component.workers import (
    LAB_MACHINE,
    a_cluster,
    data_of,
    joins,
    known_tokens,
    machine,
    made,
    plain,
    provisioned,
    seen_by_core,
    token_of,
)

#: About as many as each workload of a worker has steps, its requests and a few more.
STEPS = {"bootstrap": 6, "prolonging": 2, "revocation": 4, "end": 4}
#: The same of a control plane.
CONTROL_PLANE_STEPS = {"create": 26, "version": 10, "delete": 18}
UNDISTURBED = "undisturbed"
OLD, NEW = "v1.35.4+k0s", "v1.36.3+k0s"

#: What a tenant of a control plane is made of.
TENANTS = (
    CONTROL_PLANE, SERVICE, SECRET, STATEFUL_SET, POD_DISRUPTION_BUDGET, NETWORK_POLICY, PERSISTENT_VOLUME_CLAIM, POD
)  # fmt: skip

Done = Callable[[Object], bool]


@pytest.fixture
def stage(capi_stage: CapiStage) -> CapiStage:
    return capi_stage


def spread(names: Sequence[str], steps: int, moment: str) -> dict[str, int]:
    """Name -> where its operator dies: over all steps, the first and the last too. Before a step is after none of those
    before it."""
    first = 0 if moment == "before" else 1
    if len(names) >= steps:
        return {name: first + number % steps for number, name in enumerate(names)}
    return {name: first + number * (steps - 1) // max(1, len(names) - 1) for number, name in enumerate(names)}


async def dies(
    stage: CapiStage,
    names: Sequence[str],
    steps: int,
    moment: str,
    act: Callable[[], Any],
    resource: Resource,
    done: Done,
) -> Freezer | Cutter:
    """`act`, and each object loses its operator at a step of its own; some of them must have met their crash."""
    life = await one_life(
        stage, spread(names, steps, moment), moment, act, resource=resource, done=done, undisturbed=[_last(names)]
    )
    assert len(life.frozen) > len(names) // 3, (moment, life.done)
    return life


async def nothing() -> None:
    """No user does anything."""


def _last(names: Sequence[str]) -> str:
    return f"{UNDISTURBED}-cp" if names[0].endswith("-cp") else UNDISTURBED


# --- workers ----------------------------------------------------------------------------------------------------------


def released(config: Object) -> bool:
    """Whether a config says that there is no token of it any more."""
    return not config or not config["metadata"].get("finalizers")


def gone(body: Object) -> bool:
    return not body


async def worker(stage: CapiStage, name: str) -> Any:
    """All that there is of a worker, without what must differ from one to the next."""
    config = (await stage.admin.get(WORKER_CONFIG, stage.namespace, name)).body
    secret = (await stage.admin.get(SECRET, stage.namespace, name)).body
    machine = (await stage.admin.get(MACHINE, stage.namespace, name)).body
    user_data = yaml.safe_load(decoded(secret)["value"])
    user_data["write_files"][0]["content"] = "<token>"
    metadata = ("name", "labels", "annotations", "ownerReferences", "finalizers")
    whole = {
        "config": [{key: config["metadata"].get(key) for key in metadata}, config["spec"], config["status"]],
        "secret": [{key: secret["metadata"].get(key) for key in metadata}, secret["type"], user_data],
        "machine": machine["spec"]["bootstrap"],
    }
    return masked(whole, name, stage.namespace)


async def assert_alike(stage: CapiStage, names: Iterable[str]) -> None:
    wanted = await worker(stage, UNDISTURBED)
    for name in names:
        assert await worker(stage, name) == wanted, name


def minted(stage: CapiStage) -> int:
    """How many tokens the tenant was ever asked for with success."""
    return stage.tenants.seen(stage.namespace, "a").count("POST /api/v1/namespaces/kube-system/secrets -> 201")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("moment", "workers"),
    [
        ("unanswered", 4),
        *(pytest.param(moment, 12, marks=pytest.mark.sweep, id=f"{moment}-all") for moment in MOMENTS),
    ],
)
async def test_a_crash_at_any_step_of_a_worker_is_never_seen(stage: CapiStage, moment: str, workers: int) -> None:
    disturbed = [f"w{number:02d}x" for number in range(workers)]
    names = [*disturbed, UNDISTURBED]
    async with stage.operating():
        await a_cluster(stage)
    since = stage.audit.mark()

    async def create() -> None:
        for name in names:
            await machine(stage, name)

    await dies(stage, disturbed, STEPS["bootstrap"], moment, create, WORKER_CONFIG, made)
    handed = {
        body["metadata"]["name"]: decoded(body)
        for body in await stage.admin.list(SECRET, stage.namespace)
        if body["metadata"]["name"] in names and body.get("data")
    }
    async with stage.operating() as operator:
        await stage.until(WORKER_CONFIG, names, made)
        machines = await stage.until(MACHINE, names, provisioned)
        await stage.rest(operator)
    assert all(each["spec"]["bootstrap"]["dataSecretName"] == name for name, each in machines.items())
    await assert_alike(stage, disturbed)
    data = {name: await data_of(stage, name) for name in names}
    assert {name: data[name] for name in handed} == handed, "what was made once is what it was"
    assert known_tokens(stage) == {token_of(each).id: token_of(each).secret for each in data.values()}
    assert minted(stage) == len(names)
    assert stage.created_twice(since) == []

    async def near_the_end() -> None:
        past = {"metadata": {"annotations": {tokens.EXPIRES: "2020-01-01T00:00:00Z"}}}
        for name in names:
            await stage.admin.merge_patch(SECRET, stage.namespace, name, past)

    def prolonged(secret: Object) -> bool:
        return not secret["metadata"]["annotations"][tokens.EXPIRES].startswith("2020")

    await asyncio.sleep(1.1)  # ends are told in seconds
    before = {each["metadata"]["name"]: plain(each["data"]["expiration"]) for each in held(stage)}
    await dies(stage, disturbed, STEPS["prolonging"], moment, near_the_end, SECRET, prolonged)
    async with stage.operating() as operator:
        await stage.until(SECRET, names, prolonged)
        await stage.rest(operator)
    after = {each["metadata"]["name"]: plain(each["data"]["expiration"]) for each in held(stage)}
    assert {name: end > before[name] for name, end in after.items()} == dict.fromkeys(before, True)
    assert {name: await data_of(stage, name) for name in names} == data, "the data are in use and stay as they are"
    await assert_alike(stage, disturbed)
    assert minted(stage) == len(names)

    async def become_nodes() -> None:
        for name in names:
            await joins(stage, name)
            await seen_by_core(stage, name)

    await dies(stage, disturbed, STEPS["revocation"], moment, become_nodes, WORKER_CONFIG, released)
    async with stage.operating() as operator:
        await stage.until(WORKER_CONFIG, names, released)
        await stage.rest(operator)
    assert known_tokens(stage) == {}
    await assert_alike(stage, disturbed)
    assert {name: await data_of(stage, name) for name in names} == data
    assert stage.created_twice(since) == []


def held(stage: CapiStage) -> list[Object]:
    return stage.tenants.objects(stage.namespace, "a", "secrets")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("moment", "workers"),
    [("after", 4), *(pytest.param(each, 9, marks=pytest.mark.sweep, id=f"{each}-all") for each in MOMENTS)],
)
async def test_a_worker_goes_from_every_state_of_its_making_and_of_its_end(
    stage: CapiStage, moment: str, workers: int
) -> None:
    disturbed = [f"w{number:02d}x" for number in range(workers)]
    names = [*disturbed, UNDISTURBED]
    async with stage.operating():
        await a_cluster(stage)

    async def create() -> None:
        for name in names:
            await machine(stage, name)

    await dies(stage, disturbed, STEPS["bootstrap"], moment, create, WORKER_CONFIG, made)
    for name in names:
        await stage.admin.delete(MACHINE, stage.namespace, name)
    since = stage.audit.mark()
    await one_life(
        stage, spread(disturbed, STEPS["end"], moment), moment, nothing, resource=WORKER_CONFIG, done=gone,
        undisturbed=[UNDISTURBED],
    )  # fmt: skip
    async with stage.operating():
        for resource in (WORKER_CONFIG, MACHINE, LAB_MACHINE):
            await stage.until(resource, names, gone)
    assert known_tokens(stage) == {}, "no token outlives its machine"
    await stage.until(SECRET, names, gone)  # the garbage collector's
    written = [each for each in stage.requests(since, without=("list", "watch", "get")) if each.resource != "events"]
    assert "create" not in {each.verb for each in written}, list(map(str, written))


# --- control planes ---------------------------------------------------------------------------------------------------


async def assert_control_planes_alike(stage: CapiStage, names: Iterable[str]) -> None:
    found = await everything(stage, TENANTS)
    wanted = of_tenant(found, UNDISTURBED)
    assert "k0smotroncontrolplanes <name>-cp" in wanted
    for name in names:
        is_now = of_tenant(found, name)
        assert sorted(is_now) == sorted(wanted), name
        for key, body in is_now.items():
            assert body == wanted[key], f"{name}: {key}"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("moment", "clusters"),
    [
        ("after", 3),
        *(pytest.param(moment, 14, marks=pytest.mark.sweep, id=f"{moment}-all") for moment in MOMENTS),
    ],
)
async def test_a_crash_at_any_step_of_a_control_plane_is_never_seen(
    stage: CapiStage, moment: str, clusters: int
) -> None:
    disturbed = [f"tenant{number:02d}x" for number in range(clusters)]
    names = [*disturbed, UNDISTURBED]
    planes = [f"{name}-cp" for name in disturbed]
    since = stage.audit.mark()

    async def create() -> None:
        for name in names:
            await stage.create_cluster(name, version=OLD)

    await dies(stage, planes, CONTROL_PLANE_STEPS["create"], moment, create, CONTROL_PLANE, at_rest)
    once = once_only(await everything(stage, TENANTS))
    async with stage.operating() as operator:
        await stage.serving(*names)
        await stage.told_core(*names)
        await stage.rest(operator)
    await assert_control_planes_alike(stage, disturbed)
    now = once_only(await everything(stage, TENANTS))
    assert {name: now[name] for name in once} == once, "what was made once is what it was"
    assert stage.created_twice(since) == []

    async def upgrade() -> None:
        for name in names:
            await stage.change_control_plane(name, version=NEW)

    await dies(stage, planes, CONTROL_PLANE_STEPS["version"], moment, upgrade, CONTROL_PLANE, at_rest)
    async with stage.operating() as operator:
        await stage.serving(*names)
        await stage.rest(operator)
    await assert_control_planes_alike(stage, disturbed)
    assert once_only(await everything(stage, TENANTS)) == now
    assert stage.created_twice(since) == []

    async def delete() -> None:
        for name in names:
            await stage.admin.delete(CORE_CLUSTER, stage.namespace, name)

    await dies(stage, planes, CONTROL_PLANE_STEPS["delete"], moment, delete, CONTROL_PLANE, gone)
    async with stage.operating():
        await stage.all_gone(*names)
    await assert_nothing_is_left(stage)
    assert stage.created_twice(since) == []


@pytest.mark.sweep
@pytest.mark.timeout(1200)
async def test_a_control_plane_goes_from_every_state_of_its_creation(stage: CapiStage) -> None:
    """The user changes his mind after any step of a creation that died there, and takes back the Cluster."""
    disturbed = [f"tenant{number:02d}x" for number in range(13)]
    names = [*disturbed, UNDISTURBED]

    async def create() -> None:
        for name in names:
            await stage.create_cluster(name)

    planes = [f"{name}-cp" for name in disturbed]
    await dies(stage, planes, CONTROL_PLANE_STEPS["create"], "after", create, CONTROL_PLANE, at_rest)
    for name in names:
        await stage.admin.delete(CORE_CLUSTER, stage.namespace, name)
    async with stage.operating():
        await stage.all_gone(*names)
    await assert_nothing_is_left(stage)


async def assert_nothing_is_left(stage: CapiStage) -> None:
    found = await everything(stage, (CONTROL_PLANE, SERVICE, SECRET, STATEFUL_SET, CORE_CLUSTER, LAB_CLUSTER))
    left = {plural: [each["metadata"]["name"] for each in bodies] for plural, bodies in found.items()}
    assert not any(left.values()), left


# --- secrets ----------------------------------------------------------------------------------------------------------


async def test_nothing_that_is_secret_in_bootstrap_data_is_told(stage: CapiStage) -> None:
    """Join tokens, and contents that came from Secrets: not in a log, an Event, a condition; not when requests fail and
    are answered with what was sent."""
    net = Net()
    canary = b"canary-7f3b-do-not-tell-anybody-of-this-content"
    source = {"secretRef": {"name": "site", "key": "canary"}}
    names = ["m", "n"]
    with logged() as lines:
        async with stage.operating() as operator:
            await a_cluster(stage)
            await stage.secret("site", {"canary": canary})
            for status in (422, 500):
                stage.tenants.refuse(stage.namespace, "a", status)
                name = names[status == 500]
                custom: dict[str, Any] = {"provisioner": {"customUserDataRef": source}} if name == "m" else {}
                await machine(stage, name, files=[{"path": "/site", "contentFrom": source}], **custom)
                await stage.until(WORKER_CONFIG, [name], lambda b: "bootstrap-token-" in orjson.dumps(b).decode())
            stage.tenants.refuse(stage.namespace, "a", 0)
            await stage.until(WORKER_CONFIG, names, made)
            await stage.until(MACHINE, names, provisioned)
            await stage.rest(operator)
        for name in names:
            assert canary in (await data_of(stage, name))["value"]
        for body in held(stage):
            net.take(decoded(body))
        for body in await stage.admin.list(SECRET, stage.namespace):
            net.take(decoded(body))
    assert len(net) > 5
    told = {
        each.plural: [orjson.dumps(body).decode() for body in await stage.admin.list(each, stage.namespace)]
        for each in (EVENT, WORKER_CONFIG, MACHINE, CORE_CLUSTER, CONTROL_PLANE, LAB_MACHINE)
    }
    annotations = [orjson.dumps(body["metadata"]).decode() for body in await stage.admin.list(SECRET, stage.namespace)]
    assert net.search({"Secrets' metadata": annotations, **told, **lines}) == {}
    assert sum("bootstrap-token-" in each for each in lines["json"]) >= 2, "the failures were told"
