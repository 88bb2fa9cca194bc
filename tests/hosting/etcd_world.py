"""Views of tenants with etcd, made by hand: which permit, pods, volumes and StatefulSets were seen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from hosted_cp.api.cluster import ClusterSpec
from hosted_cp.hosting.names import TENANT_UID, Names, selector
from hosted_cp.hosting.settings import Settings
from hosted_cp.hosting.tenant import Tenant, tenant
from hosted_cp.hosting.view import TenantView
from hosted_cp.pki.facts import secret_facts
from hosted_cp.planning.actions import Ref
from hosted_cp.planning.observed import Observed
from hosted_cp.planning.recipes import Inputs, Recipe, kept_by

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
UID = "6b1f0d5e-0000-4000-8000-000000000001"
FORMER_UID = "6b1f0d5e-0000-4000-8000-00000000000f"
STS_UID = "6b1f0d5e-0000-4000-8000-000000000002"
REVISION = "kmc-demo-etcd-7f8d9c"
NAMES = Names("demo")

CATALOGUE: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "k0s_images" / "catalogue.json").read_text(encoding="utf-8")
)


def observed(
    kind: str,
    name: str,
    *,
    uid: str = "",
    owner: str = UID,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
    data: Mapping[str, bytes] | None = None,
    generation: int = 1,
    deleting: bool = False,
) -> Observed:
    api_version = {"StatefulSet": "apps/v1", "Cluster": "k0smotron.io/v1beta2"}.get(kind, "v1")
    return Observed(
        ref=Ref(api_version=api_version, kind=kind, namespace="tenants", name=name),
        uid=uid or f"uid-of-{kind}-{name}",
        resource_version="7",
        generation=generation,
        deleting=deleting,
        labels=labels or {},
        annotations=annotations or {},
        controller_uid=owner,
        secret=secret_facts(type="Opaque", data=data) if data is not None else None,
        raw=orjson.dumps(body or {}),
    )


def inputs(*, seed: int = 1) -> Inputs:
    def no_key(algorithm: str) -> Any:
        raise AssertionError(f"a permit needs no {algorithm} key")

    return Inputs(now=NOW, entropy=lambda n: bytes([seed]) * n, new_key=no_key, secrets={})


def permit_data(recipe: Recipe | None, *, kept: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """What the executor would write for this recipe, over what was there."""
    assert recipe is not None
    there = {key: value for key, value in (kept or {}).items() if key in kept_by(recipe)}
    return {**there, **recipe.fulfil(inputs())}


def permit_secret(data: Mapping[str, bytes], *, owner: str = UID) -> Observed:
    return observed("Secret", NAMES.etcd_permit, data=data, owner=owner)


def stateful_set(
    *,
    members: int = 1,
    image: str = "quay.io/k0sproject/etcd:v3.6.14",
    size: str = "1Gi",
    storage_class: str | None = None,
    generation: int = 1,
    observed_generation: int = 1,
    revision: str = REVISION,
    deleting: bool = False,
) -> Observed:
    claim: dict[str, Any] = {"resources": {"requests": {"storage": size}}}
    if storage_class:
        claim["storageClassName"] = storage_class
    body = {
        "spec": {
            "replicas": members,
            "template": {"spec": {"containers": [{"name": "etcd", "image": image}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "etcd-data"}, "spec": claim}],
        },
        "status": {"observedGeneration": observed_generation, "updateRevision": revision},
    }
    return observed("StatefulSet", NAMES.etcd, uid=STS_UID, body=body, generation=generation, deleting=deleting)


def pod(
    ordinal: int,
    *,
    ready: bool = True,
    owner: str = STS_UID,
    revision: str = REVISION,
    status: Mapping[str, Any] | None = None,
    deleting: bool = False,
) -> Observed:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return observed(
        "Pod",
        f"{NAMES.etcd}-{ordinal}",
        owner=owner,
        labels={**selector("demo", "etcd"), "controller-revision-hash": revision},
        body={"status": {"conditions": conditions, **(status or {})}},
        deleting=deleting,
    )


def refused_pod(ordinal: int, message: str, *, waiting: bool = True) -> Observed:
    """A pod whose init step ended with this message, in back-off or just ended."""
    ended = {"terminated": {"exitCode": 1, "message": message}}
    status = {"name": "permit", "state": ended}
    if waiting:
        status = {"name": "permit", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended}
    return pod(ordinal, ready=False, status={"initContainerStatuses": [status]})


def claim(
    ordinal: int,
    *,
    tenant_uid: str | None = UID,
    annotations: Mapping[str, str] | None = None,
    phase: str = "Bound",
) -> Observed:
    return observed(
        "PersistentVolumeClaim",
        f"etcd-data-{NAMES.etcd}-{ordinal}",
        owner="",
        labels={TENANT_UID: tenant_uid} if tenant_uid else {},
        annotations=annotations,
        body={"status": {"phase": phase}},
    )


def a_tenant(
    *children: Observed,
    pods: Iterable[Observed] = (),
    claims: Iterable[Observed] = (),
    settings: Settings | None = None,
    **spec: Any,
) -> Tenant:
    """The tenant `demo`; `spec` in the words of the manifest (camelCase)."""
    parsed = ClusterSpec.model_validate(spec)
    owner = observed("Cluster", "demo", uid=UID, owner="", labels={"team": "blue"})
    view = TenantView(
        now=NOW,
        owner=owner,
        name="demo",
        spec=parsed,
        settings=settings or Settings(catalogue=CATALOGUE),
        children={(each.ref.kind, each.ref.name): each for each in children},
        pods=tuple(pods),
        claims=tuple(claims),
    )
    return tenant(view, parsed)
