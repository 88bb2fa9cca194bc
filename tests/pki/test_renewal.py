"""What the recipe makes is current until it is due, and every change of the recipe or the signer is noticed."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.pki.recipes import KubeconfigRecipe, LeafRecipe
from hosted_cp.pki.renewal import (
    kubeconfig_is_current,
    leaf_is_current,
    renew_at,
    why_renew_kubeconfig,
    why_renew_leaf,
)
from hosted_cp.planning.observed import SecretFacts
from tests.pki.material import NOW, authority, bare_authority, days, facts, inputs

CA = authority()
CA_FACTS = facts(CA)
LEAF = LeafRecipe(
    common_name="etcd-server",
    organizations=("etcd-server",),
    dns_names=("kmc-demo-etcd", "localhost"),
    ip_addresses=("127.0.0.1",),
    signer="demo-etcd",
    include_ca=True,
)
CONFIG = KubeconfigRecipe(cluster="demo", server="https://203.0.113.7:31000", signer="demo-etcd")


def made(recipe: LeafRecipe | KubeconfigRecipe, *, now: datetime = NOW, ca: Mapping[str, bytes] = CA) -> SecretFacts:
    return facts(recipe.fulfil(inputs(now=now, seed="leaf", secrets={recipe.signer: ca})))


def why(recipe: LeafRecipe, found: SecretFacts, *, signer: SecretFacts = CA_FACTS, now: datetime = NOW) -> str:
    return why_renew_leaf(found, recipe=recipe, signer_facts=signer, now=now) or ""


def why_config(
    recipe: KubeconfigRecipe, found: SecretFacts, *, signer: SecretFacts = CA_FACTS, now: datetime = NOW
) -> str:
    return why_renew_kubeconfig(found, recipe=recipe, signer_facts=signer, now=now) or ""


@pytest.mark.parametrize("ca", [CA, bare_authority(), authority(algorithm="RSA-2048")], ids=["own", "bare", "rsa"])
def test_fresh_material_is_current_under_any_authority(ca: dict[str, bytes]) -> None:
    """Otherwise it would be renewed in every reconcile."""
    assert why(LEAF, made(LEAF, ca=ca), signer=facts(ca)) == ""
    assert why_config(CONFIG, made(CONFIG, ca=ca), signer=facts(ca)) == ""
    assert leaf_is_current(made(LEAF, ca=ca), recipe=LEAF, signer_facts=facts(ca), now=NOW)
    assert kubeconfig_is_current(made(CONFIG, ca=ca), recipe=CONFIG, signer_facts=facts(ca), now=NOW)


@given(
    dns_names=st.lists(st.from_regex(r"[a-zA-Z0-9][a-z0-9.-]{0,10}", fullmatch=True), max_size=4),
    ip_addresses=st.lists(st.ip_addresses().map(str), max_size=4),
    organizations=st.lists(st.text("abc:é", min_size=1, max_size=5), max_size=3),
    usages=st.sampled_from([("server",), ("client",), ("server", "client")]),
    include_ca=st.booleans(),
    microseconds=st.integers(0, 999_999),
)
def test_whatever_the_recipe_says_its_product_is_current(microseconds: int, **fields: Any) -> None:
    values: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    recipe = LeafRecipe(common_name="x", signer="demo-etcd", **values)
    now = NOW + timedelta(microseconds=microseconds)
    assert why(recipe, made(recipe, now=now), now=now) == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"common_name": "other"}, "common name"),
        ({"organizations": ()}, "organizations"),
        ({"dns_names": ("localhost",)}, "DNS names"),
        ({"ip_addresses": ()}, "IP addresses"),
        ({"usages": ("server",)}, "usages"),
        ({"algorithm": "RSA-2048"}, "key algorithm"),
        ({"life": days(30)}, "life would be shorter"),
    ],
)
def test_every_change_of_the_recipe_is_noticed(change: dict[str, Any], says: str) -> None:
    recipe = replace(LEAF, **change)
    assert says in why(recipe, made(LEAF))
    assert why(recipe, made(recipe)) == ""


def test_a_longer_life_waits_for_the_next_renewal() -> None:
    assert why(replace(LEAF, life=days(800)), made(LEAF)) == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"server": "https://203.0.113.8:31000"}, "moved from https://203.0.113.7:31000 to https://203.0.113.8:31000"),
        ({"cluster": "other"}, "entries have other names"),
        ({"user": "bob"}, "common name"),
        ({"organizations": ("viewers",)}, "organizations"),
        ({"algorithm": "ECDSA-P384"}, "key algorithm"),
    ],
)
def test_every_change_of_a_kubeconfig_recipe_is_noticed(change: dict[str, Any], says: str) -> None:
    recipe = replace(CONFIG, **change)
    assert says in why_config(recipe, made(CONFIG))
    assert why_config(recipe, made(recipe)) == ""


def test_a_new_authority_is_noticed_with_equal_and_with_other_name() -> None:
    for other in (authority(seed="again"), authority("renamed"), bare_authority()):
        without_ca = replace(LEAF, include_ca=False)
        assert "another CA" in why(without_ca, made(without_ca), signer=facts(other))
        assert "ca.crt is not the certificate" in why(LEAF, made(LEAF), signer=facts(other))
        assert "trusts another CA" in why_config(CONFIG, made(CONFIG), signer=facts(other))


def test_a_signer_without_certificate_makes_nothing_current() -> None:
    for signer in (facts({}), facts({"tls.crt": b"x"})):
        assert "has no certificate" in why(LEAF, made(LEAF), signer=signer)
        assert "has no certificate" in why_config(CONFIG, made(CONFIG), signer=signer)


def test_damaged_material_is_noticed() -> None:
    good = LEAF.fulfil(inputs(seed="leaf", secrets={LEAF.signer: CA}))
    damaged = {
        "tls.key is missing": {key: value for key, value in good.items() if key != "tls.key"},
        "tls.crt is not PEM": {**good, "tls.crt": b"x"},
        "tls.key is not the key of tls.crt": {**good, "tls.key": CA["tls.key"]},
        "tls.crt does not hold exactly one certificate": {**good, "tls.crt": good["tls.crt"] * 2},
        "ca.crt is not the certificate of demo-etcd": {key: value for key, value in good.items() if key != "ca.crt"},
    }
    for says, data in damaged.items():
        assert why(LEAF, facts(data)) == says or why(LEAF, facts(data)).startswith(says)
    config = CONFIG.fulfil(inputs(seed="leaf", secrets={CONFIG.signer: CA}))["value"].decode()
    text = yaml.safe_load(config)
    text["users"][0]["user"]["client-key-data"] = base64.b64encode(CA["tls.key"]).decode()
    assert why_config(CONFIG, facts({"value": yaml.safe_dump(text).encode()})).startswith("value is a kubeconfig whose")
    text["users"][0]["user"] = {"token": "x"}
    assert why_config(CONFIG, facts({"value": yaml.safe_dump(text).encode()})) == "it has no client certificate"
    assert "missing or no kubeconfig" in why_config(CONFIG, facts({}))
    assert "missing or no kubeconfig" in why_config(CONFIG, facts({"value": b"x"}))


def test_due_after_two_thirds_and_kubeconfigs_after_half() -> None:
    leaf, config = made(LEAF), made(CONFIG)
    life = days(365) + timedelta(minutes=5)
    begin = NOW - timedelta(minutes=5)
    due = renew_at(leaf.certificates["tls.crt"])
    assert due is not None
    assert due == begin + life * (2 / 3)
    second = timedelta(seconds=1)
    assert why(LEAF, leaf, now=due - second) == ""
    assert why(LEAF, leaf, now=due).startswith("it is due since 2026-10-30")
    assert why_config(CONFIG, config, now=begin + life / 2 - second) == ""
    assert "due since" in why_config(CONFIG, config, now=begin + life / 2)
    assert "expired at" in why(LEAF, leaf, now=NOW + days(365))


@pytest.mark.parametrize("recipe", [LEAF, CONFIG], ids=["leaf", "kubeconfig"])
def test_renewals_do_not_pile_up_before_the_end_of_an_authority(recipe: LeafRecipe | KubeconfigRecipe) -> None:
    """Play ten years, renewing whenever it is due: a few renewals a year, and none in the last days of the CA."""
    judge: Any = why if isinstance(recipe, LeafRecipe) else why_config
    now, renewals = NOW, 0
    found = made(recipe, now=now)
    while now < NOW + days(3649):
        now += days(1)
        if judge(recipe, found, now=now):
            found, renewals = made(recipe, now=now), renewals + 1
            assert judge(recipe, found, now=now) == ""
    assert 12 <= renewals <= 20
    certificate = found.certificates.get("tls.crt") or found.kubeconfigs["value"].client
    assert certificate is not None
    signer = CA_FACTS.certificates["tls.crt"]
    assert certificate.not_after == signer.not_after
    assert renew_at(certificate, signer=signer) is None
