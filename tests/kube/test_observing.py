"""From what an API server sends to what caches keep."""

from __future__ import annotations

import base64
from typing import Any

import orjson

from hosted_cp.kube.observing import config_map_data, observe
from hosted_cp.kube.resources import CONFIG_MAP, POD, SECRET

OWNERS = [{"apiVersion": "v1", "kind": "Owner", "name": "o", "uid": "o-uid", "controller": True}]


def sent(name: str, **parts: Any) -> bytes:
    metadata = {
        "name": name, "namespace": "n", "uid": f"{name}-uid", "resourceVersion": "7",
        "labels": {"app": "x"}, "ownerReferences": OWNERS,
        "managedFields": [{"manager": "somebody", "operation": "Update", "fieldsV1": {"f:spec": {}}}],
    }  # fmt: skip
    return orjson.dumps({"metadata": metadata, **parts})


def test_of_a_part_only_the_named_members_are_kept() -> None:
    raw = sent("a", spec={"volumes": [1], "containers": [2]}, status={"phase": "Running"})
    whole, part = observe(raw, resource=POD), observe(raw, resource=POD, keep={"spec": frozenset({"volumes", "none"})})
    assert whole.get("spec") == {"volumes": [1], "containers": [2]}
    assert part.get("spec") == {"volumes": [1]}
    assert part.get("status") == whole.get("status") == {"phase": "Running"}
    assert part.get("metadata", "managedFields") is None
    assert observe(sent("a", spec=None), resource=POD, keep={"spec": frozenset({"volumes"})}).get("spec") == {}


def test_what_is_long_is_kept_compressed() -> None:
    long = observe(sent("a", spec={"text": "x" * 10_000}), resource=POD)
    assert len(long.raw) < 1_000
    assert long.get("spec", "text") == "x" * 10_000
    assert orjson.loads(long.json)["spec"] == {"text": "x" * 10_000}
    short = observe(sent("a", spec={"text": "x"}), resource=POD)
    assert short.json == short.raw


def test_of_a_secret_metadata_and_facts_are_kept_and_nothing_else() -> None:
    canary = "canary-51c7"
    data = {"key": base64.b64encode(canary.encode()).decode()}
    seen = observe(sent("a", type="Opaque", data=data), resource=SECRET)
    assert seen.raw == b""
    assert seen.labels == {"app": "x"}
    assert seen.secret is not None
    assert set(seen.secret.digests) == {"key"}
    assert canary not in repr(seen)
    assert data["key"] not in repr(seen)


def test_what_objects_have_in_common_is_kept_once() -> None:
    one, other = (observe(sent(name), resource=POD) for name in ("a", "b"))
    assert one.controller_uid == other.controller_uid == "o-uid"
    assert one.labels is other.labels
    assert one.owner_references is other.owner_references
    assert one.managers is other.managers
    assert one.managers == {"somebody"}


def test_of_a_config_map_facts_are_kept_too() -> None:
    raw = sent("a", data={"text": "grüße"}, binaryData={"blob": base64.b64encode(b"\xff\x00").decode()})
    assert config_map_data(raw) == {"text": "grüße".encode(), "blob": b"\xff\x00"}
    seen = observe(raw, resource=CONFIG_MAP, keep={"data": frozenset(), "binaryData": frozenset()})
    assert not seen.get("data"), "unless somebody wants it"
    assert not seen.get("binaryData")
    assert observe(raw, resource=CONFIG_MAP).get("data") == {"text": "grüße"}
    assert seen.secret is not None
    assert set(seen.secret.digests) == {"text", "blob"}
    assert seen.secret.size == 9
    assert config_map_data(sent("b")) == {}
