"""What can go wrong when speaking with an API server, as types.

Callers decide by type, never by status code or text. `str(error)` may quote what the server said, and a server may
quote what it was sent; `public()` never holds anything of a Secret's data and is what conditions and logs about Secrets
use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

#: Refusals in words of the API server's own, which name rights and quotas, and who else has refused, but no value. What
#: an admission webhook or policy says after that is its author's, and may quote what it was asked about.
_PLAIN = re.compile(
    r"""(?:[\w.-]+(?:\ "[^"]{1,253}")?\ is\ forbidden:\ )?
    (?: admission\ webhook\ "[^"]{1,253}"\ denied\ the\ request
    | ValidatingAdmissionPolicy\ '[^']{1,253}'\ with\ binding\ '[^']{1,253}'\ denied\ request
    | User\ "[^"]{1,253}"\ cannot\ \w+\ resource\ "[\w./-]{1,253}"\ in\ API\ group\ "[\w.-]*"
      (?:\ in\ the\ namespace\ "[\w-]+")?
    | cannot\ set\ blockOwnerDeletion[\w '/-]*
    | exceeded\ quota:\ [\w\ :;,./=-]{1,1000}
    | unable\ to\ create\ new\ content\ in\ namespace\ [\w-]+\ because\ it\ is\ being\ terminated
    )""",
    re.VERBOSE | re.ASCII,
)


class ApiError(Exception):
    """Every way in which a request fails."""

    def __init__(
        self,
        message: str,
        *,
        code: int = 0,
        reason: str = "",
        retry_after: float | None = None,
        causes: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        #: HTTP status; 0 if there was no answer.
        self.code = code
        #: The server's machine-readable reason ("AlreadyExists", "Invalid").
        self.reason = reason
        #: Seconds that the server asked us to wait.
        self.retry_after = retry_after
        #: (field, message) of each fault in an object that was refused.
        self.causes = causes

    def public(self) -> str:
        """What happened and in which fields, without a word of what was sent."""
        fields = ", ".join(sorted({field for field, _ in self.causes if field}))
        said = self.reason or type(self).__name__
        said += (f" ({self.code})" if self.code else "") + (f" in {fields}" if fields else "")
        plain = _PLAIN.match(self.message)
        return f"{said}: {plain[0]}" if plain else said


class NotFound(ApiError):
    """404: the object, or the kind, is not there."""


class AlreadyExists(ApiError):
    """409: somebody has created an object of this name."""


class Conflict(ApiError):
    """409: the object is not the one (by UID), or not in the state, that the request was made for."""


class Invalid(ApiError):
    """400, 413 or 422: the server will never take this object."""


class Forbidden(ApiError):
    """403: RBAC or an admission policy or quota says no."""


class Unauthorized(ApiError):
    """401: the credentials are not accepted, also after having been renewed once."""


class Gone(ApiError):
    """410: the resourceVersion is too old; list again."""


class TooManyRequests(ApiError):
    """429: come back after `retry_after`."""


class ServerFault(ApiError):
    """5xx, or an answer that is none. Whether a write was done is unknown."""


class Unreachable(ApiError):
    """No answer: refused, reset, unresolved. Whether a write was done is unknown."""


class DeadlineExceeded(Unreachable):
    """No answer in time. Whether a write was done is unknown."""


_BY_CODE: Mapping[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: Invalid,
    422: Invalid,
    429: TooManyRequests,
}

_UNTYPED = re.compile(r"^failed to create typed patch object \(.*?\): (?P<field>\S+?): (?P<fault>[^\n]*)")


#: A node port that is asked for twice in one Service is found by the allocator, before anything is validated.
_TWICE = re.compile(r"^(?:Internal error occurred: )?duplicate nodePort: ")


def error_from(code: int, content: bytes, *, retry_after: str | None = None) -> ApiError:
    """The typed error for an answer with this HTTP status and body (a `Status` object, if the server is itself)."""
    status: Mapping[str, Any] = {}
    try:
        decoded = orjson.loads(content)
        if isinstance(decoded, dict):
            status = decoded
    except orjson.JSONDecodeError:
        pass  # a proxy's page, or half an answer: the status code must do
    details = status.get("details") or {}
    causes = tuple((cause.get("field", ""), cause.get("message", "")) for cause in details.get("causes") or ())
    reason = status.get("reason", "")
    kind = _BY_CODE.get(code, ServerFault)
    if code == 409 and reason == "AlreadyExists":
        kind = AlreadyExists
    if code == 500 and (unknown := _UNTYPED.search(status.get("message") or "")):
        # How an apply with a field that the kind does not have is answered; a create gets an honest 400.
        kind, causes = Invalid, ((unknown["field"].lstrip("."), unknown["fault"]),)
    if code == 500 and _TWICE.search(status.get("message") or ""):
        kind, causes = Invalid, (("spec.ports", "two have the same nodePort"),)
    if code == 422 and any(field == "metadata.uid" for field, _ in causes):
        # How a patch with the UID of a former object of this name is answered ("field is immutable").
        kind = Conflict
    wait = _seconds(retry_after)
    if wait is None and "retryAfterSeconds" in details:
        wait = float(details["retryAfterSeconds"])
    return kind(
        status.get("message") or f"HTTP status {code}", code=code, reason=reason, retry_after=wait, causes=causes
    )


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is not used by API servers and is ignored."""
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None
