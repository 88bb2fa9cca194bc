"""What was handed out, and what the tenant knows: a join token works if both are the same.

Taken apart by hand, not by the product's own decoder.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterable
from dataclasses import dataclass, field

import yaml

from hosted_cp.k0s.tokens import EXPIRES, REQUEST_LABEL
from hosted_cp.kube.resources import CLUSTER, JOIN_TOKEN_REQUEST, SECRET
from tests.component.hosting import Object, Stage
from tests.component.snapshots import data_of


@dataclass(frozen=True, kw_only=True)
class HandedOut:
    """What the Secret of a request holds."""

    server: str
    ca: bytes = field(repr=False)
    id: str
    secret: str = field(repr=False)
    expires: str


async def handed_out(stage: Stage, name: str) -> HandedOut:
    """The token of a request."""
    body = await stage.admin.get(SECRET, stage.namespace, name)
    config = yaml.safe_load(gzip.decompress(base64.b64decode(data_of(body.body)["token"])))
    [cluster], [user] = config["clusters"], config["users"]
    identifier, _, secret = user["user"]["token"].partition(".")
    return HandedOut(
        server=cluster["cluster"]["server"],
        ca=base64.b64decode(cluster["cluster"]["certificate-authority-data"]),
        id=identifier,
        secret=secret,
        expires=body["metadata"]["annotations"][EXPIRES],
    )


def bootstrap_secrets(stage: Stage, tenant: str) -> list[Object]:
    """What the tenant knows."""
    return stage.tenants.objects(stage.namespace, tenant, "secrets")


async def assert_tokens_work(stage: Stage, tenant: str, names: Iterable[str]) -> None:
    """For each request there is exactly one bootstrap Secret in the tenant, and it is the one that was handed out."""
    known: dict[str, list[Object]] = {}
    for body in bootstrap_secrets(stage, tenant):
        known.setdefault(body["metadata"]["labels"][REQUEST_LABEL], []).append(body)
    authority = data_of((await stage.admin.get(SECRET, stage.namespace, f"{tenant}-ca")).body)
    cluster = (await stage.admin.get(CLUSTER, stage.namespace, tenant))["status"]["controlPlaneEndpoint"]
    for name in names:
        request = await stage.admin.get(JOIN_TOKEN_REQUEST, stage.namespace, name)
        [one] = known.pop(request["metadata"]["uid"])
        data = {key: value.decode() for key, value in data_of(one).items()}
        token = await handed_out(stage, name)
        assert (token.id, token.secret) == (data["token-id"], data["token-secret"]), name
        assert request["status"]["tokenID"] == token.id, name
        assert request["status"]["expiration"] == token.expires == data["expiration"], name
        assert token.ca == authority["tls.crt"], name
        assert token.server == f"https://{cluster['host']}:{cluster['port']}", name
    assert known == {}, "nothing that no request has asked for"
