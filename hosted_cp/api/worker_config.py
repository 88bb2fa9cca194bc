"""`K0sWorkerConfig`: what makes a Machine of Cluster API a k0s worker, and its template for MachineDeployments.

Fields, types, enums and defaults are k0smotron's at v1beta2; `downloadSHA256` and
`provisioner.instanceData` are ours. The status is what the v1beta2
bootstrap contract asks for (Cluster API's book, "Contract rules for BootstrapConfig").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, ValidationError

from hosted_cp.api import contract
from hosted_cp.api.base import Column, Int64, Kind, Model, Strings
from hosted_cp.api.cluster import ObjectMetadata
from hosted_cp.api.contract import TemplateMetadata, TemplateStatus
from hosted_cp.api.problems import Problem, of_validation
from hosted_cp.api.status import Conditions, Convertible

IgnitionVariant = Literal["fcos", "flatcar", "openshift", "r4e", "fiot"]
ProvisionerType = Literal["cloud-config", "ignition", "powershell", "powershell-xml"]


class KeyRef(Model):
    """One key of a Secret or ConfigMap, in the namespace of the object that refers to it."""

    name: str
    """Name of the Secret or ConfigMap."""
    key: str
    """Key in its data."""


class ContentSource(Model):
    """Where text comes from: one of the two."""

    secret_ref: KeyRef | None = None
    """From a Secret."""
    config_map_ref: KeyRef | None = None
    """From a ConfigMap."""


class File(Model):
    """A file that is put onto the machine before k0s starts."""

    path: str | None = None
    """Where: an absolute path."""
    permissions: str | None = None
    """Mode in octal, such as `"0644"`. Unset: 0644."""
    content: str | None = None
    """What is in it."""
    content_from: ContentSource | None = None
    """Where to take from what is in it, instead of `content`."""


class Ignition(Model):
    """How Ignition data is made, for type `ignition`."""

    variant: IgnitionVariant
    """Butane's variant of the machine's operating system."""
    version: str
    """Version of that variant's format, such as `1.5.0`."""
    additional_config: str | None = None
    """A Butane config (YAML) that is merged in."""


class Provisioner(Model):
    """In which form the machine is told what to do."""

    type: ProvisionerType = "cloud-config"
    """The form that the machine's image understands."""
    platform: Literal["linux", "windows"] = "linux"
    """Operating system of the machine."""
    ignition: Ignition | None = None
    """For type `ignition`."""
    custom_user_data_ref: ContentSource | None = None
    """Further user data in the same form."""
    instance_data: bool | None = None
    """Whether cloud-init fills in `{{ ds.… }}` and `{{ v1.… }}` in `args` and in the Machine's provider id; for type
    `cloud-config`. Unset: they are text. An addition of hosted-cp: k0smotron makes a template of everything, always."""


class K0sWorkerConfigSpec(Model):
    """What the user wants."""

    version: Annotated[str | None, Field(max_length=256)] = None
    """Version of k0s; unset: the Machine's."""
    args: Strings = ()
    """Further flags of `k0s worker`, one string each (`--x=y`)."""
    files: Annotated[tuple[File, ...] | None, Field(strict=False)] = None
    """Files that are put onto the machine before anything runs."""
    pre_k0s_commands: Annotated[Strings, Field(alias="preK0sCommands")] = ()
    """Commands that run before k0s is installed."""
    post_k0s_commands: Annotated[Strings, Field(alias="postK0sCommands")] = ()
    """Commands that run after k0s was started."""
    provisioner: Provisioner | None = None
    """In which form the machine is told what to do; unset: cloud-config for Linux."""
    pre_installed_k0s: Annotated[bool | None, Field(alias="preInstalledK0s")] = None
    """Whether the machine's image brings k0s, so that nothing is downloaded."""
    download_url: Annotated[str | None, Field(alias="downloadURL")] = None
    """Where k0s is downloaded from (http, https or oci); unset: k0s's own site."""
    download_sha256: Annotated[
        str | None, Field(alias="downloadSHA256", max_length=64, pattern=r"^[0-9a-fA-F]{64}$")
    ] = None
    """SHA-256 of the downloaded program, which is not run if it differs. An addition of hosted-cp."""
    k0s_install_dir: Annotated[str, Field(alias="k0sInstallDir")] = "/usr/local/bin"
    """Directory of the program `k0s` on the machine."""
    working_dir: str | None = None
    """Directory for the join token; unset: `/etc`."""
    use_system_hostname: bool = False
    """Whether the Node takes the machine's own host name instead of the Machine's name."""
    secret_metadata: ObjectMetadata | None = None
    """Labels and annotations for the Secret with the bootstrap data."""


class BootstrapInitialization(Model):
    """What is done once in the life of a worker."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    data_secret_created: bool | None = None
    """Whether the Secret with the bootstrap data is there."""


class K0sWorkerConfigStatus(Convertible):
    """What the operator reports."""

    conditions: Conditions | None = None
    """`Ready` is the summary; when it is not True, its reason and message name cause and remedy."""
    observed_generation: Int64 | None = None
    """The generation of the spec that this status is about."""
    initialization: BootstrapInitialization | None = None
    """By this Cluster API learns that the machine can be made."""
    data_secret_name: Annotated[str | None, Field(min_length=1, max_length=253)] = None
    """Name of the Secret with the bootstrap data."""


_AGE = Column(name="Age", path=".metadata.creationTimestamp", type="date")


class K0sWorkerConfig(Kind):
    """What makes a Machine a k0s worker."""

    group: ClassVar[str] = "bootstrap.cluster.x-k8s.io"
    version: ClassVar[str] = "v1beta2"
    plural: ClassVar[str] = "k0sworkerconfigs"
    short_names: ClassVar[tuple[str, ...]] = ()
    labels: ClassVar[Mapping[str, str]] = contract.BOOTSTRAP_LABELS
    categories: ClassVar[tuple[str, ...]] = contract.CATEGORIES
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            name="Cluster",
            path=r".metadata.labels['cluster\.x-k8s\.io/cluster-name']",
            description="The Cluster API cluster it belongs to.",
        ),
        Column(
            name="Ready",
            path='.status.conditions[?(@.type=="Ready")].status',
            description="Whether the bootstrap data is there.",
        ),
        Column(name="Data secret", path=".status.dataSecretName", description="Where the bootstrap data is."),
        _AGE,
        Column(
            name="Reason",
            path='.status.conditions[?(@.type=="Ready")].reason',
            description="Why there is no data, in one word.",
        ),
        Column(
            name="Message",
            path='.status.conditions[?(@.type=="Ready")].message',
            description="The cause and the remedy.",
            priority=1,
        ),
    )

    spec: K0sWorkerConfigSpec | None = None
    status: K0sWorkerConfigStatus | None = None


class WorkerConfigTemplate(Model):
    """What worker configs are made from."""

    metadata: TemplateMetadata | None = None
    spec: K0sWorkerConfigSpec | None = None


class K0sWorkerConfigTemplateSpec(Model):
    """What the user wants."""

    template: WorkerConfigTemplate | None = None


class K0sWorkerConfigTemplate(Kind):
    """What MachineDeployments make worker configs from. To change one, create another and refer to that."""

    group: ClassVar[str] = "bootstrap.cluster.x-k8s.io"
    version: ClassVar[str] = "v1beta2"
    plural: ClassVar[str] = "k0sworkerconfigtemplates"
    short_names: ClassVar[tuple[str, ...]] = ()
    labels: ClassVar[Mapping[str, str]] = contract.BOOTSTRAP_LABELS
    categories: ClassVar[tuple[str, ...]] = contract.CATEGORIES
    columns: ClassVar[tuple[Column, ...]] = (_AGE,)

    spec: K0sWorkerConfigTemplateSpec | None = None
    status: TemplateStatus | None = None


@dataclass(frozen=True, kw_only=True)
class ParsedWorkerConfig:
    """A K0sWorkerConfig as far as it can be read: its spec, or why there is none."""

    spec: K0sWorkerConfigSpec | None
    problems: tuple[Problem, ...] = ()


def parse_worker_config(body: Mapping[str, Any]) -> ParsedWorkerConfig:
    """Read the spec of a K0sWorkerConfig object. Never raises: stored objects may be older than today's schema.

    Only types, enums and bounds are looked at; what the values mean is judged by `worker_config_checks`.
    """
    spec = body.get("spec")
    try:
        return ParsedWorkerConfig(spec=K0sWorkerConfigSpec.model_validate({} if spec is None else spec))
    except ValidationError as error:
        return ParsedWorkerConfig(spec=None, problems=of_validation(error, root="spec"))
