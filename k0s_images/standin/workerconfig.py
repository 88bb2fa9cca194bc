"""The worker-config ConfigMaps: everything that `k0s worker` needs to know, one for each profile.

They appear when the Endpoints `default/kubernetes` have an address, and are named after the minor version of the
controller: a worker of another minor does not find them.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from k0s_images.standin import log, stacks
from k0s_images.standin.config import ClusterConfig, join_host_port
from k0s_images.standin.kube import Api, ApiError, Object
from k0s_images.standin.programs import CIPHERS
from k0s_images.standin.rbac import BOOTSTRAPPERS
from k0s_images.standin.versions import Release

_ENDPOINTS = "/api/v1/namespaces/default/endpoints"


def stack_name(release: Release) -> str:
    """The stack that holds the ConfigMaps of this minor."""
    return f"k0s-worker-config-{release.minor}"


def addresses(endpoints: Mapping[str, Any]) -> list[str]:
    """`host:port` of every API server in an Endpoints object."""
    found = []
    for subset in endpoints.get("subsets") or []:
        ports = [p["port"] for p in subset.get("ports") or [] if p.get("name") == "https"] or [6443]
        found += [join_host_port(a["ip"], ports[0]) for a in subset.get("addresses") or []]
    return sorted(found)


def merged(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` over `base`, object by object."""
    result = copy.deepcopy(dict(base))
    for name, value in values.items():
        both = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = merged(result[name], value) if both else value
    return result


def kubelet_configuration(config: ClusterConfig, *, windows: bool = False) -> Object:
    """The KubeletConfiguration of a profile without values of its own."""
    result: Object = {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "tlsCipherSuites": CIPHERS.split(","),
        "tlsMinVersion": "VersionTLS12",
        "rotateCertificates": True,
        "serverTLSBootstrap": True,
        "eventRecordQPS": 0,
        "clusterDomain": config.spec["network"]["clusterDomain"],
        "clusterDNS": [config.cluster_dns],
        "failSwapOn": False,
    }
    gates = {}
    for gate in filter(None, config.feature_gates("kubelet").split(",")):
        name, _, value = gate.partition("=")
        gates[name] = value == "true"
    if gates:
        result["featureGates"] = gates
    result["volumePluginDir"] = "/usr/libexec/k0s/kubelet-plugins/volume/exec"
    if windows:
        result["cgroupsPerQOS"] = False
    else:
        result["kubeReservedCgroup"] = "system.slice"
        result["kubeletCgroups"] = "/system.slice/containerd.service"
    return result


def _data(
    config: ClusterConfig,
    release: Release,
    servers: list[str],
    kubelet: Object,
    *,
    pause: Sequence[str],
    disabled: frozenset[str],
) -> dict[str, str]:
    balancing = copy.deepcopy(config.spec["network"]["nodeLocalLoadBalancing"])
    for proxy in ("envoyProxy", "traefik"):
        if proxy in balancing:
            balancing[proxy].setdefault("imagePullPolicy", config.spec["images"]["default_pull_policy"])
    image, _, version = config.image(*pause).rpartition(":")
    values: dict[str, Any] = {
        "apiServerAddresses": servers,
        "kubeletConfiguration": kubelet,
        "nodeLocalLoadBalancing": balancing,
        "konnectivity": {
            "enabled": "konnectivity-server" not in disabled,
            "agentPort": config.spec["konnectivity"]["agentPort"],
        },
        "pauseImage": {"image": image, "version": version},
    }
    if release.profiles_say_family:
        values["primaryAddressFamily"] = config.family
    if config.spec["network"]["dualStack"]["enabled"]:
        values["dualStackEnabled"] = True
    if "autopilot" in disabled:
        values["autopilotDisabled"] = True
    return {name: json.dumps(value, separators=(",", ":")) for name, value in values.items()}


def objects(config: ClusterConfig, release: Release, servers: list[str], *, disabled: frozenset[str]) -> list[Object]:
    """ConfigMaps, and the Role and RoleBinding through which tokens and kubelets read exactly them."""
    labels = {
        "app.kubernetes.io/component": "worker-config",
        "app.kubernetes.io/managed-by": "k0s",
        "app.kubernetes.io/name": "k0s",
        "app.kubernetes.io/version": release.label,
    }
    profiles = {
        "default": kubelet_configuration(config),
        "default-windows": kubelet_configuration(config, windows=True),
    }
    for profile in config.spec.get("workerProfiles") or []:
        base = profiles.get(profile["name"], kubelet_configuration(config))
        profiles[profile["name"]] = merged(base, profile.get("values") or {})
    maps: list[Object] = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"worker-config-{name}-{release.minor}",
                "namespace": "kube-system",
                "labels": {**labels, "k0s.k0sproject.io/worker-profile": name},
            },
            "data": _data(
                config,
                release,
                servers,
                kubelet,
                disabled=disabled,
                pause=("windows", "pause") if name == "default-windows" else ("pause",),
            ),
        }
        for name, kubelet in profiles.items()
    ]
    group = "rbac.authorization.k8s.io"
    name = f"system:bootstrappers:worker-config-{release.minor}"
    metadata = {"name": name, "namespace": "kube-system", "labels": labels}
    names = sorted(m["metadata"]["name"] for m in maps)
    role = {
        "apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata,
        "rules": [{
            "apiGroups": [""], "resources": ["configmaps"], "resourceNames": names, "verbs": ["get", "list", "watch"]}],
    }  # fmt: skip
    role_binding = {
        "apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
        "subjects": [{"apiGroup": group, "kind": "Group", "name": g} for g in (BOOTSTRAPPERS, "system:nodes")],
    }  # fmt: skip
    return [*maps, role, role_binding]


def run(
    api: Api, config: ClusterConfig, release: Release, *, disabled: frozenset[str], leading: threading.Event,
    stop: threading.Event,
) -> None:  # fmt: skip
    """Follow the Endpoints `default/kubernetes` and keep the stack up to date while leading. Raises `ApiError`."""
    selector = "metadata.name=kubernetes"
    applied: list[str] = []

    def look(endpoints: Mapping[str, Any]) -> None:
        nonlocal applied
        servers = addresses(endpoints)
        if servers and servers != applied and leading.is_set():
            stacks.apply(api, stack_name(release), objects(config, release, servers, disabled=disabled))
            log.info(f"worker configuration written for {', '.join(servers)}", component="worker-config")
            applied = servers

    while not stop.is_set():
        if not leading.wait(1.0):
            continue
        listed = api.get(f"{_ENDPOINTS}?fieldSelector={selector}")
        for item in listed.get("items") or []:
            look(item)
        try:
            for kind, item in api.watch(
                _ENDPOINTS, version=listed["metadata"]["resourceVersion"], fieldSelector=selector
            ):
                if kind in ("ADDED", "MODIFIED"):
                    look(item)
                if stop.is_set():
                    return
        except ApiError as fault:
            log.debug(f"watch of Endpoints ended: {fault}", component="worker-config")
            stop.wait(1.0)
