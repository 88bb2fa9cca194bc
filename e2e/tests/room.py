"""What the end-to-end tests have in common: the lab with the operator in it, and a namespace as its user works there.

A test waits for what it can watch, and names the reason that it expects: a tenant that fails for another one fails the
test at once, with what the operator said about it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e import demo, tenants
from e2e.lab import edge as machines
from e2e.lab.edge import Edge
from e2e.lab.handle import Lab
from e2e.lab.network import LabError
from e2e.tenants import Check, Tenant, conditions
from k0s_images.choice import K0sImage

#: How long a control plane may take on a busy machine; alone on two cores it takes six seconds.
START = 180.0
#: Within which a cause must be named once the cluster knows it ("within seconds").
SOON = 30.0


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The lab with the operator deployed, and which k0s tenants and workers run."""

    lab: Lab
    k0s: K0sImage
    older: K0sImage
    """The same of the minor below."""
    at_the_edge: dict[str, Path]
    """Images that an edge machine needs."""


def runs(k0s: K0sImage, *, version: str = "") -> dict[str, Any]:
    """The fields of a spec that choose this k0s."""
    return {"image": k0s.repository, "version": version or k0s.version}


@dataclass(frozen=True, kw_only=True)
class Room:
    """One namespace of the management cluster, and what its user does there."""

    stage: Stage
    namespace: str
    folder: Path
    """For kubeconfigs and tokens."""
    edges: list[str] = field(default_factory=list)
    """Edge machines that go with the room."""

    @property
    def lab(self) -> Lab:
        return self.stage.lab

    def kubectl(self, *arguments: str, input: str | None = None, seconds: float = 60.0) -> str:
        """kubectl in this namespace, as the administrator of the management cluster."""
        return self.lab.kubectl("-n", self.namespace, *arguments, input=input, seconds=seconds)

    def get(self, what: str) -> dict[str, Any]:
        """An object, or a list of them."""
        found: dict[str, Any] = json.loads(self.kubectl("get", what, "-o", "json"))
        return found

    def items(self, what: str) -> list[dict[str, Any]]:
        """All objects of these kinds."""
        found: list[dict[str, Any]] = self.get(what)["items"]
        return found

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        """`kubectl apply`."""
        self.kubectl("apply", "-f", "-", input=yaml.safe_dump_all([dict(each) for each in manifests]))

    def create(self, name: str, *, annotations: Mapping[str, str] | None = None, **spec: Any) -> None:
        """Apply a Cluster: of this run's version, behind node ports, unless the spec says otherwise."""
        manifest = {
            "apiVersion": "k0smotron.io/v1beta2",
            "kind": "Cluster",
            "metadata": {"name": name, "annotations": dict(annotations or {})},
            "spec": {"version": self.stage.k0s.version, "service": {"type": "NodePort"}, **spec},
        }
        self.apply(tenants.for_lab(manifest))

    def patch(self, what: str, change: Mapping[str, Any]) -> None:
        """Change an object by a merge patch."""
        self.kubectl("patch", what, "--type=merge", "-p", json.dumps(change))

    def refused(self, what: str, change: Mapping[str, Any]) -> str:
        """Try a change that the admission webhook must not let through; returns what it says to the user."""
        with pytest.raises(LabError, match="is invalid") as caught:
            self.patch(what, change)
        return str(caught.value)

    def wait(
        self, name: str, until: Check, *, what: str, kind: str = "clusters", seconds: float = SOON
    ) -> dict[str, Any]:
        """Watch a Cluster until something is true of it."""
        return tenants.wait_until(
            self.lab, name, until, namespace=self.namespace, what=what, kind=kind, seconds=seconds
        )

    def cause(self, name: str, reason: str, *, of: str = "Available", seconds: float = SOON) -> str:
        """Wait until a condition is False for this reason; returns what it says to the user."""
        body = self.wait(
            name,
            lambda body: (c := conditions(body).get(of)) and c["status"] == "False" and c["reason"] == reason,
            what=f"{of} is not False with reason {reason}",
            seconds=seconds,
        )
        return str(conditions(body)[of]["message"])

    def available(self, name: str, *, seconds: float = START) -> Tenant:
        """Wait until a tenant is Available, and take its kubeconfig."""
        self.wait(name, is_available, what="not Available", seconds=seconds)
        return tenants.kubeconfig(self.lab, name, self.folder, namespace=self.namespace)

    def rolled_out(self, name: str, *, replicas: int = 1, seconds: float = START) -> None:
        """Wait until all controllers run what the spec asks for now, and answer."""
        self.kubectl("rollout", "status", f"statefulset/kmc-{name}", f"--timeout={seconds:.0f}s", seconds=seconds + 5)
        generation = self.get(f"kmc/{name}")["metadata"]["generation"]
        self.wait(
            name,
            lambda body: (
                is_available(body)
                and body["status"]["observedGeneration"] >= generation
                and conditions(body)["ControlPlaneUpToDate"]["status"] == "True"
                and body["status"]["readyReplicas"] == replicas
            ),
            what=f"not up to date with {replicas} ready replica(s)",
            seconds=seconds,
        )

    def token(self, tenant: str, name: str, *, expiry: str = "1h") -> bytes:
        """Ask for a join token and wait for it."""
        self.apply({
            "apiVersion": "k0smotron.io/v1beta2", "kind": "JoinTokenRequest", "metadata": {"name": name},
            "spec": {"clusterName": tenant, "expiry": expiry},
        })  # fmt: skip
        done = "JoinTokenSecretCreated"
        self.wait(
            name,
            lambda body: conditions(body).get(done, {}).get("status") == "True",
            what="no token",
            kind="jointokenrequests",
            seconds=60,
        )
        return tenants.secret(self.lab, name, "token", namespace=self.namespace)

    def edge(self, name: str) -> Edge:
        """An edge machine, gone with the room."""
        self.edges.append(name)
        return machines.add(self.lab, name)

    def join(self, edge: Edge, token: bytes, *, k0s: K0sImage | None = None) -> None:
        """What the machine's owner does: put the token into a file and start `k0s worker`."""
        chosen = k0s or self.stage.k0s
        file = self.folder / f"{edge.name}.token"
        file.touch(mode=0o600)
        file.write_bytes(token)
        edge.add_images(self.stage.at_the_edge)
        edge.run_worker(demo.worker_program(chosen), file, minor=chosen.minor)


def is_available(body: Mapping[str, Any]) -> bool:
    """Whether the operator says, about the present spec, that the tenant serves."""
    said = conditions(body).get("Available", {})
    return said.get("status") == "True" and said.get("observedGeneration") == body["metadata"]["generation"]


def node_ready(tenant: Tenant, name: str, *, seconds: float = 120.0) -> dict[str, Any]:
    """Wait until a node of the tenant is Ready, and return it."""
    tenant.kubectl("wait", "--for=create", f"node/{name}", f"--timeout={seconds:.0f}s", seconds=seconds + 5)
    tenant.kubectl("wait", "--for=condition=Ready", f"node/{name}", f"--timeout={seconds:.0f}s", seconds=seconds + 5)
    found: dict[str, Any] = json.loads(tenant.kubectl("get", "node", name, "-o", "json"))
    return found


def run_hello(tenant: Tenant) -> None:
    """A pod in the tenant, running on whatever node it has."""
    account = ("wait", "--for=create", "serviceaccount/default", "--timeout=60s")
    tenant.kubectl(*account, seconds=70)
    tenant.kubectl("apply", "-f", "-", input=json.dumps(demo.HELLO))
    tenant.kubectl("wait", "--for=condition=Ready", "pod/hello", "--timeout=90s", seconds=100)


def hello_says(tenant: Tenant, *, seconds: float = 60.0) -> str:
    """The log of that pod, through konnectivity: as soon as the agent at the edge has found its way."""
    return tenants.eventually(lambda: tenant.kubectl("logs", "hello"), seconds=seconds)


@contextmanager
def refused(*words: str) -> Iterator[None]:
    """What is done inside must be refused, with one of these words in the complaint."""
    try:
        yield
    except LabError as error:
        if not any(word.lower() in str(error).lower() for word in words):
            raise
    else:
        raise AssertionError(f"this was not refused ({' or '.join(words)})")
