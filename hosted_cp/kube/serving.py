"""`/healthz`, `/readyz` and `/metrics`.

Health is the event loop's: if it is late by seconds, something blocks it, and no tenant is looked after. A loop that is
blocked for good answers nothing at all, which the kubelet understands as well. Ready means: the caches are filled.
Standing by for the lease is ready too, or a rollout of two replicas would never end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from hosted_cp.kube.metrics import Metrics

#: Seconds of lateness from which on the process counts as ill.
_ILL = 5.0
_BEAT = 0.5


class LoopLag:
    """By how much the event loop is late: a heart that beats twice a second."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._last = time.monotonic()
        self.worst_lately = 0.0

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            begun = time.monotonic()
            await asyncio.sleep(_BEAT)
            self._last = time.monotonic()
            late = self._last - begun - _BEAT
            # Remembered for half a minute or so, because whoever asks comes after the fact.
            self.worst_lately = max(late, self.worst_lately * 0.97)
            self._metrics.lag(late)

    @property
    def ill(self) -> bool:
        """Whether the loop is, or just was, late by seconds."""
        return self.worst_lately > _ILL


@asynccontextmanager
async def serving(
    *,
    health_address: str,
    metrics_address: str,
    lag: LoopLag,
    not_ready: Callable[[], str],
    metrics: Metrics,
) -> AsyncIterator[list[tuple[str, int]]]:
    """Serve while the block runs; yields the addresses that are listened on (health first).

    Addresses are "host:port" (an empty host means all, port 0 means any); an empty metrics address serves the metrics
    beside the health. `not_ready` says why we are not ready, or "".
    """

    async def healthz(_: web.Request) -> web.Response:
        if lag.ill:
            return web.Response(status=500, text=f"the event loop was late by {lag.worst_lately:.1f} s\n")
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        why = not_ready() or ("the event loop is late" if lag.ill else "")
        return web.Response(status=503, text=f"{why}\n") if why else web.Response(text="ok\n")

    async def show(_: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    health = web.Application()
    health.router.add_get("/healthz", healthz)
    health.router.add_get("/readyz", readyz)
    served = [(health_address, health)]
    if metrics_address and metrics_address != health_address:
        shown = web.Application()
        shown.router.add_get("/metrics", show)
        served.append((metrics_address, shown))
    else:
        health.router.add_get("/metrics", show)
    runners: list[web.AppRunner] = []
    try:
        addresses = []
        for address, application in served:
            runner = web.AppRunner(application, access_log=None)
            runners.append(runner)
            await runner.setup()
            host, _, port = address.rpartition(":")
            site = web.TCPSite(runner, host.strip("[]") or None, int(port))
            await site.start()
            addresses.append(runner.addresses[0][:2])
        yield addresses
    finally:
        for runner in runners:
            await runner.cleanup()
