"""A k0s in a pod of the lab, and a worker that joins it from an edge machine: the ground that the product stands on.

All objects are made by hand here, none by the operator. `K0S_BINARY` makes it a real k0s; otherwise it is the stand-in.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.conftest import Kubectl, MakeEdge
from e2e.lab import client
from e2e.lab.handle import Lab
from e2e.lab.network import LabError
from k0s_images import images
from k0s_images.standin_launcher import launcher

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

STAND_IN = "v1.36.3+k0s.2"
_DISABLED = "kube-proxy,coredns,metrics-server,helm,autopilot"


def _k0s() -> tuple[str, Path, Path]:
    """Image name and archive of the controller, and the executable of the worker."""
    given = os.environ.get("K0S_BINARY")
    if given:
        binary = Path(given)
        return images.k0s_name(binary), images.k0s(binary), binary
    return images.stand_in_name(STAND_IN), images.stand_in(STAND_IN), launcher("1.36")


def _config(address: str) -> str:
    agent, version = images.konnectivity_agent_name().rsplit(":", 1)
    return yaml.safe_dump({
        "apiVersion": "k0s.k0sproject.io/v1beta1", "kind": "ClusterConfig",
        "spec": {
            "api": {"externalAddress": address, "sans": [address]},
            "storage": {"type": "kine"},
            "network": {"provider": "custom"},
            "workerProfiles": [{"name": "default", "values": {"failCgroupV1": False}}],
            "images": {"konnectivity": {"image": agent, "version": version}},
        },
    })  # fmt: skip


def _controller(image: str) -> dict[str, Any]:
    volumes = {"data": "/var/lib/k0s", "run": "/run", "tmp": "/tmp"}
    mounts = [{"name": name, "mountPath": path} for name, path in volumes.items()]
    mounts.append({"name": "config", "mountPath": "/etc/k0s"})
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tenant", "labels": {"app": "tenant"}},
        "spec": {
            "terminationGracePeriodSeconds": 10,
            # With a token of the management cluster, kubectl in the pod would use that cluster's namespace as well.
            "automountServiceAccountToken": False,
            "containers": [{
                "name": "k0s", "image": image, "imagePullPolicy": "IfNotPresent",
                "command": ["k0s", "controller", "--config=/etc/k0s/k0s.yaml", f"--disable-components={_DISABLED}"],
                "volumeMounts": mounts,
            }],
            "volumes": [*({"name": each, "emptyDir": {}} for each in volumes),
                        {"name": "config", "secret": {"secretName": "config"}}],
        },
    }  # fmt: skip


def _eventually(ask: Callable[[], str], *, seconds: float) -> str:
    """Ask until there is an answer; the tenant's API has no way to tell us that it has begun to answer."""
    ends = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except LabError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.3)


def test_a_worker_joins_from_an_edge_machine_and_its_pods_answer(
    lab: Lab,
    kubectl: Kubectl,
    namespace: str,
    edge: MakeEdge,
    tmp_path: Path,
    record_testsuite_property: Callable[..., None],
) -> None:
    image, archive, k0s = _k0s()
    minor = ".".join(image.rpartition(":v")[2].split(".")[:2])
    wanted = images.archives(only=[images.TOOLBOX, images.konnectivity_agent_name()])
    lab.load_images({image: archive})
    path = f"/api/v1/namespaces/{namespace}"
    ports = [{"name": "api", "port": 6443}, {"name": "konnectivity", "port": 8132}]
    lab.client().call(
        "POST",
        f"{path}/services",
        {
            "metadata": {"name": "tenant"},
            "spec": {"type": "LoadBalancer", "selector": {"app": "tenant"}, "ports": ports},
        },
    )
    service = client.wait_for(lab.client(), f"{path}/services", name="tenant", seconds=10, what="no address",
                              until=lambda each: each["status"]["loadBalancer"].get("ingress"))  # fmt: skip
    address = service["status"]["loadBalancer"]["ingress"][0]["ip"]
    secret = {"metadata": {"name": "config"}, "stringData": {"k0s.yaml": _config(address)}}
    lab.client().call("POST", f"{path}/secrets", secret)
    begun = time.monotonic()
    lab.client().call("POST", f"{path}/pods", _controller(image))

    def inside(*words: str, input: str | None = None) -> str:
        return kubectl("-n", namespace, "exec", "-i", "tenant", "--", "k0s", *words, input=input)

    def tenant(*words: str, input: str | None = None) -> str:
        return inside("kubectl", *words, input=input)

    _eventually(lambda: tenant("-n", "kube-system", "get", "configmap", f"worker-config-default-{minor}"), seconds=120)
    record_testsuite_property("join-ready", round(time.monotonic() - begun, 1))
    token = tmp_path / "token"
    token.write_text(inside("token", "create", "--role=worker"))

    machine = edge("worker")
    machine.add_images(wanted)
    begun = time.monotonic()
    machine.run_worker(k0s, token, minor=minor)
    _eventually(lambda: tenant("wait", "--for=condition=Ready", "node/worker", "--timeout=30s"), seconds=60)
    record_testsuite_property("node-ready", round(time.monotonic() - begun, 1))
    tenant("apply", "-f", "-", input=json.dumps({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hello", "namespace": "default"},
        "spec": {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False, "containers": [{
            "name": "hello", "image": images.TOOLBOX, "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", "echo said at the edge; exec sleep 1000"]}]},
    }))  # fmt: skip
    tenant("wait", "--for=condition=Ready", "pod/hello", "--timeout=30s")
    assert _eventually(lambda: tenant("logs", "hello"), seconds=60) == "said at the edge\n"
    record_testsuite_property("logs-through-konnectivity", round(time.monotonic() - begun, 1))
    assert "uid=65534" in tenant("exec", "hello", "--", "id")
    machine.stop()
    machine.run_worker(k0s, token, minor=minor)
    again = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1"
    tenant("wait", again, "pod/hello", "--timeout=60s")
    tenant("wait", "--for=condition=Ready", "pod/hello", "--timeout=30s")
    assert str(machine.address) in tenant("get", "node", "worker", "-o", "jsonpath={.status.addresses}")
