"""`clusterctl`, the program that users of Cluster API have, against clusters of ours: what it shows, gives and refuses.

H of the contract's list. (How it installs us: `test_clusterctl_install.py`.)
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.capi import core
from hosted_cp.hosting.capi.control_plane import BLOCK_MOVE
from hosted_cp.kube.resources import CONTROL_PLANE, CORE_CLUSTER, SECRET, STATEFUL_SET
from k0s_images.golang import components
from tests.component.apiserver import Server, running
from tests.component.capi import CapiStage, installed, status_of
from tests.component.clusterctl import Clusterctl, initialized, with_repository
from tests.component.hosting import Object
from tests.component.joining import led, machines, published
from tests.component.test_capi_deletion import manifest
from tests.component.workers import DEPLOYMENT


@pytest.fixture(scope="module")
def capi_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with installed(tmp_path_factory.mktemp("clusterctl")) as server:
        yield server


@pytest.fixture
def stage(capi_stage: CapiStage) -> CapiStage:
    return capi_stage


@pytest.fixture
def clusterctl(capi_server: Server, tmp_path: Path) -> Clusterctl:
    """With a repository of the four providers, whose kinds are those of the server."""
    return with_repository(tmp_path, capi_server)


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
