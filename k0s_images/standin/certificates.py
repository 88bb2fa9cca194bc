"""Which authorities and leaves a controller has, and in which order they are made.

What the API server needs comes first, so that it can start while the rest is being issued.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from k0s_images.standin import addresses, layout, pki, users
from k0s_images.standin.config import ClusterConfig
from k0s_images.standin.layout import Layout
from k0s_images.standin.pki import Authority, KeySource, Leaf
from k0s_images.standin.schema import seconds
from k0s_images.standin.versions import Release

MASTERS = "system:masters"


def lives(section: dict[str, str]) -> tuple[dt.timedelta, dt.timedelta]:
    """Life of generated authorities and of leaves, from a `ca` section of the configuration."""
    return (
        dt.timedelta(seconds=seconds(section["expiresAfter"])),
        dt.timedelta(seconds=seconds(section["certificatesExpireAfter"])),
    )


def server_hosts(config: ClusterConfig, release: Release) -> tuple[str, ...]:
    """The SANs of the API server's certificate."""
    domain = config.spec["network"]["clusterDomain"]
    service = "kubernetes.default.svc"
    names = ["kubernetes", "kubernetes.default", service]
    if release.service_domain_names:
        names += [f"{service}.{domain}", f"{service}.{domain}."]
    else:
        names += [f"{service}.cluster", f"kubernetes.svc.{domain}"]
    names += ["localhost", "127.0.0.1"]
    names += [config.api["address"], *config.api.get("sans", []), *addresses.local()]
    if config.external_host:
        names.append(config.external_host)
    names += [str(ipaddress.ip_network(cidr, strict=False)[1]) for cidr in config.service_cidrs]
    return tuple(sorted(set(names)))


class Certificates:
    """The certificates of one start: `begin` makes what the API server needs, `finish` the rest."""

    def __init__(self, config: ClusterConfig, places: Layout, release: Release) -> None:
        self._config, self._layout, self._release = config, places, release
        self._keys = KeySource()
        self._authority_life, self._leaf_life = lives(config.api["ca"])
        self._cluster_ca = places.pki / "ca.crt"
        # The files that exist already need no key; a few too many are cheaper than waiting for one.
        missing = [n for n in ("ca.key", "front-proxy-ca.key", "sa.key") if not (places.pki / n).is_file()]
        self._keys.prepare(8 + len(missing) + (6 if self._managed_etcd else 0))

    @property
    def _managed_etcd(self) -> bool:
        return self._config.spec["storage"]["type"] == "etcd" and not self._config.external_etcd

    def _leaf(self, authority: Authority, leaf: Leaf) -> None:
        pki.ensure_leaf(leaf, authority, life=self._leaf_life, keys=self._keys, cluster_ca=self._cluster_ca)

    def begin(self) -> None:
        """Authorities, the service account key, and the leaves without which no API server starts."""
        folder, keys = self._layout.pki, self._keys
        apiserver = users.KUBE_APISERVER
        life = self._authority_life
        self._ca = pki.ensure_authority(folder / "ca", "kubernetes-ca", life=life, keys=keys)
        front = pki.ensure_authority(folder / "front-proxy-ca", "kubernetes-front-proxy-ca", life=life, keys=keys)
        pki.ensure_key_pair(folder / "sa.key", folder / "sa.pub", keys=keys, owner=0)
        if self._managed_etcd:
            self._etcd()
        hosts, server = server_hosts(self._config, self._release), self._config.local_server
        client = "front-proxy-client"
        self._leaf(
            self._ca,
            Leaf(
                stem=folder / "server",
                common_name="kubernetes",
                organization="kubernetes",
                owner=apiserver,
                hosts=hosts,
            ),
        )
        self._leaf(front, Leaf(stem=folder / client, common_name=client, organization=client, owner=apiserver))
        for stem, name, owner, own in (
            ("apiserver-kubelet-client", "apiserver-kubelet-client", apiserver, ""),
            ("konnectivity", "kubernetes-konnectivity", users.KONNECTIVITY, server),
            ("admin", "kubernetes-admin", "root", server),
        ):
            mode = 0o640 if stem == "konnectivity" else 0o600
            self._leaf(self._ca, Leaf(
                stem=folder / stem, common_name=name, organization=MASTERS, owner=owner, server=own, conf_mode=mode,
            ))  # fmt: skip

    def finish(self) -> None:
        """The leaves that are first used when the API server answers."""
        folder, server = self._layout.pki, self._config.local_server
        apiserver = users.KUBE_APISERVER
        for stem, name, owner in (
            ("ccm", "system:kube-controller-manager", apiserver),
            ("scheduler", "system:kube-scheduler", users.KUBE_SCHEDULER),
        ):
            self._leaf(self._ca, Leaf(
                stem=folder / stem, common_name=name, organization=name, owner=owner, server=server))  # fmt: skip
        self._leaf(self._ca, Leaf(
            stem=folder / "k0s-api", common_name="k0s-api", organization="kubernetes", owner=apiserver,
            hosts=server_hosts(self._config, self._release)))  # fmt: skip
        self._keys.close()

    def _etcd(self) -> None:
        """The authority, leaves and JWT pair of an etcd that k0s runs itself."""
        etcd = self._config.spec["storage"]["etcd"]
        folder, owner = self._layout.etcd_pki, users.uid(users.ETCD)
        layout.directory(folder, 0o711, owner=owner)
        life, leaf_life = lives(etcd["ca"])
        authority = pki.ensure_authority(folder / "ca", "etcd-ca", life=life, keys=self._keys, owner=owner)
        peer = etcd["peerAddress"]
        for stem, name, user, hosts in (
            (folder / "server", "etcd-server", users.ETCD, ("localhost", "127.0.0.1")),
            (folder / "peer", peer, users.ETCD, (peer,)),
            (
                self._layout.pki / "apiserver-etcd-client",
                "apiserver-etcd-client",
                users.KUBE_APISERVER,
                ("localhost", "127.0.0.1"),
            ),
        ):
            leaf = Leaf(stem=stem, common_name=name, organization="", owner=user, hosts=hosts)
            pki.ensure_leaf(leaf, authority, life=leaf_life, keys=self._keys, cluster_ca=folder / "ca.crt")
        pki.ensure_key_pair(folder / "jwt.key", folder / "jwt.pub", keys=self._keys, owner=owner)


def published_ca(places: Layout) -> bytes:
    """The cluster CA as tokens and kubeconfigs carry it."""
    return Path(places.pki / "ca.crt").read_bytes()
