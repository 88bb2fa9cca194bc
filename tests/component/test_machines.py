"""What we render is executed: by the real cloud-init, on a machine of its own."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from hosted_cp.machines.checks import problems
from hosted_cp.machines.quoting import shell
from hosted_cp.machines.render import render
from hosted_cp.machines.worker import File, Worker, token_path
from tests.component.machine import PLAYED_K0S, boot, missing
from tests.machines.hostile import PAYLOADS, SPEAKABLE, TRAP
from tests.machines.workers import TOKEN, VARIANTS, resolved, worker

_WHY_NOT = missing()
pytestmark = [pytest.mark.component, pytest.mark.skipif(_WHY_NOT is not None, reason=str(_WHY_NOT))]

TAINT = "--taints=node.cluster.x-k8s.io/uninitialized:NoSchedule"


def data(worker: Worker) -> bytes:
    assert problems(worker) == []
    return render(worker, resolved()).value


def _name(index: int, payload: str) -> str:
    """A payload as the name of a file: nothing that no path may have, and no longer than a name may be."""
    text = "".join("\u2215" if each == "/" or each < " " or each == "\x7f" else each for each in payload)
    while len(text.encode()) > 200:
        text = text[:-1]
    return f"{index} {text}"


HOSTILE = worker(
    pre_installed=True,
    files=(
        *(
            File(path=f"/srv/files/{_name(index, each)}", content=each.encode(), permissions="0640")
            for index, each in enumerate(PAYLOADS)
        ),
        File(path="/srv/files/bytes", content=bytes(range(256)) * 3),
    ),
    pre_commands=tuple(f"printf '%s\\0' {shell(each)} >> /srv/out/pre" for each in PAYLOADS),
    post_commands=("printf '%s\\0' \"$0\" > /srv/out/post",),
    args=tuple(f"--labels={shell(f'a={each}')}" for each in SPEAKABLE),
    provider_id="lab://<&;|>{}(*)?#~! x",
)  # fmt: skip


def _check_hostile(srv: Path, given: Worker) -> None:
    found = {each.name: each.read_bytes() for each in (srv / "files").iterdir()}
    assert found == {each.path.removeprefix("/srv/files/"): each.content for each in given.files}
    assert (srv / "files" / "0 ").stat().st_mode & 0o777 == 0o640
    assert (srv / "files" / "bytes").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("templated", [False, True])
def test_every_string_arrives_and_none_is_executed(tmp_path: Path, templated: bool) -> None:
    given = HOSTILE
    if templated:
        given = worker(**{**vars(HOSTILE), "instance_data": True, "provider_id": "lab://{{ v1.instance_id }}"})
    machine = boot(tmp_path, data(given))
    assert not machine.failed, machine.log[-4000:]
    assert machine.finished
    assert machine.started
    _check_hostile(machine.srv, given)
    assert machine.words("pre") == list(PAYLOADS)
    labels = [f"--labels=a={each}" for each in SPEAKABLE]
    provider = given.provider_id
    if templated:  # what was asked for, and nothing else
        provider = "lab://i-0123"
        labels = [re.sub(r"\{\{ (ds.meta_data|v1)\.instance_id \}\}", "i-0123", each) for each in labels]
    assert machine.words("k0s") == [
        "/usr/local/bin/k0s", "install", "worker", "--token-file", "/etc/k0s.token",
        "--labels=k0smotron.io/machine-name=m1", TAINT, *labels,
        f"--kubelet-extra-args=--hostname-override=m1 --provider-id={provider}",
    ]  # fmt: skip
    assert (machine.out / "k0s.token").read_text() == TOKEN
    assert (machine.out / "mode").read_text() == "600\n"
    assert Path(TRAP).name not in (machine.out / "run").read_text().split("\n")


def test_no_folder_and_no_url_is_executed(tmp_path: Path) -> None:
    """Each of them can be set once for a machine, so this one becomes a worker many times in a row."""
    workers = [each for each in map(_somewhere, range(len(SPEAKABLE)), SPEAKABLE) if problems(each) == []]
    assert len(workers) > 100
    documents = [yaml.safe_load(data(each)) for each in workers]
    whole = {key: [entry for each in documents for entry in each[key]] for key in ("write_files", "runcmd")}
    user_data = b"#cloud-config\n" + yaml.safe_dump(whole).encode()
    machine = boot(tmp_path, user_data, served={"k0s": PLAYED_K0S})
    assert not machine.failed, machine.log[-4000:]
    assert machine.finished
    said = machine.words("k0s")
    calls = [said[at : at + 5] for at, word in enumerate(said) if word == "install"]
    assert [said[at - 1] for at, word in enumerate(said) if word == "install"] == [
        f"{each.install_dir.rstrip('/')}/k0s" for each in workers
    ]
    assert [call[3] for call in calls] == [token_path(each) for each in workers]
    for each in workers:
        folder = machine.srv / token_path(each).removeprefix("/srv/")
        assert folder.read_text() == TOKEN, each.working_dir
    assert Path(TRAP).name not in (machine.out / "run").read_text().split("\n")


def _somewhere(index: int, payload: str) -> Worker:
    """A worker whose folders and whose URL hold a payload."""
    name = f"{index} {payload}"[:150]
    query = payload.replace(" ", "+")
    return worker(
        install_dir=f"/srv/bin/{name}", working_dir=f"/srv/tokens/{name}",
        download_url=f"http://127.0.0.1/k0s?{index}={query}", checksum=hashlib.sha256(PLAYED_K0S).hexdigest(),
    )  # fmt: skip


def test_k0s_is_downloaded_checked_and_started(tmp_path: Path) -> None:
    digest = hashlib.sha256(PLAYED_K0S).hexdigest()
    folder = "/opt/k0s; touch /run/trap"
    given = worker(
        download_url="http://127.0.0.1/k0s%20bin",
        checksum=digest,
        install_dir=folder,
        custom=b"runcmd: [touch /srv/out/mine]\n",
    )
    machine = boot(tmp_path, data(given), served={"k0s bin": PLAYED_K0S})
    assert not machine.failed, machine.log[-4000:]
    assert (machine.finished, machine.started) == (True, True)
    assert machine.words("k0s")[0] == f"{folder}/k0s"
    assert (machine.out / "mine").exists()


def test_another_checksum_ends_the_bootstrap(tmp_path: Path) -> None:
    given = worker(download_url="http://127.0.0.1/k0s", checksum="0" * 64, install_dir="/srv/bin")
    machine = boot(tmp_path, data(given), served={"k0s": PLAYED_K0S})
    assert machine.failed
    assert (machine.finished, machine.started) == (False, False)
    assert "another checksum" in machine.log
    assert not (machine.srv / "bin" / "k0s").exists()
    assert not (machine.out / "k0s").exists()


def test_plain_arguments_do_with_sysv(tmp_path: Path) -> None:
    machine = boot(tmp_path, data(worker(pre_installed=True)), openrc=False)
    assert not machine.failed, machine.log[-4000:]
    assert (machine.finished, machine.started) == (True, True)


def test_arguments_that_sysv_would_run_are_refused_by_the_machine(tmp_path: Path) -> None:
    given = worker(pre_installed=True, args=("--labels='a=b;reboot'",))
    machine = boot(tmp_path, data(given), openrc=False)
    assert machine.failed
    assert (machine.finished, machine.started) == (False, False)
    assert "use systemd or OpenRC" in machine.log
    assert not (machine.out / "k0s").exists()


_VALIDATE = """
import sys, yaml
from cloudinit.config.schema import get_schema, validate_cloudconfig_schema
for each in sys.argv[1:]:
    validate_cloudconfig_schema(yaml.safe_load(open(each, "rb")), get_schema(), strict=True)
    print("valid", each)
"""


def test_cloud_init_knows_the_schema(tmp_path: Path) -> None:
    """As `cloud-init schema` does it, all documents at once (its own Python loads it in a second)."""
    files = []
    for name, each in VARIANTS.items():
        if name.startswith("cloud-config") and each.custom is None and not each.instance_data:
            files.append(tmp_path / name)
            files[-1].write_bytes(data(each))
    argv = ["/usr/bin/python3", "-c", _VALIDATE, *map(str, files)]
    done = subprocess.run(argv, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.splitlines() == [f"valid {each}" for each in files]
    assert len(files) >= 8
