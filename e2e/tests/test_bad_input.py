"""What keeps a tenant from running is named within seconds; when it is put right, the tenant comes up by itself."""

from __future__ import annotations

import pytest

from e2e.lab.manifests import PROVISIONER
from e2e.tenants import conditions
from e2e.tests.room import Room

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_a_storage_class_that_does_not_exist_is_named_and_heals_when_it_does(room: Room) -> None:
    missing = f"{room.namespace}-later"
    storage = {"type": "etcd", "etcd": {"persistence": {"size": "1Gi", "storageClass": missing}}}
    room.create("stored", storage=storage)
    said = room.cause("stored", "StorageClassNotFound")
    assert missing in said
    assert "create it" in said
    room.apply({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": missing},
        "provisioner": PROVISIONER, "volumeBindingMode": "Immediate",
    })  # fmt: skip
    try:
        room.available("stored").kubectl("get", "namespaces")
    finally:
        room.kubectl("delete", "storageclass", missing)


def test_an_image_that_cannot_be_pulled_is_named_and_heals_when_corrected(room: Room) -> None:
    good = room.stage.k0s.version
    room.create("typo", version=f"{good.rpartition('.')[0]}.9")
    room.create("nowhere", image="registry.invalid/k0s")
    for name, image in (("typo", good.rpartition(".")[0].replace("+", "-")), ("nowhere", "registry.invalid/k0s")):
        said = room.cause(name, "ImageCannotBePulled", seconds=60)
        assert image in said
        assert "spec.image and spec.version" in said
    room.patch("kmc/typo", {"spec": {"version": good}})
    room.patch("kmc/nowhere", {"spec": {"image": room.stage.k0s.repository}})
    for name in ("typo", "nowhere"):
        room.available(name).kubectl("get", "namespaces")


def test_what_only_the_administrator_may_allow_is_refused_and_heals_when_left_out(room: Room) -> None:
    room.create(
        "host",
        persistence={"type": "hostPath", "hostPath": "/var/lib/tenants"},
        mounts=[{"path": "/host", "hostPath": {"path": "/"}}],
        serviceAccount="default",
    )
    said = room.cause("host", "SpecInvalid")
    for field in ("spec.persistence.type", "spec.mounts[0]", "spec.serviceAccount"):
        assert field in said
    assert "--privileged-namespace" in said
    assert room.items("statefulsets,services") == []
    room.patch("kmc/host", {"spec": {"persistence": {"type": "emptyDir"}, "mounts": None, "serviceAccount": None}})
    room.available("host").kubectl("get", "namespaces")


def test_a_node_port_that_another_tenant_has_is_named_and_heals_when_it_is_free(room: Room) -> None:
    room.create("first", service={"type": "NodePort", "apiPort": 31443})
    room.cause("first", "ControlPlaneStarting", seconds=60)
    room.create("second", service={"type": "NodePort", "apiPort": 31443})
    said = room.cause("second", "WriteFailed")
    assert "31443" in said
    assert "spec.service.apiPort" in said
    room.kubectl("delete", "kmc", "first", "--timeout=60s", seconds=70)
    tenant = room.available("second")
    assert ":31443" in tenant.kubectl("config", "view")
    assert conditions(room.get("kmc/second"))["SpecAccepted"]["status"] == "True"
