"""What tools and people do to a whole tenant at once: backups that are restored, deletions that shall keep everything.

The real garbage collector plays its part here: it takes away what names an owner that is no more, in any order and
while the operator looks on, and it takes owners off what shall be kept.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hosted_cp.hosting.names import ADOPT
from hosted_cp.kube.resources import (
    CLUSTER,
    PERSISTENT_VOLUME_CLAIM,
    POD_DISRUPTION_BUDGET,
    SECRET,
    SERVICE,
    STATEFUL_SET,
    Resource,
)
from tests.component.hosting import Object, Stage, conditions
from tests.component.snapshots import Everything, everything, once_only

#: In the order in which a backup is restored: volumes and Secrets first, the user's objects last.
RESTORED = (PERSISTENT_VOLUME_CLAIM, SECRET, SERVICE, STATEFUL_SET, POD_DISRUPTION_BUDGET, CLUSTER)
#: What belongs to an object's life on one server.
OF_THIS_LIFE = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "finalizers")
AUTHORITIES = ("a-ca", "a-proxy", "a-sa", "a-etcd")


def because(reason: str, words: str = "") -> Callable[[Object], bool]:
    def true(body: Object) -> bool:
        said = conditions(body).get("Available", {})
        return bool(said.get("reason") == reason and words in said.get("message", ""))

    return true


def as_restored(resource: Resource, body: Object, *, owners: bool = True) -> Object:
    """An object of a backup as it is created again: its metadata with the owner that it had, and no status."""
    left_out = OF_THIS_LIFE if owners else (*OF_THIS_LIFE, "ownerReferences")
    metadata = {key: value for key, value in body["metadata"].items() if key not in left_out}
    made: Object = {"apiVersion": resource.api_version, "kind": resource.kind}
    made |= {key: value for key, value in body.items() if key != "status"} | {"metadata": metadata}
    if resource == SERVICE:
        made["spec"] = {key: value for key, value in body["spec"].items() if not key.startswith("clusterIP")} | (
            {"clusterIP": "None"} if body["spec"].get("clusterIP") == "None" else {}
        )
    return made


async def backed_up_and_lost(stage: Stage) -> Everything:
    """A backup of the namespace, in which nothing is left of the tenant `a`."""
    async with stage.operating() as operator:
        await stage.create("a")
        await stage.available("a")
        await stage.rest(operator)
        backup = await everything(stage, RESTORED)
        await stage.admin.delete(CLUSTER, stage.namespace, "a")
        await stage.gone("a")
    for claim in backup["persistentvolumeclaims"]:
        await stage.admin.delete(PERSISTENT_VOLUME_CLAIM, stage.namespace, claim["metadata"]["name"])
    await stage.until(
        PERSISTENT_VOLUME_CLAIM, [each["metadata"]["name"] for each in backup["persistentvolumeclaims"]],
        lambda body: not body,
    )  # fmt: skip
    return backup


async def test_a_backup_that_was_restored_as_it_is_waits_for_its_keys(stage: Stage) -> None:
    """The collector removes all objects of the restored tenant but its volumes; nothing is made in between."""
    backup = await backed_up_and_lost(stage)
    since = stage.audit.mark()
    async with stage.operating() as operator:
        for resource in RESTORED:
            for body in backup[resource.plural]:
                await stage.admin.create(resource, as_restored(resource, body))
        state = await stage.until(CLUSTER, ["a"], because("FormerLife", "data of a former tenant"))
        await stage.until(SECRET, AUTHORITIES, lambda body: not body)
        await stage.rest(operator)
        written = stage.requests(since, without=("get", "list", "watch"))
        assert {(each.resource, each.subresource) for each in written} <= {("clusters", "status"), ("events", "")}
        # As the condition says: the Secrets, without who owned them, and the adoption of the volumes.
        kept = {each["metadata"]["name"]: each for each in backup["secrets"]}
        for name in AUTHORITIES:
            await stage.admin.create(SECRET, as_restored(SECRET, kept[name], owners=False))
        adoption = {"metadata": {"annotations": {ADOPT: state["a"]["metadata"]["uid"]}}}
        for claim in backup["persistentvolumeclaims"]:
            await stage.admin.merge_patch(PERSISTENT_VOLUME_CLAIM, stage.namespace, claim["metadata"]["name"], adoption)
        await stage.available("a")
        await stage.rest(operator)
        now, then = once_only(await everything(stage, (SECRET,))), once_only({"secrets": backup["secrets"]})
        assert {name: now[name] for name in AUTHORITIES} == {name: then[name] for name in AUTHORITIES}


@pytest.mark.parametrize("running", [True, False])
async def test_a_tenant_that_is_deleted_without_what_it_owns_leaves_all_of_it(stage: Stage, running: bool) -> None:
    """`kubectl delete --cascade=orphan`, while the operator runs, and while it does not."""
    names = ("a", "b", "c")
    async with stage.operating() as operator:
        for name in names:
            await stage.create(name)
        await stage.available(*names)
        await stage.rest(operator)
        before = await everything(stage, RESTORED[:-1])
        since = stage.audit.mark()
        if running:
            for name in names:
                await stage.admin.delete(CLUSTER, stage.namespace, name, propagation="Orphan")
            await stage.gone(*names)
    if not running:
        for name in names:
            await stage.admin.delete(CLUSTER, stage.namespace, name, propagation="Orphan")
        async with stage.operating():
            await stage.gone(*names)
    after = await everything(stage, RESTORED[:-1])
    for plural, bodies in before.items():
        left = {body["metadata"]["name"]: body["metadata"] for body in after[plural]}
        for body in bodies:
            name = body["metadata"]["name"]
            assert name in left, f"{plural} {name} is gone"
            assert left[name]["uid"] == body["metadata"]["uid"]
            assert not left[name].get("ownerReferences") or plural == "persistentvolumeclaims"
    deleted = [each for each in stage.requests(since) if each.verb == "delete" and each.code < 300]
    assert deleted == []
