"""A pretend API server: objects in memory, changed by the rules that plans rely on.

What is true here is true of a real one (`tests/component` holds the same plans against one): every write makes a new
resourceVersion, a changed spec a new generation; preconditions are kept; POST allocates and fills in defaults;
server-side apply removes what its manager no longer wants and leaves what others have set; quantities come back in
their canonical form; what hangs from an owner that is gone is collected. What a server would refuse is refused.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, TypeAlias

import orjson

from hosted_cp.planning import quantity
from hosted_cp.planning.actions import FIELD_MANAGER, Object, Ref
from hosted_cp.planning.merge import NOTHING_SPECIAL, Shape, item_key, shape_of

Json: TypeAlias = dict[str, Any]

#: What cannot be changed once the object exists.
_MUTABLE_STATEFUL_SET = frozenset(
    {"replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit", "minReadySeconds"}
    | {"persistentVolumeClaimRetentionPolicy"}
)
_NODE_PORTS = range(30000, 32768)


class Refused(Exception):
    """The server says no; `reason` as in its Status."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason


@dataclass(kw_only=True)
class PretendServer:
    """One API server. Bodies that go in and out are copies."""

    objects: dict[Ref, Json] = field(default_factory=dict)
    #: UID -> what our manager has applied (or posted), to know what an apply no longer wants.
    applied: dict[str, Json] = field(default_factory=dict)
    #: RFC 3339.
    clock: Callable[[], str] = lambda: "2026-11-21T12:00:00Z"
    _version: int = 0
    #: The node port given out last.
    _ports: int = 31233
    _uids: int = 0

    def fork(self) -> PretendServer:
        """The same objects once more. Bodies are never changed in place, so they are shared."""
        return replace(self, objects=dict(self.objects), applied=dict(self.applied))

    def uids_from(self, number: int) -> None:
        """The next UID given is after this number: what another server gave before is nobody's here."""
        self._uids = number

    # --- reading ------------------------------------------------------------------------------------------------

    def get(self, ref: Ref) -> Json:
        return _plain(self._found(ref))

    def find(self, kind: str, name: str = "") -> Json | None:
        """The first object of this kind (and name), or None."""
        return next(iter(self.every(kind, name)), None)

    def every(self, kind: str, name: str = "") -> list[Json]:
        found = (body for ref, body in self.objects.items() if ref.kind == kind and name in ("", ref.name))
        return [_plain(body) for body in found]

    def _found(self, ref: Ref) -> Json:
        if ref not in self.objects:
            raise Refused("NotFound", f"{ref} not found")
        return self.objects[ref]

    # --- writing ------------------------------------------------------------------------------------------------

    def create(self, body: Object, *, manager: str = "kubectl-create") -> Json:
        """POST."""
        made: Json = _plain(body)
        ref = Ref.of(made)
        if ref in self.objects:
            raise Refused("AlreadyExists", f"{ref} already exists")
        longest = 63 if ref.kind in ("Service", "StatefulSet", "Pod") else 253
        if len(ref.name) > longest:
            raise Refused("Invalid", f"{ref}: metadata.name: must be no more than {longest} characters")
        self._uids += 1
        made.pop("status", None)
        made["metadata"] = {
            **made["metadata"],
            "uid": f"00000000-0000-4000-8000-{self._uids:012d}",
            "creationTimestamp": self.clock(),
            "managedFields": [{"manager": manager, "operation": "Update"}],
        }
        if "spec" in made:
            made["metadata"]["generation"] = 1
        if manager == FIELD_MANAGER:
            self.applied[made["metadata"]["uid"]] = _plain(body)
        return self._store(ref, made)

    def apply(self, body: Object, *, manager: str = FIELD_MANAGER) -> Json:
        """Server-side apply with `force`, after the POST's entry in managedFields was made one of an apply.

        The UID in the body is the precondition.
        """
        wanted: Json = _plain(body)
        ref, uid = Ref.of(wanted), wanted["metadata"].pop("uid")
        live = self._found(ref)
        if live["metadata"]["uid"] != uid:
            raise Refused("Conflict", f"{ref}: the UID in the precondition is another one")
        merged = _merge(_plain(live), self.applied.get(uid, {}), wanted, shape_of(wanted))
        managers = [each for each in live["metadata"]["managedFields"] if each["manager"] != manager]
        merged["metadata"]["managedFields"] = [*managers, {"manager": manager, "operation": "Apply"}]
        self.applied[uid] = wanted
        return self._update(ref, merged)

    def replace(self, body: Object) -> Json:
        """PUT, with UID and resourceVersion as preconditions."""
        wanted: Json = _plain(body)
        ref = Ref.of(wanted)
        live = self._found(ref)
        for name in ("uid", "resourceVersion"):
            if wanted["metadata"].get(name) != live["metadata"][name]:
                raise Refused("Conflict", f"{ref}: {name} is another one")
        wanted["metadata"] = {**live["metadata"], **wanted["metadata"]}
        for name in ("labels", "annotations", "ownerReferences", "finalizers"):
            if not wanted["metadata"].get(name):
                wanted["metadata"].pop(name, None)
        return self._update(ref, wanted)

    def merge_patch(self, ref: Ref, patch: Object, *, manager: str = "kubectl-patch", status: bool = False) -> Json:
        """RFC 7386 with optional UID and resourceVersion in the patch as preconditions. `status`: the subresource."""
        live = self._found(ref)
        metadata = patch.get("metadata") or {}
        for name in ("uid", "resourceVersion"):
            if name in metadata and metadata[name] != live["metadata"][name]:
                raise Refused("Conflict", f"{ref}: {name} is another one")
        allowed = {"status": patch["status"]} if status else {k: v for k, v in patch.items() if k != "status"}
        changed: Json = _merge_patch(_plain(live), allowed)
        if not status and all(each["manager"] != manager for each in changed["metadata"]["managedFields"]):
            changed["metadata"]["managedFields"].append({"manager": manager, "operation": "Update"})
        return self._update(ref, changed)

    def edit(self, ref: Ref, change: Callable[[Json], object]) -> Json:
        """Somebody changes an object as with `kubectl edit`."""
        body = self.get(ref)
        change(body)
        if all(each["manager"] != "kubectl-edit" for each in body["metadata"]["managedFields"]):
            body["metadata"]["managedFields"].append({"manager": "kubectl-edit", "operation": "Update"})
        return self._update(ref, body)

    def set_status(self, ref: Ref, status: Json) -> bool:
        """A controller of the cluster reports. Returns whether anything changed."""
        live = self._found(ref)
        if live.get("status") == status:
            return False
        self._update(ref, {**live, "status": _plain(status)})
        return True

    def delete(self, ref: Ref, *, uid: str | None = None, resource_version: str = "") -> None:
        """DELETE with background propagation."""
        live = self._found(ref)
        if uid is not None and live["metadata"]["uid"] != uid:
            raise Refused("Conflict", f"{ref}: the UID in the precondition is another one")
        if resource_version and live["metadata"]["resourceVersion"] != resource_version:
            raise Refused("Conflict", f"{ref}: the resourceVersion in the precondition is another one")
        if live["metadata"].get("finalizers"):
            if "deletionTimestamp" not in live["metadata"]:
                marked = _plain(live)
                marked["metadata"]["deletionTimestamp"] = self.clock()
                self._store(ref, marked)
            return
        self._remove(ref)

    def collect_garbage(self) -> bool:
        """Remove what hangs from owners that are gone. Returns whether anything was removed."""
        any_removed = False
        while True:
            uids = {body["metadata"]["uid"] for body in self.objects.values()}
            orphans = [
                ref
                for ref, body in self.objects.items()
                if (owners := body["metadata"].get("ownerReferences"))
                and not any(owner["uid"] in uids for owner in owners)
                and "deletionTimestamp" not in body["metadata"]
            ]
            if not orphans:
                return any_removed
            any_removed = True
            for ref in orphans:
                self.delete(ref)

    # --- within -------------------------------------------------------------------------------------------------

    def _update(self, ref: Ref, changed: Json) -> Json:
        live = self.objects[ref]
        _check_immutable(ref, live, changed)
        if changed["metadata"].get("deletionTimestamp") and not changed["metadata"].get("finalizers"):
            self._remove(ref)
            return _plain(changed)
        changed = _settled(changed, live)
        if {**changed, "metadata": None} == {**live, "metadata": None} and _said(changed) == _said(live):
            return _plain(live)  # a write that changes nothing makes no new version
        if changed.get("spec") != live.get("spec"):
            changed["metadata"]["generation"] = live["metadata"].get("generation", 0) + 1
        return self._store(ref, changed)

    def _store(self, ref: Ref, body: Json) -> Json:
        body = _settled(body, self.objects.get(ref))
        if ref.kind == "Service":
            self._allocate(ref, body)
        _check_valid(ref, body)
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        self.objects[ref] = body
        return _plain(body)

    def _remove(self, ref: Ref) -> None:
        del self.objects[ref]
        self._version += 1

    def _allocate(self, ref: Ref, body: Json) -> None:
        """Cluster IPs and node ports."""
        spec = body["spec"]
        if spec.get("clusterIP") != "None":
            taken = {ip for other in self.objects.values() for ip in (other.get("spec") or {}).get("clusterIPs", [])}
            old = (self.objects.get(ref) or {}).get("spec", {})
            given = old.get("clusterIPs") or [next(ip for n in range(1, 250) if (ip := f"10.43.0.{n}") not in taken)]
            spec["clusterIPs"] = spec.get("clusterIPs") or given
            spec["clusterIP"] = spec["clusterIPs"][0]
        else:
            spec["clusterIPs"] = ["None"]
        if spec["type"] not in ("NodePort", "LoadBalancer"):
            return
        others = {
            port["nodePort"]
            for other, each in self.objects.items()
            if other.kind == "Service" and other != ref
            for port in each["spec"]["ports"]
            if "nodePort" in port
        }
        old_ports = {port["name"]: port for port in ((self.objects.get(ref) or {}).get("spec") or {}).get("ports", [])}
        for port in spec["ports"]:
            if not port.get("nodePort"):
                port["nodePort"] = old_ports.get(port["name"], {}).get("nodePort") or self._free_port(others)
            if port["nodePort"] in others:
                raise Refused(
                    "Invalid", f'Service "{ref.name}" is invalid: spec.ports[0].nodePort: Invalid value: '
                    f"{port['nodePort']}: provided port is already allocated",
                )  # fmt: skip
            if port["nodePort"] not in _NODE_PORTS:
                raise Refused("Invalid", f"{ref}: nodePort {port['nodePort']} is not in the valid range 30000-32767")

    def _free_port(self, taken: set[int]) -> int:
        """One that was never given out: of three thousand, a real server hardly ever picks the one just set free."""
        self._ports = next(number for number in _NODE_PORTS if number > self._ports and number not in taken)
        return self._ports


def observable(body: Json) -> bytes:
    """The object as a watch would send it."""
    return orjson.dumps(body)


def secret_data(body: Json) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in (body.get("data") or {}).items()}


def encoded(data: Mapping[str, bytes]) -> dict[str, str]:
    return {key: base64.b64encode(value).decode() for key, value in data.items()}


def _plain(body: Object) -> Json:
    """Through JSON, as over the wire: nothing is shared with whoever made it."""
    plain: Json = orjson.loads(orjson.dumps(body, default=dict))
    return plain


def _said(body: Json) -> Json:
    """What counts as a change of metadata."""
    return {key: value for key, value in body["metadata"].items() if key not in ("resourceVersion", "managedFields")}


def _check_immutable(ref: Ref, live: Json, changed: Json) -> None:
    old, new = live.get("spec") or {}, changed.get("spec") or {}
    if ref.kind == "StatefulSet":
        settled = _settled(changed, live)["spec"]
        for name in {*old, *settled} - _MUTABLE_STATEFUL_SET:
            if old.get(name) != settled.get(name):
                raise Refused("Invalid", f"{ref}: updates to statefulset spec for {name} are forbidden")
    if ref.kind == "Service" and old.get("clusterIP") not in (None, new.get("clusterIP") or old.get("clusterIP")):
        raise Refused("Invalid", f"{ref}: spec.clusterIP is immutable")
    if ref.kind == "Secret" and live.get("type") != changed.get("type"):
        raise Refused("Invalid", f"{ref}: type is immutable")


def _check_valid(ref: Ref, body: Json) -> None:
    """Some of what validation catches beyond the schema."""
    owners = body["metadata"].get("ownerReferences") or []
    if sum(1 for owner in owners if owner.get("controller")) > 1:
        raise Refused("Invalid", f"{ref}: only one owner reference may be the controller")
    if ref.kind != "StatefulSet":
        return
    template = body["spec"]["template"]
    labels = template["metadata"]["labels"]
    if any(labels.get(key) != value for key, value in body["spec"]["selector"]["matchLabels"].items()):
        raise Refused("Invalid", f"{ref}: selector does not match template labels")
    claimed = [claim["metadata"]["name"] for claim in body["spec"].get("volumeClaimTemplates") or []]
    volumes = [*(volume["name"] for volume in template["spec"].get("volumes") or []), *claimed]
    if len(volumes) != len(set(volumes)):
        raise Refused("Invalid", f"{ref}: spec.template.spec.volumes: duplicate names")
    for container in [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]:
        paths = [mount["mountPath"] for mount in container.get("volumeMounts") or []]
        if len(paths) != len(set(paths)):
            raise Refused("Invalid", f"{ref}: volumeMounts of {container['name']}: mountPath must be unique")
        for mount in container.get("volumeMounts") or []:
            if mount["name"] not in volumes:
                raise Refused("Invalid", f"{ref}: volumeMounts of {container['name']}: {mount['name']} not found")


# --- server-side apply -----------------------------------------------------------------------------------------------


def _merge(live: Any, old: Any, new: Any, shape: Shape) -> Any:
    """`new` over `live`; what `old` had and `new` has not goes."""
    if isinstance(new, Mapping) and isinstance(live, Mapping) and not shape.whole:
        merged = dict(live)
        before = old if isinstance(old, Mapping) else {}
        for key in before:
            if key not in new and key in merged:
                left = _without(merged[key], before[key], shape.at(key))
                if left is None:
                    del merged[key]
                else:
                    merged[key] = left
        for key, value in new.items():
            merged[key] = _merge(merged.get(key), before.get(key), value, shape.at(key))
        return merged
    if isinstance(new, list) and isinstance(live, list) and shape.keys:
        return _merge_items(live, old if isinstance(old, list) else [], new, shape)
    if isinstance(new, list) and isinstance(live, list) and shape.unique:
        return [*(item for item in live if item in new or item not in (old or [])), *(i for i in new if i not in live)]
    return _plain(new)


def _merge_items(live: list[Any], old: list[Any], new: list[Any], shape: Shape) -> list[Any]:
    there = {item_key(item, shape): item for item in live}
    before = {item_key(item, shape): item for item in old}
    merged = []
    for item in new:
        key = item_key(item, shape)
        merged.append(_merge(there.get(key), before.get(key), item, shape.item or NOTHING_SPECIAL))
    wanted = {item_key(item, shape) for item in new}
    return merged + [item for key, item in there.items() if key not in wanted and key not in before]


def _without(live: Any, old: Any, shape: Shape) -> Any:
    """`live` without what `old` owned in it; None if nothing is left."""
    if isinstance(live, Mapping) and isinstance(old, Mapping) and not shape.whole:
        left = _merge(live, old, {}, shape)
        return left or None
    if isinstance(live, list) and isinstance(old, list) and shape.keys:
        return _merge_items(live, old, [], shape) or None
    return None


def _merge_patch(live: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, Mapping):
        return _plain(patch)
    merged = dict(live) if isinstance(live, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge_patch(merged.get(key), value)
    return merged


# --- what the server makes of what it is given -----------------------------------------------------------------------


def _settled(body: Json, live: Json | None) -> Json:
    """Canonical quantities, no empty metadata, defaults."""
    made: Json = _canonical(_plain(body), shape_of(body))
    for name in ("labels", "annotations", "ownerReferences", "finalizers"):
        if name in made["metadata"] and not made["metadata"][name]:
            del made["metadata"][name]
    match made["kind"]:
        case "Service":
            spec = made["spec"]
            for key, value in (
                ("type", "ClusterIP"), ("sessionAffinity", "None"), ("internalTrafficPolicy", "Cluster"),
                ("ipFamilies", ["IPv4"]), ("ipFamilyPolicy", "SingleStack"),
            ):  # fmt: skip
                spec.setdefault(key, value)
            for port in spec["ports"]:
                port.setdefault("protocol", "TCP")
                port.setdefault("targetPort", port["port"])
            if spec["type"] in ("NodePort", "LoadBalancer"):
                spec.setdefault("externalTrafficPolicy", "Cluster")
            made.setdefault("status", {"loadBalancer": {}})
        case "StatefulSet":
            spec = made["spec"]
            spec.setdefault("revisionHistoryLimit", 10)
            spec.setdefault("updateStrategy", {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
            spec.setdefault("persistentVolumeClaimRetentionPolicy", {"whenDeleted": "Retain", "whenScaled": "Retain"})
            spec.setdefault("serviceName", "")
            for claim in spec.get("volumeClaimTemplates") or []:
                claim.setdefault("apiVersion", "v1")
                claim.setdefault("kind", "PersistentVolumeClaim")
                claim["spec"].setdefault("volumeMode", "Filesystem")
                claim.setdefault("status", {"phase": "Pending"})
            _default_pod(spec["template"]["spec"])
            made.setdefault("status", {"replicas": 0, "availableReplicas": 0})
        case "PodDisruptionBudget":
            made.setdefault("status", {"currentHealthy": 0})
    return made


def _default_pod(pod: Json) -> None:
    for key, value in (
        ("restartPolicy", "Always"), ("dnsPolicy", "ClusterFirst"), ("schedulerName", "default-scheduler"),
        ("securityContext", {}), ("terminationGracePeriodSeconds", 30),
    ):  # fmt: skip
        pod.setdefault(key, value)
    if "serviceAccountName" in pod:
        pod["serviceAccount"] = pod["serviceAccountName"]
    else:
        pod.pop("serviceAccount", None)
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        container.setdefault("imagePullPolicy", "IfNotPresent")
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            if name in container:
                container[name].setdefault("successThreshold", 1)
    for volume in pod.get("volumes") or []:
        if "projected" in volume:
            volume["projected"].setdefault("defaultMode", 0o644)
        for source, default in (("configMap", 0o644), ("secret", 0o644)):
            if source in volume:
                volume[source].setdefault("defaultMode", default)
        if "hostPath" in volume:
            volume["hostPath"].setdefault("type", "")


def _canonical(value: Any, shape: Shape) -> Any:
    if isinstance(value, Mapping):
        return {k: _canonical(each, shape.at(k)) for k, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_canonical(each, shape.item or NOTHING_SPECIAL) for each in value]
    return _quantity(str(value)) if shape.quantity else value


def _quantity(text: str) -> str:
    """The canonical form of apimachinery: the largest unit of the same family that gives a whole number."""
    number = quantity.parse(text)
    binary = text.endswith("i")
    for suffix, factor in _units(binary):
        if (number / factor).denominator == 1 and number:
            return f"{number / factor}{suffix}"
    return str(number)


def _units(binary: bool) -> Iterator[tuple[str, Fraction]]:
    if binary:
        yield from ((suffix, Fraction(1024**power)) for power, suffix in ((4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")))
        yield "", Fraction(1)
    decimal = ((4, "T"), (3, "G"), (2, "M"), (1, "k"), (0, ""), (-1, "m"), (-2, "u"), (-3, "n"))
    yield from ((suffix, Fraction(1000) ** power) for power, suffix in decimal)
