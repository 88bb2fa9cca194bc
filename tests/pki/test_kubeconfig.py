"""Kubeconfigs of others: which are used, and what is said of those that are not."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from hosted_cp.pki import kubeconfig
from hosted_cp.pki.facts import secret_facts
from hosted_cp.pki.kubeconfig import KubeconfigError
from tests.pki.material import authority

CA, PAIR = authority(), authority("client")


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


CLUSTER: Mapping[str, Any] = {
    "server": "https://api.example:6443", "certificate-authority-data": encoded(CA["tls.crt"])
}  # fmt: skip
USER: Mapping[str, Any] = {
    "client-certificate-data": encoded(PAIR["tls.crt"]), "client-key-data": encoded(PAIR["tls.key"])
}  # fmt: skip


def config(*, cluster: Mapping[str, Any] = CLUSTER, user: Mapping[str, Any] = USER, **parts: Any) -> bytes:
    whole = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": dict(cluster)}], "users": [{"name": "u", "user": dict(user)}], **parts,
    }  # fmt: skip
    return yaml.safe_dump(whole).encode()


def test_certificates_and_tokens_are_used() -> None:
    found = kubeconfig.access(config())
    assert (found.ca, found.certificate, found.key, found.token) == (
        CA["tls.crt"],
        PAIR["tls.crt"],
        PAIR["tls.key"],
        "",
    )
    by_token = kubeconfig.access(config(user={"token": "abc.def"}))
    assert (by_token.ca, by_token.certificate, by_token.key, by_token.token) == (CA["tls.crt"], b"", b"", "abc.def")
    assert "abc.def" not in repr(by_token)


def test_only_the_current_context_counts() -> None:
    other = {"name": "other", "user": {"exec": {"command": "id"}}}
    assert kubeconfig.access(config(users=[other, {"name": "u", "user": {"token": "x"}}])).token == "x"
    nobodys: dict[str, Any] = {"current-context": "nobody"}
    with pytest.raises(KubeconfigError, match="no cluster in its current context"):
        kubeconfig.access(config(**nobodys))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"user": {**USER, "exec": {"command": "id"}}}, "uses exec"),
    ({"user": {"auth-provider": {"name": "gcp"}}}, "uses auth-provider"),
    ({"user": {"tokenFile": "/etc/passwd"}}, "uses tokenFile"),
    ({"user": {"client-certificate": "/x", "client-key": "/y"}}, "uses client-certificate,"),
    ({"user": {**USER, "client-key": "/y"}}, "uses client-key,"),
    ({"user": {"username": "a", "password": "hunter2"}}, "uses username"),
    ({"user": {**USER, "as": "root"}}, "uses as,"),
    ({"user": {**USER, "as-groups": ["system:masters"]}}, "uses as-groups"),
    ({"user": {}}, "has no credentials"),
    ({"user": {"client-certificate-data": USER["client-certificate-data"]}}, "has no credentials"),
    ({"user": {"token": "two\nlines"}}, "cannot stand in a request"),
    ({"user": {"token": ["x"]}}, "cannot stand in a request"),
    ({"user": {"client-certificate-data": "*", "client-key-data": "*"}}, "not base64"),
    ({"cluster": {**CLUSTER, "insecure-skip-tls-verify": True}}, "uses insecure-skip-tls-verify"),
    ({"cluster": {**CLUSTER, "certificate-authority": "/x"}}, "uses certificate-authority,"),
    ({"cluster": {**CLUSTER, "proxy-url": "socks5://x"}}, "uses proxy-url"),
    ({"cluster": {"server": CLUSTER["server"]}}, "has no certificate-authority-data"),
    ({"kind": "Pod"}, "is no kubeconfig"),
    ({"clusters": "x"}, "no cluster in its current context"),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "message"), REFUSED)
def test_what_is_not_used_is_refused_with_a_remedy_and_nothing_is_quoted(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(KubeconfigError, match=message) as fault:
        kubeconfig.access(config(**parts))
    assert ": " in str(fault.value)
    assert not any(each in str(fault.value) for each in ("hunter2", "/etc/passwd", "system:masters", "socks5"))


@pytest.mark.parametrize("parts", [{}, *(parts for parts, message in REFUSED if "base64" not in message)])
def test_facts_say_the_same(parts: dict[str, Any]) -> None:
    value = config(**parts)
    facts = secret_facts(type="Opaque", data={"value": value}).kubeconfigs.get("value")
    try:
        kubeconfig.access(value)
        said = ""
    except KubeconfigError as fault:
        said = str(fault)
    assert (facts.unusable if facts is not None else "is no kubeconfig: write one of kind Config") == said


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://api.example:6443", True), ("https://[2001:db8::1]:6443/", True), ("https://10.0.0.1", True),
        ("http://api.example", False), ("https://", False), ("https://api.example/k8s/clusters/c", False),
        ("https://bob:secret@api.example", False), ("https://api.example:0", False), ("https://api:70000", False),
        ("https://api.example?x=1", False), ("https://a b", False), ("https://a\nb", False), ("", False),
        ("https://[::1", False), ("unix:///run/x", False), ("file:///etc/passwd", False),
    ],
)  # fmt: skip
def test_servers(url: str, good: bool) -> None:
    assert kubeconfig.is_server(url) == good


def test_the_address_of_a_server() -> None:
    assert kubeconfig.host_and_port("https://api.example:6443") == ("api.example", 6443)
    assert kubeconfig.host_and_port("https://[2001:db8::1]") == ("2001:db8::1", 443)
