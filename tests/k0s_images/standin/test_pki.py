"""The stand-in's certificates."""

from __future__ import annotations

import datetime as dt
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from k0s_images.standin import kubeconfig, pki
from k0s_images.standin.errors import Fatal
from k0s_images.standin.pki import KeySource, Leaf

LIFE = dt.timedelta(days=10)


@pytest.fixture
def keys() -> Iterator[KeySource]:
    source = KeySource()
    yield source
    source.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_authority_is_kept_only_whole(tmp_path: Path, keys: KeySource) -> None:
    stem = tmp_path / "ca"
    made = pki.ensure_authority(stem, "kubernetes-ca", life=LIFE, keys=keys)
    assert pki.ensure_authority(stem, "kubernetes-ca", life=LIFE, keys=keys).pem == made.pem
    assert (mode(tmp_path / "ca.key"), mode(tmp_path / "ca.crt")) == (0o640, 0o644)
    (tmp_path / "ca.key").unlink()
    assert pki.ensure_authority(stem, "kubernetes-ca", life=LIFE, keys=keys).pem != made.pem


def test_leaves_are_replaced_unless_a_stranger_issued_them(tmp_path: Path, keys: KeySource) -> None:
    ca = pki.ensure_authority(tmp_path / "ca", "kubernetes-ca", life=LIFE, keys=keys)
    stranger = pki.ensure_authority(tmp_path / "other", "other", life=LIFE, keys=keys)
    stem = tmp_path / "leaf"
    leaf = Leaf(stem=stem, common_name="x", organization="y", hosts=("a.example", "192.0.2.1"), server="https://h:1")

    def issued() -> x509.Certificate:
        pki.ensure_leaf(leaf, ca, life=LIFE, keys=keys, cluster_ca=tmp_path / "ca.crt")
        return x509.load_pem_x509_certificate((tmp_path / "leaf.crt").read_bytes())

    first, second = issued(), issued()
    assert first.serial_number != second.serial_number
    second.verify_directly_issued_by(ca.certificate)
    names = second.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(n.value) for n in names] == ["a.example", "192.0.2.1"]
    assert kubeconfig.read((tmp_path / "leaf.conf").read_bytes()).server == "https://h:1"
    foreign = pki.issue(stranger, keys.take(), common_name="x", life=LIFE)
    (tmp_path / "leaf.crt").write_bytes(pki.certificate_pem(foreign))
    assert issued() == foreign


def test_elliptic_curve_authorities_sign(tmp_path: Path, keys: KeySource) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubernetes-ca")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(now).not_valid_after(now + LIFE)
    certificate = builder.sign(key, hashes.SHA256())
    (tmp_path / "ca.crt").write_bytes(pki.certificate_pem(certificate))
    (tmp_path / "ca.key").write_bytes(pki.key_pem(key))
    ca = pki.ensure_authority(tmp_path / "ca", "kubernetes-ca", life=LIFE, keys=keys)
    assert ca.certificate == certificate
    pki.issue(ca, keys.take(), common_name="x", life=LIFE).verify_directly_issued_by(certificate)


@pytest.mark.parametrize(
    "content", [b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_certificate_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(content)
    with pytest.raises(Fatal, match=r"ca\.crt"):
        pki.one_certificate(tmp_path / "ca.crt")


def test_a_bundle_is_refused(tmp_path: Path, keys: KeySource) -> None:
    made = pki.ensure_authority(tmp_path / "ca", "kubernetes-ca", life=LIFE, keys=keys)
    (tmp_path / "ca.crt").write_bytes(made.pem * 2)
    with pytest.raises(Fatal, match="exactly one"):
        pki.ensure_authority(tmp_path / "ca", "kubernetes-ca", life=LIFE, keys=keys)
