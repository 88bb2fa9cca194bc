"""One function per language that makes a string arrive as it is: POSIX shell, systemd's ExecStart, PowerShell, YAML.

Nobody else in this room puts a user's string into a text.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

# --- POSIX shell -----------------------------------------------------------------------------------------------------

#: Characters that mean themselves to every shell, anywhere in a word.
PLAIN_WORD = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


def shell(text: str) -> str:
    """One word of a POSIX shell. Raises ValueError for NUL, which no argument of a process can hold."""
    if "\0" in text:
        raise ValueError("a NUL cannot stand in an argument")
    if PLAIN_WORD.fullmatch(text):
        return text
    return "'" + text.replace("'", "'\\''") + "'"


# --- systemd ---------------------------------------------------------------------------------------------------------

_UNIT_ESCAPES = {"\\": "\\\\", '"': '\\"', "%": "%%", "$": "$$", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def systemd(text: str) -> str:
    """One argument of an `ExecStart=` line, in double quotes (systemd.service(5), "command lines").

    Raises ValueError for NUL, and UnicodeError for half of a surrogate pair.
    """
    if "\0" in text:
        raise ValueError("a NUL cannot stand in an argument")
    return '"' + "".join(_UNIT_ESCAPES.get(each) or _unit_character(each) for each in text) + '"'


def _unit_character(character: str) -> str:
    """Control characters, and code points that Unicode will never assign, as bytes: systemd throws away every line that
    holds one of the latter."""
    code = ord(character)
    unassigned = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code < 0xFDF0
    if code < 0x20 or code == 0x7F or unassigned:
        return "".join(f"\\x{byte:02x}" for byte in character.encode())
    return character


# --- PowerShell ------------------------------------------------------------------------------------------------------

_PRINTABLE_ASCII = re.compile(r"[ -~]*")
#: The same, but for what begins an element.
_SINGLE_QUOTABLE = re.compile(r"[ -;=-~]*")


def powershell(text: str) -> str:
    """One PowerShell expression whose value is this string.

    In single quotes nothing is expanded and only the quote itself has to be doubled. What is not printable ASCII goes
    as base64: PowerShell takes four more characters for a single quote, reads a file without a byte order mark in the
    machine's own code page, and loses carriage returns on the way through some clouds. EC2's reader, which looks for
    `</powershell>` and knows no quotes, would end the script within a path that holds it.
    """
    if _SINGLE_QUOTABLE.fullmatch(text):
        return "'" + text.replace("'", "''") + "'"
    coded = base64.b64encode(text.encode()).decode()
    return f"([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String('{coded}')))"


# --- YAML ------------------------------------------------------------------------------------------------------------

#: Texts that every YAML reader takes for the string they look like: they begin like no number, date or indicator and
#: hold no ": " or " #".
_PLAIN_SCALAR = re.compile(r"[A-Za-z/][A-Za-z0-9_./+-]*(?:[ =:][A-Za-z0-9_./+-]+)*")
#: Words that YAML 1.1 takes for something else.
_OTHER_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
#: What opens an expression, a statement or a comment in cloud-init's template language.
_TEMPLATE = re.compile(r"\{[{%#]")
_EXPRESSION = re.compile(r"\{\{[^{}]*\}\}")


def _never(expression: str) -> bool:
    return False


def yaml_scalar(text: str, *, keep: Callable[[str], bool] = _never) -> str:
    """A YAML scalar on one line whose value is this string, for readers of YAML 1.1 and 1.2.

    Nothing in it opens anything in cloud-init's template language, so that even a document which cloud-init takes for a
    template arrives as it is; except the expressions (`{{ ... }}`) that `keep` accepts. Raises ValueError for half of a
    surrogate pair.
    """
    if _PLAIN_SCALAR.fullmatch(text) and text.lower() not in _OTHER_WORDS:
        return text
    braces = "\\x7b" if _TEMPLATE.search(text) else "{"
    parts, end = [], 0
    for found in _EXPRESSION.finditer(text):
        if keep(found[0]):
            parts += [_escaped(text[end : found.start()], brace=braces), found[0]]
            end = found.end()
    return '"' + "".join([*parts, _escaped(text[end:], brace=braces)]) + '"'


def _escaped(text: str, *, brace: str) -> str:
    return "".join(brace if each == "{" else _escape(each) for each in text)


def _escape(character: str) -> str:
    """For a double-quoted scalar: only printable ASCII is left as it is."""
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    code = ord(character)
    if 0x20 <= code < 0x7F:
        return character
    if 0xD800 <= code < 0xE000:
        raise ValueError("half of a surrogate pair is no character")
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def yaml_block(text: str, *, indent: str) -> str | None:
    """A literal block scalar, which people can read, for several lines of printable ASCII; None if the text is not as
    simple as that (then it is one for `yaml_scalar`). `indent` is that of the lines."""
    body = text.removesuffix("\n")
    lines = body.split("\n")
    simple = len(lines) > 1 and all(_PRINTABLE_ASCII.fullmatch(line) and not line.endswith(" ") for line in lines)
    if not simple or not lines[0] or lines[0].startswith(" ") or not lines[-1] or _TEMPLATE.search(text):
        return None
    return "\n".join(["|" if text.endswith("\n") else "|-", *(indent + line if line else "" for line in lines)])
