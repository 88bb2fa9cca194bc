"""The stores besides the tenant's own etcd: SQLite on a volume, PostgreSQL, MariaDB; what is in them outlives the pods.

PostgreSQL comes the hard way: every obstacle that a user can put in its way is named, and gone when he removes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
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


def _server(name: str, image: str, port: int, data: str, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """A database server: its pod, and the Secret with its variables."""
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": dict(environment)},
        {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
            "spec": {
                "automountServiceAccountToken": False,
                "securityContext": {"fsGroup": 999, "runAsNonRoot": True},
                "terminationGracePeriodSeconds": 10,
                "containers": [{
                    "name": name, "image": image, "imagePullPolicy": "IfNotPresent",
                    "envFrom": [{"secretRef": {"name": name}}],
                    "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
                    "volumeMounts": [{"name": "data", "mountPath": data}],
                }],
                "volumes": [{"name": "data", "emptyDir": {}}],
            },
        },
    ]  # fmt: skip


def _postgres() -> list[dict[str, Any]]:
    environment = {"POSTGRES_DB": "kine", "POSTGRES_PASSWORD": _PASSWORD}
    return _server("postgres", images.POSTGRES, 5432, "/var/lib/postgresql/data", environment)


def _mariadb() -> list[dict[str, Any]]:
    environment = {"MARIADB_USER": "tenant", "MARIADB_PASSWORD": _PASSWORD, "MARIADB_DATABASE": "kine"}
    return _server("mariadb", images.MARIADB, 3306, "/var/lib/mysql/data", environment)


def _service(name: str, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": port}]},
    }  # fmt: skip


def _dsn(url: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "database"}, "stringData": {_DSN_KEY: url}}


def _postgres_dsn(room: Room, password: str = _PASSWORD) -> dict[str, Any]:
    server = f"postgres.{room.namespace}.svc:5432"
    return _dsn(f"postgres://postgres:{quote(password, safe='')}@{server}/kine?sslmode=disable")


@dataclass(frozen=True, kw_only=True)
class Obstacles:
    """What a user was told about each thing that stood between his tenant and its PostgreSQL, until he removed it."""

    no_secret: str
    no_server: str
    wrong_password: str


@pytest.fixture(scope="module")
def obstacles(shared: Room) -> Obstacles:
    """A tenant that has met them all. The last one was removed a moment ago: it may not serve yet.

    The controller that holds the wrong password ends with its grace period, as a kine without a database hears no
    signal; meanwhile the other tests run.
    """
    shared.create("sql", storage={"type": "kine", "kine": {"dataSourceSecretName": "database"}})
    no_secret = shared.cause("sql", "SecretsMissing")

    shared.apply(_service("postgres", 5432), _postgres_dsn(shared, "not-the-password"))
    no_server = shared.cause("sql", "DatabaseUnreachable", seconds=60)

    shared.apply(*_postgres())
    shared.kubectl("wait", "--for=condition=Ready", "pod/postgres", "--timeout=60s", seconds=70)
    body = shared.wait(
        "sql",
        lambda body: "refuses user and password" in conditions(body)["Available"]["message"],
        what="the refused password is not named",
    )
    shared.apply(_postgres_dsn(shared))
    return Obstacles(no_secret=no_secret, no_server=no_server, wrong_password=conditions(body)["Available"]["message"])


def test_what_stands_between_a_tenant_and_its_postgresql_is_named(shared: Room, obstacles: Obstacles) -> None:
    assert "database" in obstacles.no_secret
    assert _DSN_KEY in obstacles.no_secret
    assert f"postgres.{shared.namespace}.svc" in obstacles.no_server
    assert "5432 refuses user and password" in obstacles.wrong_password


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


def test_a_tenant_on_mariadb_with_two_controllers(room: Room) -> None:
    # Go's MySQL driver takes a password as it is: everything up to the last `@` before the address is part of it.
    url = f"mysql://tenant:{_PASSWORD}@tcp(mariadb.{room.namespace}.svc:3306)/kine"
    room.apply(*_mariadb(), _service("mariadb", 3306), _dsn(url))
    room.create("sql", replicas=2, storage={"type": "kine", "kine": {"dataSourceSecretName": "database"}})
    tenant = room.available("sql")
    _remember(tenant)
    room.kubectl("delete", "pods", "-l", "cluster=sql,component=cluster", "--timeout=90s", seconds=100)
    room.rolled_out("sql", replicas=2)
    _assert_remembered(tenant)
    everything = room.kubectl("get", "kmc,events,configmaps,statefulsets,pods", "-o", "yaml")
    assert _CANARY not in everything, "the password stands where anybody may read it"
    assert _CANARY not in operator.logs(room.lab)
    # The next test looks at the command lines of all processes, and kine takes a MySQL password on its own.
    room.kubectl("delete", "kmc", "sql", "--timeout=90s", seconds=100)
    room.kubectl("wait", "--for=delete", "pods", "-l", "cluster=sql", "--timeout=120s", seconds=130)


def test_a_tenant_on_postgresql_serves_once_they_are_removed(shared: Room, obstacles: Obstacles) -> None:
    tenant = shared.available("sql")
    _remember(tenant)
    _replace_pod(shared, "sql")
    _assert_remembered(tenant)

    everything = shared.kubectl("get", "kmc,events,configmaps,statefulsets,pods", "-o", "yaml")
    assert _CANARY not in everything, "the password stands where anybody may read it"
    assert _CANARY not in operator.logs(shared.lab)
    shown = _command_lines()
    assert any(f"--endpoint=postgres://postgres@postgres.{shared.namespace}.svc" in line for line in shown)
    assert [line for line in shown if _CANARY in line] == [], "the password stands on a command line"


def _command_lines() -> list[str]:
    """Of all processes of this machine, which the pods' are among."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            found.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found
