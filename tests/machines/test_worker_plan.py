"""The plan of a K0sWorkerConfig: when its data are made, of what, and what happens to token and status afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from hosted_cp.k0s import tokens
from hosted_cp.machines.plan import FINALIZER, FORCE, MADE_FOR, POOL_LIFE, TOKEN_OF
from hosted_cp.machines.view import PAUSED, ControlPlane
from hosted_cp.planning.actions import Action, Create, PatchMetadata, Replace, Target
from tests.hosting.pretend_server import encoded, secret_data
from tests.hosting.world import NAMESPACE, Crash
from tests.machines.worker_world import (
    CLUSTER,
    CONFIG,
    CONFIG_API,
    MACHINE,
    NAME,
    POOL,
    SECRET,
    WorkerWorld,
    made,
    ready,
    waiting,
)

# --- making the data --------------------------------------------------------------------------------------------------


def test_the_secret_is_the_contracts() -> None:
    metadata = {"labels": {"team": "blue", "cluster.x-k8s.io/watch-filter": "x"}, "annotations": {"note": "n"}}
    world = made(secretMetadata=metadata)
    body = world.secret
    assert body["type"] == "cluster.x-k8s.io/secret"
    assert set(body["data"]) == {"value", "format"}
    assert secret_data(body)["format"] == b"cloud-config"
    labels = body["metadata"]["labels"]
    assert labels == {**metadata["labels"], "cluster.x-k8s.io/cluster-name": "demo"}
    assert body["metadata"]["annotations"]["note"] == "n"
    [owner] = body["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("K0sWorkerConfig", NAME, True)


def test_the_token_in_it_is_one_that_the_tenant_knows() -> None:
    world = made()
    [known] = world.tenants
    data = secret_data(known)
    token = world.token
    assert (token.id, token.secret) == (data["token-id"].decode(), data["token-secret"].decode())
    assert (token.role, token.server) == ("worker", "https://192.0.2.11:31234")
    assert token.ca == world.base.data("demo-ca")["tls.crt"]
    assert data["expiration"] == b"2026-11-21T13:00:00Z"


def test_the_status_says_both_in_one() -> None:
    world = ready()
    world.work()
    assert world.status["dataSecretName"] == NAME
    assert world.status["initialization"] == {"dataSecretCreated": True}
    assert world.status["observedGeneration"] == 1
    assert world.why() == "True Ready: "
    assert world.why("DataSecretAvailable") == "True Available: "
    assert world.why("Paused") == "False NotPaused: "
    assert world.base.status_writes == 1
    assert [each.reason for each in world.said] == ["Ready"]


def test_the_order_is_finalizer_tenant_ours() -> None:
    first, second, third = ready().plan().actions
    assert isinstance(first, PatchMetadata)
    assert first.finalizers == (FINALIZER,)
    assert (type(second), second.target) == (Create, Target.TENANT)
    assert (type(third), third.target) == (Create, Target.MANAGEMENT)


def test_nothing_is_made_for_a_machine_that_goes() -> None:
    world = ready()
    going = {"deletionTimestamp": "2026-11-21T12:00:00Z", "finalizers": ["machine.cluster.x-k8s.io"]}
    world.edit(MACHINE, lambda body: body["metadata"].update(going))
    world.work()
    assert world.why().startswith("False MachineDeleting: Machine md-x7k2p is being deleted")
    assert (world.tenants, world.base.server.get(CONFIG)["metadata"].get("finalizers")) == ([], None)


def test_what_is_done_is_done() -> None:
    world = made()
    world.handed_over()
    world.work()
    before = world.base.writes, world.base.status_writes
    assert world.work() == ""
    assert (world.base.writes, world.base.status_writes) == before
    assert not world.plan().actions


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", range(3))
def test_a_crash_at_any_step_costs_nothing(step: int, when: str) -> None:
    world = ready()
    seen = 0

    def hook(action: Action, moment: str) -> None:
        nonlocal seen
        seen += moment == when
        if seen > step:
            raise Crash

    world.base.hook = hook
    with pytest.raises(Crash):
        world.work()
    world.base.hook = lambda action, moment: None
    assert world.work() == ""
    [known] = world.tenants
    assert secret_data(known)["token-secret"].decode() == world.token.secret
    assert world.why() == "True Ready: "


def test_the_machines_version_counts_and_the_configs_own_overrides_it() -> None:
    def installed(world: WorkerWorld) -> str:
        assert world.work() == "", world.why()
        return "\n".join(yaml.safe_load(world.value)["runcmd"])

    assert "v1.36.3+k0s.2" in installed(ready())  # the release that the control plane runs
    assert "v1.35.4+k0s" in installed(waiting(version="v1.35.4+k0s.0").owned().cluster())
    assert "v1.36.3+k0s.2" in installed(waiting().owned(version=None).cluster())


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("v1.37.0+k0s", "VersionNotSupported"),
        ("v1.36.3", ""),
        ("latest", "VersionNotSupported"),
        ("v1.27", "VersionNotSupported"),
    ],
)
def test_versions_that_cannot_be(version: str, reason: str) -> None:
    world = waiting().owned(version=version).cluster()
    world.work()
    assert world.why().startswith(f"False {reason}" if reason else "True")


def test_a_worker_that_is_too_old_is_made_and_said_to_be() -> None:
    world = waiting(version="v1.27.2+k0s.0").owned().cluster()
    assert world.work() == ""
    assert world.why() == (
        "True Ready: v1.27.2+k0s.0 is too old for the control plane, which runs v1.36.3+k0s.2: use v1.33 or newer"
    )
    assert "v1.27.2+k0s.0" in "\n".join(yaml.safe_load(world.value)["runcmd"])


def test_a_worker_newer_than_its_control_plane_waits_for_it() -> None:
    world = ready()
    world.control_plane = ControlPlane(version="v1.35.4+k0s", release="v1.35.4+k0s.0")
    world.work()
    assert world.why() == (
        "False VersionSkew: spec.version of Machine md-x7k2p: v1.36.3+k0s.2 is newer than the control plane, which runs"
        " v1.35.4+k0s.0; upgrade the control plane first, or take a worker of its version"
    )
    world.control_plane = ControlPlane(version="v1.36.3+k0s", release="v1.36.3+k0s.2")
    world.work()
    assert world.why() == "True Ready: "


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_nothing_is_said_before_the_machine_is_there() -> None:
    world = waiting().cluster()
    assert world.work() == ""
    assert not world.status
    assert not world.base.server.get(CONFIG)["metadata"].get("finalizers")
    world.edit(CONFIG, lambda body: body["metadata"].update(ownerReferences=[]))
    world.work()
    assert "no Machine owns this object yet" in world.why()


def test_a_machine_of_another_group_is_none() -> None:
    world = waiting().cluster()
    stranger = {"apiVersion": "machine.openshift.io/v1beta1", "kind": "Machine", "name": NAME, "uid": "m"}
    world.edit(CONFIG, lambda body: body["metadata"].update(ownerReferences=[stranger]))
    world.work()
    assert world.why().startswith("False WaitingForMachine: no Machine owns this object yet: name it in spec.bootstrap")
    assert not world.tenants


def test_each_thing_is_waited_for() -> None:
    world = waiting().owned()
    world.work()
    assert world.why().startswith("False WaitingForCluster: Cluster demo, which Machine md-x7k2p belongs to, does not")
    world.cluster(infrastructure=False, initialized=False)
    world.work()
    assert world.why().startswith("False WaitingForInfrastructure: ")
    world.provisioned(initialized=False)
    world.work()
    assert world.why().startswith("False WaitingForControlPlaneInitialization: ")
    assert world.why("DataSecretAvailable").startswith("False WaitingForControlPlaneInitialization: ")
    world.provisioned()
    world.control_plane = None
    world.work()
    assert world.why().startswith("False ControlPlaneNotFound: K0smotronControlPlane demo, which Cluster demo")
    world.control_plane, world.reachable = ControlPlane(version="v1.36.3+k0s"), False
    world.work()
    assert world.why().startswith("False WaitingForControlPlane: ")
    assert not world.base.server.get(CONFIG)["metadata"].get("finalizers")
    assert not world.base.server.every("Secret", NAME)
    world.reachable = True
    world.work()
    assert world.why() == "True Ready: "


def test_waiting_is_no_warning() -> None:
    world = waiting().owned().cluster(infrastructure=False)
    world.work()
    assert not world.said


def test_a_bad_spec_is_told_before_anything_is_there() -> None:
    world = waiting(files=[{"path": "x", "content": "y"}]).owned().cluster(infrastructure=False)
    world.work()
    assert world.why().startswith("False SpecInvalid: spec.files[0].path: ")
    assert [each.type for each in world.said] == ["Warning"]


def test_a_tenant_that_does_not_answer() -> None:
    world = ready()
    world.base.tenant_down = "no answer within 20 s"
    assert world.work()
    assert world.why().startswith("False Minting: the bootstrap data are being made: Create Secret kube-system/")
    world.base.tenant_down = ""
    assert world.work() == ""
    assert world.why() == "True Ready: "


# --- content of others ------------------------------------------------------------------------------------------------


def test_content_from_secrets_and_config_maps() -> None:
    world = ready(
        files=[
            {"path": "/etc/a", "contentFrom": {"secretRef": {"name": "site", "key": "a"}}},
            {"path": "/etc/b", "contentFrom": {"configMapRef": {"name": "site", "key": "b"}}},
        ]
    )
    world.work()
    assert world.why() == (
        "False SourceMissing: spec.files[0].contentFrom.secretRef.name: Secret site does not exist in namespace"
        " tenants; create it there, or correct the name; spec.files[1].contentFrom.configMapRef.name: ConfigMap site"
        " does not exist in namespace tenants; create it there, or correct the name"
    )
    world.base.secret("site", {"a": b"from a Secret"})
    world.config_map("site", c="from a ConfigMap")
    world.work()
    assert world.why().startswith("False SourceMissing: spec.files[1].contentFrom.configMapRef.key: ConfigMap site has")
    world.config_map("site2", b="")
    world.base.server.merge_patch(replace(SECRET, kind="ConfigMap", name="site"), {"data": {"b": "from a ConfigMap"}})
    assert world.work() == ""
    contents = [each["content"] for each in yaml.safe_load(world.value)["write_files"]]
    assert contents[1:] == ["from a Secret", "from a ConfigMap"]


def test_large_data_are_warned_of() -> None:
    world = made(files=[{"path": "/etc/big", "content": "x" * 20_000}])
    assert world.why().startswith("True Ready: the user data has 2")
    assert "16384 at most" in world.why("DataSecretAvailable")


# --- what is there already --------------------------------------------------------------------------------------------


def lost_status(world: WorkerWorld) -> None:
    world.base.server.set_status(CONFIG, {})


def test_a_lost_status_comes_back_without_new_data() -> None:
    world = made()
    world.handed_over()
    before = world.value
    lost_status(world)
    assert world.work() == ""
    assert world.status["dataSecretName"] == NAME
    assert world.status["initialization"] == {"dataSecretCreated": True}
    assert world.value == before
    assert len(world.tenants) == 1


def test_data_of_somebody_else_that_are_in_use_are_left_alone() -> None:
    world = ready()
    world.handed_over("theirs")
    assert world.work() == ""
    assert world.status["dataSecretName"] == "theirs"
    assert not world.tenants
    assert not world.base.server.every("Secret", NAME)


def stranger(world: WorkerWorld, *, kind: str = "cluster.x-k8s.io/secret", **metadata: Any) -> None:
    metadata = {"name": NAME, "namespace": NAMESPACE, **metadata}
    data = encoded({"value": b"#cloud-config old"})
    world.base.server.create({"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": metadata, "data": data})


FORMER = {"apiVersion": CONFIG_API, "kind": "K0sWorkerConfig", "name": NAME, "uid": "former", "controller": True}
OTHER = {"apiVersion": "x.example/v1", "kind": "Other", "name": "other", "uid": "other", "controller": True}


@pytest.mark.parametrize("owners", [[], [FORMER], [{**OTHER, "controller": False}]])
def test_a_secret_without_an_owner_is_adopted(owners: list[Any]) -> None:
    world = ready()
    stranger(world, ownerReferences=owners, labels={"kept": "yes"})
    assert world.work() == ""
    assert world.token.secret == secret_data(world.tenants[0])["token-secret"].decode()
    controllers = [each["name"] for each in world.secret["metadata"]["ownerReferences"] if each.get("controller")]
    assert controllers == [NAME]
    assert world.secret["metadata"]["labels"]["kept"] == "yes"
    assert world.why() == "True Ready: "


@pytest.mark.parametrize("owners", [[], [FORMER]])
def test_after_a_restore_it_is_owned_again_and_not_made_again(owners: list[Any]) -> None:
    world = ready()
    stranger(world, ownerReferences=owners)
    world.handed_over()
    assert world.work() == ""
    assert world.value == b"#cloud-config old"
    [owner] = world.secret["metadata"]["ownerReferences"]
    assert owner["uid"] == world.base.server.get(CONFIG)["metadata"]["uid"]
    assert world.why() == "True Ready: "
    assert not world.tenants


@pytest.mark.parametrize("about", [{"ownerReferences": [OTHER]}, {"kind": "Opaque"}])
def test_a_secret_of_somebody_else_is_not_touched(about: Any) -> None:
    world = ready()
    stranger(world, **about)
    assert world.work() == ""
    assert world.why().startswith(f"False NameConflict: Secret {NAME} exists and belongs to somebody else")
    assert world.value == b"#cloud-config old"
    assert not world.tenants


def test_what_is_stripped_by_hand_comes_back() -> None:
    world = made()
    before = world.value

    def strip(body: Any) -> None:
        body["metadata"] |= {"ownerReferences": [], "labels": {}, "annotations": {}}

    world.edit(SECRET, strip)
    world.handed_over()
    assert world.work() == ""
    assert world.secret["metadata"]["ownerReferences"]
    assert world.secret["metadata"]["annotations"][tokens.EXPIRES] == "2026-11-21T13:00:00Z"
    world.edit(CONFIG, lambda body: body["metadata"].update(finalizers=[]))
    assert world.work() == ""
    assert world.base.server.get(CONFIG)["metadata"]["finalizers"] == [FINALIZER]
    assert world.secret["metadata"]["labels"] == {"cluster.x-k8s.io/cluster-name": "demo"}
    assert world.value == before


def test_a_lost_secret_is_made_again_as_long_as_anybody_may_ask_for_it() -> None:
    world = made()
    world.handed_over()
    before = world.token
    world.base.server.delete(SECRET)
    assert world.work() == ""
    assert world.token == before
    world.becomes_node()
    world.work()
    world.base.server.delete(SECRET)
    assert world.work() == ""
    assert not world.base.server.every("Secret", NAME)
    assert world.status["dataSecretName"] == NAME
    assert world.why() == "True Ready: "


def test_data_that_somebody_took_out_come_back_in_one_write() -> None:
    world = made()
    before = world.value
    world.edit(SECRET, lambda body: body.update(data={}))
    [token, data] = world.plan().actions
    assert (type(token), type(data)) == (Create, Replace)
    assert world.work() == ""
    assert world.value == before


def test_what_the_spec_says_later_changes_nothing_and_that_is_said() -> None:
    world = made()
    before = world.value
    world.says(CONFIG, preK0sCommands=["reboot"])
    assert world.work() == ""
    assert world.value == before
    assert "the spec was changed after the bootstrap data had been made" in world.why()
    assert world.status["observedGeneration"] == 2
    world.says(CONFIG, files=[{"path": "x"}])
    assert world.work() == ""
    assert world.why().startswith("True Ready: ")


# --- the token's life -------------------------------------------------------------------------------------------------


def test_its_end_is_moved_while_there_is_no_node() -> None:
    world = made()
    world.handed_over()
    before, secret = world.value, world.token
    after = world.plan().retry_after
    assert after == 40 * 60
    for _ in range(5):
        world.passes(seconds=after)
        assert world.work() == ""
    assert world.ends() == "2026-11-21T16:20:00Z"
    assert world.value == before
    assert world.secret["metadata"]["annotations"][tokens.EXPIRES] == "2026-11-21T16:20:00Z"
    assert secret_data(world.tenants[0])["token-secret"].decode() == secret.secret


@pytest.mark.parametrize(
    "spec",
    [
        {"files": [{"path": "x"}]},
        {"files": [{"path": "/x", "contentFrom": {"secretRef": {"name": "gone", "key": "x"}}}]},
    ],
)
def test_it_is_moved_whatever_the_spec_says_by_now(spec: Any) -> None:
    world = made()
    world.says(CONFIG, **spec)
    world.passes(minutes=50)
    assert world.work() == ""
    assert world.ends() == "2026-11-21T13:50:00Z"
    assert not world.plan().actions


def test_an_operator_that_was_away_brings_the_same_token_back() -> None:
    world = made()
    before = world.value
    world.passes(hours=7)
    assert world.work() == ""
    assert world.ends() == "2026-11-21T20:00:00Z"
    assert world.value == before


@pytest.mark.parametrize("crash", [False, True])
def test_what_the_tenant_has_lost_is_made_anew_and_the_data_too(crash: bool) -> None:
    world = made()
    world.handed_over()
    before = world.token
    world.base.tenant.objects.clear()
    world.passes(hours=2)
    if crash:

        def hook(action: Action, moment: str) -> None:
            if moment == "after":
                raise Crash

        world.base.hook = hook
        with pytest.raises(Crash):
            world.work()
        world.base.hook = lambda action, moment: None
    assert world.work() == ""
    assert world.token.id == before.id
    assert world.token.secret != before.secret
    assert world.token.secret == secret_data(world.tenants[0])["token-secret"].decode()


def test_it_is_revoked_when_there_is_a_node() -> None:
    world = made()
    world.handed_over()
    assert world.base.server.get(CONFIG)["metadata"]["finalizers"] == [FINALIZER]
    world.becomes_node()
    assert world.work() == ""
    assert not world.tenants
    assert not world.base.server.get(CONFIG)["metadata"].get("finalizers")
    assert world.plan().retry_after is None
    world.passes(hours=5)
    assert not world.plan().actions


@pytest.mark.parametrize("lost", ["nothing", "secret", "going"])
def test_while_it_cannot_be_revoked_a_condition_says_so(lost: str) -> None:
    world = made()
    world.handed_over()
    if lost == "going":
        world.edit(SECRET, lambda body: body["metadata"].update(finalizers=["their/s"]))
    if lost != "nothing":
        world.base.server.delete(SECRET)
    world.becomes_node()
    world.base.tenant_down = "no route to host"
    assert world.work()
    assert world.why() == "True Ready: "
    assert world.why("JoinTokenRevoked").startswith("False RevocationFailed: the join token cannot be revoked yet: ")
    assert "no route to host" in world.why("JoinTokenRevoked")
    assert "ends by itself at 2026-11-21T13:00:00Z" in world.why("JoinTokenRevoked")
    assert f"put the annotation {FORCE}=true" in world.why("JoinTokenRevoked")
    assert [(each.type, each.reason) for each in world.said[-1:]] == [("Warning", "RevocationFailed")]

    # Tried again and again, nothing is written: it stands there already.
    world.passes(minutes=10)
    before, said = world.base.server.get(CONFIG), len(world.said)
    assert world.work()
    assert world.base.server.get(CONFIG) == before
    assert len(world.said) == said

    world.base.tenant_down = ""
    assert world.work() == ""
    assert not world.tenants
    assert [each["type"] for each in world.status["conditions"]] == ["Ready", "DataSecretAvailable", "Paused"]


@pytest.mark.parametrize("lost", [False, True])
def test_a_token_that_has_ended_or_is_given_up_needs_no_revocation(lost: bool) -> None:
    for given_up in (False, True):
        world = made()
        world.handed_over()
        if lost:
            world.base.server.delete(SECRET)
        world.becomes_node()
        world.base.tenant_down = "no answer"
        assert world.work()
        forced(world) if given_up else world.passes(hours=1, minutes=2)
        assert world.work() == ""
        assert not world.base.server.get(CONFIG)["metadata"].get("finalizers")
        assert [each["type"] for each in world.status["conditions"]] == ["Ready", "DataSecretAvailable", "Paused"]


def test_it_is_not_moved_for_a_machine_that_is_going() -> None:
    world = made()
    world.edit(MACHINE, lambda body: body["metadata"].update(finalizers=["machine.cluster.x-k8s.io"]))
    world.base.server.delete(MACHINE)
    world.passes(minutes=50)
    assert world.work() == ""
    assert world.ends() == "2026-11-21T13:00:00Z"


def test_a_tenant_that_is_away_when_it_should_be_moved() -> None:
    world = made()
    world.base.tenant_down = "no answer"
    world.passes(minutes=50)
    assert world.work()
    assert world.why().startswith("True Ready: the join token cannot be extended: ")
    world.base.tenant_down = ""
    assert world.work() == ""
    assert world.why() == "True Ready: "


# --- pools ------------------------------------------------------------------------------------------------------------


def test_a_pools_token_is_made_anew_in_time() -> None:
    world = waiting().owned(pool=True).cluster()
    assert world.work() == ""
    assert "--hostname-override" not in world.value.decode()
    first = world.token
    world.says(POOL, template={"spec": {"bootstrap": {"dataSecretName": NAME}}})
    assert world.work() == ""
    assert world.plan().retry_after == POOL_LIFE.total_seconds() / 2
    world.passes(hours=12)
    world.says(CONFIG, postK0sCommands=["echo new"])
    assert world.work() == ""
    assert world.token.id != first.id
    assert b"echo new" in world.value
    assert len(world.tenants) == 2  # the first one is still good for machines that were made with it
    assert world.secret["metadata"]["annotations"][TOKEN_OF].endswith(".1")
    assert world.secret["metadata"]["annotations"][MADE_FOR] == "2"
    world.base.server.delete(CONFIG)
    assert world.work() == ""
    assert not world.tenants


# --- pause and end ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["cluster", "annotation"])
def test_paused_nothing_is_done(by: str) -> None:
    world = waiting().owned().cluster(**({"paused": True} if by == "cluster" else {}))
    if by == "annotation":
        world.edit(CONFIG, lambda body: body["metadata"].update(annotations={PAUSED: ""}))
    assert world.work() == ""
    assert [each["type"] for each in world.status["conditions"]] == ["Paused"]
    assert world.why("Paused").startswith("True Paused")
    assert not world.base.server.get(CONFIG)["metadata"].get("finalizers")
    world.says(CLUSTER, paused=None)
    world.edit(CONFIG, lambda body: body["metadata"].update(annotations={}))
    assert world.work() == ""
    assert world.why() == "True Ready: "
    assert world.why("Paused").startswith("False")


def test_a_paused_one_is_not_let_go() -> None:
    world = made()
    world.says(CLUSTER, paused=True)
    world.base.server.delete(CONFIG)
    assert world.work() == ""
    assert CONFIG in world.base.server.objects
    assert world.status["dataSecretName"] == NAME
    world.says(CLUSTER, paused=None)
    assert world.work() == ""
    assert CONFIG not in world.base.server.objects


def test_its_token_ends_with_it() -> None:
    world = made()
    world.base.server.delete(CONFIG)
    assert world.work() == ""
    assert CONFIG not in world.base.server.objects
    assert not world.tenants


def gone_cluster(world: WorkerWorld) -> None:
    world.base.server.delete(CLUSTER)


def gone_control_plane(world: WorkerWorld) -> None:
    world.control_plane = None


def forced(world: WorkerWorld) -> None:
    world.edit(CONFIG, lambda body: body["metadata"].setdefault("annotations", {}).update({FORCE: "true"}))


def expired(world: WorkerWorld) -> None:
    world.passes(hours=2)


def gone_machine(world: WorkerWorld) -> None:
    world.base.server.delete(MACHINE)
    expired(world)


@pytest.mark.parametrize("change", [gone_cluster, gone_control_plane, forced, expired, gone_machine])
def test_a_silent_tenant_holds_it_only_as_long_as_that_is_of_use(change: Any) -> None:
    world = made()
    world.base.tenant_down = "no answer"
    world.base.server.delete(CONFIG)
    assert world.work()
    assert world.why().startswith("False RevocationFailed: the join token cannot be revoked yet: ")
    assert "2026-11-21T13:00:00Z" in world.why()
    assert world.why("JoinTokenRevoked") == world.why()
    change(world)
    assert world.work() == ""
    assert CONFIG not in world.base.server.objects


def test_one_that_never_had_a_token_goes_at_once() -> None:
    world = waiting().owned()
    world.base.tenant_down = "no answer"
    world.base.server.delete(CONFIG)
    assert world.work() == ""
    assert CONFIG not in world.base.server.objects


def test_no_secret_half_is_in_any_plan() -> None:
    world = ready()
    plans = [world.plan()]
    world.work()
    secret = world.token.secret
    world.passes(minutes=50)
    plans.append(world.plan())
    world.work()
    world.base.server.delete(CONFIG)
    plans.append(world.plan())
    assert secret not in repr(plans)
    recipes = [each.recipe for p in plans for each in p.actions if isinstance(each, Create | Replace) and each.recipe]
    assert len(recipes) == 4
    assert secret not in repr([each.printed() for each in recipes])
