"""Stacks: groups of objects that k0s keeps in the cluster, told apart by a label, pruned when they leave the group."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from k0s_images.standin import log
from k0s_images.standin.kube import Api, ApiError, Object

LABEL = "k0s.k0sproject.io/stack"
CHECKSUM = "k0s.k0sproject.io/stack-checksum"
LAST_APPLIED = "k0s.k0sproject.io/last-applied-configuration"
#: Kinds without which others of the same stack cannot be written.
_FIRST = ("CustomResourceDefinition", "Namespace", "ServiceAccount")
_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def stamped(stack: str, thing: Mapping[str, Any]) -> Object:
    """The object with the stack's label, its checksum and what was applied."""
    result = copy.deepcopy(dict(thing))
    plain = json.dumps(thing, sort_keys=True, separators=(",", ":"))
    metadata = result.setdefault("metadata", {})
    metadata["labels"] = {**(metadata.get("labels") or {}), LABEL: stack}
    checksum = hashlib.md5(plain.encode(), usedforsecurity=False).hexdigest()
    metadata["annotations"] = {**(metadata.get("annotations") or {}), CHECKSUM: checksum, LAST_APPLIED: plain + "\n"}
    return result


def apply(api: Api, stack: str, things: Iterable[Mapping[str, Any]], *, prune: bool = False) -> None:
    """Bring the objects of a stack into the cluster; those already there with the same checksum are left alone.

    With `prune`, objects that carry the stack's label but are not in it are deleted. Raises `ApiError`; objects after
    a refused one are still tried, so that one bad object does not take its neighbours along.
    """
    ordered = sorted(things, key=lambda t: _FIRST.index(t["kind"]) if t["kind"] in _FIRST else len(_FIRST))
    failed: ApiError | None = None
    kept = set()
    for thing in ordered:
        wanted = stamped(stack, thing)
        try:
            path = api.path(wanted)
            kept.add(path)
            there = api.find(path)
            if there is None or _checksum(there) != _checksum(wanted):
                api.apply(wanted)
        except ApiError as fault:
            log.warning(f"{thing['kind']} {thing['metadata'].get('name')}: {fault}", component="applier", stack=stack)
            failed = failed or fault
    if failed is not None:
        raise failed
    if prune:
        _prune(api, stack, kept)


def _checksum(thing: Mapping[str, Any]) -> Any:
    return (thing["metadata"].get("annotations") or {}).get(CHECKSUM)


def _listable(api: Api) -> Sequence[tuple[str, str, str]]:
    """(apiVersion, kind, list path) of everything that can be listed and deleted, in its preferred version."""
    found = []
    for root in ("/api", "/apis"):
        for group in api.request("GET", root, accept=_DISCOVERY)["items"]:
            name = group["metadata"].get("name", "")
            seen = set()
            for version in group["versions"]:
                for resource in version.get("resources", []):
                    if {"list", "delete"} <= set(resource["verbs"]) and resource["resource"] not in seen:
                        seen.add(resource["resource"])
                        api_version = f"{name}/{version['version']}" if name else version["version"]
                        kind = resource["responseKind"]["kind"]
                        found.append((api_version, kind, f"{root}/{api_version}/{resource['resource']}"))
    return found


def _prune(api: Api, stack: str, kept: set[str]) -> None:
    for api_version, kind, path in _listable(api):
        try:
            items = api.get(f"{path}?labelSelector={quote(f'{LABEL}={stack}')}").get("items") or []
        except ApiError as fault:
            log.debug(f"cannot list {kind}: {fault}", component="applier")
            continue
        for item in items:
            where = api.path({**item, "apiVersion": api_version, "kind": kind})
            owned_by_endpoints = kind in ("EndpointSlice", "Endpoints") and item["metadata"].get("ownerReferences")
            # Endpoints copy the labels of their Service: they are its, not ours.
            if where in kept or owned_by_endpoints or (kind in ("EndpointSlice", "Endpoints") and _copied(item)):
                continue
            log.info(f"pruning {kind} {item['metadata']['name']}", component="applier", stack=stack)
            try:
                api.request("DELETE", where, {"propagationPolicy": "Background"})
            except ApiError as fault:
                if fault.status != 404:
                    raise


def _copied(item: Mapping[str, Any]) -> bool:
    return LAST_APPLIED not in (item["metadata"].get("annotations") or {})
