"""The whole operator in component tests: exactly what `hosted-cp run` builds, under exactly the shipped rights.

Two things are played: pods (`kubelet.py`), and what answers in them (`standin_tenants.py`). So that the operator finds
the latter, `routed` stands around its controllers and turns the way to a tenant's Service to the stand-in; nothing else
is different, and the product knows nothing of it.
"""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from hosted_cp.cli import run as product
from hosted_cp.executor import Hooks, Step
from hosted_cp.hosting.settings import Settings
from hosted_cp.kube.cache import Watched
from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.credentials import Credentials
from hosted_cp.kube.errors import NotFound
from hosted_cp.kube.loop import Controller, Key, Look
from hosted_cp.kube.resources import CLUSTER, JOIN_TOKEN_REQUEST, SECRET, Resource
from hosted_cp.kube.store import Change
from hosted_cp.kube.tenant import TenantAccess
from hosted_cp.operator import Kind, Operator, Options, Parts
from hosted_cp.planning.actions import Plan
from tests.component.apiserver import Access, Server
from tests.component.audit import Audit, Request, summary
from tests.component.kubelet import NODE, StandInKubelet
from tests.component.standin_tenants import StandInTenants
from tests.component.test_client import credentials_of

Object = dict[str, Any]

#: The user whose rights `deploy/operator.yaml` gives.
OPERATOR = "system:serviceaccount:hosted-cp:hosted-cp"
CATALOGUE: Mapping[str, Any] = json.loads(
    (Path(__file__).parents[2] / "k0s_images" / "catalogue.json").read_text(encoding="utf-8")
)
DEPLOYED = Path(__file__).parents[2] / "deploy" / "operator.yaml"

#: Seconds to wait for what must come. Generous: the machine is shared, and nothing here is about time.
PATIENCE = 120.0


# -- the operator ----------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Turns:
    """Which object each worker of the operator is busy with, so that hooks know whose step they see."""

    _keys: weakref.WeakKeyDictionary[asyncio.Task[Any], tuple[str, Key]] = field(
        default_factory=weakref.WeakKeyDictionary
    )

    def note(self, kind: str, key: Key) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._keys[task] = (kind, key)

    def now(self) -> tuple[str, Key]:
        """Kind and key of the object that the running task works on."""
        task = asyncio.current_task()
        assert task is not None
        return self._keys[task]


@dataclass(frozen=True, kw_only=True)
class Routed:
    """A controller of the product whose tenants answer at `url`."""

    inner: Controller[Any]
    url: str
    turns: Turns

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def resource(self) -> Resource:
        return self.inner.resource

    @property
    def watched(self) -> tuple[Watched, ...]:
        return self.inner.watched

    def keys(self, change: Change) -> Iterable[Key]:
        return self.inner.keys(change)

    def look(self, key: Key, *, failure: str) -> Look[Any] | None:
        self.turns.note(self.inner.resource.kind, key)
        found = self.inner.look(key, failure=failure)
        if found is None or found.tenant is None:
            return found
        return replace(found, tenant=partial(self._routed, found))

    def _routed(self, found: Look[Any]) -> TenantAccess | None:
        access = found.tenant() if callable(found.tenant) else found.tenant
        return replace(access, server=self.url) if access is not None else None

    def plan(self, view: Any) -> Plan:
        made = self.inner.plan(view)
        probes = tuple(
            replace(each, arguments=tuple((k, self.url if k == "server" else v) for k, v in each.arguments))
            if each.kind in {"tenant-api", "node"}
            else each
            for each in made.probes
        )
        return replace(made, probes=probes)


def routed(
    tenants: StandInTenants, settings: Settings, turns: Turns, *, cluster_wide: bool = True, provider: str = ""
) -> list[Kind]:
    """What `hosted-cp run` runs, with the way to the tenants turned to the stand-in."""

    def around(kind: Kind) -> Callable[[Parts], Routed]:
        return lambda parts: Routed(inner=kind.build(parts), url=tenants.url, turns=turns)

    kinds = product.kinds(settings, cluster_wide=cluster_wide, provider=provider)
    return [replace(kind, build=around(kind)) for kind in kinds]


class Crash(BaseException):
    """The process ends here."""


class Frozen(Exception):
    """For this tenant the process has ended; the others go on, so that one life shows many crashes."""


@dataclass(kw_only=True)
class Freezer:
    """Lets the operator die for each tenant at a step of its own: each life stands for one crash per tenant.

    `limits`: by name of the object how many steps are done before the end. `moment`: whether the last of them was
    still answered ("after"), or the next one is stopped before it is sent ("before"). What is left behind is the same
    as if the whole process had ended, because from then on nothing is written for that tenant, and the process, with
    everything it knew, is thrown away.
    """

    turns: Turns
    limits: Mapping[str, int]
    moment: str = "after"
    done: dict[str, int] = field(default_factory=dict)
    frozen: set[str] = field(default_factory=set)
    #: What each tenant's steps were, for messages.
    steps: dict[str, list[Step]] = field(default_factory=dict)

    @property
    def hooks(self) -> Hooks:
        return Hooks(before=self._before, after=self._after)

    def _before(self, step: Step, number: int) -> None:
        name = self.turns.now()[1].name
        if name in self.frozen or (self.moment == "before" and self.done.get(name, 0) >= self.limits.get(name, 10**9)):
            self.frozen.add(name)
            raise Frozen

    def _after(self, step: Step, number: int) -> None:
        name = self.turns.now()[1].name
        self.steps.setdefault(name, []).append(step)
        self.done[name] = self.done.get(name, 0) + 1
        if self.moment == "after" and self.done[name] >= self.limits.get(name, 10**9):
            self.frozen.add(name)
            raise Frozen


# -- the stage -------------------------------------------------------------------------------------------------------


def _older(body: Object, than: Object) -> bool:
    """Whether this is a former version of the object."""
    known = than.get("metadata", {}).get("resourceVersion", "0")
    return int(body["metadata"]["resourceVersion"]) < int(known)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A namespace, and everything around it that a test of the whole operator needs."""

    server: Server
    admin: ApiClient
    kubelet: StandInKubelet
    tenants: StandInTenants
    namespace: str
    access: Access
    settings: Settings = field(default_factory=lambda: Settings(catalogue=CATALOGUE))
    #: Whether nodes and StorageClasses are read, as without `--namespace`.
    cluster_wide: bool = True

    @property
    def audit(self) -> Audit:
        return self.server.audit

    @asynccontextmanager
    async def operating(
        self,
        *,
        access: Access | None = None,
        credentials: Credentials | None = None,
        hooks: Hooks | None = None,
        turns: Turns | None = None,
        settings: Settings | None = None,
        crash: bool = False,
        **options: Any,
    ) -> AsyncIterator[Operator]:
        """The operator, leading. At the end it is stopped; with `crash` it is ended wherever it is."""
        kinds = routed(
            self.tenants, settings or self.settings, turns or Turns(), cluster_wide=self.cluster_wide,
            provider=options.get("provider", ""),
        )  # fmt: skip
        operator = Operator(
            credentials or credentials_of(access or self.access),
            kinds,
            options=Options(**{"namespaces": (self.namespace,), "workers": 8, "with_kopf": False, **options}),
            hooks=hooks,
        )
        running = asyncio.create_task(operator.run())
        leading = asyncio.create_task(operator.leading.wait())
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait({running, leading}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running
            yield operator
        finally:
            leading.cancel()
            if crash:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
            else:
                operator.stop()
                async with asyncio.timeout(PATIENCE):
                    await running

    # -- the user's hands ----------------------------------------------------------------------------------------

    async def create(self, name: str, spec: Object | None = None, **metadata: Any) -> Object:
        """Create a Cluster; without a spec: etcd, one replica, node ports."""
        body = {
            "apiVersion": CLUSTER.api_version,
            "kind": "Cluster",
            "metadata": {"name": name, "namespace": self.namespace, **metadata},
            "spec": {"service": {"type": "NodePort"}, **(spec or {})},
        }
        return (await self.admin.create(CLUSTER, body)).body

    async def ask_token(self, name: str, cluster: str, **spec: Any) -> Object:
        """Create a JoinTokenRequest."""
        body = {
            "apiVersion": JOIN_TOKEN_REQUEST.api_version,
            "kind": "JoinTokenRequest",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"clusterName": cluster, **spec},
        }
        return (await self.admin.create(JOIN_TOKEN_REQUEST, body)).body

    async def change(self, name: str, spec: Object) -> None:
        """Merge-patch the spec of a Cluster."""
        await self.admin.merge_patch(CLUSTER, self.namespace, name, {"spec": spec})

    async def secret(self, name: str, data: Mapping[str, bytes], **metadata: Any) -> None:
        """Create a Secret, as a user does."""
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": self.namespace, **metadata},
            "stringData": {key: value.decode() for key, value in data.items()},
        }
        await self.admin.create(SECRET, body)

    async def find(self, resource: Resource, name: str) -> Object | None:
        """An object of the namespace, or None."""
        try:
            return (await self.admin.get(resource, self.namespace, name)).body
        except NotFound:
            return None

    # -- waiting -------------------------------------------------------------------------------------------------

    async def until(
        self,
        resource: Resource,
        names: Iterable[str],
        true: Callable[[Object], bool],
        *,
        seconds: float = PATIENCE,
        enough: Callable[[set[str]], bool] = lambda missing: False,
    ) -> dict[str, Object]:
        """Watch objects until each is as wanted ({} stands for one that is gone).

        `enough` may end the waiting earlier; it is asked with the names that are not yet as wanted, once a second.
        """
        wanted = set(names)
        present = {each["metadata"]["name"]: each for each in await self.admin.list(resource, self.namespace)}
        state: dict[str, Object] = {name: present.get(name, {}) for name in wanted}

        def missing() -> set[str]:
            return {name for name in wanted if not true(state[name])}

        async def follow() -> None:
            # From "any" version: what was listed above is told once more, or what came before it by a cache that lags.
            async with aclosing(self.admin.watch(resource, self.namespace, since="0")) as events:
                async for event in events:
                    body = orjson.loads(event.raw)
                    name = body["metadata"].get("name")
                    if name in wanted and event.type != "BOOKMARK" and not _older(body, state[name]):
                        state[name] = {} if event.type == "DELETED" else body
                        if not missing():
                            return

        if not missing():
            return state
        following = asyncio.create_task(follow())
        try:
            async with asyncio.timeout(seconds):
                while not following.done() and missing() and not enough(missing()):
                    await asyncio.wait({following}, timeout=1.0)
                    # A watch from "any" version does not tell of what went before it began.
                    there = {each["metadata"]["name"] for each in await self.admin.list(resource, self.namespace)}
                    state.update({name: {} for name in wanted - there})
        except TimeoutError:
            if not missing():  # it came while the list of a busy server was waited for
                return state
            short = {name: said(state[name]) for name in sorted(missing())[:3]}
            raise AssertionError(f"after {seconds:.0f} s {len(missing())} are not as wanted: {short}") from None
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
        return state

    async def available(self, *names: str, **words: Any) -> dict[str, Object]:
        """Wait until these tenants are at rest and Available, for the spec they have now."""
        return await self.until(CLUSTER, names, settled, **words)

    async def gone(self, *names: str, **words: Any) -> None:
        """Wait until these Clusters do not exist any more."""
        await self.until(CLUSTER, names, lambda body: not body, **words)

    async def rest(self, operator: Operator) -> None:
        """Wait until the operator has had nothing to do for a while."""
        quiet = 0
        async with asyncio.timeout(PATIENCE):
            while quiet < 10:
                await asyncio.sleep(0.05)
                quiet = quiet + 1 if operator.idle else 0

    # -- counting ------------------------------------------------------------------------------------------------

    def requests(self, since: int, *, without: tuple[str, ...] = ()) -> list[Request]:
        """The operator's requests about this namespace, without the lease's and without some verbs."""
        seen = self.audit.requests(since=since, user=self.access.user, namespace=self.namespace)
        return [each for each in seen if each.resource != "leases" and each.verb not in without]

    def spent(self, since: int, *, without: tuple[str, ...] = ()) -> dict[str, int]:
        """The same, counted."""
        return summary(self.requests(since, without=without))

    def created_twice(self, since: int) -> list[str]:
        """Objects that were made more often than once."""
        made = [
            f"{each.resource} {each.name}"
            for each in self.audit.requests(since=since, namespace=self.namespace, verb="create", user=self.access.user)
            if each.code == 201 and each.resource != "events" and each.name
        ]
        return sorted({each for each in made if made.count(each) > 1})


def conditions(body: Object) -> dict[str, Object]:
    """Conditions by type."""
    return {each["type"]: each for each in body.get("status", {}).get("conditions", [])}


def said(body: Object) -> dict[str, str]:
    """What the conditions say, in short, for messages."""
    if not body:
        return {"": "does not exist"}
    return {
        kind: f"{each['status']} {each['reason']} (generation {each['observedGeneration']} of"
        f" {body['metadata']['generation']}): {each['message']}"
        for kind, each in conditions(body).items()
    }


def settled(body: Object) -> bool:
    """Whether a Cluster is Available, rolled out and scaled, for the spec that it has now."""
    if not body:
        return False
    known = conditions(body)
    generation = body["metadata"]["generation"]
    want = {"Available": "True", "ControlPlaneUpToDate": "True", "ControlPlaneScaling": "False"}
    return (
        all(
            known.get(kind, {}).get("status") == status and known[kind]["observedGeneration"] == generation
            for kind, status in want.items()
        )
        and body["status"].get("readyReplicas") == body["spec"].get("replicas", 1)
        and body["status"].get("initialized") is True
    )


def minted(body: Object) -> bool:
    """Whether a JoinTokenRequest has its token."""
    return conditions(body).get("JoinTokenSecretCreated", {}).get("status") == "True"


#: Where node ports are published (TEST-NET-1).
NODE_ADDRESS = "192.0.2.11"


def node() -> Object:
    """The node that the stand-in kubelet plays."""
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}


def storage_class() -> Object:
    """The default class; the stand-in kubelet provisions it."""
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "standard", "annotations": default},
        "provisioner": "stand-in.invalid/none",
    }
