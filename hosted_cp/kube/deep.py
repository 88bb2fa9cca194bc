"""JSON that is nested deeper than parsers go.

An API server stores what is nested up to 10,000 levels, and parsers that count levels end at a thousand: one such
object in a list would take all others along. So where a parser gives up, the text is cut by its brackets alone, which
needs no levels: the one object is passed over by its name, and the others are read.
"""

from __future__ import annotations

import re

#: A string as a whole, so that no bracket in it counts; or a bracket.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


def cut(raw: bytes, *, levels: int) -> tuple[bytes, list[bytes]]:
    """The text with `null` in the place of each object and array below so many levels, and those, in their order.

    What is no JSON stays none.
    """
    kept: list[bytes] = []
    pieces: list[bytes] = []
    level, begun, end = 0, 0, 0
    for token in _TOKEN.finditer(raw):
        match token.group():
            case b"{" | b"[":
                level += 1
                if level == levels + 1:
                    begun = token.start()
                    kept += [raw[end:begun], b"null"]
            case b"}" | b"]":
                level -= 1
                if level == levels:
                    end = token.end()
                    pieces.append(raw[begun:end])
    return b"".join([*kept, raw[end:]]), pieces
