"""Whatever a user writes arrives as it is, in every field of every format."""

from __future__ import annotations

import base64
import email
import json
import re
from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hosted_cp.machines.checks import problems
from hosted_cp.machines.files import written
from hosted_cp.machines.ignition import unit
from hosted_cp.machines.render import render
from hosted_cp.machines.windows import install_script
from hosted_cp.machines.worker import (
    SENTINEL,
    SMALLEST_LIMIT,
    WINDOWS_SENTINEL,
    File,
    Format,
    Ignition,
    Platform,
    UserData,
    Worker,
    WorkerError,
)
from tests.machines.hostile import PAYLOADS, SPEAKABLE
from tests.machines.test_quoting import powershell_value, unit_word
from tests.machines.workers import FILES, TOKEN, VARIANTS, resolved, worker

FCOS = Ignition(variant="fcos", version="1.5.0")
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40) | st.sampled_from(
    PAYLOADS
)
WORKERS = st.builds(
    worker,
    files=st.lists(
        st.builds(
            File,
            path=TEXTS.map(lambda text: f"/srv/{text}"),
            content=st.binary(max_size=40) | TEXTS.map(str.encode),
            permissions=st.sampled_from(["", "0600", "644", "0o755"]),
        ),
        max_size=4,
    ).map(tuple),
    pre_commands=st.lists(TEXTS, max_size=3).map(tuple),
    post_commands=st.lists(TEXTS, max_size=3).map(tuple),
    provider_id=st.sampled_from(["", *SPEAKABLE]),
    instance_data=st.booleans(),
)

#: All that breaks out of careless quoting in one worker; no run goes without it.
HOSTILE = worker(
    files=tuple(File(path=f"/srv/{index} {each}", content=each.encode()) for index, each in enumerate(PAYLOADS)),
    pre_commands=PAYLOADS,
    post_commands=PAYLOADS[::-1],
)

#: A worker has many strings in it, so fewer workers do; drawing them takes long on a busy machine.
FEWER = settings(max_examples=settings().max_examples // 3, suppress_health_check=[HealthCheck.too_slow])


def render_(worker: Worker) -> UserData:
    return render(worker, resolved())


def cloud(worker: Worker) -> dict[str, Any]:
    text = render_(worker).value.decode()
    assert text.startswith(("#cloud-config\n", "## template: jinja\n#cloud-config\n"))
    found: dict[str, Any] = yaml.load(text, Loader=yaml.CSafeLoader)
    assert list(found) == ["write_files", "runcmd"]
    return found


def content(entry: dict[str, str]) -> bytes:
    return base64.b64decode(entry["content"]) if entry.get("encoding") == "b64" else entry["content"].encode()


# --- cloud-config ----------------------------------------------------------------------------------------------------


@FEWER
@example(HOSTILE)
@given(WORKERS)
def test_cloud_config_says_what_the_worker_says(worker: Worker) -> None:
    document = cloud(worker)
    token, *files = document["write_files"]
    assert token == {"path": "/etc/k0s.token", "content": TOKEN, "permissions": "0600"}
    assert [(each["path"], content(each)) for each in files] == [(each.path, each.content) for each in worker.files]
    assert all(re.fullmatch(r"0[0-7]{3}", each.get("permissions", "0644")) for each in files)
    commands = document["runcmd"]
    before, after = len(worker.pre_commands), len(worker.post_commands)
    assert tuple(commands[:before]) == worker.pre_commands
    assert tuple(commands[len(commands) - 1 - after : -1]) == worker.post_commands
    assert commands[-1] == f"mkdir -p /run/cluster-api && touch {SENTINEL}"


@FEWER
@example(HOSTILE)
@given(WORKERS)
def test_cloud_init_takes_nothing_for_a_template(worker: Worker) -> None:
    text = render_(worker).value.decode()
    first = text.split("\n", 1)[0]
    if first != "## template: jinja":
        assert first == "#cloud-config"
    else:
        expressions = re.findall(r"\{[{%#].*?[}%#]\}", text)
        assert all(re.fullmatch(r"\{\{ *(ds|v1)[\w.\[\]]* *\}\}", each) for each in expressions)


def test_instance_data_is_filled_in_only_when_it_was_asked_for() -> None:
    identifier = "aws:///{{ ds.meta_data.instance_id }}"
    asked = render_(worker(provider_id=identifier, instance_data=True))
    assert asked.value.startswith(b"## template: jinja\n")
    assert asked.warnings == ()
    silent = render_(worker(provider_id=identifier))
    assert b"{{" not in silent.value
    assert identifier in "\n".join(cloud(worker(provider_id=identifier))["runcmd"])
    assert "not filled in" in silent.warnings[0]
    assert "set spec.provisioner.instanceData" in silent.warnings[0]


@pytest.mark.parametrize("variable", ["k0sDownloadCommands", "k0sInstallCommand", "k0sStartCommand", "files"])
def test_variables_that_only_k0smotron_fills_in_are_refused(variable: str) -> None:
    text = f"## template: jinja\n#cloud-config\nruncmd:\n  - {{{{ k0smotron_{variable} }}}}\n".encode()
    with pytest.raises(WorkerError, match=f"asks for k0smotron_{variable}, a variable of .* CloudInitVars"):
        render_(worker(custom=text))
    render_(worker(custom=b"#cloud-config\nruncmd: [k0smotron_filesystem]\n"))


def test_expressions_that_are_no_look_up_stay_text() -> None:
    for each in (
        "{{ ds['x'] }}",
        "{{ ds.x() }}",
        "{{ ds.x|tojson }}",
        "{{ 7*7 }}",
        "{{ v1.a }}{{ x }}{{{ v1.b }}",
        "{{ ds }}",
    ):
        text = render_(worker(args=(f'--labels="a={each}"',), instance_data=True)).value.decode()
        assert set(re.findall(r"\{\{.*?\}\}", text)) <= {"{{ v1.a }}", "{{ v1.b }}"}


def _parts(value: bytes) -> list[tuple[str, str | None, bytes]]:
    found = []
    for part in email.message_from_bytes(value).walk():
        payload = part.get_payload(decode=True)
        if isinstance(payload, bytes):
            found.append((part.get_content_type(), part.get("Merge-Type"), payload))
    return found


@FEWER
@given(st.binary(max_size=80) | TEXTS.map(str.encode))
def test_custom_data_is_a_part_of_its_own(custom: bytes) -> None:
    ours, theirs = _parts(render_(worker(custom=custom)).value)
    assert ours[2].rstrip(b"\n") == render_(worker()).value.rstrip(b"\n")
    # One newline more at the end is what MIME's 7bit form costs; nothing that cloud-init reads minds.
    assert theirs[2] in (custom, custom + b"\n")


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        ("#cloud-config\n", "text/cloud-config"),
        ("runcmd: [ls]\n", "text/cloud-config"),
        ("#!/bin/sh\n", "text/x-shellscript"),
        ("## template: jinja\n#cloud-config\n", "text/jinja2"),
        ("#include\nhttp://203.0.113.7/\n", "text/x-include-url"),
        ("#cloud-boothook\n", "text/cloud-boothook"),
    ],
)
def test_custom_data_is_told_by_its_first_line(start: str, kind: str) -> None:
    assert _parts(render_(worker(custom=start.encode())).value)[1][0] == kind


def test_custom_data_decides_how_it_is_merged() -> None:
    plain, decided = b"#cloud-config\nruncmd: [ls]\n", b"#cloud-config\nmerge_how: []\nruncmd: [ls]\n"
    assert _parts(render_(worker(custom=plain)).value)[1][1] == "list(append)+dict(no_replace,recurse_list)+str()"
    assert _parts(render_(worker(custom=decided)).value)[1][1] is None


# --- Ignition --------------------------------------------------------------------------------------------------------


@FEWER
@example(HOSTILE)
@given(WORKERS)
def test_ignition_says_what_the_worker_says(worker: Worker) -> None:
    given = replace(worker, format=Format.IGNITION, ignition=FCOS, instance_data=False)
    document = json.loads(render_(given).value)
    found = [
        (each["path"], base64.b64decode(each["contents"]["source"].removeprefix("data:;base64,")), each.get("mode"))
        for each in document["storage"]["files"]
    ]
    assert found == [
        (each.path, each.content, int(each.permissions, 8) if each.permissions else None)
        for each in written(given, resolved())
    ]
    lines = document["systemd"]["units"][0]["contents"].split("\n")
    starts = [unit_word(each.removeprefix("ExecStart=/bin/sh -c ")) for each in lines if each.startswith("ExecStart")]
    before, after = len(given.pre_commands), len(given.post_commands)
    assert tuple(starts[:before]) == given.pre_commands
    assert tuple(starts[len(starts) - 1 - after : -1]) == given.post_commands
    assert len(lines) == 13 + len(starts)


def test_the_unit_does_not_run_on_a_worker() -> None:
    text = unit(worker(format=Format.IGNITION, ignition=FCOS))
    assert "ConditionPathExists=!/etc/systemd/system/k0sworker.service" in text
    assert "rc-service > /dev/null 2>&1 || { echo 'the SysV" not in unit(VARIANTS["ignition-all"])


# --- PowerShell ------------------------------------------------------------------------------------------------------

_FILE = re.compile(r"\[IO\.File\]::WriteAllBytes\((.*), \[Convert\]::FromBase64String\('([A-Za-z0-9+/=]*)'\)\)")


@FEWER
@example(HOSTILE, False)
@example(HOSTILE, True)
@given(WORKERS, st.booleans())
def test_powershell_says_what_the_worker_says(worker: Worker, xml: bool) -> None:
    kind = Format.POWERSHELL_XML if xml else Format.POWERSHELL
    given = replace(worker, format=kind, platform=Platform.WINDOWS, instance_data=False)
    value = render_(given).value
    assert value.isascii()
    assert b"\r" not in value
    lines = value.decode().split("\n")
    assert (lines[0] == "<powershell>", lines[-2] == "</powershell>") == (xml, xml)
    assert value.count(b"powershell>") == 2 * xml
    found = [_FILE.fullmatch(line) for line in lines]
    files = [(powershell_value(each[1]), base64.b64decode(each[2])) for each in found if each]
    assert files == [(each.path, each.content) for each in written(given, resolved())]


@FEWER
@example(HOSTILE)
@given(WORKERS)
def test_the_windows_script_holds_commands_as_data(worker: Worker) -> None:
    given = replace(worker, platform=Platform.WINDOWS)
    script = install_script(given)
    assert script.startswith(b"\xef\xbb\xbf")
    text = script.decode("utf-8-sig")
    assert text.isascii()
    commands = re.findall(r"^\. \(\[ScriptBlock\]::Create\((.*)\)\)$", text, re.MULTILINE)
    assert [powershell_value(each) for each in commands] == [*given.pre_commands, *given.post_commands]
    assert f"$sentinel = '{WINDOWS_SENTINEL}'" in text


# --- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_equal_workers_give_equal_bytes(variant: str) -> None:
    assert render_(VARIANTS[variant]) == render_(VARIANTS[variant])


def test_large_user_data_is_said_with_its_size() -> None:
    data = render_(worker(files=(File(path="/srv/big", content=b"x" * 20_000),)))
    assert len(data.value) > SMALLEST_LIMIT
    assert str(len(data.value)) in data.warnings[0]
    assert render_(worker(files=FILES)).warnings == ()


def test_custom_data_with_ignition_is_said_to_be_unused() -> None:
    data = render_(worker(format=Format.IGNITION, ignition=FCOS, custom=b"x"))
    assert data.warnings == (
        "spec.provisioner.customUserDataRef is not used with Ignition: write additionalConfig instead",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": Format.IGNITION}, "ignition: is missing"),
        ({"format": Format.IGNITION, "ignition": Ignition(variant="suse", version="1.0.0")}, "'suse' is unknown"),
        ({"format": Format.POWERSHELL}, "powershell is no format of linux"),
        ({"download_url": "ftp://example.org/k0s"}, "unsupported URL scheme 'ftp'"),
        ({"args": ("--labels='a",)}, "not closed"),
        ({"files": (File(path="/a", content=b"", permissions="rwx"),)}, "no octal number"),
        ({"files": (File(path="/\ud800", content=b""),)}, "a NUL or half of a character"),
        ({"custom": b"\xff", "format": Format.POWERSHELL, "platform": Platform.WINDOWS}, "no UTF-8"),
    ],
)
def test_what_cannot_be_rendered_raises_and_is_a_problem(changes: dict[str, Any], message: str) -> None:
    given = worker(**changes)
    with pytest.raises(WorkerError, match=re.escape(message)):
        render_(given)
    assert problems(given)
