"""The permit: from which observed facts it is granted, taken back, and never granted a second time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.hosting.etcd import permit
from hosted_cp.hosting.names import ADOPT, DECISIONS
from hosted_cp.hosting.wanted import settle
from hosted_cp.planning.actions import Create, Replace
from hosted_cp.planning.observed import Observed
from hosted_cp.planning.recipes import kept_by
from tests.hosting.etcd_world import (
    FORMER_UID,
    NAMES,
    UID,
    a_tenant,
    claim,
    inputs,
    observed,
    permit_data,
    permit_secret,
    pod,
    stateful_set,
)


def granted(*, members: int = 1) -> dict[str, bytes]:
    """The data of a permit as it is first made."""
    return permit_data(permit.wanted(a_tenant(replicas=members)).recipe)


def test_the_first_permit_lets_every_member_begin() -> None:
    wanted = permit.wanted(a_tenant(replicas=3))
    assert isinstance(settle(wanted, None, owner_uid=UID), Create)
    data = permit_data(wanted.recipe)
    assert data.pop("cluster-token") == b"01" * 16
    peers = [f"kmc-demo-etcd-{i}=https://kmc-demo-etcd-{i}.kmc-demo-etcd:2380".encode() for i in range(3)]
    assert data == {
        "bootstrapped": b"false",
        "initial-cluster": b",".join(peers),
        "initial-cluster-state": b"new",
        "member-0": b"new",
        "member-1": b"new",
        "member-2": b"new",
    }


def test_what_is_printed_is_public_and_stable() -> None:
    first, second = (permit.recipe(a_tenant(replicas=3)) for _ in range(2))
    assert first == second
    assert first.printed() == second.printed()
    assert "01" * 16 not in str(first.printed())


def test_all_members_ready_for_the_first_time_is_the_bootstrap() -> None:
    data = granted(members=3)
    t = a_tenant(permit_secret(data), stateful_set(members=3), pods=[pod(i) for i in range(3)], replicas=3)
    wanted = permit.wanted(t)
    action = settle(wanted, t.view.own("Secret", NAMES.etcd_permit), owner_uid=UID)
    assert isinstance(action, Replace)
    assert not action.recipe.needs, "the token is kept without being read"
    assert kept_by(action.recipe) == {permit.TOKEN}
    assert permit.is_bootstrapped(t), "k0s may be planned behind the action that records it"

    after = permit_data(wanted.recipe, kept=data)
    assert after["cluster-token"] == data["cluster-token"]
    assert after["bootstrapped"] == b"true"
    assert {after[f"member-{i}"] for i in range(3)} == {b"existing"}
    assert b"kmc-demo-etcd" not in after["initial-cluster"], "nobody can form a cluster from it any more"

    # And then there is nothing more to write, whatever the members do.
    for pods in ([], [pod(0, ready=False)], [pod(i) for i in range(3)]):
        later = a_tenant(permit_secret(after), stateful_set(members=3), pods=pods, replicas=3)
        assert permit.wanted(later).current
        assert permit.is_bootstrapped(later)


@pytest.mark.parametrize(
    ("case", "pods", "live"),
    [
        ("one is missing", [pod(0), pod(1)], stateful_set(members=3)),
        ("one is not ready", [pod(0), pod(1), pod(2, ready=False)], stateful_set(members=3)),
        ("one is going", [pod(0), pod(1), pod(2, deleting=True)], stateful_set(members=3)),
        ("one is of an older revision", [pod(0), pod(1), pod(2, revision="old")], stateful_set(members=3)),
        ("one is of another StatefulSet", [pod(0), pod(1), pod(2, owner="other")], stateful_set(members=3)),
        ("the revision is of an older spec", [pod(i) for i in range(3)], stateful_set(members=3, generation=2)),
        ("no revision is known", [pod(i) for i in range(3)], stateful_set(members=3, revision="")),
        ("the StatefulSet is going", [pod(i) for i in range(3)], stateful_set(members=3, deleting=True)),
        ("the StatefulSet has other replicas", [pod(i) for i in range(3)], stateful_set(members=2)),
    ],
)
def test_anything_less_is_no_bootstrap(case: str, pods: list[Observed], live: Observed) -> None:
    t = a_tenant(permit_secret(granted(members=3)), live, pods=pods, replicas=3)
    assert not permit.is_bootstrapped(t), case
    assert permit.wanted(t).current


@pytest.mark.parametrize(
    "evidence",
    [
        {"children": [stateful_set()]},
        {"children": [observed("StatefulSet", NAMES.control_plane)]},
        {"claims": [claim(0)]},
        {"children": [observed("Secret", NAMES.config, annotations={DECISIONS: '{"version":"v1.36.3+k0s.2"}'})]},
    ],
    ids=["etcd exists", "k0s exists", "a volume exists", "the config exists"],
)  # fmt: skip
def test_a_lost_permit_is_made_anew_as_bootstrapped(evidence: dict[str, list[Observed]]) -> None:
    t = a_tenant(*evidence.get("children", []), claims=evidence.get("claims", []))
    assert permit_data(permit.wanted(t).recipe)["bootstrapped"] == b"true"


def test_a_volume_of_somebody_else_is_no_sign_of_life() -> None:
    t = a_tenant(claims=[claim(0, tenant_uid=FORMER_UID)])
    assert permit_data(permit.wanted(t).recipe)["bootstrapped"] == b"false"


def test_a_permit_without_token_is_a_lost_one() -> None:
    spoilt = permit_secret({key: value for key, value in granted().items() if key != "cluster-token"})
    lived = a_tenant(spoilt, stateful_set())
    assert not permit.wanted(lived).current
    assert permit_data(permit.wanted(lived).recipe)["bootstrapped"] == b"true"
    assert permit_data(permit.wanted(a_tenant(spoilt)).recipe)["bootstrapped"] == b"false"


def test_nobody_can_turn_it_back_while_k0s_exists() -> None:
    """Somebody edits `bootstrapped` to false while a member has lost its volume: it stays out."""
    t = a_tenant(
        permit_secret(granted(members=3)), stateful_set(members=3), observed("StatefulSet", NAMES.control_plane),
        pods=[pod(0), pod(1)], replicas=3,
    )  # fmt: skip
    wanted = permit.wanted(t)
    assert not wanted.current
    assert permit_data(wanted.recipe, kept=granted(members=3))["member-2"] == b"existing"


@pytest.mark.parametrize("value", [b"", b"False", b"yes", b"true\n"])
def test_a_spoilt_record_counts_as_bootstrapped_and_is_repaired(value: bytes) -> None:
    t = a_tenant(permit_secret({**granted(), "bootstrapped": value}))
    assert permit.is_bootstrapped(t)
    assert not permit.wanted(t).current


def test_a_permit_of_somebody_else_grants_nothing() -> None:
    bootstrapped = {**granted(), "bootstrapped": b"true"}
    t = a_tenant(permit_secret(bootstrapped, owner="somebody"))
    assert not permit.is_bootstrapped(t)
    assert permit.recipe(t).needs == ()


def test_an_adopted_volume_is_named_to_its_member_and_nothing_begins_empty() -> None:
    claims = [
        claim(0, tenant_uid=FORMER_UID, annotations={ADOPT: UID}),
        claim(1, tenant_uid=None, annotations={ADOPT: UID}),
        claim(2, tenant_uid=FORMER_UID, annotations={ADOPT: "another tenant"}),
    ]
    data = permit_data(permit.wanted(a_tenant(claims=claims, replicas=3)).recipe)
    assert data["member-0"] == f"existing {FORMER_UID}".encode()
    assert data["member-1"] == b"existing unmarked"
    assert data["member-2"] == b"existing"
    assert data["bootstrapped"] == b"true"


def test_the_number_of_members_is_what_was_granted() -> None:
    three = granted(members=3)
    assert permit.members(a_tenant(permit_secret(three), replicas=1)) == 3
    assert permit.members(a_tenant(stateful_set(members=3), replicas=1)) == 3
    assert permit.members(a_tenant(replicas=5)) == 3
    assert permit.members(a_tenant(replicas=1)) == 1


@pytest.mark.parametrize(("adopted", "members"), [((), 1), ((0,), 1), ((0, 1, 2), 3), ((0, 2), 3)])
def test_who_adopts_volumes_of_several_members_gets_as_many(adopted: tuple[int, ...], members: int) -> None:
    """Each of them knows the others: one alone would wait for a quorum for ever."""
    claims = [claim(i, tenant_uid=FORMER_UID, annotations={ADOPT: UID}) for i in adopted]
    assert permit.members(a_tenant(claims=claims, replicas=1)) == members


def test_a_token_is_kept_while_it_is_there_and_made_where_it_is_gone() -> None:
    data = granted()
    kept = permit.recipe(a_tenant(permit_secret(data), stateful_set(), pods=[pod(0)]))
    assert permit.TOKEN not in kept.fulfil(inputs())
    without = {key: value for key, value in data.items() if key != permit.TOKEN}
    made = permit.recipe(a_tenant(permit_secret(without), stateful_set(), pods=[pod(0)]))
    assert kept_by(made) == frozenset()
    assert made.fulfil(inputs())[permit.TOKEN]


def test_a_secret_whose_facts_are_not_known_yet_is_left_alone() -> None:
    t = a_tenant(observed("Secret", NAMES.etcd_permit))
    assert permit.wanted(t).current
    assert not permit.is_bootstrapped(t)


@given(
    permit_state=st.sampled_from(["absent", "new", "bootstrapped", "no token", "foreign"]),
    has_stateful_set=st.booleans(),
    has_k0s=st.booleans(),
    ready=st.lists(st.booleans(), min_size=3, max_size=3),
    volumes=st.lists(st.sampled_from(["none", "ours", "former", "adopted"]), min_size=3, max_size=3),
)
def test_once_bootstrapped_no_view_grants_an_empty_volume(
    permit_state: str, has_stateful_set: bool, has_k0s: bool, ready: list[bool], volumes: list[str]
) -> None:
    """Same view, same permit; and no member may begin anew once k0s exists or the permit says so."""
    data = granted(members=3)
    children = []
    if permit_state == "new":
        children.append(permit_secret(data))
    elif permit_state == "bootstrapped":
        children.append(permit_secret({**data, "bootstrapped": b"true"}))
    elif permit_state == "no token":
        children.append(permit_secret({k: v for k, v in data.items() if k != "cluster-token"}))
    elif permit_state == "foreign":
        children.append(permit_secret(data, owner="somebody"))
    if has_stateful_set:
        children.append(stateful_set(members=3))
    if has_k0s:
        children.append(observed("StatefulSet", NAMES.control_plane))
    uids = {"ours": UID, "former": FORMER_UID, "adopted": FORMER_UID}
    claims = [
        claim(i, tenant_uid=uids[kind], annotations={ADOPT: UID} if kind == "adopted" else None)
        for i, kind in enumerate(volumes)
        if kind != "none"
    ]
    t = a_tenant(*children, pods=[pod(i, ready=r) for i, r in enumerate(ready)], claims=claims, replicas=3)
    wanted = permit.wanted(t)
    assert wanted == permit.wanted(t)
    assert isinstance(wanted.recipe, permit.PermitRecipe)
    public = wanted.recipe.public()
    begins = {public[f"member-{i}"] for i in range(3)} == {"new"}
    assert begins == (public["bootstrapped"] == "false") == (public["initial-cluster-state"] == "new")
    assert begins == ("kmc-demo-etcd-0=" in public["initial-cluster"])
    lost = permit_state in ("absent", "no token", "foreign") and (has_stateful_set or "ours" in volumes)
    if permit_state == "bootstrapped" or has_k0s or lost or "adopted" in volumes:
        assert not begins
    if begins:
        assert not permit.is_bootstrapped(t)
