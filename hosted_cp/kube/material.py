"""What the pure rooms may not have: randomness, the clock, new keys; and a short memory of what was made with them.

ECDSA keys are made on the spot (12 microseconds). RSA keys take 40 to 400 milliseconds of CPU, so they are made in a
background thread (OpenSSL lets go of the interpreter's lock meanwhile) and the event loop never waits for one.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hosted_cp.pki.keys import PrivateKey, private_pem, signature_hash
from hosted_cp.planning.recipes import Inputs, Recipe

_CURVES: Mapping[str, type[ec.EllipticCurve]] = {"ECDSA-P256": ec.SECP256R1, "ECDSA-P384": ec.SECP384R1}


class KeyNotReady(Exception):
    """A key of this algorithm takes too long to be made on the spot; it has to be made ready first."""

    def __init__(self, algorithm: str) -> None:
        super().__init__(algorithm)
        self.algorithm = algorithm


class Keys:
    """New private keys."""

    def __init__(self, *, threads: int = 1) -> None:
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="rsa-keys")

    def make(self, algorithm: str) -> PrivateKey:
        """A new key, if it can be made at once; else `KeyNotReady`."""
        curve = _CURVES.get(algorithm)
        if curve is None:
            raise KeyNotReady(algorithm)
        return ec.generate_private_key(curve())

    async def make_slowly(self, algorithm: str) -> PrivateKey:
        """A new RSA key, made in the background."""
        name, _, bits = algorithm.partition("-")
        if name != "RSA" or not bits.isdigit():
            raise ValueError(f"unknown key algorithm {algorithm!r}")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, rsa.generate_private_key, 65537, int(bits))

    def close(self) -> None:
        """Let the threads end; a key that is being made is thrown away."""
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What recipes are fulfilled with. Tests put seeded ones in their place."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    entropy: Callable[[int], bytes] = secrets.token_bytes
    keys: Keys = field(default_factory=Keys)

    def inputs(self, needed: Mapping[str, Mapping[str, bytes]]) -> Inputs:
        """What a recipe is given to look at, where nothing is made."""
        return Inputs(now=self.now(), entropy=self.entropy, new_key=self.keys.make, secrets=needed)

    async def fulfil(self, recipe: Recipe, needed: Mapping[str, Mapping[str, bytes]]) -> Mapping[str, bytes]:
        """The data that a recipe makes. Raises `MaterialError`.

        A recipe that asks for a slow key is begun again once the key is there, and is given the same keys in the same
        order, so none is wasted.
        """
        ready: list[PrivateKey] = []
        now = self.now()
        while True:
            unused = iter(list(ready))

            def new_key(algorithm: str, unused: Any = unused) -> PrivateKey:
                key: PrivateKey | None = next(unused, None)
                if key is None:
                    key = self.keys.make(algorithm)
                    ready.append(key)
                return key

            try:
                return recipe.fulfil(Inputs(now=now, entropy=self.entropy, new_key=new_key, secrets=needed))
            except KeyNotReady as wanted:
                ready.append(await self.keys.make_slowly(wanted.algorithm))


class RecentMaterial:
    """The data of Secrets that we wrote a moment ago, so that what is signed by them need not read them back.

    Bounded in number and in age: private keys stay in memory no longer than a creation takes.
    """

    def __init__(
        self, *, most: int = 2048, seconds: float = 120.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._held: OrderedDict[tuple[str, str], tuple[float, Mapping[str, bytes]]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<{len(self._held)} recent Secrets>"

    def put(self, uid: str, version: str, data: Mapping[str, bytes]) -> None:
        """Remember the data of the Secret with this UID in this version."""
        self._held[uid, version] = (self._clock(), data)
        self._prune()

    def get(self, uid: str, version: str) -> Mapping[str, bytes] | None:
        """The data, if it is still held, of exactly this version."""
        self._prune()
        found = self._held.get((uid, version))
        return found[1] if found else None

    def _prune(self) -> None:
        limit = self._clock() - self._seconds
        while self._held:
            oldest = next(iter(self._held))
            if len(self._held) <= self._most and self._held[oldest][0] >= limit:
                return
            del self._held[oldest]


def client_certificate(
    *, ca: bytes, ca_key: PrivateKey, user: str, group: str, now: datetime, life: timedelta
) -> tuple[bytes, bytes]:
    """A short-lived client certificate and its key (PEM), for ourselves, to be held in memory only."""
    signer = x509.load_pem_x509_certificate(ca)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(
            x509.Name(
                [
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, group),
                    x509.NameAttribute(NameOID.COMMON_NAME, user),
                ]
            )
        )
        .issuer_name(signer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(ca_key, signature_hash(ca_key))
    )
    return certificate.public_bytes(Encoding.PEM), private_pem(key)
