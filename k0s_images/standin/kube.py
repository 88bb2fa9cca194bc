"""A tiny client for the Kubernetes API on `http.client`: requests, watches, discovery and server-side apply."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import tempfile
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from k0s_images.standin.kubeconfig import Credentials

Object = dict[str, Any]


class ApiError(Exception):
    """An answer other than success, or no answer: `status` is the HTTP status, 0 without one."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason = status, reason


class Api:
    """Requests to one API server with one identity; every thread has a connection of its own."""

    def __init__(self, credentials: Credentials, *, timeout: float = 30.0) -> None:
        address = urlsplit(credentials.server)
        self._host, self._port = address.hostname or "localhost", address.port or 443
        self._timeout = timeout
        self._tls = ssl.create_default_context(cadata=credentials.ca.decode())
        if credentials.certificate:
            _load_certificate(self._tls, credentials.certificate, credentials.key)
        self._headers = {"Accept": "application/json", "User-Agent": "k0s-stand-in"}
        if credentials.token:
            self._headers["Authorization"] = f"Bearer {credentials.token}"
        self._local = threading.local()
        self._kinds: dict[tuple[str, str], tuple[str, bool]] = {}

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)

    def _connection(self) -> http.client.HTTPSConnection:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect(self._timeout)
        return connection

    def request(
        self, method: str, path: str, body: Any = None, *, content: str = "application/json", accept: str | None = None,
    ) -> Any:  # fmt: skip
        """One request; the decoded JSON answer, or the text of another kind of answer. Raises `ApiError`."""
        data = None if body is None else json.dumps(body).encode()
        headers = self._headers | ({"Content-Type": content} if data is not None else {})
        if accept:
            headers["Accept"] = accept
        reused = getattr(self._local, "connection", None) is not None
        connection = self._connection()
        try:
            connection.request(method, path, body=data, headers=headers)
            answer = connection.getresponse()
            raw = answer.read()
        except (OSError, http.client.HTTPException) as fault:
            connection.close()
            self._local.connection = None
            if reused and isinstance(fault, http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError):
                # The server closed an idle connection; a fresh one decides.
                return self.request(method, path, body, content=content, accept=accept)
            raise ApiError(0, "Unreachable", f"{type(fault).__name__}: {fault}") from fault
        return _decoded(answer.status, answer.reason, raw)

    def get(self, path: str) -> Any:
        """GET."""
        return self.request("GET", path)

    def find(self, path: str) -> Any:
        """GET, or None when the answer is 404."""
        try:
            return self.get(path)
        except ApiError as fault:
            if fault.status == 404:
                return None
            raise

    def watch(self, path: str, *, version: str, seconds: int = 300, **selectors: str) -> Iterator[tuple[str, Object]]:
        """Events (type, object) after a resource version, until the server ends the watch. Raises `ApiError`."""
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(seconds), **selectors}
        connection = self._connect(seconds + 15)
        try:
            connection.request("GET", f"{path}?{urlencode(query)}", headers=self._headers)
            answer = connection.getresponse()
            if answer.status != 200:
                _decoded(answer.status, answer.reason, answer.read())
            for line in answer:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise ApiError(status.get("code", 500), status.get("reason", ""), status.get("message", ""))
                yield event["type"], event["object"]
        except (OSError, http.client.HTTPException, ValueError) as fault:
            raise ApiError(0, "Unreachable", f"{type(fault).__name__}: {fault}") from fault
        finally:
            connection.close()

    def resource(self, api_version: str, kind: str) -> tuple[str, bool]:
        """Plural name and whether the kind is namespaced, by discovery. Raises `ApiError` for an unknown kind."""
        if (api_version, kind) not in self._kinds:
            prefix = "/api/" if "/" not in api_version else "/apis/"
            for resource in self.get(prefix + api_version)["resources"]:
                if "/" not in resource["name"]:
                    self._kinds[api_version, resource["kind"]] = (resource["name"], resource["namespaced"])
        if (api_version, kind) not in self._kinds:
            raise ApiError(404, "NotFound", f"no kind {kind} in {api_version}")
        return self._kinds[api_version, kind]

    def path(self, thing: Mapping[str, Any]) -> str:
        """The path of an object."""
        api_version = thing["apiVersion"]
        plural, namespaced = self.resource(api_version, thing["kind"])
        metadata = thing["metadata"]
        prefix = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
        middle = f"/namespaces/{quote(metadata.get('namespace') or 'default')}" if namespaced else ""
        return f"{prefix}{middle}/{plural}/{quote(metadata['name'])}"

    def apply(self, thing: Mapping[str, Any], *, manager: str = "k0s") -> Object:
        """Server-side apply, taking over conflicting fields."""
        query = urlencode({"fieldManager": manager, "force": "true"})
        result: Object = self.request(
            "PATCH", f"{self.path(thing)}?{query}", thing, content="application/apply-patch+yaml"
        )
        return result


def _decoded(status: int, reason: str, raw: bytes) -> Any:
    try:
        value = json.loads(raw)
    except ValueError:
        value = raw.decode(errors="replace")
    if 200 <= status < 300:
        return value
    if isinstance(value, dict):
        raise ApiError(status, str(value.get("reason", reason)), str(value.get("message", "")))
    raise ApiError(status, reason, str(value)[:300])


def _load_certificate(tls: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """`ssl` reads certificates from files only: one that nobody else can open, gone at once."""
    descriptor, name = tempfile.mkstemp(prefix="k0s-client-")
    try:
        with open(descriptor, "wb") as file:
            file.write(certificate + b"\n" + key)
        tls.load_cert_chain(name)
    finally:
        os.unlink(name)
