"""Kubeconfig documents: written for the components, read from files and join tokens."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from k0s_images.standin import documents
from k0s_images.standin.errors import Fatal


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a kubeconfig's current context says: server, its CA, and how to authenticate."""

    server: str
    ca: bytes
    user: str
    token: str = ""
    certificate: bytes = b""
    key: bytes = b""


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def document(
    *, server: str, ca: bytes, user: Mapping[str, Any], cluster_name: str = "local", context: str = "Default",
    user_name: str = "user",
) -> dict[str, Any]:  # fmt: skip
    """A kubeconfig with one cluster, one user and one context."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster_name, "cluster": {"server": server, "certificate-authority-data": _b64(ca)}}],
        "contexts": [{"name": context, "context": {"cluster": cluster_name, "user": user_name}}],
        "current-context": context,
        "preferences": {},
        "users": [{"name": user_name, "user": dict(user)}],
    }


def with_certificate(*, server: str, ca: bytes, certificate: bytes, key: bytes) -> str:
    """The kubeconfig of a component that authenticates by a client certificate, as JSON (which is YAML)."""
    user = {"client-certificate-data": _b64(certificate), "client-key-data": _b64(key)}
    return json.dumps(document(server=server, ca=ca, user=user), indent=1) + "\n"


def for_user(*, server: str, ca: bytes, certificate: bytes, key: bytes, name: str, user: str) -> str:
    """The kubeconfig that is handed to a person, as YAML."""
    section = {"client-certificate-data": _b64(certificate), "client-key-data": _b64(key)}
    made = document(server=server, ca=ca, user=section, cluster_name=name, context=name, user_name=user)
    return documents.dump(made)


def read(content: str | bytes) -> Credentials:
    """The credentials of the current (or the only) context; `Fatal` if the document is no usable kubeconfig."""
    try:
        config = yaml.safe_load(content)
        contexts = {c["name"]: c["context"] for c in config["contexts"]}
        chosen = contexts.get(config.get("current-context")) or next(iter(contexts.values()))
        cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == chosen["cluster"])
        user = next(u["user"] for u in config["users"] if u["name"] == chosen["user"])
        return Credentials(
            server=cluster["server"],
            ca=_material(cluster, "certificate-authority"),
            user=chosen["user"],
            token=user.get("token") or "",
            certificate=_material(user, "client-certificate"),
            key=_material(user, "client-key"),
        )
    except (yaml.YAMLError, KeyError, TypeError, ValueError, StopIteration, OSError) as fault:
        raise Fatal(f"failed to load kubeconfig: {type(fault).__name__}: {fault}") from fault


def _material(section: Mapping[str, Any], name: str) -> bytes:
    if section.get(f"{name}-data"):
        return base64.b64decode(section[f"{name}-data"])
    if section.get(name):
        with open(section[name], "rb") as file:
            return file.read()
    return b""
