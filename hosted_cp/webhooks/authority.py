"""What has to be done about the webhook's own CA and certificate, decided from what their Secrets hold. Pure.

A new CA is trusted only when the operator's leader has written it into our definitions, which may take a while (it may
be down). So a CA is never replaced and used at once. When it is due, first the certificate is renewed by the old CA;
then the new CA takes its place and the old one stays in the bundle. The next certificate, two months later, is the
first that the new CA signs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from hosted_cp.kube.webhook_names import BUNDLE, SERVICE, ca_secret
from hosted_cp.pki.authority import CERTIFICATE, KEY, validate_authority
from hosted_cp.pki.facts import secret_facts
from hosted_cp.pki.recipes import CARecipe, LeafRecipe
from hosted_cp.pki.renewal import LEAF_FRACTION, renew_at, why_renew_leaf
from hosted_cp.planning.observed import CertificateFacts

SERVING_LIFE = timedelta(days=90)
#: A certificate of this age or less was renewed because its CA is due.
_FRESH = timedelta(days=1)

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

Data = Mapping[str, bytes]


class Step(Enum):
    """The next thing to do."""

    NONE = "nothing"
    NEW_CA = "a new CA"
    NEW_CERTIFICATE = "a new certificate"


@dataclass(frozen=True, kw_only=True)
class Next:
    """One step, why, and when to look again if there is none."""

    step: Step
    why: str = ""
    again: datetime | None = None


def authority_recipe() -> CARecipe:
    """The CA: ten years, as all of ours."""
    return CARecipe(common_name="hosted-cp-webhook-ca")


def serving_recipe(*, dns_names: Sequence[str], ip_addresses: Sequence[str] = (), service: str = SERVICE) -> LeafRecipe:
    """The certificate to serve with, for the webhook behind a Service."""
    return LeafRecipe(
        common_name="hosted-cp-webhook",
        signer=ca_secret(service),
        dns_names=tuple(dns_names),
        ip_addresses=tuple(ip_addresses),
        usages=("server",),
        life=SERVING_LIFE,
    )


def next_step(*, authority: Data | None, serving: Data | None, recipe: LeafRecipe, now: datetime) -> Next:
    """What to do, from the data of both Secrets (None: there is none)."""
    if authority is None:
        return Next(step=Step.NEW_CA, why="there is none")
    facts = secret_facts(type="", data={key: authority[key] for key in (CERTIFICATE, KEY) if key in authority})
    if (problem := validate_authority(facts, now=now)) is not None:
        return Next(step=Step.NEW_CA, why=problem)
    signer = facts.certificates[CERTIFICATE]
    if serving is None:
        return Next(step=Step.NEW_CERTIFICATE, why="there is none")
    held = secret_facts(type="", data=serving)
    whys = [
        why_renew_leaf(held, recipe=recipe, signer_facts=each, now=now)
        for each in (secret_facts(type="", data={CERTIFICATE: pem}) for pem in bundle(authority))
    ]
    if all(whys):
        return Next(step=Step.NEW_CERTIFICATE, why=str(whys[0]))
    certificate = held.certificates[CERTIFICATE]
    due = signer.not_before + (signer.not_after - signer.not_before) * LEAF_FRACTION
    if now >= due:
        if now - certificate.not_before <= _FRESH:
            return Next(step=Step.NEW_CA, why="it is at two thirds of its life")
        return Next(step=Step.NEW_CERTIFICATE, why="its CA is about to be replaced")
    return Next(step=Step.NONE, again=_next_look(certificate, due))


def bundle(authority: Data) -> tuple[bytes, ...]:
    """The certificates, PEM, of all CAs that are trusted: the current one first."""
    found = [*_PEM.findall(authority.get(CERTIFICATE, b"")), *_PEM.findall(authority.get(BUNDLE, b""))]
    return tuple(dict.fromkeys(each + b"\n" for each in found))


def with_bundle(made: Data, *, former: Data | None, now: datetime) -> dict[str, bytes]:
    """The data of the Secret of a new CA: what was trusted before still is, as long as it is valid."""
    kept = [pem for pem in bundle(former or {}) if _ends_after(pem, now)]
    return {**made, BUNDLE: b"".join(dict.fromkeys((*bundle(made), *kept)))}


def _ends_after(pem: bytes, now: datetime) -> bool:
    certificate = secret_facts(type="", data={CERTIFICATE: pem}).certificates.get(CERTIFICATE)
    return certificate is not None and certificate.is_ca and certificate.not_after > now


def _next_look(certificate: CertificateFacts, ca_due: datetime) -> datetime:
    renewal = renew_at(certificate)
    return min(ca_due, renewal) if renewal is not None else ca_due
