"""The config of a hosted tenant: what is merged, what is refused, what is secret."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.k0s import schema
from hosted_cp.k0s.config import (
    CONTENT_SEAL,
    PASSWORD_FILE,
    PROBE_FILE,
    SQLITE,
    ConfigRecipe,
    Hosted,
    hosted_config,
    k0s_leaf_life,
    port_problem,
    probes_by_http,
    problems,
)
from hosted_cp.k0s.versions import Version, parse
from hosted_cp.planning.recipes import Inputs, MaterialError

NEWEST, OLD = parse("v1.36.3+k0s.2"), parse("v1.33.4+k0s.0")
API_VERSION = "k0s.k0sproject.io/v1beta1"
CANARY = "c4n4ry-p4ssw0rd"


def user(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": "ClusterConfig", "spec": spec}


def hosted(**changes: Any) -> Hosted:
    given_: dict[str, Any] = {
        "version": NEWEST,
        "address": "203.0.113.7",
        "api_port": 31234,
        "konnectivity_port": 31235,
        "sans": ("kmc-n-nodeport.ns.svc", "10.96.4.5", "kmc-n-nodeport"),
        "etcd_endpoints": ("https://kmc-n-etcd:2379",),
        "etcd_prefix": "n",
        **changes,
    }
    return Hosted(**given_)


def spec_of(config: Any) -> Any:
    return config["spec"]


def test_the_config_without_wishes_of_the_user() -> None:
    assert hosted_config(None, hosted()) == {
        "apiVersion": API_VERSION,
        "kind": "ClusterConfig",
        "metadata": {"name": "k0s"},
        "spec": {
            "api": {
                "port": 6443,
                "externalAddress": "203.0.113.7:31234",
                "sans": ["10.96.4.5", "203.0.113.7", "kmc-n-nodeport", "kmc-n-nodeport.ns.svc"],
                "extraArgs": {"authentication-config": "/etc/k0s/authentication.json"},
            },
            "controllerManager": {"extraArgs": {"kube-api-qps": "300", "kube-api-burst": "600"}},
            "konnectivity": {"agentPort": 8132, "externalAddress": "203.0.113.7:31235"},
            "storage": {
                "type": "etcd",
                "etcd": {
                    "externalCluster": {
                        "endpoints": ["https://kmc-n-etcd:2379"],
                        "etcdPrefix": "n",
                        "caFile": "/var/lib/k0s/pki/etcd-ca.crt",
                        "clientCertFile": "/var/lib/k0s/pki/apiserver-etcd-client.crt",
                        "clientKeyFile": "/var/lib/k0s/pki/apiserver-etcd-client.key",
                    }
                },
            },
        },
    }


def test_ours_win_sans_are_united_and_the_users_mapping_stays_as_it_was() -> None:
    wished = user(
        api={
            "port": 30443,
            "sans": ["b.example.org", "203.0.113.7"],
            "extraArgs": {"v": "4"},
            "externalAddress": "old",
        },
        controllerManager={"extraArgs": {"kube-api-qps": "50"}},
        konnectivity={"agentPort": 30132, "externalAddress": "agents.example.org:443"},
        storage={"type": "kine", "kine": {"dataSource": "x"}, "etcd": {"extraArgs": {"a": "b"}, "externalCluster": {}}},
        network={"provider": "calico", "podCIDR": "10.8.0.0/16"},
        workerProfiles=[{"name": "default", "values": {"failCgroupV1": False}}],
    )
    before = copy.deepcopy(wished)
    spec = spec_of(hosted_config(wished, hosted(pod_cidr="10.244.0.0/16", service_cidr="10.96.0.0/12")))
    assert wished == before
    assert spec["api"]["port"] == 6443
    assert spec["api"]["externalAddress"] == "203.0.113.7:31234"
    assert spec["api"]["extraArgs"]["v"] == "4"
    assert spec["api"]["sans"] == sorted(
        ["10.96.4.5", "203.0.113.7", "agents.example.org", "b.example.org", "kmc-n-nodeport", "kmc-n-nodeport.ns.svc"]
    )
    assert spec["controllerManager"]["extraArgs"] == {"kube-api-qps": "50", "kube-api-burst": "600"}
    assert spec["konnectivity"] == {"agentPort": 8132, "externalAddress": "agents.example.org:443"}
    assert spec["storage"]["type"] == "etcd"
    assert "kine" not in spec["storage"]
    assert spec["storage"]["etcd"]["extraArgs"] == {"a": "b"}
    assert spec["network"] == {"provider": "calico", "podCIDR": "10.8.0.0/16", "serviceCIDR": "10.96.0.0/12"}
    assert spec["workerProfiles"] == before["spec"]["workerProfiles"]


@pytest.mark.parametrize(
    ("address", "port", "external"),
    [
        ("203.0.113.7", 6443, "203.0.113.7"),
        ("k.example.org", 6443, "k.example.org"),
        ("k.example.org", 443, "k.example.org:443"),
        ("2001:db8::7", 6443, "2001:db8::7"),
        ("2001:db8::7", 443, "[2001:db8::7]:443"),
    ],
)
def test_the_port_is_written_where_it_is_not_the_containers(address: str, port: int, external: str) -> None:
    spec = spec_of(hosted_config(None, hosted(address=address, api_port=port, konnectivity_port=8132)))
    assert spec["api"]["externalAddress"] == external
    assert spec["konnectivity"] == {"agentPort": 8132}


def test_an_old_k0s_cannot_be_published_at_other_ports() -> None:
    problem = port_problem(hosted(version=OLD))
    assert problem is not None
    assert "31234" in problem.fault
    assert port_problem(hosted(version=OLD, api_port=6443, konnectivity_port=8132)) is None
    assert port_problem(hosted()) is None


def test_kine() -> None:
    sqlite = spec_of(hosted_config(None, hosted(storage="kine")))["storage"]
    assert sqlite == {"type": "kine", "kine": {"dataSource": SQLITE}}
    wished = user(storage={"type": "kine", "kine": {"extraArgs": {"ca-file": "/ca"}, "dataSource": "old"}})
    postgres = spec_of(hosted_config(wished, hosted(storage="kine", data_source="postgres://db")))["storage"]
    assert postgres == {"type": "kine", "kine": {"extraArgs": {"ca-file": "/ca"}, "dataSource": "postgres://db"}}


@pytest.mark.parametrize(
    ("version", "api", "opened", "http"),
    [
        (NEWEST, {}, True, True),
        (NEWEST, {"extraArgs": {"authentication-config": "/mine"}}, False, False),
        (NEWEST, {"extraArgs": {"oidc-issuer-url": "https://x"}}, False, False),
        (NEWEST, {"extraArgs": {"anonymous-auth": "false"}}, False, False),
        (NEWEST, {"extraArgs": {"anonymous-auth": "true"}}, False, True),
        (NEWEST, {"rawArgs": ["--oidc-issuer-url=https://x"]}, False, False),
        (OLD, {}, False, False),
        (OLD, {"extraArgs": {"anonymous-auth": "true"}}, False, True),
    ],
)
def test_health_is_open_to_anyone_only_where_nothing_else_is(
    version: Version, api: dict[str, Any], opened: bool, http: bool
) -> None:
    wished = user(api=api)
    arguments = spec_of(hosted_config(wished, hosted(version=version)))["api"].get("extraArgs", {})
    assert (arguments.get("authentication-config") == "/etc/k0s/authentication.json") is opened
    assert probes_by_http(wished, version) is http


@pytest.mark.parametrize(
    ("version", "api", "period"),
    [
        (NEWEST, {}, None),
        (OLD, {}, "18s"),
        (parse("v1.35.4+k0s.0"), {}, "18s"),
        (OLD, {"extraArgs": {"shutdown-watch-termination-grace-period": "5s"}}, "5s"),
    ],
)
def test_watches_end_with_the_api_server_also_where_k0s_does_not_say_so(
    version: Version, api: dict[str, Any], period: str | None
) -> None:
    arguments = spec_of(hosted_config(user(api=api), hosted(version=version)))["api"].get("extraArgs", {})
    assert arguments.get("shutdown-watch-termination-grace-period") == period


def test_the_life_of_k0s_leaves() -> None:
    assert k0s_leaf_life(None) == timedelta(hours=8760)
    assert k0s_leaf_life(user(api={"ca": {"certificatesExpireAfter": "48h"}})) == timedelta(days=2)
    assert k0s_leaf_life(user(api={"ca": {"certificatesExpireAfter": "0s"}})) == timedelta(hours=8760)


# --- refusals --------------------------------------------------------------------------------------------------------


def faults(wished: Any, **more: Any) -> dict[str, str]:
    found = problems(wished, version=more.pop("version", NEWEST), **more)
    assert all(problem.fault and problem.remedy for problem in found)
    return {problem.field.removeprefix("spec.k0sConfig."): f"{problem.fault}; {problem.remedy}" for problem in found}


def test_nothing_and_a_sensible_config_are_no_problem() -> None:
    assert faults(None) == {}
    assert faults(user()) == {}
    sensible = user(
        api={"sans": ["*.example.org", "10.0.0.1", "fd00::1"], "ca": {"expiresAfter": "87600h"}, "rawArgs": ["--v=4"]},
        network={"provider": "calico", "calico": {"mode": "vxlan"}, "kubeProxy": {"mode": "nftables"}},
        extensions={"helm": {"charts": [{"name": "c", "values": "a: b", "timeout": "10m", "order": 1}]}},
        workerProfiles=[{"name": "default", "values": {"maxPods": 5}}],
        featureGates=[{"name": "A", "enabled": True, "components": ["kubelet"]}],
        telemetry=None,
    )
    assert faults(sensible) == {}


@pytest.mark.parametrize("version", ["", "k0s.k0sproject.io/v1alpha1", None, 3])
def test_another_api_version_is_refused_in_k0smotrons_words(version: Any) -> None:
    found = faults({"apiVersion": version, "spec": {"nonsense": 1}})
    assert list(found) == ["apiVersion"]
    assert found["apiVersion"].startswith("unsupported k0s config version: ")


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ({"apii": {}}, "spec.apii", "did you mean api?"),
        ({"api": {"externaladdress": "x"}}, "spec.api.externaladdress", "did you mean externalAddress?"),
        ({"api": {"sans": "x"}}, "spec.api.sans", "must be a list"),
        ({"api": {"sans": [1]}}, "spec.api.sans[0]", "must be a text"),
        ({"api": {"port": "6443"}}, "spec.api.port", "must be a whole number"),
        ({"api": {"port": True}}, "spec.api.port", "must be a whole number"),
        ({"api": {"extraArgs": {"v": 4}}}, "spec.api.extraArgs", "put the values in quotes"),
        ({"api": {"ca": {"expiresAfter": "1y"}}}, "spec.api.ca.expiresAfter", "duration"),
        ({"api": []}, "spec.api", "must be a mapping, and is a list"),
        ({"network": {"provider": "cilium"}}, "spec.network.provider", "use kuberouter, calico or custom"),
        (
            {"extensions": {"helm": {"charts": [{"nam": "c"}]}}},
            "spec.extensions.helm.charts[0].nam",
            "did you mean name?",
        ),
        ({"api": {"address": "10.0.0.1"}}, "spec.api.address", "its own pod"),
        ({"api": {"sans": ["not a name"]}}, "spec.api.sans[0]", "neither an IP address nor a DNS name"),
        (
            {"network": {"nodeLocalLoadBalancing": {"enabled": True}}},
            "spec.network.nodeLocalLoadBalancing",
            "refuses it",
        ),
        (
            {"network": {"controlPlaneLoadBalancing": {"enabled": True}}},
            "spec.network.controlPlaneLoadBalancing",
            "pods",
        ),
        ({"network": {"podCIDR": "10.0.0.0/33"}}, "spec.network.podCIDR", "is no range of addresses"),
        ({"network": {"podCIDR": "10.96.5.0/24"}}, "spec.network.serviceCIDR", "overlaps 10.96.5.0/24 of podCIDR"),
        ({"workerProfiles": [{"name": "A"}]}, "spec.workerProfiles[0].name", "is no DNS label"),
        (
            {"workerProfiles": [{"name": "a", "values": {"clusterDNS": []}}]},
            "spec.workerProfiles[0].values",
            "clusterDNS",
        ),
    ],
)
def test_what_k0s_would_refuse_is_refused_by_name(spec: dict[str, Any], field: str, says: str) -> None:
    found = faults(user(**spec))
    assert list(found) == [field]
    assert says in found[field]


@pytest.mark.parametrize(
    ("spec", "field", "first"),
    [
        ({"api": {"rawArgs": ["--v=4"]}}, "spec.api.rawArgs", "v1.34.0+k0s.0"),
        ({"storage": {"kine": {"extraArgs": {}}}}, "spec.storage.kine.extraArgs", "v1.35.0+k0s.0"),
        ({"metricsServer": {}}, "spec.metricsServer", "v1.36.0+k0s.0"),
        ({"konnectivity": {"externalAddress": "a"}}, "spec.konnectivity.externalAddress", "v1.33.6+k0s.0"),
    ],
)
def test_newer_fields_are_refused_for_older_versions_only(spec: dict[str, Any], field: str, first: str) -> None:
    assert faults(user(**spec), version=parse(first)) == {}
    older = faults(user(**spec), version=OLD)
    assert "does not know this field yet" in older[field]


def test_wishes_that_contradict_what_was_decided() -> None:
    decided: dict[str, Any] = {"storage": "etcd", "address": "203.0.113.7"}
    # k0smotron wrote its own values into the spec; they are no contradiction.
    assert (
        faults(user(api={"externalAddress": "203.0.113.7", "port": 30443}, storage={"type": "etcd"}), **decided) == {}
    )
    found = faults(user(api={"externalAddress": "198.51.100.1"}, storage={"type": "kine"}), **decided)
    assert set(found) == {"spec.api.externalAddress", "spec.storage.type"}


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*schema.SPEC.fields, "x", "sans", "enabled", "name"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(junk)
def test_junk_ends_in_problems_or_in_a_config_never_in_a_crash(spec: Any) -> None:
    wished = {"apiVersion": API_VERSION, "spec": spec}
    if not problems(wished, version=NEWEST):
        merged = hosted_config(wished, hosted())
        ours = copy.deepcopy(merged["spec"])
        assert not list(schema.check(ours, version=NEWEST, path="spec")), "the merged config is one that k0s reads"


# --- the Secret ------------------------------------------------------------------------------------------------------


def inputs(**secrets: dict[str, bytes]) -> Inputs:
    return Inputs(now=datetime(2026, 9, 1, tzinfo=UTC), entropy=bytes, new_key=lambda _: None, secrets=secrets)


def test_the_secret_holds_k0s_yaml_and_the_authentication_config() -> None:
    recipe = ConfigRecipe(config=hosted_config(None, hosted()))
    data = recipe.fulfil(inputs())
    assert set(data) == {"k0s.yaml", PROBE_FILE}
    assert yaml.safe_load(data["k0s.yaml"]) == recipe.config
    anonymous = json.loads(data[PROBE_FILE])["anonymous"]
    assert [condition["path"] for condition in anonymous["conditions"]] == ["/livez", "/readyz", "/healthz"]
    assert recipe.needs == ()


def test_the_address_of_the_database_is_filled_in_and_never_printed() -> None:
    config = hosted_config(None, hosted(storage="kine"))
    recipe = ConfigRecipe(config=config, dsn_secret="dsn", dsn_digest="abc", seal_secret="t-ca")
    dsn = f"postgres://u:{CANARY}@db/k"
    data = recipe.fulfil(inputs(dsn={"K0SMOTRON_KINE_DATASOURCE_URL": f"{dsn}\n".encode()}))
    assert yaml.safe_load(data["k0s.yaml"])["spec"]["storage"]["kine"]["dataSource"] == dsn
    assert recipe.needs == ("dsn", "t-ca")
    assert "digest abc" in str(recipe.printed())
    assert recipe.digest() != ConfigRecipe(config=config, dsn_secret="dsn", dsn_digest="other").digest()

    inline = ConfigRecipe(config=hosted_config(None, hosted(storage="kine", data_source=dsn)))
    assert CANARY not in str(inline.printed()) + repr(inline) + repr(hosted(data_source=dsn))
    assert CANARY in inline.fulfil(inputs())["k0s.yaml"].decode()
    other = ConfigRecipe(config=hosted_config(None, hosted(storage="kine", data_source="postgres://x")))
    assert inline.printed() != other.printed()
    assert inline.digest() != other.digest()


def test_what_no_plan_knows_is_sealed_with_a_key() -> None:
    config = hosted_config(None, hosted(storage="kine"))
    recipe = ConfigRecipe(config=config, dsn_secret="dsn", dsn_digest="abc", seal_secret="t-ca")

    def sealed(dsn: str, key: str) -> str:
        data = {"K0SMOTRON_KINE_DATASOURCE_URL": dsn.encode()}
        [(name, value)] = recipe.annotations(inputs(dsn=data, **{"t-ca": {"tls.key": key.encode()}})).items()
        assert name == CONTENT_SEAL
        return value

    one = sealed(f"postgres://u:{CANARY}@db/k", "a")
    assert one == sealed(f"postgres://u:{CANARY}@db/k", "a")
    assert len({one, sealed("postgres://u:other@db/k", "a"), sealed(f"postgres://u:{CANARY}@db/k", "b")}) == 3
    with pytest.raises(MaterialError, match=r"Secret t-ca has no key tls\.key"):
        recipe.annotations(inputs(dsn={"K0SMOTRON_KINE_DATASOURCE_URL": b"postgres://x"}, **{"t-ca": {}}))
    assert ConfigRecipe(config=config).annotations(inputs()) == {}, "what a plan knows needs no seal"


@pytest.mark.parametrize("where", ["Secret", "spec"])
def test_the_password_of_a_postgresql_goes_by_a_file(where: str) -> None:
    dsn = f"postgres://u:{CANARY}@db/k"
    inline = hosted(storage="kine", data_source=dsn if where == "spec" else None)
    recipe = ConfigRecipe(
        config=hosted_config(None, inline),
        dsn_secret="dsn" if where == "Secret" else None,
        password_file="/etc/k0s/pgpass",
    )
    data = recipe.fulfil(inputs(dsn={"K0SMOTRON_KINE_DATASOURCE_URL": dsn.encode()}))
    source = yaml.safe_load(data["k0s.yaml"])["spec"]["storage"]["kine"]["dataSource"]
    assert source == "postgres://u@db/k?passfile=/etc/k0s/pgpass"
    assert data[PASSWORD_FILE] == f"*:*:*:*:{CANARY}\n".encode()
    assert CANARY not in data["k0s.yaml"].decode()
    assert CANARY not in str(recipe.printed())
    assert set(recipe.printed()) == {"recipe", *data}


def test_the_file_is_there_without_a_password_too_because_it_is_mounted() -> None:
    inline = hosted(storage="kine", data_source="postgres://u@db/k")
    data = ConfigRecipe(config=hosted_config(None, inline), password_file="/etc/k0s/pgpass").fulfil(inputs())
    assert data[PASSWORD_FILE].startswith(b"#")
    assert b"passfile" not in data["k0s.yaml"]


@pytest.mark.parametrize("secrets", [{}, {"dsn": {}}, {"dsn": {"K0SMOTRON_KINE_DATASOURCE_URL": b""}}])
def test_a_missing_address_is_named(secrets: Any) -> None:
    recipe = ConfigRecipe(config=hosted_config(None, hosted(storage="kine")), dsn_secret="dsn")
    with pytest.raises(MaterialError, match="Secret dsn has no key K0SMOTRON_KINE_DATASOURCE_URL"):
        recipe.fulfil(inputs(**secrets))


def test_equal_wishes_give_equal_digests() -> None:
    one, other = user(api={"sans": ["b", "a"]}), user(api={"sans": ["a", "b", "a"]})
    digests = {ConfigRecipe(config=hosted_config(wished, hosted())).digest() for wished in (one, other)}
    assert len(digests) == 1


def test_a_null_among_worker_profiles_is_a_profile_without_a_name() -> None:
    assert list(faults(user(workerProfiles=[None]))) == ["spec.workerProfiles[0].name"]
