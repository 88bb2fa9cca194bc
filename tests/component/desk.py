"""An executor of its own on a real API server, with caches, and the recipes of its tests."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from hosted_cp.executor import Executor, Hooks, Step
from hosted_cp.kube.cache import Caches, Watched
from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.material import Sources
from hosted_cp.kube.outcome import Result
from hosted_cp.kube.resources import CONFIG_MAP, SECRET, SERVICE, STATEFUL_SET
from hosted_cp.kube.secret_data import SecretData
from hosted_cp.kube.tenant import TenantClients
from hosted_cp.planning.actions import (
    Action,
    Plan,
    Ref,
)
from hosted_cp.planning.observed import Observed
from hosted_cp.planning.recipes import Inputs
from tests.component.audit import Audit, summary

CANARY = "canary-93c2"


@dataclass
class Leader:
    leads: bool = True

    def held(self) -> bool:
        return self.leads


@dataclass(frozen=True, kw_only=True)
class Words:
    """A recipe for tests: it holds no secret itself, and makes one."""

    text: str
    needs: tuple[str, ...] = ()

    def printed(self) -> Mapping[str, Any]:
        return {"recipe": "words", "text": self.text}

    def fulfil(self, inputs: Inputs) -> Mapping[str, bytes]:
        needed = [inputs.secrets[name]["k"] for name in self.needs]
        return {"k": b"-".join([CANARY.encode(), self.text.encode(), *needed])}


@dataclass(kw_only=True)
class Bench:
    """An executor with caches, and the user's object that plans are about."""

    executor: Executor
    caches: Caches
    about: Observed
    leader: Leader
    steps: list[str] = field(default_factory=list)

    async def run(self, *actions: Action, **words: Any) -> Result:
        tenant = words.pop("tenant", None)
        return await self.executor.execute(Plan(actions=actions, **words), about=self.about, tenant=tenant, by="me")

    async def told(self, ref: Ref, true: Callable[[Observed], bool]) -> Observed:
        """Wait until the watch has told of the object as wanted."""
        async with asyncio.timeout(10):
            while (found := self.caches.known(ref)) is None or not true(found):
                news = asyncio.Event()
                self.caches.subscribe(lambda _, news=news: news.set())  # type: ignore[misc]
                await news.wait()
        return found

    def known(self, ref: Ref) -> Observed:
        found = self.caches.known(ref)
        assert found is not None
        return found


@asynccontextmanager
async def bench(client: ApiClient, admin: ApiClient, namespace: str, **options: Any) -> AsyncIterator[Bench]:
    """Everything that is created in the namespace is followed. The user's object is played by a Service, which has a
    status."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "owner", "namespace": namespace},
        "spec": {"ports": [{"port": 1}]},
    }
    await admin.create(SERVICE, service, manager="user")
    kinds = [Watched(resource=each) for each in (SERVICE, SECRET, CONFIG_MAP, STATEFUL_SET)]
    caches = Caches(client, kinds, namespaces=(namespace,))
    running = asyncio.create_task(caches.run())
    await caches.synced()
    secrets = SecretData(client, caches)
    leader = Leader()
    steps: list[str] = []

    def note(step: Step, number: int) -> None:
        steps.append(f"{number} {type(step).__name__}")

    sources = Sources()
    tenants = TenantClients(caches=caches, secrets=secrets, now=sources.now)
    executor = Executor(
        client=client, caches=caches, secrets=secrets, leadership=leader, sources=sources, tenants=tenants,
        hooks=options.get("hooks", Hooks(before=note)),
    )  # fmt: skip
    about = caches.known(SERVICE.ref(namespace, "owner"))
    assert about is not None
    try:
        yield Bench(executor=executor, caches=caches, about=about, leader=leader, steps=steps)
    finally:
        await tenants.close()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def secret(namespace: str, name: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": labels or {"a": "1"}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque"}


def data_of(answer: Any) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in answer["data"].items()}


async def spent(audit: Audit, namespace: str, since: int) -> dict[str, int]:
    """Requests of the operator, without its lists and watches."""
    seen = audit.requests(since=since, user=f"operator-{namespace}")
    return summary([request for request in seen if request.verb not in {"list", "watch"}])


@dataclass(frozen=True, kw_only=True)
class Password:
    """A recipe for what others may have been told already."""

    text: str
    needs: tuple[str, ...] = ()

    def printed(self) -> Mapping[str, Any]:
        return {"recipe": "password"}

    def fulfil(self, inputs: Inputs) -> Mapping[str, bytes]:
        return {"k": f"{CANARY}-{self.text}".encode()}

    def fault(self, data: Mapping[str, bytes], inputs: Inputs) -> str:
        return "" if data.get("k", b"").startswith(CANARY.encode()) else "it is too simple"

    def annotations(self, inputs: Inputs) -> Mapping[str, str]:
        return {"example.com/long": "yes"}


def owned(body: dict[str, Any], owner: Observed) -> dict[str, Any]:
    reference = {"apiVersion": "v1", "kind": "Service", "name": owner.ref.name, "uid": owner.uid, "controller": True}
    return {**body, "metadata": {**body["metadata"], "ownerReferences": [reference]}}


def with_data(body: dict[str, Any], text: str) -> dict[str, Any]:
    return {**body, "data": {"k": base64.b64encode(text.encode()).decode()}}
