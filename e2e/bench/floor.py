"""`python -m e2e.bench.floor KUBECONFIG NAMESPACE TENANT COUNT`: what no operator in Python can do without.

The writes of one tenant are sent `COUNT` times by a bare aiohttp client (16 at once, the objects of a tenant that
exists, as dry runs, so that nothing stays), and its keys and certificates are made as often. The CPU of both is printed
as JSON, in seconds. Run in the same minutes as the operator it is measured by the same yardstick: what else the machine
does, and how fast it is, cancels out.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from hosted_cp.kube.client import ApiClient
from hosted_cp.kube.credentials import Credentials, from_kubeconfig
from hosted_cp.kube.material import Sources
from hosted_cp.kube.resources import SECRET, SERVICE, STATEFUL_SET
from hosted_cp.pki.recipes import CARecipe, KeyPairRecipe, KubeconfigRecipe, LeafRecipe
from hosted_cp.planning.recipes import Recipe

#: Writes beside the creations: finalizer, permit, two statuses, an Event. Each counts as one more Secret.
_OTHERS = 5
_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Floor:
    """CPU seconds for one tenant."""

    writes: int
    requests: float
    material: float


def measured(kubeconfig: Path, namespace: str, tenant: str, count: int, *, environment: Mapping[str, str]) -> Floor:
    """Measure in a process of its own. Raises `subprocess.CalledProcessError`."""
    argv = [sys.executable, "-m", "e2e.bench.floor", str(kubeconfig), namespace, tenant, str(count)]
    done = subprocess.run(argv, env=dict(environment), stdout=subprocess.PIPE, check=True)
    return Floor(**json.loads(done.stdout))


async def _writes(credentials: Credentials, namespace: str, tenant: str) -> list[tuple[str, dict[str, Any]]]:
    """Path and body of everything that is created for a tenant."""
    found = []
    async with ApiClient(credentials, agent="bench") as client:
        workload = await client.get(STATEFUL_SET, namespace, f"kmc-{tenant}")
        [owner] = [each["uid"] for each in workload["metadata"]["ownerReferences"] if each.get("controller")]
        for resource in (SECRET, SERVICE, STATEFUL_SET):
            for body in await client.list(resource, namespace):
                owners = [each["uid"] for each in body["metadata"].get("ownerReferences", ())]
                if owner in owners:
                    found.append((resource.path(namespace), _as_new(body, resource.api_version, resource.kind)))
    secrets = [each for each in found if each[1]["kind"] == SECRET.kind]
    return found + secrets[:_OTHERS]


def _as_new(body: dict[str, Any], api_version: str, kind: str) -> dict[str, Any]:
    kept = {key: body["metadata"][key] for key in ("labels", "annotations", "ownerReferences")}
    made = {key: value for key, value in body.items() if key != "status"}
    if kind == SERVICE.kind:
        # What the server has allocated is taken.
        allocated = ("clusterIP", "clusterIPs", "healthCheckNodePort")
        made["spec"] = {key: value for key, value in body["spec"].items() if key not in allocated}
        made["spec"]["ports"] = [{**each, "nodePort": 0} for each in body["spec"]["ports"]]
    return {**made, "apiVersion": api_version, "kind": kind, "metadata": {**kept, "generateName": "floor-"}}


async def _requests(credentials: Credentials, writes: list[tuple[str, dict[str, Any]]], count: int) -> float:
    """CPU seconds of sending all of them so often."""
    query = "?dryRun=All&fieldManager=bench&fieldValidation=Strict"
    todo = iter([(credentials.server + path + query, body) for _ in range(count) for path, body in writes])
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    if credentials.authorization is not None:
        headers["Authorization"] = await credentials.authorization(False) or ""
    connector = aiohttp.TCPConnector(ssl=credentials.context or True, limit=_AT_ONCE)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def work() -> None:
            for url, body in todo:
                async with session.post(url, data=orjson.dumps(body)) as answer:
                    content = await answer.read()
                    if answer.status != 201:
                        raise SystemExit(f"{url}: {answer.status} {content[:400].decode(errors='replace')}")

        begun = time.process_time()
        await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
        return time.process_time() - begun


def _material(count: int) -> float:
    """CPU seconds of making the keys and certificates of so many tenants."""
    sources = Sources()
    names = ("localhost", "etcd", "etcd.tenants.svc")
    signed: list[Recipe] = [
        *(LeafRecipe(common_name=f"leaf-{n}", dns_names=names, usages=("server",), signer="ca") for n in range(3)),
        KubeconfigRecipe(cluster="floor", server="https://192.0.2.1:6443", signer="ca"),
    ]
    begun = time.process_time()
    for _ in range(count):
        inputs = sources.inputs({})
        authorities = [CARecipe(common_name=f"ca-{n}").fulfil(inputs) for n in range(3)]
        KeyPairRecipe().fulfil(inputs)
        signing = sources.inputs({"ca": authorities[0]})
        for recipe in signed:
            recipe.fulfil(signing)
    return time.process_time() - begun


async def _main(kubeconfig: Path, namespace: str, tenant: str, count: int) -> None:
    credentials = await from_kubeconfig(kubeconfig)
    writes = await _writes(credentials, namespace, tenant)
    requests = await _requests(credentials, writes, count)
    floor = Floor(writes=len(writes), requests=requests / count, material=_material(count) / count)
    print(json.dumps(asdict(floor)))


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
