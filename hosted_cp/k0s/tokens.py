"""Join tokens: what workers (and controllers on machines) join with, minted without any help of k0s.

A token is one line: base64 of gzip of a kubeconfig whose only user has a *bootstrap token* `<id>.<secret>`. The
tenant's API server accepts that because of a Secret `kube-system/bootstrap-token-<id>` in the tenant.

So one random secret has to stand in two objects of two clusters, and may stand in no plan. Deriving it from something
would make it guessable by whoever knows that something; so it is drawn once, in this order:

1. the id is not secret. It follows from the request's UID (`token_id`), so that what comes next has a name that a crash
   cannot lose and that no plan has to draw;
2. the tenant's Secret is *created* by `BootstrapRecipe`, which draws the secret part. The executor keeps the data of
   what it creates in a tenant, for the rest of the plan it is carrying out, under `material_name(id)`;
3. the management Secret is created by `TokenRecipe`, which `needs` that name in `Inputs.secrets`.

If the program dies between 2 and 3, or if two programs do this at the same moment, the next one finds the tenant's
Secret there. It takes the secret part from it, if it can be what was asked for (`BootstrapRecipe.fault`), and goes on
with 3: whoever else has read it delivers the same token. So a token that may have been handed out is never replaced.
Only a Secret that is of no use to anybody is deleted, by its UID, and created anew under the same id.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hosted_cp.api.problems import Problem
from hosted_cp.api.text import TextError, load
from hosted_cp.planning.conditions import parse_rfc3339
from hosted_cp.planning.recipes import Inputs, MaterialError

WORKER = "worker"
CONTROLLER = "controller"
ROLES = (WORKER, CONTROLLER)

#: Label on the tenant's Secret: the UID of the request, for finding what a request left behind.
REQUEST_LABEL = "hosted-cp.io/join-token-request"

#: On the management Secret: when the token ends (RFC 3339, UTC).
EXPIRES = "hosted-cp.io/expires"

#: On the management Secret: which token it is made of (part of a digest of the secret half). Half of the digest of 16
#: random characters tells nobody what they were, but whether they are still the same.
DIGEST = "hosted-cp.io/token-digest"

#: The key of the management Secret.
TOKEN_KEY = "token"  # noqa: S105 - a name

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_ID = re.compile(r"[a-z0-9]{6}", re.ASCII)
_SECRET = re.compile(r"[a-z0-9]{16}", re.ASCII)
#: k0s tells the role from the name of the user, and accepts exactly these.
_USERS = {WORKER: "kubelet-bootstrap", CONTROLLER: "controller-bootstrap"}
_USAGES: Mapping[str, Mapping[str, str]] = {
    WORKER: {"usage-bootstrap-authentication": "true"},
    # The second is what k0s up to 1.32 asks for.
    CONTROLLER: {"usage-bootstrap-controller-join": "true", "usage-controller-join": "true"},
}
_K0S_API_PORT = 9443
#: By how much the clocks of two operators may differ. What one of them has made must be good enough for the other.
_SKEW = timedelta(minutes=5)
#: A token is some kilobytes; what is larger when unpacked is no token.
_LARGEST = 1 << 20


class TokenError(ValueError):
    """The text is no join token; the message says which layer failed and quotes nothing of it."""


@dataclass(frozen=True, kw_only=True)
class JoinToken:
    """A join token, taken apart."""

    role: str
    server: str
    ca: bytes
    id: str
    #: The secret part. Never printed.
    secret: str = field(repr=False)


# --- the token -------------------------------------------------------------------------------------------------------


def server_url(address: str, port: int) -> str:
    """The URL that a worker's token names: the published API."""
    return f"https://[{address}]:{port}" if ":" in address else f"https://{address}:{port}"


def encode(*, role: str, server: str, ca: bytes, id: str, secret: str) -> str:
    """The token: one line of base64. Equal inputs give equal tokens (there is no time in the gzip header)."""
    user = _USERS[role]
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "current-context": "k0s",
        "clusters": [
            {
                "name": "k0s",
                "cluster": {"server": server, "certificate-authority-data": base64.b64encode(ca).decode()},
            }
        ],
        "contexts": [{"name": "k0s", "context": {"cluster": "k0s", "user": user}}],
        "users": [{"name": user, "user": {"token": f"{id}.{secret}"}}],
    }
    return base64.b64encode(gzip.compress(json.dumps(kubeconfig).encode(), 9, mtime=0)).decode()


def decode(token: str) -> JoinToken:
    """Take a token apart, ours or one that k0s made. Raises `TokenError`."""
    try:
        packed = base64.b64decode("".join(token.split("\n")).replace("\r", ""), validate=True)
    except (binascii.Error, ValueError):
        raise TokenError("it is not base64") from None
    try:
        kubeconfig = load(_unpack(packed), limit=_LARGEST)
    except TextError as error:
        raise TokenError(f"its content cannot be read: {error}") from None
    try:
        [context] = kubeconfig["contexts"]
        [cluster] = [c for c in kubeconfig["clusters"] if c["name"] == context["context"]["cluster"]]
        [user] = [u for u in kubeconfig["users"] if u["name"] == context["context"]["user"]]
        id, _, secret = str(user["user"]["token"]).partition(".")
        ca = base64.b64decode(cluster["cluster"]["certificate-authority-data"], validate=True)
        server = str(cluster["cluster"]["server"])
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise TokenError("its content is no kubeconfig with one context, cluster and user with a token") from None
    role = next((role for role, name in _USERS.items() if name == user["name"]), None)
    if role is None or not _ID.fullmatch(id) or not _SECRET.fullmatch(secret):
        raise TokenError("it is neither a worker's nor a controller's token")
    return JoinToken(role=role, server=server, ca=ca, id=id, secret=secret)


def _unpack(packed: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        text = unpacker.decompress(packed, _LARGEST + 1)
    except zlib.error:
        raise TokenError("it is not packed by gzip") from None
    if len(text) > _LARGEST or not unpacker.eof:
        raise TokenError("its content is too long, or cut off")
    return text


# --- the tenant's Secret ---------------------------------------------------------------------------------------------


def token_id(request_uid: str) -> str:
    """The id of the token of a request, six characters. It is a name, not a secret, so it may follow from the UID."""
    number = int.from_bytes(hashlib.sha256(f"join token {request_uid}".encode()).digest(), "big")
    characters = []
    for _ in range(6):
        number, index = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[index])
    return "".join(characters)


def secret_name(id: str) -> str:
    """The name of the Secret in the tenant's kube-system."""
    return f"bootstrap-token-{id}"


def material_name(id: str) -> str:
    """Under which name the executor hands the tenant's Secret on to `TokenRecipe`. No management Secret can be called
    so, because of the colon."""
    return f"tenant:kube-system/{secret_name(id)}"


def bootstrap_secret(*, id: str, request_uid: str) -> dict[str, Any]:
    """The tenant's Secret without its data, which `BootstrapRecipe` makes."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "bootstrap.kubernetes.io/token",
        "metadata": {
            "name": secret_name(id),
            "namespace": "kube-system",
            "labels": {REQUEST_LABEL: request_uid},
        },
    }


@dataclass(frozen=True, kw_only=True)
class BootstrapRecipe:
    """Makes the data of the tenant's Secret; draws the secret part. For a Create only: each time gives another one."""

    id: str
    role: str
    #: When the token ends; whole seconds, UTC.
    expires: datetime
    #: Whether one that exists is to end then too, if it ends earlier or has ended: its secret part stays, so what was
    #: made of it goes on working.
    prolongs: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    def printed(self) -> Mapping[str, Any]:
        return {
            "recipe": "bootstrap token",
            "id": self.id,
            "role": self.role,
            "expires": _timestamp(self.expires),
            "secret": "<16 random characters, drawn once>",
        }

    def fulfil(self, inputs: Inputs) -> Mapping[str, bytes]:
        data = {
            "token-id": self.id,
            "token-secret": _random(inputs.entropy, 16),
            "description": f"{self.role.capitalize()} bootstrap token generated by hosted-cp",
            "expiration": _timestamp(self.expires),
            **_USAGES[self.role],
        }
        return {key: value.encode() for key, value in data.items()}

    def fault(self, data: Mapping[str, bytes], inputs: Inputs) -> str:
        """Why this Secret of the tenant cannot be the token that was asked for; "" if it can.

        One that ends earlier is good: it was made a while ago, and may be in somebody's hands. Whatever allows more
        than was asked for (a later end, other uses, other groups) is not.
        """
        said = {key: value.decode("ascii", "replace") for key, value in data.items()}
        ends = _moment(said.pop("expiration", ""))
        said.pop("description", None)
        if said.pop("token-id", "") != self.id:
            return "its token-id is another"
        if not _SECRET.fullmatch(said.pop("token-secret", "")):
            return "its token-secret is none"
        if ends is None:
            return "its expiration is none"
        if ends <= inputs.now and not self.prolongs:
            return "it has expired"
        if ends > self.expires + _SKEW:
            return "it lives longer than was asked for"
        return "" if said == _USAGES[self.role] else "it may be used for something else"

    def amendment(self, data: Mapping[str, bytes], inputs: Inputs) -> Mapping[str, bytes]:
        """The new end, where this one prolongs and the old end is earlier."""
        ends = _moment(data.get("expiration", b"").decode("ascii", "replace"))
        if not self.prolongs or ends is None or ends >= self.expires:
            return {}
        return {"expiration": _timestamp(self.expires).encode()}


@dataclass(frozen=True, kw_only=True)
class TokenRecipe:
    """Makes the data of the management Secret from the tenant's bootstrap Secret and the tenant's CA."""

    id: str
    role: str
    server: str
    #: The Secret with the tenant's CA certificate, and its key.
    ca_secret: str
    ca_key: str = "tls.crt"
    #: Which certificate that is (SHA-256 of the DER, hex), and which life of the tenant (its UID): the token is made
    #: again when one of them is another.
    ca_fingerprint: str = ""
    tenant_uid: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        return self.ca_secret, material_name(self.id)

    def printed(self) -> Mapping[str, Any]:
        return {
            "recipe": "join token",
            "id": self.id,
            "role": self.role,
            "server": self.server,
            "ca": f"<{self.ca_key} of Secret {self.ca_secret}>",
            "caFingerprint": self.ca_fingerprint,
            "tenant": self.tenant_uid,
            "secret": f"<token-secret of Secret {secret_name(self.id)} in the tenant>",
        }

    def fulfil(self, inputs: Inputs) -> Mapping[str, bytes]:
        secret = _value(inputs, material_name(self.id), "token-secret").decode("ascii", "replace")
        if not _SECRET.fullmatch(secret):
            raise MaterialError(f"key token-secret of Secret {secret_name(self.id)} in the tenant is no token secret")
        ca = _value(inputs, self.ca_secret, self.ca_key)
        return {TOKEN_KEY: encode(role=self.role, server=self.server, ca=ca, id=self.id, secret=secret).encode()}

    def annotations(self, inputs: Inputs) -> Mapping[str, str]:
        """When the token ends, as the tenant has it: it may have been made by another plan than this one."""
        ends = _moment(_value(inputs, material_name(self.id), "expiration").decode("ascii", "replace"))
        return {EXPIRES: _timestamp(ends)} if ends is not None else {}

    def fault(self, data: Mapping[str, bytes], inputs: Inputs) -> str:
        """Why a management Secret with this data does not hold what the tenant knows; "" if it does.

        Where it leads to (address, CA) is not looked at: that can be set right without a new token.
        """
        try:
            held = decode(data.get(TOKEN_KEY, b"").decode("ascii", "replace"))
        except TokenError as error:
            return str(error)
        made = decode(self.fulfil(inputs)[TOKEN_KEY].decode())
        same = (held.role, held.id, held.secret) == (made.role, made.id, made.secret)
        return "" if same else "it holds another token than the tenant knows"


def said_of(id: str, inputs: Inputs) -> Mapping[str, str]:
    """Annotations for what is made of the token that the tenant holds: when it ends there, and which one it is."""
    ends = _moment(_value(inputs, material_name(id), "expiration").decode("ascii", "replace"))
    digest = hashlib.sha256(b"bootstrap token " + _value(inputs, material_name(id), "token-secret")).hexdigest()[:16]
    return {DIGEST: digest, **({EXPIRES: _timestamp(ends)} if ends is not None else {})}


def _value(inputs: Inputs, name: str, key: str) -> bytes:
    value = inputs.secrets.get(name, {}).get(key)
    if not value:
        raise MaterialError(f"Secret {name} has no key {key}")
    return value


def _random(entropy: Callable[[int], bytes], length: int) -> str:
    """Characters of the alphabet, each equally likely: bytes beyond a multiple of its size are thrown away."""
    usable = 256 - 256 % len(_ALPHABET)
    found = ""
    while len(found) < length:
        found += "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in entropy(length) if byte < usable)
    return found[:length]


def _moment(text: str) -> datetime | None:
    """What `_timestamp` (or anybody else who writes RFC 3339) wrote, or None."""
    try:
        return parse_rfc3339(text)
    except ValueError:
        return None


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- what a request may ask for --------------------------------------------------------------------------------------


def role_problem(role: str, *, hosted: bool = True, field: str = "spec.role") -> Problem | None:
    """Why a token for this role cannot be used, or None.

    Controllers join through k0s' own API at port 9443, which hands out the CA keys. A hosted control plane does not run
    it, and scales by `spec.replicas`.
    """
    if role not in ROLES:
        return Problem(field=field, fault=f"{role[:64]!r} is no role", remedy=f"write {WORKER}")
    if role == CONTROLLER and hosted:
        return Problem(
            field=field,
            fault=f"controllers cannot join a hosted control plane: nothing listens at k0s' join port {_K0S_API_PORT}",
            remedy="set spec.replicas of the cluster for more controllers, or ask for a worker's token",
        )
    return None
