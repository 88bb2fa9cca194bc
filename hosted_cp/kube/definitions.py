"""The operator's part in conversion: our CustomResourceDefinitions, as far as the installed files cannot say it.

Three things. Before the first list it is proven that what is stored can be read as it is meant (`unproven`). The leader
writes whom API servers shall trust when they ask the webhook (`caBundle`). And once a release stores objects in another
version, the leader has those that are stored in the old one written again (`hosted_cp.kube.migration`).

This stands outside the loop of views and plans on purpose: it is about the kinds themselves, so it must work while not
one object of them can be read. The rules of the house hold: only the leader writes, only what differs, by server-side
apply with a field manager of its own, to the object whose UID was seen.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

from prometheus_client import Counter

from hosted_cp.api.kinds import of_provider
from hosted_cp.kube.cache import Caches, Watched
from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.errors import ApiError, Conflict, Forbidden, NotFound
from hosted_cp.kube.lease import Leadership
from hosted_cp.kube.metrics import Metrics
from hosted_cp.kube.migration import Migration, migrate
from hosted_cp.kube.observing import secret_data
from hosted_cp.kube.resources import CRD, SECRET, Resource
from hosted_cp.kube.store import Change
from hosted_cp.kube.webhook_names import BUNDLE, SERVICE
from hosted_cp.kube.webhook_names import names as names_of
from hosted_cp.planning.actions import Object

log = logging.getLogger(__name__)

MANAGER = "hosted-cp-ca-bundle"

WEBHOOK_CONFIGURATION = Resource(
    group="admissionregistration.k8s.io",
    version="v1",
    kind="ValidatingWebhookConfiguration",
    plural="validatingwebhookconfigurations",
    namespaced=False,
)

#: Set where cert-manager looks after `caBundle`.
_CERT_MANAGER = ("cert-manager.io/inject-ca-from", "cert-manager.io/inject-ca-from-secret")

#: Seconds after failures in a row, before jitter.
_PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


def resources(provider: str = "") -> Mapping[str, Resource]:
    """Our kinds by the name of their definition, in the version that is stored; of one provider, or all."""
    return {
        f"{each.hub.plural}.{each.hub.group}": Resource(
            group=each.hub.group, version=each.hub.version, kind=each.hub.__name__, plural=each.hub.plural
        )
        for each in of_provider(provider)
    }


RESOURCES = resources()


def pause_after(failures: int) -> float:
    """Seconds to wait after so many failures in a row (from 0)."""
    return _PAUSES[min(failures, len(_PAUSES) - 1)] * random.uniform(0.75, 1.25)  # noqa: S311


# --- proof ------------------------------------------------------------------------------------------------------------


async def unproven(client: ApiClient, resources: Sequence[Resource], *, namespaces: Sequence[str] = ()) -> str:
    """Why objects of these kinds might be read wrongly, or not at all, for a user; "" if they are read as they are.

    What was only ever stored in the version that we read needs nobody who converts. Where other versions were stored,
    the definition must name a webhook (without one API servers rename the version and prune what it does not know), and
    a page of each version is read to see that it answers. `namespaces`: where we may read; none: everywhere.

    A kind that is not installed, or whose definition we may not read, is passed over: the list that follows fails or
    does not.
    """
    for resource in resources:
        name = f"{resource.plural}.{resource.group}"
        try:
            definition = (await client.get(CRD, None, name)).body
        except (NotFound, Forbidden):
            continue
        except ApiError as error:
            return f"the definition {name} cannot be read: {error.public()}"
        if why := await _unproven(client, resource, definition, namespaces):
            return why
    return ""


async def _unproven(client: ApiClient, resource: Resource, definition: Object, namespaces: Sequence[str]) -> str:
    others = [each for each in stored_versions(definition) if each != resource.version]
    if not others:
        return ""
    if not _converts(definition):
        return (
            f"objects of kind {resource.kind} are stored as {', '.join(others)} and nobody is named who converts them: "
            "apply the definitions of this release (crds/) and deploy/webhook.yaml"
        )
    for each in definition["spec"]["versions"]:
        if each.get("served"):
            asked = Resource(group=resource.group, version=each["name"], kind=resource.kind, plural=resource.plural)
            for namespace in namespaces or ("",):
                try:
                    async with aclosing(client.pages(asked, namespace, metadata_only=True)) as pages:
                        async for _ in pages:
                            break
                except ApiError as error:
                    # The API server's own words, about its connection to the webhook.
                    return (
                        f"objects of kind {resource.kind} cannot be read as {each['name']} (does the webhook answer? "
                        f"see deploy/webhook.yaml): {error.message}"
                    )
    return ""


def stored_versions(definition: Object) -> list[str]:
    """In which versions objects of a kind may be stored."""
    return [str(each) for each in (definition.get("status") or {}).get("storedVersions") or ()]


# --- trust, and storage -----------------------------------------------------------------------------------------------


class Definitions:
    """Looks after our definitions and the webhook configuration, while we lead."""

    def __init__(
        self,
        client: ApiClient,
        *,
        namespace: str,
        leadership: Leadership,
        metrics: Metrics,
        provider: str = "",
    ) -> None:
        """`namespace`: where the webhook keeps the Secret with its CA. `provider`: the part of us that is installed."""
        self._client = client
        self._namespace = namespace
        self._names = names = names_of(provider)
        self._resources = resources(provider)
        self._leadership = leadership
        self._caches = Caches(
            client,
            (
                # Their schemas are large, and only ours are of interest, which are read when they change.
                Watched(resource=CRD, metadata_only=True),
                Watched(resource=WEBHOOK_CONFIGURATION, fields=f"metadata.name={names.configuration}"),
                Watched(resource=SECRET, metadata_only=True, fields=f"metadata.name={names.ca_secret}"),
            ),
            namespaces=(namespace,),
        )
        self._changed = asyncio.Event()
        self._caches.subscribe(self._note)
        #: (name, resourceVersion, bundle) of what was found to be in order.
        self._done: dict[str, tuple[str, bytes]] = {}
        self._migrations: dict[str, asyncio.Task[None]] = {}
        self._writes = Counter(
            "hosted_cp_ca_bundle_writes", "Times that the webhook's CA was written.", registry=metrics.registry
        )
        self._migration = Migration.counted(metrics)

    async def run(self) -> None:
        """Until cancelled, or until it is clear that we have no right to: then somebody else does it, or nobody."""
        if not await self._may():
            return
        async with asyncio.TaskGroup() as group:
            following = group.create_task(self._caches.run(), name="follow definitions")
            try:
                await self._caches.synced()
                await self._look_after(group)
            finally:
                following.cancel()

    async def _may(self) -> bool:
        failures = 0
        while True:
            try:
                await self._client.get(CRD, None, next(iter(self._resources)))
                return True
            except NotFound:
                return True
            except Forbidden:
                log.info(
                    "our definitions are not looked after (the webhook's CA, storage versions): "
                    "deploy/webhook.yaml grants the right"
                )
                return False
            except ApiError as error:
                log.warning("our definitions cannot be read: %s", error.public())
                await asyncio.sleep(pause_after(failures))
                failures += 1

    def _note(self, change: Change) -> None:
        if change.resource != CRD or change.name[1] in self._resources:
            self._changed.set()

    async def _look_after(self, group: asyncio.TaskGroup) -> None:
        failures = 0
        while True:
            self._changed.clear()
            try:
                await self._look(group)
                failures = 0
            except ApiError as error:
                pause = pause_after(failures)
                failures += 1
                log.warning("looking after our definitions: %s; again in %.1f s", error.public(), pause)
                await asyncio.sleep(pause)
                continue
            await self._changed.wait()

    async def _look(self, group: asyncio.TaskGroup) -> None:
        bundle = await self._bundle()
        for found in self._caches.store(CRD):
            name = found.ref.name
            if name in self._resources and self._done.get(name) != (found.resource_version, bundle):
                definition = await self._get(CRD, name)
                if definition is not None:
                    spec = _of_definition(definition, bundle, service=self._names.service)
                    definition = await self._trusted(CRD, definition, spec)
                    self._begin_migration(group, definition)
                    self._done[name] = (definition["metadata"]["resourceVersion"], bundle)
        if len(self._caches.store(WEBHOOK_CONFIGURATION)):
            configuration = await self._get(WEBHOOK_CONFIGURATION, self._names.configuration)
            if configuration is not None:
                spec = _of_configuration(configuration, bundle, service=self._names.service)
                await self._trusted(WEBHOOK_CONFIGURATION, configuration, spec)

    async def _bundle(self) -> bytes:
        """The CAs to trust, PEM; b"" where the webhook has made none (certificates come from elsewhere then)."""
        if not len(self._caches.store(SECRET)):
            return b""
        try:
            answer = await self._client.get(SECRET, self._namespace, self._names.ca_secret)
        except NotFound:
            return b""
        return secret_data(answer.raw).get(BUNDLE, b"")

    async def _get(self, resource: Resource, name: str) -> dict[str, Any] | None:
        try:
            return (await self._client.get(resource, None, name)).body
        except NotFound:
            return None

    async def _trusted(self, resource: Resource, live: dict[str, Any], spec: Object | None) -> dict[str, Any]:
        """The object with our CA in it; `spec` is what has to be applied for that, if anything."""
        if spec is None or not self._leadership.held():
            return live
        metadata = {"name": live["metadata"]["name"], "uid": live["metadata"]["uid"]}
        body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **spec}
        answer = await self._client.apply(resource, body, manager=MANAGER)
        self._writes.inc()
        log.info("wrote the webhook's CA into %s %s", resource.kind, metadata["name"])
        return answer.body

    def _begin_migration(self, group: asyncio.TaskGroup, definition: Object) -> None:
        name = str(definition["metadata"]["name"])
        resource = self._resources[name]
        others = [each for each in stored_versions(definition) if each != resource.version]
        if others and name not in self._migrations and _converts(definition):
            task = group.create_task(self._migrate(resource, name), name=f"migrate {name}")
            self._migrations[name] = task
            task.add_done_callback(lambda _: self._migrations.pop(name, None))

    async def _migrate(self, resource: Resource, name: str) -> None:
        failures = 0
        while self._leadership.held():
            try:
                await migrate(
                    self._client, resource, definition=name, leadership=self._leadership, progress=self._migration
                )
                return
            except Conflict:
                pause = 1.0  # somebody has changed the definition meanwhile
            except Forbidden as error:
                log.warning("stored objects of kind %s stay as they are: %s", resource.kind, error.public())
                return
            except ApiError as error:
                pause = pause_after(failures)
                failures += 1
                log.warning("migrating %s: %s; again in %.1f s", resource.plural, error.public(), pause)
            await asyncio.sleep(pause)


def _converts(definition: Object) -> bool:
    """Whether anybody is named who converts."""
    return bool((definition["spec"].get("conversion") or {}).get("strategy") == "Webhook")


def _of_definition(definition: Object, bundle: bytes, *, service: str = SERVICE) -> Object | None:
    client = ((definition["spec"].get("conversion") or {}).get("webhook") or {}).get("clientConfig")
    if not bundle or not client or not _is_ours(client, service) or _managed_elsewhere(definition):
        return None
    if _has(client, bundle):
        return None
    return {"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": _encoded(bundle)}}}}}


def _of_configuration(configuration: Object, bundle: bytes, *, service: str = SERVICE) -> Object | None:
    if not bundle or _managed_elsewhere(configuration):
        return None
    ours = [each for each in configuration.get("webhooks") or () if _is_ours(each["clientConfig"], service)]
    if all(_has(each["clientConfig"], bundle) for each in ours):
        return None
    return {
        "webhooks": [{"name": each["name"], "clientConfig": {"caBundle": _encoded(bundle)}} for each in ours],
    }


def _is_ours(client: Object, service: str) -> bool:
    """Whether this leads to our webhook: not to k0smotron's, whose definitions ours take the place of."""
    return "url" in client or (client.get("service") or {}).get("name") == service


def _managed_elsewhere(body: Object) -> bool:
    return any(each in (body["metadata"].get("annotations") or {}) for each in _CERT_MANAGER)


def _has(client: Object, bundle: bytes) -> bool:
    return client.get("caBundle") == _encoded(bundle)


def _encoded(bundle: bytes) -> str:
    return base64.b64encode(bundle).decode()
