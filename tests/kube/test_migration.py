"""Stored objects are written again one by one, and the old versions given up only when all are."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, cast

import orjson
import pytest

from hosted_cp.kube import migration
from hosted_cp.kube.client import Answer, ApiClient, Page
from hosted_cp.kube.errors import Conflict, NotFound, ServerFault
from hosted_cp.kube.lease import Leadership, Unelected
from hosted_cp.kube.metrics import Metrics
from hosted_cp.kube.migration import Migration, migrate
from hosted_cp.kube.resources import CLUSTER, CRD, Resource

NAME = "clusters.k0smotron.io"


class Server:
    """A definition, and objects of which each remembers in which version it is stored."""

    def __init__(self, count: int, *, storage: str = "v1beta2") -> None:
        self.stored = {f"c{number}": "v1beta1" for number in range(count)}
        self.versions = ["v1beta1", "v1beta2"]
        self.storage = storage
        self.version = "7"
        self.fails: dict[str, Exception] = {}
        self.patches: list[str] = []

    async def get(self, resource: Resource, namespace: None, name: str) -> Answer:
        assert (resource, name) == (CRD, NAME)
        versions = [{"name": each, "storage": each == self.storage} for each in ("v1beta2", "v1beta1")]
        metadata = {"name": NAME, "uid": "d", "resourceVersion": self.version}
        body = {"metadata": metadata, "spec": {"versions": versions}, "status": {"storedVersions": self.versions}}
        return Answer(orjson.dumps(body))

    async def pages(self, resource: Resource, *, metadata_only: bool) -> AsyncGenerator[Page, None]:
        assert (resource, metadata_only) == (CLUSTER, True)
        names = list(self.stored)
        for first in range(0, len(names), 2):
            items = tuple(
                orjson.dumps({"metadata": {"namespace": "n", "name": each, "uid": f"u-{each}", "resourceVersion": "1"}})
                for each in names[first : first + 2]
            )
            yield Page(items=items, resource_version="9")

    async def merge_patch(
        self, resource: Resource, namespace: str | None, name: str, patch: Any, *, subresource: str = "", manager: str
    ) -> None:
        self.patches.append(name)
        if name in self.fails:
            raise self.fails[name]
        if resource == CRD:
            assert (subresource, patch["metadata"]["uid"]) == ("status", "d")
            if patch["metadata"]["resourceVersion"] != self.version:
                raise Conflict("changed")
            self.versions = patch["status"]["storedVersions"]
        else:
            assert patch == {"metadata": {"uid": f"u-{name}", "resourceVersion": "1"}}
            self.stored[name] = "v1beta2"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "PACE", 0.0)


async def run(server: Server, leadership: Leadership | None = None) -> str:
    """Returns the metrics."""
    metrics = Metrics()
    await migrate(
        cast(ApiClient, server), CLUSTER, definition=NAME, leadership=leadership or Unelected(),
        progress=Migration.counted(metrics),
    )  # fmt: skip
    return metrics.text().decode()


async def test_all_are_written_and_then_the_old_version_is_given_up() -> None:
    server = Server(5)
    text = await run(server)
    assert server.patches == ["c0", "c1", "c2", "c3", "c4", NAME]
    assert set(server.stored.values()) == {"v1beta2"}
    assert server.versions == ["v1beta2"]
    assert 'hosted_cp_storage_migrated_total{kind="Cluster"} 5.0' in text
    assert 'hosted_cp_storage_old_versions{kind="Cluster"} 0.0' in text
    server.patches.clear()
    await run(server)
    assert server.patches == []


async def test_what_somebody_else_writes_or_deletes_meanwhile_is_done() -> None:
    server = Server(3)
    server.fails = {"c0": Conflict("changed"), "c2": NotFound("gone")}
    await run(server)
    assert server.versions == ["v1beta2"]


async def test_a_failure_gives_nothing_up_and_it_can_be_begun_anew() -> None:
    server = Server(4)
    server.fails = {"c2": ServerFault("no")}
    with pytest.raises(ServerFault):
        await run(server)
    assert server.versions == ["v1beta1", "v1beta2"]
    server.fails = {}
    await run(server)
    assert set(server.stored.values()) == {"v1beta2"}
    assert server.versions == ["v1beta2"]


async def test_a_definition_that_changes_meanwhile_is_looked_at_again() -> None:
    server = Server(1)
    server.fails = {NAME: Conflict("changed")}
    with pytest.raises(Conflict):
        await run(server)
    assert server.versions == ["v1beta1", "v1beta2"]


async def test_while_the_old_version_is_the_stored_one_nothing_is_written() -> None:
    server = Server(2, storage="v1beta1")
    await run(server)
    assert server.patches == []


class Losing:
    """Leads for so many questions."""

    def __init__(self, left: int) -> None:
        self.left = left

    def held(self) -> bool:
        self.left -= 1
        return self.left >= 0


@pytest.mark.parametrize("left", range(6))
async def test_who_leads_no_longer_writes_no_longer(left: int) -> None:
    server = Server(4)
    await run(server, Losing(left))
    assert len(server.patches) == (left if left < 5 else 5)
    assert (server.versions == ["v1beta2"]) == (left >= 5)
