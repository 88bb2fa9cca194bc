"""Join tokens end: by their expiry, or with the request that asked for them. Then nobody joins by them any more."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from e2e import tenants
from e2e.lab.edge import Edge
from e2e.lab.network import LabError
from e2e.tenants import Tenant, conditions, holder
from e2e.tests.room import Room, node_ready, refused

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

_REFUSED = ("Unauthorized", "must be logged in")
_LIFE = 8


def _refused_at_the_edge(edge: Edge, *, since: int) -> str:
    """Wait until the worker says that it was turned away. `since`: where its log began, in bytes."""

    def look() -> str:
        said = edge.worker_log.read_bytes()[since:].decode()
        found = re.search(r".*(Unauthorized|asked for the client to provide credentials).*", said)
        if found is None:
            raise LabError(f"the worker has not been refused yet: {said[-800:]}")
        return found[0]

    return tenants.eventually(look, seconds=90)


def _refused_soon(token: Tenant) -> None:
    """kube-apiserver remembers for ten seconds whose a token was; then it must not know it any more."""

    def look() -> None:
        try:
            said = token.kubectl("auth", "whoami")
        except LabError as error:
            if not any(word in str(error) for word in _REFUSED):
                raise AssertionError(f"refused for another reason: {error}") from error
        else:
            raise LabError(f"a token that has ended is still good: {said}")

    tenants.eventually(look, seconds=20)


def _bootstrap_secrets(tenant: Tenant) -> list[str]:
    kind = "--field-selector=type=bootstrap.kubernetes.io/token"
    return tenant.kubectl("-n", "kube-system", "get", "secrets", kind, "-o", "name").split()


def test_expired_and_revoked_tokens_let_nobody_in(room: Room) -> None:
    room.create("gate")
    tenant = room.available("gate")

    short = holder(tenant, room.folder, name="short", token=room.token("gate", "short", expiry=f"{_LIFE}s"))
    assert "system:bootstrap:" in short.kubectl("auth", "whoami")

    long_token = room.token("gate", "long")
    long = holder(tenant, room.folder, name="long", token=long_token)
    joined = room.edge("joined")
    room.join(joined, long_token)
    node_ready(tenant, "joined")

    # By its time.
    ended = room.wait(
        "short",
        lambda body: conditions(body)["JoinTokenSecretCreated"]["reason"] == "Expired",
        what="the token has not expired",
        kind="jointokenrequests",
    )
    assert datetime.fromisoformat(ended["status"]["expiration"]) <= datetime.now(UTC)
    assert "another JoinTokenRequest" in conditions(ended)["JoinTokenSecretCreated"]["message"]
    _refused_soon(short)
    assert "system:bootstrap:" in long.kubectl("auth", "whoami")

    # With its request.
    room.kubectl("delete", "jtr", "long", "--timeout=30s")
    with refused("NotFound", "not found"):
        room.kubectl("get", "secret", "long")
    _refused_soon(long)
    assert not [each for each in _bootstrap_secrets(tenant) if _id(long) in each]

    # A machine that comes with such a token is turned away; one that has joined before stays.
    late = room.edge("late")
    since = late.worker_log.stat().st_size if late.worker_log.exists() else 0
    room.join(late, long_token)
    _refused_at_the_edge(late, since=since)
    nodes = tenant.kubectl("get", "nodes", "-o", "name").split()
    assert nodes == ["node/joined"]
    node_ready(tenant, "joined")


def _id(token: Tenant) -> str:
    """The public half of a token."""
    found = re.search(r"token: ([a-z0-9]{6})\.[a-z0-9]{16}", token.kubeconfig.read_text())
    assert found
    return found[1]
