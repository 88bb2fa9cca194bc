"""Each quoting function against the real reader of its language where there is one here."""

from __future__ import annotations

import base64
import re
import subprocess

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hosted_cp.machines.quoting import powershell, shell, systemd, yaml_block, yaml_scalar
from tests.machines.hostile import PAYLOADS

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60) | st.sampled_from(
    PAYLOADS
)
LINES = st.lists(st.text(" {%#:-'\"\\abc\t", max_size=8), max_size=6).map("\n".join)


def test_there_are_enough_payloads() -> None:
    assert len(PAYLOADS) >= 200


# --- shell -----------------------------------------------------------------------------------------------------------


def _words(program: str, texts: list[str]) -> list[str]:
    script = f"printf '%s\\0' {' '.join(map(shell, texts))} end"
    done = subprocess.run([program, "-c", script], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("program", ["sh", "bash", "busybox"])
def test_a_shell_reads_back_what_was_quoted(program: str) -> None:
    script = [program] if program != "busybox" else ["busybox", "sh"]
    text = f"printf '%s\\0' {' '.join(map(shell, PAYLOADS))} end"
    done = subprocess.run([*script, "-c", text], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == [*PAYLOADS, "end"]


@settings(max_examples=settings().max_examples // 3, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(TEXTS, min_size=20, max_size=40))
def test_any_text_passes_the_shell(texts: list[str]) -> None:
    assert _words("sh", texts) == [*texts, "end"]


def test_quoted_words_can_be_quoted_again() -> None:
    for each in PAYLOADS:
        inner = f"printf '%s\\0' {shell(each)}"
        done = subprocess.run(["sh", "-c", f"sh -c {shell(inner)}"], capture_output=True, check=True)
        assert done.stdout.decode() == each + "\0"


@pytest.mark.parametrize("quote", [shell, systemd])
def test_no_argument_holds_a_nul(quote: object) -> None:
    assert callable(quote)
    with pytest.raises(ValueError, match="NUL"):
        quote("a\0b")


# --- systemd (the real one reads them in tests/component/test_machines.py) -------------------------------------------

_UNIT_ESCAPE = re.compile(rb'\\x([0-9a-f]{2})|\\([\\"ntr])|(%%)|(\$\$)')


def unit_word(quoted: str) -> str:
    """What systemd makes of a double-quoted argument (systemd.syntax(7), systemd.service(5))."""
    assert quoted[0] == quoted[-1] == '"'
    short = {b"\\": b"\\", b'"': b'"', b"n": b"\n", b"t": b"\t", b"r": b"\r"}

    def meaning(found: re.Match[bytes]) -> bytes:
        if found[1]:
            return bytes.fromhex(found[1].decode())
        return short[found[2]] if found[2] else found[0][:1]

    return _UNIT_ESCAPE.sub(meaning, quoted[1:-1].encode()).decode()


@given(TEXTS)
def test_systemd_reads_back_what_was_quoted(text: str) -> None:
    quoted = systemd(text)
    assert unit_word(quoted) == text
    assert not re.search("[\x00-\x1f\x7f\ufdd0-\ufdef\ufffe\uffff\U0010ffff]", quoted)
    assert not re.search(r'(?<!\\)(?:\\\\)*"', quoted[1:-1])


# --- PowerShell ------------------------------------------------------------------------------------------------------


def powershell_value(expression: str) -> str:
    """What PowerShell makes of the two forms of expression there are (about_Quoting_Rules)."""
    single = re.fullmatch(r"'((?:[^'\u2018-\u201b]|'')*)'", expression)
    if single:
        return single[1].replace("''", "'")
    coded = re.fullmatch(
        r"\(\[Text\.Encoding\]::UTF8\.GetString\(\[Convert\]::FromBase64String\('([A-Za-z0-9+/=]*)'\)\)\)", expression
    )
    assert coded, expression
    return base64.b64decode(coded[1]).decode()


@given(TEXTS)
def test_powershell_reads_back_what_was_quoted(text: str) -> None:
    expression = powershell(text)
    assert powershell_value(expression) == text
    assert expression.isascii()
    assert "\n" not in expression


# --- YAML ------------------------------------------------------------------------------------------------------------


@given(TEXTS)
@example("{{{ x }}}")
def test_yaml_reads_back_what_was_written(text: str) -> None:
    line = yaml_scalar(text)
    for loader in (yaml.SafeLoader, yaml.CSafeLoader):
        assert yaml.load(f"- {line}\n", Loader=loader) == [text]
        assert yaml.load(f"a:\n  - b: {line}\n    c: d\n", Loader=loader) == {"a": [{"b": text, "c": "d"}]}
    assert line.isascii()
    assert not re.search(r"\{[{%#]", line)


@given(TEXTS | LINES)
def test_blocks_read_back_what_was_written(text: str) -> None:
    block = yaml_block(text, indent="      ")
    if block is not None:
        for loader in (yaml.SafeLoader, yaml.CSafeLoader):
            assert yaml.load(f"a:\n  - b: {block}\n    c: d\n", Loader=loader) == {"a": [{"b": text, "c": "d"}]}
        assert not re.search(r"\{[{%#]", block)


def test_scripts_are_readable_blocks() -> None:
    assert (
        yaml_block("#!/bin/sh\nif true; then\n  x\nfi\n", indent="  ") == "|\n  #!/bin/sh\n  if true; then\n    x\n  fi"
    )


def test_only_kept_expressions_keep_their_braces() -> None:
    line = yaml_scalar("{{ a }} {{{ b }} {{ a }}", keep=lambda expression: expression == "{{ a }}")
    assert line.count("{{ a }}") == 2
    assert re.findall(r"\{[{%#]", line.replace("{{ a }}", "")) == []
    assert yaml.safe_load(line) == "{{ a }} {{{ b }} {{ a }}"


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogate"):
        yaml_scalar("\ud800")
