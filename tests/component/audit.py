"""Counting requests by what the API server itself wrote down.

A count taken in the client would miss what the client hides (retries, discovery, a library's own calls); the audit log
misses nothing.
"""

from __future__ import annotations

import ssl
import urllib.request
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: ["system:apiserver"]
- level: Metadata
"""

#: Verbs that change nothing.
READS = frozenset({"get", "list", "watch"})


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request as the API server saw it. `verb` is one of get, list, watch, create, update, patch, delete."""

    user: str
    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    uri: str
    agent: str

    def __str__(self) -> str:
        what = f"{self.resource}/{self.subresource}" if self.subresource else self.resource or self.uri
        return f"{self.verb} {what} {self.namespace}/{self.name} -> {self.code}"


class Audit:
    """The audit log of one API server."""

    def __init__(self, *, log: Path, server: str, context: ssl.SSLContext) -> None:
        self._log = log
        self._server = server
        self._context = context

    def mark(self) -> int:
        """A position for `since`: every request answered before this call lies before it."""
        return self._barrier()

    def requests(
        self,
        *,
        since: int = 0,
        user: str | None = None,
        verb: str | Sequence[str] | None = None,
        resource: str | None = None,
        subresource: str | None = None,
        namespace: str | None = None,
        name: str | None = None,
    ) -> list[Request]:
        """The requests that were answered (watches: begun) between `since` and now and fit every given word.

        `subresource=""` means "none"; without it both are meant.
        """
        end = self._barrier()
        with self._log.open("rb") as log:
            log.seek(since)
            lines = log.read(end - since).splitlines()
        verbs = {verb} if isinstance(verb, str) else set(verb or ())
        seen: set[str] = set()
        found = []
        for line in lines:
            event = orjson.loads(line)
            if event["auditID"] in seen:
                continue
            seen.add(event["auditID"])
            request = _request(event)
            if (
                (user is None or request.user == user)
                and (not verbs or request.verb in verbs)
                and (resource is None or request.resource == resource)
                and (subresource is None or request.subresource == subresource)
                and (namespace is None or request.namespace == namespace)
                and (name is None or request.name == name)
                and "audit-barrier" not in request.uri
            ):
                found.append(request)
        return found

    def writes(self, *, since: int = 0, user: str | None = None, namespace: str | None = None) -> list[Request]:
        """Like `requests`, without those that change nothing and without the Lease of the leader election."""
        return [
            request
            for request in self.requests(since=since, user=user, namespace=namespace)
            if request.verb not in READS and request.resource != "leases"
        ]

    def _barrier(self) -> int:
        """Wait until the log holds a request made now; the position behind it.

        An answer can reach its client a moment before its line is written, so two barriers follow one another.
        """
        position = 0
        for _ in range(2):
            word = f"audit-barrier={uuid.uuid4()}"
            request = urllib.request.Request(f"{self._server}/version?{word}")
            with urllib.request.urlopen(request, context=self._context, timeout=10) as answer:
                answer.read()
            position = self._find(word.encode())
        return position

    def _find(self, word: bytes) -> int:
        # The file only grows, and the line is written before or just after the answer: look again until it is there.
        start = max(0, self._log.stat().st_size - 4_000_000)
        while True:
            with self._log.open("rb") as log:
                log.seek(start)
                content = log.read()
            at = content.find(word)
            end = content.find(b"\n", at) if at >= 0 else -1
            if end >= 0:
                return start + end + 1


def summary(requests: Sequence[Request]) -> dict[str, int]:
    """Counts by "verb resource/subresource", for messages of failed assertions and for reports."""
    counted = Counter(
        f"{r.verb} {r.resource or r.uri}" + (f"/{r.subresource}" if r.subresource else "") for r in requests
    )
    return dict(sorted(counted.items()))


def _request(event: dict[str, Any]) -> Request:
    about = event.get("objectRef", {})
    return Request(
        user=event["user"].get("username", ""),
        verb=event["verb"],
        resource=about.get("resource", ""),
        subresource=about.get("subresource", ""),
        namespace=about.get("namespace", ""),
        name=about.get("name", ""),
        code=event.get("responseStatus", {}).get("code", 0),
        uri=event["requestURI"],
        agent=event.get("userAgent", ""),
    )
