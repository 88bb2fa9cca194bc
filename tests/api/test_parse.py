"""Reading objects: the same defaults as the API server, never an exception, no value quoted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hosted_cp.api.cluster import Cluster, ClusterSpec, parse_cluster
from hosted_cp.api.join_token_request import JoinTokenRequestSpec, parse_join_token_request
from hosted_cp.api.schema import openapi, unknown_fields
from tests.api.structural import invalid

SPEC = openapi(Cluster)["properties"]["spec"]


def spec_of(body: dict[str, Any]) -> ClusterSpec:
    parsed = parse_cluster(body)
    assert parsed.spec is not None, parsed.problems
    return parsed.spec


def test_defaults_are_those_of_the_schema() -> None:
    assert spec_of({}).service.type == "NodePort"
    assert spec_of({"spec": None}).service.type == "NodePort"
    empty = spec_of({"spec": {}})
    assert (empty.service.type, empty.replicas, empty.image) == ("ClusterIP", 1, "quay.io/k0sproject/k0s")
    assert (empty.service.api_port, empty.service.konnectivity_port, empty.storage) == (None, None, None)
    assert (empty.storage_kind, empty.persistence.type, empty.key_algorithm) == ("etcd", "emptyDir", "ECDSA-P256")
    storage = spec_of({"spec": {"storage": {}}}).storage
    assert storage is not None
    assert storage.etcd.persistence is not None
    assert (storage.type, storage.etcd.persistence.size, storage.etcd.image) == ("etcd", "1Gi", None)


def test_every_default_in_the_schema_is_the_models() -> None:
    """An object that the server defaulted reads like one that it did not."""

    def defaulted(value: Any, schema: dict[str, Any]) -> Any:
        if isinstance(value, dict):
            done = dict(value)
            for name, inner in schema.get("properties", {}).items():
                if name not in done and "default" in inner:
                    done[name] = inner["default"]
                if name in done:
                    done[name] = defaulted(done[name], inner)
            return done
        return [defaulted(each, schema["items"]) for each in value] if isinstance(value, list) else value

    cases: list[dict[str, Any]] = [
        {},
        {"storage": {}},
        {"storage": {"etcd": {"defragJob": {}}, "nats": {"persistence": {}}}},
        {"persistence": {}, "service": {}},
        {"monitoring": {"enabled": True}, "remoteHostCluster": {"kubeconfigRef": {"name": "a", "namespace": "b"}}},
        {"ingress": {"apiHost": "a", "konnectivityHost": "b"}},
    ]
    for given_spec in cases:
        full = defaulted(given_spec, SPEC)
        assert full != given_spec
        assert spec_of({"spec": full}) == spec_of({"spec": given_spec})


def test_unknown_fields_are_found_offline() -> None:
    spec = {
        "replcas": 3,
        "service": {"type": "NodePort", "apiport": 1},
        "mounts": [{"path": "/a", "emptyDir": {}}, {"path": "/b", "configmap": {"name": "x"}}],
        "resources": {"limits": {"cpu": 1}, "limit": {}},
        "k0sConfig": {"anything": {"goes": 1}, "spec": {"network": {"kubeProxy": {}}}},
        "kubeconfigSecretMetadata": {"labels": {"a": "b"}},
        "replicas": {"not": "an object"},
    }
    assert unknown_fields(Cluster, {"spec": spec}) == (
        *("spec.replcas", "spec.service.apiport", "spec.mounts[1].configmap", "spec.resources.limit"),
    )
    assert unknown_fields(Cluster, {}) == unknown_fields(Cluster, {"spec": [1]}) == ()


def test_mounts_keep_their_source() -> None:
    [mount] = (
        spec_of(
            {"spec": {"mounts": [{"path": "/x", "readOnly": True, "secret": {"secretName": "s"}, "odd": 1}]}}
        ).mounts
        or ()
    )
    assert (mount.path, mount.read_only, mount.source) == ("/x", True, {"secret": {"secretName": "s"}})


def test_models_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        spec_of({}).replicas = 3  # type: ignore[misc]


def test_network_ranges_of_odd_shapes() -> None:
    odd: list[Any] = [{"spec": 1}, {"spec": {"network": []}}, {"spec": {"network": {"podCIDR": 7, "dualStack": "x"}}}]
    for config in odd:
        assert spec_of({"spec": {"k0sConfig": config}}).network == spec_of({}).network


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"replicas": "3"}, "spec.replicas: should be a valid integer; write a whole number without quotes"),
        ({"replicas": 1.5}, "spec.replicas: should be a valid integer"),
        ({"replicas": -1}, "spec.replicas: is below 0; use 0 or more"),
        ({"service": {"type": "Ingress"}}, "spec.service.type: should be 'ClusterIP', 'NodePort' or 'LoadBalancer'"),
        ({"service": {"apiPort": 0}}, "spec.service.apiPort: is below 1; use 1 or more"),
        ({"service": {"apiPort": 65536}}, "spec.service.apiPort: is above 65535; use 65535 or less"),
        ({"mounts": [{}]}, "spec.mounts[0].path: is missing; add it"),
        ({"mounts": {}}, "spec.mounts: should be a valid tuple; write a list"),
        ({"certificateRefs": [{"type": "x", "name": "a"}]}, "spec.certificateRefs[0].type: should be 'ca', 'sa'"),
        ({"k0sConfig": "x"}, "spec.k0sConfig: should be a valid dictionary; write an object"),
        ({"patches": [{"patch": {"type": "json"}}]}, "spec.patches[0].target: is missing"),
        ("x", "spec: "),
        ([], "spec: "),
    ],
)
def test_what_cannot_be_read_is_named(spec: Any, says: str) -> None:
    parsed = parse_cluster({"spec": spec})
    assert parsed.spec is None
    assert any(str(each).startswith(says) for each in parsed.problems), parsed.problems


def test_values_are_not_quoted() -> None:
    parsed = parse_cluster({"spec": {"storage": {"kine": {"dataSourceURL": ["postgres://u:hunter2@h"]}}}})
    assert parsed.problems
    assert "hunter2" not in str(parsed.problems)


VALUES: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-2, 70_000)
    | st.sampled_from(["", "etcd", "kine", "pvc", "ClusterIP", "1Gi", "json", "/x", "ca", "ECDSA-P384"])
)


def shaped(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that mostly have the schema's shape, and now and then do not."""
    kind = schema.get("type")
    if "enum" in schema:
        return st.sampled_from(schema["enum"]) | VALUES
    if kind == "object" and "properties" in schema:
        inner = {name: shaped(each) for name, each in schema["properties"].items()}
        required = {name: inner.pop(name) for name in schema.get("required", ())}
        full = st.fixed_dictionaries(required, optional=dict(list(inner.items())[:8]))
        return full if "x-kubernetes-preserve-unknown-fields" not in schema else st.just({})
    if kind == "object":
        return st.dictionaries(st.sampled_from(["a", "b"]), st.text("ab", max_size=2), max_size=2)
    if kind == "array":
        return st.lists(shaped(schema["items"]), max_size=2)
    plain = {"string": st.text("ab/", max_size=3), "integer": st.integers(0, 99), "boolean": st.booleans()}
    return plain.get(str(kind), st.integers(0, 9)) | VALUES if kind else st.integers(0, 9) | st.just("1Gi")


PLAIN = {
    name: shaped(SPEC["properties"][name])
    for name in (
        "replicas",
        "service",
        "certificateRefs",
        "kubeconfigSecretMetadata",
        "patches",
        "monitoring",
        "storage",
    )
}


@given(st.fixed_dictionaries({}, optional=PLAIN))
def test_the_model_accepts_what_the_schema_accepts(spec: dict[str, Any]) -> None:
    """An object that the API server lets in can be read: one direction of the agreement, without CEL rules."""
    if not invalid(spec, {**SPEC, "x-kubernetes-preserve-unknown-fields": True}):
        assert parse_cluster({"spec": spec}).spec is not None


@given(st.fixed_dictionaries({}, optional=PLAIN))
def test_the_schema_accepts_what_the_model_accepts(spec: dict[str, Any]) -> None:
    """The other direction; null, which the server prunes or refuses, counts as absent."""

    def without_null(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_null(each) for key, each in value.items() if each is not None}
        return [without_null(each) for each in value] if isinstance(value, list) else value

    if parse_cluster({"spec": spec}).spec is not None:
        assert invalid(without_null(spec), SPEC) == []


@pytest.mark.parametrize(
    ("expiry", "life"),
    [(None, 3600), ("0s", 3600), ("0", 3600), ("90s", 90), ("30m", 1800), ("24h", 86400), ("1s", 1)],
)
def test_tokens_always_expire(expiry: str | None, life: int) -> None:
    spec = parse_join_token_request({"spec": {"clusterName": "demo", "expiry": expiry}}).spec
    assert spec is not None
    assert spec.life == timedelta(seconds=life)
    assert spec.role == "worker"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"clusterName": "a", "expiry": "1x"}, "spec.expiry: is no duration such as 90s, 30m or 1h30m; write how long"),
        ({"clusterName": "a", "expiry": "-5m"}, "spec.expiry: is no duration"),
        ({"clusterName": "a", "expiry": "1ms"}, "spec.expiry: is less than a second; ask for a longer life"),
        ({"clusterName": "a", "expiry": "9999999h"}, "spec.expiry: is longer than 292 years"),
        ({"clusterName": ""}, "spec.clusterName: should have at least 1 character"),
        ({"clusterName": "a", "role": "both"}, "spec.role: should be 'worker' or 'controller'"),
        ({}, "spec.clusterName: is missing"),
        (None, "spec.clusterName: is missing"),
        (7, "spec: "),
    ],
)
def test_bad_token_requests(spec: Any, says: str) -> None:
    parsed = parse_join_token_request({"spec": spec})
    assert parsed.spec is None
    [problem] = parsed.problems
    assert str(problem).startswith(says)


def test_spec_of_a_token_request_by_name() -> None:
    assert JoinTokenRequestSpec(cluster_name="a").expiry is None
