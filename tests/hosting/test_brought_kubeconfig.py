"""A Secret `<n>-kubeconfig` of the user: gone on with, never written, and never passed off as good when it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest

from hosted_cp.pki.recipes import KubeconfigRecipe
from hosted_cp.planning.actions import Ref
from hosted_cp.planning.recipes import Inputs
from tests.hosting.capi_world import CapiWorld
from tests.hosting.pretend_server import Json, secret_data
from tests.hosting.world import NAMESPACE, World, running
from tests.pki.material import authority
from tests.pki.test_kubeconfig import config

NAME = "demo-kubeconfig"
SECRET = Ref(api_version="v1", kind="Secret", namespace=NAMESPACE, name=NAME)
LABEL = {"cluster.x-k8s.io/cluster-name": "demo"}
#: A running tenant, of which the user has a kubeconfig of his own making.
BASE = running()


def kubeconfig(world: World, **parts: Any) -> bytes:
    """One that the tenant's administrator would make himself."""
    endpoint = world.status["controlPlaneEndpoint"]
    asked = {
        "cluster": "demo", "server": f"https://{endpoint['host']}:{endpoint['port']}", "signer": "demo-ca",
        "algorithm": "ECDSA-P256", **parts,
    }  # fmt: skip
    secrets = {"demo-ca": world.data("demo-ca") if asked["signer"] == "demo-ca" else authority()}
    inputs = Inputs(now=world.now, entropy=world.material.entropy, new_key=world.material.new_key, secrets=secrets)
    return dict(KubeconfigRecipe(**{**asked, "signer": "demo-ca"}).fulfil(inputs))["value"]


def brings(world: World, value: bytes, *, labels: Mapping[str, str] = MappingProxyType({})) -> Json:
    """The user puts his own in the place of ours."""
    if world.exists("Secret", NAME):
        world.server.delete(SECRET)
    world.secret(NAME, {"value": value})
    world.server.edit(SECRET, lambda body: body["metadata"].update(labels=dict(labels)))
    return world.server.get(SECRET)


def asked(world: World) -> dict[str, str]:
    [probe] = [each for each in world.plan().probes if each.key == "kubeconfig"]
    return dict(probe.arguments)


def test_one_that_leads_into_the_tenant_is_used_and_never_written() -> None:
    world = BASE.fork()
    before = brings(world, kubeconfig(world))
    world.settle()
    assert world.available, world.why
    said = world.condition("KubeconfigSecretAvailable")
    assert (said["status"], said["reason"]) == ("True", "Brought")
    assert "never renewed" in said["message"]
    # It was tried where the operator reaches the tenant, with its own credentials.
    assert asked(world)["authority"] == NAME
    assert asked(world)["kubeconfig"] == "value"
    assert asked(world)["serverName"] == "kmc-demo-nodeport.tenants.svc"
    world.passes(hours=24 * 300)
    world.settle()
    assert world.body("Secret", NAME) == before
    assert next(each for each in world.status["certificates"] if each["name"] == "kubeconfig")["expires"]


def test_another_address_is_asked_itself() -> None:
    world = BASE.fork()
    brings(world, kubeconfig(world, server="https://tenant.example:7443"))
    world.settle()
    assert world.available
    assert (asked(world)["server"], asked(world)["serverName"]) == ("https://tenant.example:7443", "")


SPOILT: dict[str, tuple[Callable[[World], bytes], str]] = {
    "nothing to read": (lambda w: b"theirs", "is missing: write it under the key value"),
    "a program": (lambda w: config(user={"exec": {"command": "id"}}), "uses exec"),
    "another CA": (lambda w: kubeconfig(w, signer="other"), "has another CA than this control plane: embed tls.crt of"),
    "no CA": (lambda w: config(cluster={"server": "https://api.example:6443"}), "has no certificate-authority-data"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_one_that_cannot_be_good_is_told_and_stops_nothing_else(what: str) -> None:
    content, words = SPOILT[what]
    world = BASE.fork()
    before = brings(world, content(world))
    world.settle()
    assert world.why.startswith(
        "KubeconfigUnusable: the kubeconfig in Secret demo-kubeconfig, which is yours and is not"
    )
    assert words in world.why
    assert world.why.endswith("Or delete the Secret, and one is made")
    assert world.condition("KubeconfigSecretAvailable")["reason"] == "KubeconfigUnusable"
    assert world.condition("ControlPlaneFunctional")["status"] == "True"
    assert world.events[-1].reason == "KubeconfigUnusable"
    assert world.body("Secret", NAME) == before
    # The tenant is cared for all the same.
    world.changes(replicas=3)
    world.settle()
    assert world.body("StatefulSet", "kmc-demo")["spec"]["replicas"] == 3
    # Deleted, there is one of ours.
    world.server.delete(SECRET)
    world.settle()
    assert world.available
    assert world.body("Secret", NAME)["metadata"]["ownerReferences"]


def test_one_that_the_tenant_refuses_is_told() -> None:
    world = BASE.fork()
    brings(world, kubeconfig(world))
    world.answers["tenant-api"] = "GET /api/v1/namespaces/kube-system: 401 Unauthorized"
    world.settle()
    assert world.why.startswith("KubeconfigUnusable: ")
    assert "does not lead into this control plane (GET /api/v1/namespaces/kube-system: 401 Unauthorized)" in world.why


def test_it_ends_by_the_clock() -> None:
    world = BASE.fork()
    brings(world, kubeconfig(world))
    world.settle()
    assert world.available
    wait = world.plan().retry_after
    assert wait is not None
    world.now += timedelta(days=366)
    world.settle()
    assert "has a client certificate that ended at" in world.why


def test_a_tenant_that_begins_with_one_is_initialized_when_it_is_good() -> None:
    world = World()
    world.secret(NAME, {"value": b"theirs"})
    world.asks().settle()
    assert world.why.startswith("KubeconfigUnusable: ")
    assert world.status["initialized"] is False
    brings(world, kubeconfig(world))
    world.settle()
    assert world.available
    assert world.status["initialized"] is True
    assert world.condition("KubeconfigSecretAvailable")["reason"] == "Brought"


def test_outside_the_cluster_it_is_judged_by_sight() -> None:
    world = BASE.fork()
    world.settings = replace(world.settings, reaches_tenants=False)
    brings(world, kubeconfig(world))
    world.settle()
    assert not [each for each in world.plan().probes if each.key == "kubeconfig"]
    assert "has not been tried" in world.condition("KubeconfigSecretAvailable")["message"]


@pytest.mark.parametrize("mark", ["controller", "label"])
def test_what_somebody_else_controls_or_we_have_lost_is_still_in_the_way(mark: str) -> None:
    world = BASE.fork()
    value = secret_data(world.body("Secret", NAME))["value"]
    brings(world, value, labels={"hosted-cp.io/tenant-uid": "another"} if mark == "label" else {})
    if mark == "controller":
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x", "controller": True}
        world.server.edit(SECRET, lambda body: body["metadata"].update(ownerReferences=[owner]))
    world.reconcile()
    assert world.why.startswith(f"NameConflict: Secret {NAME} exist in namespace {NAMESPACE}")


def test_core_sees_only_what_is_labelled() -> None:
    world = CapiWorld().asks().belongs()
    world.settle()
    assert world.available, world.why
    value = kubeconfig(world)
    brings(world, value)
    world.settle()
    assert "lacks the label cluster.x-k8s.io/cluster-name=demo, without which Cluster API does not see it" in world.why
    brings(world, value, labels=LABEL)
    world.settle()
    assert world.available, world.why
