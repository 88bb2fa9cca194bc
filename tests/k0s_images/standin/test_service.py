"""`k0s install` of the stand-in, where the contract tests (which compare it with k0s) do not look."""

from __future__ import annotations

from pathlib import Path

import pytest

from k0s_images.standin import service
from k0s_images.standin.cli import main
from k0s_images.standin.errors import Fatal


def test_flags_are_written_by_name_and_files_from_the_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    values = {"token-file": "token", "labels": {"b": "2", "a": "1"}, "taints": ["x:NoExecute"], "debug": True, "l": ""}
    assert service.arguments(values, frozenset(values) - {"l"}) == [
        "--debug=true", "--labels=a=1,b=2", "--taints=x:NoExecute", f"--token-file={tmp_path}/token",
    ]  # fmt: skip


def test_variables_come_from_the_command_line_or_from_around_it() -> None:
    assert service.variables(["A=1=2", "HOME"], {"HOME": "/root"}) == {"A": "1=2", "HOME": "/root"}


def test_only_spaces_are_escaped() -> None:
    text = service.unit(Path("/k0s"), "worker", ["--a=b c", '--d="$e"'], {})
    assert 'ExecStart=/k0s worker --a=b\\x20c --d="$e"\n\nRestartSec' in text


def test_without_systemd_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(service, "_SYSTEMD", tmp_path / "none")
    with pytest.raises(Fatal, match="systemd does not run here"):
        service.start()


def test_a_controller_is_not_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "controller"]) == 1
    assert 'unknown command "controller" for "k0s install"' in capsys.readouterr().err
