"""Text of others never takes the process down, and its faults say where they are."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.api.text import MAX_DEPTH, TextError, load


def test_reads_yaml_and_json() -> None:
    assert load('{"a": [1, "x", null]}') == load(b"a:\n- 1\n- x\n-\n") == {"a": [1, "x", None]}
    assert load("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert load("") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [}", r"neither YAML nor JSON \(line 1, column 5\)"),
        ("a: 1\nb: \x07", "neither YAML nor JSON"),
        ("a: 2026-02-31", "neither YAML nor JSON"),
        ("a: !!python/object:os.system x", r"neither YAML nor JSON \(line 1, column 4\)"),
        ("--- 1\n--- 2\n", "neither YAML nor JSON"),
        ("a: &x [1]\nb: *x", r"alias, which is not supported \(line 2, column 4\)"),
        ("- " * (MAX_DEPTH + 1), "nested deeper"),
        ("x" * 2_000_000, "longer than 1048576 bytes"),
    ],
)
def test_faults_say_where(text: str, says: str) -> None:
    with pytest.raises(TextError, match=says):
        load(text)


@pytest.mark.parametrize("piece", ["[", "{a: ", "- ", "? ", "&a [*a,"])
def test_deep_nesting_is_refused_not_a_segmentation_fault(piece: str) -> None:
    """In a process of its own, because the failure to be ruled out ends the process."""
    program = f"from hosted_cp.api.text import *\ntry: load({piece!r} * 100_000)\nexcept TextError as e: print(e)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert "nested deeper" in done.stdout or "alias" in done.stdout


@given(st.text(alphabet="[]{}:,-?&*!|>'\"\n ab#%@`", max_size=60) | st.binary(max_size=60))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    try:
        outcome = repr(load(text))
    except TextError as error:
        outcome = str(error)
    assert outcome
