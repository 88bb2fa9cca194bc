"""Questions to the world, asked beside the loop and never in it.

A plan asks (`Plan.probes`); the answer is a `Finding` that stands in the next view of that object, and its key is put
into the queue. Asking changes nothing anywhere. A good answer is kept, and not asked for again, for as long as plans go
on asking; a bad one is asked again, later each time: nobody polls a healthy tenant. Once plans have stopped asking, an
answer counts no more: a database that was there when a tenant began says nothing of why it does not serve now. What
hangs costs its neighbours nothing: every question has a deadline, and the number asked at once is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from hosted_cp.api import database
from hosted_cp.kube import postgres
from hosted_cp.kube.errors import ApiError
from hosted_cp.kube.resources import NAMESPACE
from hosted_cp.kube.secret_data import SecretData
from hosted_cp.kube.tenant import TenantAccess, TenantClients
from hosted_cp.planning.actions import Finding, Probe
from hosted_cp.planning.observed import Observed
from hosted_cp.planning.recipes import MaterialError

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

#: Answers a probe about an object: the message of a good answer, or `ProbeFailed`.
Asker = Callable[[Probe, Observed], Awaitable[str]]

#: Seconds until a question with a bad answer is asked again.
_PAUSES = (0.2, 0.4, 0.8, 2.0, 4.0, 8.0, 15.0, 30.0)


class ProbeFailed(Exception):
    """The answer is bad; the message says how, in public words."""


@dataclass(kw_only=True)
class _Question:
    task: asyncio.Task[None] | None = None
    finding: Finding | None = None
    failures: int = 0
    again_at: float = 0.0


@dataclass(kw_only=True)
class Prober(Generic[K]):
    """All questions of one controller, by the UID of the object they are about."""

    askers: Mapping[str, Asker]
    #: Puts the key of the object into the queue: there is a finding.
    enqueue: Callable[[K], None]
    now: Callable[[], datetime]
    #: How many questions are asked at once.
    most: int = 32
    clock: Callable[[], float] = time.monotonic
    _asked: dict[str, dict[tuple[str, str, tuple[tuple[str, str], ...]], _Question]] = field(
        default_factory=dict, init=False, repr=False
    )
    _turns: asyncio.Semaphore = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._turns = asyncio.Semaphore(self.most)

    def findings(self, uid: str) -> tuple[Finding, ...]:
        """What is known about the object with this UID."""
        asked = self._asked.get(uid, {})
        return tuple(question.finding for question in asked.values() if question.finding is not None)

    def ask(self, key: K, about: Observed, probes: Iterable[Probe]) -> float | None:
        """Ask what is not known yet. Returns the seconds until a bad answer may be asked for again, if there is one."""
        pauses: list[float] = []
        probes = tuple(probes)
        wanted = {(probe.kind, probe.key, probe.arguments) for probe in probes}
        known = self._asked.get(about.uid, {})
        for old in [each for each, question in known.items() if each not in wanted and question.task is None]:
            del known[old]
        for probe in probes:
            asked = self._asked.setdefault(about.uid, {})
            question = asked.setdefault((probe.kind, probe.key, probe.arguments), _Question())
            if question.task is not None or (question.finding is not None and question.finding.ok):
                continue
            pause = question.again_at - self.clock()
            if question.finding is not None and pause > 0:
                pauses.append(pause)
                continue
            # Another question under the same name (its arguments have changed): the old answer counts no more.
            for other in [each for each in asked if each[:2] == (probe.kind, probe.key) and each[2] != probe.arguments]:
                _cancel(asked.pop(other))
            question.task = asyncio.create_task(self._answer(key, about, probe, question), name=f"probe {probe.kind}")
        return min(pauses) if pauses else None

    def forget(self, uid: str) -> None:
        """The object is gone."""
        for question in self._asked.pop(uid, {}).values():
            _cancel(question)

    async def close(self) -> None:
        """Stop asking."""
        tasks = [q.task for asked in self._asked.values() for q in asked.values() if q.task is not None]
        for uid in list(self._asked):
            self.forget(uid)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, key: K, about: Observed, probe: Probe, question: _Question) -> None:
        try:
            async with self._turns:
                async with asyncio.timeout(probe.deadline):
                    message = await self.askers[probe.kind](probe, about)
                ok = True
        except TimeoutError:
            ok, message = False, f"no answer within {probe.deadline:g} s"
        except (ProbeFailed, MaterialError) as failure:
            ok, message = False, str(failure)
        except ApiError as error:
            ok, message = False, str(error)
        except Exception as fault:  # noqa: BLE001 - told as an answer, and logged
            # A fault of ours must not be taken for an answer that is still to come. (Its words might quote a Secret.)
            where = "".join(traceback.format_tb(fault.__traceback__))
            log.error("probe %s of %s: a fault of the operator, %s:\n%s", probe.kind, about.ref, type(fault), where)
            ok, message = False, "the question could not be asked, by a fault of the operator; its log says more"
        question.task = None
        question.finding = Finding(probe=probe, ok=ok, message=message, at=self.now())
        if not ok:
            question.again_at = self.clock() + _PAUSES[min(question.failures, len(_PAUSES) - 1)]
            question.failures += 1
        log.debug("probe %s of %s: %s", probe.kind, about.ref, message)
        self.enqueue(key)


def _cancel(question: _Question) -> None:
    if question.task is not None:
        question.task.cancel()


def tenant_api(tenants: TenantClients) -> Asker:
    """`tenant-api`: one authenticated request that needs the tenant's store. Arguments: `server`, `serverName`,
    `authority` (the name of the Secret with its CA), and `kubeconfig` where that Secret holds one: it is asked with
    its credentials, and by its CA."""

    async def ask(probe: Probe, about: Observed) -> str:
        arguments = dict(probe.arguments)
        access = TenantAccess(
            uid=about.uid,
            namespace=about.ref.namespace or "",
            authority=arguments["authority"],
            server=arguments["server"],
            server_name=arguments.get("serverName") or None,
            kubeconfig="kubeconfig" in arguments,
        )
        async with tenants.client(access, deadline=probe.deadline) as client:
            await client.get(NAMESPACE, None, "kube-system", deadline=probe.deadline)
        return "the API server has answered an authenticated request"

    return ask


def dial(secrets: SecretData) -> Asker:
    """`dial`: whether a database is there for us. Arguments: `host` and `port`, or `secret` and `key` of a data source
    (DSN), of which nothing but host and port is ever told. With the latter a PostgreSQL is also asked whether it takes
    user and password."""

    async def ask(probe: Probe, about: Observed) -> str:
        arguments = dict(probe.arguments)
        dsn = ""
        if "secret" in arguments:
            dsn, found = await _data_source(secrets, about.ref.namespace or "", arguments)
            host, port = found.host, found.port
        else:
            host, port = arguments["host"], int(arguments["port"])
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            async with asyncio.timeout(probe.deadline * 0.9):  # so that it is we who say what did not answer
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    if dsn and database.read(dsn).kind == "postgres":
                        await postgres.log_in(reader, writer, postgres.credentials(dsn))
                finally:
                    writer.close()
        except postgres.NotJudgedError:
            pass
        except postgres.RefusedError as fault:
            raise ProbeFailed(f"{where} {fault}: correct Secret {arguments['secret']}, or the database") from None
        except TimeoutError:
            raise ProbeFailed(f"{where} does not answer") from None
        except (ValueError, OverflowError):
            raise ProbeFailed(f"{where} is no address: correct host and port in the data source") from None
        except OSError as fault:
            raise ProbeFailed(f"{where} does not answer: {fault.strerror or type(fault).__name__}") from None
        return f"{where} accepts connections"

    return ask


async def _data_source(
    secrets: SecretData, namespace: str, arguments: Mapping[str, str]
) -> tuple[str, database.DatabaseFacts]:
    name, key = arguments["secret"], arguments.get("key", database.DSN_KEY)
    data = await secrets.read(namespace, name)
    if key not in data:
        raise ProbeFailed(f"Secret {namespace}/{name} has no key {key}")
    try:
        dsn = data[key].decode()
        facts = database.read(dsn)
    except (database.DataSourceError, UnicodeDecodeError):
        raise ProbeFailed(f"{key} in Secret {namespace}/{name} is no data source that kine understands") from None
    if not facts.host:
        raise ProbeFailed(f"{key} in Secret {namespace}/{name} names no host")
    return dsn, facts
