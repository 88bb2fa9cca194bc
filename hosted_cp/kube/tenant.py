"""Clients of tenants' own API servers.

Whoever holds a tenant's CA needs no stored credentials: a client certificate is made in memory, lives for a day, and is
never written anywhere. Of a cluster that others run we have no CA key, but the kubeconfig that Cluster API asks them to
leave in a Secret. A client trusts that one CA and nothing else, takes no proxy from the environment, and is kept for
the next request in a bounded number: of tenants that were not spoken to lately nothing is held.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from hosted_cp.kube.cache import Caches
from hosted_cp.kube.client import ApiClient, Sample
from hosted_cp.kube.credentials import Credentials, certificate_credentials, token_credentials
from hosted_cp.kube.material import client_certificate
from hosted_cp.kube.resources import SECRET
from hosted_cp.kube.secret_data import SecretData
from hosted_cp.pki import kubeconfig
from hosted_cp.pki.recipes import KUBECONFIG_KEY
from hosted_cp.planning.recipes import MaterialError

USER = "hosted-cp"
GROUP = "system:masters"

#: What is raised for material that cannot be used.
_UNUSABLE = (ValueError, TypeError, UnsupportedAlgorithm, OSError)

_LIFE = timedelta(hours=24)
_USED_FOR = timedelta(hours=12)


@dataclass(frozen=True, kw_only=True)
class TenantAccess:
    """Where a tenant's API server is, and whose CA it has."""

    #: UID of the object that stands for the tenant.
    uid: str
    namespace: str
    #: Name of the Secret with the tenant's CA (`tls.crt`, `tls.key`); or with a kubeconfig for it (`value`).
    authority: str
    #: "https://host:port"
    server: str
    #: The name in the server's certificate where it is not the host.
    server_name: str | None = None
    #: Whether it is a kubeconfig that stands in that Secret.
    kubeconfig: bool = False


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
        facts = authority.secret if authority is not None else None
        if facts is None:
            made_of = ""
        elif access.kubeconfig:
            made_of = facts.digests.get(KUBECONFIG_KEY, "")
        else:
            certificate = facts.certificates.get("tls.crt")
            made_of = certificate.fingerprint if certificate else ""
        return access.uid, made_of, f"{access.server} {access.server_name}"

    def _find(self, access: TenantAccess) -> _Held | None:
        key = self._key(access)
        held = self._held.get(key)
        if held is None or self.now() - held.made > _USED_FOR:
            return None
        self._held.move_to_end(key)
        return held

    async def _make(self, access: TenantAccess, *, deadline: float) -> _Held:
        data = await self.secrets.read(access.namespace, access.authority, deadline=deadline)
        now = self.now()
        credentials = _by_kubeconfig(access, data) if access.kubeconfig else _by_authority(access, data, now=now)
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


def _by_authority(access: TenantAccess, data: Mapping[str, bytes], *, now: datetime) -> Credentials:
    """Credentials that we make ourselves. Raises `MaterialError`."""
    where = f"Secret {access.namespace}/{access.authority}"
    if "tls.crt" not in data or "tls.key" not in data:
        raise MaterialError(f"{where} lacks tls.crt or tls.key")
    try:
        key = load_pem_private_key(data["tls.key"], None)
        if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
            raise MaterialError(f"tls.key in {where} cannot sign for a tenant")
        certificate, own_key = client_certificate(
            ca=data["tls.crt"], ca_key=key, user=USER, group=GROUP, now=now, life=_LIFE
        )
        return certificate_credentials(
            server=access.server, ca=data["tls.crt"], certificate=certificate, key=own_key,
            server_name=access.server_name,
        )  # fmt: skip
    except _UNUSABLE:
        # What these say may quote what they were given.
        raise MaterialError(f"tls.crt or tls.key in {where} cannot be used") from None


def _by_kubeconfig(access: TenantAccess, data: Mapping[str, bytes]) -> Credentials:
    """Credentials that others gave us. Raises `MaterialError`."""
    where = f"the kubeconfig in Secret {access.namespace}/{access.authority}"
    if KUBECONFIG_KEY not in data:
        raise MaterialError(f"{where} is missing: it belongs under the key {KUBECONFIG_KEY}")
    try:
        given = kubeconfig.access(data[KUBECONFIG_KEY])
    except kubeconfig.KubeconfigError as fault:
        raise MaterialError(f"{where} {fault}") from None
    words: dict[str, Any] = {"server": access.server, "ca": given.ca, "server_name": access.server_name}
    try:
        if given.token:
            return token_credentials(token=given.token, **words)
        return certificate_credentials(certificate=given.certificate, key=given.key, **words)
    except _UNUSABLE:
        raise MaterialError(f"{where} has certificates or a key that cannot be used") from None
