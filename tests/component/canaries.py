"""Finding secret values where they must not be: the parts of Secrets that are secret, and a search for pieces of them.

Of each Secret is taken what somebody could use: private keys (as PEM, as its body, and the bare number), passwords in
data sources, the secret halves of tokens, and whatever of that stands in kubeconfigs and configurations. It is searched
for as it is, in hexadecimal, and in base64 at each of the three offsets that a byte can have in it; and not only as a
whole: any sixteen characters in a row are a find.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote

import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from hosted_cp.cli.logs import formatter

#: So many characters in a row are a leak.
PIECE = 16
#: A piece, wherever it begins, covers a block of this length that begins at a multiple of it.
_BLOCK = PIECE // 2

_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----\n?", re.S)
_PASSWORD = re.compile(r"//[^\s:/@]*:([^\s@]+)@")
#: Keys of Secrets whose whole value is secret.
_WHOLE = {"token-secret", "cluster-token", "canary"}


def secrets_in(data: Mapping[str, bytes]) -> dict[bytes, set[bytes]]:
    """What is secret in the data of a Secret: by something that identifies it all its forms."""
    found: dict[bytes, set[bytes]] = {}
    for key, value in data.items():
        for identity, forms in _secrets(value, whole=key in _WHOLE):
            found.setdefault(identity, set()).update(forms)
    return found


def _secrets(value: bytes, *, whole: bool = False) -> Iterator[tuple[bytes, set[bytes]]]:
    if whole:
        yield value, {value}
        return
    for match in _KEY.finditer(value):
        yield _key(match[0])
    text = value.decode(errors="replace")
    for password in _PASSWORD.findall(text):
        yield password.encode(), {password.encode(), unquote(password).encode()}
    for word in _words(text):
        if re.fullmatch(r"[a-z0-9]{6}\.[a-z0-9]{16}", word):
            yield word[7:].encode(), {word[7:].encode()}
        elif len(word) >= 64 and (inner := _unpacked(word)):
            yield from _secrets(inner)


def _words(text: str) -> Iterator[str]:
    """Every string in a YAML document, or the text itself."""
    try:
        rest = [yaml.safe_load(text)]
    except yaml.YAMLError:
        return
    while rest:
        some = rest.pop()
        if isinstance(some, str):
            yield some
        elif isinstance(some, Mapping):
            rest += some.values()
        elif isinstance(some, list):
            rest += some


def _unpacked(word: str) -> bytes:
    """What stands in base64, and maybe in gzip; nothing for what is neither PEM nor packed."""
    try:
        inner = base64.b64decode(word, validate=True)
    except binascii.Error:
        return b""
    if inner.startswith(b"\x1f\x8b"):
        return gzip.decompress(inner)
    return inner if inner.startswith(b"-----BEGIN") else b""


def _key(pem: bytes) -> tuple[bytes, set[bytes]]:
    try:
        key = load_pem_private_key(pem, None)
    except ValueError:
        return pem, {pem, *pem.splitlines()}
    if isinstance(key, ec.EllipticCurvePrivateKey):
        numbers = [key.private_numbers().private_value]
    else:
        assert isinstance(key, rsa.RSAPrivateKey)
        private = key.private_numbers()
        numbers = [private.d, private.p, private.q]
    bare = [number.to_bytes((number.bit_length() + 7) // 8, "big") for number in numbers]
    body = b"".join(pem.splitlines()[1:-1])
    return bare[0], {pem, body, *bare, *(str(number).encode() for number in numbers)}


def spellings(form: bytes) -> Iterator[str]:
    """How a value can stand in a text."""
    if form.isascii() and not any(byte < 9 for byte in form):
        yield form.decode()
    yield form.hex()
    for offset, skipped in enumerate((0, 2, 3)):
        encoded = base64.b64encode(bytes(offset) + form).decode()[skipped:]
        whole = encoded.rstrip("=")[:-1] if encoded.endswith("=") else encoded
        yield whole
        yield whole.translate(str.maketrans("+/", "-_"))


@dataclass(kw_only=True)
class Net:
    """Pieces of all secrets that were ever seen, for a search."""

    _held: dict[bytes, set[str]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """How many different secrets are searched for."""
        return len(self._held)

    def take(self, data: Mapping[str, bytes]) -> None:
        """Search for what is secret in this data, too."""
        for identity, forms in secrets_in(data).items():
            pieces = self._held.setdefault(identity, set())
            for form in forms:
                for spelling in spellings(form):
                    pieces.update(spelling[at : at + PIECE] for at in range(len(spelling) - PIECE + 1))

    @property
    def pieces(self) -> set[str]:
        """All of them, but those that any two secrets have in common (the beginning of every key of a kind)."""
        counted = Counter(piece for pieces in self._held.values() for piece in pieces)
        return {piece for piece, times in counted.items() if times == 1}

    def search(self, places: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
        """By place what of the secrets stands there, with its surroundings; places without a find are left out."""
        pieces = self.pieces
        blocks = {piece[at : at + _BLOCK] for piece in pieces for at in range(PIECE - _BLOCK + 1)}
        found = {
            place: [hit for text in texts for hit in _hits(text, pieces, blocks)] for place, texts in places.items()
        }
        return {place: hits for place, hits in found.items() if hits}


def _hits(text: str, pieces: set[str], blocks: set[str]) -> Iterator[str]:
    for at in range(0, len(text) - _BLOCK + 1, _BLOCK):
        if text[at : at + _BLOCK] in blocks:
            begins = range(max(0, at - PIECE + _BLOCK), at + 1)
            if any(text[begin : begin + PIECE] in pieces for begin in begins):
                yield text[max(0, at - 150) : at + 60]


class _Lines(logging.Handler):
    def __init__(self, form: str) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(formatter(form))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def logged() -> Iterator[dict[str, list[str]]]:
    """What is logged at debug level by anybody in this process, in both formats of the product."""
    handlers = {form: _Lines(form) for form in ("text", "json")}
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.DEBUG)
    for handler in handlers.values():
        root.addHandler(handler)
    try:
        yield {form: handler.lines for form, handler in handlers.items()}
    finally:
        root.setLevel(before)
        for handler in handlers.values():
            root.removeHandler(handler)
