"""Everything in which the supported k0s versions differ, as one table.

The version is chosen by the environment variable `K0S_STANDIN_VERSION`, or by the first line of the file `VERSION` in
this folder (images write it), or else it is the newest one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from k0s_images.standin.errors import Fatal

_COMPONENTS = frozenset({
    "applier-manager", "autopilot", "control-api", "coredns", "csr-approver", "endpoint-reconciler", "helm",
    "konnectivity-server", "kube-controller-manager", "kube-proxy", "kube-scheduler", "metrics-server",
    "network-provider", "node-role", "system-rbac", "update-prober", "windows-node",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Release:
    """One k0s version: what it pins and where its interface differs from the other versions."""

    version: str
    kubernetes: str
    #: Names that `--disable-components` accepts; any other name is fatal.
    components: frozenset[str]
    #: Still accepted by `--disable-components`, without effect.
    ignored_components: frozenset[str]
    #: ClusterConfig fields of newer versions that this one does not know, as dotted paths below `spec`.
    unknown_fields: frozenset[str]
    #: Flags of `k0s controller` that came later.
    unknown_flags: frozenset[str]
    #: Flags of `k0s worker` that `k0s install worker` did not know yet.
    unknown_install_flags: frozenset[str]
    #: Arguments of components that came later: component -> names.
    unknown_arguments: Mapping[str, frozenset[str]]
    #: The server certificate names the API Service with its cluster domain. Earlier versions got those names wrong.
    service_domain_names: bool
    #: worker-config ConfigMaps say `primaryAddressFamily`.
    profiles_say_family: bool
    #: What a second k0s says that finds the run directory taken.
    second_instance: str
    #: `--init-only` comes to an end with kine. Earlier versions wait for a kine that they never start.
    init_only_ends_with_kine: bool
    #: The folders of an own etcd are made even where an external one is used.
    always_etcd_folders: bool
    #: With `authentication-config` among the API server's extra arguments, the default `--anonymous-auth` is left out.
    authentication_config: bool
    #: `spec.images`: name -> (image, version); nested names are dotted.
    images: Mapping[str, tuple[str, str]]

    @property
    def minor(self) -> str:
        """`1.36` for `v1.36.3+k0s.2`; part of the names of worker-config ConfigMaps."""
        return ".".join(self.version.removeprefix("v").split(".")[:2])

    @property
    def label(self) -> str:
        """The version in a form that is allowed as a label value and an image tag."""
        return self.version.replace("+", "-")


def _quay(name: str, version: str) -> tuple[str, str]:
    return f"quay.io/k0sproject/{name}", version


_V136 = Release(
    version="v1.36.3+k0s.2",
    kubernetes="1.36.3",
    components=_COMPONENTS,
    ignored_components=frozenset({"worker-config"}),
    unknown_fields=frozenset(),
    unknown_flags=frozenset(),
    unknown_install_flags=frozenset(),
    unknown_arguments={},
    service_domain_names=True,
    profiles_say_family=True,
    second_instance="another k0s process is still running",
    init_only_ends_with_kine=True,
    always_etcd_folders=False,
    authentication_config=True,
    images={
        "konnectivity": _quay("apiserver-network-proxy-agent", "v0.36.0-k0s.0"),
        "pushgateway": _quay("pushgateway-ttl", "1.4.0-k0s.2"),
        "metricsserver": _quay("metrics-server", "v0.9.0-k0s.0"),
        "kubeproxy": _quay("kube-proxy", "v1.36.3-1"),
        "coredns": _quay("coredns", "1.14.6-k0s.0"),
        "pause": _quay("pause", "3.10.2-0"),
        "windows.kubeproxy": ("docker.io/sigwindowstools/kube-proxy", "v1.36.3-calico-hostprocess"),
        "windows.pause": ("registry.k8s.io/pause", "3.10.1"),
        "calico.cni": _quay("calico-cni", "v3.32.1-2"),
        "calico.node": _quay("calico-node", "v3.32.1-2"),
        "calico.kubecontrollers": _quay("calico-kube-controllers", "v3.32.1-2"),
        "calico.windows.cni": ("docker.io/calico/cni-windows", "v3.32.1"),
        "calico.windows.node": ("docker.io/calico/node-windows", "v3.32.1"),
        "kuberouter.cni": _quay("kube-router", "v2.10.0-iptables1.8.13-k0s.1"),
        "kuberouter.cniInstaller": _quay("cni-node", "v1.9.1-k0s.1"),
        "envoy": _quay("envoy-distroless", "v1.39.0"),
        "traefik": _quay("traefik", "v3.7.7-k0s.0"),
    },
)

_PATCHABLE = ("calico", "kubeProxy", "kuberouter")
_V135 = Release(
    version="v1.35.4+k0s.0",
    kubernetes="1.35.4",
    components=_COMPONENTS | {"worker-config"},
    ignored_components=frozenset(),
    unknown_fields=frozenset({
        "metricsServer", "network.coreDNS", "network.kubeProxy.healthzBindAddress",
        *(f"network.{name}.patches" for name in _PATCHABLE),
    }),
    unknown_flags=frozenset({"api-server-stop-timeout"}),
    unknown_install_flags=frozenset({"ignore-pre-flight-checks"}),
    unknown_arguments={
        "kube-apiserver": frozenset({"shutdown-watch-termination-grace-period"}),
        "konnectivity-server": frozenset({"graceful-shutdown-timeout"}),
    },
    service_domain_names=False,
    profiles_say_family=False,
    second_instance="an instance of k0s is already running",
    init_only_ends_with_kine=False,
    always_etcd_folders=True,
    authentication_config=False,
    images={
        "konnectivity": _quay("apiserver-network-proxy-agent", "v0.34.0-k0s.2"),
        "pushgateway": _quay("pushgateway-ttl", "1.4.0-k0s.0"),
        "metricsserver": _quay("metrics-server", "v0.8.1-0"),
        "kubeproxy": _quay("kube-proxy", "v1.35.4"),
        "coredns": _quay("coredns", "1.14.2-0"),
        "pause": _quay("pause", "3.10.1"),
        "windows.kubeproxy": ("docker.io/sigwindowstools/kube-proxy", "v1.35.4-calico-hostprocess"),
        "windows.pause": ("registry.k8s.io/pause", "3.10.1"),
        "calico.cni": _quay("calico-cni", "v3.31.4-2"),
        "calico.node": _quay("calico-node", "v3.31.4-2"),
        "calico.kubecontrollers": _quay("calico-kube-controllers", "v3.31.4-2"),
        "calico.windows.cni": ("docker.io/calico/cni-windows", "v3.31.4"),
        "calico.windows.node": ("docker.io/calico/node-windows", "v3.31.4"),
        "kuberouter.cni": _quay("kube-router", "v2.7.1-iptables1.8.11-0"),
        "kuberouter.cniInstaller": _quay("cni-node", "1.8.0-k0s.0"),
        "envoy": _quay("envoy-distroless", "v1.37.2"),
    },
)  # fmt: skip

#: Newest first.
RELEASES: tuple[Release, ...] = (_V136, _V135)


def chosen(environment: Mapping[str, str] = os.environ, *, beside: Path = Path(__file__).parent) -> Release:
    """The version this process plays; `Fatal` when an unknown one is asked for."""
    wanted = environment.get("K0S_STANDIN_VERSION", "")
    file = beside / "VERSION"
    if not wanted and file.is_file():
        wanted = file.read_text().strip()
    if not wanted:
        return RELEASES[0]
    for release in RELEASES:
        if wanted in (release.version, release.label, release.minor):
            return release
    known = ", ".join(release.version for release in RELEASES)
    raise Fatal(f"the stand-in does not know k0s {wanted}; it knows {known}")
