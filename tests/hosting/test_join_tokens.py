"""Join tokens: minted once, in the right order, for a while, and revoked; and what is said when that cannot be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from hosted_cp.api.join_token_request import CLUSTER_NAMESPACE_ANNOTATION
from hosted_cp.hosting.tokens import FINALIZER
from hosted_cp.k0s.tokens import EXPIRES, REQUEST_LABEL
from hosted_cp.planning.actions import Create, PatchMetadata, Ref, Target
from tests.hosting.pretend_server import Json, encoded, secret_data
from tests.hosting.token_world import (
    NAME,
    REQUEST,
    SECRET,
    ask,
    crash,
    delete,
    forget_in_tenant,
    gone,
    request_status,
    revoked,
    tenant_secret,
    token,
    token_plan,
    why,
    with_token,
    work,
)
from tests.hosting.world import NAMESPACE, Material, World, running

CREATED = f"True Created: the token is in the Secret {NAME}, under the key token"

# --- making one -------------------------------------------------------------------------------------------------------


def test_a_token_that_the_tenant_knows() -> None:
    world = with_token()
    made = token(world)
    known = tenant_secret(world)
    assert known is not None
    data = secret_data(known)
    assert (made.id, made.secret) == (data["token-id"].decode(), data["token-secret"].decode())
    assert known["metadata"]["name"] == f"bootstrap-token-{made.id}"
    assert known["metadata"]["namespace"] == "kube-system"
    assert known["type"] == "bootstrap.kubernetes.io/token"
    assert made.role == "worker"
    assert made.server == "https://192.0.2.11:31234"
    assert made.ca == world.data("demo-ca")["tls.crt"]
    assert data["expiration"] == b"2026-11-21T13:00:00Z"


def test_the_secret_and_the_status_are_k0smotrons() -> None:
    world = ask(running(), metadata={"labels": {"team": "blue", "k0smotron.io/role": "spoofed"}})
    work(world)
    body = world.body("Secret", NAME)
    assert body["metadata"]["labels"] == {
        "team": "blue", "k0smotron.io/cluster": "demo", "k0smotron.io/role": "worker",
        "k0smotron.io/token-request": NAME, "app.kubernetes.io/component": "jointoken",
    }  # fmt: skip
    assert set(body["data"]) == {"token"}
    (owner,) = body["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("JoinTokenRequest", NAME, True)
    said = request_status(world)
    assert said["tokenID"] == token(world).id
    assert said["expiration"] == "2026-11-21T13:00:00Z"
    assert why(world) == CREATED
    assert said["deprecated"]["v1beta1"]["reconciliationStatus"] == "Reconciliation successful"


def test_the_order_is_finalizer_tenant_ours() -> None:
    world = ask(running())
    first, second, third = token_plan(world).actions
    assert isinstance(first, PatchMetadata)
    assert first.finalizers == (FINALIZER,)
    assert isinstance(second, Create)
    assert second.target is Target.TENANT
    assert second.body["metadata"]["labels"] == {REQUEST_LABEL: world.server.get(REQUEST)["metadata"]["uid"]}
    assert isinstance(third, Create)
    assert third.target is Target.MANAGEMENT


def test_no_secret_is_in_plan_status_or_events() -> None:
    world = ask(running())
    said = str(token_plan(world))
    work(world)
    secret = token(world).secret
    assert secret not in said + str(request_status(world)) + str(world.events) + str(world.done)
    assert world.data(NAME)["token"].decode() not in str(request_status(world))


def test_at_rest_it_costs_nothing() -> None:
    world = with_token()
    before = world.snapshot()
    world.passes(minutes=30)
    assert token_plan(world).actions == ()
    work(world)
    assert world.snapshot() == before


@pytest.mark.parametrize(("expiry", "end"), [("30m", "12:30:00"), ("0s", "13:00:00"), (None, "13:00:00"), ("24h", "")])
def test_every_token_ends(expiry: str | None, end: str) -> None:
    world = with_token(**({"expiry": expiry} if expiry else {}))
    assert request_status(world)["expiration"] == (f"2026-11-21T{end}Z" if end else "2026-11-22T12:00:00Z")


def test_a_request_that_named_another_namespace_gets_no_token_here() -> None:
    world = ask(running(), metadata={"annotations": {CLUSTER_NAMESPACE_ANNOTATION: "elsewhere"}})
    work(world)
    assert why(world).startswith("False SpecInvalid: spec.clusterRef.namespace: is elsewhere, and a request is for a")
    assert "in the namespace elsewhere" in why(world)
    assert revoked(world)
    world.server.edit(REQUEST, lambda body: body["metadata"]["annotations"].clear())
    assert work(world) == ""
    assert not revoked(world)


@pytest.mark.parametrize("expiry", ["1x", "soon", "0.1s"])
def test_an_expiry_that_is_none_names_field_and_remedy(expiry: str) -> None:
    world = ask(running(), expiry=expiry)
    work(world)
    assert why(world).startswith("False SpecInvalid: spec.expiry: ")
    assert "30m" in why(world)
    assert not world.exists("Secret", NAME)
    world.server.edit(REQUEST, lambda body: body["spec"].update(expiry="30m"))
    work(world)
    assert why(world).startswith("True")


def test_the_plan_wakes_when_the_token_ends_and_says_so() -> None:
    world = with_token(expiry="30m")
    assert token_plan(world).retry_after == 1800
    world.passes(seconds=1800)
    work(world)
    assert why(world).startswith("False Expired: the token expired at 2026-11-21T12:30:00Z; create another")
    assert [each.reason for each in world.events][-1] == "Expired"
    assert token_plan(world).retry_after is None


# --- what has to come first -------------------------------------------------------------------------------------------


def test_a_controllers_token_is_refused() -> None:
    world = ask(running(), role="controller")
    work(world)
    assert why(world).startswith("False RoleNotSupported: spec.role: controllers cannot join a hosted control plane")
    assert "set spec.replicas" in why(world)
    assert revoked(world)


def test_a_cluster_that_does_not_exist_and_then_does() -> None:
    world = ask(World())
    work(world)
    assert why(world).startswith("False ClusterNotFound: Cluster demo does not exist in namespace tenants; create it")
    world.asks().settle()
    work(world)
    assert why(world).startswith("True")


def test_a_cluster_that_is_not_ready_is_awaited_without_a_warning() -> None:
    world = ask(World().asks())
    work(world)
    assert why(world).startswith("False ClusterNotReady: Cluster demo has not answered yet")
    assert world.events == []
    world.settle()
    work(world)
    assert why(world).startswith("True")


def test_a_cluster_that_is_being_deleted() -> None:
    world = running()
    world.deletes()
    ask(world)
    work(world)
    assert why(world).startswith("False ClusterDeleting")


def test_a_token_whose_cluster_goes_is_said_to_be_useless() -> None:
    world = ask(running())
    work(world)
    assert why(world).startswith("True")
    world.deletes()
    work(world)
    assert why(world).startswith("False ClusterDeleting")


def test_an_operator_outside_the_cluster_says_so() -> None:
    world = ask(running())
    world.settings = dataclasses.replace(world.settings, reaches_tenants=False)
    work(world)
    assert why(world).startswith("False TenantNotReachable")
    assert "run it in the cluster" in why(world)


def test_a_secret_of_somebody_else_is_not_touched() -> None:
    world = running()
    world.secret(NAME, {"token": b"theirs"})
    before = world.snapshot()[SECRET]
    ask(world)
    work(world)
    assert why(world).startswith(f"False NameConflict: Secret {NAME} exists and belongs to somebody else")
    assert world.snapshot()[SECRET] == before
    assert revoked(world)
    world.server.delete(SECRET)
    work(world)
    assert why(world).startswith("True")


def test_a_tenant_that_cannot_be_reached_is_tried_again() -> None:
    world = ask(running())
    world.tenant_down = "no route to host"
    assert "no route to host" in work(world)
    assert "no route to host" in why(world)
    world.tenant_down = ""
    work(world)
    assert why(world).startswith("True")


# --- crashes and drift ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(3))
def test_a_crash_at_any_action_ends_in_one_token_that_works(number: int, when: str) -> None:
    world = ask(running())
    crash(world, number, when)
    assert work(world) == ""
    known = tenant_secret(world)
    assert known is not None
    assert token(world).secret == secret_data(known)["token-secret"].decode()
    assert why(world).startswith("True")


def half_made(**spec: Any) -> World:
    """The operator has died between the two Secrets."""
    world = ask(running(), **spec)
    crash(world, 1, "after")
    assert not world.exists("Secret", NAME)
    return world


def spoil(world: World, change: Callable[[Json], object]) -> Json:
    """Somebody changes the bootstrap Secret; returns what it is then."""
    ((ref, _),) = [each for each in world.tenant.objects.items() if each[0].kind == "Secret"]
    return world.tenant.edit(ref, change)


def test_after_a_crash_between_the_two_secrets_the_one_that_is_there_is_used() -> None:
    """Another operator may have read it meanwhile. It ends when it says, not when a new one would."""
    world = half_made()
    known = tenant_secret(world)
    assert known is not None
    world.passes(minutes=5)
    work(world)
    assert tenant_secret(world) == known
    assert token(world).secret == secret_data(known)["token-secret"].decode()
    assert request_status(world)["expiration"] == "2026-11-21T13:00:00Z"
    assert world.body("Secret", NAME)["metadata"]["annotations"][EXPIRES] == "2026-11-21T13:00:00Z"
    assert token_plan(world).actions == ()


def text(**data: str | None) -> Callable[[Json], object]:
    def change(body: Json) -> None:
        for key, value in data.items():
            body["data"].pop(key.replace("_", "-"), None)
            if value is not None:
                body["data"] |= encoded({key.replace("_", "-"): value.encode()})

    return change


@pytest.mark.parametrize(
    "change",
    [
        text(token_id="other1"),
        text(token_id=None),
        text(token_secret="SHOUTING12345678"),
        text(token_secret=None),
        text(expiration="2026-11-21T12:00:00Z"),
        text(expiration="2026-11-21T14:00:00Z"),
        text(expiration="soon"),
        text(expiration=None),
        text(usage_bootstrap_authentication="false"),
        text(usage_bootstrap_signing="true"),
        text(auth_extra_groups="system:bootstrappers:admins"),
        lambda body: body["data"].clear(),
    ],
)
def test_what_cannot_be_the_token_that_was_asked_for_is_replaced(change: Callable[[Json], object]) -> None:
    world = half_made()
    spoilt = spoil(world, change)
    assert work(world) == ""
    known = tenant_secret(world)
    assert known is not None
    assert known["metadata"]["uid"] != spoilt["metadata"]["uid"]
    assert known["metadata"]["name"] == spoilt["metadata"]["name"]
    assert token(world).secret == secret_data(known)["token-secret"].decode()
    assert secret_data(known)["expiration"] == b"2026-11-21T13:00:00Z"
    assert why(world).startswith("True")


def test_what_another_made_whose_clock_goes_a_little_faster_is_used() -> None:
    world = half_made()
    known = spoil(world, text(expiration="2026-11-21T13:04:00Z"))
    work(world)
    assert tenant_secret(world) == known
    assert request_status(world)["expiration"] == "2026-11-21T13:04:00Z", "what is said is what the tenant knows"


def test_a_bootstrap_secret_of_somebody_else_in_the_tenant_is_neither_trusted_nor_touched() -> None:
    world = half_made()
    theirs = spoil(world, lambda body: body["metadata"]["labels"].update({REQUEST_LABEL: "another"}))
    failure = work(world)
    assert "does not carry our labels" in failure
    assert why(world) == f"False WriteFailed: {failure}; it is tried again"
    assert not world.exists("Secret", NAME)
    delete(world)
    work(world)
    assert gone(world)
    assert tenant_secret(world) == theirs, "nor is it revoked"


def test_a_lost_secret_is_made_again_of_what_the_tenant_knows() -> None:
    """A machine that has the token may still be on its way; to revoke it, delete the request."""
    world = with_token(expiry="30m")
    old, known = token(world), tenant_secret(world)
    world.passes(minutes=20)
    world.server.delete(SECRET)
    work(world)
    assert token(world) == old
    assert tenant_secret(world) == known
    assert request_status(world)["expiration"] == "2026-11-21T12:30:00Z"


def test_if_both_are_lost_another_token_ends_when_the_first_would_have_ended() -> None:
    world = with_token(expiry="30m")
    old = token(world)
    world.passes(minutes=20)
    world.server.delete(SECRET)
    forget_in_tenant(world)
    work(world)
    assert token(world).id == old.id
    assert token(world).secret != old.secret
    known = tenant_secret(world)
    assert known is not None
    assert secret_data(known)["expiration"] == b"2026-11-21T12:30:00Z"
    assert request_status(world)["expiration"] == "2026-11-21T12:30:00Z"


def test_an_expired_token_is_not_made_again() -> None:
    world = with_token(expiry="30m")
    world.passes(hours=2)
    work(world)
    world.server.delete(SECRET)
    work(world)
    assert not world.exists("Secret", NAME)
    assert why(world).startswith("False Expired")


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["metadata"]["labels"].clear(),
        lambda body: body["metadata"]["labels"].update({"k0smotron.io/role": "other"}),
        lambda body: body["metadata"]["annotations"].pop(EXPIRES),
    ],
)
def test_metadata_of_the_secret_comes_back_and_the_token_stays(change: Callable[[Json], object]) -> None:
    world = with_token()
    before = world.body("Secret", NAME)
    world.passes(minutes=10)
    world.server.edit(SECRET, change)
    work(world)
    after = world.body("Secret", NAME)
    assert after["data"] == before["data"]
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    assert after["metadata"]["annotations"][EXPIRES] == before["metadata"]["annotations"][EXPIRES]


def test_a_token_that_was_taken_out_of_its_secret_is_put_there_again() -> None:
    world = with_token()
    old, uid = token(world), world.body("Secret", NAME)["metadata"]["uid"]
    world.server.edit(SECRET, lambda body: body["data"].clear())
    work(world)
    assert token(world) == old
    assert world.body("Secret", NAME)["metadata"]["uid"] == uid


def test_garbled_times_end_nothing() -> None:
    world = with_token()
    world.server.edit(SECRET, lambda body: body["metadata"]["annotations"].update({EXPIRES: "tomorrow"}))
    world.server.merge_patch(REQUEST, {"status": {"expiration": "2026-01-01"}}, status=True)
    world.passes(minutes=10)
    work(world)
    assert request_status(world)["expiration"] == "2026-11-21T13:10:00Z", "taken for as young as it may be"


# --- a tenant that moves, or is another one ---------------------------------------------------------------------------


def test_the_token_follows_the_tenants_address() -> None:
    """The same token, so that one that was handed out works for as long as the old address does."""
    world = with_token()
    old, known = token(world), tenant_secret(world)
    before = world.body("Secret", NAME)
    world.changes(externalAddress="api.example")
    world.settle()
    world.passes(minutes=10)
    world.events.clear()
    assert work(world) == ""
    assert token(world) == dataclasses.replace(old, server="https://api.example:31234")
    assert tenant_secret(world) == known
    after = world.body("Secret", NAME)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"]["annotations"][EXPIRES] == before["metadata"]["annotations"][EXPIRES]
    assert why(world) == CREATED
    assert token_plan(world).actions == ()
    assert world.events == [], "nobody has to be told"


def test_a_failure_beside_a_token_that_can_be_used_is_said_once_and_takes_nothing_from_it() -> None:
    world = with_token()
    world.events.clear()
    world.server.edit(SECRET, lambda body: body["metadata"]["labels"].clear())
    world.refuses = lambda action: "admission webhook says no" if isinstance(action, PatchMetadata) else ""
    failure = work(world)
    assert why(world) == CREATED, "the token can be used"
    said = request_status(world)["conditions"][1]
    assert (said["type"], said["status"], said["reason"]) == ("JoinTokenSecretUpToDate", "False", "WriteFailed")
    assert "admission webhook says no" in said["message"]
    assert [(each.type, each.reason) for each in world.events] == [("Warning", "WriteFailed")]
    assert "admission webhook says no" in world.events[0].message
    work(world, failure=failure)
    assert len(world.events) == 1, "nobody is told again"
    world.refuses = lambda action: ""
    work(world, failure=failure)
    assert [each["type"] for each in request_status(world)["conditions"]] == ["JoinTokenSecretCreated"]
    assert len(world.events) == 1


def test_a_token_that_cannot_be_made_is_said_by_an_event() -> None:
    world = ask(running())
    world.events.clear()
    world.tenant_down = "no route to host"
    work(world)
    [event] = world.events
    assert (event.type, event.reason) == ("Warning", "WriteFailed")
    assert "no route to host" in event.message


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(2))
def test_a_crash_while_the_token_follows(number: int, when: str) -> None:
    world = with_token()
    old = token(world)
    world.changes(externalAddress="api.example")
    world.settle()
    crash(world, number, when)
    work(world)
    assert token(world) == dataclasses.replace(old, server="https://api.example:31234")
    known = tenant_secret(world)
    assert known is not None
    assert secret_data(known)["token-secret"].decode() == old.secret


def test_while_the_tenant_cannot_be_asked_a_token_for_its_old_address_is_said_to_be_useless() -> None:
    world = with_token()
    old = token(world)
    world.changes(externalAddress="api.example")
    world.settle()
    world.tenant_down = "no route to host"
    failure = work(world)
    assert why(world) == f"False WriteFailed: {failure}; it is tried again"
    assert "no route to host" in failure
    assert token(world) == old, "it may work yet"
    world.tenant_down = ""
    work(world, failure=failure)
    assert why(world).startswith("True")
    assert token(world).server == "https://api.example:31234"


def test_an_operator_outside_the_cluster_cannot_let_the_token_follow_and_says_so() -> None:
    world = with_token()
    world.settings = dataclasses.replace(world.settings, reaches_tenants=False)
    work(world)
    assert why(world).startswith("True")
    world.changes(externalAddress="api.example")
    world.settle()
    work(world)
    assert why(world).startswith("False TenantNotReachable")


def test_a_spec_that_cannot_be_read_changes_nothing_about_a_token() -> None:
    world = with_token()
    world.changes(replicas="many")
    world.settle()
    assert token_plan(world).actions == ()
    work(world)
    assert why(world).startswith("True")


def made_anew(world: World, **spec: Any) -> World:
    """The Cluster is deleted with its data, and another one is asked for under its name."""
    world.deletes()
    world.settle()
    for claim in world.server.every("PersistentVolumeClaim"):
        world.server.delete(Ref.of(claim))
    world.settle()
    world.tenant.objects.clear()
    return world.asks(**spec)


def test_another_tenant_of_the_same_name_gets_a_token_of_its_own() -> None:
    """The old one is good for nothing: another CA, and nobody knows its secret half. The request's time goes on."""
    world = with_token()
    old = token(world)
    made_anew(world)
    work(world)
    assert why(world).startswith("False ClusterNotReady")
    assert [each.reason for each in world.events][-1] == "ClusterNotReady"
    world.passes(minutes=10)
    world.settle()
    assert work(world) == ""
    new, known = token(world), tenant_secret(world)
    assert known is not None
    assert (new.ca, new.id) == (world.data("demo-ca")["tls.crt"], old.id)
    assert new.ca != old.ca
    assert new.secret == secret_data(known)["token-secret"].decode() != old.secret
    assert secret_data(known)["expiration"] == b"2026-11-21T13:00:00Z"
    assert why(world) == CREATED


def test_another_tenant_with_the_same_ca_and_address_is_another_one_too() -> None:
    """The user brought the CA, so nothing in the token tells the two lives apart; but the tenant forgot the token."""
    world = World()
    world.secret("brought", running().data("demo-ca"))
    spec = {"certificateRefs": [{"name": "brought", "type": "ca"}], "externalAddress": "api.example"}
    world.asks(**spec).settle()
    ask(world)
    assert work(world) == ""
    old = token(world)
    assert old.ca == world.data("brought")["tls.crt"]
    made_anew(world, **spec).settle()
    assert tenant_secret(world) is None
    work(world)
    known = tenant_secret(world)
    assert known is not None
    assert token(world).ca == old.ca
    assert token(world).secret == secret_data(known)["token-secret"].decode()


def test_a_request_whose_time_is_over_gets_no_token_for_another_tenant() -> None:
    world = with_token(expiry="30m")
    made_anew(world).settle()
    world.passes(hours=1)
    work(world)
    assert why(world).startswith("False Expired")
    assert tenant_secret(world) is None


def test_a_ca_that_the_user_renews_reaches_the_token() -> None:
    world = World()
    world.secret("brought", running().data("demo-ca"))
    world.asks(certificateRefs=[{"name": "brought", "type": "ca"}]).settle()
    ask(world)
    work(world)
    old = token(world)
    renewed = World(material=Material(seed=2)).asks().settle().data("demo-ca")
    brought = Ref(api_version="v1", kind="Secret", namespace=NAMESPACE, name="brought")
    world.server.edit(brought, lambda body: body.update(data=encoded(renewed)))
    work(world)
    assert token(world) == dataclasses.replace(old, ca=renewed["tls.crt"])
