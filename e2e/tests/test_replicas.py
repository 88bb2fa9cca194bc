"""Three controllers over three etcd members: one is killed, and nobody who asks twice notices."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from e2e import tenants
from e2e.lab import client
from e2e.lab.network import LabError
from e2e.tenants import Tenant
from e2e.tests.room import Room, hello_says, node_ready, run_hello, runs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

#: Between two questions, and before the second try of one: as a client that follows a watch would.
_PACE, _AGAIN = 0.2, 1.0
#: What the konnectivity-server of a controller was told.
_COUNT = "tr '\\0' '\\n' < /proc/$(pidof konnectivity-server)/cmdline | grep -e --server-count="


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

    _agree(room, 3)
    edge = room.edge("three")
    room.join(edge, room.token("three", "worker"), k0s=k0s)
    node_ready(tenant, "three")
    run_hello(tenant)
    _logs_through_each(room, tenant)

    with Prober(kubeconfig=tenant.kubeconfig).running() as prober:
        room.kubectl("delete", "pod", "kmc-three-1", "--grace-period=0", "--force")
        room.kubectl("wait", "--for=create", "pod/kmc-three-1", "--timeout=30s")
        room.rolled_out("three", replicas=3)
    print(f"asked {prober.asked} times, {prober.repeated} again")
    assert prober.asked > 10
    assert prober.failures == []
    assert node_ready(tenant, "three")["status"]["conditions"]
    # Logs come to who asks again; and from each controller, once agents have begun anew.
    assert hello_says(tenant, seconds=120) == "hello from the edge\n"
    _agree(room, 3)
    tenant.kubectl("-n", "kube-system", "delete", "pods", "-l", "k8s-app=konnectivity-agent", "--grace-period=1")
    _logs_through_each(room, tenant)


def _agree(room: Room, count: int) -> None:
    """Wait until all konnectivity-servers tell agents that there are so many of them.

    Each k0s counts controllers for itself, every ten seconds. An agent believes whom it met last, so one that begins
    before all agree may be content without the last of them for good; one that begins afterwards finds all.
    """

    def look() -> None:
        said = {name: room.kubectl("exec", name, "-c", "controller", "--", "sh", "-c", _COUNT) for name in _pods(room)}
        if set(said.values()) != {f"--server-count={count}\n"}:
            raise LabError(f"konnectivity-servers do not agree on {count}: {said}")

    tenants.eventually(look, seconds=90)


def _logs_through_each(room: Room, tenant: Tenant) -> None:
    """Wait until each controller gives the log: each is asked at its own address, past the balancer.

    An agent keeps a connection to each konnectivity-server. It gets there by trying, once a second, the address that
    all of them share.
    """
    api = client.from_kubeconfig(tenant.kubeconfig)
    # The certificate is for the address that all share, not for that of a pod.
    api.tls.check_hostname = False

    def said() -> dict[str, str]:
        return {name: _log_of_hello(replace(api, host=address, port=6443)) for name, address in _pods(room).items()}

    assert list(tenants.eventually(said, seconds=120).values()) == ["hello from the edge\n"] * 3


def _pods(room: Room) -> dict[str, str]:
    """The controllers' addresses by name."""
    return {each["metadata"]["name"]: each["status"]["podIP"] for each in room.items("pods") if _is_controller(each)}


def _is_controller(pod: dict[str, Any]) -> bool:
    return str(pod["metadata"]["labels"]["component"]) == "cluster"


def _log_of_hello(api: client.Client) -> str:
    try:
        return str(api.call("GET", "/api/v1/namespaces/default/pods/hello/log", seconds=10))
    except (OSError, HTTPException) as error:
        raise LabError(f"{api.host} has not answered: {error!r}") from error
