"""The objects the lab puts into its cluster so that it is like one that a provider hands out. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

PROVISIONER = "lab.hosted-cp.io/host-path"
STORAGE_CLASS = "lab-local"
#: On a Service of type LoadBalancer: "true" means that it never gets (and loses) an address.
NO_ADDRESS = "lab.hosted-cp.io/no-address"

_DNS_PORTS = (("dns", 53, "UDP"), ("dns-tcp", 53, "TCP"))


def storage_class() -> dict[str, Any]:
    """The default StorageClass. A class of another name exists once somebody creates it; until then claims wait."""
    return {
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": PROVISIONER, "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate",
    }  # fmt: skip


def dns(address: IPv4Address, server: IPv4Address) -> list[tuple[str, dict[str, Any]]]:
    """The DNS Service, the slice that points it at the coredns process, and what coredns may read."""
    labels = {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}
    service = {
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
        "spec": {"clusterIP": str(address),
                 "ports": [{"name": name, "port": port, "protocol": protocol} for name, port, protocol in _DNS_PORTS]},
    }  # fmt: skip
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "kube-dns-lab", "namespace": "kube-system",
                     "labels": {"kubernetes.io/service-name": "kube-dns",
                                "endpointslice.kubernetes.io/managed-by": "hosted-cp-lab"}},
        "endpoints": [{"addresses": [str(server)], "conditions": {"ready": True}}],
        "ports": [{"name": name, "port": port, "protocol": protocol} for name, port, protocol in _DNS_PORTS],
    }  # fmt: skip
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "lab-coredns"},
        "rules": [
            {"apiGroups": [""], "resources": ["services", "namespaces", "pods"], "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ],
    }  # fmt: skip
    return [
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles/lab-coredns", role),
        ("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/lab-coredns", binding("lab-coredns")),
        ("/api/v1/namespaces/kube-system/services/kube-dns", service),
        ("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns-lab", endpoints),
    ]


def cloud() -> list[tuple[str, dict[str, Any]]]:
    """What the storage provisioner and the LoadBalancer controller may do, and their StorageClass."""
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "lab-cloud"},
        "rules": [
            {"apiGroups": [""], "resources": ["persistentvolumeclaims", "services"], "verbs": ["list", "watch"]},
            {"apiGroups": [""], "resources": ["persistentvolumes"], "verbs": ["list", "watch", "create", "delete"]},
            {"apiGroups": [""], "resources": ["services/status"], "verbs": ["patch"]},
        ],
    }  # fmt: skip
    return [
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles/lab-cloud", role),
        ("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/lab-cloud", binding("lab-cloud")),
        (f"/apis/storage.k8s.io/v1/storageclasses/{STORAGE_CLASS}", storage_class()),
    ]


def binding(name: str) -> dict[str, Any]:
    """Gives the ClusterRole `name` to the user of the same name."""
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": group, "kind": "User", "name": name}],
    }  # fmt: skip


def corefile(*, server: IPv4Address, kubeconfig: str) -> str:
    """CoreDNS answers for the cluster and denies all other names at once: nothing here leads to the internet."""
    return f"""\
cluster.local:53 in-addr.arpa:53 {{
    bind {server}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 1
    }}
}}
.:53 {{
    bind {server}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
"""
