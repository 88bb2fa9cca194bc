"""Stored objects of a kind, written again in the version that is stored now.

An API server writes what it is given in the storage version, and keeps everything else as it was once written: after
k0smotron, or an older release, objects lie in etcd as v1beta1, and are converted at every read. Until the last one is
written again, the old version can never be dropped from the definition (its `status.storedVersions` says so).

A patch that changes nothing is enough: an API server compares what it would store with what is stored, byte by byte. It
carries the UID and the version that were listed, so an object that somebody has changed meanwhile (and so written) is
left alone. It goes one object at a time, at a bounded pace, and can be cut off anywhere: what is done already costs one
request that writes nothing when it is begun anew. The way of Kubernetes' own StorageVersionMigration.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from prometheus_client import Counter, Gauge

from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.errors import Conflict, NotFound
from hosted_cp.kube.lease import Leadership
from hosted_cp.kube.metrics import Metrics
from hosted_cp.kube.observing import glimpse
from hosted_cp.kube.resources import CRD, Resource

log = logging.getLogger(__name__)

MANAGER = "hosted-cp-migration"

#: Seconds between two objects: what else an API server has to do goes first.
PACE = 0.02


@dataclass(frozen=True, kw_only=True)
class Migration:
    """What is counted."""

    written: Counter = field(repr=False)
    left: Gauge = field(repr=False)

    @staticmethod
    def counted(metrics: Metrics) -> Migration:
        """With counters among the operator's metrics."""
        return Migration(
            written=Counter(
                "hosted_cp_storage_migrated", "Objects written again in the stored version.", ["kind"],
                registry=metrics.registry,
            ),
            left=Gauge(
                "hosted_cp_storage_old_versions", "Versions, beside the current one, that objects may be stored in.",
                ["kind"], registry=metrics.registry,
            ),
        )  # fmt: skip


class Deposed(Exception):
    """We lead no longer."""


async def migrate(
    client: ApiClient, resource: Resource, *, definition: str, leadership: Leadership, progress: Migration
) -> None:
    """Write all objects of `resource` again, then take the other versions out of `status.storedVersions`.

    Returns early if we lead no longer. Raises the client's errors; begin anew then.
    """
    before = (await client.get(CRD, None, definition)).body
    stored = before["status"].get("storedVersions") or []
    others = [each for each in stored if each != resource.version]
    progress.left.labels(resource.kind).set(len(others))
    storage = [each["name"] for each in before["spec"]["versions"] if each.get("storage")]
    if not others or storage != [resource.version]:
        return
    log.info("objects of kind %s that are stored as %s are written again", resource.kind, ", ".join(others))
    count = 0
    try:
        async with aclosing(client.pages(resource, metadata_only=True)) as pages:
            async for page in pages:
                for raw in page.items:
                    await _write(client, resource, raw, leadership)
                    progress.written.labels(resource.kind).inc()
                    count += 1
                    await asyncio.sleep(PACE)
        if not leadership.held():
            raise Deposed
    except Deposed:
        return
    # With the version that was read before the first object: whoever has changed the definition since, has perhaps
    # changed what is stored.
    metadata = {"resourceVersion": before["metadata"]["resourceVersion"], "uid": before["metadata"]["uid"]}
    patch = {"metadata": metadata, "status": {"storedVersions": [resource.version]}}
    await client.merge_patch(CRD, None, definition, patch, subresource="status", manager=MANAGER)
    progress.left.labels(resource.kind).set(0)
    log.info("all %d objects of kind %s are stored as %s", count, resource.kind, resource.version)


async def _write(client: ApiClient, resource: Resource, raw: bytes, leadership: Leadership) -> None:
    seen = glimpse(raw)
    if not leadership.held():
        raise Deposed
    patch = {"metadata": {"uid": seen.uid, "resourceVersion": seen.resource_version}}
    # Gone, or written by somebody else since it was listed: nothing is left to do.
    with suppress(NotFound, Conflict):
        await client.merge_patch(resource, seen.namespace, seen.name, patch, manager=MANAGER)
