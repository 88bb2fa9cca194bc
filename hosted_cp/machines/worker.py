"""What a worker's machine shall be told, with everything resolved: the input of every format.

What a user wrote has become this by the time it gets here. Secrets have not: content that stands in a Secret is named
(`SecretValue`), and so is the join token, which does not even exist yet; `recipes.WorkerDataRecipe` brings both in when
the executor fulfils it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypeAlias

from hosted_cp.api import machine_rules
from hosted_cp.k0s.versions import Version
from hosted_cp.planning.recipes import config_map_material

#: Taint of a Node that Cluster API has not yet seen; its core takes it away (bootstrap contract).
UNINITIALIZED_TAINT = "node.cluster.x-k8s.io/uninitialized:NoSchedule"

#: By this label k0smotron and we find the Node of a Machine.
MACHINE_LABEL = "k0smotron.io/machine-name"

#: Written when the worker has been started (bootstrap contract).
SENTINEL = "/run/cluster-api/bootstrap-success.complete"
WINDOWS_SENTINEL = r"C:\run\cluster-api\bootstrap-success.complete"

#: User data of EC2, and of most who copied it, end here (bytes).
SMALLEST_LIMIT = 16 * 1024


class Format(StrEnum):
    """`spec.provisioner.type`, and `data.format` of the bootstrap Secret."""

    CLOUD_CONFIG = "cloud-config"
    IGNITION = "ignition"
    POWERSHELL = "powershell"
    POWERSHELL_XML = "powershell-xml"


class Platform(StrEnum):
    LINUX = "linux"
    WINDOWS = "windows"


@dataclass(frozen=True, kw_only=True)
class SecretValue:
    """Content that stands in a Secret of the machine's namespace, or in a ConfigMap."""

    secret: str
    key: str
    #: As the cache knows it, so that other content is another recipe.
    digest: str = ""
    kind: Literal["Secret", "ConfigMap"] = "Secret"

    @property
    def material(self) -> str:
        """Under which name a recipe needs it."""
        return self.secret if self.kind == "Secret" else config_map_material(self.secret)

    def __str__(self) -> str:
        return f"<{self.key} of {self.kind} {self.secret}>"


Content: TypeAlias = bytes | SecretValue


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of the user's."""

    path: str
    content: Content = field(repr=False)
    #: Octal digits; "" for the format's own default, which is 0644 everywhere.
    permissions: str = ""


@dataclass(frozen=True, kw_only=True)
class Ignition:
    """`spec.provisioner.ignition`: a version of Butane's language, and more of it to be merged in."""

    variant: str
    version: str
    additional_config: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A k0s worker on one machine, or on each machine of a pool."""

    #: Of the Machine; or of the MachinePool, whose machines keep their own host names.
    name: str
    version: Version
    format: Format = Format.CLOUD_CONFIG
    platform: Platform = Platform.LINUX
    pool: bool = False
    #: http, https or oci; "" for k0s' own installer.
    download_url: str = ""
    #: SHA-256 of the binary in hex; "" if it is not to be checked.
    checksum: str = ""
    pre_installed: bool = False
    install_dir: str = "/usr/local/bin"
    #: Where the token's file goes; "" for /etc.
    working_dir: str = ""
    use_system_hostname: bool = False
    #: Further flags of `k0s worker`; each entry is split as a shell would, and nothing is expanded.
    args: tuple[str, ...] = ()
    #: Code for the machine's own shell.
    pre_commands: tuple[str, ...] = field(default=(), repr=False)
    post_commands: tuple[str, ...] = field(default=(), repr=False)
    files: tuple[File, ...] = ()
    #: Of the Node, if it is known beforehand.
    provider_id: str = ""
    taints: tuple[str, ...] = (UNINITIALIZED_TAINT,)
    ignition: Ignition | None = None
    #: User data of the user's own, besides ours.
    custom: Content | None = field(default=None, repr=False)
    #: Whether `{{ ds.meta_data.x }}` and `{{ v1.x }}` in `args` and `provider_id` are cloud-init's to fill in.
    instance_data: bool = False


@dataclass(frozen=True, kw_only=True)
class UserData:
    """What a machine is given."""

    value: bytes = field(repr=False)
    format: Format
    #: Sentences for a condition.
    warnings: tuple[str, ...] = ()


class WorkerError(ValueError):
    """The worker cannot be put into the format; `checks.problems` tells the same beforehand, field by field."""


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """What rendering needs beside the worker: the secrets."""

    token: str = field(repr=False)
    #: Of every `SecretValue`.
    contents: Mapping[SecretValue, bytes] = field(default_factory=dict, repr=False)

    def content(self, content: Content) -> bytes:
        return self.contents[content] if isinstance(content, SecretValue) else content


def secret_values(worker: Worker) -> Iterator[SecretValue]:
    """Where the worker's content has to be brought from."""
    for content in (*(file.content for file in worker.files), worker.custom):
        if isinstance(content, SecretValue):
            yield content


# --- things every format asks for ------------------------------------------------------------------------------------


def token_path(worker: Worker) -> str:
    """Where the join token is written."""
    return machine_rules.token_path(worker.working_dir, windows=worker.platform is Platform.WINDOWS)


def binary_path(worker: Worker) -> str:
    """Where k0s is, or will be."""
    windows = worker.platform is Platform.WINDOWS
    separator = "\\" if windows and "\\" in worker.install_dir else "/"
    return f"{worker.install_dir.rstrip(separator)}{separator}{'k0s.exe' if windows else 'k0s'}"


#: What the value of a label looks like.
LABEL_VALUE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def machine_label(worker: Worker) -> str | None:
    """The Node's label; None where the name cannot be one, or names many machines. A kubelet with a label that is no
    label would never register."""
    if worker.pool or not LABEL_VALUE.fullmatch(worker.name):
        return None
    return f"{MACHINE_LABEL}={worker.name}"
