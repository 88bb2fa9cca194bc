"""`K0smotronControlPlane` on the tenant's planner: order, endpoint, network, versions, and what is reported of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hosted_cp.hosting.capi import contract_status, control_plane
from hosted_cp.hosting.names import DECISIONS, RELEASE
from hosted_cp.hosting.plan import plan as make_plan
from hosted_cp.k0s import capi_versions, versions
from hosted_cp.planning.actions import PatchMetadata, Plan, PublishEndpoint, Ref
from tests.hosting import pretend_pods
from tests.hosting.capi_world import NETWORK, VERSION, CapiWorld, living
from tests.hosting.pretend_pods import STARTING, Script
from tests.hosting.pretend_server import Json
from tests.hosting.world import CATALOGUE, World, cluster, running

ALWAYS = ("Available", "Paused", "RollingOut", "ScalingUp", "ScalingDown", "Initialized", "Deleting")


def said(world: CapiWorld) -> dict[str, str]:
    return {each["type"]: f"{each['status']} {each['reason']}" for each in world.status["conditions"]}


def ref(world: CapiWorld, kind: str, name: str) -> Ref:
    return Ref.of(world.body(kind, name))


def written(world: CapiWorld) -> dict[str, set[str]]:
    """By kind, what has been done."""
    done: dict[str, set[str]] = {}
    for each in world.done:
        done.setdefault(each.ref.kind, set()).add(type(each).__name__)
    return done


# --- the order --------------------------------------------------------------------------------------------------------


def test_nothing_happens_before_the_owner_is_there() -> None:
    world = CapiWorld().asks()
    assert world.plan() == Plan()
    world.belongs()
    assert [type(each) for each in world.plan().actions] == [PatchMetadata]


def test_an_owner_of_another_life_is_none() -> None:
    world = CapiWorld().asks().belongs()
    world.server.edit(world.owner_ref, lambda body: body["metadata"]["ownerReferences"][0].update(uid="another"))
    assert world.plan() == Plan()


def test_the_finalizer_comes_first_and_comes_back() -> None:
    world = CapiWorld().asks().belongs().settle()
    first = world.done[0]
    assert isinstance(first, PatchMetadata)
    assert first.finalizers == (control_plane.FINALIZER,)
    world.server.edit(world.owner_ref, lambda body: body["metadata"].pop("finalizers"))
    world.settle()
    assert world.owner["metadata"]["finalizers"] == [control_plane.FINALIZER]


@pytest.mark.parametrize("how", ["cluster", "annotation"])
def test_a_pause_from_the_beginning_leaves_only_finalizer_and_condition(how: str) -> None:
    world = CapiWorld().asks().belongs(**({"paused": True} if how == "cluster" else {}))
    if how == "annotation":
        world.server.edit(world.owner_ref, lambda b: b["metadata"].update(annotations={contract_status.PAUSED: ""}))
    world.settle()
    assert [type(each) for each in world.done] == [PatchMetadata]
    assert world.owner["metadata"]["finalizers"] == [control_plane.FINALIZER]
    assert control_plane.BLOCK_MOVE not in world.owner["metadata"].get("annotations", {})
    assert list(world.status) == ["conditions"]
    assert said(world) == {"Paused": "True Paused"}
    if how == "cluster":
        world.cluster_says(paused=False)
    else:
        world.server.edit(world.owner_ref, lambda body: body["metadata"].pop("annotations"))
    world.settle()
    assert world.available
    assert said(world)["Paused"] == "False NotPaused"
    assert world.owner["metadata"]["annotations"] == {control_plane.BLOCK_MOVE: ""}


def test_a_pause_holds_changes_and_the_end() -> None:
    world = living()
    world.cluster_says(paused=True)
    world.changes(replicas=2)
    world.server.delete(world.owner_ref)
    before = world.status
    done = len(world.done)
    world.settle()
    assert world.done[done:] == []
    assert {**world.status, "conditions": None} == {**before, "conditions": None}
    assert said(world)["Paused"] == "True Paused"
    world.cluster_says(paused=None)
    world.settle()
    assert world.owner_ref not in world.server.objects


# --- the tenant -------------------------------------------------------------------------------------------------------


def test_everything_is_named_after_the_cluster() -> None:
    world = living()
    names = {name for _, name in world.owned()}
    assert {"demo-ca", "demo-kubeconfig", "kmc-demo", "kmc-demo-config"} <= names
    assert not [name for name in names if world.control_plane in name]
    for (kind, name), body in world.owned().items():
        (owner,) = body["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == (
            "K0smotronControlPlane", world.control_plane, True,
        ), name  # fmt: skip
        assert control_plane.BLOCK_MOVE not in body["metadata"].get("annotations", {})
        assert body["metadata"]["labels"][control_plane.CLUSTER_LABEL] == "demo", (kind, name)


@pytest.mark.parametrize("name", ["demo-ca", "demo-proxy", "demo-sa", "demo-etcd", "demo-kubeconfig"])
def test_secrets_are_as_core_looks_for_them(name: str) -> None:
    body = living().body("Secret", name)
    assert body["type"] == "cluster.x-k8s.io/secret"
    assert body["metadata"]["labels"]["cluster.x-k8s.io/cluster-name"] == "demo"
    assert set(body["data"]) == ({"value"} if name == "demo-kubeconfig" else {"tls.crt", "tls.key"})


def test_what_a_topology_says_of_the_control_plane_is_not_said_of_its_children() -> None:
    world = living()
    world.server.edit(
        world.owner_ref,
        lambda body: body["metadata"]["labels"].update({"topology.cluster.x-k8s.io/owned": "", "team": "blue"}),
    )
    world.settle()
    for body in world.owned().values():
        assert "topology.cluster.x-k8s.io/owned" not in body["metadata"]["labels"]
        assert body["metadata"]["labels"]["team"] == "blue"


def test_nothing_is_written_but_what_is_ours() -> None:
    world = living(replicas=2)
    world.changes(version="v1.36.3+k0s.2")
    world.settle()
    done = written(world)
    assert "Cluster" not in done
    assert done["K0smotronControlPlane"] == {"PatchMetadata", "PublishEndpoint"}
    spec = {key: value for key, value in world.owner["spec"].items() if key != "controlPlaneEndpoint"}
    assert spec == {"version": "v1.36.3+k0s.2", "service": {"type": "NodePort"}, "replicas": 2}


def test_a_lost_authority_is_reported_and_never_made_again() -> None:
    world = living()
    world.server.delete(ref(world, "Secret", "demo-ca"))
    world.settle()
    assert not world.exists("Secret", "demo-ca")
    assert said(world)["CertificatesAvailable"] == "False AuthorityUnusable"
    assert world.status["initialization"] == {"controlPlaneInitialized": True}


def test_brought_authorities_are_used_and_stay_the_users() -> None:
    other = living()
    world = CapiWorld().asks()
    brought = {name: other.data(name) for name in ("demo-ca", "demo-sa")}
    for name, data in brought.items():
        world.secret(name, data)
    world.belongs().settle()
    assert world.available
    for name, data in brought.items():
        assert world.data(name) == data
        assert "ownerReferences" not in world.body("Secret", name)["metadata"]
    world.server.delete(world.owner_ref)
    world.settle()
    assert {body["metadata"]["name"] for body in world.server.every("Secret")} == set(brought)


def test_owner_references_that_are_stripped_come_back() -> None:
    world = living()
    was = {key: body["metadata"]["ownerReferences"] for key, body in world.owned().items()}
    for kind, name in was:
        world.server.edit(ref(world, kind, name), lambda body: body["metadata"].pop("ownerReferences"))
    world.settle()
    assert {key: body["metadata"]["ownerReferences"] for key, body in world.owned().items()} == was
    assert world.available


# --- initialized, counters, conditions --------------------------------------------------------------------------------


def test_initialized_only_after_the_answer_and_for_ever() -> None:
    world = CapiWorld(answers={"tenant-api": "it does not answer"}).asks().belongs().settle()
    assert world.status["readyReplicas"] == 1
    assert world.status["initialization"] == {"controlPlaneInitialized": False}
    assert said(world)["Initialized"] == "False NotInitialized"
    world.answers.clear()
    world.settle()
    assert world.status["initialization"] == {"controlPlaneInitialized": True}
    world.script.pods = lambda name: STARTING
    for pod in world.server.every("Pod"):
        world.server.delete(ref(world, "Pod", pod["metadata"]["name"]))
    world.settle()
    assert not world.available
    assert world.status["initialization"] == {"controlPlaneInitialized": True}


def test_counters_are_told_as_zeros() -> None:
    world = CapiWorld(script=Script(pods=lambda name: STARTING)).asks().belongs()
    world.reconcile()
    counters = ("replicas", "readyReplicas", "availableReplicas", "upToDateReplicas")
    assert {key: world.status[key] for key in counters} == dict.fromkeys(counters, 0)
    assert world.status["selector"].startswith("app=k0smotron,cluster=demo,")
    assert world.status["externalManagedControlPlane"] is True
    assert set(ALWAYS) <= set(said(world))


def test_a_refused_spec_has_all_that_core_looks_for() -> None:
    world = CapiWorld().asks(version="1.2.3.4").belongs().settle()
    assert world.why.startswith("SpecInvalid: spec.version: '1.2.3.4' is no version of k0s")
    assert world.status["replicas"] == 0
    assert world.status["externalManagedControlPlane"] is True
    assert said(world)["Paused"] == "False NotPaused"
    assert world.owned() == {}
    world.changes(version=VERSION)
    world.settle()
    assert world.available


def test_a_refused_change_leaves_what_runs_as_reported() -> None:
    world = living()
    before = world.status
    world.changes(version="v1.20.1+k0s")
    world.settle()
    now = world.status
    same = ("version", "versions", "k0sVersion", "initialization", "replicas", "readyReplicas", "selector")
    assert {key: now[key] for key in same} == {key: before[key] for key in same}
    assert world.available
    assert said(world)["SpecAccepted"] == "False SpecInvalid"


def test_scaling_is_told_while_it_goes_on() -> None:
    world = living(replicas=3)
    for wanted, kind in ((5, "ScalingUp"), (3, "ScalingDown")):
        world.changes(replicas=wanted)
        world.reconcile()
        world.reconcile()
        assert said(world)[kind] == f"True {kind}"
        world.settle()
        assert said(world)[kind] == f"False Not{kind}"
        assert world.status["replicas"] == wanted


# --- the endpoint -----------------------------------------------------------------------------------------------------


def test_the_endpoint_is_written_once() -> None:
    world = living()
    (written_once,) = [each for each in world.done if isinstance(each, PublishEndpoint)]
    assert world.owner["spec"]["controlPlaneEndpoint"] == {"host": written_once.host, "port": written_once.port}
    assert world.decisions()["address"] == written_once.host
    world.nodes = ()
    world.passes(hours=1)
    world.settle()
    assert world.owner["spec"]["controlPlaneEndpoint"]["host"] == written_once.host
    assert said(world)["EndpointStable"] == "True EndpointUnchanged"


@pytest.mark.parametrize("where", ["control plane", "cluster"])
def test_an_endpoint_that_is_given_is_taken_for_a_wish_and_stays(where: str) -> None:
    endpoint = {"host": "api.example.org", "port": 31999}
    world = CapiWorld()
    if where == "cluster":
        world.asks().belongs(controlPlaneEndpoint=endpoint)
    else:
        world.asks(controlPlaneEndpoint=endpoint).belongs()
    world.settle()
    assert world.available, world.why
    assert not [each for each in world.done if isinstance(each, PublishEndpoint)]
    assert world.status["controlPlaneEndpoint"]["host"] == "api.example.org"
    assert world.status["controlPlaneEndpoint"]["port"] == 31999
    assert b"https://api.example.org:31999" in world.data("demo-kubeconfig")["value"]
    assert said(world)["EndpointStable"] == "True EndpointUnchanged"
    assert world.owner["spec"].get("controlPlaneEndpoint") == (endpoint if where == "control plane" else None)


def test_an_endpoint_that_is_changed_later_is_not_followed() -> None:
    world = living()
    was = world.decisions()
    endpoint = {"host": "192.0.2.99", "port": 31999}
    world.changes(controlPlaneEndpoint=endpoint)
    world.settle()
    assert world.decisions() == was
    assert said(world)["EndpointStable"] == "False EndpointDiffers"
    assert world.owner["spec"]["controlPlaneEndpoint"] == endpoint
    assert world.available


def test_the_endpoint_that_core_copied_changes_nothing() -> None:
    world = living()
    world.cluster_says(controlPlaneEndpoint=world.owner["spec"]["controlPlaneEndpoint"])
    before = world.snapshot()
    world.settle()
    assert world.snapshot() == before


def test_an_endpoint_that_is_no_host_is_refused() -> None:
    world = CapiWorld().asks(controlPlaneEndpoint={"host": "https://x", "port": 1}).belongs().settle()
    assert world.why.startswith("SpecInvalid: spec.controlPlaneEndpoint.host: 'https://x' is neither")


# --- the network ------------------------------------------------------------------------------------------------------


def test_network_ranges_come_from_the_cluster_where_the_user_has_none() -> None:
    user = {"spec": {"network": {"podCIDR": "10.99.0.0/16"}}}
    world = CapiWorld().asks(k0sConfig=user).belongs(clusterNetwork={**NETWORK, "serviceDomain": "tenant.local"})
    world.settle()
    assert world.available, world.why
    found = {key: world.decisions()[key] for key in ("podCIDR", "serviceCIDR", "clusterDomain")}
    assert found == {"podCIDR": "10.99.0.0/16", "serviceCIDR": "10.128.0.0/12", "clusterDomain": "tenant.local"}
    assert b'"podCIDR": "10.99.0.0/16"' in world.data("kmc-demo-config")["k0s.yaml"]


def test_ranges_that_move_are_told_and_not_followed() -> None:
    world = CapiWorld().asks().belongs(clusterNetwork=NETWORK).settle()
    was = world.data("kmc-demo-config")
    for moved in (
        {"pods": {"cidrBlocks": ["172.16.0.0/16"]}},
        {"pods": None, "services": None},
        {"serviceDomain": "elsewhere"},
    ):
        world.cluster_says(clusterNetwork=moved)
        world.settle()
        assert world.data("kmc-demo-config") == was, moved
        assert world.available
    assert said(world)["NetworkStable"] == "False NetworkDiffers"
    world.cluster_says(clusterNetwork={**NETWORK, "serviceDomain": None})
    world.settle()
    assert said(world)["NetworkStable"] == "True NetworkUnchanged"


@pytest.mark.parametrize("block", ["none", "fd00::/48"])
def test_ranges_that_cannot_be_had_are_named(block: str) -> None:
    world = CapiWorld().asks().belongs(clusterNetwork={"pods": {"cidrBlocks": [block]}}).settle()
    assert "Cluster demo spec.clusterNetwork.pods.cidrBlocks" in world.why


# --- versions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("v1.36.3+k0s", "v1.36.3+k0s.2"),
        ("v1.36.3+k0s.1", "v1.36.3+k0s.1"),
        ("v1.36.3-k0s.2", "v1.36.3+k0s.2"),
        ("v1.36.3", "v1.36.3+k0s.2"),
    ],
)
def test_every_form_is_echoed(text: str, release: str) -> None:
    world = living(version=text)
    assert world.status["version"] == text
    assert world.versions == [{"version": text, "replicas": 1}]
    assert world.status["k0sVersion"] == release
    good = text == "v1.36.3+k0s"
    assert said(world)["VersionComparable"] == ("True AsKubeletsReportIt" if good else "False OtherForm")
    assert world.owner["spec"]["version"] == text


def test_without_a_version_the_decision_is_told_as_kubelets_report_it() -> None:
    world = living(version=None)
    assert world.status["version"] == capi_versions.parse(versions.default(CATALOGUE)).kubelet
    assert "version" not in world.owner["spec"]


def _told_on_the_way(world: CapiWorld, *, to: str) -> list[list[Json]]:
    """What is told of versions, step by step, from the moment that the user asks for another one until all is done."""
    world.changes(version=to)
    told: list[list[Json]] = []
    for _ in range(40):
        findings = dict(world.findings)
        world.reconcile()
        if not told or told[-1] != world.versions:
            told.append(world.versions)
        if world.decisions().get("versionBefore"):
            # What stands in the status only is not what is relied on.
            world.server.edit(world.owner_ref, lambda body: body["status"].pop("versions", None))
        if not pretend_pods.step(world.server, world.script) and findings == world.findings:
            break
    return told


def test_a_version_change_is_told_pod_by_pod_and_remembered_in_the_meantime() -> None:
    old, new = "v1.35.4+k0s", VERSION
    world = living(replicas=2, version=old)
    told = _told_on_the_way(world, to=new)
    assert told[0] == [{"version": old, "replicas": 2}]
    assert [{"version": old, "replicas": 1}, {"version": new, "replicas": 1}] in told
    assert told[-1] == [{"version": new, "replicas": 2}]
    assert [each[0]["version"] for each in told] == sorted(each[0]["version"] for each in told)
    assert world.status["version"] == new
    assert "versionBefore" not in world.decisions()
    assert world.body("StatefulSet", "kmc-demo")["metadata"]["annotations"][RELEASE] == world.status["k0sVersion"]


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_version_is_told_of_controllers_that_are_ready_not_of_those_that_start(replicas: int) -> None:
    """Core makes workers of the new version as soon as it is told: who serves them must be there."""
    old, new = "v1.35.4+k0s", VERSION
    world = living(replicas=replicas, version=old)
    world.script.pods = lambda name: STARTING if name.startswith("kmc-demo-") else pretend_pods.READY
    told = _told_on_the_way(world, to=new)
    live = world.body("StatefulSet", "kmc-demo")["status"]
    assert (live["updatedReplicas"], live.get("readyReplicas", 0)) == (1, 0)
    assert {each["version"] for some in told for each in some} == {old}
    assert world.status["version"] == old
    assert world.decisions()["versionBefore"] == "v1.35.4+k0s.0"
    world.script.pods = lambda _: pretend_pods.READY
    world.settle()
    assert world.versions == [{"version": new, "replicas": replicas}]


@pytest.mark.parametrize("kept", [True, False])
def test_what_was_told_of_a_version_does_not_fall_back_with_a_pod_that_restarts(kept: bool) -> None:
    """Also where the decision could not be kept that the change is done."""
    world = living(version="v1.35.4+k0s")
    world.changes(version=VERSION)
    world.settle()
    if not kept:
        decisions = {**world.decisions(), "versionBefore": "v1.35.4+k0s.0", "versionTextBefore": "v1.35.4+k0s"}
        annotation = {DECISIONS: json.dumps(decisions)}
        world.server.merge_patch(ref(world, "Secret", "kmc-demo-config"), {"metadata": {"annotations": annotation}})
    world.script.pods = lambda _: STARTING
    world.settle()
    assert world.status["readyReplicas"] == 0
    assert world.versions == [{"version": VERSION, "replicas": 1}]
    assert world.status["version"] == VERSION


def test_other_words_for_the_same_release_restart_nobody() -> None:
    world = living()
    pods = {body["metadata"]["uid"] for body in world.server.every("Pod")}
    world.changes(version="v1.36.3+k0s.2")
    world.settle()
    assert {body["metadata"]["uid"] for body in world.server.every("Pod")} == pods
    assert world.status["version"] == "v1.36.3+k0s.2"


def test_a_change_that_cannot_be_is_refused_and_the_old_words_stay() -> None:
    world = living()
    world.changes(version="v1.35.4+k0s")
    world.settle()
    assert world.status["version"] == VERSION
    assert world.status["k0sVersion"] == "v1.36.3+k0s.2"
    assert said(world)["SpecAccepted"] == "False ChangeRefused"
    assert world.available


def test_versions_survive_a_lost_status() -> None:
    world = living()
    was = {key: world.status[key] for key in ("version", "versions", "k0sVersion", "initialization")}
    world.server.merge_patch(world.owner_ref, {"status": None}, status=True)
    world.findings.clear()
    world.settle()
    assert {key: world.status[key] for key in was} == was


# --- the end ----------------------------------------------------------------------------------------------------------


def test_the_end_needs_no_cluster() -> None:
    world = living()
    world.server.delete(world.owner_ref)
    world.server.delete(world.cluster_ref)
    world.settle()
    assert world.owner_ref not in world.server.objects
    assert not [ref for ref in world.server.objects if ref.kind in ("Secret", "StatefulSet", "Service")]


def test_the_end_needs_no_owner_reference() -> None:
    world = living()
    world.server.edit(world.owner_ref, lambda body: body["metadata"].pop("ownerReferences"))
    world.server.delete(world.owner_ref)
    world.settle()
    assert world.owner_ref not in world.server.objects


def test_while_it_ends_it_says_so_in_the_contracts_words() -> None:
    world = living()
    world.server.delete(world.owner_ref)
    world.reconcile()
    assert said(world)["Deleting"] == "True Deleting"
    assert world.status["initialization"] == {"controlPlaneInitialized": True}
    assert world.status["version"] == VERSION


# --- neighbours -------------------------------------------------------------------------------------------------------


def test_the_words_of_both_kinds_are_the_same_world() -> None:
    status = living().status
    view = living().view()
    back = contract_status.in_words_of_cluster(status)
    again = contract_status._in_contract(view, back)
    assert again == {k: v for k, v in status.items() if k not in ("conditions", "version", "versions")}


def test_a_cluster_that_k0smotron_made_for_a_control_plane_is_left_alone() -> None:
    world = World()
    owner = {"apiVersion": "controlplane.cluster.x-k8s.io/v1beta1", "kind": "K0smotronControlPlane", "name": "x"}
    world.server.create(cluster("demo", ownerReferences=[{**owner, "uid": "1"}], finalizers=["k0smotron.io/finalizer"]))
    assert world.plan() == Plan()
    world.deletes()
    assert world.plan() == Plan()


def test_of_two_that_ask_for_a_name_the_one_that_has_something_goes_on() -> None:
    theirs = running()
    ours = CapiWorld(server=theirs.server).asks().belongs()
    # Beside a Cluster that lives, the control plane steps back, and the Cluster goes on.
    ours.planned(ours.view())
    ours.settle()  # its finalizer
    told = ours.planned(replace(ours.view(), rival=theirs.view().owner))
    assert told.actions == ()
    assert told.status is not None
    assert {c["reason"] for c in told.status["conditions"] if c["type"] == "Available"} == {"NameTaken"}
    assert make_plan(replace(theirs.view(), rival=ours.view().owner)) == theirs.plan()
    # A Cluster that has nothing gives way, and the control plane goes on.
    ours = CapiWorld().asks().belongs()
    young = World(server=ours.server).asks()
    refused = make_plan(replace(young.view(), rival=ours.view().owner))
    assert refused.actions == ()
    assert refused.status is not None
    assert refused.status["conditions"][0]["reason"] == "NameTaken"
    assert "K0smotronControlPlane demo-x7k2p has the control plane" in refused.status["conditions"][0]["message"]
    assert ours.planned(replace(ours.view(), rival=young.view().owner)).actions


def test_a_name_that_is_taken_holds_no_end() -> None:
    ours = living().view().owner
    world = World().asks()
    world.server.edit(world.owner_ref, lambda body: body["metadata"].update(finalizers=["k0smotron.io/finalizer"]))
    world.deletes()
    plan = make_plan(replace(world.view(), rival=ours))
    assert [type(each) for each in plan.actions] == [PatchMetadata]
