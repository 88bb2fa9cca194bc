"""One tenant, derived from its view: names, labels, and the decisions that must not wander.

A *decision* is a value that the user left open (or that has a source outside the spec): the address, the ports, the
version when none was asked for. It is taken once, kept in an annotation of the tenant's config Secret, and changes only
when the user changes what he asked. A source that drifts (a node is gone, a load balancer's address changed) is
reported, never followed: workers and kubeconfigs hold the old value.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from hosted_cp.api.cluster import ClusterSpec
from hosted_cp.api.problems import Problem
from hosted_cp.hosting import rollouts
from hosted_cp.hosting.etcd import image
from hosted_cp.hosting.names import ADOPT, DECISIONS, RELEASE, TENANT_UID, Names, object_labels
from hosted_cp.hosting.view import TenantView
from hosted_cp.k0s import versions
from hosted_cp.planning.observed import Observed

T = TypeVar("T")

#: Ports of the containers; what is published may differ (node ports, `service.apiPort`).
API_PORT = 6443
KONNECTIVITY_PORT = 8132

#: Annotations that must not travel from the user's object to ours.
_PRIVATE_ANNOTATIONS = ("kubectl.kubernetes.io/", "hosted-cp.io/", "k0smotron.io/")
#: What Cluster API says by labels and annotations, in whatever subdomain, is about the object that they are on. Only
#: which cluster an object belongs to is true of its children, too.
_CLUSTER_API = "cluster.x-k8s.io"
_OF_CHILDREN_TOO = "cluster.x-k8s.io/cluster-name"


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What was decided for one tenant. Empty strings and zeros mean: not known yet."""

    version: str = ""
    #: What the address was decided for: service type, external address and ports as the user asked.
    asked: str = ""
    address: str = ""
    apiPort: int = 0
    konnectivityPort: int = 0
    storage: str = ""
    etcdMembers: int = 0
    etcdPrefix: str = ""
    etcdImage: str = ""
    podCIDR: str = ""
    serviceCIDR: str = ""
    clusterDomain: str = ""
    networkProvider: str = ""
    keyAlgorithm: str = ""
    #: The words in which `version` was asked for, where they are remembered (`TenantView.version_text`).
    versionText: str = ""
    #: While controllers are on their way to `version`: what they come from, and its words.
    versionBefore: str = ""
    versionTextBefore: str = ""
    #: While the tenant's own Endpoints hold another port than `apiPort`: which.
    portBefore: int = 0

    @property
    def exposed(self) -> bool:
        """Whether address and both ports are known, so that kubeconfig and k0s config can be made."""
        return bool(self.address and self.apiPort and self.konnectivityPort)

    def annotation(self) -> str:
        kept = {key: value for key, value in self.printed().items() if value or key not in _ONLY_IF_KNOWN}
        return json.dumps(kept, sort_keys=True, separators=(",", ":"))

    def printed(self) -> dict[str, Any]:
        """All of them by name, also those that are not known yet."""
        return dict(vars(self))

    @staticmethod
    def read(annotation: str) -> Decisions:
        """The decisions kept in an annotation; unknown keys are ignored, an unreadable annotation is none at all."""
        try:
            return Decisions.of(json.loads(annotation))
        except ValueError:
            return Decisions()

    @staticmethod
    def of(kept: object) -> Decisions:
        """The same from what the JSON holds. Without a version that can be read there was no decision."""
        known = {f.name: f for f in dataclasses.fields(Decisions)}
        given = kept if isinstance(kept, Mapping) else {}
        values: dict[str, Any] = {k: v for k, v in given.items() if k in known and type(v) is type(known[k].default)}
        try:
            versions.parse(values.get("version", ""))
        except versions.VersionError:
            return Decisions()
        return Decisions(**values)


#: What stands in the annotation only of tenants that have it.
_ONLY_IF_KNOWN = frozenset({"etcdImage", "versionText", "versionBefore", "versionTextBefore", "portBefore"})


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """A tenant whose spec can be read."""

    view: TenantView
    spec: ClusterSpec
    decisions: Decisions
    #: What was decided before, as the config Secret has it.
    former: Decisions
    #: What the spec asks of the address now, in the form of `Decisions.asked`.
    asked: str
    #: Wishes that were refused without harm to what runs (a downgrade), and sources that drifted.
    refused: tuple[Problem, ...] = ()
    drifted: tuple[Problem, ...] = ()
    _derived: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, name: str, derive: Callable[[Tenant], T]) -> T:
        """What several modules need and is costly to derive from a tenant, derived once and kept under this name."""
        if name not in self._derived:
            self._derived[name] = derive(self)
        found: T = self._derived[name]
        return found

    @cached_property
    def name(self) -> str:
        return self.view.name

    @property
    def namespace(self) -> str:
        return self.view.owner.ref.namespace or "default"

    @property
    def uid(self) -> str:
        return self.view.owner.uid

    @cached_property
    def names(self) -> Names:
        return Names(self.name)

    @property
    def replicas(self) -> int:
        return self.spec.replicas

    @cached_property
    def version(self) -> versions.Version:
        return versions.parse(self.decisions.version)

    @property
    def address_settled(self) -> bool:
        """Whether the decided address is the one that the spec asks for, and was so before."""
        return self.former.exposed and self.former.asked == self.asked

    @property
    def published_type(self) -> str:
        """The type of the Service behind the decided address: the old one until a new address is known."""
        return self.decisions.asked.partition("|")[0]

    @property
    def service_name(self) -> str:
        return self.names.service(self.spec.service.type)

    @property
    def service(self) -> Observed | None:
        return self.view.own("Service", self.service_name)

    def asked_of_pods(self) -> dict[str, Any]:
        """Fields of the specs of all the tenant's pods that the user and the administrator ask for."""
        asked = {
            "serviceAccountName": self.spec.service_account,
            "topologySpreadConstraints": self.spec.topology_spread_constraints,
            "priorityClassName": self.view.settings.priority_class,
        }
        return {field: value for field, value in asked.items() if value}

    def metadata(self, name: str, *, component: str = "cluster", part: str) -> dict[str, Any]:
        """Name, namespace, labels, annotations and owner of one of the tenant's objects."""
        extra = self.spec.kubeconfig_secret_metadata
        owner = self.view.owner
        users = {
            key: value
            for key, value in owner.annotations.items()
            if not key.startswith(_PRIVATE_ANNOTATIONS) and not _is_cluster_apis(key)
        }
        labels = {k: v for k, v in owner.labels.items() if k == _OF_CHILDREN_TOO or not _is_cluster_apis(k)}
        made: dict[str, Any] = {
            "name": name,
            "namespace": self.namespace,
            "labels": object_labels(
                tenant=self.name,
                uid=self.uid,
                component=component,
                part=part,
                users=labels,
                extra=extra.labels if extra else {},
            ),
            "ownerReferences": [
                {
                    "apiVersion": owner.ref.api_version,
                    "kind": owner.ref.kind,
                    "name": owner.ref.name,
                    "uid": owner.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        }
        annotations = {**users, **(extra.annotations if extra else {})}
        if annotations:
            made["annotations"] = annotations
        return made

    @property
    def volume_labels(self) -> dict[str, str]:
        """Labels of data volumes: whose life they hold, also after the tenant is gone."""
        return {TENANT_UID: self.uid}


def _is_cluster_apis(key: str) -> bool:
    domain = key.partition("/")[0]
    return domain == _CLUSTER_API or domain.endswith(f".{_CLUSTER_API}")


def once(derive: Callable[[Tenant], T]) -> Callable[[Tenant], T]:
    """For a function of a tenant that several modules ask, or that is costly: one answer per tenant (`Tenant.once`).

    Nobody may change the answer.
    """
    name = f"{derive.__module__}.{derive.__qualname__}"

    @functools.wraps(derive)
    def answer(t: Tenant) -> T:
        return t.once(name, derive)

    return answer


def tenant(view: TenantView, spec: ClusterSpec) -> Tenant:
    """Take the decisions: what the user asks for, else what was decided before, else what the world offers."""
    names = Names(view.name)
    former = decided(view)
    refused: list[Problem] = []
    drifted: list[Problem] = []

    version = _version(view, spec, former, refused)
    wished = asked = asked_of(spec)
    address, api_port, konnectivity_port = _exposure(view, spec, names)
    if former.exposed and former.asked == asked:
        drifted += _drift(spec, former, address, api_port)
        address, api_port, konnectivity_port = former.address, former.apiPort, former.konnectivityPort
    elif former.exposed and not (address and api_port and konnectivity_port):
        # The user wants another address, which nobody knows yet: the old one serves until then.
        asked, address, api_port, konnectivity_port = (
            former.asked, former.address, former.apiPort, former.konnectivityPort,
        )  # fmt: skip

    storage = former.storage or spec.storage_kind
    members = former.etcdMembers or (3 if spec.replicas > 1 or _several_adopted(view, names) else 1)
    decisions = Decisions(
        version=version,
        asked=asked,
        address=address,
        apiPort=api_port,
        konnectivityPort=konnectivity_port,
        storage=storage,
        etcdMembers=members if storage == "etcd" else 0,
        etcdPrefix=former.etcdPrefix or (view.name if storage == "etcd" else ""),
        etcdImage=image.chosen(view, spec, decided=former.etcdImage)[0] if storage == "etcd" else "",
        podCIDR=former.podCIDR or spec.network.pod_cidr,
        serviceCIDR=former.serviceCIDR or spec.network.service_cidr,
        clusterDomain=former.clusterDomain or spec.network.cluster_domain,
        networkProvider=former.networkProvider or spec.network.provider,
        keyAlgorithm=former.keyAlgorithm or spec.key_algorithm,
        portBefore=_port_before(view, former, address, api_port),
        **_words(view, spec, former, version),
    )
    return Tenant(
        view=view, spec=spec, decisions=decisions, former=former, asked=wished, refused=tuple(refused),
        drifted=tuple(drifted),
    )  # fmt: skip


def _several_adopted(view: TenantView, names: Names) -> bool:
    """Whether the user has adopted volumes of several members. Each knows all of them, and one alone has no quorum."""
    later_ones = tuple(f"{names.etcd}-{ordinal}" for ordinal in (1, 2))
    return any(
        claim.annotations.get(ADOPT) == view.owner.uid and claim.ref.name.endswith(later_ones) for claim in view.claims
    )


def asked_of(spec: ClusterSpec) -> str:
    """What a spec asks of the address, in the form of `Decisions.asked`."""
    service = spec.service
    return f"{service.type}|{spec.external_address or ''}|{service.api_port}|{service.konnectivity_port}"


def decided(view: TenantView) -> Decisions:
    """What was decided before, from the config Secret.

    If that was lost while the tenant lives on, the copy in the status counts; without one, at least the version that
    runs: a tenant must not take another because somebody spoilt an annotation.
    """
    names = Names(view.name)
    config, live = view.own("Secret", names.config), view.own("StatefulSet", names.control_plane)
    kept = Decisions.read(config.annotations.get(DECISIONS, "")) if config else Decisions()
    if kept.version or (config is None and live is None):
        return kept
    mirrored = Decisions.of(view.said.get("decisions"))
    if mirrored.version or live is None:
        return mirrored
    tagged = _in_template(live)
    return Decisions(version=str(tagged)) if tagged is not None else Decisions()


def _version(view: TenantView, spec: ClusterSpec, former: Decisions, refused: list[Problem]) -> str:
    catalogue = view.settings.catalogue
    if not spec.version or versions.support_problem(spec.version) is not None:  # said by `refusals.spec_problems`
        return former.version or versions.default(catalogue)
    wanted = str(versions.parse(spec.version))
    if former.version and wanted != former.version and not _never_served(view):
        fault = versions.upgrade_problem(former.version, wanted) or _on_the_way(view, former.version, wanted)
        if fault:
            refused.append(fault)
            return former.version
    return wanted


def _on_the_way(view: TenantView, version: str, wanted: str) -> Problem | None:
    """Why controllers do not move on to the next minor yet: some have not arrived at the one that was asked for before.

    From where they are, the next would skip a minor; and k0s wants all controllers within one of each other.
    """
    live = view.own("StatefulSet", Names(view.name).control_plane)
    if live is None or versions.parse(version).release == versions.parse(wanted).release:
        return None
    if rollouts.done(live) and _in_template(live) in (None, versions.parse(version)):
        return None
    return Problem(
        field="spec.version",
        fault=f"asks for {wanted} while not all controllers are ready at {version}, and minors cannot be skipped",
        remedy="wait until they are, and it goes on by itself; if they cannot be, set a newer patch of"
        f" {versions.parse(version).kubernetes_minor} first",
    )


def _in_template(live: Observed) -> versions.Version | None:
    """The version that the controllers' StatefulSet asks for, by its image's tag; None where that does not tell."""
    for container in live.get("spec", "template", "spec", "containers", default=[]):
        if container.get("name") == "controller":
            try:
                return versions.parse(str(container.get("image", "")).rpartition(":")[2])
            except versions.VersionError:
                return None
    return None


def _port_before(view: TenantView, former: Decisions, address: str, port: int) -> int:
    """The port that the tenant's Endpoints still hold; 0 where k0s gives them the right one, or this plan does."""
    if not (former.exposed and view.initialized) or address != former.address:
        return 0
    before = former.portBefore or former.apiPort
    told = port == former.apiPort and serves(view) and view.settings.reaches_tenants and not view.failure
    return 0 if told or before == port else before


def serves(view: TenantView) -> bool:
    """Whether at least one controller pod says that its API server answers."""
    live = view.own("StatefulSet", Names(view.name).control_plane)
    return live is not None and int(live.get("status", "readyReplicas", default=0) or 0) > 0


def _words(view: TenantView, spec: ClusterSpec, former: Decisions, version: str) -> dict[str, str]:
    """What is remembered of the words of versions, as fields of `Decisions`."""
    if not view.version_text:
        return {}
    refused = spec.version is not None and str(versions.parse(spec.version)) != version
    text = former.versionText if refused and former.versionText else view.version_text
    before, text_before = former.versionBefore, former.versionTextBefore
    if former.version and former.version != version:
        before, text_before = former.version, former.versionText
    elif before and _arrived(view, version):
        before = text_before = ""
    return {"versionText": text, "versionBefore": before, "versionTextBefore": text_before}


def _arrived(view: TenantView, version: str) -> bool:
    """Whether all controllers run this version, and serve: who waits for it goes on to what needs them."""
    live = view.own("StatefulSet", Names(view.name).control_plane)
    return live is not None and live.annotations.get(RELEASE) == version and rollouts.done(live)


def _never_served(view: TenantView) -> bool:
    """Whether no controller has answered yet, so that a version can be corrected that was never to be had.

    The store holds nothing of a user's then. An operator that cannot ask tenants never knows.
    """
    live = view.own("StatefulSet", Names(view.name).control_plane)
    ready = live is not None and int(live.get("status", "readyReplicas", default=0) or 0) > 0
    return view.settings.reaches_tenants and not ready and not view.initialized


def _exposure(view: TenantView, spec: ClusterSpec, names: Names) -> tuple[str, int, int]:
    """Address, API port and konnectivity port as the world offers them now; empty or 0 where it does not yet."""
    service = view.own("Service", names.service(spec.service.type))
    if service is None:
        return "", 0, 0
    api_port = _port(service, "api", spec.service.type, asked=spec.service.api_port, inside=API_PORT)
    konnectivity_port = _port(
        service, "konnectivity", spec.service.type, asked=spec.service.konnectivity_port, inside=KONNECTIVITY_PORT
    )
    return spec.external_address or _address(view, spec, service), api_port, konnectivity_port


def _port(service: Observed, name: str, service_type: str, *, asked: int | None, inside: int) -> int:
    """The published port, or 0 as long as the Service does not have the one that is asked for."""
    published: Mapping[str, Any] = next(
        (port for port in service.get("spec", "ports", default=[]) if port.get("name") == name), {}
    )
    if service_type == "NodePort":
        node_port = int(published.get("nodePort") or 0)
        return node_port if asked in (None, node_port) else 0
    wanted = asked or inside
    return wanted if published.get("port") == wanted else 0


def _address(view: TenantView, spec: ClusterSpec, service: Observed) -> str:
    if spec.service.type == "ClusterIP":
        return f"{service.ref.name}.{service.ref.namespace}.svc"
    if spec.service.type == "LoadBalancer":
        ingress = service.get("status", "loadBalancer", "ingress", default=[])
        return str((ingress[0].get("ip") or ingress[0].get("hostname") or "") if ingress else "")
    # k0smotron's order: an external address of any node, else an internal one. The smallest, so that it is stable.
    for wanted in (("ExternalDNS", "ExternalIP"), ("InternalIP",)):
        found = sorted(node.address for node in view.nodes or () if node.type in wanted)
        if found:
            return found[0]
    return ""


def _drift(spec: ClusterSpec, former: Decisions, address: str, api_port: int) -> list[Problem]:
    if spec.external_address or not address or address == former.address:
        return []
    source = {"NodePort": "the cluster's nodes", "LoadBalancer": "the load balancer"}.get(spec.service.type)
    if source is None:
        return []
    return [
        Problem(
            field="status.controlPlaneEndpoint",
            fault=f"{source} now offer {address}, but kubeconfigs, certificates and workers use {former.address}",
            remedy="bring the old address back, or set spec.externalAddress to the new one and join the workers again",
        )
    ]
