"""Pods for a thousand tenants: what a StatefulSet controller and a kubelet would say, written with the fewest requests.

The stand-in kubelet of the component tests plays pods faithfully, together with the real StatefulSet controller; for a
thousand tenants on two cores that is most of the work, and not the operator's. So here nobody schedules, binds or
starts anything: a StatefulSet's status says at once that all its replicas run, and only etcd's members exist as pods
(the operator looks at those), ready from their first status on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import orjson

from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.errors import ApiError
from hosted_cp.kube.resources import POD, STATEFUL_SET

REVISION = "played"


async def play(client: ApiClient, namespace: str, *, node: str, at_once: int = 16) -> None:
    """Play all StatefulSets of the namespace until cancelled."""
    turns = asyncio.Semaphore(at_once)
    played: dict[str, int] = {}
    async with asyncio.TaskGroup() as tasks:
        while True:
            try:
                async with aclosing(client.watch(STATEFUL_SET, namespace, since="0", timeout=600)) as events:
                    async for event in events:
                        if event.type not in ("ADDED", "MODIFIED"):
                            continue
                        body = orjson.loads(event.raw)
                        uid, generation = body["metadata"]["uid"], body["metadata"]["generation"]
                        if played.get(uid) != generation:
                            first = uid not in played
                            played[uid] = generation
                            tasks.create_task(_play(client, body, turns, node=node, first=first))
            except ApiError:
                await asyncio.sleep(0.2)  # the watch has ended; begun again it shows everything anew


async def _play(
    client: ApiClient, body: Mapping[str, Any], turns: asyncio.Semaphore, *, node: str, first: bool
) -> None:
    async with turns:
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        if first and body["metadata"]["labels"].get("component") == "etcd":
            for ordinal in range(body["spec"]["replicas"]):
                made = pod(body, ordinal, node=node)
                await client.create(POD, made, manager="bench")
                status = {"status": ready_status(made)}
                await client.merge_patch(
                    POD, namespace, made["metadata"]["name"], status, subresource="status", manager="bench"
                )
        status = {"status": rolled_out_status(body)}
        await client.merge_patch(STATEFUL_SET, namespace, name, status, subresource="status", manager="bench")


def pod(stateful_set: Mapping[str, Any], ordinal: int, *, node: str) -> dict[str, Any]:
    """The pod that the StatefulSet controller would make, already bound to a node."""
    owner, template = stateful_set["metadata"], stateful_set["spec"]["template"]
    name = f"{owner['name']}-{ordinal}"
    claims = [each["metadata"]["name"] for each in stateful_set["spec"].get("volumeClaimTemplates", ())]
    volumes = [
        *template["spec"].get("volumes", ()),
        *({"name": each, "persistentVolumeClaim": {"claimName": f"{each}-{name}"}} for each in claims),
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": owner["namespace"],
            "labels": {**template["metadata"]["labels"], "controller-revision-hash": REVISION},
            "annotations": template["metadata"].get("annotations", {}),
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1", "kind": "StatefulSet", "name": owner["name"], "uid": owner["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": {**template["spec"], "volumes": volumes, "nodeName": node, "hostname": name},
    }  # fmt: skip


def ready_status(made: Mapping[str, Any]) -> dict[str, Any]:
    """The status of a pod whose containers all run and are ready."""
    return {
        "phase": "Running",
        "conditions": [{"type": kind, "status": "True"} for kind in ("PodScheduled", "ContainersReady", "Ready")],
        "containerStatuses": [
            {
                "name": each["name"], "image": each["image"], "imageID": "", "ready": True, "restartCount": 0,
                "state": {"running": {}},
            }
            for each in made["spec"]["containers"]
        ],
    }  # fmt: skip


def rolled_out_status(stateful_set: Mapping[str, Any]) -> dict[str, Any]:
    """The status of a StatefulSet of which nothing is left to be rolled out."""
    replicas = stateful_set["spec"]["replicas"]
    return {
        **dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas", "currentReplicas"), replicas),
        "availableReplicas": replicas,
        "observedGeneration": stateful_set["metadata"]["generation"],
        "currentRevision": REVISION,
        "updateRevision": REVISION,
    }
