"""The data of Secrets (and ConfigMaps), for the moment in which something is made from them, and never for longer.

The caches keep facts only. What was written a moment ago is still at hand; everything else is read live.
"""

from __future__ import annotations

from collections.abc import Mapping

from hosted_cp.kube.cache import Caches
from hosted_cp.kube.client import DEADLINE, ApiClient
from hosted_cp.kube.errors import ServerFault
from hosted_cp.kube.material import RecentMaterial
from hosted_cp.kube.observing import Unreadable, config_map_data, secret_data
from hosted_cp.kube.resources import CONFIG_MAP, SECRET
from hosted_cp.planning.observed import Observed


class SecretData:
    """Reads through what was made recently."""

    def __init__(self, client: ApiClient, caches: Caches, *, recent: RecentMaterial | None = None) -> None:
        self._client = client
        self._caches = caches
        self._recent = recent if recent is not None else RecentMaterial()

    def remember(self, seen: Observed, data: Mapping[str, bytes]) -> None:
        """The Secret, as the server answered it, holds this data."""
        self._recent.put(seen.uid, seen.resource_version, data)

    async def read(self, namespace: str, name: str, *, deadline: float = DEADLINE) -> Mapping[str, bytes]:
        """The data of a Secret of the management cluster. Raises `NotFound` and all other errors of a read."""
        known = self._caches.known(SECRET.ref(namespace, name))
        if known is not None:
            held = self._recent.get(known.uid, known.resource_version)
            if held is not None:
                return held
        answer = await self._client.get(SECRET, namespace, name, deadline=deadline)
        try:
            data = secret_data(answer.raw)
        except Unreadable as fault:
            raise ServerFault(f"reading Secret {namespace}/{name}: {fault}") from None
        seen = self._caches.feed(answer, SECRET.ref(namespace, name))
        if seen is not None:
            self.remember(seen, data)
        return data

    async def config_map(self, namespace: str, name: str, *, deadline: float = DEADLINE) -> Mapping[str, bytes]:
        """The data of a ConfigMap, read live. Raises `NotFound` and all other errors of a read."""
        answer = await self._client.get(CONFIG_MAP, namespace, name, deadline=deadline)
        try:
            return config_map_data(answer.raw)
        except Unreadable as fault:
            raise ServerFault(f"reading ConfigMap {namespace}/{name}: {fault}") from None
