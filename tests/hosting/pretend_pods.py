"""What the rest of a cluster does with our objects, one small step at a time: StatefulSets, kubelets, load balancers.

Pods behave as a script says; the default is to become ready one step after they were made, if every Secret that they
need exists. A StatefulSet replaces one pod at a time, from the highest ordinal, and waits for it, as a real one does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from hosted_cp.planning.actions import Ref
from tests.hosting.pretend_server import Json, PretendServer, secret_data

#: Pods end up so.
READY, STARTING, NO_IMAGE, CRASHING = "ready", "starting", "no image", "crashing"


@dataclass(kw_only=True)
class Script:
    """What happens to pods and Services."""

    #: Pod name -> READY, STARTING, NO_IMAGE or CRASHING.
    pods: Callable[[str], str] = lambda name: READY
    crash_message: str = "it broke"
    load_balancer: Json | None = field(default_factory=lambda: {"ip": "203.0.113.10"})
    storage_bound: bool = True
    #: The StatefulSet whose pods a quota or an admission webhook refuses.
    refused: str = ""


def step(server: PretendServer, script: Script) -> bool:
    """One step of everybody. Returns whether anything has changed."""
    changed = server.collect_garbage()
    for body in server.every("Service"):
        changed |= _load_balancer(server, script, body)
    for body in server.every("StatefulSet"):
        if "deletionTimestamp" not in body["metadata"]:
            changed |= _stateful_set(server, script, body)
    return changed


def pods_of(server: PretendServer, stateful_set: str) -> list[Json]:
    owner = server.find("StatefulSet", stateful_set)
    uid = owner["metadata"]["uid"] if owner else ""
    mine = [
        pod
        for pod in server.every("Pod")
        if any(each["uid"] == uid for each in pod["metadata"].get("ownerReferences", []))
    ]
    return sorted(mine, key=lambda pod: str(pod["metadata"]["name"]))


def is_ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _load_balancer(server: PretendServer, script: Script, body: Json) -> bool:
    if body["spec"]["type"] != "LoadBalancer":
        return False
    ingress = [script.load_balancer] if script.load_balancer else []
    return server.set_status(Ref.of(body), {"loadBalancer": {"ingress": ingress} if ingress else {}})


def _stateful_set(server: PretendServer, script: Script, body: Json) -> bool:
    metadata, spec = body["metadata"], body["spec"]
    digest = hashlib.sha256(orjson.dumps(spec["template"], option=orjson.OPT_SORT_KEYS)).hexdigest()[:8]
    revision = f"{metadata['name']}-{digest}"
    changed = False
    pods = pods_of(server, metadata["name"])
    for pod in pods:
        if int(pod["metadata"]["name"].rpartition("-")[2]) >= spec["replicas"]:
            server.delete(Ref.of(pod))
            changed = True
    names = {pod["metadata"]["name"] for pod in pods}
    for ordinal in range(spec["replicas"]):
        changed |= _claims(server, script, body, ordinal)
        if f"{metadata['name']}-{ordinal}" not in names:
            if metadata["name"] == script.refused:
                continue
            server.create(_pod(body, ordinal, revision), manager="kube-controller-manager")
            changed = True
        else:
            changed |= _kubelet(server, script, f"{metadata['name']}-{ordinal}", metadata["namespace"])
    pods = pods_of(server, metadata["name"])
    outdated = [pod for pod in pods if pod["metadata"]["labels"]["controller-revision-hash"] != revision]
    newer_serve = all(is_ready(pod) for pod in pods if pod not in outdated)
    if outdated and newer_serve:
        server.delete(Ref.of(outdated[-1]))
        changed = True
    pods = pods_of(server, metadata["name"])
    status = {
        "observedGeneration": metadata["generation"],
        "updateRevision": revision,
        "replicas": len(pods),
        "readyReplicas": sum(1 for pod in pods if is_ready(pod)),
        "updatedReplicas": sum(
            1 for pod in pods if pod["metadata"]["labels"]["controller-revision-hash"] == revision
        ),
    }  # fmt: skip
    return changed | server.set_status(Ref.of(body), status)


def _claims(server: PretendServer, script: Script, body: Json, ordinal: int) -> bool:
    changed = False
    goes = body["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"
    owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": body["metadata"]["name"]}
    for template in body["spec"].get("volumeClaimTemplates") or []:
        name = f"{template['metadata']['name']}-{body['metadata']['name']}-{ordinal}"
        claim = server.find("PersistentVolumeClaim", name)
        if claim is None:
            labels = {**template["metadata"].get("labels", {}), **body["spec"]["selector"]["matchLabels"]}
            claim = server.create(
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": name, "namespace": body["metadata"]["namespace"], "labels": labels},
                    "spec": template["spec"],
                },
                manager="kube-controller-manager",
            )
            changed = True
        if goes and not claim["metadata"].get("ownerReferences"):
            references = [{**owner, "uid": body["metadata"]["uid"]}]
            claim = server.merge_patch(Ref.of(claim), {"metadata": {"ownerReferences": references}})
            changed = True
        changed |= server.set_status(Ref.of(claim), {"phase": "Bound" if script.storage_bound else "Pending"})
    return changed


def _pod(body: Json, ordinal: int, revision: str) -> Json:
    template = body["spec"]["template"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{body['metadata']['name']}-{ordinal}",
            "namespace": body["metadata"]["namespace"],
            "labels": {**template["metadata"]["labels"], "controller-revision-hash": revision},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "StatefulSet",
                    "name": body["metadata"]["name"],
                    "uid": body["metadata"]["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": template["spec"],
    }


def _kubelet(server: PretendServer, script: Script, name: str, namespace: str) -> bool:
    pod = server.find("Pod", name)
    if pod is None:
        return False
    # What runs goes on running without the Secrets that it was started with.
    missing = "" if is_ready(pod) else next(_missing(server, pod["spec"]), "")
    fate = STARTING if missing else script.pods(name)
    container = pod["spec"]["containers"][0]
    status: Json = {"name": container["name"], "image": container["image"], "ready": fate == READY, "state": {}}
    if missing:
        status["state"] = {"waiting": {"reason": "CreateContainerConfigError", "message": missing}}
    elif fate == NO_IMAGE:
        status["state"] = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
    elif fate == CRASHING:
        ended = {"terminated": {"exitCode": 1, "message": script.crash_message}}
        status |= {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended}
    ready = "True" if fate == READY else "False"
    ref = Ref(api_version="v1", kind="Pod", namespace=namespace, name=name)
    conditions = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": ready}]
    return server.set_status(ref, {"conditions": conditions, "containerStatuses": [status]})


def _missing(server: PretendServer, spec: Any) -> Iterator[str]:
    """Secrets (and keys of them) without which the kubelet starts nothing."""
    for volume in spec.get("volumes", []):
        for source in volume.get("projected", {}).get("sources", []):
            wanted = source.get("secret", {})
            keys = [item["key"] for item in wanted.get("items", [])]
            yield from _lacks(server, wanted.get("name"), keys)
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference:
                yield from _lacks(server, reference["name"], [reference["key"]])


def _lacks(server: PretendServer, name: str | None, keys: list[str]) -> Iterator[str]:
    if name is None:
        return
    secret = server.find("Secret", name)
    if secret is None:
        yield f'secret "{name}" not found'
        return
    data = secret_data(secret)
    yield from (f"couldn't find key {key} in Secret {name}" for key in keys if key not in data)
