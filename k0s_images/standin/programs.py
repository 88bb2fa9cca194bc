"""The command lines of the components that a controller runs.

Precedence of arguments, lowest first: what k0s sets, `extraArgs`, feature gates; then storage arguments, which nothing
overrides; `rawArgs` are appended as they are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from k0s_images.standin import addresses, layout, users
from k0s_images.standin.config import ClusterConfig, join_host_port
from k0s_images.standin.layout import Layout, executable
from k0s_images.standin.supervisor import Program
from k0s_images.standin.versions import Release

CIPHERS = ",".join((
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
))  # fmt: skip
ISSUER = "https://kubernetes.default.svc"
AGENT_AUDIENCE = "system:konnectivity-server"
_WATCH_GRACE = 18


def _argv(
    binary: Path, arguments: Mapping[str, Any], raw: Sequence[str] = (), last: Mapping[str, Any] | None = None
) -> list[str]:
    flags = [f"--{name}={value}" for name, value in sorted(arguments.items())]
    return [str(binary), *flags, *raw, *(f"--{name}={value}" for name, value in (last or {}).items())]


def verbosity(levels: Mapping[str, str], component: str) -> str:
    """The `-v` level of a component, from `--logging`."""
    return levels.get(component, "1")


def etcd(config: ClusterConfig, places: Layout) -> Program:
    """An etcd of our own: one member, listening for this machine only."""
    section = config.spec["storage"]["etcd"]
    owner = users.uid(users.ETCD)
    layout.directory(places.etcd_data, 0o700, owner=owner)
    peer = f"https://{join_host_port(section['peerAddress'], 2380)}"
    client = "https://127.0.0.1:2379"
    pki = places.etcd_pki
    arguments = {
        "name": addresses.hostname(), "data-dir": places.etcd_data, "enable-pprof": "false", "log-level": "info",
        "listen-client-urls": client, "advertise-client-urls": client, "client-cert-auth": "true",
        "listen-peer-urls": peer, "initial-advertise-peer-urls": peer, "peer-client-cert-auth": "true",
        "trusted-ca-file": pki / "ca.crt", "cert-file": pki / "server.crt", "key-file": pki / "server.key",
        "peer-trusted-ca-file": pki / "ca.crt", "peer-cert-file": pki / "peer.crt", "peer-key-file": pki / "peer.key",
        "tls-min-version": "TLS1.2", "cipher-suites": CIPHERS,
        "auth-token": f"jwt,pub-key={pki / 'jwt.pub'},priv-key={pki / 'jwt.key'},sign-method=RS512,ttl=10m",
    } | section.get("extraArgs", {})  # fmt: skip
    return Program(
        name="etcd", argv=_argv(executable("etcd", places), arguments, section.get("rawArgs", [])), uid=owner
    )


def kine(config: ClusterConfig, places: Layout) -> Program:
    """kine between a database and the API server, on a unix socket."""
    section = config.spec["storage"]["kine"]
    owner = users.uid(users.KUBE_APISERVER)
    layout.directory(places.kine_socket.parent, 0o755, owner=owner)
    database = sqlite_file(section["dataSource"], places)
    if database is not None:
        layout.directory(database.parent, 0o750, owner=owner)
        for file in database.parent.glob(f"{database.name}*"):
            # Files of a former owner (another uid in an earlier image) would be unreadable.
            os.chown(file, owner, -1)
    arguments = {
        "endpoint": section["dataSource"], "listen-address": f"unix://{places.kine_socket}",
        "metrics-bind-address": ":2380", "compact-interval": "0",
    } | section.get("extraArgs", {})  # fmt: skip
    return Program(
        name="kine", argv=_argv(executable("kine", places), arguments, section.get("rawArgs", [])), uid=owner
    )


def sqlite_file(source: str, places: Layout) -> Path | None:
    """The database file of a SQLite data source, or None for another kind of database."""
    scheme, _, rest = source.partition("://")
    if scheme != "sqlite":
        return None
    name = rest.removeprefix("file:").partition("?")[0]
    return places.data / name if name else places.data / "db" / "state.db"


def storage_arguments(config: ClusterConfig, places: Layout) -> dict[str, str]:
    """How the API server reaches the store."""
    if config.spec["storage"]["type"] == "kine":
        return {"etcd-servers": f"unix:{places.kine_socket}"}
    external = config.external_etcd
    if external is None:
        return {
            "etcd-servers": "https://127.0.0.1:2379",
            "etcd-cafile": str(places.etcd_pki / "ca.crt"),
            "etcd-certfile": str(places.pki / "apiserver-etcd-client.crt"),
            "etcd-keyfile": str(places.pki / "apiserver-etcd-client.key"),
        }
    result = {"etcd-servers": ",".join(external["endpoints"])}
    for flag, name in (
        ("etcd-cafile", "caFile"),
        ("etcd-certfile", "clientCertFile"),
        ("etcd-keyfile", "clientKeyFile"),
    ):
        if external.get(name):
            result[flag] = external[name]
    return result | {"etcd-prefix": external["etcdPrefix"]}


def apiserver(
    config: ClusterConfig, places: Layout, release: Release, *, disabled: frozenset[str], level: str,
    stop_timeout: float,
) -> Program:  # fmt: skip
    """kube-apiserver."""
    api, pki = config.api, places.pki
    konnectivity = "konnectivity-server" not in disabled
    arguments: dict[str, Any] = {
        "advertise-address": api["address"], "secure-port": api["port"], "authorization-mode": "Node,RBAC",
        "allow-privileged": "true", "client-ca-file": pki / "ca.crt", "enable-bootstrap-token-auth": "true",
        "kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname",
        "kubelet-certificate-authority": pki / "ca.crt",
        "kubelet-client-certificate": pki / "apiserver-kubelet-client.crt",
        "kubelet-client-key": pki / "apiserver-kubelet-client.key",
        "proxy-client-cert-file": pki / "front-proxy-client.crt",
        "proxy-client-key-file": pki / "front-proxy-client.key",
        "requestheader-allowed-names": "front-proxy-client", "requestheader-client-ca-file": pki / "front-proxy-ca.crt",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-", "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "service-account-issuer": ISSUER, "service-account-jwks-uri": f"{ISSUER}/openid/v1/jwks",
        "service-account-key-file": pki / "sa.pub", "service-account-signing-key-file": pki / "sa.key",
        "service-cluster-ip-range": ",".join(config.service_cidrs),
        "tls-cert-file": pki / "server.crt", "tls-private-key-file": pki / "server.key",
        "tls-min-version": "VersionTLS12", "tls-cipher-suites": CIPHERS,
        "enable-admission-plugins": "NodeRestriction", "profiling": "false", "v": level,
        "api-audiences": ISSUER + (f",{AGENT_AUDIENCE}" if konnectivity else ""),
        "shutdown-watch-termination-grace-period": f"{_WATCH_GRACE}s",
    }  # fmt: skip
    arguments = _known(release, "kube-apiserver", arguments)
    extra = api.get("extraArgs", {})
    if not (release.authentication_config and "authentication-config" in extra):
        arguments["anonymous-auth"] = "false"
    if konnectivity:
        arguments["egress-selector-config-file"] = places.egress_conf
    if api.get("onlyBindToAddress"):
        arguments["bind-address"] = api["address"]
    if config.external_address and "endpoint-reconciler" not in disabled:
        arguments["endpoint-reconciler-type"] = "none"
    arguments |= extra
    arguments["feature-gates"] = _gates(config, "kube-apiserver", extra)
    last = storage_arguments(config, places)
    argv = _argv(executable("kube-apiserver", places), arguments, api.get("rawArgs", []), last)
    return Program(name="kube-apiserver", argv=argv, uid=users.uid(users.KUBE_APISERVER), stop_timeout=stop_timeout)


def _known(release: Release, component: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Without the arguments that this version does not give the component yet."""
    unknown = release.unknown_arguments.get(component, frozenset())
    return {name: value for name, value in arguments.items() if name not in unknown}


def _gates(config: ClusterConfig, component: str, extra: Mapping[str, str]) -> str:
    return ",".join(filter(None, (extra.get("feature-gates", ""), config.feature_gates(component))))


def controller_manager(config: ClusterConfig, places: Layout, *, level: str) -> Program:
    """kube-controller-manager."""
    pki, section = places.pki, config.spec["controllerManager"]
    arguments: dict[str, Any] = {
        "authentication-kubeconfig": pki / "ccm.conf", "authorization-kubeconfig": pki / "ccm.conf",
        "kubeconfig": pki / "ccm.conf", "client-ca-file": pki / "ca.crt",
        "cluster-signing-cert-file": pki / "ca.crt", "cluster-signing-key-file": pki / "ca.key",
        "requestheader-client-ca-file": pki / "front-proxy-ca.crt", "root-ca-file": pki / "ca.crt",
        "service-account-private-key-file": pki / "sa.key", "cluster-name": "k0s",
        "cluster-cidr": ",".join(config.pod_cidrs), "service-cluster-ip-range": ",".join(config.service_cidrs),
        "allocate-node-cidrs": "true", "bind-address": "127.0.0.1", "controllers": "*,bootstrapsigner,tokencleaner",
        "leader-elect": "true" if config.joinable else "false", "profiling": "false",
        "terminated-pod-gc-threshold": "12500", "use-service-account-credentials": "true", "v": level,
    }  # fmt: skip
    for name, value in _node_masks(config):
        arguments[name] = value
    extra = section.get("extraArgs", {})
    arguments |= extra
    arguments["feature-gates"] = _gates(config, "kube-controller-manager", extra)
    key = pki / "ca.key"
    owner = users.uid(users.KUBE_APISERVER)
    os.chown(key, owner, -1)
    argv = _argv(executable("kube-controller-manager", places), arguments, section.get("rawArgs", []))
    return Program(name="kube-controller-manager", argv=argv, uid=owner)


def _node_masks(config: ClusterConfig) -> list[tuple[str, str]]:
    if config.spec["network"]["dualStack"]["enabled"]:
        return [("node-cidr-mask-size-ipv4", "24"), ("node-cidr-mask-size-ipv6", "117")]
    return [("node-cidr-mask-size", "117" if ":" in config.pod_cidrs[0] else "24")]


def scheduler(config: ClusterConfig, places: Layout, *, level: str) -> Program:
    """kube-scheduler."""
    section, conf = config.spec["scheduler"], places.pki / "scheduler.conf"
    extra = section.get("extraArgs", {})
    arguments: dict[str, Any] = {
        "authentication-kubeconfig": conf, "authorization-kubeconfig": conf, "kubeconfig": conf,
        "bind-address": "127.0.0.1", "leader-elect": "true" if config.joinable else "false",
        "profiling": "false", "v": level,
    } | extra  # fmt: skip
    arguments["feature-gates"] = _gates(config, "kube-scheduler", extra)
    argv = _argv(executable("kube-scheduler", places), arguments, section.get("rawArgs", []))
    return Program(name="kube-scheduler", argv=argv, uid=users.uid(users.KUBE_SCHEDULER))


def konnectivity(config: ClusterConfig, places: Layout, release: Release, *, level: str, servers: int) -> Program:
    """konnectivity-server, through which the API server reaches workers that nobody can dial."""
    section, owner = config.spec["konnectivity"], users.uid(users.KONNECTIVITY)
    layout.directory(places.konnectivity_socket.parent, 0o755, owner=owner)
    arguments = {
        "admin-port": section["adminPort"], "agent-port": section["agentPort"], "agent-namespace": "kube-system",
        "agent-service-account": "konnectivity-agent", "authentication-audience": AGENT_AUDIENCE,
        "cipher-suites": CIPHERS, "cluster-cert": places.pki / "server.crt", "cluster-key": places.pki / "server.key",
        "delete-existing-uds-file": "true", "enable-profiling": "false", "graceful-shutdown-timeout": "1ns",
        "health-bind-address": "localhost", "health-port": "8092", "kubeconfig": places.pki / "konnectivity.conf",
        "logtostderr": "true", "stderrthreshold": "1", "mode": "grpc", "server-port": "0",
        "proxy-strategies": "destHost,defaultRoute,default", "server-count": servers, "server-id": places.invocation,
        "uds-name": places.konnectivity_socket, "v": level,
    }  # fmt: skip
    arguments = _known(release, "konnectivity-server", arguments)
    return Program(
        name="konnectivity",
        argv=_argv(executable("konnectivity-server", places), _known(release, "konnectivity-server", arguments)),
        uid=owner,
    )


def egress_selector(places: Layout) -> dict[str, Any]:
    """The file that makes the API server send traffic to nodes and pods through konnectivity."""
    return {
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [{
            "name": "cluster",
            "connection": {
                "proxyProtocol": "GRPC",
                "transport": {"uds": {"udsName": str(places.konnectivity_socket)}},
            },
        }],
    }  # fmt: skip
