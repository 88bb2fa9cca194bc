"""Butane's language, after its published specifications."""

from __future__ import annotations

import base64

import pytest

from hosted_cp.api.butane import SPECIFICATIONS, ButaneError, ignition_config, ignition_version

HEAD = "variant: fcos\nversion: 1.5.0\n"


def test_spellings_and_contents() -> None:
    found = ignition_config(
        HEAD
        + """
ignition:
  timeouts: {http_total: 5, http_response_headers: 1}
storage:
  disks:
    - device: /dev/a
      wipe_table: true
      partitions: [{size_mib: 1, start_mib: 2, type_guid: g, wipe_partition_entry: true}]
  files:
    - path: /a
      mode: 0600
      contents: {inline: "é\\n", compression: null}
      append: [{source: "https://x/y", http_headers: [{name: a, value: b}], verification: {hash: sha512-1}}]
  luks:
    - {name: a, key_file: {inline: k}, open_options: [x], clevis: {custom: {pin: p, config: c, needs_network: true}}}
passwd: {users: [{name: core, ssh_authorized_keys: [k], no_log_init: true, password_hash: h}]}
kernel_arguments: {should_exist: [a], should_not_exist: [b]}
systemd: {units: [{name: a.service, contents: "[Unit]", dropins: [{name: b.conf, contents: c}]}]}
"""
    )
    assert found["ignition"] == {"timeouts": {"httpTotal": 5, "httpResponseHeaders": 1}, "version": "3.4.0"}
    [file] = found["storage"]["files"]
    inline = "data:;base64," + base64.b64encode("é\n".encode()).decode()
    assert file["contents"] == {"source": inline, "compression": None}
    assert file["mode"] == 0o600
    assert file["append"] == [
        {"source": "https://x/y", "httpHeaders": [{"name": "a", "value": "b"}], "verification": {"hash": "sha512-1"}}
    ]
    assert found["storage"]["disks"][0]["partitions"] == [
        {"sizeMiB": 1, "startMiB": 2, "typeGuid": "g", "wipePartitionEntry": True}
    ]
    assert found["storage"]["luks"][0]["clevis"]["custom"]["needsNetwork"] is True
    assert found["passwd"]["users"][0] == {
        "name": "core", "sshAuthorizedKeys": ["k"], "noLogInit": True, "passwordHash": "h",
    }  # fmt: skip
    assert found["kernelArguments"] == {"shouldExist": ["a"], "shouldNotExist": ["b"]}
    assert found["systemd"]["units"][0]["dropins"] == [{"name": "b.conf", "contents": "c"}]
    assert "variant" not in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("storage: {trees: [{local: a}]}", "storage.trees: there is no folder"),
        ("storage: {files: [{path: /a, contents: {local: a}}]}", "storage.files[0].contents.local: there is no folder"),
        ("boot_device: {layout: x86_64}", "boot_device: is not supported here"),
        ("storage: {filesystems: [{with_mount_unit: true}]}", "with_mount_unit: is not supported here"),
        ("storage: {fils: []}", "storage.fils: is no key of Butane"),
        ("storage: {files: [{contents: {inline: 5}}]}", "inline: is no text"),
        ("storage: {files: [{mode: 1.5}]}", "mode: is of a type"),
        ("a: &x 1\nb: *x", "alias"),
    ],
)
def test_what_cannot_be_translated_is_named(text: str, message: str) -> None:
    with pytest.raises(ButaneError) as caught:
        ignition_config(f"{HEAD}{text}\n")
    assert message in str(caught.value)
    assert "; " in str(caught.value)


def test_mount_units_that_are_not_wanted_are_no_sugar() -> None:
    found = ignition_config(HEAD + "storage: {filesystems: [{device: /dev/a, with_mount_unit: false}]}\n")
    assert found["storage"] == {"filesystems": [{"device": "/dev/a"}]}


def test_variants_are_those_of_the_kind() -> None:
    assert set(SPECIFICATIONS) == {"fcos", "flatcar", "openshift", "r4e", "fiot"}
    assert ignition_version("openshift", "4.14.0") == "3.4.0"
    assert ignition_version("flatcar", "1.1.0") == "3.4.0"


@pytest.mark.parametrize(
    "head", ["", "variant: fcos\n", "variant: fcos\nversion: 1.5\n", "variant: [a]\nversion: 1.5.0\n"]
)
def test_a_document_says_its_variant_and_version(head: str) -> None:
    with pytest.raises(ButaneError, match="is unknown; use one of"):
        ignition_config(f"{head}storage: {{}}\n")
