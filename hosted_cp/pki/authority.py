"""Whether a Secret holds a usable certificate authority or key pair, judged by its facts.

Strict, because the alternative is silent: k0s makes a **new** CA when either half is missing, and its parser (cfssl)
takes exactly one certificate in `ca.crt`. A CA that a user brought is either used byte for byte or refused with a
reason, never repaired.
"""

from __future__ import annotations

from datetime import datetime

from hosted_cp.pki.keys import can_sign_for_k0s
from hosted_cp.planning.conditions import rfc3339
from hosted_cp.planning.observed import SecretFacts

CERTIFICATE = "tls.crt"
KEY = "tls.key"


def validate_authority(facts: SecretFacts, *, now: datetime) -> str | None:
    """Why these facts are not those of a CA that can sign now (cause and remedy), or None if they are."""
    problem = _missing_or_broken(facts)
    if problem:
        return problem
    certificate = facts.certificates.get(CERTIFICATE)
    if certificate is None:
        return f"{CERTIFICATE} holds a key where the CA certificate is wanted"
    if certificate.count != 1:
        return (
            f"{CERTIFICATE} holds {certificate.count} certificates, and k0s takes exactly one: store only the CA that "
            f"{KEY} belongs to"
        )
    if KEY not in facts.public_keys:
        return f"{KEY} holds a certificate where the CA's private key is wanted"
    if facts.public_keys[KEY] != certificate.public_key:
        return f"{KEY} is not the key of the certificate in {CERTIFICATE}; store the pair that belongs together"
    if not certificate.is_ca:
        return (
            f"{CERTIFICATE} ({certificate.subject!r}) may not sign certificates: it lacks CA:TRUE or the key usage "
            "keyCertSign; store a certificate authority"
        )
    if not can_sign_for_k0s(certificate.key_algorithm):
        return (
            f"{CERTIFICATE} has a key of type {certificate.key_algorithm}, which k0s cannot sign with; use ECDSA "
            "P-256, P-384 or P-521, or RSA with at least 2048 bits"
        )
    if now >= certificate.not_after:
        return f"{CERTIFICATE} ({certificate.subject!r}) expired at {rfc3339(certificate.not_after)}"
    if now < certificate.not_before:
        return f"{CERTIFICATE} ({certificate.subject!r}) is not valid before {rfc3339(certificate.not_before)}"
    return None


def validate_key_pair(facts: SecretFacts) -> str | None:
    """Why these facts are not those of a key pair for service account tokens, or None if they are.

    `tls.crt` may be a public key, or a certificate with it (both are what the API server reads).
    """
    problem = _missing_or_broken(facts)
    if problem:
        return problem
    if KEY not in facts.public_keys:
        return f"{KEY} holds a certificate where the private key is wanted"
    certificate = facts.certificates.get(CERTIFICATE)
    public = certificate.public_key if certificate else facts.public_keys.get(CERTIFICATE, "")
    if public != facts.public_keys[KEY]:
        return f"{KEY} is not the private half of {CERTIFICATE}; store the pair that belongs together"
    return None


def _missing_or_broken(facts: SecretFacts) -> str | None:
    for key in (CERTIFICATE, KEY):
        if key not in facts.digests:
            return f"the key {key} is missing; k0s needs both {CERTIFICATE} and {KEY}"
        if key in facts.faults:
            return f"{key} {facts.faults[key]}"
    return None
