"""`clusterctl` as a program beside a component API server, with a repository of providers in a folder.

Nothing is asked of any network: providers are read from the folder, and of cert-manager, which clusterctl wants to see
before it installs anything, there are the kinds alone.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import yaml

from e2e.capi import core
from e2e.capi.programs import NEWEST, cluster_api
from tests.component.apiserver import Server
from tests.component.hosting import Object

RELEASE = "v0.1.0"
#: clusterctl looks at what is installed before it installs anything, and begins by looking for cert-manager.
_CERT_MANAGER = ("Certificate", "Issuer")


@dataclass(frozen=True, kw_only=True)
class Clusterctl:
    """The program, with a configuration and a home of its own."""

    folder: Path
    config: Path

    async def run(self, server: Server | None, *words: str, seconds: float = 300.0) -> subprocess.CompletedProcess[str]:
        """One command for a management cluster (None: for none); returns what it said, whatever that is."""
        program = cluster_api(NEWEST).clusterctl
        assert program is not None
        environment = {
            "PATH": os.environ.get("PATH", ""), "HOME": str(self.folder), "GOPROXY": "off",
            "CLUSTERCTL_DISABLE_VERSIONCHECK": "true",
        }  # fmt: skip
        where = [f"--kubeconfig={server.folder / 'admin.kubeconfig'}"] if server is not None else []
        argv = [str(program), *words, f"--config={self.config}", *where]
        return await asyncio.to_thread(
            subprocess.run, argv, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=seconds
        )

    async def does(self, server: Server | None, *words: str) -> str:
        """The same where it has to succeed; returns its output."""
        done = await self.run(server, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout


def with_repository(folder: Path, server: Server, *, ours: Sequence[Object] = ()) -> Clusterctl:
    """With core and the lab's infrastructure in the repository, whose kinds are those of the server.

    `ours`: entries of the configuration that lead to our providers; without them these are kinds of the server, too,
    as for core: where programs run beside an API server, what converts is reached by URL.
    """
    found = {
        ("core", "CoreProvider", "cluster-api"): _kinds(server, "cluster", "ipam", "runtime", "addons"),
        ("infrastructure", "InfrastructureProvider", "lab"): _kinds(server, "infrastructure"),
    }
    if not ours:
        found["control-plane", "ControlPlaneProvider", "hosted-cp"] = _kinds(server, "controlplane", "k0smotron")
        found["bootstrap", "BootstrapProvider", "hosted-cp"] = _kinds(server, "bootstrap")
    providers = [*ours]
    for (kind, type_, name), bodies in found.items():
        label = name if kind == "core" else f"{kind}-{name}"
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"{kind}-system"}}
        metadata = {
            "apiVersion": "clusterctl.cluster.x-k8s.io/v1alpha3", "kind": "Metadata",
            "releaseSeries": [{"major": 0, "minor": 1, "contract": "v1beta2"}],
        }  # fmt: skip
        version = folder / "repository" / label / RELEASE
        write(version, {f"{kind}-components.yaml": [namespace, *bodies], "metadata.yaml": [metadata]})
        providers.append({"name": name, "type": type_, "url": (version / f"{kind}-components.yaml").as_uri()})
    config = folder / "clusterctl.yaml"
    content = {"providers": providers, "cert-manager": {"externallyProvisioned": True, "timeout": "20s"}}
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    return Clusterctl(folder=folder, config=config)


def write(folder: Path, files: Mapping[str, Sequence[Object]]) -> None:
    """One version of a provider."""
    folder.mkdir(parents=True)
    for name, bodies in files.items():
        (folder / name).write_bytes(core.as_yaml(bodies))


def _kinds(server: Server, *groups: str) -> list[Object]:
    """The definitions of these groups (by their first word), as somebody would ship them."""
    found = []
    for each in orjson.loads(server.kubectl("get", "crds", "-o", "json"))["items"]:
        group = each["spec"]["group"]
        if group.partition(".")[0] in groups and group.endswith(("cluster.x-k8s.io", "k0smotron.io")):
            metadata = {key: each["metadata"][key] for key in ("name", "labels") if key in each["metadata"]}
            found.append({**{key: each[key] for key in ("apiVersion", "kind", "spec")}, "metadata": metadata})
    assert found
    return found


def cert_manager(server: Server) -> None:
    """As much of it as clusterctl asks for: that its kinds can be created."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    bodies = [
        {
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{kind.lower()}s.cert-manager.io"},
            "spec": {
                "group": "cert-manager.io", "scope": "Namespaced", "versions": [version],
                "names": {"kind": kind, "plural": f"{kind.lower()}s"},
            },
        }
        for kind in _CERT_MANAGER
    ]  # fmt: skip
    server.kubectl("apply", "-f", "-", stdin=core.as_yaml(bodies))


async def initialized(clusterctl: Clusterctl, server: Server) -> None:
    """All four providers are installed, as clusterctl sees it."""
    cert_manager(server)
    release = f":{RELEASE}"
    await clusterctl.does(
        server, "init", "--core", f"cluster-api{release}", "--control-plane", f"hosted-cp{release}",
        "--bootstrap", f"hosted-cp{release}", "--infrastructure", f"lab{release}",
    )  # fmt: skip
