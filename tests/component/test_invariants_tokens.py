"""Join tokens: whatever dies, and whoever else is at work, a token that is reported is one that the tenant knows.

One tenant, and a request for each crash: they are of no interest to each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hosted_cp.executor import StatusWrite
from hosted_cp.k0s.tokens import REQUEST_LABEL
from hosted_cp.kube.resources import CLUSTER, JOIN_TOKEN_REQUEST, PERSISTENT_VOLUME_CLAIM, SECRET
from hosted_cp.planning.actions import Create, Delete, Event, PatchMetadata, Replace
from tests.component.hosting import Freezer, Object, Stage, Turns, conditions, minted
from tests.component.join_tokens import assert_tokens_work, bootstrap_secrets, handed_out
from tests.component.test_invariants_crashes import SPEC

TENANT = "tenant0x"
#: The steps of each workload, none of which may be forgotten by the tests below.
MINTING = [PatchMetadata, Create, Create, StatusWrite, Event]
MOVING = [Create, Replace]
REVOKING = [Delete, PatchMetadata]


async def tenant(stage: Stage) -> None:
    async with stage.operating():
        await stage.create(TENANT, SPEC)
        await stage.available(TENANT)


async def one_life(stage: Stage, moment: str, limits: dict[str, int], act: Callable[[], Any]) -> Freezer:
    """An operator that dies for each request at its step."""
    turns = Turns()
    freezer = Freezer(turns=turns, limits=limits, moment=moment)
    async with stage.operating(hooks=freezer.hooks, turns=turns, crash=True):
        await act()
        await stage.until(
            JOIN_TOKEN_REQUEST, limits, lambda body: False, enough=lambda missing: missing <= freezer.frozen
        )
    return freezer


def names_of(workload: str, steps: list[type], moment: str) -> dict[str, int]:
    """A request for each step: before or after it its operator dies."""
    first = 0 if moment == "before" else 1
    return {f"{workload}{limit}": limit for limit in range(first, first + len(steps))}


def steps_of(freezer: Freezer, name: str) -> list[type]:
    return [type(step) for step in freezer.steps[name]]


async def recover(stage: Stage) -> None:
    """An operator that knows nothing brings everything in order."""
    async with stage.operating() as operator:
        requests = [each["metadata"]["name"] for each in await stage.admin.list(JOIN_TOKEN_REQUEST, stage.namespace)]
        await stage.until(JOIN_TOKEN_REQUEST, requests, lambda body: not body or minted(body))
        await stage.rest(operator)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_crash_at_any_step_leaves_one_token_that_works_or_none(stage: Stage, moment: str) -> None:
    """While it is made, while it follows the tenant's address, and while it is revoked."""
    await tenant(stage)
    made, moved, revoked = (
        names_of(*workload, moment) for workload in (("made", MINTING), ("moved", MOVING), ("revoked", REVOKING))
    )

    async def ask() -> None:
        for name in made:
            await stage.ask_token(name, TENANT)

    freezer = await one_life(stage, moment, made, ask)
    last = max(made, key=lambda name: made[name])
    assert steps_of(freezer, last) == MINTING[: made[last]]
    for name in [*moved, *revoked]:
        await stage.ask_token(name, TENANT)
    known = {body["metadata"]["uid"] for body in bootstrap_secrets(stage, TENANT)}
    await recover(stage)
    names = [*made, *moved, *revoked]
    await assert_tokens_work(stage, TENANT, names)
    assert known <= {body["metadata"]["uid"] for body in bootstrap_secrets(stage, TENANT)}, "nothing was replaced"

    before = {name: await handed_out(stage, name) for name in names}

    async def move() -> None:
        await stage.change(TENANT, {"externalAddress": "192.0.2.99"})

    freezer = await one_life(stage, moment, moved, move)
    last = max(moved, key=lambda name: moved[name])
    assert steps_of(freezer, last) == MOVING[: moved[last]]
    await recover(stage)
    await assert_tokens_work(stage, TENANT, names)
    for name in names:
        after = await handed_out(stage, name)
        assert (after.id, after.secret, after.expires) == (before[name].id, before[name].secret, before[name].expires)
        assert "192.0.2.99" in after.server
        assert "192.0.2.99" not in before[name].server

    async def delete() -> None:
        for name in names:
            await stage.admin.delete(JOIN_TOKEN_REQUEST, stage.namespace, name)

    freezer = await one_life(stage, moment, revoked, delete)
    last = max(revoked, key=lambda name: revoked[name])
    assert steps_of(freezer, last) == REVOKING[: revoked[last]]
    async with stage.operating():
        await stage.until(JOIN_TOKEN_REQUEST, names, lambda body: not body)
    assert bootstrap_secrets(stage, TENANT) == []


async def test_a_token_survives_two_leaders(stage: Stage) -> None:
    """Both mint the same tokens at the same moment: what is handed out is what the tenant knows."""
    await tenant(stage)
    names = [f"token{number}" for number in range(6)]
    async with stage.operating() as one, stage.operating() as other:
        for name in names:
            await stage.ask_token(name, TENANT)
        await stage.until(JOIN_TOKEN_REQUEST, names, minted)
        await stage.rest(one)
        await stage.rest(other)
        both = [each for each in stage.tenants.seen(stage.namespace, TENANT) if "secrets -> 409" in each]
        assert both, "they did get into each other's way"
        await assert_tokens_work(stage, TENANT, names)
        before = {name: await handed_out(stage, name) for name in names}
        await stage.change(TENANT, {"externalAddress": "192.0.2.99"})
        await stage.available(TENANT)
        await stage.rest(one)
        await stage.rest(other)
        await assert_tokens_work(stage, TENANT, names)
        assert {name: (await handed_out(stage, name)).secret for name in names} == {
            name: token.secret for name, token in before.items()
        }
        for name in names:
            await stage.admin.delete(JOIN_TOKEN_REQUEST, stage.namespace, name)
        await stage.until(JOIN_TOKEN_REQUEST, names, lambda body: not body)
        await stage.rest(one)
        await stage.rest(other)
    assert bootstrap_secrets(stage, TENANT) == []


async def test_a_token_is_made_for_the_tenant_that_is_there(stage: Stage) -> None:
    """The Cluster is deleted and another one made under its name: the token of the old one is good for nothing."""
    await tenant(stage)
    async with stage.operating() as operator:
        await stage.ask_token("a-token", TENANT)
        await stage.until(JOIN_TOKEN_REQUEST, ["a-token"], minted)
        old = await handed_out(stage, "a-token")
        await stage.admin.delete(CLUSTER, stage.namespace, TENANT)
        await stage.gone(TENANT)
        for claim in await stage.admin.list(PERSISTENT_VOLUME_CLAIM, stage.namespace):
            await stage.admin.delete(PERSISTENT_VOLUME_CLAIM, stage.namespace, claim["metadata"]["name"])
        stage.tenants.forget(stage.namespace, TENANT)
        gone = await stage.until(JOIN_TOKEN_REQUEST, ["a-token"], lambda body: reason(body) == "ClusterNotFound")
        assert not minted(gone["a-token"])
        await stage.create(TENANT, SPEC)
        await stage.available(TENANT)
        await stage.until(JOIN_TOKEN_REQUEST, ["a-token"], minted)
        await stage.rest(operator)
        await assert_tokens_work(stage, TENANT, ["a-token"])
        new = await handed_out(stage, "a-token")
        assert new.secret != old.secret
        assert new.ca != old.ca
        assert new.expires == old.expires, "the request's time goes on"


async def test_a_secret_of_somebody_else_in_the_tenant_is_neither_trusted_nor_touched(stage: Stage) -> None:
    await tenant(stage)
    limits = {"half": 2}
    freezer = await one_life(stage, "after", limits, lambda: stage.ask_token("half", TENANT))
    assert steps_of(freezer, "half") == [PatchMetadata, Create]
    [theirs] = bootstrap_secrets(stage, TENANT)
    theirs["metadata"]["labels"][REQUEST_LABEL] = "another"
    async with stage.operating() as operator:
        said = await stage.until(JOIN_TOKEN_REQUEST, ["half"], lambda body: "our labels" in message(body))
        assert theirs["metadata"]["name"] in message(said["half"])
        assert await stage.find(SECRET, "half") is None
        await stage.admin.delete(JOIN_TOKEN_REQUEST, stage.namespace, "half")
        await stage.until(JOIN_TOKEN_REQUEST, ["half"], lambda body: not body)
        await stage.rest(operator)
    assert bootstrap_secrets(stage, TENANT) == [theirs]


def condition(body: Object) -> Object:
    found: Object = conditions(body).get("JoinTokenSecretCreated", {})
    return found


def reason(body: Object) -> str:
    return str(condition(body).get("reason", ""))


def message(body: Object) -> str:
    return str(condition(body).get("message", ""))
