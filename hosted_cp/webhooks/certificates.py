"""Where the certificate that is served with comes from, and how it gets into use without a restart.

By default the webhook makes it itself, with a CA of its own, in two Secrets: made by POST, so that of several replicas
one makes them and the others read what is there, and followed by a watch. (Not as a mounted volume: that would hold up
the first start for as long as the kubelet takes to see a Secret that did not exist, and renewals by a minute, in which
two replicas would serve by different CAs.) It does not wait for the operator: who converts must go on for months
while the operator is down.

With cert-manager, or any other source, the webhook is given files instead, and looks whether they have changed.

A context takes a new certificate for new connections; those that are open go on with the old one.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
import ssl
from collections.abc import Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.credentials import unnamed_file
from hosted_cp.kube.errors import AlreadyExists, ApiError, Conflict, NotFound
from hosted_cp.kube.material import Sources
from hosted_cp.kube.observing import secret_data
from hosted_cp.kube.resources import SECRET
from hosted_cp.kube.webhook_names import SERVICE, ca_secret, serving_secret
from hosted_cp.pki.authority import CERTIFICATE, KEY
from hosted_cp.pki.facts import secret_facts
from hosted_cp.pki.recipes import LeafRecipe
from hosted_cp.webhooks.authority import Next, Step, authority_recipe, next_step, with_bundle
from hosted_cp.webhooks.metrics import Metrics

log = logging.getLogger(__name__)

#: Seconds after failures in a row.
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
#: Steps in a row; a CA and a certificate are two, and as many may be lost to another replica.
_ROUNDS = 8
#: Seconds between two looks at files. A volume tells nobody when it changes in a way that works for all kinds of
#: volumes, and whoever writes the files does so weeks before the old ones end.
_LOOK = 10.0
#: Replicas do not renew in the same second.
_SPREAD = timedelta(hours=1)


class CertificateError(Exception):
    """There is no usable certificate; the message says where and why."""


@dataclass(kw_only=True)
class Tls:
    """The context of the server, and the certificate in it."""

    metrics: Metrics
    context: ssl.SSLContext = field(default_factory=lambda: ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
    #: Set once there is a certificate.
    usable: asyncio.Event = field(default_factory=asyncio.Event)
    #: Of the certificate in use.
    fingerprint: str = ""

    def use(self, certificate: bytes, key: bytes) -> None:
        """Serve new connections with this certificate. Raises CertificateError, and changes nothing, for a bad one."""
        facts = secret_facts(type="", data={CERTIFICATE: certificate, KEY: key}).certificates.get(CERTIFICATE)
        if facts is None:
            raise CertificateError("there is no certificate in it")
        if facts.fingerprint == self.fingerprint:
            return
        try:
            with unnamed_file(certificate + b"\n" + key) as path:
                # A context that fails half-way would be left with a key that does not fit.
                ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(path)
                self.context.load_cert_chain(path)
        except ssl.SSLError as error:
            raise CertificateError(
                f"certificate and key do not serve: {error.reason or type(error).__name__}"
            ) from None
        self.fingerprint = facts.fingerprint
        self.metrics.serves_until(facts.not_after)
        self.usable.set()
        log.info("serving with a certificate that ends at %s", facts.not_after.isoformat())


# --- files ------------------------------------------------------------------------------------------------------------


async def follow_files(certificate: Path, key: Path, tls: Tls) -> None:
    """Use what is in the files, and again whenever that changes. Runs until cancelled.

    Raises CertificateError if they are of no use at the start; later ones that are of no use are logged.
    """
    seen = await asyncio.to_thread(_read, certificate, key)
    tls.use(*seen)
    while True:
        await asyncio.sleep(_LOOK)
        try:
            found = await asyncio.to_thread(_read, certificate, key)
            if found != seen:
                tls.use(*found)
                seen = found
        except CertificateError as error:
            log.warning("%s: still serving with the former certificate", error)


def _read(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    try:
        return certificate.read_bytes(), key.read_bytes()
    except OSError as error:
        raise CertificateError(f"{error.filename}: {error.strerror}") from None


# --- Secrets ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Held:
    """A Secret as it was read."""

    body: Mapping[str, Any] = field(repr=False)
    data: Mapping[str, bytes] = field(repr=False)

    @property
    def version(self) -> str:
        return str(self.body["metadata"]["resourceVersion"])


class SecretCertificates:
    """CA and certificate in Secrets of one namespace, made and renewed by us."""

    def __init__(
        self,
        client: ApiClient,
        *,
        namespace: str,
        recipe: LeafRecipe,
        tls: Tls,
        service: str = SERVICE,
        sources: Sources | None = None,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._recipe = recipe
        self._ca_secret, self._serving_secret = ca_secret(service), serving_secret(service)
        self._tls = tls
        self._sources = sources if sources is not None else Sources()
        self._spread = _SPREAD * spread()
        #: What was trusted last, should somebody delete the Secret.
        self._former: Mapping[str, bytes] | None = None

    async def run(self) -> None:
        """Keep the Secrets and use what is in them, until cancelled. Serving goes on whatever the API server does."""
        failures = 0
        while True:
            try:
                await self._wait(*await self._settled())
                failures = 0
            except (ApiError, CertificateError) as error:
                pause = _PAUSES[min(failures, len(_PAUSES) - 1)]
                failures += 1
                said = error.public() if isinstance(error, ApiError) else str(error)
                log.warning("certificates in %s: %s; again in %g s", self._namespace, said, pause)
                await asyncio.sleep(pause)

    async def _settled(self) -> tuple[_Held, _Held, datetime]:
        """Both Secrets as they should be and in use, and when to look again."""
        for _ in range(_ROUNDS):
            authority, serving = await self._get(self._ca_secret), await self._get(self._serving_secret)
            now = self._sources.now()
            todo = next_step(
                authority=authority.data if authority else None,
                serving=serving.data if serving else None,
                recipe=self._recipe,
                now=now,
            )
            if todo.step is Step.NONE:
                assert authority is not None
                assert serving is not None
                assert todo.again is not None
                self._former = authority.data
                self._tls.use(serving.data[CERTIFICATE], serving.data[KEY])
                return authority, serving, todo.again + self._spread
            # Whoever loses the race reads what the other one has made.
            with suppress(AlreadyExists, Conflict):
                await self._do(todo, authority, serving, now)
        raise CertificateError(f"not settled after {_ROUNDS} steps")

    async def _do(self, todo: Next, authority: _Held | None, serving: _Held | None, now: datetime) -> None:
        log.info("making %s: %s", todo.step.value, todo.why)
        if todo.step is Step.NEW_CA:
            made = await self._sources.fulfil(authority_recipe(), {})
            former = authority.data if authority is not None else self._former
            await self._write(self._ca_secret, with_bundle(made, former=former, now=now), over=authority)
        else:
            assert authority is not None
            data = await self._sources.fulfil(self._recipe, {self._ca_secret: authority.data})
            await self._write(self._serving_secret, data, over=serving)

    async def _get(self, name: str) -> _Held | None:
        try:
            answer = await self._client.get(SECRET, self._namespace, name)
        except NotFound:
            return None
        return _Held(body={**answer.body, "data": None}, data=secret_data(answer.raw))

    async def _write(self, name: str, data: Mapping[str, bytes], *, over: _Held | None) -> None:
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {
                "name": name,
                "namespace": self._namespace,
                "labels": {"app.kubernetes.io/managed-by": "hosted-cp", "app.kubernetes.io/component": "webhook"},
            },
            "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
        }
        if over is None:
            await self._client.create(SECRET, body)
            return
        metadata = {**over.body["metadata"], "managedFields": None}
        kept_type = {"type": over.body.get("type")}  # which cannot be changed
        await self._client.replace(SECRET, {**body, **kept_type, "metadata": metadata})

    async def _wait(self, authority: _Held, serving: _Held, until: datetime) -> None:
        """Until one of the two changes, or it is time, or a watch ends (then looking again costs two requests)."""
        left = max(1.0, (until - self._sources.now()).total_seconds())
        watching = [
            asyncio.create_task(self._changed(name, held.version))
            for name, held in ((self._ca_secret, authority), (self._serving_secret, serving))
        ]
        try:
            done, _ = await asyncio.wait(watching, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    async def _changed(self, name: str, version: str) -> None:
        events = self._client.watch(SECRET, self._namespace, since=version, fields=f"metadata.name={name}")
        async with aclosing(events):
            async for event in events:
                if event.type != "BOOKMARK":
                    return
