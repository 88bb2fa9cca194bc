"""A proxy that stands between the operator and the API server and makes the network and the server fail, on demand.

It ends TLS with a certificate of the test's CA and speaks to the server with the certificate of the user it was made
for, so audit log and RBAC see that user. Faults are data; each is used up after the number of times it says.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from tests.component import certificates
from tests.component.apiserver import Access, Server, free_ports


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to requests that fit, `times` times (None: always)."""

    #: Any of GET, POST, PUT, PATCH, DELETE, or WATCH; empty: every request.
    method: str = ""
    #: A part of the path.
    path: str = ""
    #: Answer with this status instead of asking the server.
    status: int = 0
    retry_after: float | None = None
    #: That answer's message quotes what was sent, as servers and webhooks do.
    quote: bool = False
    #: Let the server do what was asked, and lose the second half of its answer.
    halve: bool = False
    #: Cut the connection: before the server is asked, or after it has done what was asked.
    reset: str = ""  # "", "before", "after"
    #: Seconds to hold the request back.
    delay: float = 0.0
    #: End a watch after this many lines, or (`silent`) say nothing more after them.
    cut_after: int | None = None
    silent: bool = False
    times: int | None = 1
    #: Strike only each so-many-th of the requests that fit.
    every: int = 1


@dataclass(kw_only=True)
class Proxy:
    """A running proxy."""

    url: str
    access: Access
    faults: list[Fault] = field(default_factory=list)
    #: Every request as "METHOD path", in order, those that a fault met included.
    seen: list[str] = field(default_factory=list)
    struck: list[str] = field(default_factory=list)
    #: When each request came (of the event loop's clock), what was asked for, and the fault if it met one.
    book: list[tuple[float, str, Fault | None]] = field(default_factory=list)
    #: Called after the server has answered a request and before the caller hears of it.
    after: Callable[[str, int], None] | None = None
    _uses: dict[int, int] = field(default_factory=dict)
    _fitting: dict[int, int] = field(default_factory=dict)
    _watches: set[asyncio.Event] = field(default_factory=set)
    #: Watches that the server has been asked for and has not begun yet.
    _beginning: set[asyncio.Event] = field(default_factory=set)

    @property
    def watching(self) -> int:
        """How many watches are open."""
        return len(self._watches)

    def end_watches(self) -> None:
        """End all watches in good order, as a server does when their time is over; those asked for as they begin."""
        for ended in self._watches | self._beginning:
            ended.set()

    def add(self, *faults: Fault) -> None:
        """Let these happen from now on."""
        self.faults.extend(faults)

    def heal(self) -> None:
        """No more faults."""
        self.faults.clear()

    def match(self, method: str, path: str) -> Fault | None:
        """The first fault for a request; it is used up by that."""
        for fault in self.faults:
            used = self._uses.get(id(fault), 0)
            if (not fault.method or fault.method == method) and fault.path in path:
                if fault.times is not None and used >= fault.times:
                    continue
                self._fitting[id(fault)] = self._fitting.get(id(fault), 0) + 1
                if self._fitting[id(fault)] % fault.every:
                    continue
                self._uses[id(fault)] = used + 1
                self.struck.append(f"{method} {path}")
                return fault
        return None


@asynccontextmanager
async def proxy(server: Server, user: str, *groups: str) -> AsyncIterator[Proxy]:
    """A proxy for one user; `proxy.access` is how he reaches it."""
    [port] = free_ports(1)
    url = f"https://127.0.0.1:{port}"
    serving = certificates.leaf(server.authority, "fault-proxy", ips=("127.0.0.1",))
    real = server.access(user, *groups)
    state = Proxy(url=url, access=Access(server=url, user=user, ca=real.ca, pair=real.pair))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    file = server.folder / f"proxy-{port}.pem"
    file.write_bytes(serving.certificate + serving.key)
    context.load_cert_chain(file)
    connector = aiohttp.TCPConnector(ssl=real.context(server.folder), limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(
        base_url=server.url, connector=connector, timeout=timeout, auto_decompress=False
    ) as session:

        async def handle(request: web.Request) -> web.StreamResponse:
            return await _pass(state, session, request)

        application = web.Application(client_max_size=16 * 2**20)
        application.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
        try:
            yield state
        finally:
            await runner.cleanup()


_REASONS = {403: "Forbidden", 409: "Conflict", 422: "Invalid", 429: "TooManyRequests", 500: "InternalError"}


def quoting(status: int, content: bytes) -> dict[str, Any]:
    """A refusal whose message and causes quote all that was sent; of a Secret also what its data mean."""
    body = orjson.loads(content) if content else {}
    data = {key: base64.b64decode(value).decode() for key, value in (body.get("data") or {}).items()}
    said = f"Invalid value: {content.decode()}: {data}"
    return {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "code": status,
        "reason": _REASONS.get(status, ""),
        "message": f'admission webhook "quoting.test" denied the request: {said}',
        "details": {"causes": [{"field": f"data[{key}]", "message": value} for key, value in data.items()]},
    }


def _cut(request: web.Request) -> None:
    """End the connection without an answer, as a crash or a firewall does."""
    if request.transport is not None:
        request.transport.abort()


async def _pass(state: Proxy, session: aiohttp.ClientSession, request: web.Request) -> web.StreamResponse:
    watch = request.query.get("watch") == "1"
    method = "WATCH" if watch else request.method
    state.seen.append(f"{method} {request.path}")
    met = state.match(method, request.path)
    asked = f"{method} {request.path}"
    if method == "POST":
        asked += "/" + orjson.loads(await request.read())["metadata"]["name"]
    state.book.append((asyncio.get_running_loop().time(), asked, met))
    fault = met or Fault()
    if fault.delay:
        await asyncio.sleep(fault.delay)
    if fault.reset == "before":
        _cut(request)
        return web.Response()
    if fault.status:
        wait = {"Retry-After": f"{fault.retry_after:g}"} if fault.retry_after is not None else {}
        status = {"kind": "Status", "code": fault.status, "message": "made by the fault proxy"}
        if fault.quote:
            status = quoting(fault.status, await request.read())
        return web.json_response(status, status=fault.status, headers=wait)
    headers = {
        name: request.headers[name] for name in ("Accept", "Content-Type", "User-Agent") if name in request.headers
    }
    content = await request.read()
    ended = asyncio.Event()
    if watch:
        state._beginning.add(ended)
    try:
        answer = await session.request(
            request.method, request.rel_url.raw_path_qs, data=content or None, headers=headers
        )
    finally:
        state._beginning.discard(ended)
    async with answer:
        if watch and answer.status == 200:
            response = web.StreamResponse(headers={"Content-Type": answer.headers["Content-Type"]})
            state._watches.add(ended)
            try:
                with contextlib.suppress(ConnectionResetError):  # the caller has gone
                    await response.prepare(request)
                    await _pass_watch(fault, request, answer, response, ended)
            finally:
                state._watches.discard(ended)
            return response
        body = await answer.read()
        if state.after is not None:
            state.after(f"{method} {request.path}", answer.status)
        if fault.reset == "after":
            _cut(request)
            return web.Response()
        if fault.halve:
            body = body[: len(body) // 2]
        kept = {name: answer.headers[name] for name in ("Content-Type", "Retry-After") if name in answer.headers}
        return web.Response(status=answer.status, body=body, headers=kept)


async def _pass_watch(
    fault: Fault,
    request: web.Request,
    answer: aiohttp.ClientResponse,
    response: web.StreamResponse,
    ended: asyncio.Event,
) -> None:
    lines, rest = 0, b""
    ending = asyncio.ensure_future(ended.wait())
    try:
        while fault.cut_after is None or lines < fault.cut_after:
            reading = asyncio.ensure_future(answer.content.readany())
            await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                reading.cancel()
                await response.write_eof()
                return
            chunk = reading.result()
            if not chunk:
                return
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole[: None if fault.cut_after is None else fault.cut_after - lines]:
                await response.write(line + b"\n")
                lines += 1
    finally:
        ending.cancel()
    if fault.silent:
        await asyncio.Event().wait()
    _cut(request)
