"""The add-ons that connect pods: kube-proxy and kube-router."""

from __future__ import annotations

import json
from typing import Any

from k0s_images.standin import kubeconfig
from k0s_images.standin.addons import account, bound, cluster_role, service_account
from k0s_images.standin.config import ClusterConfig
from k0s_images.standin.kube import Object

_RBAC = "rbac.authorization.k8s.io"
_DEFAULTS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_ANYWHERE = [{"operator": "Exists", "effect": "NoSchedule"}, {"operator": "Exists", "effect": "NoExecute"}]
_NODE_NAME = {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


def _host_path(name: str, path: str, **more: str) -> Object:
    return {"name": name, "hostPath": {"path": path, **more}}


def _daemon(name: str, labels: dict[str, str], pod: Object) -> Object:
    pod = {
        "hostNetwork": True,
        "priorityClassName": "system-node-critical",
        "serviceAccountName": name,
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": _ANYWHERE,
        **pod,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": "kube-system", "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }


def _proxy_configuration(config: ClusterConfig) -> Object:
    section = config.spec["network"]["kubeProxy"]
    result: dict[str, Any] = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": "/var/lib/kube-proxy/kubeconfig.conf"},
        "clusterCIDR": ",".join(config.pod_cidrs),
        # A container may not change what counts connections on its node.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": None, "tcpCloseWaitTimeout": None},
        "metricsBindAddress": section["metricsBindAddress"],
        "mode": section["mode"],
        "iptables": section["iptables"],
        "ipvs": section["ipvs"],
        "nftables": section["nftables"],
    }
    if "healthzBindAddress" in section:
        result["healthzBindAddress"] = section["healthzBindAddress"]
    if section.get("nodePortAddresses"):
        result["nodePortAddresses"] = section["nodePortAddresses"]
    gates = config.feature_gates("kube-proxy")
    if gates:
        result["featureGates"] = {n: v == "true" for n, _, v in (g.partition("=") for g in gates.split(","))}
    return result


def kube_proxy(config: ClusterConfig) -> list[Object]:
    """Services on every node; it reaches the API server under the published address, not through a Service."""
    name, labels = "kube-proxy", {"k8s-app": "kube-proxy"}
    section = config.spec["network"]["kubeProxy"]
    client = kubeconfig.document(server=f"https://{config.published}", ca=b"", user={"tokenFile": f"{_ACCOUNT}/token"})
    client["clusters"][0]["cluster"] = {
        "server": f"https://{config.published}",
        "certificate-authority": f"{_ACCOUNT}/ca.crt",
    }
    arguments = {"config": "/var/lib/kube-proxy/config.conf", "hostname-override": "$(NODE_NAME)"} | section.get(
        "extraArgs", {}
    )
    container = {
        "name": name,
        "image": config.image("kubeproxy"),
        "imagePullPolicy": config.spec["images"]["default_pull_policy"],
        "command": ["/usr/local/bin/kube-proxy"],
        "args": [*(f"--{k}={v}" for k, v in arguments.items()), *section.get("rawArgs", [])],
        "env": [_NODE_NAME],
        "securityContext": {"privileged": True},
        "volumeMounts": [
            {"name": "kube-proxy", "mountPath": "/var/lib/kube-proxy"},
            {"name": "xtables-lock", "mountPath": "/run/xtables.lock"},
            {"name": "lib-modules", "mountPath": "/lib/modules", "readOnly": True},
        ],
    }
    pod = {
        "containers": [container],
        "volumes": [
            {"name": "kube-proxy", "configMap": {"name": name}},
            _host_path("xtables-lock", "/run/xtables.lock", type="FileOrCreate"),
            _host_path("lib-modules", "/lib/modules"),
        ],
    }
    metadata = {"namespace": "kube-system", "labels": _DEFAULTS}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "kube-system", "labels": labels},
            "data": {"config.conf": json.dumps(_proxy_configuration(config)), "kubeconfig.conf": json.dumps(client)},
        },
        account(name),
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "Role",
            "metadata": {"name": name, **metadata},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name], "verbs": ["get"]}],
        },
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "kube-proxy-conf", **metadata},
            "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": name},
            "subjects": [{"apiGroup": _RBAC, "kind": "Group", "name": "system:bootstrappers"}],
        },
        bound("node-proxier", "system:node-proxier", service_account(name), **_DEFAULTS),
        _daemon(name, labels, pod),
    ]


def kube_router(config: ClusterConfig) -> list[Object]:
    """Pod network and network policies, from a bridge on every node and routes between them."""
    name, labels = "kube-router", {"k8s-app": "kube-router", "tier": "node"}
    section = config.spec["network"]["kuberouter"]
    cni = {
        "cniVersion": "0.3.0",
        "name": "mynet",
        "plugins": [
            {
                "name": "kubernetes", "type": "bridge", "bridge": "kube-bridge", "isDefaultGateway": True,
                "hairpinMode": section["hairpin"] == "Enabled", "auto-mtu": section["autoMTU"],
                "ipam": {"type": "host-local"},
                **({"mtu": section["mtu"]} if section.get("mtu") else {}),
                **({"ipMasq": True} if section.get("ipMasq") else {}),
            },
            {"type": "portmap", "capabilities": {"snat": True, "portMappings": True}},
        ],
    }  # fmt: skip
    arguments = {
        "auto-mtu": str(section["autoMTU"]).lower(),
        "bgp-graceful-restart": "true",
        "enable-ipv4": "true",
        "enable-ipv6": str(config.spec["network"]["dualStack"]["enabled"]).lower(),
        "hairpin-mode": str(section["hairpin"] == "Enabled").lower(),
        "metrics-port": section["metricsPort"],
        "run-firewall": "true",
        "run-router": "true",
        "run-service-proxy": "false",
        "service-cluster-ip-range": config.service_cidrs[0],
    } | section.get("extraArgs", {})
    pull = config.spec["images"]["default_pull_policy"]
    container = {
        "name": name,
        "image": config.image("kuberouter", "cni"),
        "imagePullPolicy": pull,
        "args": [*(f"--{k}={v}" for k, v in arguments.items()), *section.get("rawArgs", [])],
        "env": [_NODE_NAME, {"name": "KUBE_ROUTER_CNI_CONF_FILE", "value": "/etc/cni/net.d/10-kuberouter.conflist"}],
        "ports": [{"name": "healthz", "containerPort": 20244}],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "healthz"}, "initialDelaySeconds": 10},
        "securityContext": {"privileged": True},
        "volumeMounts": [
            {"name": "cni-conf-dir", "mountPath": "/etc/cni/net.d"},
            {"name": "xtables-lock", "mountPath": "/run/xtables.lock"},
            {"name": "lib-modules", "mountPath": "/lib/modules", "readOnly": True},
        ],
    }
    installer = {
        "name": "install-cni-bins",
        "image": config.image("kuberouter", "cniInstaller"),
        "imagePullPolicy": pull,
        "volumeMounts": [{"name": "cni-bin", "mountPath": "/host/opt/cni/bin"}],
    }
    configure = {
        "name": "install-cniconf",
        "image": config.image("kuberouter", "cni"),
        "imagePullPolicy": pull,
        "command": ["/bin/sh", "-c", "cp /etc/kube-router/cni-conf.json /etc/cni/net.d/10-kuberouter.conflist"],
        "volumeMounts": [
            {"name": "cni-conf-dir", "mountPath": "/etc/cni/net.d"},
            {"name": "kube-router-cfg", "mountPath": "/etc/kube-router"},
        ],
    }
    pod = {
        "initContainers": [installer, configure],
        "containers": [container],
        "volumes": [
            _host_path("cni-bin", "/opt/cni/bin", type="DirectoryOrCreate"),
            _host_path("cni-conf-dir", "/etc/cni/net.d", type="DirectoryOrCreate"),
            _host_path("xtables-lock", "/run/xtables.lock", type="FileOrCreate"),
            _host_path("lib-modules", "/lib/modules"),
            {"name": "kube-router-cfg", "configMap": {"name": "kube-router-cfg"}},
        ],
    }
    readable = ["get", "list", "watch"]
    rules = [
        {"apiGroups": [""], "verbs": readable, "resources": ["namespaces", "pods", "services", "nodes", "endpoints"]},
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": readable},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": readable},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
        {"apiGroups": [""], "resources": ["services/status"], "verbs": ["update"]},
    ]
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "kube-router-cfg", "namespace": "kube-system", "labels": labels},
            "data": {"cni-conf.json": json.dumps(cni)},
        },
        account(name),
        cluster_role(name, rules),
        bound(name, name, service_account(name)),
        _daemon(name, labels, pod),
    ]
