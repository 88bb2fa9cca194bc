"""Kubeconfigs that others wrote: what they are taken apart into, and which of them we use.

Cluster API's core reads the kubeconfig of every cluster, and refuses one that would run a program or read a file of the
machine it runs on; so do we, and for the same reason: whoever may write a Secret in his own namespace must not thereby
run or read anything in the operator's pod. What we cannot do as it is written (a proxy, another identity, no
verification) is refused as well, rather than left out silently.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from hosted_cp.api.text import TextError, load
from hosted_cp.pki import kubeconfig_text
from hosted_cp.planning.observed import SecretFacts

#: Bytes. One of ours has under 8,000.
LIMIT = 128 * 1024

#: What a cluster entry and a user entry must not have, and what to do instead.
_NOT_OF_A_CLUSTER = {
    "insecure-skip-tls-verify": "remove it, and embed the CA as certificate-authority-data",
    "certificate-authority": "embed the content of that file as certificate-authority-data",
    "proxy-url": "give an address that can be reached without a proxy",
}
_NOT_OF_A_USER = {
    "exec": "use a client certificate or a token that is embedded",
    "auth-provider": "use a client certificate or a token that is embedded",
    "tokenFile": "embed the content of that file as token",
    "client-certificate": "embed the content of that file as client-certificate-data",
    "client-key": "embed the content of that file as client-key-data",
    "username": "use a client certificate or a token that is embedded",
    "password": "use a client certificate or a token that is embedded",
    "as": "use credentials of the user itself",
    "as-uid": "use credentials of the user itself",
    "as-groups": "use credentials of the user itself",
    "as-user-extra": "use credentials of the user itself",
}


class KubeconfigError(ValueError):
    """The kubeconfig cannot be used; the message says why and what to do, and quotes no value of it."""


@dataclass(frozen=True, kw_only=True)
class Entries:
    """The current context of a kubeconfig: names, and the two entries. Empty where one is missing or malformed."""

    context: str
    cluster_name: str
    user_name: str
    cluster: Mapping[str, Any] = field(repr=False)
    user: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Access:
    """How the API server is spoken to by it. PEM; no certificate where there is a token, and the other way round."""

    ca: bytes
    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)
    token: str = field(default="", repr=False)


def entries(value: bytes) -> Entries | None:
    """The current context; None if this is no kubeconfig at all. Raises `TextError`."""
    if (ours := kubeconfig_text.read(value)) is not None:
        return Entries(
            context=ours.context,
            cluster_name=ours.cluster,
            user_name=ours.user,
            cluster={"server": ours.server, "certificate-authority-data": ours.authority},
            user={"client-certificate-data": ours.certificate, "client-key-data": ours.key},
        )
    config = load(value, limit=LIMIT)
    if not isinstance(config, Mapping) or config.get("kind") != "Config":
        return None
    context_name = _text(config.get("current-context"))
    context = _named(config.get("contexts"), context_name, "context")
    cluster_name, user_name = _text(context.get("cluster")), _text(context.get("user"))
    return Entries(
        context=context_name,
        cluster_name=cluster_name,
        user_name=user_name,
        cluster=_named(config.get("clusters"), cluster_name, "cluster"),
        user=_named(config.get("users"), user_name, "user"),
    )


def access(value: bytes) -> Access:
    """What a client and a worker are made of. Raises `KubeconfigError`."""
    try:
        found = entries(value)
    except TextError as error:
        raise KubeconfigError(f"cannot be read: {error}") from None
    if found is None:
        raise KubeconfigError("is no kubeconfig: write one of kind Config")
    if (fault := unusable(found)) != "":
        raise KubeconfigError(fault)
    user = found.user
    try:
        return Access(
            ca=_decoded(found.cluster, "certificate-authority-data"),
            certificate=_decoded(user, "client-certificate-data"),
            key=_decoded(user, "client-key-data"),
            token=_text(user.get("token")),
        )
    except ValueError:
        raise KubeconfigError("has data that are not base64: embed each file as its base64") from None


def fault_in(facts: SecretFacts, *, key: str) -> str:
    """Why the kubeconfig under a key of a Secret is not used, worded as by `unusable`; "" if it is."""
    found = facts.kubeconfigs.get(key)
    return facts.faults.get(key) or (
        found.unusable if found is not None else f"is missing: write it under the key {key}"
    )


def unusable(found: Entries) -> str:
    """Why we do not use a kubeconfig, with the remedy, as a sentence without its beginning; "" if we do."""
    return next(_faults(found), "")


def _faults(found: Entries) -> Iterator[str]:
    if not found.cluster:
        yield "has no cluster in its current context: set current-context to a context that names one"
        return
    for entry, forbidden in ((found.cluster, _NOT_OF_A_CLUSTER), (found.user, _NOT_OF_A_USER)):
        for what, remedy in forbidden.items():
            if entry.get(what):
                yield f"uses {what}, which is not done for others: {remedy}"
    if not is_server(_text(found.cluster.get("server"))):
        yield "has a server that is no URL of the form https://host:port: correct it"
    if not found.cluster.get("certificate-authority-data"):
        yield "has no certificate-authority-data, by which workers would know the API server: embed the CA"
    certificate, key = (found.user.get(f"client-{each}-data") for each in ("certificate", "key"))
    token = found.user.get("token")
    if bool(certificate) != bool(key) or not (certificate or token):
        yield "has no credentials in its current context: embed a client certificate with its key, or a token"
    if token and not (isinstance(token, str) and re.fullmatch(r"[\x21-\x7e]+", token)):
        yield "has a token that cannot stand in a request: correct it"


def is_server(url: str) -> bool:
    """Whether this is an address that we and a worker can speak to: https, a host, no path, nobody's password."""
    try:
        parts = urlsplit(url)
        return (
            parts.scheme == "https" and bool(parts.hostname) and (parts.port is None or parts.port > 0)
            and parts.path in ("", "/") and not parts.query and not parts.fragment and "@" not in parts.netloc
            and url.isprintable() and " " not in url
        )  # fmt: skip
    except ValueError:
        return False


def host_and_port(server: str) -> tuple[str, int]:
    """Of a URL for which `is_server` is true."""
    parts = urlsplit(server)
    return parts.hostname or "", parts.port or 443


def _decoded(entry: Mapping[str, Any], key: str) -> bytes:
    text = entry.get(key)
    if not text:
        return b""
    if not isinstance(text, str):
        raise ValueError(key)
    return base64.b64decode(text, validate=True)  # `binascii.Error` is a ValueError


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _named(entries: object, name: str, kind: str) -> Mapping[str, Any]:
    """The `kind` of the entry called `name` in one of a kubeconfig's lists."""
    if isinstance(entries, Sequence):
        for entry in entries:
            if isinstance(entry, Mapping) and entry.get("name") == name and isinstance(entry.get(kind), Mapping):
                found: Mapping[str, Any] = entry[kind]
                return found
    return {}
