"""The status of a `K0smotronControlPlane`: what is said of its tenant, in the words of Cluster API's contract.

The tenant is reported in the words of `Cluster` (`hosted_cp.hosting.status`); here they are turned into the contract's,
and back, so that the tenant's planner reads what was said last. Added is what Cluster API shows and aggregates beyond
that: `Paused`, `RollingOut`, `ScalingUp`, `ScalingDown`, `Initialized` and `Deleting`, which are always there, and what
a user of Cluster API should know of the endpoint, the network and the form of the version.

Counters are written as zeros, too: Cluster API takes one that is absent for a change that is going on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hosted_cp.hosting import controllers, endpoint, rollouts
from hosted_cp.hosting.names import selector
from hosted_cp.hosting.tenant import Tenant
from hosted_cp.hosting.view import TenantView
from hosted_cp.k0s import capi_versions, versions
from hosted_cp.planning.conditions import Condition, merge
from hosted_cp.planning.observed import Observed

Status = Mapping[str, Any]

#: The annotation that pauses one object.
PAUSED = "cluster.x-k8s.io/paused"

#: The contract's word -> that of `Cluster`.
_COUNTERS = {
    "replicas": "replicas",
    "readyReplicas": "readyReplicas",
    "availableReplicas": "readyReplicas",
    "upToDateReplicas": "updatedReplicas",
}
_SAME = ("observedGeneration", "selector", "decisions", "certificates", "controlPlaneEndpoint", "externalAddress")


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An address of an API server, as Cluster API has it."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def initialized(owner: Observed) -> bool:
    """Whether the control plane has ever answered, as its status remembers."""
    return bool(owner.get("status", "initialization", "controlPlaneInitialized", default=False))


def in_words_of_cluster(said: Status) -> dict[str, Any]:
    """What was said of the tenant, as `Cluster` would have said it."""
    made = {key: said[key] for key in (*_SAME, "conditions") if key in said}
    made |= {theirs: said[ours] for ours, theirs in _COUNTERS.items() if ours in said and ours != "availableReplicas"}
    if "k0sVersion" in said:
        made["version"] = said["k0sVersion"]
    made["initialized"] = bool((said.get("initialization") or {}).get("controlPlaneInitialized"))
    return made


def _in_contract(view: TenantView, said: Status) -> dict[str, Any]:
    """What `in_words_of_cluster` turned, turned back, and what the contract always wants to be said."""
    made: dict[str, Any] = {key: said[key] for key in _SAME if key in said}
    made |= {ours: said.get(theirs, 0) for ours, theirs in _COUNTERS.items()}
    made.setdefault("selector", ",".join(f"{k}={v}" for k, v in sorted(selector(view.name, "cluster").items())))
    if "version" in said:
        made["k0sVersion"] = said["version"]
    made["initialization"] = {"controlPlaneInitialized": bool(said.get("initialized"))}
    made["externalManagedControlPlane"] = True
    return made


def paused(owner: Observed, *, now: datetime) -> dict[str, Any]:
    """The status as it is, and that nothing is done."""
    status = dict(owner.get("status", default={}))
    old = status.get("conditions") or []
    said = Condition(
        type="Paused",
        status="True",
        reason="Paused",
        message="the Cluster or this object says that nothing is to be done: set spec.paused of the Cluster to false,"
        f" and remove the annotation {PAUSED} from this object, to go on",
    )
    merged = merge(wanted=[said], old=old, generation=owner.generation, now=now)
    status["conditions"] = _laid_over(old, merged)
    return status


def of_unreadable(view: TenantView, said: Status) -> dict[str, Any]:
    """The status where the spec is not carried out: what was known stays, with what is said now."""
    owner = view.owner
    old = owner.get("status", "conditions", default=[])
    made = _in_contract(view, said)
    made |= {key: owner.get("status", key) for key in ("version", "versions") if owner.get("status", key)}
    always = [_not_paused()] + ([] if owner.deleting else [_not_deleting()])
    merged = merge(wanted=always, old=old, generation=owner.generation, now=view.now)
    made["conditions"] = _laid_over(said["conditions"], merged)
    return made


def of_tenant(
    t: Tenant, said: Status, *, version: capi_versions.Asked, given: Endpoint | None, moved: Sequence[str]
) -> dict[str, Any]:
    """The status of a control plane whose spec can be read.

    `version` is what the user asks for; `given` is the endpoint that he and Cluster API know; `moved` says in words
    which network ranges of the Cluster are not those of the control plane.
    """
    owner = t.view.owner
    made = _in_contract(t.view, said)
    running = running_versions(t)
    if running:
        made["version"] = running[0].text
        made["versions"] = [
            {"version": each.text, **({"replicas": each.replicas} if each.replicas else {})} for each in running
        ]
    own = [
        *_progress(t),
        _initialized(made),
        _not_paused(),
        _not_deleting(),
        _comparable(version),
        *_endpoint_stable(t, given),
        *_network_stable(t, moved),
    ]
    old = owner.get("status", "conditions", default=[])
    merged = merge(wanted=own, old=old, generation=owner.generation, now=t.view.now)
    made["conditions"] = _laid_over(said["conditions"], merged)
    return made


def _laid_over(under: Iterable[Mapping[str, Any]], over: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    types = {each["type"] for each in over}
    return [*(each for each in under if each["type"] not in types), *over]


# --- versions ---------------------------------------------------------------------------------------------------------


def running_versions(t: Tenant) -> tuple[capi_versions.Running, ...]:
    """What runs, oldest first, in the words in which it was asked for. Nothing before the API has ever answered.

    A controller runs a version when it is ready: workers of that version come next. While a change is on its way, what
    it comes from is always among what is told, also where its last pod is gone and the new one starts. Once the change
    is done it is forgotten (`Decisions.versionBefore`), and what was told does not fall back with a pod that restarts:
    not even if the decision could not be kept.

    There is always something: without pods at this moment, what they will come back as.
    """
    if not (t.view.initialized or endpoint.serving(t)):
        return ()
    live = controllers.seen(t)
    count, fresh = rollouts.number(live, "replicas"), rollouts.serving_anew(live)
    now, before = t.decisions, t.decisions.versionBefore
    if not before or t.view.owner.get("status", "version") == now.versionText:
        return capi_versions.report([_running(t, count)]) or (_running(t, 0),)
    old = capi_versions.Running(
        text=now.versionTextBefore or capi_versions.parse(before).kubelet,
        release=versions.parse(before),
        replicas=max(1, count - fresh),
    )
    return capi_versions.report([old, _running(t, fresh)])


def _running(t: Tenant, replicas: int) -> capi_versions.Running:
    return capi_versions.Running(text=t.decisions.versionText, release=t.version, replicas=replicas)


# --- conditions -------------------------------------------------------------------------------------------------------


def _progress(t: Tenant) -> list[Condition]:
    """What Cluster API aggregates: whether controllers are being replaced, added, taken away."""
    live = controllers.seen(t)
    has, fresh = rollouts.number(live, "replicas"), rollouts.number(live, "updatedReplicas")
    rolling = live is not None and has > 0 and (not rollouts.counted(live) or fresh < has)
    counts = f"from {has} to {t.replicas} controllers"
    return [
        Condition(
            type="RollingOut",
            status="True",
            reason="RollingOut",
            message=f"{min(fresh, has)} of {has} controllers run what is asked for",
        )
        if rolling
        else Condition(type="RollingOut", status="False", reason="NotRollingOut"),
        Condition(type="ScalingUp", status="True", reason="ScalingUp", message=counts)
        if has < t.replicas
        else Condition(type="ScalingUp", status="False", reason="NotScalingUp"),
        Condition(type="ScalingDown", status="True", reason="ScalingDown", message=counts)
        if has > t.replicas
        else Condition(type="ScalingDown", status="False", reason="NotScalingDown"),
    ]


def _initialized(made: Status) -> Condition:
    if made["initialization"]["controlPlaneInitialized"]:
        return Condition(type="Initialized", status="True", reason="Initialized")
    return Condition(
        type="Initialized", status="False", reason="NotInitialized", message="the API server has not answered yet"
    )


def _not_paused() -> Condition:
    return Condition(type="Paused", status="False", reason="NotPaused")


def _not_deleting() -> Condition:
    return Condition(type="Deleting", status="False", reason="NotDeleting")


def _comparable(version: capi_versions.Asked) -> Condition:
    advice = capi_versions.advice(version)
    if advice:
        return Condition(type="VersionComparable", status="False", reason="OtherForm", message=advice)
    return Condition(type="VersionComparable", status="True", reason="AsKubeletsReportIt")


def _endpoint_stable(t: Tenant, given: Endpoint | None) -> list[Condition]:
    if given is None or not t.decisions.exposed:
        return []
    serving = Endpoint(host=t.decisions.address, port=t.decisions.apiPort)
    if given == serving:
        return [Condition(type="EndpointStable", status="True", reason="EndpointUnchanged")]
    return [
        Condition(
            type="EndpointStable",
            status="False",
            reason="EndpointDiffers",
            message=f"the API server is at {serving}, but Cluster API and its clients were told {given}, and an"
            f" endpoint is told once: make {given} lead there, or ask for it in spec.externalAddress and"
            " spec.service.apiPort",
        )
    ]


def _network_stable(t: Tenant, moved: Sequence[str]) -> list[Condition]:
    if not moved or not t.former.version:
        return [Condition(type="NetworkStable", status="True", reason="NetworkUnchanged")]
    return [
        Condition(
            type="NetworkStable",
            status="False",
            reason="NetworkDiffers",
            message="the control plane was made with another network than spec.clusterNetwork of the Cluster has now: "
            f"{'; '.join(moved)}. Nodes and stored objects depend on it: change the Cluster back, or create another",
        )
    ]
