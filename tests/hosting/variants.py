"""Tenants of every shape that a spec can give them: what golden files, posture and convergence are tested with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from hosted_cp.hosting.settings import Settings
from hosted_cp.k0s.config import DSN_KEY
from hosted_cp.pki.recipes import CARecipe, KeyPairRecipe
from hosted_cp.planning.recipes import Inputs
from tests.hosting.world import CATALOGUE, START, Material, World, cluster

Spec = dict[str, Any]

NODE_PORT: Spec = {"type": "NodePort"}
DSN = b"postgres://demo:canary-of-the-dsn@db.example:5432/demo"
SQLITE = "sqlite://file:/var/lib/k0s/db/state.db?mode=rwc&_journal=WAL"


@cache
def brought(purpose: str, *, seed: int = 77) -> Mapping[str, bytes]:
    """A CA (or key pair) as a user brings it."""
    material = Material(seed=seed)
    inputs = Inputs(now=START, entropy=material.entropy, new_key=material.new_key, secrets={})
    if purpose == "sa":
        return dict(KeyPairRecipe().fulfil(inputs))
    return dict(CARecipe(common_name=f"brought {purpose}").fulfil(inputs))


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What is asked, and the world it is asked in."""

    spec: Spec = field(default_factory=dict)
    metadata: Spec = field(default_factory=dict)
    settings: Spec = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    privileged: bool = False
    #: The variant that this one differs from in few objects.
    base: str = "etcd-1"

    def world(self) -> World:
        world = World(settings=Settings(catalogue=CATALOGUE, **self.settings), privileged=self.privileged)
        world.server.create(cluster(spec={"service": NODE_PORT, **self.spec}, **self.metadata))
        for name, data in self.secrets.items():
            world.secret(name, data)
        return world


@cache
def _settled(name: str) -> World:
    world = VARIANTS[name].world().settle()
    assert world.available, world.why
    return world


def settled(name: str) -> World:
    """The world of a variant at rest, Available."""
    return _settled(name).fork()


def kine(url: str) -> Spec:
    return {"storage": {"type": "kine", "kine": {"dataSourceURL": url}}}


_POSTGRES = kine("postgres://db.example:5432/demo?sslmode=verify-full")
_CLAIM = {
    "metadata": {"name": "state", "labels": {"tier": "gold"}, "annotations": {"backup": "daily"}},
    "spec": {"storageClassName": "standard", "resources": {"requests": {"storage": "1024Mi"}}},
}

VARIANTS: Mapping[str, Variant] = {
    "etcd-1": Variant(),
    "etcd-3": Variant(spec={"replicas": 3}),
    "etcd-options": Variant(
        spec={
            "storage": {
                "type": "etcd",
                "etcd": {
                    "image": "registry.example/etcd:v3.7.1",
                    "args": ["--max-request-bytes=2097152"],
                    "autoDeletePVCs": True,
                    "persistence": {"size": "0.5Gi", "storageClass": "standard"},
                    "resources": {"limits": {"cpu": "1000m", "memory": "0.25Gi"}},
                },
            }
        }
    ),
    "kine-url": Variant(spec=_POSTGRES),
    "kine-url-3": Variant(spec={**_POSTGRES, "replicas": 3}, base="kine-url"),
    "kine-secret": Variant(
        spec={"storage": {"type": "kine", "kine": {"dataSourceSecretName": "database"}}},
        secrets={"database": {DSN_KEY: DSN}},
        base="kine-url",
    ),
    "kine-sqlite-pvc": Variant(
        spec={
            **kine(SQLITE),
            "persistence": {"type": "pvc", "autoDeletePVCs": True, "persistentVolumeClaim": _CLAIM},
        },
        base="kine-url",
    ),
    "cluster-ip": Variant(spec={"service": {"type": "ClusterIP"}}),
    "cluster-ip-ports": Variant(
        spec={"service": {"type": "ClusterIP", "apiPort": 443, "konnectivityPort": 8443}}, base="cluster-ip"
    ),
    "load-balancer": Variant(spec={"service": {"type": "LoadBalancer"}}),
    "node-ports": Variant(spec={"service": {"type": "NodePort", "apiPort": 30443, "konnectivityPort": 30132}}),
    "external-address": Variant(spec={"externalAddress": "api.demo.example"}),
    "external-address-ipv6": Variant(spec={"externalAddress": "2001:db8::6"}),
    "pvc": Variant(
        spec={
            "persistence": {
                "type": "pvc",
                "persistentVolumeClaim": {"spec": {"resources": {"requests": {"storage": "0.5Gi"}}}},
            }
        }
    ),
    "host-path": Variant(spec={"persistence": {"type": "hostPath", "hostPath": "/srv/demo"}}, privileged=True),
    "empty-dir": Variant(spec={"persistence": {"type": "emptyDir"}}),
    "manifests": Variant(
        spec={
            "manifests": [
                {"name": "config", "configMap": {"name": "stack"}},
                {"name": "more", "secret": {"secretName": "stack"}},
            ]
        }
    ),
    "mounts": Variant(
        spec={
            "mounts": [
                {"path": "/pki", "configMap": {"name": "extra"}},
                {"path": "/etc/Über", "secret": {"secretName": "extra"}},
                {"path": "/scratch", "emptyDir": {"sizeLimit": "0.5Gi"}},
            ]
        }
    ),
    "patches": Variant(
        spec={
            "patches": [
                {
                    "target": {"kind": "StatefulSet", "component": "control-plane"},
                    "patch": {
                        "type": "strategic",
                        "content": "spec: {template: {spec: {containers: [{name: controller, env: "
                        "[{name: HTTPS_PROXY, value: 'http://proxy:3128'}]}]}}}",
                    },
                },
                {
                    "target": {"kind": "Service", "component": "control-plane"},
                    "patch": {"type": "merge", "content": "metadata: {annotations: {pool: blue}}"},
                },
                {
                    "target": {"kind": "StatefulSet", "component": "etcd"},
                    "patch": {
                        "type": "json",
                        "content": "[{op: add, path: /spec/template/spec/nodeSelector, value: {disk: ssd}}]",
                    },
                },
            ]
        }
    ),
    "resources": Variant(
        spec={"resources": {"limits": {"cpu": "1000m", "memory": "0.5Gi"}, "requests": {"ephemeral-storage": "1e9"}}}
    ),
    "topology-spread": Variant(
        spec={
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "topology.kubernetes.io/zone",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": {"app": "k0smotron"}},
                }
            ]
        }
    ),
    "certificate-refs": Variant(
        spec={"certificateRefs": [{"type": "ca", "name": "our-ca"}, {"type": "sa", "name": "our-sa"}]},
        secrets={"our-ca": brought("ca"), "our-sa": brought("sa")},
    ),
    "brought-ca": Variant(secrets={"demo-ca": brought("ca"), "demo-etcd": brought("etcd")}),
    "flags": Variant(spec={"controlPlaneFlags": ["--debug", "--disable-components=metrics-server,helm"]}),
    "metadata": Variant(
        spec={"kubeconfigSecretMetadata": {"labels": {"shown": "here"}, "annotations": {"note": "there"}}}
    ),
    "users-labels": Variant(
        metadata={
            "labels": {"team": "blue", "app": "mine"},
            "annotations": {"owner": "anna", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
        }
    ),
    "service-account": Variant(spec={"serviceAccount": "builder"}, privileged=True),
    "rsa": Variant(spec={"keyAlgorithm": "RSA-2048"}),
    "k0s-1.35": Variant(spec={"version": "v1.35.4+k0s.0"}),
    "network-policies": Variant(settings={"network_policies": True}),
    "k0s-config": Variant(
        spec={
            "k0sConfig": {
                "apiVersion": "k0s.k0sproject.io/v1beta1",
                "kind": "ClusterConfig",
                "spec": {
                    "api": {"sans": ["demo.example"], "ca": {"certificatesExpireAfter": "2160h"}},
                    "network": {"provider": "calico", "podCIDR": "10.50.0.0/16", "serviceCIDR": "10.51.0.0/16"},
                    "extensions": {"helm": {"charts": []}},
                },
            }
        }
    ),
    "administrator": Variant(
        settings={
            "k0s_image": "registry.example/k0s",
            "etcd_image": "registry.example/etcd:v3.6.15",
            "priority_class": "control-planes",
            "cluster_domain": "corp.example",
        }
    ),
}  # fmt: skip
