"""Certificates in time: renewal, restarts for the sake of k0s' own leaves, and CAs that users bring."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
import yaml

from hosted_cp.hosting.leaves import LIFE as LEAVES_LIFE
from hosted_cp.hosting.leaves import MADE as LEAVES_MADE
from hosted_cp.pki.recipes import CARecipe, LeafRecipe
from hosted_cp.planning.actions import Apply, Create, Ref, Replace
from hosted_cp.planning.conditions import rfc3339
from hosted_cp.planning.recipes import Inputs
from tests.hosting.pretend_server import encoded
from tests.hosting.variants import brought, settled
from tests.hosting.world import NAMESPACE, START, Material, World, running

YEAR = timedelta(hours=8760)
LEAVES = ("demo-apiserver-etcd-client", "demo-etcd-peer", "demo-etcd-server")


def at(world: World, when: timedelta) -> World:
    world.now = START + when
    return world


def planned(world: World) -> set[tuple[str, str]]:
    return {(type(each).__name__, each.ref.name) for each in world.plan().actions}


def without_restarts() -> World:
    """A tenant whose k0s makes leaves that live for ten years, so that nothing restarts it in between."""
    life = {"spec": {"api": {"ca": {"certificatesExpireAfter": "87600h"}}}}
    return running(k0sConfig={"apiVersion": "k0s.k0sproject.io/v1beta1", **life})


# --- leaves and kubeconfig -------------------------------------------------------------------------------------------


def test_the_kubeconfig_is_renewed_at_half_of_its_life_and_leaves_at_two_thirds() -> None:
    world = without_restarts()
    assert planned(at(world, YEAR / 2 - timedelta(hours=1))) == set()
    assert planned(at(world, YEAR / 2 + timedelta(hours=1))) == {("Replace", "demo-kubeconfig")}
    old = world.data("demo-kubeconfig")
    world.settle()
    assert world.data("demo-kubeconfig") != old
    assert planned(at(world, YEAR * 2 / 3 - timedelta(hours=1))) == set()
    assert planned(at(world, YEAR * 2 / 3 + timedelta(hours=1))) == {("Replace", name) for name in LEAVES}
    pods = {k: v for k, v in world.snapshot().items() if k.kind in ("Pod", "StatefulSet")}
    world.settle()
    assert {k: v for k, v in world.snapshot().items() if k.kind in ("Pod", "StatefulSet")} == pods, "nothing restarts"
    assert world.available


def test_the_plan_wakes_when_the_next_renewal_is_due() -> None:
    world = without_restarts()
    due = world.plan().retry_after
    assert due is not None
    assert abs(due - YEAR.total_seconds() / 2) < 600
    world.passes(seconds=due + 1)
    assert planned(world) == {("Replace", "demo-kubeconfig")}
    world.passes(seconds=-2)
    assert planned(world) == set()


#: What holds everything else up: faults of the spec, one that cannot be read, and a field that is not acted on.
HELD_UP: list[dict[str, Any]] = [
    {"version": "v1.99.0", "externalAddress": "other.example"},
    {"replicas": "three"},
    {"remoteHostCluster": {"kubeconfigRef": {"name": "x", "key": "y"}}},
    {"patches": [{"target": {"kind": "x", "component": "y"}, "patch": {"type": "merge", "content": "{}"}}]},
]


@pytest.mark.parametrize("spec", HELD_UP, ids=lambda spec: next(iter(spec)))
def test_renewals_go_on_while_a_spec_is_refused_and_nothing_else_does(spec: dict[str, Any]) -> None:
    world = without_restarts()
    authorities = {name: world.data(name) for name in ("demo-ca", "demo-etcd", "demo-proxy", "demo-sa")}
    before = {name: world.data(name) for name in (*LEAVES, "demo-kubeconfig")}
    body = world.body("Secret", "demo-kubeconfig")
    world.changes(**spec)
    world.settle()
    others = {k: v for k, v in world.snapshot().items() if k != world.owner_ref and k.name not in before}
    due = world.plan().retry_after
    assert due is not None
    assert abs(due - YEAR.total_seconds() / 2) < 600
    world.passes(seconds=due + 1)
    assert planned(world) == {("Replace", "demo-kubeconfig")}
    world.settle()
    assert planned(at(world, YEAR * 2 / 3 + timedelta(hours=1))) == {("Replace", name) for name in LEAVES}
    world.settle()
    assert world.plan().actions == ()
    assert {name for name, data in before.items() if world.data(name) == data} == set()
    assert {name: world.data(name) for name in authorities} == authorities
    assert {k: v for k, v in world.snapshot().items() if k in others} == others
    after = world.body("Secret", "demo-kubeconfig")
    assert {k: v for k, v in after["metadata"].items() if k not in ("resourceVersion", "managedFields")} == {
        k: v for k, v in body["metadata"].items() if k not in ("resourceVersion", "managedFields")
    }
    assert world.condition("SpecAccepted")["status"] == "False"
    # When the spec is good again, what was renewed is what is wanted.
    writes = world.writes
    world.changes(**dict.fromkeys(spec))
    world.settle()
    assert world.condition("SpecAccepted")["status"] == "True"
    assert world.writes == writes


def test_a_renewal_that_nobody_can_sign_is_not_tried_and_what_is_gone_is_not_made() -> None:
    world = without_restarts()
    world.changes(version="v1.99.0")
    world.server.delete(Ref(api_version="v1", kind="Secret", namespace=NAMESPACE, name="demo-etcd"))
    world.server.delete(Ref(api_version="v1", kind="Secret", namespace=NAMESPACE, name="demo-kubeconfig"))
    at(world, YEAR * 2 / 3 + timedelta(hours=1))
    made = world.plan()
    assert made.actions == ()
    assert made.retry_after is not None
    assert made.retry_after > YEAR.total_seconds(), "only the leaves of k0s come to an end"
    world.changes(version=None)
    world.settle()
    made = world.plan()  # the kubeconfig is there again; the leaves of etcd wait for their authority
    assert made.actions == ()
    assert made.retry_after is not None
    assert made.retry_after > 3600


def test_a_kubeconfig_whose_tenant_meets_a_conflict_is_renewed() -> None:
    world = without_restarts()
    world.server.create(
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "kmc-demo", "namespace": NAMESPACE},
            "spec": {},
        }
    )
    world.changes(replicas=2)
    world.settle()
    assert world.why.startswith("NameConflict")
    at(world, YEAR / 2 + timedelta(hours=1))
    assert planned(world) == {("Replace", "demo-kubeconfig")}


def test_renewals_go_on_for_ever() -> None:
    world = without_restarts()
    renewed = woken = 0
    while world.now < START + 5 * YEAR:
        pause = world.plan().retry_after
        assert pause is not None
        woken += 1
        assert woken < 25, "a tenant must not wake all the time"
        world.passes(seconds=pause)
        before = len(world.done)
        world.settle()
        renewed += len(world.done) - before
    assert world.available
    assert 10 + 3 * 7 <= renewed <= 12 + 3 * 9
    assert max(world.minted[name, world.owner["metadata"]["uid"]] for name in ("demo-ca", "demo-etcd")) == 1


def test_nothing_wakes_for_a_leaf_that_ends_with_its_ca() -> None:
    """A CA that the user brought with little life left: a renewal would end no later, so none is due."""
    world = World().asks(k0sConfig=running_config("87600h"))
    world.secret("demo-etcd", short_lived("etcd-ca", timedelta(days=90)))
    world.settle()
    assert world.available
    world.now = START + timedelta(days=80)
    assert planned(world) == set()
    due = world.plan().retry_after
    assert due is not None
    assert due > 24 * 3600


def running_config(life: str) -> dict[str, object]:
    spec = {"api": {"ca": {"certificatesExpireAfter": life}}}
    return {"apiVersion": "k0s.k0sproject.io/v1beta1", "spec": spec}


def short_lived(name: str, life: timedelta) -> dict[str, bytes]:
    material = Material(seed=5)
    inputs = Inputs(now=START, entropy=material.entropy, new_key=material.new_key, secrets={})
    return dict(CARecipe(common_name=name, life=life).fulfil(inputs))


def test_a_new_address_renews_the_kubeconfig_only() -> None:
    world = running()
    world.changes(externalAddress="192.0.2.99")
    assert {name for verb, name in planned(world) if verb == "Replace"} == {"demo-kubeconfig", "kmc-demo-config"}


# --- k0s' own leaves -------------------------------------------------------------------------------------------------


def test_controllers_restart_before_the_leaves_of_k0s_expire() -> None:
    world = running()
    first = made(world)
    assert planned(at(world, YEAR * 0.4 - timedelta(hours=1))) == set()
    at(world, YEAR * 0.5 + timedelta(hours=1)).settle()
    second = made(world)
    assert second > first
    assert world.available
    # Not again before it is time again.
    world.passes(days=100)
    world.settle()
    assert made(world) == second


def test_a_shorter_life_of_the_leaves_means_earlier_restarts() -> None:
    world = running(k0sConfig=running_config("240h"))
    assert planned(at(world, timedelta(hours=90))) == set()
    assert ("Apply", "kmc-demo") in planned(at(world, timedelta(hours=121)))


@pytest.mark.parametrize("spec", HELD_UP, ids=lambda spec: next(iter(spec)))
def test_controllers_restart_in_time_while_a_spec_is_refused(spec: dict[str, Any]) -> None:
    """As they run, whatever the refused spec says of how long leaves live."""
    world = running(k0sConfig=running_config("240h"))
    before = world.body("StatefulSet", "kmc-demo")
    world.changes(**spec, k0sConfig=running_config("87600h"))
    world.settle()
    due = world.plan().retry_after
    assert due is not None
    assert 240 * 0.4 <= due / 3600 <= 240 * 0.5
    world.passes(seconds=due - 1)
    assert planned(world) == set()
    world.passes(seconds=2)
    assert planned(world) == {("AnnotatePods", "kmc-demo")}
    world.settle()
    after = world.body("StatefulSet", "kmc-demo")
    assert made(world) == rfc3339(world.now)
    before["spec"]["template"]["metadata"]["annotations"][LEAVES_MADE] = made(world)
    assert after["spec"] == before["spec"], "and nothing else has changed"
    assert world.plan().retry_after == pytest.approx(due, abs=1), "and again"
    # When the spec is good again, nothing restarts for the sake of it.
    world.changes(**dict.fromkeys(spec), k0sConfig=running_config("240h"))
    world.settle()
    assert world.body("StatefulSet", "kmc-demo")["spec"] == after["spec"]
    assert world.plan().actions == ()


def test_controllers_that_could_not_start_again_are_not_restarted() -> None:
    world = running(k0sConfig=running_config("240h"), version="v1.36.3+k0s.2")
    world.changes(version="v1.99.0")
    kept = world.body("Secret", "demo-ca")
    world.server.delete(Ref.of(kept))
    at(world, timedelta(hours=121)).settle()
    assert planned(world) == set()
    pause = world.plan().retry_after
    assert pause is not None
    assert pause > 3600
    world.server.create({key: value for key, value in kept.items() if key != "status"})
    assert planned(world) == {("AnnotatePods", "kmc-demo")}


@pytest.mark.parametrize("life", ["", "long", "-5", "0"])
def test_a_spoilt_life_of_the_leaves_comes_back_and_restarts_nobody_meanwhile(life: str) -> None:
    world = running(k0sConfig=running_config("240h"))
    world.changes(version="v1.99.0")
    ref = Ref.of(world.body("StatefulSet", "kmc-demo"))
    world.server.edit(ref, lambda body: body["metadata"]["annotations"].update({LEAVES_LIFE: life}))
    at(world, timedelta(hours=121)).settle()
    assert planned(world) == set()
    world.changes(version=None)
    at(world, timedelta(hours=1)).settle()
    assert world.body("StatefulSet", "kmc-demo")["metadata"]["annotations"][LEAVES_LIFE] == str(240 * 3600)


def test_tenants_of_one_hour_do_not_restart_in_one_hour() -> None:
    due = set()
    for number in range(8):
        world = World(name=f"t{number}")
        for _ in range(number):  # other tenants have other UIDs
            world.secret(f"x{_}", {})
        world.asks().settle()
        pause = world.plan().retry_after
        assert pause is not None
        due.add(round(pause / 3600))
    assert len(due) >= 7
    assert max(due) - min(due) > 24


@pytest.mark.parametrize("annotation", ["", "yesterday", "2026-01-01", "2026-01-01T00:00:00", "2999-01-01T00:00:00Z"])
def test_a_spoilt_date_of_the_leaves_is_made_anew(annotation: str) -> None:
    world = running()
    ref = Ref.of(world.body("StatefulSet", "kmc-demo"))
    world.server.edit(
        ref, lambda body: body["spec"]["template"]["metadata"]["annotations"].update({LEAVES_MADE: annotation})
    )
    world.passes(hours=1)
    (action,) = world.plan().actions
    assert isinstance(action, Apply)
    world.settle()
    assert made(world) == "2026-11-21T13:00:00Z"
    assert world.plan().actions == ()


def made(world: World) -> str:
    found: str = world.body("StatefulSet", "kmc-demo")["spec"]["template"]["metadata"]["annotations"][LEAVES_MADE]
    return found


# --- what users bring ------------------------------------------------------------------------------------------------


def test_a_brought_ca_is_used_byte_for_byte_and_never_written() -> None:
    world = settled("brought-ca")
    for purpose in ("ca", "etcd"):
        body = world.body("Secret", f"demo-{purpose}")
        assert world.data(f"demo-{purpose}") == brought(purpose)
        assert "ownerReferences" not in body["metadata"]
        assert "labels" not in body["metadata"]
    assert world.data("demo-etcd-server")["ca.crt"] == brought("etcd")["tls.crt"]
    world.changes(replicas=2)
    world.deletes()
    world.settle()
    assert world.data("demo-ca") == brought("ca"), "the user's Secret outlives the tenant"


def test_named_authorities_reach_pods_and_kubeconfig() -> None:
    world = settled("certificate-refs")
    pod = world.body("StatefulSet", "kmc-demo")["spec"]["template"]["spec"]
    shown = str(next(volume for volume in pod["volumes"] if volume["name"] == "hosted-cp-pki"))
    assert "our-ca" in shown
    assert "our-sa" in shown
    assert not world.exists("Secret", "demo-ca")
    assert ("our-ca", world.owner["metadata"]["uid"]) not in world.minted


def other_leaf() -> dict[str, bytes]:
    material = Material(seed=9)
    inputs = Inputs(
        now=START, entropy=material.entropy, new_key=material.new_key, secrets={"ca": brought("ca")}
    )  # fmt: skip
    return dict(LeafRecipe(common_name="no ca", signer="ca").fulfil(inputs))


BAD = {
    "no certificate": ({"tls.crt": b"hello", "tls.key": brought("ca")["tls.key"]}, "tls.crt"),
    "another key": (
        {"tls.crt": brought("ca")["tls.crt"], "tls.key": brought("ca", seed=3)["tls.key"]},
        "is not the key of",
    ),
    "no key": ({"tls.crt": brought("ca")["tls.crt"]}, "the key tls.key is missing"),
    "a chain": (
        {"tls.crt": brought("ca")["tls.crt"] + brought("ca", seed=3)["tls.crt"], "tls.key": brought("ca")["tls.key"]},
        "exactly one",
    ),
    "no authority": (other_leaf(), "may not sign certificates"),
    "expired": (short_lived("old", timedelta(seconds=-1)), "expired at"),
}


@pytest.mark.parametrize("purpose", ["ca", "proxy", "etcd"])
@pytest.mark.parametrize("fault", BAD)
def test_a_brought_ca_that_k0s_would_replace_is_refused_and_nothing_starts(purpose: str, fault: str) -> None:
    data, words = BAD[fault]
    world = World()
    world.secret(f"demo-{purpose}", data)
    world.asks().settle()
    assert world.why.startswith(f"SecretsMissing: Secret demo-{purpose}: ")
    assert words in world.why
    assert "put exactly one certificate (PEM) under tls.crt" in world.why
    assert world.condition("CertificatesAvailable")["reason"] == "AuthorityUnusable"
    assert not world.exists("Secret", "kmc-demo-config")
    assert not world.exists("StatefulSet", "kmc-demo"), "k0s would silently make a CA of its own"
    assert world.failure == "", "nothing is tried that cannot work"
    lines = [line for value in data.values() for line in value.decode().splitlines() if len(line) > 40]
    assert not any(line in str(world.status) for line in lines)
    # Correcting the Secret heals the tenant.
    world.server.merge_patch(
        Ref(api_version="v1", kind="Secret", namespace=NAMESPACE, name=f"demo-{purpose}"),
        {"data": encoded(brought(purpose))},
    )
    world.settle()
    assert world.available


def test_a_named_secret_that_does_not_exist_is_named_and_awaited() -> None:
    world = World().asks(certificateRefs=[{"type": "etcd", "name": "our-etcd"}]).settle()
    assert world.why.startswith("SecretsMissing: spec.certificateRefs: Secret our-etcd for etcd does not exist")
    assert world.failure == ""
    world.secret("our-etcd", brought("etcd"))
    world.settle()
    assert world.available
    assert world.data("demo-etcd-peer")["ca.crt"] == brought("etcd")["tls.crt"]


def test_a_brought_key_pair_that_does_not_match_is_refused() -> None:
    world = World()
    world.secret("demo-sa", {"tls.crt": brought("sa")["tls.crt"], "tls.key": brought("sa", seed=3)["tls.key"]})
    world.asks().settle()
    assert "Secret demo-sa: tls.key is not the private half of tls.crt" in world.why
    assert "put a public key (PEM) under tls.crt and its private key under tls.key" in world.why
    assert not world.exists("StatefulSet", "kmc-demo")
    ref = Ref(api_version="v1", kind="Secret", namespace=NAMESPACE, name="demo-sa")
    world.server.merge_patch(ref, {"data": encoded(brought("sa"))})
    assert world.settle().available


def test_leaves_follow_a_ca_that_the_user_exchanged() -> None:
    world = settled("brought-ca")
    world.server.merge_patch(
        Ref(api_version="v1", kind="Secret", namespace=NAMESPACE, name="demo-etcd"),
        {"data": encoded(brought("etcd", seed=3))},
    )
    assert {("Replace", name) for name in LEAVES} <= planned(world)
    world.settle()
    assert world.data("demo-etcd-server")["ca.crt"] == brought("etcd", seed=3)["tls.crt"]


def our_ca(world: World, data: Mapping[str, bytes]) -> None:
    ref = Ref(api_version="v1", kind="Secret", namespace=NAMESPACE, name="our-ca")
    world.server.merge_patch(ref, {"data": encoded(data)})


def test_a_ca_that_somebody_exchanges_under_a_running_tenant_changes_nothing() -> None:
    """Every worker and every client would be cut off; where the data volume is kept, no pod would start again."""
    world = settled("certificate-refs")
    before = {ref: seen for ref, seen in world.snapshot().items() if ref.kind not in ("Cluster",)}
    our_ca(world, brought("ca", seed=3))
    world.settle()
    said = world.condition("CertificatesAvailable")
    assert (said["status"], said["reason"]) == ("False", "AuthorityUnusable")
    assert "Secret our-ca holds another CA than the one that this tenant runs with" in said["message"]
    assert "delete StatefulSet kmc-demo" in said["message"]
    assert world.available
    assert {ref.name for ref, seen in world.snapshot().items() if before.get(ref, seen) != seen} == {"our-ca"}
    our_ca(world, brought("ca"))
    world.settle()
    assert world.condition("CertificatesAvailable")["status"] == "True"
    assert {ref.name for ref, seen in world.snapshot().items() if before.get(ref, seen) != seen} == {"our-ca"}


def test_another_ca_named_for_a_running_tenant_is_taken_when_it_is_made_anew() -> None:
    world = running()
    world.secret("our-ca", brought("ca"))
    before = world.data("demo-kubeconfig")
    world.changes(certificateRefs=[{"type": "ca", "name": "our-ca"}])
    world.settle()
    assert "spec.certificateRefs: Secret our-ca holds another CA" in world.condition("CertificatesAvailable")["message"]
    assert world.data("demo-kubeconfig") == before
    world.server.delete(Ref.of(world.body("StatefulSet", "kmc-demo")))
    world.settle()
    assert world.available
    assert world.condition("CertificatesAvailable")["status"] == "True"
    kubeconfig = yaml.safe_load(world.data("demo-kubeconfig")["value"])
    authority = base64.b64decode(kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"])
    assert authority == brought("ca")["tls.crt"]


def test_every_generated_ca_has_the_name_that_k0s_renews_leaves_under() -> None:
    world = running()
    names = {
        purpose: facts.certificates["tls.crt"].subject
        for purpose in ("ca", "proxy", "etcd")
        if (facts := world.view().children["Secret", f"demo-{purpose}"].secret) is not None
    }
    assert names == {"ca": "kubernetes-ca", "proxy": "kubernetes-front-proxy-ca", "etcd": "etcd-ca"}


@pytest.mark.parametrize(("variant", "algorithm"), [("etcd-1", "ECDSA-P256"), ("rsa", "RSA-2048")])
def test_all_keys_are_of_the_algorithm_that_was_asked_for(variant: str, algorithm: str) -> None:
    world = settled(variant)
    found = {
        facts.key_algorithm
        for child in world.view().children.values()
        if child.secret is not None
        for facts in child.secret.certificates.values()
    }
    assert found == {algorithm}
    assert {type(each) for each in world.done} >= {Create, Replace}
