"""What a provider gives a cluster: volumes for claims, and addresses for Services of type LoadBalancer.

One small process with two level-triggered controllers fed by watches. Both look at the present object only, so events
may come twice, late or after a restart. Volumes are folders on this machine; an address is a number, to which
kube-proxy gives meaning.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from e2e.lab.manifests import NO_ADDRESS, PROVISIONER, STORAGE_CLASS

Object = dict[str, Any]
_RETRY = 1.0


@dataclass(frozen=True, kw_only=True)
class Api:
    """An open session with the API server."""

    session: aiohttp.ClientSession

    async def request(
        self, verb: str, path: str, body: Object | None = None, *, content: str = "application/json"
    ) -> int:
        """The status of one request; 404 and 409 are answers like any other, what is above 499 raises."""
        async with self.session.request(verb, path, json=body, headers={"Content-Type": content}) as response:
            if response.status >= 400 and response.status not in (404, 409):
                say(f"{verb} {path}: {response.status} {await response.text()}")
                response.raise_for_status()
            return response.status


def say(message: str) -> None:
    """One line in the log."""
    print(message, flush=True)


# --- storage ---------------------------------------------------------------------------------------------------------


def volume_for(claim: Object, *, volumes: Path) -> Object | None:
    """The PersistentVolume that a claim needs, or None if it is none of ours, bound, or on its way out."""
    spec, metadata = claim["spec"], claim["metadata"]
    # A class of another name with our provisioner: the volume controller says so on the claim once the class exists.
    ours = (
        spec.get("storageClassName") == STORAGE_CLASS
        or metadata.get("annotations", {}).get("volume.kubernetes.io/storage-provisioner") == PROVISIONER
    )
    if not ours or spec.get("volumeName") or metadata.get("deletionTimestamp"):
        return None
    name = f"pvc-{metadata['uid']}"
    return {
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
        "spec": {
            "storageClassName": spec["storageClassName"], "persistentVolumeReclaimPolicy": "Delete",
            "accessModes": spec["accessModes"], "volumeMode": spec.get("volumeMode", "Filesystem"),
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "hostPath": {"path": str(volumes / name), "type": "Directory"},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": metadata["name"],
                         "namespace": metadata["namespace"], "uid": metadata["uid"]},
        },
    }  # fmt: skip


def folder_to_delete(volume: Object, *, volumes: Path) -> Path | None:
    """The folder of a volume of ours whose claim is gone and whose data is to go as well; else None."""
    metadata, spec = volume["metadata"], volume["spec"]
    ours = metadata.get("annotations", {}).get("pv.kubernetes.io/provisioned-by") == PROVISIONER
    released = volume.get("status", {}).get("phase") == "Released"
    if not (ours and released and spec.get("persistentVolumeReclaimPolicy") == "Delete"):
        return None
    return volumes / str(metadata["name"])


async def provision(api: Api, claim: Object, *, volumes: Path) -> None:
    """Give a claim its volume."""
    volume = volume_for(claim, volumes=volumes)
    if volume is None:
        return
    folder = volumes / volume["metadata"]["name"]
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)  # a hostPath volume knows no fsGroup: whoever the pod runs as must be able to write
    status = await api.request("POST", "/api/v1/persistentvolumes", volume)
    if status == 201:
        say(f"volume {folder.name} for {claim['metadata']['namespace']}/{claim['metadata']['name']}")


async def reclaim(api: Api, volume: Object, *, volumes: Path) -> None:
    """Delete a released volume with its data."""
    folder = folder_to_delete(volume, volumes=volumes)
    if folder is None:
        return
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    await api.request("DELETE", f"/api/v1/persistentvolumes/{volume['metadata']['name']}")
    say(f"volume {folder.name} deleted")


# --- addresses -------------------------------------------------------------------------------------------------------


def held_addresses(service: Object) -> list[IPv4Address]:
    """The addresses in a Service's status."""
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    found = [ip_address(each["ip"]) for each in ingress if "ip" in each]
    return [each for each in found if isinstance(each, IPv4Address)]


def wants_address(service: Object) -> bool:
    """Whether the Service is ours to serve."""
    metadata, spec = service["metadata"], service["spec"]
    refused = metadata.get("annotations", {}).get(NO_ADDRESS) == "true"
    return spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass") and not refused


def choose_address(service: Object, *, pool: IPv4Network, used: Mapping[str, IPv4Address]) -> IPv4Address | None:
    """What a Service keeps, asks for (`spec.loadBalancerIP`) or gets, the lowest free one; None if there is none."""
    mine = service["metadata"]["uid"]
    taken = {address for uid, address in used.items() if uid != mine}
    asked = service["spec"].get("loadBalancerIP")
    kept = held_addresses(service)[:1]
    wishes = [IPv4Address(asked)] if asked else [*kept, *pool.hosts()]
    return next((address for address in wishes if address in pool and address not in taken), None)


class Balancer:
    """Hands out the addresses of a pool; remembers who has which."""

    def __init__(self, api: Api, pool: IPv4Network) -> None:
        self._api = api
        self._pool = pool
        self._used: dict[str, IPv4Address] = {}

    def learn(self, services: list[Object]) -> None:
        """Note the addresses that are given already, before any is given: after a restart nobody loses his."""
        self._used = {each["metadata"]["uid"]: held_addresses(each)[0] for each in services
                      if wants_address(each) and held_addresses(each)}  # fmt: skip

    def forget(self, service: Object) -> None:
        """A Service is gone: its address is free again."""
        self._used.pop(service["metadata"]["uid"], None)

    async def serve(self, service: Object) -> None:
        """Write the address that a Service should have into its status, unless it stands there."""
        metadata = service["metadata"]
        address = None
        if wants_address(service) and not metadata.get("deletionTimestamp"):
            address = choose_address(service, pool=self._pool, used=self._used)
            if address is None:
                say(f"no address for {metadata['namespace']}/{metadata['name']}: none free, or not the one asked for")
        if address is None:
            self.forget(service)
            if service["spec"].get("loadBalancerClass"):
                return  # another controller's
        else:
            self._used[metadata["uid"]] = address
        if held_addresses(service) == ([address] if address else []):
            return
        ingress = [{"ip": str(address), "ipMode": "VIP"}] if address else None
        path = f"/api/v1/namespaces/{metadata['namespace']}/services/{metadata['name']}/status"
        await self._api.request("PATCH", path, {"status": {"loadBalancer": {"ingress": ingress}}},
                                content="application/merge-patch+json")  # fmt: skip
        say(f"{metadata['namespace']}/{metadata['name']}: {address or 'no address'}")


# --- the loop --------------------------------------------------------------------------------------------------------


async def follow(
    api: Api, path: str, *, changed: Callable[[Object], Awaitable[None]],
    deleted: Callable[[Object], None] | None = None,
    listed: Callable[[list[Object]], None] | None = None, ready: asyncio.Event,
) -> None:  # fmt: skip
    """List and watch one kind forever. Whatever fails (the watch, a write) leads to a new list, a second later."""
    while True:
        try:
            async with api.session.get(path) as response:
                response.raise_for_status()
                answer = await response.json()
            if listed:
                listed(answer["items"])
            for each in answer["items"]:
                await changed(each)
            ready.set()
            await _watch(api, path, answer["metadata"]["resourceVersion"], changed=changed, deleted=deleted)
        except (aiohttp.ClientError, TimeoutError, OSError, _ExpiredError) as error:
            say(f"{path}: {error!r}; listing again")
            await asyncio.sleep(_RETRY)


class _ExpiredError(Exception):
    """The watch cannot go on from where it was."""


async def _watch(
    api: Api,
    path: str,
    version: str,
    *,
    changed: Callable[[Object], Awaitable[None]],
    deleted: Callable[[Object], None] | None,
) -> None:
    while True:
        query = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
        timeout = aiohttp.ClientTimeout(total=None, sock_read=None)
        async with api.session.get(path, params=query, timeout=timeout) as response:
            response.raise_for_status()
            buffer = b""
            async for chunk in response.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise _ExpiredError(event["object"].get("message", ""))
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] in ("ADDED", "MODIFIED"):
                        await changed(event["object"])
                    elif event["type"] == "DELETED" and deleted:
                        deleted(event["object"])


def _credentials(path: Path) -> tuple[str, ssl.SSLContext]:
    config = yaml.safe_load(path.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    with tempfile.NamedTemporaryFile() as pair:
        pair.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
        pair.flush()
        tls.load_cert_chain(pair.name)
    return str(cluster["server"]), tls


async def run(*, kubeconfig: Path, volumes: Path, pool: IPv4Network) -> None:
    """Serve until cancelled; says so on NOTIFY_SOCKET once every kind has been listed."""
    server, tls = _credentials(kubeconfig)
    connector = aiohttp.TCPConnector(ssl=tls)
    timeout = aiohttp.ClientTimeout(total=30)
    async with (
        aiohttp.ClientSession(server, connector=connector, timeout=timeout) as session,
        asyncio.TaskGroup() as tasks,
    ):
        api = Api(session=session)
        balancer = Balancer(api, pool)
        ready = [asyncio.Event() for _ in range(3)]
        tasks.create_task(
            follow(
                api,
                "/api/v1/persistentvolumeclaims",
                changed=lambda each: provision(api, each, volumes=volumes),
                ready=ready[0],
            )
        )
        tasks.create_task(
            follow(
                api,
                "/api/v1/persistentvolumes",
                changed=lambda each: reclaim(api, each, volumes=volumes),
                ready=ready[1],
            )
        )
        tasks.create_task(
            follow(
                api,
                "/api/v1/services",
                changed=balancer.serve,
                deleted=balancer.forget,
                listed=balancer.learn,
                ready=ready[2],
            )
        )
        for each in ready:
            await each.wait()
        _notify()


def _notify() -> None:
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.sendto(b"READY=1", address)


async def _until_terminated(work: Awaitable[None]) -> None:
    task = asyncio.ensure_future(work)
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main(arguments: list[str]) -> None:
    """The process itself."""
    parser = argparse.ArgumentParser(prog="python -m e2e.lab.cloud", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--volumes", type=Path, required=True)
    parser.add_argument("--pool", type=IPv4Network, required=True)
    chosen = parser.parse_args(arguments)
    asyncio.run(_until_terminated(run(kubeconfig=chosen.kubeconfig, volumes=chosen.volumes, pool=chosen.pool)))


if __name__ == "__main__":
    main(sys.argv[1:])
