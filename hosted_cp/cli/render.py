"""`hosted-cp render`: from a manifest to the objects it would create, as YAML, without a cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import yaml

from hosted_cp.api.cluster import Cluster, parse_cluster
from hosted_cp.api.conversion import ConversionError, convert
from hosted_cp.api.kinds import VERSIONED
from hosted_cp.api.problems import Problem
from hosted_cp.api.schema import defaulted, defaults, unknown_fields
from hosted_cp.hosting.rehearsal import marked, rehearse
from hosted_cp.hosting.settings import Settings
from hosted_cp.hosting.view import TenantView
from hosted_cp.hosting.wanted import Wanted
from hosted_cp.planning.actions import Ref
from hosted_cp.planning.observed import Observed

#: A moment and a UID for what depends on them; both are marked in the output.
_NOW = datetime(2000, 1, 1, tzinfo=UTC)
_UID = "00000000-0000-0000-0000-000000000000"


_API = f"{Cluster.group}/{Cluster.version}"


def catalogue() -> Mapping[str, Any]:
    """The catalogue of supported versions that was packed with this program."""
    read: Mapping[str, Any] = json.loads(files("hosted_cp").joinpath("catalogue.json").read_text())
    return read


def render_manifest(manifest: bytes, *, k0s_image: str | None, etcd_image: str | None) -> tuple[str, list[str]]:
    """(YAML of all objects of all Clusters in the manifest, problems in words). Other kinds are passed over."""
    settings = Settings(catalogue=catalogue(), k0s_image=k0s_image, etcd_image=etcd_image)
    documents: list[dict[str, Any]] = []
    said: list[str] = []
    try:
        bodies = [body for body in yaml.safe_load_all(manifest) if isinstance(body, dict)]
    except yaml.YAMLError as error:
        return "", [f"the manifest is no YAML: {error}"]
    clusters = [body for body in bodies if _is_ours(body)]
    if not clusters:
        return "", [f"the manifest has no {Cluster.__name__} ({_API})"]
    for body in clusters:
        wanted, problems = _rendered(body, settings)
        said += [f"Cluster {_mapping(body.get('metadata')).get('name') or ''}: {problem}" for problem in problems]
        documents += [_printed(each) for each in wanted]
    return yaml.safe_dump_all(documents, sort_keys=False, width=120) if documents else "", said


def _is_ours(body: Mapping[str, Any]) -> bool:
    """A Cluster of ours, of whatever version; Cluster API has a kind of that name, too."""
    group = str(body.get("apiVersion")).partition("/")[0]
    return body.get("kind") == Cluster.__name__ and group == Cluster.group


def _rendered(body: Mapping[str, Any], settings: Settings) -> tuple[list[Wanted], list[Problem]]:
    """What one Cluster comes to. What an API server would refuse or drop is a problem here as well."""
    served = {f"{each.group}/{each.version}": each for each in VERSIONED[0].all}
    kind = served.get(str(body.get("apiVersion")))
    if kind is None:
        fault = f"{str(body.get('apiVersion'))[:64]} is not served"
        return [], [Problem(field="apiVersion", fault=fault, remedy=f"write the Cluster as {_API}")]
    unknown = [
        Problem(
            field=field,
            fault="is no field of a Cluster, and an API server would drop it",
            remedy="correct its name or remove it; docs/kinds.md lists all fields",
        )
        for field in unknown_fields(kind, body)
    ]
    if kind is not Cluster:
        try:
            body = convert(defaulted(dict(body), defaults(kind)), to=Cluster.version)
        except ConversionError as error:
            return [], [*unknown, Problem(field="spec", fault=str(error), remedy=f"write the Cluster as {_API}")]
    wanted, problems = rehearse(_view(body, settings))
    return wanted, [*unknown, *problems]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _view(body: Mapping[str, Any], settings: Settings) -> TenantView:
    metadata = _mapping(body.get("metadata"))
    parsed = parse_cluster(body)
    owner = Observed(
        ref=Ref(
            api_version=_API,
            kind=Cluster.__name__,
            namespace=str(metadata.get("namespace") or "default"),
            name=str(metadata.get("name") or ""),
        ),
        uid=_UID,
        resource_version="",
        generation=1,
        labels=_mapping(metadata.get("labels")),
        annotations=_mapping(metadata.get("annotations")),
    )
    return TenantView(
        now=_NOW, owner=owner, name=owner.ref.name, spec=parsed.spec, problems=parsed.problems, settings=settings
    )


def _printed(wanted: Wanted) -> dict[str, Any]:
    """The object as a reader wants it: plain data, recipes in place of secrets, unknown facts marked."""
    body = dict(_plain(wanted.body))
    if wanted.recipe is not None:
        body["data"] = {"<made by>": _plain(marked(wanted.recipe.printed()))}
    return dict(_named(body))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _named(value: Any) -> Any:
    """The marks of what only the cluster knows."""
    if isinstance(value, dict):
        return {key: _named(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_named(each) for each in value]
    if value == _UID:
        return "<UID of the Cluster>"
    if isinstance(value, str) and value.startswith("2000-01-01T00:00:00"):
        return "<now>"
    return value
