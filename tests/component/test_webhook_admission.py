"""Admission through a real API server, with the shipped configuration: what is asked about, refused, and let in."""

from __future__ import annotations

import copy
import json
import subprocess
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.errors import ApiError, Invalid
from hosted_cp.webhooks.admission import TOPOLOGY_DRY_RUN
from k0s_images.golang import components
from tests.component.apiserver import Server, running
from tests.component.certificates import authority, leaf
from tests.component.test_client import credentials_of
from tests.component.test_webhook import body, resource
from tests.component.webhook import Webhook, answering, definitions, install, shipped
from tests.webhooks.serving import write
from tests.webhooks.test_admission import BAD, GOOD


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("admission"), components("1.36"), controllers=()) as started:
        yield started


@pytest.fixture(scope="module")
def webhook(server: Server) -> Iterator[Webhook]:
    """With certificates from somebody else, as cert-manager gives them, who writes the CA himself, too."""
    signer = authority("cert-manager")
    folder = server.folder / "webhook"
    folder.mkdir()
    certificate, key = write(folder, leaf(signer, "webhook", ips=("127.0.0.1",)))
    with answering(folder, f"--cert-file={certificate}", f"--key-file={key}") as started:
        install(server, definitions(started.url, ca=signer.certificate))
        [configuration] = shipped("ValidatingWebhookConfiguration", url=started.url)
        for each in configuration["webhooks"]:
            each["clientConfig"]["caBundle"] = b64encode(signer.certificate).decode()
        install(server, [configuration])
        yield started


@pytest.fixture
async def admin(server: Server, webhook: Webhook) -> AsyncIterator[ApiClient]:
    async with ApiClient(credentials_of(server.admin), agent="component-test") as client:
        yield client


def _within(part: Any, whole: Any) -> bool:
    """Whether `whole` has everything of `part`, and perhaps defaults beside it."""
    if isinstance(part, dict):
        return all(name in whole and _within(value, whole[name]) for name, value in part.items())
    return bool(part == whole)


async def refused(admin: ApiClient, given: dict[str, Any]) -> ApiError:
    with pytest.raises(Invalid) as caught:
        await admin.create(resource(given["kind"], "v1beta2"), given)
    return caught.value


@pytest.mark.parametrize("kind", GOOD)
async def test_what_is_good_is_let_in(admin: ApiClient, kind: str) -> None:
    made = await admin.create(resource(kind, "v1beta2"), body(kind, "good"))
    assert _within(GOOD[kind], made["spec"])
    await admin.delete(resource(kind, "v1beta2"), "default", "good")


#: What the API server's own schema does not refuse already.
OURS = [
    each for each in BAD if not any(word in each[2] for word in ("valid", "missing")) and each[1] != {"replicas": 0}
]


@pytest.mark.parametrize(("kind", "spec", "field", "fault", "remedy"), OURS)
async def test_what_is_bad_is_refused_by_us_with_field_fault_and_remedy(
    admin: ApiClient, kind: str, spec: Any, field: str, fault: str, remedy: str
) -> None:
    error = await refused(admin, {**body(kind, "bad"), "spec": spec})
    said = dict(error.causes)
    if field in said and "admission webhook" in error.message:
        assert fault in said[field]
        assert remedy in said[field]
        assert "-" + kind.lower() in error.message
    else:  # the schema has a rule of its own
        assert any(field.endswith(each) for each in said), error


#: Bad, and no rule of the schema says so. (All of a JoinTokenRequest has rules.)
UNRULED: dict[str, Any] = {
    "Cluster": {"controlPlaneFlags": ["--single"]},
    "JoinTokenRequest": GOOD["JoinTokenRequest"],
    "K0smotronControlPlane": {"version": "one"},
    "K0smotronControlPlaneTemplate": {"template": {"spec": {"version": "one"}}},
    "K0sWorkerConfig": {"args": [""]},
    "K0sWorkerConfigTemplate": {"template": {"spec": {"args": [""]}}},
}


async def test_the_old_version_is_judged_as_well(admin: ApiClient) -> None:
    old = resource("Cluster", "v1beta1")
    given = {**body("Cluster", "old"), "apiVersion": old.api_version, "spec": {"controllerPlaneFlags": ["--single"]}}
    with pytest.raises(Invalid, match=r"spec\.controlPlaneFlags\[0\]: .*runs no workers"):
        await admin.create(old, given)


@pytest.mark.parametrize("kind", GOOD)
async def test_invalid_objects_from_before_are_changed_elsewhere_and_deleted(
    server: Server, webhook: Webhook, admin: ApiClient, kind: str
) -> None:
    """Stored while nobody answered."""
    there = resource(kind, "v1beta2")
    webhook.stop()
    try:
        given = body(kind, "kept", metadata={"finalizers": ["a.b/c"]})
        await admin.create(there, {**given, "spec": UNRULED[kind]})
    finally:
        webhook.start()
    if UNRULED[kind] != GOOD[kind]:
        await refused(admin, {**body(kind, "new"), "spec": UNRULED[kind]})
    await admin.merge_patch(there, "default", "kept", {"metadata": {"labels": {"a": "b"}}})
    if not kind.endswith("Template"):
        condition = {
            "type": "Ready", "status": "True", "reason": "X", "message": "",
            "lastTransitionTime": "2026-11-21T10:00:00Z",
        }  # fmt: skip
        await admin.merge_patch(there, "default", "kept", {"status": {"conditions": [condition]}}, subresource="status")
    await admin.delete(there, "default", "kept")
    await admin.merge_patch(there, "default", "kept", {"metadata": {"finalizers": None}})
    with pytest.raises(ApiError, match="not found"):
        await admin.get(there, "default", "kept")


@pytest.mark.parametrize("kind", ["K0smotronControlPlaneTemplate", "K0sWorkerConfigTemplate"])
async def test_templates_change_in_a_topologys_dry_run_only(
    server: Server, webhook: Webhook, admin: ApiClient, kind: str
) -> None:
    there = resource(kind, "v1beta2")
    given = body(kind, "fixed")
    stored = await admin.create(there, given)
    changed = copy.deepcopy(given)
    changed["spec"]["template"]["spec"]["image" if "Plane" in kind else "workingDir"] = "/other"
    with pytest.raises(Invalid, match=f"create another {kind} and refer to that"):
        await admin.apply(there, changed)
    trial = copy.deepcopy(changed)
    trial["metadata"]["annotations"] = {TOPOLOGY_DRY_RUN: ""}
    with pytest.raises(Invalid, match="cannot be changed"):
        await admin.apply(there, trial)
    command = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-o", "name", "-f", "-")
    assert kind.lower() in server.kubectl(*command, stdin=json.dumps(trial).encode()).decode()
    # Where nobody answers, whoever changes a template in place has to wait, and nobody else.
    webhook.stop()
    try:
        with pytest.raises(ApiError, match="failed calling webhook"):
            await admin.apply(there, changed)
        await admin.merge_patch(there, "default", "fixed", {"metadata": {"labels": {"a": "b"}}})
        await admin.create(there, body(kind, "another"))
    finally:
        webhook.start()
    after = await admin.get(there, "default", "fixed")
    assert after["spec"] == stored["spec"]
    for name in ("fixed", "another"):
        await admin.delete(there, "default", name)


def test_warnings_reach_the_user(server: Server, webhook: Webhook) -> None:
    given = {**body("K0smotronControlPlane", "warned"), "spec": {"version": "v1.36.3"}}
    kubectl = [str(server.programs / "kubectl"), "--kubeconfig", str(server.folder / "admin.kubeconfig")]
    done = subprocess.run(
        [*kubectl, "create", "--dry-run=server", "-f", "-"],
        input=json.dumps(given).encode(), capture_output=True, check=True,
    )  # fmt: skip
    assert b"Warning: spec.version v1.36.3 is understood, but kubelets report v1.36.3+k0s" in done.stderr
