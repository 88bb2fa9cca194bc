"""What was seen: one object as the caches keep it.

Objects are kept as bytes without managedFields and decoded when asked; of Secrets only metadata, key names, digests and
the public facts of certificates are kept, never data. Facts have slots and share what is equal: a tenant's CA stands in
five of its Secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import orjson

from hosted_cp.api.database import DatabaseFacts
from hosted_cp.planning.actions import Ref
from hosted_cp.planning.packing import unpack


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateFacts:
    """The public facts of one certificate in a Secret. Only of the first one if the PEM holds several (see `count`)."""

    subject: str  # common name
    organizations: tuple[str, ...]
    issuer: str  # common name
    #: SHA-256 of the DER, hex.
    fingerprint: str
    #: SHA-256 of the subject public key info, hex: equal for a CA and for what says who signed.
    public_key: str
    #: Subject and authority key identifier, hex ("" if absent).
    subject_key_id: str
    authority_key_id: str
    dns_names: frozenset[str]
    ip_addresses: frozenset[str]
    usages: frozenset[str]  # "server", "client"
    is_ca: bool
    not_before: datetime
    not_after: datetime
    key_algorithm: str  # "ECDSA-P256", "RSA-2048", ...
    count: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class KubeconfigFacts:
    """What may be known of a kubeconfig: everything but its credentials. Only of its current context."""

    cluster: str
    user: str
    context: str
    #: URL of the API server, without any credentials in it.
    server: str
    #: SHA-256 of the DER of the (first) CA certificate, hex; "" if there is none.
    ca_fingerprint: str
    #: Facts of the client certificate; None where another credential is used.
    client: CertificateFacts | None
    #: SHA-256 of the public half of the client key (SPKI, hex); "" if there is no key.
    client_public_key: str
    #: The name in the server's certificate, where it is said to be another than the host.
    server_name: str = ""
    #: Why a client of ours is not made of it, in words for a user (see `hosted_cp.pki.kubeconfig`).
    unusable: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SecretFacts:
    """What may be known of a Secret: names of keys, digests of values, facts of certificates. (Of a ConfigMap: names of
    keys and digests.)"""

    type: str
    #: key -> first 32 hex digits of the SHA-256 of its value.
    digests: Mapping[str, str] = field(default_factory=dict)
    #: key -> facts, for keys whose value is PEM with at least one certificate.
    certificates: Mapping[str, CertificateFacts] = field(default_factory=dict)
    #: key -> SHA-256 of the public half (SPKI, hex), for keys whose value is a PEM private or public key.
    public_keys: Mapping[str, str] = field(default_factory=dict)
    #: key -> why its PEM or kubeconfig cannot be used, in words for a user, never quoting the value.
    faults: Mapping[str, str] = field(default_factory=dict)
    #: key -> facts, for keys whose value is a kubeconfig.
    kubeconfigs: Mapping[str, KubeconfigFacts] = field(default_factory=dict)
    #: key -> kind and address, for a kine data source (under the key that Kine reads).
    databases: Mapping[str, DatabaseFacts] = field(default_factory=dict)
    #: Bytes of all values together.
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class Observed:
    """One object of an API server, as seen last."""

    ref: Ref
    uid: str
    resource_version: str
    generation: int = 0
    created: str = ""
    deleting: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    #: All owner references, and the UID of the one with `controller: true` ("" if there is none).
    owner_references: tuple[Mapping[str, Any], ...] = ()
    controller_uid: str = ""
    #: Names of the field managers, to recognise what another operator looks after.
    managers: frozenset[str] = frozenset()
    #: Whether the managedFields still hold the entry of our POST (operation Update), because of which fields that an
    #: apply no longer wants would stay. The executor turns it into an apply entry first.
    posted: bool = False
    #: Only for Secrets and ConfigMaps.
    secret: SecretFacts | None = None
    #: JSON without managedFields, packed if it is long: see `json`. Empty for Secrets, ConfigMaps, and kinds
    #: of which only metadata is kept.
    raw: bytes = field(default=b"", repr=False)

    @property
    def json(self) -> bytes:
        """`raw` as text."""
        return unpack(self.raw)

    @cached_property
    def body(self) -> Mapping[str, Any]:
        """The whole object, decoded at first use."""
        decoded: Mapping[str, Any] = orjson.loads(self.json) if self.raw else {}
        return decoded

    def get(self, *path: str, default: Any = None) -> Any:
        """`body[path[0]][path[1]]…`, or the default where anything on the way is missing."""
        found: Any = self.body
        for step in path:
            if not isinstance(found, dict) or step not in found:  # decoded JSON has no other mapping
                return default
            found = found[step]
        return found
