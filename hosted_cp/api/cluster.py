"""`Cluster` (short name `kmc`): one tenant's control plane, hosted in pods.

Fields, types, enums and defaults are k0smotron's at v1beta2, so its manifests apply unchanged. Four of its defaults are
left out on purpose, here and in `hosted_cp.api.join_token_request` (see `DROPPED_DEFAULTS` in `hosted_cp.api.docs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, ValidationError

from hosted_cp.api.base import (
    REQUIRED,
    Column,
    Int32,
    Int64,
    Kind,
    Model,
    Port,
    Rule,
    StringMap,
    Strings,
    map_list,
    rules,
)
from hosted_cp.api.core import (
    VOLUME_SOURCES,
    K0sConfig,
    PersistentVolumeClaim,
    Quantity,
    Resources,
    TopologySpreadConstraint,
    Volume,
)
from hosted_cp.api.database import PLACEHOLDER
from hosted_cp.api.problems import Problem, of_validation
from hosted_cp.api.status import CertificateExpiry, Conditions, Convertible, DeprecatedCluster, Endpoint

#: k0s's own values where a network range is not given.
DEFAULT_POD_CIDR = "10.244.0.0/16"
DEFAULT_SERVICE_CIDR = "10.96.0.0/12"
DEFAULT_CLUSTER_DOMAIN = "cluster.local"
DEFAULT_NETWORK_PROVIDER = "kuberouter"
DEFAULT_KEY_ALGORITHM = "ECDSA-P256"

CertificateType = Literal["ca", "sa", "proxy", "etcd", "apiserver-etcd-client", "etcd-peer", "etcd-server"]


class CertificateRef(Model):
    """A Secret with a CA or key pair that the user brings."""

    type: CertificateType
    """What it is for. `apiserver-etcd-client`, `etcd-peer` and `etcd-server` are accepted and not used: the CA `etcd`
    issues those."""
    name: str | None = None
    """Name of the Secret, in the namespace of the Cluster, with the keys `tls.crt` and `tls.key`."""


class Service(Model):
    """How the tenant's API is exposed."""

    type: Annotated[Literal["ClusterIP", "NodePort", "LoadBalancer"], Field(json_schema_extra=REQUIRED)] = "ClusterIP"
    """Kind of the Service."""
    api_port: Port | None = None
    """Published port of the API server. Unset: 6443; for NodePort, a port that the management cluster allocates."""
    konnectivity_port: Port | None = None
    """Published port for konnectivity agents. Unset: 8132; for NodePort, allocated as above."""


class Persistence(Model):
    """Where the k0s data directory lives."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                rule="self.type != 'pvc' || has(self.persistentVolumeClaim)",
                message="type pvc needs persistentVolumeClaim: add it, or use type emptyDir",
                field_path=".persistentVolumeClaim",
                reason="FieldValueRequired",
            ),
            Rule(
                rule="self.type != 'hostPath' || (has(self.hostPath) && self.hostPath.startsWith('/'))",
                message="type hostPath needs hostPath with an absolute path",
                field_path=".hostPath",
                reason="FieldValueRequired",
            ),
        )
    )

    type: Annotated[str, Field(max_length=64, json_schema_extra=REQUIRED)] = "emptyDir"
    """`emptyDir`, `hostPath` or `pvc`."""
    host_path: Annotated[str | None, Field(max_length=4096)] = None
    """Directory on the node, for type `hostPath`; only in namespaces that the administrator opened for it."""
    persistent_volume_claim: PersistentVolumeClaim | None = None
    """Template of the volume claim, for type `pvc`."""
    auto_delete_pvcs: Annotated[bool, Field(alias="autoDeletePVCs")] = False
    """Whether deleting the Cluster deletes the volumes, too."""


class EtcdPersistence(Model):
    """The volume of one etcd member."""

    size: Quantity = "1Gi"
    """How much is asked for."""
    storage_class: str | None = None
    """Name of the StorageClass; unset: the default of the management cluster."""


class DefragJob(Model):
    """A job that defragments etcd."""

    enabled: Annotated[bool, Field(json_schema_extra=REQUIRED)] = False
    schedule: Annotated[str, Field(json_schema_extra=REQUIRED)] = "0 12 * * *"
    """In cron's form."""
    rule: Annotated[str, Field(json_schema_extra=REQUIRED)] = (
        "dbQuotaUsage > 0.8 || dbSize - dbSizeInUse > 200*1024*1024"
    )
    """When a member is defragmented."""
    image: Annotated[str, Field(json_schema_extra=REQUIRED)] = "ghcr.io/ahrtr/etcd-defrag:v0.16.0"


class Etcd(Model):
    """The tenant's own etcd."""

    image: str | None = None
    """Image with tag. Unset: the one of the catalogue of the operator's release."""
    args: Strings = ()
    """Further flags of etcd, one string each."""
    auto_delete_pvcs: Annotated[bool, Field(alias="autoDeletePVCs")] = False
    """Whether deleting the Cluster deletes etcd's volumes, too."""
    persistence: EtcdPersistence | None = None
    """The members' volumes."""
    resources: Resources | None = None
    """Resources of the etcd container."""
    defrag_job: DefragJob | None = None
    """Not supported yet."""


class Kine(Model):
    """An SQL database (or SQLite file) instead of etcd."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                rule="self.?dataSourceSecretName.orValue('') == '' || "
                f"self.?dataSourceURL.orValue('') in ['', '{PLACEHOLDER}']",
                message="set one of dataSourceSecretName and dataSourceURL, not both",
                field_path=".dataSourceURL",
            )
        )
    )

    data_source_secret_name: Annotated[str | None, Field(max_length=253)] = None
    """Secret whose key `K0SMOTRON_KINE_DATASOURCE_URL` holds the data source."""
    data_source_url: Annotated[str | None, Field(alias="dataSourceURL", max_length=4096)] = None
    """The data source itself; visible to everyone who may read the Cluster, so only for those without a password."""


class NatsPersistence(Model):
    """The volume of one NATS server."""

    size: Quantity = "1Gi"
    storage_class: str | None = None


class Nats(Model):
    """Embedded NATS. Not supported yet."""

    persistence: NatsPersistence | None = None


class Storage(Model):
    """Where the tenant's objects are stored. The type cannot be changed."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                rule="self.type != 'kine' || self.?kine.?dataSourceURL.orValue('') != '' || "
                "self.?kine.?dataSourceSecretName.orValue('') != ''",
                message="type kine needs kine.dataSourceSecretName, or kine.dataSourceURL",
                field_path=".kine",
                reason="FieldValueRequired",
            )
        )
    )

    type: Literal["etcd", "kine", "nats"] = "etcd"
    """Which store: etcd, or kine with SQLite, PostgreSQL or MySQL. `nats` is not supported yet."""
    etcd: Etcd = Etcd(persistence=EtcdPersistence())
    """For type `etcd`."""
    kine: Kine | None = None
    """For type `kine`: an SQL database, or a SQLite file."""
    nats: Nats | None = None
    """Not supported yet."""


class Ingress(Model):
    """Exposure through an ingress controller with TLS passthrough. Not supported yet."""

    api_host: str
    """Host name of the API."""
    konnectivity_host: str
    """Host name for konnectivity agents."""
    deploy: bool | None = None
    """Whether an Ingress object is made."""
    class_name: str | None = None
    annotations: StringMap | None = None
    port: Int64 = 443
    """Public port of the ingress controller."""


class Monitoring(Model):
    """Metrics sidecars. Not supported yet."""

    enabled: bool
    prometheus_image: Annotated[str, Field(json_schema_extra=REQUIRED)] = "quay.io/k0sproject/prometheus:v2.44.0"
    proxy_image: Annotated[str, Field(json_schema_extra=REQUIRED)] = "nginx:1.19.10"


class KubeconfigRef(Model):
    """A Secret with a kubeconfig."""

    name: str
    namespace: str
    key: str = "value"


class RemoteHostCluster(Model):
    """Another cluster in which the pods run. Not supported yet."""

    kubeconfig_ref: KubeconfigRef | None = None


class PatchTarget(Model):
    """Which generated objects a patch is for."""

    kind: str
    """Kind of the object."""
    component: str
    """Value of its label `app.kubernetes.io/component`."""


class PatchContent(Model):
    """What a patch changes."""

    type: Literal["json", "strategic", "merge"]
    """RFC 6902, Kubernetes' strategic merge, or RFC 7386."""
    content: str
    """YAML or JSON."""


class Patch(Model):
    """A change of generated objects."""

    target: PatchTarget
    patch: PatchContent


class ObjectMetadata(Model):
    """Labels and annotations for generated objects."""

    labels: StringMap = Field(default_factory=dict)
    annotations: StringMap = Field(default_factory=dict)


def _mount_schema(schema: dict[str, Any]) -> None:
    schema["properties"] |= VOLUME_SOURCES
    schema.pop("additionalProperties", None)


class Mount(Model):
    """A volume in the controller's container: a path and one volume source (`configMap`, `secret`, `emptyDir`, ...)."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_mount_schema)

    path: str
    """Where it is mounted."""
    read_only: bool | None = None
    """ConfigMaps and Secrets are read-only always."""

    @property
    def source(self) -> dict[str, Any]:
        """The volume source: `{"configMap": {...}}`."""
        extra = self.model_extra or {}
        return {key: value for key, value in extra.items() if key in VOLUME_SOURCES}


def value_or(root: str, path: str, *, default: str) -> str:
    """CEL for the value at a path, or the default where anything on the way is missing.

    Not CEL's optional values (`self.?a.orValue(b)`): the API server's cost estimator does not see through them, takes
    strings as unbounded, and refuses the rule.
    """
    steps = path.split(".")
    *outer, last = [".".join([root, *steps[: length + 1]]) for length in range(len(steps))]
    present = [f"has({each}) && {each} != null" for each in outer] + [f"has({last})"]
    return f"{' && '.join(present)} ? {last} : {default}"


def _fixed(path: str, *, default: str, what: str) -> Rule:
    """A rule that the (effective) value at a path never changes."""
    return Rule(
        rule=f"({value_or('self', path, default=default)}) == ({value_or('oldSelf', path, default=default)})",
        message=f"{what} cannot be changed: nodes and stored objects depend on it; create a new Cluster",
        field_path=f".{path}",
        reason="FieldValueForbidden",
    )


def network_rules() -> tuple[Rule, ...]:
    """Rules of a spec: the network ranges in `k0sConfig` never change."""
    return (
        _fixed("k0sConfig.spec.network.podCIDR", default=f"'{DEFAULT_POD_CIDR}'", what="the pods' network range"),
        _fixed(
            "k0sConfig.spec.network.serviceCIDR",
            default=f"'{DEFAULT_SERVICE_CIDR}'",
            what="the services' network range",
        ),
        _fixed(
            "k0sConfig.spec.network.clusterDomain", default=f"'{DEFAULT_CLUSTER_DOMAIN}'", what="the cluster domain"
        ),
        _fixed("k0sConfig.spec.network.dualStack.enabled", default="false", what="dual-stack networking"),
        _fixed("k0sConfig.spec.network.dualStack.IPv6podCIDR", default="''", what="the pods' IPv6 network range"),
        _fixed(
            "k0sConfig.spec.network.dualStack.IPv6serviceCIDR",
            default="''",
            what="the services' IPv6 network range",
        ),
    )


class ClusterSpec(Model):
    """What the user wants."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            _fixed("storage.type", default="'etcd'", what="the storage type"),
            _fixed("keyAlgorithm", default=f"'{DEFAULT_KEY_ALGORITHM}'", what="the key algorithm"),
            *network_rules(),
        )
    )

    replicas: Annotated[Int32, Field(ge=0)] = 1
    """How many k0s controllers run. More than one needs etcd or a database."""
    image: str = "quay.io/k0sproject/k0s"
    """Image of k0s without tag; the tag follows from `version`."""
    version: str | None = None
    """Version of k0s, with or without `+k0s.N` (or `-k0s.N`). Unset: the catalogue's newest at creation, and kept."""
    key_algorithm: Literal["ECDSA-P256", "ECDSA-P384", "RSA-2048", "RSA-4096"] = Field(
        default_factory=lambda: "ECDSA-P256"
    )
    """Algorithm of generated keys; unset: ECDSA-P256. An addition of hosted-cp: k0smotron has RSA-2048 only."""
    external_address: str | None = None
    """Address (IP or DNS name, no port) at which workers reach the control plane. Unset: derived from the Service."""
    service: Service = Service(type="ClusterIP")
    """How the API is exposed."""
    ingress: Ingress | None = None
    """Not supported yet."""
    persistence: Persistence = Field(default_factory=Persistence)
    """Where the k0s data directory lives; unset: emptyDir."""
    storage: Storage | None = None
    """Where the tenant's objects are stored; unset: etcd."""
    k0s_config: Annotated[K0sConfig | None, Field(alias="k0sConfig")] = None
    """A k0s `ClusterConfig` (`apiVersion: k0s.k0sproject.io/v1beta1`); what hosting needs is merged over it."""
    control_plane_flags: Strings = ()
    """Further flags of `k0s controller`, one string each (`--x=y`)."""
    certificate_refs: Annotated[
        tuple[CertificateRef, ...] | None, Field(strict=False, json_schema_extra=map_list("type"))
    ] = None
    """CAs and keys that the user brings; those that are not listed are generated."""
    manifests: Annotated[list[Volume] | None, Field(json_schema_extra=map_list("name"))] = None
    """Volumes with manifests for the tenant; each is mounted below `/var/lib/k0s/manifests/`."""
    mounts: Annotated[tuple[Mount, ...] | None, Field(strict=False, json_schema_extra=map_list("path"))] = None
    """Further volumes of the controller's container."""
    patches: Annotated[tuple[Patch, ...] | None, Field(strict=False)] = None
    """Changes of generated objects, applied in order."""
    resources: Resources | None = None
    """Resources of the controller's container."""
    topology_spread_constraints: Annotated[
        list[TopologySpreadConstraint] | None, Field(json_schema_extra=map_list("topologyKey", "whenUnsatisfiable"))
    ] = None
    """Spread of the k0s and etcd pods."""
    service_account: str | None = None
    """Service account of the k0s and etcd pods; only in namespaces that the administrator opened for it."""
    kubeconfig_secret_metadata: ObjectMetadata | None = None
    """Labels and annotations for every generated object (the name is historical)."""
    monitoring: Monitoring | None = None
    """Not supported yet."""
    remote_host_cluster: RemoteHostCluster | None = None
    """Not supported yet."""

    @property
    def storage_kind(self) -> str:
        """`etcd`, `kine` or `nats`; etcd where nothing is said."""
        return self.storage.type if self.storage else "etcd"

    @property
    def network(self) -> Network:
        """The network ranges, with k0s's defaults where none are given."""
        return Network.of(self.k0s_config)


@dataclass(frozen=True, kw_only=True)
class Network:
    """The network that a tenant keeps for life. IPv6 ranges are "" without dual-stack networking."""

    pod_cidr: str
    service_cidr: str
    cluster_domain: str
    dual_stack: bool = False
    pod_cidr_v6: str = ""
    service_cidr_v6: str = ""
    #: Who connects the pods. (k0s: to change it, all nodes have to be set up anew.)
    provider: str = DEFAULT_NETWORK_PROVIDER

    @staticmethod
    def of(k0s_config: Mapping[str, Any] | None) -> Network:
        """The ranges in a k0s ClusterConfig. What is not even of the right type counts as not given."""
        network = _mapping(_mapping(_mapping(k0s_config).get("spec")).get("network"))
        dual = _mapping(network.get("dualStack"))
        return Network(
            pod_cidr=_text(network.get("podCIDR")) or DEFAULT_POD_CIDR,
            service_cidr=_text(network.get("serviceCIDR")) or DEFAULT_SERVICE_CIDR,
            cluster_domain=_text(network.get("clusterDomain")) or DEFAULT_CLUSTER_DOMAIN,
            dual_stack=dual.get("enabled") is True,
            pod_cidr_v6=_text(dual.get("IPv6podCIDR")),
            service_cidr_v6=_text(dual.get("IPv6serviceCIDR")),
            provider=_text(network.get("provider")) or DEFAULT_NETWORK_PROVIDER,
        )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


class ClusterStatus(Convertible):
    """What the operator reports."""

    conditions: Conditions | None = None
    """`Available` is the summary; when it is not True, its reason and message name cause and remedy."""
    observed_generation: Int64 | None = None
    """The generation of the spec that this status is about."""
    replicas: Int32 | None = None
    """Pods of k0s controllers."""
    ready_replicas: Int32 | None = None
    """Those whose API answers."""
    updated_replicas: Int32 | None = None
    """Those that run what the spec asks for."""
    selector: str | None = None
    """Selects the pods; for autoscalers."""
    version: str | None = None
    """The version of k0s that is asked of the pods."""
    initialized: bool | None = None
    """Whether the API has answered a request with the delivered kubeconfig. Never turns false again."""
    external_address: str | None = None
    """The host of `controlPlaneEndpoint`."""
    control_plane_endpoint: Endpoint | None = None
    """Where workers and clients find the API."""
    decisions: dict[str, int | str] | None = None
    """What was decided where the spec leaves it open: version, address, ports, ranges. A copy; kept in a Secret."""
    certificates: Annotated[
        tuple[CertificateExpiry, ...] | None, Field(strict=False, json_schema_extra=map_list("name"))
    ] = None
    """Expiry of the tenant's certificates."""
    deprecated: DeprecatedCluster | None = None
    """What former versions of the kind said."""


class Cluster(Kind):
    """One tenant's k0s control plane, hosted in this cluster."""

    group: ClassVar[str] = "k0smotron.io"
    version: ClassVar[str] = "v1beta2"
    plural: ClassVar[str] = "clusters"
    short_names: ClassVar[tuple[str, ...]] = ("kmc",)
    scale: ClassVar[bool] = True
    spec_default: ClassVar[dict[str, Any] | None] = {"service": {"type": "NodePort"}}
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            name="Ready", path='.status.conditions[?(@.type=="Available")].status', description="Whether it serves."
        ),
        Column(name="Replicas", path=".status.replicas", type="integer", description="Controllers that run."),
        Column(name="Ready replicas", path=".status.readyReplicas", type="integer", priority=1),
        Column(name="Version", path=".status.version", description="Of k0s."),
        Column(name="Endpoint", path=".status.controlPlaneEndpoint.host", description="Where the API answers."),
        Column(name="Port", path=".status.controlPlaneEndpoint.port", type="integer"),
        Column(name="Age", path=".metadata.creationTimestamp", type="date"),
        Column(
            name="Reason",
            path='.status.conditions[?(@.type=="Available")].reason',
            description="Why it is not ready, in one word.",
        ),
        Column(
            name="Message",
            path='.status.conditions[?(@.type=="Available")].message',
            description="The cause and the remedy.",
            priority=1,
        ),
    )

    spec: ClusterSpec = ClusterSpec(service=Service(type="NodePort"))
    status: ClusterStatus | None = None


@dataclass(frozen=True, kw_only=True)
class ParsedCluster:
    """A Cluster as far as it can be read: its spec, or why there is none."""

    spec: ClusterSpec | None
    problems: tuple[Problem, ...] = ()


def parse_cluster(body: Mapping[str, Any]) -> ParsedCluster:
    """Read the spec of a Cluster object. Never raises: stored objects may be older than today's schema.

    Only types, enums and bounds are looked at; what the values mean is judged by `hosted_cp.api.checks`.
    """
    spec = body.get("spec")
    try:
        return ParsedCluster(spec=ClusterSpec.model_validate(Cluster.spec_default if spec is None else spec))
    except ValidationError as error:
        return ParsedCluster(spec=None, problems=of_validation(error, root="spec"))
