"""Admission: what is refused, with field, fault and remedy; what is not refused though it is wrong."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from hosted_cp.api.kinds import VERSIONED
from hosted_cp.k0s import versions
from hosted_cp.webhooks import admission
from hosted_cp.webhooks.admission import TOPOLOGY_DRY_RUN, Context, review
from tests.component.hosting import CATALOGUE

CONTEXT = Context(catalogue=CATALOGUE)
GROUPS = {each.hub.__name__: each.hub.group for each in VERSIONED}

#: The least that each kind takes.
GOOD: dict[str, Any] = {
    "Cluster": {"replicas": 1, "service": {"type": "NodePort"}},
    "JoinTokenRequest": {"clusterName": "demo", "expiry": "1h"},
    "K0smotronControlPlane": {"version": "v1.36.3+k0s"},
    "K0smotronControlPlaneTemplate": {"template": {"spec": {"replicas": 1}}},
    "K0sWorkerConfig": {"version": "v1.27.2+k0s.0", "args": ["--debug"]},
    "K0sWorkerConfigTemplate": {"template": {"spec": {"args": ["--debug"]}}},
}
#: spec, field that is named, a word of the fault, a word of the remedy.
BAD: list[tuple[str, Any, str, str, str]] = [
    ("Cluster", {"replicas": 0}, "spec.replicas", "no control plane runs", "set 1 or more"),
    ("Cluster", {"replicas": "one"}, "spec.replicas", "valid integer", "write a whole number"),
    ("Cluster", {"version": "v1.20.1"}, "spec.version", "older than what can be hosted", "use a version of"),
    ("Cluster", {"controlPlaneFlags": ["--single"]}, "spec.controlPlaneFlags[0]", "runs no workers", "remove it"),
    ("Cluster", {"externalAddress": "https://a"}, "spec.externalAddress", "neither", "write the address alone"),
    ("Cluster", {"image": "a:5000/k0s:v1.36.3-k0s.2"}, "spec.image", "names a tag", "the repository alone"),
    (
        "Cluster",
        {"k0sConfig": {"apiVersion": "k0s.k0sproject.io/v1beta1", "spec": {"netwrok": {}}}},
        "spec.k0sConfig.spec.netwrok",
        "does not know this field",
        "did you mean network?",
    ),
    (
        "Cluster",
        {"storage": {"type": "etcd", "etcd": {"args": ["--data-dir=/x"]}}},
        "spec.storage.etcd.args[0]",
        "is the operator's to set",
        "leave it out",
    ),
    ("K0smotronControlPlane", {"controlPlaneFlags": ["--singel"]}, "spec.controlPlaneFlags[0]", "", "did you mean"),
    ("JoinTokenRequest", {"clusterName": "a", "expiry": "soon"}, "spec.expiry", "", "write how long"),
    ("JoinTokenRequest", {}, "spec.clusterName", "is missing", "add it"),
    ("K0smotronControlPlane", {"version": "one"}, "spec.version", "no version of k0s", "as the kubelet reports it"),
    (
        "K0smotronControlPlane",
        {"controlPlaneEndpoint": {"host": "a b", "port": 6443}},
        "spec.controlPlaneEndpoint.host",
        "neither an IP address nor a DNS name",
        "write the address alone",
    ),
    (
        "K0smotronControlPlaneTemplate",
        {"template": {"spec": {"persistence": {"type": "pvc"}}}},
        "spec.template.spec.persistence.persistentVolumeClaim",
        "is missing",
        "add it",
    ),
    ("K0sWorkerConfig", {"files": [{"path": "a", "content": ""}]}, "spec.files[0].path", "no absolute", "whole path"),
    (
        "K0sWorkerConfigTemplate",
        {"template": {"spec": {"args": ["--token-file=/x"]}}},
        "spec.template.spec.args[0]",
        "is set already",
        "leave it out",
    ),
    ("K0sWorkerConfigTemplate", {"template": {"spec": {"args": "x"}}}, "spec.template.spec.args", "tuple", "a list"),
]


def obj(kind: str, spec: Any, **more: Any) -> dict[str, Any]:
    metadata = {"name": "demo", "namespace": "here", **more.pop("metadata", {})}
    return {"apiVersion": f"{GROUPS[kind]}/v1beta2", "kind": kind, "metadata": metadata, "spec": spec, **more}


def asked(new: dict[str, Any], old: dict[str, Any] | None = None, **request: Any) -> dict[str, Any]:
    """The response to the question about creating `new`, or making `old` it."""
    body = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "kind": {"group": GROUPS[new["kind"]], "version": "v1beta2", "kind": new["kind"]},
            "operation": "CREATE" if old is None else "UPDATE",
            "object": new,
            "oldObject": old,
            "dryRun": False,
            **request,
        },
    }
    before = copy.deepcopy(body)
    answer = review(body, CONTEXT)
    assert body == before
    assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response: dict[str, Any] = answer["response"]
    assert response["uid"] == "u-1"
    assert response["allowed"] is ("status" not in response)
    return response


@pytest.mark.parametrize("kind", GOOD)
def test_what_is_good_is_let_in_without_a_word(kind: str) -> None:
    assert asked(obj(kind, GOOD[kind])) == {"uid": "u-1", "allowed": True}
    assert asked(obj(kind, GOOD[kind], metadata={"labels": {"a": "b"}}), obj(kind, GOOD[kind]))["allowed"]


@pytest.mark.parametrize(("kind", "spec", "field", "fault", "remedy"), BAD)
def test_what_is_bad_is_refused_with_field_fault_and_remedy(
    kind: str, spec: Any, field: str, fault: str, remedy: str
) -> None:
    status = asked(obj(kind, spec))["status"]
    assert (status["code"], status["reason"]) == (422, "Invalid")
    said = {each["field"]: each["message"] for each in status["details"]["causes"]}
    assert fault in said[field]
    assert remedy in said[field]
    assert f"{field}: {said[field]}" in status["message"]


@pytest.mark.parametrize(("kind", "spec", "field", "fault", "remedy"), BAD)
def test_what_is_stored_can_be_kept_changed_elsewhere_and_deleted(
    kind: str, spec: Any, field: str, fault: str, remedy: str
) -> None:
    old = obj(kind, spec, metadata={"finalizers": ["a/b"]})
    assert asked(obj(kind, spec, metadata={"annotations": {"a": "b"}}), old) == {"uid": "u-1", "allowed": True}
    going = obj(kind, {**GOOD[kind], **spec}, metadata={"deletionTimestamp": "2026-11-21T10:00:00Z"})
    assert asked(going, old)["allowed"]
    for operation in ("DELETE", "CONNECT"):
        assert asked(old, old, operation=operation)["allowed"]
    assert asked(old, obj(kind, GOOD[kind]), subResource="status")["allowed"]


def test_a_fault_that_stands_already_is_warned_of_and_a_new_one_refused() -> None:
    old = obj("Cluster", {"version": "v1.20.1"})
    more = asked(obj("Cluster", {"version": "v1.20.1", "replicas": 2}), old)
    assert more["allowed"]
    assert "spec.version: k0s v1.20.1" in more["warnings"][0]
    assert more["warnings"][0].endswith("(as before)")
    worse = asked(obj("Cluster", {"version": "v1.20.1", "replicas": 0}), old)
    assert [each["field"] for each in worse["status"]["details"]["causes"]] == ["spec.replicas"]
    assert asked(obj("Cluster", {"version": "v1.36.3"}), old)["allowed"]


@pytest.mark.parametrize("depth", [admission.DEEPEST + 1, 900])
def test_a_spec_that_no_other_version_could_be_read_of_is_refused(depth: int) -> None:
    def config(levels: int, **more: Any) -> dict[str, Any]:
        deep: Any = []
        for _ in range(levels):
            deep = {"a": deep}
        return obj("Cluster", {"k0sConfig": deep, **more})

    [cause] = asked_deep(config(depth))["status"]["details"]["causes"]
    assert cause["field"] == "spec.k0sConfig"
    assert cause["message"] == f"is nested more than {admission.DEEPEST} levels deep; write it flatter"
    assert asked_deep(config(depth), config(3))["allowed"] is False
    kept = asked_deep(config(depth, replicas=2), config(depth))
    assert kept["allowed"]
    assert kept["warnings"] == [f"spec.k0sConfig: {cause['message']} (as before)"]
    assert asked_deep(config(3), config(depth))["allowed"]


def asked_deep(new: dict[str, Any], old: dict[str, Any] | None = None) -> dict[str, Any]:
    request = {"uid": "u", "operation": "UPDATE" if old else "CREATE", "object": new, "oldObject": old}
    request["kind"] = {"group": GROUPS["Cluster"], "version": "v1beta2", "kind": "Cluster"}
    response: dict[str, Any] = review({"request": request}, CONTEXT)["response"]
    return response


def test_what_a_tenant_keeps_for_life_cannot_change() -> None:
    old = obj("Cluster", {})
    for spec, field in (
        ({"storage": {"type": "kine", "kine": {"dataSourceSecretName": "a"}}}, "spec.storage.type"),
        ({"k0sConfig": _config(podCIDR="10.9.0.0/16")}, "spec.k0sConfig.spec.network.podCIDR"),
    ):
        for kind in ("Cluster", "K0smotronControlPlane"):
            status = asked(obj(kind, spec), obj(kind, old["spec"]))["status"]
            assert field in [each["field"] for each in status["details"]["causes"]]


def _config(**network: str) -> dict[str, Any]:
    return {"apiVersion": "k0s.k0sproject.io/v1beta1", "spec": {"network": network}}


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("Cluster", {"version": "v1.36.3+k0s.2", "initialized": True}),
        (
            "K0smotronControlPlane",
            {"k0sVersion": "v1.36.3+k0s.2", "initialization": {"controlPlaneInitialized": True}},
        ),
    ],
)
def test_a_version_goes_up_one_minor_at_a_time_once_the_api_has_served(kind: str, status: Any) -> None:
    served = obj(kind, {"version": "v1.36.3+k0s.2"}, status=status)
    assert "cannot go back" in asked(obj(kind, {"version": "v1.35.4+k0s.0"}), served)["status"]["message"]
    assert asked(obj(kind, {"version": "v1.36.4+k0s.0"}), served)["allowed"]
    # Before that, a version that was never to be had can be corrected.
    new = obj(kind, {"version": "v1.36.99"}, status={})
    assert asked(obj(kind, {"version": "v1.35.4+k0s.0"}), new)["allowed"]


def test_the_same_kubernetes_without_a_packaging_is_no_step_back() -> None:
    status = {"k0sVersion": "v1.36.3+k0s.2", "initialization": {"controlPlaneInitialized": True}}
    old = obj("K0smotronControlPlane", {"version": "v1.36.3+k0s.2"}, status=status)
    assert asked(obj("K0smotronControlPlane", {"version": "v1.36.3+k0s"}), old)["allowed"]


@pytest.mark.parametrize("kind", ["K0smotronControlPlaneTemplate", "K0sWorkerConfigTemplate"])
def test_templates_do_not_change_except_in_a_topologys_dry_run(kind: str) -> None:
    old = obj(kind, GOOD[kind])
    spec = {
        "template": {"spec": {**GOOD[kind]["template"]["spec"], "image" if "Plane" in kind else "workingDir": "/a"}}
    }
    status = asked(obj(kind, spec), old)["status"]
    assert "spec.template.spec: cannot be changed" in status["message"]
    assert f"create another {kind} and refer to that" in status["message"]
    trial = obj(kind, spec, metadata={"annotations": {TOPOLOGY_DRY_RUN: ""}})
    assert asked(trial, old, dryRun=True)["allowed"]
    # Neither is enough alone.
    assert not asked(obj(kind, spec), old, dryRun=True)["allowed"]
    assert not asked(trial, old)["allowed"]
    # What is copied to what is made from it may change, and an empty spec may come.
    labelled = obj(kind, {"template": {"metadata": {"labels": {"a": "b"}}, **GOOD[kind]["template"]}})
    assert asked(labelled, old)["allowed"]


def test_what_does_nothing_is_warned_of() -> None:
    ingress = {"apiHost": "a", "konnectivityHost": "b"}
    assert "spec.ingress: is not supported" in asked(obj("Cluster", {"ingress": ingress}))["warnings"][0]
    plain = asked(obj("K0smotronControlPlane", {"version": "v1.36.3"}))
    assert "kubelets report v1.36.3+k0s" in plain["warnings"][0]
    assert all(len(each) <= 250 for each in plain["warnings"])
    template = {"template": {"spec": {"preInstalledK0s": True, "downloadURL": "https://a/b"}}}
    said = asked(obj("K0sWorkerConfigTemplate", template))["warnings"]
    assert said[0].startswith("spec.template.spec.downloadURL: ")


def test_a_token_for_another_namespace_is_refused() -> None:
    elsewhere = {"annotations": {"k0smotron.io/cluster-ref-namespace": "there"}}
    status = asked(obj("JoinTokenRequest", GOOD["JoinTokenRequest"], metadata=elsewhere))["status"]
    assert "in the namespace there" in status["message"]


def test_a_control_plane_is_judged_by_the_name_of_its_cluster() -> None:
    long = "a" * 60
    for metadata in (
        {"labels": {"cluster.x-k8s.io/cluster-name": long}},
        {"ownerReferences": [{"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "name": long}]},
    ):
        status = asked(obj("K0smotronControlPlane", {}, metadata=metadata))["status"]
        assert f"Cluster {long}: has 60 characters" in status["message"]
    assert asked(obj("K0smotronControlPlane", {}, metadata={"name": long}))["allowed"]


def test_a_generated_name_is_no_fault() -> None:
    body = obj("Cluster", {})
    del body["metadata"]["name"]
    body["metadata"]["generateName"] = "demo-"
    assert asked(body)["allowed"]


def test_a_refusal_names_the_object_among_those_of_a_manifest() -> None:
    body = obj("Cluster", {"replicas": 0})
    about = {"group": "k0smotron.io", "kind": "Cluster", "name": "demo"}
    details = asked(body)["status"]["details"]
    assert {key: details[key] for key in about} == about
    body["metadata"] = {"generateName": "tenant-"}
    assert asked(body)["status"]["details"]["name"] == "tenant-"


@pytest.mark.parametrize("kind", ["Cluster", "K0smotronControlPlane"])
def test_one_fault_of_a_k0s_config_is_told_once(kind: str) -> None:
    for config, field in (
        ({"apiVersion": "k0s.k0sproject.io/v1"}, "spec.k0sConfig.apiVersion"),
        (_config(podCIDR="10.0.0.0"), "spec.k0sConfig.spec.network.podCIDR"),
    ):
        causes = asked(obj(kind, {"k0sConfig": config}))["status"]["details"]["causes"]
        assert [each["field"] for each in causes] == [field]


@pytest.mark.parametrize("version", ["v1.20.1", "one", "v1.36.3", "", None])
def test_a_k0s_config_is_judged_whatever_the_version_is(version: str | None) -> None:
    config = {"apiVersion": "k0s.k0sproject.io/v1beta1", "spec": {"netwrok": {}}}
    for kind in ("Cluster", "K0smotronControlPlane"):
        status = asked(obj(kind, {"version": version, "k0sConfig": config}))["status"]
        assert "spec.k0sConfig.spec.netwrok" in [each["field"] for each in status["details"]["causes"]]


def test_fields_and_flags_are_those_of_the_release_that_runs() -> None:
    newest = "v1.36.3+k0s.2"
    flags = [flag for flag in versions.parse(newest).flags if flag not in versions.parse("v1.33.7+k0s.0").flags]
    for kind, status in (
        ("Cluster", {"version": "v1.33.7+k0s.0", "initialized": True}),
        (
            "K0smotronControlPlane",
            {"k0sVersion": "v1.33.7+k0s.0", "initialization": {"controlPlaneInitialized": True}},
        ),
    ):
        spec = {"controlPlaneFlags": [f"--{flags[0]}"]}
        old = obj(kind, {}, status=status)
        assert f"does not know the flag --{flags[0]}" in asked(obj(kind, spec), old)["status"]["message"]
        assert "does not know" not in str(asked(obj(kind, spec)))


def test_so_many_faults_are_told_and_how_many_more_there_are() -> None:
    spec = {"files": [{"path": f"x{number}"} for number in range(30)]}
    status = asked(obj("K0sWorkerConfig", spec))["status"]
    assert len(status["details"]["causes"]) == 20
    assert status["message"].endswith("and 40 more faults")


@pytest.mark.parametrize("body", [None, [], {}, {"request": None}, {"request": "x"}, "x", 1])
def test_what_is_no_review_is_refused(body: object) -> None:
    response = review(body, CONTEXT)["response"]
    assert not response["allowed"]
    assert "no AdmissionReview" in response["status"]["message"]


def test_another_kind_is_refused_by_name() -> None:
    body = obj("Cluster", {})
    response = asked(body, kind={"group": "k0smotron.io", "version": "v1beta1", "kind": "Cluster"})
    assert "k0smotron.io/v1beta1 Cluster" in response["status"]["message"]


def test_no_value_of_a_field_that_may_hold_a_password_is_quoted() -> None:
    dsn = "postgres://u:hunter2@"
    for kind in ("Cluster", "K0smotronControlPlane"):
        spec = {"storage": {"type": "kine", "kine": {"dataSourceURL": dsn}}}
        assert "hunter2" not in str(asked(obj(kind, spec)))
