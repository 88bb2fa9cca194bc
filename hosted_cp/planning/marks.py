"""Marks for what is not known: what stands for it while a plan is rehearsed becomes a text that says what it is.

Rehearsals (`hosted-cp render`, golden files) run the planners, which want an address to be an address and a port a
number. What is printed in the end must not look like a fact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def marked(value: Any, marks: Mapping[str | int, str]) -> Any:
    """A copy in which every placeholder is its mark: numbers as a whole, and texts also where they are part of one."""
    if isinstance(value, Mapping):
        return {key: marked(each, marks) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [marked(each, marks) for each in value]
    if isinstance(value, str):
        for placeholder, mark in marks.items():
            value = value.replace(str(placeholder), mark)
        return value
    return marks.get(value, value) if isinstance(value, int) and not isinstance(value, bool) else value
