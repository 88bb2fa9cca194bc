"""Recipes for the Secrets of a tenant's PKI: authorities, key pairs, leaf certificates and kubeconfigs.

A recipe is public and printable. Fulfilling it is deterministic: keys and serial numbers come from `Inputs`, and ECDSA
signatures are made by RFC 6979, so equal inputs give equal bytes.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hosted_cp.pki import kubeconfig_text
from hosted_cp.pki.authority import CERTIFICATE, KEY, validate_authority
from hosted_cp.pki.facts import secret_facts
from hosted_cp.pki.keys import (
    ALGORITHMS,
    DEFAULT_ALGORITHM,
    PrivateKey,
    PublicKey,
    private_pem,
    public_key_digest,
    public_pem,
    signature_hash,
    spki,
)
from hosted_cp.planning.recipes import Inputs, MaterialError

#: k0s's own life for CAs and leaves (`ca.expiresAfter`, `ca.certificatesExpireAfter`).
CA_LIFE = timedelta(hours=87600)
LEAF_LIFE = timedelta(hours=8760)
#: Clocks of workers and pods may be behind ours.
BACKDATED = timedelta(minutes=5)

#: Where the kubeconfig stands in its Secret (Cluster API's contract).
KUBECONFIG_KEY = "value"

_USAGES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True, kw_only=True)
class CARecipe:
    """A self-signed CA: `tls.crt`, `tls.key`. Never made twice for one purpose."""

    #: k0s renews its leaves only under the names it knows: `kubernetes-ca`, `kubernetes-front-proxy-ca`, `etcd-ca`.
    common_name: str
    life: timedelta = CA_LIFE
    algorithm: str = DEFAULT_ALGORITHM

    def __post_init__(self) -> None:
        _check_algorithm(self.algorithm)

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    def printed(self) -> Mapping[str, Any]:
        return {
            "recipe": "ca",
            "commonName": self.common_name,
            "life": _hours(self.life),
            "algorithm": self.algorithm,
        }

    def fulfil(self, inputs: Inputs) -> Mapping[str, bytes]:
        key = _new_key(inputs, self.algorithm)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.common_name)])
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = (
            _builder(inputs, subject=name, issuer=name, public_key=key.public_key(), end=inputs.now + self.life)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        )
        return {CERTIFICATE: _signed(builder, key), KEY: private_pem(key)}


@dataclass(frozen=True, kw_only=True)
class KeyPairRecipe:
    """A key pair for service account tokens: `tls.crt` is the public key (PKIX PEM), `tls.key` the private one."""

    algorithm: str = DEFAULT_ALGORITHM

    def __post_init__(self) -> None:
        _check_algorithm(self.algorithm)

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    def printed(self) -> Mapping[str, Any]:
        return {"recipe": "keyPair", "algorithm": self.algorithm}

    def fulfil(self, inputs: Inputs) -> Mapping[str, bytes]:
        key = _new_key(inputs, self.algorithm)
        return {CERTIFICATE: public_pem(key.public_key()), KEY: private_pem(key)}


@dataclass(frozen=True, kw_only=True)
class LeafRecipe:
    """A certificate for a server, a client or both: `tls.crt`, `tls.key`, and on request `ca.crt`.

    Names are kept sorted, without doubles, in lower case, and addresses in their canonical form, so that recipes which
    mean the same are equal. Raises ValueError for an address that is none.
    """

    common_name: str
    #: Name of the Secret with the CA.
    signer: str
    organizations: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()
    usages: tuple[str, ...] = ("client", "server")
    life: timedelta = LEAF_LIFE
    algorithm: str = DEFAULT_ALGORITHM
    #: Whether the CA's certificate is added as `ca.crt`, so that no pod needs the Secret with the CA's key.
    include_ca: bool = False

    def __post_init__(self) -> None:
        _check_algorithm(self.algorithm)
        unknown = set(self.usages) - set(_USAGES)
        if unknown or not self.usages:
            raise ValueError(f"usages must be some of {sorted(_USAGES)}, not {sorted(self.usages)}")
        _freeze(self, "organizations", sorted(set(self.organizations)))
        _freeze(self, "dns_names", sorted({name.lower() for name in self.dns_names}))
        _freeze(self, "ip_addresses", sorted({_canonical_address(each) for each in self.ip_addresses}))
        _freeze(self, "usages", sorted(set(self.usages)))

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.signer,)

    def printed(self) -> Mapping[str, Any]:
        return {
            "recipe": "leaf",
            "commonName": self.common_name,
            "organizations": list(self.organizations),
            "dnsNames": list(self.dns_names),
            "ipAddresses": list(self.ip_addresses),
            "usages": list(self.usages),
            "life": _hours(self.life),
            "algorithm": self.algorithm,
            "signer": self.signer,
            "includeCA": self.include_ca,
        }

    def fulfil(self, inputs: Inputs) -> Mapping[str, bytes]:
        authority = _authority(inputs, self.signer)
        key = _new_key(inputs, self.algorithm)
        data = {CERTIFICATE: _leaf(inputs, self, key=key, authority=authority), KEY: private_pem(key)}
        return {**data, "ca.crt": authority.pem} if self.include_ca else data


@dataclass(frozen=True, kw_only=True)
class KubeconfigRecipe:
    """A kubeconfig with a client certificate, under the key `value`, with the entry names of k0smotron."""

    #: Name of the tenant's Cluster.
    cluster: str
    #: URL of the API server.
    server: str
    #: Name of the Secret with the CA that signs the client certificate and that the server's certificate comes from.
    signer: str
    #: Common name of the client certificate.
    user: str = "admin"
    organizations: tuple[str, ...] = ("system:masters",)
    life: timedelta = LEAF_LIFE
    algorithm: str = DEFAULT_ALGORITHM

    def __post_init__(self) -> None:
        _check_algorithm(self.algorithm)
        _freeze(self, "organizations", sorted(set(self.organizations)))

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.signer,)

    @property
    def cluster_entry(self) -> str:
        return f"{self.cluster}-k0s"

    @property
    def user_entry(self) -> str:
        return f"{self.cluster}-admin"

    @property
    def context_entry(self) -> str:
        return f"{self.user_entry}@{self.cluster_entry}"

    def printed(self) -> Mapping[str, Any]:
        return {
            "recipe": "kubeconfig",
            "cluster": self.cluster_entry,
            "user": self.user_entry,
            "context": self.context_entry,
            "server": self.server,
            "commonName": self.user,
            "organizations": list(self.organizations),
            "life": _hours(self.life),
            "algorithm": self.algorithm,
            "signer": self.signer,
        }

    @property
    def client(self) -> LeafRecipe:
        """The recipe of the client certificate inside."""
        return LeafRecipe(
            common_name=self.user,
            organizations=self.organizations,
            usages=("client",),
            life=self.life,
            algorithm=self.algorithm,
            signer=self.signer,
        )

    def fulfil(self, inputs: Inputs) -> Mapping[str, bytes]:
        authority = _authority(inputs, self.signer)
        key = _new_key(inputs, self.algorithm)
        certificate = _leaf(inputs, self.client, key=key, authority=authority)
        values = kubeconfig_text.Written(
            cluster=self.cluster_entry,
            user=self.user_entry,
            context=self.context_entry,
            server=self.server,
            authority=_base64(authority.pem),
            certificate=_base64(certificate),
            key=_base64(private_pem(key)),
        )
        return {KUBECONFIG_KEY: kubeconfig_text.write(values)}


def authority_key_id(*, subject_key_id: str, public_key: str) -> str:
    """The authority key identifier (hex) of what a CA signs, from the CA's facts.

    A CA that a user brought may lack a subject key identifier; then it is the start of the digest of the public key
    (RFC 7093, section 2, method 4), so that from facts alone one can tell who signed.
    """
    return subject_key_id or public_key[:40]


@dataclass(frozen=True, kw_only=True)
class _Authority:
    certificate: x509.Certificate
    key: PrivateKey
    pem: bytes


def _authority(inputs: Inputs, secret: str) -> _Authority:
    """The CA in a Secret, fully checked. Raises MaterialError."""
    data = inputs.secrets.get(secret)
    if data is None:
        raise MaterialError(f"Secret {secret} does not exist; it must hold the CA that signs")
    problem = validate_authority(secret_facts(type="", data=data), now=inputs.now)
    if problem:
        raise MaterialError(f"Secret {secret} cannot sign: {problem}")
    try:
        key = load_pem_private_key(data[KEY], password=None)
        certificate = x509.load_pem_x509_certificate(data[CERTIFICATE])
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Facts read a key's public half only; here the whole key is checked.
        raise MaterialError(f"Secret {secret} cannot sign: {KEY} holds a private key that is damaged") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise MaterialError(f"Secret {secret} cannot sign: {KEY} is neither an ECDSA nor an RSA key")
    return _Authority(certificate=certificate, key=key, pem=data[CERTIFICATE])


def _leaf(inputs: Inputs, recipe: LeafRecipe, *, key: PrivateKey, authority: _Authority) -> bytes:
    """The PEM of a leaf certificate that does not outlive its CA.

    Raises MaterialError for names that cannot stand in a certificate.
    """
    names: list[x509.GeneralName] = []
    try:
        subject = x509.Name(
            [
                *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in recipe.organizations),
                x509.NameAttribute(NameOID.COMMON_NAME, recipe.common_name),
            ]
        )
        names += [x509.DNSName(each) for each in recipe.dns_names]
    except ValueError as error:
        raise MaterialError(f"a name cannot stand in a certificate: {error}") from None
    names += [x509.IPAddress(ipaddress.ip_address(each)) for each in recipe.ip_addresses]
    end = min(inputs.now + recipe.life, authority.certificate.not_valid_after_utc)
    builder = (
        _builder(inputs, subject=subject, issuer=authority.certificate.subject, public_key=key.public_key(), end=end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(encipherment=isinstance(key, rsa.RSAPrivateKey)), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_USAGES[each] for each in recipe.usages]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_issuer_identifier(authority), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return _signed(builder, authority.key)


def _issuer_identifier(authority: _Authority) -> x509.AuthorityKeyIdentifier:
    try:
        subject = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()
    except x509.ExtensionNotFound:
        subject = ""
    digest = public_key_digest(spki(authority.key.public_key()))
    identifier = bytes.fromhex(authority_key_id(subject_key_id=subject, public_key=digest))
    return x509.AuthorityKeyIdentifier(identifier, authority_cert_issuer=None, authority_cert_serial_number=None)


def _builder(
    inputs: Inputs, *, subject: x509.Name, issuer: x509.Name, public_key: PublicKey, end: datetime
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=public_key,
        # 127 random bits, never 0 and never negative (RFC 5280, 4.1.2.2).
        serial_number=(int.from_bytes(inputs.entropy(16)) >> 1) or 1,
        not_valid_before=inputs.now - BACKDATED,
        not_valid_after=end,
    )


def _signed(builder: x509.CertificateBuilder, key: PrivateKey) -> bytes:
    deterministic = True if isinstance(key, ec.EllipticCurvePrivateKey) else None
    certificate = builder.sign(key, signature_hash(key), ecdsa_deterministic=deterministic)
    return certificate.public_bytes(Encoding.PEM)


def _key_usage(*, authority: bool = False, encipherment: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _new_key(inputs: Inputs, algorithm: str) -> PrivateKey:
    key: PrivateKey = inputs.new_key(algorithm)
    return key


def _check_algorithm(algorithm: str) -> None:
    if algorithm not in ALGORITHMS:
        raise ValueError(f"the algorithm must be one of {', '.join(ALGORITHMS)}, not {algorithm!r}")


@lru_cache(maxsize=256)
def _canonical_address(text: str) -> str:
    return str(ipaddress.ip_address(text))


def _freeze(recipe: object, name: str, values: Iterable[str]) -> None:
    object.__setattr__(recipe, name, tuple(values))


def _hours(life: timedelta) -> str:
    """A Go duration, as k0s's config would say it."""
    seconds = int(life.total_seconds())
    return f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{seconds}s"


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
