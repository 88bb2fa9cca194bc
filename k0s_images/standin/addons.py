"""The stacks that a controller puts into its cluster by itself, as objects.

Written from the components' own documentation; names, labels and arguments that others rely on are those of k0s.
"""

from __future__ import annotations

from k0s_images.standin.config import ClusterConfig
from k0s_images.standin.kube import Object
from k0s_images.standin.programs import AGENT_AUDIENCE

_RBAC = "rbac.authorization.k8s.io"
_CLUSTER_SERVICE = {"kubernetes.io/cluster-service": "true"}


def cluster_role(name: str, rules: list[Object], **labels: str) -> Object:
    """A ClusterRole."""
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name, "labels": labels},
        "rules": rules,
    }


def bound(name: str, role: str, subject: Object, **labels: str) -> Object:
    """A ClusterRoleBinding of one subject."""
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name, "labels": labels},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    }


def account(name: str, **labels: str) -> Object:
    """A ServiceAccount in kube-system."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": "kube-system", "labels": labels},
    }


def service_account(name: str) -> Object:
    """A ServiceAccount of kube-system as a subject."""
    return {"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}


def konnectivity(config: ClusterConfig, *, servers: int) -> list[Object]:
    """The agents that dial out to konnectivity-server; a changed number of servers rolls them."""
    host, port = config.agents_dial
    name = "konnectivity-agent"

    def probe(path: str) -> Object:
        return {"httpGet": {"port": 8093, "path": path}, "initialDelaySeconds": 15, "timeoutSeconds": 15}

    container = {
        "name": name,
        "image": config.image("konnectivity"),
        "imagePullPolicy": config.spec["images"]["default_pull_policy"],
        "env": [
            {"name": "K0S_CONTROLLER_COUNT", "value": str(servers)},
            {"name": "NODE_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
        ],
        "args": [
            "--logtostderr=true",
            "--ca-cert=/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
            f"--proxy-server-host={host}",
            f"--proxy-server-port={port}",
            "--service-account-token-path=/var/run/secrets/tokens/konnectivity-agent-token",
            "--agent-identifiers=host=$(NODE_IP)",
            "--agent-id=$(NODE_IP)",
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["all"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"mountPath": "/var/run/secrets/tokens", "name": "konnectivity-agent-token"}],
        "livenessProbe": probe("/healthz"),
        "readinessProbe": probe("/readyz"),
    }
    token = {"serviceAccountToken": {"path": "konnectivity-agent-token", "audience": AGENT_AUDIENCE}}
    pod = {
        "securityContext": {"runAsNonRoot": True, "supplementalGroups": [0]},
        "priorityClassName": "system-cluster-critical",
        "tolerations": [{"operator": "Exists"}],
        "serviceAccountName": name,
        "containers": [container],
        "volumes": [{"name": "konnectivity-agent-token", "projected": {"sources": [token]}}],
    }
    user = {"apiGroup": _RBAC, "kind": "User", "name": AGENT_AUDIENCE}
    return [
        bound("system:konnectivity-server", "system:auth-delegator", user, **_CLUSTER_SERVICE),
        account(name, **_CLUSTER_SERVICE),
        daemon_set(name, pod, annotations={"prometheus.io/scrape": "true", "prometheus.io/port": "8093"}),
    ]


def daemon_set(name: str, pod: Object, *, annotations: dict[str, str] | None = None) -> Object:
    """A DaemonSet in kube-system, selected by `k8s-app`."""
    labels = {"k8s-app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": "kube-system", "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels, "annotations": annotations or {}}, "spec": pod},
        },
    }
