"""All our kinds, each in its versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hosted_cp.api import cluster, control_plane, join_token_request, worker_config
from hosted_cp.api.base import Kind
from hosted_cp.api.v1beta1 import cluster as cluster_v1beta1
from hosted_cp.api.v1beta1 import control_plane as control_plane_v1beta1
from hosted_cp.api.v1beta1 import join_token_request as join_token_request_v1beta1
from hosted_cp.api.v1beta1 import worker_config as worker_config_v1beta1


@dataclass(frozen=True, kw_only=True)
class Versions:
    """One kind: as it is stored and worked on, and as it is served besides."""

    hub: type[Kind]
    v1beta1: type[Kind]

    @property
    def all(self) -> tuple[type[Kind], ...]:
        """The hub first."""
        return self.hub, self.v1beta1


VERSIONED = (
    Versions(hub=cluster.Cluster, v1beta1=cluster_v1beta1.Cluster),
    Versions(hub=join_token_request.JoinTokenRequest, v1beta1=join_token_request_v1beta1.JoinTokenRequest),
    Versions(hub=control_plane.K0smotronControlPlane, v1beta1=control_plane_v1beta1.K0smotronControlPlane),
    Versions(
        hub=control_plane.K0smotronControlPlaneTemplate, v1beta1=control_plane_v1beta1.K0smotronControlPlaneTemplate
    ),
    Versions(hub=worker_config.K0sWorkerConfig, v1beta1=worker_config_v1beta1.K0sWorkerConfig),
    Versions(hub=worker_config.K0sWorkerConfigTemplate, v1beta1=worker_config_v1beta1.K0sWorkerConfigTemplate),
)

#: The API groups that each provider of Cluster API brings. Tenants that stand alone come with control planes.
PROVIDERS: Mapping[str, tuple[str, ...]] = {
    "control-plane": (cluster.Cluster.group, control_plane.K0smotronControlPlane.group),
    "bootstrap": (worker_config.K0sWorkerConfig.group,),
}


def of_provider(provider: str) -> tuple[Versions, ...]:
    """The kinds of one provider; of "": all. Raises KeyError for a name that is none."""
    groups = PROVIDERS[provider] if provider else tuple(each for some in PROVIDERS.values() for each in some)
    return tuple(each for each in VERSIONED if each.hub.group in groups)
