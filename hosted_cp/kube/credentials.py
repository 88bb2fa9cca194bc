"""Who we are to an API server: its address, its CA, and a token or a client certificate.

In a cluster the service account's files are read, and the token again when it may have changed. Outside, a kubeconfig
file is read by the official `kubernetes` package, which knows every kind of credential (exec plug-ins among them); it
costs 30 MB and a third of a second to import, so only this path imports it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

#: Seconds for which a token is used without looking again. The kubelet renews the file at 80 % of the token's life.
_TOKEN_AGE = 30.0


class CredentialsError(Exception):
    """There are no usable credentials; the message says where they were looked for and what is missing."""


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """How to reach one API server."""

    #: "https://host:port", without a path.
    server: str
    context: ssl.SSLContext | None = field(default=None, repr=False)
    #: Gives the value of the Authorization header, or None. `renew` is true after the server refused the last one.
    authorization: Callable[[bool], Awaitable[str | None]] | None = field(default=None, repr=False)
    #: The name in the server's certificate, where it is not the address.
    server_name: str | None = None
    #: The namespace we run in, if we run in a cluster.
    namespace: str | None = None


def certificate_credentials(
    *, server: str, ca: bytes, certificate: bytes, key: bytes, server_name: str | None = None
) -> Credentials:
    """A client certificate held in memory; all PEM. Only the given CA is trusted (and not the system's 130)."""
    context = ssl.create_default_context(cadata=ca.decode())
    with unnamed_file(certificate + b"\n" + key) as path:
        context.load_cert_chain(path)
    return Credentials(server=server, context=context, server_name=server_name)


def token_credentials(*, server: str, ca: bytes, token: str, server_name: str | None = None) -> Credentials:
    """A bearer token that does not change, held in memory. Only the given CA (PEM) is trusted."""

    async def authorization(renew: bool) -> str | None:
        return f"Bearer {token}"

    context = ssl.create_default_context(cadata=ca.decode())
    return Credentials(server=server, context=context, authorization=authorization, server_name=server_name)


def in_cluster(folder: Path = SERVICE_ACCOUNT) -> Credentials:
    """The service account of the pod we run in. Raises `CredentialsError` outside of one."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port or not (folder / "token").exists():
        raise CredentialsError(
            f"not in a cluster: KUBERNETES_SERVICE_HOST or {folder}/token is missing; give --kubeconfig FILE"
        )
    namespace = folder / "namespace"
    return Credentials(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        context=ssl.create_default_context(cafile=str(folder / "ca.crt")),
        authorization=_token_file(folder / "token"),
        namespace=namespace.read_text().strip() if namespace.exists() else None,
    )


def _token_file(path: Path) -> Callable[[bool], Awaitable[str | None]]:
    """Read the file again when what was read is old, or was refused."""
    held: tuple[float, str] = (float("-inf"), "")

    async def authorization(renew: bool) -> str | None:
        nonlocal held
        if renew or time.monotonic() - held[0] > _TOKEN_AGE:
            # A file of 1 KB in memory (tmpfs): reading it takes microseconds, a thread would take more.
            held = (time.monotonic(), f"Bearer {path.read_text().strip()}")  # noqa: ASYNC240
        return held[1]

    return authorization


async def from_kubeconfig(path: Path, *, context: str | None = None) -> Credentials:
    """The credentials of a kubeconfig file, read in a thread because an exec plug-in may take its time."""
    return await asyncio.to_thread(_load_kubeconfig, path, context)


def _load_kubeconfig(path: Path, chosen: str | None) -> Credentials:
    from kubernetes import client, config  # heavy; see above

    configuration = client.Configuration()

    def load() -> None:
        config.load_kube_config(  # type: ignore[no-untyped-call]
            str(path), context=chosen, client_configuration=configuration, persist_config=False
        )

    try:
        load()
        tls = None
        if configuration.host.startswith("https:"):
            tls = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
            if not configuration.verify_ssl:
                tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
            if configuration.cert_file:
                tls.load_cert_chain(configuration.cert_file, configuration.key_file)
    except (config.ConfigException, OSError, ssl.SSLError) as fault:
        raise CredentialsError(f"kubeconfig {path}: {fault}") from fault

    def current() -> str | None:
        # Runs the hook that renews tokens of exec plug-ins.
        value: str | None = configuration.get_api_key_with_prefix("BearerToken", "authorization")
        return value or (configuration.get_basic_auth_token() if configuration.username else None)

    def load_again() -> str | None:
        load()
        return current()

    held = current()
    volatile = configuration.refresh_api_key_hook is not None
    asked = time.monotonic()

    async def authorization(renew: bool) -> str | None:
        nonlocal held, asked
        if renew or (volatile and time.monotonic() - asked > _TOKEN_AGE):
            asked = time.monotonic()
            held = await asyncio.to_thread(load_again if renew else current)
        return held

    return Credentials(
        server=configuration.host.rstrip("/"),
        context=tls,
        authorization=authorization if held or volatile else None,
        server_name=configuration.tls_server_name,
    )


@contextmanager
def unnamed_file(content: bytes) -> Iterator[str]:
    """A path to read `content` from, which `ssl` insists on, without a private key ever being on a disk."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("credentials", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.name
