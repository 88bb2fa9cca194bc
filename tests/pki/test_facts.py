"""Facts say what is public about a Secret, name every fault for a user, and never contain what is secret."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.pki.facts import BLOCK_LIMIT, PEM_LIMIT, certificate_facts, secret_facts, subject_public_key_info
from hosted_cp.pki.keys import public_key_digest, spki
from hosted_cp.pki.recipes import KeyPairRecipe, KubeconfigRecipe, LeafRecipe
from tests.pki.material import NOW, authority, facts, inputs, private_key

CA = authority()
PAIR = KeyPairRecipe().fulfil(inputs(seed="pair"))
CONFIG = KubeconfigRecipe(cluster="demo", server="https://api.example:6443", signer="demo-ca").fulfil(
    inputs(secrets={"demo-ca": CA})
)["value"]


def fault(value: bytes, key: str = "tls.crt") -> str:
    return facts({key: value}).faults.get(key, "")


def test_facts_of_a_leaf() -> None:
    recipe = LeafRecipe(
        common_name="etcd-server",
        organizations=("etcd",),
        dns_names=("localhost", "kmc-demo-etcd"),
        ip_addresses=("127.0.0.1", "::1"),
        usages=("server",),
        signer="demo-ca",
    )
    found = facts(recipe.fulfil(inputs(secrets={"demo-ca": CA})))
    leaf, ca = found.certificates["tls.crt"], facts(CA).certificates["tls.crt"]
    assert (leaf.subject, leaf.organizations, leaf.issuer) == ("etcd-server", ("etcd",), "kubernetes-ca")
    assert leaf.dns_names == {"localhost", "kmc-demo-etcd"}
    assert leaf.ip_addresses == {"127.0.0.1", "::1"}
    assert leaf.usages == {"server"}
    assert (leaf.is_ca, ca.is_ca) == (False, True)
    assert leaf.authority_key_id == ca.subject_key_id != ""
    assert (leaf.not_before, leaf.not_after) == (NOW - timedelta(minutes=5), NOW + timedelta(days=365))
    assert (leaf.key_algorithm, leaf.count) == ("ECDSA-P256", 1)
    assert found.public_keys == {"tls.key": leaf.public_key}
    assert found.faults == {}


def test_public_and_private_half_have_one_name() -> None:
    found = facts(PAIR)
    assert found.public_keys["tls.crt"] == found.public_keys["tls.key"] != facts(CA).public_keys["tls.key"]
    assert found.certificates == {}


def test_only_the_first_of_several_certificates_is_described() -> None:
    found = facts({"tls.crt": CA["tls.crt"] + authority("second")["tls.crt"]})
    assert (found.certificates["tls.crt"].count, found.certificates["tls.crt"].subject) == (2, "kubernetes-ca")
    assert found.faults == {}


@pytest.mark.parametrize("algorithm", ["ECDSA-P384", "RSA-2048"])
def test_algorithms_are_named_as_recipes_name_them(algorithm: str) -> None:
    assert facts(authority(algorithm=algorithm)).certificates["tls.crt"].key_algorithm == algorithm


@pytest.mark.parametrize("algorithm", ["ECDSA-P256", "ECDSA-P384", "RSA-2048"])
def test_the_public_half_is_read_where_it_stands(algorithm: str) -> None:
    """Also where a name holds what a key looks like."""
    decoy = spki(inputs(seed="decoy").new_key("ECDSA-P256").public_key())
    key = inputs().new_key(algorithm)
    name = x509.Name([x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, decoy, _ASN1Type.BitString)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))
    certificate = builder.sign(key, SHA256())
    assert decoy in certificate.tbs_certificate_bytes
    assert subject_public_key_info(certificate.tbs_certificate_bytes) == spki(key.public_key())
    found = certificate_facts(certificate)
    assert (found.public_key, found.key_algorithm) == (public_key_digest(spki(key.public_key())), algorithm)


def test_every_private_key_format_is_read() -> None:
    key = private_key(CA["tls.key"])
    pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert facts({"tls.key": pkcs8}).public_keys == facts({"tls.key": CA["tls.key"]}).public_keys
    with_parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + CA["tls.key"]
    assert facts({"tls.key": with_parameters}).public_keys == facts({"tls.key": CA["tls.key"]}).public_keys
    assert facts({"tls.key": with_parameters}).faults == {}


def test_faults_are_in_the_users_words() -> None:
    der = base64.b64decode(b"".join(CA["tls.crt"].splitlines()[1:-1]))
    key = private_key(CA["tls.key"])
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2"))
    traditional = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"hunter2"))
    cut = CA["tls.crt"][:-30]
    mangled = CA["tls.crt"].replace(b"\nM", b"\nA", 1)
    assert fault(CA["tls.crt"]) == ""
    assert fault(b" \n") == "is empty; PEM is wanted"
    assert fault(b"hello") == "is not PEM: it has no BEGIN line"
    assert "encoded twice" in fault(base64.b64encode(CA["tls.crt"]))
    assert "DER" in fault(der)
    assert "without its END line" in fault(cut)
    assert "no X.509 certificate" in fault(mangled)
    assert "encrypted private key" in fault(encrypted, "tls.key")
    assert "encrypted private key" in fault(traditional, "tls.key")
    assert "cannot be parsed" in fault(CA["tls.key"].replace(b"\nM", b"\nA", 1), "tls.key")
    assert "cannot be parsed" in fault(PAIR["tls.crt"].replace(b"\nM", b"\nA", 1))
    assert "neither a certificate nor a key" in fault(b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")
    assert "longer than" in fault(CA["tls.crt"] * (PEM_LIMIT // len(CA["tls.crt"]) + 1))


def test_other_keys_of_a_secret_are_no_pem_and_no_fault() -> None:
    found = facts({"password": b"hunter2", "url": b"postgres://u:p@h/db", "empty": b""})
    assert (found.certificates, found.public_keys, found.faults, found.kubeconfigs) == ({}, {}, {}, {})
    assert set(found.digests) == {"password", "url", "empty"}


def test_facts_of_a_database() -> None:
    key = "K0SMOTRON_KINE_DATASOURCE_URL"
    found = facts({key: b"postgres://bob:hunter2@db.example:5433/kine?sslmode=disable"})
    assert (found.databases[key].kind, found.databases[key].host, found.databases[key].port) == (
        "postgres",
        "db.example",
        5433,
    )
    assert "hunter2" not in repr(found)
    assert "bob" not in repr(found)
    for bad in (b"hunter2", b"\xff\xfe", b"postgres://bob:hunter2@db.example:x/kine"):
        found = facts({key: bad})
        assert found.databases == {}
        assert found.faults[key]
        assert "hunter2" not in repr(found)


def test_facts_of_a_kubeconfig() -> None:
    found = facts({"value": CONFIG})
    kubeconfig = found.kubeconfigs["value"]
    assert (kubeconfig.cluster, kubeconfig.user, kubeconfig.context) == (
        "demo-k0s",
        "demo-admin",
        "demo-admin@demo-k0s",
    )
    assert kubeconfig.server == "https://api.example:6443"
    assert kubeconfig.ca_fingerprint == facts(CA).certificates["tls.crt"].fingerprint
    assert kubeconfig.client is not None
    assert kubeconfig.client.organizations == ("system:masters",)
    assert kubeconfig.client.public_key == kubeconfig.client_public_key
    assert found.faults == {}
    assert facts({"value": json.dumps(yaml.safe_load(CONFIG)).encode()}).kubeconfigs == found.kubeconfigs


def changed(change: Any) -> bytes:
    config = yaml.safe_load(CONFIG)
    change(config)
    return yaml.safe_dump(config).encode()


def test_faults_of_kubeconfigs() -> None:
    def other_key(config: Any) -> None:
        config["users"][0]["user"]["client-key-data"] = base64.b64encode(PAIR["tls.key"]).decode()

    def no_base64(config: Any) -> None:
        config["clusters"][0]["cluster"]["certificate-authority-data"] = "*"

    def no_pem(config: Any) -> None:
        config["users"][0]["user"]["client-certificate-data"] = base64.b64encode(b"x").decode()

    assert "does not match its client certificate" in fault(changed(other_key), "value")
    assert "certificate-authority-data is not base64" in fault(changed(no_base64), "value")
    assert "client-certificate-data is not PEM" in fault(changed(no_pem), "value")
    assert "cannot be read: it is neither YAML nor JSON (line 1" in fault(b"clusters: [}\ncurrent-context: ]", "value")


def test_a_kubeconfig_with_another_credential_has_no_client_certificate() -> None:
    def token(config: Any) -> None:
        config["users"][0]["user"] = {"token": "abcdef.0123456789abcdef"}

    found = facts({"value": changed(token)})
    assert found.kubeconfigs["value"].client is None
    assert found.faults == {}
    assert "abcdef" not in repr(found)


def test_credentials_in_a_server_url_are_no_facts() -> None:
    def userinfo(config: Any) -> None:
        config["clusters"][0]["cluster"]["server"] = "https://bob:hunter2@api.example:6443/x?token=hunter3#hunter4"

    found = facts({"value": changed(userinfo)})
    assert found.kubeconfigs["value"].server == "https://api.example:6443/x"
    assert "hunter" not in repr(found)


def test_unsupported_keys_are_still_named() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    found = facts({"tls.key": pem, "tls.crt": public})
    assert found.public_keys["tls.key"] == found.public_keys["tls.crt"]
    assert found.faults == {}


@pytest.mark.parametrize("data", [CA, PAIR, {"value": CONFIG}], ids=["ca", "pair", "kubeconfig"])
def test_facts_never_contain_key_material(data: dict[str, bytes]) -> None:
    """No private number in any encoding, no line of a private PEM; public certificates are facts, not their bytes."""
    said = repr(facts(data))
    pem = data.get("tls.key") or base64.b64decode(yaml.safe_load(CONFIG)["users"][0]["user"]["client-key-data"])
    number = private_key(pem).private_numbers().private_value  # type: ignore[union-attr]
    for secret in (
        f"{number:x}",
        str(number),
        base64.b64encode(number.to_bytes(32)).decode(),
        repr(number.to_bytes(32)),
    ):
        assert secret not in said
    lines = [line.decode() for value in data.values() for line in value.splitlines() if len(line) > 20]
    assert lines
    assert not [line for line in lines if line in said]


PIECES = st.sampled_from(
    [
        b"-----BEGIN CERTIFICATE-----\n",
        b"-----END CERTIFICATE-----\n",
        b"-----BEGIN PRIVATE KEY-----\n",
        b"-----END PRIVATE KEY-----\n",
        b"-----BEGIN PUBLIC KEY-----",
        b"-----BEGIN -----",
        b"-----",
        b"AAAA\n",
        b"MIIB\n",
        CA["tls.crt"],
        CA["tls.key"],
        CONFIG,
        b"clusters: current-context: ",
        b"kind: Config\n",
        b"- [{",
        b"\x00\xff",
    ]
)


@given(value=st.one_of(st.binary(max_size=200), st.lists(PIECES | st.binary(max_size=5), max_size=8).map(b"".join)))
def test_any_bytes_give_facts_or_a_fault(value: bytes) -> None:
    for key in ("tls.crt", "value"):
        found = secret_facts(type="Opaque", data={key: value})
        assert set(found.digests) == {key}
        if key == "tls.crt":
            assert found.faults or found.certificates or found.public_keys


@given(
    config=st.recursive(
        st.none() | st.booleans() | st.text(max_size=5) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["clusters", "users", "contexts", "name", "cluster", "user", "context", "client-key-data"]
                ),
                inner,
                max_size=4,
            )
        ),
    ),
    current=st.text(max_size=3),
)
def test_any_shape_of_kubeconfig_is_survived(config: Any, current: str) -> None:
    document: dict[str, Any] = {"kind": "Config", "clusters": config, "current-context": current}
    document |= config if isinstance(config, dict) else {"users": config, "contexts": config}
    facts({"value": yaml.safe_dump(document).encode()})


def test_many_blocks_are_bounded() -> None:
    opened = b"-----BEGIN CERTIFICATE-----\n" * 4000
    assert "without its END line" in fault(opened)
    many = b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n" * 2000
    assert "no X.509 certificate" in fault(many)
    whole = CA["tls.crt"] * (BLOCK_LIMIT + 10)
    assert facts({"tls.crt": whole}).certificates["tls.crt"].count == BLOCK_LIMIT
