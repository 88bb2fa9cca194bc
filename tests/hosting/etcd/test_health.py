"""What a user is told about etcd, from what its pods and volumes show."""

from __future__ import annotations

from typing import Any

import pytest

from hosted_cp.hosting.etcd import permit, store
from hosted_cp.hosting.tenant import Tenant
from tests.hosting.etcd_world import (
    a_tenant,
    claim,
    permit_data,
    permit_secret,
    pod,
    refused_pod,
    stateful_set,
)


def world(*, members: int = 3, bootstrapped: bool = True, **more: Any) -> Tenant:
    data = permit_data(permit.wanted(a_tenant(replicas=members)).recipe)
    if bootstrapped:
        first = a_tenant(
            permit_secret(data), stateful_set(members=members), pods=[pod(i) for i in range(members)], replicas=members
        )
        data = permit_data(permit.wanted(first).recipe, kept=data)
    return a_tenant(permit_secret(data), stateful_set(members=members), replicas=members, **more)


def test_all_is_well() -> None:
    t = world(pods=[pod(i) for i in range(3)], claims=[claim(i) for i in range(3)])
    assert store.explain(t) is None
    condition = store.condition(t)
    assert condition is not None
    assert (condition.status, condition.reason) == ("True", "AllMembersReady")


def test_before_anything_exists() -> None:
    cause = store.explain(a_tenant())
    assert cause is not None
    assert cause.starting
    assert "does not exist yet" in cause.message


@pytest.mark.parametrize("waiting", [True, False], ids=["in back-off", "just ended"])
@pytest.mark.parametrize("reason", ["EtcdFormerLife", "EtcdMemberLostVolume", "EtcdNoPermit", "EtcdVolumeUnusable"])
def test_a_refusal_is_told_in_the_words_of_the_init_step(reason: str, waiting: bool) -> None:
    said = f"{reason}: volume claim etcd-data-kmc-demo-etcd-0 is empty. Bring it back\n"
    t = world(members=1, pods=[refused_pod(0, said, waiting=waiting)])
    cause = store.explain(t)
    assert cause is not None
    assert cause.reason == reason
    assert cause.message == "pod kmc-demo-etcd-0: volume claim etcd-data-kmc-demo-etcd-0 is empty. Bring it back"
    assert not cause.starting


@pytest.mark.parametrize(
    ("pods", "others"),
    [
        ([refused_pod(0, "EtcdMemberLostVolume: x"), pod(1), pod(2)], "2 of 3 members are ready: etcd still serves"),
        ([refused_pod(0, "EtcdMemberLostVolume: x"), pod(1)], "1 of 3 members are ready: etcd does not serve"),
    ],
)
def test_it_says_whether_the_others_still_serve(pods: list[Any], others: str) -> None:
    condition = store.condition(world(pods=pods))
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "EtcdMemberLostVolume")
    assert others in condition.message


def test_a_refusal_that_the_pod_has_passed_since_is_over() -> None:
    passed = {
        "name": "permit",
        "state": {"terminated": {"exitCode": 0}},
        "lastState": {"terminated": {"exitCode": 1, "message": "EtcdMemberLostVolume: x"}},
    }
    t = world(members=1, pods=[pod(0, status={"initContainerStatuses": [passed]})])
    assert store.explain(t) is None


def test_only_reasons_of_the_closed_list_become_reasons() -> None:
    cause = store.explain(world(members=1, pods=[refused_pod(0, "Evil: \x1b[31mall is well")]))
    assert cause is not None
    assert cause.reason == "PodFails"


def test_a_volume_that_kubernetes_lost() -> None:
    cause = store.explain(world(members=1, pods=[pod(0, ready=False)], claims=[claim(0, phase="Lost")]))
    assert cause is not None
    assert cause.reason == "EtcdMemberLostVolume"
    assert "etcd-data-kmc-demo-etcd-0" in cause.message


def test_an_image_that_cannot_be_pulled() -> None:
    status = {
        "name": "permit",
        "image": "x",
        "state": {"waiting": {"reason": "ErrImagePull", "message": "no such tag"}},
    }
    pulling = pod(0, ready=False, status={"initContainerStatuses": [status]})
    cause = store.explain(world(members=1, bootstrapped=False, pods=[pulling]))
    assert cause is not None
    assert cause.reason == "ImageCannotBePulled"
    assert "correct spec.storage.etcd.image," in cause.message
    assert not cause.starting


@pytest.mark.parametrize(
    ("bootstrapped", "ready", "words"),
    [
        (False, 2, "2 of 3 etcd members are ready; the control plane starts when all have been for once"),
        (True, 1, "1 of 3 etcd members are ready; it does not serve until more than half of them are"),
        (True, 2, "2 of 3 etcd members are ready"),
    ],
)
def test_members_that_are_on_their_way(bootstrapped: bool, ready: int, words: str) -> None:
    t = world(bootstrapped=bootstrapped, pods=[pod(i, ready=i < ready) for i in range(3)])
    cause = store.explain(t)
    assert cause is not None
    assert (cause.reason, cause.message, cause.starting) == ("EtcdWaiting", words, True)
