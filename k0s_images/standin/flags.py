"""Command line flags in the manner of k0s: `--name value`, `--name=value`, `-n value`, `--switch`, `--switch=false`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from k0s_images.standin.errors import Fatal
from k0s_images.standin.schema import seconds


class Help(Exception):
    """`--help` was given; the message is the text to print."""


def _boolean(value: str) -> bool:
    words = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}
    if value.lower() not in words:
        raise ValueError(f"parsing {value!r}: invalid syntax")
    return words[value.lower()]


def _words(value: str) -> list[str]:
    return [word for word in value.split(",") if word]


def _pairs(value: str) -> dict[str, str]:
    result = {}
    for word in _words(value):
        name, sign, content = word.partition("=")
        if not sign:
            raise ValueError(f"{word} must be formatted as key=value")
        result[name] = content
    return result


_KINDS: dict[str, Callable[[str], Any]] = {
    "string": str, "bool": _boolean, "int": int, "strings": _words, "array": lambda value: [value], "map": _pairs,
    "duration": seconds,
}  # fmt: skip


@dataclass(frozen=True)
class Flag:
    """One flag: `strings`, `array` (which is not split at commas) and `map` may be repeated and then add up."""

    name: str
    kind: str = "string"
    default: Any = None
    short: str = ""
    help: str = ""

    @property
    def initial(self) -> Any:
        """The value when it is not given."""
        empty: dict[str, Any] = {"bool": False, "strings": [], "array": [], "map": {}, "string": ""}
        return empty.get(self.kind) if self.default is None else self.default


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """A parsed command line."""

    values: dict[str, Any]
    given: frozenset[str]
    arguments: list[str]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def parse(words: Sequence[str], flags: Sequence[Flag], *, usage: str) -> Parsed:
    """Parse the words after a command. Raises `Fatal` for what k0s refuses, `Help` for `--help`."""
    by_name = {f"--{f.name}": f for f in flags} | {f"-{f.short}": f for f in flags if f.short}
    values = {f.name: f.initial for f in flags}
    given: set[str] = set()
    arguments: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            arguments += rest
            break
        if not word.startswith("-") or word == "-":
            arguments.append(word)
            continue
        name, sign, value = word.partition("=")
        if name in ("-h", "--help"):
            raise Help(_help(usage, flags))
        flag = by_name.get(name)
        if flag is None:
            raise Fatal(f"unknown {'flag' if name.startswith('--') else 'shorthand flag'}: {name}")
        if not sign:
            if flag.kind == "bool":
                value = "true"
            elif rest:
                value = rest.pop(0)
            else:
                raise Fatal(f"flag needs an argument: {name}")
        try:
            parsed = _KINDS[flag.kind](value)
        except ValueError as fault:
            raise Fatal(f'invalid argument "{value}" for "{name}" flag: {fault}') from None
        if flag.kind in ("strings", "array", "map") and flag.name in given:
            parsed = {**values[flag.name], **parsed} if flag.kind == "map" else values[flag.name] + parsed
        values[flag.name] = parsed
        given.add(flag.name)
    return Parsed(values=values, given=frozenset(given), arguments=arguments)


def _help(usage: str, flags: Sequence[Flag]) -> str:
    lines = [f"      --{f.name}{'' if f.kind == 'bool' else ' ' + f.kind}" for f in flags]
    width = max(map(len, lines), default=0) + 3
    texts = [f"{line:<{width}}{f.help}".rstrip() for line, f in zip(lines, flags, strict=True)]
    return "\n".join([f"Usage:\n  {usage}\n", "Flags:", *texts])
