"""The objects of a tenant's etcd: structure, hardening, and what they leave open to the user."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from hosted_cp.hosting.etcd import store
from hosted_cp.hosting.names import DECISIONS
from hosted_cp.hosting.settings import Settings
from hosted_cp.hosting.tenant import Decisions, Tenant
from hosted_cp.planning.observed import Observed
from tests.component.certificates import authority, leaf
from tests.hosting.etcd_world import CATALOGUE, NAMES, UID, a_tenant, observed, stateful_set

Spec = dict[str, Any]

VARIANTS: dict[str, Spec] = {
    "one member": {},
    "three members": {"replicas": 3},
    "everything set": {
        "replicas": 2,
        "serviceAccount": "builder",
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
        ],
        "storage": {
            "type": "etcd",
            "etcd": {
                "image": "registry.example/etcd:v3.7.1",
                "args": ["--max-request-bytes=2097152", "--log-level=$(POD_NAME)"],
                "autoDeletePVCs": True,
                "persistence": {"size": "8Gi", "storageClass": "fast"},
                "resources": {"limits": {"memory": "256Mi"}},
            },
        },
    },
}


def bodies(t: Tenant) -> dict[str, Mapping[str, Any]]:
    return {each.ref.kind: each.body for each in store.wanted(t)}


def pod_spec(t: Tenant) -> Mapping[str, Any]:
    found: Mapping[str, Any] = bodies(t)["StatefulSet"]["spec"]["template"]["spec"]
    return found


def container(t: Tenant, name: str = "etcd") -> Mapping[str, Any]:
    spec = pod_spec(t)
    found: Mapping[str, Any] = next(c for c in [*spec["initContainers"], *spec["containers"]] if c["name"] == name)
    return found


def with_etcd(**etcd_spec: Any) -> Spec:
    return {"storage": {"type": "etcd", "etcd": etcd_spec}}


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, member in value.items():
            yield key
            yield from texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from texts(member)
    else:
        yield str(value)


@pytest.mark.parametrize("spec", VARIANTS.values(), ids=VARIANTS.keys())
def test_the_api_knows_every_field(spec: Spec) -> None:
    for each in store.wanted(a_tenant(**spec)):
        kubernetes_validate.validate(each.body, "1.36", strict=True)


def test_names_ports_and_paths_are_k0smotrons() -> None:
    made = bodies(a_tenant(replicas=3))
    assert {kind: body["metadata"]["name"] for kind, body in made.items()} == {
        "Secret": "kmc-demo-etcd-permit",
        "Service": "kmc-demo-etcd",
        "StatefulSet": "kmc-demo-etcd",
    }
    service, sts = made["Service"]["spec"], made["StatefulSet"]["spec"]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is True
    assert {port["name"]: port["port"] for port in service["ports"]} == {"client": 2379, "peer": 2380}
    assert service["selector"] == sts["selector"]["matchLabels"]
    assert service["selector"] == {"app": "k0smotron", "cluster": "demo", "component": "etcd"}
    assert service["selector"].items() <= sts["template"]["metadata"]["labels"].items()
    assert sts["serviceName"] == "kmc-demo-etcd"
    assert sts["podManagementPolicy"] == "Parallel"
    assert sts["replicas"] == 3
    [claim] = sts["volumeClaimTemplates"]
    assert claim["metadata"] == {"name": "etcd-data", "labels": {"hosted-cp.io/tenant-uid": UID}}
    assert claim["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    mounts = {mount["name"]: mount["mountPath"] for mount in container(a_tenant())["volumeMounts"]}
    assert mounts == {"etcd-data": "/var/lib/k0s/etcd", "certs": "/var/lib/k0s/pki/etcd"}


def test_labels_of_the_user_reach_neither_pods_nor_selectors() -> None:
    made = bodies(a_tenant())
    assert made["StatefulSet"]["metadata"]["labels"]["team"] == "blue"
    assert "team" not in set(texts(made["StatefulSet"]["spec"]))
    assert "team" not in set(texts(made["Service"]["spec"]))


@pytest.mark.parametrize("spec", VARIANTS.values(), ids=VARIANTS.keys())
def test_pods_are_hardened(spec: Spec) -> None:
    """What Pod Security's `restricted` asks, and more."""
    pod = pod_spec(a_tenant(**spec))
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == 1001
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & pod.keys()
    for each in [*pod["initContainers"], *pod["containers"]]:
        assert each["securityContext"] == {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert each["resources"]["requests"].keys() == {"cpu", "memory"}
        assert each["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert all(volume.keys() == {"name", "projected"} for volume in pod["volumes"])


@pytest.mark.parametrize("spec", VARIANTS.values(), ids=VARIANTS.keys())
def test_no_key_of_the_authority_is_in_the_pod(spec: Spec) -> None:
    pod = pod_spec(a_tenant(**spec))
    [volume] = pod["volumes"]
    mounted = {
        (source["secret"]["name"], item["key"]): item["path"]
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
    }
    assert mounted == {
        ("demo-etcd-server", "ca.crt"): "ca.crt",
        ("demo-etcd-server", "tls.crt"): "server.crt",
        ("demo-etcd-server", "tls.key"): "server.key",
        ("demo-etcd-peer", "tls.crt"): "peer.crt",
        ("demo-etcd-peer", "tls.key"): "peer.key",
    }
    assert "demo-etcd" not in set(texts(pod)), "the Secret of the authority"
    # Files change under a mounted folder, never under a mounted file.
    assert all("subPath" not in mount for mount in container(a_tenant(**spec))["volumeMounts"])


def test_etcd_itself_is_the_first_process_and_speaks_tls_only() -> None:
    command = container(a_tenant())["command"]
    assert command[0] == "etcd"
    flags = dict(word.removeprefix("--").split("=", 1) for word in command[1:])
    assert flags["name"] == "$(POD_NAME)"
    assert flags["data-dir"] == "/var/lib/k0s/etcd"
    assert flags["client-cert-auth"] == flags["peer-client-cert-auth"] == "true"
    assert flags["advertise-client-urls"] == "https://$(POD_NAME).kmc-demo-etcd:2379"
    assert flags["initial-advertise-peer-urls"] == "https://$(POD_NAME).kmc-demo-etcd:2380"
    plain = {name for name, value in flags.items() if "http://" in value}
    assert plain == {"listen-metrics-urls"}
    assert flags["enable-pprof"] == "false"


def test_how_to_begin_comes_from_the_permit_alone() -> None:
    t = a_tenant(replicas=3)
    etcd_container, init = container(t), container(t, "permit")
    assert not any("initial-cluster" in word for word in etcd_container["command"])
    granted = {
        variable["name"]: variable["valueFrom"]["secretKeyRef"]
        for each in (etcd_container, init)
        for variable in each["env"]
        if "secretKeyRef" in variable.get("valueFrom", {})
    }
    assert {name: reference["key"] for name, reference in granted.items()} == {
        "ETCD_INITIAL_CLUSTER": "initial-cluster",
        "ETCD_INITIAL_CLUSTER_STATE": "initial-cluster-state",
        "ETCD_INITIAL_CLUSTER_TOKEN": "cluster-token",
        "PERMIT_BOOTSTRAPPED": "bootstrapped",
        "PERMIT_MEMBER_0": "member-0",
        "PERMIT_MEMBER_1": "member-1",
        "PERMIT_MEMBER_2": "member-2",
    }
    # None is optional: without the permit no container starts at all.
    assert all(reference.keys() == {"name", "key"} for reference in granted.values())
    assert {reference["name"] for reference in granted.values()} == {NAMES.etcd_permit}


def test_the_pod_does_not_change_with_the_bootstrap_or_with_the_tenant_s_replicas() -> None:
    """A flip of the permit must restart nobody, and neither must a third k0s controller."""
    before = a_tenant(replicas=3)
    after = a_tenant(stateful_set(members=3), replicas=5)
    assert bodies(before)["StatefulSet"] == bodies(after)["StatefulSet"]


@pytest.mark.parametrize("spec", VARIANTS.values(), ids=VARIANTS.keys())
def test_the_init_script_is_constant(spec: Spec) -> None:
    script = container(a_tenant(**spec), "permit")["command"]
    assert script == container(a_tenant(), "permit")["command"]
    assert script[:2] == ["/bin/sh", "-c"]
    assert "$(" not in script[2], "the kubelet would look for a variable of that name"
    assert "eval" not in script[2].split()
    assert not re.search(r"^\s*#", script[2], re.MULTILINE)


def test_probes() -> None:
    etcd_container = container(a_tenant())
    probes = {kind: etcd_container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}
    assert {kind: probe["httpGet"]["path"] for kind, probe in probes.items()} == {
        "startup": "/livez",
        "readiness": "/readyz",
        "liveness": "/livez",
    }
    assert probes["startup"]["periodSeconds"] == probes["readiness"]["periodSeconds"] == 1
    ports = {port["name"]: port["containerPort"] for port in etcd_container["ports"]}
    assert ports["metrics"] == 2381


def test_volumes_stay_unless_the_user_said_otherwise() -> None:
    def retention(spec: Spec) -> str:
        made = bodies(a_tenant(**spec))["StatefulSet"]["spec"]["persistentVolumeClaimRetentionPolicy"]
        assert made["whenScaled"] == "Retain"
        return str(made["whenDeleted"])

    assert retention({}) == "Retain"
    assert retention(with_etcd(autoDeletePVCs=True)) == "Delete"


def test_what_the_user_asks_arrives() -> None:
    t = a_tenant(**VARIANTS["everything set"])
    spec, etcd_container = pod_spec(t), container(t)
    assert spec["serviceAccountName"] == "builder"
    assert spec["topologySpreadConstraints"][0]["topologyKey"] == "zone"
    assert etcd_container["image"] == container(t, "permit")["image"] == "registry.example/etcd:v3.7.1"
    assert etcd_container["args"] == ["--max-request-bytes=2097152", "--log-level=$$(POD_NAME)"]
    assert etcd_container["resources"] == {
        "limits": {"memory": "256Mi"},
        "requests": {"cpu": "25m", "memory": "256Mi"},
    }
    [claim] = bodies(t)["StatefulSet"]["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["spec"]["resources"] == {"requests": {"storage": "8Gi"}}


def image(*children: Any, settings: Settings | None = None, **spec: Any) -> str:
    return str(container(a_tenant(*children, settings=settings, **spec))["image"])


def test_which_image_runs() -> None:
    configured = Settings(catalogue=CATALOGUE, etcd_image="local/etcd:v3.6.14")
    assert image() == "quay.io/k0sproject/etcd:v3.6.14"
    assert image(settings=configured) == "local/etcd:v3.6.14"
    assert image(settings=configured, **with_etcd(image="mine/etcd:v3.6.15")) == "mine/etcd:v3.6.15"
    # What runs and is sound is not restarted because the operator's release has another default.
    assert image(stateful_set(image="quay.io/k0sproject/etcd:v3.6.20")) == "quay.io/k0sproject/etcd:v3.6.20"
    assert image(stateful_set(image="quay.io/k0sproject/etcd:v3.6.12")) == "quay.io/k0sproject/etcd:v3.6.14"


def config_secret(etcd_image: str) -> Observed:
    """The config Secret of a tenant for which this image was decided."""
    decisions = Decisions(version="v1.36.3+k0s.2", storage="etcd", etcdMembers=1, etcdImage=etcd_image)
    return observed("Secret", NAMES.config, annotations={DECISIONS: decisions.annotation()}, data={})


@pytest.mark.parametrize(
    ("decided", "there", "runs"),
    [
        # Who writes another one there has decided nothing.
        ("etcd:v3.6.15", "evil/etcd:v3.6.15", "etcd:v3.6.15"),
        ("etcd:v3.6.15", "etcd:v3.6.14", "etcd:v3.6.15"),
        ("etcd:v3.6.15", "etcd:v3.6.99", "etcd:v3.6.15"),
        # The data may have been written by it, and then the decided one could not read them.
        ("etcd:v3.6.15", "etcd:v3.7.1", "etcd:v3.7.1"),
        # The decided one has become known as unsound.
        ("etcd:v3.6.12", "etcd:v3.6.12", "quay.io/k0sproject/etcd:v3.6.14"),
        # From before it was a decision.
        ("", "etcd:v3.6.15", "etcd:v3.6.15"),
    ],
)
def test_the_decided_image_runs_whatever_somebody_has_put_there(decided: str, there: str, runs: str) -> None:
    t = a_tenant(config_secret(decided), stateful_set(image=there))
    assert container(t)["image"] == container(t, "permit")["image"] == runs
    said = [problem.field for problem in store.problems(t)]
    assert said == (["spec.storage.etcd.image"] if runs == "etcd:v3.7.1" else [])
    assert t.decisions.etcdImage == (runs if runs != "etcd:v3.7.1" else decided)


def test_another_image_is_decided_by_the_user_alone() -> None:
    decided = config_secret("etcd:v3.6.15")
    assert image(decided, stateful_set(image="etcd:v3.6.15"), **with_etcd(image="etcd:v3.7.1")) == "etcd:v3.7.1"
    refused = a_tenant(decided, stateful_set(image="x/etcd:v3.6.16"), **with_etcd(image="etcd:v3.5.33"))
    assert container(refused)["image"] == refused.decisions.etcdImage == "etcd:v3.6.15"
    [problem] = store.problems(refused)
    assert "v3.5.33" in problem.fault


@pytest.mark.parametrize(
    ("running", "asked", "runs"),
    [
        (None, "etcd:v3.4.23", "quay.io/k0sproject/etcd:v3.6.14"),
        ("etcd:v3.6.14", "etcd:v3.5.33", "etcd:v3.6.14"),
        ("etcd:v3.5.33", "etcd:v3.7.1", "etcd:v3.5.33"),
    ],
)
def test_an_image_that_harms_is_refused_and_what_runs_goes_on(running: str | None, asked: str, runs: str) -> None:
    children = [stateful_set(image=running)] if running else []
    spec = with_etcd(image=asked)
    assert image(*children, **spec) == runs
    [problem] = store.problems(a_tenant(*children, **spec))
    assert problem.field == "spec.storage.etcd.image"
    assert problem.remedy


def test_refused_arguments_are_named_and_not_passed() -> None:
    t = a_tenant(**with_etcd(args=["--max-request-bytes=1", "--data-dir=/tmp"]))
    assert "args" not in container(t)
    [problem] = store.problems(t)
    assert str(problem).startswith("spec.storage.etcd.args[1]: --data-dir ")


def test_volumes_that_exist_keep_their_size_and_class() -> None:
    live = stateful_set(size="1024Mi", storage_class="slow")
    same = a_tenant(live, **with_etcd(persistence={"size": "1Gi"}))
    assert store.problems(same) == []
    other = a_tenant(live, **with_etcd(persistence={"size": "20Gi", "storageClass": "fast"}))
    assert [problem.field for problem in store.problems(other)] == [
        "spec.storage.etcd.persistence.size",
        "spec.storage.etcd.persistence.storageClass",
    ]
    assert container(other)["command"] == container(same)["command"], "the quota follows the volume that is there"


def test_a_peer_certificate_of_the_user_decides_who_is_a_peer() -> None:
    pair = leaf(authority("mine"), "my-peer")
    brought = observed("Secret", "demo-etcd-peer", owner="", data={"tls.crt": pair.certificate, "tls.key": pair.key})
    assert "--peer-cert-allowed-cn=my-peer" in container(a_tenant(brought))["command"]
    assert "--peer-cert-allowed-cn=etcd-peer" in container(a_tenant())["command"]
    unreadable = observed("Secret", "demo-etcd-peer", owner="", data={"tls.crt": b"x"})
    assert not any("allowed-cn" in word or "skip" in word for word in container(a_tenant(unreadable))["command"])


def test_endpoints_and_names() -> None:
    assert store.endpoints(a_tenant()) == ["https://kmc-demo-etcd:2379"]
    assert store.endpoints(a_tenant(replicas=3)) == [f"https://kmc-demo-etcd-{i}.kmc-demo-etcd:2379" for i in range(3)]
    dns_names, ip_addresses = store.server_names(a_tenant())
    assert ip_addresses == ["127.0.0.1"]
    service = ["kmc-demo-etcd", "kmc-demo-etcd.tenants.svc", "kmc-demo-etcd.tenants.svc.cluster.local"]
    assert sorted(dns_names) == sorted(["localhost", *service, *(f"*.{name}" for name in service)])


def test_a_tenant_with_another_store_has_no_etcd() -> None:
    t = a_tenant(storage={"type": "kine", "kine": {"dataSourceSecretName": "dsn"}})
    assert store.wanted(t) == []
    assert store.problems(t) == []
    assert store.explain(t) is None
    assert store.condition(t) is None
