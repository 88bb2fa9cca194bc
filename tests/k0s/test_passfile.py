"""The password of a PostgreSQL leaves the data source, and pgx would find the same one in the file."""

from __future__ import annotations

from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosted_cp.k0s.passfile import split_password

FILE = "/etc/k0s/pgpass"


def as_pgx_reads(text: str) -> str:
    """The password in a file, by the rules of github.com/jackc/pgpassfile for a line whose other fields are `*`."""
    line, _ = text.split("\n")
    fields = line.strip().replace("\\\\", "\r").replace("\\:", "\n").split(":")
    assert fields[:4] == ["*"] * 4
    [password] = fields[4:]
    return password.replace("\r", "\\").replace("\n", ":")


@pytest.mark.parametrize(
    ("source", "bare", "line"),
    [
        ("postgres://u:p@db:5432/k", f"postgres://u@db:5432/k?passfile={FILE}", "p"),
        ("postgresql://u:p@db", f"postgresql://u@db?passfile={FILE}", "p"),
        ("postgres://u:p@db/k?sslmode=disable", f"postgres://u@db/k?sslmode=disable&passfile={FILE}", "p"),
        ("postgres://u:a%3Ab%5Cc%40d@db/k", f"postgres://u@db/k?passfile={FILE}", r"a\:b\\c@d"),
        ("postgres://u:a:b@db/k", f"postgres://u@db/k?passfile={FILE}", r"a\:b"),
        ("postgres://u:a@b@db/k", f"postgres://u@db/k?passfile={FILE}", "a@b"),
        ("postgres://u%40x:p+q@[fd00::1]:5432/k", f"postgres://u%40x@[fd00::1]:5432/k?passfile={FILE}", "p+q"),
        ("postgres://:p@db/k", f"postgres://db/k?passfile={FILE}", "p"),
        ("postgres://u:p@a:1,b:2/k", f"postgres://u@a:1,b:2/k?passfile={FILE}", "p"),
        ("postgres://u:no@db/k?password=a+b%2B&x=1", f"postgres://u@db/k?x=1&passfile={FILE}", "a b+"),
        ("postgres://u:p@db/k?passfile=/other", f"postgres://u@db/k?passfile={FILE}", "p"),
    ],
)
def test_the_password_moves_into_the_file(source: str, bare: str, line: str) -> None:
    assert split_password(source, file=FILE) == (bare, f"*:*:*:*:{line}\n")


@pytest.mark.parametrize(
    "source",
    [
        "mysql://u:p@tcp(db:3306)/k",
        "sqlite:///var/lib/k0s/db/state.db",
        "Postgres://u:p@db/k",
        "postgres://u@db/k",
        "postgres://u:@db/k",
        "postgres://db/k?passfile=/mine",
        "postgres://u:p@db/k?password=",
        "postgres://u:a#b@db/k",
        "postgres://u:100%@db/k",
        "postgres://u:p@db/k?x=%zz",
        "postgres://u:%ff@db/k",
        "postgres://u:a%0Ab@db/k",
        "postgres://u:space%20@db/k",
        "",
    ],
)
def test_what_has_no_password_or_cannot_be_read_stays_as_it_is(source: str) -> None:
    assert split_password(source, file=FILE) == (source, "")


@given(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1), st.sampled_from(["u", "a%40b", ""]))
def test_any_password_is_found_again_and_nowhere_else(password: str, user: str) -> None:
    source = f"postgres://{user}:{quote(password, safe='')}@db:5432/k?sslmode=require"
    bare, text = split_password(source, file=FILE)
    if not text:
        assert bare == source
        assert password != password.rstrip() or set(password) & set("\r\n\0")
        return
    assert as_pgx_reads(text) == password
    parts = urlsplit(bare)
    assert parts.password is None
    assert unquote(parts.username or "") == unquote(user)
    assert parse_qs(parts.query) == {"sslmode": ["require"], "passfile": [FILE]}
