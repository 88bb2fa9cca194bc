"""Files that edge machines can download: a web server on the node, at an address that they reach.

`publish` is all that others need. The server itself (`python -m e2e.lab.downloads`) is one of the lab's processes.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from e2e.lab import extra, netns
from e2e.lab.handle import Lab

_NAME = "downloads"


@dataclass(frozen=True, kw_only=True)
class Download:
    """Something that can be downloaded."""

    url: str
    sha256: str


def publish(lab: Lab, path: str, file: Path | str) -> Download:
    """Let edge machines download a file (its path, or its text) under `path`."""
    folder = lab.folder / _NAME
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.new")
    draft.unlink(missing_ok=True)
    if isinstance(file, Path):
        draft.symlink_to(file)
    else:
        draft.write_text(file)
    draft.rename(target)
    argv = [sys.executable, "-m", "e2e.lab.downloads", "--folder", str(folder), "--address", str(lab.addresses.node),
            "--port", str(netns.DOWNLOADS_PORT)]  # fmt: skip
    extra.keep(lab, _NAME, argv, inputs=[Path(__file__).read_text()], on_node=True, notifies=True)
    with target.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return Download(url=f"http://{lab.addresses.node}:{netns.DOWNLOADS_PORT}/{path}", sha256=digest)


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        print(f"{self.address_string()} {format % args}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> None:
    """The process itself; ends at SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m e2e.lab.downloads", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    chosen = parser.parse_args(arguments)
    handler = functools.partial(_Handler, directory=str(chosen.folder))
    with ThreadingHTTPServer((chosen.address, chosen.port), handler) as server:
        # `shutdown` waits for the loop that the signal interrupts.
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        if address := os.environ.get("NOTIFY_SOCKET"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.sendto(b"READY=1", address)
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
