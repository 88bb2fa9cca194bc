"""The thread that a user sees: manifest, control plane, token, a machine elsewhere, a pod on it; and its price."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import yaml

from e2e import operator, tenants
from e2e.lab import audit, edge
from e2e.lab.audit import Request
from e2e.lab.handle import Lab
from e2e.tenants import Tenant
from e2e.tests.room import Room, Stage, hello_says, node_ready, run_hello

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

_OPERATOR = f"system:serviceaccount:{operator.NAMESPACE}:hosted-cp"
_IDLE = 30.0


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A tenant, and what the operator asked of the API server until it was Available."""

    tenant: Tenant
    requests: list[Request]


@pytest.fixture(scope="module")
def begun(shared: Room) -> Begun:
    """examples/cluster.yaml in a namespace of its own, applied and Available."""
    manifest = yaml.safe_load((operator.ROOT / "examples" / "cluster.yaml").read_text())
    del manifest["metadata"]["namespace"]
    manifest["spec"]["version"] = shared.stage.k0s.version
    since = audit.position(shared.lab.audit_log)
    shared.apply(tenants.for_lab(manifest))
    tenant = shared.available(manifest["metadata"]["name"])
    return Begun(tenant=tenant, requests=_asked(shared.lab, since, shared.namespace))


def _asked(lab: Lab, since: int, namespace: str) -> list[Request]:
    """The operator's requests about this namespace or about all; without its Lease, and without watches."""
    return [
        each for each in audit.requests(lab.audit_log, since=since)
        if each.user == _OPERATOR and each.namespace in (namespace, "") and each.verb != "watch"
    ]  # fmt: skip


def test_a_tenant_costs_few_writes_and_no_reads(begun: Begun, record_testsuite_property: Callable[..., None]) -> None:
    counted = Counter((each.verb, each.resource) for each in begun.requests)
    record_testsuite_property("requests", {f"{verb} {what}": count for (verb, what), count in counted.items()})
    print("requests from apply to Available:", dict(counted))
    reads = {key for key in counted if key[0] in ("get", "list")}
    status = [each for each in begun.requests if each.resource == "clusters/status"]
    events = [each for each in begun.requests if each.resource == "events"]
    writes = len(begun.requests) - len(status) - len(events)
    assert reads == set()
    assert writes <= 22
    assert len(status) <= 5
    assert len(events) <= 3
    assert all(each.code < 400 for each in begun.requests), "a write failed that nobody else could have met"


def test_the_kubeconfig_works_at_once(begun: Begun) -> None:
    assert "kube-system" in begun.tenant.kubectl("get", "namespaces", "-o", "name")
    assert "Running" not in begun.tenant.kubectl("get", "pods", "-A")


def test_a_machine_elsewhere_joins_and_runs_a_pod_with_logs_and_exec(
    begun: Begun, shared: Room, record_testsuite_property: Callable[..., None]
) -> None:
    token = shared.token(begun.tenant.name, "worker")
    machine = shared.edge("thread")
    started = time.monotonic()
    shared.join(machine, token)
    node = node_ready(begun.tenant, "thread")
    record_testsuite_property("node-ready", round(time.monotonic() - started, 1))
    assert {"type": "InternalIP", "address": str(machine.address)} in node["status"]["addresses"]
    run_hello(begun.tenant)
    assert hello_says(begun.tenant) == "hello from the edge\n"
    record_testsuite_property("logs", round(time.monotonic() - started, 1))
    assert "uid=65534" in begun.tenant.kubectl("exec", "hello", "--", "id")


def test_the_pods_that_run_are_hardened(begun: Begun, shared: Room) -> None:
    name = begun.tenant.name
    pods = {each["metadata"]["name"]: each for each in shared.items("pods")}
    assert set(pods) == {f"kmc-{name}-0", f"kmc-{name}-etcd-0"}
    for pod in pods.values():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not any(spec.get(each) for each in ("hostNetwork", "hostPID", "hostIPC"))
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not [each for each in spec["volumes"] if "hostPath" in each]
        assert "serviceAccountToken" not in str(spec["volumes"])
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"]["drop"] == ["ALL"]
            assert not context.get("privileged")
            assert container["resources"]["requests"]["memory"]
    etcd = pods[f"kmc-{name}-etcd-0"]["spec"]
    assert {each["securityContext"].get("runAsNonRoot", etcd["securityContext"].get("runAsNonRoot"))
            for each in etcd["containers"]} == {True}  # fmt: skip
    # The CA's key is where certificates are signed and nowhere else.
    signing = {f"{name}-ca", f"{name}-proxy", f"{name}-sa", f"{name}-etcd"}
    assert not [each for each in signing if f"'{each}'" in str(etcd["volumes"])]
    assert f"'{name}-etcd'" not in str(pods[f"kmc-{name}-0"]["spec"]["volumes"])


def test_the_kernel_sees_the_hardening_too(begun: Begun, shared: Room) -> None:
    name = begun.tenant.name
    allowed = {f"kmc-{name}-0": "00000000000000eb", f"kmc-{name}-etcd-0": "0000000000000000"}
    for pod, capabilities in allowed.items():
        status = dict(
            line.split(":", 1) for line in shared.kubectl("exec", pod, "--", "cat", "/proc/1/status").splitlines()
        )
        assert status["CapBnd"].strip() == capabilities, pod
        assert status["NoNewPrivs"].strip() == "1"
        assert status["Seccomp"].strip() == "2"
        written = shared.kubectl("exec", pod, "--", "sh", "-c", "echo x > /etc/written 2>&1 || echo refused")
        assert "refused" in written
        mounts = shared.kubectl("exec", pod, "--", "cat", "/proc/1/mountinfo")
        assert "/var/run/secrets/kubernetes.io" not in mounts


def test_a_tenant_that_runs_costs_nothing(begun: Begun, shared: Room) -> None:
    assert begun.tenant.name
    since = audit.position(shared.lab.audit_log)
    time.sleep(_IDLE)  # what is measured is that nothing happens, for so long
    assert _asked(shared.lab, since, shared.namespace) == []


def test_the_demo_runs_and_runs_again(stage: Stage) -> None:
    def demo() -> str:
        return subprocess.run(
            [sys.executable, "-m", "e2e.demo", "--lab", stage.lab.name], check=True, capture_output=True, text=True,
            timeout=280,
        ).stdout  # fmt: skip

    try:
        for _ in range(2):
            said = demo()
            assert "hello from the edge" in said
            assert "uid=65534" in said
            assert "edge-1" in said
    finally:
        stage.lab.kubectl("delete", "jtr/demo-worker", "kmc/demo", "--ignore-not-found", "--timeout=60s", seconds=70)
        stage.lab.kubectl("delete", "pvc", "--all", "--timeout=60s", seconds=70)
        edge.remove(stage.lab, "edge-1")
