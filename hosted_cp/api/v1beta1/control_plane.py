"""`K0smotronControlPlane` and its template at v1beta1: `Cluster`'s spec at v1beta1, the old contract's status.

Nobody reads these by the old contract (`hosted_cp.api.contract` says why); they are for users' own manifests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from hosted_cp.api import contract
from hosted_cp.api.base import Column, Int32, Kind, Model
from hosted_cp.api.contract import TemplateMetadata, TemplateStatus
from hosted_cp.api.control_plane import Initialization, VersionText
from hosted_cp.api.status import Conditions, Convertible
from hosted_cp.api.v1beta1.cluster import ClusterSpec


class K0smotronControlPlaneSpec(ClusterSpec):
    """What the user wants: as for Cluster."""

    version: VersionText | None = None
    """Version of k0s as the kubelet reports it, such as `v1.36.3+k0s`: workers of that version compare as equal."""


class K0smotronControlPlaneStatus(Convertible):
    """What the operator reports."""

    conditions: Conditions | None = None
    """`Available` is the summary; when it is not True, its reason and message name cause and remedy."""
    ready: bool | None = None
    """Whether a controller's API answers."""
    initialized: bool | None = None
    """Whether the API has answered once. At v1beta2: `initialization.controlPlaneInitialized`."""
    initialization: Initialization | None = None
    """As at v1beta2."""
    external_managed_control_plane: bool | None = None
    """True: there are no Machines behind the control plane."""
    replicas: Int32 | None = None
    """Pods of k0s controllers."""
    ready_replicas: Int32 | None = None
    """Those whose API answers."""
    updated_replicas: Int32 | None = None
    """Those that run what the spec asks for. At v1beta2: `upToDateReplicas`."""
    unavailable_replicas: Int32 | None = None
    """Those that do not serve. At v1beta2 their counterpart is `availableReplicas`."""
    selector: str | None = None
    """Selects the pods; for autoscalers."""
    version: str | None = None
    """The lowest version that runs, in the words of `spec.version`."""


_AGE = Column(name="Age", path=".metadata.creationTimestamp", type="date")


class K0smotronControlPlane(Kind):
    """The k0s control plane of a Cluster API cluster, hosted in this cluster."""

    group: ClassVar[str] = "controlplane.cluster.x-k8s.io"
    version: ClassVar[str] = "v1beta1"
    plural: ClassVar[str] = "k0smotroncontrolplanes"
    short_names: ClassVar[tuple[str, ...]] = ()
    scale: ClassVar[bool] = True
    labels: ClassVar[Mapping[str, str]] = contract.CONTROL_PLANE_LABELS
    categories: ClassVar[tuple[str, ...]] = contract.CATEGORIES
    columns: ClassVar[tuple[Column, ...]] = (
        Column(name="Cluster", path=r".metadata.labels['cluster\.x-k8s\.io/cluster-name']"),
        Column(name="API Server Available", path=".status.ready", type="boolean"),
        Column(name="Desired", path=".spec.replicas", type="integer", priority=10),
        Column(name="Replicas", path=".status.replicas", type="integer"),
        Column(name="Ready", path=".status.readyReplicas", type="integer"),
        Column(name="Updated", path=".status.updatedReplicas", type="integer"),
        Column(name="Unavailable", path=".status.unavailableReplicas", type="integer"),
        _AGE,
        Column(name="Version", path=".spec.version"),
    )

    spec: K0smotronControlPlaneSpec | None = None
    status: K0smotronControlPlaneStatus | None = None


class ControlPlaneTemplateSpec(ClusterSpec):
    """The spec of each control plane."""

    # As at v1beta2: no rules about changes, and no default of replicas.
    model_config = ConfigDict(json_schema_extra={})

    replicas: Annotated[Int32, Field(ge=0)] = Field(default_factory=lambda: 1)
    """How many k0s controllers run, where the topology does not say. More than one needs etcd or a database."""
    version: VersionText | None = None
    """Not used: the topology's version counts."""


class ControlPlaneTemplate(Model):
    """What control planes are made from."""

    metadata: TemplateMetadata | None = None
    spec: ControlPlaneTemplateSpec | None = None


class K0smotronControlPlaneTemplateSpec(Model):
    """What the user wants."""

    template: ControlPlaneTemplate | None = None


class K0smotronControlPlaneTemplate(Kind):
    """What a ClusterClass makes hosted control planes from. To change one, create another and refer to that."""

    group: ClassVar[str] = "controlplane.cluster.x-k8s.io"
    version: ClassVar[str] = "v1beta1"
    plural: ClassVar[str] = "k0smotroncontrolplanetemplates"
    short_names: ClassVar[tuple[str, ...]] = ()
    labels: ClassVar[Mapping[str, str]] = contract.CONTROL_PLANE_LABELS
    categories: ClassVar[tuple[str, ...]] = contract.CATEGORIES
    columns: ClassVar[tuple[Column, ...]] = (_AGE,)

    spec: K0smotronControlPlaneTemplateSpec | None = None
    status: TemplateStatus | None = None
