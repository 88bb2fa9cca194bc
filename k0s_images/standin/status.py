"""The status socket: HTTP on a unix socket, `GET /status` and `GET /components`."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from k0s_images.standin.errors import Fatal

Answers = Mapping[str, Callable[[], Any]]


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    answers: Answers


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        answer = self.server.answers.get(self.path.partition("?")[0])
        if answer is None:
            self.send_error(404)
            return
        body = json.dumps(answer()).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not worth a line."""

    def address_string(self) -> str:
        return "unix"


def serve(path: Path, answers: Answers) -> Callable[[], None]:
    """Answer on the socket `path` from now on; the result ends it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    previous = os.umask(0o022)
    try:
        server = _Server(str(path), _Handler)
    finally:
        os.umask(previous)
    server.answers = answers
    threading.Thread(target=server.serve_forever, name="status", daemon=True).start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        path.unlink(missing_ok=True)

    return stop


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(socket_path: Path, path: str) -> Any:
    """The answer of a running k0s; `Fatal` when none answers."""
    connection = _Connection(socket_path)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise Fatal(f"status: can't get {path} via HTTP: {answer.status}")
        return json.loads(body)
    except (OSError, http.client.HTTPException, ValueError) as fault:
        raise Fatal(f"status: can't get {path} via HTTP: unix {socket_path}: {fault}") from None
    finally:
        connection.close()
