"""The operator dies before and after every single step of everything it does for a tenant, and nobody can tell.

One life of the operator shows one crash for each of many tenants: tenant number k loses its operator at step k
(`hosting.Freezer`), or at writing request k, before it is sent or before its answer is heard (`cutting.Cutter`). There
it is followed by a second life that dies as well. The next life, which knows nothing, must bring all of them to the
state of a tenant that was never disturbed. The same tenants go through create, scale, change of configuration, change
of version, token and deletion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from hosted_cp.executor import StatusWrite
from hosted_cp.kube.resources import CLUSTER, EVENT, JOIN_TOKEN_REQUEST, PERSISTENT_VOLUME_CLAIM, Resource
from hosted_cp.planning.actions import Event
from tests.component.cutting import MOMENTS, Cutter, one_life
from tests.component.hosting import Freezer, Object, Stage, minted, settled
from tests.component.join_tokens import assert_tokens_work
from tests.component.snapshots import belongs, everything, of_tenant, once_only

#: What the tenants have at first, and what they are changed to.
OLD, NEW = "v1.35.4+k0s.0", "v1.36.3+k0s.2"
SPEC: Object = {"version": OLD}
CHANGES: dict[str, Object] = {
    "scale": {"replicas": 2},
    "config": {
        "k0sConfig": {
            "apiVersion": "k0s.k0sproject.io/v1beta1",
            "kind": "ClusterConfig",
            "spec": {"api": {"sans": ["tenant.example"]}},
        }
    },
    "version": {"version": NEW},
}
#: About as many as the workload has steps. A tenant whose crash never comes is one more undisturbed one.
STEPS = {"create": 24, "scale": 7, "config": 8, "version": 8, "token": 5, "delete": 17}
#: The same in requests.
REQUESTS = {"create": 30, "scale": 12, "config": 12, "version": 12, "token": 6, "delete": 24}
UNDISTURBED = "undisturbed"

Names = Sequence[str]


def crashes(workload: str, names: Names, moment: str = "after") -> dict[str, int]:
    """Name -> where its operator dies: spread over all steps (or requests) of the workload, the first and last too."""
    steps = (STEPS if moment in {"before", "after"} else REQUESTS)[workload]
    if len(names) > steps:
        return {name: 1 + number % steps for number, name in enumerate(names)}
    return {name: 1 + number * (steps - 1) // max(1, len(names) - 1) for number, name in enumerate(names)}


async def nothing() -> None:
    """No user does anything."""


async def crash_each(
    stage: Stage,
    workload: str,
    names: Names,
    moment: str,
    act: Callable[[], Any],
    *,
    resource: Resource = CLUSTER,
    done: Callable[[Object], bool] = settled,
) -> Freezer | Cutter:
    """`act`, and every object loses its operator where `crashes` says, or is done before; where it is a request, the
    next operator dies soon, too."""
    limits = crashes(workload, names, moment)
    first = await one_crash_each(stage, limits, moment, act, resource=resource, done=done)
    if isinstance(first, Cutter):
        assert max(first.done.values()) <= REQUESTS[workload] + 1, (workload, first.done)
        soon = {name: 1 + number % 3 for number, name in enumerate(names)}
        await one_crash_each(stage, soon, moment, nothing, resource=resource, done=done)
    return first


async def one_crash_each(
    stage: Stage,
    limits: dict[str, int],
    moment: str,
    act: Callable[[], Any],
    *,
    resource: Resource,
    done: Callable[[Object], bool],
) -> Freezer | Cutter:
    """`cutting.one_life`, with one object more to which nothing happens."""
    undisturbed = UNDISTURBED if resource == CLUSTER else f"{UNDISTURBED}-token"
    return await one_life(stage, limits, moment, act, resource=resource, done=done, undisturbed=[undisturbed])


async def assert_all_alike(stage: Stage, names: Iterable[str]) -> None:
    """Every tenant is as the undisturbed one."""
    found = await everything(stage)
    wanted = of_tenant(found, UNDISTURBED)
    for name in names:
        is_now = of_tenant(found, name)
        assert sorted(is_now) == sorted(wanted), name
        for key, body in is_now.items():
            assert body == wanted[key], f"{name}: {key}"


async def assert_made_once(stage: Stage, since: int, before: dict[str, str]) -> dict[str, str]:
    """Nothing was made twice, and what is made once is what it was; returns what there is now."""
    assert stage.created_twice(since) == []
    now = once_only(await everything(stage))
    assert {name: now.get(name) for name in before} == before
    return now


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("moment", "tenants", "changes"),
    [
        ("after", 6, list(CHANGES)),
        ("unanswered", 4, ["config"]),
        *(pytest.param(moment, 31, list(CHANGES), marks=pytest.mark.sweep, id=f"{moment}-all") for moment in MOMENTS),
    ],
)
async def test_a_crash_at_any_step_is_never_seen_in_the_end(
    stage: Stage, moment: str, tenants: int, changes: list[str]
) -> None:
    since = stage.audit.mark()
    disturbed = [f"tenant{number:02d}x" for number in range(tenants)]
    names = [*disturbed, UNDISTURBED]

    async def create() -> None:
        for name in names:
            await stage.create(name, SPEC)

    freezer = await crash_each(stage, "create", disturbed, moment, create)
    assert len(freezer.frozen) > tenants // 2, "the crashes did happen"
    made = once_only(await everything(stage))
    async with stage.operating() as operator:
        await stage.available(*names)
        await stage.rest(operator)
    await assert_all_alike(stage, disturbed)
    made = await assert_made_once(stage, since, made)

    for workload in changes:

        async def edit(change: Object = CHANGES[workload]) -> None:
            for name in names:
                await stage.change(name, change)

        freezer = await crash_each(stage, workload, disturbed, moment, edit)
        assert len(freezer.frozen) > tenants // 3, workload
        async with stage.operating() as operator:
            await stage.available(*names)
            await stage.rest(operator)
        await assert_all_alike(stage, disturbed)
        made = await assert_made_once(stage, since, made)

    async def ask() -> None:
        for name in names:
            await stage.ask_token(f"{name}-token", name)

    requests = [f"{name}-token" for name in disturbed]
    freezer = await crash_each(stage, "token", requests, moment, ask, resource=JOIN_TOKEN_REQUEST, done=minted)
    assert len(freezer.frozen) > tenants // 3, "token"
    made |= once_only(await everything(stage))
    async with stage.operating() as operator:
        await stage.until(JOIN_TOKEN_REQUEST, [f"{name}-token" for name in names], minted)
        await stage.rest(operator)
    await assert_all_alike(stage, disturbed)
    await assert_made_once(stage, since, made)
    for name in names:
        await assert_tokens_work(stage, name, [f"{name}-token"])
        assert len(stage.tenants.objects(stage.namespace, name, "endpoints")) == 1

    async def delete() -> None:
        for name in names:
            await stage.admin.delete(JOIN_TOKEN_REQUEST, stage.namespace, f"{name}-token")
            await stage.admin.delete(CLUSTER, stage.namespace, name)

    freezer = await crash_each(stage, "delete", disturbed, moment, delete, done=lambda body: not body)
    assert len(freezer.frozen) > tenants // 3, "delete"
    async with stage.operating():
        await stage.until(JOIN_TOKEN_REQUEST, [f"{name}-token" for name in names], lambda body: not body)
        await stage.gone(*names)
    await assert_nothing_is_left(stage, names)
    await assert_told_what_is_kept(stage, names)
    assert stage.created_twice(since) == []


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_no_crash_loses_the_word_about_what_is_kept(stage: Stage, moment: str) -> None:
    """The Event that names the volumes is the only thing which speaks of them when the tenant is gone."""
    limits = {f"tenant{limit:02d}x": limit for limit in range(1 if moment == "after" else 0, 4)}
    names = [*limits, UNDISTURBED]
    async with stage.operating():
        for name in names:
            await stage.create(name, SPEC)
        await stage.available(*names)

    async def delete() -> None:
        for name in names:
            await stage.admin.delete(CLUSTER, stage.namespace, name)

    freezer = await one_crash_each(stage, limits, moment, delete, resource=CLUSTER, done=lambda body: not body)
    assert isinstance(freezer, Freezer)
    assert freezer.frozen == set(limits)
    first = [type(step) for step in freezer.steps[max(limits)]][:2]
    assert set(first) == {Event, StatusWrite}, "the crashes did come before, between and after them"
    async with stage.operating():
        await stage.gone(*names)
    await assert_told_what_is_kept(stage, names)


@pytest.mark.parametrize("tenants", [9, pytest.param(25, marks=pytest.mark.sweep)])
async def test_deletion_works_from_every_state_of_creation(stage: Stage, tenants: int) -> None:
    """The user changes his mind after any step of a creation that died there."""
    names = [f"tenant{number:02d}x" for number in range(tenants)]

    async def create() -> None:
        for name in [*names, UNDISTURBED]:
            await stage.create(name, SPEC)

    await one_crash_each(stage, crashes("create", names), "after", create, resource=CLUSTER, done=settled)
    for name in [*names, UNDISTURBED]:
        await stage.admin.delete(CLUSTER, stage.namespace, name)
    since = stage.audit.mark()
    async with stage.operating():
        await stage.gone(*names, UNDISTURBED)
    written = [each for each in stage.requests(since, without=("list", "watch")) if each.resource != "events"]
    assert {each.verb for each in written} == {"delete", "patch"}, "a deletion creates nothing"
    await assert_nothing_is_left(stage, [*names, UNDISTURBED])


@pytest.mark.timeout(900)
@pytest.mark.parametrize("workload", [*(pytest.param(each, marks=pytest.mark.sweep) for each in CHANGES)])
async def test_deletion_works_from_every_state_of_a_change(stage: Stage, workload: str) -> None:
    names = [f"tenant{number:02d}x" for number in range(STEPS[workload])]
    async with stage.operating():
        for name in [*names, UNDISTURBED]:
            await stage.create(name, SPEC)
        await stage.available(*names, UNDISTURBED)

    async def edit() -> None:
        for name in [*names, UNDISTURBED]:
            await stage.change(name, CHANGES[workload])

    await one_crash_each(stage, crashes(workload, names), "after", edit, resource=CLUSTER, done=settled)
    for name in [*names, UNDISTURBED]:
        await stage.admin.delete(CLUSTER, stage.namespace, name)
    async with stage.operating():
        await stage.gone(*names, UNDISTURBED)
    await assert_nothing_is_left(stage, [*names, UNDISTURBED])


async def assert_nothing_is_left(stage: Stage, names: Names, *, volumes: bool = True) -> None:
    """Of these tenants nothing is left but volumes that say whose they were."""
    found = await everything(stage)
    left = {
        plural: [body["metadata"]["name"] for body in bodies if any(belongs(body, name) for name in names)]
        for plural, bodies in found.items()
        if plural not in {"persistentvolumeclaims", "pods"}
    }
    assert not any(left.values()), left
    for claim in found["persistentvolumeclaims"]:
        assert claim["metadata"]["labels"].get("hosted-cp.io/tenant-uid"), claim["metadata"]["name"]
        assert not claim["metadata"].get("ownerReferences")
    assert bool(found["persistentvolumeclaims"]) == volumes


async def assert_told_what_is_kept(stage: Stage, names: Names) -> None:
    """Of each tenant that is gone exactly one Event names the volumes that are not."""
    kept: dict[str, list[str]] = {name: [] for name in names}
    for claim in await stage.admin.list(PERSISTENT_VOLUME_CLAIM, stage.namespace):
        kept[claim["metadata"]["labels"]["cluster"]].append(claim["metadata"]["name"])
    told = [each for each in await stage.admin.list(EVENT, stage.namespace) if each["reason"] == "VolumesKept"]
    assert sorted(each["involvedObject"]["name"] for each in told) == sorted(names)
    for each in told:
        assert all(volume in each["message"] for volume in kept[each["involvedObject"]["name"]])
