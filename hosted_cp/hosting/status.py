"""What is said about a tenant: the whole status, from the view alone.

Condition types are k0smotron's where it has one, so that whatever waits for them goes on working. `Available` is the
summary; when it is not True, its reason and message are those of the first thing in the way, with the remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from hosted_cp.api.problems import Problem
from hosted_cp.hosting import (
    authorities,
    brought_kubeconfig,
    certificates,
    controllers,
    endpoint,
    rollouts,
    service,
    unsupported,
)
from hosted_cp.hosting.etcd import store
from hosted_cp.hosting.names import selector
from hosted_cp.hosting.pods import causes, none_made
from hosted_cp.hosting.tenant import Tenant
from hosted_cp.hosting.view import TenantView
from hosted_cp.planning.actions import Event, Plan
from hosted_cp.planning.conditions import Cause, Condition, events, merge, of_problems, rfc3339
from hosted_cp.planning.observed import Observed


class Report(TypedDict):
    """The parts of a plan that report."""

    status: dict[str, Any]
    events: tuple[Event, ...]


def refused(view: TenantView, blocked: Cause | None) -> Plan:
    """Nothing is planned: another operator's tenant, or a spec that cannot be read. What runs goes on running."""
    cause = blocked or of_problems("SpecInvalid", view.problems)
    status = dict(view.said)
    running = view.initialized and blocked is None
    previous = {c.get("type"): c for c in status.get("conditions") or []}
    wanted = [
        Condition(type=c["type"], status=c["status"], reason=c["reason"], message=c.get("message", ""))
        for name, c in previous.items()
        if name not in ("Available", "SpecAccepted")
    ]
    accepted = Condition(type="SpecAccepted", status="False", reason=cause.reason, message=cause.message)
    available = Condition(type="Available", status="False", reason=cause.reason, message=cause.message)
    if running and (last := previous.get("Available")):
        # A refused change harms nothing: what was said about the running tenant stays true.
        available = Condition(
            type="Available", status=last["status"], reason=last["reason"], message=last.get("message", "")
        )
    return _plan_of(view, status, [available, *wanted, accepted])


def _plan_of(view: TenantView, status: dict[str, Any], wanted: Sequence[Condition]) -> Plan:
    report = _finish(view, status, wanted)
    return Plan(status=report["status"], events=report["events"])


def _finish(view: TenantView, status: dict[str, Any], wanted: Sequence[Condition], *, starting: bool = False) -> Report:
    old = view.said.get("conditions") or []
    merged = merge(wanted=wanted, old=old, generation=view.owner.generation, now=view.now)
    status["conditions"] = merged
    status["observedGeneration"] = view.owner.generation
    available = merged[0]
    status["deprecated"] = {
        "v1beta1": {
            "ready": available["status"] == "True",
            "reconciliationStatus": "Reconciliation successful"
            if available["status"] == "True"
            else f"{available['reason']}: {available['message']}"[:1024],
        }
    }
    return Report(status=status, events=events(merged=merged, old=old, starting=starting))


def report(t: Tenant, *, in_the_way: Cause | None, problems: Sequence[Problem], missing: Sequence[Problem]) -> Report:
    """Status and Events of a tenant whose spec can be read.

    `problems` are the spec's, `missing` is what it needs from others: Secrets.
    """
    live = controllers.seen(t)
    counted: dict[str, int] = {
        "replicas": rollouts.number(live, "replicas"),
        "readyReplicas": rollouts.number(live, "readyReplicas"),
        "updatedReplicas": rollouts.number(live, "updatedReplicas"),
    }
    status: dict[str, Any] = {
        **counted,
        "selector": ",".join(f"{k}={v}" for k, v in sorted(selector(t.name, "cluster").items())),
        "version": t.decisions.version,
        # Only when what follows the first answer is done as well, and whoever reads the kubeconfig gets in.
        "initialized": endpoint.initialized(t)
        or (endpoint.answered(t) and not t.view.failure and brought_kubeconfig.fault(t) is None),
        "decisions": {k: v for k, v in t.decisions.printed().items() if v},
        "certificates": _certificates(t),
    }
    if t.decisions.exposed:
        status["controlPlaneEndpoint"] = {
            "host": t.decisions.address,
            "port": t.decisions.apiPort,
            "konnectivityPort": t.decisions.konnectivityPort,
        }
        status["externalAddress"] = t.decisions.address
    cause = _cause(t, in_the_way=in_the_way, problems=problems, missing=missing)
    wanted = [
        _available(t, cause),
        _functional(t, cause),
        _kubeconfig(t),
        _exposed(t),
        _up_to_date(t, live),
        _scaling(t, live),
        _certificates_condition(t),
        _accepted(t, problems),
        *_address(t),
        *([healthy] if (healthy := store.condition(t)) is not None else []),
        *_reachable(t),
    ]
    return _finish(t.view, status, wanted, starting=cause is not None and cause.starting)


def _cause(
    t: Tenant, *, in_the_way: Cause | None, problems: Sequence[Problem], missing: Sequence[Problem]
) -> Cause | None:
    """The first thing that keeps the tenant from serving; None if it serves."""
    if in_the_way is not None:
        return in_the_way
    not_yet = unsupported.problems(t.spec)
    if not_yet:
        return of_problems("FieldNotSupported", not_yet)
    if _serves(t):
        # A refused change harms nothing: see SpecAccepted and ControlPlaneUpToDate.
        return brought_kubeconfig.fault(t)
    if problems:
        return of_problems("SpecInvalid", problems)
    if missing:
        return of_problems("SecretsMissing", missing)
    if t.view.failure:
        return Cause(reason="WriteFailed", message=_write_failed(t))
    if not t.decisions.exposed:
        return _no_address(t)
    if t.decisions.storage == "etcd" and not store.is_bootstrapped(t):
        return store.explain(t) or Cause(reason="EtcdStarting", message="etcd is starting", starting=True)
    return _pods(t)


def _serves(t: Tenant) -> bool:
    """Whether the API answers: the pods' readiness says so, and it has answered us once, if we can reach it at all."""
    return endpoint.serving(t) and (endpoint.answered(t) or not endpoint.reachable(t))


def _write_failed(t: Tenant) -> str:
    """What the API server said, with the remedy where it is known."""
    if "port is already allocated" in t.view.failure:
        return (
            f"{t.view.failure}; choose other ports in spec.service.apiPort and spec.service.konnectivityPort, or leave"
            " them out and free ones are allocated"
        )
    if "valid range" in t.view.failure and t.spec.service.type == "NodePort":
        return (
            f"{t.view.failure}; choose ports of that range in spec.service.apiPort and spec.service.konnectivityPort,"
            " or leave them out and free ones are allocated"
        )
    return f"{t.view.failure}; it is tried again"


def _no_address(t: Tenant) -> Cause:
    kind = t.spec.service.type
    if t.service is None:
        return Cause(reason="ServiceMissing", message=f"Service {t.service_name} does not exist yet", starting=True)
    if kind == "LoadBalancer":
        return Cause(
            reason="LoadBalancerPending",
            message=f"Service {t.service_name} has no load balancer address yet. If none comes, this cluster has"
            " nothing that gives addresses: set spec.service.type to NodePort, or spec.externalAddress",
        )
    if t.view.nodes is None:
        return Cause(
            reason="NoNodeAddress",
            message="the operator looks after single namespaces and reads no nodes: set spec.externalAddress to an"
            " address of a node that the clients of this control plane can reach",
        )
    return Cause(
        reason="NoNodeAddress",
        message="no node of this cluster has an address that could be published; set spec.externalAddress",
    )


def _pods(t: Tenant) -> Cause:
    mine = selector(t.name, "cluster")
    pods = [p for p in t.view.pods if all(p.labels.get(k) == v for k, v in mine.items())]
    claims = [
        c for c in t.view.claims if c.ref.name.startswith(f"{controllers.data_volume(t)}-{t.names.control_plane}-")
    ]
    found = causes(pods, claims, t.view.storage_classes)
    dialled = t.view.finding("dial", "datasource")
    if dialled is not None and not dialled.ok:
        return Cause(reason="DatabaseUnreachable", message=dialled.message)
    hard = next((cause for cause in found if not cause.starting), None) or none_made(controllers.seen(t), pods)
    if hard is not None:
        return hard
    if t.decisions.storage == "etcd" and (broken := store.explain(t)) is not None and not broken.starting:
        return broken
    if endpoint.serving(t):
        finding = t.view.finding("tenant-api", "initialized")
        said = f": {finding.message}" if finding else ""
        return Cause(reason="ControlPlaneStarting", message=f"the API server is being asked{said}", starting=True)
    return Cause(reason="ControlPlaneStarting", message="the control plane is starting", starting=True)


def _available(t: Tenant, cause: Cause | None) -> Condition:
    if cause is None:
        at = f"https://{service.url_host(t.decisions.address)}:{t.decisions.apiPort}"
        return Condition(type="Available", status="True", reason="Available", message=f"the API server answers at {at}")
    return Condition(type="Available", status="False", reason=cause.reason, message=cause.message)


def _functional(t: Tenant, cause: Cause | None) -> Condition:
    if _serves(t):
        return Condition(type="ControlPlaneFunctional", status="True", reason="KubeSystemNamespaceFound")
    reason = cause.reason if cause else "ControlPlaneStarting"
    return Condition(
        type="ControlPlaneFunctional", status="False", reason=reason, message=cause.message if cause else ""
    )


def _kubeconfig(t: Tenant) -> Condition:
    if t.view.own("Secret", t.names.kubeconfig) is not None:
        return Condition(type="KubeconfigSecretAvailable", status="True", reason="Created")
    if (wrong := brought_kubeconfig.fault(t)) is not None:
        return Condition(type="KubeconfigSecretAvailable", status="False", reason=wrong.reason, message=wrong.message)
    if brought_kubeconfig.seen(t) is not None:
        said = brought_kubeconfig.note(t)
        return Condition(type="KubeconfigSecretAvailable", status="True", reason="Brought", message=said)
    return Condition(
        type="KubeconfigSecretAvailable",
        status="False",
        reason="WaitingForAddress",
        message="made when the address is known",
    )


def _exposed(t: Tenant) -> Condition:
    if t.decisions.exposed:
        return Condition(type="ControlPlaneExposed", status="True", reason="ClusterWithExternalAddress")
    waiting = _no_address(t)
    return Condition(type="ControlPlaneExposed", status="False", reason=waiting.reason, message=waiting.message)


def _up_to_date(t: Tenant, live: Observed | None) -> Condition:
    kind = "ControlPlaneUpToDate"
    if t.refused:
        cause = of_problems("ChangeRefused", t.refused)
        return Condition(type=kind, status="False", reason=cause.reason, message=cause.message)
    if live is None:
        return Condition(type=kind, status="False", reason="NotFound", message="the StatefulSet does not exist yet")
    if t.view.failure:
        return Condition(type=kind, status="False", reason="WriteFailed", message=_write_failed(t))
    if not rollouts.counted(live) and rollouts.number(live, "observedGeneration"):
        # What it counts are replicas of the former template. (Of a new one there are none, counted or not.)
        said = "the StatefulSet controller has not seen the change yet"
        return Condition(type=kind, status="False", reason="NotAllReplicasUpToDate", message=said)
    if not controllers.rolled_out(t):
        done = rollouts.number(live, "updatedReplicas")
        return Condition(
            type=kind,
            status="False",
            reason="NotAllReplicasUpToDate",
            message=f"{done} of {t.replicas} replicas are up to date",
        )
    return Condition(type=kind, status="True", reason="AllReplicasUpToDate")


def _scaling(t: Tenant, live: Observed | None) -> Condition:
    kind = "ControlPlaneScaling"
    if live is None:
        return Condition(type=kind, status="False", reason="NotFound")
    has = rollouts.number(live, "replicas")
    if has == t.replicas:
        return Condition(type=kind, status="False", reason="ControlPlaneWithDesiredReplicas")
    reason = "ScalingUp" if has < t.replicas else "ScalingDown"
    note = ""
    if t.decisions.storage == "etcd" and t.decisions.etcdMembers != (3 if t.replicas > 1 else 1):
        note = f"; etcd keeps the {t.decisions.etcdMembers} member(s) it was created with"
    return Condition(type=kind, status="True", reason=reason, message=f"{has} of {t.replicas} replicas exist{note}")


def _certificates_condition(t: Tenant) -> Condition:
    kind = "CertificatesAvailable"
    of_authorities = authorities.problems(t)
    if of_authorities:
        cause = of_problems("AuthorityUnusable", of_authorities)
        return Condition(type=kind, status="False", reason=cause.reason, message=cause.message)
    if authorities.missing(t):
        return Condition(type=kind, status="False", reason="NotFound", message="certificate authorities are being made")
    return Condition(type=kind, status="True", reason="Created")


def _accepted(t: Tenant, problems: Sequence[Problem]) -> Condition:
    everything = [*unsupported.problems(t.spec), *problems, *t.refused, *store.problems(t)]
    if everything:
        reason = (
            "FieldNotSupported" if unsupported.problems(t.spec) else "ChangeRefused" if t.refused else "SpecInvalid"
        )
        cause = of_problems(reason, everything)
        return Condition(type="SpecAccepted", status="False", reason=cause.reason, message=cause.message)
    return Condition(type="SpecAccepted", status="True", reason="Accepted")


def _address(t: Tenant) -> list[Condition]:
    if not t.decisions.exposed:
        return []
    if t.drifted:
        cause = of_problems("AddressDrifted", t.drifted)
        return [Condition(type="AddressStable", status="False", reason=cause.reason, message=cause.message)]
    return [Condition(type="AddressStable", status="True", reason="AddressUnchanged")]


def _reachable(t: Tenant) -> list[Condition]:
    if not endpoint.serving(t):
        return []
    if not endpoint.reachable(t):
        return [
            Condition(
                type="TenantReachable",
                status="False",
                reason="OperatorOutsideCluster",
                message=f"{service.in_cluster_url(t)} cannot be reached from where the operator runs; join tokens wait."
                " Run the operator in the cluster",
            )
        ]
    if endpoint.answered(t):
        return [Condition(type="TenantReachable", status="True", reason="Answered")]
    return []


def _certificates(t: Tenant) -> list[dict[str, str]]:
    """Name, expiry and renewal of everything we signed and will renew."""
    listed = []
    for purpose in [*(f"{p}" for p in certificates.recipes(t))]:
        seen = t.view.own("Secret", t.names.secret(purpose))
        facts = seen.secret.certificates.get("tls.crt") if seen and seen.secret else None
        if facts is not None:
            listed.append({"name": purpose, "expires": rfc3339(facts.not_after)})
    for purpose in ("ca", "proxy", "etcd"):
        facts = authorities.certificate(t, purpose) if purpose in authorities.purposes(t) else None
        if facts is not None:
            listed.append({"name": purpose, "expires": rfc3339(facts.not_after)})
    seen = t.view.own("Secret", t.names.kubeconfig) or brought_kubeconfig.seen(t)
    config = seen.secret.kubeconfigs.get("value") if seen and seen.secret else None
    if config is not None and config.client is not None:
        listed.append({"name": "kubeconfig", "expires": rfc3339(config.client.not_after)})
    return sorted(listed, key=lambda each: each["name"])
