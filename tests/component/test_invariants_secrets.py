"""No secret value is ever told: not in logs, Events, status, metadata, pods, metrics or tracebacks, whatever happens.

A scene is played with every kind of Secret that there is, in which about everything goes wrong that could make somebody
quote one. All versions of all objects are followed meanwhile, and searched in the end for every piece of every value
that any Secret ever had (`canaries`). Then such pieces are planted at each of the places, and must be found there.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import traceback
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from hosted_cp.executor import Hooks, Step
from hosted_cp.kube.client import ApiClient, Sample
from hosted_cp.kube.metrics import Metrics
from hosted_cp.kube.resources import (
    CLUSTER,
    EVENT,
    JOIN_TOKEN_REQUEST,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    POD_DISRUPTION_BUDGET,
    SECRET,
    SERVICE,
    STATEFUL_SET,
    Resource,
)
from hosted_cp.planning.actions import Create, Replace
from tests.component import certificates
from tests.component.apiserver import free_ports
from tests.component.canaries import PIECE, Net, logged, spellings
from tests.component.faults import Fault, Proxy, proxy
from tests.component.hosting import Object, Stage, conditions, minted
from tests.component.kubelet import NEVER_READY, READY
from tests.component.snapshots import data_of
from tests.component.test_client import credentials_of
from tests.kube.test_postgres import Serve, error, message, scram

CONTROLLER_REVISION = Resource(
    group="apps", version="v1", kind="ControllerRevision", plural="controllerrevisions", namespaced=True
)
FOLLOWED = (
    CLUSTER, JOIN_TOKEN_REQUEST, SERVICE, STATEFUL_SET, POD_DISRUPTION_BUDGET, PERSISTENT_VOLUME_CLAIM, POD, EVENT,
    SECRET, CONTROLLER_REVISION,
)  # fmt: skip
CONFIG: Object = {
    "apiVersion": "k0s.k0sproject.io/v1beta1",
    "kind": "ClusterConfig",
    "spec": {"api": {"sans": ["tenant.example"]}},
}
PATCHES = [
    {
        "target": {"kind": "StatefulSet", "component": "control-plane"},
        "patch": {"type": "strategic", "content": "metadata: {annotations: {patched: 'yes'}}"},
    },
    {
        "target": {"kind": "Service", "component": "control-plane"},
        "patch": {"type": "merge", "content": "metadata: {annotations: {patched: 'yes'}}"},
    },
]
#: Answers that quote what they were sent, and others that whoever meets them could quote. (POST, PUT and PATCH.)
FAULTS = [
    *(Fault(method="POST", path="/secrets", status=code, quote=True) for code in (422, 403, 409, 500)),
    Fault(method="POST", path="/secrets", status=429, quote=True, retry_after=0.1),
    Fault(method="POST", path="/secrets", reset="after"),
    Fault(method="POST", path="/secrets", halve=True),
    Fault(method="GET", path="/secrets/", halve=True),
    Fault(method="GET", path="/secrets/", status=500),
    Fault(method="POST", path="/statefulsets", status=500, quote=True),
    Fault(method="PATCH", path="/statefulsets", status=422, quote=True),
]


@dataclass(kw_only=True)
class Seen:
    """All versions of all objects, as text, by kind; of Secrets everything but the data, which goes into the net."""

    net: Net = field(default_factory=Net)
    texts: dict[str, list[str]] = field(default_factory=dict)
    latest: int = 0

    def take(self, resource: Resource, raw: bytes) -> None:
        body = orjson.loads(raw)
        if resource == SECRET:
            self.net.take(data_of(body))
            body.pop("data", None)
        self.texts.setdefault(resource.plural, []).append(orjson.dumps(body).decode())
        self.latest = max(self.latest, int(body["metadata"]["resourceVersion"]))


@asynccontextmanager
async def following(stage: Stage) -> AsyncIterator[Seen]:
    """Everything that happens to the objects of the namespace from now on, with managedFields."""
    seen = Seen()

    async def follow(client: ApiClient, resource: Resource, since: str) -> None:
        async with aclosing(client.watch(resource, stage.namespace, since=since)) as events:
            async for event in events:
                if event.type != "BOOKMARK":
                    seen.take(resource, event.raw)

    # Not the admin of the other tests: what is sent here is told by no log.
    async with ApiClient(credentials_of(stage.server.admin), agent="canaries") as client:
        tasks = []
        for resource in FOLLOWED:
            async with aclosing(client.pages(resource, stage.namespace)) as pages:
                async for page in pages:
                    for raw in page.items:
                        seen.take(resource, raw)
                    version = page.resource_version
            tasks.append(asyncio.create_task(follow(client, resource, version)))
        try:
            yield seen
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            assert [each for each in ends if not isinstance(each, asyncio.CancelledError)] == []


@asynccontextmanager
async def database(password: str) -> AsyncIterator[tuple[int, list[Serve]]]:
    """Something like a PostgreSQL: its port, and how it behaves (the last of the list). It begins with refusing the
    password, and quotes it."""
    behaviour = [scram(error("28P01", f"password authentication failed for {password}"))]

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behaviour[-1](reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    [port] = free_ports(1)
    async with await asyncio.start_server(accept, "127.0.0.1", port):
        yield port, behaviour


WELCOME = scram(message(b"R", (12).to_bytes(4, "big") + b"v=x") + message(b"R", bytes(4)) + message(b"Z", b"I"))


def because(*reasons: str) -> Any:
    """Whether a Cluster is not Available for one of these reasons."""
    return lambda body: conditions(body).get("Available", {}).get("reason") in reasons


def refused_with(status: int) -> Any:
    """Whether a request for a token says that its tenant answers with this status."""
    return lambda body: f"({status})" in str(conditions(body))


def strikes(kind: type[BaseException], times: int, *, name: str = "") -> Hooks:
    """The operator breaks after the writing of Secrets, so many times."""
    left = [times]

    def after(step: Step, number: int) -> None:
        if isinstance(step, Create | Replace) and step.ref.kind == "Secret" and name in step.ref.name and left[0]:
            left[0] -= 1
            raise kind(f"a fault of the test after {step!r}")

    return Hooks(after=after)


class Crash(BaseException):
    """The process ends here."""


async def prepare(stage: Stage, port: int, password: str) -> None:
    """What users bring."""
    brought, other = certificates.authority("kubernetes-ca"), certificates.authority("kubernetes-ca")
    dsn = f"postgres://tenant:{password}@127.0.0.1:{port}/kine?sslmode=disable"
    named = "K0SMOTRON_KINE_DATASOURCE_URL"
    await stage.secret("brought-ca", {"tls.crt": brought.certificate, "tls.key": brought.key})
    await stage.secret("mismatched", {"tls.crt": brought.certificate, "tls.key": other.key})
    await stage.secret("spoilt", {"tls.crt": other.certificate, "tls.key": other.key[:100] + b"!" + other.key[100:]})
    await stage.secret("database", {named: dsn.encode()})
    await stage.secret("no-database", {named: dsn.replace("postgres://", "postgres//").encode()})
    await stage.secret("mounted", {"canary": secrets.token_hex(20).encode()})


def sql(secret: str) -> Object:
    return {
        "service": {"type": "ClusterIP"},
        "storage": {"type": "kine", "kine": {"dataSourceSecretName": secret}},
    }


TENANTS: dict[str, Object] = {
    "store": {
        "replicas": 2,
        "patches": PATCHES,
        "mounts": [{"path": "/canary", "secret": {"secretName": "mounted"}}],
        "k0sConfig": CONFIG,
    },
    "sql": sql("database"),
    "odd": sql("no-database"),
    "brought": {"certificateRefs": [{"type": "ca", "name": "brought-ca"}]},
    "mismatch": {"certificateRefs": [{"type": "ca", "name": "mismatched"}]},
    "rotten": {"certificateRefs": [{"type": "ca", "name": "spoilt"}]},
}
GOOD = ("store", "sql", "brought")


async def scene(stage: Stage, between: Proxy, behaviour: list[Serve]) -> None:
    """The tenants' lives."""
    stage.kubelet.script(stage.namespace, "kmc-sql-*", NEVER_READY)
    for name, spec in TENANTS.items():
        await stage.create(name, spec)
    # Refused by the database, and a CA that is none: what is told of that is ours.
    await stage.until(CLUSTER, ["sql"], because("DatabaseUnreachable"))
    refused = because("SecretsMissing", "SpecInvalid", "SecretInvalid", "DatabaseUnreachable")
    await stage.until(CLUSTER, ["odd", "mismatch", "rotten"], refused)
    behaviour.append(WELCOME)
    stage.kubelet.script(stage.namespace, "kmc-sql-*", READY)
    await stage.available(*GOOD)
    for name in ("store", "sql", "brought"):
        # The tenant refuses the token, and quotes it.
        for status in (422, 500) if name == "store" else (403,):
            stage.tenants.refuse(stage.namespace, name, status)
            if status in {422, 403}:
                await stage.ask_token(f"{name}-token", name)
            await stage.until(
                JOIN_TOKEN_REQUEST,
                [f"{name}-token"],
                refused_with(status),
            )
        stage.tenants.refuse(stage.namespace, name, 0)
    await stage.until(JOIN_TOKEN_REQUEST, [f"{name}-token" for name in GOOD], minted)
    between.add(
        *(Fault(method="PUT", path="/secrets/", status=code, quote=True) for code in (422, 409, 500, 403)),
        Fault(method="PUT", path="/secrets/", halve=True),
    )
    for name in GOOD:
        damage = {"data": {"value": "AA=="}}
        await stage.admin.merge_patch(SECRET, stage.namespace, f"{name}-kubeconfig", damage, manager="somebody")
        await stage.change(name, {"k0sConfig": {**CONFIG, "spec": {"api": {"sans": ["another.example"]}}}})
    await stage.available(*GOOD)
    await stage.admin.delete(JOIN_TOKEN_REQUEST, stage.namespace, "brought-token")
    await stage.admin.delete(CLUSTER, stage.namespace, "brought")
    await stage.gone("brought")
    await stage.until(JOIN_TOKEN_REQUEST, ["brought-token"], lambda body: not body)


async def crash(stage: Stage) -> list[str]:
    """An operator that ends in the middle of making Secrets; what it says last."""
    await stage.create("late")
    with pytest.raises(BaseExceptionGroup) as ended:  # noqa: PT012 - it may end at any moment
        async with stage.operating(hooks=strikes(Crash, 1, name="late")):
            await stage.until(CLUSTER, ["late"], bool)
            await asyncio.sleep(3)
    assert ended.group_contains(Crash)
    return traceback.format_exception(ended.value)


async def test_no_secret_value_is_told_and_one_that_is_would_be_found(stage: Stage) -> None:
    password = f"p%2F{secrets.token_urlsafe(24)}"
    with logged() as log:
        async with following(stage) as seen:
            async with (
                database(password) as (port, behaviour),
                proxy(stage.server, stage.access.user, "system:serviceaccounts") as between,
            ):
                await prepare(stage, port, password)
                between.add(*FAULTS)
                hooks = strikes(ValueError, 3)
                async with stage.operating(access=between.access, hooks=hooks, with_kopf=True) as operator:
                    await scene(stage, between, behaviour)
                    await stage.rest(operator)
                    metrics = operator.metrics
            traces = await crash(stage)
            assert len(between.struck) >= len(FAULTS), between.struck
            tenants = {name: stage.tenants.objects(stage.namespace, name, "secrets") for name in ("store", "sql")}
            for held in tenants.values():
                assert held
                for each in held:
                    seen.net.take(data_of(each))
                    seen.texts.setdefault("in tenants", []).append(str({**each, "data": None}))

            def places() -> dict[str, list[str]]:
                return {
                    **seen.texts,
                    "log, text": log["text"],
                    "log, json": log["json"],
                    "metrics": [metrics.text().decode()],
                    "traceback": traces,
                }

            found = places()
            assert len(seen.net) > 30, "keys of three tenants and more"
            assert set(found) >= {each.plural for each in FOLLOWED}
            assert any("Traceback" in line for line in log["text"]), "faults of the operator were logged"
            assert any("made by" in line or "denied" in line for line in log["text"]), "refusals were logged"
            leaks = seen.net.search(found)
            assert leaks == {}, {place: hits[:3] for place, hits in leaks.items()}

            expected = await plant(stage, metrics, traces)
            async with asyncio.timeout(20):
                while set(seen.net.search(places())) != expected:  # noqa: ASYNC110 - watches bring what was planted
                    await asyncio.sleep(0.5)


async def plant(stage: Stage, metrics: Metrics, traces: list[str]) -> set[str]:
    """Put a piece of a secret to each of the places; returns which."""
    admin, namespace = stage.admin, stage.namespace
    held = data_of((await admin.get(SECRET, namespace, "store-ca")).body)
    _, body, *_ = held["tls.key"].decode().splitlines()
    line: str = (await admin.get(SECRET, namespace, "store-sa")).body["data"]["tls.key"]
    whole: str = (await admin.get(SECRET, namespace, "mounted")).body["data"]["canary"]
    coded = list(spellings(body[48:].encode()))
    pieces = [body[-PIECE:], line[-60:-40], whole[5:30], coded[1][:20], coded[2][:PIECE], coded[4], coded[6]]
    label = coded[1][:60]  # (hexadecimal: labels take no other signs)

    logging.getLogger("hosted_cp.executor").debug("creating %s", pieces[0])
    metrics.request(Sample(verb="get", kind=pieces[1], code=200, seconds=0.1))
    traces.append(f"ValueError: {pieces[2]}")
    annotated = {"metadata": {"annotations": {"planted": pieces[3]}}}
    for resource, name in ((SECRET, "store-ca"), (STATEFUL_SET, "kmc-store"), (POD, "kmc-store-0")):
        await admin.merge_patch(resource, namespace, name, annotated)
    [service] = [each for each in await admin.list(SERVICE, namespace) if each["metadata"]["name"] == "kmc-sql"]
    labelled = {"metadata": {"labels": {"planted": label}}}
    await admin.merge_patch(SERVICE, namespace, service["metadata"]["name"], labelled)
    told = {"status": {"conditions": [condition("Available", pieces[4])]}}
    await admin.merge_patch(CLUSTER, namespace, "store", told, subresource="status")
    told = {"status": {"conditions": [condition("JoinTokenSecretCreated", pieces[5])]}}
    await admin.merge_patch(JOIN_TOKEN_REQUEST, namespace, "store-token", told, subresource="status")
    [event, *_] = await admin.list(EVENT, namespace)
    said = {**event, "metadata": {"name": "planted", "namespace": namespace}, "message": f"because of {pieces[6]}."}
    await admin.create(EVENT, said)
    # As managedFields: the name of who wrote last.
    [budget, *_] = await admin.list(POD_DISRUPTION_BUDGET, namespace)
    plain = {"metadata": {"annotations": {"planted": "nothing"}}}
    await admin.merge_patch(POD_DISRUPTION_BUDGET, namespace, budget["metadata"]["name"], plain, manager=pieces[0])
    return {
        "log, text", "log, json", "metrics", "traceback", "secrets", "statefulsets", "pods", "services", "clusters",
        "jointokenrequests", "events", "poddisruptionbudgets",
    }  # fmt: skip


def condition(kind: str, said: str) -> Object:
    return {
        "type": kind, "status": "False", "reason": "Planted", "message": f"the server says {said}",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
    }  # fmt: skip


def test_a_piece_is_found_wherever_it_begins() -> None:
    """The control of the search itself, for every spelling; and what is one character too short is no find."""
    net, key, token = Net(), certificates.new_key(), secrets.token_hex(8)
    net.take({"tls.key": key, "token-secret": token.encode()})
    net.take({"other": certificates.new_key()})
    body = b"".join(key.splitlines()[1:-1])[70:]
    long, short = {}, {}
    for spelling in [*spellings(body), *spellings(key[100:150]), token]:
        for cut in range(8):
            begin = min(cut, len(spelling) - PIECE)
            for before in range(9):
                piece = spelling[begin : begin + PIECE]
                long[f"{piece} after {before}"] = ["", "." * before + piece + "."]
                short[f"{piece} after {before}"] = ["." * before + piece[1:] + ".", "." * before + piece[:-1] + "."]
    assert set(net.search(long)) == set(long)
    assert net.search(short) == {}
