"""The whole loop, with a toy kind, against a real API server: kopf, caches, queue, lease, executor, reports."""

from __future__ import annotations

import asyncio
import base64
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from hosted_cp.executor import Hooks, Step
from hosted_cp.kube import resources
from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.lease import Terms
from hosted_cp.kube.resources import CONFIG_MAP, EVENT, LEASE, SECRET
from hosted_cp.kube.resources import CRD as CRDS
from hosted_cp.operator import Operator, Options, PartEnded
from tests.component.apiserver import Access, Server, free_ports
from tests.component.audit import Audit, summary
from tests.component.faults import Fault, proxy
from tests.component.test_client import credentials_of
from tests.component.toy import CANARY, CRD, FINALIZER, TOY, toy, toy_kind


@pytest.fixture(scope="session")
def _toys(server: Server) -> None:
    resources.register(TOY)
    server.kubectl("create", "-f", "-", stdin=orjson.dumps(CRD))
    server.kubectl("wait", "--for=condition=Established", "--timeout=20s", "crd/toys.test.hosted-cp.io")
    assert CRDS.plural == "customresourcedefinitions"


@pytest.fixture
def user(_toys: None, server: Server, namespace: str) -> Access:
    return server.access(f"operator-{namespace}", "system:masters")


@asynccontextmanager
async def operating(
    access: Access, namespace: str, *, hooks: Hooks | None = None, **words: Any
) -> AsyncIterator[Operator]:
    options = Options(namespaces=(namespace,), **{"workers": 4, "with_kopf": False, **words})
    operator = Operator(credentials_of(access), [toy_kind()], options=options, hooks=hooks)
    running = asyncio.create_task(operator.run())
    leading = asyncio.create_task(operator.leading.wait())
    try:
        async with asyncio.timeout(30):
            await asyncio.wait({running, leading}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
        yield operator
    finally:
        leading.cancel()
        operator.stop()
        async with asyncio.timeout(15):
            await running


async def until(
    admin: ApiClient, namespace: str, name: str, true: Callable[[dict[str, Any]], bool], *, seconds: float = 15.0
) -> dict[str, Any]:
    """Watch a Toy until it is as wanted."""
    body: dict[str, Any] = {}
    async with (
        asyncio.timeout(seconds),
        aclosing(admin.watch(TOY, namespace, since="0", fields=f"metadata.name={name}")) as events,
    ):
        async for event in events:
            body = orjson.loads(event.raw)
            if (event.type == "DELETED" and true({})) or (event.type in {"ADDED", "MODIFIED"} and true(body)):
                return body
    raise AssertionError(f"the watch ended; last seen: {body}")


def condition(body: dict[str, Any]) -> dict[str, Any]:
    found: list[dict[str, Any]] = body.get("status", {}).get("conditions", [{}])
    return found[0]


def available(body: dict[str, Any]) -> bool:
    return condition(body).get("status") == "True"


def at_generation(generation: int) -> Callable[[dict[str, Any]], bool]:
    return lambda body: available(body) and condition(body).get("observedGeneration") == generation


async def secret_of(admin: ApiClient, namespace: str, name: str = "a") -> str:
    return base64.b64decode((await admin.get(SECRET, namespace, name))["data"]["k"]).decode()


def spent(audit: Audit, namespace: str, since: int, *, without: tuple[str, ...] = ()) -> dict[str, int]:
    """Requests of the operator, without the lease."""
    seen = audit.requests(since=since, user=f"operator-{namespace}", namespace=namespace)
    return summary([each for each in seen if each.resource != "leases" and each.verb not in without])


async def test_from_apply_to_available_to_gone(admin: ApiClient, user: Access, namespace: str, audit: Audit) -> None:
    async with operating(user, namespace, with_kopf=True):
        since = audit.mark()
        await admin.create(TOY, toy(namespace, "a", words="x y"))
        body = await until(admin, namespace, "a", available)
        assert body["metadata"]["finalizers"] == [FINALIZER]
        assert "annotations" not in body["metadata"], "kopf leaves nothing on objects"
        assert (await admin.get(CONFIG_MAP, namespace, "a"))["data"] == {"x": "1", "y": "1"}
        events = await admin.list(EVENT, namespace)
        assert [(each["involvedObject"]["name"], each["reason"]) for each in events] == [("a", "Good")]
        # (The last watches, and kopf's list, belong to the start.)
        assert spent(audit, namespace, since, without=("list", "watch")) == {
            "create configmaps": 1,
            "create events": 1,
            "create secrets": 1,
            "patch toys": 1,
            "patch toys/status": 1,
        }, "and no reads"
        since = audit.mark()
        await asyncio.sleep(3)
        assert spent(audit, namespace, since) == {}, "idle"
        await admin.merge_patch(TOY, namespace, "a", {"spec": {"words": "x"}})
        await until(admin, namespace, "a", at_generation(2))
        assert (await admin.get(CONFIG_MAP, namespace, "a"))["data"] == {"x": "1"}
        assert spent(audit, namespace, since) == {
            "get configmaps": 1, "patch configmaps": 2, "patch toys/status": 1
        }  # fmt: skip
        since = audit.mark()
        await admin.delete(TOY, namespace, "a")
        await until(admin, namespace, "a", lambda body: not body)
        assert await admin.list(SECRET, namespace) == []
        assert spent(audit, namespace, since) == {"delete configmaps": 1, "delete secrets": 1, "patch toys": 1}


async def test_drift_is_repaired_and_a_lost_child_made_anew(admin: ApiClient, user: Access, namespace: str) -> None:
    async with operating(user, namespace):
        await admin.create(TOY, toy(namespace, "a", words="x"))
        await until(admin, namespace, "a", available)
        for damage in ({"data": {"x": "2"}}, {"data": {"x": None}}, {"metadata": {"annotations": None}}):
            await admin.merge_patch(CONFIG_MAP, namespace, "a", damage, manager="somebody")
            async with asyncio.timeout(10), aclosing(admin.watch(CONFIG_MAP, namespace, since="0")) as events:
                async for event in events:
                    live = orjson.loads(event.raw)
                    if (
                        event.type != "BOOKMARK"
                        and live.get("data") == {"x": "1"}
                        and live["metadata"].get("annotations")
                    ):
                        break
        uid = (await admin.get(CONFIG_MAP, namespace, "a"))["metadata"]["uid"]
        await admin.delete(CONFIG_MAP, namespace, "a")
        async with asyncio.timeout(10), aclosing(admin.watch(CONFIG_MAP, namespace, since="0")) as events:
            async for event in events:
                if event.type == "ADDED" and orjson.loads(event.raw)["metadata"]["uid"] != uid:
                    break


async def test_a_restart_writes_nothing(admin: ApiClient, user: Access, namespace: str, audit: Audit) -> None:
    names = [f"t{number}" for number in range(30)]
    async with operating(user, namespace):
        for name in names:
            await admin.create(TOY, toy(namespace, name, words="x"))
        for name in names:
            await until(admin, namespace, name, available)
    since = audit.mark()
    async with operating(user, namespace) as again:
        async with asyncio.timeout(10):
            while not again.idle or b"hosted_cp_reconcile_seconds_count" not in again.metrics.text():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        counted = spent(audit, namespace, since)
        assert {verb.split()[0] for verb in counted} <= {"list", "watch"}, counted


class Crash(BaseException):
    """The process ends here."""


async def _crashing(access: Access, namespace: str, hooks: Hooks) -> bool:
    """Run an operator that is to die; whether it did, or had nothing left to do."""
    options = Options(namespaces=(namespace,), workers=4, with_kopf=False)
    operator = Operator(credentials_of(access), [toy_kind()], options=options, hooks=hooks)
    running = asyncio.create_task(operator.run())
    quiet = 0
    while not running.done() and quiet < 10:
        await asyncio.wait({running}, timeout=0.02)
        quiet = quiet + 1 if operator.idle else 0
    operator.stop()
    [ended] = await asyncio.gather(running, return_exceptions=True)
    if ended is None:
        return False
    assert isinstance(ended, BaseExceptionGroup)
    assert ended.subgroup(Crash) is not None
    return True


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("phase", ["create", "change", "delete"])
async def test_a_crash_at_any_step_changes_nothing_in_the_end(
    admin: ApiClient, user: Access, namespace: str, phase: str, moment: str, audit: Audit
) -> None:
    """Each life of the operator ends at its n-th step, for every n until it survives; then all is as it should be."""
    since = audit.mark()
    if phase != "create":
        async with operating(user, namespace):
            await admin.create(TOY, toy(namespace, "a", words="x y"))
            await until(admin, namespace, "a", available)
        if phase == "change":
            await admin.merge_patch(TOY, namespace, "a", {"spec": {"words": "x"}})
        else:
            await admin.delete(TOY, namespace, "a")
    else:
        await admin.create(TOY, toy(namespace, "a", words="x"))
    lives = 0
    made: set[str] = set()
    while lives < 15:

        def strike(step: Step, number: int) -> None:
            raise Crash

        lives += 1
        hooks = Hooks(before=strike) if moment == "before" and lives % 2 else Hooks(after=strike)
        if not await _crashing(user, namespace, hooks):
            break
        for each in await admin.list(SECRET, namespace):
            made.add(each["data"]["k"])
    if phase == "delete":
        assert await admin.list(TOY, namespace) == []
        assert await admin.list(SECRET, namespace) == []
        assert await admin.list(CONFIG_MAP, namespace) == []
        return
    async with operating(user, namespace):
        await until(admin, namespace, "a", at_generation(1 if phase == "create" else 2))
    assert (await admin.get(CONFIG_MAP, namespace, "a"))["data"] == {"x": "1"}
    assert len(made | {(await admin.get(SECRET, namespace, "a"))["data"]["k"]}) == 1, "made once"
    created = [r for r in audit.requests(since=since, namespace=namespace, verb="create") if r.code == 201]
    counted = summary([r for r in created if r.resource in {"secrets", "configmaps"}])
    assert counted == {"create configmaps": 1, "create secrets": 1}


async def test_what_cannot_be_done_is_told_and_heals_with_its_cause(
    admin: ApiClient, user: Access, namespace: str
) -> None:
    async with operating(user, namespace):
        await admin.create(TOY, toy(namespace, "a", words="x", child="Not_A_Name"))
        body = await until(admin, namespace, "a", lambda body: condition(body).get("reason") == "Failed")
        assert f"creating ConfigMap {namespace}/Not_A_Name: " in condition(body)["message"]
        assert "metadata.name" in condition(body)["message"]
        await admin.merge_patch(TOY, namespace, "a", {"spec": {"child": "good"}})
        body = await until(admin, namespace, "a", available)
        assert condition(body)["message"] == ""


async def test_a_probe_is_asked_again_until_it_answers_and_then_no_more(
    admin: ApiClient, user: Access, namespace: str
) -> None:
    [port] = free_ports(1)
    connected = 0

    def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connected
        connected += 1
        writer.close()

    async with operating(user, namespace):
        await admin.create(TOY, toy(namespace, "a", words="x", dial=port))
        body = await until(admin, namespace, "a", lambda body: "does not answer" in condition(body).get("message", ""))
        assert condition(body)["message"].startswith(f"127.0.0.1:{port} does not answer: ")
        listening = await asyncio.start_server(on_connect, "127.0.0.1", port)
        async with listening:
            await until(admin, namespace, "a", available)
            await admin.merge_patch(TOY, namespace, "a", {"spec": {"words": "x y"}})
            await until(admin, namespace, "a", at_generation(2))
            assert connected == 1


async def test_a_deposed_leader_writes_nothing_more(
    admin: ApiClient, user: Access, namespace: str, audit: Audit
) -> None:
    """Somebody has taken the lease: the process ends, and what comes after that is not its to write."""
    terms = Terms(duration=3, renew_within=1.5, renew_every=0.3, pause=0.1)
    options: dict[str, Any] = {"lease_namespace": namespace, "terms": terms}
    operator = Operator(
        credentials_of(user), [toy_kind()], options=Options(namespaces=(namespace,), with_kopf=False, **options)
    )
    running = asyncio.create_task(operator.run())
    async with asyncio.timeout(10):
        await operator.leading.wait()
        await admin.merge_patch(LEASE, namespace, "hosted-cp", {"spec": {"holderIdentity": "usurper"}})
        with pytest.raises(PartEnded, match="lease"):
            await running
    since = audit.mark()
    await admin.create(TOY, toy(namespace, "a", words="x"))
    await asyncio.sleep(1)
    assert spent(audit, namespace, since) == {}


async def test_faults_of_the_server_end_in_convergence_without_a_storm(
    admin: ApiClient, server: Server, user: Access, namespace: str
) -> None:
    async with proxy(server, user.user, "system:masters") as faulty, operating(faulty.access, namespace):
        faulty.add(
            Fault(method="POST", path="secrets", reset="after"),
            Fault(method="POST", path="configmaps", status=500),
            Fault(method="POST", path="configmaps", status=429, retry_after=1),
            Fault(method="PATCH", path="status", status=409, times=2),
            Fault(method="PATCH", path="status", reset="before"),
            Fault(method="WATCH", cut_after=2, times=3),
            Fault(method="POST", path="events", status=500),
        )
        before = len(faulty.seen)
        await admin.create(TOY, toy(namespace, "a", words="x"))
        await until(admin, namespace, "a", available, seconds=30)
        requests = [each for each in faulty.seen[before:] if not each.startswith("WATCH")]
        assert len(requests) <= 30, requests
        assert (await secret_of(admin, namespace)).startswith(CANARY)


async def test_health_readiness_and_metrics(admin: ApiClient, user: Access, namespace: str) -> None:
    async with operating(user, namespace, health_address="127.0.0.1:0") as operator:
        await admin.create(TOY, toy(namespace, "a", words="x"))
        await until(admin, namespace, "a", available)
        host, port = operator.addresses[0]
        async with aiohttp.ClientSession(base_url=f"http://{host}:{port}") as session:
            for path in ("/healthz", "/readyz"):
                async with session.get(path) as answer:
                    assert (answer.status, await answer.text()) == (200, "ok\n")
            async with session.get("/metrics") as answer:
                text = await answer.text()
    for line in (
        'hosted_cp_queue_depth{controller="toy"} 0.0',
        'hosted_cp_toys{condition="Available",status="True"} 1.0',
        'hosted_cp_api_requests_total{code="201",kind="Secret",verb="create"} 1.0',
        "hosted_cp_leader 1.0",
    ):
        assert line in text
    assert namespace not in text
    assert CANARY not in text


async def test_a_server_that_is_not_listed_yet_is_not_ready(server: Server, user: Access, namespace: str) -> None:
    async with proxy(server, user.user, "system:masters") as faulty:
        faulty.add(Fault(method="GET", path="configmaps", status=500, times=None))
        options = Options(namespaces=(namespace,), with_kopf=False, health_address="127.0.0.1:0")
        operator = Operator(credentials_of(faulty.access), [toy_kind()], options=options)
        running = asyncio.create_task(operator.run())
        while not operator.addresses:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        host, port = operator.addresses[0]
        async with aiohttp.ClientSession(base_url=f"http://{host}:{port}") as session:
            async with session.get("/readyz") as answer:
                assert answer.status == 503
                assert f"configmaps in {namespace}" in await answer.text()
            faulty.heal()
            async with asyncio.timeout(10):
                await operator.synced.wait()
            async with session.get("/readyz") as answer:
                assert answer.status == 200
        operator.stop()
        await running


async def test_a_kind_that_may_not_be_watched_any_more_is_told_and_forgotten_when_it_may(
    server: Server, user: Access, namespace: str
) -> None:
    async with proxy(server, user.user, "system:masters") as faulty:
        faulty.add(Fault(method="WATCH", path="configmaps", status=403, times=None))
        async with operating(faulty.access, namespace, health_address="127.0.0.1:0") as operator:
            host, port = operator.addresses[0]
            async with aiohttp.ClientSession(base_url=f"http://{host}:{port}") as session:
                said = await answered(session, "/readyz", status=503)
                assert f"may not be followed: configmaps in {namespace}: Forbidden (403)" in said
                refused = 'hosted_cp_refused_kinds{kind="configmaps"} 1.0'
                assert refused in await answered(session, "/metrics", status=200)
                faulty.heal()
                assert await answered(session, "/readyz", status=200) == "ok\n"
                assert refused not in await answered(session, "/metrics", status=200)


async def answered(session: aiohttp.ClientSession, path: str, *, status: int) -> str:
    """What is answered, once it is with this status."""
    async with asyncio.timeout(20):
        while True:
            async with session.get(path) as answer:
                text = await answer.text()
                if answer.status == status:
                    return text
            await asyncio.sleep(0.05)


async def test_nothing_secret_is_logged(
    admin: ApiClient, user: Access, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with operating(user, namespace, with_kopf=True):
        await admin.create(TOY, toy(namespace, "a", words="x"))
        await until(admin, namespace, "a", available)
        secret = await secret_of(admin, namespace)
    assert secret.startswith(CANARY)
    assert CANARY not in caplog.text
    assert base64.b64encode(CANARY.encode()).decode()[:10] not in caplog.text
    assert caplog.text, "something was logged"


async def test_a_process_ends_gracefully_on_sigterm(
    admin: ApiClient, user: Access, namespace: str, tmp_path: Path
) -> None:
    """A real process, with kopf and a lease. It gives the lease up, and ends with 0."""
    log = tmp_path / "log"
    argv = [sys.executable, "-m", "tests.component.toy_main", str(user.kubeconfig(tmp_path / "config")), namespace]
    with log.open("wb") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=out)  # noqa: ASYNC220
    try:
        await admin.create(TOY, toy(namespace, "a", words="x"))
        await until(admin, namespace, "a", available, seconds=30)
        process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(process.wait, 15)
    finally:
        process.kill()
        process.wait()
    assert code == 0, log.read_text()[-3000:]
    lease = await admin.get(LEASE, namespace, "hosted-cp")
    assert lease["spec"].get("holderIdentity", "") == ""
    assert CANARY not in log.read_text()
