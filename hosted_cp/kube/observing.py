"""From what an API server sends to what the caches keep.

Objects are taken apart with msgspec down to the members of `metadata`, and put together again from the same bytes, so
that what nobody asks for is never decoded: about 10 microseconds for a StatefulSet, where decoding it costs 64.

Dropped on the way are managedFields (a third of most objects), kubectl's copy of what it applied last (for a Secret
that copy holds the data), and of Secrets and ConfigMaps everything but metadata and facts. What a
tenant's objects have in common (owners, labels, managers) is kept once: for a thousand tenants that is 15 MiB less.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from hosted_cp.kube.deep import cut
from hosted_cp.kube.resources import CONFIG_MAP, SECRET, Resource
from hosted_cp.pki.facts import config_map_facts, secret_facts
from hosted_cp.planning.actions import FIELD_MANAGER, Ref
from hosted_cp.planning.diff import OWN_METADATA_ANNOTATION
from hosted_cp.planning.memo import Memo
from hosted_cp.planning.observed import Observed, SecretFacts
from hosted_cp.planning.packing import pack

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Unreadable(ValueError):
    """What was sent is no Kubernetes object. The message quotes nothing of it."""


#: JSON for what is not there.
_NULL = msgspec.Raw(b"null")

#: Kinds of whose content facts are kept; of Secrets nothing else.
_BY_FACTS = (SECRET, CONFIG_MAP)

#: What is kept where nobody says: all.
_ALL: Mapping[str, frozenset[str]] = {}

#: How many different sets of labels, owners and managers are kept once. A thousand tenants have some 6,000.
_SHARED = 32_768


class _Managed(msgspec.Struct):
    manager: str = ""
    operation: str = ""
    subresource: str = ""


class _Metadata(msgspec.Struct):
    name: str
    uid: str
    resourceVersion: str
    namespace: str | None = None
    generation: int = 0
    creationTimestamp: str | None = None
    deletionTimestamp: str | None = None
    labels: msgspec.Raw = _NULL
    annotations: dict[str, str] | None = None
    finalizers: list[str] | None = None
    ownerReferences: msgspec.Raw = _NULL
    managedFields: list[_Managed] | None = None


class _Name(msgspec.Struct):
    resourceVersion: str = ""
    name: str = ""
    namespace: str = ""
    uid: str = ""


class _Named(msgspec.Struct):
    metadata: _Name


_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw] | None).decode
_named = msgspec.json.Decoder(_Named).decode
_metadata = msgspec.json.Decoder(_Metadata).decode
_text = msgspec.json.Decoder(str).decode
_texts = msgspec.json.Decoder(dict[str, str] | None).decode
_owner_list = msgspec.json.Decoder(list[dict[str, Any]] | None).decode
_encode = msgspec.json.Encoder().encode

#: By digest of their JSON. Nobody may change them.
_labels: Memo[dict[str, str]] = Memo(most=_SHARED)
_owners: Memo[tuple[dict[str, Any], ...]] = Memo(most=_SHARED)
_managers: dict[frozenset[str], frozenset[str]] = {}
_shared_texts: dict[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class Glimpse:
    """Enough of an object to say whether it is news."""

    namespace: str  # "" for cluster-scoped kinds
    name: str
    uid: str
    resource_version: str


def glimpse(raw: bytes) -> Glimpse:
    """Two microseconds instead of up to 500 (the facts of a Secret). Raises `Unreadable`."""
    try:
        found = _named_at_any_depth(raw).metadata
    except msgspec.DecodeError:
        raise Unreadable("what was sent is no object") from None
    return Glimpse(namespace=found.namespace, name=found.name, uid=found.uid, resource_version=found.resourceVersion)


def _named_at_any_depth(raw: bytes) -> _Named:
    try:
        return _named(raw)
    except RecursionError:
        return _named(cut(raw, levels=2)[0])


def observe(
    raw: bytes, *, resource: Resource, metadata_only: bool = False, keep: Mapping[str, frozenset[str]] = _ALL
) -> Observed:
    """The object in `raw` as caches keep it, with only those members of its parts that `keep` names (all of parts that
    it does not name). Raises `Unreadable`."""
    try:
        parts = _parts(raw)
        metadata = _metadata(parts["metadata"])
        facts = _facts(parts, resource) if resource in _BY_FACTS and not metadata_only else None
        labels = _labels.get(metadata.labels, answer=lambda: _texts(metadata.labels) or {})
        kept = b"" if metadata_only or resource == SECRET else _kept(parts, metadata, labels, resource, keep)
        owners = _owners.get(
            metadata.ownerReferences, answer=lambda: tuple(_owner_list(metadata.ownerReferences) or ())
        )
    except (msgspec.DecodeError, KeyError) as fault:
        raise Unreadable(f"an object of kind {resource.kind} cannot be read: {type(fault).__name__}") from None
    except RecursionError:
        deep = "is nested too deeply to be read (some 1,000 levels), and is passed over: flatten it, or delete it"
        raise Unreadable(f"an object of kind {resource.kind} {deep}") from None
    managers = metadata.managedFields or ()
    namespace = metadata.namespace
    annotations = metadata.annotations or {}
    annotations.pop(_LAST_APPLIED, None)
    if OWN_METADATA_ANNOTATION in annotations:
        annotations[OWN_METADATA_ANNOTATION] = _shared_text(annotations[OWN_METADATA_ANNOTATION])
    return Observed(
        ref=Ref(
            api_version=resource.api_version,
            kind=resource.kind,
            namespace=None if namespace is None else _shared_text(namespace),
            name=metadata.name,
        ),
        uid=metadata.uid,
        resource_version=metadata.resourceVersion,
        generation=metadata.generation,
        created=_shared_text(metadata.creationTimestamp or ""),
        deleting=metadata.deletionTimestamp is not None,
        labels=labels,
        annotations=annotations,
        finalizers=tuple(metadata.finalizers or ()),
        owner_references=owners,
        controller_uid=next((str(owner["uid"]) for owner in owners if owner.get("controller")), ""),
        managers=_shared_managers(frozenset(each.manager for each in managers)),
        posted=any(
            each.manager == FIELD_MANAGER and each.operation == "Update" and not each.subresource for each in managers
        ),
        secret=facts,
        raw=kept,
    )


def secret_data(raw: bytes) -> dict[str, bytes]:
    """The data of a Secret, for whoever fulfils a recipe. Raises `Unreadable`."""
    try:
        return _data(_parts(raw))
    except msgspec.DecodeError:
        raise Unreadable("the Secret cannot be read") from None


def _data(parts: Mapping[str, msgspec.Raw]) -> dict[str, bytes]:
    encoded = _texts(parts["data"]) if "data" in parts else None
    try:
        return {key: base64.b64decode(value) for key, value in (encoded or {}).items()}
    except binascii.Error:
        raise Unreadable("the data of a Secret are not base64") from None


def config_map_data(raw: bytes) -> dict[str, bytes]:
    """The data of a ConfigMap, text and binary alike. Raises `Unreadable`."""
    try:
        return _config(_parts(raw))
    except msgspec.DecodeError:
        raise Unreadable("the ConfigMap cannot be read") from None


def _config(parts: Mapping[str, msgspec.Raw]) -> dict[str, bytes]:
    text = _texts(parts["data"]) if "data" in parts else None
    binary = _data({"data": parts["binaryData"]}) if "binaryData" in parts else {}
    return {**{key: value.encode() for key, value in (text or {}).items()}, **binary}


def _facts(parts: dict[str, msgspec.Raw], resource: Resource) -> SecretFacts:
    if resource == CONFIG_MAP:
        return config_map_facts(_config(parts))
    kind = _text(parts["type"]) if "type" in parts else "Opaque"
    return secret_facts(type=kind, data=_data(parts))


def _shared_text(text: str) -> str:
    """One and the same for equal texts that come again: namespaces, moments, notes of what is ours."""
    if len(_shared_texts) >= _SHARED:
        _shared_texts.clear()
    return _shared_texts.setdefault(text, text)


def _shared_managers(managers: frozenset[str]) -> frozenset[str]:
    if len(_managers) >= _SHARED:
        _managers.clear()
    return _managers.setdefault(managers, managers)


def _kept(
    parts: dict[str, msgspec.Raw],
    metadata: _Metadata,
    labels: Mapping[str, str],
    resource: Resource,
    keep: Mapping[str, frozenset[str]],
) -> bytes:
    for part, wanted in keep.items():
        if part in parts:
            all_of_it = _members(parts[part]) or {}
            parts[part] = msgspec.Raw(_encode({name: all_of_it[name] for name in wanted if name in all_of_it}))
    members = _parts(parts["metadata"])
    members.pop("managedFields", None)
    if metadata.annotations and _LAST_APPLIED in metadata.annotations:
        rest = {key: value for key, value in metadata.annotations.items() if key != _LAST_APPLIED}
        members["annotations"] = msgspec.Raw(_encode(rest))
    # Items of lists do not say what they are.
    parts["apiVersion"] = msgspec.Raw(_encode(resource.api_version))
    parts["kind"] = msgspec.Raw(_encode(resource.kind))
    parts["metadata"] = msgspec.Raw(_encode(members))
    # (A copy, because an encoder's result may hold a larger buffer than it needs.)
    return bytes(memoryview(pack(_encode(parts), sort=f"{resource.kind} {labels.get('component', '')}")))
