"""What the administrator of the operator decided, and the catalogue of supported versions. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The operator's settings that plans depend on.

    Changing one may roll tenants: they are part of every view.
    """

    #: Parsed `catalogue.json`: supported k0s versions, images, floors.
    catalogue: Mapping[str, Any] = field(default_factory=dict)
    #: Repository of the k0s image, without tag, where neither the tenant nor the catalogue's default is wanted.
    k0s_image: str | None = None
    #: The etcd image with tag, likewise.
    etcd_image: str | None = None
    #: DNS domain of the management cluster.
    cluster_domain: str = "cluster.local"
    #: Namespaces in which hostPath, a service account and weaker security contexts may be asked for.
    privileged_namespaces: frozenset[str] = frozenset()
    #: Whether NetworkPolicies are made for tenants (only useful where something enforces them).
    network_policies: bool = False
    #: Whether the operator can reach the tenants' Services (it runs in the cluster).
    reaches_tenants: bool = True
    #: Pod priority class for control planes, "" for none.
    priority_class: str = ""
