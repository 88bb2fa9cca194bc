"""What a cluster with workers keeps to by itself: its owners, its pause, and its own namespace.

For control planes alone see `test_control_planes.py` (B11, B12); for all that a topology makes, at rest,
`test_cluster_class.py`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from e2e.capi import core
from hosted_cp.kube.resources import (
    CONTROL_PLANE,
    CORE_CLUSTER,
    MACHINE,
    SECRET,
    SERVICE,
    STATEFUL_SET,
    WORKER_CONFIG,
)
from tests.component.capi import CapiStage, status_of
from tests.component.hosting import Object
from tests.component.test_capi_deletion import manifest, of_cluster
from tests.component.workers import DEPLOYMENT, data_of, known_tokens, made, provisioned, token_of


@pytest.fixture
def stage(capi_stage: CapiStage) -> CapiStage:
    return capi_stage


async def living(stage: CapiStage) -> list[str]:
    """The cluster `a` with two workers; returns the names of their configs."""
    await stage.serving("a")
    await stage.until(DEPLOYMENT, ["a"], lambda b: b.get("status", {}).get("replicas") == 2)
    machines = await of_cluster(stage, MACHINE, "a")
    await stage.until(MACHINE, machines, provisioned)
    await stage.until(WORKER_CONFIG, machines, made)
    return machines


def create(stage: CapiStage) -> None:
    stage.server.kubectl("create", "-f", "-", stdin=core.as_yaml(manifest(stage, "a")))


async def test_owners_are_named_in_the_version_of_today(stage: CapiStage) -> None:
    """B12: a reference that names a former version of our kinds is repaired, as core wants it after an upgrade."""
    async with stage.operating() as operator:
        create(stage)
        await living(stage)
        await stage.rest(operator)
        hit: list[tuple[Any, str, Object]] = []
        for resource in (SERVICE, SECRET, STATEFUL_SET):
            for body in await stage.admin.list(resource, stage.namespace):
                [owner] = body["metadata"].get("ownerReferences") or [{"kind": ""}]
                if owner["kind"] in (CONTROL_PLANE.kind, WORKER_CONFIG.kind):
                    hit.append((resource, body["metadata"]["name"], owner))
        assert {owner["kind"] for _, _, owner in hit} == {CONTROL_PLANE.kind, WORKER_CONFIG.kind}
        for resource, name, owner in hit:
            former = {**owner, "apiVersion": f"{owner['apiVersion'].partition('/')[0]}/v1beta1"}
            change = {"metadata": {"ownerReferences": [former]}}
            await stage.admin.merge_patch(resource, stage.namespace, name, change, manager="somebody")
        for resource, name, owner in hit:
            await stage.until(resource, [name], partial(_owned_by, [owner]))


def _owned_by(owners: list[Object], body: Object) -> bool:
    return bool(body["metadata"].get("ownerReferences") == owners)


async def test_two_clusters_of_one_name_keep_their_workers_apart(capi_stages: tuple[CapiStage, CapiStage]) -> None:
    one, two = capi_stages
    async with one.operating(namespaces=(one.namespace, two.namespace)) as operator:
        for each in capi_stages:
            create(each)
        workers = [await living(each) for each in capi_stages]
        for stage, names in zip(capi_stages, workers, strict=True):
            known = known_tokens(stage)
            assert len(known) == 2
            for name in names:
                token = token_of(await data_of(stage, name))
                assert known[token.id] == token.secret
        kept = await two.inventory()
        await one.admin.delete(CORE_CLUSTER, one.namespace, "a")
        await one.until(CORE_CLUSTER, ["a"], lambda b: not b)
        await one.rest(operator)
        now = await two.inventory()
        ours = {name for name in kept if not name.startswith(("Cluster.", "Machine"))}  # core reports on those
        assert {name: now.get(name) for name in ours} == {name: kept[name] for name in ours}
        assert len(known_tokens(two)) == 2


async def test_a_pause_holds_workers_and_ends_within_seconds(stage: CapiStage) -> None:
    async with stage.operating() as operator:
        create(stage)
        names = await living(stage)
        await stage.rest(operator)
        await stage.change_cluster("a", paused=True)
        await stage.until(WORKER_CONFIG, names, lambda b: status_of(b, "Paused") == "True")
        await stage.rest(operator)
        since = stage.audit.mark()
        # What would be mended otherwise.
        bare = {"metadata": {"labels": None, "ownerReferences": None}}
        await stage.admin.merge_patch(SECRET, stage.namespace, names[0], bare, manager="somebody")
        await stage.rest(operator)
        assert stage.spent(since, without=("watch",)) == {}
        await stage.change_cluster("a", paused=None)
        await stage.until(WORKER_CONFIG, names, lambda b: status_of(b, "Paused") == "False", seconds=10.0)
        await stage.until(SECRET, names[:1], lambda b: bool(b["metadata"].get("ownerReferences")), seconds=10.0)
