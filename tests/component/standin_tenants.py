"""Stand-ins for the API servers of tenants: as much of one as the operator speaks to, for every tenant at once.

The stand-in kubelet plays pods, in which nothing runs; this plays what would answer behind their Service: the namespace
`kube-system`, the creation, reading, patching and deletion of Endpoints and Secrets, and the watching and patching of
Nodes, which tests register. One TLS listener serves all tenants. It
tells them apart by the server name that the caller asks for (`kmc-<tenant>….<namespace>.svc`), reads that tenant's CA
from its Secret as a pod would from its mount, serves with a certificate of that CA, and accepts nobody without one of
the same CA. It runs in a thread with a loop of its own, like the stand-in kubelet.

Where something else has to see the same API server, such as Cluster API's core, a tenant can be a real one: `lead`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import ssl
import threading
import urllib.error
import urllib.request
import uuid
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import orjson
from aiohttp import web

from tests.component import certificates
from tests.component.apiserver import Server, free_ports
from tests.component.certificates import Pair
from tests.component.faults import quoting

R = TypeVar("R")

#: Namespace and name of a tenant.
Tenant = tuple[str, str]
Object = dict[str, Any]

_SERVER_NAME = re.compile(r"^kmc-(?P<name>.+?)(-nodeport|-lb)?\.(?P<namespace>[^.]+)\.svc$")


class StandInTenants:
    """Use as a context manager; the methods may be called from any thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._context = server.access("tenant-stand-in", "system:masters").context(server.folder)
        [self.port] = free_ports(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stand-in-tenants", daemon=True)
        self._runner: web.AppRunner | None = None
        self._down: set[Tenant] = set()
        self._refusing: dict[Tenant, int] = {}
        #: Tenants that have a real API server, and the way in there.
        self._real: dict[Tenant, tuple[Server, ssl.SSLContext]] = {}
        self._spoken_to: weakref.WeakKeyDictionary[ssl.SSLObject, Tenant] = weakref.WeakKeyDictionary()
        #: By tenant: (kind, namespace, name) -> object.
        self._objects: dict[Tenant, dict[tuple[str, str, str], Object]] = {}
        #: By tenant: those who watch its Nodes.
        self._watching: dict[Tenant, set[asyncio.Queue[Object]]] = {}
        #: By tenant: "VERB path -> status", in order.
        self._seen: dict[Tenant, list[str]] = {}

    # -- what tests call -----------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where every tenant answers; which one is meant is said by the server name."""
        return f"https://127.0.0.1:{self.port}"

    def objects(self, namespace: str, name: str, kind: str) -> list[Object]:
        """What a tenant holds of one kind ("secrets", "endpoints")."""
        return self._run(
            lambda: [body for key, body in self._objects.get((namespace, name), {}).items() if key[0] == kind]
        )

    def register(self, namespace: str, name: str, node: Object) -> None:
        """A kubelet makes its Node in a tenant."""
        body = {**node, "metadata": {**node["metadata"], "uid": str(uuid.uuid4()), "resourceVersion": "1"}}
        self._run(lambda: self._keep((namespace, name), ("nodes", "", body["metadata"]["name"]), body, "ADDED"))

    def watches(self, namespace: str, name: str) -> int:
        """How many watch the Nodes of a tenant."""
        return self._run(lambda: len(self._watching.get((namespace, name), ())))

    def seen(self, namespace: str, name: str) -> list[str]:
        """The requests that a tenant has answered."""
        return self._run(lambda: list(self._seen.get((namespace, name), [])))

    def forget(self, namespace: str, name: str) -> None:
        """A tenant loses its data: what answers under this name from now on is another one."""
        self._run(lambda: self._objects.pop((namespace, name), None))

    def down(self, namespace: str, name: str, *, down: bool = True) -> None:
        """From now on a tenant answers nothing (or does again)."""
        self._run(lambda: (self._down.add if down else self._down.discard)((namespace, name)))

    def refuse(self, namespace: str, name: str, status: int) -> None:
        """From now on a tenant answers creations with this status and quotes what was sent (0: no more)."""
        self._run(lambda: self._refusing.update({(namespace, name): status}))

    def lead(self, namespace: str, name: str, server: Server) -> None:
        """From now on the way to a tenant's Service leads to a real API server, whose CA is the tenant's."""
        context = server.admin.context(server.folder)
        self._run(lambda: self._real.update({(namespace, name): (server, context)}))

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result(timeout=30)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(timeout=30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    # -- running -------------------------------------------------------------------------------------------------

    def _run(self, work: Callable[[], R]) -> R:
        async def call() -> R:
            return work()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(timeout=30)

    async def _begin(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        context = self._serving(certificates.leaf(self._server.authority, "nobody"))
        context.sni_callback = self._choose
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=context).start()

    async def _end(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    # -- being somebody ------------------------------------------------------------------------------------------

    def _choose(self, connection: ssl.SSLObject, server_name: str | None, context: ssl.SSLContext) -> int | None:
        """Become the tenant whose name the caller asks for."""
        tenant = _tenant(server_name)
        if tenant is None or tenant in self._down:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        authority = self._authority(*tenant)
        if authority is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        assert server_name is not None
        chosen = self._serving(certificates.leaf(authority, "kube-apiserver", dns=(server_name,)))
        chosen.load_verify_locations(cadata=authority.certificate.decode())
        connection.context = chosen
        self._spoken_to[connection] = tenant
        return None

    def _authority(self, namespace: str, name: str) -> Pair | None:
        """The tenant's CA, from its Secret: read at each handshake, because tenants are made anew in tests."""
        request = urllib.request.Request(f"{self._server.url}/api/v1/namespaces/{namespace}/secrets/{name}-ca")
        try:
            with urllib.request.urlopen(request, context=self._context, timeout=20) as answer:
                data = orjson.loads(answer.read())["data"]
        except urllib.error.HTTPError:
            return None
        return Pair(certificate=base64.b64decode(data["tls.crt"]), key=base64.b64decode(data["tls.key"]))

    def _serving(self, pair: Pair) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        # The mode of the first context holds for the connection, the CA that is asked is the chosen one's.
        context.verify_mode = ssl.CERT_REQUIRED
        file = self._server.folder / f"tenants-{uuid.uuid4()}.pem"
        file.touch(mode=0o600)
        try:
            file.write_bytes(pair.certificate + pair.key)
            context.load_cert_chain(file)
        finally:
            file.unlink()
        return context

    # -- answering -----------------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        connection = request.get_extra_info("ssl_object")
        tenant = self._spoken_to.get(connection)
        if tenant is None or tenant in self._down:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        content = await request.read()
        if tenant in self._real:
            return await self._pass_on(tenant, request, content)
        if request.query.get("watch") and request.path == "/api/v1/nodes":
            return await self._tell_of_nodes(tenant, request)
        if request.method == "POST" and self._refusing.get(tenant):
            status, body = self._refusing[tenant], quoting(self._refusing[tenant], content)
        else:
            status, body = self._act(tenant, request, content)
        self._seen.setdefault(tenant, []).append(f"{request.method} {request.path} -> {status}")
        return web.json_response(body, status=status)

    async def _pass_on(self, tenant: Tenant, request: web.Request, content: bytes) -> web.StreamResponse:
        """Ask the real one, as its administrator: who asks here holds a certificate of the tenant's CA."""
        server, context = self._real[tenant]
        kept = {name: request.headers[name] for name in ("Accept", "Content-Type") if name in request.headers}
        endless = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(timeout=endless) as session,
            session.request(
                request.method, server.url + request.path_qs, data=content, headers=kept, ssl=context
            ) as answer,
        ):
            self._seen.setdefault(tenant, []).append(f"{request.method} {request.path} -> {answer.status}")
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await response.prepare(request)
            async for part in answer.content.iter_any():
                await response.write(part)
            return response

    async def _tell_of_nodes(self, tenant: Tenant, request: web.Request) -> web.StreamResponse:
        """A watch: what is there, and then what happens."""
        self._seen.setdefault(tenant, []).append(f"WATCH {request.path} -> 200")
        label = request.query.get("labelSelector", "")
        events: asyncio.Queue[Object] = asyncio.Queue()
        for key, body in self._objects.get(tenant, {}).items():
            if key[0] == "nodes":
                events.put_nowait({"type": "ADDED", "object": body})
        self._watching.setdefault(tenant, set()).add(events)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        try:
            async with asyncio.timeout(float(request.query.get("timeoutSeconds", "300"))):
                while True:
                    event = await events.get()
                    if not label or label in (event["object"]["metadata"].get("labels") or {}):
                        await response.write(orjson.dumps(event) + b"\n")
        except (TimeoutError, ConnectionError):
            return response
        finally:
            self._watching[tenant].discard(events)

    def _keep(self, tenant: Tenant, key: tuple[str, str, str], body: Object, event: str) -> None:
        self._objects.setdefault(tenant, {})[key] = body
        for each in self._watching.get(tenant, ()) if key[0] == "nodes" else ():
            each.put_nowait({"type": event, "object": body})

    def _act(self, tenant: Tenant, request: web.Request, content: bytes) -> tuple[int, Object]:
        parts = request.path.strip("/").split("/")
        held = self._objects.setdefault(tenant, {})
        if parts == ["api", "v1", "namespaces", "kube-system"] and request.method == "GET":
            return 200, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": "1"}}
        if parts[:3] == ["api", "v1", "nodes"] and len(parts) == 4:
            parts = ["api", "v1", "namespaces", "", *parts[2:]]
        if parts[:3] != ["api", "v1", "namespaces"] or parts[4] not in {"endpoints", "secrets", "nodes"}:
            return 404, _status(404, "NotFound")
        namespace, kind = parts[3:5]
        body: Object = orjson.loads(content) if content else {}
        if request.method == "POST":
            key = (kind, namespace, body["metadata"]["name"])
            if key in held:
                return 409, _status(409, "AlreadyExists")
            body["metadata"] |= {"uid": str(uuid.uuid4()), "resourceVersion": "1", "namespace": namespace}
            held[key] = body
            return 201, body
        found = held.get((kind, namespace, parts[5]))
        if found is None:
            return 404, _status(404, "NotFound")
        if request.method == "GET":
            return 200, found
        if request.method == "PATCH":
            about = body.pop("metadata", {})
            if any(about.get(each) not in (None, found["metadata"][each]) for each in ("uid", "resourceVersion")):
                return 409, _status(409, "Conflict")
            metadata = {**found["metadata"], "resourceVersion": str(int(found["metadata"]["resourceVersion"]) + 1)}
            changed = {part: {**found.get(part, {}), **body[part]} for part in body}
            self._keep(tenant, (kind, namespace, parts[5]), {**found, **changed, "metadata": metadata}, "MODIFIED")
            return 200, held[kind, namespace, parts[5]]
        if request.method == "DELETE":
            wanted = (body.get("preconditions") or {}).get("uid")
            if wanted not in (None, found["metadata"]["uid"]):
                return 409, _status(409, "Conflict")
            with contextlib.suppress(KeyError):
                del held[kind, namespace, parts[5]]
            return 200, _status(200, "", status="Success")
        return 405, _status(405, "MethodNotAllowed")


def _tenant(server_name: str | None) -> Tenant | None:
    match = _SERVER_NAME.match(server_name or "")
    return (match["namespace"], match["name"]) if match else None


def _status(code: int, reason: str, *, status: str = "Failure") -> Object:
    return {
        "apiVersion": "v1", "kind": "Status", "code": code, "reason": reason, "status": status,
        "message": f"said by the stand-in tenant: {reason}",
    }  # fmt: skip
