"""Data sources: kind and address are public, everything else is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.api.database import DatabaseFacts, DataSourceError, read


@pytest.mark.parametrize(
    ("dsn", "facts"),
    [
        ("sqlite://file:/var/lib/k0s/db/state.db?mode=rwc&_journal=WAL", DatabaseFacts(kind="sqlite")),
        ("sqlite:///abs/path", DatabaseFacts(kind="sqlite")),
        ("postgres://u:p@h:5433/db?sslmode=disable", DatabaseFacts(kind="postgres", host="h", port=5433)),
        ("postgresql://h/db", DatabaseFacts(kind="postgres", host="h", port=5432)),
        ("postgres://u:p@[fd00::1]:5432/db", DatabaseFacts(kind="postgres", host="fd00::1", port=5432)),
        ("postgres:///db?host=/var/run", DatabaseFacts(kind="postgres", host="", port=5432)),
        ("mysql://u:p@tcp(h:3307)/db", DatabaseFacts(kind="mysql", host="h", port=3307)),
        ("mysql://u:p@tcp(h)/db?tls=true", DatabaseFacts(kind="mysql", host="h", port=3306)),
        ("mysql://u:p(@tcp(x)/@tcp([fd00::1]:3306)/db", DatabaseFacts(kind="mysql", host="fd00::1", port=3306)),
        ("mysql://u:p@unix(/run/mysqld.sock)/db", DatabaseFacts(kind="mysql")),
        ("mysql://u:p@/db", DatabaseFacts(kind="mysql")),
        ("nats://h", DatabaseFacts(kind="nats", host="h", port=4222)),
        (" https://etcd:2379\n", DatabaseFacts(kind="etcd", host="etcd", port=2379)),
    ],
)
def test_reads(dsn: str, facts: DatabaseFacts) -> None:
    assert read(dsn) == facts
    assert facts.shared == (facts.kind != "sqlite")


@pytest.mark.parametrize(
    "dsn", ["", "secret", "oracle://secret@h", "postgres://u:secret@h:x/db", "mysql://u:secret@tcp(h:1:2)/db", "://h"]
)
def test_refuses_without_quoting(dsn: str) -> None:
    with pytest.raises(DataSourceError) as caught:
        read(dsn)
    assert "secret" not in str(caught.value)


@given(
    scheme=st.sampled_from(["postgres", "mysql", "sqlite", "nats"]),
    user=st.text("abc", min_size=1, max_size=5),
    password=st.text("XYZ123!*(),;=+$&'[]%", min_size=6, max_size=12),
)
def test_no_password_is_ever_said(scheme: str, user: str, password: str) -> None:
    address = "tcp(db:3306)" if scheme == "mysql" else "db:5432"
    try:
        said = repr(read(f"{scheme}://{user}:{password}@{address}/x"))
    except DataSourceError as error:
        said = str(error)
    assert password not in said
