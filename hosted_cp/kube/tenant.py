"""Clients of tenants' own API servers.

Whoever holds a tenant's CA needs no stored credentials: a client certificate is made in memory, lives for a day, and is
never written anywhere. A client trusts that one CA and nothing else, takes no proxy from the environment, and is kept
for the next request in a bounded number: of tenants that were not spoken to lately nothing is held.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from hosted_cp.kube.cache import Caches
from hosted_cp.kube.client import ApiClient, Sample
from hosted_cp.kube.credentials import certificate_credentials
from hosted_cp.kube.material import client_certificate
from hosted_cp.kube.resources import SECRET
from hosted_cp.kube.secret_data import SecretData
from hosted_cp.planning.recipes import MaterialError

USER = "hosted-cp"
GROUP = "system:masters"

_LIFE = timedelta(hours=24)
_USED_FOR = timedelta(hours=12)


@dataclass(frozen=True, kw_only=True)
class TenantAccess:
    """Where a tenant's API server is, and whose CA it has."""

    #: UID of the object that stands for the tenant.
    uid: str
    namespace: str
    #: Name of the Secret with the tenant's CA (`tls.crt`, `tls.key`).
    authority: str
    #: "https://host:port"
    server: str
    #: The name in the server's certificate where it is not the host.
    server_name: str | None = None


@dataclass(kw_only=True)
class _Held:
    client: ApiClient
    made: datetime
    users: int = 0
    #: Not to be given out any more; closed when the last user is done.
    retired: bool = False


@dataclass(kw_only=True)
class TenantClients:
    """The most recently used clients. Use `client`; `close` at the end."""

    caches: Caches
    secrets: SecretData
    now: Callable[[], datetime]
    most: int = 64
    observe: Callable[[Sample], None] | None = None
    _held: OrderedDict[tuple[str, str, str], _Held] = field(default_factory=OrderedDict, init=False, repr=False)
    _making: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    @asynccontextmanager
    async def client(self, access: TenantAccess, *, deadline: float = 10.0) -> AsyncIterator[ApiClient]:
        """A client of the tenant. Raises `MaterialError` if its CA cannot sign, `ApiError` if it cannot be read."""
        held = self._find(access)
        if held is None:
            async with self._making:
                held = self._find(access) or await self._make(access, deadline=deadline)
        held.users += 1
        try:
            yield held.client
        finally:
            held.users -= 1
            if held.retired and not held.users:
                await held.client.close()

    async def close(self) -> None:
        """Close all clients; requests that run end with `Unreachable`."""
        while self._held:
            await self._held.popitem()[1].client.close()

    def __len__(self) -> int:
        return len(self._held)

    def _key(self, access: TenantAccess) -> tuple[str, str, str]:
        authority = self.caches.known(SECRET.ref(access.namespace, access.authority))
        certificate = authority.secret.certificates.get("tls.crt") if authority and authority.secret else None
        return access.uid, certificate.fingerprint if certificate else "", f"{access.server} {access.server_name}"

    def _find(self, access: TenantAccess) -> _Held | None:
        key = self._key(access)
        held = self._held.get(key)
        if held is None or self.now() - held.made > _USED_FOR:
            return None
        self._held.move_to_end(key)
        return held

    async def _make(self, access: TenantAccess, *, deadline: float) -> _Held:
        data = await self.secrets.read(access.namespace, access.authority, deadline=deadline)
        where = f"Secret {access.namespace}/{access.authority}"
        if "tls.crt" not in data or "tls.key" not in data:
            raise MaterialError(f"{where} lacks tls.crt or tls.key")
        now = self.now()
        try:
            key = load_pem_private_key(data["tls.key"], None)
            if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
                raise MaterialError(f"tls.key in {where} cannot sign for a tenant")
            certificate, own_key = client_certificate(
                ca=data["tls.crt"], ca_key=key, user=USER, group=GROUP, now=now, life=_LIFE
            )
            credentials = certificate_credentials(
                server=access.server,
                ca=data["tls.crt"],
                certificate=certificate,
                key=own_key,
                server_name=access.server_name,
            )
        except (ValueError, TypeError, UnsupportedAlgorithm, OSError):
            # What these say may quote what they were given.
            raise MaterialError(f"tls.crt or tls.key in {where} cannot be used") from None
        client = await ApiClient(credentials, connections=4, observe=self.observe).__aenter__()
        held = _Held(client=client, made=now)
        await self._retire(self._key(access))
        self._held[self._key(access)] = held
        while len(self._held) > self.most:
            await self._retire(next(iter(self._held)))
        return held

    async def _retire(self, key: tuple[str, str, str]) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            held.retired = True
            if not held.users:
                await held.client.close()
