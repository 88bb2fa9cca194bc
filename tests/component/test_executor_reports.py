"""The executor against a real API server: status, Events, who may write, and what goes wrong."""

from __future__ import annotations

import base64
import logging

import pytest

from hosted_cp.executor import Hooks, Step
from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.outcome import Result, Verdict
from hosted_cp.kube.resources import EVENT, SECRET, SERVICE
from hosted_cp.planning.actions import Create, Event, PatchMetadata
from tests.component.apiserver import Server
from tests.component.audit import Audit
from tests.component.desk import CANARY, Bench, Words, bench, secret, spent
from tests.component.faults import Fault, proxy
from tests.component.test_client import config_map, credentials_of

# -- status and events -----------------------------------------------------------------------------------------------


async def test_a_status_is_written_once_and_only_if_it_differs(
    desk: Bench, admin: ApiClient, namespace: str, audit: Audit
) -> None:
    since = audit.mark()
    status = {"loadBalancer": {"ingress": [{"ip": "203.0.113.9", "ipMode": "VIP"}]}}
    await admin.merge_patch(SERVICE, namespace, "owner", {"spec": {"type": "LoadBalancer"}}, manager="user")
    desk.about = await desk.told(desk.about.ref, lambda seen: bool(seen.get("spec", "type") == "LoadBalancer"))
    assert (await desk.run(status=status)).writes == 1
    desk.about = desk.known(desk.about.ref)
    assert (await desk.run(status=status)).writes == 0
    assert (await desk.run(status={"loadBalancer": {}})).writes == 1
    assert "ingress" not in (await admin.get(SERVICE, namespace, "owner"))["status"]["loadBalancer"]
    assert await spent(audit, namespace, since) == {"patch services/status": 2}


async def test_a_status_made_for_an_older_object_is_not_written(desk: Bench, admin: ApiClient, namespace: str) -> None:
    patch = {"metadata": {"labels": {"changed": "1"}}}
    await admin.merge_patch(SERVICE, namespace, "owner", patch, manager="user")
    result = await desk.run(status={"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}})
    if result.verdict is Verdict.REPLAN:  # the watch had not told yet
        assert desk.known(desk.about.ref).labels == {"changed": "1"}
        assert (await admin.get(SERVICE, namespace, "owner"))["status"] == {"loadBalancer": {}}


async def test_a_finalizer_and_a_status_in_one_plan(desk: Bench, namespace: str) -> None:
    about = desk.about
    finalizer = PatchMetadata(
        ref=about.ref, uid=about.uid, resource_version=about.resource_version, finalizers=("example.com/held",)
    )
    result = await desk.run(finalizer, status={"loadBalancer": {}, "conditions": []})
    assert result.verdict is Verdict.DONE
    held = desk.known(about.ref)
    await desk.run(PatchMetadata(ref=about.ref, uid=held.uid, resource_version=held.resource_version, finalizers=()))


async def test_an_event_said_twice_exists_once(desk: Bench, admin: ApiClient, namespace: str) -> None:
    when = "2026-01-01T00:00:00Z"
    event = Event(type="Warning", reason="Broken", message="m" * 2000, condition="Available", transition=when)
    assert (await desk.run(events=(event,))).writes == 1
    assert (await desk.run(events=(event,))).verdict is Verdict.DONE
    # (Of Services the API server says things, too.)
    found = await admin.list(EVENT, namespace, fields="involvedObject.name=owner,reportingComponent=hosted-cp")
    assert [(each["reason"], len(each["message"])) for each in found] == [("Broken", 1024)]


async def test_an_event_with_a_time_of_its_own_is_said_before_the_status(desk: Bench) -> None:
    when = "2026-01-01T00:00:00Z"
    later = Event(type="Normal", reason="Later", message="m", condition="Available", transition=when)
    sooner = Event(type="Normal", reason="Sooner", message="m", condition="Kept", transition=when, first=True)
    kept = {"type": "Kept", "status": "True", "reason": "Kept", "message": "", "lastTransitionTime": when}
    status = {"loadBalancer": {}, "conditions": [kept]}
    assert (await desk.run(status=status, events=(later, sooner))).writes == 3
    assert desk.steps == ["0 Event", "1 StatusWrite", "2 Event"]


# -- who may, and what goes wrong ------------------------------------------------------------------------------------


async def test_who_does_not_lead_writes_nothing(desk: Bench, namespace: str, audit: Audit) -> None:
    since = audit.mark()
    desk.leader.leads = False
    result = await desk.run(Create(body=config_map(namespace, "a")), status={"loadBalancer": {"ingress": []}})
    assert result.verdict is Verdict.DEPOSED
    assert await spent(audit, namespace, since) == {}
    assert desk.steps == []


async def test_leadership_is_asked_for_before_every_write(server: Server, admin: ApiClient, namespace: str) -> None:
    async with ApiClient(credentials_of(server.admin)) as client:
        made: list[Bench] = []

        def after(step: Step, number: int) -> None:
            made[0].leader.leads = False

        async with bench(client, admin, namespace, hooks=Hooks(after=after)) as desk:
            made.append(desk)
            result = await desk.run(*(Create(body=config_map(namespace, name)) for name in "abc"))
            assert result == Result(verdict=Verdict.DEPOSED, writes=1)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(method="POST", status=429, retry_after=7), "429"),
        (Fault(method="POST", status=500), "500"),
        (Fault(method="POST", reset="before"), "ServerDisconnected"),
        (Fault(method="POST", reset="after"), "ServerDisconnected"),
        (Fault(method="POST", delay=3), "not done within 0.4 s"),
    ],
    ids=["429", "500", "reset-before", "reset-after", "slow"],
)
async def test_faults_defer_and_the_next_run_converges(
    server: Server, admin: ApiClient, namespace: str, fault: Fault, says: str
) -> None:
    async with (
        proxy(server, "faulty", "system:masters") as faulty,
        ApiClient(credentials_of(faulty.access)) as client,
        bench(client, admin, namespace) as desk,
    ):
        faulty.add(fault)
        create = Create(body=secret(namespace, "a"), recipe=Words(text="x"), deadline=0.4)
        result = await desk.run(create)
        assert result.verdict is Verdict.DEFERRED
        assert says in result.failure or "made by the fault proxy" in result.failure or "Fault" in result.failure
        assert result.retry_after == fault.retry_after
        assert sum(each.startswith("POST") for each in faulty.seen) == 1
        again = await desk.run(create)
        assert again.verdict is (Verdict.REPLAN if fault.reset == "after" else Verdict.DONE)
        assert desk.caches.known(SECRET.ref(namespace, "a")) is not None


async def test_nothing_secret_is_ever_logged_or_told(
    desk: Bench, namespace: str, caplog: pytest.LogCaptureFixture, server: Server
) -> None:
    caplog.set_level(logging.DEBUG)
    broken = secret(namespace, "tls")
    broken["type"] = "kubernetes.io/tls"
    results = [
        await desk.run(Create(body=secret(namespace, "a"), recipe=Words(text="x"))),
        await desk.run(Create(body=secret(namespace, "a"), recipe=Words(text="x"))),
        await desk.run(Create(body=secret(namespace, "UPPER"), recipe=Words(text="x"))),
        await desk.run(Create(body=broken, recipe=Words(text="x"))),
    ]
    assert [each.verdict for each in results] == ["done", "replan", "deferred", "deferred"]
    assert "Invalid (422) in metadata.name" in results[2].failure
    encoded = base64.b64encode(CANARY.encode()).decode().rstrip("=")[:10]
    everything = caplog.text + repr(results) + repr(vars(desk.executor)) + repr(desk.executor._secrets._recent)
    assert CANARY not in everything
    assert encoded not in everything
