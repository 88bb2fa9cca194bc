"""Three controllers over three etcd members: one is killed, and nobody who asks twice notices."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

import pytest

from e2e.lab import client
from e2e.lab.network import LabError
from e2e.tests.room import Room, hello_says, node_ready, run_hello, runs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

#: Between two questions, and before the second try of one: as a client that follows a watch would.
_PACE, _AGAIN = 0.2, 1.0


@dataclass
class Prober:
    """Asks the API over and over, each time by a new connection; a question may be tried twice."""

    kubeconfig: Path
    asked: int = 0
    repeated: int = 0
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        api = client.from_kubeconfig(self.kubeconfig)
        while not self._stop.wait(_PACE):
            self.asked += 1
            if self._problem(api):
                self.repeated += 1
                time.sleep(_AGAIN)
                if problem := self._problem(api):
                    self.failures.append(f"{time.strftime('%T')} {problem}")

    @staticmethod
    def _problem(api: client.Client) -> str:
        try:
            api.call("GET", "/api/v1/namespaces/default", seconds=5)
        except (OSError, HTTPException, LabError) as error:
            return repr(error)
        return ""

    @contextmanager
    def running(self) -> Iterator[Prober]:
        thread = threading.Thread(target=self.run, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join(20)


@pytest.mark.parametrize("which", ["newer", pytest.param("older", marks=pytest.mark.sweep)])
def test_three_controllers_one_killed(room: Room, which: str) -> None:
    k0s = room.stage.older if which == "older" else room.stage.k0s
    room.create("three", replicas=3, **runs(k0s))
    tenant = room.available("three")
    room.rolled_out("three", replicas=3)
    pods = [each["metadata"]["name"] for each in room.items("pods")]
    assert sorted(pods) == [*(f"kmc-three-{i}" for i in range(3)), *(f"kmc-three-etcd-{i}" for i in range(3))]
    assert room.get("pdb/kmc-three")["status"]["desiredHealthy"] >= 1

    edge = room.edge("three")
    room.join(edge, room.token("three", "worker"), k0s=k0s)
    node_ready(tenant, "three")
    run_hello(tenant)
    _logs_through_all(tenant_says=lambda: hello_says(tenant, seconds=0))

    with Prober(kubeconfig=tenant.kubeconfig).running() as prober:
        room.kubectl("delete", "pod", "kmc-three-1", "--grace-period=0", "--force")
        room.kubectl("wait", "--for=create", "pod/kmc-three-1", "--timeout=30s")
        room.rolled_out("three", replicas=3)
    print(f"asked {prober.asked} times, {prober.repeated} again")
    assert prober.asked > 10
    assert prober.failures == []
    assert node_ready(tenant, "three")["status"]["conditions"]
    _logs_through_all(tenant_says=lambda: hello_says(tenant, seconds=0))


def _logs_through_all(*, tenant_says: object) -> None:
    """Logs come, whichever controller is asked: twelve answers in a row, each over a new connection.

    The agent at the edge keeps a connection to each konnectivity server, and finds new ones within seconds.
    """
    assert callable(tenant_says)
    ends = time.monotonic() + 120
    row = 0
    while row < 12:
        try:
            assert tenant_says() == "hello from the edge\n"
            row += 1
        except LabError:
            row = 0
            if time.monotonic() > ends:
                raise
