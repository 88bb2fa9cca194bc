"""The end of a join token request: its token is revoked first, unless that is pointless or the user forces it."""

from __future__ import annotations

import pytest

from hosted_cp.hosting.tokens import FORCE
from hosted_cp.planning.actions import Delete, PatchMetadata, Target
from tests.hosting.token_world import (
    NAME,
    REQUEST,
    ask,
    crash,
    delete,
    gone,
    revoked,
    token_plan,
    why,
    with_token,
    work,
)
from tests.hosting.world import World, running


def test_deleting_the_request_revokes_the_token() -> None:
    world = delete(with_token())
    first, second = token_plan(world).actions
    assert isinstance(first, Delete)
    assert first.target is Target.TENANT
    assert isinstance(second, PatchMetadata)
    work(world)
    assert revoked(world)
    assert gone(world)
    world.server.collect_garbage()
    assert not world.exists("Secret", NAME)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_while_revoking(number: int, when: str) -> None:
    world = delete(with_token())
    crash(world, number, when)
    work(world)
    assert revoked(world)
    assert gone(world)


def test_while_the_tenant_cannot_be_reached_the_finalizer_stays_and_says_why() -> None:
    world = with_token()
    world.tenant_down = "no route to host"
    delete(world)
    failure = work(world)
    assert not gone(world)
    assert why(world).startswith("False RevocationFailed: the token cannot be revoked yet: ")
    assert "no route to host" in why(world)
    assert "It ends by itself at 2026-11-21T13:00:00Z" in why(world)
    assert f"put the annotation {FORCE}=true on it" in why(world)
    world.tenant_down = ""
    work(world, failure=failure)
    assert gone(world)
    assert revoked(world)


def test_an_unreachable_tenant_holds_the_request_until_the_token_has_expired() -> None:
    world = with_token()
    world.tenant_down = "no route to host"
    delete(world)
    world.passes(hours=1, seconds=30)
    work(world)
    assert not gone(world), "clocks differ a little"
    world.passes(minutes=1)
    work(world)
    assert gone(world)


def test_the_user_can_force_it() -> None:
    world = with_token()
    world.tenant_down = "no route to host"
    delete(world)
    failure = work(world)
    world.server.merge_patch(REQUEST, {"metadata": {"annotations": {FORCE: "true"}}})
    assert work(world, failure=failure) == ""
    assert gone(world)


@pytest.mark.parametrize("state", ["gone", "going"])
def test_nothing_is_revoked_in_a_cluster_that_is_gone_or_going(state: str) -> None:
    world = with_token()
    world.deletes()
    if state == "gone":
        world.settle()
    world.tenant_down = "no route to host"
    delete(world)
    assert all(each.target is Target.MANAGEMENT for each in token_plan(world).actions)
    work(world)
    assert gone(world)


def test_a_request_that_never_got_anywhere_goes_at_once() -> None:
    world = ask(World())
    work(world)
    delete(world)
    work(world)
    assert gone(world)


def test_a_token_that_a_crash_left_in_the_tenant_is_revoked_too() -> None:
    world = ask(running())
    crash(world, 1, "after")
    assert not revoked(world)
    delete(world)
    work(world)
    assert revoked(world)
    assert gone(world)


def test_what_a_crash_may_have_left_in_a_dead_tenant_holds_the_request_no_longer_than_a_token_lives() -> None:
    world = ask(running(), expiry="30m")
    crash(world, 1, "after")
    world.tenant_down = "no route to host"
    delete(world)
    work(world)
    assert not gone(world)
    world.passes(minutes=32)
    work(world)
    assert gone(world)


def test_a_request_of_somebody_else_s_finalizer() -> None:
    world = ask(running(), metadata={"finalizers": ["their/s"]})
    work(world)
    delete(world)
    work(world)
    assert world.server.get(REQUEST)["metadata"]["finalizers"] == ["their/s"]
    assert token_plan(world).actions == ()


def test_an_unreadable_request_can_be_deleted() -> None:
    world = with_token()
    world.server.edit(REQUEST, lambda body: body.update(spec={"clusterName": "demo", "role": 7}))
    delete(world)
    work(world)
    assert gone(world)
    assert revoked(world)
