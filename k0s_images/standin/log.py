"""Log lines in the form of k0s: `time="..." level=info msg="..." component=...` on standard error."""

from __future__ import annotations

import datetime as dt
import json
import sys
import threading

_lock = threading.Lock()
_verbose = False


def set_debug(on: bool) -> None:
    """Whether `debug` prints."""
    global _verbose
    _verbose = on


def _line(level: str, message: str, fields: dict[str, str]) -> None:
    now = dt.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
    quoted = {k: v if v and v.replace("-", "").replace(".", "").isalnum() else json.dumps(v) for k, v in fields.items()}
    extra = "".join(f" {k}={v}" for k, v in quoted.items())
    with _lock:
        print(
            f'time="{now}" level={level} msg={json.dumps(message, ensure_ascii=False)}{extra}',
            file=sys.stderr,
            flush=True,
        )


def debug(message: str, **fields: str) -> None:
    """A line for those who debug; only with `--debug`."""
    if _verbose:
        _line("debug", message, fields)


def info(message: str, **fields: str) -> None:
    """A line about normal life."""
    _line("info", message, fields)


def warning(message: str, **fields: str) -> None:
    """A line about something that may need attention."""
    _line("warning", message, fields)


def error(message: str, **fields: str) -> None:
    """A line about something that failed."""
    _line("error", message, fields)
