"""Keys and certificates for tests: what the executor injects in production, seeded here.

`inputs()` is all that a recipe needs; `authority()` and friends make whole Secrets. ECDSA keys derive from the seed, so
their tests are repeatable to the byte; RSA keys are drawn (slowly) once for each process.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from hosted_cp.pki.facts import secret_facts
from hosted_cp.pki.keys import PrivateKey, private_pem
from hosted_cp.pki.recipes import CARecipe
from hosted_cp.planning.observed import SecretFacts
from hosted_cp.planning.recipes import Inputs

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

_CURVES: Mapping[str, Callable[[], ec.EllipticCurve]] = {"ECDSA-P256": ec.SECP256R1, "ECDSA-P384": ec.SECP384R1}


@functools.cache
def _rsa(bits: int, which: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


class Source:
    """Entropy and keys from a seed. Every call gives something new; equal seeds give equal sequences."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._calls = 0
        self._rsa_keys = 0

    def entropy(self, count: int) -> bytes:
        self._calls += 1
        return hashlib.shake_256(f"{self._seed}/{self._calls}".encode()).digest(count)

    def new_key(self, algorithm: str) -> PrivateKey:
        if algorithm in _CURVES:
            return ec.derive_private_key(int.from_bytes(self.entropy(30)) + 1, _CURVES[algorithm]())
        self._rsa_keys += 1
        return _rsa(int(algorithm.removeprefix("RSA-")), self._rsa_keys)


def inputs(
    *, now: datetime = NOW, seed: str = "seed", secrets: Mapping[str, Mapping[str, bytes]] | None = None
) -> Inputs:
    """What recipes are fulfilled with, at `now`, with these Secrets at hand."""
    source = Source(seed)
    return Inputs(now=now, entropy=source.entropy, new_key=source.new_key, secrets=secrets or {})


def authority(
    common_name: str = "kubernetes-ca", *, now: datetime = NOW, seed: str = "", **recipe: Any
) -> dict[str, bytes]:
    """The data of a CA Secret. The seed defaults to the name: two CAs of one name need two seeds."""
    made = CARecipe(common_name=common_name, **recipe).fulfil(inputs(now=now, seed=seed or common_name))
    return dict(made)


def bare_authority() -> dict[str, bytes]:
    """A CA as users bring them: another name, no key usage, no key identifiers."""
    key = inputs(seed="bare").new_key("ECDSA-P256")
    name = x509.Name.from_rfc4514_string("CN=corp")
    made = x509.CertificateBuilder(name, name, key.public_key(), 7, NOW - days(30), NOW + days(300)).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    return {"tls.crt": made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), "tls.key": private_pem(key)}


def facts(data: Mapping[str, bytes]) -> SecretFacts:
    """The facts of a Secret of the type that all of ours have."""
    return secret_facts(type="cluster.x-k8s.io/secret", data=data)


def certificate(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def private_key(pem: bytes) -> PrivateKey:
    key = load_pem_private_key(pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    return key


def days(count: float) -> timedelta:
    return timedelta(days=count)
