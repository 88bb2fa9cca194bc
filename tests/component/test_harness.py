"""The harness itself: what all other component tests stand on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import orjson

from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.resources import (
    PERSISTENT_VOLUME_CLAIM,
    POD,
    SECRET,
    SERVICE,
    STATEFUL_SET,
    Resource,
)
from tests.component.audit import Audit, summary
from tests.component.kubelet import CRASHING, NEVER_READY, READY, Behaviour, StandInKubelet


def stateful_set(namespace: str, name: str, *, replicas: int = 1, volumes: list[Any] | None = None) -> dict[str, Any]:
    """A small StatefulSet with a claim."""
    labels = {"app": name}
    container = {"name": "main", "image": "example.invalid/none:1"}
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "volumes": volumes or [], "terminationGracePeriodSeconds": 5},
            },
            "volumeClaimTemplates": [claim],
        },
    }


async def until(
    admin: ApiClient,
    resource: Resource,
    namespace: str,
    name: str,
    true: Callable[[dict[str, Any]], bool],
    *,
    seconds: float = 20.0,
) -> dict[str, Any]:
    """Watch one object until it is as wanted."""
    async with asyncio.timeout(seconds):
        watch = admin.watch(resource, namespace, since="0", fields=f"metadata.name={name}")
        async with aclosing(watch) as events:
            async for event in events:
                body: dict[str, Any] = orjson.loads(event.raw)
                if event.type in {"ADDED", "MODIFIED"} and true(body):
                    return body
    raise AssertionError("the watch ended")


async def until_gone(admin: ApiClient, resource: Resource, namespace: str, *, seconds: float = 20.0) -> None:
    """Watch until no object of the kind is left in the namespace."""
    left: set[str] = set()
    since = "0"
    async for page in admin.pages(resource, namespace):
        left |= {orjson.loads(item)["metadata"]["name"] for item in page.items}
        since = page.resource_version
    async with asyncio.timeout(seconds), aclosing(admin.watch(resource, namespace, since=since)) as events:
        while left:
            event = await anext(events)
            if event.type == "DELETED":
                left.discard(orjson.loads(event.raw)["metadata"]["name"])


async def test_pods_become_ready_and_go(admin: ApiClient, namespace: str, kubelet: StandInKubelet) -> None:
    await admin.create(STATEFUL_SET, stateful_set(namespace, "web", replicas=2))
    await until(admin, STATEFUL_SET, namespace, "web", lambda s: s["status"].get("readyReplicas") == 2)
    claims = await admin.list(PERSISTENT_VOLUME_CLAIM, namespace)
    assert [claim["status"]["phase"] for claim in claims] == ["Bound", "Bound"]
    await admin.delete(STATEFUL_SET, namespace, "web")
    await until_gone(admin, POD, namespace)


async def test_scripts_decide_what_pods_do(admin: ApiClient, namespace: str, kubelet: StandInKubelet) -> None:
    kubelet.script(namespace, "web-0", NEVER_READY)
    kubelet.script(namespace, "web-1", CRASHING)
    await admin.create(STATEFUL_SET, stateful_set(namespace, "web", replicas=2))

    def crashed(pod: dict[str, Any]) -> bool:
        statuses = pod["status"].get("containerStatuses", [{}])
        return bool(statuses[0].get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff")

    await until(admin, POD, namespace, "web-1", crashed)
    await until(admin, POD, namespace, "web-0", lambda pod: pod["status"].get("phase") == "Running")
    kubelet.script(namespace, "web-*", READY)
    await until(admin, STATEFUL_SET, namespace, "web", lambda s: s["status"].get("readyReplicas") == 2)
    kubelet.script(namespace, "web-1", Behaviour(ready_after=0.5))
    await until(admin, STATEFUL_SET, namespace, "web", lambda s: s["status"].get("readyReplicas") == 1)
    await until(admin, STATEFUL_SET, namespace, "web", lambda s: s["status"].get("readyReplicas") == 2)


async def test_a_pod_waits_for_its_secret(admin: ApiClient, namespace: str, kubelet: StandInKubelet) -> None:
    volume = {"name": "pki", "secret": {"secretName": "late"}}
    await admin.create(STATEFUL_SET, stateful_set(namespace, "web", volumes=[volume]))

    def waits(pod: dict[str, Any]) -> bool:
        statuses = pod["status"].get("containerStatuses", [{}])
        return 'secret "late" not found' in str(statuses[0].get("state", {}))

    await until(admin, POD, namespace, "web-0", waits)
    await admin.create(
        SECRET, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "late", "namespace": namespace}}
    )
    await until(admin, STATEFUL_SET, namespace, "web", lambda s: s["status"].get("readyReplicas") == 1)


async def test_a_claim_of_an_unknown_class_stays_pending(
    admin: ApiClient, namespace: str, kubelet: StandInKubelet
) -> None:
    body = stateful_set(namespace, "web")
    body["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"] = "none-such"
    await admin.create(STATEFUL_SET, body)

    def unschedulable(pod: dict[str, Any]) -> bool:
        return "unbound immediate" in str(pod["status"].get("conditions"))

    await until(admin, POD, namespace, "web-0", unschedulable)


async def test_the_audit_log_counts(admin: ApiClient, namespace: str, audit: Audit, kubelet: StandInKubelet) -> None:
    since = audit.mark()
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "lb", "namespace": namespace},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 6443}], "selector": {"app": "web"}},
    }
    await admin.create(SERVICE, service)
    kubelet.give_address(namespace, "lb", ip="203.0.113.7")
    found = await admin.get(SERVICE, namespace, "lb")
    assert found["status"]["loadBalancer"]["ingress"][0]["ip"] == "203.0.113.7"
    seen = audit.requests(since=since, user="admin", namespace=namespace, resource="services")
    assert summary(seen) == {"create services": 1, "get services": 1}
    assert [str(r) for r in audit.writes(since=since, user="admin", namespace=namespace)] == [
        f"create services {namespace}/lb -> 201"
    ]
