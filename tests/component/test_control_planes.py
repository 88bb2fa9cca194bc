"""`K0smotronControlPlane` against the real core manager: the contract as core reads it, and what it never may see.

The numbers of assertions (B1 … B12) are those of the contract's list: order, pause, Secrets, kubeconfig, initialized,
endpoint, counters, versions, conditions, external management, rest, and what is stripped comes back.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, aclosing
from functools import partial
from typing import Any

import orjson
import pytest

from e2e.capi import core
from e2e.capi.programs import NEWEST
from hosted_cp.api.control_plane import K0smotronControlPlane
from hosted_cp.api.crds import definition
from hosted_cp.hosting.capi.control_plane import BLOCK_MOVE, FINALIZER
from hosted_cp.kube.resources import (
    CLUSTER,
    CONTROL_PLANE,
    CORE_CLUSTER,
    JOIN_TOKEN_REQUEST,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    SECRET,
    SERVICE,
    STATEFUL_SET,
)
from tests.component.capi import (
    CORE,
    LAB_CLUSTER,
    VERSION,
    CapiStage,
    at_rest,
    bare_core_clusters,
    fields_of,
    managers,
    staged,
    standalone,
    status_of,
)
from tests.component.hosting import OPERATOR, Object, conditions, minted
from tests.component.kubelet import NEVER_READY, READY, Behaviour, StandInKubelet
from tests.component.standin_tenants import StandInTenants
from tests.component.test_invariants_rights import OPTIONAL, ROLES, _races, used

#: Owners of fields that are ours.
OURS = {"hosted-cp", "hosted-cp-metadata"}


@pytest.fixture
def stage(capi_stage: CapiStage) -> CapiStage:
    return capi_stage


# --- the thread -------------------------------------------------------------------------------------------------------


async def test_core_learns_of_the_control_plane_and_where_it_is(stage: CapiStage) -> None:
    async with stage.operating() as operator:
        since = stage.audit.mark()
        await stage.create_cluster("a", cluster={"clusterNetwork": {"pods": {"cidrBlocks": ["192.168.0.0/16"]}}})
        await stage.serving("a")
        cluster = (await stage.told_core("a"))["a"]
        body = await stage.seen("a")
        endpoint = body["spec"]["controlPlaneEndpoint"]
        assert cluster["spec"]["controlPlaneEndpoint"] == endpoint
        known = conditions(cluster)
        assert known["ControlPlaneInitialized"]["status"] == "True"
        # B9: core could read every condition.
        found = await stage.until(CORE_CLUSTER, ["a"], lambda b: status_of(b, "ControlPlaneAvailable") == "True")
        for kind in ("ControlPlaneAvailable", "RollingOut", "ScalingUp", "ScalingDown"):
            assert conditions(found["a"])[kind]["reason"] != "InvalidConditionReported", kind
        assert conditions(body)["Paused"]["status"] == "False"

        # B6, B8: nothing of others is written, and of our own object one field.
        infrastructure = (await stage.admin.get(LAB_CLUSTER, stage.namespace, "a")).body
        for other in (cluster, infrastructure):
            assert not managers(other) & OURS
        [fields] = fields_of(body, "hosted-cp-metadata")
        assert set(fields.get("f:spec", {})) == {"f:controlPlaneEndpoint"}
        assert not fields_of(body, "hosted-cp")

        # B7, B8, B10.
        status = body["status"]
        assert (status["version"], status["versions"]) == (VERSION, [{"version": VERSION, "replicas": 1}])
        assert status["externalManagedControlPlane"] is True
        assert [status[f"{each}eplicas"] for each in ("r", "readyR", "availableR", "upToDateR")] == [1, 1, 1, 1]
        assert body["metadata"]["annotations"][BLOCK_MOVE] == ""

        # B3, B4.
        for purpose in ("ca", "proxy", "sa", "etcd", "kubeconfig"):
            secret = (await stage.admin.get(SECRET, stage.namespace, f"a-{purpose}")).body
            assert secret["type"] == "cluster.x-k8s.io/secret"
            assert secret["metadata"]["labels"]["cluster.x-k8s.io/cluster-name"] == "a"
            [owner] = secret["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["uid"], owner["controller"]) == (
                "K0smotronControlPlane", body["metadata"]["uid"], True,
            )  # fmt: skip
        await stage.rest(operator)
        spent = stage.spent(since, without=("watch",))
        assert stage.created_twice(since) == []
        assert not [each for each in spent if each.startswith("get ")]
        refused = [each for each in stage.requests(since) if each.code in (401, 403)]
        assert [str(each) for each in refused] == []


async def test_nothing_happens_before_the_owner_is_there(stage: CapiStage) -> None:
    """B1: no finalizer, no status, no child, and no request."""
    async with stage.operating() as operator:
        since = stage.audit.mark()
        made = await stage.user_creates(stage.control_plane("a"))
        await stage.rest(operator)
        assert (await stage.seen("a"))["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
        assert stage.spent(since, without=("watch",)) == {}
        await stage.user_creates(stage.cluster("a"))
        await stage.user_creates(stage.infrastructure("a"))
        await stage.serving("a")
        await stage.told_core("a")


@pytest.mark.parametrize("how", ["cluster", "annotation"])
async def test_a_pause_holds_everything_but_finalizer_and_condition(stage: CapiStage, how: str) -> None:
    """B2, and what goes on within seconds after it."""
    paused = {"cluster.x-k8s.io/paused": "true"}
    async with stage.operating() as operator:
        await stage.user_creates(stage.cluster("a", **({"paused": True} if how == "cluster" else {})))
        await stage.user_creates(stage.infrastructure("a"))
        body = stage.control_plane("a")
        if how == "annotation":
            body["metadata"]["annotations"] = paused
        made = await stage.user_creates(body)
        if how == "cluster":
            # Core sets no owner while it is paused: play what it was before.
            cluster = await stage.core_seen("a")
            owner = {key: cluster["metadata"][key] for key in ("name", "uid")}
            reference = {"apiVersion": cluster["apiVersion"], "kind": "Cluster", **owner}
            await stage.admin.merge_patch(
                CONTROL_PLANE, stage.namespace, "a-cp", {"metadata": {"ownerReferences": [reference]}}
            )
        found = await stage.until(CONTROL_PLANE, ["a-cp"], lambda b: status_of(b, "Paused") == "True")
        await stage.rest(operator)
        assert found["a-cp"]["metadata"]["finalizers"] == [FINALIZER]
        assert list(found["a-cp"]["status"]) == ["conditions"]
        assert found["a-cp"]["metadata"]["generation"] == made["metadata"]["generation"]
        assert await stage.admin.list(SECRET, stage.namespace) == []
        if how == "cluster":
            await stage.change_cluster("a", paused=None)
        else:
            gone = {"metadata": {"annotations": dict.fromkeys(paused)}}
            await stage.admin.merge_patch(CONTROL_PLANE, stage.namespace, "a-cp", gone)
        await stage.until(CONTROL_PLANE, ["a-cp"], lambda b: status_of(b, "Paused") == "False", seconds=10.0)
        await stage.serving("a")


async def test_initialized_after_the_answer_and_for_ever(stage: CapiStage) -> None:
    """B5."""
    stage.tenants.down(stage.namespace, "a")
    async with stage.operating():
        await stage.create_cluster("a")
        await stage.until(CONTROL_PLANE, ["a-cp"], lambda b: b.get("status", {}).get("readyReplicas") == 1)
        assert (await stage.seen("a"))["status"]["initialization"] == {"controlPlaneInitialized": False}
        stage.tenants.down(stage.namespace, "a", down=False)
        await stage.serving("a")
        await stage.told_core("a")
        stage.kubelet.script(stage.namespace, "kmc-a-*", NEVER_READY)
        for pod in await stage.admin.list(POD, stage.namespace):
            if pod["metadata"]["labels"]["component"] == "cluster":
                await stage.admin.delete(POD, stage.namespace, pod["metadata"]["name"])
        found = await stage.until(CONTROL_PLANE, ["a-cp"], lambda b: status_of(b, "Available") == "False")
        assert found["a-cp"]["status"]["initialization"] == {"controlPlaneInitialized": True}


async def test_the_scale_subresource_scales(stage: CapiStage) -> None:
    """B7: by kubectl, with zeros told as zeros."""
    async with stage.operating():
        await stage.create_cluster("a", replicas=3)
        await stage.serving("a")
        for count in ("5", "2"):
            stage.server.kubectl(
                "scale", "k0smotroncontrolplanes.controlplane.cluster.x-k8s.io/a-cp", "-n", stage.namespace,
                f"--replicas={count}",
            )  # fmt: skip
            found = await stage.serving("a")
            assert found["a-cp"]["status"]["replicas"] == int(count)
        answer = await stage.admin.get(CONTROL_PLANE, stage.namespace, "a-cp", subresource="scale")
        assert answer["status"]["selector"]
        assert answer["status"]["replicas"] == 2


async def test_a_version_change_is_told_old_first_and_ends_with_the_same_words(stage: CapiStage) -> None:
    """B8, as core sees it: the lowest version first, and never a word that the user did not write."""
    old, new = "v1.35.4+k0s", "v1.36.3+k0s"
    async with stage.operating() as operator:
        stage.kubelet.script(stage.namespace, "kmc-a-*", Behaviour(ready_after=0.5))
        await stage.create_cluster("a", replicas=2, version=old)
        await stage.serving("a")
        told: list[list[str]] = []

        async def follow() -> None:
            async with aclosing(stage.admin.watch(CONTROL_PLANE, stage.namespace, since="0")) as events:
                async for event in events:
                    body = orjson.loads(event.raw)
                    versions = [each["version"] for each in body.get("status", {}).get("versions", [])]
                    if versions and (not told or told[-1] != versions):
                        told.append(versions)

        following = asyncio.create_task(follow())
        try:
            await stage.change_control_plane("a", version=new)
            found = await stage.serving("a")
            await stage.rest(operator)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        assert told[0] == [old]
        assert told[-1] == [new]
        assert [old, new] in told
        assert all(each in ([old], [old, new], [new]) for each in told)
        assert found["a-cp"]["spec"]["version"] == found["a-cp"]["status"]["version"] == new
        await _until_core_tells(stage, "a", new)


async def test_core_is_told_of_a_version_when_its_controller_is_ready(stage: CapiStage) -> None:
    """B8: not when its pod is made, for core goes on with the workers then; and it is not taken back later."""
    old, new = "v1.35.4+k0s", "v1.36.3+k0s"
    pod = "kmc-a-0"

    async with stage.operating() as operator:
        await stage.create_cluster("a", version=old)
        await stage.serving("a")
        await _until_core_tells(stage, "a", old)
        stage.kubelet.script(stage.namespace, pod, NEVER_READY)
        await stage.change_control_plane("a", version=new)
        await stage.until(STATEFUL_SET, ["kmc-a"], _made_anew)
        await stage.rest(operator)
        status = (await stage.seen("a"))["status"]
        assert (status["version"], status["versions"]) == (old, [{"version": old, "replicas": 1}])
        await _until_core_tells(stage, "a", old)

        stage.kubelet.script(stage.namespace, pod, READY)
        await stage.admin.delete(POD, stage.namespace, pod)
        await stage.serving("a")
        await _until_core_tells(stage, "a", new)

        stage.kubelet.script(stage.namespace, pod, NEVER_READY)
        await stage.admin.delete(POD, stage.namespace, pod)
        await stage.until(CONTROL_PLANE, ["a-cp"], lambda b: b["status"]["readyReplicas"] == 0)
        await stage.rest(operator)
        assert (await stage.seen("a"))["status"]["version"] == new
        await _until_core_tells(stage, "a", new)


async def _until_core_tells(stage: CapiStage, name: str, version: str) -> None:
    """Wait until the Cluster says that its control plane runs this version alone. Before v1.14 core repeats none."""

    def told(cluster: Object) -> bool:
        versions = cluster.get("status", {}).get("controlPlane", {}).get("versions") or []
        return [each["version"] for each in versions] == [version]

    if CORE == NEWEST:
        await stage.until(CORE_CLUSTER, [name], told)


def _made_anew(stateful_set: Object) -> bool:
    """Whether the only pod is made from the present template, and does not serve."""
    status = stateful_set["status"]
    seen = status["observedGeneration"] == stateful_set["metadata"]["generation"]
    return seen and status.get("updatedReplicas") == 1 and not status.get("readyReplicas")


async def test_a_lost_authority_is_reported_and_not_made_again(stage: CapiStage) -> None:
    """B3: after initialized there is no second CA."""
    async with stage.operating() as operator:
        await stage.create_cluster("a")
        await stage.serving("a")
        await stage.rest(operator)
        await stage.admin.delete(SECRET, stage.namespace, "a-ca")
        await stage.until(CONTROL_PLANE, ["a-cp"], lambda b: status_of(b, "CertificatesAvailable") == "False")
        await stage.rest(operator)
        assert await stage.find(SECRET, "a-ca") is None


async def test_at_rest_nothing_changes_and_nothing_is_asked(stage: CapiStage) -> None:
    """B11, for a shorter while than in the end-to-end tests."""
    async with stage.operating() as operator:
        await stage.create_cluster("a", replicas=2)
        await stage.serving("a")
        await stage.told_core("a")
        await stage.rest(operator)
        await stage.quiet(seconds=5)
        since = stage.audit.mark()
        before = await stage.versions_of_everything()
        await asyncio.sleep(20)
        assert await stage.versions_of_everything() == before
        assert stage.spent(since) == {}


async def test_what_is_stripped_by_hand_comes_back(stage: CapiStage) -> None:
    """B12: owner references, finalizers and labels, of the control plane and of all that belongs to it."""
    async with stage.operating() as operator:
        await stage.create_cluster("a")
        await stage.serving("a")
        await stage.told_core("a")
        await stage.rest(operator)
        uid = (await stage.seen("a"))["metadata"]["uid"]
        was = await _metadata(stage, uid)
        for part in ("ownerReferences", "labels", "finalizers"):
            hit = [(resource, name) for (resource, name), kept in was.items() if kept[part]]
            for resource, name in hit:
                stripped = {"metadata": {part: None}}
                await stage.admin.merge_patch(resource, stage.namespace, name, stripped, manager="somebody")
            for resource, name in hit:
                await stage.until(resource, [name], partial(_has, was[resource, name]))
        await stage.serving("a")


def _has(metadata: Object, body: Object) -> bool:
    return _kept(body) == metadata


async def _metadata(stage: CapiStage, uid: str) -> dict[Any, Object]:
    found = {}
    for resource in (SERVICE, SECRET, STATEFUL_SET):
        for body in await stage.admin.list(resource, stage.namespace):
            if any(owner["uid"] == uid for owner in body["metadata"].get("ownerReferences", ())):
                found[resource, body["metadata"]["name"]] = _kept(body)
    found[CONTROL_PLANE, "a-cp"] = _kept(await stage.seen("a"))
    return found


def _kept(body: Object) -> Object:
    return {key: body["metadata"].get(key) for key in ("labels", "ownerReferences", "finalizers")}


# --- neighbours -------------------------------------------------------------------------------------------------------


async def test_two_clusters_of_one_name_do_not_meet(capi_stages: tuple[CapiStage, CapiStage]) -> None:
    one, two = capi_stages
    async with one.operating(namespaces=(one.namespace, two.namespace)):
        await one.create_cluster("a")
        await two.create_cluster("a", replicas=2)
        for each in capi_stages:
            await each.serving("a")
            await each.told_core("a")
        authorities = [(await each.admin.get(SECRET, each.namespace, "a-ca"))["data"] for each in capi_stages]
        assert authorities[0] != authorities[1]
        before = await two.versions_of_everything()
        await one.admin.delete(CORE_CLUSTER, one.namespace, "a")
        await one.all_gone("a")
        assert await one.remaining() == []
        after = await two.versions_of_everything()
        assert {k: v for k, v in after.items() if not k.startswith("clusters ")} == {
            k: v for k, v in before.items() if not k.startswith("clusters ")
        }


async def test_a_standalone_cluster_of_the_name_is_refused(stage: CapiStage) -> None:
    async with stage.operating():
        await stage.create_cluster("a")
        await stage.serving("a")
        await stage.create("a")
        found = await stage.until(CLUSTER, ["a"], lambda b: bool(conditions(b)))
        assert conditions(found["a"])["Available"]["reason"] == "NameTaken"
        assert "K0smotronControlPlane a-cp" in conditions(found["a"])["Available"]["message"]
        await stage.admin.delete(CLUSTER, stage.namespace, "a")
        await stage.gone("a")
        assert at_rest(await stage.seen("a"))


async def test_a_control_plane_steps_back_before_a_standalone_cluster_that_lives(stage: CapiStage) -> None:
    async with stage.operating():
        await stage.create("a")
        await stage.available("a")
        await stage.create_cluster("a")
        found = await stage.until(CONTROL_PLANE, ["a-cp"], lambda b: bool(conditions(b).get("Available")))
        assert conditions(found["a-cp"])["Available"]["reason"] == "NameTaken"
        await stage.available("a")
        await stage.admin.delete(CLUSTER, stage.namespace, "a")
        await stage.gone("a")
        for claim in await stage.admin.list(PERSISTENT_VOLUME_CLAIM, stage.namespace):
            await stage.admin.delete(PERSISTENT_VOLUME_CLAIM, stage.namespace, claim["metadata"]["name"])
        await stage.serving("a")


async def test_what_k0smotron_left_behind_is_not_touched(stage: CapiStage) -> None:
    async with stage.operating() as operator:
        owner = {"apiVersion": CONTROL_PLANE.api_version, "kind": CONTROL_PLANE.kind, "name": "b-cp", "uid": "1"}
        since = stage.audit.mark()
        await stage.create("b", ownerReferences=[owner], finalizers=["k0smotron.io/finalizer"])
        await stage.rest(operator)
        # (Not by its version: the server's garbage collector looks for the owner, too.)
        assert stage.spent(since, without=("watch",)) == {}
        await stage.admin.merge_patch(CLUSTER, stage.namespace, "b", {"metadata": {"finalizers": None}})


async def test_a_token_request_finds_a_control_plane_by_its_clusters_name(stage: CapiStage) -> None:
    async with stage.operating():
        await stage.create_cluster("a")
        await stage.ask_token("t", "a")
        await stage.until(JOIN_TOKEN_REQUEST, ["t"], minted)
        assert len(stage.tenants.objects(stage.namespace, "a", "secrets")) == 1
        await stage.admin.delete(JOIN_TOKEN_REQUEST, stage.namespace, "t")
        await stage.until(JOIN_TOKEN_REQUEST, ["t"], lambda body: not body)
        assert stage.tenants.objects(stage.namespace, "a", "secrets") == []


async def test_a_cluster_without_infrastructure_runs_and_says_what_core_will_not_do(stage: CapiStage) -> None:
    async with stage.operating():
        await stage.create_cluster("a", cluster={"infrastructureRef": None})
        body = (await stage.serving("a"))["a-cp"]
        condition = conditions(body)["ClusterInOrder"]
        assert (condition["status"], condition["reason"]) == ("False", "InfrastructureMissing")
        # Core itself has no more to say than this, and for ever.
        known = conditions((await stage.told_core("a"))["a"])
        assert known["InfrastructureReady"]["status"] == "Unknown"
        assert known["Available"]["status"] != "True"
        await stage.change_cluster(
            "a", infrastructureRef={"apiGroup": LAB_CLUSTER.group, "kind": "LabCluster", "name": "a"}
        )
        await stage.until(CONTROL_PLANE, ["a-cp"], lambda b: status_of(b, "ClusterInOrder") == "True")


# --- the end (in every order, with workers: test_capi_deletion.py) ----------------------------------------------------


async def test_deleted_alone_it_says_in_an_event_what_that_means(stage: CapiStage) -> None:
    async with stage.operating():
        await stage.create_cluster("a")
        await stage.serving("a")
        await stage.admin.delete(CONTROL_PLANE, stage.namespace, "a-cp")
        await stage.until(CONTROL_PLANE, ["a-cp"], lambda body: not body)
        told = orjson.loads(stage.server.kubectl("get", "events", "-n", stage.namespace, "-o", "json"))["items"]
        [event] = [each for each in told if each["reason"] == "ControlPlaneDeletedAlone"]
        assert event["type"] == "Warning"
        assert "Delete the Cluster, too" in event.get("message", event.get("note", ""))


async def test_a_paused_end_is_held(stage: CapiStage) -> None:
    async with stage.operating() as operator:
        await stage.create_cluster("a")
        await stage.serving("a")
        await stage.change_cluster("a", paused=True)
        await stage.admin.delete(CONTROL_PLANE, stage.namespace, "a-cp")
        await stage.until(CONTROL_PLANE, ["a-cp"], lambda b: status_of(b, "Paused") == "True")
        await stage.rest(operator)
        assert await stage.find(STATEFUL_SET, "kmc-a") is not None
        await stage.change_cluster("a", paused=None)
        await stage.until(CONTROL_PLANE, ["a-cp"], lambda body: not body)


# --- rights, and kinds that come later --------------------------------------------------------------------------------


async def test_every_right_of_the_optional_role_is_used_and_no_other(stage: CapiStage) -> None:
    since = stage.audit.mark()
    async with stage.operating(with_kopf=True, hooks=_races(stage)):
        await stage.create_cluster("a")
        await stage.serving("a")
        await stage.admin.delete(CORE_CLUSTER, stage.namespace, "a")
        await stage.all_gone("a")
    requests = stage.audit.requests(since=since, user=OPERATOR)
    assert [str(each) for each in requests if each.code in {401, 403}] == []
    assert used(requests) <= {pair for role in ROLES for pair in _pairs(role)}
    [optional] = [role for role in ROLES if OPTIONAL in role["metadata"].get("labels", {})]
    ours = {pair for pair in _pairs(optional) if pair[0].partition("/")[0] == CONTROL_PLANE.plural}
    assert ours - used(requests) == {("k0smotroncontrolplanes/finalizers", "update")}  # checked, not requested


def _pairs(role: Object) -> set[tuple[str, str]]:
    return {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}


async def test_kinds_that_come_later_are_picked_up_and_may_go_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The operator runs where Cluster API is not installed; what is installed afterwards is found without a restart."""
    with ExitStack() as stack:
        server = stack.enter_context(standalone(tmp_path_factory.mktemp("without-capi")))
        kubelet = stack.enter_context(StandInKubelet(server))
        tenants = stack.enter_context(StandInTenants(server))
        async with staged(server, kubelet, tenants) as stage, stage.operating(with_kopf=True) as operator:
            await stage.create("standalone")
            await stage.available("standalone")
            await stage.rest(operator)
            since = stage.audit.mark()
            await asyncio.sleep(3)
            assert stage.spent(since) == {}, "nobody asks for kinds that are not there"
            later = core.as_yaml([bare_core_clusters(), definition(K0smotronControlPlane)])
            server.kubectl("create", "-f", "-", stdin=later)
            server.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", "-", stdin=later)
            cluster = await stage.user_creates(stage.cluster("a"))
            body = stage.control_plane("a")
            reference = {key: cluster["metadata"][key] for key in ("name", "uid")}
            body["metadata"]["ownerReferences"] = [
                {"apiVersion": CORE_CLUSTER.api_version, "kind": "Cluster", **reference}
            ]
            await stage.user_creates(body)
            await stage.serving("a")
            await stage.admin.delete(CONTROL_PLANE, stage.namespace, "a-cp")
            await stage.until(CONTROL_PLANE, ["a-cp"], lambda body: not body)
            server.kubectl("delete", "-f", "-", stdin=later)
            await stage.change("standalone", {"replicas": 2})
            await stage.available("standalone")
