"""A thin asynchronous client for API servers: aiohttp and JSON, no models.

Answers are handed out undecoded, because most of them only enter a cache that keeps bytes: decoding a StatefulSet costs
more than the request that brought it (`reference/python.md` 2 and 8). Nothing is retried here, with one exception: a
request refused with 401 is sent once more with renewed credentials. When to come back is the work queue's decision.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
import msgspec
import orjson

from hosted_cp.kube.credentials import Credentials
from hosted_cp.kube.deep import cut
from hosted_cp.kube.errors import ApiError, DeadlineExceeded, ServerFault, Unreachable, error_from
from hosted_cp.kube.resources import Resource
from hosted_cp.planning.actions import FIELD_MANAGER, Object

#: Seconds for one request, where the caller says nothing.
DEADLINE = 20.0

#: Seconds without a byte after which a watch is taken for dead: servers send a bookmark about every minute.
INACTIVITY = 70.0

#: Objects in one page of a list.
PAGE = 500

#: The caller's deadline is the limit.
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)

_PARTIAL = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"


@dataclass(frozen=True)
class Answer:
    """One object as the server sent it."""

    raw: bytes = field(repr=False)

    @cached_property
    def body(self) -> dict[str, Any]:
        """The object, decoded at first use. Raises `ServerFault` for what is none (half an answer)."""
        try:
            decoded: dict[str, Any] = orjson.loads(self.raw)
        except orjson.JSONDecodeError:
            raise ServerFault("the answer is no JSON") from None
        return decoded

    def __getitem__(self, name: str) -> Any:
        return self.body[name]


@dataclass(frozen=True, kw_only=True)
class Page:
    """A part of a list: the objects as JSON, and the resourceVersion of the whole list."""

    items: tuple[bytes, ...] = field(repr=False)
    resource_version: str


@dataclass(frozen=True, kw_only=True)
class WatchEvent:
    """One line of a watch: ADDED, MODIFIED, DELETED or BOOKMARK, and the object as JSON."""

    type: str
    raw: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One finished request, for metrics. `code` is 0 where there was no answer."""

    verb: str
    kind: str
    code: int
    seconds: float


class _ListMetadata(msgspec.Struct):
    resourceVersion: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct):
    metadata: _ListMetadata
    #: Null in an empty list of metadata.
    items: list[msgspec.Raw] | None = None


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


_decode_list = msgspec.json.Decoder(_List).decode
_decode_line = msgspec.json.Decoder(_Line).decode


def _taken_apart(content: bytes) -> tuple[_ListMetadata, tuple[bytes, ...]]:
    """A list and its items, whatever is in them. Raises `msgspec.DecodeError`."""
    try:
        decoded = _decode_list(content)
        return decoded.metadata, tuple(bytes(item) for item in decoded.items or ())
    except RecursionError:
        text, items = cut(content, levels=2)
        return _decode_list(text).metadata, tuple(items)


def _event(line: bytes) -> tuple[str, bytes]:
    """The type and the object of a line. Raises `msgspec.DecodeError`."""
    try:
        decoded = _decode_line(line)
        return decoded.type, bytes(decoded.object)
    except RecursionError:
        text, pieces = cut(line, levels=1)
        if len(pieces) != 1:
            raise msgspec.DecodeError("an event of more than one object") from None
        return _decode_line(text).type, pieces[0]


class ApiClient:
    """Requests to one API server. Use as an asynchronous context manager.

    Every method raises the errors of `hosted_cp.kube.errors`. Deadlines are in seconds and cover the whole request.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        agent: str = "hosted-cp",
        connections: int = 32,
        observe: Callable[[Sample], None] | None = None,
    ) -> None:
        self.credentials = credentials
        self._agent = agent
        self._connections = connections
        self._observe = observe
        self._session: aiohttp.ClientSession | None = None
        self._watches: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {"User-Agent": self._agent, "Accept": "application/json", "Accept-Encoding": "identity"}
        tls = self.credentials.context if self.credentials.context is not None else True
        # Watches hold their connections for minutes and must not starve the requests: they get a pool of their own.
        self._session, self._watches = (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls, limit=limit, keepalive_timeout=60),
                headers=headers,
                timeout=_NO_TIMEOUT,
                trust_env=False,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            for limit in (self._connections, 0)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; running requests end with `Unreachable`."""
        for session in (self._session, self._watches):
            if session is not None:
                await session.close()

    # -- reading -------------------------------------------------------------------------------------------------

    async def get(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        subresource: str = "",
        deadline: float = DEADLINE,
    ) -> Answer:
        """One object, as it is in the store (not from the server's cache)."""
        path = resource.path(namespace, name, subresource)
        return Answer(await self._request("get", "GET", path, kind=resource.kind, deadline=deadline))

    async def text(self, path: str, *, deadline: float = DEADLINE) -> str:
        """The answer of a path that serves no objects, such as `/readyz`."""
        return (await self._request("get", "GET", path, kind="", deadline=deadline)).decode(errors="replace")

    async def pages(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        metadata_only: bool = False,
        deadline: float = 60.0,
    ) -> AsyncGenerator[Page, None]:
        """All objects of a kind (of a namespace), page by page. A list that outlives its revision raises `Gone`.

        `labels` and `fields` are selectors as the API writes them. The deadline is for each page.
        """
        headers = {"Accept": _PARTIAL.format("List")} if metadata_only else {}
        more = ""
        while True:
            query = _query(limit=str(PAGE), labelSelector=labels, fieldSelector=fields, **{"continue": more})
            content = await self._request(
                "list", "GET", resource.path(namespace),
                kind=resource.kind, query=query, headers=headers, deadline=deadline,
            )  # fmt: skip
            try:
                metadata, items = _taken_apart(content)
            except msgspec.DecodeError as fault:
                raise ServerFault(f"unusable list of {resource.plural}: {fault}") from fault
            del content  # a second copy of megabytes, for as long as the page is worked on
            yield Page(items=items, resource_version=metadata.resourceVersion)
            if not metadata.continue_:
                return
            more = metadata.continue_

    async def list(
        self, resource: Resource, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> list[dict[str, Any]]:
        """All objects, decoded. For tests and commands; the operator reads from its caches."""
        found: list[dict[str, Any]] = []
        async for page in self.pages(resource, namespace, labels=labels, fields=fields):
            found += [orjson.loads(item) for item in page.items]
        return found

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        since: str,
        labels: str = "",
        fields: str = "",
        metadata_only: bool = False,
        timeout: float = 300.0,  # noqa: ASYNC109 (the server's own limit, passed on)
        inactivity: float = INACTIVITY,
        begun: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[WatchEvent, None]:
        """What happens to the objects after resourceVersion `since`, until the server ends it (about `timeout`).

        `begun` is called when the server has granted the watch, which may be long before anything happens.
        Bookmarks are asked for and yielded. Raises `Gone` if `since` is too old, `Unreachable` if the connection breaks
        or nothing arrives for `inactivity` seconds.
        """
        query = _query(
            watch="1",
            resourceVersion=since,
            allowWatchBookmarks="true",
            timeoutSeconds=str(int(timeout)),
            labelSelector=labels,
            fieldSelector=fields,
        )
        headers = {"Accept": _PARTIAL.format("")} if metadata_only else {}
        assert self._watches is not None, "the client is not open"
        async with self._answered(
            self._watches, "watch", "GET", resource.path(namespace), kind=resource.kind, query=query, headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=inactivity),
        ) as answer:  # fmt: skip
            begun()
            async for line in _lines(answer.content):
                try:
                    kind, raw = _event(line)
                except msgspec.DecodeError as fault:
                    raise ServerFault(f"unusable line in a watch of {resource.plural}") from fault
                if kind == "ERROR":
                    raise _error_in_stream(raw)
                yield WatchEvent(type=kind, raw=raw)

    # -- writing -------------------------------------------------------------------------------------------------

    async def create(
        self, resource: Resource, body: Object, *, manager: str = FIELD_MANAGER, deadline: float = DEADLINE
    ) -> Answer:
        """POST. Fields that the server does not know are an error (`Invalid`), here and in `apply` and `replace`."""
        return await self._write(
            "create", "POST", resource, body["metadata"].get("namespace"), "", "", body,
            manager=manager, deadline=deadline,
        )  # fmt: skip

    async def apply(
        self,
        resource: Resource,
        body: Object,
        *,
        subresource: str = "",
        manager: str = FIELD_MANAGER,
        deadline: float = DEADLINE,
    ) -> Answer:
        """Server-side apply; fields that others manage are taken over. `metadata.uid` in the body is a precondition."""
        metadata = body["metadata"]
        return await self._write(
            "apply", "PATCH", resource, metadata.get("namespace"), metadata["name"], subresource, body,
            kind="application/apply-patch+yaml", manager=manager, force=True, deadline=deadline,
        )  # fmt: skip

    async def replace(
        self,
        resource: Resource,
        body: Object,
        *,
        subresource: str = "",
        manager: str = FIELD_MANAGER,
        deadline: float = DEADLINE,
    ) -> Answer:
        """PUT; `metadata.uid` and `metadata.resourceVersion` in the body are preconditions."""
        metadata = body["metadata"]
        return await self._write(
            "update", "PUT", resource, metadata.get("namespace"), metadata["name"], subresource, body,
            manager=manager, deadline=deadline,
        )  # fmt: skip

    async def merge_patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        patch: Object,
        *,
        subresource: str = "",
        manager: str = FIELD_MANAGER,
        deadline: float = DEADLINE,
    ) -> Answer:
        """RFC 7386; a `metadata.resourceVersion` in the patch is a precondition."""
        return await self._write(
            "patch", "PATCH", resource, namespace, name, subresource, patch,
            kind="application/merge-patch+json", manager=manager, deadline=deadline,
        )  # fmt: skip

    async def json_patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        operations: Sequence[Mapping[str, Any]],
        *,
        manager: str = FIELD_MANAGER,
        deadline: float = DEADLINE,
    ) -> Answer:
        """RFC 6902; a `test` that fails raises `Invalid`."""
        return await self._write(
            "patch", "PATCH", resource, namespace, name, "", operations,
            kind="application/json-patch+json", manager=manager, deadline=deadline,
        )  # fmt: skip

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str = "",
        propagation: str = "Background",
        deadline: float = DEADLINE,
    ) -> Answer:
        """Delete; the answer is a `Status` if the object is gone, and the object if it is only going (finalizers)."""
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
            if resource_version:
                options["preconditions"]["resourceVersion"] = resource_version
        return Answer(
            await self._request(
                "delete", "DELETE", resource.path(namespace, name), kind=resource.kind, deadline=deadline,
                content=orjson.dumps(options), headers={"Content-Type": "application/json"},
            )
        )  # fmt: skip

    # -- one request ---------------------------------------------------------------------------------------------

    async def _write(
        self,
        verb: str,
        method: str,
        resource: Resource,
        namespace: str | None,
        name: str,
        subresource: str,
        body: object,
        *,
        kind: str = "application/json",
        manager: str,
        force: bool = False,
        deadline: float,
    ) -> Answer:
        query = _query(fieldManager=manager, fieldValidation="Strict", force="true" if force else "")
        return Answer(
            await self._request(
                verb, method, resource.path(namespace, name, subresource), kind=resource.kind, query=query,
                content=orjson.dumps(body), headers={"Content-Type": kind}, deadline=deadline,
            )
        )  # fmt: skip

    async def _request(
        self,
        verb: str,
        method: str,
        path: str,
        *,
        kind: str,
        deadline: float,
        query: str = "",
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        assert self._session is not None, "the client is not open"
        try:
            async with (
                asyncio.timeout(deadline),
                self._answered(
                    self._session, verb, method, path, kind=kind, query=query, content=content, headers=headers
                ) as answer,
            ):
                return await answer.read()
        except TimeoutError as fault:
            raise DeadlineExceeded(f"{method} {path}: no answer within {deadline:g} s") from fault

    @asynccontextmanager
    async def _answered(
        self,
        session: aiohttp.ClientSession,
        verb: str,
        method: str,
        path: str,
        *,
        kind: str,
        query: str = "",
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send the request and yield the answer once its status says that it is good; raise typed errors else."""
        code, begun = 0, time.perf_counter()
        try:
            for renew in (False, True):
                sent = dict(headers or {})
                if self.credentials.authorization is not None:
                    authorization = await self.credentials.authorization(renew)
                    if authorization:
                        sent["Authorization"] = authorization
                async with session.request(
                    method,
                    f"{self.credentials.server}{path}{query}",
                    data=content,
                    headers=sent,
                    timeout=timeout or _NO_TIMEOUT,
                    server_hostname=self.credentials.server_name,
                    allow_redirects=False,
                ) as answer:
                    code = answer.status
                    if code == 401 and not renew and self.credentials.authorization is not None:
                        continue
                    if code >= 300:
                        raise error_from(code, await answer.read(), retry_after=answer.headers.get("Retry-After"))
                    yield answer
                    return
        except aiohttp.ServerTimeoutError as fault:
            raise DeadlineExceeded(f"{method} {path}: the server went silent") from fault
        except (aiohttp.ClientError, OSError) as fault:
            if isinstance(fault, TimeoutError):  # the caller's deadline
                raise
            raise Unreachable(f"{method} {path}: {type(fault).__name__}: {fault}") from fault
        finally:
            if self._observe is not None:
                self._observe(Sample(verb=verb, kind=kind, code=code, seconds=time.perf_counter() - begun))


@lru_cache(maxsize=64)
def _query(**words: str) -> str:
    """Those words that say something, as the end of a URL: a text, because URLs seen lately are known to aiohttp."""
    given = urlencode({name: value for name, value in words.items() if value})
    return f"?{given}" if given else ""


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length (objects may have a megabyte; aiohttp's own `readline` gives up at 128 KiB)."""
    held = bytearray()
    async for chunk in stream.iter_any():
        begin = len(held)
        held += chunk
        start = 0
        while (end := held.find(b"\n", max(begin, start))) >= 0:
            if end > start:
                yield bytes(memoryview(held)[start:end])
            start = end + 1
        del held[:start]


def _error_in_stream(content: bytes) -> ApiError:
    try:
        code = int(orjson.loads(content).get("code") or 500)
    except (ValueError, AttributeError):
        code = 500
    return error_from(code, content)
