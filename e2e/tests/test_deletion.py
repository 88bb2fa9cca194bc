"""Deleting a tenant leaves nothing but the volumes that its user wants to keep, also before it has ever served."""

from __future__ import annotations

import json
from typing import Any

import pytest

from e2e.lab.manifests import NO_ADDRESS
from e2e.tests.room import Room

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

_MINE = "kmc,jtr,statefulsets,pods,services,endpointslices,secrets,pdb,networkpolicies,configmaps,pvc"


def _left(room: Room) -> list[str]:
    """Everything in the namespace that Kubernetes itself has not put there."""
    return sorted(
        f"{each['kind']}/{each['metadata']['name']}"
        for each in room.items(_MINE)
        if (each["kind"], each["metadata"]["name"]) != ("ConfigMap", "kube-root-ca.crt")
    )


def _gone(room: Room, name: str) -> None:
    room.kubectl("delete", "kmc", name, "--timeout=90s", seconds=100)
    # The garbage collector and the kubelet end what hung on the tenant's objects.
    room.kubectl("wait", "--for=delete", "pods,endpointslices", "-l", f"cluster={name}", "--timeout=120s", seconds=130)


def test_a_tenant_goes_with_everything_but_the_volumes_it_keeps(room: Room) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    persistence = {"type": "pvc", "persistentVolumeClaim": {"spec": claim}}
    room.create("kept", persistence=persistence)
    room.create(
        "all",
        persistence={**persistence, "autoDeletePVCs": True},
        storage={"type": "etcd", "etcd": {"autoDeletePVCs": True, "persistence": {"size": "1Gi"}}},
    )
    room.available("kept")
    room.available("all")
    uid = room.get("kmc/kept")["metadata"]["uid"]
    room.token("kept", "worker")
    room.token("all", "workers-of-all")
    volumes = {each["metadata"]["name"]: each["spec"]["volumeName"] for each in room.items("pvc")}
    assert len(volumes) == 4

    _gone(room, "all")
    doomed = [volume for claim, volume in volumes.items() if "kmc-all" in claim]
    assert len(doomed) == 2
    for volume in doomed:
        room.kubectl("wait", "--for=delete", f"pv/{volume}", "--timeout=60s", seconds=70)
    assert not [each for each in _left(room) if "all" in each and "workers-of-all" not in each]

    _gone(room, "kept")
    # A request for a tenant that is gone is released at once, and takes its Secret with it.
    room.kubectl("delete", "jtr", "--all", "--timeout=30s")
    room.kubectl("wait", "--for=delete", "secret/worker", "secret/workers-of-all", "--timeout=30s")
    assert _left(room) == sorted(f"PersistentVolumeClaim/{each}" for each in volumes if "kmc-kept" in each)
    claims = room.items("pvc")
    assert {each["metadata"]["labels"]["hosted-cp.io/tenant-uid"] for each in claims} == {uid}
    said = _events(room, "VolumesKept")
    assert all(each["metadata"]["name"] in said for each in claims)

    # The same name again meets its former life, and says what can be done.
    room.create("kept", persistence=persistence)
    said = room.cause("kept", "FormerLife")
    assert "Delete the volume claims to begin anew" in said
    room.kubectl("delete", "pvc", "--all", "--timeout=60s", seconds=70)
    room.available("kept").kubectl("get", "namespaces")


def test_a_tenant_that_never_served_goes_as_well(room: Room) -> None:
    room.create("pending", service={"type": "LoadBalancer"}, annotations={NO_ADDRESS: "true"})
    room.create("unpulled", image="registry.invalid/k0s")
    room.cause("pending", "LoadBalancerPending")
    room.cause("unpulled", "ImageCannotBePulled", seconds=60)
    for name in ("pending", "unpulled"):
        _gone(room, name)
    assert [each for each in _left(room) if not each.startswith("PersistentVolumeClaim/")] == []


def _events(room: Room, reason: str) -> str:
    found: dict[str, Any] = json.loads(
        room.kubectl("get", "events", "--field-selector", f"reason={reason}", "-o", "json")
    )
    return " ".join(each["message"] for each in found["items"])
