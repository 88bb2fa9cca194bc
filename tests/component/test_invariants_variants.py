"""Every golden variant on a real API server, through the whole operator: it comes to rest, and asked again it writes
nothing. What the server makes of a value (`1000m` becomes `1`, `0.5Gi` becomes `512Mi`) is no reason to write.

All tenants at once, one operator for each kind of settings, since settings are an operator's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from hosted_cp.hosting.settings import Settings
from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.material import Sources
from hosted_cp.kube.resources import CLUSTER, NAMESPACE, SERVICE, SERVICE_ACCOUNT, STATEFUL_SET, Resource
from hosted_cp.operator import Operator
from hosted_cp.pki.recipes import CARecipe, KeyPairRecipe
from tests.component.hosting import CATALOGUE, Object, Stage
from tests.hosting.variants import VARIANTS, Variant

PRIORITY_CLASS = Resource(
    group="scheduling.k8s.io", version="v1", kind="PriorityClass", plural="priorityclasses", namespaced=False
)

#: Everything that a quantity can look like, wherever a spec takes one.
HOSTILE = Variant(
    spec={
        "resources": {
            "limits": {"cpu": "1000m", "memory": "0.5Gi", "ephemeral-storage": "1e9", "hugepages-2Mi": "4096Ki"},
            "requests": {"cpu": "0.1", "memory": "128e6", "ephemeral-storage": "1000M", "hugepages-2Mi": "4Mi"},
        },
        "storage": {
            "type": "etcd",
            "etcd": {
                "persistence": {"size": "1024Mi"},
                "resources": {"limits": {"cpu": "2000m", "memory": "1e9"}, "requests": {"cpu": "1e-1"}},
            },
        },
        "persistence": {
            "type": "pvc",
            "persistentVolumeClaim": {"spec": {"resources": {"requests": {"storage": "0.5Gi"}}}},
        },
        "mounts": [{"path": "/scratch", "emptyDir": {"sizeLimit": "1024Ki", "medium": ""}}],
    }
)
TENANTS: Mapping[str, Variant] = {
    **{name.replace(".", "-"): variant for name, variant in VARIANTS.items()},
    "hostile": HOSTILE,
}

#: Fixed node ports belong to the whole cluster: these are from the part of the range that is never given at random.
_NODE_PORTS = {"type": "NodePort", "apiPort": 30043, "konnectivityPort": 30032}


def spec_of(name: str, variant: Variant) -> Object:
    return {**variant.spec, "service": _NODE_PORTS} if name == "node-ports" else variant.spec


async def brought(key: str) -> Mapping[str, bytes]:
    """A CA or a key pair as a user brings it, made now."""
    recipe = KeyPairRecipe() if key.endswith("sa") else CARecipe(common_name=f"brought {key}")
    return await Sources(now=lambda: datetime.now(UTC)).fulfil(recipe, {})


async def prepare(stage: Stage, name: str, variant: Variant) -> None:
    """What the variant takes for granted."""
    for secret, data in variant.secrets.items():
        material = await brought(secret) if "tls.crt" in data else data
        await stage.secret(secret.replace("demo-", f"{name}-"), material)
        if secret == "our-ca":
            await stage.secret(f"{name}-ca", material)  # where the stand-in tenant looks
    for secret in {"manifests": ["stack"], "mounts": ["extra"]}.get(name, []):
        await stage.secret(secret, {"key": b"value"})
    if account := variant.spec.get("serviceAccount"):
        metadata = {"name": account, "namespace": stage.namespace}
        body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
        await stage.admin.create(SERVICE_ACCOUNT, body)


def looked_at(operator: Operator) -> float:
    """How many reconciles there were."""
    lines = operator.metrics.text().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("hosted_cp_reconcile_seconds_count"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("applied", [False, pytest.param(True, marks=pytest.mark.sweep)])
async def test_every_variant_comes_to_rest_and_writes_nothing_the_second_time(stage: Stage, applied: bool) -> None:
    """With `applied` also after every object of theirs was changed once, so that it is one of server-side apply."""
    groups: dict[frozenset[tuple[str, object]], dict[str, Variant]] = {}
    for name, variant in TENANTS.items():
        groups.setdefault(frozenset(variant.settings.items()), {})[name] = variant
    await _priority_class(stage.admin, "control-planes")
    stages: list[tuple[Stage, dict[str, Variant]]] = []
    for number, (settings, variants) in enumerate(groups.items()):
        namespace = stage.namespace if not number else f"{stage.namespace}-{number}"
        if number:
            await stage.admin.create(
                NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
            )
        made = Settings(catalogue=CATALOGUE, privileged_namespaces=frozenset({namespace}), **dict(settings))  # type: ignore[arg-type]
        stages.append((replace(stage, namespace=namespace, settings=made), variants))
    for each, variants in stages:
        await asyncio.gather(*(prepare(each, name, variant) for name, variant in variants.items()))

    async with AsyncExitStack() as stack:
        operators = [await stack.enter_async_context(each.operating()) for each, _ in stages]
        for each, variants in stages:
            for name, variant in variants.items():
                await each.create(name, spec_of(name, variant), **variant.metadata)
        balanced = [
            name for name in stages[0][1] if TENANTS[name].spec.get("service", {}).get("type") == "LoadBalancer"
        ]
        await stage.until(SERVICE, [f"kmc-{name}-lb" for name in balanced], bool)
        for number, name in enumerate(balanced):
            stage.kubelet.give_address(stage.namespace, f"kmc-{name}-lb", ip=f"192.0.2.{100 + number}")
        for each, variants in stages:
            await each.available(*variants)
        for (each, _), operator in zip(stages, operators, strict=True):
            await each.rest(operator)

        if applied:
            for each, variants in stages:
                for name in variants:
                    await each.admin.merge_patch(
                        CLUSTER, each.namespace, name, {"metadata": {"labels": {"new": "yes"}}}
                    )
            for (each, _), operator in zip(stages, operators, strict=True):
                await each.rest(operator)
                owned = await each.admin.list(STATEFUL_SET, each.namespace)
                assert {body["metadata"]["labels"]["new"] for body in owned} == {"yes"}
                await each.available(*[body["metadata"]["labels"]["cluster"] for body in owned])
                await each.rest(operator)

        # Asked again: the planner looks at every tenant anew.
        since = stage.audit.mark()
        before = [looked_at(operator) for operator in operators]
        await touch(stages)
        for (each, variants), operator, looks in zip(stages, operators, before, strict=True):
            await each.rest(operator)
            assert looked_at(operator) >= looks + len(variants)
            assert each.spent(since, without=("watch",)) == {}, [str(r) for r in each.requests(since)][:20]

    # And by an operator that knows nothing of what it wrote.
    since = stage.audit.mark()
    async with AsyncExitStack() as stack:
        for each, variants in stages:
            operator = await stack.enter_async_context(each.operating())
            await each.rest(operator)
            assert looked_at(operator) >= len(variants)
            assert each.spent(since, without=("list", "watch")) == {}, [str(r) for r in each.requests(since)][:20]
    for each, _ in stages[1:]:
        await stage.admin.delete(NAMESPACE, None, each.namespace)


async def touch(stages: list[tuple[Stage, dict[str, Variant]]]) -> None:
    """Change something about every Cluster that means nothing."""
    touched = {"metadata": {"annotations": {"kubectl.kubernetes.io/touched": datetime.now(UTC).isoformat()}}}
    for each, variants in stages:
        for name in variants:
            await each.admin.merge_patch(CLUSTER, each.namespace, name, touched, manager="somebody")


async def _priority_class(admin: ApiClient, name: str) -> None:
    body = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": 1000}
    await admin.create(PRIORITY_CLASS, body)
