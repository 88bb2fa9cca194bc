"""The first words with a PostgreSQL: against RFC 7677's example, and against servers that say one thing each."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Awaitable, Callable

import pytest

from hosted_cp.kube.postgres import Credentials, NotJudgedError, RefusedError, credentials, log_in, scram_answer

WHO = Credentials(user="u", password="canary-7d1e", database="d", tls="disable")


def test_the_example_of_rfc_7677() -> None:
    said = scram_answer(
        "pencil",
        first="n=user,r=rOprNGfwEbeRWgbNEkqO",
        challenge="r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    )
    assert said.endswith(",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")


@pytest.mark.parametrize("challenge", ["r=x,s=,i=1000000000", "r=x,s=,i=0"])
def test_a_server_cannot_make_us_work_without_end(challenge: str) -> None:
    with pytest.raises(NotJudgedError):
        scram_answer("p", first="n=,r=x", challenge=challenge)


def test_a_data_source_is_read_with_its_escapes() -> None:
    found = credentials("postgres://al%40ice:p%2Fw@db:5432/k%20ine?sslmode=require")
    assert (found.user, found.password, found.database, found.tls) == ("al@ice", "p/w", "k ine", "require")
    assert credentials("postgres://a:b@db").database == "a"


@pytest.mark.parametrize(
    "dsn", ["postgres://db/x", "postgres://a@db/x", "postgres://a:b@db/x?sslcert=/c", "postgres://[x"]
)
def test_what_comes_without_a_password_is_not_judged(dsn: str) -> None:
    with pytest.raises(NotJudgedError):
        credentials(dsn)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def error(state: str, text: str = "") -> bytes:
    return message(b"E", b"SFATAL\0C" + state.encode() + b"\0M" + text.encode() + b"\0\0")


async def attempt(serve: Serve, who: Credentials = WHO) -> bytes:
    """Log in at a server that behaves like `serve`; returns all that the client has said."""
    heard = bytearray()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        feed = reader.feed_data

        def listening(data: bytes) -> None:
            heard.extend(data)
            feed(data)

        reader.feed_data = listening  # type: ignore[method-assign,assignment]
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            await log_in(reader, writer, who)
            await writer.drain()
        finally:
            writer.close()
    return bytes(heard)


def scram(verdict: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        await reader.readexactly(length - 4)
        writer.write(message(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"))
        await reader.readexactly(1)
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        nonce = (await reader.readexactly(length - 4)).rpartition(b"r=")[2]
        challenge = b"r=" + nonce + b"server,s=" + base64.b64encode(b"salt") + b",i=4096"
        writer.write(message(b"N", b"SNOTICE\0\0") + message(b"R", struct.pack("!i", 11) + challenge))
        await reader.readexactly(1)
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        await reader.readexactly(length - 4)
        writer.write(verdict)
        await writer.drain()

    return serve


async def test_whoever_knows_the_password_is_let_in_and_nobody_hears_it() -> None:
    final = message(b"R", struct.pack("!i", 12) + b"v=x") + message(b"R", struct.pack("!i", 0))
    final += message(b"S", b"server_version\x0015\0") + message(b"Z", b"I")
    heard = await attempt(scram(final))
    assert WHO.password.encode() not in heard


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("28P01", "refuses user and password"),
        ("28000", "refuses the user"),
        ("57P03", "starting"),
        ("XX000", "XX000"),
    ],
)
async def test_a_refusal_is_told_in_our_words(state: str, words: str) -> None:
    with pytest.raises(RefusedError, match=words) as refused:
        await attempt(scram(error(state, "for user canary")))
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "answer",
    [
        message(b"R", struct.pack("!i", 3)),  # asks for the password itself
        message(b"R", struct.pack("!i", 5) + b"salt"),  # MD5
        error("3D000"),  # kine makes the database
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"",
    ],
)
async def test_what_is_not_judged(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4)
        writer.write(answer)
        await writer.drain()

    with pytest.raises(NotJudgedError):
        await attempt(serve)


async def test_tls_that_is_asked_for_and_not_offered_is_named() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(8) == struct.pack("!ii", 8, 80877103)
        writer.write(b"N")
        await writer.drain()
        await reader.read()

    demanding = Credentials(user="u", password="p", database="d", tls="verify-full")
    with pytest.raises(RefusedError, match="sslmode=verify-full"):
        await attempt(serve, demanding)
