"""The webhook's server in the test's own process, and a client that asks it."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from hosted_cp.webhooks import server
from hosted_cp.webhooks.admission import Context
from hosted_cp.webhooks.certificates import Tls
from hosted_cp.webhooks.metrics import Metrics
from tests.component.certificates import Pair, authority, leaf
from tests.component.hosting import CATALOGUE

AUTHORITY = authority("webhook-ca")


def pair(signer: Pair = AUTHORITY) -> Pair:
    """A new certificate for loopback."""
    return leaf(signer, "webhook", ips=("127.0.0.1",))


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """A server that listens."""

    url: str
    tls: Tls
    state: server.State
    metrics: Metrics
    session: aiohttp.ClientSession = field(repr=False)

    async def post(self, path: str, body: Any, *, kind: str = "application/json") -> tuple[int, bytes]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.post(self.url + path, data=content, headers={"Content-Type": kind}) as answer:
            return answer.status, await answer.read()

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(self.url + path) as answer:
            return answer.status, await answer.text()

    async def convert(self, objects: list[Any], to: str) -> Mapping[str, Any]:
        """The response to a ConversionReview."""
        request = {"uid": "u", "desiredAPIVersion": to, "objects": objects}
        review = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": request}
        code, answer = await self.post(server.CONVERT, review)
        assert code == 200, answer
        response: dict[str, Any] = json.loads(answer)["response"]
        return response


@asynccontextmanager
async def webhook() -> AsyncIterator[Webhook]:
    """Listening and ready, with a certificate of `AUTHORITY`."""
    metrics, state = Metrics(), server.State(not_ready="")
    tls = Tls(metrics=metrics)
    first = pair()
    tls.use(first.certificate, first.key)
    app = server.application(context=Context(catalogue=CATALOGUE), state=state, metrics=metrics)
    trusting = ssl.create_default_context(cadata=AUTHORITY.certificate.decode())
    async with (
        server.listening(app, address="127.0.0.1:0", tls=tls.context) as (host, port),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session,
    ):
        yield Webhook(url=f"https://{host}:{port}", tls=tls, state=state, metrics=metrics, session=session)


def write(folder: Path, made: Pair) -> tuple[Path, Path]:
    """The pair as files."""
    certificate, key = folder / "tls.crt", folder / "tls.key"
    certificate.write_bytes(made.certificate)
    key.write_bytes(made.key)
    return certificate, key
