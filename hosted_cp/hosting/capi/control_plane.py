"""The plan of one `K0smotronControlPlane`: the plan of its tenant, and what Cluster API's contract asks for beyond it.

The tenant is planned as a `Cluster`'s is, from a view that says what differs. Its name is the Cluster's of Cluster API,
never the control plane's own, which a topology makes up. Where the user left the network ranges open, the Cluster's
count. Versions are asked for and reported in Cluster API's words (`hosted_cp.k0s.capi_versions`).

The order is the contract's: nothing at all before the owner is there, then the finalizer, then the pause. Nothing is
ever written to the Cluster, to its infrastructure, or to `spec.version`. The one field of a spec that is ours to write
is `spec.controlPlaneEndpoint`: once, when the decision about the address has been kept. An endpoint that the user or
the infrastructure provides is taken for a wish and stays as it is.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hosted_cp.api import control_plane_checks
from hosted_cp.api.cluster import Network
from hosted_cp.api.control_plane import K0smotronControlPlaneSpec
from hosted_cp.api.problems import Problem
from hosted_cp.hosting import plan
from hosted_cp.hosting.capi import cluster_ties, contract_status
from hosted_cp.hosting.capi.contract_status import PAUSED, Endpoint
from hosted_cp.hosting.names import TENANT_UID
from hosted_cp.hosting.tenant import Decisions, Tenant, asked_of, decided
from hosted_cp.hosting.view import TenantView
from hosted_cp.k0s import capi_versions, versions
from hosted_cp.planning.actions import PatchMetadata, Plan, PublishEndpoint
from hosted_cp.planning.observed import Observed

#: k0smotron's name.
FINALIZER = "k0smotron.controlplane.cluster.x-k8s.io"
#: Keeps `clusterctl move` from taking the object away from under its pods and volumes.
BLOCK_MOVE = "clusterctl.cluster.x-k8s.io/block-move"
CLUSTER_LABEL = "cluster.x-k8s.io/cluster-name"

_CORE_GROUP = "cluster.x-k8s.io"
_CONFIG = {"apiVersion": "k0s.k0sproject.io/v1beta1", "kind": "ClusterConfig"}


@dataclass(frozen=True, kw_only=True)
class ControlPlaneView:
    """Everything that one reconcile of a control plane may know."""

    #: What is known of its tenant, except for the spec and what was reported: these are made of what follows.
    tenant: TenantView
    spec: K0smotronControlPlaneSpec | None
    #: The Cluster that owns it, as far as it is followed; None if there is none.
    cluster: Observed | None


def owner_of(owner: Observed) -> Mapping[str, Any] | None:
    """The owner reference to a Cluster of Cluster API, of whatever version."""
    for each in owner.owner_references:
        if each.get("kind") == "Cluster" and str(each.get("apiVersion")).partition("/")[0] == _CORE_GROUP:
            return each
    return None


def tenant_name(owner: Observed) -> str:
    """The name of the tenant: its Cluster's; "" as long as nobody has said which that is."""
    cluster = owner_of(owner)
    return str(cluster["name"]) if cluster is not None else owner.labels.get(CLUSTER_LABEL, "")


def plan_of(view: ControlPlaneView) -> Plan:
    """What to do for a control plane, and what to say about it."""
    owner = view.tenant.owner
    if not owner.deleting and view.cluster is None:
        return Plan()
    paused = _paused(view)
    claim = _claim(view, paused=paused)
    if claim is not None:
        return Plan(actions=(claim,))
    if paused:
        return Plan(status=contract_status.paused(owner, now=view.tenant.now))
    hosted = as_tenant(view)
    t = plan.readable(hosted)
    if not isinstance(t, Tenant):
        said = t.status
        return t if said is None else _with_ties(view, replace(t, status=contract_status.of_unreadable(hosted, said)))
    made = plan.of_tenant(t)
    publish = _publish(view, t) if not made.actions else ()
    report = None
    if made.status is not None:
        report = contract_status.of_tenant(
            t,
            made.status,
            version=_asked(view, t.former),
            given=_given(view),
            moved=tuple(_moved_ranges(view, t.former)),
        )
    whole = replace(made, actions=(*made.actions, *publish), status=report, last_word=made.last_word and not publish)
    return _with_ties(view, whole)


def _with_ties(view: ControlPlaneView, made: Plan) -> Plan:
    return cluster_ties.with_ties(made, owner=view.tenant.owner, cluster=view.cluster, now=view.tenant.now)


def _paused(view: ControlPlaneView) -> bool:
    of_cluster = view.cluster is not None and bool(view.cluster.get("spec", "paused", default=False))
    return of_cluster or PAUSED in view.tenant.owner.annotations


def _claim(view: ControlPlaneView, *, paused: bool) -> PatchMetadata | None:
    """Our marks on the control plane: the finalizer always, the other until the user may have his reasons against it.

    A control plane that is paused may be just being moved here, or away: it gets the finalizer alone.
    """
    owner = view.tenant.owner
    if owner.deleting:
        return None
    held = FINALIZER in owner.finalizers
    marked = paused or BLOCK_MOVE in owner.annotations or contract_status.initialized(owner)
    if held and marked:
        return None
    return PatchMetadata(
        ref=owner.ref,
        uid=owner.uid,
        resource_version=owner.resource_version,
        annotations={} if marked else {BLOCK_MOVE: ""},
        finalizers=None if held else (*owner.finalizers, FINALIZER),
    )


# --- the tenant's view ------------------------------------------------------------------------------------------------


def as_tenant(view: ControlPlaneView) -> TenantView:
    """The view from which the tenant is planned."""
    seen, spec = view.tenant, view.spec
    seen = replace(
        seen,
        children={key: _with_its_owner(child, seen.owner.uid) for key, child in seen.children.items()},
        named_by=f"Cluster {seen.name}",
        read_by_core=True,
        finalizer=FINALIZER,
        reported=contract_status.in_words_of_cluster(seen.owner.get("status", default={})),
        gives_way=False,
    )
    if spec is None:
        return seen
    problems = (*seen.problems, *_problems(view, spec))
    if problems:
        return replace(seen, problems=problems)
    former = decided(seen)
    asked = _asked(view, former)
    release = capi_versions.release(asked, catalogue=seen.settings.catalogue, decided=former.version)
    wanted = _exposed(view, spec, former)
    wanted = wanted.model_copy(
        update={"version": str(release), "k0s_config": _with_ranges(spec.k0s_config, view, former)}
    )
    return replace(seen, spec=wanted, version_text=asked.text)


def _with_its_owner(child: Observed, uid: str) -> Observed:
    """A child whose owner reference somebody has stripped is known by its label, so that the reference comes back: by
    core's rules it has to (a backup that is restored loses them). What has a controller is never taken from it."""
    if child.controller_uid or child.labels.get(TENANT_UID) != uid:
        return child
    return replace(child, controller_uid=uid)


def _problems(view: ControlPlaneView, spec: K0smotronControlPlaneSpec) -> Iterator[Problem]:
    yield from control_plane_checks.version_problems(spec.version, support=capi_versions.support_problem)
    yield from control_plane_checks.endpoint_problems(spec)
    network = _network_of(spec.k0s_config)
    if network is not None:
        yield from _network_problems(view, network)


def _asked(view: ControlPlaneView, former: Decisions) -> capi_versions.Asked:
    """The version in the user's words; where he has none, in those in which the decision is best said."""
    text = view.spec.version if view.spec is not None else None
    if text:
        return capi_versions.parse(text)
    decision = former.version or versions.default(view.tenant.settings.catalogue)
    return capi_versions.parse(former.versionText or capi_versions.parse(decision).kubelet)


# --- the endpoint -----------------------------------------------------------------------------------------------------


def _given(view: ControlPlaneView) -> Endpoint | None:
    """The endpoint that stands in the control plane or, before that, in the Cluster."""
    for each in (view.tenant.owner, view.cluster):
        host = each.get("spec", "controlPlaneEndpoint", "host") if each is not None else None
        port = each.get("spec", "controlPlaneEndpoint", "port") if each is not None else None
        if host and port:
            return Endpoint(host=str(host), port=int(port))
    return None


def _exposed(view: ControlPlaneView, spec: K0smotronControlPlaneSpec, former: Decisions) -> K0smotronControlPlaneSpec:
    """The spec with an endpoint that others gave as what the user wishes.

    It counts if it was there before anything was decided: then the decision says so, for good. What stands there later
    is what we have written, or too late: Cluster API does not follow a second endpoint, and neither do workers.
    """
    given = _given(view)
    if given is None:
        return spec
    wished = _wishing(spec, Endpoint(host=former.address, port=former.apiPort) if former.exposed else given)
    return wished if not former.exposed or asked_of(wished) == former.asked else spec


def _wishing(spec: K0smotronControlPlaneSpec, endpoint: Endpoint) -> K0smotronControlPlaneSpec:
    service = spec.service
    if service.api_port is None:
        service = service.model_copy(update={"api_port": endpoint.port})
    return spec.model_copy(update={"external_address": spec.external_address or endpoint.host, "service": service})


def _publish(view: ControlPlaneView, t: Tenant) -> tuple[PublishEndpoint, ...]:
    """Say where the API is, once it is decided for good; never where somebody has said so."""
    if _given(view) is not None or not t.address_settled or t.view.failure:
        return ()
    owner = view.tenant.owner
    return (
        PublishEndpoint(
            ref=owner.ref,
            uid=owner.uid,
            resource_version=owner.resource_version,
            host=t.decisions.address,
            port=t.decisions.apiPort,
        ),
    )


# --- the network ------------------------------------------------------------------------------------------------------


def _blocks(view: ControlPlaneView, what: str) -> Sequence[str]:
    found = view.cluster.get("spec", "clusterNetwork", what, "cidrBlocks") if view.cluster is not None else None
    return [str(each) for each in found or ()]


def _ip_version(block: str) -> int | None:
    try:
        return ipaddress.ip_network(block, strict=False).version
    except ValueError:
        return None


def _ranges(view: ControlPlaneView) -> dict[str, str]:
    """What the Cluster says of the network, in the words of k0s: of each kind of range the first IPv4 one."""
    found = {
        "podCIDR": next((block for block in _blocks(view, "pods") if _ip_version(block) == 4), ""),
        "serviceCIDR": next((block for block in _blocks(view, "services") if _ip_version(block) == 4), ""),
    }
    if view.cluster is not None:
        found["clusterDomain"] = str(view.cluster.get("spec", "clusterNetwork", "serviceDomain") or "")
    return {field: value for field, value in found.items() if value}


def _decided_ranges(former: Decisions) -> dict[str, str]:
    return {
        "podCIDR": former.podCIDR,
        "serviceCIDR": former.serviceCIDR,
        "clusterDomain": former.clusterDomain,
    }


def _ranges_of(network: Network) -> dict[str, str]:
    return {
        "podCIDR": network.pod_cidr,
        "serviceCIDR": network.service_cidr,
        "clusterDomain": network.cluster_domain,
    }


def _network_of(config: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """`spec.network` of a k0s config; None if it is of a wrong type, which is said elsewhere."""
    spec = (config or {}).get("spec") or {}
    network = spec.get("network") or {} if isinstance(spec, Mapping) else None
    return network if isinstance(network, Mapping) else None


def _with_ranges(
    config: Mapping[str, Any] | None, view: ControlPlaneView, former: Decisions
) -> Mapping[str, Any] | None:
    """The user's k0s config with the Cluster's ranges where it has none. Those that were decided stay, whatever the
    Cluster says later: nodes and stored objects depend on them."""
    usual, network = _ranges_of(Network.of(None)), _network_of(config)
    known = _decided_ranges(former) if former.podCIDR else _ranges(view)
    # What k0s would take anyway is left out: that it is said once, and once not, must restart nobody.
    ranges = {field: value for field, value in known.items() if value != usual[field]}
    if not ranges or network is None:
        return config
    filled = {**ranges, **{key: value for key, value in network.items() if value}}
    return {**_CONFIG, **(config or {}), "spec": {**((config or {}).get("spec") or {}), "network": filled}}


def _network_problems(view: ControlPlaneView, network: Mapping[str, Any]) -> Iterator[Problem]:
    """What the Cluster says of the network and cannot be had, as far as the user leaves it to the Cluster."""
    for what, field in (("pods", "podCIDR"), ("services", "serviceCIDR")):
        for block in _blocks(view, what):
            where = f"Cluster {view.tenant.name} spec.clusterNetwork.{what}.cidrBlocks"
            match _ip_version(block):
                case None if field not in network:
                    yield Problem(
                        field=where, fault=f"{block[:64]!r} is no network range", remedy="write it like 10.244.0.0/16"
                    )
                case 6 if "dualStack" not in network:
                    yield Problem(
                        field=where,
                        fault=f"{block} is an IPv6 range, and those are not taken from here",
                        remedy="write it in spec.k0sConfig.spec.network.dualStack, with IPv4 ranges beside it",
                    )


def _moved_ranges(view: ControlPlaneView, former: Decisions) -> Iterator[str]:
    """Ranges of the Cluster that are not those the control plane was made with, in words."""
    network = _network_of(view.spec.k0s_config if view.spec is not None else None) or {}
    for field, value in _ranges(view).items():
        decided_for = _decided_ranges(former)[field]
        if decided_for and value != decided_for and field not in network:
            yield f"{field} is {decided_for}, not {value}"
