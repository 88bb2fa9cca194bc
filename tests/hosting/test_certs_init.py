"""The init script that lays the tenant's authorities into k0s' own directory, run for real in a folder of the test."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hosted_cp.hosting import scripts

FILES = ("ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.pub", "sa.key")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that stands for `/`, with what is mounted."""
    (tmp_path / "pki").mkdir()
    for name in FILES:
        (tmp_path / "pki" / name).write_text(f"the first {name}")
    (tmp_path / "k0s").mkdir()
    return tmp_path


def run(root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    text = scripts.CERTS_INIT.replace("from=/pki", f"from={root}/pki").replace("/var/lib/k0s", f"{root}/k0s")
    given = {"PATH": os.environ["PATH"], "PENDING": "placeholder", "PENDING_MANIFESTS": "", **environment}
    return subprocess.run(["/bin/sh", "-c", text], env=given, capture_output=True, text=True, check=False)


def test_files_are_laid_out_with_narrow_modes_and_once(root: Path) -> None:
    assert run(root).returncode == 0
    made = root / "k0s" / "pki"
    assert {each.name: each.read_text() for each in made.iterdir()} == {name: f"the first {name}" for name in FILES}
    assert {each.name: each.stat().st_mode & 0o777 for each in made.iterdir()} == {
        name: 0o640 if name.endswith(".key") else 0o644 for name in FILES
    }
    before = {each.name: each.stat().st_ino for each in made.iterdir()}
    assert run(root).returncode == 0
    assert {each.name: each.stat().st_ino for each in made.iterdir()} == before


@pytest.mark.parametrize(("name", "other"), [("ca.crt", "front-proxy-ca.crt"), ("front-proxy-ca.crt", "ca.crt")])
def test_another_ca_is_refused_and_nothing_is_written(root: Path, name: str, other: str) -> None:
    assert run(root).returncode == 0
    for each in FILES:
        (root / "pki" / each).write_text(f"the second {each}")
    (root / "pki" / other).write_text(f"the first {other}")
    refused = run(root)
    assert refused.returncode == 1
    assert f"the data volume holds another {name} than the Secret" in refused.stderr
    assert {each.read_text() for each in (root / "k0s" / "pki").iterdir()} == {f"the first {each}" for each in FILES}


def test_a_leaf_that_k0s_would_keep_for_ever_is_taken_away_and_others_stay(root: Path) -> None:
    """k0s knows the front proxy's CA by its name alone, and keeps what another one has signed, beyond its end."""
    assert run(root).returncode == 0
    made = root / "k0s" / "pki"
    for name in ("front-proxy-client.crt", "front-proxy-client.key", "server.crt", "server.key"):
        (made / name).write_text("of last year")
    assert run(root).returncode == 0
    assert {each.name for each in made.iterdir()} == {*FILES, "server.crt", "server.key"}


def test_manifests_are_kept_from_being_taken_for_empty(root: Path) -> None:
    there = root / "k0s" / "manifests" / "coredns" / "coredns.yaml"
    there.parent.mkdir(parents=True)
    there.write_text("of k0s")
    assert run(root, PENDING_MANIFESTS="coredns/coredns.yaml kubeproxy/kube-proxy.yaml").returncode == 0
    assert there.read_text() == "of k0s"
    assert (root / "k0s" / "manifests" / "kubeproxy" / "kube-proxy.yaml").read_text() == "placeholder"
