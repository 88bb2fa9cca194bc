"""The stand-in kubelet: what a scheduler, kubelets, a volume provisioner and a load balancer do, as the API shows it.

Pods are bound to a node that does not exist, and their status says what the script for them says: ready at once (the
default), ready later, never, crashing, without image. As in real life a pod waits for its claims to be bound and for
its Secrets to exist, and a deleted pod stays until the kubelet lets it go. It runs in a thread with a loop of its own,
so that a test (or the operator in it) that blocks its loop does not stop the world.
"""

from __future__ import annotations

import asyncio
import fnmatch
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from tests.component.apiserver import Server

NODE = "stand-in"

_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_METADATA_WATCH = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What pods do. The default is to become ready at once."""

    #: Seconds from being bound to being ready; None: runs, and never becomes ready.
    ready_after: float | None = 0.0
    #: Why the containers do not run: "ImagePullBackOff", "CrashLoopBackOff", "CreateContainerConfigError"...
    waiting: str = ""
    message: str = ""
    #: Finished runs before the one we see, and how they ended.
    restarts: int = 0
    exit_code: int = 1
    #: Why no node takes the pod; empty: one does.
    unschedulable: str = ""
    #: Seconds between the deletion of a pod and its end.
    ends_after: float = 0.0


READY = Behaviour()
NEVER_READY = Behaviour(ready_after=None)
CRASHING = Behaviour(waiting="CrashLoopBackOff", message="back-off 10s restarting failed container", restarts=3)
NO_IMAGE = Behaviour(waiting="ImagePullBackOff", message='Back-off pulling image "nowhere.invalid/none:1"')


@dataclass(kw_only=True)
class _Pod:
    """A pod that is being played."""

    uid: str
    body: dict[str, Any]
    task: asyncio.Task[None] | None = None
    playing: Behaviour | None = None
    waits_for: str = ""
    #: Another event came while it was played.
    again: bool = False


@dataclass(kw_only=True)
class _World:
    """What the stand-in has seen; touched only in its own loop."""

    pods: dict[tuple[str, str], _Pod] = field(default_factory=dict)
    bound_claims: set[tuple[str, str]] = field(default_factory=set)
    #: UIDs of claims that are being bound: each of our writes is an event, which is no reason to begin again.
    binding: set[str] = field(default_factory=set)
    secrets: set[tuple[str, str]] = field(default_factory=set)


class StandInKubelet:
    """Use as a context manager; the methods may be called from any thread."""

    def __init__(self, server: Server, *, storage_classes: tuple[str, ...] = ("", "standard")) -> None:
        self._access = server.access("stand-in-kubelet", "system:masters")
        self._context = self._access.context(server.folder)
        self._classes = storage_classes
        self._scripts: list[tuple[str, str, Behaviour]] = []
        self._world = _World()
        self._addresses = itertools.count(2)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stand-in-kubelet", daemon=True)
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._synced: dict[str, asyncio.Event] = {}

    # -- what tests call -----------------------------------------------------------------------------------------

    def script(self, namespace: str, pods: str, behaviour: Behaviour) -> None:
        """From now on (also for pods that exist) the pods whose names match the glob behave so. The last word wins."""

        async def change() -> None:
            self._scripts.insert(0, (namespace, pods, behaviour))
            for key in list(self._world.pods):
                if key[0] == namespace and fnmatch.fnmatchcase(key[1], pods):
                    self._consider(key)

        self._run(change())

    def give_address(self, namespace: str, service: str, *, ip: str = "", hostname: str = "") -> None:
        """Play the load balancer: write the address into the status of a Service."""
        ingress = {"ip": ip} if ip else {"hostname": hostname}
        body = {"status": {"loadBalancer": {"ingress": [ingress]}}}
        self._run(self._patch(f"/api/v1/namespaces/{namespace}/services/{service}/status", body))

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._begin())
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    # -- running -------------------------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _begin(self) -> None:
        self._session = aiohttp.ClientSession(
            base_url=self._access.server,
            connector=aiohttp.TCPConnector(ssl=self._context, limit=48),
            json_serialize=lambda value: orjson.dumps(value).decode(),
        )
        follow = {
            "secrets": ("/api/v1/secrets", self._on_secret, True),
            "claims": ("/api/v1/persistentvolumeclaims", self._on_claim, False),
            "pods": ("/api/v1/pods", self._on_pod, False),
        }
        for name, (path, handler, metadata_only) in follow.items():
            self._synced[name] = asyncio.Event()
            following = self._start(self._follow(name, path, handler, metadata_only=metadata_only))
            synced = self._start_waiting(self._synced[name])
            await asyncio.wait({following, synced}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()

    async def _end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert self._session is not None
        await self._session.close()

    def _start_waiting(self, event: asyncio.Event) -> asyncio.Task[None]:
        async def wait() -> None:
            await event.wait()

        return self._start(wait())

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- seeing --------------------------------------------------------------------------------------------------

    async def _follow(
        self, name: str, path: str, handler: Callable[[str, dict[str, Any]], None], *, metadata_only: bool
    ) -> None:
        """List, then watch; begin again whenever the watch ends."""
        while True:
            try:
                accept = _METADATA_ONLY if metadata_only else "application/json"
                listed = await self._call("GET", path, headers={"Accept": accept})
                for item in listed["items"] or ():
                    handler("ADDED", item)
                self._synced[name].set()
                version = listed["metadata"]["resourceVersion"]
                async for kind, item in self._watch(path, version, metadata_only=metadata_only):
                    handler(kind, item)
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(0.2)

    async def _watch(
        self, path: str, version: str, *, metadata_only: bool
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        assert self._session is not None
        accept = _METADATA_WATCH if metadata_only else "application/json"
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "600"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with self._session.get(path, params=query, headers={"Accept": accept}, timeout=timeout) as answer:
            answer.raise_for_status()
            buffer = b""
            async for chunk in answer.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        return
                    yield event["type"], event["object"]

    def _on_secret(self, kind: str, item: dict[str, Any]) -> None:
        key = _key(item)
        if kind == "DELETED":
            self._world.secrets.discard(key)
        elif key not in self._world.secrets:
            self._world.secrets.add(key)
            self._reconsider(key[0])

    def _on_claim(self, kind: str, item: dict[str, Any]) -> None:
        key, uid = _key(item), item["metadata"]["uid"]
        if kind == "DELETED":
            self._world.bound_claims.discard(key)
            self._world.binding.discard(uid)
        elif item.get("status", {}).get("phase") == "Bound":
            self._world.bound_claims.add(key)
            self._world.binding.discard(uid)
            self._reconsider(key[0])
        elif (item["spec"].get("storageClassName") or "") in self._classes and uid not in self._world.binding:
            self._world.binding.add(uid)
            self._start(self._keep_at(lambda: self._bind_claim(item), lambda: key not in self._world.bound_claims))

    def _on_pod(self, kind: str, item: dict[str, Any]) -> None:
        key = _key(item)
        known = self._world.pods.get(key)
        if known is not None and (kind == "DELETED" or known.uid != item["metadata"]["uid"]):
            del self._world.pods[key]
            if known.task is not None:
                known.task.cancel()
            known = None
        if kind == "DELETED":
            return
        if known is None:
            known = self._world.pods[key] = _Pod(uid=item["metadata"]["uid"], body=item)
            self._consider(key)
            return
        ends = "deletionTimestamp" in item["metadata"] and "deletionTimestamp" not in known.body["metadata"]
        known.body = item
        if ends:
            self._consider(key)

    def _reconsider(self, namespace: str) -> None:
        for key, pod in self._world.pods.items():
            if key[0] == namespace and pod.waits_for:
                self._consider(key)

    # -- playing -------------------------------------------------------------------------------------------------

    def _behaviour(self, key: tuple[str, str]) -> Behaviour:
        for namespace, pods, behaviour in self._scripts:
            if namespace == key[0] and fnmatch.fnmatchcase(key[1], pods):
                return behaviour
        return READY

    def _consider(self, key: tuple[str, str]) -> None:
        pod = self._world.pods[key]
        if pod.task is not None and not pod.task.done():
            pod.again = True
            if pod.playing is not None and pod.playing.ready_after:
                pod.task.cancel()  # it only waits for its moment
        else:
            pod.task = self._start(
                self._keep_at(lambda: self._play(key, pod), lambda: self._world.pods.get(key) is pod)
            )
            pod.task.add_done_callback(lambda task: self._played(key, pod, task))

    def _played(self, key: tuple[str, str], pod: _Pod, task: asyncio.Task[None]) -> None:
        if pod.task is not task:
            return  # it is played again already
        pod.task = None
        if pod.again and self._world.pods.get(key) is pod:
            pod.again = False
            self._consider(key)

    async def _play(self, key: tuple[str, str], pod: _Pod) -> None:
        namespace, name = key
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        behaviour = pod.playing = self._behaviour(key)
        if "deletionTimestamp" in pod.body["metadata"]:
            await asyncio.sleep(behaviour.ends_after)
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid}}
            await self._call("DELETE", path, json=options)
            return
        why_not = behaviour.unschedulable or self._unbound(namespace, pod.body)
        if not pod.body["spec"].get("nodeName") and why_not:
            pod.waits_for = why_not
            condition = _condition("PodScheduled", False, reason="Unschedulable", message=why_not)
            await self._patch(f"{path}/status", {"status": {"phase": "Pending", "conditions": [condition]}})
            return
        if not pod.body["spec"].get("nodeName"):
            binding = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": name, "uid": pod.uid},
                "target": {"kind": "Node", "name": NODE},
            }
            await self._call("POST", f"{path}/binding", json=binding)
            pod.body["spec"]["nodeName"] = NODE
        missing = self._missing_secret(namespace, pod.body)
        pod.waits_for = missing
        if missing:
            behaviour = Behaviour(waiting="ContainerCreating", message=missing)
        ip = pod.body.get("status", {}).get("podIP") or self._next_address()
        if behaviour.ready_after and not behaviour.waiting:
            await self._patch(f"{path}/status", {"status": _status(pod.body, behaviour, ready=False, ip=ip)})
            await asyncio.sleep(behaviour.ready_after)
        ready = behaviour.ready_after is not None and not behaviour.waiting
        await self._patch(f"{path}/status", {"status": _status(pod.body, behaviour, ready=ready, ip=ip)})

    def _unbound(self, namespace: str, body: Mapping[str, Any]) -> str:
        for volume in body["spec"].get("volumes", ()):
            claim = volume.get("persistentVolumeClaim")
            if claim and (namespace, claim["claimName"]) not in self._world.bound_claims:
                return "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
        return ""

    def _missing_secret(self, namespace: str, body: Mapping[str, Any]) -> str:
        for volume in body["spec"].get("volumes", ()):
            sources = [volume, *volume.get("projected", {}).get("sources", ())]
            for source in sources:
                secret = source.get("secret")
                if secret is None or secret.get("optional"):
                    continue
                name = secret.get("secretName") or secret.get("name")
                if (namespace, name) not in self._world.secrets:
                    return f'secret "{name}" not found'
        return ""

    async def _bind_claim(self, claim: Mapping[str, Any]) -> None:
        namespace, name = _key(claim)
        path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}"
        await self._patch(path, {"spec": {"volumeName": f"pv-{claim['metadata']['uid']}"}})
        capacity = claim["spec"]["resources"]["requests"]
        modes = claim["spec"]["accessModes"]
        await self._patch(f"{path}/status", {"status": {"phase": "Bound", "capacity": capacity, "accessModes": modes}})

    def _next_address(self) -> str:
        number = next(self._addresses)
        return f"10.244.{number // 250 % 256}.{number % 250 + 1}"

    async def _keep_at(self, work: Callable[[], Awaitable[None]], wanted: Callable[[], bool]) -> None:
        """As a kubelet does: what failed is tried again, as long as it is wanted. What has vanished is no error."""
        while True:
            try:
                await work()
                return
            except aiohttp.ClientResponseError as refusal:
                if refusal.status == 404:
                    return
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.2)
            if not wanted():
                return

    async def _patch(self, path: str, body: Mapping[str, Any]) -> None:
        await self._call("PATCH", path, json=body, headers={"Content-Type": "application/merge-patch+json"})

    async def _call(self, verb: str, path: str, **words: Any) -> Any:
        assert self._session is not None
        async with self._session.request(verb, path, **words) as answer:
            answer.raise_for_status()
            return orjson.loads(await answer.read())


def _key(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _condition(kind: str, true: bool, *, reason: str = "", message: str = "") -> dict[str, Any]:
    words = {"type": kind, "status": "True" if true else "False", "lastTransitionTime": _now()}
    return words | ({"reason": reason} if reason else {}) | ({"message": message} if message else {})


def _status(body: Mapping[str, Any], behaviour: Behaviour, *, ready: bool, ip: str) -> dict[str, Any]:
    waiting = behaviour.waiting
    # Before its first run a pod is Pending; one that crashed has run.
    phase = "Pending" if waiting and not behaviour.restarts else "Running"
    spec = body["spec"]
    return {
        "phase": phase,
        "hostIP": "10.0.0.1",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "startTime": _now(),
        "conditions": [
            _condition("PodScheduled", True),
            _condition("Initialized", True),
            _condition("ContainersReady", ready, reason="" if ready else "ContainersNotReady"),
            _condition("Ready", ready, reason="" if ready else "ContainersNotReady"),
        ],
        "initContainerStatuses": [
            _container(each, Behaviour(), ready=True, done=True) for each in spec.get("initContainers", ())
        ],
        "containerStatuses": [_container(each, behaviour, ready=ready, done=False) for each in spec["containers"]],
    }


def _container(spec: Mapping[str, Any], behaviour: Behaviour, *, ready: bool, done: bool) -> dict[str, Any]:
    ended = {"exitCode": behaviour.exit_code, "reason": "Error", "startedAt": _now(), "finishedAt": _now()}
    if done:
        state: dict[str, Any] = {"terminated": {**ended, "exitCode": 0, "reason": "Completed"}}
    elif behaviour.waiting:
        state = {"waiting": {"reason": behaviour.waiting, "message": behaviour.message}}
    else:
        state = {"running": {"startedAt": _now()}}
    return {
        "name": spec["name"],
        "image": spec["image"],
        "imageID": "",
        "ready": ready,
        "started": ready,
        "restartCount": behaviour.restarts,
        "state": state,
        "lastState": {"terminated": ended} if behaviour.restarts else {},
    }
