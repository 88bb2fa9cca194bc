"""What is not ours: a running k0smotron's tenant, objects of others under our names, former lives, other namespaces;
and deletion where everything that it could depend on is broken."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.errors import ApiError
from hosted_cp.kube.resources import (
    CLUSTER,
    CONFIG_MAP,
    JOIN_TOKEN_REQUEST,
    PERSISTENT_VOLUME_CLAIM,
    POD_DISRUPTION_BUDGET,
    SECRET,
    SERVICE,
    STATEFUL_SET,
    Resource,
)
from tests.component.hosting import Object, Stage, conditions, minted
from tests.component.test_client import credentials_of
from tests.component.test_invariants_crashes import assert_nothing_is_left

RESOURCE_QUOTA = Resource(group="", version="v1", kind="ResourceQuota", plural="resourcequotas")
SHAPES = ("Service", "Secret", "ConfigMap", "StatefulSet")


def reason(wanted: str) -> Any:
    """Whether a Cluster is not Available for this reason."""
    return lambda body: conditions(body).get("Available", {}).get("reason") == wanted


# -- a running k0smotron ---------------------------------------------------------------------------------------------


def k0smotrons(name: str, namespace: str, uid: str) -> list[tuple[Resource, Object]]:
    """Children of a tenant as k0smotron 2.1 makes them, as far as anybody could mistake them for ours."""
    labels = {"app": "k0smotron", "cluster": name, "component": "cluster"}
    owner = {
        "apiVersion": "k0smotron.io/v1beta2", "kind": "Cluster", "name": name, "uid": uid, "controller": True,
        "blockOwnerDeletion": True,
    }  # fmt: skip

    def body(kind: str, child: str, **rest: Any) -> Object:
        api = "apps/v1" if kind == "StatefulSet" else "v1"
        metadata = {"name": child, "namespace": namespace, "labels": dict(labels), "ownerReferences": [owner]}
        return {"apiVersion": api, "kind": kind, "metadata": metadata, **rest}

    selector = {**labels, "cluster.x-k8s.io/control-plane": "true"}
    controller = {
        "name": "controller",
        "image": "quay.io/k0sproject/k0s:v1.35.4-k0s.0",
        "args": ["/bin/sh", "-c", "/k0smotron-entrypoint.sh"],
        "envFrom": [{"configMapRef": {"name": f"kmc-{name}-config"}}],
    }
    workload = body(
        "StatefulSet",
        f"kmc-{name}",
        spec={
            "replicas": 1,
            "serviceName": f"kmc-{name}",
            "selector": {"matchLabels": selector},
            "template": {
                "metadata": {"labels": selector},
                "spec": {"automountServiceAccountToken": False, "containers": [controller]},
            },
        },
    )
    workload["metadata"]["annotations"] = {"k0smotron.io/statefulset-hash": "4f5c"}
    ports = [{"name": "api", "port": 30443, "targetPort": 30443}]
    return [
        (SERVICE, body("Service", f"kmc-{name}-nodeport", spec={"type": "NodePort", "selector": selector,
                                                                "ports": ports})),
        (SECRET, body("Secret", f"{name}-ca", type="cluster.x-k8s.io/secret", stringData={"tls.crt": "theirs"})),
        (SECRET, body("Secret", f"{name}-kubeconfig", stringData={"value": "theirs"})),
        (CONFIG_MAP, body("ConfigMap", f"kmc-{name}-config", data={"K0SMOTRON_K0S_YAML": "theirs"})),
        (STATEFUL_SET, workload),
    ]  # fmt: skip


async def test_a_tenant_of_a_running_k0smotron_gets_no_write(stage: Stage) -> None:
    theirs = await stage.create("a", finalizers=["k0smotron.io/finalizer"])
    async with ApiClient(credentials_of(stage.server.admin), agent="k0smotron") as client:
        for resource, body in k0smotrons("a", stage.namespace, theirs["metadata"]["uid"]):
            await client.apply(resource, body, manager="k0smotron-operator")
    since = stage.audit.mark()
    async with stage.operating() as operator:
        await stage.until(CLUSTER, ["a"], reason("TakeOverRequired"))
        await stage.change("a", {"replicas": 2})
        await stage.rest(operator)
        await stage.admin.delete(CLUSTER, stage.namespace, "a")
        await stage.rest(operator)
        written = stage.requests(since, without=("list", "watch"))
        assert {(each.resource, each.subresource) for each in written} == {("clusters", "status"), ("events", "")}
        left = await stage.find(CLUSTER, "a")
        assert left is not None
        assert left["metadata"]["finalizers"] == ["k0smotron.io/finalizer"], "its end is k0smotron's, too"
        for resource, body in k0smotrons("a", stage.namespace, theirs["metadata"]["uid"]):
            live = await stage.admin.get(resource, stage.namespace, body["metadata"]["name"])
            managers = {each["manager"] for each in live["metadata"]["managedFields"]}
            assert not {each for each in managers if each.startswith("hosted-cp")}, body["metadata"]["name"]
    await stage.admin.merge_patch(CLUSTER, stage.namespace, "a", {"metadata": {"finalizers": None}})


# -- others, and former lives ----------------------------------------------------------------------------------------


def others(namespace: str) -> dict[str, tuple[Resource, Object]]:
    """Tenant -> an object of somebody else under a name that the tenant needs, early or late."""
    labels = {"of": "somebody-else"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    workload = {"serviceName": "x", "replicas": 0, "selector": {"matchLabels": labels}, "template": pod}
    made: dict[str, tuple[Resource, str, Object]] = {
        "a": (SECRET, "kmc-a-config", {"stringData": {"k": "mine"}}),
        "b": (SERVICE, "kmc-b-etcd", {"spec": {"ports": [{"port": 1}]}}),
        "c": (STATEFUL_SET, "kmc-c", {"spec": workload}),
        "d": (POD_DISRUPTION_BUDGET, "kmc-d", {"spec": {"selector": {"matchLabels": labels}}}),
        "e": (SECRET, "kmc-e-etcd-permit", {"stringData": {"k": "mine"}}),
    }
    return {
        tenant: (
            resource,
            {
                "apiVersion": resource.api_version,
                "kind": resource.kind,
                "metadata": {"name": name, "namespace": namespace},
                **rest,
            },
        )
        for tenant, (resource, name, rest) in made.items()
    }


async def test_what_others_own_stops_everything_and_is_left_alone(stage: Stage) -> None:
    foreign = {
        tenant: (resource, (await stage.admin.create(resource, body)).body["metadata"])
        for tenant, (resource, body) in others(stage.namespace).items()
    }
    since = stage.audit.mark()
    async with stage.operating() as operator:
        for tenant in foreign:
            await stage.create(tenant, {"replicas": 2 if tenant == "d" else 1})
        state = await stage.until(CLUSTER, foreign, reason("NameConflict"))
        for tenant, (_, theirs) in foreign.items():
            assert theirs["name"] in conditions(state[tenant])["Available"]["message"]
        await stage.rest(operator)
        written = stage.requests(since, without=("list", "watch"))
        assert {(each.resource, each.subresource) for each in written} == {("clusters", "status"), ("events", "")}
        await stage.admin.delete(CLUSTER, stage.namespace, "a")
        await stage.gone("a")
        live = (await stage.admin.get(SECRET, stage.namespace, "kmc-a-config"))["metadata"]
        assert (live["uid"], live["resourceVersion"]) == (
            foreign["a"][1]["uid"],
            foreign["a"][1]["resourceVersion"],
        )
        del foreign["a"]
        for resource, theirs in foreign.values():
            await stage.admin.delete(resource, stage.namespace, theirs["name"])
        await stage.available(*foreign)


async def test_a_tenant_made_anew_meets_its_former_life(stage: Stage) -> None:
    async with stage.operating() as operator:
        await stage.create("a")
        await stage.available("a")
        await stage.admin.delete(CLUSTER, stage.namespace, "a")
        await stage.gone("a")
        await assert_nothing_is_left(stage, ["a"])
        since = stage.audit.mark()
        await stage.create("a")
        state = await stage.until(CLUSTER, ["a"], reason("FormerLife"))
        message = conditions(state["a"])["Available"]["message"]
        assert "etcd-data-kmc-a-etcd-0" in message
        assert "Delete the volume claims" in message
        await stage.rest(operator)
        made = [each for each in stage.requests(since) if each.verb == "create" and each.resource != "events"]
        assert made == [], "nothing is minted and nothing started"
        await stage.admin.delete(PERSISTENT_VOLUME_CLAIM, stage.namespace, "etcd-data-kmc-a-etcd-0")
        await stage.available("a")


# -- deletion with everything broken ---------------------------------------------------------------------------------


async def test_deletion_needs_neither_secrets_nor_the_tenant(stage: Stage) -> None:
    async with stage.operating() as operator:
        for name in ("a", "b"):
            await stage.create(name)
            await stage.available(name)
            await stage.ask_token(f"{name}-token", name)
            await stage.until(JOIN_TOKEN_REQUEST, [f"{name}-token"], minted)
        await stage.rest(operator)
    for name in ("a-ca", "kmc-a-config", "a-etcd", "kmc-a-etcd-permit", "a-kubeconfig"):
        await stage.admin.delete(SECRET, stage.namespace, name)
    stage.tenants.down(stage.namespace, "b")
    for name in ("a", "b"):
        await stage.admin.delete(CLUSTER, stage.namespace, name)
    asked = stage.tenants.seen(stage.namespace, "a")
    async with stage.operating():
        await stage.gone("a", "b")
        for name in ("a-token", "b-token"):
            await stage.admin.delete(JOIN_TOKEN_REQUEST, stage.namespace, name)
        await stage.until(JOIN_TOKEN_REQUEST, ["a-token", "b-token"], lambda body: not body)
    assert stage.tenants.seen(stage.namespace, "a") == asked, "a deletion never contacts the tenant"
    await assert_nothing_is_left(stage, ["a", "b"])


async def test_a_token_of_an_unreachable_tenant_says_why_it_stays(stage: Stage) -> None:
    async with stage.operating():
        await stage.create("a")
        await stage.available("a")
        await stage.ask_token("t", "a")
        await stage.until(JOIN_TOKEN_REQUEST, ["t"], minted)
        stage.tenants.down(stage.namespace, "a")
        await stage.admin.delete(JOIN_TOKEN_REQUEST, stage.namespace, "t")
        await stage.until(
            JOIN_TOKEN_REQUEST,
            ["t"],
            lambda body: conditions(body).get("JoinTokenSecretCreated", {}).get("reason") == "RevocationFailed",
        )
        forced = {"metadata": {"annotations": {"hosted-cp.io/force-delete": "true"}}}
        await stage.admin.merge_patch(JOIN_TOKEN_REQUEST, stage.namespace, "t", forced)
        await stage.until(JOIN_TOKEN_REQUEST, ["t"], lambda body: not body)


async def test_a_service_that_is_refused_is_named_heals_and_can_be_deleted(stage: Stage) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": stage.namespace},
        "spec": {"hard": {"count/services": "0"}},
    }
    # The controller that would count is not there; what is refused is refused by the status.
    await stage.admin.create(RESOURCE_QUOTA, quota)
    status = {"status": {"hard": {"count/services": "0"}, "used": {"count/services": "0"}}}
    await stage.admin.merge_patch(RESOURCE_QUOTA, stage.namespace, "none", status, subresource="status")
    async with stage.operating():
        for name in ("a", "b"):
            await stage.create(name)
        state = await stage.until(CLUSTER, ["a", "b"], reason("WriteFailed"))
        assert "exceeded quota: none" in conditions(state["a"])["Available"]["message"]
        await stage.admin.delete(CLUSTER, stage.namespace, "a")
        await stage.gone("a")
        await stage.admin.delete(RESOURCE_QUOTA, stage.namespace, "none")
        await stage.available("b")
        await stage.admin.delete(CLUSTER, stage.namespace, "b")
        await stage.gone("b")


# -- other namespaces ------------------------------------------------------------------------------------------------

#: Places where a schema says "namespace" and the value goes nowhere: each says why.
_CLAIM = ".spec.persistence.persistentVolumeClaim"
HARMLESS = {
    f"{_CLAIM}.metadata.namespace": "claims of a StatefulSet are made in its namespace, whatever their template says",
    f"{_CLAIM}.spec.dataSource.namespace": "the API server knows no such field",
    f"{_CLAIM}.spec.dataSourceRef.namespace": "another one is refused: see `volume from elsewhere` below",
    ".spec.remoteHostCluster.kubeconfigRef.namespace": "not acted on: FieldNotSupported",
    ".spec.kubeconfigRef.namespace": "the same at v1beta1",
    ".spec.clusterRef.namespace": "at v1beta1; another one is refused: `parse_join_token_request`",
    ".spec.template.metadata.namespace": "not used: what is made from a template is made in its namespace",
}


def fields(schema: Object, path: str = "") -> list[str]:
    found = []
    for name, inner in (schema.get("properties") or {}).items():
        found += [f"{path}.{name}", *fields(inner, f"{path}.{name}")]
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            found += fields(schema[part], f"{path}[]")
    return found


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[2] / "crds").glob("*.yaml")), ids=lambda f: f.stem)
def test_no_field_of_our_kinds_names_another_namespace(file: Path) -> None:
    for version in yaml.safe_load(file.read_text(encoding="utf-8"))["spec"]["versions"]:
        named = (each.replace(".spec.template.spec", ".spec") for each in fields(version["schema"]["openAPIV3Schema"]))
        found = [each for each in named if re.search("namespace", each, re.I)]
        assert [each for each in found if each not in HARMLESS] == []


def patch(kind: str, content: str, *, component: str = "control-plane") -> Object:
    target = {"kind": kind, "component": component}
    return {"patches": [{"target": target, "patch": {"type": "merge", "content": content}}]}


REACHING: dict[str, Object] = {
    "patch of the namespace": patch("Service", "metadata: {namespace: kube-system}"),
    "patch of the owner": patch("Service", "metadata: {ownerReferences: []}"),
    "patch of the name": patch("StatefulSet", "metadata: {name: other}"),
    "patch of our labels": patch("StatefulSet", "metadata: {labels: {hosted-cp.io/tenant-uid: x}}"),
    "patch of the selector": patch("Service", "spec: {selector: {app: other}}"),
    "volume from elsewhere": {
        "persistence": {
            "type": "pvc",
            "persistentVolumeClaim": {
                "spec": {
                    "resources": {"requests": {"storage": "1Gi"}},
                    "dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "x", "namespace": "kube-system"},
                }
            },
        }
    },
    "patched volume from elsewhere": patch(
        "StatefulSet",
        "spec: {volumeClaimTemplates: [{metadata: {name: etcd-data}, spec: {accessModes: [ReadWriteOnce], resources:"
        " {requests: {storage: 1Gi}},"
        " dataSourceRef: {kind: PersistentVolumeClaim, name: x, namespace: kube-system}}}]}",
        component="etcd",
    ),
    "Secret of another namespace": {
        "storage": {"type": "kine", "kine": {"dataSourceSecretName": "kube-system/database"}}
    },
    "CA of another namespace": {"certificateRefs": [{"type": "ca", "name": "kube-system/ca"}]},
    "mounted Secret of another namespace": {"mounts": [{"path": "/x", "secret": {"secretName": "kube-system/s"}}]},
}


#: The last one is a name that no object can have: the pod waits for it for ever.
REFUSED = {"SpecInvalid", "SecretsMissing", "ControlPlaneStarting"}


@pytest.mark.parametrize("case", REACHING)
async def test_nothing_reaches_another_namespace(stage: Stage, case: str) -> None:
    """Refused by the server or by a condition; nothing was read or written elsewhere, and no such object is made."""
    since = stage.audit.mark()
    async with stage.operating() as operator:
        try:
            await stage.create("a", REACHING[case])
        except ApiError as refusal:
            assert refusal.code in {400, 422}  # noqa: PT017 - it may also be taken, and refused by a condition
        else:
            await stage.until(CLUSTER, ["a"], lambda body: "Available" in conditions(body))
            await stage.rest(operator)
            body = await stage.find(CLUSTER, "a")
            assert body is not None
            known = conditions(body)
            assert known["Available"]["status"] == "False"
            assert known["Available"]["reason"] in REFUSED, known["Available"]
            assert known["Available"]["message"]
        elsewhere = [
            each
            for each in stage.audit.requests(since=since, user=stage.access.user)
            if each.namespace not in {"", stage.namespace}
        ]
        assert elsewhere == []
        for made in await stage.admin.list(STATEFUL_SET, stage.namespace):
            assert "'namespace': 'kube-system'" not in str(made["spec"])
