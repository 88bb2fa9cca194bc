"""The lab's decisions that need no machine: addresses, state, manifests, scripts, who gets which address."""

from __future__ import annotations

import io
import json
import tarfile
import tomllib
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.lab import archive, audit, cgroups, cloud, machine, manifests, netns, preflight, state
from e2e.lab.network import LabError, addresses, check_name, choose_block
from e2e.lab.state import Journal, Process, State, Thing

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?", fullmatch=True)
K0S_DEFAULTS = [IPv4Network("10.96.0.0/12"), IPv4Network("10.244.0.0/16")]


# --- addresses -------------------------------------------------------------------------------------------------------


@given(st.lists(NAMES, min_size=2, max_size=20, unique=True))
def test_labs_never_share_a_network_with_each_other_or_with_a_tenant(names: list[str]) -> None:
    taken = [*K0S_DEFAULTS, IPv4Network("0.0.0.0/0"), IPv4Network("192.168.0.0/16")]
    for name in names:
        block = choose_block(name, taken)
        assert not any(block.overlaps(other) for other in taken if other.prefixlen)
        taken.append(block)


def test_a_lab_keeps_its_network_unless_somebody_else_has_it() -> None:
    wanted = choose_block("demo", [])
    assert choose_block("demo", []) == wanted
    inside = next(wanted.subnets(new_prefix=30))
    assert choose_block("demo", [inside]) != wanted


def test_no_network_left() -> None:
    with pytest.raises(LabError, match="no free network"):
        choose_block("demo", [IPv4Network("10.0.0.0/8")])


def test_the_parts_of_a_block_do_not_overlap() -> None:
    plan = addresses(IPv4Network("10.200.0.0/16"))
    parts = [plan.links, plan.balancers, plan.edges, plan.pods, plan.services]
    assert all(part.subnet_of(plan.block) for part in parts)
    assert not any(one.overlaps(other) for one in parts for other in parts if one != other)
    assert plan.kubernetes in plan.services
    assert plan.node in plan.links
    assert netns.edge_address(plan, 1) != plan.edge_gateway


@pytest.mark.parametrize("bad", ["", "A", "-a", "a-", "a/b", "a" * 21, "a b", "../x"])
def test_names_that_cannot_be(bad: str) -> None:
    with pytest.raises(LabError, match="cannot be a name"):
        check_name(bad)


def test_interface_names_fit_the_kernel() -> None:
    assert len(netns.machine_link("a" * 20)) <= 15
    assert netns.machine_link("a") != netns.machine_link("b")


# --- state -----------------------------------------------------------------------------------------------------------

SOME = State(
    name="demo", block="10.200.0.0/16", boot="b",
    things=(Thing(kind="netns", name="node"), Thing(kind="link", name="x")),
    processes=(Process(name="etcd", pid=3, born=4),), edges=(("e1", 1),),
)  # fmt: skip


def test_the_state_survives_its_file(tmp_path: Path) -> None:
    Journal(tmp_path, SOME).save(SOME)
    assert state.read(tmp_path) == SOME
    assert state.read(tmp_path / "none") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', json.dumps({"version": 1, "name": "x"})])
def test_a_strange_state_file_is_refused_and_not_guessed_at(text: str) -> None:
    with pytest.raises(LabError):
        state.decode(text)


def test_things_are_written_down_before_they_are_made_and_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path, State(name="demo", block="10.200.0.0/16", boot="b"))
    thing = Thing(kind="link", name="x")
    assert journal.expect(thing)
    assert state.read(tmp_path) == journal.state
    assert not journal.expect(thing)
    journal.forget(thing)
    assert journal.state.things == ()


def test_a_restarted_process_replaces_its_former_self(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SOME)
    journal.started(Process(name="etcd", pid=7, born=8))
    assert journal.state.processes == (Process(name="etcd", pid=7, born=8),)


def test_a_folder_too_deep_for_sockets_is_refused() -> None:
    with pytest.raises(LabError, match="HOSTED_CP_CACHE"), state.locked(Path("/x" * 40)):
        pass


# --- cgroups ---------------------------------------------------------------------------------------------------------

V1 = """\
30 29 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
32 30 0:28 / /sys/fs/cgroup/net_cls rw,relatime - cgroup cgroup rw,net_cls
33 30 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
V2 = "30 29 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_which_hierarchies_are_used() -> None:
    first, unified = cgroups.mounted(V1)
    assert first == [Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup/systemd")]
    assert unified == [Path("/sys/fs/cgroup/unified")]
    assert cgroups.mounted(V2) == ([], [Path("/sys/fs/cgroup")])


# --- configuration ---------------------------------------------------------------------------------------------------


def test_containerd_s_configuration_is_toml_and_says_what_was_measured_to_be_needed() -> None:
    text = machine.containerd_config(data=Path("/d"), run=Path("/r"), conf_dir="/c", runc=Path("/usr/sbin/runc"))
    config = tomllib.loads(text)
    runtime = config["plugins"]["io.containerd.cri.v1.runtime"]
    assert config["version"] == 3
    assert config["oom_score"] == 0
    assert runtime["disable_apparmor"]
    assert runtime["restrict_oom_score_adj"]
    assert runtime["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"] is False
    assert config["plugins"]["io.containerd.cri.v1.images"]["pinned_images"] == {"sandbox": machine.PAUSE_IMAGE}


@pytest.mark.parametrize("lab", ["/root/.cache/hosted-cp/lab-x", "/var/cache/lab-x", "/run/lab-x"])
def test_the_lab_s_folder_stays_visible_behind_what_covers_it(lab: str) -> None:
    folder = Path(lab, "node")
    binds = {folder / "k": "/var/lib/kubelet"}
    script = machine.mount_script(lab=Path(lab), folder=folder, covered=["/var"], binds=binds, pause=Path("/p"))
    lines = script.splitlines()
    covered = lines.index("mount -t tmpfs -o mode=755 lab /run")
    back = f"mount --bind {folder}/private/lab {lab}"
    if lab.startswith(("/var", "/run")):
        assert lines.index(back) > covered
    else:
        assert back not in lines
    assert lines[0] == "set -e"
    assert lines[1] == "mount --make-rprivate /"
    assert lines[-1] == "exec /p"


def test_paths_with_blanks_reach_the_shell_whole() -> None:
    script = machine.mount_script(lab=Path("/a b"), folder=Path("/a b/n"), covered=[], binds={Path("/a b/x"): "/y z"},
                                  pause=Path("/p p"))  # fmt: skip
    assert "mount --bind '/a b/x' '/y z'" in script
    assert script.endswith("exec '/p p'\n")


def test_packet_rules_are_added_once() -> None:
    plan = addresses(IPv4Network("10.200.0.0/16"))
    first = netns.node_rules(plan, present=())
    assert "-I FORWARD -j LAB-FORWARD" in first
    again = netns.node_rules(
        plan, present=["-A FORWARD -j LAB-FORWARD", "-A INPUT -j LAB-INPUT", "-A OUTPUT -j LAB-OUTPUT"]
    )
    assert "-I " not in again
    # In each table: the chains are emptied (":LAB-…") before they are filled.
    for table in first.split("COMMIT")[:-1]:
        assert table.index(":LAB-") < table.index("-A LAB-")


def test_dns_slice_and_service_belong_together() -> None:
    objects = dict(manifests.dns(IPv4Address("10.200.128.10"), IPv4Address("10.200.0.2")))
    service = objects["/api/v1/namespaces/kube-system/services/kube-dns"]
    slices = objects["/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns-lab"]
    assert slices["metadata"]["labels"]["kubernetes.io/service-name"] == service["metadata"]["name"]
    assert {(each["name"], each["port"]) for each in slices["ports"]} == {
        (each["name"], each["port"]) for each in service["spec"]["ports"]
    }


# --- archives --------------------------------------------------------------------------------------------------------


def test_an_archive_names_its_image_and_is_the_same_each_time(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for out in (one, two):
        archive.docker_archive(
            out, "x.local/y:1", files={"/bin/z": b"content"}, links={"/bin/a": "z"}, command=["/bin/z"]
        )
    assert one.read_bytes() == two.read_bytes()
    digest, names = archive.identity(one)
    assert names == ["x.local/y:1"]
    assert len(digest) == 64
    with tarfile.open(one) as tar:
        layer = tar.extractfile("layer.tar")
        assert layer is not None
        with tarfile.open(fileobj=io.BytesIO(layer.read())) as inner:
            assert sorted(inner.getnames()) == ["bin/a", "bin/z"]


# --- storage and addresses -------------------------------------------------------------------------------------------


def _claim(**spec: Any) -> dict[str, Any]:
    base = {"storageClassName": manifests.STORAGE_CLASS, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}  # fmt: skip
    return {"metadata": {"name": "data", "namespace": "n", "uid": "u1"}, "spec": {**base, **spec}}


def test_a_volume_is_for_its_claim_only(tmp_path: Path) -> None:
    volume = cloud.volume_for(_claim(), volumes=tmp_path)
    assert volume is not None
    assert volume["spec"]["claimRef"]["uid"] == "u1"
    assert volume["spec"]["hostPath"]["path"] == str(tmp_path / "pvc-u1")


def test_a_class_of_another_name_is_served_when_its_provisioner_is_ours(tmp_path: Path) -> None:
    claim = _claim(storageClassName="other")
    claim["metadata"]["annotations"] = {"volume.kubernetes.io/storage-provisioner": manifests.PROVISIONER}
    volume = cloud.volume_for(claim, volumes=tmp_path)
    assert volume is not None
    assert volume["spec"]["storageClassName"] == "other"


@pytest.mark.parametrize("spec", [{"storageClassName": "other"}, {"storageClassName": ""}, {"volumeName": "bound"}])
def test_claims_that_are_not_ours(spec: dict[str, Any], tmp_path: Path) -> None:
    assert cloud.volume_for(_claim(**spec), volumes=tmp_path) is None


@pytest.mark.parametrize(
    ("annotation", "phase", "policy", "goes"),
    [
        (manifests.PROVISIONER, "Released", "Delete", True),
        (manifests.PROVISIONER, "Bound", "Delete", False),
        (manifests.PROVISIONER, "Released", "Retain", False),
        ("somebody.else", "Released", "Delete", False),
    ],
)
def test_only_released_volumes_of_ours_lose_their_data(
    annotation: str, phase: str, policy: str, goes: bool, tmp_path: Path
) -> None:
    volume = {
        "metadata": {"name": "pvc-u1", "annotations": {"pv.kubernetes.io/provisioned-by": annotation}},
        "spec": {"persistentVolumeReclaimPolicy": policy}, "status": {"phase": phase},
    }  # fmt: skip
    assert (cloud.folder_to_delete(volume, volumes=tmp_path) is not None) == goes


POOL = IPv4Network("10.200.1.0/29")


def _service(uid: str, *, held: str | None = None, **spec: Any) -> dict[str, Any]:
    ingress = [{"ip": held}] if held else None
    return {"metadata": {"uid": uid, "name": uid, "namespace": "n"}, "spec": {"type": "LoadBalancer", **spec},
            "status": {"loadBalancer": {"ingress": ingress}}}  # fmt: skip


def test_a_service_keeps_its_address_and_a_new_one_gets_the_lowest_free() -> None:
    used = {"a": IPv4Address("10.200.1.1"), "b": IPv4Address("10.200.1.3")}
    assert cloud.choose_address(_service("b", held="10.200.1.3"), pool=POOL, used=used) == IPv4Address("10.200.1.3")
    assert cloud.choose_address(_service("c"), pool=POOL, used=used) == IPv4Address("10.200.1.2")


def test_an_address_that_is_asked_for_is_given_or_none() -> None:
    used = {"a": IPv4Address("10.200.1.1")}
    ask = "10.200.1.5"
    assert cloud.choose_address(_service("c", loadBalancerIP=ask), pool=POOL, used=used) == IPv4Address(ask)
    assert cloud.choose_address(_service("c", loadBalancerIP="10.200.1.1"), pool=POOL, used=used) is None
    assert cloud.choose_address(_service("c", loadBalancerIP="1.2.3.4"), pool=POOL, used=used) is None


def test_an_address_of_a_former_pool_is_replaced() -> None:
    assert cloud.choose_address(_service("c", held="9.9.9.9"), pool=POOL, used={}) == IPv4Address("10.200.1.1")


def test_a_full_pool_gives_nothing() -> None:
    used = {str(each): each for each in POOL.hosts()}
    assert cloud.choose_address(_service("late"), pool=POOL, used=used) is None


def test_which_services_are_served() -> None:
    assert cloud.wants_address(_service("a"))
    assert not cloud.wants_address(_service("a", type="NodePort"))
    assert not cloud.wants_address(_service("a", loadBalancerClass="x/y"))
    refused = _service("a")
    refused["metadata"]["annotations"] = {manifests.NO_ADDRESS: "true"}
    assert not cloud.wants_address(refused)


# --- audit, preflight ------------------------------------------------------------------------------------------------


def test_a_watch_is_counted_once_and_a_half_written_line_not_at_all(tmp_path: Path) -> None:
    def entry(verb: str, stage: str) -> bytes:
        target = {"resource": "pods", "subresource": "status", "namespace": "n"}
        who = {"username": "u"}
        return json.dumps({"stage": stage, "verb": verb, "user": who, "objectRef": target}).encode()

    log = tmp_path / "audit.log"
    log.write_bytes(b"\n".join([entry("get", "ResponseComplete"), b""]))
    since = audit.position(log)
    lines = [entry("watch", "ResponseStarted"), entry("watch", "ResponseComplete"), entry("patch", "ResponseComplete")]
    with open(log, "ab") as file:
        file.write(b"\n".join([*lines, b'{"stage": "Respo']))
    assert [(each.verb, each.resource) for each in audit.requests(log, since=since)] == [
        ("watch", "pods/status"), ("patch", "pods/status"),
    ]  # fmt: skip


def test_what_preflight_says_of_a_machine() -> None:
    assert preflight.missing_capabilities(0x1FFFEFFFFFF) == []
    assert "SYS_ADMIN" in preflight.missing_capabilities(0xA80425FB)  # Docker's default set
    assert preflight.go_version("go version go1.26.8 linux/amd64") == (1, 26)
    assert preflight.go_version("") is None
    bad = preflight.Finding("runc", False, "not found", "", ("runc",))
    note = preflight.Finding("processors", False, "1", "slow", needed=False)
    lines: list[str] = []
    assert not preflight.report([bad, note], out=lines.append)
    assert preflight.report([note], out=lines.append)
    assert preflight.wanted_packages([bad, bad, note]) == ["runc"]
    assert lines[0] == "MISSING  runc: not found  -> apt-get install runc"
