"""Keys and certificates as hosted-cp makes them: ECDSA P-256 authorities with the names that k0s knows."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def crt(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def pem(self) -> bytes:
        """The key as SEC1 PEM."""
        return key_pem(self.key)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key as SEC1 PEM."""
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Its public half."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def new_key() -> ec.EllipticCurvePrivateKey:
    """A new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def pair(common_name: str, *, signer: Pair | None = None, organization: str = "", hosts: tuple[str, ...] = ()) -> Pair:
    """An authority (without signer) or a leaf for client and server."""
    key = new_key()
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    subject = x509.Name(parts)
    now = dt.datetime.now(dt.UTC)
    authority = signer is None
    usage = x509.KeyUsage(
        digital_signature=True, key_encipherment=False, key_cert_sign=authority, crl_sign=authority,
        content_commitment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder().subject_name(subject)
        .issuer_name(signer.certificate.subject if signer else subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=3650 if authority else 365))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
    )  # fmt: skip
    if not authority:
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(h) for h in hosts]), critical=False)
    return Pair(certificate=builder.sign(signer.key if signer else key, hashes.SHA256()), key=key)


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def shared_pki() -> dict[str, bytes]:
    """What several controllers of one cluster share, as files of a machine."""
    ca, front, sa = pair("kubernetes-ca"), pair("kubernetes-front-proxy-ca"), new_key()
    files = {
        "ca.crt": ca.crt, "ca.key": ca.pem, "front-proxy-ca.crt": front.crt, "front-proxy-ca.key": front.pem,
        "sa.key": key_pem(sa), "sa.pub": public_pem(sa),
    }  # fmt: skip
    return {f"/var/lib/k0s/pki/{name}": content for name, content in files.items()}
