"""The stand-in's ClusterConfig: what follows from a resolved configuration."""

from __future__ import annotations

import json
from typing import Any

import pytest

from k0s_images.standin import config, schema
from k0s_images.standin.config import ClusterConfig
from k0s_images.standin.errors import Fatal
from k0s_images.standin.versions import RELEASES, chosen


def parse(spec: dict[str, Any], *, minor: str = "1.36") -> ClusterConfig:
    return config.parse(json.dumps({"spec": spec}), chosen({"K0S_STANDIN_VERSION": minor}))


@pytest.mark.parametrize(
    ("external", "port", "published", "host"),
    [
        ("192.0.2.9", 6443, "192.0.2.9:6443", "192.0.2.9"),
        ("192.0.2.9", 7443, "192.0.2.9:7443", "192.0.2.9"),
        ("192.0.2.9:31234", 6443, "192.0.2.9:31234", "192.0.2.9"),
        ("a.example:31234", 6443, "a.example:31234", "a.example"),
        ("fd00::1", 6443, "[fd00::1]:6443", "fd00::1"),
        ("[fd00::1]:31234", 6443, "[fd00::1]:31234", "fd00::1"),
    ],
)
def test_published_address(external: str, port: int, published: str, host: str) -> None:
    resolved = parse({"api": {"externalAddress": external, "port": port}})
    assert (resolved.published, resolved.external_host) == (published, host)
    assert resolved.local_server == f"https://localhost:{port}"


def test_agents_dial_their_own_address_if_there_is_one() -> None:
    api = {"externalAddress": "192.0.2.9:31234"}
    assert parse({"api": api}).agents_dial == ("192.0.2.9", 8132)
    assert parse({"api": api, "konnectivity": {"externalAddress": "k.example"}}).agents_dial == ("k.example", 8132)
    assert parse({"api": api, "konnectivity": {"externalAddress": "k.example:1"}}).agents_dial == ("k.example", 1)


@pytest.mark.parametrize(
    ("source", "joinable"),
    [
        ("sqlite:///var/lib/k0s/db/state.db", False),
        ("postgres://user@db/x", True),
        ("mysql://user@tcp(db)/x", True),
        ("nats://x", False),
        ("nats://x?noEmbed=true", True),
    ],
)
def test_joinable(source: str, joinable: bool) -> None:
    assert parse({"storage": {"type": "kine", "kine": {"dataSource": source}}}).joinable is joinable


@pytest.mark.parametrize(("network", "dns"), [("10.96.0.0/12", "10.96.0.10"), ("10.55.0.0/29", "10.55.0.2")])
def test_cluster_dns(network: str, dns: str) -> None:
    assert parse({"network": {"serviceCIDR": network}}).cluster_dns == dns


def test_image_repository_replaces_the_registry() -> None:
    images = {"repository": "mirror.example/x", "konnectivity": {"image": "a.example/agent", "version": "1"}}
    resolved = parse({"images": images})
    assert resolved.image("konnectivity") == "mirror.example/x/agent:1"
    assert resolved.image("coredns").startswith("mirror.example/x/k0sproject/coredns:")
    assert parse({}).image("pause") == "quay.io/k0sproject/pause:3.10.2-0"


def test_feature_gates_by_component() -> None:
    gates = [{"name": "A", "enabled": True}, {"name": "B", "components": ["kubelet"]}]
    resolved = parse({"featureGates": gates})
    assert resolved.feature_gates("kubelet") == "A=true,B=false"
    assert resolved.feature_gates("kube-apiserver") == "A=true"


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(Fatal) as caught:
        parse({"api": {"port": 70000, "sans": ["a b"]}, "network": {"podCIDR": "x"}})
    assert all(word in str(caught.value) for word in ("spec.api.port", "spec.api.sans[0]", "spec.network.podCIDR"))


def test_fields_of_a_newer_version_are_unknown_to_an_older_one() -> None:
    parse({"metricsServer": {}}, minor="1.36")
    with pytest.raises(Fatal, match="metricsServer"):
        parse({"metricsServer": {}}, minor="1.35")


@pytest.mark.parametrize(
    ("text", "seconds", "canonical"),
    [
        ("1h", 3600, "1h0m0s"),
        ("1h30m", 5400, "1h30m0s"),
        ("90s", 90, "1m30s"),
        ("45s", 45, "45s"),
        ("300ms", 0.3, "300ms"),
        ("0s", 0, "0s"),
        ("0", 0, "0s"),
        ("87600h", 315360000, "87600h0m0s"),
    ],
)
def test_durations(text: str, seconds: float, canonical: str) -> None:
    assert schema.seconds(text) == pytest.approx(seconds)
    assert schema.canonical(text) == canonical


@pytest.mark.parametrize("text", ["", "1", "1x", "h", "1h 2m", "1hh"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        schema.seconds(text)


def test_versions_are_found_by_any_of_their_names() -> None:
    for release in RELEASES:
        for name in (release.version, release.label, release.minor):
            assert chosen({"K0S_STANDIN_VERSION": name}) is release
    with pytest.raises(Fatal, match=r"1\.12"):
        chosen({"K0S_STANDIN_VERSION": "1.12"})
