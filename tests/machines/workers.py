"""Workers that the tests render."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hosted_cp.k0s.versions import parse
from hosted_cp.machines.worker import File, Format, Ignition, Platform, Resolved, SecretValue, Worker

TOKEN = "H4sIAAAAAAAC/token=="
VERSION = parse("v1.34.2+k0s.0")
CA_FILE = SecretValue(secret="site", key="ca.crt", digest="d1")
CONTENTS = {CA_FILE: b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"}
CHECKSUM = "0123456789abcdef" * 4


def worker(**changes: Any) -> Worker:
    return Worker(**{"name": "m1", "version": VERSION, **changes})


def resolved() -> Resolved:
    return Resolved(token=TOKEN, contents=CONTENTS)


FILES = (
    File(path="/etc/site/ca.crt", content=CA_FILE, permissions="0644"),
    File(path="/usr/local/bin/hello.sh", content=b'#!/bin/sh\necho "{{ hello }}"\n', permissions="755"),
    File(path="/etc/site/blob", content=bytes(range(8))),
)
_COMMON: Mapping[str, Any] = {
    "files": FILES,
    "pre_commands": ("modprobe overlay", "cat <<EOF > /etc/motd\nit's ours\nEOF"),
    "post_commands": ('echo "done: $(hostname)"',),
    "args": ("--debug", '--labels="zone=a,rack=b 7"', "--kubelet-extra-args='--max-pods=200 --v=2'"),
    "provider_id": "lab://edge-7",
}
_FCOS = Ignition(variant="fcos", version="1.5.0")
_BUTANE = """\
variant: flatcar
version: 1.1.0
storage:
  files:
    - path: /etc/hostname
      mode: 0644
      contents: {inline: "edge-7\\n"}
  disks:
    - device: /dev/vdb
      partitions: [{label: data, size_mib: 1024}]
passwd:
  users:
    - name: core
      ssh_authorized_keys: [ssh-ed25519 AAAA]
systemd:
  units:
    - name: docker.service
      mask: true
"""
_WINDOWS: Mapping[str, Any] = {"platform": Platform.WINDOWS, "install_dir": r"C:\k0s", "working_dir": r"C:\k0s"}
_WINDOWS_ALL: Mapping[str, Any] = {
    **_WINDOWS,
    "files": (File(path=r"C:\site\größe.txt", content=b"a\r\nb"),),
    "pre_commands": ("Write-Host 'it''s ours'",),
    "post_commands": ("Write-Host done",),
    "args": (r"--data-dir=C:\var\lib\k0s",),
    "download_url": "https://example.org/k0s.exe",
    "checksum": CHECKSUM,
}

VARIANTS: Mapping[str, Worker] = {
    "cloud-config-plain": worker(),
    "cloud-config-all": worker(**_COMMON),
    "cloud-config-custom": worker(custom=b"#cloud-config\nruncmd:\n  - echo mine\n"),
    "cloud-config-custom-script": worker(custom="#!/bin/sh\necho grüß\n".encode()),
    "cloud-config-download": worker(
        download_url="https://example.org/k0s-{arch}",
        checksum=CHECKSUM,
        install_dir="/opt/k0s dir",
        working_dir="/etc/k0s/",
    ),
    "cloud-config-checked-installer": worker(checksum=CHECKSUM),
    "cloud-config-oci": worker(download_url="oci://example.org/k0s:v1.34.2@sha256:" + CHECKSUM),
    "cloud-config-preinstalled": worker(pre_installed=True, install_dir="/usr/bin", use_system_hostname=True),
    "cloud-config-pool": worker(pool=True),
    "cloud-config-instance-data": worker(
        instance_data=True,
        provider_id="aws:///{{ ds.meta_data.placement.availability_zone }}/{{ v1.instance_id }}",
        files=FILES[1:2],
        pre_commands=("echo '{{ untouched }}'",),
    ),
    "cloud-config-windows": worker(**_WINDOWS),
    "ignition-plain": worker(format=Format.IGNITION, ignition=_FCOS),
    "ignition-all": worker(format=Format.IGNITION, ignition=_FCOS, **_COMMON),
    "ignition-additional": worker(
        format=Format.IGNITION, ignition=Ignition(variant="fcos", version="1.5.0", additional_config=_BUTANE)
    ),
    "powershell-plain": worker(format=Format.POWERSHELL, platform=Platform.WINDOWS),
    "powershell-all": worker(format=Format.POWERSHELL, custom=b"Write-Host 'mine'\r\n", **_WINDOWS_ALL),
    "powershell-xml-plain": worker(format=Format.POWERSHELL_XML, **_WINDOWS),
    "powershell-xml-all": worker(format=Format.POWERSHELL_XML, custom=b"Write-Host 'mine'", **_WINDOWS_ALL),
}
