"""`clusterctl`, the program that users of Cluster API have, against clusters of ours: what it shows, gives and refuses.

H of the contract's list. Providers are installed from a repository in a folder, as `clusterctl` reads it from a
release, with the kinds alone: programs run outside, as in all these tests. Nothing is asked of any network.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from e2e.capi import core
from e2e.capi.programs import NEWEST, cluster_api
from hosted_cp.api.kinds import VERSIONED
from hosted_cp.hosting.capi.control_plane import BLOCK_MOVE
from hosted_cp.kube.resources import CONTROL_PLANE, CORE_CLUSTER, SECRET, STATEFUL_SET
from k0s_images.golang import components
from tests.component.apiserver import Server, running
from tests.component.capi import CapiStage, installed, status_of
from tests.component.hosting import Object
from tests.component.joining import led, machines, published
from tests.component.test_capi_deletion import manifest
from tests.component.workers import DEPLOYMENT

RELEASE = "v0.1.0"
#: clusterctl looks at what is installed before it installs anything, and begins by looking for cert-manager.
_CERT_MANAGER = ("Certificate", "Issuer")


@pytest.fixture(scope="module")
def capi_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with installed(tmp_path_factory.mktemp("clusterctl")) as server:
        yield server


@pytest.fixture
def stage(capi_stage: CapiStage) -> CapiStage:
    return capi_stage


# --- the program ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Clusterctl:
    """The program, with a configuration and a home of its own."""

    folder: Path
    config: Path

    async def run(self, server: Server, *words: str, seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
        """One command for a management cluster; returns what it said, whatever that is."""
        program = cluster_api(NEWEST).clusterctl
        assert program is not None
        environment = {
            "PATH": os.environ.get("PATH", ""), "HOME": str(self.folder), "GOPROXY": "off",
            "CLUSTERCTL_DISABLE_VERSIONCHECK": "true",
        }  # fmt: skip
        kubeconfig = server.folder / "admin.kubeconfig"
        argv = [str(program), *words, f"--config={self.config}", f"--kubeconfig={kubeconfig}"]
        return await asyncio.to_thread(
            subprocess.run, argv, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=seconds
        )

    async def does(self, server: Server, *words: str) -> str:
        """The same where it has to succeed; returns its output."""
        done = await self.run(server, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def clusterctl(capi_server: Server, tmp_path: Path) -> Clusterctl:
    """With a repository of the four providers, whose kinds are those of the server."""
    found = {
        ("core", "CoreProvider", "cluster-api"): _kinds(capi_server, "cluster", "ipam", "runtime", "addons"),
        ("control-plane", "ControlPlaneProvider", "hosted-cp"): _kinds(capi_server, "controlplane", "k0smotron"),
        ("bootstrap", "BootstrapProvider", "hosted-cp"): _kinds(capi_server, "bootstrap"),
        ("infrastructure", "InfrastructureProvider", "lab"): _kinds(capi_server, "infrastructure"),
    }
    providers = []
    for (kind, type_, name), bodies in found.items():
        label = name if kind == "core" else f"{kind}-{name}"
        folder = tmp_path / "repository" / label / RELEASE
        folder.mkdir(parents=True)
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"{kind}-system"}}
        file = folder / f"{kind}-components.yaml"
        file.write_bytes(core.as_yaml([namespace, *bodies]))
        metadata = {
            "apiVersion": "clusterctl.cluster.x-k8s.io/v1alpha3", "kind": "Metadata",
            "releaseSeries": [{"major": 0, "minor": 1, "contract": "v1beta2"}],
        }  # fmt: skip
        (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata), encoding="utf-8")
        providers.append({"name": name, "type": type_, "url": file.as_uri()})
    config = tmp_path / "clusterctl.yaml"
    content = {"providers": providers, "cert-manager": {"externallyProvisioned": True, "timeout": "20s"}}
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    return Clusterctl(folder=tmp_path, config=config)


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


async def a_cluster(stage: CapiStage, tenant: Server, *, workers: int) -> None:
    """The cluster `a`, and the manifest's objects."""
    await led(stage, "a", tenant)
    objects: list[Object] = manifest(stage, "a")
    for each in objects:
        if each["kind"] == CONTROL_PLANE.kind:
            each["spec"] |= published(tenant)
        if each["kind"] == DEPLOYMENT.kind:
            each["spec"]["replicas"] = workers
    stage.server.kubectl("create", "-f", "-", stdin=core.as_yaml(objects))
    await stage.until(SECRET, ["a-kubeconfig"], bool)


# --- the tests --------------------------------------------------------------------------------------------------------


async def test_a_cluster_is_described_without_blanks_and_its_kubeconfig_is_given(
    stage: CapiStage, tenant: Server, clusterctl: Clusterctl
) -> None:
    async with stage.operating():
        await a_cluster(stage, tenant, workers=1)
        with machines(stage, tenant):
            await stage.until(CORE_CLUSTER, ["a"], lambda b: status_of(b, "Available") == "True")
            told = await clusterctl.does(stage.server, "describe", "cluster", "a", "-n", stage.namespace)
            rows = {row["NAME"]: row for row in table(told)}
            counted = [f"K0smotronControlPlane {stage.namespace}/a-cp", f"MachineDeployment {stage.namespace}/a"]
            for each in counted:
                assert [rows[each][column] for column in COLUMNS[1:5]] == ["1/1", "1", "1", "1"], told
            blank = [
                (name, column)
                for name, row in rows.items()
                for column in ("STATUS", "REASON", "SINCE")
                if not row[column] and name != "Workers"  # a heading
            ]
            assert blank == [], told
            assert len(rows) == 6, told

            # With all conditions: none of ours is unknown to it, and none is left without a reason.
            words = ("describe", "cluster", "a", "-n", stage.namespace, "--show-conditions", "all")
            everything = await clusterctl.does(stage.server, *words)
            assert "InvalidConditionReported" not in everything

            kubeconfig = await clusterctl.does(stage.server, "get", "kubeconfig", "a", "-n", stage.namespace)
            path = clusterctl.folder / "tenant.kubeconfig"
            path.write_text(kubeconfig, encoding="utf-8")
            words = (str(tenant.programs / "kubectl"), "--kubeconfig", str(path), "auth", "whoami", "-o", "yaml")
            done = await asyncio.to_thread(subprocess.run, words, capture_output=True, check=True, timeout=60)
            assert "system:masters" in yaml.safe_load(done.stdout)["status"]["userInfo"]["groups"]


COLUMNS = ("NAME", "REPLICAS", "AVAILABLE", "READY", "UP TO DATE", "STATUS", "REASON", "SINCE", "MESSAGE")


def table(text: str) -> Iterator[dict[str, str]]:
    """The rows of a table of clusterctl's: columns begin where their titles do. Names are without tree and version."""
    title, *lines = text.splitlines()
    starts = [title.index(each) for each in COLUMNS]
    for line in lines:
        cells = [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
        row = dict(zip(COLUMNS, cells, strict=True))
        yield {**row, "NAME": row["NAME"].lstrip(" │├└─").partition(",")[0]}


@pytest.mark.sweep
@pytest.mark.timeout(900)
async def test_a_move_is_held_back_and_harms_nothing(
    stage: CapiStage, tenant: Server, clusterctl: Clusterctl, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A hosted control plane would be destroyed by it: its pods and volumes stay where they are, without an owner."""
    with running(tmp_path_factory.mktemp("target"), components("1.36"), controllers=()) as target:
        for each in (stage.server, target):
            await initialized(clusterctl, each)
        async with stage.operating() as operator:
            await a_cluster(stage, tenant, workers=0)
            with machines(stage, tenant):
                await stage.until(CORE_CLUSTER, ["a"], lambda b: status_of(b, "Available") == "True")
                words = ("move", f"--to-kubeconfig={target.folder / 'admin.kubeconfig'}", "-n", stage.namespace)
                done = await clusterctl.run(stage.server, *words, seconds=600)
                assert done.returncode != 0
                assert BLOCK_MOVE in done.stderr, done.stderr
                assert "K0smotronControlPlane" in done.stderr
                assert "NotFound" in _looked_for(target, stage.namespace)
                # It leaves the Cluster paused; everything is there, and goes on when that is taken back.
                assert (await stage.core_seen("a"))["spec"]["paused"] is True
                assert await stage.find(STATEFUL_SET, "kmc-a") is not None
                await stage.change_cluster("a", paused=None)
                await stage.change_control_plane("a", replicas=3)
                await stage.serving("a")
                await stage.rest(operator)


def _looked_for(target: Server, namespace: str) -> str:
    words: Any = (str(target.programs / "kubectl"), "--kubeconfig", str(target.folder / "admin.kubeconfig"))
    done = subprocess.run([*words, "get", "namespace", namespace], capture_output=True, text=True, check=False)
    return done.stderr


async def test_it_takes_our_kinds_for_those_of_providers(tenant: Server, clusterctl: Clusterctl) -> None:
    """Names, labels and contract are what clusterctl wants, in a cluster that has nothing yet."""
    await initialized(clusterctl, tenant)
    listed = yaml.safe_load(tenant.kubectl("get", "providers.clusterctl.cluster.x-k8s.io", "-A", "-o", "yaml"))
    there = {(each["type"], each["providerName"], each["version"]) for each in listed["items"]}
    assert {(kind, "hosted-cp", RELEASE) for kind in ("ControlPlaneProvider", "BootstrapProvider")} <= there
    definitions = orjson.loads(tenant.kubectl("get", "crds", "-l", "clusterctl.cluster.x-k8s.io", "-o", "json"))
    ours = {each["spec"]["names"]["kind"] for each in definitions["items"]}
    assert {each.hub.__name__ for each in VERSIONED} <= ours
