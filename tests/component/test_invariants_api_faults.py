"""The API server and the way to it fail in every way that they can; tenants come out as if nothing had been.

Each kind of fault strikes again and again while tenants are made, their configuration is changed and a token is asked
for, through a proxy between operator and API server. In the end everything is as of a tenant that met no fault, nothing
was made twice, and each fault has cost no more than a few requests.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.resources import JOIN_TOKEN_REQUEST, SECRET
from tests.component.faults import Fault, Proxy, proxy
from tests.component.hosting import Object, Stage, minted
from tests.component.snapshots import data_of, everything, of_tenant
from tests.component.test_invariants_crashes import CHANGES, SPEC

#: Tenants that are made at once.
NAMES = ("tenant0x", "tenant1x")
UNDISTURBED = "undisturbed"

#: Seconds that the client waits for an answer in these tests, so that timeouts take no minutes.
PATIENCE = 0.8
RETRY_AFTER = 1.0
#: Seconds for which everything fails.
OUTAGE = 4.0

WRITES = ("POST", "PUT", "PATCH")


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A kind of fault, and what it may cost."""

    faults: tuple[Fault, ...]
    #: How many requests more than without faults, for each fault that struck.
    cost: int = 3
    #: End all watches in good order so often (seconds).
    end_watches: float | None = None


def on_writes(*, every: int = 5, times: int = 12, **words: Any) -> tuple[Fault, ...]:
    return tuple(Fault(method=method, every=every, times=times, **words) for method in WRITES)


TROUBLES = {
    "409": Trouble(faults=on_writes(status=409)),
    "429": Trouble(faults=on_writes(status=429, retry_after=RETRY_AFTER, times=6)),
    "500": Trouble(faults=on_writes(status=500)),
    "503": Trouble(faults=(Fault(status=503, every=7, times=20),)),
    "lost before": Trouble(faults=on_writes(reset="before")),
    "lost after": Trouble(faults=on_writes(reset="after")),
    # It is given up, and done all the same a moment later.
    "done late": Trouble(faults=on_writes(delay=2 * PATIENCE, times=6)),
    "never done": Trouble(faults=on_writes(delay=2 * PATIENCE, reset="before", times=6)),
    "watches end": Trouble(faults=(), end_watches=0.3),
    "watches break": Trouble(faults=(Fault(method="WATCH", cut_after=2, times=60),)),
    # They break, and what came last is forgotten: everything is listed again.
    "410": Trouble(
        faults=(Fault(method="WATCH", status=410, every=2, times=20), Fault(method="WATCH", cut_after=2, times=40))
    ),
    "watches refused": Trouble(
        faults=(Fault(method="WATCH", status=500, every=2, times=15), Fault(method="WATCH", cut_after=2, times=40))
    ),
}


async def life(stage: Stage, names: tuple[str, ...]) -> None:
    """What the tenants go through: created, changed, and a token for each."""
    for name in names:
        await stage.create(name, SPEC)
    await stage.available(*names)
    for name in names:
        await stage.change(name, CHANGES["config"])
    await stage.available(*names)
    for name in names:
        await stage.ask_token(f"{name}-token", name)
    await stage.until(JOIN_TOKEN_REQUEST, [f"{name}-token" for name in names], minted)


@asynccontextmanager
async def ending_watches(between: Proxy, every: float | None) -> AsyncIterator[None]:
    async def end() -> None:
        while every is not None:
            await asyncio.sleep(every)
            between.end_watches()

    ending = asyncio.create_task(end())
    try:
        yield
    finally:
        ending.cancel()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator waits less long for answers."""
    original = ApiClient._request

    async def request(self: ApiClient, *words: Any, **named: Any) -> bytes:
        if "127.0.0.1" in self.credentials.server and self._agent == "hosted-cp":
            named["deadline"] = min(named["deadline"], PATIENCE)
        return await original(self, *words, **named)

    monkeypatch.setattr(ApiClient, "_request", request)


#: By API server: see `reference`.
_REFERENCES: dict[str, tuple[dict[str, Object], int]] = {}


async def reference(stage: Stage) -> tuple[dict[str, Object], int]:
    """The state of a tenant that met no fault, and how many requests it took, watches left out. Made once for all."""
    if stage.server.url not in _REFERENCES:
        async with (
            proxy(stage.server, stage.access.user, "system:serviceaccounts") as between,
            stage.operating(access=between.access, with_kopf=True) as operator,
        ):
            begun = len(between.seen)
            await life(stage, (UNDISTURBED,))
            await stage.rest(operator)
            spent = [each for each in between.seen[begun:] if not each.startswith("WATCH")]
        _REFERENCES[stage.server.url] = of_tenant(await everything(stage), UNDISTURBED), len(spent)
    return _REFERENCES[stage.server.url]


#: Those that have found most; the others go with the sweeps.
USUAL = ("409", "429", "lost after", "410")


@pytest.mark.parametrize(
    "kind", [pytest.param(each, marks=() if each in USUAL else pytest.mark.sweep) for each in TROUBLES]
)
async def test_tenants_come_through_faults_as_if_there_were_none(stage: Stage, impatient: None, kind: str) -> None:
    trouble = TROUBLES[kind]
    wanted, usual = await reference(stage)
    since = stage.audit.mark()
    async with (
        proxy(stage.server, stage.access.user, "system:serviceaccounts") as between,
        stage.operating(access=between.access, with_kopf=True) as operator,
        ending_watches(between, trouble.end_watches),
    ):
        begun = len(between.seen)
        between.add(*trouble.faults)
        if any(each.method == "WATCH" for each in trouble.faults):
            between.end_watches()  # the new ones meet the faults
        await life(stage, NAMES)
        between.heal()
        await stage.rest(operator)
        spent = [each for each in between.seen[begun:] if not each.startswith("WATCH")]
        watches = [each for each in between.seen[begun:] if each.startswith("WATCH")]
    found = await everything(stage)
    for name in NAMES:
        is_now = of_tenant(found, name)
        assert sorted(is_now) == sorted(wanted)
        for key, body in is_now.items():
            assert body == wanted[key], f"{name}: {key}"
    assert_made_once(stage, since)
    tokens = [f"{name}-token" for name in NAMES]
    for name, token in zip(NAMES, tokens, strict=True):
        assert await is_known(stage, name, token), "what is handed out is what the tenant knows"
        assert len(stage.tenants.objects(stage.namespace, name, "secrets")) == 1
    struck = len(between.struck)
    print(f"{kind}: struck {struck}, requests {len(spent)} for {usual} each, watches {len(watches)}")
    assert struck >= 5 or trouble.end_watches is not None, "the faults did happen"
    assert len(spent) <= usual * len(NAMES) + trouble.cost * struck + 10, between.seen[begun:]
    if trouble.end_watches is None:
        assert len(watches) <= 2 * struck + 20
    if kind == "429":
        assert_waited(between)


async def is_known(stage: Stage, tenant: str, request: str) -> bool:
    """Whether the tenant holds exactly the bootstrap token that was handed out."""
    held = {
        data["token-id"].decode(): data["token-secret"].decode()
        for data in map(data_of, stage.tenants.objects(stage.namespace, tenant, "secrets"))
    }
    packed = data_of((await stage.admin.get(SECRET, stage.namespace, request)).body)["token"]
    config = yaml.safe_load(gzip.decompress(base64.b64decode(packed)))
    identifier, _, secret = config["users"][0]["user"]["token"].partition(".")
    return bool(held.get(identifier) == secret)


def assert_made_once(stage: Stage, since: int) -> None:
    """Nothing was created twice, and of what is made once nothing was ever written a second time."""
    assert stage.created_twice(since) == []
    written = [
        each
        for each in stage.requests(since, without=("get", "list", "watch", "create"))
        if each.resource == "secrets" and each.code < 300
    ]
    once = ("-ca", "-proxy", "-sa", "-etcd", "-token")
    assert [each for each in written if each.name.endswith(once)] == []


def assert_waited(between: Proxy) -> None:
    """Nobody asks again for what was refused before the time that the server had named."""
    refused = [(at, asked) for at, asked, met in between.book if met is not None and met.status == 429]
    assert refused
    for at, asked in refused:
        waited = [when - at for when, other, _ in between.book if other == asked and when > at]
        assert not waited or min(waited) > RETRY_AFTER * 0.95, (asked, min(waited))


@pytest.mark.sweep
@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500, times=None),
        Fault(status=429, retry_after=RETRY_AFTER, times=None),
        Fault(reset="before", times=None),
    ],
    ids=["500", "429", "reset"],
)
async def test_a_server_that_is_away_for_a_while_meets_no_storm(stage: Stage, impatient: None, fault: Fault) -> None:
    """Everything fails, watches included, while something has to be done for every tenant; then all is well again."""
    async with (
        proxy(stage.server, stage.access.user, "system:serviceaccounts") as between,
        stage.operating(access=between.access, with_kopf=True) as operator,
    ):
        for name in NAMES:
            await stage.create(name, SPEC)
        await stage.available(*NAMES)
        await stage.rest(operator)
        between.add(fault)
        followed = between.watching
        for name in NAMES:
            await stage.change(name, CHANGES["config"])
        between.end_watches()
        begun = len(between.seen)
        await asyncio.sleep(OUTAGE)
        asked = between.seen[begun:]
        between.heal()
        await stage.available(*NAMES)
    assert not [each for each in asked if each.startswith("DELETE")]
    print(f"{len(asked)} requests in {OUTAGE:.0f} s, {followed} watches")
    # Each that follows a kind, and each tenant, comes again after 0.2 s, 0.5 s, 1 s... (Where a connection breaks,
    # aiohttp asks once more at once, if the method is one that may be repeated.)
    at_once = 2 if fault.reset else 1
    assert followed <= len(asked) <= 6 * at_once * (followed + 2 * len(NAMES)), asked
