"""What a tenant costs the management cluster, by the API server's own book: from apply to Available, at rest, at a
change, at a restart of the operator (DESIGN 9)."""

from __future__ import annotations

import asyncio

from hosted_cp.kube.resources import JOIN_TOKEN_REQUEST
from tests.component.audit import Request
from tests.component.faults import proxy
from tests.component.hosting import Stage, minted

CONFIG = {
    "k0sConfig": {
        "apiVersion": "k0s.k0sproject.io/v1beta1",
        "kind": "ClusterConfig",
        "spec": {"api": {"sans": ["tenant.example"]}},
    }
}
#: A tenant of few objects.
SMALL = {
    "service": {"type": "ClusterIP"},
    "storage": {"type": "kine", "kine": {"dataSourceURL": "postgres://db.invalid:5432/x"}},
}


def sorted_out(requests: list[Request]) -> tuple[int, int, int, int]:
    """How many writes of objects, writes of status, Events, and reads."""
    reads = [each for each in requests if each.verb in {"get", "list", "watch"}]
    events = [each for each in requests if each.resource == "events"]
    status = [each for each in requests if each.subresource == "status"]
    return len(requests) - len(reads) - len(events) - len(status), len(status), len(events), len(reads)


async def test_a_tenant_from_apply_to_available_stays_within_its_budget(stage: Stage) -> None:
    """DESIGN 9: at most 22 writes of objects, 5 of status, 3 Events, and no read."""
    async with stage.operating(with_kopf=True) as operator:
        await stage.create("warm", SMALL)  # the first watches, and kopf's list, belong to the start
        await stage.available("warm")
        await stage.rest(operator)
        since = stage.audit.mark()
        await stage.create("a")
        await stage.available("a")
        await stage.rest(operator)
        objects, status, events, reads = sorted_out(stage.requests(since, without=("watch",)))
        assert objects <= 22, stage.spent(since)
        assert status <= 5, stage.spent(since)
        assert events <= 3, stage.spent(since)
        assert reads == 0, stage.spent(since)
        assert stage.tenants.seen(stage.namespace, "a") == [
            "GET /api/v1/namespaces/kube-system -> 200",
            "POST /api/v1/namespaces/default/endpoints -> 201",
        ]


async def test_a_change_of_configuration_writes_what_it_changes(stage: Stage) -> None:
    """At most 4 writes of objects: the config, the StatefulSet, and once in its life the owner of the latter's fields.

    While the pods are restarted the status says so; that is counted apart.
    """
    async with stage.operating() as operator:
        await stage.create("a")
        await stage.available("a")
        await stage.rest(operator)
        since = stage.audit.mark()
        await stage.change("a", CONFIG)
        await stage.available("a")
        await stage.rest(operator)
        objects, status, events, reads = sorted_out(stage.requests(since))
        assert objects <= 4, stage.spent(since)
        assert reads <= 1, stage.spent(since)
        assert status <= 6, stage.spent(since)
        assert events <= 2, stage.spent(since)
        since = stage.audit.mark()
        await stage.change("a", {"k0sConfig": None})
        await stage.available("a")
        await stage.rest(operator)
        objects, _, _, reads = sorted_out(stage.requests(since))
        assert (objects, reads) == (2, 0), "the second change needs nothing but its writes"


async def test_tenants_at_rest_cost_nothing_also_when_watches_are_renewed(stage: Stage) -> None:
    async with (
        proxy(stage.server, stage.access.user, "system:serviceaccounts") as between,
        stage.operating(access=between.access) as operator,
    ):
        await stage.create("a")
        await stage.create("b", SMALL)
        await stage.available("a", "b")
        await stage.ask_token("a-token", "a")
        await stage.until(JOIN_TOKEN_REQUEST, ["a-token"], minted)
        await stage.rest(operator)
        since = stage.audit.mark()
        asked = stage.tenants.seen(stage.namespace, "a")
        await asyncio.sleep(3)
        assert stage.spent(since) == {}, "not one request"
        watching = between.watching
        between.end_watches()
        await asyncio.sleep(3)
        counted = stage.requests(since)
        assert {each.verb for each in counted} == {"watch"}, stage.spent(since)
        # (The book has the end of each old one and the beginning of each new one.)
        assert 0 < len(counted) <= 2 * watching
        assert stage.tenants.seen(stage.namespace, "a") == asked, "nobody polls a healthy tenant"


async def test_a_restart_with_a_hundred_tenants_writes_nothing(stage: Stage) -> None:
    names = [f"t{number}" for number in range(100)]
    async with stage.operating(workers=16) as operator:
        for name in names[:3]:
            await stage.create(name)
        for name in names[3:]:
            await stage.create(name, SMALL)
        await stage.available(*names, seconds=240)
        await stage.rest(operator)
    since = stage.audit.mark()
    for with_kopf in (False, True):
        async with stage.operating(with_kopf=with_kopf) as operator:
            await stage.rest(operator)
            assert b"hosted_cp_reconcile_seconds_count" in operator.metrics.text(), "they were looked at"
    assert {each.split()[0] for each in stage.spent(since)} <= {"list", "watch"}, stage.spent(since)
    lists = [each for each in stage.requests(since) if each.verb == "list"]
    assert len(lists) <= 2 * 20, "one list for each kind, in pages"
