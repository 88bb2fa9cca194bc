"""The operator works with exactly the rights in `deploy/operator.yaml`, and uses every one of them.

Each component test of the whole operator runs under these rights. Here one long scene is played, with everything that
the operator ever does, and the API server's book is compared with the rules: nothing was refused, and each granted pair
of resource and verb was used. Then rules are taken away: the scene must not come to its end, and the missing right be
named.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import urllib.request
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import pytest
import yaml

from hosted_cp.cli import run as product
from hosted_cp.executor import Hooks, StatusWrite, Step
from hosted_cp.hosting.settings import Settings
from hosted_cp.kube.errors import NotFound
from hosted_cp.kube.lease import Terms
from hosted_cp.kube.resources import (
    CLUSTER,
    JOIN_TOKEN_REQUEST,
    LEASE,
    NETWORK_POLICY,
    POD_DISRUPTION_BUDGET,
    SECRET,
    SERVICE,
    STATEFUL_SET,
    Resource,
    resource_for,
)
from hosted_cp.operator import LEASE_NAME, Operator, Options
from tests.component.audit import Request
from tests.component.hosting import CATALOGUE, DEPLOYED, OPERATOR, Object, Stage, minted
from tests.component.test_client import credentials_of

ROLES: list[Object] = [
    each for each in yaml.safe_load_all(DEPLOYED.read_text(encoding="utf-8")) if each["kind"] in {"ClusterRole", "Role"}
]
#: Roles for kinds that need not be there carry this label. `tests/component/test_control_planes.py` needs them.
OPTIONAL = "hosted-cp.io/optional"
SHIPPED = [each for each in ROLES if OPTIONAL not in each["metadata"].get("labels", {})]

Pair = tuple[str, str]  # resource, verb

#: Granted for what the book does not show: owner references with blockOwnerDeletion are checked, not requested.
CHECKED: set[Pair] = {("clusters/finalizers", "update"), ("jointokenrequests/finalizers", "update")}


def granted(kind: str) -> set[Pair]:
    return {
        (resource, verb)
        for role in SHIPPED
        if role["kind"] == kind
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(requests: list[Request]) -> set[Pair]:
    return {
        (f"{each.resource}/{each.subresource}" if each.subresource else each.resource, each.verb)
        for each in requests
        if each.code < 400 and each.resource
    }


def test_no_rule_is_wider_than_it_must_be() -> None:
    for role in ROLES:
        for rule in role["rules"]:
            words = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert "*" not in words
            assert not {"escalate", "bind", "impersonate", "deletecollection"} & set(words)
            assert not {"pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "nodes/proxy"} & set(words)
    assert {pair for pair in granted("ClusterRole") if pair[0] in {"clusters", "jointokenrequests"}} == {
        (kind, verb) for kind in ("clusters", "jointokenrequests") for verb in ("get", "list", "watch", "patch")
    }, "never an update of a user's spec"


async def scene(stage: Stage, **spec: Any) -> None:
    """Everything that the operator ever does to the management cluster, for a tenant with such a spec."""
    admin, namespace = stage.admin, stage.namespace
    settings = Settings(catalogue=CATALOGUE, network_policies=True)
    lease: dict[str, Any] = {
        "lease_namespace": "hosted-cp", "terms": Terms(duration=20, renew_within=15, renew_every=0.5, pause=0.1)
    }  # fmt: skip
    # It is the server's, not the namespace's: a scene that came before has left it.
    stage.server.kubectl("delete", "lease", LEASE_NAME, "-n", lease["lease_namespace"], "--ignore-not-found")
    async with stage.operating(settings=settings, with_kopf=True, hooks=_races(stage), **lease) as operator:
        # An heir waits for the lease, which it watches.
        heir = asyncio.create_task(_inherit(stage, lease))
        try:
            await stage.create("a", {"replicas": 2, **spec})
            await stage.available("a")
            await stage.ask_token("t", "a")
            await stage.until(JOIN_TOKEN_REQUEST, ["t"], minted)
            # Fields that somebody changes are changed back; what is lost is made anew.
            for resource in (SERVICE, STATEFUL_SET, POD_DISRUPTION_BUDGET, NETWORK_POLICY):
                for each in await admin.list(resource, namespace):
                    damage = {"metadata": {"labels": {"hosted-cp.io/tenant-uid": "spoilt"}}}
                    await admin.merge_patch(resource, namespace, each["metadata"]["name"], damage, manager="somebody")
            for name in ("a-ca", "t"):
                await admin.merge_patch(SECRET, namespace, name, {"metadata": {"labels": None}}, manager="somebody")
            await admin.merge_patch(SECRET, namespace, "a-kubeconfig", {"data": {"value": "AA=="}}, manager="somebody")
            await stage.rest(operator)
            await stage.change("a", {"replicas": 1})
            await stage.available("a")
            await stage.rest(operator)
            await admin.delete(JOIN_TOKEN_REQUEST, namespace, "t")
            await stage.until(JOIN_TOKEN_REQUEST, ["t"], lambda body: not body)
            await admin.delete(CLUSTER, namespace, "a")
            await stage.gone("a")
        finally:
            heir.cancel()
            await asyncio.gather(heir, return_exceptions=True)


def _races(stage: Stage) -> Hooks:
    """Before the first status of each kind is written, the user changes something: the race is lost."""
    context = stage.server.admin.context(stage.server.folder)
    lost: set[str] = set()

    def before(step: Step, number: int) -> None:
        if not isinstance(step, StatusWrite) or step.ref.kind in lost:
            return
        lost.add(step.ref.kind)
        resource = resource_for(step.ref)
        path = f"/apis/{step.ref.api_version}/namespaces/{stage.namespace}/{resource.plural}/{step.ref.name}"
        request = urllib.request.Request(
            f"{stage.server.url}{path}",
            data=b'{"metadata": {"annotations": {"changed": "meanwhile"}}}',
            headers={"Content-Type": "application/merge-patch+json"},
            method="PATCH",
        )
        # Waiting here stops the operator's loop, and that is the point: it must not hear of it before it writes.
        with urllib.request.urlopen(request, context=context, timeout=30) as answer:
            answer.read()

    return Hooks(before=before)


async def _inherit(stage: Stage, lease: dict[str, Any]) -> None:
    async with stage.operating(**lease):
        pass


async def test_everything_works_under_the_shipped_rights_and_needs_all_of_them(stage: Stage) -> None:
    since = stage.audit.mark()
    await scene(stage)
    requests = stage.audit.requests(since=since, user=OPERATOR)
    assert [str(each) for each in requests if each.code in {401, 403}] == []
    allowed = granted("ClusterRole") | granted("Role")
    assert used(requests) <= allowed
    unused = allowed - used(requests) - CHECKED
    assert unused == set(), "nobody needs these"


def without(pair: Pair) -> list[Object]:
    """The shipped roles without one pair of resource and verb."""
    roles = copy.deepcopy(ROLES)
    for role in roles:
        if role not in SHIPPED:
            continue
        rules = []
        for rule in role["rules"]:
            if pair[0] in rule["resources"] and pair[1] in rule["verbs"]:
                others = [each for each in rule["resources"] if each != pair[0]]
                verbs = [each for each in rule["verbs"] if each != pair[1]]
                rules += [{**rule, "resources": others}] if others else []
                rules += [{**rule, "resources": [pair[0]], "verbs": verbs}] if verbs else []
            else:
                rules.append(rule)
        role["rules"] = rules
    return roles


async def lesser(stage: Stage, pair: Pair) -> Stage:
    """The stage with a user who has all the shipped rights but one."""
    user = f"lesser-{uuid.uuid4().hex[:8]}"
    rights: list[Object] = []
    for role in without(pair):
        namespace = role["metadata"].get("namespace")
        # Two roles of one kind: a user's name and what the role is for.
        metadata = {"name": f"{user}-{role['metadata']['name']}", **({"namespace": namespace} if namespace else {})}
        binding = {
            "apiVersion": role["apiVersion"],
            "kind": f"{role['kind']}Binding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role["kind"], "name": metadata["name"]},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }
        rights += [{**role, "metadata": metadata}, binding]
    for each in rights:
        stage.server.kubectl("create", "-f", "-", stdin=orjson.dumps(each))
    return replace(stage, access=stage.server.access(user))


SAMPLE: list[Pair] = [
    ("secrets", "create"), ("statefulsets", "patch"), ("clusters/finalizers", "update"), ("services", "delete"),
]  # fmt: skip
EVERY = sorted(granted("ClusterRole") | granted("Role"))


@pytest.mark.parametrize(
    "pair",
    [pytest.param(each, marks=() if each in SAMPLE else pytest.mark.sweep, id=" ".join(each)) for each in EVERY],
)
async def test_without_a_right_something_fails_and_it_is_said_which(
    stage: Stage, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """The API server refuses something; it is not only a courtesy, because the scene does not end while it is missing;
    and whoever looks finds the missing right by name: where users look, if it concerns what they see, else where
    administrators do."""
    caplog.set_level(logging.INFO)
    poorer = await lesser(stage, pair)
    since = stage.audit.mark()
    if pair[1] == "list":
        assert pair[0] in await unready(poorer)
        assert _refused(poorer, since)
        return
    if pair[0] == "leases":
        with suppress(NotFound):
            await stage.admin.delete(LEASE, "hosted-cp", "hosted-cp")  # of an earlier test
    words = MISSED.get(pair, f'cannot {pair[1]} resource "{pair[0]}"')
    async with conditions_said(stage) as said:
        playing = asyncio.create_task(scene(poorer))

        def named() -> bool:
            told = caplog.messages if logged(pair) else said
            return any(words in text for text in list(told))

        try:
            async with asyncio.timeout(120):
                while not named() and not playing.done():
                    await asyncio.wait({playing}, timeout=0.3)
            assert _refused(poorer, since), f"nothing needs {pair}"
            assert named(), f"{pair} is not named: {set(said)}"
            assert not playing.done() or pair in COURTESY, f"{pair}: everything works without it"
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)


#: What is said about a missing right where the server does not name it.
MISSED: dict[Pair, str] = {
    (f"{kind}/finalizers", "update"): "cannot set blockOwnerDeletion" for kind in ("clusters", "jointokenrequests")
}
#: Nothing waits for these.
COURTESY: set[Pair] = {
    ("events", "create"), ("clusters", "get"), ("jointokenrequests", "get"), ("customresourcedefinitions", "watch")
}  # fmt: skip


def logged(pair: Pair) -> bool:
    """Whether a missing right is told by the log alone: nothing can be said of it on the objects of users; or it is
    needed only to read again after a lost race, and by the time that could be said the watch has told the same."""
    resource, verb = pair
    reread = pair in {("clusters", "get"), ("jointokenrequests", "get")}
    return verb == "watch" or reread or resource in {"events", "leases", "clusters/status", "jointokenrequests/status"}


@asynccontextmanager
async def conditions_said(stage: Stage) -> AsyncIterator[list[str]]:
    """Every message of a condition that stands on an object of ours, be it ever so short, from now on."""
    said: list[str] = []

    async def follow(resource: Resource) -> None:
        async with aclosing(stage.admin.watch(resource, stage.namespace, since="0")) as events:
            async for event in events:
                body = orjson.loads(event.raw)
                said.extend(each["message"] for each in body.get("status", {}).get("conditions", []))

    following = [asyncio.create_task(follow(resource)) for resource in (CLUSTER, JOIN_TOKEN_REQUEST)]
    try:
        yield said
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)


async def unready(stage: Stage) -> str:
    """What an operator that cannot begin answers at /readyz."""
    kinds = product.kinds(stage.settings)
    options = Options(namespaces=(stage.namespace,), with_kopf=False, health_address="127.0.0.1:0")
    operator = Operator(credentials_of(stage.access), kinds, options=options)
    running = asyncio.create_task(operator.run())
    try:
        since = stage.audit.mark()
        async with asyncio.timeout(60):
            while not operator.addresses or not operator.caches or len(operator.caches.lagging) > 1:
                await asyncio.wait({running}, timeout=0.1)
            while not _refused(stage, since):
                await asyncio.wait({running}, timeout=0.1)
        host, port = operator.addresses[0]
        async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/readyz") as answer:
            assert answer.status == 503
            return await answer.text()
    finally:
        operator.stop()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _refused(stage: Stage, since: int) -> list[Request]:
    return [each for each in stage.audit.requests(since=since, user=stage.access.user) if each.code == 403]
