"""The real `hosted-cp webhook` as a process beside the real API server, reached by URL.

The shipped files name a Service; where there is no pod network they are turned into what the same process needs beside
the API server: a URL in place of the Service. Nothing else is changed: the process runs under the rights of its own
service account, makes its own certificates, and the operator tells the API server whom to trust.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hosted_cp.api import crds
from hosted_cp.api.cluster import Cluster
from hosted_cp.api.join_token_request import JoinTokenRequest
from hosted_cp.webhooks.server import CONVERT
from tests.component import certificates
from tests.component.apiserver import Access, Server, StartError, free_ports

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "deploy" / "webhook.yaml"
#: The user whose rights `deploy/webhook.yaml` gives.
USER = "system:serviceaccount:hosted-cp:hosted-cp-webhook"
GROUPS = ("system:serviceaccounts", "system:serviceaccounts:hosted-cp")

Object = dict[str, Any]
_PATIENCE = 60.0


@dataclass(kw_only=True)
class Webhook:
    """One webhook process after another, always at the same address."""

    folder: Path
    port: int
    words: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        setpriv = shutil.which("setpriv")
        leash = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder), "PYTHONPATH": str(ROOT)}
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [*leash, sys.executable, "-m", "hosted_cp", "webhook", f"--address=127.0.0.1:{self.port}", *self.words],
                cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _PATIENCE
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise StartError(f"the webhook did not start:\n{self.said()[-3000:]}")
            time.sleep(0.05)

    def ready(self) -> bool:
        """Whether `/readyz` says so."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # who it is, is for the API server to check
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", context=context, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it; returns its exit code."""
        if self.process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(how)
        code = self.process.wait(timeout=30)
        self.process = None
        return code

    def said(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace")


@contextlib.contextmanager
def answering(folder: Path, *words: str) -> Iterator[Webhook]:
    """A webhook with these options, ready, until the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    [port] = free_ports(1)
    made = Webhook(folder=folder, port=port, words=("--drain=0", *words), log=folder / "webhook.log")
    try:
        made.start()
        yield made
    finally:
        made.stop(signal.SIGKILL)


def own_certificates(server: Server, folder: Path) -> tuple[str, ...]:
    """Options for a webhook that keeps its certificates in `server`, under exactly the shipped rights."""
    folder.mkdir(parents=True, exist_ok=True)
    access: Access = server.access(USER, *GROUPS)
    kubeconfig = access.kubeconfig(folder / "kubeconfig")
    return (f"--kubeconfig={kubeconfig}", "--namespace=hosted-cp", "--host=127.0.0.1")


def shipped(*kinds: str, url: str = "") -> list[Object]:
    """The shipped objects of these kinds, with a URL in place of the Service; without kinds: the rights."""
    found = []
    for body in yaml.safe_load_all(SHIPPED.read_text(encoding="utf-8")):
        if body["kind"] in kinds or (
            not kinds and body["kind"] not in {"Deployment", "ValidatingWebhookConfiguration"}
        ):
            for webhook in body.get("webhooks", ()):
                webhook["clientConfig"] = {"url": url + webhook["clientConfig"]["service"]["path"]}
            found.append(body)
    return found


def definitions(url: str, *, ca: bytes = b"") -> list[Object]:
    """Our kinds in all versions, converted at `url`; without a CA until the leader writes it."""
    return list(crds.generate(conversion=crds.Webhook(url=f"{url}{CONVERT}", ca_bundle=ca.decode())))


def install(server: Server, bodies: Sequence[Object]) -> None:
    """Server-side, as the documentation says."""
    text = "---\n".join(f"{json.dumps(each)}\n" for each in bodies)
    server.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text.encode())
    names = [f"crd/{each['metadata']['name']}" for each in bodies if each["kind"] == "CustomResourceDefinition"]
    if names:
        server.kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)


@contextlib.contextmanager
def certified(folder: Path) -> Iterator[tuple[Webhook, bytes]]:
    """A webhook with certificates from somebody else, as cert-manager gives them, and the CA that signed them."""
    folder.mkdir(parents=True, exist_ok=True)
    signer = certificates.authority("webhook-ca")
    pair = certificates.leaf(signer, "webhook", ips=("127.0.0.1",))
    files = {"tls.crt": pair.certificate, "tls.key": pair.key}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with answering(folder, f"--cert-file={folder / 'tls.crt'}", f"--key-file={folder / 'tls.key'}") as webhook:
        yield webhook, signer.certificate


@contextlib.contextmanager
def converting(folder: Path) -> Iterator[Path]:
    """A webhook for servers that are about something else: yields a folder like `crds/`, turned so that it is asked.

    Without admission: what it would refuse are the inputs of many tests, which ask what the operator makes of them.
    """
    with certified(folder) as (webhook, ca):
        yield _written(folder / "crds", definitions(webhook.url, ca=ca))


@contextlib.contextmanager
def judging(folder: Path) -> Iterator[tuple[Path, Object]]:
    """The same with admission: yields the folder, and the shipped configuration, which is to be applied afterwards."""
    with certified(folder) as (webhook, ca):
        [configuration] = shipped("ValidatingWebhookConfiguration", url=webhook.url)
        for each in configuration["webhooks"]:
            each["clientConfig"]["caBundle"] = base64.b64encode(ca).decode()
        yield _written(folder / "crds", definitions(webhook.url, ca=ca)), configuration


def _written(folder: Path, bodies: Sequence[Object]) -> Path:
    folder.mkdir()
    for body in bodies:
        (folder / f"{body['metadata']['name']}.json").write_text(json.dumps(body), encoding="utf-8")
    return folder


def as_stored(folder: Path) -> Path:
    """A folder like `crds/` with `Cluster` and `JoinTokenRequest` in the version that is stored, alone: for the one
    server of all tests that are not about Cluster API. Many of them ask what the operator makes of specs that admission
    would refuse, and none of them says anything in another version."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in (Cluster, JoinTokenRequest):
        (folder / f"{kind.plural}.json").write_text(json.dumps(crds.definition(kind)), encoding="utf-8")
    return folder
