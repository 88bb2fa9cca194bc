"""Join token requests in a pretend world."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hosted_cp.api.join_token_request import parse_join_token_request
from hosted_cp.hosting import authorities
from hosted_cp.hosting.tenant import Decisions, tenant
from hosted_cp.hosting.tokens import TokenView, plan
from hosted_cp.k0s import tokens
from hosted_cp.planning.actions import Action, Plan, Ref
from tests.hosting.pretend_server import Json
from tests.hosting.world import CLUSTER_API, NAMESPACE, ROUNDS, Crash, World, running

NAME = "demo-worker"
REQUEST = Ref(api_version=CLUSTER_API, kind="JoinTokenRequest", namespace=NAMESPACE, name=NAME)
SECRET = Ref(api_version="v1", kind="Secret", namespace=NAMESPACE, name=NAME)


def ask(world: World, *, metadata: Json | None = None, **spec: Any) -> World:
    """A user asks for a token."""
    body = {
        "apiVersion": CLUSTER_API,
        "kind": "JoinTokenRequest",
        "metadata": {"name": NAME, "namespace": NAMESPACE, **(metadata or {})},
        "spec": {"clusterName": "demo", **spec},
    }
    world.server.create(body)
    return world


def token_view(world: World, *, failure: str = "") -> TokenView:
    """What `hosted_cp.controllers.join_tokens` would hand to the planner."""
    owner = world.observed(world.server.objects[REQUEST])
    parsed = parse_join_token_request(owner.body)
    cluster, decisions, authority, initialized = None, Decisions(), None, False
    if owner.get("spec", "clusterName") == world.name and world.owner_ref in world.server.objects:
        cluster = world.observed(world.server.objects[world.owner_ref])
        seen = world.view()
        initialized = seen.initialized
        if seen.spec is not None:
            t = tenant(seen, seen.spec)
            decisions, authority = t.former, authorities.seen(t, "ca")
    secret = world.server.objects.get(SECRET)
    return TokenView(
        now=world.now,
        owner=owner,
        spec=parsed.spec,
        problems=parsed.problems,
        cluster=cluster,
        initialized=initialized,
        decisions=decisions,
        authority=authority,
        secret=world.observed(secret) if secret is not None else None,
        failure=failure,
        reaches_tenants=world.settings.reaches_tenants,
    )


def token_plan(world: World) -> Plan:
    return plan(token_view(world))


def work(world: World, *, failure: str = "") -> str:
    """Plan and carry out until nothing is written. Returns why it failed, or ""."""
    for _ in range(ROUNDS):
        if REQUEST not in world.server.objects:
            return ""
        view = token_view(world, failure=failure)
        made = plan(view)
        before = world.writes
        result = world.carry_out(made.actions, about=view.owner)
        if result == "replan":
            continue
        if result != "done":
            told = plan(replace(token_view(world), failure=result))
            world.write_status(told.status, ref=REQUEST)
            world.events += told.events
            return result
        failure = ""
        if world.writes == before and not world.write_status(made.status, ref=REQUEST):
            world.events += made.events
            return ""
        if world.writes == before:
            world.events += made.events
    raise AssertionError("the request does not come to rest")


def request_status(world: World) -> Json:
    found: Json = world.server.get(REQUEST).get("status") or {}
    return found


def why(world: World) -> str:
    """Status, reason and message of the first condition."""
    condition, *_ = request_status(world)["conditions"]
    return f"{condition['status']} {condition['reason']}: {condition['message']}"


def token(world: World) -> tokens.JoinToken:
    """The token that was handed out, taken apart."""
    return tokens.decode(world.data(NAME)["token"].decode())


def tenant_secret(world: World) -> Json | None:
    """The bootstrap Secret in the tenant."""
    found = [body for ref, body in world.tenant.objects.items() if ref.kind == "Secret"]
    assert len(found) < 2
    return found[0] if found else None


def with_token(**spec: Any) -> World:
    world = ask(running(), **spec)
    assert work(world) == ""
    return world


def revoked(world: World) -> bool:
    return tenant_secret(world) is None


def crash(world: World, number: int, when: str) -> None:
    """The operator dies before or after its n-th action from here on."""
    count = iter(range(100))

    def hook(action: Action, moment: str) -> None:
        if moment == when and next(count) == number:
            raise Crash

    world.hook = hook
    with pytest.raises(Crash):
        work(world)
    world.hook = lambda action, moment: None


def forget_in_tenant(world: World) -> None:
    """As a tenant that is new, or restored from before."""
    for ref in [ref for ref in world.tenant.objects if ref.kind == "Secret"]:
        world.tenant.delete(ref)


def gone(world: World) -> bool:
    return REQUEST not in world.server.objects


def delete(world: World) -> World:
    world.server.delete(REQUEST)
    return world
