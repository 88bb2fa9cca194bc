"""The executor and the tenants: what is done there is done with a certificate of theirs, by the same rules."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.material import Sources
from hosted_cp.kube.outcome import Result, Verdict
from hosted_cp.kube.probes import Prober, tenant_api
from hosted_cp.kube.resources import SECRET, resource_for
from hosted_cp.kube.tenant import TenantAccess
from hosted_cp.planning.actions import Create, Delete, MovePort, Probe, Ref, Target
from hosted_cp.planning.observed import Observed
from tests.component.apiserver import Server
from tests.component.audit import Audit, summary
from tests.component.desk import CANARY, Bench, Password, Words, data_of, secret, spent, with_data


def endpoints(name: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    subsets = [{"addresses": [{"ip": "203.0.113.1"}], "ports": [{"name": "https", "port": 6443}]}]
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets}


async def test_actions_in_the_tenant_use_a_certificate_of_its_ca(
    desk: Bench, admin: ApiClient, server: Server, namespace: str, audit: Audit
) -> None:
    """The management API server plays the tenant: its CA is put where a tenant's would be."""
    encoded = {
        "tls.crt": base64.b64encode(server.authority.certificate).decode(),
        "tls.key": base64.b64encode(server.authority.key).decode(),
    }
    await admin.create(SECRET, {**secret(namespace, "t-ca"), "data": encoded})
    access = TenantAccess(uid=desk.about.uid, namespace=namespace, authority="t-ca", server=server.url)
    since = audit.mark()
    give = Create(body=endpoints(namespace[-20:].strip("-")), target=Target.TENANT, ours=False)
    first = await desk.run(give, tenant=access)
    assert first == Result(verdict=Verdict.DONE, writes=1)
    assert (await desk.run(give, tenant=access)).writes == 0
    seen = audit.requests(since=since, user="hosted-cp")
    assert summary(seen) == {"create endpoints": 1}, "given once, then never asked about again"
    assert await spent(audit, namespace, since) == {"get secrets": 1}
    resource = resource_for(give.ref)
    body = (await admin.get(resource, "default", give.ref.name)).body
    assert "annotations" not in body["metadata"], "what is given away carries no mark of ours"
    await admin.delete(resource, "default", give.ref.name)


async def playing_tenant(desk: Bench, admin: ApiClient, server: Server, namespace: str) -> TenantAccess:
    """The way to a tenant that the management API server plays."""
    encoded = {
        "tls.crt": base64.b64encode(server.authority.certificate).decode(),
        "tls.key": base64.b64encode(server.authority.key).decode(),
    }
    await admin.create(SECRET, {**secret(namespace, "t-ca"), "data": encoded})
    return TenantAccess(uid=desk.about.uid, namespace=namespace, authority="t-ca", server=server.url)


async def test_the_port_of_a_tenants_endpoints_is_all_that_is_changed_of_them(
    desk: Bench, admin: ApiClient, server: Server, namespace: str
) -> None:
    access = await playing_tenant(desk, admin, server, namespace)
    ref = Ref.of(endpoints(namespace[-20:].strip("-")))
    absent = await desk.run(MovePort(ref=ref, port=7443), tenant=access)
    assert absent == Result(verdict=Verdict.DONE), "k0s makes them with the port that it is configured with"
    resource = resource_for(ref)
    before = (await admin.create(resource, {**endpoints(ref.name), "subsets": []})).body
    assert await desk.run(MovePort(ref=ref, port=7443), tenant=access) == Result(verdict=Verdict.DONE)
    subsets = [{**endpoints(ref.name)["subsets"][0], "addresses": [{"ip": "203.0.113.1"}, {"ip": "203.0.113.2"}]}]
    metadata = {"name": ref.name, "namespace": "default", "uid": before["metadata"]["uid"]}
    await admin.merge_patch(resource, "default", ref.name, {"metadata": metadata, "subsets": subsets})
    moved = await desk.run(MovePort(ref=ref, port=7443), tenant=access)
    assert moved == Result(verdict=Verdict.DONE, writes=1)
    [found] = (await admin.get(resource, "default", ref.name)).body["subsets"]
    assert found["addresses"] == subsets[0]["addresses"]
    assert found["ports"] == [{"name": "https", "port": 7443, "protocol": "TCP"}]
    await admin.delete(resource, "default", ref.name)


async def test_material_in_a_tenant_is_handed_on_whoever_made_it(
    desk: Bench, admin: ApiClient, server: Server, namespace: str, audit: Audit
) -> None:
    access = await playing_tenant(desk, admin, server, namespace)
    body = secret(namespace, "half", request="u1")
    halves = (
        Create(body=body, recipe=Password(text="ours"), target=Target.TENANT, material="half"),
        Create(body=secret(namespace, "whole"), recipe=Words(text="b", needs=("half",))),
    )
    await admin.create(SECRET, with_data(body, f"{CANARY}-theirs"))
    since = audit.mark()
    assert await desk.run(*halves, tenant=access) == Result(verdict=Verdict.DONE, writes=1)
    assert summary(audit.requests(since=since, user="hosted-cp")) == {"create secrets": 1, "get secrets": 1}
    assert data_of(await admin.get(SECRET, namespace, "whole")) == {"k": f"{CANARY}-b-{CANARY}-theirs"}


@pytest.mark.parametrize("spoilt", [("simple", "Opaque"), (f"{CANARY}-x", "example.com/other")])
async def test_useless_material_in_a_tenant_is_made_anew(
    desk: Bench, admin: ApiClient, server: Server, namespace: str, spoilt: tuple[str, str]
) -> None:
    """It is deleted by its UID: what another has put there meanwhile stays, and is used."""
    access = await playing_tenant(desk, admin, server, namespace)
    body = secret(namespace, "half", request="u1")
    half = Create(body=body, recipe=Password(text="ours"), target=Target.TENANT, material="half")
    text, kind = spoilt
    old = await admin.create(SECRET, {**with_data(body, text), "type": kind})
    assert await desk.run(half, tenant=access) == Result(verdict=Verdict.REPLAN, writes=1)
    assert await desk.run(half, tenant=access) == Result(verdict=Verdict.DONE, writes=1)
    new = await admin.get(SECRET, namespace, "half")
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    assert data_of(new) == {"k": f"{CANARY}-ours"}


async def test_in_a_tenant_only_what_has_our_labels_is_used_or_deleted(
    desk: Bench, admin: ApiClient, server: Server, namespace: str
) -> None:
    access = await playing_tenant(desk, admin, server, namespace)
    body = secret(namespace, "half", request="u1")
    create = Create(body=body, recipe=Password(text="ours"), target=Target.TENANT, material="half")
    delete = Delete(ref=create.ref, uid=None, labels={"request": "u1"}, target=Target.TENANT)
    theirs = await admin.create(SECRET, with_data(secret(namespace, "half", request="u2"), f"{CANARY}-theirs"))
    refused = await desk.run(create, tenant=access)
    assert refused.verdict is Verdict.DEFERRED
    assert "does not carry our labels" in refused.failure
    assert await desk.run(delete, tenant=access) == Result(verdict=Verdict.DONE)
    left = await admin.get(SECRET, namespace, "half")
    assert left["metadata"]["resourceVersion"] == theirs["metadata"]["resourceVersion"]
    ours = Delete(ref=create.ref, uid=None, labels={"request": "u2"}, target=Target.TENANT)
    assert await desk.run(ours, tenant=access) == Result(verdict=Verdict.DONE, writes=1)
    assert await desk.run(ours, tenant=access) == Result(verdict=Verdict.DONE), "gone already"


async def test_what_is_going_in_a_tenant_is_waited_for(
    desk: Bench, admin: ApiClient, server: Server, namespace: str
) -> None:
    access = await playing_tenant(desk, admin, server, namespace)
    body = secret(namespace, "half", request="u1")
    held = with_data(body, f"{CANARY}-theirs")
    held["metadata"] = {**held["metadata"], "finalizers": ["example.com/held"]}
    made = await admin.create(SECRET, held)
    await admin.delete(SECRET, namespace, "half", uid=made["metadata"]["uid"])
    create = Create(body=body, recipe=Password(text="ours"), target=Target.TENANT, material="half")
    waiting = await desk.run(create, tenant=access)
    assert waiting.verdict is Verdict.DEFERRED
    assert "still being deleted" in waiting.failure
    await admin.merge_patch(SECRET, namespace, "half", {"metadata": {"finalizers": None}})
    assert (await desk.run(create, tenant=access)).verdict is Verdict.DONE


async def test_a_tenant_whose_ca_is_broken_is_told_without_quoting(
    desk: Bench, admin: ApiClient, namespace: str, server: Server
) -> None:
    encoded = base64.b64encode(CANARY.encode()).decode()
    await admin.create(SECRET, {**secret(namespace, "t-ca"), "data": {"tls.crt": encoded, "tls.key": encoded}})
    access = TenantAccess(uid=desk.about.uid, namespace=namespace, authority="t-ca", server=server.url)
    give = Create(body=endpoints("x"), target=Target.TENANT, ours=False)
    result = await desk.run(give, tenant=access)
    assert result.verdict is Verdict.DEFERRED
    assert f"Secret {namespace}/t-ca cannot be used" in result.failure
    assert CANARY not in result.failure


async def test_a_tenant_is_asked_once_it_answers_and_no_more(
    desk: Bench, admin: ApiClient, server: Server, namespace: str, audit: Audit
) -> None:
    """The probe `tenant-api`: a bad answer names its cause and is asked again, a good one is kept."""
    encoded = {
        "tls.crt": base64.b64encode(server.authority.certificate).decode(),
        "tls.key": base64.b64encode(server.authority.key).decode(),
    }
    tenants = desk.executor._tenants
    assert tenants is not None
    woken: asyncio.Queue[str] = asyncio.Queue()
    prober: Prober[str] = Prober(
        askers={"tenant-api": tenant_api(tenants)}, enqueue=woken.put_nowait, now=Sources().now
    )
    probe = Probe(kind="tenant-api", key="initialized", arguments=(("authority", "t-ca"), ("server", server.url)))
    assert prober.ask("key", desk.about, [probe]) is None
    assert await asyncio.wait_for(woken.get(), 5) == "key"
    [bad] = prober.findings(desk.about.uid)
    assert not bad.ok
    assert "t-ca" in bad.message
    again = prober.ask("key", desk.about, [probe])
    assert again is not None
    assert 0 < again <= 1.0
    await admin.create(SECRET, {**secret(namespace, "t-ca"), "data": encoded})
    await desk.told(SECRET.ref(namespace, "t-ca"), lambda seen: True)
    await asyncio.sleep(again)
    since = audit.mark()
    prober.ask("key", desk.about, [probe])
    await asyncio.wait_for(woken.get(), 5)
    [good] = prober.findings(desk.about.uid)
    assert good.ok
    for _ in range(3):
        assert prober.ask("key", desk.about, [probe]) is None
    assert summary(audit.requests(since=since, user="hosted-cp")) == {"get namespaces": 1}
    prober.forget(desk.about.uid)
    assert prober.findings(desk.about.uid) == ()
    await prober.close()


async def test_a_tenant_that_hangs_costs_its_neighbours_nothing(desk: Bench) -> None:
    async def asker(probe: Probe, about: Observed) -> str:
        if probe.key == "hangs":
            await asyncio.Event().wait()
        return "fine"

    woken: asyncio.Queue[str] = asyncio.Queue()
    prober: Prober[str] = Prober(askers={"x": asker}, enqueue=woken.put_nowait, now=Sources().now)
    hangs = Probe(kind="x", key="hangs", deadline=0.5)
    prober.ask("slow", desk.about, [hangs, hangs])
    prober.ask("fast", desk.about, [Probe(kind="x", key="answers")])
    assert await asyncio.wait_for(woken.get(), 0.4) == "fast"
    assert await asyncio.wait_for(woken.get(), 2) == "slow"
    assert {(each.probe.key, each.message) for each in prober.findings(desk.about.uid)} == {
        ("hangs", "no answer within 0.5 s"),
        ("answers", "fine"),
    }
    await prober.close()
