"""Which path an API server serves each kind under.

The table replaces discovery: the kinds we touch are few and known, and discovery would cost requests at every start.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from hosted_cp.planning.actions import Ref


class _Names(NamedTuple):
    group: str  # "" for the core group
    version: str
    kind: str
    plural: str
    namespaced: bool = True


class Resource(_Names):
    """One kind in one version, as an API server serves it.

    A tuple, because kinds are compared some thirty times for each object that comes: a dataclass takes five times as
    long.
    """

    @cached_property
    def api_version(self) -> str:
        """As objects carry it: "v1", "apps/v1"."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @cached_property
    def definition(self) -> str:
        """The name of its CustomResourceDefinition, if it has one."""
        return f"{self.plural}.{self.group}"

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """The URL path of the collection (no name), of one object, or of its subresource.

        A namespaced kind without a namespace means all namespaces.
        """
        parts = ["", "apis", self.group, self.version] if self.group else ["", "api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [self.plural, *filter(None, (name, subresource))]
        return "/".join(parts)

    def ref(self, namespace: str | None, name: str) -> Ref:
        """The name of one object of this kind."""
        return Ref(api_version=self.api_version, kind=self.kind, namespace=namespace, name=name)


class UnknownKind(LookupError):
    """A kind that is not in the table: a plan asks for something this operator does not touch."""


def _core(kind: str, plural: str, *, namespaced: bool = True) -> Resource:
    return Resource(group="", version="v1", kind=kind, plural=plural, namespaced=namespaced)


NAMESPACE = _core("Namespace", "namespaces", namespaced=False)
NODE = _core("Node", "nodes", namespaced=False)
CONFIG_MAP = _core("ConfigMap", "configmaps")
ENDPOINTS = _core("Endpoints", "endpoints")
EVENT = _core("Event", "events")
PERSISTENT_VOLUME_CLAIM = _core("PersistentVolumeClaim", "persistentvolumeclaims")
POD = _core("Pod", "pods")
SECRET = _core("Secret", "secrets")
SERVICE = _core("Service", "services")
SERVICE_ACCOUNT = _core("ServiceAccount", "serviceaccounts")
STATEFUL_SET = Resource(group="apps", version="v1", kind="StatefulSet", plural="statefulsets")
DEPLOYMENT = Resource(group="apps", version="v1", kind="Deployment", plural="deployments")
JOB = Resource(group="batch", version="v1", kind="Job", plural="jobs")
CRON_JOB = Resource(group="batch", version="v1", kind="CronJob", plural="cronjobs")
POD_DISRUPTION_BUDGET = Resource(
    group="policy", version="v1", kind="PodDisruptionBudget", plural="poddisruptionbudgets"
)
NETWORK_POLICY = Resource(group="networking.k8s.io", version="v1", kind="NetworkPolicy", plural="networkpolicies")
INGRESS = Resource(group="networking.k8s.io", version="v1", kind="Ingress", plural="ingresses")
ENDPOINT_SLICE = Resource(group="discovery.k8s.io", version="v1", kind="EndpointSlice", plural="endpointslices")
LEASE = Resource(group="coordination.k8s.io", version="v1", kind="Lease", plural="leases")
STORAGE_CLASS = Resource(
    group="storage.k8s.io", version="v1", kind="StorageClass", plural="storageclasses", namespaced=False
)
CLUSTER_ROLE = Resource(
    group="rbac.authorization.k8s.io", version="v1", kind="ClusterRole", plural="clusterroles", namespaced=False
)
CLUSTER_ROLE_BINDING = Resource(
    group="rbac.authorization.k8s.io",
    version="v1",
    kind="ClusterRoleBinding",
    plural="clusterrolebindings",
    namespaced=False,
)
ROLE = Resource(group="rbac.authorization.k8s.io", version="v1", kind="Role", plural="roles")
ROLE_BINDING = Resource(group="rbac.authorization.k8s.io", version="v1", kind="RoleBinding", plural="rolebindings")
CRD = Resource(
    group="apiextensions.k8s.io",
    version="v1",
    kind="CustomResourceDefinition",
    plural="customresourcedefinitions",
    namespaced=False,
)
CLUSTER = Resource(group="k0smotron.io", version="v1beta2", kind="Cluster", plural="clusters")
JOIN_TOKEN_REQUEST = Resource(
    group="k0smotron.io", version="v1beta2", kind="JoinTokenRequest", plural="jointokenrequests"
)
CONTROL_PLANE = Resource(
    group="controlplane.cluster.x-k8s.io",
    version="v1beta2",
    kind="K0smotronControlPlane",
    plural="k0smotroncontrolplanes",
)
#: The Cluster of Cluster API's core, which has no more to do with ours than its name.
CORE_CLUSTER = Resource(group="cluster.x-k8s.io", version="v1beta2", kind="Cluster", plural="clusters")
MACHINE = Resource(group="cluster.x-k8s.io", version="v1beta2", kind="Machine", plural="machines")
MACHINE_POOL = Resource(group="cluster.x-k8s.io", version="v1beta2", kind="MachinePool", plural="machinepools")
WORKER_CONFIG = Resource(
    group="bootstrap.cluster.x-k8s.io", version="v1beta2", kind="K0sWorkerConfig", plural="k0sworkerconfigs"
)

_TABLE = {(each.api_version, each.kind): each for each in globals().values() if isinstance(each, Resource)}


def register(resource: Resource) -> None:
    """Let plans name one more kind (the webhooks' own, or a test's)."""
    _TABLE[resource.api_version, resource.kind] = resource


def resource_for(ref: Ref) -> Resource:
    """The resource of a named object. Raises `UnknownKind`."""
    try:
        return _TABLE[ref.api_version, ref.kind]
    except KeyError:
        raise UnknownKind(f"{ref.api_version} {ref.kind} is not among the kinds this operator touches") from None
