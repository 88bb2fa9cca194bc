"""From one minor to the next under a worker that notices nothing; and what is refused harms nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from e2e import tenants
from e2e.tenants import Tenant, conditions
from e2e.tests.room import Room, hello_says, node_ready, run_hello, runs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def _ready(node: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in node["status"]["conditions"] if each["type"] == "Ready")
    return found


def _server_version(tenant: Tenant) -> str:
    said = tenants.eventually(lambda: tenant.kubectl("get", "--raw=/version"), seconds=30)
    return str(json.loads(said)["gitVersion"])


def test_a_minor_upgrade_with_a_worker_that_stays_ready(room: Room) -> None:
    older, newer = room.stage.older, room.stage.k0s
    room.create("grows", **runs(older))
    tenant = room.available("grows")
    assert older.version.startswith(_server_version(tenant).partition("+")[0])
    edge = room.edge("grows")
    room.join(edge, room.token("grows", "worker"), k0s=older)
    before = node_ready(tenant, "grows")
    run_hello(tenant)
    assert hello_says(tenant) == "hello from the edge\n"

    assert "k0s v1.99.0+k0s.0" in room.refused("kmc/grows", {"spec": {"version": "v1.99.0+k0s.0"}})
    room.patch("kmc/grows", {"spec": runs(newer)})
    room.rolled_out("grows")
    assert newer.version.startswith(_server_version(tenant).partition("+")[0])

    after = node_ready(tenant, "grows")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    # It was Ready all along.
    assert _ready(after)["lastTransitionTime"] == _ready(before)["lastTransitionTime"]
    assert hello_says(tenant) == "hello from the edge\n"
    hello = json.loads(tenant.kubectl("get", "pod", "hello", "-o", "json"))
    assert hello["status"]["containerStatuses"][0]["restartCount"] == 0

    # Back is no way: it is said at once, and what runs goes on running. (That the operator holds a change back where no
    # webhook stands in its way is shown by the component tests.)
    pod = room.get("pod/kmc-grows-0")["metadata"]["uid"]
    said = room.refused("kmc/grows", {"spec": {"version": older.version}})
    assert "spec.version" in said
    assert "cannot go back" in said
    assert older.version in said
    body = room.get("kmc/grows")
    assert conditions(body)["Available"]["status"] == "True"
    assert body["spec"]["version"] == body["status"]["version"] == newer.version
    assert room.get("pod/kmc-grows-0")["metadata"]["uid"] == pod
    tenant.kubectl("get", "nodes")


def test_a_skipped_minor_is_refused_and_the_tenant_goes_on(room: Room) -> None:
    # Nothing two minors older can be run here, so the older k0s also plays the one before it, under that one's tag.
    older, newer = room.stage.older, room.stage.k0s
    oldest = f"v1.{int(older.minor.split('.')[1]) - 1}.99+k0s.0"
    room.lab.tag_image(older.name, f"{older.repository}:{oldest.replace('+', '-')}")
    room.create("jumps", **runs(older, version=oldest))
    tenant = room.available("jumps")
    pod = room.get("pod/kmc-jumps-0")["metadata"]["uid"]

    said = room.refused("kmc/jumps", {"spec": runs(older, version=newer.version)})
    assert "cannot skip minors" in said
    assert f"upgrade to a {older.minor} first" in said
    assert conditions(room.get("kmc/jumps"))["Available"]["status"] == "True"
    assert room.get("pod/kmc-jumps-0")["metadata"]["uid"] == pod
    tenant.kubectl("get", "namespaces")

    room.patch("kmc/jumps", {"spec": {"version": older.version}})
    room.rolled_out("jumps")
    assert room.get("kmc/jumps")["status"]["version"] == older.version
