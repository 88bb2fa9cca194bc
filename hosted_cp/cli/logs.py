"""How all commands log: one line a record, as text or as JSON, to standard error."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime


class _Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def formatter(form: str) -> logging.Formatter:
    """How a line of the log looks: "json" or "text"."""
    return _Json() if form == "json" else logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")


def configure(form: str, level: str) -> None:
    """Log in this form, from this level on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(form))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("kopf").setLevel(logging.WARNING)
