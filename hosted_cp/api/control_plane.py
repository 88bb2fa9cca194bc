"""`K0smotronControlPlane`: the hosted control plane of a Cluster API cluster, and its template for ClusterClasses.

The spec is that of `Cluster`, so both are planned by the same planner; the status is what the v1beta2 control plane
contract asks for (Cluster API's book, "Contract rules for ControlPlane"), and what `Cluster` reports beyond it.

Two things of k0smotron's schema are left out on purpose. Its default of the whole status claims, with a date of 1970,
that a topology is waited for, also where there is none. Its default `replicas: 1` in the template would be copied by
the topology into every control plane and owned there, against every autoscaler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, ValidationError

from hosted_cp.api import contract
from hosted_cp.api.base import Column, Int32, Int64, Kind, Model, Port, map_list
from hosted_cp.api.cluster import ClusterSpec
from hosted_cp.api.contract import TemplateMetadata, TemplateStatus
from hosted_cp.api.problems import Problem, of_validation
from hosted_cp.api.status import CertificateExpiry, Conditions, Convertible, Endpoint

#: As long as Cluster API allows.
VersionText = Annotated[str, Field(max_length=256)]


class ControlPlaneEndpoint(Model):
    """Where clients and workers find the API."""

    host: Annotated[str, Field(min_length=1, max_length=512)]
    """IP address or DNS name."""
    port: Port


class K0smotronControlPlaneSpec(ClusterSpec):
    """What the user wants: as for Cluster, and the one field that the contract has us fill in."""

    version: VersionText | None = None
    """Version of k0s as the kubelet reports it, such as `v1.36.3+k0s`: workers of that version compare as equal."""
    control_plane_endpoint: ControlPlaneEndpoint | None = None
    """Where the API is. Set once by the operator, unless the user or the infrastructure provides an endpoint."""


class Initialization(Model):
    """What is done once in the life of a control plane."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    control_plane_initialized: bool | None = None
    """Whether the API has answered a request with the delivered kubeconfig. Never turns false again."""


class RunningVersion(Model):
    """One version that runs."""

    version: Annotated[str, Field(min_length=1, max_length=256)]
    """In the words of `spec.version` at the time when it was asked for."""
    replicas: Annotated[Int32, Field(ge=1)] | None = None
    """Controllers of this version."""


class K0smotronControlPlaneStatus(Convertible):
    """What the operator reports."""

    conditions: Conditions | None = None
    """`Available` is the summary; when it is not True, its reason and message name cause and remedy."""
    observed_generation: Int64 | None = None
    """The generation of the spec that this status is about."""
    initialization: Initialization | None = None
    """By this Cluster API learns that workers may join."""
    external_managed_control_plane: bool | None = None
    """True: there are no Machines behind the control plane, so workers are drained without them."""
    replicas: Int32 | None = None
    """Pods of k0s controllers."""
    ready_replicas: Int32 | None = None
    """Those whose API answers."""
    available_replicas: Int32 | None = None
    """Those that serve."""
    up_to_date_replicas: Int32 | None = None
    """Those that run what the spec asks for."""
    selector: str | None = None
    """Selects the pods; for autoscalers."""
    version: str | None = None
    """The lowest version that runs, in the words of `spec.version`."""
    versions: Annotated[
        tuple[RunningVersion, ...] | None,
        Field(strict=False, min_length=1, max_length=100, json_schema_extra=map_list("version")),
    ] = None
    """The versions that run, oldest first."""
    k0s_version: Annotated[str | None, Field(alias="k0sVersion")] = None
    """The release of k0s that is asked of the pods, such as `v1.36.3+k0s.2`."""
    external_address: str | None = None
    """The host of `controlPlaneEndpoint`."""
    control_plane_endpoint: Endpoint | None = None
    """Where workers and clients find the API, and their konnectivity agents."""
    decisions: dict[str, int | str] | None = None
    """What was decided where the spec leaves it open: version, address, ports, ranges. A copy; kept in a Secret."""
    certificates: Annotated[
        tuple[CertificateExpiry, ...] | None, Field(strict=False, json_schema_extra=map_list("name"))
    ] = None
    """Expiry of the control plane's certificates."""


_CLUSTER = Column(
    name="Cluster",
    path=r".metadata.labels['cluster\.x-k8s\.io/cluster-name']",
    description="The Cluster API cluster it belongs to.",
)
_DESIRED = Column(
    name="Desired", path=".spec.replicas", type="integer", description="Controllers that are wanted.", priority=10
)
_AGE = Column(name="Age", path=".metadata.creationTimestamp", type="date")
_VERSION = Column(name="Version", path=".spec.version", description="The version that is wanted.")


class K0smotronControlPlane(Kind):
    """The k0s control plane of a Cluster API cluster, hosted in this cluster."""

    group: ClassVar[str] = "controlplane.cluster.x-k8s.io"
    version: ClassVar[str] = "v1beta2"
    plural: ClassVar[str] = "k0smotroncontrolplanes"
    short_names: ClassVar[tuple[str, ...]] = ()
    scale: ClassVar[bool] = True
    labels: ClassVar[Mapping[str, str]] = contract.CONTROL_PLANE_LABELS
    categories: ClassVar[tuple[str, ...]] = contract.CATEGORIES
    columns: ClassVar[tuple[Column, ...]] = (
        _CLUSTER,
        _DESIRED,
        Column(name="Replicas", path=".status.replicas", type="integer", description="Controllers that run."),
        Column(name="Ready", path=".status.readyReplicas", type="integer", description="Those whose API answers."),
        Column(
            name="UpToDate",
            path=".status.upToDateReplicas",
            type="integer",
            description="Those that run what the spec asks for.",
        ),
        Column(name="Available", path=".status.availableReplicas", type="integer", description="Those that serve."),
        _AGE,
        _VERSION,
        Column(
            name="Reason",
            path='.status.conditions[?(@.type=="Available")].reason',
            description="Why it does not serve, in one word.",
            priority=1,
        ),
        Column(
            name="Message",
            path='.status.conditions[?(@.type=="Available")].message',
            description="The cause and the remedy.",
            priority=1,
        ),
    )

    spec: K0smotronControlPlaneSpec | None = None
    status: K0smotronControlPlaneStatus | None = None


class ControlPlaneTemplateSpec(ClusterSpec):
    """The spec of each control plane. Its version, and its replicas if the topology has them, are the topology's."""

    # Without the rules about changes: those of a template are admission's, which knows a topology's dry run.
    model_config = ConfigDict(json_schema_extra={})

    # No default in the schema; see the module's docstring.
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
    version: ClassVar[str] = "v1beta2"
    plural: ClassVar[str] = "k0smotroncontrolplanetemplates"
    short_names: ClassVar[tuple[str, ...]] = ()
    labels: ClassVar[Mapping[str, str]] = contract.CONTROL_PLANE_LABELS
    categories: ClassVar[tuple[str, ...]] = contract.CATEGORIES
    columns: ClassVar[tuple[Column, ...]] = (_AGE,)

    spec: K0smotronControlPlaneTemplateSpec | None = None
    status: TemplateStatus | None = None


@dataclass(frozen=True, kw_only=True)
class ParsedControlPlane:
    """A K0smotronControlPlane as far as it can be read: its spec, or why there is none."""

    spec: K0smotronControlPlaneSpec | None
    problems: tuple[Problem, ...] = ()


def parse_control_plane(body: Mapping[str, Any]) -> ParsedControlPlane:
    """Read the spec of a K0smotronControlPlane object. Never raises: stored objects may be older than today's schema.

    Only types, enums and bounds are looked at; what the values mean is judged by `control_plane_checks`.
    """
    spec = body.get("spec")
    try:
        return ParsedControlPlane(spec=K0smotronControlPlaneSpec.model_validate({} if spec is None else spec))
    except ValidationError as error:
        return ParsedControlPlane(spec=None, problems=of_validation(error, root="spec"))
