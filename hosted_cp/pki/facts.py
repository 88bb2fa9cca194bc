"""What may be known of a Secret: digests, facts of certificates, keys and databases, and what is wrong with it.

The operator's caches keep `SecretFacts` instead of Secrets, so nothing that this module returns may contain, or allow
to guess, a private key, a token or a password. Faults are worded for the user who wrote the Secret and never quote it.
Everything is bounded: a Secret is written by others, and PEM parsers have been a way to stop an operator
(CVE-2024-12401 of cert-manager).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hosted_cp.api.database import DSN_KEY, DatabaseFacts, DataSourceError
from hosted_cp.api.database import read as read_database
from hosted_cp.api.text import TextError
from hosted_cp.pki import kubeconfig
from hosted_cp.pki.keys import DEFAULT_ALGORITHM, algorithm_of, public_key_digest
from hosted_cp.planning.memo import Memo
from hosted_cp.planning.observed import CertificateFacts, KubeconfigFacts, SecretFacts

#: Bytes. Longer values are not parsed; a certificate or key has a few thousand.
PEM_LIMIT = 128 * 1024
#: PEM blocks of one value that are looked at.
BLOCK_LIMIT = 64

#: The certificates read last. A tenant's CA stands in several of its Secrets, and is read again for all that it signs.
_CERTIFICATES: Memo[_Certificate] = Memo(most=1024)

#: Keys of a Secret whose value must be PEM for anything of ours to work.
_MUST_BE_PEM = frozenset({"tls.crt", "tls.key", "ca.crt"})

_USAGES = {ExtendedKeyUsageOID.SERVER_AUTH: "server", ExtendedKeyUsageOID.CLIENT_AUTH: "client"}

#: What `cryptography` raises for material that it cannot read.
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def secret_facts(*, type: str, data: Mapping[str, bytes]) -> SecretFacts:
    """The public facts of a Secret with this type and (decoded) data. Never raises: what cannot be read is a fault."""
    certificates: dict[str, CertificateFacts] = {}
    public_keys: dict[str, str] = {}
    faults: dict[str, str] = {}
    kubeconfigs: dict[str, KubeconfigFacts] = {}
    databases: dict[str, DatabaseFacts] = {}
    for key, value in data.items():
        if key == DSN_KEY:
            try:
                databases[key] = read_database(value.decode())
            except DataSourceError as error:
                faults[key] = str(error)
            except UnicodeDecodeError:
                faults[key] = "is no text"
        elif b"-----BEGIN " in value or key in _MUST_BE_PEM:
            found = _read_pem(value)
            if found.certificate is not None:
                certificates[key] = found.certificate
            if found.public_key:
                public_keys[key] = found.public_key
            if found.fault:
                faults[key] = found.fault
        elif b"clusters" in value and b"current-context" in value:
            config, fault = _read_kubeconfig(value)
            if config is not None:
                kubeconfigs[key] = config
            if fault:
                faults[key] = fault
    kept = {each.public_key: each.public_key for each in certificates.values()}  # one text for a pair
    return SecretFacts(
        type=type,
        digests=_digests(data),
        certificates=certificates,
        public_keys={key: kept.get(name, name) for key, name in public_keys.items()},
        faults=faults,
        kubeconfigs=kubeconfigs,
        databases=databases,
        size=sum(map(len, data.values())),
    )


def config_map_facts(data: Mapping[str, bytes]) -> SecretFacts:
    """The facts of a ConfigMap with this data (of both kinds). What is in it is nobody's business before it is used."""
    return SecretFacts(type="", digests=_digests(data), size=sum(map(len, data.values())))


def _digests(data: Mapping[str, bytes]) -> dict[str, str]:
    return {key: hashlib.sha256(value).hexdigest()[:32] for key, value in data.items()}


def certificate_facts(certificate: x509.Certificate, *, count: int = 1) -> CertificateFacts:
    """The facts of one certificate. Raises what `cryptography` raises for extensions that it cannot read."""
    extensions = certificate.extensions
    names: x509.SubjectAlternativeName | None = None
    basic: x509.BasicConstraints | None = None
    key_usage: x509.KeyUsage | None = None
    usages: frozenset[str] = frozenset()
    subject_key_id = authority_key_id = b""
    for extension in extensions:
        match extension.value:
            case x509.SubjectAlternativeName() as names:
                pass
            case x509.BasicConstraints() as basic:
                pass
            case x509.KeyUsage() as key_usage:
                pass
            case x509.ExtendedKeyUsage() as extended:
                usages = frozenset(_USAGES.get(usage, usage.dotted_string) for usage in extended)
            case x509.SubjectKeyIdentifier() as identifier:
                subject_key_id = identifier.digest
            case x509.AuthorityKeyIdentifier() as issuer:
                authority_key_id = issuer.key_identifier or b""
    public_key, key_algorithm = _public_half(certificate)
    return CertificateFacts(
        subject=_common_name(certificate.subject),
        organizations=tuple(
            str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        ),
        issuer=_common_name(certificate.issuer),
        fingerprint=hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest(),
        public_key=public_key,
        subject_key_id=subject_key_id.hex(),
        authority_key_id=authority_key_id.hex(),
        dns_names=frozenset(names.get_values_for_type(x509.DNSName)) if names else frozenset(),
        ip_addresses=frozenset(str(each) for each in names.get_values_for_type(x509.IPAddress))
        if names
        else frozenset(),
        usages=usages,
        # RFC 5280, 4.2.1.3: where the key usage is given, it must allow signing certificates.
        is_ca=basic is not None and basic.ca and (key_usage is None or key_usage.key_cert_sign),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key_algorithm=key_algorithm,
        count=count,
    )


#: How the subject public key info of a P-256 key begins (RFC 5480): the 64 bytes of the point follow.
_P256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")


def _public_half(certificate: x509.Certificate) -> tuple[str, str]:
    """The name of the key and its algorithm. Those of P-256 are read as they stand: OpenSSL takes 50 microseconds."""
    info = subject_public_key_info(certificate.tbs_certificate_bytes)
    if info.startswith(_P256) and len(info) == len(_P256) + 64:
        return public_key_digest(info), DEFAULT_ALGORITHM
    public_key = certificate.public_key()
    return _name_of(public_key), algorithm_of(public_key)


def subject_public_key_info(tbs: bytes) -> bytes:
    """The subject public key info in the signed part of a certificate (RFC 5280, 4.1) that has been parsed."""
    at, _ = _content(tbs, 0)
    if tbs[at] == _VERSION:
        _, at = _content(tbs, at)
    for _ in ("serial number", "signature", "issuer", "validity", "subject"):
        _, at = _content(tbs, at)
    _, end = _content(tbs, at)
    return tbs[at:end]


#: The tag of the version, which old certificates do not have.
_VERSION = 0xA0


def _content(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the DER element that begins at `at` begins and ends."""
    length = der[at + 1]
    if length < 0x80:
        return at + 2, at + 2 + length
    begin = at + 2 + (length & 0x7F)
    return begin, begin + int.from_bytes(der[at + 2 : begin])


def _common_name(name: x509.Name) -> str:
    return next((str(each.value) for each in name.get_attributes_for_oid(NameOID.COMMON_NAME)), "")


def _name_of(public_key: Any) -> str:
    """What a key is called in all facts."""
    return public_key_digest(public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


@dataclass(frozen=True, kw_only=True)
class _Block:
    label: str
    pem: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class _Certificate:
    """What one PEM block of a certificate holds; no facts of one with an extension that cannot be read."""

    is_certificate: bool
    facts: CertificateFacts | None = None


@dataclass(frozen=True, kw_only=True)
class _Found:
    certificate: CertificateFacts | None = None
    public_key: str = ""
    fault: str = ""


def _read_pem(value: bytes) -> _Found:
    """All that is found in one PEM value: the first certificate, the first key, the first fault."""
    if not value.strip():
        return _Found(fault="is empty; PEM is wanted")
    if len(value) > PEM_LIMIT:
        return _Found(fault=f"is longer than {PEM_LIMIT // 1024} KiB; one certificate or one key in PEM is wanted")
    certificates: list[_Certificate] = []
    public_key = fault = ""
    blocks = list(_blocks(value))
    for block in blocks:
        if block.label == "":
            fault = fault or "has a PEM block without its END line; copy the whole block"
        elif block.label.endswith("CERTIFICATE"):
            found = _certificate(block.pem)
            if found.is_certificate:
                certificates.append(found)
            else:
                fault = fault or "has a CERTIFICATE block that is no X.509 certificate"
        elif block.label.endswith(("PRIVATE KEY", "PUBLIC KEY")):
            digest, problem = _key_digest(block)
            public_key = public_key or digest
            fault = fault or problem
    if not blocks:
        fault = "is not PEM: it has no BEGIN line" + (_hint(value))
    elif not fault and not certificates and not public_key:
        fault = "holds neither a certificate nor a key"
    if not certificates:
        return _Found(public_key=public_key, fault=fault)
    facts = certificates[0].facts
    if facts is None:
        return _Found(public_key=public_key, fault=fault or "holds a certificate with an extension that cannot be read")
    if len(certificates) != 1:
        facts = replace(facts, count=len(certificates))
    return _Found(certificate=facts, public_key=public_key, fault=fault)


def _certificate(pem: bytes) -> _Certificate:
    return _CERTIFICATES.get(pem, answer=lambda: _read_certificate(pem))


def _read_certificate(pem: bytes) -> _Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except _UNREADABLE:
        return _Certificate(is_certificate=False)
    try:
        return _Certificate(is_certificate=True, facts=certificate_facts(certificate))
    except _UNREADABLE:
        return _Certificate(is_certificate=True)


def _hint(value: bytes) -> str:
    """A guess at what was put there instead of PEM, without quoting it."""
    stripped = value.strip()
    if stripped.startswith(b"LS0tLS1CRUdJTi"):  # base64 of "-----BEGIN "
        return " (it is base64 of PEM: it was encoded twice)"
    if stripped.startswith(b"0\x82"):
        return " (it looks like DER: convert it with `openssl x509 -inform der` or `openssl pkey -inform der`)"
    return ""


def _blocks(value: bytes) -> Iterator[_Block]:
    """The PEM blocks of a value in order, in one pass; a block that never ends has the label ""."""
    position = 0
    for _ in range(BLOCK_LIMIT):
        start = value.find(b"-----BEGIN ", position)
        if start < 0:
            return
        label_end = value.find(b"-----", start + 11)
        label = value[start + 11 : label_end] if 0 <= label_end <= start + 11 + 64 else b""
        end_line = b"-----END " + label + b"-----"
        end = value.find(end_line, start) if label else -1
        if end < 0:
            yield _Block(label="", pem=b"")
            return
        position = end + len(end_line)
        yield _Block(label=label.decode("ascii", "replace"), pem=value[start:position] + b"\n")


def _key_digest(block: _Block) -> tuple[str, str]:
    """(digest of the public half, fault) of a key block; exactly one of the two is non-empty."""
    if block.label == "ENCRYPTED PRIVATE KEY" or b"Proc-Type: 4,ENCRYPTED" in block.pem:
        return "", "holds an encrypted private key; store the key without a passphrase"
    try:
        if block.label.endswith("PUBLIC KEY"):
            public: Any = load_pem_public_key(block.pem)
        else:
            # Only the public half is read here, so the (slow) check of the RSA primes can wait until the key is used.
            public = load_pem_private_key(block.pem, password=None, unsafe_skip_rsa_key_validation=True).public_key()
        return _name_of(public), ""
    except _UNREADABLE:
        kind = "public" if block.label.endswith("PUBLIC KEY") else "private"
        return "", f"holds a {kind} key that cannot be parsed"


def _read_kubeconfig(value: bytes) -> tuple[KubeconfigFacts | None, str]:
    """(facts, fault) of a value that looks like a kubeconfig; (None, "") if it turns out to be something else."""
    try:
        found = kubeconfig.entries(value)
    except TextError as error:
        return None, f"looks like a kubeconfig but cannot be read: {error}"
    if found is None:
        return None, ""
    cluster, user = found.cluster, found.user
    authority, authority_fault = _embedded(cluster, "certificate-authority-data")
    certificate, certificate_fault = _embedded(user, "client-certificate-data")
    key, key_fault = _embedded(user, "client-key-data")
    fault = authority_fault or certificate_fault or key_fault
    if not fault and certificate.certificate and certificate.certificate.public_key != key.public_key:
        fault = "is a kubeconfig whose client key does not match its client certificate"
    facts = KubeconfigFacts(
        cluster=found.cluster_name,
        user=found.user_name,
        context=found.context,
        server=_without_credentials(_text(cluster.get("server"))),
        server_name=_text(cluster.get("tls-server-name")),
        ca_fingerprint=authority.certificate.fingerprint if authority.certificate else "",
        client=certificate.certificate,
        client_public_key=key.public_key,
        unusable=kubeconfig.unusable(found),
    )
    return facts, fault


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _embedded(entry: Mapping[str, Any], key: str) -> tuple[_Found, str]:
    """What the base64 PEM under a kubeconfig's `…-data` key holds, and a fault in the kubeconfig's terms."""
    text = entry.get(key)
    if not text:
        return _Found(), ""
    try:
        found = _read_pem(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, TypeError):
        return _Found(), f"is a kubeconfig whose {key} is not base64"
    return found, f"is a kubeconfig whose {key} {found.fault}" if found.fault else ""


def _without_credentials(url: str) -> str:
    """The URL without user and password, query and fragment; "" if it cannot be taken apart."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
