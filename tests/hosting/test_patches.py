"""The user's patches: what they may change, what they may not, and how they are refused.

That they do what a real API server does is shown by tests/component/test_merging.py.
"""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.api.cluster import Patch, PatchContent, PatchTarget
from hosted_cp.hosting.patch_types import PatchError, apply
from hosted_cp.hosting.patches import apply_patch, apply_patches
from hosted_cp.hosting.tenant import Tenant
from hosted_cp.hosting.wanted import Wanted
from tests.planning.samples import NETWORK_POLICY, SERVICE, STATEFUL_SET


def body_of(sample: dict[str, Any] = STATEFUL_SET) -> dict[str, Any]:
    body = copy.deepcopy(sample)
    body["metadata"]["labels"]["app.kubernetes.io/component"] = "control-plane"
    body["metadata"]["labels"]["hosted-cp.io/tenant-uid"] = "uid"
    return body


def pod(**fields: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": fields}}}


def controller(**fields: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "controller", **fields}])


def patched(patch: Any, *, type: str = "strategic", sample: Any = STATEFUL_SET, privileged: bool = False) -> Any:
    return apply_patch(body_of(sample), type=type, content=json.dumps(patch), privileged=privileged)


# --- what they may -----------------------------------------------------------------------------------------------


def test_the_content_is_yaml_or_json_and_the_object_stays_as_it_was() -> None:
    body = body_of()
    before = copy.deepcopy(body)
    for type, content in (
        ("strategic", "spec: {template: {spec: {priorityClassName: high}}}"),
        ("merge", '{"spec": {"template": {"spec": {"priorityClassName": "high"}}}}'),
        ("json", "- {op: add, path: /spec/template/spec/priorityClassName, value: high}"),
    ):
        assert apply_patch(body, type=type, content=content)["spec"]["template"]["spec"]["priorityClassName"] == "high"
    assert body == before


@pytest.mark.parametrize(
    "patch",
    [
        {"metadata": {"labels": {"team": "blue"}, "annotations": {"a": "b"}}},
        {"spec": {"template": {"metadata": {"labels": {"team": "blue"}}}}},
        pod(
            containers=[{"name": "sidecar", "image": "i", "securityContext": {"runAsUser": 1000, "runAsNonRoot": True}}]
        ),
        pod(volumes=[{"name": "more", "configMap": {"name": "c"}}]),
        controller(resources={"limits": {"memory": "4Gi"}}),
        controller(securityContext={"capabilities": {"add": ["CHOWN"]}}),
        pod(tolerations=[{"operator": "Exists"}], hostAliases=[{"ip": "10.0.0.1", "hostnames": ["db"]}]),
        pod(hostUsers=False),
    ],
)
def test_ordinary_wishes_are_granted(patch: Any) -> None:
    assert patched(patch) != body_of()


# --- what they may not ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "patch", "what"),
    [
        ("merge", {"metadata": {"name": "other"}}, "metadata.name"),
        ("merge", {"metadata": {"namespace": "kube-system"}}, "metadata.namespace"),
        ("merge", {"metadata": {"namespace": None}}, "metadata.namespace"),
        ("merge", {"kind": "DaemonSet"}, "kind"),
        ("merge", {"apiVersion": "apps/v2"}, "apiVersion"),
        ("merge", {"metadata": {"ownerReferences": []}}, "metadata.ownerReferences"),
        ("json", [{"op": "remove", "path": "/metadata/ownerReferences"}], "metadata.ownerReferences"),
        ("json", [{"op": "replace", "path": "", "value": {}}], "metadata"),
        ("strategic", {"metadata": {"ownerReferences": [{"uid": "x", "name": "y"}]}}, "metadata.ownerReferences"),
        ("strategic", {"metadata": {"finalizers": ["a/b"]}}, "metadata.finalizers"),
        ("strategic", {"$patch": "delete"}, "metadata"),
        ("merge", {"spec": {"selector": {"matchLabels": {"app": "x"}}}}, "spec.selector"),
        ("merge", {"metadata": {"labels": {"cluster": "x"}}}, "metadata.labels[cluster]"),
        ("merge", {"metadata": {"labels": None}}, "metadata.labels[app]"),
        (
            "merge",
            {"metadata": {"labels": {"hosted-cp.io/tenant-uid": "x"}}},
            "metadata.labels[hosted-cp.io/tenant-uid]",
        ),
        ("merge", {"metadata": {"annotations": {"hosted-cp.io/desired-hash": "x"}}}, "hosted-cp.io/desired-hash"),
        ("merge", {"metadata": {"annotations": {"k0smotron.io/x": "x"}}}, "k0smotron.io/x"),
        ("merge", {"spec": {"template": {"metadata": {"labels": {"app": "x"}}}}}, "spec.template.metadata.labels[app]"),
        (
            "merge",
            {"spec": {"template": {"metadata": {"annotations": {"hosted-cp.io/config": "x"}}}}},
            "hosted-cp.io/config",
        ),
        (
            "json",
            [
                {
                    "op": "add",
                    "path": "/spec/volumeClaimTemplates/0/spec/dataSourceRef",
                    "value": {"kind": "PersistentVolumeClaim", "name": "theirs", "namespace": "others"},
                }
            ],
            "refers to another namespace",
        ),
        (
            "strategic",
            pod(
                volumes=[
                    {
                        "name": "e",
                        "ephemeral": {"volumeClaimTemplate": {"spec": {"dataSourceRef": {"namespace": "others"}}}},
                    }
                ]
            ),
            "refers to another namespace",
        ),
    ],
)
def test_whose_an_object_is_stays_ours_even_in_privileged_namespaces(type: str, patch: Any, what: str) -> None:
    with pytest.raises(PatchError) as caught:
        patched(patch, type=type, privileged=True)
    assert what in str(caught.value)


ESCALATIONS = [
    pod(hostNetwork=True),
    pod(hostPID=True),
    pod(hostIPC=True),
    pod(serviceAccountName="admin"),
    pod(serviceAccount="admin"),
    pod(automountServiceAccountToken=True),
    pod(automountServiceAccountToken=None),
    pod(nodeName="control-plane"),
    pod(volumes=[{"name": "host", "hostPath": {"path": "/"}}]),
    pod(volumes=[{"name": "run", "emptyDir": None, "hostPath": {"path": "/"}}]),
    pod(volumes=[{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]),
    pod(securityContext={"seccompProfile": {"type": "Unconfined"}}),
    pod(securityContext=None),
    pod(securityContext={"sysctls": [{"name": "kernel.x", "value": "1"}]}),
    controller(securityContext={"privileged": True}),
    controller(securityContext={"allowPrivilegeEscalation": True}),
    controller(securityContext={"allowPrivilegeEscalation": None}),
    controller(securityContext={"readOnlyRootFilesystem": False}),
    controller(securityContext={"capabilities": {"add": ["CHOWN", "SYS_ADMIN"]}}),
    controller(securityContext={"capabilities": {"drop": None}}),
    controller(securityContext=None),
    controller(securityContext={"procMount": "Unmasked"}),
    controller(securityContext={"seccompProfile": {"type": "Unconfined"}}),
    controller(ports=[{"containerPort": 6443, "hostPort": 6443}]),
    pod(containers=[{"name": "new", "image": "i", "securityContext": {"privileged": True}}]),
    pod(initContainers=[{"name": "new", "image": "i", "securityContext": {"runAsUser": 0}}]),
    pod(containers=[{"name": "new", "image": "i", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}]),
]


@pytest.mark.parametrize("patch", ESCALATIONS, ids=lambda patch: json.dumps(patch["spec"]["template"]["spec"])[:80])
def test_what_reaches_the_node_needs_a_namespace_that_was_opened(patch: Any) -> None:
    with pytest.raises(PatchError, match="needs a namespace that the administrator opened"):
        patched(patch)
    assert patched(patch, privileged=True) != body_of()


@pytest.mark.parametrize(
    "spec", [{"externalIPs": ["203.0.113.1"]}, {"type": "ExternalName", "externalName": "db.x.svc"}]
)
def test_services_that_take_the_traffic_of_others(spec: Any) -> None:
    with pytest.raises(PatchError, match="administrator opened"):
        patched({"spec": spec}, sample=SERVICE)


def test_the_pods_of_a_policy_stay_ours() -> None:
    with pytest.raises(PatchError, match=r"spec\.podSelector"):
        patched({"spec": {"podSelector": None}}, type="merge", sample=NETWORK_POLICY)


# --- how they are refused ----------------------------------------------------------------------------------------


def tenant(*patches: tuple[str, str, str, str], privileged: bool = False) -> Tenant:
    spec = SimpleNamespace(
        patches=tuple(
            Patch(
                target=PatchTarget(kind=kind, component=component),
                patch=PatchContent(type=cast(Any, type), content=content),
            )
            for kind, component, type, content in patches
        )
    )
    return cast(Tenant, SimpleNamespace(spec=spec, view=SimpleNamespace(privileged=privileged)))


def test_patches_are_applied_in_order_to_the_objects_they_name() -> None:
    wanted = [Wanted(body=body_of()), Wanted(body=body_of(SERVICE))]
    t = tenant(
        ("StatefulSet", "control-plane", "merge", "metadata: {labels: {x: '1'}}"),
        ("StatefulSet", "etcd", "merge", "metadata: {labels: {x: '2'}}"),
        ("StatefulSet", "control-plane", "json", "[{op: test, path: /metadata/labels/x, value: '1'}]"),
    )
    found, problems = apply_patches(t, wanted)
    assert problems == []
    assert found[0].body["metadata"]["labels"]["x"] == "1"
    assert found[1] == wanted[1]
    assert apply_patches(tenant(), wanted) == (wanted, [])


@pytest.mark.parametrize(
    ("type", "content", "says"),
    [
        ("json", "[{op: remove, path: /spec/nothing}]", "operation 0: nothing is at /spec/nothing"),
        ("json", "{}", "the patch is no list of operations"),
        ("json", "[{op: add, path: /spec/x}]", "operation 0: add needs a value"),
        ("json", "[{op: test, path: /spec/replicas, value: true}]", "the test of /spec/replicas fails"),
        ("strategic", "[]", "the patch is no mapping"),
        (
            "strategic",
            "spec: {template: {spec: {containers: [{image: x}]}}}",
            "lacks name, by which items are told apart",
        ),
        ("merge", "a: [", "its content cannot be read"),
        ("merge", "a: &x 1\nb: *x", "YAML alias"),
        ("merge", "[" * 100_000, "nested deeper"),
        ("merge", "metadata: {name: x}", "it changes metadata.name, which is the operator's"),
    ],
)
def test_a_refused_patch_is_named_by_its_index(type: str, content: str, says: str) -> None:
    t = tenant(("Service", "x", "merge", "{}"), ("StatefulSet", "control-plane", type, content))
    _, [problem] = apply_patches(t, [Wanted(body=body_of())])
    assert problem.field == "spec.patches[1]"
    assert problem.fault.startswith(
        f"apply patch at index 1 (type={type}, kind=StatefulSet, component=control-plane): "
    )
    assert says in problem.fault


def test_secrets_that_the_operator_fills_cannot_be_patched() -> None:
    body = {**body_of(SERVICE), "kind": "Secret"}
    t = tenant(("Secret", "control-plane", "merge", "metadata: {labels: {x: y}}"))
    _, [problem] = apply_patches(t, [Wanted(body=body, recipe=cast(Any, object()))])
    assert "cannot be patched" in problem.fault


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(["", "controller", "replace", "delete", "/spec/0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "spec",
                    "metadata",
                    "labels",
                    "template",
                    "containers",
                    "name",
                    "env",
                    "$patch",
                    "$retainKeys",
                    "op",
                    "path",
                    "$setElementOrder/env",
                    "$deleteFromPrimitiveList/finalizers",
                    "finalizers",
                    "securityContext",
                    "value",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(junk, st.sampled_from(["json", "merge", "strategic"]))
def test_junk_is_refused_or_applied_but_ends_nothing(patch: Any, type: str) -> None:
    body = body_of()
    before = copy.deepcopy(body)
    try:
        result = apply_patch(body, type=type, content=json.dumps(patch))
    except PatchError:
        pass
    else:
        assert result["metadata"]["name"] == before["metadata"]["name"]
    assert body == before


@given(junk)
def test_a_merge_patch_applied_twice_is_the_same_as_once(patch: Any) -> None:
    if isinstance(patch, dict):
        once = apply(body_of(), type="merge", patch=patch)
        assert apply(once, type="merge", patch=patch) == once
