"""What a kine data source (DSN) says in public: which kind of database, and where it listens. Never its credentials.

Forms: k0s's documentation of kine. `sqlite://…` is a file of one controller; `postgres://user:pass@host:5432/db`;
`mysql://user:pass@tcp(host:3306)/db` (Go's MySQL driver has its own form of address).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

#: The key of the Secret that holds the DSN (k0smotron's).
DSN_KEY = "K0SMOTRON_KINE_DATASOURCE_URL"
#: k0smotron writes this over `dataSourceURL` where the DSN comes from a Secret.
PLACEHOLDER = "__K0SMOTRON_KINE_DATASOURCE_URL_PLACEHOLDER__"

_PORTS = {"postgres": 5432, "mysql": 3306, "nats": 4222}
_SCHEMES = {
    "sqlite": "sqlite", "postgres": "postgres", "postgresql": "postgres", "mysql": "mysql", "nats": "nats",
    "jetstream": "nats", "http": "etcd", "https": "etcd",
}  # fmt: skip
_MYSQL_ADDRESS = re.compile(r"(?:^|@)[a-z0-9]*\(([^()@]*)\)")
_HOST_AND_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:]+)(?::(\d{1,5}))?")


class DataSourceError(ValueError):
    """The text is no data source that kine understands; the message quotes nothing of it but a known scheme."""


@dataclass(frozen=True, kw_only=True)
class DatabaseFacts:
    """The public part of a data source."""

    #: sqlite, postgres, mysql, nats or etcd.
    kind: str
    #: "" where there is none: SQLite, and sockets.
    host: str = ""
    port: int = 0

    @property
    def shared(self) -> bool:
        """Whether several controllers can use it."""
        return self.kind != "sqlite"


def read(dsn: str) -> DatabaseFacts:
    """The facts of a data source. Raises DataSourceError."""
    scheme, separator, rest = dsn.strip().partition("://")
    kind = _SCHEMES.get(scheme.lower(), "")
    if not separator or not kind:
        raise DataSourceError("is no data source that kine understands")
    if kind == "sqlite":
        return DatabaseFacts(kind=kind)
    if kind == "mysql":
        return _mysql(rest)
    try:
        parts = urlsplit(dsn.strip())
        return DatabaseFacts(kind=kind, host=parts.hostname or "", port=parts.port or _PORTS.get(kind, 0))
    except ValueError:
        raise DataSourceError(f"is a {kind} data source whose address cannot be read") from None


def _mysql(rest: str) -> DatabaseFacts:
    """Address of `user:pass@tcp(host:port)/db`; a password may hold `@` and `/`, so the search is from the end."""
    addresses = _MYSQL_ADDRESS.findall(rest.rpartition("/")[0] or rest)
    if not addresses or addresses[-1].startswith("/"):
        return DatabaseFacts(kind="mysql")
    found = _HOST_AND_PORT.fullmatch(addresses[-1])
    if found is None:
        raise DataSourceError("is a mysql data source whose address cannot be read")
    return DatabaseFacts(kind="mysql", host=found[1].strip("[]"), port=int(found[2] or _PORTS["mysql"]))
