"""Tenants in the lab: what their manifests need on this machine, waiting for them by watch, and speaking with them.

The lab's workers pull nothing, so a tenant here runs without the add-ons that k0s would deploy from images on the
internet (CoreDNS, kube-proxy, metrics-server, a CNI), and takes its konnectivity agent from a local image. That is all
that differs from a tenant anywhere else.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from e2e.lab import client
from e2e.lab.handle import Lab
from e2e.lab.network import LabError
from k0s_images import images

T = TypeVar("T")

#: Add-ons whose images no worker of the lab could pull; and ours, because the user's list takes their place.
_DISABLED = "autopilot,coredns,helm,kube-proxy,metrics-server,network-provider,update-prober,windows-node"


def for_lab(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of a Cluster with what the lab needs merged into its spec."""
    body: dict[str, Any] = json.loads(json.dumps(manifest))
    agent, version = images.konnectivity_agent_name().rsplit(":", 1)
    pause, pause_version = images.PAUSE.rsplit(":", 1)
    config = body["spec"].setdefault("k0sConfig", {})
    config |= {"apiVersion": "k0s.k0sproject.io/v1beta1", "kind": "ClusterConfig"}
    spec = config.setdefault("spec", {})
    spec.setdefault("network", {})["provider"] = "custom"
    # This kernel has cgroup v1 only, which the kubelet refuses from 1.35 on unless told.
    spec["workerProfiles"] = [{"name": "default", "values": {"failCgroupV1": False}}]
    spec["images"] = {
        "konnectivity": {"image": agent, "version": version},
        "pause": {"image": pause, "version": pause_version},
    }
    body["spec"].setdefault("controlPlaneFlags", []).append(f"--disable-components={_DISABLED}")
    return body


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """A tenant whose kubeconfig we hold."""

    name: str
    kubeconfig: Path
    kubectl_program: Path

    def kubectl(self, *arguments: str, input: str | None = None, seconds: float = 60.0) -> str:
        """Run kubectl as the tenant's administrator; `LabError` if it fails."""
        done = subprocess.run(
            [self.kubectl_program, "--kubeconfig", self.kubeconfig, *arguments],
            input=input, capture_output=True, text=True, timeout=seconds, check=False,
            env={k: v for k, v in os.environ.items() if k != "KUBECONFIG"},
        )  # fmt: skip
        if done.returncode:
            raise LabError(f"tenant {self.name}: kubectl {' '.join(arguments[:4])}: {done.stderr.strip()[-800:]}")
        return done.stdout


def holder(of: Tenant, folder: Path, *, name: str, token: bytes) -> Tenant:
    """Whoever holds a join token: speaks with the tenant as the token's user. A join token is a packed kubeconfig."""
    return _tenant_with(of, gzip.decompress(base64.b64decode(token)), folder, name=name)


def intruder(at: Tenant, *, who: Tenant, folder: Path) -> Tenant:
    """Somebody who knows where a tenant is and what its CA is, and comes with the credentials of another tenant."""
    config = yaml.safe_load(at.kubeconfig.read_text())
    theirs = yaml.safe_load(who.kubeconfig.read_text())
    config["users"] = [{"name": config["users"][0]["name"], "user": theirs["users"][0]["user"]}]
    return _tenant_with(at, yaml.safe_dump(config).encode(), folder, name=f"{who.name}-at-{at.name}")


def _tenant_with(like: Tenant, text: bytes, folder: Path, *, name: str) -> Tenant:
    return Tenant(
        name=name, kubeconfig=_private(folder / f"{name}.kubeconfig", text), kubectl_program=like.kubectl_program
    )


def _private(file: Path, content: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(content)
    return file


def apply(lab: Lab, manifest: Mapping[str, Any]) -> None:
    """`kubectl apply` one object."""
    lab.kubectl("apply", "-f", "-", input=yaml.safe_dump(dict(manifest)))


def wait_condition(lab: Lab, what: str, condition: str, *, namespace: str = "default", seconds: float = 120.0) -> None:
    """Wait by watch until a condition is True; on failure say what the object's conditions are."""
    try:
        lab.kubectl(
            "-n",
            namespace,
            "wait",
            f"--for=condition={condition}",
            what,
            f"--timeout={seconds:.0f}s",
            seconds=seconds + 5,
        )
    except LabError as error:
        said = lab.kubectl("-n", namespace, "get", what, "-o", "jsonpath={.status.conditions}")
        raise LabError(f"{error}\n{said}") from None


Check = Callable[[dict[str, Any]], object]
_GROUP = "/apis/k0smotron.io/v1beta2"


def wait_until(
    lab: Lab, name: str, until: Check, *, namespace: str, what: str, kind: str = "clusters", seconds: float = 60.0
) -> dict[str, Any]:
    """Watch a Cluster (or a JoinTokenRequest) until `until(object)` is true, and return it.

    `LabError` with `what` and the last conditions after `seconds`.
    """
    last: dict[str, Any] = {}

    def look(body: dict[str, Any]) -> object:
        last.update(body)
        return until(body)

    path = f"{_GROUP}/namespaces/{namespace}/{kind}"
    try:
        return client.wait_for(lab.client(), path, name=name, until=look, seconds=seconds, what=what)
    except LabError as error:
        said = "\n".join(
            f"  {c['type']}={c['status']} {c['reason']}: {c['message']}" for c in conditions(last).values()
        )
        raise LabError(f"{kind} {name}: {error}\n{said}") from None


def conditions(body: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """An object's conditions by type."""
    return {each["type"]: each for each in body.get("status", {}).get("conditions", [])}


def secret(lab: Lab, name: str, key: str, *, namespace: str = "default") -> bytes:
    """One value of a Secret of the management cluster."""
    text = lab.kubectl("-n", namespace, "get", "secret", name, "-o", "json")
    return base64.b64decode(json.loads(text)["data"][key])


def kubeconfig(lab: Lab, name: str, folder: Path, *, namespace: str = "default") -> Tenant:
    """Fetch the tenant's kubeconfig into a file that only we can read."""
    content = secret(lab, f"{name}-kubeconfig", "value", namespace=namespace)
    file = _private(folder / f"{name}.kubeconfig", content)
    return Tenant(name=name, kubeconfig=file, kubectl_program=lab.programs.kubernetes / "kubectl")


def eventually(ask: Callable[[], T], *, seconds: float) -> T:
    """Ask until there is an answer: for what nothing can be watched yet, because nothing answers yet."""
    ends = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except LabError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.2)
