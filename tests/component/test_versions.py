"""All kinds in both versions on a real API server, which asks `conversion_review` over HTTPS as it asks a webhook.

A server of its own: the shared one has the single-version files of `crds/`.
"""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hosted_cp.api import crds
from hosted_cp.api.conversion import ANNOTATION
from hosted_cp.webhooks.conversion_review import review
from k0s_images.golang import components
from tests.component.apiserver import Server, running
from tests.component.certificates import Pair, authority, leaf

PLURALS = {each["spec"]["names"]["kind"]: each for each in crds.generate(conversion=crds.Webhook(url="https://x"))}
#: As in k0smotron's documentation, or the least that each kind takes.
OLD: dict[str, Any] = {
    "Cluster": {"etcd": {"args": ["--x=1"]}, "service": {"type": "NodePort", "labels": {"a": "b"}}},
    "JoinTokenRequest": {"clusterRef": {"name": "demo", "namespace": "default"}, "expiry": "1h"},
    "K0smotronControlPlane": {"version": "v1.36.3+k0s", "kineDataSourceURL": "mysql://tcp(h:1)/d"},
    "K0smotronControlPlaneTemplate": {"template": {"spec": {"controllerPlaneFlags": ["--debug"]}}},
    "K0sWorkerConfig": {"version": "v1.27.2+k0s.0", "ignition": {"variant": "fcos", "version": "1.5.0"}},
    "K0sWorkerConfigTemplate": {"template": {"spec": {"version": "v1.27.2+k0s.0", "preStartCommands": ["true"]}}},
}


class _Converter(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps(review(body)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def _serve(folder: Path, pair: Pair) -> http.server.ThreadingHTTPServer:
    (folder / "cert.pem").write_bytes(pair.certificate)
    (folder / "key.pem").write_bytes(pair.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Converter)
    made.socket = context.wrap_socket(made.socket, server_side=True)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    return made


class Refused(Exception):
    """The API server's words."""


@dataclass(frozen=True, kw_only=True)
class Api:
    """The server with all kinds in it, spoken to in plain HTTP."""

    server: Server
    context: ssl.SSLContext = field(repr=False)

    def ask(self, method: str, kind: str, version: str, name: str, body: Any = None, **how: str) -> dict[str, Any]:
        group = PLURALS[kind]["spec"]["group"]
        tail = f"/{name}" if name and method != "POST" else ""
        tail += f"/{how['part']}" if "part" in how else ""
        url = f"{self.server.url}/apis/{group}/{version}/namespaces/default/{kind.lower()}s{tail}"
        types = {"PATCH": "application/merge-patch+json"}
        if method == "APPLY":
            url += "?fieldManager=test&force=true&fieldValidation=Strict"
            method, types = "PATCH", {"PATCH": "application/apply-patch+yaml"}
        request = urllib.request.Request(
            url,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": types.get(method, "application/json")},
        )
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=60) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            raise Refused(error.read().decode()) from None

    def get(self, kind: str, version: str, name: str) -> dict[str, Any]:
        return self.ask("GET", kind, version, name)


def manifest(kind: str, version: str, name: str, spec: Any) -> dict[str, Any]:
    api_version = f"{PLURALS[kind]['spec']['group']}/{version}"
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    signer = authority("webhook")
    folder = tmp_path_factory.mktemp("webhook")
    webhook = _serve(folder, leaf(signer, "webhook", ips=("127.0.0.1",)))
    conversion = crds.Webhook(
        url=f"https://127.0.0.1:{webhook.server_address[1]}/convert", ca_bundle=signer.certificate.decode()
    )
    with running(tmp_path_factory.mktemp("versions"), components("1.36"), crds=None) as server:
        definitions = crds.generate(conversion=conversion)
        # Whatever the server refuses of a schema or a rule, it says here.
        server.kubectl(
            "create", "-f", "-", stdin=json.dumps({"kind": "List", "items": definitions, "apiVersion": "v1"}).encode()
        )
        names = [f"crd/{each['metadata']['name']}" for each in definitions]
        server.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
        made = Api(server=server, context=server.admin.context(server.folder))
        for kind in PLURALS:
            _until_served(made, kind)
        yield made
    webhook.shutdown()
    webhook.server_close()


def _until_served(api: Api, kind: str) -> None:
    """A definition is established a moment before each version has its handler; there is no event for that."""
    deadline = time.monotonic() + 30
    for version in ("v1beta1", "v1beta2"):
        while True:
            try:
                api.get(kind, version, "")
                break
            except Refused:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


@pytest.mark.parametrize("kind", OLD)
def test_old_manifests_apply_and_are_the_same_when_read_again(api: Api, kind: str) -> None:
    body = manifest(kind, "v1beta1", "old", OLD[kind])
    created = api.ask("APPLY", kind, "v1beta1", "old", body)
    read = api.get(kind, "v1beta1", "old")
    assert read["spec"] == created["spec"]
    assert ANNOTATION not in read["metadata"].get("annotations", {})
    # Nothing is written where nothing changes: not by an apply of the same, not by a replace with what was read.
    assert api.ask("APPLY", kind, "v1beta1", "old", body)["metadata"]["resourceVersion"] == _version(created)
    stored = api.get(kind, "v1beta2", "old")
    assert ANNOTATION not in stored["metadata"].get("annotations", {})
    listed = api.get(kind, "v1beta2", "")
    assert [each["metadata"]["name"] for each in listed["items"]] == ["old"]
    assert api.ask("PUT", kind, "v1beta2", "old", stored)["metadata"]["resourceVersion"] == _version(created)
    replaced = api.ask("PUT", kind, "v1beta1", "old", read)
    assert replaced["metadata"]["resourceVersion"] == _version(created)


def _version(body: dict[str, Any]) -> str:
    return str(body["metadata"]["resourceVersion"])


def test_fields_are_where_the_operator_looks(api: Api) -> None:
    for kind, spec in OLD.items():
        api.ask("APPLY", kind, "v1beta1", "fields", manifest(kind, "v1beta1", "fields", spec))
    found = {kind: api.get(kind, "v1beta2", "fields") for kind in OLD}
    assert found["Cluster"]["spec"]["storage"]["etcd"]["args"] == ["--x=1"]
    labels = found["Cluster"]["metadata"]["annotations"]["k0smotron.io/conversion-dropped-service.labels"]
    assert json.loads(labels) == {"a": "b"}
    assert found["JoinTokenRequest"]["spec"]["clusterName"] == "demo"
    assert found["K0smotronControlPlane"]["spec"]["storage"]["type"] == "kine"
    assert found["K0smotronControlPlaneTemplate"]["spec"]["template"]["spec"]["controlPlaneFlags"] == ["--debug"]
    assert found["K0sWorkerConfig"]["spec"]["provisioner"]["type"] == "ignition"
    assert found["K0sWorkerConfigTemplate"]["spec"]["template"]["spec"]["preK0sCommands"] == ["true"]


def test_an_edit_at_v1beta1_takes_nothing_away(api: Api) -> None:
    patches = [{"target": {"kind": "Service", "component": "x"}, "patch": {"type": "merge", "content": "{}"}}]
    spec: dict[str, Any] = {"keyAlgorithm": "RSA-2048", "patches": patches, "version": "v1.36.3+k0s"}
    spec["controlPlaneEndpoint"] = {"host": "cp.example", "port": 6443}
    kind = "K0smotronControlPlane"
    api.ask("POST", kind, "v1beta2", "new", manifest(kind, "v1beta2", "new", spec))
    ready = {"type": "Available", "status": "True", "reason": "Serves", "message": "it serves"}
    ready["lastTransitionTime"] = "2026-11-21T10:00:00Z"
    status: dict[str, Any] = {
        "conditions": [ready],
        "versions": [{"version": "v1.36.3+k0s", "replicas": 1}],
        "readyReplicas": 1,
    }
    status |= {"replicas": 1, "availableReplicas": 0, "initialization": {"controlPlaneInitialized": True}}
    stored = api.ask("PATCH", kind, "v1beta2", "new", {"status": status}, part="status")
    seen = api.get(kind, "v1beta1", "new")
    assert seen["status"].items() >= {"ready": True, "initialized": True, "unavailableReplicas": 1}.items()
    # A client that knows nothing of all this.
    seen["spec"]["replicas"] = 3
    api.ask("PUT", kind, "v1beta1", "new", seen)
    after = api.get(kind, "v1beta2", "new")
    assert after["spec"] == {**stored["spec"], "replicas": 3}
    assert after["status"] == stored["status"]
    assert ANNOTATION not in after["metadata"].get("annotations", {})
    scaled = api.ask("PATCH", kind, "v1beta1", "new", {"spec": {"replicas": 2}}, part="scale")
    assert scaled["spec"]["replicas"] == 2
    assert api.get(kind, "v1beta2", "new")["spec"] == {**stored["spec"], "replicas": 2}


def test_who_may_write_an_object_may_not_write_its_status(api: Api) -> None:
    kind = "K0smotronControlPlane"
    lie = {"initialization": {"controlPlaneInitialized": True}, "k0sVersion": "v1.36.3+k0s.2"}
    forged = {
        ANNOTATION: json.dumps(
            {"v1beta2": [{"at": ["status"], "is": lie}, *({"at": ["status", key], "is": lie[key]} for key in lie)]}
        )
    }
    new = manifest(kind, "v1beta1", "liar", {"version": "v1.36.3+k0s"})
    new["metadata"]["annotations"] = forged
    assert "status" not in api.ask("POST", kind, "v1beta1", "liar", {**new, "status": {"initialized": True}})
    assert "status" not in api.get(kind, "v1beta2", "liar")
    honest = {"initialization": {"controlPlaneInitialized": False}, "k0sVersion": "v1.36.3+k0s.1", "replicas": 1}
    api.ask("PATCH", kind, "v1beta2", "liar", {"status": honest}, part="status")
    said = api.get(kind, "v1beta2", "liar")["status"]
    # A manifest without a word of how it was converted before, and a lie in its place.
    seen = api.get(kind, "v1beta1", "liar")
    seen["metadata"]["annotations"] = forged
    seen["status"] = {"initialized": True, "conversionData": forged[ANNOTATION]}
    api.ask("PUT", kind, "v1beta1", "liar", seen)
    assert api.get(kind, "v1beta2", "liar")["status"] == said


def test_no_annotation_ends_a_list(api: Api) -> None:
    for name, value in {
        "kind": {"at": ["kind"], "is": "Secret"},
        "version": {"at": ["apiVersion"], "is": "v9"},
        "text": {"at": ["metadata", "annotations", "k0smotron.io/conversion-dropped-service.labels"], "is": 5},
    }.items():
        body = manifest("Cluster", "v1beta2", f"odd-{name}", {"replicas": 1})
        body["metadata"]["annotations"] = {ANNOTATION: json.dumps({"v1beta1": [value]})}
        api.ask("POST", "Cluster", "v1beta2", f"odd-{name}", body)
    body["metadata"] |= {"name": "odd-large", "annotations": {ANNOTATION: '{"v1beta1":"too large"}'}}
    api.ask("POST", "Cluster", "v1beta2", "odd-large", body)
    listed = [each["metadata"]["name"] for each in api.get("Cluster", "v1beta1", "")["items"]]
    assert {"odd-kind", "odd-version", "odd-text", "odd-large"} <= set(listed)


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        ("Cluster", {"kineDataSourceURL": "mysql://x"}, "the storage type cannot be changed"),
        ("Cluster", {"kineDataSourceURL": "x", "kineDataSourceSecretName": "y"}, "not both"),
        (
            "Cluster",
            {"k0sConfig": {"spec": {"network": {"podCIDR": "10.9.0.0/16"}}}},
            "network range cannot be changed",
        ),
        ("K0smotronControlPlane", {"kineDataSourceURL": ""}, "the storage type cannot be changed"),
        ("JoinTokenRequest", {"clusterRef": {"name": "other"}}, "clusterRef cannot be changed"),
        ("JoinTokenRequest", {"role": "controller"}, "role cannot be changed"),
    ],
)
def test_what_cannot_change_cannot_change_at_v1beta1(api: Api, kind: str, change: Any, says: str) -> None:
    api.ask("APPLY", kind, "v1beta1", "fixed", manifest(kind, "v1beta1", "fixed", OLD[kind]))
    with pytest.raises(Refused, match=says):
        api.ask("PATCH", kind, "v1beta1", "fixed", {"spec": change})


def test_a_template_may_change_as_far_as_the_schema_goes(api: Api) -> None:
    """Whether it may is for admission, which lets the topology's dry runs through."""
    kind = "K0smotronControlPlaneTemplate"
    for storage in ("etcd", "kine"):
        spec = {"template": {"spec": {"storage": {"type": storage, "kine": {"dataSourceURL": "mysql://x"}}}}}
        made = api.ask("APPLY", kind, "v1beta2", "free", manifest(kind, "v1beta2", "free", spec))
        assert "replicas" not in made["spec"]["template"]["spec"]


def test_deprecation_is_said_to_who_uses_the_old_version(api: Api) -> None:
    request = urllib.request.Request(f"{api.server.url}/apis/k0smotron.io/v1beta1/namespaces/default/clusters")
    with urllib.request.urlopen(request, context=api.context, timeout=60) as answer:
        assert "k0smotron.io/v1beta1 Cluster is deprecated; use v1beta2" in answer.headers["Warning"]
