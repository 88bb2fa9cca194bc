"""What we believe of the server's merging, asked of the server: the merge table, comparisons, the user's patches."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hosted_cp.hosting import patch_types
from hosted_cp.hosting.patch_types import PatchError
from hosted_cp.kube.managed_fields import migrated
from hosted_cp.planning.actions import FIELD_MANAGER
from hosted_cp.planning.diff import first_difference, settle, stamped
from hosted_cp.planning.merge import Shape, shape_of
from hosted_cp.planning.overlay import laid_over, operations
from tests.component.apiserver import Server
from tests.planning.samples import (
    CONFIG_MAP,
    DISRUPTION_BUDGET,
    ENDPOINTS,
    NETWORK_POLICY,
    SERVICE,
    STATEFUL_SET,
    observed,
)

PATHS = {
    "StatefulSet": "apis/apps/v1/namespaces/{}/statefulsets",
    "Service": "api/v1/namespaces/{}/services",
    "PodDisruptionBudget": "apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "NetworkPolicy": "apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Endpoints": "api/v1/namespaces/{}/endpoints",
    "ConfigMap": "api/v1/namespaces/{}/configmaps",
}
CONTENT_TYPES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}


class Api:
    """Plain requests, so that every content type can be sent."""

    def __init__(self, session: aiohttp.ClientSession, url: str, namespace: str) -> None:
        self.session, self.url, self.namespace = session, url, namespace
        self.owner = ""

    def path(self, body: Any, *, named: bool = True) -> str:
        collection = f"{self.url}/{PATHS[body['kind']].format(self.namespace)}"
        return f"{collection}/{body['metadata']['name']}" if named else collection

    def of(self, body: Any) -> dict[str, Any]:
        """A copy for this namespace, without fixed node ports, with an owner that the garbage collector finds."""
        mine = copy.deepcopy(body)
        mine["metadata"]["namespace"] = self.namespace
        mine["metadata"]["ownerReferences"][0].update(apiVersion="v1", kind="ConfigMap", name="owner", uid=self.owner)
        for port in mine["spec"]["ports"] if mine["kind"] == "Service" else ():
            port.pop("nodePort", None)
        return dict(mine)

    async def send(
        self, method: str, url: str, body: Any, content: str = "application/json", **query: str
    ) -> tuple[int, Any]:
        async with self.session.request(
            method,
            url,
            data=json.dumps(body) if body is not None else None,
            headers={"Content-Type": content},
            params=query,
        ) as answer:
            return answer.status, await answer.json()

    async def create(self, body: Any) -> dict[str, Any]:
        status, answer = await self.send("POST", self.path(body, named=False), body)
        assert status == 201, answer
        return cleaned(answer)

    async def put(self, body: Any, **query: str) -> tuple[int, Any]:
        """Replace the object, whatever version of it is there."""
        for _ in range(20):
            _, now = await self.send("GET", self.path(body), None)
            newest = {**body["metadata"], "resourceVersion": now["metadata"]["resourceVersion"]}
            status, answer = await self.send("PUT", self.path(body), {**body, "metadata": newest}, **query)
            if status != 409:
                break
        return status, answer

    async def clear(self, live: Any, whole: Any) -> tuple[int, Any]:
        """What the executor does of the merged object, whatever version of it is there."""
        for _ in range(20):
            _, now = await self.send("GET", self.path(live), None)
            newest = {**whole["metadata"], "resourceVersion": now["metadata"]["resourceVersion"]}
            status, answer = await self.send(
                "PATCH", self.path(live), operations(live, {**whole, "metadata": newest}), CONTENT_TYPES["json"],
                fieldManager=FIELD_MANAGER,
            )  # fmt: skip
            if status != 409:
                break
        return status, answer

    async def try_apply(self, body: Any) -> tuple[int, Any]:
        content = "application/apply-patch+yaml"
        return await self.send("PATCH", self.path(body), body, content, fieldManager=FIELD_MANAGER, force="true")

    async def apply(self, body: Any) -> dict[str, Any]:
        status, answer = await self.try_apply(body)
        assert status == 200, answer
        return cleaned(answer)


def cleaned(answer: Any) -> dict[str, Any]:
    answer["metadata"].pop("managedFields", None)
    return dict(answer)


@pytest.fixture
async def api(server: Server, namespace: str, tmp_path: Path) -> AsyncIterator[Api]:
    connector = aiohttp.TCPConnector(ssl=server.admin.context(tmp_path))
    async with aiohttp.ClientSession(connector=connector) as session:
        plain = Api(session, server.url, namespace)
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner", "namespace": namespace}}
        plain.owner = (await plain.create(owner))["metadata"]["uid"]
        yield plain


MERGE_KEYS = {"containerPort", "mountPath", "port"}

EVERYTHING = [STATEFUL_SET, SERVICE, DISRUPTION_BUDGET, NETWORK_POLICY, ENDPOINTS, CONFIG_MAP]
each_kind = pytest.mark.parametrize("body", EVERYTHING, ids=lambda body: body["kind"])


# --- the table -------------------------------------------------------------------------------------------------------


def merged_lists(schema: Any, schemas: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(path, schema) of every list that is reachable in a kind, status aside."""
    while schema and ("$ref" in schema or "allOf" in schema):
        reference = schema.get("$ref") or schema["allOf"][0]["$ref"]
        schema = {**{k: v for k, v in schema.items() if k.startswith("x-")}, **schemas[reference.rpartition("/")[2]]}
    if path.count(".") > 14:
        return
    if schema.get("type") == "array":
        yield path, schema
        if schema.get("x-kubernetes-list-type") == "map":  # what is in an atomic list is replaced with it
            yield from merged_lists(schema["items"], schemas, path)
    for name, member in (schema.get("properties") or {}).items():
        if name not in ("status", "managedFields"):
            yield from merged_lists(member, schemas, f"{path}.{name}")


def shape_at(shape: Shape, path: str) -> Shape:
    for name in path.split(".")[1:]:
        shape = shape.at(name)
        path_shape = shape
        shape = shape.item if shape.item is not None else shape
    return path_shape


@pytest.mark.parametrize("body", [STATEFUL_SET, SERVICE, DISRUPTION_BUDGET, NETWORK_POLICY], ids=lambda b: b["kind"])
async def test_the_table_is_the_servers(api: Api, body: Any) -> None:
    group = "api/v1" if body["apiVersion"] == "v1" else f"apis/{body['apiVersion']}"
    async with api.session.get(f"{api.url}/openapi/v3/{group}") as answer:
        schemas = (await answer.json())["components"]["schemas"]
    root = next(
        schema
        for schema in schemas.values()
        for each in schema.get("x-kubernetes-group-version-kind", ())
        if each["kind"] == body["kind"]
    )
    compared = 0
    for path, schema in merged_lists(root, schemas, ""):
        kind = schema.get("x-kubernetes-list-type", "atomic")
        shape = shape_at(shape_of(body), path)
        assert shape.unique is (kind == "set"), path
        if kind == "map" and "conditions" not in path:
            assert shape.keys == tuple(schema["x-kubernetes-list-map-keys"]), path
            compared += 1
        else:
            assert shape.keys == (), path
        if "merge" in (schema.get("x-kubernetes-patch-strategy") or "") and not shape.unique:
            assert shape.patch_key == schema.get("x-kubernetes-patch-merge-key", ""), path
        elif not shape.unique:
            assert shape.patch_key == "", path
    assert compared >= {"StatefulSet": 20}.get(body["kind"], 1)


# --- what an apply cannot do --------------------------------------------------------------------------------------


def container(body: Any) -> Any:
    return body["spec"]["template"]["spec"]["containers"][0]


def a_port_gets_another_number(body: Any) -> None:
    container(body)["ports"][0]["containerPort"] = 7443


def a_service_port_gets_another_number(body: Any) -> None:
    body["spec"]["ports"][0]["port"] = 7443


def a_volume_gets_another_source(body: Any) -> None:
    body["spec"]["template"]["spec"]["volumes"][2] = {"name": "config", "configMap": {"name": "theirs"}}


def a_probe_becomes_another_probe(body: Any) -> None:
    container(body)["readinessProbe"] = {"exec": {"command": ["true"]}, "periodSeconds": 3}


def a_variable_gets_another_source(body: Any) -> None:
    container(body)["env"][1] = {"name": "B", "value": "theirs"}


def a_budget_is_turned_round(body: Any) -> None:
    del body["spec"]["maxUnavailable"]
    body["spec"]["minAvailable"] = 1


CLASHES = [
    (STATEFUL_SET, a_port_gets_another_number, "spec.template.spec.containers[controller].ports[7443,TCP]"),
    (SERVICE, a_service_port_gets_another_number, "spec.ports[7443,TCP]"),
    (STATEFUL_SET, a_volume_gets_another_source, "spec.template.spec.volumes[config].configMap"),
    (STATEFUL_SET, a_probe_becomes_another_probe, "spec.template.spec.containers[controller].readinessProbe.exec"),
    (STATEFUL_SET, a_variable_gets_another_source, "spec.template.spec.containers[controller].env[B].value"),
    (DISRUPTION_BUDGET, a_budget_is_turned_round, "spec.minAvailable"),
]


@pytest.mark.parametrize(("body", "change", "path"), CLASHES, ids=lambda each: getattr(each, "__name__", None))
async def test_what_stands_in_the_way_of_an_apply_goes_and_nothing_else(
    api: Api, body: Any, change: Any, path: str
) -> None:
    """Somebody gives an item of ours another key, or chooses another member of a union: the merge is refused."""
    wanted = api.of(body)
    await api.create(stamped(wanted))
    live = await api.apply(stamped(wanted))
    change(live)
    live["metadata"]["labels"]["theirs"] = "stays"
    if body is STATEFUL_SET:
        container(live)["env"].append({"name": "THEIRS", "value": "stays"})
        live["spec"]["template"]["spec"]["containers"].append({"name": "sidecar", "image": "theirs:1"})
    status, answer = await api.put(live, fieldManager="somebody")
    assert status == 200, answer
    drifted = cleaned(answer)
    assert first_difference(wanted, observed(drifted))
    status, answer = await api.try_apply(stamped(wanted))
    assert status == 422, answer  # else the table of clashes names too much
    _, drifted = await api.send("GET", api.path(wanted), None)
    whole, removed = laid_over(drifted, stamped(wanted))
    assert removed == [path]
    status, answer = await api.clear(drifted, whole)
    assert status == 200, answer
    mended = await api.apply(stamped(wanted))
    assert first_difference(wanted, observed(mended)) is None
    assert mended["metadata"]["labels"]["theirs"] == "stays"
    if body is STATEFUL_SET:
        assert {"name": "THEIRS", "value": "stays"} in container(mended)["env"]
        assert [each["name"] for each in mended["spec"]["template"]["spec"]["containers"]] == ["controller", "sidecar"]


@each_kind
async def test_where_nothing_clashes_nothing_goes(api: Api, body: Any) -> None:
    wanted = api.of(body)
    live = await api.create(stamped(wanted))
    whole, removed = laid_over(live, stamped(wanted))
    assert removed == []
    status, answer = await api.put(whole)
    assert status == 200, answer
    assert {key: answer.get(key) for key in ("spec", "data", "subsets")} == {
        key: live.get(key) for key in ("spec", "data", "subsets")
    }


def our_port_moves(body: Any) -> None:
    container(body)["ports"][0]["containerPort"] = 7443


def our_volume_changes(body: Any) -> None:
    body["spec"]["template"]["spec"]["volumes"][2] = {"name": "config", "configMap": {"name": "ours"}}


def our_probe_changes(body: Any) -> None:
    container(body)["readinessProbe"] = {"exec": {"command": ["true"]}}


def our_variable_changes(body: Any) -> None:
    container(body)["env"][1] = {"name": "B", "value": "new"}


def our_service_port_moves(body: Any) -> None:
    body["spec"]["ports"][0]["port"] = 7443


@pytest.mark.parametrize("applied_before", [False, True])
@pytest.mark.parametrize(
    ("body", "change"),
    [
        (STATEFUL_SET, our_port_moves),
        (STATEFUL_SET, our_volume_changes),
        (STATEFUL_SET, our_probe_changes),
        (STATEFUL_SET, our_variable_changes),
        (SERVICE, our_service_port_moves),
        (DISRUPTION_BUDGET, a_budget_is_turned_round),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
async def test_what_we_rename_ourselves_arrives(api: Api, body: Any, change: Any, applied_before: bool) -> None:
    """Through an apply, or where what the server filled in stands in the way, through the PUT before it."""
    wanted = api.of(body)
    await api.create(stamped(wanted))
    _, live = await api.send("GET", api.path(wanted), None)
    entries = migrated(live["metadata"]["managedFields"])
    operations = [{"op": "replace", "path": "/metadata/managedFields", "value": entries}]
    assert (await api.send("PATCH", api.path(wanted), operations, CONTENT_TYPES["json"]))[0] == 200
    if applied_before:
        await api.apply(stamped({**wanted, "metadata": {**wanted["metadata"], "annotations": {"once": "more"}}}))
    changed = copy.deepcopy(wanted)
    change(changed)
    status, answer = await api.try_apply(stamped(changed))
    if status == 422:
        _, live = await api.send("GET", api.path(wanted), None)
        whole, removed = laid_over(live, stamped(changed))
        assert removed, answer
        status, answer = await api.put(whole, fieldManager=FIELD_MANAGER)
        assert status == 200, answer
        status, answer = await api.try_apply(stamped(changed))
    assert status == 200, answer
    assert first_difference(changed, observed(cleaned(answer))) is None


# --- comparing -------------------------------------------------------------------------------------------------------


@each_kind
async def test_what_was_posted_or_applied_is_not_written_again(api: Api, body: Any) -> None:
    wanted = api.of(body)
    live = await api.create(stamped(wanted))
    assert first_difference(wanted, observed(live)) is None
    action = settle(
        {**wanted, "metadata": {**wanted["metadata"], "labels": {"new": "label"}}}, observed(live), api.owner
    )
    assert action is not None
    applied = await api.apply(action.body)  # type: ignore[union-attr]
    changed = {**wanted, "metadata": {**wanted["metadata"], "labels": {"new": "label"}}}
    assert first_difference(changed, observed(applied)) is None
    assert (await api.apply(action.body))["metadata"]["resourceVersion"] == applied["metadata"]["resourceVersion"]  # type: ignore[union-attr]


@pytest.mark.parametrize("field", ["env", "volumeMounts", "ports"])
async def test_an_apply_restores_the_order_of_a_keyed_list_only_where_the_comparison_says_so(
    api: Api, field: str
) -> None:
    """Whatever the comparison calls equal may stay; whatever it calls different, an apply must be able to change."""
    wanted = stamped(api.of(STATEFUL_SET))
    await api.create(wanted)
    live = await api.apply(wanted)
    container = live["spec"]["template"]["spec"]["containers"][0]
    container[field].reverse()
    status, answer = await api.put(live)
    assert status == 200, answer
    if first_difference(wanted, observed(cleaned(answer))):
        again = await api.apply(wanted)
        assert first_difference(wanted, observed(again)) is None


@each_kind
async def test_every_difference_can_be_repaired_by_one_apply(api: Api, body: Any) -> None:
    """Drift in every leaf that the server lets anybody change is noticed, and one apply ends it."""
    wanted = api.of(body)
    await api.create(stamped(wanted))
    live = await api.apply(stamped(wanted))
    drifted = 0
    for path, value in leaves({key: wanted[key] for key in wanted if key not in ("apiVersion", "kind")}):
        if path[-1] in ("name", "namespace", "uid") or path[1] in ("volumeClaimTemplates", "serviceName"):
            continue
        other = copy.deepcopy(live)
        place = other
        try:
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else "7"
        except (KeyError, IndexError):
            continue
        status, answer = await api.put(other)
        if status != 200:
            continue  # the server itself refuses this drift
        if cleaned(answer)["metadata"].get("generation") == live["metadata"].get("generation") and path[0] == "spec":
            continue  # nothing changed: the server reset it
        drifted += 1
        why = first_difference(wanted, observed(answer))
        assert why, f"drift of {path} is not noticed"
        status, answer = await api.try_apply(stamped(wanted))
        if status == 422 and path[-1] in MERGE_KEYS:
            # Somebody renamed an item. An apply adds ours anew, and the two exclude one another: for people to solve.
            status, answer = await api.put(live)
            assert status == 200, answer
            continue
        assert status == 200, (path, why, answer["message"])
        left = first_difference(wanted, observed(answer))
        assert left is None, f"drift of {path} ({why}) is not repaired: {left}"
        status, answer = await api.put(live)  # an apply leaves what others added
        assert status == 200, answer
    assert drifted >= {"StatefulSet": 30, "Endpoints": 2, "PodDisruptionBudget": 3}.get(body["kind"], 4)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict):
        for key, member in value.items():
            yield from leaves(member, (*path, key))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from leaves(member, (*path, index))
    else:
        yield path, value


# --- patches ---------------------------------------------------------------------------------------------------------


def pod(**fields: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": fields}}}


def controller(**fields: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "controller", **fields}])


STRATEGIC = {
    "new container first": pod(containers=[{"name": "side", "image": "s"}]),
    "two new containers": pod(containers=[{"name": "b", "image": "s"}, {"name": "a", "image": "s"}]),
    "new after known": pod(containers=[{"name": "controller", "tty": True}, {"name": "z", "image": "s"}]),
    "delete container": pod(containers=[{"name": "side", "image": "s"}, {"$patch": "delete", "name": "controller"}]),
    "delete what is not there": pod(volumes=[{"$patch": "delete", "name": "nothing"}]),
    "replace containers": pod(containers=[{"name": "only", "image": "s"}, {"$patch": "replace"}]),
    "env change, add, delete": controller(
        env=[{"name": "A", "value": "2"}, {"name": "C", "value": "3"}, {"name": "B", "$patch": "delete"}]
    ),
    "env order": controller(
        **{"$setElementOrder/env": [{"name": "B"}, {"name": "A"}], "env": [{"name": "A", "value": "9"}]}
    ),
    "order alone": controller(**{"$setElementOrder/env": [{"name": "B"}, {"name": "A"}]}),
    "order and new": controller(
        **{
            "$setElementOrder/env": [{"name": "N"}, {"name": "A"}, {"name": "B"}],
            "env": [{"name": "N", "value": "n"}],
        }
    ),
    "order with a stranger": controller(
        **{
            "$setElementOrder/env": [{"name": "B"}, {"name": "X"}],
            "env": [{"name": "B", "value": "n", "valueFrom": None}],
        }
    ),
    "null removes": pod(tolerations=None, nodeSelector=None, priorityClassName=None),
    "atomic list": pod(tolerations=[{"key": "c", "operator": "Exists"}]),
    "args are atomic": controller(args=["k0s"]),
    "mounts by path": controller(
        volumeMounts=[{"name": "data", "mountPath": "/data"}, {"mountPath": "/etc/k0s", "name": "tmp"}]
    ),
    "ports by number": controller(ports=[{"containerPort": 6443, "name": "kube"}, {"containerPort": 99}]),
    "volume source exchanged without retainKeys": pod(volumes=[{"name": "run", "hostPath": {"path": "/r"}}]),
    "volume source with retainKeys": pod(
        volumes=[{"$retainKeys": ["name", "hostPath"], "name": "run", "hostPath": {"path": "/r"}}]
    ),
    "retainKeys not kept": pod(volumes=[{"$retainKeys": ["name"], "name": "run", "hostPath": {"path": "/r"}}]),
    "volume source by null": pod(volumes=[{"name": "run", "emptyDir": None, "hostPath": {"path": "/r"}}]),
    "spread by topology": pod(
        topologySpreadConstraints=[
            {"topologyKey": "zone", "maxSkew": 3, "whenUnsatisfiable": "DoNotSchedule"},
            {"topologyKey": "host", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"},
        ]
    ),
    "map replaced": pod(nodeSelector={"$patch": "replace", "only": "this"}),
    "map deleted": pod(affinity={"$patch": "delete"}),
    "map merged": pod(nodeSelector={"more": "x", "disk": None}),
    "labels": {"metadata": {"labels": {"empty": None, "x": "y"}, "annotations": {"n": "m"}}},
    "finalizers": {"metadata": {"finalizers": ["example.org/b", "example.org/a"]}},
    "finalizers deleted": {"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.org/z"]}},
    "finalizers deleted and added": {
        "metadata": {
            "$deleteFromPrimitiveList/finalizers": ["example.org/z"],
            "$setElementOrder/finalizers": ["example.org/y", "example.org/x"],
            "finalizers": ["example.org/y"],
        }
    },
    "resources": controller(resources={"limits": {"memory": "1Gi", "cpu": "0.5"}}),
    "nulls in what is new": pod(containers=[{"name": "n", "image": "i", "stdin": None, "resources": {"limits": None}}]),
    "directive in what is new": pod(securityContext={"windowsOptions": {"$patch": "delete"}}),
    "number for text": controller(image=3),
    "item without key": pod(containers=[{"image": "x"}]),
    "unknown directive": pod(containers=[{"$patch": "explode", "name": "controller"}]),
    "list for mapping": pod(securityContext=[]),
    "pull secrets": pod(imagePullSecrets=[{"name": "b"}, {"name": "a"}]),
    "aliases by ip": pod(hostAliases=[{"ip": "10.0.0.1", "hostnames": ["a"]}]),
    "probe": controller(readinessProbe={"httpGet": {"path": "/x"}, "periodSeconds": 3}),
    "probe exchanged": controller(readinessProbe={"httpGet": None, "tcpSocket": {"port": 6443}}),
    "capabilities are atomic": controller(securityContext={"capabilities": {"add": ["KILL"]}}),
}

MERGE = {
    "replicas": {"spec": {"replicas": 5}},
    "null removes": {"metadata": {"labels": {"empty": None, "nothing": None}}},
    "list replaced": pod(containers=[{"name": "only", "image": "i"}]),
    "mapping for null": pod(nodeSelector={"a": "b"}, affinity=None),
    "wrong type": {"spec": {"replicas": "many"}},
}

BASE = "/spec/template/spec"
JSON: dict[str, list[Any]] = {
    "add to list": [{"op": "add", "path": f"{BASE}/containers/0/args/1", "value": "x"}],
    "append": [{"op": "add", "path": f"{BASE}/containers/0/args/-", "value": "x"}],
    "negative": [{"op": "replace", "path": f"{BASE}/containers/0/args/-1", "value": "x"}],
    "add negative": [{"op": "add", "path": f"{BASE}/containers/0/args/-1", "value": "x"}],
    "out of range": [{"op": "add", "path": f"{BASE}/containers/0/args/9", "value": "x"}],
    "escaped": [{"op": "add", "path": "/metadata/labels/a~1b", "value": "x"}],
    "remove": [{"op": "remove", "path": f"{BASE}/nodeSelector"}],
    "remove nothing": [{"op": "remove", "path": f"{BASE}/priorityClassName"}],
    "replace nothing": [{"op": "replace", "path": f"{BASE}/priorityClassName", "value": "x"}],
    "add below nothing": [{"op": "add", "path": f"{BASE}/nothing/x", "value": "x"}],
    "move": [{"op": "move", "from": f"{BASE}/containers/0/args/0", "path": f"{BASE}/containers/0/args/2"}],
    "copy": [
        {"op": "copy", "from": f"{BASE}/volumes/0", "path": f"{BASE}/volumes/-"},
        {"op": "replace", "path": f"{BASE}/volumes/4/name", "value": "again"},
    ],
    "test holds": [
        {"op": "test", "path": "/spec/replicas", "value": 3},
        {"op": "replace", "path": "/spec/replicas", "value": 1},
    ],
    "test fails": [{"op": "test", "path": "/spec/replicas", "value": 4}],
    "unknown": [{"op": "explode", "path": "/spec/replicas"}],
    "no list": {"op": "add"},  # type: ignore[dict-item]
}

CASES = [
    pytest.param(type, patch, id=f"{type}: {name}")
    for type, patches in (("strategic", STRATEGIC), ("merge", MERGE), ("json", JSON))
    for name, patch in patches.items()
]


async def both(api: Api, live: Any, type: str, patch: Any) -> tuple[Any, Any]:
    """The server's answer to the patch, and to a replacement by what we make of it; None for a refusal. A dry run."""
    status, theirs = await api.send("PATCH", api.path(live), patch, CONTENT_TYPES[type], dryRun="All")
    if status != 200:
        theirs = None
    try:
        patched = patch_types.apply(live, type=type, patch=patch)
    except PatchError:
        return theirs, None
    if not isinstance(patched.get("metadata"), dict) or api.path(patched) != api.path(live):
        return theirs, None
    status, ours = await api.put(patched, dryRun="All")
    return theirs, ours if status == 200 else None


def comparable(answer: Any) -> Any:
    if answer is None:
        return None
    answer = cleaned(answer)
    answer.pop("status", None)
    for name in ("generation", "resourceVersion"):
        answer["metadata"].pop(name, None)
    return answer


@pytest.fixture
async def live(api: Api) -> dict[str, Any]:
    body = api.of(STATEFUL_SET)
    body["metadata"]["finalizers"] = ["example.org/x", "example.org/z"]
    return await api.create(body)


@pytest.fixture(autouse=True)
async def _free_of_finalizers(api: Api, request: pytest.FixtureRequest) -> AsyncIterator[None]:
    yield
    if "live" in request.fixturenames:
        patch = {"metadata": {"finalizers": None}}
        await api.send("PATCH", api.path(STATEFUL_SET), patch, CONTENT_TYPES["merge"])


@pytest.mark.parametrize(("type", "patch"), CASES)
async def test_a_patch_does_here_what_it_does_there(api: Api, live: Any, type: str, patch: Any) -> None:
    theirs, ours = await both(api, live, type, patch)
    assert comparable(ours) == comparable(theirs)


@pytest.mark.parametrize(
    "patch",
    [
        {"spec": {"ports": [{"port": 6443, "name": "kube"}]}},
        {"spec": {"ports": [{"port": 99, "name": "x"}]}},
        {"spec": {"ports": [{"port": 6443, "$patch": "delete"}]}},
        {"spec": {"selector": {"more": "x"}, "externalTrafficPolicy": "Local"}},
        {"spec": {"ports": [{"$patch": "replace"}, {"port": 1, "name": "one"}]}},
    ],
)
async def test_services_are_patched_by_port(api: Api, patch: Any) -> None:
    body = api.of(SERVICE)
    service = await api.create(body)
    theirs, ours = await both(api, service, "strategic", patch)
    assert theirs is not None
    for answer in (theirs, ours):  # a new port's node port is drawn anew for each request
        for port in answer["spec"]["ports"]:
            port.pop("nodePort", None)
    assert comparable(ours) == comparable(theirs)


async def test_the_selector_of_a_disruption_budget_is_replaced(api: Api) -> None:
    body = api.of(DISRUPTION_BUDGET)
    budget = await api.create(body)
    patch = {"spec": {"selector": {"matchLabels": {"only": "this"}}}}
    theirs, ours = await both(api, budget, "strategic", patch)
    assert theirs["spec"]["selector"] == {"matchLabels": {"only": "this"}}
    assert comparable(ours) == comparable(theirs)
