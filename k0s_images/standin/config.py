"""The ClusterConfig (`k0s.k0sproject.io/v1beta1`): strict decoding, defaults, validation, and what follows from it.

A configuration is fully resolved when it leaves this module: every default is filled in, so that the rest of the
stand-in reads values and never decides what a missing one means.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from k0s_images.standin import addresses
from k0s_images.standin.errors import Fatal
from k0s_images.standin.schema import (
    ABSENT,
    Field,
    Problem,
    anything,
    choice,
    duration,
    flag,
    mapping,
    number,
    sequence,
    struct,
    text,
)
from k0s_images.standin.versions import Release

DEFAULT_PATH = Path("/etc/k0s/k0s.yaml")
API_VERSION = "k0s.k0sproject.io/v1beta1"

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
#: What k0s takes for a DNS name in an external address: upper case and underscores too.
_LOOSE_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?")
_DNS_NAME = re.compile(r"(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def is_ip(value: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _is_dns_name(value: str) -> bool:
    return len(value) <= 253 and _DNS_NAME.fullmatch(value) is not None and not re.fullmatch(r"[0-9.]+", value)


def _ip(value: str) -> str | None:
    if not is_ip(value):
        return "invalid IP address"
    return "invalid INADDR_ANY" if ipaddress.ip_address(value).is_unspecified else None


def _name_or_ip(value: str) -> str | None:
    return None if is_ip(value) or _is_dns_name(value) else "invalid IP address / DNS name"


def split_host_port(value: str) -> tuple[str, int | None]:
    """`host`, `host:port`, `[v6]:port` or a bare IPv6 address into host and port; `ValueError` if the port is none."""
    if is_ip(value):
        return value, None
    host, colon, port = value.rpartition(":")
    if not colon:
        return value, None
    if not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError(f"invalid port in {value!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _external(value: str) -> str | None:
    """An IP address, a DNS name, or one of them with a port; the port must be one that exists."""
    try:
        host, _ = split_host_port(value)
    except ValueError:
        return "invalid IP address / DNS name"
    if is_ip(host):
        return "invalid INADDR_ANY" if ipaddress.ip_address(host).is_unspecified else None
    return None if _LOOSE_NAME.fullmatch(host) else "invalid IP address / DNS name"


def _cidr(value: str) -> str | None:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return "invalid CIDR address"
    return None if "/" in value else "invalid CIDR address"


_FORBIDDEN_IN_PROFILES = ("clusterDNS", "clusterDomain", "apiVersion", "kind", "staticPodURL")


def _cgroup_v1() -> bool:
    return not Path("/sys/fs/cgroup/cgroup.controllers").exists()


def _external_etcd(value: Any, path: str) -> list[str]:
    """What is wrong with `storage.etcd.externalCluster`; checked whatever the storage type."""
    faults = []
    endpoints = value.get("endpoints") or []
    if not endpoints:
        faults.append(f"{path}.endpoints cannot be null or empty")
    elif "" in endpoints:
        faults.append(f"{path}.endpoints cannot contain empty strings")
    if not value.get("etcdPrefix"):
        faults.append(f"{path}.etcdPrefix cannot be empty")
    names = ("caFile", "clientCertFile", "clientKeyFile")
    given = [bool(value.get(k)) for k in names]
    if any(given) and not all(given):
        faults.append(f"{path} is invalid: all TLS properties [{','.join(names)}] must be defined or none of those")
    return faults


def _image(release: Release, name: str) -> Field:
    image, version = release.images[name]
    return struct({"image": text(image), "version": text(version)})


def _images(release: Release) -> Field:
    groups: dict[str, Any] = {}
    for dotted in release.images:
        if dotted in ("envoy", "traefik"):
            continue
        place = groups
        *parents, leaf = dotted.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = dotted

    def build(tree: Mapping[str, Any]) -> dict[str, Field]:
        return {n: _image(release, v) if isinstance(v, str) else struct(build(v)) for n, v in tree.items()}

    return struct({
        **build(groups),
        "repository": text(),
        "default_pull_policy": choice("IfNotPresent", "IfNotPresent", "Always", "Never"),
    }, strict=False)  # fmt: skip


_METADATA = struct({name: anything() for name in (
    "annotations", "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName",
    "generation", "labels", "managedFields", "name", "namespace", "ownerReferences", "resourceVersion", "selfLink",
    "uid",
)})  # fmt: skip
_EXTERNAL_ETCD = "spec.storage.etcd.externalCluster"
_EXTRA = {"extraArgs": mapping(), "rawArgs": sequence()}


def _patches() -> Field:
    target = struct({"kind": text(), "name": text(), "namespace": text()}, optional=True)
    patch = struct(
        {"type": choice(ABSENT, "JSON", "StrategicMergePatch", "MergePatch"), "content": text()}, optional=True
    )
    return sequence(struct({"target": target, "patch": patch}))


def _existing(release: Release, path: str, fields: dict[str, Field]) -> dict[str, Field]:
    """The fields that this version knows of."""
    prefix = f"{path}." if path else ""
    return {name: kind for name, kind in fields.items() if f"{prefix}{name}" not in release.unknown_fields}


def _network(release: Release) -> Field:
    port = functools.partial(number, low=1, high=65535)
    proxy_timing = {"syncPeriod": duration("0s"), "minSyncPeriod": duration("0s")}
    masquerade = {"masqueradeBit": number(), "masqueradeAll": flag()}
    kube_proxy = struct(_existing(release, "network.kubeProxy", {
        "disabled": flag(),
        "mode": choice("iptables", "iptables", "ipvs", "userspace", "nftables"),
        "metricsBindAddress": text("0.0.0.0:10249"), "healthzBindAddress": text("0.0.0.0:10256"),
        "iptables": struct({**masquerade, "localhostNodePorts": flag(), **proxy_timing}),
        "ipvs": struct({
            "excludeCIDRs": sequence(), "scheduler": text(), "strictARP": flag(), **proxy_timing,
            "tcpTimeout": duration("0s"), "tcpFinTimeout": duration("0s"), "udpTimeout": duration("0s"),
        }),
        "nftables": struct({**masquerade, **proxy_timing}),
        "nodePortAddresses": sequence(), **_EXTRA, "patches": _patches(),
    }))  # fmt: skip
    kube_router = struct({
        "autoMTU": flag(True), "mtu": number(), "metricsPort": number(8080),
        "hairpin": choice("Enabled", "Enabled", "Allowed", "Disabled"), "hairpinMode": flag(), "ipMasq": flag(),
        "peerRouterASNs": text(), "peerRouterIPs": text(), **_EXTRA, "patches": _patches(),
    })  # fmt: skip
    calico = struct({
        "mode": choice("vxlan", "vxlan", "bird", "ipip"), "vxlanPort": number(4789), "vxlanVNI": number(4096),
        "mtu": number(1450), "overlay": choice("Always", "Always", "CrossSubnet", "Never"), "wireguard": flag(),
        "flexVolumeDriverPath": text("/usr/libexec/k0s/kubelet-plugins/volume/exec/nodeagent~uds"),
        "ipAutodetectionMethod": text(), "ipV6AutodetectionMethod": text(), "envVars": mapping(), "patches": _patches(),
    }, optional=True)  # fmt: skip
    balancer = {"apiServerBindPort": port(7443), "konnectivityServerBindPort": port(7132), "imagePullPolicy": text()}
    image = release.images
    local_balancing: dict[str, Field] = {
        "enabled": flag(False),
        "type": choice("EnvoyProxy", "EnvoyProxy", *(["Traefik"] if "traefik" in image else [])),
        "envoyProxy": struct({"image": _image(release, "envoy"), **balancer}),
    }
    if "traefik" in image:
        local_balancing["traefik"] = struct({"image": _image(release, "traefik"), **balancer}, optional=True)
    keepalived = struct({
        "vrrpInstances": sequence(anything()), "virtualServers": sequence(anything()),
        "userSpaceProxyBindPort": port(6444), "disableLoadBalancer": flag(),
        "configTemplateVRRP": text(), "configTemplateVS": text(),
    }, optional=True)  # fmt: skip
    return struct(_existing(release, "network", {
        "provider": choice("kuberouter", "kuberouter", "calico", "custom"),
        "podCIDR": text("10.244.0.0/16", check=_cidr), "serviceCIDR": text("10.96.0.0/12", check=_cidr),
        "clusterDomain": text("cluster.local", check=lambda v: None if _is_dns_name(v) else "invalid DNS name"),
        "primaryAddressFamily": choice(ABSENT, "IPv4", "IPv6"),
        "dualStack": struct({
            "enabled": flag(False), "IPv6podCIDR": text(check=_cidr), "IPv6serviceCIDR": text(check=_cidr)}),
        "kubeProxy": kube_proxy, "kuberouter": kube_router, "calico": calico,
        "coreDNS": struct({"patches": _patches()}, optional=True),
        "nodeLocalLoadBalancing": struct(local_balancing),
        "controlPlaneLoadBalancing": struct({
            "enabled": flag(False), "type": choice(ABSENT, "Keepalived"), "keepalived": keepalived}, optional=True),
    }), strict=False)  # fmt: skip


def _spec(release: Release, *, address: str) -> Field:
    port = functools.partial(number, low=1, high=65535)
    lives = struct({"expiresAfter": duration("87600h0m0s"), "certificatesExpireAfter": duration("8760h0m0s")})
    chart = struct({
        "name": text(check=lambda v: None if len(v) <= 53 else "must have at most 53 characters"),
        "chartname": text(), "version": text(), "values": text(), "namespace": text(), "timeout": text(),
        "forceUpgrade": flag(), "order": number(),
    })  # fmt: skip
    repository = struct({
        **{n: text() for n in ("name", "url", "caFile", "certFile", "keyfile", "username", "password")},
        "insecure": flag(),
    })  # fmt: skip
    users = {"etcdUser": "etcd", "kineUser": "kube-apiserver", "konnectivityUser": "konnectivity-server",
             "kubeAPIserverUser": "kube-apiserver", "kubeSchedulerUser": "kube-scheduler"}  # fmt: skip
    return struct(_existing(release, "", {
        "api": struct({
            "address": text(address, check=_ip), "onlyBindToAddress": flag(),
            "externalAddress": text(check=_external), "port": port(6443), "k0sApiPort": port(9443),
            "sans": sequence(text(check=_name_or_ip)), **_EXTRA, "ca": lives,
        }, strict=False),
        "controllerManager": struct(_EXTRA), "scheduler": struct(_EXTRA),
        "storage": struct({
            "type": choice("etcd", "etcd", "kine"),
            "etcd": struct({
                "peerAddress": text(address), "ca": lives, **_EXTRA,
                "externalCluster": struct({
                    "endpoints": sequence(), "etcdPrefix": text(), "caFile": text(), "clientCertFile": text(),
                    "clientKeyFile": text()}, optional=True),
            }),
            "kine": struct({
                "dataSource": text("sqlite://file:/var/lib/k0s/db/state.db?mode=rwc&_journal=WAL"), **_EXTRA}),
        }, strict=False),
        "network": _network(release),
        "konnectivity": struct({
            "agentPort": port(8132), "adminPort": port(8133), "externalAddress": text(check=_external)}),
        "telemetry": struct({"enabled": flag(False)}),
        "featureGates": sequence(struct({
            "name": text(), "enabled": flag(), "components": sequence()},
            )),
        "workerProfiles": sequence(struct({
            "name": text(check=lambda v: None if _LABEL.fullmatch(v) else "must be a DNS-1123 label"),
            "values": Field(lambda value, path, problems: _values(value, path, problems))})),
        "extensions": struct({
            "helm": struct({
                "concurrencyLevel": number(5), "repositories": sequence(repository), "charts": sequence(chart)}),
            "storage": struct({"type": text(), "create_default_storage_class": flag()}, optional=True)}),
        "installConfig": struct({"users": struct({name: text(user) for name, user in users.items()})}),
        "images": _images(release),
        "metricsServer": struct({"patches": _patches()}, optional=True),
    }), legacy=("podSecurityPolicy",))  # fmt: skip


def _values(value: Any, path: str, problems: list[Problem]) -> Any:
    """A partial KubeletConfiguration. Like kubelet's own check, it refuses cgroup v1 on a machine that has it."""
    if not isinstance(value, dict):
        message = "Invalid value: json: cannot unmarshal into Go value of type v1beta1.KubeletConfiguration"
        problems.append(Problem(path=path, message=message))
        return {}
    for name in _FORBIDDEN_IN_PROFILES:
        if name in value:
            problems.append(Problem(path=f"{path}.{name}", message="Forbidden: may not be used in k0s worker profiles"))
    if _cgroup_v1() and value.get("failCgroupV1", True):
        message = "Invalid value: kubelet is configured to not run on a host using cgroup v1"
        problems.append(Problem(path=path, message=message))
    return value


def _cross_checks(spec: Mapping[str, Any]) -> list[Problem]:
    problems = []
    if spec["network"]["nodeLocalLoadBalancing"]["enabled"] and spec["api"].get("externalAddress"):
        problems.append(Problem(
            path="spec.network.nodeLocalLoadBalancing.enabled",
            message="Forbidden: node-local load balancing cannot be used in conjunction with an external Kubernetes API"
            " server address",
        ))  # fmt: skip
    dual = spec["network"]["dualStack"]
    if dual["enabled"]:
        for name in ("IPv6podCIDR", "IPv6serviceCIDR"):
            if not dual.get(name) or ":" not in dual[name]:
                problems.append(Problem(path=f"spec.network.dualStack.{name}", message="must be an IPv6 CIDR"))
    external = spec["storage"]["etcd"].get("externalCluster")
    if external is not None:
        problems += [Problem(path="spec: storage", message=m) for m in _external_etcd(external, _EXTERNAL_ETCD)]
    return problems


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """A resolved configuration and what follows from it."""

    document: Mapping[str, Any]

    @property
    def spec(self) -> Any:
        return self.document["spec"]

    @property
    def api(self) -> Any:
        return self.spec["api"]

    @property
    def external_address(self) -> str:
        return str(self.api.get("externalAddress") or "")

    @property
    def external_host(self) -> str:
        """The host part of the external address, or "" without one."""
        return split_host_port(self.external_address)[0] if self.external_address else ""

    @property
    def external_port(self) -> int:
        """The port under which clients outside reach the API server."""
        port = split_host_port(self.external_address)[1] if self.external_address else None
        return port or int(self.api["port"])

    @property
    def published(self) -> str:
        """`host:port` that workers and tokens use: the external address, or else the API address."""
        host = self.external_host or str(self.api["address"])
        return join_host_port(host, self.external_port)

    @property
    def local_server(self) -> str:
        """The URL under which this controller's own components reach its API server."""
        host = str(self.api["address"]) if self.api.get("onlyBindToAddress") else "localhost"
        return f"https://{join_host_port(host, int(self.api['port']))}"

    @property
    def agents_dial(self) -> tuple[str, int]:
        """Host and port that konnectivity agents dial."""
        konnectivity = self.spec["konnectivity"]
        port = int(konnectivity["agentPort"])
        if konnectivity.get("externalAddress"):
            host, own = split_host_port(konnectivity["externalAddress"])
            return host, own or port
        return self.external_host or str(self.api["address"]), port

    @property
    def service_cidrs(self) -> list[str]:
        network = self.spec["network"]
        dual = network["dualStack"]
        return [network["serviceCIDR"], *([dual["IPv6serviceCIDR"]] if dual["enabled"] else [])]

    @property
    def pod_cidrs(self) -> list[str]:
        network = self.spec["network"]
        dual = network["dualStack"]
        return [network["podCIDR"], *([dual["IPv6podCIDR"]] if dual["enabled"] else [])]

    @property
    def cluster_dns(self) -> str:
        """The tenth address of the service network, or the second-next one in tiny networks."""
        network = ipaddress.ip_network(self.service_cidrs[0], strict=False)
        return str(network[10] if network.num_addresses > 10 else network[2])

    @property
    def family(self) -> str:
        given = self.spec["network"].get("primaryAddressFamily")
        return given or ("IPv6" if ":" in self.service_cidrs[0] else "IPv4")

    @property
    def external_etcd(self) -> Any:
        """`storage.etcd.externalCluster`, or None."""
        storage = self.spec["storage"]
        return storage["etcd"].get("externalCluster") if storage["type"] == "etcd" else None

    @property
    def joinable(self) -> bool:
        """Whether several controllers can share this storage."""
        storage = self.spec["storage"]
        if storage["type"] == "etcd":
            return True
        scheme, _, rest = storage["kine"]["dataSource"].partition("://")
        if scheme in ("nats", "jetstream"):
            return "noEmbed" in rest
        return scheme not in ("sqlite", "litestream", "")

    def feature_gates(self, component: str) -> str:
        """The value of `--feature-gates` for a Kubernetes component."""
        everywhere = ("kube-apiserver", "kube-controller-manager", "kubelet", "kube-scheduler", "kube-proxy")
        gates = self.spec.get("featureGates") or []
        return ",".join(
            f"{g['name']}={'true' if g.get('enabled') else 'false'}"
            for g in gates if component in (g.get("components") or everywhere)
        )  # fmt: skip

    def image(self, *path: str) -> str:
        """`image:version` at a path below `spec.images`, moved to `images.repository` if one is set."""
        images = self.spec["images"]
        place = images
        for part in path:
            place = place[part]
        image = str(place["image"])
        if images.get("repository"):
            registry, slash, rest = image.partition("/")
            image = f"{images['repository']}/{rest if slash and ('.' in registry or ':' in registry) else image}"
        return f"{image}:{place['version']}"


def join_host_port(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse(content: str | None, release: Release) -> ClusterConfig:
    """Decode, default and validate; None stands for the missing default file. `Fatal` names every fault."""
    try:
        # Only the first document counts.
        document = next(yaml.load_all(content, Loader=_Loader), None) if content else None
    except yaml.YAMLError as fault:
        raise Fatal(f"failed to parse configuration: error converting YAML to JSON: {fault}") from None
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise Fatal("failed to parse configuration: the document is not an object")
    spec = _spec(release, address=addresses.first_public())
    shape = struct({
        "apiVersion": text(API_VERSION), "kind": text("ClusterConfig"), "metadata": _METADATA, "spec": spec,
        "status": anything(),
    })  # fmt: skip
    problems: list[Problem] = []
    resolved = shape.decode(document, "", problems)
    undecodable = [p for p in problems if p.decoding]
    if undecodable:
        raise Fatal("failed to parse configuration: error unmarshaling JSON: " + "; ".join(map(str, undecodable)))
    problems += _cross_checks(resolved["spec"])
    if problems:
        raise Fatal("\n".join(map(str, problems)))
    resolved |= {"apiVersion": API_VERSION, "kind": "ClusterConfig"}
    resolved["metadata"] = {"name": "k0s", "namespace": "kube-system", **(document.get("metadata") or {})}
    storage = resolved["spec"]["storage"]
    if storage["type"] != "kine" and "kine" not in ((document.get("spec") or {}).get("storage") or {}):
        del storage["kine"]
    return ClusterConfig(document=resolved)


class _Loader(yaml.SafeLoader):
    """YAML as k0s reads it: dates stay text, and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen and key != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f'key "{key}" already set in map', key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(path: str | None, release: Release) -> ClusterConfig:
    """The configuration of a command line: a path, `-` for standard input, None for the default file (if it exists)."""
    if path == "-":
        return parse(sys.stdin.read(), release)
    file = Path(path) if path else DEFAULT_PATH
    try:
        return parse(file.read_text(), release)
    except FileNotFoundError:
        if path:
            raise Fatal(f"failed to load config: open {file}: no such file or directory") from None
        return parse(None, release)
