"""A small strict decoder: a document is checked against a tree of fields and merged over their defaults.

The rules are those of a Go program that reads YAML: wrong types are errors, unknown fields are errors where a struct
is strict and ignored where it is not, `null` means "not given", and fields without a value are left out of the result.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: A field's default that says: leave it out.
ABSENT: Any = object()

Check = Callable[[Any], "str | None"]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One fault of a document: where and what."""

    path: str
    message: str
    #: A shape that cannot be decoded at all (unknown field, wrong type), as opposed to a refused value.
    decoding: bool = False
    #: A field that does not exist.
    unknown: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


@dataclass(frozen=True)
class Field:
    """How one value is decoded: `decode(value, path, problems)` gives the value, noting what is wrong."""

    decode: Callable[[Any, str, list[Problem]], Any]
    default: Any = ABSENT
    #: Fills in the defaults of what is inside; only structs have it.
    empty: Callable[[], Any] | None = field(default=None)

    def absent(self) -> Any:
        """What stands in the result when the document does not give this field."""
        return self.empty() if self.empty is not None and self.default is ABSENT else self.default


def _wrong(path: str, value: Any, wanted: str, problems: list[Problem]) -> Any:
    kind = {dict: "object", list: "array", str: "string", bool: "bool", int: "number", float: "number"}.get(
        type(value), "?"
    )
    problems.append(Problem(path=path, message=f"cannot unmarshal {kind} into a field of type {wanted}", decoding=True))
    return ABSENT


def _checked(value: Any, path: str, check: Check | None, problems: list[Problem]) -> Any:
    fault = check(value) if check is not None else None
    if fault:
        problems.append(Problem(path=path, message=f"Invalid value: {json.dumps(value)}: {fault}"))
    return value


def text(default: Any = ABSENT, *, check: Check | None = None) -> Field:
    """A string. An empty one is not checked: it means unset."""

    def decode(value: Any, path: str, problems: list[Problem]) -> Any:
        if not isinstance(value, str):
            return _wrong(path, value, "string", problems)
        return _checked(value, path, check, problems) if value else value

    return Field(decode, default)


def choice(default: Any, *allowed: str) -> Field:
    """One of a few words."""
    listed = ", ".join(f'"{word}"' for word in allowed)

    def decode(value: Any, path: str, problems: list[Problem]) -> Any:
        if not isinstance(value, str):
            return _wrong(path, value, "string", problems)
        if not value:
            problems.append(Problem(path=path, message="Required value"))
        elif value not in allowed:
            problems.append(Problem(path=path, message=f'Unsupported value: "{value}": supported values: {listed}'))
        return value

    return Field(decode, default)


def number(default: Any = ABSENT, *, low: int | None = None, high: int | None = None) -> Field:
    """A whole number, within bounds if given; zero means unset."""

    def check(value: int) -> str | None:
        if (low is not None and value < low) or (high is not None and value > high):
            return f"must be between {low} and {high}, inclusive"
        return None

    def decode(value: Any, path: str, problems: list[Problem]) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            return _wrong(path, value, "int", problems)
        return _checked(value, path, check, problems) if value else default if default is not ABSENT else value

    return Field(decode, default)


def flag(default: Any = ABSENT) -> Field:
    """True or false."""

    def decode(value: Any, path: str, problems: list[Problem]) -> Any:
        return value if isinstance(value, bool) else _wrong(path, value, "bool", problems)

    return Field(decode, default)


def anything() -> Field:
    """Any value, kept as it is."""
    return Field(lambda value, _path, _problems: value)


def mapping(of: Field | None = None) -> Field:
    """String keys with values of one kind (text unless said otherwise)."""
    inner = of or text()

    def decode(value: Any, path: str, problems: list[Problem]) -> Any:
        if not isinstance(value, dict):
            return _wrong(path, value, "map", problems)
        return {str(k): "" if v is None else inner.decode(v, f"{path}.{k}", problems) for k, v in value.items()}

    return Field(decode)


def sequence(of: Field | None = None, *, default: Any = ABSENT, check: Check | None = None) -> Field:
    """A list of values of one kind (text unless said otherwise)."""
    inner = of or text()

    def decode(value: Any, path: str, problems: list[Problem]) -> Any:
        if not isinstance(value, list):
            return _wrong(path, value, "array", problems)
        return _checked([inner.decode(v, f"{path}[{i}]", problems) for i, v in enumerate(value)], path, check, problems)

    return Field(decode, default)


def struct(
    fields: Mapping[str, Field], *, check: Check | None = None, legacy: Sequence[str] = (), optional: bool = False,
    strict: bool = True,
) -> Field:  # fmt: skip
    """An object with known fields, merged over their defaults; `legacy` names are accepted and dropped.

    Unknown fields in it are errors if it is strict; else they and those further inside are dropped.

    An `optional` struct stays absent when the document does not give it.
    """

    def merged(given: Mapping[str, Any]) -> dict[str, Any]:
        result = {}
        for name, kind in fields.items():
            value = given[name] if name in given else kind.absent()
            if value is not ABSENT:
                result[name] = value
        return result

    def decode(value: Any, path: str, problems: list[Problem]) -> Any:
        if not isinstance(value, dict):
            return _wrong(path, value, "object", problems)
        given: dict[str, Any] = {}
        inside: list[Problem] = []
        for name, inner in value.items():
            where = f"{path}.{name}" if path else str(name)
            if name in fields:
                if inner is not None:
                    decoded = fields[name].decode(inner, where, inside)
                    if decoded is not ABSENT:
                        given[name] = decoded
            elif name not in legacy:
                inside.append(Problem(path=where, message=f'unknown field "{name}"', decoding=True, unknown=True))
        problems += inside if strict else [p for p in inside if not p.unknown]
        return _checked(merged(given), path, check, problems)

    return Field(decode, ABSENT, None if optional else lambda: merged({}))


_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_TERM = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def seconds(duration: str) -> float:
    """The seconds in a Go duration such as `1h30m`; `ValueError` if it is none."""
    body = duration.removeprefix("-").removeprefix("+")
    if body == "0":
        return 0.0
    total, position = 0.0, 0
    for term in _TERM.finditer(body):
        if term.start() != position:
            break
        total += float(term[1]) * _UNITS[term[2]]
        position = term.end()
    if not body or position != len(body):
        raise ValueError(f"invalid duration {duration!r}")
    return (-total if duration.startswith("-") else total) / 1e9


def canonical(duration: str) -> str:
    """A Go duration as Go prints it: `8760h` becomes `8760h0m0s`."""
    total = seconds(duration)
    if total != int(total) or total < 1:
        return duration if total else "0s"
    hours, rest = divmod(int(total), 3600)
    minutes, last = divmod(rest, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{last}s"


def duration(default: Any = ABSENT) -> Field:
    """A Go duration, in the form that Go prints."""

    def decode(value: Any, path: str, problems: list[Problem]) -> Any:
        if not isinstance(value, str):
            return _wrong(path, value, "duration", problems)
        try:
            return canonical(value)
        except ValueError as fault:
            problems.append(Problem(path=path, message=str(fault), decoding=True))
            return ABSENT

    return Field(decode, default)
