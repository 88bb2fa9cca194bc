"""What a controller puts into its cluster, and what makes it do so: Endpoints, worker-config, tokens, manifests."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest
import yaml

from e2e.contract.conftest import PLAIN, Start
from e2e.contract.k0s import Controller


def _published(address: str, **more: Any) -> dict[str, Any]:
    return PLAIN | {"api": {"externalAddress": address}} | more


def _worker_config(controller: Controller) -> Any:
    name = f"worker-config-default-{controller.subject.minor}"
    data = controller.get("configmap", "-n", "kube-system", name)["data"]
    return {key: json.loads(value) for key, value in data.items()}


def test_host_and_port_as_external_address(start: Start) -> None:
    """`host:port` goes to Endpoints, worker-config, tokens and agents; the API server listens where it did."""
    spec = _published("10.99.0.77:31234", konnectivity={"externalAddress": "10.99.0.78:31235"})
    controller = start(spec=spec)
    controller.ready()
    controller.wait_for(lambda: _worker_config(controller), within=40, what="worker-config")
    subset = controller.get("endpoints", "kubernetes")["subsets"][0]
    assert subset["addresses"] == [{"ip": "10.99.0.77"}]
    assert subset["ports"] == [{"name": "https", "port": 31234, "protocol": "TCP"}]
    assert _worker_config(controller)["apiServerAddresses"] == ["10.99.0.77:31234"]
    agent = controller.get("daemonset", "-n", "kube-system", "konnectivity-agent")
    args = agent["spec"]["template"]["spec"]["containers"][0]["args"]
    assert {"--proxy-server-host=10.99.0.78", "--proxy-server-port=31235"} <= set(args)
    assert _decode(controller.k0s("token", "create"))["clusters"][0]["cluster"]["server"] == "https://10.99.0.77:31234"
    assert controller.flags("kube-apiserver")["secure-port"] == "6443"


def test_worker_config_waits_for_endpoints_that_somebody_may_write(start: Start) -> None:
    """k0s writes Endpoints at its first tick only. Written by us before, they are kept, and worker-config follows."""
    controller = start(spec=_published("10.99.0.77"))
    controller.ready()
    endpoints = {
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "kubernetes", "namespace": "default"},
        "subsets": [{
            "addresses": [{"ip": "10.99.0.77"}], "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}]}],
    }  # fmt: skip
    controller.kubectl("create", "-f", "-", input=json.dumps(endpoints))
    uid = controller.get("endpoints", "kubernetes")["metadata"]["uid"]
    took = controller.wait_for(lambda: _worker_config(controller), within=8, what="worker-config")
    assert took < 8
    assert controller.get("endpoints", "kubernetes")["metadata"]["uid"] == uid


def test_no_worker_config_without_endpoints(start: Start) -> None:
    """An external address that does not resolve in the pod: no Endpoints, no worker-config, nobody can join."""
    controller = start(spec=_published("nowhere.invalid"))
    controller.ready()
    with pytest.raises(TimeoutError):
        controller.wait_for(lambda: _worker_config(controller), within=15, what="worker-config")
    names = controller.kubectl("get", "endpoints", "-o", "name").split()
    assert "endpoints/kubernetes" not in names


def test_without_external_address_the_api_server_reconciles_itself(start: Start) -> None:
    """Then Endpoints and tokens name the pod's own address."""
    controller = start(spec=PLAIN)
    controller.ready()
    assert "endpoint-reconciler-type" not in controller.flags("kube-apiserver")
    controller.wait_for(lambda: _worker_config(controller), within=20, what="worker-config")
    assert _worker_config(controller)["apiServerAddresses"] == ["10.99.0.2:6443"]
    assert _decode(controller.k0s("token", "create"))["clusters"][0]["cluster"]["server"] == "https://10.99.0.2:6443"


def _decode(token: str) -> Any:
    return yaml.safe_load(gzip.decompress(base64.b64decode(token.strip())))


def test_join_tokens(start: Start) -> None:
    """Format of a token, its Secret, what it may do, and its end."""
    controller = start(spec=_published("10.99.0.2"))
    controller.ready()
    token = _decode(controller.k0s("token", "create", "--role", "worker", "--expiry", "1h"))
    assert token["current-context"] == "k0s"
    assert [c["context"] for c in token["contexts"]] == [{"cluster": "k0s", "user": "kubelet-bootstrap"}]
    authority = base64.b64decode(token["clusters"][0]["cluster"]["certificate-authority-data"])
    assert authority == controller.data("pki/ca.crt").read_bytes()
    bearer = token["users"][0]["user"]["token"]
    identifier, secret = bearer.split(".")
    stored = controller.get("secret", "-n", "kube-system", f"bootstrap-token-{identifier}")
    data = {k: base64.b64decode(v).decode() for k, v in stored["data"].items()}
    assert stored["type"] == "bootstrap.kubernetes.io/token"
    assert data.pop("expiration").endswith("Z")
    assert data == {
        "token-id": identifier, "token-secret": secret, "usage-bootstrap-authentication": "true",
        "description": "Worker bootstrap token generated by k0s",
    }  # fmt: skip
    header = ("-H", f"Authorization: Bearer {bearer}")
    controller.wait_for(lambda: _worker_config(controller), within=40, what="worker-config")
    maps = "/api/v1/namespaces/kube-system/configmaps"
    path = f"{maps}/worker-config-default-{controller.subject.minor}"
    controller.wait_for(lambda: controller.curl(path, *header)[0] == 200, within=10, what="the token's permission")
    assert controller.curl(f"{maps}/extension-apiserver-authentication", *header)[0] == 403
    assert controller.curl("/api/v1/secrets", *header)[0] == 403
    assert identifier in controller.k0s("token", "list", "--role", "worker")
    controller.k0s("token", "invalidate", identifier)
    controller.wait_for(lambda: controller.curl(path, *header)[0] == 401, within=15, what="the end of the token")


def test_a_token_for_controllers_is_refused_where_they_cannot_join(plain: Controller) -> None:
    """SQLite has one controller."""
    with pytest.raises(Exception, match="non-zero exit status"):
        plain.k0s("token", "create", "--role", "controller")


def test_manifests_are_applied_and_pruned(plain: Controller) -> None:
    """A folder is a stack: its objects carry its label, and go when they leave it."""
    folder = plain.data("manifests/mine")
    folder.mkdir(parents=True)

    def config_map(name: str) -> str:
        return f"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: default}}\ndata: {{a: b}}\n"

    def there() -> set[str]:
        items = plain.get("configmaps", "-l", "k0s.k0sproject.io/stack=mine")["items"]
        return {i["metadata"]["name"] for i in items}

    (folder / "a.yaml").write_text(config_map("one") + config_map("two"))
    (folder / "b.yml").write_text(config_map("other-suffix"))
    plain.wait_for(lambda: there() == {"one", "two"}, within=20, what="the stack")
    (folder / "a.yaml").write_text(config_map("one"))
    plain.wait_for(lambda: there() == {"one"}, within=20, what="pruning")
    plain.kubectl("delete", "configmap", "one")
    (folder / "a.yaml").unlink()
    plain.wait_for(lambda: there() == set(), within=20, what="an empty stack")


def test_kubelets_serving_certificates_are_approved(plain: Controller) -> None:
    """Kubernetes leaves this to k0s; without it `kubectl logs` does not work."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    from e2e.contract.material import new_key

    name = x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
        x509.NameAttribute(NameOID.COMMON_NAME, "system:node:w1"),
    ])  # fmt: skip
    addresses = x509.SubjectAlternativeName([x509.DNSName("w1")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).add_extension(addresses, critical=False)
    pem = request.sign(new_key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    body = {
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "w1"},
        "spec": {
            "request": base64.b64encode(pem).decode(), "signerName": "kubernetes.io/kubelet-serving",
            "usages": ["digital signature", "server auth"],
        },
    }  # fmt: skip
    kubelet = ("--as=system:node:w1", "--as-group=system:nodes", "--as-group=system:authenticated")
    plain.kubectl("create", "-f", "-", *kubelet, input=json.dumps(body))

    def approved() -> bool:
        status = plain.get("csr", "w1").get("status") or {}
        return any(c["type"] == "Approved" for c in status.get("conditions") or [])

    plain.wait_for(approved, within=30, what="the approval")
