"""The command line of `k0s install worker`."""

from __future__ import annotations

from typing import Any

import pytest

from hosted_cp.machines.arguments import argument_problems, install_argv, needs_real_init
from hosted_cp.machines.worker import UNINITIALIZED_TAINT, Platform
from tests.machines.hostile import HARMLESS, PAYLOADS
from tests.machines.workers import worker

START = ["/usr/local/bin/k0s", "install", "worker", "--token-file", "/etc/k0s.token"]
LABEL = "--labels=k0smotron.io/machine-name=m1"
TAINT = f"--taints={UNINITIALIZED_TAINT}"


def argv(**changes: Any) -> list[str]:
    found = install_argv(worker(**changes))
    assert found[1:4] == ["install", "worker", "--token-file"]
    return found


def test_the_order_is_that_of_k0smotron() -> None:
    assert argv(args=("--debug",)) == [*START, LABEL, TAINT, "--debug", "--kubelet-extra-args=--hostname-override=m1"]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--kubelet-extra-args=--max-pods=9",), "--hostname-override=m1 --max-pods=9"),
        (('--kubelet-extra-args="--max-pods=9 --v=2"',), "--hostname-override=m1 --max-pods=9 --v=2"),
        (("--kubelet-extra-args", "--v=2"), "--hostname-override=m1 --v=2"),
        (("--kubelet-extra-args=--v=2", "--debug", "--kubelet-extra-args=--x=1"), "--hostname-override=m1 --v=2 --x=1"),
        (("--kubelet-extra-args=--hostname-override=mine",), "--hostname-override=mine"),
        (("--kubelet-extra-args=",), "--hostname-override=m1"),
    ],
)
def test_there_is_one_flag_of_kubelet_arguments(args: tuple[str, ...], expected: str) -> None:
    found = [each for each in argv(args=args) if each.startswith("--kubelet-extra-args")]
    assert found == [f"--kubelet-extra-args={expected}"]


def test_the_machines_own_name_is_kept_where_it_is_asked_for_or_there_are_many() -> None:
    assert argv(use_system_hostname=True) == [*START, LABEL, TAINT]
    assert argv(pool=True) == [*START, TAINT]
    assert argv(use_system_hostname=True, provider_id="x://1")[-1] == "--kubelet-extra-args=--provider-id=x://1"


def test_the_user_has_the_last_word_on_the_provider_id() -> None:
    found = argv(provider_id="x://1", args=("--kubelet-extra-args=--provider-id=x://2",))
    assert found[-1] == "--kubelet-extra-args=--hostname-override=m1 --provider-id=x://2"


def test_a_name_that_is_no_label_is_none() -> None:
    assert not any("machine-name" in each for each in argv(name="m" * 64))
    assert any("machine-name" in each for each in argv(name="m" * 63))


def test_no_taint_and_other_folders() -> None:
    assert argv(taints=(), install_dir="/opt/bin/", working_dir="/srv/k0s")[:6] == [
        "/opt/bin/k0s", "install", "worker", "--token-file", "/srv/k0s/k0s.token", LABEL,
    ]  # fmt: skip


def test_a_backslash_is_a_letter_on_windows() -> None:
    given = (r"--data-dir=C:\var\lib",)
    assert given[0] in argv(args=given, platform=Platform.WINDOWS)
    assert list(argument_problems(worker(args=given, platform=Platform.WINDOWS))) == []


# --- what k0s' service files cannot hold -----------------------------------------------------------------------------


def problems(**changes: Any) -> list[str]:
    return [str(each) for each in argument_problems(worker(**changes))]


@pytest.mark.parametrize("character", ["'", '"', "\\", "$", "%", "`", "\n", "\t", "\x1b", "\x7f"])
@pytest.mark.parametrize("field", ["provider_id", "install_dir", "working_dir"])
def test_what_no_service_file_can_hold_is_refused(field: str, character: str) -> None:
    assert len(problems(**{field: f"/a{character}b"})) == 1


@pytest.mark.parametrize("entry", ["'--a=$HOME'", "--a=%n", "--a=\\`id\\`", "'--a=\"x\"'", "'--a=\\x'", "'--a=\nb'"])
def test_in_arguments_as_well(entry: str) -> None:
    [found] = problems(args=("--debug", entry))
    assert found.startswith("spec.args[1]: holds ")


def test_every_payload_is_refused_or_harmless() -> None:
    for each in PAYLOADS:
        found = problems(provider_id=each)
        assert bool(found) == any(c in "\"'\\$%`\x7f" or ord(c) < 0x20 for c in each)
    assert problems(provider_id=HARMLESS) == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--a='b",), "spec.args[0]: a quotation mark is not closed; close it"),
        (("worker",), "spec.args[0]: does not begin with a flag; write flags: --name=value"),
        (("--debug", "--token-file=/x"), "spec.args[1]: --token-file is set already; remove it"),
        (("--debug ;", "reboot"), "spec.args[0]: is a semicolon by itself, which systemd takes apart; remove it"),
    ],
)
def test_what_is_no_argument(args: tuple[str, ...], message: str) -> None:
    assert problems(args=args) == [message]


def test_only_plain_words_do_with_any_init_system() -> None:
    assert not needs_real_init(worker())
    assert needs_real_init(worker(provider_id="x://1"))  # two kubelet arguments have a space between them
    assert needs_real_init(worker(args=("--labels='a=b;c'",)))
