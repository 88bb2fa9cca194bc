"""Conversion loses nothing, hides nothing, and lets the one win who edits, through whichever version."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hosted_cp.api.base import Kind
from hosted_cp.api.conversion import ANNOTATION, ANNOTATIONS_LIMIT, STATUS_FIELD, ConversionError, convert
from hosted_cp.api.join_token_request import parse_join_token_request
from hosted_cp.api.kinds import VERSIONED
from hosted_cp.api.schema import cached_openapi, defaulted, defaults, pruned
from hosted_cp.webhooks.conversion_review import review
from tests.api.generated import JSON, objects
from tests.api.structural import invalid

KINDS = [each for versions in VERSIONED for each in versions.all]
HUBS = [versions.hub for versions in VERSIONED]
OTHER = {"v1beta1": "v1beta2", "v1beta2": "v1beta1"}
BY_NAME = {(each.__name__, each.version): each for each in KINDS}
NAMES = [f"{each.__name__}-{each.version}" for each in KINDS]

#: For each of the twelve.
EXAMPLES = 25

ANY = st.sampled_from(KINDS).flatmap(objects)


def version_of(obj: dict[str, Any]) -> str:
    return str(obj["apiVersion"]).rpartition("/")[2]


def there(obj: dict[str, Any]) -> dict[str, Any]:
    """At the other version."""
    return convert(obj, to=OTHER[version_of(obj)])


def kind_of(obj: dict[str, Any]) -> type[Kind]:
    return BY_NAME[obj["kind"], version_of(obj)]


def without_record(obj: dict[str, Any]) -> dict[str, Any]:
    """As somebody would write it who has never seen the object in the other version."""
    bare = copy.deepcopy(obj)
    bare["metadata"].get("annotations", {}).pop(ANNOTATION, None)
    if isinstance(bare.get("status"), dict):
        record = json.loads(bare["status"].pop(STATUS_FIELD, "{}"))
        if record.get("alone"):
            del bare["status"]
    return bare


def status_of(obj: dict[str, Any]) -> Any:
    """The status as a reader sees it."""
    return without_record(obj).get("status")


def served(obj: dict[str, Any]) -> dict[str, Any]:
    """What the API server makes of an object that is written."""
    schema = cached_openapi(kind_of(obj))
    body = {key: value for key, value in obj.items() if key != "metadata"}
    return {**pruned(defaulted(body, defaults(kind_of(obj))), schema), "metadata": obj["metadata"]}


def canonical(obj: dict[str, Any]) -> str:
    """Python says 1 == True == 1.0; JSON does not."""
    return json.dumps(obj, sort_keys=True)


# --- properties -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_there_and_back_nothing_is_lost(kind: type[Kind]) -> None:
    @settings(max_examples=EXAMPLES)
    @given(objects(kind))
    def check(obj: dict[str, Any]) -> None:
        before = canonical(obj)
        other = there(obj)
        assert canonical(there(other)) == before
        # Once more, as every read and write does it: the same text, so nobody sees a difference.
        assert canonical(there(there(other))) == canonical(other)
        assert canonical(obj) == before, "the given object was changed"

    check()


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_what_is_valid_stays_valid_and_as_the_server_would_have_it(kind: type[Kind]) -> None:
    @settings(max_examples=EXAMPLES)
    @given(objects(kind))
    def check(obj: dict[str, Any]) -> None:
        assert invalid(obj, {**cached_openapi(kind)}) == of_metadata(obj)
        other = there(obj)
        assert invalid(other, {**cached_openapi(kind_of(other))}) == of_metadata(other)
        # Somebody who reads it and writes it again without a change has made no change.
        assert canonical(served(other)) == canonical(other)
        assert canonical(there(served(other))) == canonical(obj)

    check()


def of_metadata(obj: dict[str, Any]) -> list[str]:
    """The validator takes metadata for an object without fields."""
    return [f".metadata.{name} would be pruned" for name in obj["metadata"]]


@given(ANY)
def test_of_metadata_only_annotations_change(obj: dict[str, Any]) -> None:
    other = there(obj)
    assert other["kind"] == obj["kind"]
    assert other["apiVersion"].rpartition("/")[0] == obj["apiVersion"].rpartition("/")[0]
    mine, its = (dict(each["metadata"]) for each in (obj, other))
    had, has = mine.pop("annotations", {}), its.pop("annotations", {})
    assert mine == its
    assert has.get("example.org/a") == had.get("example.org/a")
    assert all(key == ANNOTATION or key.startswith("k0smotron.io/") for key in has.keys() ^ had.keys())


PLACES = st.sampled_from(["spec", "status", "metadata", "extra"])


@given(obj=ANY, place=PLACES, junk=JSON)
def test_no_content_makes_it_raise_or_lose(obj: dict[str, Any], place: str, junk: Any) -> None:
    obj[place] = junk
    again = there(there(obj))
    # Metadata is the API server's own, and never of another type.
    assert canonical(again | {"metadata": 0}) == canonical(obj | {"metadata": 0})


@given(obj=ANY, data=st.data())
def test_old_objects_that_no_schema_admits_come_back(obj: dict[str, Any], data: st.DataObject) -> None:
    """A value of a wrong type, or an unknown field, anywhere."""
    holders = [each for part in ("spec", "status") for each in dicts(obj.get(part))]
    if holders:
        holder = data.draw(st.sampled_from(range(len(holders))))
        name = data.draw(st.sampled_from([*holders[holder], "unknown", "storage", "provisioner"]))
        holders[holder][name] = data.draw(JSON)
    assert canonical(there(there(obj))) == canonical(obj)


def dicts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from dicts(each)


Leaves = dict[tuple[str, ...], str]


def leaves(value: Any, path: tuple[str, ...] = ()) -> Leaves:
    if isinstance(value, dict) and value:
        return {key: text for name, each in value.items() for key, text in leaves(each, (*path, name)).items()}
    return {path: json.dumps(value, sort_keys=True)}


def body(obj: dict[str, Any]) -> Leaves:
    """spec and status, and the annotations that stand for fields."""
    annotations = {
        key: each
        for key, each in obj["metadata"].get("annotations", {}).items()
        if key.startswith("k0smotron.io/") and key != ANNOTATION
    }
    parts = {"spec": obj.get("spec"), "status": status_of(obj)}
    return leaves({key: each for key, each in parts.items() if each is not None} | {"annotations": annotations})


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_who_edits_through_the_other_version_wins_and_breaks_nothing_else(kind: type[Kind]) -> None:
    other = BY_NAME[kind.__name__, OTHER[kind.version]]

    @settings(max_examples=EXAMPLES)
    @given(obj=objects(kind), donor=objects(other, complete=True), data=st.data())
    def check(obj: dict[str, Any], donor: dict[str, Any], data: st.DataObject) -> None:
        seen = there(obj)
        edited = copy.deepcopy(seen)
        # Some fields become what they are in a stranger, or go; at any depth.
        for part in data.draw(st.sampled_from([["spec"], ["status"], ["spec", "status"]])):
            edit(edited, donor, (part,), data)
        edited = kept_in_status(served(edited), seen)
        result = there(edited)
        # What the fields of the other version say alone, before and after the edit, is what was edited in truth.
        before, after = body(there(without_record(seen))), body(there(without_record(edited)))
        changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        had, has = body(obj), body(result)
        for path in changed & after.keys():
            filled = after[path] == "{}" and any(key[: len(path)] == path for key in has)
            assert has.get(path) == after[path] or filled, f"{path}: the edit is lost"
        for path in changed - after.keys():
            # It is gone, unless it was an empty object that has become more than that.
            assert path not in has or any(key[: len(path)] == path for key in after), f"{path}: it is back"
        for path, text in had.items():
            touched = any(each[: len(path)] == path or path[: len(each)] == each for each in changed)
            orphan = any(
                any(each[:length] == path[:length] for each in before)
                and not any(each[: length + 1] != path[:length] and each[:length] == path[:length] for each in after)
                for length in range(1, len(path))
            )
            if not touched and not orphan:
                assert has.get(path) == text, f"{path}: lost by an edit elsewhere"
        # And the editor sees what he wrote.
        assert body(there(result)) == body(edited)

    check()


def kept_in_status(edited: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
    """Who edits a status leaves alone what he does not know."""
    status = seen.get("status")
    if isinstance(status, dict) and STATUS_FIELD in status:
        edited = {**edited, "status": {**edited.get("status", {}), STATUS_FIELD: status[STATUS_FIELD]}}
    return edited


def edit(target: Any, donor: Any, path: tuple[str, ...], data: st.DataObject) -> None:
    if not path:
        return
    holder, source = target, donor
    *outer, name = path
    for step in outer:
        holder, source = holder[step], source.get(step, {}) if isinstance(source, dict) else {}
    if not isinstance(source, dict):
        source = {}
    inner = holder.get(name)
    if isinstance(inner, dict) and inner and data.draw(st.integers(0, 3)):
        deeper = data.draw(
            st.sampled_from(sorted({*inner, *source.get(name, {})} if isinstance(source.get(name), dict) else inner))
        )
        edit(target, donor, (*path, deeper), data)
    elif name in source:
        holder[name] = copy.deepcopy(source[name])
    elif len(path) > 1:
        holder.pop(name, None)


# --- single rules -----------------------------------------------------------------------------------------------------


def cluster(version: str, spec: Any, *, status: Any = None, **annotations: str) -> dict[str, Any]:
    return made("k0smotron.io", "Cluster", version, spec, status=status, **annotations)


def made(group: str, kind: str, version: str, spec: Any, *, status: Any = None, **annotations: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "demo", "namespace": "one"}
    if annotations:
        metadata["annotations"] = annotations
    obj = {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": metadata, "spec": spec}
    return obj if status is None else {**obj, "status": status}


def at(obj: dict[str, Any], path: str) -> Any:
    value: Any = obj
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value


SPEC_PAIRS: list[tuple[dict[str, Any], str, Any]] = [
    ({}, "storage.type", "etcd"),
    ({"etcd": {"args": ["--x"]}}, "storage.etcd.args", ["--x"]),
    ({"kineDataSourceURL": "postgres://x"}, "storage.type", "kine"),
    ({"kineDataSourceURL": "postgres://x"}, "storage.kine", {"dataSourceURL": "postgres://x"}),
    ({"kineDataSourceSecretName": "s"}, "storage.type", "kine"),
    ({"kineDataSourceSecretName": "s"}, "storage.kine.dataSourceSecretName", "s"),
    ({"kineDataSourceSecretName": ""}, "storage.type", "etcd"),
    ({"controllerPlaneFlags": ["--x=y"]}, "controlPlaneFlags", ["--x=y"]),
    (
        {"kubeconfigRef": {"name": "a", "namespace": "b"}},
        "remoteHostCluster.kubeconfigRef",
        {"name": "a", "namespace": "b", "key": "value"},
    ),
    ({"service": {"type": "NodePort", "apiPort": 30001}}, "service", {"type": "NodePort", "apiPort": 30001}),
    ({"service": {"labels": {"a": "b"}}}, "service", {"type": "ClusterIP"}),
]


@pytest.mark.parametrize(("old", "path", "new"), SPEC_PAIRS)
def test_the_spec_of_a_hosted_control_plane(old: dict[str, Any], path: str, new: Any) -> None:
    """The same in all three kinds that have it, and both ways."""
    for kind in ("Cluster", "K0smotronControlPlane", "K0smotronControlPlaneTemplate"):
        template = kind.endswith("Template")
        group = "k0smotron.io" if kind == "Cluster" else "controlplane.cluster.x-k8s.io"
        given = served(made(group, kind, "v1beta1", {"template": {"spec": old}} if template else old))
        root = "spec.template.spec" if template else "spec"
        up = there(given)
        assert at(up, f"{root}.{path}") == new
        for field in old.keys() - {"service"}:
            assert field not in at(up, root)
        # Without any record of how it was.
        down = there(without_record(up))
        for field, value in old.items():
            shown = at(down, f"{root}.{field}")
            assert value in ("", shown) or value.items() <= shown.items()


def test_extras_of_the_service_are_annotations_that_the_hosting_reads() -> None:
    extras = {"labels": {"b": "<1>", "a": "2"}, "annotations": {}, "externalTrafficPolicy": "Local"}
    extras["loadBalancerClass"] = "metal"
    up = there(cluster("v1beta1", {"service": {"type": "LoadBalancer", **extras}}))
    kept = up["metadata"]["annotations"]
    prefix = "k0smotron.io/conversion-dropped-service."
    assert {key: json.loads(value) for key, value in kept.items() if key.startswith(prefix)} == {
        f"{prefix}{field}": value for field, value in extras.items()
    }
    # k0smotron's own text is as good, and a field that is taken out at v1beta1 is gone.
    down = there(cluster("v1beta2", {}, **{f"{prefix}labels": '{ "a": "b" }', f"{prefix}loadBalancerClass": '"x"'}))
    assert down["spec"]["service"] == {"type": "ClusterIP", "labels": {"a": "b"}, "loadBalancerClass": "x"}
    del down["spec"]["service"]["labels"]
    assert there(down)["metadata"]["annotations"] == {f"{prefix}loadBalancerClass": '"x"'}
    # What cannot be a field stays what it is.
    broken = there(cluster("v1beta2", {}, **{f"{prefix}externalTrafficPolicy": '"Nowhere"'}))
    assert broken["metadata"]["annotations"][f"{prefix}externalTrafficPolicy"] == '"Nowhere"'
    # In a template they go where the topology copies them from.
    template = made(
        "controlplane.cluster.x-k8s.io",
        "K0smotronControlPlaneTemplate",
        "v1beta1",
        {"template": {"metadata": {"labels": {"x": "y"}}, "spec": {"service": {"labels": {"a": "b"}}}}},
    )
    assert there(template)["spec"]["template"]["metadata"] == {
        "labels": {"x": "y"},
        "annotations": {f"{prefix}labels": '{"a":"b"}'},
    }


def test_what_v1beta1_has_no_word_for_comes_back_and_is_void_once_it_is_edited_there() -> None:
    hub = cluster("v1beta2", {"keyAlgorithm": "RSA-2048", "storage": {"type": "nats", "nats": {}}, "patches": []})
    seen = there(hub)
    assert seen["spec"].keys().isdisjoint({"keyAlgorithm", "storage", "patches"})
    seen["spec"]["replicas"] = 3
    assert there(seen)["spec"]["storage"]["type"] == "nats"
    assert there(seen)["spec"]["keyAlgorithm"] == "RSA-2048"
    assert there(seen)["spec"]["replicas"] == 3
    seen["spec"]["kineDataSourceURL"] = "mysql://x"
    assert there(seen)["spec"]["storage"]["type"] == "kine"


def test_a_data_source_that_is_not_in_use_does_not_select_kine() -> None:
    hub = cluster("v1beta2", {"storage": {"type": "etcd", "kine": {"dataSourceURL": "mysql://x"}}})
    assert "kineDataSourceURL" not in there(hub)["spec"]
    assert there(there(hub)) == hub


def condition(kind: str, status: str, message: str) -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": "A",
        "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


def test_status_of_clusters() -> None:
    serving = {"conditions": [condition("Available", "True", "it serves")], "replicas": 1, "selector": "a=b"}
    shown = status_of(there(cluster("v1beta2", {}, status=serving)))
    assert shown == {"ready": True, "reconciliationStatus": "it serves", "replicas": 1, "selector": "a=b"}
    said = {"deprecated": {"v1beta1": {"ready": False, "reconciliationStatus": "no"}}}
    assert there(cluster("v1beta2", {}, status=serving | said))["status"]["ready"] is False
    up = there(cluster("v1beta1", {}, status={"ready": True, "reconciliationStatus": "fine", "replicas": 2}))
    assert up["status"] == {"deprecated": {"v1beta1": {"ready": True, "reconciliationStatus": "fine"}}, "replicas": 2}


TOKENS = "k0smotron.io/cluster-ref-namespace"


def token(version: str, spec: Any, **annotations: str) -> dict[str, Any]:
    return made("k0smotron.io", "JoinTokenRequest", version, spec, **annotations)


def test_token_requests_keep_the_namespace_that_they_name() -> None:
    up = there(token("v1beta1", {"clusterRef": {"name": "demo", "namespace": "two"}}))
    assert up["spec"] == {"clusterName": "demo", "role": "worker"}
    assert up["metadata"]["annotations"][TOKENS] == "two"
    down = there(without_record(up))
    assert down["spec"]["clusterRef"] == {"name": "demo", "namespace": "two"}
    assert TOKENS not in down["metadata"].get("annotations", {})
    born_here = there(token("v1beta2", {"clusterName": "demo"}))
    assert born_here["spec"]["clusterRef"] == {"name": "demo", "namespace": "one"}


def test_a_request_that_names_another_namespace_is_a_problem() -> None:
    def problem(version: str, spec: Any, **annotations: str) -> str:
        parsed = parse_join_token_request(convert(token(version, spec, **annotations), to="v1beta2"))
        assert parsed.spec is not None
        return "; ".join(map(str, parsed.problems))

    assert "create the JoinTokenRequest in the namespace two" in problem(
        "v1beta1", {"clusterRef": {"name": "demo", "namespace": "two"}}
    )
    assert problem("v1beta1", {"clusterRef": {"name": "demo", "namespace": "one"}}) == ""
    # What k0smotron shows of its own objects at v1beta1.
    assert problem("v1beta1", {"clusterRef": {"name": "demo", "namespace": ""}}) == ""
    assert problem("v1beta2", {"clusterName": "demo"}) == ""
    assert "is two" in problem("v1beta2", {"clusterName": "demo"}, **{TOKENS: "two"})


def test_status_of_control_planes() -> None:
    def plane(version: str, status: Any) -> dict[str, Any]:
        return made("controlplane.cluster.x-k8s.io", "K0smotronControlPlane", version, {}, status=status)

    hub = {"initialization": {"controlPlaneInitialized": True}, "replicas": 3, "readyReplicas": 2}
    hub |= {"availableReplicas": 1, "upToDateReplicas": 0}
    old = {"initialization": {"controlPlaneInitialized": True}, "initialized": True, "ready": True, "replicas": 3}
    old |= {"readyReplicas": 2, "unavailableReplicas": 2, "updatedReplicas": 0}
    assert status_of(there(plane("v1beta2", hub))) == old
    assert there(without_record(plane("v1beta1", old)))["status"] == hub
    assert there(plane("v1beta1", {"initialized": True}))["status"]["initialization"] == {
        "controlPlaneInitialized": True
    }


def worker(version: str, spec: Any, status: Any = None) -> dict[str, Any]:
    return made("bootstrap.cluster.x-k8s.io", "K0sWorkerConfig", version, spec, status=status)


def test_worker_configs() -> None:
    source = {"secretRef": {"name": "a", "key": "b"}}
    old = {"preStartCommands": ["a"], "postStartCommands": ["b"], "customUserDataRef": source, "version": "v1.36.3+k0s"}
    up = there(worker("v1beta1", old, {"ready": True, "dataSecretName": "x"}))
    assert up["spec"] == {
        "preK0sCommands": ["a"],
        "postK0sCommands": ["b"],
        "provisioner": {"type": "cloud-config", "platform": "linux", "customUserDataRef": source},
        "version": "v1.36.3+k0s",
        "k0sInstallDir": "/usr/local/bin",
        "useSystemHostname": False,
    }
    assert up["status"] == {"initialization": {"dataSecretCreated": True}, "dataSecretName": "x"}
    down = there(without_record(up))
    assert old.items() <= down["spec"].items()
    assert down["status"] == {"ready": True, "dataSecretName": "x"}
    ignition = {"variant": "fcos", "version": "1.5.0"}
    assert there(worker("v1beta1", {"ignition": ignition}))["spec"]["provisioner"]["type"] == "ignition"
    assert (
        there(worker("v1beta2", {"provisioner": {"type": "ignition", "ignition": ignition}}))["spec"]["ignition"]
        == ignition
    )
    unused = worker("v1beta2", {"provisioner": {"type": "cloud-config", "platform": "linux", "ignition": ignition}})
    assert "ignition" not in there(unused)["spec"]


def test_the_examples_of_k0smotrons_documentation() -> None:
    template = made(
        "bootstrap.cluster.x-k8s.io",
        "K0sWorkerConfigTemplate",
        "v1beta1",
        {"template": {"spec": {"version": "v1.27.2+k0s.0"}}},
    )
    assert there(template)["spec"]["template"]["spec"]["version"] == "v1.27.2+k0s.0"
    assert ANNOTATION not in there(served(template))["metadata"].get("annotations", {})


def test_the_same_version_is_the_same_object() -> None:
    obj = cluster("v1beta2", {"x": 1})
    assert convert(obj, to="v1beta2") == obj


@pytest.mark.parametrize(
    ("group", "kind", "version", "to"),
    [
        ("k0smotron.io", "Cluster", "v1beta2", "v1"),
        ("k0smotron.io", "Cluster", "v1alpha1", "v1beta2"),
        ("cluster.x-k8s.io", "Cluster", "v1beta1", "v1beta2"),
        ("k0smotron.io", "ClusterList", "v1beta1", "v1beta2"),
        ("", "", "", "v1beta1"),
    ],
)
def test_what_is_not_ours_is_refused(group: str, kind: str, version: str, to: str) -> None:
    with pytest.raises(ConversionError, match="there is no conversion of"):
        convert(made(group, kind, version, {}), to=to)


# --- the annotation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "{", "[]", '"a"', "[" * 100_000, "null", '{"v1beta2": 1}', '{"v1beta2": [1, {}, {"at": []}]}'),
        *('{"v1beta2": [{"at": [1], "is": 2}]}', '{"v1beta2": [{"at": ["metadata", "name"], "is": "other"}]}'),
        '{"v1beta2": [{"at": ["metadata", "annotations", "example.org/b"], "is": "forged"}]}',
        '{"v1beta2": [{"at": ["spec", "replicas", "x"], "is": "deeper than what is there"}]}',
        '{"v1beta1": [{"at": ["spec", "replicas"], "was": 1, "is": 5}]}',
    ],
)
def test_an_annotation_that_is_not_ours_does_nothing(text: str) -> None:
    clean = there(cluster("v1beta1", {"replicas": 1}))
    forged = there(cluster("v1beta1", {"replicas": 1}, **{ANNOTATION: text}))
    assert forged["spec"] == clean["spec"]
    assert forged["metadata"]["name"] == "demo"
    assert "example.org/b" not in forged["metadata"].get("annotations", {})


SERVING = {"conditions": [condition("Available", "True", "it serves")], "replicas": 1, "initialized": True}
FORGED: list[tuple[list[str], Any]] = [
    (["status"], {"initialized": True}),
    (["status", "initialized"], True),
    (["status", "conditions"], [condition("Available", "True", "forged")]),
    (["status", STATUS_FIELD], "forged"),
    (["apiVersion"], "k0smotron.io/v9"),
    (["kind"], "Secret"),
    (["metadata"], {"name": "forged"}),
    (["metadata", "uid"], "forged"),
    (["metadata", "annotations", "k0smotron.io/cluster-ref-namespace"], 5),
]


@pytest.mark.parametrize(("path", "value"), FORGED)
@pytest.mark.parametrize("version", ["v1beta1", "v1beta2"])
def test_nobody_makes_up_a_status_or_an_object_by_the_annotation(version: str, path: list[str], value: Any) -> None:
    for status in (None, {}, {"ready": False}, {"replicas": 0}):
        for was in ({}, {"was": at(cluster(version, {}, status=status), ".".join(path))}):
            text = json.dumps({OTHER[version]: [{"at": path, "is": value, **was}]})
            clean = there(cluster(version, {}, status=status))
            forged = there(cluster(version, {}, status=status, **{ANNOTATION: text}))
            assert without_record(forged).get("status") == without_record(clean).get("status")
            assert {**forged, "metadata": 0, "status": 0} == {**clean, "metadata": 0, "status": 0}
            assert forged["metadata"]["name"] == "demo"
            assert all(isinstance(each, str) for each in forged["metadata"].get("annotations", {}).values())


def test_a_status_comes_back_from_an_update_that_has_no_annotation_and_with_none_that_is_stale() -> None:
    stored = cluster("v1beta2", {"keyAlgorithm": "RSA-2048"}, status=SERVING)
    seen = there(stored)
    assert all(each["at"][0] != "status" for each in json.loads(seen["metadata"]["annotations"][ANNOTATION])["v1beta2"])
    replaced = copy.deepcopy(seen)
    replaced["metadata"].pop("annotations")  # a manifest of the user's; its status is the API server's copy
    assert there(replaced)["status"] == SERVING
    later = there(cluster("v1beta2", {"keyAlgorithm": "RSA-2048"}, status=SERVING | {"replicas": 3}))
    stale = {**later, "metadata": seen["metadata"]}
    assert there(stale)["status"] == SERVING | {"replicas": 3}


def test_a_new_object_has_no_status_whatever_it_brings() -> None:
    """An API server takes the status off what is created, in the version in which it is sent."""
    seen = there(cluster("v1beta2", {}, status=SERVING))
    del seen["status"]
    assert "status" not in there(seen)


def test_no_note_keeps_what_is_stored_from_being_read() -> None:
    stored = cluster("v1beta2", {"replicas": 3}, **{ANNOTATION: '{"v1beta1":"too large"}'})
    assert there(stored)["spec"]["replicas"] == 3


def test_a_record_that_would_be_too_large() -> None:
    def annotations_of(obj: dict[str, Any]) -> int:
        return sum(len(key.encode()) + len(value.encode()) for key, value in obj["metadata"]["annotations"].items())

    patch = {"target": {"kind": "Service", "component": "x"}, "patch": {"type": "json", "content": "[]"}}
    status = {"conditions": [condition("Available", "True", "é" * 20_000) | {"type": str(each)} for each in range(9)]}
    hub = cluster("v1beta2", {"patches": [patch]}, status=status, other="x" * 1000)
    assert STATUS_FIELD not in there(hub)["status"]
    seen = there(hub)
    assert annotations_of(seen) <= ANNOTATIONS_LIMIT
    # The operator reports its status again; what the user wrote is there.
    assert there(seen)["spec"]["patches"] == [patch]
    assert "conditions" not in there(seen)["status"]
    vast = cluster("v1beta2", {"patches": [{**patch, "patch": {"type": "json", "content": "x" * 300_000}}]})
    seen = there(vast)
    assert annotations_of(seen) <= ANNOTATIONS_LIMIT
    assert seen["spec"]["replicas"] == 1
    with pytest.raises(ConversionError, match="read and write it at v1beta2"):
        there(seen)


# --- ConversionReview -------------------------------------------------------------------------------------------------


def asked(*given: Any, to: str = "k0smotron.io/v1beta1") -> dict[str, Any]:
    request = {"uid": "705ab4f5", "desiredAPIVersion": to, "objects": list(given)}
    body = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": request}
    answer = review(body)
    assert (answer["apiVersion"], answer["kind"]) == (body["apiVersion"], body["kind"])
    response: dict[str, Any] = answer["response"]
    return response


def test_a_review_converts_all_objects_in_their_order() -> None:
    given = [cluster("v1beta2", {"replicas": each}) for each in range(3)] + [cluster("v1beta1", {"replicas": 3})]
    response = asked(*given)
    assert (response["uid"], response["result"]) == ("705ab4f5", {"status": "Success"})
    assert [each["spec"]["replicas"] for each in response["convertedObjects"]] == [0, 1, 2, 3]
    assert {each["apiVersion"] for each in response["convertedObjects"]} == {"k0smotron.io/v1beta1"}
    assert asked()["convertedObjects"] == []


@pytest.mark.parametrize(
    ("given", "to", "says"),
    [
        (
            [made("k0smotron.io", "Nest", "v1beta2", {})],
            "k0smotron.io/v1beta1",
            "Nest one/demo: there is no conversion",
        ),
        ([cluster("v1beta2", {})], "other.io/v1beta1", "into another group"),
        ([cluster("v1beta2", {})], "k0smotron.io/v9", "there is no conversion"),
        (["text"], "k0smotron.io/v1beta1", "no list of objects"),
    ],
)
def test_a_review_that_fails_names_the_object(given: list[Any], to: str, says: str) -> None:
    response = asked(*given, to=to)
    assert response["result"]["status"] == "Failure"
    assert says in response["result"]["message"]
    assert response["convertedObjects"] == []


@pytest.mark.parametrize("body", [None, [], {}, {"request": None}, {"request": {"uid": "u", "objects": {}}}])
def test_what_is_no_review_gets_a_failure_for_an_answer(body: Any) -> None:
    assert review(body)["response"]["result"]["status"] == "Failure"
