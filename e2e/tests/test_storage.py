"""The stores besides the tenant's own etcd: SQLite on a volume, and PostgreSQL; what is in them outlives the pods.

PostgreSQL comes the hard way: every obstacle that a user can put in its way is named, and gone when he removes it.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from e2e import operator, tenants
from e2e.tenants import Tenant, conditions
from e2e.tests.room import Room
from k0s_images import images

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

_SQLITE = "sqlite:///var/lib/k0s/db/state.db?_journal=WAL&_busy_timeout=5000"
_CANARY = "canary-9f2c41"
#: With everything that an address or a password file has to escape.
_PASSWORD = rf"{_CANARY}:\@/%"
_DSN_KEY = "K0SMOTRON_KINE_DATASOURCE_URL"


def _remember(tenant: Tenant) -> None:
    tenant.kubectl("create", "configmap", "kept", "--from-literal=what=data")


def _assert_remembered(tenant: Tenant) -> None:
    kept = tenants.eventually(lambda: tenant.kubectl("get", "configmap", "kept", "-o", "json"), seconds=30)
    assert json.loads(kept)["data"] == {"what": "data"}


def _replace_pod(room: Room, name: str) -> None:
    """Delete the only controller, and wait for the next one to answer."""
    old = room.get(f"pod/kmc-{name}-0")["metadata"]["uid"]
    room.kubectl("delete", "pod", f"kmc-{name}-0", "--timeout=60s", seconds=70)
    room.kubectl("wait", "--for=create", f"pod/kmc-{name}-0", "--timeout=30s")
    room.rolled_out(name)
    assert room.get(f"pod/kmc-{name}-0")["metadata"]["uid"] != old


def test_a_tenant_on_sqlite_keeps_its_data_on_its_volume(room: Room) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    room.create(
        "lite",
        storage={"type": "kine", "kine": {"dataSourceURL": _SQLITE}},
        persistence={"type": "pvc", "persistentVolumeClaim": {"spec": claim}},
    )
    tenant = room.available("lite")
    _remember(tenant)
    _replace_pod(room, "lite")
    _assert_remembered(tenant)


def _postgres() -> list[dict[str, Any]]:
    labels = {"app": "postgres"}
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "postgres"},
         "stringData": {"password": _PASSWORD}},
        {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "postgres", "labels": labels},
            "spec": {
                "automountServiceAccountToken": False,
                "securityContext": {"fsGroup": 999, "runAsNonRoot": True},
                "terminationGracePeriodSeconds": 10,
                "containers": [{
                    "name": "postgres", "image": images.POSTGRES, "imagePullPolicy": "IfNotPresent",
                    "env": [{"name": "POSTGRES_DB", "value": "kine"},
                            {"name": "POSTGRES_PASSWORD",
                             "valueFrom": {"secretKeyRef": {"name": "postgres", "key": "password"}}}],
                    "readinessProbe": {"tcpSocket": {"port": 5432}, "periodSeconds": 1},
                    "volumeMounts": [{"name": "data", "mountPath": "/var/lib/postgresql/data"}],
                }],
                "volumes": [{"name": "data", "emptyDir": {}}],
            },
        },
    ]  # fmt: skip


def _service() -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "postgres"},
        "spec": {"selector": {"app": "postgres"}, "ports": [{"port": 5432}]},
    }  # fmt: skip


def _dsn(room: Room, password: str = _PASSWORD) -> dict[str, Any]:
    url = f"postgres://postgres:{quote(password, safe='')}@postgres.{room.namespace}.svc:5432/kine?sslmode=disable"
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "database"}, "stringData": {_DSN_KEY: url}}


def test_a_tenant_on_postgresql_past_all_obstacles(room: Room) -> None:
    room.create("sql", storage={"type": "kine", "kine": {"dataSourceSecretName": "database"}})
    said = room.cause("sql", "SecretsMissing")
    assert "database" in said
    assert _DSN_KEY in said

    room.apply(_service(), _dsn(room, "not-the-password"))
    said = room.cause("sql", "DatabaseUnreachable", seconds=60)
    assert f"postgres.{room.namespace}.svc" in said

    room.apply(*_postgres())
    room.kubectl("wait", "--for=condition=Ready", "pod/postgres", "--timeout=60s", seconds=70)
    room.wait(
        "sql",
        lambda body: "5432 refuses user and password" in conditions(body)["Available"]["message"],
        what="the refused password is not named",
    )

    room.apply(_dsn(room))
    tenant = room.available("sql")
    _remember(tenant)
    _replace_pod(room, "sql")
    _assert_remembered(tenant)

    everything = room.kubectl("get", "kmc,events,configmaps,statefulsets,pods", "-o", "yaml")
    assert _CANARY not in everything, "the password stands where anybody may read it"
    assert _CANARY not in operator.logs(room.lab)
    shown = _command_lines()
    assert any(f"--endpoint=postgres://postgres@postgres.{room.namespace}.svc" in line for line in shown)
    assert [line for line in shown if _CANARY in line] == [], "the password stands on a command line"


def _command_lines() -> list[str]:
    """Of all processes of this machine, which the pods' are among."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            found.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found
