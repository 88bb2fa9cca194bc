"""`K0sWorkerConfig` and its template at v1beta1: what became `provisioner` stands directly in the spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from hosted_cp.api import contract
from hosted_cp.api.base import Column, Kind, Model, Strings
from hosted_cp.api.cluster import ObjectMetadata
from hosted_cp.api.contract import TemplateMetadata, TemplateStatus
from hosted_cp.api.status import Conditions, Convertible
from hosted_cp.api.worker_config import ContentSource, File, Ignition


class K0sWorkerConfigSpec(Model):
    """What the user wants."""

    version: Annotated[str | None, Field(max_length=256)] = None
    """Version of k0s; unset: the Machine's."""
    args: Strings = ()
    """Further flags of `k0s worker`, one string each (`--x=y`)."""
    files: Annotated[tuple[File, ...] | None, Field(strict=False)] = None
    """Files that are put onto the machine before anything runs."""
    pre_start_commands: Strings = ()
    """Commands that run before k0s is installed. At v1beta2: `preK0sCommands`."""
    post_start_commands: Strings = ()
    """Commands that run after k0s was started. At v1beta2: `postK0sCommands`."""
    ignition: Ignition | None = None
    """Makes Ignition data instead of cloud-config. At v1beta2: `provisioner.ignition`."""
    custom_user_data_ref: ContentSource | None = None
    """Further user data in the same form. At v1beta2: `provisioner.customUserDataRef`."""
    pre_installed_k0s: Annotated[bool | None, Field(alias="preInstalledK0s")] = None
    """Whether the machine's image brings k0s, so that nothing is downloaded."""
    download_url: Annotated[str | None, Field(alias="downloadURL")] = None
    """Where k0s is downloaded from (http, https or oci); unset: k0s's own site."""
    k0s_install_dir: Annotated[str, Field(alias="k0sInstallDir")] = "/usr/local/bin"
    """Directory of the program `k0s` on the machine."""
    working_dir: str | None = None
    """Directory for the join token; unset: `/etc`."""
    use_system_hostname: bool = False
    """Whether the Node takes the machine's own host name instead of the Machine's name."""
    secret_metadata: ObjectMetadata | None = None
    """Labels and annotations for the Secret with the bootstrap data."""


class K0sWorkerConfigStatus(Convertible):
    """What the operator reports."""

    conditions: Conditions | None = None
    """`Ready` is the summary; when it is not True, its reason and message name cause and remedy."""
    ready: bool | None = None
    """Whether the data is there. At v1beta2: `initialization.dataSecretCreated`."""
    data_secret_name: Annotated[str | None, Field(min_length=1, max_length=253)] = None
    """Name of the Secret with the bootstrap data."""


class K0sWorkerConfig(Kind):
    """What makes a Machine a k0s worker."""

    group: ClassVar[str] = "bootstrap.cluster.x-k8s.io"
    version: ClassVar[str] = "v1beta1"
    plural: ClassVar[str] = "k0sworkerconfigs"
    short_names: ClassVar[tuple[str, ...]] = ()
    labels: ClassVar[Mapping[str, str]] = contract.BOOTSTRAP_LABELS
    categories: ClassVar[tuple[str, ...]] = contract.CATEGORIES
    deprecated: ClassVar[bool] = True
    columns: ClassVar[tuple[Column, ...]] = ()

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
    version: ClassVar[str] = "v1beta1"
    plural: ClassVar[str] = "k0sworkerconfigtemplates"
    short_names: ClassVar[tuple[str, ...]] = ()
    labels: ClassVar[Mapping[str, str]] = contract.BOOTSTRAP_LABELS
    categories: ClassVar[tuple[str, ...]] = contract.CATEGORIES
    deprecated: ClassVar[bool] = True
    columns: ClassVar[tuple[Column, ...]] = ()

    spec: K0sWorkerConfigTemplateSpec | None = None
    status: TemplateStatus | None = None
