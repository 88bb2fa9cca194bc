"""The StatefulSet of the k0s controllers.

A real init is PID 1 and k0s its only child: no shell stands between SIGTERM and k0s. Pods start in parallel: with
shared PKI and store they need no order. Whatever must restart them is an annotation of the template: digests of config
and PKI, and the day their leaf certificates were made, because k0s renews those only when it starts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from hosted_cp.api.problems import Problem
from hosted_cp.hosting import authorities, config, leaves, rollouts, scripts
from hosted_cp.hosting.etcd import store
from hosted_cp.hosting.names import COMPONENT, OUR_VOLUMES, RELEASE, selector
from hosted_cp.hosting.tenant import API_PORT, KONNECTIVITY_PORT, Tenant, once
from hosted_cp.hosting.wanted import Wanted
from hosted_cp.k0s.command import PENDING, controller_argv, pending_manifests
from hosted_cp.k0s.config import CONFIG_FILE, PASSWORD_FILE, PROBE_FILE, k0s_leaf_life, probes_by_http
from hosted_cp.planning.conditions import rfc3339
from hosted_cp.planning.observed import Observed

DATA = "/var/lib/k0s"
PKI_SOURCE = "/pki"
CONFIG = config.DIRECTORY

#: purpose -> (file of tls.crt, file of tls.key) in k0s' pki directory.
_FILES = {
    "ca": ("ca.crt", "ca.key"),
    "proxy": ("front-proxy-ca.crt", "front-proxy-ca.key"),
    "sa": ("sa.pub", "sa.key"),
}

#: Names of our volumes.
_OURS = {name: f"{OUR_VOLUMES}{name}" for name in ("config", "pki", "run", "tmp")}

#: What k0s needs as root: it gives files to the users of its children, starts them under those, and ends them
#: (k0s.md 11.1).
_CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"]

#: What one small control plane uses when idle (k0s.md 11.4), so that the scheduler counts it.
_REQUESTS = {"cpu": "100m", "memory": "350Mi"}


def wanted(t: Tenant) -> list[Wanted]:
    """The StatefulSet, once its config exists and its store may be used."""
    if t.view.own("Secret", t.names.config) is None or not config.wanted(t) or t.replicas < 1:
        return []
    if t.decisions.storage == "etcd" and not store.is_bootstrapped(t):
        return []
    return [Wanted(body=stateful_set(t))]


@once
def seen(t: Tenant) -> Observed | None:
    return t.view.own("StatefulSet", t.names.control_plane)


def rolled_out(t: Tenant) -> bool:
    """Whether all controllers run what the StatefulSet asks for."""
    live = seen(t)
    return live is not None and rollouts.counted(live) and rollouts.number(live, "updatedReplicas") >= t.replicas


def run_config(t: Tenant) -> bool:
    """Whether all controllers run with the config that is wanted now. Not so after a crash between the writing of the
    config and that of the StatefulSet: all have rolled out then, to what was wanted before."""
    live = seen(t)
    asked = live.get("spec", "template", "metadata", "annotations", config.DIGEST) if live is not None else None
    return asked == config.digest(t) and rolled_out(t)


def data_volume(t: Tenant) -> str:
    """The name of the data volume; claims are called `<this>-<pod>`."""
    claim = t.spec.persistence.persistent_volume_claim if t.spec.persistence.type == "pvc" else None
    given = ((claim or {}).get("metadata") or {}).get("name")
    return given or t.names.control_plane


def stateful_set(t: Tenant) -> dict[str, Any]:
    metadata = t.metadata(t.names.control_plane, part="control-plane")
    metadata["labels"] = {**metadata["labels"], "cluster.x-k8s.io/control-plane": "true"}
    metadata["annotations"] = {
        **metadata.get("annotations", {}),
        leaves.LIFE: leaves.life_text(k0s_leaf_life(t.spec.k0s_config)),
        **({RELEASE: t.decisions.version} if t.decisions.versionText else {}),
    }
    spec: dict[str, Any] = {
        "replicas": t.replicas,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": selector(t.name, "cluster")},
        "template": {
            "metadata": {
                "labels": {**selector(t.name, "cluster"), COMPONENT: "control-plane"},
                "annotations": {
                    config.DIGEST: config.digest(t),
                    authorities.PKI_DIGEST: authorities.pki_digest(t),
                    leaves.MADE: rfc3339(leaves_made(t)),
                },
            },
            "spec": pod_spec(t),
        },
    }
    claims = _claims(t)
    if claims:
        spec["volumeClaimTemplates"] = claims
        if t.spec.persistence.auto_delete_pvcs:
            spec["persistentVolumeClaimRetentionPolicy"] = {"whenDeleted": "Delete", "whenScaled": "Retain"}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec}


def pod_spec(t: Tenant) -> dict[str, Any]:
    image = image_of(t)
    volumes, mounts = _volumes(t)
    made: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 90,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "affinity": _anti_affinity(t),
        "initContainers": [
            {
                "name": "certs-init",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["/bin/sh", "-c", scripts.CERTS_INIT],
                "securityContext": _hardened(),
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": [
                    {"name": _OURS["pki"], "mountPath": PKI_SOURCE, "readOnly": True},
                    {"name": data_volume(t), "mountPath": DATA},
                ],
                "env": [
                    {"name": "PENDING", "value": PENDING},
                    {
                        "name": "PENDING_MANIFESTS",
                        "value": " ".join(
                            pending_manifests(k0s_config=t.spec.k0s_config, flags=t.spec.control_plane_flags)
                        ),
                    },
                ],
            }
        ],
        "containers": [
            {
                "name": "controller",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["/sbin/tini", "--"],
                "args": controller_argv(
                    version=t.version,
                    config=f"{CONFIG}/k0s.yaml",
                    k0s_config=t.spec.k0s_config,
                    flags=t.spec.control_plane_flags,
                ),
                "ports": [
                    {"name": "api", "containerPort": API_PORT, "protocol": "TCP"},
                    {"name": "konnectivity", "containerPort": KONNECTIVITY_PORT, "protocol": "TCP"},
                ],
                "resources": _resources(t.spec.resources),
                "securityContext": _hardened(),
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": mounts,
                **_probes(t),
            }
        ],
        "volumes": volumes,
    }
    return made | t.asked_of_pods()


@once
def image_of(t: Tenant) -> str:
    """The image of the controllers: the user's repository, else the operator's, else the catalogue's; tag = version."""
    settings = t.view.settings
    usual = settings.catalogue["k0s"]["repository"]
    # The schema writes the usual repository into every object, so it cannot mean that the user wants just that.
    repository = t.spec.image if t.spec.image != usual else settings.k0s_image or usual
    return f"{repository}:{t.version.image_tag}"


@once
def leaves_made(t: Tenant) -> datetime:
    """When the running controllers were last told to make their leaves, or now if it is time again."""
    last = leaves.made(seen(t))
    if last is None:
        return t.view.now  # nobody knows how old they are
    due = t.view.now >= last + _restart_after(t) or last > t.view.now + timedelta(days=1)
    return t.view.now if due else last


def restart_at(t: Tenant) -> datetime:
    """When the controllers have to start anew for the sake of their leaves."""
    return leaves_made(t) + _restart_after(t)


def _restart_after(t: Tenant) -> timedelta:
    return leaves.restart_after(k0s_leaf_life(t.spec.k0s_config), uid=t.uid)


def _hardened() -> dict[str, Any]:
    return {
        "runAsUser": 0,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": list(_CAPABILITIES)},
    }


def _resources(asked: Mapping[str, Any] | None) -> dict[str, Any]:
    asked = dict(asked or {})
    return {**asked, "requests": {**_REQUESTS, **(asked.get("limits") or {}), **(asked.get("requests") or {})}}


def _probes(t: Tenant) -> dict[str, Any]:
    """The API server's own answers. Liveness leaves the store out: a restart heals no database."""
    ready: dict[str, Any]
    alive: dict[str, Any]
    if probes_by_http(t.spec.k0s_config, t.version):
        ready = {"httpGet": {"scheme": "HTTPS", "port": "api", "path": "/readyz"}}
        alive = {"httpGet": {"scheme": "HTTPS", "port": "api", "path": "/livez?exclude=etcd"}}
        often = 1
    else:
        # Anonymous requests cannot be opened for the health paths alone in this version, so k0s asks for itself.
        ready = {"exec": {"command": ["k0s", "kubectl", "get", "--raw=/readyz"]}}
        alive = {"exec": {"command": ["k0s", "kubectl", "get", "--raw=/livez?exclude=etcd"]}}
        often = 2
    return {
        "startupProbe": {**ready, "periodSeconds": often, "timeoutSeconds": 5, "failureThreshold": 600 // often},
        "readinessProbe": {**ready, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 2},
        "livenessProbe": {**alive, "periodSeconds": 20, "timeoutSeconds": 10, "failureThreshold": 6},
    }


def _anti_affinity(t: Tenant) -> dict[str, Any]:
    terms = [
        {
            "weight": weight,
            "podAffinityTerm": {
                "topologyKey": key,
                "labelSelector": {"matchLabels": {"app": "k0smotron", "cluster": t.name, "component": "cluster"}},
            },
        }
        for weight, key in ((100, "topology.kubernetes.io/zone"), (50, "kubernetes.io/hostname"))
    ]
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}


def _volumes(t: Tenant) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The pod's volumes, and the controller's mounts."""
    data = data_volume(t)
    volumes: list[dict[str, Any]] = [
        {"name": _OURS["config"], "projected": {"defaultMode": 0o440, "sources": _config_sources(t)}},
        {"name": _OURS["pki"], "projected": {"defaultMode": 0o440, "sources": _pki_sources(t)}},
        {"name": _OURS["run"], "emptyDir": {}},
        {"name": _OURS["tmp"], "emptyDir": {}},
    ]
    mounts: list[dict[str, Any]] = [
        {"name": _OURS["config"], "mountPath": CONFIG, "readOnly": True},
        {"name": data, "mountPath": DATA},
        {"name": _OURS["run"], "mountPath": "/run"},
        {"name": _OURS["tmp"], "mountPath": "/tmp"},  # noqa: S108
    ]
    if t.spec.persistence.type == "hostPath":
        volumes.append({"name": data, "hostPath": {"path": t.spec.persistence.host_path, "type": "DirectoryOrCreate"}})
    elif t.spec.persistence.type != "pvc":
        volumes.append({"name": data, "emptyDir": {}})
    for manifest in t.spec.manifests or ():
        volumes.append(dict(manifest))
        name = manifest["name"]
        mounts.append({"name": name, "mountPath": f"{DATA}/manifests/{name}", "readOnly": True})
    for mount in t.spec.mounts or ():
        name = mount_volume_name(mount.path)
        volumes.append({"name": name, **mount.source})
        read_only = mount.read_only or "configMap" in mount.source or "secret" in mount.source
        mounts.append({"name": name, "mountPath": mount.path, **({"readOnly": True} if read_only else {})})
    return volumes, mounts


def problems(t: Tenant) -> list[Problem]:
    """Volumes of the user whose names meet: a pod cannot have two of one name."""
    used = dict.fromkeys(_OURS.values(), "the operator")
    used[data_volume(t)] = "the data volume"
    fields = [(str(each.get("name")), f"spec.manifests[{i}].name") for i, each in enumerate(t.spec.manifests or ())]
    fields += [(mount_volume_name(each.path), f"spec.mounts[{i}].path") for i, each in enumerate(t.spec.mounts or ())]
    found = []
    for name, field in fields:
        if name in used:
            found.append(
                Problem(
                    field=field,
                    fault=f"gives a volume the name {name}, which is that of {used[name]}",
                    remedy="choose another one",
                )
            )
        used.setdefault(name, field)
    return found


def mount_volume_name(path: str) -> str:
    """The volume of a `spec.mounts` entry: its path as a DNS label, with a digest where that is not possible."""
    plain = path.strip("/").replace("/", "-")
    label = "".join(c if c.isascii() and (c.isalnum() or c == "-") else "-" for c in plain.lower()).strip("-")
    if label == plain and 0 < len(label) <= 63:
        return label
    return f"{label[:57] or 'mount'}-{hashlib.sha256(path.encode()).hexdigest()[:5]}".replace("--", "-")


def _config_sources(t: Tenant) -> list[dict[str, Any]]:
    files = [CONFIG_FILE, PROBE_FILE, *([PASSWORD_FILE] if config.has_password_file(t) else [])]
    items = [{"key": file, "path": file} for file in files]
    sources: list[dict[str, Any]] = [{"secret": {"name": t.names.config, "items": items}}]
    if t.decisions.storage == "etcd":
        name = t.names.secret("apiserver-etcd-client")
        keys = [{"key": key, "path": f"etcd/{key}"} for key in ("ca.crt", "tls.crt", "tls.key")]
        sources.append({"secret": {"name": name, "items": keys}})
    return sources


def _pki_sources(t: Tenant) -> list[dict[str, Any]]:
    return [
        {
            "secret": {
                "name": authorities.secret_name(t, purpose),
                "items": [{"key": "tls.crt", "path": certificate}, {"key": "tls.key", "path": key}],
            }
        }
        for purpose, (certificate, key) in _FILES.items()
    ]


def _claims(t: Tenant) -> list[dict[str, Any]]:
    if t.spec.persistence.type != "pvc":
        return []
    given = t.spec.persistence.persistent_volume_claim or {}
    metadata = given.get("metadata") or {}
    return [
        {
            "metadata": {
                "name": data_volume(t),
                "labels": {**(metadata.get("labels") or {}), **t.volume_labels},
                **({"annotations": metadata["annotations"]} if metadata.get("annotations") else {}),
            },
            "spec": {"accessModes": ["ReadWriteOnce"], **(given.get("spec") or {})},
        }
    ]
