"""Every way of exposing a tenant makes it Available, and its kubeconfig works from where it is meant to."""

from __future__ import annotations

import pytest

from e2e import tenants
from e2e.lab.manifests import NO_ADDRESS
from e2e.lab.processes import call
from e2e.tests.room import Room, refused

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

_NAME = "control-plane.example.com"


def _server(room: Room, name: str) -> str:
    endpoint = room.get(f"kmc/{name}")["status"]["controlPlaneEndpoint"]
    return f"{endpoint['host']}:{endpoint['port']}"


def test_each_type_of_service_and_an_address_of_the_users(room: Room) -> None:
    room.create("ports")
    room.create("inside", service={"type": "ClusterIP"})
    room.create("balanced", service={"type": "LoadBalancer", "apiPort": 443, "konnectivityPort": 8443})
    room.create("named", externalAddress=_NAME)

    ports = room.available("ports")
    assert str(room.lab.node_address) in _server(room, "ports")
    ports.kubectl("get", "namespaces")

    balanced = room.available("balanced")
    address = room.get("service/kmc-balanced-lb")["status"]["loadBalancer"]["ingress"][0]["ip"]
    assert _server(room, "balanced") == f"{address}:443"
    balanced.kubectl("get", "namespaces")

    # Only inside: with the kubeconfig as it was delivered, from another tenant's pod, by the cluster's DNS.
    inside = room.available("inside")
    assert _server(room, "inside") == f"kmc-inside.{room.namespace}.svc:6443"
    pod = ("exec", "-i", "kmc-ports-0", "-c", "controller", "--", "sh", "-c")
    script = "umask 077; cat > /tmp/inside; k0s kubectl --kubeconfig /tmp/inside get namespaces -o name"
    assert "namespace/kube-system" in room.kubectl(*pod, script, input=inside.kubeconfig.read_text())

    # By a name that only its users can resolve: here an edge machine with a line in its /etc/hosts.
    named = room.available("named")
    edge = room.edge("named")
    hosts = edge.path("/etc/hosts")
    hosts.write_text(f"{hosts.read_text()}{room.lab.node_address} {_NAME}\n")
    assert _NAME in _server(room, "named")
    asked = call([named.kubectl_program, "--kubeconfig", named.kubeconfig, "get", "namespaces"], place=edge.place)
    assert "kube-system" in asked


def test_a_load_balancer_without_an_address_is_named_and_heals(room: Room) -> None:
    room.create("waits", service={"type": "LoadBalancer"}, annotations={NO_ADDRESS: "true"})
    said = room.cause("waits", "LoadBalancerPending")
    assert "kmc-waits-lb" in said
    running = [each["metadata"]["name"] for each in room.items("statefulsets")]
    assert "kmc-waits" not in running, "k0s cannot be told its address before anybody knows it"
    room.patch("kmc/waits", {"metadata": {"annotations": {NO_ADDRESS: None}}})
    room.available("waits").kubectl("get", "namespaces")


def test_another_type_of_service_moves_the_tenant_to_another_address(room: Room) -> None:
    room.create("moves")
    before = room.available("moves")
    room.patch("kmc/moves", {"spec": {"service": {"type": "LoadBalancer"}}})
    room.wait(
        "moves",
        lambda body: body["status"]["decisions"]["asked"].startswith("LoadBalancer"),
        what="no new address",
    )
    room.rolled_out("moves")
    address = room.get("service/kmc-moves-lb")["status"]["loadBalancer"]["ingress"][0]["ip"]
    assert _server(room, "moves") == f"{address}:6443"
    after = tenants.kubeconfig(room.lab, "moves", room.folder / "after", namespace=room.namespace)
    tenants.eventually(lambda: after.kubectl("get", "namespaces"), seconds=30)
    room.kubectl("wait", "--for=delete", "service/kmc-moves-nodeport", "--timeout=60s", seconds=70)
    with refused("refused", "unable to connect"):
        before.kubectl("get", "namespaces")
