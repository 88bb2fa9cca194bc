"""The tenant's own etcd: a headless Service, the permit, and a StatefulSet with one or three members.

Names, ports and paths are k0smotron's. What differs is for the sake of the data and of security: the right to begin
with an empty volume is granted by the operator (`permit.py`), etcd is PID 1 without a shell around it, runs as an
ordinary user on a read-only root, and no CA key is in its pod. Leaf certificates are mounted as files that the kubelet
renews; etcd reads them at every handshake, so renewing one restarts nothing. A new CA needs a restart of the members.

The number of members is fixed when the tenant is made, until membership can be changed safely.
"""

from __future__ import annotations

from typing import Any

from hosted_cp.api.cluster import Etcd, EtcdPersistence
from hosted_cp.api.problems import Problem
from hosted_cp.hosting import authorities, scripts
from hosted_cp.hosting.etcd import flags, image, permit
from hosted_cp.hosting.etcd.flags import CLIENT_PORT, DATA, METRICS_PORT, PEER_COMMON_NAME, PEER_PORT, PKI
from hosted_cp.hosting.etcd.health import condition, explain
from hosted_cp.hosting.etcd.permit import DATA_VOLUME, is_bootstrapped, members
from hosted_cp.hosting.names import COMPONENT, selector
from hosted_cp.hosting.tenant import Tenant, once
from hosted_cp.hosting.wanted import Wanted
from hosted_cp.planning import quantity
from hosted_cp.planning.observed import Observed

#: Any user can run etcd; this one is k0smotron's group of the volumes.
USER = 1001
#: What an idle member uses is 28 MiB and a hundredth of a core; this is what the scheduler sets aside.
_REQUESTS = {"cpu": "25m", "memory": "64Mi"}

__all__ = [
    "condition",
    "endpoints",
    "explain",
    "is_bootstrapped",
    "members",
    "problems",
    "server_names",
    "wanted",
]


def wanted(t: Tenant) -> list[Wanted]:
    """The permit, the Service and the StatefulSet, in this order: nothing starts without a permit.

    And no volume is made before every authority is at hand: a volume without them is a former life.
    """
    if t.decisions.storage != "etcd":
        return []
    first = [permit.wanted(t), Wanted(body=_service(t))]
    if _live(t) is None and not all(authorities.at_hand(t, purpose) for purpose in authorities.purposes(t)):
        return first
    return [*first, Wanted(body=_stateful_set(t))]


def endpoints(t: Tenant) -> list[str]:
    """The client URLs. One for each of several members, so that a client can leave one that does not answer."""
    service, count = t.names.etcd, members(t)
    if count == 1:
        return [f"https://{service}:{CLIENT_PORT}"]
    return [f"https://{permit.member_name(t, i)}.{service}:{CLIENT_PORT}" for i in range(count)]


@once
def server_names(t: Tenant) -> tuple[list[str], list[str]]:
    """DNS names and IP addresses that the server and peer certificates must be valid for (k0smotron's, 2.8)."""
    service = t.names.etcd
    forms = [service, f"{service}.{t.namespace}.svc", f"{service}.{t.namespace}.svc.{t.view.settings.cluster_domain}"]
    return ["localhost", *forms, *(f"*.{form}" for form in forms)], ["127.0.0.1"]


@once
def problems(t: Tenant) -> list[Problem]:
    """What the spec asks of etcd and does not get. What runs goes on as it is."""
    if t.decisions.storage != "etcd":
        return []
    found = [problem for _, problem in flags.denied(_spec(t).args)]
    _, image_problem = _image(t)
    if image_problem is not None:
        found.append(image_problem)
    return found + _volume_problems(t)


def _spec(t: Tenant) -> Etcd:
    return t.spec.storage.etcd if t.spec.storage else Etcd()


def _persistence(t: Tenant) -> EtcdPersistence:
    return _spec(t).persistence or EtcdPersistence()


def _live(t: Tenant) -> Observed | None:
    return t.view.own("StatefulSet", t.names.etcd)


@once
def _image(t: Tenant) -> tuple[str, Problem | None]:
    """The image that runs, and why it is not the one asked for.

    That is the decided one; but not if somebody has put a newer minor there by hand, whose data the decided one could
    not read.
    """
    decided = t.decisions.etcdImage
    there = image.in_template(t.view)
    if there and (harm := flags.change_problem(there, decided, field=image.FIELD)) is not None:
        return there, harm
    _, refusal = image.chosen(t.view, t.spec, decided=t.former.etcdImage)
    return decided, refusal


def _release(t: Tenant, image: str) -> flags.Release:
    default = flags.release(f":{t.view.settings.catalogue['etcd']['default']}")
    return flags.release(image) or default or (3, 6, 0)


@once
def _volume(t: Tenant) -> tuple[str, str | None]:
    """Size and StorageClass of the members' volumes: those of the live StatefulSet, which cannot change."""
    live = _live(t)
    for template in live.get("spec", "volumeClaimTemplates", default=[]) if live is not None else []:
        if template.get("metadata", {}).get("name") == DATA_VOLUME:
            spec = template.get("spec", {})
            size = spec.get("resources", {}).get("requests", {}).get("storage")
            return str(size or _persistence(t).size), spec.get("storageClassName")
    return str(_persistence(t).size), _persistence(t).storage_class


def _volume_problems(t: Tenant) -> list[Problem]:
    size, storage_class = _volume(t)
    asked, found = _persistence(t), []
    if quantity.canonical(asked.size) != quantity.canonical(size):
        found.append(
            Problem(
                field="spec.storage.etcd.persistence.size",
                fault=f"is {asked.size}, but the volumes were made with {size} and this version does not resize them",
                remedy=f"set it back to {size}",
            )
        )
    if asked.storage_class is not None and asked.storage_class != storage_class:
        found.append(
            Problem(
                field="spec.storage.etcd.persistence.storageClass",
                fault=f"is {asked.storage_class}, but the volumes were made with {storage_class or 'the default one'}",
                remedy="set it back, or create the tenant anew",
            )
        )
    return found


def _peer_name(t: Tenant) -> str | None:
    """The common name that peers identify themselves with; None where a brought certificate does not tell."""
    secret = t.view.child("Secret", t.names.secret("etcd-peer"))
    if secret is None or secret.controller_uid == t.uid:
        return PEER_COMMON_NAME
    facts = secret.secret.certificates.get("tls.crt") if secret.secret is not None else None
    return facts.subject or None if facts is not None else None


def _service(t: Tenant) -> dict[str, Any]:
    ports = [("client", CLIENT_PORT), ("peer", PEER_PORT)]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": t.metadata(t.names.etcd, component="etcd", part="etcd"),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            # Members find each other before they are ready; without this none would ever become ready.
            "publishNotReadyAddresses": True,
            "selector": selector(t.name, "etcd"),
            "ports": [{"name": name, "port": port, "targetPort": name, "protocol": "TCP"} for name, port in ports],
        },
    }


def _stateful_set(t: Tenant) -> dict[str, Any]:
    spec = _spec(t)
    size, storage_class = _volume(t)
    claim: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    if storage_class is not None:
        claim["storageClassName"] = storage_class
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": t.metadata(t.names.etcd, component="etcd", part="etcd"),
        "spec": {
            "replicas": members(t),
            "serviceName": t.names.etcd,
            # Members need each other to become ready: one after the other would never come back from a full stop.
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": selector(t.name, "etcd")},
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": "Delete" if spec.auto_delete_pvcs else "Retain",
                "whenScaled": "Retain",
            },
            "template": {
                "metadata": {"labels": {**selector(t.name, "etcd"), COMPONENT: "etcd"}},
                "spec": _pod(t),
            },
            "volumeClaimTemplates": [{"metadata": {"name": DATA_VOLUME, "labels": t.volume_labels}, "spec": claim}],
        },
    }


def _pod(t: Tenant) -> dict[str, Any]:
    made: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "affinity": _anti_affinity(t),
        "initContainers": [_permit_container(t)],
        "containers": [_etcd_container(t)],
        "volumes": [{"name": "certs", "projected": {"defaultMode": 0o440, "sources": _certificates(t)}}],
    }
    return made | t.asked_of_pods()


def _permit_container(t: Tenant) -> dict[str, Any]:
    """The init step that refuses a volume that must not be started from. It speaks through its termination message."""
    image, _ = _image(t)
    return {
        "name": "permit",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", scripts.ETCD_PERMIT],
        "env": [
            _pod_name(),
            {"name": "DATA_DIR", "value": DATA},
            {"name": "TENANT_UID", "value": t.uid},
            _granted(t, "PERMIT_BOOTSTRAPPED", permit.BOOTSTRAPPED),
            *(_granted(t, f"PERMIT_MEMBER_{i}", permit.member_key(i)) for i in range(members(t))),
        ],
        "resources": _resources(t),
        "securityContext": _hardened(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": DATA_VOLUME, "mountPath": DATA}],
    }


def _etcd_container(t: Tenant) -> dict[str, Any]:
    image, _ = _image(t)
    size, _ = _volume(t)
    command = flags.argv(
        service=t.names.etcd,
        image_release=_release(t, image),
        members=members(t),
        size=size,
        peer_name=_peer_name(t),
    )
    args = flags.accepted(_spec(t).args)
    made: dict[str, Any] = {
        "name": "etcd",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": [
            _pod_name(),
            # etcd reads these only as long as it has no data (see `permit.py`).
            _granted(t, "ETCD_INITIAL_CLUSTER", permit.INITIAL_CLUSTER),
            _granted(t, "ETCD_INITIAL_CLUSTER_STATE", permit.INITIAL_CLUSTER_STATE),
            _granted(t, "ETCD_INITIAL_CLUSTER_TOKEN", permit.TOKEN),
        ],
        "ports": [
            {"name": name, "containerPort": port, "protocol": "TCP"}
            for name, port in (("client", CLIENT_PORT), ("peer", PEER_PORT), ("metrics", METRICS_PORT))
        ],
        "resources": _resources(t),
        "securityContext": _hardened(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": DATA_VOLUME, "mountPath": DATA},
            {"name": "certs", "mountPath": PKI, "readOnly": True},
        ],
        # Alive is answered from the member's own store: a lost quorum must not restart the members that are left.
        # Ready needs the quorum. A start may take long when peers are away or the log is long.
        "startupProbe": _probe("/livez", period=1, timeout=5, failures=900),
        "readinessProbe": _probe("/readyz", period=1, timeout=5, failures=3),
        "livenessProbe": _probe("/livez", period=10, timeout=10, failures=6),
    }
    if args:
        made["args"] = args
    return made


def _probe(path: str, *, period: int, timeout: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"scheme": "HTTP", "port": "metrics", "path": path},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def _pod_name() -> dict[str, Any]:
    return {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}


def _granted(t: Tenant, variable: str, key: str) -> dict[str, Any]:
    """A value of the permit. Without it the container does not start; the kubelet reads it anew for every start."""
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": t.names.etcd_permit, "key": key}}}


def _hardened() -> dict[str, Any]:
    return {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def _resources(t: Tenant) -> dict[str, Any]:
    asked = dict(_spec(t).resources or {})
    return {**asked, "requests": {**_REQUESTS, **(asked.get("limits") or {}), **(asked.get("requests") or {})}}


def _certificates(t: Tenant) -> list[dict[str, Any]]:
    """CA certificate and the two leaves. The CA's key stays where it is: a member has no use for it."""
    return [
        {
            "secret": {
                "name": t.names.secret("etcd-server"),
                "items": [
                    {"key": "ca.crt", "path": "ca.crt"},
                    {"key": "tls.crt", "path": "server.crt"},
                    {"key": "tls.key", "path": "server.key"},
                ],
            }
        },
        {
            "secret": {
                "name": t.names.secret("etcd-peer"),
                "items": [{"key": "tls.crt", "path": "peer.crt"}, {"key": "tls.key", "path": "peer.key"}],
            }
        },
    ]


def _anti_affinity(t: Tenant) -> dict[str, Any]:
    terms = [
        {
            "weight": weight,
            "podAffinityTerm": {"topologyKey": key, "labelSelector": {"matchLabels": selector(t.name, "etcd")}},
        }
        for weight, key in ((100, "topology.kubernetes.io/zone"), (50, "kubernetes.io/hostname"))
    ]
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}
