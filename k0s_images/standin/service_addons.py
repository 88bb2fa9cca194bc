"""The add-ons that serve pods: CoreDNS and metrics-server."""

from __future__ import annotations

from k0s_images.standin.addons import account, bound, cluster_role, service_account
from k0s_images.standin.config import ClusterConfig
from k0s_images.standin.kube import Object

_DEFAULTS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_LINUX = {"kubernetes.io/os": "linux"}
_CONTROL_PLANE = {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}
_LOCKED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}


def _corefile(domain: str) -> str:
    return (
        ".:53 {\n    errors\n    health {\n        lameduck 5s\n    }\n    ready\n"
        f"    kubernetes {domain} in-addr.arpa ip6.arpa {{\n"
        "        pods insecure\n        fallthrough in-addr.arpa ip6.arpa\n        ttl 30\n    }\n"
        "    prometheus :9153\n    forward . /etc/resolv.conf\n    cache 30\n    loop\n    reload\n    loadbalance\n}\n"
    )


def coredns(config: ClusterConfig) -> list[Object]:
    """Names for Services and pods, on the tenth address of the service network."""
    labels = {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}
    selector = {"k8s-app": "kube-dns"}
    readable = {"verbs": ["list", "watch"]}
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], **readable},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], **readable},
    ]
    ports = (("dns", 53, "UDP"), ("dns-tcp", 53, "TCP"), ("metrics", 9153, "TCP"))
    container = {
        "name": "coredns",
        "image": config.image("coredns"),
        "imagePullPolicy": config.spec["images"]["default_pull_policy"],
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [{"name": n, "containerPort": p, "protocol": protocol} for n, p, protocol in ports],
        "resources": {"limits": {"memory": "170Mi"}, "requests": {"cpu": "100m", "memory": "70Mi"}},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
        "livenessProbe": {"httpGet": {"path": "/health", "port": 8080}, "initialDelaySeconds": 60},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}},
        "securityContext": {**_LOCKED, "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["all"]}},
    }
    pod = {
        "priorityClassName": "system-cluster-critical",
        "serviceAccountName": "coredns",
        "nodeSelector": _LINUX,
        "tolerations": [{"key": "CriticalAddonsOnly", "operator": "Exists"}, _CONTROL_PLANE],
        "dnsPolicy": "Default",
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }  # fmt: skip
    corefile = _corefile(config.spec["network"]["clusterDomain"])
    return [
        account("coredns"),
        cluster_role("system-coredns", rules, **_DEFAULTS),
        bound("system-coredns", "system-coredns", service_account("coredns"), **_DEFAULTS),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _in_system("coredns"), "data": {"Corefile": corefile}},
        _deployment("coredns", labels, selector, pod),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _in_system("kube-dns", **labels, **{"kubernetes.io/cluster-service": "true"}),
            "spec": {
                "selector": selector,
                "clusterIP": config.cluster_dns,
                "ports": [{"name": n, "port": p, "protocol": protocol} for n, p, protocol in ports],
            },
        },
    ]


def metrics_server(config: ClusterConfig) -> list[Object]:
    """`kubectl top`, and what autoscalers read."""
    name, labels = "metrics-server", {"k8s-app": "metrics-server"}
    user = service_account(name)
    reader = [{"apiGroups": ["metrics.k8s.io"], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]}]
    own = [
        {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]},
    ]
    aggregated = {f"rbac.authorization.k8s.io/aggregate-to-{role}": "true" for role in ("admin", "edit", "view")}
    group = "rbac.authorization.k8s.io"

    def probe(path: str) -> Object:
        return {"httpGet": {"path": path, "port": "https", "scheme": "HTTPS"}, "periodSeconds": 10}

    container = {
        "name": name,
        "image": config.image("metricsserver"),
        "imagePullPolicy": config.spec["images"]["default_pull_policy"],
        "args": [
            "--cert-dir=/tmp",
            "--secure-port=10250",
            "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
            "--kubelet-use-node-status-port",
            "--metric-resolution=15s",
        ],
        "ports": [{"name": "https", "containerPort": 10250, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "10m", "memory": "30M"}},
        "livenessProbe": probe("/livez"),
        "readinessProbe": {**probe("/readyz"), "initialDelaySeconds": 20},
        "securityContext": {**_LOCKED, "runAsNonRoot": True, "runAsUser": 1000, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "tmp-dir", "mountPath": "/tmp"}],
    }
    pod = {
        "priorityClassName": "system-cluster-critical",
        "serviceAccountName": name,
        "nodeSelector": _LINUX,
        "tolerations": [_CONTROL_PLANE],
        "containers": [container],
        "volumes": [{"name": "tmp-dir", "emptyDir": {}}],
    }
    return [
        account(name, **labels),
        cluster_role("system:aggregated-metrics-reader", reader, **labels, **aggregated),
        cluster_role("system:metrics-server", own, **labels),
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": _in_system("metrics-server-auth-reader", **labels),
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "extension-apiserver-authentication-reader"},
            "subjects": [user],
        },
        bound("metrics-server:system:auth-delegator", "system:auth-delegator", user, **labels),
        bound("system:metrics-server", "system:metrics-server", user, **labels),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _in_system(name, **labels),
            "spec": {
                "selector": labels,
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": "https"}],
            },
        },
        _deployment(name, labels, labels, pod),
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io", "labels": labels},
            "spec": {
                "group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
                "insecureSkipTLSVerify": True, "service": {"name": name, "namespace": "kube-system"},
            },
        },
    ]  # fmt: skip


def _in_system(name: str, **labels: str) -> Object:
    return {"name": name, "namespace": "kube-system", **({"labels": labels} if labels else {})}


def _deployment(name: str, labels: dict[str, str], selector: dict[str, str], pod: Object) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _in_system(name, **labels),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": selector},
            "template": {"metadata": {"labels": selector}, "spec": pod},
        },
    }
