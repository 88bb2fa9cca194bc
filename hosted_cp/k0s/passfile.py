"""The password of a PostgreSQL goes by a file, because kine's data source (DSN) stands on its command line.

k0s hands the data source to kine as an argument, so whoever may look at the processes of the pod or of the node sees
it. pgx, kine's driver, reads a password that the data source does not have from the file that its parameter `passfile`
names (libpq's `.pgpass`: one line, `host:port:database:user:password`, with `\\` before `:` and `\\`). MySQL's driver
knows no such file.

What cannot be read for certain stays as it is: kine says better than we could what is wrong with it.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, unquote_plus

_SCHEMES = ("postgres", "postgresql")  # as kine compares them
_BROKEN_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")


def split_password(data_source: str, *, file: str) -> tuple[str, str]:
    """A data source without its password, which `file` will hold, and the text of that file.

    Unchanged and "" where there is no password, where it is one that the file could not hold (a line break, or white
    space at its end), and where the data source is none of PostgreSQL or cannot be read.
    """
    scheme, separator, rest = data_source.partition("://")
    if scheme not in _SCHEMES or not separator or "#" in rest or _BROKEN_ESCAPE.search(rest):
        return data_source, ""
    address, _, query = rest.partition("?")
    authority, slash, database = address.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    try:
        found = unquote(password, errors="strict")
        options = [(unquote_plus(each.partition("=")[0], errors="strict"), each) for each in query.split("&") if each]
        # What stands among the options wins, and the first of several.
        named = [each.partition("=")[2] for key, each in options if key == "password"]
        if named:
            found = unquote_plus(named[0], errors="strict")
    except UnicodeDecodeError:
        return data_source, ""
    if not found or found != found.rstrip() or any(each in found for each in "\r\n\0"):
        return data_source, ""
    kept = [each for key, each in options if key not in ("password", "passfile")]
    bare = f"{user}@{hosts}" if user else hosts
    escaped = found.replace("\\", "\\\\").replace(":", "\\:")
    return f"{scheme}://{bare}{slash}{database}?{'&'.join([*kept, f'passfile={file}'])}", f"*:*:*:*:{escaped}\n"
