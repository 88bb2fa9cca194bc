"""`Cluster` at v1beta1: etcd, kine and the kubeconfig reference stand directly in the spec."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from hosted_cp.api.base import Column, Int32, Kind, Model, Rule, StringMap, Strings, map_list, rules
from hosted_cp.api.cluster import (
    CertificateRef,
    Etcd,
    EtcdPersistence,
    Ingress,
    KubeconfigRef,
    Monitoring,
    Mount,
    ObjectMetadata,
    Persistence,
    Service,
    network_rules,
)
from hosted_cp.api.core import K0sConfig, Resources, TopologySpreadConstraint, Volume
from hosted_cp.api.database import PLACEHOLDER
from hosted_cp.api.status import Convertible


class ServiceV1Beta1(Service):
    """How the tenant's API is exposed."""

    labels: StringMap | None = None
    """Labels of the Service."""
    annotations: StringMap | None = None
    """Annotations of the Service."""
    external_traffic_policy: Literal["Cluster", "Local"] | None = None
    """The Service's field of this name."""
    load_balancer_class: str | None = None
    """The Service's field of this name."""


def _has_kine(root: str) -> str:
    fields = ("kineDataSourceURL", "kineDataSourceSecretName")
    return " || ".join(f"(has({root}.{field}) && {root}.{field} != '')" for field in fields)


class ClusterSpec(Model):
    """What the user wants."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                rule=f"({_has_kine('self')}) == ({_has_kine('oldSelf')})",
                message="the storage type cannot be changed: stored objects depend on it; create a new Cluster",
                field_path=".kineDataSourceURL",
                reason="FieldValueForbidden",
            ),
            Rule(
                rule="!has(self.kineDataSourceSecretName) || self.kineDataSourceSecretName == '' || "
                "!has(self.kineDataSourceURL) || "
                f"self.kineDataSourceURL in ['', '{PLACEHOLDER}']",
                message="set one of kineDataSourceSecretName and kineDataSourceURL, not both",
                field_path=".kineDataSourceURL",
            ),
            *network_rules(),
        )
    )

    replicas: Annotated[Int32, Field(ge=0)] = 1
    """How many k0s controllers run. More than one needs etcd or a database."""
    image: str = "quay.io/k0sproject/k0s"
    """Image of k0s without tag; the tag follows from `version`."""
    version: str | None = None
    """Version of k0s, with or without `+k0s.N` (or `-k0s.N`)."""
    external_address: str | None = None
    """Address (IP or DNS name, no port) at which workers reach the control plane."""
    service: ServiceV1Beta1 = ServiceV1Beta1(type="ClusterIP")
    """How the API is exposed."""
    ingress: Ingress | None = None
    """Not supported yet."""
    persistence: Persistence = Persistence(type="emptyDir")
    """Where the k0s data directory lives."""
    etcd: Etcd = Etcd(persistence=EtcdPersistence())
    """The tenant's own etcd. At v1beta2: `storage.etcd`."""
    kine_data_source_secret_name: Annotated[str | None, Field(max_length=253)] = None
    """Secret with the data source of a database instead of etcd. At v1beta2: `storage.kine.dataSourceSecretName`."""
    kine_data_source_url: Annotated[str | None, Field(alias="kineDataSourceURL", max_length=4096)] = None
    """Data source of a database instead of etcd. At v1beta2: `storage.kine.dataSourceURL`."""
    kubeconfig_ref: KubeconfigRef | None = None
    """Not supported yet. At v1beta2: `remoteHostCluster.kubeconfigRef`."""
    k0s_config: Annotated[K0sConfig | None, Field(alias="k0sConfig")] = None
    """A k0s `ClusterConfig` (`apiVersion: k0s.k0sproject.io/v1beta1`); what hosting needs is merged over it."""
    controller_plane_flags: Strings = ()
    """Further flags of `k0s controller`, one string each. At v1beta2: `controlPlaneFlags`."""
    certificate_refs: Annotated[
        tuple[CertificateRef, ...] | None, Field(strict=False, json_schema_extra=map_list("type"))
    ] = None
    """CAs and keys that the user brings; those that are not listed are generated."""
    manifests: Annotated[list[Volume] | None, Field(json_schema_extra=map_list("name"))] = None
    """Volumes with manifests for the tenant; each is mounted below `/var/lib/k0s/manifests/`."""
    mounts: Annotated[tuple[Mount, ...] | None, Field(strict=False, json_schema_extra=map_list("path"))] = None
    """Further volumes of the controller's container."""
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


class ClusterStatus(Convertible):
    """What the operator reports."""

    ready: bool | None = None
    """Whether it serves."""
    reconciliation_status: str
    """What happened last, in words."""
    replicas: Int32 | None = None
    """Pods of k0s controllers."""
    selector: str | None = None
    """Selects the pods; for autoscalers."""


class Cluster(Kind):
    """One tenant's k0s control plane, hosted in this cluster."""

    group: ClassVar[str] = "k0smotron.io"
    version: ClassVar[str] = "v1beta1"
    plural: ClassVar[str] = "clusters"
    short_names: ClassVar[tuple[str, ...]] = ("kmc",)
    scale: ClassVar[bool] = True
    deprecated: ClassVar[bool] = True
    spec_default: ClassVar[dict[str, Any] | None] = {"service": {"type": "NodePort"}}
    columns: ClassVar[tuple[Column, ...]] = ()

    spec: ClusterSpec = ClusterSpec(service=ServiceV1Beta1(type="NodePort"))
    status: ClusterStatus | None = None
