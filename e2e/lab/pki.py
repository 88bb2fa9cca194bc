"""The certificates and kubeconfigs of the management cluster.

Made with the lab and gone with it; keys never leave the lab's folder. ECDSA P-256 throughout: all of them take 0.1 s.
Nothing here is the product's: `hosted_cp.pki` is tested with the lab and must not be what the lab rests on.
"""

from __future__ import annotations

import base64
import datetime as dt
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from e2e.lab.network import Addresses

_LIFE = dt.timedelta(days=365)

#: User and groups of each client certificate that becomes a kubeconfig.
CLIENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "admin": ("lab-admin", ("system:masters",)),
    "controller-manager": ("system:kube-controller-manager", ()),
    "scheduler": ("system:kube-scheduler", ()),
    "kube-proxy": ("system:kube-proxy", ()),
    "coredns": ("lab-coredns", ()),
    "cloud": ("lab-cloud", ()),
}


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A certificate authority with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def create(folder: Path, *, addresses: Addresses, node: str) -> None:
    """Fill the folder with everything the cluster's components want, as `NAME.crt`, `NAME.key` and `NAME.kubeconfig`.

    Does nothing if it was filled before: its last file tells.
    """
    if (folder / "complete").exists():
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    ca = _authority("hosted-cp lab")
    front = _authority("hosted-cp lab front proxy")
    _write_pair(folder, "ca", ca.certificate, ca.key)
    _write_pair(folder, "front-proxy-ca", front.certificate, front.key)
    names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
    ]
    serving = [addresses.node, addresses.edge_gateway, addresses.kubernetes, IPv4Address("127.0.0.1")]
    _leaf(folder, "apiserver", ca, "kube-apiserver", names=names, ips=serving)
    _leaf(folder, "kubelet-client", ca, "kube-apiserver", groups=["system:masters"])
    _leaf(folder, "front-proxy-client", front, "front-proxy-client")
    _leaf(folder, "kubelet-server", ca, f"system:node:{node}", names=[node], ips=[addresses.node])
    _write_key(folder / "service-accounts.key", ec.generate_private_key(ec.SECP256R1()))
    server = f"https://{addresses.node}:6443"
    for file, (user, groups) in {**CLIENTS, "kubelet": (f"system:node:{node}", ("system:nodes",))}.items():
        _leaf(folder, file, ca, user, groups=groups)
        write_private(folder / f"{file}.kubeconfig", kubeconfig(folder, file, server=server))
    (folder / "complete").touch()


def serving(folder: Path, *, ips: Sequence[IPv4Address]) -> bytes:
    """A server certificate of its own authority in the folder, as `tls.crt` and `tls.key`; returns the authority's.

    Does nothing but read if it was filled before.
    """
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        ca = _authority("hosted-cp lab webhooks")
        _write_pair(folder, "ca", ca.certificate, ca.key)
        _leaf(folder, "tls", ca, "webhooks", ips=ips)
        (folder / "complete").touch()
    return (folder / "ca.crt").read_bytes()


def kubeconfig(folder: Path, client: str, *, server: str) -> str:
    """A kubeconfig that holds everything in itself."""

    def content(name: str) -> str:
        return base64.b64encode((folder / name).read_bytes()).decode()

    return yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority-data": content("ca.crt")}}],
        "users": [{"name": client, "user": {
            "client-certificate-data": content(f"{client}.crt"), "client-key-data": content(f"{client}.key")}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": client}}],
    }, sort_keys=False)  # fmt: skip


def _authority(name: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        _builder(subject, subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate=certificate, key=key)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5)).not_valid_after(now + _LIFE)
    )  # fmt: skip


def _leaf(
    folder: Path, file: str, signer: Authority, name: str, *, groups: Sequence[str] = (), names: Iterable[str] = (),
    ips: Iterable[IPv4Address] = (),
) -> None:  # fmt: skip
    key = ec.generate_private_key(ec.SECP256R1())
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject = x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, name)])
    sans = [*map(x509.DNSName, names), *map(x509.IPAddress, ips)]
    builder = _builder(subject, signer.certificate.subject, key.public_key()).add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH if sans else ExtendedKeyUsageOID.CLIENT_AUTH]),
        critical=False,
    )
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    _write_pair(folder, file, builder.sign(signer.key, hashes.SHA256()), key)


def _write_pair(folder: Path, file: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    (folder / f"{file}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_key(folder / f"{file}.key", key)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    # SEC 1 ("EC PRIVATE KEY"): kube-apiserver reads the public half of a service account key from no other form.
    form = serialization.PrivateFormat.TraditionalOpenSSL
    write_private(path, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode())


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, from its first byte on."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
