"""Questions to the world: how long an answer counts, and that one comes whatever happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

import pytest

from hosted_cp.api.database import DSN_KEY
from hosted_cp.kube.probes import Asker, ProbeFailed, Prober, dial
from hosted_cp.kube.resources import CLUSTER
from hosted_cp.kube.secret_data import SecretData
from hosted_cp.planning.actions import Probe
from hosted_cp.planning.observed import Observed
from tests.virtual_time import run

ABOUT = Observed(ref=CLUSTER.ref("default", "a"), uid="1", resource_version="1")
DIAL = Probe(kind="dial", key="datasource")


@dataclass(kw_only=True)
class Database:
    """Answers as it is told to, and counts the questions."""

    fault: str = ""
    asked: int = 0

    async def ask(self, probe: Probe, about: Observed) -> str:
        self.asked += 1
        if self.fault:
            raise ProbeFailed(self.fault)
        return "it accepts connections"


@dataclass(kw_only=True)
class Desk:
    """A prober, and what it puts into the queue."""

    asker: Asker
    woken: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    prober: Prober[str] = field(init=False)

    def __post_init__(self) -> None:
        self.prober = Prober(
            askers={"dial": self.asker},
            enqueue=self.woken.put_nowait,
            now=lambda: datetime(2026, 11, 21, tzinfo=UTC),
            clock=asyncio.get_running_loop().time,
        )

    async def answer(self, probe: Probe = DIAL) -> tuple[bool, str]:
        """Ask, and wait for the answer."""
        self.prober.ask("a", ABOUT, [probe])
        await asyncio.wait_for(self.woken.get(), 60)
        [found] = self.prober.findings("1")
        return found.ok, found.message


def test_a_good_answer_counts_as_long_as_plans_go_on_asking_and_no_longer() -> None:
    """A database that was there when a tenant began says nothing of why the tenant does not serve a week later."""

    async def scenario() -> None:
        database = Database()
        desk = Desk(asker=database.ask)
        assert await desk.answer() == (True, "it accepts connections")
        assert desk.prober.ask("a", ABOUT, [DIAL]) is None
        assert database.asked == 1, "it is not asked again while the tenant starts"
        desk.prober.ask("a", ABOUT, [])  # the tenant serves
        assert desk.prober.findings("1") == ()
        database.fault = "db.example:5432 does not answer"
        assert await desk.answer() == (False, "db.example:5432 does not answer")

    run(scenario())


def test_a_bad_answer_of_a_former_outage_is_not_the_cause_of_the_next() -> None:
    async def scenario() -> None:
        database = Database(fault="db.example:5432 does not answer")
        desk = Desk(asker=database.ask)
        assert not (await desk.answer())[0]
        assert desk.prober.ask("a", ABOUT, [DIAL]) is not None, "there is a pause before it is asked again"
        desk.prober.ask("a", ABOUT, [])
        assert desk.prober.findings("1") == ()

    run(scenario())


def test_a_fault_of_ours_is_an_answer_too_and_quotes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(probe: Probe, about: Observed) -> str:
        raise RuntimeError("-".join(("canary", "of", "a", "password")))

    async def scenario() -> None:
        ok, message = await Desk(asker=broken).answer()
        assert not ok
        assert message == "the question could not be asked, by a fault of the operator; its log says more"

    with caplog.at_level(logging.DEBUG):
        run(scenario())
    assert "RuntimeError" in caplog.text
    assert "canary-of" not in caplog.text


class Secrets:
    """One Secret with a data source."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def read(self, namespace: str, name: str) -> Mapping[str, bytes]:
        return {DSN_KEY: self._dsn.encode()}


@pytest.mark.parametrize(
    ("dsn", "where"),
    [
        ("postgres://demo:canary@db..example:5432/demo", "db..example:5432"),
        (f"mysql://demo:canary@tcp({'d' * 64}:3306)/demo", f"{'d' * 64}:3306"),
    ],
)
def test_a_host_that_cannot_be_one_is_named(dsn: str, where: str) -> None:
    probe = Probe(kind="dial", key="datasource", arguments=(("secret", "database"), ("key", DSN_KEY)))

    async def scenario() -> None:
        ok, message = await Desk(asker=dial(cast(SecretData, Secrets(dsn)))).answer(probe)
        assert not ok
        assert message == f"{where} is no address: correct host and port in the data source"

    asyncio.run(scenario())
