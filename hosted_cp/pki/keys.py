"""Names of key algorithms, and how the keys of each are written and used.

Making a key draws randomness, so it is done elsewhere and injected (`hosted_cp.planning.recipes.Inputs.new_key`), which
is called with one of the names in `ALGORITHMS`.

ECDSA P-256 is the default because it is proven with k0s for every pre-provisioned key, and four keys of a tenant cost
50 microseconds instead of the 150 milliseconds of RSA-2048. Ed25519 is left out: k0s cannot sign with it, and the
Kubernetes API server refuses it for service accounts.
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

DEFAULT_ALGORITHM = "ECDSA-P256"

#: What a recipe may ask for.
ALGORITHMS = (DEFAULT_ALGORITHM, "ECDSA-P384", "RSA-2048", "RSA-4096")

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

_CURVES = {"secp256r1": "ECDSA-P256", "secp384r1": "ECDSA-P384", "secp521r1": "ECDSA-P521"}


def algorithm_of(key: object) -> str:
    """The name of a public key's algorithm; for those outside `ALGORITHMS` the closest honest description."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name, f"ECDSA-{key.curve.name}")
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA-{key.key_size}"
    return type(key).__name__.removesuffix("PublicKey").lstrip("_") or "unknown"


def can_sign_for_k0s(algorithm: str) -> bool:
    """Whether k0s (cfssl) can sign leaves with a CA key of this algorithm, and Go's TLS accepts the result."""
    if algorithm.startswith("RSA-"):
        return int(algorithm.removeprefix("RSA-")) >= 2048
    return algorithm in _CURVES.values()


def signature_hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512:
    """The hash to sign with: as strong as the key."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if key.curve.key_size > 384:
            return hashes.SHA512()
        if key.curve.key_size > 256:
            return hashes.SHA384()
    return hashes.SHA256()


def public_key_digest(spki: bytes) -> str:
    """SHA-256 of a DER SubjectPublicKeyInfo, hex: the name of a key in all facts."""
    return hashlib.sha256(spki).hexdigest()


def spki(key: PublicKey) -> bytes:
    """DER SubjectPublicKeyInfo of a public key."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def private_pem(key: PrivateKey) -> bytes:
    """PKCS#1 for RSA and SEC1 for EC: the forms that k0s itself writes (`k0s` reads PKCS#8 too)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def public_pem(key: PublicKey) -> bytes:
    """PKIX `PUBLIC KEY`, the form of k0s's `sa.pub`."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
