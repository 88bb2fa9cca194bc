"""A very small client of the management API server: what the lab itself needs while it comes up, and its fixtures.

Synchronous, standard library only, one connection for each call. The product's client is `hosted_cp.kube`.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import yaml

from e2e.lab.network import LabError


class ApiError(LabError):
    """The API server refused: `code` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Client:
    """Where the API server is and how to prove who we are."""

    host: str
    port: int
    tls: ssl.SSLContext

    def call(
        self, verb: str, path: str, body: Any = None, *, content: str = "application/json", seconds: float = 30.0
    ) -> Any:
        """One request; the decoded answer, or its text where it is not JSON. `ApiError` for a refusal."""
        connection = http.client.HTTPSConnection(self.host, self.port, context=self.tls, timeout=seconds)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(
                verb, path, body=data, headers={"Content-Type": content, "Accept": "application/json, */*"}
            )
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        try:
            answer = json.loads(text)
        except ValueError:
            answer = text
        if response.status >= 400:
            message = answer.get("message", text) if isinstance(answer, dict) else text
            raise ApiError(response.status, message)
        return answer

    def apply(self, path: str, manifest: Mapping[str, Any]) -> Any:
        """Server-side apply under the lab's name."""
        query = urllib.parse.urlencode({"fieldManager": "hosted-cp-lab", "force": "true"})
        return self.call("PATCH", f"{path}?{query}", manifest, content="application/apply-patch+yaml")

    def watch(self, path: str, *, seconds: float, **query: str) -> Iterator[dict[str, Any]]:
        """Events of a watch, the present objects first, for as long as `seconds`; ends when the server closes it."""
        ends = time.monotonic() + seconds
        text = urllib.parse.urlencode({"watch": "true", "timeoutSeconds": str(max(1, int(seconds))), **query})
        connection = http.client.HTTPSConnection(self.host, self.port, context=self.tls, timeout=seconds + 5)
        try:
            connection.request("GET", f"{path}?{text}")
            response = connection.getresponse()
            if response.status >= 400:
                raise ApiError(response.status, response.read().decode())
            while time.monotonic() < ends and (line := response.readline()):
                yield json.loads(line)
        finally:
            connection.close()


def from_kubeconfig(path: Path) -> Client:
    """A client for one of the lab's own kubeconfigs (client certificate, everything inside the file)."""
    config = yaml.safe_load(path.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    with NamedTemporaryFile(suffix=".pem") as pair:
        pair.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
        pair.flush()
        tls.load_cert_chain(pair.name)
    url = urllib.parse.urlsplit(cluster["server"])
    return Client(host=url.hostname or "", port=url.port or 443, tls=tls)


def wait_until_ready(client: Client, *, seconds: float, going: Callable[[], None]) -> None:
    """Return when /readyz answers 200. `LabError` with the last answer after `seconds`; `going` raises if it is
    in vain.

    An API server that starts has no way to call us; asking costs it a millisecond, so it is asked often.
    """
    ends = time.monotonic() + seconds
    last = "no answer"
    while time.monotonic() < ends:
        try:
            client.call("GET", "/readyz", seconds=2)
        except (OSError, http.client.HTTPException, ApiError) as error:
            last = str(error)
            going()
            time.sleep(0.05)
        else:
            return
    raise LabError(f"the API server is not ready after {seconds:.0f} s: {last}")


def wait_for(client: Client, path: str, *, name: str, until: Any, seconds: float, what: str) -> dict[str, Any]:
    """Watch one object until `until(object)` is true and return it; `LabError` after `seconds`."""
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        for event in client.watch(path, seconds=left, fieldSelector=f"metadata.name={name}"):
            if event["type"] in ("ADDED", "MODIFIED") and until(event["object"]):
                found: dict[str, Any] = event["object"]
                return found
            if event["type"] == "ERROR":
                break
    raise LabError(f"{what} after {seconds:.0f} s")
