"""What a machine that boots is started with: its scripts and files, and how k0s is told what this kernel needs."""

from __future__ import annotations

import os
import subprocess
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml

from e2e.capi.edges import edge_name, minor_of
from e2e.lab import cgroups, netns, systemd
from e2e.lab.network import addresses, check_name

LAB = Path("/root/.cache/hosted-cp/lab-x")
HIERARCHIES = [("cpu", "cpu"), ("systemd", "none,name=systemd")]


def _inner(lab: Path = LAB, kept: list[Path] | None = None) -> str:
    folder = lab / "edges" / "one"
    return systemd.inner_script(
        lab=lab, folder=folder, kept=kept or [], binds={folder / "k0s": "/var/lib/k0s"}, hostname="one",
        covered=systemd.WRITTEN, hierarchies=HIERARCHIES,
    )  # fmt: skip


@pytest.mark.parametrize("lab", [LAB, Path("/var/cache/lab-x"), Path("/srv/a b/lab-x"), Path("/usr/local/lab-x")])
def test_the_scripts_are_scripts(lab: Path) -> None:
    for script in (_inner(lab), systemd.outer_script(entrances=[Path("/a b/c")], inner=lab / "inner.sh")):
        done = subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True, check=False)
        assert done.stderr == ""


@pytest.mark.parametrize("lab", [LAB, Path("/var/cache/lab-x")])
def test_what_covers_the_lab_s_folder_comes_last_and_holds_it(lab: Path) -> None:
    lines = _inner(lab).splitlines()
    covering = [line for line in lines if line.startswith("mount --rbind") and not line.endswith(" /dev")]
    folder = f"/{lab.parts[1]}"
    assert covering[-1].endswith(f" {folder}")
    inside = f"mount --bind {lab} {lab}/edges/one/private/new{lab}"
    assert lines.index(inside) < lines.index(covering[-1])
    # By then the way to what is below has been covered, too.
    assert not any("/private/new" in line for line in lines[lines.index(covering[-1]) + 1 :])


def test_this_machine_is_read_only_before_anything_of_the_machine_s_own_is_mounted() -> None:
    lines = _inner().splitlines()
    read_only = next(number for number, line in enumerate(lines) if "remount,bind,ro" in line)
    mounts = [number for number, line in enumerate(lines) if line.startswith("mount ")]
    assert [lines[number] for number in mounts if number < read_only] == [f"mount --bind {LAB} {LAB}"]


def test_what_is_kept_appears_once_and_never_over_what_covers_it() -> None:
    script = _inner(kept=[LAB.parent, Path("/root/.pyenv"), LAB / "within", Path("/usr/local")])
    assert script.count("mount --bind /root/.pyenv ") == 1
    assert "mount --bind /usr/local " not in script
    assert f"mount --bind {LAB}/within" not in script


def test_hierarchies_are_mounted_anew() -> None:
    own = "9:name=systemd:/\n4:memory:/x\n2:net_cls,net_prio:/\n1:cpu,cpuacct:/\n0::/\n"
    assert cgroups.mount_options(own) == [
        ("cpu,cpuacct", "cpu,cpuacct"), ("memory", "memory"), ("systemd", "none,name=systemd"),
    ]  # fmt: skip


def _image(**changes: object) -> dict[str, bytes]:
    given = {
        "hostname": "one", "address": "10.1.2.3", "user_data": b"#cloud-config\n", "meta_data": {"region": "here"},
        "kubelet": ["--node-ip=10.1.2.3", "--oom-score-adj=0"], "tools": Path("/tools"), **changes,
    }  # fmt: skip
    return systemd.image(**given)  # type: ignore[arg-type]


def test_cloud_init_finds_the_user_data_and_who_the_machine_is() -> None:
    image = _image()
    assert image[systemd.USER_DATA] == b"#cloud-config\n"
    meta = yaml.safe_load(image["/var/lib/cloud/seed/nocloud/meta-data"])
    assert meta["local-hostname"] == "one"
    assert meta["region"] == "here"
    again, other = _image(), _image(user_data=b"#cloud-config\n# other\n")
    assert again["/etc/machine-id"] == image["/etc/machine-id"]
    assert other["/etc/machine-id"] != image["/etc/machine-id"]
    assert yaml.safe_load(image["/etc/cloud/cloud.cfg"])["datasource_list"] == ["NoCloud"]


@pytest.mark.parametrize(
    ("start", "kubelet"),
    [
        (r"/usr/local/bin/k0s worker --token-file=/t", " --kubelet-extra-args=--v=1"),
        (r"/opt/k0s worker --kubelet-extra-args=--hostname-override=m1\x20--v=2 --labels=a=b --token-file=/t", ""),
    ],
)
def test_the_unit_of_k0s_gets_what_this_kernel_needs(start: str, kubelet: str, tmp_path: Path) -> None:
    unit = tmp_path / "k0sworker.service"
    unit.write_text(f'[Unit]\nDescription=x\n\n[Service]\nRestart=always\nExecStart={start}\nEnvironment="A=1"\n')
    text = _image()["/etc/systemd/system-generators/lab"].decode()
    generator = tmp_path / "generator"
    generator.write_text(text.replace("/etc/systemd/system/k0sworker.service", str(unit)))
    subprocess.run(["sh", generator, tmp_path / "out", tmp_path, tmp_path], check=True, env=os.environ)
    lines = (tmp_path / "out" / "k0sworker.service.d" / "lab.conf").read_text().splitlines()
    own = r"\x20--node-ip=10.1.2.3\x20--oom-score-adj=0"
    assert lines[:3] == ["[Service]", f"Environment=PATH=/tools:{systemd.SYSTEM_PATH}", "ExecStart="]
    words = (start + kubelet).split(" ")
    given = next(number for number, word in enumerate(words) if word.startswith("--kubelet-extra-args="))
    words[given] += own
    assert lines[3:] == [f"ExecStart={' '.join(words)} --ignore-pre-flight-checks"]


def test_without_k0s_there_is_nothing_to_add(tmp_path: Path) -> None:
    text = _image()["/etc/systemd/system-generators/lab"].decode()
    generator = tmp_path / "generator"
    generator.write_text(text.replace("/etc/systemd/system/k0sworker.service", str(tmp_path / "none")))
    subprocess.run(["sh", generator, tmp_path / "out", tmp_path, tmp_path], check=True)
    assert not (tmp_path / "out").exists()


def test_edge_machines_reach_downloads_and_nothing_else_of_the_node() -> None:
    plan = addresses(IPv4Network("10.200.0.0/16"))
    lines = netns.node_rules(plan, present=()).splitlines()
    allowed = lines.index(f"-A LAB-INPUT -i edge+ -p tcp -d {plan.node} --dport {netns.DOWNLOADS_PORT} -j RETURN")
    refused = "-A LAB-INPUT -i edge+ -p tcp -j REJECT --reject-with tcp-reset"
    assert allowed < lines.index(refused)


def test_names_of_machines_are_names_of_edge_machines() -> None:
    names = {edge_name(space, name) for space in ("a", "b") for name in ("x", "hosted-workers-abcde-12345", "A.B", "-")}
    assert len(names) == 8
    assert all(check_name(name) for name in names)
    assert edge_name("a", "hosted-workers-abcde-12345").startswith("hosted-worker-")


def test_programs_are_those_of_the_machine_s_version() -> None:
    known = ("1.36", "1.35")
    assert minor_of("v1.35.4+k0s", known) == "1.35"
    assert minor_of("v1.20.0", known) == "1.36"
    assert minor_of("", known) == "1.36"
