"""How the carrying out of a plan ended. The words between the executor and the loop."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a run ended."""

    DONE = "done"
    #: The world was not as planned; the caches know better now.
    REPLAN = "replan"
    #: Something failed; `Result.failure` says what.
    DEFERRED = "deferred"
    #: Somebody else leads.
    DEPOSED = "deposed"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a plan."""

    verdict: Verdict
    #: How many requests have changed something.
    writes: int = 0
    #: For people: what failed and what the server said. Public.
    failure: str = ""
    #: Seconds that the server asked us to wait.
    retry_after: float | None = None
