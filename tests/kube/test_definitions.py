"""Whom to trust is written only where it is ours to say; what is not proven is said, and what needs no proof is not
asked for. (With a real API server: `tests/component/test_webhook.py`.)"""

from __future__ import annotations

import base64
import copy
from collections.abc import AsyncGenerator
from typing import Any, cast

import orjson
import pytest

from hosted_cp.api import crds
from hosted_cp.api.kinds import PROVIDERS
from hosted_cp.kube import definitions
from hosted_cp.kube.client import Answer, ApiClient, Page
from hosted_cp.kube.definitions import RESOURCES, resources, unproven
from hosted_cp.kube.errors import ApiError, Forbidden, NotFound, ServerFault
from hosted_cp.kube.resources import CLUSTER, CONTROL_PLANE, JOIN_TOKEN_REQUEST, Resource
from hosted_cp.kube.webhook_names import names

BUNDLE = b"-----BEGIN CERTIFICATE-----\n"
ENCODED = base64.b64encode(BUNDLE).decode()
[CLUSTERS, *_] = crds.generate(conversion=crds.Webhook(service="hosted-cp-webhook", namespace="hosted-cp"))


def changed(body: Any = CLUSTERS, **client: Any) -> dict[str, Any]:
    made: dict[str, Any] = copy.deepcopy(body)
    made["spec"]["conversion"]["webhook"]["clientConfig"].update(client)
    return made


def test_our_kinds_are_those_of_the_table() -> None:
    assert {CLUSTER, JOIN_TOKEN_REQUEST, CONTROL_PLANE} <= set(RESOURCES.values())
    assert list(RESOURCES) == [each["metadata"]["name"] for each in crds.generate(conversion=crds.Webhook(url="x"))]


def test_a_definition_of_ours_gets_the_bundle_once() -> None:
    wanted = {"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": ENCODED}}}}}
    assert definitions._of_definition(CLUSTERS, BUNDLE) == wanted
    assert definitions._of_definition(changed(caBundle="b2xk"), BUNDLE) == wanted
    assert definitions._of_definition(changed(caBundle=ENCODED), BUNDLE) is None
    assert definitions._of_definition(changed(url="https://webhook.example", service=None), BUNDLE) == wanted


@pytest.mark.parametrize(
    "body",
    [
        changed(service={"name": "k0smotron-webhook-service", "namespace": "k0smotron"}),
        {**CLUSTERS, "metadata": {"name": "x", "annotations": {"cert-manager.io/inject-ca-from": "a/b"}}},
        {**CLUSTERS, "spec": {**CLUSTERS["spec"], "conversion": {"strategy": "None"}}},
        {**CLUSTERS, "spec": {key: value for key, value in CLUSTERS["spec"].items() if key != "conversion"}},
    ],
    ids=["another's", "cert-manager's", "without a webhook", "without anything"],
)
def test_what_is_not_ours_to_say_is_left_alone(body: Any) -> None:
    assert definitions._of_definition(body, BUNDLE) is None


def test_without_a_ca_of_the_webhooks_nothing_is_said() -> None:
    assert definitions._of_definition(CLUSTERS, b"") is None
    assert definitions._of_configuration({"metadata": {}, "webhooks": []}, b"") is None


def test_of_the_configuration_each_webhook_that_leads_to_us() -> None:
    ours = {"service": {"name": "hosted-cp-webhook", "namespace": "hosted-cp", "path": "/a"}}
    body = {
        "metadata": {},
        "webhooks": [
            {"name": "a", "clientConfig": ours},
            {"name": "b", "clientConfig": {**ours, "caBundle": ENCODED}},
            {"name": "c", "clientConfig": {"service": {"name": "another"}}},
        ],
    }
    made = definitions._of_configuration(body, BUNDLE)
    assert made == {"webhooks": [{"name": name, "clientConfig": {"caBundle": ENCODED}} for name in ("a", "b")]}
    body = {**body, "webhooks": [{"name": "b", "clientConfig": {**ours, "caBundle": ENCODED}}]}
    assert definitions._of_configuration(body, BUNDLE) is None


def test_one_provider_has_nothing_in_common_with_the_other() -> None:
    """Two installations side by side, in one namespace even, do not write into each other's definitions."""
    called = [names(each) for each in ("", *PROVIDERS)]
    for said in ("service", "configuration", "ca_secret"):
        assert len({getattr(each, said) for each in called}) == len(called)
    parts = [resources(each) for each in PROVIDERS]
    assert [name for part in parts for name in part] == list(RESOURCES)
    ours = changed(service={"name": names("bootstrap").service, "namespace": "hosted-cp"})
    assert definitions._of_definition(ours, BUNDLE) is None
    assert definitions._of_definition(ours, BUNDLE, service=names("control-plane").service) is None
    assert definitions._of_definition(ours, BUNDLE, service=names("bootstrap").service) is not None


class Server:
    """Definitions, and which versions can be listed."""

    def __init__(self, *stored: str, conversion: bool = True, broken: str = "", error: ApiError | None = None) -> None:
        self._stored, self._conversion, self._broken, self._error = stored, conversion, broken, error
        self.listed: list[str] = []

    async def get(self, _: object, namespace: None, name: str) -> Answer:
        if self._error is not None:
            raise self._error
        body = {**CLUSTERS, "status": {"storedVersions": list(self._stored)}}
        if not self._conversion:
            body = {**body, "spec": {**body["spec"], "conversion": {"strategy": "None"}}}
        return Answer(orjson.dumps(body))

    async def pages(self, resource: Resource, namespace: str, *, metadata_only: bool) -> AsyncGenerator[Page, None]:
        assert metadata_only
        self.listed.append(f"{resource.version} {namespace}".strip())
        if resource.version == self._broken:
            raise ServerFault("conversion webhook for k0smotron.io/v1beta1, Kind=Cluster failed: no endpoints")
        yield Page(items=(), resource_version="1")
        raise AssertionError("one page is enough")


async def asked(server: Server, **words: Any) -> str:
    return await unproven(cast(ApiClient, server), [CLUSTER], **words)


async def test_what_was_only_stored_as_it_is_read_needs_no_proof() -> None:
    for server in (Server("v1beta2"), Server("v1beta2", conversion=False)):
        assert await asked(server) == ""
        assert server.listed == []


async def test_what_was_stored_otherwise_is_read_once_in_each_version() -> None:
    server = Server("v1beta1", "v1beta2")
    assert await asked(server) == ""
    assert server.listed == ["v1beta2", "v1beta1"]
    server = Server("v1beta1")
    assert await asked(server, namespaces=("a", "b")) == ""
    assert server.listed == ["v1beta2 a", "v1beta2 b", "v1beta1 a", "v1beta1 b"]


async def test_nobody_who_converts_and_nobody_who_answers_are_told_apart() -> None:
    assert "nobody is named who converts them" in await asked(Server("v1beta1", "v1beta2", conversion=False))
    said = await asked(Server("v1beta1", "v1beta2", broken="v1beta1"))
    assert said.startswith("objects of kind Cluster cannot be read as v1beta1 (does the webhook answer? ")
    assert said.endswith("no endpoints")


async def test_what_is_not_there_or_not_to_be_read_is_passed_over() -> None:
    assert await asked(Server(error=NotFound("x"))) == ""
    assert await asked(Server(error=Forbidden("x"))) == ""
    assert "cannot be read" in await asked(Server(error=ServerFault("x", code=500)))
