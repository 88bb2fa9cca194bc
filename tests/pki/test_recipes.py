"""Recipes make what TLS peers accept, deterministically, and print nothing secret."""

from __future__ import annotations

import base64
import ipaddress
import json
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.pki.keys import ALGORITHMS
from hosted_cp.pki.recipes import CARecipe, KeyPairRecipe, KubeconfigRecipe, LeafRecipe
from hosted_cp.planning.recipes import Inputs, MaterialError, Recipe
from tests.pki.material import NOW, authority, bare_authority, certificate, days, inputs, private_key

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
DNS_NAME = st.lists(LABEL, min_size=1, max_size=5).map(".".join)
ADDRESS = st.ip_addresses().map(str)
EC_ALGORITHM = st.sampled_from([name for name in ALGORITHMS if name.startswith("ECDSA")])


def leaf(**fields: Any) -> LeafRecipe:
    return LeafRecipe(**({"common_name": "kubernetes", "signer": "demo-ca", "dns_names": ("localhost",)} | fields))


def kubeconfig(**fields: Any) -> KubeconfigRecipe:
    return KubeconfigRecipe(**({"cluster": "demo", "server": "https://203.0.113.7:6443", "signer": "demo-ca"} | fields))


def recipes() -> list[Recipe]:
    return [CARecipe(common_name="kubernetes-ca"), KeyPairRecipe(), leaf(include_ca=True), kubeconfig()]


def signing(**ca: Any) -> Inputs:
    return inputs(seed="leaf", secrets={"demo-ca": authority(**ca)})


def server_verifies(ca: bytes, pem: bytes, *, name: x509.DNSName | x509.IPAddress, at: datetime = NOW) -> None:
    """Raises VerificationError unless a TLS client would accept the server certificate."""
    verifier = PolicyBuilder().store(Store([certificate(ca)])).time(at).build_server_verifier(name)
    verifier.verify(certificate(pem), [])


def openssl_verifies(
    folder: Path, *, ca: bytes, pem: bytes, purpose: str, at: datetime = NOW, strict: bool = True
) -> bool:
    (folder / "ca.pem").write_bytes(ca)
    (folder / "leaf.pem").write_bytes(pem)
    command = ["openssl", "verify", "-purpose", purpose, "-attime", str(int(at.timestamp()))]
    command += ["-x509_strict"] if strict else []
    done = subprocess.run(
        [*command, "-CAfile", "ca.pem", "leaf.pem"], cwd=folder, check=False, capture_output=True, timeout=20
    )
    return done.returncode == 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_authority_of_every_algorithm_signs_leaves_of_every_algorithm(algorithm: str, tmp_path: Path) -> None:
    ca = authority(algorithm=algorithm)
    for leaf_algorithm in ALGORITHMS:
        made = leaf(algorithm=leaf_algorithm).fulfil(inputs(seed="leaf", secrets={"demo-ca": ca}))
        server_verifies(ca["tls.crt"], made["tls.crt"], name=x509.DNSName("localhost"))
        assert openssl_verifies(tmp_path, ca=ca["tls.crt"], pem=made["tls.crt"], purpose="sslserver")
        assert openssl_verifies(tmp_path, ca=ca["tls.crt"], pem=made["tls.crt"], purpose="sslclient")
        key = private_key(made["tls.key"])
        assert key.public_key() == certificate(made["tls.crt"]).public_key()


def test_verification_can_fail(tmp_path: Path) -> None:
    """The two verifiers above refuse what they should: a wrong name, another CA, a time after the end."""
    ca, other = authority(), authority(seed="another")
    made = leaf().fulfil(signing())["tls.crt"]
    for bad_ca, name, at in (
        (ca, "elsewhere", NOW),
        (other, "localhost", NOW),
        (ca, "localhost", NOW + days(366)),
        (ca, "localhost", NOW - timedelta(minutes=6)),
    ):
        with pytest.raises(VerificationError):
            server_verifies(bad_ca["tls.crt"], made, name=x509.DNSName(name), at=at)
    assert not openssl_verifies(tmp_path, ca=other["tls.crt"], pem=made, purpose="sslserver")
    only_client = leaf(usages=("client",)).fulfil(signing())["tls.crt"]
    assert not openssl_verifies(tmp_path, ca=ca["tls.crt"], pem=only_client, purpose="sslserver")
    assert openssl_verifies(tmp_path, ca=ca["tls.crt"], pem=only_client, purpose="sslclient")


def test_authority_is_what_k0s_expects() -> None:
    data = authority("etcd-ca")
    made = certificate(data["tls.crt"])
    assert made.subject == made.issuer
    assert made.subject.rfc4514_string() == "CN=etcd-ca"
    assert made.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert made.not_valid_after_utc == NOW + timedelta(hours=87600)
    basic = made.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, None)
    usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign) == (True, True)
    subject_id = made.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert made.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == subject_id


@pytest.mark.parametrize(("algorithm", "header"), [("ECDSA-P256", "EC"), ("ECDSA-P384", "EC"), ("RSA-2048", "RSA")])
def test_private_keys_are_sec1_or_pkcs1(algorithm: str, header: str) -> None:
    for data in (authority(algorithm=algorithm), KeyPairRecipe(algorithm=algorithm).fulfil(inputs())):
        assert data["tls.key"].startswith(f"-----BEGIN {header} PRIVATE KEY-----\n".encode())


def test_key_pair_belongs_together() -> None:
    data = KeyPairRecipe().fulfil(inputs())
    assert set(data) == {"tls.crt", "tls.key"}
    assert data["tls.crt"].startswith(b"-----BEGIN PUBLIC KEY-----\n")
    assert load_pem_public_key(data["tls.crt"]) == private_key(data["tls.key"]).public_key()


@given(
    names=st.lists(DNS_NAME, max_size=6),
    addresses=st.lists(ADDRESS, max_size=6),
    organizations=st.lists(st.sampled_from(["system:masters", "kubernetes", "étcd"]), max_size=3),
    usages=st.sets(st.sampled_from(["server", "client"]), min_size=1).map(tuple),
    algorithm=EC_ALGORITHM,
    life=st.timedeltas(min_value=timedelta(minutes=1), max_value=days(20_000)),
)
def test_leaf_holds_what_its_recipe_says(
    names: list[str],
    addresses: list[str],
    organizations: list[str],
    usages: tuple[str, ...],
    algorithm: str,
    life: timedelta,
) -> None:
    recipe = LeafRecipe(
        common_name="kubernetes",
        signer="demo-ca",
        dns_names=tuple(names),
        ip_addresses=tuple(addresses),
        organizations=tuple(organizations),
        usages=usages,
        algorithm=algorithm,
        life=life,
        include_ca=True,
    )
    ca = authority()
    data = recipe.fulfil(signing())
    made = certificate(data["tls.crt"])
    authority_end = certificate(ca["tls.crt"]).not_valid_after_utc
    assert made.not_valid_after_utc == min(NOW + life, authority_end).replace(microsecond=0)
    assert data["ca.crt"] == ca["tls.crt"]
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    wanted = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
    extended = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(extended) == {wanted[each] for each in usages}
    if names or addresses:
        alternatives = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert set(alternatives.get_values_for_type(x509.DNSName)) == set(names)
        assert {str(each) for each in alternatives.get_values_for_type(x509.IPAddress)} == set(addresses)
        if "server" in usages and addresses:
            server_verifies(ca["tls.crt"], data["tls.crt"], name=x509.IPAddress(ipaddress.ip_address(addresses[0])))


def test_a_leaf_that_mentions_rsa_may_encipher_keys_and_one_with_ecdsa_may_not() -> None:
    for algorithm, expected in (("RSA-2048", True), ("ECDSA-P256", False)):
        made = certificate(leaf(algorithm=algorithm).fulfil(signing())["tls.crt"])
        usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
        assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign) == (True, expected, False)


def test_equal_meaning_makes_equal_recipes() -> None:
    one = leaf(
        dns_names=("b", "A", "b"), ip_addresses=("::1", "0:0:0:0:0:0:0:1"), usages=("server", "client", "server")
    )
    two = leaf(dns_names=("a", "b"), ip_addresses=("::1",))
    assert one == two
    assert one.printed() == two.printed()


@pytest.mark.parametrize("recipe", recipes(), ids=lambda each: str(each.printed()["recipe"]))
def test_fulfilling_is_deterministic_and_fresh_with_every_seed(recipe: Recipe) -> None:
    secrets = {"demo-ca": authority()}
    one = recipe.fulfil(inputs(seed="1", secrets=secrets))
    assert recipe.fulfil(inputs(seed="1", secrets=secrets)) == one
    two = recipe.fulfil(inputs(seed="2", secrets=secrets))
    assert {key for key in one if one[key] == two[key]} <= {"ca.crt"}


@pytest.mark.parametrize("recipe", recipes(), ids=lambda each: str(each.printed()["recipe"]))
def test_printed_is_public_stable_json(recipe: Recipe) -> None:
    """Equal before and after fulfilment, plain JSON, and without a byte of what was made from it."""
    before = json.dumps(recipe.printed(), sort_keys=True)
    made = recipe.fulfil(signing())
    assert json.dumps(recipe.printed(), sort_keys=True) == before
    assert json.loads(before) == recipe.printed()
    for value in [*made.values(), *authority().values()]:
        for line in value.decode().splitlines():
            assert len(line) < 20 or line not in before
    assert "PRIVATE" not in before + repr(recipe)
    assert "PRIVATE" not in repr(signing())


def test_printed_tells_every_field_apart() -> None:
    """Recipes that make different things are printed differently, so that their hashes differ."""
    for base, changes in (
        (CARecipe(common_name="a"), {"common_name": "b", "life": days(1), "algorithm": "RSA-2048"}),
        (KeyPairRecipe(), {"algorithm": "RSA-2048"}),
        (
            leaf(),
            {
                "common_name": "b",
                "signer": "other",
                "organizations": ("o",),
                "dns_names": ("x",),
                "ip_addresses": ("::1",),
                "usages": ("client",),
                "life": timedelta(seconds=90),
                "algorithm": "RSA-2048",
                "include_ca": True,
            },
        ),
        (
            kubeconfig(),
            {
                "cluster": "other",
                "server": "https://x",
                "signer": "other",
                "user": "bob",
                "organizations": ("o",),
                "life": days(1),
                "algorithm": "RSA-2048",
            },
        ),
    ):
        assert set(changes) == set(base.__dataclass_fields__)
        for name, value in changes.items():
            changed = type(base)(**({each: getattr(base, each) for each in base.__dataclass_fields__} | {name: value}))
            assert changed.printed() != base.printed(), name


def test_kubeconfig_has_k0smotrons_shape_and_works(tmp_path: Path) -> None:
    ca = authority()
    recipe = kubeconfig(user="admin", life=days(30))
    data = recipe.fulfil(signing())
    assert list(data) == ["value"]
    config = yaml.safe_load(data["value"])
    assert config["kind"] == "Config"
    assert config["current-context"] == "demo-admin@demo-k0s"
    assert config["contexts"] == [
        {"name": "demo-admin@demo-k0s", "context": {"cluster": "demo-k0s", "user": "demo-admin"}}
    ]
    [cluster], [user] = config["clusters"], config["users"]
    assert cluster["name"] == "demo-k0s"
    assert cluster["cluster"]["server"] == "https://203.0.113.7:6443"
    assert base64.b64decode(cluster["cluster"]["certificate-authority-data"]) == ca["tls.crt"]
    assert user["name"] == "demo-admin"
    pem = base64.b64decode(user["user"]["client-certificate-data"])
    made = certificate(pem)
    assert made.subject.rfc4514_string() == "CN=admin,O=system:masters"
    assert made.not_valid_after_utc == NOW + days(30)
    assert openssl_verifies(tmp_path, ca=ca["tls.crt"], pem=pem, purpose="sslclient")
    assert not openssl_verifies(tmp_path, ca=ca["tls.crt"], pem=pem, purpose="sslserver")
    key = private_key(base64.b64decode(user["user"]["client-key-data"]))
    assert key.public_key() == made.public_key()


def test_serial_numbers_are_positive_even_from_empty_entropy() -> None:
    source = inputs()
    poor = Inputs(now=NOW, entropy=lambda count: bytes(count), new_key=source.new_key, secrets={})
    rich = Inputs(now=NOW, entropy=lambda count: b"\xff" * count, new_key=source.new_key, secrets={})
    for each in (poor, rich):
        assert certificate(CARecipe(common_name="x").fulfil(each)["tls.crt"]).serial_number > 0


def broken(**changes: bytes | None) -> dict[str, bytes]:
    data = authority() | {key.replace("_", "."): value for key, value in changes.items() if value is not None}
    return {key: value for key, value in data.items() if changes.get(key.replace(".", "_"), b"") is not None}


@pytest.mark.parametrize(
    ("secret", "now", "says"),
    [
        (None, NOW, "Secret demo-ca does not exist"),
        (broken(tls_key=None), NOW, "key tls.key is missing"),
        (broken(tls_crt=None), NOW, "key tls.crt is missing"),
        (broken(tls_key=authority(seed="another")["tls.key"]), NOW, "tls.key is not the key of the certificate"),
        (broken(tls_crt=authority()["tls.crt"] + authority(seed="another")["tls.crt"]), NOW, "holds 2 certificates"),
        (authority(), NOW + days(4000), "expired at 2036-02-27T12:00:00Z"),
        (authority(), NOW - days(1), "is not valid before 2026-03-01T11:55:00Z"),
        (leaf().fulfil(signing()), NOW, "may not sign certificates"),
        (KeyPairRecipe().fulfil(inputs()), NOW, "holds a key where the CA certificate is wanted"),
        (broken(tls_crt=b"nonsense"), NOW, "tls.crt is not PEM"),
    ],
)
@pytest.mark.parametrize("recipe", [leaf(), kubeconfig()], ids=["leaf", "kubeconfig"])
def test_refuses_a_signer_that_cannot_sign(
    recipe: Recipe, secret: dict[str, bytes] | None, now: datetime, says: str
) -> None:
    secrets = {} if secret is None else {"demo-ca": secret}
    with pytest.raises(MaterialError, match="demo-ca") as caught:
        recipe.fulfil(inputs(now=now, secrets=secrets))
    assert says in str(caught.value)
    assert "PRIVATE KEY" not in str(caught.value)


def test_refuses_a_damaged_rsa_key() -> None:
    """Facts see only the public half of a key; a signer whose private half is wrong is found before it signs."""
    data = authority(algorithm="RSA-2048")
    key = private_key(data["tls.key"])
    assert isinstance(key, rsa.RSAPrivateKey)
    numbers = key.private_numbers()
    text = base64.b64decode(b"".join(data["tls.key"].splitlines()[1:-1]))
    private_exponent = numbers.d.to_bytes((numbers.d.bit_length() + 7) // 8)  # one in 256 has a byte less
    assert private_exponent in text
    damaged = base64.b64encode(text.replace(private_exponent, private_exponent[:-2] + b"\x00\x01"))
    pem = b"-----BEGIN RSA PRIVATE KEY-----\n" + damaged + b"\n-----END RSA PRIVATE KEY-----\n"
    with pytest.raises(MaterialError, match="damaged"):
        leaf().fulfil(inputs(secrets={"demo-ca": data | {"tls.key": pem}}))


@pytest.mark.parametrize("fields", [{"common_name": "x" * 65}, {"common_name": ""}, {"dns_names": ("bücher.example",)}])
def test_refuses_names_that_cannot_stand_in_a_certificate(fields: dict[str, Any]) -> None:
    with pytest.raises(MaterialError, match="cannot stand in a certificate"):
        leaf(**fields).fulfil(signing())


def test_recipes_refuse_what_nobody_can_make() -> None:
    for make in (
        lambda: CARecipe(common_name="x", algorithm="Ed25519"),
        lambda: KeyPairRecipe(algorithm="RSA-1024"),
        lambda: leaf(algorithm="rsa"),
        lambda: leaf(usages=()),
        lambda: leaf(usages=("signing",)),
        lambda: leaf(ip_addresses=("300.1.1.1",)),
        lambda: kubeconfig(algorithm=""),
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - each says something else
            make()


def test_needs_names_the_signer_alone() -> None:
    assert [each.needs for each in recipes()] == [(), (), ("demo-ca",), ("demo-ca",)]


def test_a_user_ca_without_identifier_signs_leaves_that_verify(tmp_path: Path) -> None:
    """Such a CA itself is not strict (RFC 5280 wants the identifier), but Go and openssl accept it."""
    bare = bare_authority()
    data = leaf().fulfil(inputs(secrets={"demo-ca": bare}))
    assert openssl_verifies(tmp_path, ca=bare["tls.crt"], pem=data["tls.crt"], purpose="sslserver", strict=False)
