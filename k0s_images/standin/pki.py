"""The PKI under `<data-dir>/pki`: certificate authorities are kept, leaf certificates are issued anew at each start.

The rules (from k0s' documentation and from observation):
* a CA is kept when both its files exist; if either is missing, both are created anew;
* `ca.crt` must hold exactly one certificate;
* a leaf is re-issued unless a foreign authority issued the one that is there;
* keys have mode 0640, certificates 0644, kubeconfigs 0600 (konnectivity's 0640).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from k0s_images.standin import kubeconfig, layout, users
from k0s_images.standin.errors import Fatal

#: Authorities whose leaves k0s manages; it manages the cluster CA under another name too, if its key is there.
BUILT_IN = ("kubernetes-ca", "kubernetes-front-proxy-ca", "etcd-ca")
_PURPOSES = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
_BACKDATED = dt.timedelta(minutes=5)

SigningKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A loaded certificate authority."""

    name: str
    certificate: x509.Certificate
    key: SigningKey
    pem: bytes


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A leaf certificate to be issued: `stem` is the file name without `.crt` and `.key`."""

    stem: Path
    common_name: str
    organization: str = ""
    owner: str = "root"
    hosts: tuple[str, ...] = ()
    #: Also write `<stem>.conf`, a kubeconfig for `server`.
    server: str = ""
    conf_mode: int = 0o600


class KeySource:
    """RSA-2048 keys made ahead of need on other threads: they are the slowest part of a start."""

    def __init__(self, *, threads: int = 2) -> None:
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="keys")
        self._ready: list[Future[rsa.RSAPrivateKey]] = []

    def prepare(self, count: int) -> None:
        """Begin to make `count` keys."""
        self._ready += [self._pool.submit(rsa.generate_private_key, 65537, 2048) for _ in range(count)]

    def take(self) -> rsa.RSAPrivateKey:
        """The next key."""
        if not self._ready:
            self.prepare(1)
        return self._ready.pop(0).result()

    def close(self) -> None:
        """End the threads; keys not taken are dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def key_pem(key: SigningKey) -> bytes:
    """PKCS#1 for RSA and SEC1 for elliptic curves."""
    encoding = serialization.Encoding.PEM
    return key.private_bytes(encoding, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """The certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def one_certificate(path: Path) -> x509.Certificate:
    """The certificate in a file; `Fatal` unless the file holds exactly one."""
    pem = path.read_bytes()
    if pem.count(b"-----BEGIN ") != 1 or pem.count(b"-----BEGIN CERTIFICATE-----") != 1:
        raise Fatal(f"failed to load {path}: the file must hold exactly one PEM certificate")
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as fault:
        raise Fatal(f"failed to load {path}: {fault}") from None


def _signing_key(path: Path) -> SigningKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as fault:
        raise Fatal(f"failed to load {path}: {fault}") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise Fatal(f"failed to load {path}: only RSA and ECDSA keys can sign")
    return key


def _name(common_name: str, organization: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _common_name(name: x509.Name) -> str:
    return "".join(str(a.value) for a in name.get_attributes_for_oid(NameOID.COMMON_NAME))


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority, key_encipherment=not authority, key_cert_sign=authority, crl_sign=authority,
        content_commitment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip


def ensure_authority(stem: Path, common_name: str, *, life: dt.timedelta, keys: KeySource, owner: int = 0) -> Authority:
    """The authority in `<stem>.crt` and `<stem>.key`, created unless both files exist."""
    certificate_file, key_file = stem.with_suffix(".crt"), stem.with_suffix(".key")
    if not (certificate_file.is_file() and key_file.is_file()):
        key = keys.take()
        now = dt.datetime.now(dt.UTC)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name)).issuer_name(_name(common_name))
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED).not_valid_after(now + life)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .add_extension(identifier, critical=False)
            .sign(key, hashes.SHA256())
        )  # fmt: skip
        layout.write(certificate_file, certificate_pem(certificate), 0o644, owner=owner)
        layout.write(key_file, key_pem(key), 0o640, owner=owner)
        return Authority(name=common_name, certificate=certificate, key=key, pem=certificate_pem(certificate))
    return existing_authority(stem)


def existing_authority(stem: Path) -> Authority:
    """The authority in `<stem>.crt` and `<stem>.key`; `Fatal` if it cannot be loaded."""
    certificate_file = stem.with_suffix(".crt")
    try:
        certificate = one_certificate(certificate_file)
        key = _signing_key(stem.with_suffix(".key"))
    except OSError as fault:
        raise Fatal(f"failed to load {stem}: {fault}") from None
    return Authority(
        name=_common_name(certificate.subject), certificate=certificate, key=key, pem=certificate_file.read_bytes()
    )


def issue(
    authority: Authority, key: rsa.RSAPrivateKey, *, common_name: str, organization: str = "",
    hosts: tuple[str, ...] = (), life: dt.timedelta,
) -> x509.Certificate:  # fmt: skip
    """A leaf certificate for servers and clients alike, valid from five minutes ago."""
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name, organization)).issuer_name(authority.certificate.subject)
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED).not_valid_after(now - _BACKDATED + life)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(_PURPOSES, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_authority_identifier(authority), critical=False)
    )  # fmt: skip
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(h) for h in hosts]), critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def _authority_identifier(authority: Authority) -> x509.AuthorityKeyIdentifier:
    try:
        own = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def managed(certificate_file: Path, *, cluster_ca: Path) -> bool:
    """Whether a leaf is ours to replace: absent, or issued by one of k0s' authorities or by the cluster's own."""
    if not certificate_file.is_file() or not certificate_file.with_suffix(".key").is_file():
        return True
    try:
        issuer = _common_name(x509.load_pem_x509_certificate(certificate_file.read_bytes()).issuer)
    except ValueError:
        return True
    if issuer in BUILT_IN:
        return True
    return cluster_ca.with_suffix(".key").is_file() and issuer == _common_name(one_certificate(cluster_ca).subject)


def ensure_leaf(leaf: Leaf, authority: Authority, *, life: dt.timedelta, keys: KeySource, cluster_ca: Path) -> None:
    """Issue a leaf (if it is ours) and write its files with owner and modes."""
    owner = 0 if leaf.owner == "root" else users.uid(leaf.owner)
    certificate_file, key_file = leaf.stem.with_suffix(".crt"), leaf.stem.with_suffix(".key")
    if managed(certificate_file, cluster_ca=cluster_ca):
        key = keys.take()
        certificate = issue(
            authority, key, common_name=leaf.common_name, organization=leaf.organization, hosts=leaf.hosts, life=life
        )
        layout.write(key_file, key_pem(key), 0o640, owner=owner)
        layout.write(certificate_file, certificate_pem(certificate), 0o644, owner=owner)
    else:
        os.chown(key_file, owner, -1)
        os.chown(certificate_file, owner, -1)
    if leaf.server:
        content = kubeconfig.with_certificate(
            server=leaf.server, ca=authority.pem, certificate=certificate_file.read_bytes(), key=key_file.read_bytes()
        )
        layout.write(leaf.stem.with_suffix(".conf"), content, leaf.conf_mode, owner=owner)


def ensure_key_pair(private: Path, public: Path, *, keys: KeySource, owner: int) -> None:
    """A signing key pair (service accounts, etcd's JWT): created if the private key is missing, then protected."""
    if not private.is_file():
        layout.write(private, key_pem(keys.take()), 0o640, owner=owner)
        public.unlink(missing_ok=True)
    if not public.is_file():
        key: Any = _signing_key(private)
        encoded = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        layout.write(public, encoded, 0o644, owner=owner)
    os.chown(private, owner, -1)
    private.chmod(0o640)
    os.chown(public, owner, -1)
