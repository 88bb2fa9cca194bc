"""Whether a PostgreSQL would let a tenant in: the first words of its protocol, until it is ready for a query.

A database that refuses the password keeps a control plane from starting for as long as k0s tries, which is for minutes,
and all that time the pod looks as if it was starting. So the operator asks for itself. Nothing is queried, and a
password is only proved (SCRAM), never sent: a server that asks for the password itself is not judged. What is told is
ours, by the server's error code; its own words could quote what stands in a Secret.

Sources: PostgreSQL's documentation, "Frontend/Backend Protocol"; RFC 5802 and RFC 7677.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import ssl
import struct
import unicodedata
from asyncio import StreamReader, StreamWriter
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

_PROTOCOL = 0x00030000
_TLS_REQUEST = 80877103
_MECHANISM = "SCRAM-SHA-256"
#: Rounds of hashing that a server may ask of us; its default is 4096.
_MOST_ROUNDS = 200_000
_LONGEST = 65536

_REFUSALS = {
    "28P01": "refuses user and password",
    "28000": "refuses the user, or connections from this network",
    "53300": "has no connection left",
    "57P03": "is starting or stopping",
}


class RefusedError(Exception):
    """The server does not let us in; the message continues a sentence that begins with its address."""


class NotJudgedError(Exception):
    """It cannot be told whether the server would let us in."""


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a data source says about who comes, and how."""

    user: str
    password: str
    database: str
    tls: str
    """libpq's `sslmode`."""


def credentials(dsn: str) -> Credentials:
    """Read `postgres://user:password@host:port/database?sslmode=…`. Raises NotJudgedError."""
    try:
        parts = urlsplit(dsn.strip())
        options = parse_qs(parts.query)
    except ValueError:
        raise NotJudgedError("the data source cannot be read") from None
    if not parts.username or not parts.password or "sslcert" in options:
        raise NotJudgedError("no password is used")
    user = unquote(parts.username)
    database = unquote(parts.path.lstrip("/")) or user
    tls = options.get("sslmode", ["prefer"])[0]
    return Credentials(user=user, password=unquote(parts.password), database=database, tls=tls)


async def log_in(reader: StreamReader, writer: StreamWriter, who: Credentials) -> None:
    """Log in over a fresh connection. Raises RefusedError, NotJudgedError, OSError."""
    try:
        if who.tls != "disable":
            await _start_tls(reader, writer, who.tls)
        said = ("user", who.user, "database", who.database, "application_name", "hosted-cp")
        words = b"".join(word.encode() + b"\0" for word in said)
        _send(writer, b"", struct.pack("!i", _PROTOCOL) + words + b"\0")
        await _authenticate(reader, writer, who.password)
        _send(writer, b"X", b"")
    except (asyncio.IncompleteReadError, ValueError, struct.error):
        raise NotJudgedError("it does not speak as PostgreSQL does") from None


async def _start_tls(reader: StreamReader, writer: StreamWriter, mode: str) -> None:
    writer.write(struct.pack("!ii", 8, _TLS_REQUEST))
    if await reader.readexactly(1) == b"S":
        # Not verified, because nothing is told over it that needed to be kept: see the module's text.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        await writer.start_tls(context)
    elif mode not in ("allow", "prefer"):
        raise RefusedError(f"offers no TLS, which sslmode={mode} asks for")


async def _authenticate(reader: StreamReader, writer: StreamWriter, password: str) -> None:
    nonce = secrets.token_urlsafe(18)
    first = f"n=,r={nonce}"
    while True:
        kind, body = await _message(reader)
        if kind == b"E":
            raise _refusal(body)
        if kind == b"Z":
            return
        if kind != b"R":
            continue
        (code,) = struct.unpack_from("!i", body)
        if code == 10 and _MECHANISM.encode() in body[4:].split(b"\0"):
            answer = f"n,,{first}".encode()
            _send(writer, b"p", _MECHANISM.encode() + b"\0" + struct.pack("!i", len(answer)) + answer)
        elif code == 11:
            challenge = body[4:].decode()
            if not challenge.startswith(f"r={nonce}"):
                raise NotJudgedError("it answers somebody else's question")
            final = await asyncio.to_thread(scram_answer, password, first=first, challenge=challenge)
            _send(writer, b"p", final.encode())
        elif code not in (0, 12):
            raise NotJudgedError("it asks for a proof that is not given here")


def scram_answer(password: str, *, first: str, challenge: str) -> str:
    """The client's last message (RFC 5802, section 3). Raises ValueError, NotJudgedError."""
    fields = dict(part.split("=", 1) for part in challenge.split(","))
    if not {"r", "s", "i"} <= set(fields):
        raise ValueError("no SCRAM challenge")
    rounds = int(fields["i"])
    if not 0 < rounds <= _MOST_ROUNDS:
        raise NotJudgedError("it asks for too much work")
    known = unicodedata.normalize("NFKC", password).encode()
    salted = hashlib.pbkdf2_hmac("sha256", known, base64.b64decode(fields["s"]), rounds)
    key = _mac(salted, b"Client Key")
    final = f"c=biws,r={fields['r']}"
    signature = _mac(hashlib.sha256(key).digest(), f"{first},{challenge},{final}".encode())
    proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
    return f"{final},p={base64.b64encode(proof).decode()}"


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def _refusal(body: bytes) -> RefusedError:
    fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
    state = fields.get(b"C", "")
    if state == "3D000":
        raise NotJudgedError("kine makes the database that is named when it starts, if the user may")
    return RefusedError(_REFUSALS.get(state, f"refuses us with SQLSTATE {state[:5] or 'unknown'}"))


def _send(writer: StreamWriter, kind: bytes, body: bytes) -> None:
    writer.write(kind + struct.pack("!i", len(body) + 4) + body)


async def _message(reader: StreamReader) -> tuple[bytes, bytes]:
    kind = await reader.readexactly(1)
    (length,) = struct.unpack("!i", await reader.readexactly(4))
    if not 4 <= length <= _LONGEST:
        raise ValueError("no message of PostgreSQL's")
    return kind, await reader.readexactly(length - 4)
