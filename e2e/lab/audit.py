"""Counting requests: the API server's audit log, read from a position on.

An entry is written before its answer is sent, so whoever has seen an answer finds the request here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request that the API server answered."""

    user: str
    verb: str
    """As the API server sees it: get, list, watch, create, update, patch, delete, deletecollection."""
    resource: str
    """Plural name with subresource, `pods/status`; empty for a path that is no resource."""
    namespace: str
    name: str
    code: int
    agent: str


def position(log: Path) -> int:
    """Where the log ends now, in bytes."""
    return log.stat().st_size


def requests(log: Path, *, since: int = 0) -> Iterator[Request]:
    """All requests that were answered after the position. A watch is one request, when it begins."""
    with open(log, "rb") as file:
        file.seek(since)
        for line in file:
            if not line.endswith(b"\n"):
                return
            entry = json.loads(line)
            # A long-running request is written down when it starts and when it ends.
            if entry["stage"] == "ResponseComplete" and entry["verb"] == "watch":
                continue
            target = entry.get("objectRef", {})
            resource = "/".join(filter(None, (target.get("resource", ""), target.get("subresource", ""))))
            yield Request(
                user=entry["user"]["username"], verb=entry["verb"], resource=resource,
                namespace=target.get("namespace", ""), name=target.get("name", ""),
                code=entry.get("responseStatus", {}).get("code", 0), agent=entry.get("userAgent", ""),
            )  # fmt: skip
