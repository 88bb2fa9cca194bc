"""The Node of a Machine gets the id by which Cluster API knows whose it is."""

from __future__ import annotations

from tests.machines.worker_world import MACHINE, NAME, made


def test_the_node_gets_the_providers_id_of_its_machine() -> None:
    world = made()
    world.handed_over()
    assert not world.plan().probes
    world.says(MACHINE, providerID="lab://a/b")
    [probe] = world.plan().probes
    assert dict(probe.arguments)["machine"] == NAME
    world.registers()
    assert world.work() == ""
    assert world.base.tenant.every("Node")[0]["spec"] == {"providerID": "lab://a/b"}
    world.becomes_node()
    world.work()
    assert not world.plan().probes


def test_a_node_that_has_one_is_left_alone_and_a_wrong_one_is_told() -> None:
    world = made()
    world.says(MACHINE, providerID="lab://a/b")
    node = world.registers(providerID="lab://a/c")
    assert world.work() == ""
    assert world.base.tenant.every("Node") == [node]
    assert "Node md-x7k2p has providerID lab://a/c, and Machine md-x7k2p has lab://a/b" in world.why()


def test_a_node_that_was_made_anew_is_asked_for_again() -> None:
    world = made()
    world.says(MACHINE, providerID="lab://a/b")
    old = world.registers()
    world.base.tenant.objects = {ref: each for ref, each in world.base.tenant.objects.items() if ref.kind != "Node"}
    before = world.plan().probes
    assert "another one" in world.work()
    assert world.plan().probes != before
    new = world.registers()
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    assert world.work() == ""
    assert world.base.tenant.every("Node")[0]["spec"] == {"providerID": "lab://a/b"}
