"""With `--namespace`, the Roles in `deploy/operator-namespaced.yaml` are all that the operator needs: it has no right
in any other namespace, none that is cluster-wide, and asks for none.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
import yaml

from hosted_cp.kube.resources import CLUSTER, NAMESPACE
from tests.component.audit import Request
from tests.component.hosting import DEPLOYED, Object, Stage
from tests.component.test_invariants_rights import CHECKED, OPTIONAL, Pair, scene, used

NAMESPACED = DEPLOYED.with_name("operator-namespaced.yaml")

#: Where the manifest looks for tenants.
TENANTS = "tenants"

#: Only for cluster-scoped kinds, which the operator reads without `--namespace`.
CLUSTER_SCOPED = {"nodes", "storageclasses", "customresourcedefinitions"}


def documents(kind: str, *, file: Any = NAMESPACED) -> list[Object]:
    return [each for each in yaml.safe_load_all(file.read_text(encoding="utf-8")) if each["kind"] == kind]


def pairs(role: Object) -> set[Pair]:
    return {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}


def test_the_manifest_differs_from_the_cluster_wide_one_in_its_rights_and_its_argument_only() -> None:
    assert documents("ClusterRole") == documents("ClusterRoleBinding") == []
    wide = {role["metadata"]["name"]: role for role in documents("ClusterRole", file=DEPLOYED)}
    here = {role["metadata"]["name"]: role for role in documents("Role") if role["metadata"]["namespace"] == TENANTS}
    assert here.keys() == wide.keys()
    for name, role in here.items():
        assert pairs(role) == {pair for pair in pairs(wide[name]) if pair[0] not in CLUSTER_SCOPED}
        assert role["metadata"].get("labels") == wide[name]["metadata"].get("labels")
    [leader] = documents("Role", file=DEPLOYED)
    assert [role for role in documents("Role") if role["metadata"]["name"] not in here] == [leader]
    [deployed], [usual] = documents("Deployment"), documents("Deployment", file=DEPLOYED)
    container = deployed["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["run", f"--namespace={TENANTS}"]
    container["args"] = ["run"]
    assert deployed == usual


@pytest.fixture
def confined(stage: Stage) -> Iterator[Stage]:
    """The stage with a user who has exactly the rights of the manifest, in the stage's namespace."""
    user = f"confined-{uuid.uuid4().hex[:8]}"
    made: list[Object] = []
    for role in documents("Role"):
        where = role["metadata"]["namespace"].replace(TENANTS, stage.namespace)
        metadata = {"name": f"{user}-{role['metadata']['name']}", "namespace": where}
        binding = {
            "apiVersion": role["apiVersion"],
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": metadata["name"]},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }
        made += [{**role, "metadata": metadata}, binding]
    for each in made:
        stage.server.kubectl("create", "-f", "-", stdin=orjson.dumps(each))
    yield replace(stage, access=stage.server.access(user), cluster_wide=False)
    for each in made:
        where = each["metadata"]["namespace"]
        stage.server.kubectl("delete", each["kind"].lower(), each["metadata"]["name"], "-n", where)


async def test_a_role_suffices_and_nothing_is_asked_of_other_namespaces(confined: Stage) -> None:
    """A tenant's whole life, its token, its races and the lease; next door stands one of the same name, untouched."""
    next_door = f"{confined.namespace[:50]}-next"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": next_door}}
    await confined.admin.create(NAMESPACE, body)
    try:
        neighbour = await replace(confined, namespace=next_door).create("a")
        since = confined.audit.mark()
        await scene(confined, externalAddress="192.0.2.11")
        requests = confined.audit.requests(since=since, user=confined.access.user)
        assert [str(each) for each in requests if each.code in {401, 403}] == []
        assert [str(each) for each in requests if _elsewhere(each, confined.namespace)] == []
        required = [role for role in documents("Role") if OPTIONAL not in role["metadata"].get("labels", {})]
        allowed = {pair for role in required for pair in pairs(role)}
        assert used(requests) <= allowed
        assert allowed - used(requests) - CHECKED == set(), "nobody needs these"
        found = (await confined.admin.get(CLUSTER, next_door, "a")).body
        assert found["metadata"]["resourceVersion"] == neighbour["metadata"]["resourceVersion"]
    finally:
        await confined.admin.delete(NAMESPACE, None, next_door)


def _elsewhere(each: Request, namespace: str) -> bool:
    """Whether a request is about objects, and not about those of this namespace or the lease."""
    return bool(each.resource) and each.namespace not in {namespace, "hosted-cp"}


async def test_a_tenant_that_needs_a_nodes_address_says_what_to_do(confined: Stage) -> None:
    async with confined.operating():
        await confined.create("a")

        def told(found: Object) -> bool:
            conditions = found.get("status", {}).get("conditions", [])
            [why] = [each["message"] for each in conditions if each["type"] == "Available"] or [""]
            return "reads no nodes: set spec.externalAddress" in why

        await confined.until(CLUSTER, ["a"], told)
        await confined.change("a", {"externalAddress": "192.0.2.11"})
        await confined.available("a")
