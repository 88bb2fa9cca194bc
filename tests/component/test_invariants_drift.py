"""Drift: whatever somebody does to an object of ours is undone, at the price of one write, and nothing else happens.

The drifts are worked out from what the planner wants (`drifting.py`): every value changed, every value or place
removed, and something added wherever the API knows only the whole. One tenant is hit in rounds: in each of them every
object of it suffers another drift at the same moment. All rounds take minutes and belong to the sweeps; a sample of
them, spread over everything, is run for every commit.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from hosted_cp.hosting.settings import Settings
from hosted_cp.kube.errors import Forbidden, Invalid
from hosted_cp.kube.resources import (
    CLUSTER,
    NETWORK_POLICY,
    POD_DISRUPTION_BUDGET,
    SECRET,
    SERVICE,
    STATEFUL_SET,
    Resource,
    resource_for,
)
from hosted_cp.operator import Operator
from hosted_cp.pki.facts import secret_facts
from tests.component.drifting import Drift, drifts, wanted_of
from tests.component.hosting import CATALOGUE, Object, Stage, conditions
from tests.component.snapshots import data_of, everything, once_only

#: Whose name stands in the managedFields of what was done by hand.
SOMEBODY = "somebody"

Ident = tuple[Resource, str]

SETTINGS = Settings(catalogue=CATALOGUE, network_policies=True)
#: A tenant that has every kind of object, and values of every kind in them.
SPEC: Object = {
    "replicas": 2,
    "resources": {"limits": {"cpu": "1000m", "memory": "0.5Gi"}},
    "kubeconfigSecretMetadata": {"labels": {"shown": "here"}, "annotations": {"note": "there"}},
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app": "k0smotron"}},
        }
    ],
    "mounts": [{"path": "/scratch", "emptyDir": {"sizeLimit": "0.5Gi"}}],
}
METADATA: Object = {"labels": {"team": "blue"}, "annotations": {"owner": "anna"}}
OWNED = {
    (SERVICE, "kmc-a-nodeport"), (SERVICE, "kmc-a-etcd"), (STATEFUL_SET, "kmc-a"), (STATEFUL_SET, "kmc-a-etcd"),
    (POD_DISRUPTION_BUDGET, "kmc-a"), (POD_DISRUPTION_BUDGET, "kmc-a-etcd"), (NETWORK_POLICY, "kmc-a"),
    (NETWORK_POLICY, "kmc-a-etcd"), (SECRET, "a-kubeconfig"), (SECRET, "kmc-a-config"), (SECRET, "kmc-a-etcd-permit"),
    *((SECRET, f"a-{each}") for each in ("ca", "proxy", "sa", "etcd")),
    *((SECRET, f"a-{each}") for each in ("apiserver-etcd-client", "etcd-server", "etcd-peer")),
}  # fmt: skip
AUTHORITIES = {(SECRET, f"a-{each}") for each in ("ca", "proxy", "sa", "etcd")}


# -- what an object is -----------------------------------------------------------------------------------------------


def ident(body: Object, resource: Resource) -> Ident:
    return resource, body["metadata"]["name"]


def content(body: Object) -> Object:
    """All that counts of an object, to the letter: not its versions, and not what others say of it."""
    metadata = {
        key: body["metadata"].get(key)
        for key in ("name", "namespace", "uid", "labels", "annotations", "ownerReferences", "finalizers")
    }
    rest = {key: value for key, value in body.items() if key not in ("metadata", "status", "apiVersion", "kind")}
    return {"metadata": metadata, **rest}


def meaning(body: Object) -> Object:
    """The same of an object that was made anew: another UID, another key, another address inside the cluster."""
    same = content(body)
    del same["metadata"]["uid"]
    if "data" in same:
        same["data"] = _shown(body)
    if "clusterIP" in same.get("spec", {}) and same["spec"]["clusterIP"] != "None":
        same["spec"] = {key: value for key, value in same["spec"].items() if key not in ("clusterIP", "clusterIPs")}
    return same


def _shown(secret: Object) -> Object:
    """What random material is for: who is named by it, for what, signed by whom."""
    data = data_of(secret)
    facts = secret_facts(type=secret["type"], data=data)
    shown: Object = {"faults": facts.faults}
    for key, value in data.items():
        if (certificate := facts.certificates.get(key)) is not None:
            shown[key] = (
                certificate.subject, certificate.organizations, certificate.issuer, certificate.authority_key_id,
                certificate.dns_names, certificate.ip_addresses, certificate.usages, certificate.key_algorithm,
            )  # fmt: skip
        elif (config := facts.kubeconfigs.get(key)) is not None:
            assert config.client is not None
            shown[key] = (
                config.server, config.ca_fingerprint, config.cluster, config.user, config.context,
                config.client.subject, config.client.organizations, config.client.authority_key_id,
            )  # fmt: skip
        elif key in facts.public_keys:
            certificate = facts.certificates.get("tls.crt")
            shown[key] = certificate is None or certificate.public_key == facts.public_keys[key]
        elif key == "cluster-token":
            shown[key] = len(value)
        else:
            shown[key] = value
    return shown


async def owned(stage: Stage, name: str) -> dict[Ident, Object]:
    """All objects that the tenant controls, of every kind that it can have."""
    uid = (await stage.admin.get(CLUSTER, stage.namespace, name))["metadata"]["uid"]
    kinds = (SERVICE, SECRET, STATEFUL_SET, POD_DISRUPTION_BUDGET, NETWORK_POLICY)
    lists = await asyncio.gather(*(stage.admin.list(kind, stage.namespace) for kind in kinds))
    return {
        (kind, body["metadata"]["name"]): body
        for kind, bodies in zip(kinds, lists, strict=True)
        for body in bodies
        if any(owner["uid"] == uid for owner in body["metadata"].get("ownerReferences", ()))
    }


# -- one by one ------------------------------------------------------------------------------------------------------


def _leaves_something_in_the_way(drift: Drift) -> bool:
    """A volume without a source gets one by the server's default, which has to go before ours comes (decision 0010)."""
    return drift.how == "removed" and drift.path[3:4] == ("volumes",) and len(drift.path) == 6


@dataclass(kw_only=True)
class Patient:
    """The tenant that is hit, as it was, and what can be done to it."""

    stage: Stage
    was: dict[Ident, Object]
    #: What is still to be done to each object.
    todo: dict[Ident, list[Drift]]
    #: Objects that the operator has applied before: the first apply of each is preceded by the migration of its fields.
    applied: set[Ident] = field(default_factory=set)
    #: What the API server did not let somebody do, and what changed nothing because the server has the same default.
    refused: list[str] = field(default_factory=list)
    without_effect: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    async def suffer(self, drifts_now: Mapping[Ident, Drift]) -> None:
        """One drift of each of these objects at once; all are repaired, with a write for each and no other."""
        since = self.stage.audit.mark()
        hit = await asyncio.gather(*(self._hit(key, drift) for key, drift in drifts_now.items()))
        struck = {key for key, effect in zip(drifts_now, hit, strict=True) if effect}
        by_kind: dict[Resource, list[str]] = {}
        for resource, name in struck:
            by_kind.setdefault(resource, []).append(name)
        await asyncio.gather(*(self._healed(kind, names, drifts_now) for kind, names in by_kind.items()))
        writes = Counter(
            (each.resource, each.name)
            for each in self.stage.requests(since, without=("get", "list", "watch"))
            if each.code < 300 and each.subresource != "status" and each.resource != "events"
        )
        for key in struck:
            resource, name = key
            # (A conversion of the field entries belongs to the first apply in an object's life.)
            budget = 1 if resource == SECRET or key in self.applied else 2
            cleared = _leaves_something_in_the_way(drifts_now[key])
            spent = writes.pop((resource.plural, name), 0)
            assert 1 <= spent <= budget + cleared, f"{resource.kind} {name}, {drifts_now[key]}: {spent} writes"
            if cleared:  # by a patch, whose field entries the next apply converts again
                self.applied.discard(key)
            elif spent == budget:
                self.applied.add(key)
            self.done[drifts_now[key].how] += 1
        assert not writes, f"nothing else is written: {writes}"

    async def _hit(self, key: Ident, drift: Drift) -> bool:
        resource, name = key
        before = self.was[key]
        try:
            answer = await self.stage.admin.json_patch(
                resource, self.stage.namespace, name, [drift.operation], manager=SOMEBODY
            )
        except (Invalid, Forbidden):
            self.refused.append(f"{resource.kind} {name}: {drift}")
            return False
        if content(answer.body) == content(before):
            self.without_effect.append(f"{resource.kind} {name}: {drift}")
            return False
        return True

    async def _healed(self, kind: Resource, names: list[str], drifts_now: Mapping[Ident, Drift]) -> None:
        def true(body: Object) -> bool:
            key = (kind, body["metadata"]["name"])
            look = meaning if drifts_now[key].path[0] == "data" else content
            return bool(look(body) == look(self.was[key]))

        try:
            now = await self.stage.until(kind, names, lambda body: bool(body) and true(body), seconds=60)
        except AssertionError:
            left = [body for name in names if (body := await self.stage.find(kind, name)) is None or not true(body)]
            about = [
                f"{body['metadata']['name']}: {drifts_now[kind, body['metadata']['name']]}" for body in left if body
            ]
            raise AssertionError(f"{kind.kind}: not repaired (or gone, of {names}): {about}") from None
        for name, body in now.items():
            self.was[kind, name] = body


async def patient(stage: Stage, operator: Operator) -> Patient:
    """A tenant that has everything, Available and at rest."""
    await stage.create("a", SPEC, **METADATA)
    await stage.available("a")
    await stage.rest(operator)
    was = await owned(stage, "a")
    assert set(was) == OWNED
    todo: dict[Ident, list[Drift]] = {}
    for wanted in wanted_of(operator, stage.namespace, "a"):
        key = (resource_for(wanted.ref), wanted.ref.name)
        todo[key] = [drift for drift in drifts(wanted, was[key]) if not accepted(key, drift)]
    assert set(todo) == OWNED
    return Patient(stage=stage, was=was, todo=todo)


def accepted(key: Ident, drift: Drift) -> bool:
    """What nobody can undo, because what was there is known from nowhere else, or is read from there on purpose."""
    resource, _ = key
    place = ".".join(drift.path)
    return (
        # Authorities are made once: that theirs is lost is said (see below).
        (key in AUTHORITIES and drift.path[0] == "data")
        # Random, and kept by nobody else. It matters only to members that begin with an empty volume.
        or (drift.how == "changed" and place == "data.cluster-token")
        # What the content was made from is a note of that moment.
        or (resource == SECRET and place in {"metadata.annotations", "metadata.annotations.hosted-cp.io/desired-hash"})
        # When k0s last made its leaves is remembered here and nowhere else; without a time it starts anew.
        or (resource == STATEFUL_SET and "hosted-cp.io/leaves-made" in place)
        or (resource == STATEFUL_SET and drift.how == "removed" and place == "spec.template.metadata.annotations")
    )


def sample(todo: list[Drift], rounds: int) -> list[Drift]:
    """As many of them, spread over all, each way of drifting in turn; `rounds` of 0 means all."""
    if not rounds or rounds >= len(todo):
        return todo
    ways = [[each for each in todo if each.how == how] for how in ("changed", "removed", "added to")]
    ways = [each for each in ways if each]
    chosen = []
    for number in range(rounds):
        way = ways[number % len(ways)]
        chosen.append(way[number * 7919 % len(way)])
    return chosen


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("rounds", [10, pytest.param(0, marks=pytest.mark.sweep)])
async def test_whatever_is_changed_removed_or_added_is_undone_with_one_write(stage: Stage, rounds: int) -> None:
    async with stage.operating(settings=SETTINGS) as operator:
        hit = await patient(stage, operator)
        secrets = once_only(await everything(stage))
        todo = {key: sample(each, rounds) for key, each in hit.todo.items()}
        for number in range(max(map(len, todo.values()))):
            await hit.suffer({key: each[number] for key, each in todo.items() if number < len(each)})
        await stage.available("a")
        await stage.rest(operator)
        assert hit.done.total() > (10 * len(OWNED) // 2 if rounds else 700), hit.done
        assert set(hit.done) == {"changed", "removed", "added to"}
        assert len(hit.refused) < hit.done.total() / 2, hit.refused
        now = once_only(await everything(stage))
        assert {name: now[name] for name in now if name != "kmc-a-etcd-permit"} == {
            name: secrets[name] for name in secrets if name != "kmc-a-etcd-permit"
        }
        since = stage.audit.mark()
        await asyncio.sleep(1)
        assert stage.spent(since, without=("watch",)) == {}, "and then there is peace"


#: What cannot be undone by laying ours over it alone: (resource, name, JSON patch).
IN_THE_WAY: dict[str, tuple[Resource, str, list[Object]]] = {
    # What the port is known by is another one now, so to the API it is theirs, and it is in the way of ours.
    "a port of another number": (
        SERVICE, "kmc-a-nodeport", [{"op": "replace", "path": "/spec/ports/0/port", "value": 6444}],
    ),
    "a port of another number and name": (
        SERVICE, "kmc-a-nodeport",
        [{"op": "replace", "path": f"/spec/ports/0/{key}", "value": value} for key, value in
         (("port", 6444), ("name", "theirs"))],
    ),
    "a probe of another kind": (
        STATEFUL_SET, "kmc-a",
        [
            {"op": "remove", "path": "/spec/template/spec/containers/0/readinessProbe/httpGet"},
            {
                "op": "add", "path": "/spec/template/spec/containers/0/readinessProbe/exec",
                "value": {"command": ["true"]},
            },
        ],
    ),
    "a budget of another kind": (
        POD_DISRUPTION_BUDGET, "kmc-a",
        [{"op": "remove", "path": "/spec/maxUnavailable"}, {"op": "add", "path": "/spec/minAvailable", "value": 1}],
    ),
    # What runs there is not taken for what was decided.
    "etcd's image": (
        STATEFUL_SET, "kmc-a-etcd",
        [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "x.example/etcd:v3.6.99"}],
    ),
}  # fmt: skip


async def test_what_is_in_the_way_of_ours_is_undone(stage: Stage) -> None:
    async with stage.operating(settings=SETTINGS) as operator:
        hit = await patient(stage, operator)
        for case, (resource, name, operations) in IN_THE_WAY.items():
            await stage.admin.json_patch(resource, stage.namespace, name, operations, manager=SOMEBODY)
            before = content(hit.was[resource, name])

            def back(body: Object, before: Object = before) -> bool:
                return bool(body and content(body) == before)

            await stage.until(resource, [name], back, seconds=60)
            await stage.rest(operator)
            since = stage.audit.mark()
            await asyncio.sleep(0.5)
            written = stage.requests(since, without=("get", "list", "watch"))
            assert [each for each in written if each.resource not in ("clusters", "events")] == [], case


#: What somebody calls by another name: (place of the name in the pod template of the controllers, another name).
RENAMED = {
    "a container": ("/spec/template/spec/containers/0/name", "theirs"),
    "a variable": ("/spec/template/spec/initContainers/0/env/0/name", "THEIRS"),
    "a mount": ("/spec/template/spec/containers/0/volumeMounts/3/mountPath", "/theirs"),
}


async def test_what_was_renamed_comes_back_and_the_other_name_is_somebody_elses(stage: Stage) -> None:
    """It cannot be told from what an injector has added under that name (decision 10): nobody fights over it."""
    async with stage.operating(settings=SETTINGS) as operator:
        hit = await patient(stage, operator)
        ours = hit.was[STATEFUL_SET, "kmc-a"]["spec"]["template"]["spec"]
        operations = [{"op": "replace", "path": place, "value": name} for place, name in RENAMED.values()]
        await stage.admin.json_patch(STATEFUL_SET, stage.namespace, "kmc-a", operations, manager=SOMEBODY)

        def back(body: Object) -> bool:
            pod = body["spec"]["template"]["spec"]
            return (
                {"controller", "theirs"} == {each["name"] for each in pod["containers"]}
                and {"PENDING", "THEIRS"} <= {each["name"] for each in pod["initContainers"][0]["env"]}
                and all(
                    each in next(c for c in pod["containers"] if c["name"] == "controller")["volumeMounts"]
                    for each in ours["containers"][0]["volumeMounts"]
                )
            )

        await stage.until(STATEFUL_SET, ["kmc-a"], back, seconds=60)
        await stage.rest(operator)
        since = stage.audit.mark()
        await asyncio.sleep(1)
        written = stage.requests(since, without=("get", "list", "watch"))
        # (What the status says of the pods that are made anew takes as long as they take.)
        assert [each for each in written if each.resource not in ("clusters", "events")] == [], "nobody fights over it"
        # Whoever put it there takes it away again: then there is nothing left of it.
        now = (await stage.admin.get(STATEFUL_SET, stage.namespace, "kmc-a"))["spec"]["template"]["spec"]
        index = [each["name"] for each in now["containers"]].index("theirs")
        gone = [{"op": "remove", "path": f"/spec/template/spec/containers/{index}"}]
        await stage.admin.json_patch(STATEFUL_SET, stage.namespace, "kmc-a", gone, manager=SOMEBODY)
        await stage.rest(operator)
        after = (await stage.admin.get(STATEFUL_SET, stage.namespace, "kmc-a"))["spec"]["template"]["spec"]
        assert [each["name"] for each in after["containers"]] == ["controller"]


# -- as a whole ------------------------------------------------------------------------------------------------------


async def test_a_deleted_object_is_made_again_as_it_was(stage: Stage) -> None:
    """Each alone, then all at once; with the same ports, the same database and the same authorities."""
    async with stage.operating(settings=SETTINGS) as operator:
        hit = await patient(stage, operator)
        secrets = {name: value for name, value in once_only(await everything(stage)).items() if "permit" not in name}
        rest = sorted(OWNED - AUTHORITIES)
        for gone in ([each] for each in rest):
            await _deleted(hit, gone)
        await _deleted(hit, rest)
        await stage.available("a")
        await stage.rest(operator)
        now = once_only(await everything(stage))
        assert {name: now[name] for name in secrets} == secrets, "nothing that is made once was made twice"
        since = stage.audit.mark()
        await asyncio.sleep(1)
        assert stage.spent(since, without=("watch",)) == {}


async def _deleted(hit: Patient, gone: list[Ident]) -> None:
    """Delete these; each is made again, once, and what else is written is bounded."""
    stage = hit.stage
    since = stage.audit.mark()
    for resource, name in gone:
        await stage.admin.delete(resource, stage.namespace, name)
    for resource, name in gone:
        before = hit.was[resource, name]

        def true(body: Object, before: Object = before) -> bool:
            return bool(body) and body["metadata"]["uid"] != before["metadata"]["uid"] and alike(body) == alike(before)

        await stage.until(resource, [name], true, seconds=60)
    await stage.available("a")
    hit.was |= await owned(stage, "a")
    written = [
        each for each in stage.requests(since, without=("get", "list", "watch"))
        if each.code < 300 and each.subresource != "status" and each.resource != "events"
    ]  # fmt: skip
    made = Counter((each.resource, each.name) for each in written if each.verb == "create")
    assert made == Counter((resource.plural, name) for resource, name in gone)
    # A Service that is made anew has another address in the cluster, which stands in config and StatefulSet.
    others = [each for each in written if each.verb != "create"]
    assert len(others) <= 4 * len(gone), others


def alike(body: Object) -> Object:
    """The meaning of an object without what follows from the Service's address inside the cluster."""
    shown = meaning(body)
    annotations = dict(shown["metadata"]["annotations"] or {})
    for each in ("hosted-cp.io/config-digest", "hosted-cp.io/desired-hash", "hosted-cp.io/own-metadata"):
        annotations.pop(each, None)
    shown["metadata"] = {**shown["metadata"], "annotations": annotations}
    if body["metadata"]["name"].endswith("-config"):
        shown["data"] = sorted(shown["data"])
    template = shown.get("spec", {}).get("template", {}).get("metadata", {}).get("annotations")
    if template is not None:
        for each in ("hosted-cp.io/config-digest", "hosted-cp.io/leaves-made"):
            template.pop(each, None)
    return shown


async def test_a_lost_authority_is_reported_and_never_replaced(stage: Stage) -> None:
    """Its return heals everything, and what others add and own is left alone meanwhile."""
    async with stage.operating(settings=SETTINGS) as operator:
        hit = await patient(stage, operator)
        for resource, name in sorted(AUTHORITIES):
            since = stage.audit.mark()
            await stage.admin.delete(resource, stage.namespace, name)

            def told(body: Object, name: str = name) -> bool:
                said = conditions(body)["CertificatesAvailable"]
                return said["status"] == "False" and f"Secret {name}: is gone" in said["message"]

            found = await stage.until(CLUSTER, ["a"], told)
            assert conditions(found["a"])["Available"]["status"] == "True", "what runs goes on running"
            await stage.rest(operator)
            assert await stage.find(resource, name) is None
            written = stage.requests(since, without=("get", "list", "watch"))
            assert {(each.resource, each.subresource) for each in written} <= {("clusters", "status"), ("events", "")}
            lost = hit.was[resource, name]
            metadata = {key: lost["metadata"][key] for key in ("name", "labels", "annotations", "ownerReferences")}
            await stage.admin.create(resource, {**lost, "metadata": {**metadata, "namespace": stage.namespace}})
            await stage.until(
                CLUSTER, ["a"], lambda body: conditions(body)["CertificatesAvailable"]["status"] == "True"
            )
        await stage.available("a")
        await stage.rest(operator)
        for key, body in (await owned(stage, "a")).items():
            same = meaning if key in AUTHORITIES else content
            assert same(body) == same(hit.was[key]), key


async def test_what_others_add_stays_and_what_is_no_longer_ours_is_not_touched(stage: Stage) -> None:
    async with stage.operating(settings=SETTINGS) as operator:
        hit = await patient(stage, operator)
        theirs = {"metadata": {"labels": {"theirs": "kept"}, "annotations": {"theirs.example/note": "kept"}}}
        since = stage.audit.mark()
        for resource, name in OWNED:
            await stage.admin.merge_patch(resource, stage.namespace, name, theirs, manager=SOMEBODY)
        await stage.rest(operator)
        assert stage.spent(since, without=("watch",)) == {}
        # A drift beside it is repaired, and theirs stays.
        for resource, name in OWNED:
            spoilt = {"metadata": {"labels": {"team": "red"}}}
            await stage.admin.merge_patch(resource, stage.namespace, name, spoilt, manager=SOMEBODY)
        for resource in {resource for resource, _ in OWNED}:
            names = [name for kind, name in OWNED if kind == resource]
            await stage.until(resource, names, lambda body: body["metadata"]["labels"]["team"] == "blue")
        await stage.rest(operator)
        for body in (await owned(stage, "a")).values():
            assert (
                body["metadata"]["labels"]["theirs"] == body["metadata"]["annotations"]["theirs.example/note"] == "kept"
            )
        # Without its owner it is somebody else's, until it is given back.
        for resource, name in [(SERVICE, "kmc-a-nodeport"), (STATEFUL_SET, "kmc-a"), (SECRET, "kmc-a-config")]:
            since = stage.audit.mark()
            taken = {"metadata": {"ownerReferences": None}}
            await stage.admin.merge_patch(resource, stage.namespace, name, taken, manager=SOMEBODY)
            found = await stage.until(
                CLUSTER, ["a"], lambda body: conditions(body)["Available"]["reason"] == "NameConflict"
            )
            assert name in conditions(found["a"])["Available"]["message"]
            await stage.rest(operator)
            written = stage.requests(since, without=("get", "list", "watch"))
            assert {(each.resource, each.subresource) for each in written} <= {("clusters", "status"), ("events", "")}
            back = {"metadata": {"ownerReferences": hit.was[resource, name]["metadata"]["ownerReferences"]}}
            await stage.admin.merge_patch(resource, stage.namespace, name, back, manager=SOMEBODY)
            await stage.available("a")


async def test_what_is_no_longer_wanted_goes_from_every_object(stage: Stage) -> None:
    """Also of objects that were made by POST: their fields are made those of an apply first."""
    async with stage.operating(settings=SETTINGS) as operator:
        hit = await patient(stage, operator)
        less = {
            "metadata": {"labels": {"team": None}, "annotations": {"owner": None}},
            "spec": {"resources": None, "mounts": None, "topologySpreadConstraints": None,
                     "kubeconfigSecretMetadata": None},
        }  # fmt: skip
        await stage.admin.merge_patch(CLUSTER, stage.namespace, "a", less, manager=SOMEBODY)
        await stage.available("a")
        await stage.rest(operator)
        found = await owned(stage, "a")
        assert set(found) == set(hit.was)
        for key, body in found.items():
            assert not {"team", "shown"} & set(body["metadata"]["labels"]), key
            assert not {"owner", "note"} & set(body["metadata"].get("annotations") or {}), key
        pod = found[STATEFUL_SET, "kmc-a"]["spec"]["template"]["spec"]
        assert pod["containers"][0]["resources"] == {"requests": {"cpu": "100m", "memory": "350Mi"}}
        assert "topologySpreadConstraints" not in pod
        assert "scratch" not in {each["name"] for each in pod["volumes"]}
        since = stage.audit.mark()
        touched = {"metadata": {"annotations": {"kubectl.kubernetes.io/touched": "yes"}}}
        await stage.admin.merge_patch(CLUSTER, stage.namespace, "a", touched, manager=SOMEBODY)
        await stage.rest(operator)
        assert stage.spent(since, without=("watch",)) == {}
