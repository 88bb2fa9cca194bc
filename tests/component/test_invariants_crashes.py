"""The operator dies before and after every single step of everything it does for a tenant, and nobody can tell.

One life of the operator shows one crash for each of many tenants (`hosting.Freezer`): tenant number k loses its
operator at step k. The next life, which knows nothing, must bring all of them to the state of a tenant that was never
disturbed. The same tenants go through create, scale, change of configuration, change of version, token and deletion.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from hosted_cp.kube.resources import CLUSTER, JOIN_TOKEN_REQUEST, Resource
from tests.component.hosting import Freezer, Object, Stage, Turns, minted, settled
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
UNDISTURBED = "undisturbed"

Names = Sequence[str]


def crashes(workload: str, names: Names) -> dict[str, int]:
    """Name -> the step at which its operator dies: spread over all steps of the workload, the first and last too."""
    steps = STEPS[workload]
    if len(names) > steps:
        return {name: 1 + number % steps for number, name in enumerate(names)}
    return {name: 1 + number * (steps - 1) // max(1, len(names) - 1) for number, name in enumerate(names)}


async def one_crash_each(
    stage: Stage,
    limits: dict[str, int],
    moment: str,
    act: Callable[[], Any],
    *,
    resource: Resource,
    done: Callable[[Object], bool],
) -> Freezer:
    """One life: `act`, and every object dies at its step or is done before it."""
    turns = Turns()
    freezer = Freezer(turns=turns, limits=limits, moment=moment)
    async with stage.operating(hooks=freezer.hooks, turns=turns, crash=True):
        await act()
        names = [*limits, UNDISTURBED if resource == CLUSTER else f"{UNDISTURBED}-token"]
        await stage.until(resource, names, done, enough=lambda missing: missing <= freezer.frozen)
        await asyncio.sleep(0.5)  # what was not reached by its crash may still have a word to say
    return freezer


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


@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    ("moment", "tenants"),
    [("after", 9), *(pytest.param(moment, 27, marks=pytest.mark.sweep) for moment in ("before", "after"))],
)
async def test_a_crash_at_any_step_is_never_seen_in_the_end(stage: Stage, moment: str, tenants: int) -> None:
    since = stage.audit.mark()
    disturbed = [f"tenant{number:02d}x" for number in range(tenants)]
    names = [*disturbed, UNDISTURBED]

    async def create() -> None:
        for name in names:
            await stage.create(name, SPEC)

    limits = crashes("create", disturbed)
    freezer = await one_crash_each(stage, limits, moment, create, resource=CLUSTER, done=settled)
    assert len(freezer.frozen) > tenants // 2, "the crashes did happen"
    made = once_only(await everything(stage))
    async with stage.operating() as operator:
        await stage.available(*names)
        await stage.rest(operator)
    await assert_all_alike(stage, disturbed)
    made = await assert_made_once(stage, since, made)

    for workload, change in CHANGES.items():

        async def edit(change: Object = change) -> None:
            for name in names:
                await stage.change(name, change)

        limits = crashes(workload, disturbed)
        freezer = await one_crash_each(stage, limits, moment, edit, resource=CLUSTER, done=settled)
        assert len(freezer.frozen) > tenants // 3, workload
        async with stage.operating() as operator:
            await stage.available(*names)
            await stage.rest(operator)
        await assert_all_alike(stage, disturbed)
        made = await assert_made_once(stage, since, made)

    async def ask() -> None:
        for name in names:
            await stage.ask_token(f"{name}-token", name)

    limits = crashes("token", [f"{name}-token" for name in disturbed])
    freezer = await one_crash_each(stage, limits, moment, ask, resource=JOIN_TOKEN_REQUEST, done=minted)
    assert len(freezer.frozen) > tenants // 3, "token"
    made |= once_only(await everything(stage))
    async with stage.operating() as operator:
        await stage.until(JOIN_TOKEN_REQUEST, [f"{name}-token" for name in names], minted)
        await stage.rest(operator)
    await assert_all_alike(stage, disturbed)
    await assert_made_once(stage, since, made)
    for name in names:
        assert len(stage.tenants.objects(stage.namespace, name, "secrets")) == 1, "one bootstrap token in the tenant"
        assert len(stage.tenants.objects(stage.namespace, name, "endpoints")) == 1

    async def delete() -> None:
        for name in names:
            await stage.admin.delete(JOIN_TOKEN_REQUEST, stage.namespace, f"{name}-token")
            await stage.admin.delete(CLUSTER, stage.namespace, name)

    limits = crashes("delete", disturbed)
    freezer = await one_crash_each(stage, limits, moment, delete, resource=CLUSTER, done=lambda body: not body)
    assert len(freezer.frozen) > tenants // 3, "delete"
    async with stage.operating():
        await stage.until(JOIN_TOKEN_REQUEST, [f"{name}-token" for name in names], lambda body: not body)
        await stage.gone(*names)
    await assert_nothing_is_left(stage, names)
    assert stage.created_twice(since) == []


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
