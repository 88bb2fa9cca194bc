"""Names and labels of a tenant's objects: k0smotron's, exactly, because users, docs and scripts depend on them.

Selectors are fixed labels only. What the user puts on his object goes to metadata, never to selectors (they cannot
change) and never to pod templates (a label must not restart a control plane).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

#: Longest tenant name: `kmc-<name>-etcd-<ordinal>` plus the revision hash that the StatefulSet controller puts into a
#: label of each pod must stay within 63 characters, or no pod can exist.
LONGEST_NAME = 43

#: On every object and volume that belongs to a tenant: the UID of the tenant's object.
TENANT_UID = "hosted-cp.io/tenant-uid"
#: The tenant's decisions, on its config Secret: JSON (see `hosted_cp.hosting.tenant`).
DECISIONS = "hosted-cp.io/decisions"
#: Put by the user on a data volume of a former life whose CAs he has brought back.
ADOPT = "hosted-cp.io/adopt"
#: The finalizer of `Cluster` (k0smotron's name).
FINALIZER = "k0smotron.io/finalizer"
#: What k0smotron leaves on StatefulSets it looks after, and its field manager.
K0SMOTRON_HASH = "k0smotron.io/statefulset-hash"
K0SMOTRON_MANAGER = "k0smotron-operator"

#: On the StatefulSet of the controllers, where the words of a version are remembered: the version of its template.
RELEASE = "hosted-cp.io/release"

COMPONENT = "app.kubernetes.io/component"

#: How the names of our own volumes of a controller's pod begin: no manifest and no path of a user is called so.
OUR_VOLUMES = "hosted-cp-"


def shortened(name: str) -> str:
    """`name`, or its first 57 characters and five hex digits of its MD5 if it is longer than 63 (k0smotron's rule)."""
    if len(name) <= 63:
        return name
    return f"{name[:57]}-{hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:5]}"


@dataclass(frozen=True)
class Names:
    """The names of one tenant's objects, from the tenant's name."""

    tenant: str

    @cached_property
    def control_plane(self) -> str:
        return shortened(f"kmc-{self.tenant}")

    def service(self, service_type: str) -> str:
        suffix = {"NodePort": "-nodeport", "LoadBalancer": "-lb"}.get(service_type, "")
        return shortened(f"kmc-{self.tenant}{suffix}")

    @cached_property
    def config(self) -> str:
        return shortened(f"kmc-{self.tenant}-config")

    @cached_property
    def etcd(self) -> str:
        return shortened(f"kmc-{self.tenant}-etcd")

    @cached_property
    def etcd_permit(self) -> str:
        return shortened(f"kmc-{self.tenant}-etcd-permit")

    def secret(self, purpose: str) -> str:
        """`ca`, `proxy`, `sa`, `etcd`, or a leaf: `apiserver-etcd-client`, `etcd-server`, `etcd-peer`."""
        return shortened(f"{self.tenant}-{purpose}")

    @cached_property
    def kubeconfig(self) -> str:
        return f"{self.tenant}-kubeconfig"


#: Kind -> what stands around a tenant's name in the name of a child of that kind.
_AROUND: Mapping[str, tuple[tuple[str, str], ...]] = {
    "Service": (("kmc-", ""), ("kmc-", "-nodeport"), ("kmc-", "-lb"), ("kmc-", "-etcd")),
    "Secret": (
        *(("", f"-{purpose}") for purpose in ("ca", "proxy", "sa", "etcd")),
        *(("", f"-{purpose}") for purpose in ("apiserver-etcd-client", "etcd-server", "etcd-peer", "kubeconfig")),
        ("kmc-", "-config"),
        ("kmc-", "-etcd-permit"),
    ),
    **dict.fromkeys(("StatefulSet", "PodDisruptionBudget", "NetworkPolicy"), (("kmc-", ""), ("kmc-", "-etcd"))),
}


def children_of(tenant: str) -> Iterator[tuple[str, str]]:
    """Kind and name of every object that a tenant may have."""
    for kind, around in _AROUND.items():
        for before, after in around:
            yield kind, shortened(f"{before}{tenant}{after}")


def tenants_with(kind: str, name: str) -> Iterator[str]:
    """The tenants that may have a child of this kind and name, whether they exist or not."""
    for before, after in _AROUND.get(kind, ()):
        tenant = name.removeprefix(before).removesuffix(after)
        if tenant and f"{before}{tenant}{after}" == name:
            yield tenant


def selector(tenant: str, component: str) -> dict[str, str]:
    """What selects the pods of `component` ("cluster" or "etcd"): fixed for the life of the tenant."""
    labels = {"app": "k0smotron", "cluster": tenant, "component": component}
    if component == "cluster":
        labels["cluster.x-k8s.io/control-plane"] = "true"
    return labels


def object_labels(
    *, tenant: str, uid: str, component: str, part: str, users: Mapping[str, str], extra: Mapping[str, str]
) -> dict[str, str]:
    """Metadata labels: the user's, then `kubeconfigSecretMetadata`'s, then ours, which win.

    `part` is the value of `app.kubernetes.io/component`, by which `spec.patches` finds objects.
    """
    fixed = {k: v for k, v in selector(tenant, component).items() if k != "cluster.x-k8s.io/control-plane"}
    return {**users, **extra, **fixed, COMPONENT: part, TENANT_UID: uid}
