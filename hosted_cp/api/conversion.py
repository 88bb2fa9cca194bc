"""Between the versions of our kinds: v1beta2, which is stored and worked on, and v1beta1, which is served besides.

`convert` loses nothing in either direction. What the modules of `hosted_cp.api.conversions` say corresponds is
translated, completed with the other version's defaults and cut down to its schema, as the API server does, which would
do it next. Then the result is translated back; where that differs from the given object, something was lost, and each
such place is written down in the annotation `hosted-cp.io/conversion-data`:

    {"v1beta2": [{"at": ["spec", "storage", "type"], "was": "etcd", "is": "nats"}]}

`v1beta2` is the version in which something is lost; `at` the place in it; `is` what stands there in truth, `was` what
the way back makes of it. (A key that is missing means: nothing is there.) On the real way back `is` is put where `was`
is found, and nowhere else. So who edits an object through the other version wins: a field that he changed makes
something else than `was` of that place, and what the annotation knows about it is void.

What is lost of a status is kept in the status itself, in its field `conversionData`, in the same form. An update
through v1beta1 takes the status from the object as v1beta1 shows it; and who may write an object may not therefore
write its status. In the annotation, which anybody may write who may write the object, nothing is believed about a
status, about the version, the kind or the metadata. So nobody can make up what the operator reports, or an object that
no API server can read, which would end every list that it is in.

Neither stands in an object of both versions: reading at v1beta1 consumes what was lost of v1beta1, and so on. Each
costs what it holds, at most what the API server allows for all annotations of an object. Where lost status would be
more, it is left out (the operator reports it again); where the spec's part is too large, the object stays readable, and
only writing it through that version is refused, with a message, since it would destroy data.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hosted_cp.api.base import Kind
from hosted_cp.api.conversions import cluster, control_plane, join_token_request, worker_config
from hosted_cp.api.conversions.trees import ANNOTATIONS, Tree, mapping
from hosted_cp.api.kinds import VERSIONED
from hosted_cp.api.schema import cached_openapi, defaulted, defaults, pruned

#: What the other version cannot hold.
ANNOTATION = "hosted-cp.io/conversion-data"
#: The same for the status, as a field of it.
STATUS_FIELD = "conversionData"
#: The API server's limit for keys and values of all annotations of an object together, in bytes.
ANNOTATIONS_LIMIT = 256 * 1024

HUB = "v1beta2"
_TOO_LARGE = "too large"
_ABSENT: Any = object()


class ConversionError(ValueError):
    """The object cannot be converted: it is of a kind or version that we do not have, or too much would be lost."""


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One direction: how fields are translated, and into what."""

    translate: Callable[[Tree], Tree]
    into: type[Kind]


_Steps = Mapping[tuple[str, str, str], _Step]


@functools.cache
def _steps() -> _Steps:
    """(group, kind, version) -> the step into that version."""
    modules = {
        "Cluster": (cluster.up, cluster.down),
        "JoinTokenRequest": (join_token_request.up, join_token_request.down),
        "K0smotronControlPlane": (control_plane.up, control_plane.down),
        "K0smotronControlPlaneTemplate": (control_plane.template_up, control_plane.template_down),
        "K0sWorkerConfig": (worker_config.up, worker_config.down),
        "K0sWorkerConfigTemplate": (worker_config.template_up, worker_config.template_down),
    }
    made = {}
    for versions in VERSIONED:
        up, down = modules[versions.hub.__name__]
        for kind, translate in ((versions.hub, up), (versions.v1beta1, down)):
            made[kind.group, kind.__name__, kind.version] = _Step(translate=translate, into=kind)
    return made


def convert(obj: Mapping[str, Any], *, to: str) -> dict[str, Any]:
    """The object at version `to` (`v1beta1` or `v1beta2`). Of metadata only annotations change.

    The result may share parts with `obj`. Raises ConversionError, never for content that a schema admits, except where
    an edited object says that it could not hold all that its other version has.
    """
    group, _, version = str(obj.get("apiVersion", "")).rpartition("/")
    kind = str(obj.get("kind", ""))
    steps = _steps()
    there, back = steps.get((group, kind, to)), steps.get((group, kind, version))
    if there is None or back is None:
        raise ConversionError(f"there is no conversion of {kind} from {group}/{version} to {group}/{to}")
    if version == to:
        return dict(obj)
    given, record = _without_record(_tree(obj))
    lost = [each for each in _read(_loaded(_annotations(obj).get(ANNOTATION)), version=to) if _is_of_users(each)]
    lost += [each for each in _read(record, version=to) if each["at"][0] == "status"]
    made = _restored(_through(there, given), lost)
    losses = list(_differences(_through(back, made), given, ()))
    made = _with_record(made, [each for each in losses if each["at"][0] == "status"], version=version)
    losses = [each for each in losses if each["at"][0] != "status"]
    return _object(obj, made, version=f"{group}/{to}", losses=losses, lossy=version)


def _through(step: _Step, tree: Tree) -> Tree:
    """The tree translated, completed and cut down, as the API server will complete it and cut it down."""
    schema = cached_openapi(step.into)
    translated = step.translate(tree)
    body = {key: value for key, value in translated.items() if key != "metadata"}
    return {"metadata": translated["metadata"], **pruned(defaulted(body, defaults(step.into)), schema)}


def _annotations(obj: Mapping[str, Any]) -> Tree:
    return mapping(mapping(obj.get("metadata")).get("annotations"))


def _tree(obj: Mapping[str, Any]) -> Tree:
    """See `hosted_cp.api.conversions`."""
    metadata = {
        "namespace": mapping(obj.get("metadata")).get("namespace", ""),
        "annotations": {key: value for key, value in _annotations(obj).items() if key in ANNOTATIONS},
    }
    body = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata")}
    return {**body, "metadata": metadata}


def _object(obj: Mapping[str, Any], tree: Tree, *, version: str, losses: list[Tree], lossy: str) -> dict[str, Any]:
    """The object of a tree, with the given one's metadata, and its losses in the annotation."""
    annotations = {
        key: value for key, value in _annotations(obj).items() if key not in ANNOTATIONS and key != ANNOTATION
    } | tree["metadata"]["annotations"]
    if losses:
        room = ANNOTATIONS_LIMIT - len(ANNOTATION) - sum(_size(key) + _size(each) for key, each in annotations.items())
        annotations[ANNOTATION] = _written(losses, version=lossy, room=room)
    body = {key: value for key, value in tree.items() if key != "metadata"}
    made = {"apiVersion": version, "kind": obj["kind"], **body}
    if "metadata" in obj:
        made["metadata"] = obj["metadata"]
    if annotations != _annotations(obj):
        metadata = {key: value for key, value in mapping(obj.get("metadata")).items() if key != "annotations"}
        made["metadata"] = {**metadata, "annotations": annotations} if annotations else metadata
    return made


# --- what is lost of the status ---------------------------------------------------------------------------------------

#: In the record: that there was no status, so that it does not begin to exist by being kept.
_ALONE = "alone"


def _without_record(tree: Tree) -> tuple[Tree, Tree]:
    """The tree without what we keep in its status, and that."""
    status = tree.get("status")
    if not isinstance(status, dict) or STATUS_FIELD not in status:
        return tree, {}
    rest = {key: value for key, value in status.items() if key != STATUS_FIELD}
    record = _loaded(status[STATUS_FIELD])
    if not rest and record.get(_ALONE) is True:
        return {key: value for key, value in tree.items() if key != "status"}, record
    return {**tree, "status": rest}, record


def _with_record(tree: Tree, losses: list[Tree], *, version: str) -> Tree:
    status = tree.get("status", _ABSENT)
    if not losses or not (status is _ABSENT or isinstance(status, dict)):
        return tree
    text = _text({version: losses, **({_ALONE: True} if status is _ABSENT else {})})
    if _size(text) > ANNOTATIONS_LIMIT:
        return tree
    return {**tree, "status": {**({} if status is _ABSENT else status), STATUS_FIELD: text}}


# --- what is lost, and how it comes back ------------------------------------------------------------------------------


def _differences(base: Tree, wanted: Tree, path: tuple[str, ...]) -> Iterator[Tree]:
    """What must be put where in `base` to make it `wanted`. Lists are compared as a whole."""
    for key in sorted(base.keys() | wanted.keys()):
        was, wants = base.get(key, _ABSENT), wanted.get(key, _ABSENT)
        if isinstance(was, dict) and isinstance(wants, dict):
            if was is not wants:
                yield from _differences(was, wants, (*path, key))
        elif not _same(was, wants):
            place: Tree = {"at": [*path, key]}
            if was is not _ABSENT:
                place["was"] = was
            if wants is not _ABSENT:
                place["is"] = wants
            yield place


def _restored(tree: Tree, losses: list[Tree]) -> Tree:
    """The tree with each loss put back where it still applies."""
    for loss in losses:
        tree = _put(tree, loss["at"], was=loss.get("was", _ABSENT), value=loss.get("is", _ABSENT))
    return tree


def _put(node: Tree, path: list[str], *, was: Any, value: Any) -> Tree:
    key, *rest = path
    there = node.get(key, _ABSENT)
    if rest:
        # An object that is gone was taken out by somebody; nothing below it comes back.
        return {**node, key: _put(there, rest, was=was, value=value)} if isinstance(there, dict) else node
    if _same(there, was):
        return {**node, key: value} if value is not _ABSENT else {k: each for k, each in node.items() if k != key}
    if was is _ABSENT and isinstance(there, dict) and isinstance(value, dict):
        # Somebody has filled in an object of which the other version has more.
        return {**node, key: _filled(there, value)}
    return node


def _filled(node: Tree, more: Tree) -> Tree:
    """The object with what only the other one has; where both have something, its own stands."""
    filled = {**more, **node}
    for key in node.keys() & more.keys():
        if isinstance(node[key], dict) and isinstance(more[key], dict):
            filled[key] = _filled(node[key], more[key])
    return filled


def _same(one: Any, other: Any) -> bool:
    """Equality of JSON: 1, 1.0 and true differ."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _written(losses: list[Tree], *, version: str, room: int) -> str:
    """The annotation, in `room` bytes. Equal losses make equal text."""
    text = _text({version: losses})
    return text if _size(text) <= room else json.dumps({version: _TOO_LARGE})


def _text(record: Tree) -> str:
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _loaded(text: object) -> Tree:
    try:
        return mapping(json.loads(text)) if isinstance(text, str) else {}
    except (ValueError, RecursionError):
        return {}


def _read(record: Tree, *, version: str) -> list[Tree]:
    """The losses of this version that a record tells of; what it tells else, or no record of ours, is none."""
    told = record.get(version)
    # What is stored is read at every version, whatever somebody has written there: one that fails ends whole lists.
    if told == _TOO_LARGE and version == HUB:
        raise ConversionError(
            f"this object has more fields that only {version} knows than an annotation can hold; "
            f"read and write it at {version}"
        )
    return [each for each in told if _is_loss(each)] if isinstance(told, list) else []


def _is_loss(value: object) -> bool:
    path = mapping(value).get("at")
    return isinstance(path, list) and bool(path) and all(isinstance(step, str) for step in path)


def _is_of_users(loss: Tree) -> bool:
    """Whether it is about something that whoever writes the object may write; see above."""
    path = loss["at"]
    if path[0] != "metadata":
        return path[0] not in ("apiVersion", "kind", "status")
    stands_for_a_field = len(path) == 3 and path[1] == "annotations" and path[2] in ANNOTATIONS
    return stands_for_a_field and isinstance(loss.get("is", ""), str)


def _size(text: object) -> int:
    return len(str(text).encode("utf-8", errors="surrogatepass"))
