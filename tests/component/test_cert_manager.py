"""cert-manager makes the webhook's certificates, as docs/webhook.md says: the real one, on the files in `deploy/`.

A sweep, because cert-manager takes minutes to build. Where there is no pod network the webhook's Service leads to a
process of this machine; API servers find it by the Service's name and check that the certificate is for that. The
kubelet's part, a Secret that becomes files, is played.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from e2e.cert_manager.programs import cert_manager
from hosted_cp.api import crds
from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.definitions import RESOURCES, WEBHOOK_CONFIGURATION
from hosted_cp.kube.errors import ApiError, NotFound
from hosted_cp.kube.resources import CRD, SECRET, Resource
from hosted_cp.kube.webhook_names import CONFIGURATION, SERVICE
from k0s_images.golang import components
from tests.component.apiserver import Server, running
from tests.component.hosting import DEPLOYED, OPERATOR
from tests.component.test_webhook import body, operating, resource, trusted, until, until_converts, until_trusted
from tests.component.webhook import ROOT, SHIPPED, Webhook, answering, install, own_certificates, shipped

pytestmark = [pytest.mark.component, pytest.mark.sweep]

CERTIFICATE = Resource(group="cert-manager.io", version="v1", kind="Certificate", plural="certificates")
MANIFEST = ROOT / "deploy" / "cert-manager.yaml"
PATCH = yaml.safe_load((ROOT / "deploy" / "cert-manager-patch.yaml").read_text(encoding="utf-8"))
[CONTAINER] = PATCH["spec"]["template"]["spec"]["containers"]
[MOUNT] = CONTAINER["volumeMounts"]
[VOLUME] = PATCH["spec"]["template"]["spec"]["volumes"]
#: What cert-manager issues into, and the webhook reads from.
ISSUED = str(VOLUME["secret"]["secretName"])
HOST = f"{SERVICE}.hosted-cp.svc"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with cert-manager on it, and the rights as shipped."""
    folder = tmp_path_factory.mktemp("cert-manager")
    with running(folder, components("1.36"), controllers=(), crds=cert_manager().crds) as started:
        assert not started.refused_kinds
        install(started, shipped("Namespace"))
        rights = [each for each in _bodies(DEPLOYED) if each["kind"] not in {"Deployment", "Namespace"}]
        install(started, [*shipped(), *rights])
        with issuing(started):
            yield started


def _bodies(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(file.read_text(encoding="utf-8")))


@contextmanager
def issuing(server: Server) -> Iterator[None]:
    """cert-manager, until the end of the block."""
    kubeconfig = server.access("cert-manager", "system:masters").kubeconfig(server.folder / "cert-manager.kubeconfig")
    setpriv = shutil.which("setpriv")
    leash = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(server.folder)}
    with (server.folder / "cert-manager.log").open("ab") as out:
        process = subprocess.Popen(
            [*leash, str(cert_manager().program), str(kubeconfig)],
            cwd=server.folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield
        assert process.poll() is None, (server.folder / "cert-manager.log").read_text(errors="replace")[-3000:]
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)


def lead_here(server: Server, port: int) -> None:
    """Install our kinds and the webhook's configuration, by Service; and the Service leads to this port."""
    outside = {"spec": {"type": "ExternalName", "externalName": "127.0.0.1", "clusterIP": None, "clusterIPs": None}}
    words = ("patch", "service", SERVICE, "-n", "hosted-cp", "--type=merge", "-p", orjson.dumps(outside).decode())
    server.kubectl(*words)
    [configuration] = [each for each in _bodies(SHIPPED) if each["kind"] == "ValidatingWebhookConfiguration"]
    for each in configuration["webhooks"]:
        each["clientConfig"]["service"]["port"] = port
    conversion = crds.Webhook(service=SERVICE, namespace="hosted-cp", port=port)
    install(server, [*crds.generate(conversion=conversion), configuration])


async def issued(admin: ApiClient, *, but: bytes = b"") -> dict[str, bytes]:
    """What cert-manager has put into the webhook's Secret, as soon as that is another certificate than `but`."""
    found: dict[str, bytes] = {}

    async def true() -> bool:
        with contextlib.suppress(NotFound):
            data = (await admin.get(SECRET, "hosted-cp", ISSUED))["data"]
            found.update({key: base64.b64decode(value) for key, value in data.items()})
        return found.get("tls.crt", but) != but

    await until(true)
    return found


def mount(folder: Path, data: dict[str, bytes]) -> None:
    """As a kubelet does it: both files change at once."""
    folder.mkdir(exist_ok=True)
    version = folder / f"..{len(list(folder.iterdir()))}"
    version.mkdir()
    for name, content in data.items():
        (version / name).write_bytes(content)
    fresh = folder / "..fresh"
    fresh.symlink_to(version.name)
    fresh.replace(folder / "..data")
    for name in data:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")


def arguments(folder: Path) -> list[str]:
    """Those of the patched Deployment, with the volume mounted at `folder`."""
    program, *words = CONTAINER["args"]
    assert program == "webhook"
    return [each.replace(MOUNT["mountPath"], str(folder)) for each in words]


def annotate(server: Server) -> None:
    """The commands of docs/webhook.md that hand `caBundle` over to cert-manager."""
    page = (ROOT / "docs" / "webhook.md").read_text(encoding="utf-8")
    commands = [line.strip().removeprefix("kubectl ") for line in page.splitlines() if "inject-ca-from=" in line]
    assert len(commands) == 2
    for each in commands:
        verb, *words = each.replace("-f crds/", " ".join(f"crd/{name}" for name in RESOURCES)).split()
        assert verb == "annotate"
        server.kubectl(verb, *words)


@asynccontextmanager
async def asking(admin: ApiClient) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """An object is read in its other version, again and again, and that never fails. Yields: wait for so many more."""
    count, stop = 0, asyncio.Event()

    async def ask() -> None:
        nonlocal count
        while not stop.is_set():
            read = await admin.get(resource("Cluster", "v1beta1"), "default", "asked")
            assert read["apiVersion"] == "k0smotron.io/v1beta1"
            count += 1

    async def more(number: int) -> None:
        wanted = count + number

        async def true() -> bool:
            if task.done():
                task.result()
            return count >= wanted

        await until(true)

    await admin.create(resource("Cluster", "v1beta2"), body("Cluster", "asked"))
    task = asyncio.create_task(ask())
    try:
        yield more
    finally:
        stop.set()
        await task
        await admin.delete(resource("Cluster", "v1beta2"), "default", "asked")


async def test_cert_manager_takes_over_renews_and_is_not_fought_with(
    server: Server, admin: ApiClient, tmp_path: Path
) -> None:
    # As it is shipped: certificates of the webhook's own, and the operator says whom to trust.
    own = server.folder / "own"
    with answering(own, *own_certificates(server, own)) as webhook:
        lead_here(server, webhook.port)
        async with operating(server):
            await until_trusted(admin)
            await until_converts(admin)

    # The three steps of the documentation. In between the webhook starts anew, as the Deployment's pods would.
    server.kubectl("apply", "-f", str(MANIFEST))
    first = await issued(admin)
    folder = tmp_path / "certificates"
    mount(folder, first)
    with patched(webhook, folder):
        annotate(server)
        async with operating(server) as operator:

            async def injected() -> bool:
                # (The injector adds to what is trusted already. Former releases of it wrote over that.)
                return all(first["ca.crt"].strip() in base64.b64decode(each) for each in await trusted(admin))

            await until(injected)
            await until_converts(admin)
            with pytest.raises(ApiError, match="replicas: is 0"):
                await admin.create(resource("Cluster", "v1beta2"), {**body("Cluster", "bad"), "spec": {"replicas": 0}})

            # The operator still has a CA that it would write; it leaves the field to whom it was given.
            since, before = server.audit.mark(), await _versions(admin)
            await asyncio.sleep(3.0)
            assert await _versions(admin) == before
            assert [each for each in server.audit.writes(since=since, user=OPERATOR) if each.resource != "leases"] == []
            assert "hosted_cp_ca_bundle_writes_total 0.0" in operator.metrics.text().decode()

            # A renewal, as `cmctl renew` asks for one: the next certificate is of the same CA, and no request fails.
            async with asking(admin) as more:
                await more(5)
                renewal = {"type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "renew"}
                await _condition(admin, renewal)
                second = await issued(admin, but=first["tls.crt"])
                assert second["ca.crt"] == first["ca.crt"]
                assert second["tls.key"] != first["tls.key"]
                process = webhook.process
                mount(folder, second)

                async def served() -> bool:
                    return await asyncio.to_thread(_served, webhook.port) == second["tls.crt"].decode()

                await until(served)
                assert webhook.process is process
                await more(20)
            assert await _versions(admin) == before


@contextmanager
def patched(webhook: Webhook, mounted: Path) -> Iterator[None]:
    """The webhook at its former address, with the arguments of the patched Deployment."""
    webhook.words = ("--drain=0", *arguments(mounted))
    webhook.start()
    try:
        yield
    finally:
        webhook.stop(signal.SIGKILL)


def _served(port: int) -> str:
    """The certificate that is shown to who asks for the Service by name."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as secure,
    ):
        shown = secure.getpeercert(binary_form=True)
    assert shown is not None
    return ssl.DER_cert_to_PEM_cert(shown)


async def _condition(admin: ApiClient, condition: dict[str, str]) -> None:
    """Say it in the status of the webhook's Certificate."""
    [mine] = [each for each in _bodies(MANIFEST) if each.get("spec", {}).get("secretName") == ISSUED]
    found = await admin.get(CERTIFICATE, "hosted-cp", mine["metadata"]["name"])
    stamped = {**condition, "lastTransitionTime": "2026-11-21T10:00:00Z"}
    conditions = [*found["status"]["conditions"], stamped]
    await admin.merge_patch(
        CERTIFICATE, "hosted-cp", mine["metadata"]["name"], {"status": {"conditions": conditions}}, subresource="status"
    )


async def _versions(admin: ApiClient) -> dict[str, str]:
    found = {name: (await admin.get(CRD, None, name))["metadata"]["resourceVersion"] for name in RESOURCES}
    configuration = await admin.get(WEBHOOK_CONFIGURATION, None, CONFIGURATION)
    return {**found, CONFIGURATION: configuration["metadata"]["resourceVersion"]}


def test_the_manifest_is_for_the_service_that_is_shipped() -> None:
    [certificate] = [each for each in _bodies(MANIFEST) if each.get("spec", {}).get("secretName") == ISSUED]
    assert certificate["spec"]["dnsNames"] == [HOST]
    [deployment] = [
        each for each in _bodies(SHIPPED) if (each["kind"], each["metadata"]["name"]) == ("Deployment", SERVICE)
    ]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert CONTAINER["name"] == container["name"]
    assert MOUNT["name"] == VOLUME["name"]
