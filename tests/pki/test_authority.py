"""CAs and key pairs that users bring are taken whole or refused with a cause and a remedy."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hosted_cp.pki.authority import validate_authority, validate_key_pair
from hosted_cp.pki.keys import ALGORITHMS
from hosted_cp.pki.recipes import KeyPairRecipe, LeafRecipe
from tests.pki.material import NOW, authority, bare_authority, days, facts, inputs


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_generated_authorities_are_valid(algorithm: str) -> None:
    assert validate_authority(facts(authority(algorithm=algorithm)), now=NOW) is None
    assert validate_key_pair(facts(KeyPairRecipe(algorithm=algorithm).fulfil(inputs()))) is None


def test_a_bare_authority_of_a_user_is_valid() -> None:
    assert validate_authority(facts(bare_authority()), now=NOW) is None


def test_each_refusal_names_its_cause() -> None:
    ca, other = authority(), authority(seed="another")
    leaf = LeafRecipe(common_name="x", signer="ca").fulfil(inputs(secrets={"ca": ca}))
    refused = {
        "the key tls.key is missing": {"tls.crt": ca["tls.crt"]},
        "the key tls.crt is missing": {"tls.key": ca["tls.key"]},
        "tls.crt is not PEM": ca | {"tls.crt": b"x"},
        "tls.crt holds a key where the CA certificate is wanted": ca | {"tls.crt": ca["tls.key"]},
        "tls.crt holds 2 certificates": ca | {"tls.crt": ca["tls.crt"] + other["tls.crt"]},
        "tls.key holds a certificate where": ca | {"tls.key": ca["tls.crt"]},
        "tls.key is not the key of the certificate": ca | {"tls.key": other["tls.key"]},
        "may not sign certificates": leaf,
    }
    for says, data in refused.items():
        problem = validate_authority(facts(data), now=NOW)
        assert problem is not None
        assert says in problem
    assert "expired at 2036" in str(validate_authority(facts(ca), now=NOW + days(3650)))
    assert "not valid before 2026" in str(validate_authority(facts(ca), now=NOW - days(1)))


def test_an_algorithm_that_k0s_cannot_sign_with_is_refused() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name.from_rfc4514_string("CN=modern")
    made = x509.CertificateBuilder(name, name, key.public_key(), 7, NOW - days(1), NOW + days(1)).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    data = {
        "tls.crt": made.sign(key, None).public_bytes(Encoding.PEM),
        "tls.key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    }
    assert "Ed25519" in str(validate_authority(facts(data), now=NOW))


def test_key_pairs() -> None:
    pair, ca = KeyPairRecipe().fulfil(inputs()), authority()
    assert validate_key_pair(facts(ca)) is None
    assert "not the private half" in str(validate_key_pair(facts({**pair, "tls.key": ca["tls.key"]})))
    assert "private key is wanted" in str(validate_key_pair(facts({**pair, "tls.key": ca["tls.crt"]})))
    assert "missing" in str(validate_key_pair(facts({"tls.key": ca["tls.key"]})))
    assert "is not PEM" in str(validate_key_pair(facts({**pair, "tls.crt": b"x"})))
