"""Bad input, where only a real API server, real watches and real Secrets show what happens."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec

from hosted_cp.kube.resources import CLUSTER, SECRET
from hosted_cp.pki.facts import secret_facts
from hosted_cp.pki.recipes import KubeconfigRecipe
from hosted_cp.planning.recipes import Inputs
from tests.component.hosting import Object, Stage, conditions


def data_of(secret: Object) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in secret["data"].items()}


async def test_a_kubeconfig_is_renewed_while_the_spec_is_refused(stage: Stage) -> None:
    async with stage.operating():
        await stage.create("a")
        await stage.available("a")
    secret = (await stage.admin.get(SECRET, stage.namespace, "a-kubeconfig")).body
    facts = secret_facts(type=secret["type"], data=data_of(secret)).kubeconfigs["value"]
    authority = data_of((await stage.admin.get(SECRET, stage.namespace, "a-ca")).body)
    old = KubeconfigRecipe(cluster="a", server=facts.server, signer="a-ca", life=timedelta(minutes=2)).fulfil(
        Inputs(
            now=datetime.now(UTC),  # it is dated back, so more than half of its life is over
            entropy=lambda length: b"\x07" * length,
            new_key=lambda _: ec.generate_private_key(ec.SECP256R1()),
            secrets={"a-ca": authority},
        )
    )
    data = {key: base64.b64encode(value).decode() for key, value in old.items()}
    await stage.admin.replace(SECRET, {**secret, "data": data})
    await stage.change("a", {"version": "v1.99.0"})
    since = stage.audit.mark()
    async with stage.operating() as operator:
        state = await stage.until(SECRET, ["a-kubeconfig"], lambda body: body["data"] != data)
        await stage.until(
            CLUSTER, ["a"], lambda body: conditions(body).get("SpecAccepted", {}).get("reason") == "SpecInvalid"
        )
        await stage.rest(operator)
        written = [(each.verb, each.resource, each.subresource) for each in stage.requests(since)]
        assert [each for each in written if each[0] not in ("get", "list", "watch") and each[2] != "status"] == [
            ("update", "secrets", "")
        ]
        renewed = state["a-kubeconfig"]
        client = secret_facts(type=renewed["type"], data=data_of(renewed)).kubeconfigs["value"].client
        assert client is not None
        assert client.not_after > datetime.now(UTC) + timedelta(days=300)
        assert renewed["metadata"]["labels"] == secret["metadata"]["labels"]
        await stage.change("a", {"version": None})
        await stage.available("a")
        last = (await stage.admin.get(SECRET, stage.namespace, "a-kubeconfig")).body
        assert last["metadata"]["resourceVersion"] == renewed["metadata"]["resourceVersion"]
