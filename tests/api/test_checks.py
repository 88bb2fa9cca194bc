"""Every fault of section 6 that can be known without the world is found, with its field and a remedy."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.api.checks import is_host, problems, shared_storage
from hosted_cp.api.cluster import ClusterSpec, Network, parse_cluster
from hosted_cp.api.database import DatabaseFacts
from hosted_cp.api.problems import Problem


def read(spec: dict[str, Any]) -> ClusterSpec:
    parsed = parse_cluster({"spec": spec})
    assert parsed.spec is not None, parsed.problems
    return parsed.spec


def found(spec: dict[str, Any], *, name: str = "demo", **more: Any) -> dict[str, str]:
    """field -> sentence"""
    return {each.field: str(each) for each in problems(read(spec), name=name, **more)}


def network(**ranges: Any) -> dict[str, Any]:
    return {"k0sConfig": {"apiVersion": "k0s.k0sproject.io/v1beta1", "spec": {"network": ranges}}}


def kine(**fields: Any) -> dict[str, Any]:
    return {"storage": {"type": "kine", "kine": fields}}


def patch(content: str, kind: str = "merge") -> dict[str, Any]:
    return {"patches": [{"target": {"kind": "Service", "component": "x"}, "patch": {"type": kind, "content": content}}]}


#: What a careful user writes. Nothing of it may be a problem.
GOOD: list[dict[str, Any]] = [
    {},
    {"replicas": 3, "version": "v1.36.3+k0s.2"},
    {"version": "1.36.3"},
    {"version": "v1.36.3-k0s.2"},
    {"externalAddress": "203.0.113.7"},
    {"externalAddress": "fd00::7"},
    {"externalAddress": "cp.tenants.example"},
    {"image": "registry.example:5000/mirror/k0s"},
    {"service": {"type": "NodePort", "apiPort": 30443, "konnectivityPort": 30132}},
    {
        "persistence": {
            "type": "pvc",
            "persistentVolumeClaim": {"spec": {"resources": {"requests": {"storage": "1Gi"}}}},
        }
    },
    {"persistence": {"type": "hostPath", "hostPath": "/var/lib/x"}},
    network(podCIDR="10.1.0.0/16", serviceCIDR="10.2.0.0/16", clusterDomain="tenant.example"),
    network(dualStack={"enabled": True, "IPv6podCIDR": "fd00:1::/64", "IPv6serviceCIDR": "fd00:2::/108"}),
    network(podCIDR="fd00:1::/64", serviceCIDR="fd00:2::/108"),
    kine(dataSourceURL="sqlite://file:/var/lib/k0s/db/state.db?mode=rwc&_journal=WAL"),
    kine(dataSourceSecretName="dsn") | {"replicas": 3},
    kine(dataSourceSecretName="dsn", dataSourceURL="__K0SMOTRON_KINE_DATASOURCE_URL_PLACEHOLDER__"),
    kine(dataSourceURL="postgres://db:5432/x") | {"replicas": 2},
    {"certificateRefs": [{"type": "ca", "name": "my-ca"}, {"type": "sa", "name": "my-sa"}]},
    {"resources": {"limits": {"cpu": 2, "memory": "1.5Gi"}, "requests": {"cpu": "1000m", "memory": "1e9"}}},
    {"storage": {"etcd": {"persistence": {"size": 1073741824}}}},
    {"manifests": [{"name": "stack", "configMap": {"name": "stack"}}]},
    {
        "mounts": [
            {"path": "/var/lib/k0s/manifests/x", "secret": {"secretName": "s"}},
            {"path": "/etc/x", "emptyDir": {}},
        ]
    },
    patch("spec: {type: ClusterIP}"),
    patch('[{"op": "remove", "path": "/metadata/labels/x"}]', "json"),
    patch("spec:\n  ports: []\n", "strategic"),
    {"kubeconfigSecretMetadata": {"labels": {"a.example/b": "c_1", "d": ""}, "annotations": {"x": "any thing"}}},
]


@pytest.mark.parametrize("spec", GOOD)
def test_what_is_good_has_no_problems(spec: dict[str, Any]) -> None:
    assert found(spec, name="a" * 43) == {}


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"replicas": 0}, "spec.replicas", "is 0, so no control plane runs; set 1 or more"),
    ({"version": "latest"}, "spec.version", "'latest' is no version of k0s; write it like v1.36.3+k0s.2"),
    ({"version": "v1.36"}, "spec.version", "no version"),
    ({"version": "v1.36.3+k0s.2; rm"}, "spec.version", "no version"),
    ({"image": "k0s:v1.36.3-k0s.2"}, "spec.image", "names a tag, and the tag is that of spec.version"),
    ({"image": "registry.example:5000/k0s@sha256:0f"}, "spec.image", "names a digest"),
    ({"externalAddress": "https://cp.example"}, "spec.externalAddress", "neither an IP address nor a DNS name"),
    ({"externalAddress": "cp.example:6443"}, "spec.externalAddress", "without a port"),
    ({"externalAddress": "203.0.113.700"}, "spec.externalAddress", "neither"),
    ({"service": {"apiPort": 6443, "konnectivityPort": 6443}}, "spec.service.konnectivityPort", "as apiPort is"),
    (
        {"k0sConfig": {"kind": "ClusterConfig"}},
        "spec.k0sConfig.apiVersion",
        "is missing; set k0s.k0sproject.io/v1beta1",
    ),
    ({"k0sConfig": {"apiVersion": "v1"}}, "spec.k0sConfig.apiVersion", "not that of a k0s config"),
    (
        {"k0sConfig": {"apiVersion": "k0s.k0sproject.io/v1beta1", "kind": "Pod"}},
        "spec.k0sConfig.kind",
        "set ClusterConfig",
    ),
    ({"k0sConfig": {"apiVersion": "k0s.k0sproject.io/v1beta1", "spec": []}}, "spec.k0sConfig.spec", "no object"),
    (network(podCIDR="10.0.0.0"), "spec.k0sConfig.spec.network.podCIDR", "'10.0.0.0' is no network range"),
    (network(serviceCIDR="10.300.0.0/16"), "spec.k0sConfig.spec.network.serviceCIDR", "no network range"),
    (network(podCIDR="10.96.128.0/20"), "spec.k0sConfig.spec.network.serviceCIDR", "overlaps podCIDR 10.96.128.0/20"),
    (network(clusterDomain="a b"), "spec.k0sConfig.spec.network.clusterDomain", "is no DNS name"),
    (network(dualStack={"enabled": True}), "spec.k0sConfig.spec.network.dualStack.IPv6podCIDR", "is missing"),
    (
        network(dualStack={"enabled": True, "IPv6podCIDR": "fd00:1::/64", "IPv6serviceCIDR": "fd00:2::/64"}),
        "spec.k0sConfig.spec.network.dualStack.IPv6serviceCIDR",
        "/64 is larger than the API server allows",
    ),
    (
        network(dualStack={"enabled": True, "IPv6podCIDR": "10.9.0.0/16", "IPv6serviceCIDR": "fd00:2::/112"}),
        "spec.k0sConfig.spec.network.dualStack.IPv6podCIDR",
        "is not IPv6",
    ),
    (
        network(
            podCIDR="fd00:3::/64",
            dualStack={"enabled": True, "IPv6podCIDR": "fd00:1::/64", "IPv6serviceCIDR": "fd00:2::/112"},
        ),
        "spec.k0sConfig.spec.network.podCIDR",
        "is not IPv4",
    ),
    ({"storage": {"type": "kine"}}, "spec.storage.kine", "names no database; set dataSourceSecretName"),
    (kine(), "spec.storage.kine", "names no database"),
    (kine(dataSourceURL="redis://x"), "spec.storage.kine.dataSourceURL", "no data source that kine understands"),
    (kine(dataSourceURL="mysql://x", dataSourceSecretName="y"), "spec.storage.kine.dataSourceURL", "leave out one"),
    (
        kine(dataSourceURL="sqlite:///x") | {"replicas": 3},
        "spec.replicas",
        "is SQLite, a file that only one controller",
    ),
    ({"persistence": {"type": "tape"}}, "spec.persistence.type", "'tape' is no kind of volume"),
    ({"persistence": {"type": "pvc"}}, "spec.persistence.persistentVolumeClaim", "is missing, and type pvc needs it"),
    ({"persistence": {"type": "hostPath"}}, "spec.persistence.hostPath", "no absolute path"),
    ({"certificateRefs": [{"type": "ca"}]}, "spec.certificateRefs[0].name", "is missing"),
    (
        {"certificateRefs": [{"type": "ca", "name": "a"}, {"type": "ca", "name": "b"}]},
        "spec.certificateRefs[1].type",
        "ca is listed twice",
    ),
    ({"resources": {"limits": {"memory": "1 GB"}}}, "spec.resources.limits.memory", "'1 GB' is no quantity"),
    ({"resources": {"requests": {"cpu": "-1"}}}, "spec.resources.requests.cpu", "-1 is negative"),
    ({"resources": {"requests": {"cpu": True}}}, "spec.resources.requests.cpu", "'True' is no quantity"),
    (
        {"storage": {"etcd": {"resources": {"limits": {"cpu": "one"}}}}},
        "spec.storage.etcd.resources.limits.cpu",
        "no quantity",
    ),
    ({"storage": {"etcd": {"persistence": {"size": "big"}}}}, "spec.storage.etcd.persistence.size", "no quantity"),
    ({"storage": {"nats": {"persistence": {"size": "big"}}}}, "spec.storage.nats.persistence.size", "no quantity"),
    (
        {
            "persistence": {
                "type": "pvc",
                "persistentVolumeClaim": {"spec": {"resources": {"requests": {"storage": "x"}}}},
            }
        },
        "spec.persistence.persistentVolumeClaim.spec.resources.requests.storage",
        "no quantity",
    ),
    ({"manifests": [{"name": "A_b", "emptyDir": {}}]}, "spec.manifests[0].name", "no name of a volume"),
    ({"manifests": [{"name": "a"}]}, "spec.manifests[0]", "names no volume source"),
    ({"manifests": [{"name": "a", "emptyDir": {}}] * 2}, "spec.manifests[1].name", "a is used twice"),
    ({"mounts": [{"path": "etc", "emptyDir": {}}]}, "spec.mounts[0].path", "no absolute path"),
    ({"mounts": [{"path": "/a/../etc", "emptyDir": {}}]}, "spec.mounts[0].path", "no absolute path"),
    ({"mounts": [{"path": "/a//b", "emptyDir": {}}]}, "spec.mounts[0].path", "no absolute path"),
    ({"mounts": [{"path": "/a:b", "emptyDir": {}}]}, "spec.mounts[0].path", "without a colon"),
    ({"mounts": [{"path": "/", "emptyDir": {}}]}, "spec.mounts[0].path", "what the control plane itself needs"),
    ({"mounts": [{"path": "/var/lib/k0s/", "emptyDir": {}}]}, "spec.mounts[0].path", "itself needs"),
    (
        {"mounts": [{"path": "/a", "emptyDir": {}}, {"path": "/a/", "emptyDir": {}}]},
        "spec.mounts[1].path",
        "used twice",
    ),
    (
        {"mounts": [{"path": "/a", "emptyDir": {}, "secret": {}}]},
        "spec.mounts[0]",
        "several volume sources (emptyDir, secret)",
    ),
    (patch("a: ["), "spec.patches[0].patch.content", "is neither YAML nor JSON (line 2"),
    (patch("[]"), "spec.patches[0].patch.content", "is no object, as a patch of type merge is"),
    (patch("text", "strategic"), "spec.patches[0].patch.content", "is no object"),
    (patch("a: 1", "json"), "spec.patches[0].patch.content", "is no JSON patch (RFC 6902)"),
    (patch('[{"op": "add", "path": "/a"}]', "json"), "spec.patches[0].patch.content", "no JSON patch"),
    (patch('[{"op": "move", "path": "/a"}]', "json"), "spec.patches[0].patch.content", "no JSON patch"),
    (patch('[{"op": "destroy", "path": "/a"}]', "json"), "spec.patches[0].patch.content", "no JSON patch"),
    (
        {"kubeconfigSecretMetadata": {"labels": {"a": "b c"}}},
        "spec.kubeconfigSecretMetadata.labels[a]",
        "no value of a label",
    ),
    (
        {"kubeconfigSecretMetadata": {"annotations": {"a b": "c"}}},
        "spec.kubeconfigSecretMetadata.annotations[a b]",
        "no key of a label or annotation",
    ),
]


@pytest.mark.parametrize(("spec", "field", "says"), BAD, ids=[f"{field}-{says[:20]}" for _, field, says in BAD])
def test_every_fault_names_field_cause_and_remedy(spec: dict[str, Any], field: str, says: str) -> None:
    named = found(spec)
    assert field in named, named
    assert says in named[field]
    # And healing needs no guess: this is the only complaint about that field.
    assert named[field].startswith(f"{field}: ")
    assert named[field].count("; ") >= 1


@pytest.mark.parametrize(
    ("name", "says"),
    [("x" * 200, "has 200 characters"), ("x" * 44, "at most 43"), ("a.b", "no dots"), ("A", "lower-case")],
)
def test_names(name: str, says: str) -> None:
    assert says in found({}, name=name)["metadata.name"]


def test_support_of_versions_is_asked_only_for_versions() -> None:
    def support(version: str) -> Problem | None:
        assert version in ("v1.20.0", "v1.36.3+k0s.2")
        return Problem(field="spec.version", fault="is old", remedy="take v1.36") if "1.20" in version else None

    assert found({"version": "v1.20.0"}, support=support) == {"spec.version": "spec.version: is old; take v1.36"}
    assert found({"version": "v1.36.3+k0s.2"}, support=support) == {}
    assert "no version" in found({"version": "nonsense"}, support=support)["spec.version"]
    assert found({}, support=support) == {}


def test_what_was_fixed_at_creation_cannot_change() -> None:
    old = read(network(podCIDR="10.1.0.0/16")).network
    assert found(network(podCIDR="10.1.0.0/16", clusterDomain="cluster.local"), old=old, old_storage="etcd") == {}
    changed = found(network(podCIDR="10.3.0.0/16"), old=old)
    assert changed.keys() == {"spec.k0sConfig.spec.network.podCIDR"}
    assert "set it back to 10.1.0.0/16" in changed["spec.k0sConfig.spec.network.podCIDR"]
    assert (
        "cannot change from 10.1.0.0/16 to 10.244.0.0/16" in found({}, old=old)["spec.k0sConfig.spec.network.podCIDR"]
    )
    dual = {"enabled": True, "IPv6podCIDR": "fd00:1::/64", "IPv6serviceCIDR": "fd00:2::/112"}
    changed = found(
        network(podCIDR="10.1.0.0/16", serviceCIDR="10.2.0.0/16", clusterDomain="x.y", dualStack=dual), old=old
    )
    assert {each.rpartition("network.")[2] for each in changed} == {
        *("serviceCIDR", "clusterDomain", "dualStack.enabled", "dualStack.IPv6podCIDR", "dualStack.IPv6serviceCIDR")
    }
    storage = found(kine(dataSourceSecretName="x"), old_storage="etcd")
    assert "cannot change from etcd to kine" in storage["spec.storage.type"]


def test_a_data_source_from_a_secret_is_judged_by_its_facts() -> None:
    spec = read(kine(dataSourceSecretName="x") | {"replicas": 3})
    [problem] = shared_storage(spec, DatabaseFacts(kind="sqlite"), field="Secret x")
    assert "Secret x is SQLite" in str(problem)
    assert not list(shared_storage(spec, DatabaseFacts(kind="postgres"), field="Secret x"))


def test_several_faults_are_all_named() -> None:
    spec = {"replicas": 0, "version": "x", "externalAddress": "a b"} | kine() | patch("a: [")
    assert len(found(spec)) == 5


def test_no_data_source_is_quoted() -> None:
    for dsn in ("redis://u:hunter2@h", "postgres://u:hunter2@h:x/db", "hunter2"):
        assert "hunter2" not in str(found(kine(dataSourceURL=dsn)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = list(ClusterSpec.model_json_schema()["properties"])


@given(
    spec=st.dictionaries(st.sampled_from(FIELDS), JSON | st.sampled_from([g[k] for g in GOOD for k in g]), max_size=5)
)
def test_any_spec_is_read_or_refused_and_checked_without_an_exception(spec: dict[str, Any]) -> None:
    parsed = parse_cluster({"spec": spec})
    if parsed.spec is None:
        assert parsed.problems
    else:
        assert not parsed.problems
        for each in problems(parsed.spec, name="demo", old=Network.of(None), old_storage="etcd"):
            assert each.field
            assert each.fault
            assert each.remedy


@given(st.text(alphabet="abcdefXYZ019.:-_ /", max_size=30))
def test_hosts_have_no_blanks_schemes_or_ports(text: str) -> None:
    if is_host(text):
        assert not set(text) & set(" /_")
        assert ":" not in text or text.count(":") >= 2
