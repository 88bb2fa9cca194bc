"""Throw-away certificates for the test servers, made without any code of the product under test."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


def new_key() -> bytes:
    """A P-256 private key as PEM (PKCS#8)."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_half(key: bytes) -> bytes:
    """The public key of a private one, PEM."""
    return (
        serialization.load_pem_private_key(key, None)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def authority(common_name: str) -> Pair:
    """A self-signed CA, valid for a day."""
    return _issue(common_name, (), signer=None, dns=(), ips=())


def leaf(
    signer: Pair,
    common_name: str,
    *,
    organizations: tuple[str, ...] = (),
    dns: tuple[str, ...] = (),
    ips: tuple[str, ...] = (),
) -> Pair:
    """A certificate for servers and clients alike, valid for a day."""
    return _issue(common_name, organizations, signer=signer, dns=dns, ips=ips)


def _issue(
    common_name: str,
    organizations: tuple[str, ...],
    *,
    signer: Pair | None,
    dns: tuple[str, ...],
    ips: tuple[str, ...],
) -> Pair:
    key_pem = new_key()
    key = serialization.load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    subject = x509.Name(
        [
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if signer is None:
        issuer = subject
        signing_key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = key
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    else:
        parent = x509.load_pem_x509_certificate(signer.certificate)
        loaded = serialization.load_pem_private_key(signer.key, None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
        issuer, signing_key = parent.subject, loaded
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns]
        names += [x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    signed = builder.issuer_name(issuer).sign(signing_key, hashes.SHA256())
    return Pair(certificate=signed.public_bytes(serialization.Encoding.PEM), key=key_pem)
