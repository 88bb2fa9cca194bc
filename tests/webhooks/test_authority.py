"""The webhook's own CA over its whole life: at no moment is a certificate served that those who ask do not trust."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from hosted_cp.kube.webhook_names import BUNDLE, CA_SECRET
from hosted_cp.pki.recipes import LeafRecipe
from hosted_cp.planning.recipes import Inputs
from hosted_cp.webhooks.authority import Step, authority_recipe, bundle, next_step, serving_recipe, with_bundle
from tests.pki.material import NOW, Source

RECIPE = serving_recipe(dns_names=["hosted-cp-webhook.hosted-cp.svc"], ip_addresses=["127.0.0.1"])
Data = Mapping[str, bytes]


class Life:
    """Both Secrets, and time."""

    def __init__(self) -> None:
        self.now: datetime = NOW
        self.authority: Data | None = None
        self.serving: Data | None = None
        self.steps: list[Step] = []
        self._source = Source("life")

    def settle(self, recipe: LeafRecipe = RECIPE) -> datetime:
        """Do what has to be done now; returns when to look again."""
        for _ in range(8):
            todo = next_step(authority=self.authority, serving=self.serving, recipe=recipe, now=self.now)
            if todo.step is Step.NONE:
                assert todo.again is not None
                return todo.again
            self.steps.append(todo.step)
            if todo.step is Step.NEW_CA:
                made = authority_recipe().fulfil(self._inputs({}))
                self.authority = with_bundle(made, former=self.authority, now=self.now)
            else:
                assert self.authority is not None
                self.serving = recipe.fulfil(self._inputs({CA_SECRET: self.authority}))
        raise AssertionError(f"not settled: {self.steps}")

    def _inputs(self, secrets: Mapping[str, Data]) -> Inputs:
        source = self._source
        return Inputs(now=self.now, entropy=source.entropy, new_key=source.new_key, secrets=secrets)

    def signer(self) -> bytes:
        """The CA of the bundle that signed what is served; raises if there is none."""
        assert self.serving is not None
        assert self.authority is not None
        leaf = x509.load_pem_x509_certificate(self.serving["tls.crt"])
        for pem in bundle(self.authority):
            try:
                leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(pem))
            except Exception:  # noqa: BLE001 - several kinds of refusal
                continue
            return pem
        raise AssertionError("signed by nobody in the bundle")


def test_a_first_start_makes_both_and_then_nothing() -> None:
    life = Life()
    again = life.settle()
    assert life.steps == [Step.NEW_CA, Step.NEW_CERTIFICATE]
    assert timedelta(days=59) < again - NOW < timedelta(days=61)
    assert life.authority is not None
    assert life.authority[BUNDLE] == life.authority["tls.crt"]
    assert life.serving is not None
    context = ssl.create_default_context(cadata=life.authority[BUNDLE].decode())
    assert len(context.get_ca_certs()) == 1


def test_twelve_years_without_anybody_in_the_dark() -> None:
    """What the leader wrote 30 days ago is still enough: the operator may be down for a month at any moment."""
    life = Life()
    written: list[tuple[datetime, tuple[bytes, ...]]] = []
    rotations = 0
    while life.now < NOW + timedelta(days=365 * 12):
        before = life.authority
        again = life.settle()
        assert life.authority is not None
        rotations += before is not None and before["tls.crt"] != life.authority["tls.crt"]
        written.append((life.now, bundle(life.authority)))
        known = [trusted for when, trusted in written if when <= life.now - timedelta(days=30)]
        if known:
            assert life.signer() in known[-1]
        assert life.serving is not None
        end = x509.load_pem_x509_certificate(life.serving["tls.crt"]).not_valid_after_utc
        assert end - life.now > timedelta(days=25)
        assert again > life.now
        life.now = min(again, life.now + timedelta(days=20))
    assert rotations == 1
    # A CA that has ended is trusted no longer once the next one comes.
    assert len(bundle(life.authority or {})) == 2


@pytest.mark.parametrize(
    "names", [{"dns_names": ["other.svc"]}, {"dns_names": ["hosted-cp-webhook.hosted-cp.svc"], "ip_addresses": []}]
)
def test_other_names_are_another_certificate(names: dict[str, Any]) -> None:
    life = Life()
    life.settle()
    life.steps.clear()
    life.settle(serving_recipe(**names))
    assert life.steps == [Step.NEW_CERTIFICATE]


@pytest.mark.parametrize("damage", [{}, {"tls.crt": b"x", "tls.key": b"y"}, {"tls.key": b""}])
def test_what_somebody_spoilt_is_made_anew_and_the_old_is_trusted_on(damage: dict[str, bytes]) -> None:
    life = Life()
    life.settle()
    assert life.authority is not None
    old = life.authority["tls.crt"]
    life.serving = {**life.serving, **damage} if damage and life.serving else None
    life.steps.clear()
    life.settle()
    assert life.steps == [Step.NEW_CERTIFICATE]
    life.authority = {**life.authority, "tls.key": b"damaged"}
    life.steps.clear()
    life.settle()
    assert life.steps == [Step.NEW_CA]  # what is served is still good
    assert life.authority is not None
    assert bundle(life.authority)[1] == old
    assert life.signer() == old


def test_what_has_ended_is_replaced_at_once() -> None:
    life = Life()
    life.settle()
    life.now += timedelta(days=100)  # nobody was there to renew
    life.steps.clear()
    life.settle()
    assert life.steps == [Step.NEW_CERTIFICATE]
    life.now += timedelta(days=365 * 11)
    life.steps.clear()
    life.settle()
    assert life.steps == [Step.NEW_CA, Step.NEW_CERTIFICATE]
    assert len(bundle(life.authority or {})) == 1
