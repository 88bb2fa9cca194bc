"""The lab is a real cluster: pods, volumes, names, addresses; and it counts requests."""

from __future__ import annotations

import http.client
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import Kubectl, MakeEdge
from e2e.lab import archive, audit, client
from e2e.lab.handle import Lab
from e2e.lab.manifests import NO_ADDRESS
from e2e.lab.network import LabError
from e2e.lab.processes import call

pytestmark = pytest.mark.e2e

TOOLBOX = "hosted-cp.local/lab-toolbox:1"
_TOOLS = ("cat", "echo", "httpd", "id", "nc", "nslookup", "sh", "sleep", "wget")


@pytest.fixture(scope="session")
def toolbox(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> str:
    busybox = shutil.which("busybox")
    assert busybox, "busybox-static is not installed (preflight says so)"
    out = tmp_path_factory.mktemp("image") / "toolbox.tar"
    links = {f"/bin/{tool}": "busybox" for tool in _TOOLS}
    archive.docker_archive(out, TOOLBOX, files={"/bin/busybox": Path(busybox)}, links=links, folders=["/tmp"])
    lab.load_images({TOOLBOX: out})
    assert lab.load_images({TOOLBOX: out}) == []  # known by its digest
    return TOOLBOX


def _web(image: str, *, claim: str | None = None) -> dict[str, Any]:
    volume: dict[str, Any] = {"persistentVolumeClaim": {"claimName": claim}} if claim else {"emptyDir": {}}
    command = "[ -e /data/index.html ] || echo hello > /data/index.html; exec httpd -f -p 8080 -h /data"
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "web", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", command],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
            }],
            "volumes": [{"name": "data", **volume}],
        },
    }  # fmt: skip


def _service(kind: str, **annotations: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "annotations": annotations},
        "spec": {"type": kind, "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }  # fmt: skip


def _create(lab: Lab, namespace: str, *manifests: dict[str, Any]) -> None:
    for each in manifests:
        plural = {"Pod": "pods", "Service": "services", "PersistentVolumeClaim": "persistentvolumeclaims"}[each["kind"]]
        lab.client().call("POST", f"/api/v1/namespaces/{namespace}/{plural}", each)


def _wait_ready(kubectl: Kubectl, namespace: str) -> None:
    kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/web", "--timeout=60s", seconds=70)


def _address(lab: Lab, namespace: str) -> str:
    def given(service: dict[str, Any]) -> bool:
        return bool(service["status"].get("loadBalancer", {}).get("ingress"))

    found = client.wait_for(lab.client(), f"/api/v1/namespaces/{namespace}/services", name="web", until=given,
    seconds=20,
                            what="the Service has no address")  # fmt: skip
    return str(found["status"]["loadBalancer"]["ingress"][0]["ip"])


def _get(address: str, port: int = 80) -> str:
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", "/index.html")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def _soon(ask: Callable[[], str], *, seconds: float = 10.0) -> str:
    """Ask until there is an answer: a pod is Ready some 0.2 s before kube-proxy lets its Service answer."""
    ends = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except (OSError, LabError):
            if time.monotonic() > ends:
                raise
            time.sleep(0.1)


def test_a_claim_is_bound_its_data_outlives_the_pod_and_goes_with_the_claim(
    lab: Lab, kubectl: Kubectl, namespace: str, toolbox: str
) -> None:
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
             "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}  # fmt: skip
    _create(lab, namespace, claim, _web(toolbox, claim="data"))
    _wait_ready(kubectl, namespace)
    volume = kubectl("-n", namespace, "get", "pvc", "data", "-o", "jsonpath={.spec.volumeName}")
    file = lab.folder / "volumes" / volume / "index.html"
    assert file.read_text() == "hello\n"
    kubectl("-n", namespace, "exec", "web", "--", "sh", "-c", "echo changed > /data/index.html")
    kubectl("-n", namespace, "delete", "pod", "web")
    _create(lab, namespace, _web(toolbox, claim="data"))
    _wait_ready(kubectl, namespace)
    assert kubectl("-n", namespace, "exec", "web", "--", "cat", "/data/index.html") == "changed\n"
    kubectl("-n", namespace, "delete", "pod/web", "pvc/data")
    kubectl("wait", "--for=delete", f"pv/{volume}", "--timeout=30s")
    assert not file.parent.exists()


def test_a_pod_finds_a_service_by_name_and_no_other_name(
    lab: Lab, kubectl: Kubectl, namespace: str, toolbox: str
) -> None:
    _create(lab, namespace, _web(toolbox), _service("ClusterIP"))
    _wait_ready(kubectl, namespace)
    inside = ("-n", namespace, "exec", "web", "--")
    url = f"http://web.{namespace}.svc.cluster.local/index.html"
    assert _soon(lambda: kubectl(*inside, "wget", "-qO-", url)) == "hello\n"
    with pytest.raises(LabError, match="NXDOMAIN"):
        kubectl(*inside, "sh", "-c", "nslookup nobody.example.com >&2")
    assert "uid=65534" in kubectl(*inside, "id")


def test_an_address_answers_from_here_and_from_the_edge_and_the_edge_sees_nothing_else(
    lab: Lab, kubectl: Kubectl, namespace: str, toolbox: str, edge: MakeEdge
) -> None:
    _create(lab, namespace, _web(toolbox), _service("LoadBalancer"))
    _wait_ready(kubectl, namespace)
    address = _address(lab, namespace)
    port = int(kubectl("-n", namespace, "get", "svc", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"))
    pod = kubectl("-n", namespace, "get", "pod", "web", "-o", "jsonpath={.status.podIP}")
    assert _soon(lambda: _get(address)) == "hello\n"
    assert _get(str(lab.node_address), port) == "hello\n"

    one, two = edge("one"), edge("two")
    fetch = ("busybox", "wget", "-qO-")
    assert one.call(*fetch, f"http://{address}/index.html") == "hello\n"
    assert one.call(*fetch, f"http://{lab.node_address}:{port}/index.html") == "hello\n"
    for closed in (f"{pod}:8080", f"{lab.node_address}:6443", f"{lab.addresses.edge_gateway}:6443"):
        with pytest.raises(LabError, match=r"refused|reset|unreachable"):
            one.call(*fetch, f"http://{closed}/index.html")

    # What listens at the edge is reached by nobody: not by its neighbour, the node, a pod, or this machine.
    for machine in (one, two):
        machine.call("sh", "-c", "busybox httpd -p 8080 -h /etc")
    assert "localhost" in one.call(*fetch, "http://127.0.0.1:8080/hosts")
    knock = ("busybox", "nc", "-w", "1", str(two.address), "8080")
    with pytest.raises(LabError):
        one.call(*knock, input="GET /hosts HTTP/1.0\r\n\r\n")
    with pytest.raises(LabError):
        call(knock, place=lab.node, input="GET /hosts HTTP/1.0\r\n\r\n")
    with pytest.raises(LabError):
        kubectl("-n", namespace, "exec", "web", "--", "nc", "-w", "1", str(two.address), "8080")
    with pytest.raises(OSError, match="timed out"):
        _get(str(two.address), 8080)


def test_an_edge_machine_has_files_of_its_own(lab: Lab, edge: MakeEdge) -> None:
    one = edge("one")
    one.call("sh", "-c", "echo mine > /etc/hosted-cp-lab-test && echo mine > /var/hosted-cp-lab-test")
    assert one.path("/etc/hosted-cp-lab-test").read_text() == "mine\n"
    assert not Path("/etc/hosted-cp-lab-test").exists()
    assert not Path("/var/hosted-cp-lab-test").exists()


def test_a_service_that_may_not_have_an_address_gets_one_when_it_may(lab: Lab, namespace: str) -> None:
    _create(lab, namespace, _service("LoadBalancer", **{NO_ADDRESS: "true"}))
    other = _service("LoadBalancer")
    other["metadata"]["name"] = "later"
    _create(lab, namespace, other)
    path = f"/api/v1/namespaces/{namespace}/services"
    # Services are served in order: when the later one has its address, the earlier one has been passed over.
    client.wait_for(lab.client(), path, name="later", until=lambda each: each["status"]["loadBalancer"].get("ingress"),
                    seconds=20, what="no address")  # fmt: skip
    assert not lab.client().call("GET", f"{path}/web")["status"]["loadBalancer"]
    lab.client().call("PATCH", f"{path}/web", {"metadata": {"annotations": {NO_ADDRESS: None}}},
                      content="application/merge-patch+json")  # fmt: skip
    assert _address(lab, namespace)


def test_an_address_nobody_has_is_refused_at_once(lab: Lab) -> None:
    with pytest.raises(ConnectionRefusedError):
        _get(str(lab.addresses.balancers[250]))


def test_the_audit_log_counts_what_was_asked(lab: Lab, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    since = audit.position(lab.audit_log)
    lab.client().call("POST", path, {"metadata": {"name": "counted"}})
    lab.client().call("GET", f"{path}/counted")
    with pytest.raises(client.ApiError):
        lab.client().call("GET", f"{path}/absent")
    mine = [each for each in audit.requests(lab.audit_log, since=since) if each.namespace == namespace
            and each.user == "lab-admin"]  # fmt: skip
    assert [(each.verb, each.resource, each.code) for each in mine] == [
        ("create", "configmaps", 201), ("get", "configmaps", 200), ("get", "configmaps", 404),
    ]  # fmt: skip


def test_every_kubeconfig_but_the_lab_s_own_is_ignored(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    foreign = tmp_path / "kubeconfig"
    foreign.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "clusters": [], "contexts": [], "users": []}))
    monkeypatch.setenv("KUBECONFIG", str(foreign))
    assert lab.node_name in lab.kubectl("get", "nodes")
    assert "KUBECONFIG" not in call(["env"])
