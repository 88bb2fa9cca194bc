"""Data volumes that are asked for otherwise than they were made.

A StatefulSet keeps its volume claim templates for life. What somebody writes there later would be left out in silence,
or leave pods that mount a volume which does not exist. So it is refused by name, and what runs goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hosted_cp.api.problems import Problem
from hosted_cp.hosting import controllers
from hosted_cp.hosting.tenant import Tenant
from hosted_cp.hosting.wanted import Wanted
from hosted_cp.planning import quantity

_CLAIM = "spec.persistence.persistentVolumeClaim"


def problems(t: Tenant, wanted: Sequence[Wanted]) -> list[Problem]:
    """What is asked of the controllers' volumes, with the user's patches (which `wanted` has), and cannot be had."""
    live = controllers.seen(t)
    body = next((w.body for w in wanted if (w.ref.kind, w.ref.name) == ("StatefulSet", t.names.control_plane)), None)
    if live is None or live.deleting or body is None:
        return []
    there = _by_name(live.get("spec", "volumeClaimTemplates", default=[]))
    asked = _by_name(body["spec"].get("volumeClaimTemplates") or [])
    anew = f"delete StatefulSet {t.names.control_plane} and its volume claims, and they are made anew, empty"
    return [
        Problem(
            field=field,
            fault=f"cannot change from {was} to {now}: the volumes of a StatefulSet stay as they were made",
            remedy=f"set it back; or {anew if t.decisions.storage == 'etcd' else 'create a new Cluster'}",
        )
        for field, was, now in _changes(there, asked, kind=t.spec.persistence.type)
    ]


def _by_name(templates: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {each["metadata"]["name"]: each.get("spec") or {} for each in templates}


def _changes(
    there: Mapping[str, Mapping[str, Any]], asked: Mapping[str, Mapping[str, Any]], *, kind: str
) -> Iterator[tuple[str, str, str]]:
    """Field, old and new value of everything that differs."""
    if bool(there) != bool(asked):
        yield "spec.persistence.type", "pvc" if there else "volumes without a claim", kind
        return
    if there.keys() != asked.keys():
        yield f"{_CLAIM}.metadata.name", ", ".join(sorted(there)), ", ".join(sorted(asked))
        return
    for name, spec in asked.items():
        before = there[name]
        for part in sorted({*before, *spec}):
            was, now = before.get(part), spec.get(part)
            if _canonical(part, was) != _canonical(part, now):
                yield f"{_CLAIM}.spec.{part}", _words(was), _words(now)


def _canonical(part: str, value: Any) -> Any:
    """One form for all spellings that the server stores alike, and for what it fills in."""
    if part == "volumeMode":
        return value or "Filesystem"
    if part != "resources":
        return value
    return {
        group: {name: quantity.canonical(each) for name, each in members.items()}
        for group, members in (value or {}).items()
        if members
    }


def _words(value: Any) -> str:
    return "unset" if value is None else json.dumps(value, sort_keys=True)
