"""What has to be written: the difference between what we want and what is there.

An object is written again only if this module finds a reason, because an apply that changes nothing is the dearest
request of all. There are two reasons:

* the *desired hash*, an annotation with the digest of what we wanted when we last wrote, is another one now. This alone
  notices a field that we no longer want;
* what we want is not *contained* in what is there: somebody changed it. Containment follows server-side apply. Lists
  with keys are compared item by item, atomic ones as a whole, and the server may have more of everything (defaults,
  allocated addresses, fields of others). Whatever an apply could not change must not count as a difference, or we would
  write for ever.

Secrets whose content comes from a recipe have two halves. Their content is remade when the recipe's hash changes or
its own predicate says so (`recipe_differs`, `hosted_cp.pki.renewal`); their labels, annotations and owners are patched
without touching the content (`metadata_patch`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import orjson

from hosted_cp.planning import quantity
from hosted_cp.planning.actions import HASH_ANNOTATION, Action, Apply, Create, Object, PatchMetadata, Target
from hosted_cp.planning.memo import Memo
from hosted_cp.planning.merge import NOTHING_SPECIAL, Shape, item_key, shape_of
from hosted_cp.planning.observed import Observed
from hosted_cp.planning.recipes import Recipe

#: Which labels and annotations of a Secret with a recipe are ours, so that those we no longer want can be removed.
#: (Such Secrets are never applied, so the server does not keep this for us.)
OWN_METADATA_ANNOTATION = "hosted-cp.io/own-metadata"

#: Parts of an existing object that cannot be changed, or never without losing it. They are read from the live object
#: and not planned (also because a StatefulSet that we take over has its own).
_FROZEN = {
    ("apps/v1", "StatefulSet"): ("podManagementPolicy", "serviceName", "selector", "volumeClaimTemplates"),
}

#: What the server allocates, and keeps when an apply leaves it out. Asking for the value that is there must not be a
#: reason to write; asking for another one is found by comparing.
_KEPT_BY_SERVER = {("v1", "Service"): ("ports", "nodePort")}

#: Numbers and switches that the server leaves out when they are 0 or false.
_ZERO_IS_ABSENT = frozenset(
    {"failureThreshold", "healthCheckNodePort", "hostIPC", "hostNetwork", "hostPID", "hostPort", "initialDelaySeconds"}
    | {"minReadySeconds", "nodePort", "partition", "paused", "periodSeconds", "publishNotReadyAddresses", "readOnly"}
    | {"chapAuthDiscovery", "chapAuthSession", "sslEnabled", "stdin", "stdinOnce", "successThreshold"}
    | {"timeoutSeconds", "tty"}
)
#: Fields for which "" or 0 asks the server to fill in something of its own.
_FILLED_BY_SERVER = frozenset(
    {"clusterIP", "dnsPolicy", "externalTrafficPolicy", "failureThreshold", "healthCheckNodePort", "imagePullPolicy"}
    | {"nodePort", "periodSeconds", "protocol", "restartPolicy", "schedulerName", "sessionAffinity"}
    | {"successThreshold", "targetPort", "terminationMessagePath", "terminationMessagePolicy", "timeoutSeconds", "type"}
)
#: Texts that mean something when they are empty.
_EMPTY_MATTERS = frozenset({"storageClassName", "volumeAttributesClassName"})


#: Of a thousand tenants, each with five plain objects. (An entry takes some 200 bytes.)
_HASHES: Memo[str] = Memo(most=8_000)
_DIFFERENCES: Memo[str | None] = Memo(most=8_000)
#: The same by those parts of the live object that are compared, for kinds most of whose versions differ in the status
#: alone. (Compared are parts and no generations: not everything that is compared is counted by one.)
_SAME_PARTS: Memo[str | None] = Memo(most=2_000)
_OFTEN_COUNTED = ("PodDisruptionBudget", "StatefulSet")

_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_SCALARS = (str, int, float)

#: What it is (items of a list do not say), and what is never in a plan.
_NOT_COMPARED = ("apiVersion", "kind", "status")


class NotOurs(Exception):
    """`settle` was asked to write an object that belongs to somebody else: the caller must report it instead."""


# --- hashing ---------------------------------------------------------------------------------------------------------


def desired_hash(body: Object, recipe: Recipe | None = None) -> str:
    """Digest of what we want, 32 hex digits, equal for all spellings of the same (quantities, empty values).

    Not covered are status, the hash itself, and what is frozen once the object exists. With a recipe it covers what
    makes the *content* (recipe, type, name) and no labels or owners: those change without remaking the content.
    """
    if recipe is not None:
        return _desired_hash(body, recipe)
    return _hash_of(body, _spelled(body))


def _hash_of(body: Object, spelled: bytes) -> str:
    return _HASHES.get(spelled, answer=lambda: _desired_hash(body, None))


def _desired_hash(body: Object, recipe: Recipe | None) -> str:
    wanted: dict[str, Any] = {key: value for key, value in body.items() if key not in ("status", "metadata", "spec")}
    metadata = body["metadata"]
    if recipe is not None:
        wanted["metadata"] = {"name": metadata["name"], "namespace": metadata.get("namespace")}
        wanted["recipe"] = recipe.printed()
    else:
        wanted["metadata"] = _without_marks(metadata)
    frozen = _FROZEN.get((body["apiVersion"], body["kind"]), ())
    wanted["spec"] = {key: value for key, value in (body.get("spec") or {}).items() if key not in frozen}
    if (kept := _KEPT_BY_SERVER.get((body["apiVersion"], body["kind"]))) is not None and wanted["spec"].get(kept[0]):
        items = wanted["spec"][kept[0]]
        wanted["spec"][kept[0]] = [{key: value for key, value in item.items() if key != kept[1]} for item in items]
    text = orjson.dumps(_canonical(wanted, shape_of(body), ""), option=orjson.OPT_SORT_KEYS, default=_plain)
    return hashlib.sha256(text).hexdigest()[:32]


def stamped(body: Object, recipe: Recipe | None = None) -> dict[str, Any]:
    """The body with the annotation that says what we wanted. What was passed in stays as it is."""
    metadata = dict(body["metadata"])
    annotations = dict(metadata.get("annotations") or {})
    annotations[HASH_ANNOTATION] = desired_hash(body, recipe)
    if recipe is not None:
        annotations[OWN_METADATA_ANNOTATION] = _own_metadata(body)
    return {**body, "metadata": {**metadata, "annotations": annotations}}


def recipe_differs(wanted: Object, recipe: Recipe, seen: Observed) -> bool:
    """Whether the content of this Secret was made by another recipe than the one we want now."""
    return seen.annotations.get(HASH_ANNOTATION) != desired_hash(wanted, recipe)


def _spelled(body: Object) -> bytes:
    """The body as it is spelled, without our marks: equal only for what is the same in every letter."""
    unmarked = {**body, "metadata": _without_marks(body["metadata"])}
    return orjson.dumps(unmarked, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (tuple, frozenset)):
        return sorted(value) if isinstance(value, frozenset) else list(value)
    return str(value)


def _canonical(value: Any, shape: Shape, name: str) -> Any:
    """One form for all spellings that the server stores alike; `None` for what it leaves out."""
    if not isinstance(value, _SCALARS) and isinstance(value, (dict, Mapping)):
        members = {
            str(key): _canonical(member, shape.at(key), "" if shape.free else str(key)) for key, member in value.items()
        }
        members = {key: member for key, member in members.items() if member is not None}
        return None if shape.free and not members else members
    if isinstance(value, (list, tuple)):
        items = [_canonical(item, shape.item or NOTHING_SPECIAL, "") for item in value]
        if shape.keys:
            items = [{**shape.key_defaults, **item} if isinstance(item, dict) else item for item in items]
        return (sorted(items) if shape.unique else items) or None
    if value is None:
        return None
    if shape.quantity:
        return quantity.canonical(value)
    if shape.int_or_string:
        return _number(value)
    if value == "" and name and name not in _EMPTY_MATTERS and not shape.free:
        return None
    if name in _ZERO_IS_ABSENT and not isinstance(value, str) and not value:
        return None
    return value


def _number(value: Any) -> Any:
    """`"8080"` and `8080` are the same where the API takes a number or a text."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


# --- comparing -------------------------------------------------------------------------------------------------------


def differs(wanted: Object, seen: Observed) -> bool:
    """Whether the object has to be written again."""
    return first_difference(wanted, seen) is not None


def first_difference(wanted: Object, seen: Observed) -> str | None:
    """Why the object has to be written again: `the desired hash`, or the path of the first field that is not as wanted.

    None if it stands as it is. Of an object of which only metadata is kept, only metadata is compared.
    """
    spelled = _spelled(wanted)
    if seen.annotations.get(HASH_ANNOTATION) != _hash_of(wanted, spelled):
        return "the desired hash"
    if not seen.raw:
        return _first_missing(wanted, seen)
    return _DIFFERENCES.get(spelled, seen.raw, answer=lambda: _first_missing_in_parts(wanted, spelled, seen))


def _first_missing_in_parts(wanted: Object, spelled: bytes, seen: Observed) -> str | None:
    """As `_first_missing`, which is not asked again for an object that differs from a former one in its status only."""
    if wanted["kind"] not in _OFTEN_COUNTED:
        return _first_missing(wanted, seen)
    return _SAME_PARTS.get(spelled, *_compared(wanted, seen), answer=lambda: _first_missing(wanted, seen))


def _compared(wanted: Object, seen: Observed) -> list[bytes]:
    """Everything of the live object that `_first_missing` looks at, as it is spelled."""
    live = _parts(seen.json)
    metadata = _parts(live["metadata"])
    return [
        *(bytes(metadata.get(name, b"")) for name in sorted(wanted["metadata"])),
        *(bytes(live.get(name, b"")) for name in sorted(wanted.keys() - {"metadata", *_NOT_COMPARED})),
    ]


def _first_missing(wanted: Object, seen: Observed) -> str | None:
    live = seen.body if seen.raw else {**_metadata_of(seen), "apiVersion": wanted["apiVersion"], "kind": wanted["kind"]}
    frozen = _FROZEN.get((wanted["apiVersion"], wanted["kind"]), ())
    shape = shape_of(wanted)
    for key, value in wanted.items():
        if key in _NOT_COMPARED or (wanted["kind"] == "Secret" and key in ("data", "stringData")):
            continue  # of Secrets no data are in the cache
        if not seen.raw and key not in ("apiVersion", "kind", "metadata"):
            continue
        if key == "spec":
            value = {name: member for name, member in value.items() if name not in frozen}
        if key == "metadata":
            value = _without_marks(value)
        found = _missing(value, live.get(key), shape.at(key), key, path=key)
        if found:
            return found
    return None


def _metadata_of(seen: Observed) -> dict[str, Any]:
    return {
        "metadata": {
            "name": seen.ref.name,
            **({"namespace": seen.ref.namespace} if seen.ref.namespace else {}),
            "labels": seen.labels,
            "annotations": seen.annotations,
            "finalizers": list(seen.finalizers),
            "ownerReferences": list(seen.owner_references),
        }
    }


def _without_marks(metadata: Mapping[str, Any]) -> dict[str, Any]:
    annotations = metadata.get("annotations") or {}
    marks = (HASH_ANNOTATION, OWN_METADATA_ANNOTATION)
    return {**metadata, "annotations": {key: value for key, value in annotations.items() if key not in marks}}


def _missing(wanted: Any, live: Any, shape: Shape, name: str, *, path: str) -> str | None:
    """The path of the first part of `wanted` that `live` does not hold, or None."""
    if wanted is None:
        return None
    if isinstance(wanted, _SCALARS):  # told before the dear question whether it is a `Mapping`
        return None if _same(wanted, live, shape, name) else path
    if isinstance(wanted, (dict, Mapping)):
        return _missing_in_mapping(wanted, live, shape, path=path)
    if isinstance(wanted, (list, tuple)):
        if live is not None and not isinstance(live, list):
            return path
        return _missing_in_list(wanted, live or [], shape, path=path)
    return None if _same(wanted, live, shape, name) else path


def _missing_in_mapping(wanted: Mapping[str, Any], live: Any, shape: Shape, *, path: str) -> str | None:
    if live is None and shape.free and not any(value is not None for value in wanted.values()):
        return None
    if not isinstance(live, (dict, Mapping)):
        return path
    for key, value in wanted.items():
        there = live.get(key)
        if type(value) is type(there) and isinstance(value, _SCALARS) and value == there:
            continue  # most of what there is: the same, whatever its shape
        found = _missing(value, there, shape.at(key), "" if shape.free else key, path=f"{path}.{key}")
        if found:
            return found
    if shape.whole:
        for key, value in live.items():
            if wanted.get(key) is None and (shape.free or value not in (None, "", [])):
                return f"{path}.{key}"
    return None


def _missing_in_list(wanted: Sequence[Any], live: Sequence[Any], shape: Shape, *, path: str) -> str | None:
    item_shape = shape.item or NOTHING_SPECIAL
    if shape.unique:
        return next((f"{path}[{item}]" for item in wanted if item not in live), None)
    if shape.keys:
        there = {item_key(item, shape): item for item in live if isinstance(item, Mapping)}
        for item in wanted:
            key = item_key(item, shape)
            place = f"{path}[{','.join(str(part) for part in key)}]"
            if key not in there:
                return place
            found = _missing(item, there[key], item_shape, "", path=place)
            if found:
                return found
        return None
    if len(wanted) != len(live):
        return path
    for index, (item, other) in enumerate(zip(wanted, live, strict=True)):
        found = _missing(item, other, item_shape, "", path=f"{path}[{index}]")
        if found:
            return found
    return None


def _same(wanted: Any, live: Any, shape: Shape, name: str) -> bool:
    if not wanted and not isinstance(wanted, str) and name in _ZERO_IS_ABSENT and live is None:
        return True
    if wanted == "" and live is None and name and name not in _EMPTY_MATTERS:
        return True
    if wanted in ("", 0) and wanted is not False and name in _FILLED_BY_SERVER:
        return True
    if live is None or isinstance(live, (dict, list)):
        return False
    if shape.quantity:
        return quantity.canonical(wanted) == quantity.canonical(live)
    if shape.int_or_string:
        wanted, live = _number(wanted), _number(live)
    if isinstance(wanted, bool) or isinstance(live, bool) or isinstance(wanted, str) or isinstance(live, str):
        return type(wanted) is type(live) and bool(wanted == live)
    return bool(wanted == live)


# --- deciding --------------------------------------------------------------------------------------------------------


def settle(
    wanted: Object,
    seen: Observed | None,
    owner_uid: str,
    *,
    target: Target = Target.MANAGEMENT,
) -> Action | None:
    """The one action that makes a plain object (one without a recipe) be as wanted, or None.

    `owner_uid` is the UID of our object that owns it. An object that exists under this name and is controlled by
    somebody else is the caller's to report: `NotOurs`. One that is being deleted is left alone: its end is an event.
    """
    if seen is None:
        return Create(body=stamped(wanted), target=target)
    if seen.controller_uid != owner_uid:
        raise NotOurs(f"{seen.ref} is not controlled by the object with UID {owner_uid}")
    if seen.deleting or not differs(wanted, seen):
        return None
    return Apply(body=stamped(with_frozen_parts(wanted, seen)), uid=seen.uid, target=target)


def with_frozen_parts(wanted: Object, seen: Observed) -> dict[str, Any]:
    """The wanted object with those parts that an existing one keeps for its life, taken from what is there."""
    frozen = _FROZEN.get((wanted["apiVersion"], wanted["kind"]), ())
    if not frozen:
        return dict(wanted)
    live = seen.get("spec", default={})
    spec = {key: value for key, value in wanted["spec"].items() if key not in frozen}
    return {**wanted, "spec": {**spec, **{key: live[key] for key in frozen if key in live}}}


def metadata_patch(wanted: Object, seen: Observed, *, target: Target = Target.MANAGEMENT) -> PatchMetadata | None:
    """What sets labels, annotations and owners of a Secret with a recipe right, without touching its content.

    Labels and annotations that we set before and no longer want are removed; those of others are left alone, and so
    are owner references of others.
    """
    metadata = wanted["metadata"]
    note, new_note = seen.annotations.get(OWN_METADATA_ANNOTATION), _own_metadata(wanted)
    if note == new_note and _holds(metadata, seen):
        return None
    before = _read_own_metadata(seen)
    labels = _changes(metadata.get("labels") or {}, seen.labels, before["labels"])
    own = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if key not in (HASH_ANNOTATION, OWN_METADATA_ANNOTATION)
    }
    annotations = _changes(own, seen.annotations, before["annotations"])
    owners = _owners(metadata.get("ownerReferences") or (), seen.owner_references)
    # (A missing note is worth a write: without it nobody would know later which labels are ours to remove.)
    if not labels and not annotations and owners is None and note == new_note:
        return None
    if note != new_note:
        annotations[OWN_METADATA_ANNOTATION] = new_note
    return PatchMetadata(
        ref=seen.ref,
        uid=seen.uid,
        resource_version=seen.resource_version,
        labels=labels,
        annotations=annotations,
        owner_references=owners,
        target=target,
    )


def _holds(metadata: Mapping[str, Any], seen: Observed) -> bool:
    """Whether everything stands there as it is spelled: the usual answer, found without looking at each part."""
    marks = (HASH_ANNOTATION, OWN_METADATA_ANNOTATION)
    annotations = metadata.get("annotations") or {}
    return (
        (metadata.get("labels") or {}).items() <= seen.labels.items()
        and all(seen.annotations.get(key) == value for key, value in annotations.items() if key not in marks)
        and _owners(metadata.get("ownerReferences") or (), seen.owner_references) is None
    )


def as_last_wanted(seen: Observed) -> Object:
    """The Secret with a recipe that we wanted when we last wrote this one, as far as its own note of that tells.

    For making its content anew without changing anything else about it.
    """
    own = _read_own_metadata(seen)
    return {
        "apiVersion": seen.ref.api_version,
        "kind": seen.ref.kind,
        "metadata": {
            "name": seen.ref.name,
            "namespace": seen.ref.namespace,
            "labels": {key: seen.labels[key] for key in own["labels"] if key in seen.labels},
            "annotations": {key: seen.annotations[key] for key in own["annotations"] if key in seen.annotations},
            "ownerReferences": [dict(owner) for owner in seen.owner_references if owner.get("controller")],
        },
        "type": seen.secret.type if seen.secret is not None else "Opaque",
    }


def _changes(wanted: Mapping[str, str], live: Mapping[str, str], before: Sequence[str]) -> dict[str, str | None]:
    changed: dict[str, str | None] = {key: value for key, value in wanted.items() if live.get(key) != value}
    changed.update({key: None for key in before if key not in wanted and key in live})
    return changed


def _owners(
    wanted: Sequence[Mapping[str, Any]], live: Sequence[Mapping[str, Any]]
) -> tuple[Mapping[str, Any], ...] | None:
    """The whole new list of owner references, or None if it already holds ours."""
    there = {owner.get("uid"): owner for owner in live}
    if all(owner == there.get(owner["uid"]) for owner in wanted):
        return None
    if all(_missing(owner, there.get(owner["uid"]), NOTHING_SPECIAL, "", path="owner") is None for owner in wanted):
        return None
    ours = {owner["uid"] for owner in wanted}
    return (*(owner for owner in live if owner.get("uid") not in ours), *wanted)


def _own_metadata(body: Object) -> str:
    metadata = body["metadata"]
    marks = (HASH_ANNOTATION, OWN_METADATA_ANNOTATION)
    own = {
        "annotations": sorted(key for key in metadata.get("annotations") or {} if key not in marks),
        "labels": sorted(metadata.get("labels") or {}),
    }
    return orjson.dumps(own).decode()


def _read_own_metadata(seen: Observed) -> dict[str, list[str]]:
    """What we noted about our labels and annotations; nothing if somebody spoilt the note."""
    try:
        note = orjson.loads(seen.annotations.get(OWN_METADATA_ANNOTATION, "{}"))
    except orjson.JSONDecodeError:
        note = {}
    if not isinstance(note, dict):
        note = {}
    return {
        kind: [key for key in found if isinstance(key, str)] if isinstance(found := note.get(kind), list) else []
        for kind in ("labels", "annotations")
    }
