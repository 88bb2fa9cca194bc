"""`hosted-cp webhook`: from options to a running webhook."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
import signal
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from importlib.resources import files
from pathlib import Path
from typing import Any

from hosted_cp.cli import logs
from hosted_cp.kube import credentials
from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.errors import ApiError
from hosted_cp.pki.recipes import LeafRecipe
from hosted_cp.webhooks import server
from hosted_cp.webhooks.admission import Context
from hosted_cp.webhooks.authority import serving_recipe
from hosted_cp.webhooks.certificates import CertificateError, SecretCertificates, Tls, follow_files
from hosted_cp.webhooks.metrics import Metrics

log = logging.getLogger(__name__)


def run_webhook(options: Mapping[str, Any]) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code; what went wrong is logged in one line."""
    logs.configure(options["log_format"], options["log_level"])
    try:
        asyncio.run(_run(options))
    except (credentials.CredentialsError, CertificateError) as error:
        log.error("%s", error)
        return 2
    except (ApiError, OSError) as error:
        log.error("ended: %s", error)
        return 1
    return 0


async def _run(options: Mapping[str, Any]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    metrics, state = Metrics(), server.State()
    tls = Tls(metrics=metrics)
    catalogue = json.loads(files("hosted_cp").joinpath("catalogue.json").read_text())
    app = server.application(context=Context(catalogue=catalogue), state=state, metrics=metrics)
    async with AsyncExitStack() as stack:
        certificates = asyncio.create_task(await _certificates(options, tls, stack), name="certificates")
        try:
            if not await _first(stop, certificates, tls.usable):
                return
            host, port = await stack.enter_async_context(
                server.listening(app, address=options["address"], tls=tls.context)
            )
            if options["metrics_address"]:
                await stack.enter_async_context(
                    server.listening(server.metrics_application(metrics), address=options["metrics_address"], tls=None)
                )
            state.not_ready = ""
            log.info("answering on %s:%d", host, port)
            await _first(stop, certificates)
            # Who balances connections has to learn first that we are going; until then they are answered.
            state.not_ready, state.ending = "ending", True
            log.info("ending: answering for %g s more", options["drain"])
            await asyncio.sleep(options["drain"])
        finally:
            certificates.cancel()
            await asyncio.gather(certificates, return_exceptions=True)


async def _first(stop: asyncio.Event, part: asyncio.Task[None], wanted: asyncio.Event | None = None) -> bool:
    """Wait for `wanted`, or `stop`; raises what has ended the part that should run for ever. False: stop."""
    waits = [asyncio.create_task(each.wait()) for each in (stop, wanted) if each is not None]
    try:
        await asyncio.wait({part, *waits}, return_when=asyncio.FIRST_COMPLETED)
        if part.done():
            part.result()
        return not stop.is_set()
    finally:
        for each in waits:
            each.cancel()


async def _certificates(options: Mapping[str, Any], tls: Tls, stack: AsyncExitStack) -> Coroutine[Any, Any, None]:
    """What keeps the certificate in use, to be run for ever."""
    certificate, key = options["cert_file"], options["key_file"]
    if certificate or key:
        if not (certificate and key):
            raise CertificateError("--cert-file and --key-file belong together")
        return follow_files(certificate, key, tls)
    kubeconfig: Path | None = options["kubeconfig"]
    access = await credentials.from_kubeconfig(kubeconfig) if kubeconfig else credentials.in_cluster()
    namespace = options["namespace"] or os.environ.get("POD_NAMESPACE") or access.namespace or "hosted-cp"
    client = await stack.enter_async_context(ApiClient(access, agent="hosted-cp-webhook", connections=4))
    service = options["service"]
    recipe = _recipe(service=service, namespace=namespace, hosts=options["hosts"])
    return SecretCertificates(client, namespace=namespace, recipe=recipe, tls=tls, service=service).run()


def _recipe(*, service: str, namespace: str, hosts: Sequence[str]) -> LeafRecipe:
    names, addresses = [f"{service}.{namespace}.svc"], []
    for each in hosts:
        try:
            addresses.append(str(ipaddress.ip_address(each)))
        except ValueError:
            names.append(each)
    return serving_recipe(dns_names=names, ip_addresses=addresses, service=service)
