"""Which event ends which phase, and what an object looks like as somebody would have written it by hand."""

from __future__ import annotations

import base64
from typing import Any

from e2e.bench import moments as phases
from e2e.bench.moments import Seen, bare, is_kubeconfig, kubeconfig, moments, restarts


def seen(at: float, kind: str, name: str, **rest: Any) -> Seen:
    return Seen(at=at, body={"kind": kind, "metadata": {"name": name}, **rest})


def pod(at: float, name: str, *, running: bool, ready: bool = False, restarts: int = 0) -> Seen:
    state = {"running": {}} if running else {"waiting": {"reason": "PodInitializing"}}
    return seen(
        at, "Pod", name,
        status={
            "containerStatuses": [{"name": "c", "state": state, "restartCount": restarts}],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    )  # fmt: skip


def available(at: float, status: str) -> Seen:
    return seen(at, "Cluster", "t", status={"conditions": [{"type": "Available", "status": status}]})


def test_a_start_from_apply_to_available_in_whatever_order_its_events_came() -> None:
    ports = [{"name": "api", "nodePort": 30001}, {"name": "konnectivity", "nodePort": 30002}]
    events = [
        available(9, "True"),
        seen(1, "Cluster", "t"),
        seen(2, "Service", "kmc-t-nodeport", spec={"ports": [{"name": "api"}]}),
        seen(2.5, "Service", "kmc-t-nodeport", spec={"ports": ports}),
        seen(2.6, "Secret", "t-kubeconfig"),
        seen(3, "StatefulSet", "kmc-t-etcd"),
        pod(3.5, "kmc-t-etcd-0", running=False),
        pod(4, "kmc-t-etcd-0", running=True),
        pod(4.5, "kmc-t-etcd-0", running=True, ready=True),
        seen(5, "StatefulSet", "kmc-t"),
        pod(6, "kmc-t-0", running=True),
        pod(8, "kmc-t-0", running=True, ready=True),
        available(8.5, "False"),
        pod(8.7, "kmc-t-0", running=True, ready=True),
    ]
    assert moments(events, "t") == {
        phases.ACCEPTED: 1, phases.SERVICE: 2.5, phases.KUBECONFIG: 2.6, phases.ETCD_MADE: 3, phases.ETCD_RUNS: 4,
        phases.ETCD_READY: 4.5, phases.MADE: 5, phases.RUNS: 6, phases.READY: 8, phases.AVAILABLE: 9,
    }  # fmt: skip


def test_other_tenants_and_other_objects_end_nothing() -> None:
    others = [
        seen(1, "Cluster", "u"),
        seen(1, "Service", "kmc-u-nodeport", spec={"ports": [{"nodePort": 1}]}),
        seen(1, "Service", "kmc-t-etcd", spec={"ports": [{"name": "client"}]}),
        seen(1, "Secret", "t-ca"),
        seen(1, "StatefulSet", "kmc-u"),
        pod(1, "kmc-t-1", running=True, ready=True),
    ]
    assert moments(others, "t") == {}


def test_restarts_are_the_highest_count_of_each_container() -> None:
    events = [
        pod(1, "a", running=True),
        pod(2, "a", running=True, restarts=2),
        pod(3, "a", running=True, restarts=2),
        pod(3, "b", running=True, restarts=1),
    ]
    assert restarts(events) == 3


def test_a_bare_object_keeps_what_was_wanted_and_the_addresses() -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "s", "namespace": "n", "labels": {"a": "b"}, "annotations": {}, "uid": "u", "resourceVersion": "7",
            "ownerReferences": [{"uid": "o"}], "managedFields": [{}], "creationTimestamp": "t",
        },
        "spec": {"clusterIP": "10.0.0.9", "ports": [{"nodePort": 30001}]},
        "status": {"loadBalancer": {}},
    }  # fmt: skip
    assert bare(body) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", "namespace": "n", "labels": {"a": "b"}},
        "spec": {"clusterIP": "10.0.0.9", "ports": [{"nodePort": 30001}]},
    }


def test_the_kubeconfig_is_found_and_decoded() -> None:
    secret = {
        "kind": "Secret",
        "metadata": {"name": "t-kubeconfig"},
        "data": {"value": base64.b64encode(b"kind: Config").decode()},
    }
    assert is_kubeconfig(secret, "t")
    assert not is_kubeconfig(secret, "u")
    assert kubeconfig(secret) == b"kind: Config"
