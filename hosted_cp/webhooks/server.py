"""The HTTPS server that the API server asks: `/convert`, `/validate-...`, `/healthz`, `/readyz`.

Whoever can reach it may ask, since API servers do not show who they are to webhooks. That is why it answers from the
question alone, with nothing that the asker did not bring, and why questions are bounded in size, time and number.

What a question holds is never logged: specs may carry a database's password. Of a fault of ours the log has the type
and the place, and the API server the message.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from hosted_cp.api.kinds import VERSIONED
from hosted_cp.webhooks import admission, conversion_review
from hosted_cp.webhooks.metrics import Metrics

log = logging.getLogger(__name__)

CONVERT = "/convert"

#: Bytes. An API server sends at most a page of a list in one question, of objects of some KiB each.
LARGEST = 64 * 1024 * 1024
#: Seconds for the question to arrive. API servers wait 30 s for a conversion, and 10 s for admission.
ARRIVAL = 10.0
#: Questions that are held in memory at once; others wait before their body is read.
AT_ONCE = 64
#: Bytes from which on a question is answered in a thread, so that it does not hold up small ones.
_LARGE = 256 * 1024

_JSON = "application/json"

#: A question, decoded -> the answer.
Answering = Callable[[Any], Mapping[str, Any]]


def validate_path(group: str, kind: str) -> str:
    """Where admission of a kind is asked for (the form that k0smotron and others use)."""
    return f"/validate-{group.replace('.', '-')}-v1beta2-{kind.lower()}"


@dataclass(kw_only=True)
class State:
    """What the probes are told."""

    #: Why nothing can be answered; "" once it can.
    not_ready: str = "starting"
    #: Since when connections are being sent away.
    ending: bool = field(default=False)


def application(*, context: admission.Context, state: State, metrics: Metrics) -> web.Application:
    """All routes. Nothing in here waits for anything but the question."""
    app = web.Application(client_max_size=LARGEST, middlewares=[_leaving(state)])
    gate = asyncio.Semaphore(AT_ONCE)

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(status=503, text=f"{state.not_ready}\n") if state.not_ready else web.Response(text="ok\n")

    def judge(question: Any) -> Mapping[str, Any]:
        return admission.review(question, context)

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_post(CONVERT, _asked("convert", conversion_review.review, gate, metrics))
    for each in VERSIONED:
        path = validate_path(each.hub.group, each.hub.__name__)
        app.router.add_post(path, _asked("validate", judge, gate, metrics))
    return app


def metrics_application(metrics: Metrics) -> web.Application:
    """`/metrics`, for a port of its own."""

    async def show(_: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application()
    app.router.add_get("/metrics", show)
    return app


def _asked(
    what: str, answer: Answering, gate: asyncio.Semaphore, metrics: Metrics
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        begun = time.perf_counter()
        response = await _handle(request, what, answer, gate)
        metrics.answered(what, response.status, time.perf_counter() - begun)
        return response

    return handle


async def _handle(request: web.Request, what: str, answer: Answering, gate: asyncio.Semaphore) -> web.Response:
    if request.content_type != _JSON:
        return _refusal(415, f"the body must be {_JSON}")
    async with gate:
        try:
            async with asyncio.timeout(ARRIVAL):
                content = await request.read()
        except TimeoutError:
            return _refusal(408, f"the question did not arrive within {ARRIVAL:g} s")
        except web.HTTPRequestEntityTooLarge:
            return _refusal(413, f"the question is larger than {LARGEST >> 20} MiB")
        try:
            if len(content) >= _LARGE:
                said = await asyncio.to_thread(_answered, answer, content)
            else:
                said = _answered(answer, content)
        except _Unreadable as error:
            return _refusal(400, str(error))
        except Exception as fault:  # noqa: BLE001 - logged in `_fault`, without what it may quote
            return _refusal(500, _fault(what, fault))
    return web.Response(body=said, content_type=_JSON)


class _Unreadable(ValueError):
    """The question is no JSON, or none that can be read; the message says so to whoever asked."""


def _answered(answer: Answering, content: bytes) -> bytes:
    return _encoded(answer(_decoded(content)))


def _decoded(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        pass
    try:
        # orjson ends at 1,024 levels; what is deeper, and stored, has to be read all the same, if it can be.
        return json.loads(content)
    except RecursionError:
        raise _Unreadable(
            "an object is nested too deeply to be read (some 1,000 levels): read it at the version in which it is"
            " stored, and flatten it"
        ) from None
    except ValueError:
        raise _Unreadable("the body is no JSON") from None


def _encoded(answer: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(answer)
    except orjson.JSONEncodeError:  # deeper than 254 levels
        return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def _fault(what: str, fault: Exception) -> str:
    """Log a fault of ours without a word of what was asked, and return what the API server is told."""
    frames = traceback.extract_tb(fault.__traceback__)
    where = " < ".join(f"{frame.name} ({frame.filename.rpartition('/')[2]}:{frame.lineno})" for frame in frames[::-1])
    log.error("%s: a fault of hosted-cp, %s in %s", what, type(fault).__name__, where)
    return (
        f"hosted-cp webhook: a fault of its own while it answered {what} ({type(fault).__name__}); "
        "its log says where; please report it"
    )


def _refusal(status: int, why: str) -> web.Response:
    # API servers put the body of such an answer into their own message.
    return web.Response(status=status, text=why)


def _leaving(state: State) -> Middleware:
    @web.middleware
    async def leaving(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if state.ending:
            response.force_close()
        return response

    return leaving


@asynccontextmanager
async def listening(
    app: web.Application, *, address: str, tls: ssl.SSLContext | None
) -> AsyncIterator[tuple[str, int]]:
    """Serve while the block runs; yields what is listened on. "host:port"; no host: all; port 0: any."""
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=120.0, shutdown_timeout=5.0)
    try:
        await runner.setup()
        host, _, port = address.rpartition(":")
        await web.TCPSite(runner, host.strip("[]") or None, int(port), ssl_context=tls).start()
        yield runner.addresses[0][:2]
    finally:
        await runner.cleanup()
