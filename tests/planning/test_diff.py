"""What counts as a difference: nothing that a server would store alike, and everything else."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.planning import diff
from hosted_cp.planning.actions import HASH_ANNOTATION, Apply, Create
from hosted_cp.planning.diff import (
    OWN_METADATA_ANNOTATION,
    NotOurs,
    desired_hash,
    differs,
    first_difference,
    metadata_patch,
    recipe_differs,
    settle,
    stamped,
)
from hosted_cp.planning.observed import Observed
from hosted_cp.planning.recipes import Inputs
from tests.planning.samples import (
    CONFIG_MAP,
    EVERYTHING,
    NETWORK_POLICY,
    OWNER,
    OWNER_REFERENCE,
    SERVICE,
    STATEFUL_SET,
    observed,
    served,
)

FROZEN = ("podManagementPolicy", "serviceName", "selector", "volumeClaimTemplates")
each_kind = pytest.mark.parametrize("body", EVERYTHING, ids=lambda body: body["kind"])


def live_of(body: dict[str, Any]) -> dict[str, Any]:
    return served(stamped(body))


@each_kind
def test_what_we_wrote_is_not_written_again(body: dict[str, Any]) -> None:
    seen = observed(live_of(body))
    assert first_difference(body, seen) is None
    assert settle(body, seen, OWNER) is None


def test_a_status_that_changes_is_no_reason_to_compare_the_rest_again(monkeypatch: pytest.MonkeyPatch) -> None:
    body = copy.deepcopy(STATEFUL_SET)
    body["metadata"]["labels"]["case"] = "status"  # nobody has asked about this one before
    asked: list[Observed] = []
    compare = diff._first_missing

    def counted(wanted: Mapping[str, Any], seen: Observed) -> str | None:
        asked.append(seen)
        return compare(wanted, seen)

    monkeypatch.setattr(diff, "_first_missing", counted)
    for version in range(5):
        live = live_of(body)
        live["metadata"]["resourceVersion"] = str(version)
        live["status"] = {"replicas": version}
        assert first_difference(body, observed(live)) is None
    assert len(asked) == 1
    live["metadata"]["labels"].pop("case")  # no generation counts this
    assert first_difference(body, observed(live)) == "metadata.labels.case"
    live["spec"]["replicas"] = 7
    live["metadata"]["labels"]["case"] = "status"
    assert first_difference(body, observed(live)) == "spec.replicas"
    assert len(asked) == 3


# --- equivalent forms ------------------------------------------------------------------------------------------------

SPELLINGS: dict[Any, list[Any]] = {
    "1000m": ["1", 1, "1.0", "1e0", "1000000u"],
    "0.5Gi": ["512Mi", "536870912", "0.5Gi"],
    "1Gi": ["1024Mi"],
}
QUANTITY_PARENTS = {"limits", "requests", "sizeLimit"}
KEYED = {"env", "ports", "volumeMounts", "volumes", "containers", "topologySpreadConstraints", "ownerReferences"}
ATOMIC_PORTS = {"NetworkPolicy", "Endpoints"}


def respell(value: Any, draw: random.Random, *, kind: str, name: str = "", parent: str = "") -> Any:
    """The same wish in another form: other spellings and key orders, empty values added."""
    if isinstance(value, Mapping):
        members = [(key, respell(item, draw, kind=kind, name=key, parent=name)) for key, item in value.items()]
        draw.shuffle(members)
        result = dict(members)
        if name == "spec" and parent == "" and draw.random() < 0.5:
            result["externalIPs" if kind == "Service" else "imaginary"] = draw.choice([None, []])
        if "mountPath" in result:
            result.setdefault("subPath", "")
            result.setdefault("readOnly", False)
        return result
    if isinstance(value, list):
        items = [respell(item, draw, kind=kind, parent=name) for item in value]
        if name in KEYED and not (name == "ports" and kind in ATOMIC_PORTS):
            draw.shuffle(items)
        return items
    if QUANTITY_PARENTS & {name, parent} and value in SPELLINGS:
        return draw.choice(SPELLINGS[value])
    if name == "port" and value == 6443 and kind == "NetworkPolicy":
        return "6443"
    return value


@given(st.sampled_from(EVERYTHING), st.randoms(use_true_random=False))
def test_hostile_but_equivalent_forms_never_differ(body: dict[str, Any], draw: random.Random) -> None:
    other = respell(body, draw, kind=body["kind"])
    live = live_of(body)
    # Lists with keys are hashed in the order given (it matters to init containers), so only the containment is equal.
    live["metadata"]["annotations"][HASH_ANNOTATION] = desired_hash(other)
    assert first_difference(other, observed(live)) is None


def test_spellings_do_not_change_the_hash() -> None:
    other = copy.deepcopy(STATEFUL_SET)
    container = other["spec"]["template"]["spec"]["containers"][0]
    container["resources"] = {"requests": {"memory": "1M", "cpu": 1}, "limits": {"memory": "512Mi"}, "claims": []}
    container["ports"][0]["protocol"] = "TCP"
    container["stdin"] = False
    container["workingDir"] = ""
    other["spec"]["template"]["spec"]["nodeName"] = None
    other["status"] = {"replicas": 9}
    assert desired_hash(other) == desired_hash(STATEFUL_SET)
    assert desired_hash(stamped(other)) == desired_hash(STATEFUL_SET)


def test_others_may_add_what_an_apply_would_leave_alone() -> None:
    live = live_of(STATEFUL_SET)
    live["metadata"]["labels"]["team"] = "blue"
    live["metadata"]["finalizers"] = ["example.org/keep"]
    pod = live["spec"]["template"]["spec"]
    pod["containers"].insert(0, {"name": "injected", "image": "mesh"})
    pod["containers"][1]["env"].append({"name": "MESH", "value": "on"})
    pod["volumes"].append({"name": "mesh", "emptyDir": {}})
    assert first_difference(STATEFUL_SET, observed(live)) is None


# --- real differences ------------------------------------------------------------------------------------------------


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path


def put(body: dict[str, Any], path: tuple[Any, ...], change: Any) -> None:
    place: Any = body
    for step in path[:-1]:
        place = place[step]
    if change is DROPPED:
        del place[path[-1]]
    else:
        place[path[-1]] = change


DROPPED = object()


def other_than(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return "7" if value else "x"
        case _:
            return DROPPED


def changes() -> list[Any]:
    found = []
    for body in EVERYTHING:
        for path in leaves(body):
            if path[0] in ("apiVersion", "kind") or path[:2] in {("metadata", "name"), ("metadata", "namespace")}:
                continue  # another object
            if path[0] == "spec" and path[1] in FROZEN and body["kind"] == "StatefulSet":
                continue
            name = ".".join(str(step) for step in path)
            found.append(pytest.param(body, path, id=f"{body['kind']}-{name}"))
    return found


@pytest.mark.parametrize(("body", "path"), changes())
def test_every_changed_or_dropped_leaf_differs(body: dict[str, Any], path: tuple[Any, ...]) -> None:
    value: Any = body
    for step in path:
        value = value[step]
    for change in (other_than(value), DROPPED):
        live = live_of(body)
        put(live, path, change)
        assert differs(body, observed(live)), f"{path} = {change!r} is not noticed"
        action = settle(body, observed(live), OWNER) if path[:2] != ("metadata", "ownerReferences") else None
        assert action is None or isinstance(action, Apply)


@pytest.mark.parametrize(
    ("body", "path"),
    [each for each in changes() if each.values[1][-1] != "nodePort"],
)
def test_every_leaf_is_in_the_hash(body: dict[str, Any], path: tuple[Any, ...]) -> None:
    other = copy.deepcopy(body)
    value: Any = body
    for step in path:
        value = value[step]
    put(other, path, other_than(value))
    assert desired_hash(other) != desired_hash(body)


def test_asking_for_the_node_port_that_is_there_is_no_reason_to_write() -> None:
    service = next(body for body in EVERYTHING if body["kind"] == "Service")
    silent = copy.deepcopy(service)
    for port in silent["spec"]["ports"]:
        port.pop("nodePort", None)
    assert desired_hash(silent) == desired_hash(service) != ""


def test_a_field_that_is_no_longer_wanted_is_noticed_by_the_hash() -> None:
    fewer = copy.deepcopy(STATEFUL_SET)
    del fewer["spec"]["template"]["spec"]["tolerations"]
    assert first_difference(fewer, observed(live_of(STATEFUL_SET))) == "the desired hash"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda spec: spec["ingress"][1]["from"][0].update(namespaceSelector={}),
        lambda spec: spec["ingress"][0].update({"from": [{"podSelector": {}}]}),
        lambda spec: spec["ingress"].append({}),
        lambda spec: spec["podSelector"]["matchLabels"].update(extra="label"),
        lambda spec: spec["podSelector"].update(matchExpressions=[{"key": "a", "operator": "Exists"}]),
        lambda spec: spec["ingress"][1]["from"][1]["ipBlock"].pop("except"),
    ],
)
def test_a_widened_or_narrowed_network_policy_differs(spoil: Any) -> None:
    live = live_of(NETWORK_POLICY)
    spoil(live["spec"])
    assert first_difference(NETWORK_POLICY, observed(live))


def test_a_selector_is_compared_as_a_whole() -> None:
    live = live_of(SERVICE)
    live["spec"]["selector"]["extra"] = "label"
    assert first_difference(SERVICE, observed(live)) == "spec.selector.extra"


def test_an_exchanged_volume_source_differs() -> None:
    live = live_of(STATEFUL_SET)
    live["spec"]["template"]["spec"]["volumes"][0] = {"name": "run", "hostPath": {"path": "/run"}}
    assert first_difference(STATEFUL_SET, observed(live)) == "spec.template.spec.volumes[run].emptyDir"


@pytest.mark.parametrize(
    ("wanted", "live", "same"),
    [
        ({"hostNetwork": False}, {}, True),
        ({"hostNetwork": False}, {"hostNetwork": True}, False),
        ({"automountServiceAccountToken": False}, {}, False),
        ({"dnsPolicy": ""}, {"dnsPolicy": "ClusterFirst"}, True),
        ({"nodeName": ""}, {}, True),
        ({"nodeName": ""}, {"nodeName": "n1"}, False),
        ({"tolerations": []}, {}, True),
        ({"tolerations": []}, {"tolerations": [{"key": "a"}]}, False),
        ({"imagePullSecrets": []}, {"imagePullSecrets": [{"name": "others"}]}, True),
        ({"nodeSelector": {}}, {}, True),
        ({"nodeSelector": {}}, {"nodeSelector": {"a": "b"}}, False),
        ({"securityContext": {}}, {}, False),
        ({"securityContext": {}}, {"securityContext": {}}, True),
        ({"priority": None}, {"priority": 5}, True),
        ({"terminationGracePeriodSeconds": 1}, {"terminationGracePeriodSeconds": True}, False),
        ({"terminationGracePeriodSeconds": 1}, {"terminationGracePeriodSeconds": "1"}, False),
        ({"hostname": "1h"}, {"hostname": "60m"}, False),  # texts are no quantities
        ({"overhead": {"cpu": "1000m"}}, {"overhead": {"cpu": "1"}}, True),
        ({"overhead": {"cpu": "1000m"}}, {"overhead": {"cpu": "2"}}, False),
    ],
)
def test_empty_values_as_the_server_stores_them(wanted: dict[str, Any], live: dict[str, Any], same: bool) -> None:
    def pod(spec: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"}, "spec": spec}

    there = pod(live)
    there["metadata"]["annotations"] = {HASH_ANNOTATION: desired_hash(pod(wanted))}
    assert differs(pod(wanted), observed(there)) is not same


# --- settle ----------------------------------------------------------------------------------------------------------


def test_a_missing_object_is_created_with_its_hash() -> None:
    action = settle(SERVICE, None, OWNER)
    assert isinstance(action, Create)
    assert action.body["metadata"]["annotations"] == {"note": "1000m", HASH_ANNOTATION: desired_hash(SERVICE)}
    assert HASH_ANNOTATION not in SERVICE["metadata"]["annotations"], "what was passed in must stay as it is"


def test_a_foreign_object_is_never_written() -> None:
    live = live_of(SERVICE)
    live["metadata"]["ownerReferences"] = [{**OWNER_REFERENCE, "uid": "somebody-else"}]
    with pytest.raises(NotOurs, match="Service team/kmc-tenant-nodeport"):
        settle(SERVICE, observed(live), OWNER)


def test_an_object_that_is_being_deleted_is_left_alone() -> None:
    live = live_of(SERVICE)
    live["spec"]["type"] = "ClusterIP"
    assert settle(SERVICE, observed(live, deleting=True), OWNER) is None


def test_of_an_existing_stateful_set_the_immutable_parts_are_kept() -> None:
    live = live_of(STATEFUL_SET)
    live["spec"].update(podManagementPolicy="OrderedReady", serviceName="other")
    live["spec"]["selector"] = {"matchLabels": {"old": "selector"}}
    live["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] = "9Gi"
    assert settle(STATEFUL_SET, observed(live), OWNER) is None, "immutable parts alone are no difference"

    live["spec"]["replicas"] = 1
    action = settle(STATEFUL_SET, observed(live), OWNER)
    assert isinstance(action, Apply)
    assert action.uid == "u"
    for part in FROZEN:
        assert action.body["spec"][part] == live["spec"][part]
    assert action.body["spec"]["replicas"] == 3
    # The result of the apply needs no further one.
    after = served({**copy.deepcopy(dict(action.body))})
    assert settle(STATEFUL_SET, observed(after), OWNER) is None


def test_of_metadata_only_kinds_metadata_is_compared() -> None:
    live = live_of(CONFIG_MAP)
    assert not differs(CONFIG_MAP, observed(live, metadata_only=True))
    live["metadata"]["labels"]["cluster"] = "other"
    assert differs(CONFIG_MAP, observed(live, metadata_only=True))


# --- Secrets with recipes --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dice:
    sides: int
    needs: tuple[str, ...] = ()

    def printed(self) -> Mapping[str, Any]:
        return {
            "dice": self.sides,
            "thrown": ("once", frozenset({"b", "a"})),
            "since": datetime(2026, 1, 1, tzinfo=UTC),
        }

    def fulfil(self, inputs: Inputs) -> Mapping[str, bytes]:
        raise NotImplementedError


SECRET: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Secret",
    "type": "Opaque",
    "metadata": {
        "name": "s",
        "namespace": "team",
        "labels": {"a": "1", "b": "2"},
        "annotations": {"n": "x"},
        "ownerReferences": [dict(OWNER_REFERENCE)],
    },
}


def test_labels_and_owners_do_not_remake_the_content() -> None:
    seen = observed(served(stamped(SECRET, Dice(6))))
    other = copy.deepcopy(SECRET)
    other["metadata"].update(labels={"c": "3"}, ownerReferences=[])
    assert not recipe_differs(other, Dice(6), seen)
    assert recipe_differs(SECRET, Dice(20), seen)
    assert recipe_differs({**SECRET, "type": "kubernetes.io/tls"}, Dice(6), seen)


def test_metadata_in_order_needs_no_patch() -> None:
    assert metadata_patch(SECRET, observed(served(stamped(SECRET, Dice(6))))) is None


def test_the_metadata_patch_sets_adds_and_removes_ours_only() -> None:
    live = served(stamped(SECRET, Dice(6)))
    live["metadata"]["labels"].update(a="spoilt", others="label")
    live["metadata"]["annotations"]["others"] = "note"
    stranger = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "stranger"}
    live["metadata"]["ownerReferences"] = [stranger]
    wanted = copy.deepcopy(SECRET)
    wanted["metadata"]["labels"] = {"a": "1", "c": "3"}
    wanted["metadata"]["annotations"] = {}

    patch = metadata_patch(wanted, observed(live))
    assert patch is not None
    assert (patch.uid, patch.resource_version) == ("u", "7")
    assert patch.labels == {"a": "1", "c": "3", "b": None}
    assert dict(patch.annotations) == {
        "n": None,
        OWN_METADATA_ANNOTATION: '{"annotations":[],"labels":["a","c"]}',
    }
    assert patch.owner_references == (stranger, OWNER_REFERENCE)

    # Carried out, it is in order.
    for field, changes in (("labels", patch.labels), ("annotations", patch.annotations)):
        for key, value in changes.items():
            live["metadata"][field].pop(key, None)
            if value is not None:
                live["metadata"][field][key] = value
    live["metadata"]["ownerReferences"] = list(patch.owner_references)
    assert metadata_patch(wanted, observed(live)) is None


@pytest.mark.parametrize("note", ["", "{", "[]", '{"labels": 3}', '{"labels": [1, "a"]}'])
def test_a_spoilt_note_is_written_anew_and_removes_nothing(note: str) -> None:
    live = served(stamped(SECRET, Dice(6)))
    live["metadata"]["annotations"][OWN_METADATA_ANNOTATION] = note
    patch = metadata_patch(SECRET, observed(live))
    assert patch is not None
    assert dict(patch.labels) == {}
    assert set(patch.annotations) == {OWN_METADATA_ANNOTATION}
