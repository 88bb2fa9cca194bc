"""Drift: whatever somebody does to an object of ours, exactly the action that repairs it follows, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from hosted_cp.k0s.config import CONTENT_SEAL, DSN_KEY, SQLITE, config_digest, seal, value_digest
from hosted_cp.planning.actions import HASH_ANNOTATION, Apply, Create, PatchMetadata, Ref, Replace
from tests.hosting.pretend_server import Json, encoded
from tests.hosting.variants import settled
from tests.hosting.world import World

BASE = settled("etcd-3")
OWNED = sorted(BASE.owned())
PLAIN = [each for each in OWNED if each[0] != "Secret"]
SECRETS = [each for each in OWNED if each[0] == "Secret"]
ONCE = {("Secret", f"demo-{purpose}") for purpose in ("ca", "proxy", "sa", "etcd")}


def ref_of(world: World, kind: str, name: str) -> Ref:
    return Ref.of(world.body(kind, name))


def drifted(kind: str, name: str, change: Callable[[Json], object]) -> World:
    world = BASE.fork()
    before = world.server.get(ref_of(world, kind, name))
    after = world.server.edit(ref_of(world, kind, name), change)
    assert after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"], "the change changed nothing"
    return world


def repaired(world: World, kind: str, name: str, *, by: type[Any]) -> Any:
    """The one action that is planned; carried out, it brings the object back and the tenant to rest."""
    (action,) = world.plan().actions
    assert isinstance(action, by)
    assert (action.ref.kind, action.ref.name) == (kind, name)
    world.settle()
    assert world.plan().actions == ()
    assert world.available
    return action


def content(body: Json) -> Json:
    """What counts of an object: all but versions."""
    metadata = {key: body["metadata"].get(key) for key in ("name", "labels", "annotations", "ownerReferences")}
    annotations = {k: v for k, v in (metadata["annotations"] or {}).items() if k != "hosted-cp.io/own-metadata"}
    return {"spec": body.get("spec"), "metadata": {**metadata, "annotations": annotations}}


FIELDS: dict[str, Callable[[Json], object]] = {
    "Service": lambda body: body["spec"]["ports"][0].update(targetPort=9999),
    "StatefulSet": lambda body: body["spec"]["template"]["spec"].update(enableServiceLinks=True),
    "PodDisruptionBudget": lambda body: body["spec"].update(maxUnavailable=3),
}
REMOVED: dict[str, Callable[[Json], object]] = {
    "Service": lambda body: body["spec"].pop("selector"),
    "StatefulSet": lambda body: body["spec"]["template"]["spec"].pop("affinity"),
    "PodDisruptionBudget": lambda body: body["spec"].pop("unhealthyPodEvictionPolicy"),
}


@pytest.mark.parametrize(("kind", "name"), PLAIN)
@pytest.mark.parametrize("changes", [FIELDS, REMOVED], ids=["changed", "removed"])
def test_a_changed_or_removed_field_comes_back(
    kind: str, name: str, changes: dict[str, Callable[[Json], object]]
) -> None:
    world = drifted(kind, name, changes[kind])
    repaired(world, kind, name, by=Apply)
    assert content(world.body(kind, name)) == content(BASE.body(kind, name))


@pytest.mark.parametrize(("kind", "name"), OWNED)
def test_a_removed_label_comes_back(kind: str, name: str) -> None:
    world = drifted(kind, name, lambda body: body["metadata"]["labels"].pop("app.kubernetes.io/component"))
    repaired(world, kind, name, by=PatchMetadata if kind == "Secret" else Apply)
    assert content(world.body(kind, name)) == content(BASE.body(kind, name))


@pytest.mark.parametrize(("kind", "name"), PLAIN)
def test_a_removed_hash_is_written_again(kind: str, name: str) -> None:
    world = drifted(kind, name, lambda body: body["metadata"]["annotations"].pop(HASH_ANNOTATION))
    repaired(world, kind, name, by=Apply)


@pytest.mark.parametrize(("kind", "name"), OWNED)
def test_what_others_add_stays(kind: str, name: str) -> None:
    world = drifted(kind, name, lambda body: body["metadata"]["labels"].update(theirs="kept"))
    assert world.plan().actions == ()
    assert world.body(kind, name)["metadata"]["labels"]["theirs"] == "kept"


@pytest.mark.parametrize(("kind", "name"), OWNED)
def test_an_object_whose_owner_was_stripped_is_foreign(kind: str, name: str) -> None:
    """Nothing says any more that it is ours: it is reported and not touched. A certificate's Secret is the user's."""
    world = drifted(kind, name, lambda body: body["metadata"].pop("ownerReferences"))
    before = world.snapshot()
    assert world.plan().actions == ()
    world.settle()
    assert {ref: seen for ref, seen in world.snapshot().items() if ref.kind != "Cluster"} == {
        ref: seen for ref, seen in before.items() if ref.kind != "Cluster"
    }
    if (kind, name) in ONCE:
        assert world.available
    else:
        assert world.why.startswith(f"NameConflict: {kind} {name} exist")
        assert "Delete or rename" in world.why


@pytest.mark.parametrize(("kind", "name"), [each for each in OWNED if each not in ONCE])
def test_a_deleted_object_is_made_again(kind: str, name: str) -> None:
    world = BASE.fork()
    world.server.delete(ref_of(world, kind, name))
    repaired(world, kind, name, by=Create)
    assert world.decisions() == BASE.decisions()
    if kind == "Service":
        # Workers hold the node ports, so the same ones are asked for.
        assert world.body(kind, name)["spec"]["ports"] == BASE.body(kind, name)["spec"]["ports"]


@pytest.mark.parametrize(("kind", "name"), sorted(ONCE))
def test_a_lost_authority_of_a_running_tenant_is_reported_and_never_made_again(kind: str, name: str) -> None:
    world = BASE.fork()
    kept = world.body(kind, name)
    world.server.delete(ref_of(world, kind, name))
    world.settle()
    assert not world.exists(kind, name)
    assert world.minted[name, world.owner["metadata"]["uid"]] == 1
    said = world.condition("CertificatesAvailable")
    assert said["status"] == "False"
    assert f"Secret {name}: is gone" in said["message"]
    assert "bring the Secret back from a backup" in said["message"]
    assert world.available, "what runs goes on running"
    # Also nothing is made that would have to be signed by it.
    world.server.delete(ref_of(world, "Secret", "demo-etcd-peer"))
    world.server.delete(ref_of(world, "Secret", "demo-kubeconfig"))
    world.settle()
    assert world.exists("Secret", "demo-etcd-peer") is (name != "demo-etcd")
    assert world.exists("Secret", "demo-kubeconfig") is (name != "demo-ca")
    # Its return heals everything.
    world.server.create({key: value for key, value in kept.items() if key != "status"})
    world.settle()
    assert world.condition("CertificatesAvailable")["status"] == "True"
    assert world.exists("Secret", "demo-etcd-peer")
    assert world.exists("Secret", "demo-kubeconfig")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("demo-etcd-server", "tls.crt"),
        ("demo-etcd-peer", "tls.key"),
        ("demo-apiserver-etcd-client", "ca.crt"),
        ("demo-kubeconfig", "value"),
        ("kmc-demo-config", "k0s.yaml"),
        ("kmc-demo-config", "authentication.json"),
        ("kmc-demo-etcd-permit", "initial-cluster"),
    ],
)
@pytest.mark.parametrize("how", ["spoilt", "removed"])
def test_content_that_is_made_by_a_recipe_comes_back(name: str, key: str, how: str) -> None:
    def change(body: Json) -> None:
        if how == "removed":
            del body["data"][key]
        else:
            body["data"][key] = encoded({key: b"spoilt"})[key]

    world = drifted("Secret", name, change)
    repaired(world, "Secret", name, by=Replace)
    assert set(world.data(name)) == set(BASE.data(name))
    if name in ("kmc-demo-config", "kmc-demo-etcd-permit"):
        assert world.data(name) == BASE.data(name)


@pytest.mark.parametrize("key", ["k0s.yaml", "authentication.json", "pgpass", "more"])
@pytest.mark.parametrize("how", ["spoilt", "removed"])
def test_a_config_with_an_address_from_a_secret_comes_back(key: str, how: str) -> None:
    """No plan knows what stood there; it is told by a seal that something else does."""
    before = settled("kine-secret")
    world = before.fork()
    ref = ref_of(world, "Secret", "kmc-demo-config")

    def change(body: Json) -> None:
        if how == "removed" and key != "more":
            del body["data"][key]
        else:
            body["data"][key] = encoded({key: b"spoilt"})[key]

    world.server.edit(ref, change)
    repaired(world, "Secret", "kmc-demo-config", by=Replace)
    assert world.data("kmc-demo-config") == before.data("kmc-demo-config")
    assert world.body("StatefulSet", "kmc-demo")["spec"] == before.body("StatefulSet", "kmc-demo")["spec"]


def test_a_spoilt_seal_is_made_anew() -> None:
    before = settled("kine-secret")
    world = before.fork()
    ref = ref_of(world, "Secret", "kmc-demo-config")
    world.server.edit(ref, lambda body: body["metadata"]["annotations"].update({CONTENT_SEAL: "0" * 32}))
    repaired(world, "Secret", "kmc-demo-config", by=Replace)
    sealed = world.body("Secret", "kmc-demo-config")["metadata"]["annotations"][CONTENT_SEAL]
    assert sealed == before.body("Secret", "kmc-demo-config")["metadata"]["annotations"][CONTENT_SEAL]


def test_nothing_that_others_may_read_tells_whether_a_password_was_guessed() -> None:
    """Whoever knows the config and tries passwords needs the digest of a private key, too."""
    world = settled("kine-secret")
    config, dsn = world.body("Secret", "kmc-demo-config"), world.data("database")[DSN_KEY]
    told = str(config["metadata"]) + str(world.body("StatefulSet", "kmc-demo"))
    digest = hashlib.sha256(dsn).hexdigest()[:32]
    digests = {name: value_digest(value) for name, value in world.data("kmc-demo-config").items()}
    key = value_digest(world.data("demo-ca")["tls.key"])
    assert seal(digests, key_digest=key) in told
    for guess in (digest, seal(digests, key_digest=""), *digests.values()):
        assert guess not in told
    known = json.loads(world.data("kmc-demo-config")["k0s.yaml"])
    known["spec"]["storage"]["kine"]["dataSource"] = SQLITE
    said = config["metadata"]["annotations"]["hosted-cp.io/config-digest"]
    assert said == config_digest(known, seal({DSN_KEY: digest}, key_digest=key))
    assert said != config_digest(known, digest)


def test_a_node_port_that_somebody_changed_comes_back() -> None:
    world = drifted(
        "Service", "kmc-demo-nodeport", lambda body: body["spec"]["ports"][0].update(nodePort=30999)
    )  # fmt: skip
    repaired(world, "Service", "kmc-demo-nodeport", by=Apply)
    assert world.body("Service", "kmc-demo-nodeport")["spec"] == BASE.body("Service", "kmc-demo-nodeport")["spec"]


def test_labels_that_the_user_no_longer_has_go_from_every_object() -> None:
    world = settled("users-labels")
    world.server.edit(world.owner_ref, lambda body: body["metadata"]["labels"].pop("team"))
    world.settle()
    for body in world.owned().values():
        assert "team" not in body["metadata"]["labels"]
        assert body["metadata"]["annotations"]["owner"] == "anna"


def test_a_field_that_is_no_longer_wanted_goes() -> None:
    world = settled("resources")
    world.changes(resources=None)
    world.settle()
    container = world.body("StatefulSet", "kmc-demo")["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"] == {"requests": {"cpu": "100m", "memory": "350Mi"}}


def test_repair_waits_until_a_dying_object_is_gone() -> None:
    world = BASE.fork()
    ref = ref_of(world, "Service", "kmc-demo-etcd")
    world.server.edit(ref, lambda body: body["metadata"].update(finalizers=["theirs/f"]))
    world.server.delete(ref)
    world.reconcile()
    assert "deletionTimestamp" in world.body("Service", "kmc-demo-etcd")["metadata"]
    world.server.edit(ref, lambda body: body["metadata"].pop("finalizers"))
    world.settle()
    assert "deletionTimestamp" not in world.body("Service", "kmc-demo-etcd")["metadata"]
