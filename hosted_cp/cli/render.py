"""`hosted-cp render`: from a manifest to the objects it would create, as YAML, without a cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import orjson
import yaml

from hosted_cp.api.base import Kind
from hosted_cp.api.cluster import Cluster, parse_cluster
from hosted_cp.api.control_plane import K0smotronControlPlane, K0smotronControlPlaneTemplate, parse_control_plane
from hosted_cp.api.conversion import ConversionError, convert
from hosted_cp.api.join_token_request import JoinTokenRequest, parse_join_token_request
from hosted_cp.api.kinds import VERSIONED, Versions
from hosted_cp.api.problems import Problem
from hosted_cp.api.schema import defaulted, defaults, unknown_fields
from hosted_cp.api.worker_config import K0sWorkerConfig, K0sWorkerConfigTemplate, parse_worker_config
from hosted_cp.cli.manifest import CORE, Manifest, Object, group, mapping, name_of, namespace_of
from hosted_cp.hosting import token_rehearsal
from hosted_cp.hosting.capi import control_plane
from hosted_cp.hosting.rehearsal import marked, rehearse
from hosted_cp.hosting.settings import Settings
from hosted_cp.hosting.view import TenantView
from hosted_cp.hosting.wanted import Wanted
from hosted_cp.machines import rehearsal as machines
from hosted_cp.machines.view import MACHINE, MACHINE_POOL
from hosted_cp.planning import marks
from hosted_cp.planning.actions import Ref
from hosted_cp.planning.conditions import rfc3339
from hosted_cp.planning.observed import Observed

#: A moment and a UID for what depends on them; both are marked in the output.
_NOW = datetime(2000, 1, 1, tzinfo=UTC)
_UID = "00000000-0000-0000-0000-000000000000"
_NOW_MARKED: Mapping[str | int, str] = {rfc3339(_NOW): "<now>", _NOW.isoformat(): "<now>"}
#: Of the Cluster that owns a control plane.
_CLUSTER_UID = "00000000-0000-0000-0000-000000000001"

#: (objects to be printed, what is wrong in words).
_Made = tuple[Sequence[Object], Sequence[object]]

#: All of ours. Those of others are read for what they say of these.
_VERSIONS = {(each.hub.group, each.hub.__name__): each for each in VERSIONED}

#: Names that the topology makes up: while planning, and in the result.
_UNNAMED_CONTROL_PLANE, _UNNAMED_CLUSTER = "name-of-the-control-plane", "name-of-the-cluster"
_NAMES: Mapping[str | int, str] = {
    _UNNAMED_CONTROL_PLANE: "<name of the K0smotronControlPlane>",
    _UNNAMED_CLUSTER: "<name of the Cluster>",
}


def catalogue() -> Mapping[str, Any]:
    """The catalogue of supported versions that was packed with this program."""
    read: Mapping[str, Any] = json.loads(files("hosted_cp").joinpath("catalogue.json").read_text())
    return read


def render_manifest(manifest: bytes, *, k0s_image: str | None, etcd_image: str | None) -> tuple[str, list[str]]:
    """(YAML of all objects that the manifest comes to, problems in words)."""
    settings = Settings(catalogue=catalogue(), k0s_image=k0s_image, etcd_image=etcd_image)
    try:
        whole = Manifest(bodies=tuple(each for each in yaml.safe_load_all(manifest) if isinstance(each, dict)))
    except yaml.YAMLError as error:
        return "", [f"the manifest is no YAML: {error}"]
    ours = [(each, _VERSIONS.get((group(each), str(each.get("kind"))))) for each in whole.bodies]
    documents: list[Object] = []
    said: list[str] = []
    for body, versions in ours:
        if versions is not None:
            made, problems = _rendered(body, versions, whole, settings)
            documents += made
            said += [f"{versions.hub.__name__} {name_of(body)}: {problem}" for problem in problems]
    if not any(versions for _, versions in ours):
        kinds = ", no ".join(f"{each.hub.__name__} ({each.hub.group}/{each.hub.version})" for each in VERSIONED)
        return "", [f"the manifest has no {kinds}"]
    text = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=120) if documents else ""
    return text, said


def _rendered(body: Object, versions: Versions, whole: Manifest, settings: Settings) -> _Made:
    """What one object comes to. What an API server would refuse or drop is a problem here as well."""
    current, said = _current(body, versions)
    if current is None:
        return [], said
    hub = versions.hub
    if hub in (Cluster, K0smotronControlPlane):
        made, problems = _tenant(_view(current, hub, whole, settings), hub)
    elif hub is K0smotronControlPlaneTemplate:
        made, problems = _of_template(current, whole, settings)
    elif hub is JoinTokenRequest:
        made, problems = _token(current, whole, settings)
    else:
        made, problems = _worker(current, hub, whole, settings)
    return made, [*said, *problems]


def _current(body: Object, versions: Versions) -> tuple[dict[str, Any] | None, list[Problem]]:
    """(the object as it would be stored, what an API server would say of it)."""
    hub = versions.hub
    as_stored = f"write the {hub.__name__} as {hub.group}/{hub.version}"
    served = {f"{each.group}/{each.version}": each for each in versions.all}
    kind = served.get(str(body.get("apiVersion")))
    if kind is None:
        fault = f"{str(body.get('apiVersion'))[:64]} is not served"
        return None, [Problem(field="apiVersion", fault=fault, remedy=as_stored)]
    unknown = [
        Problem(
            field=field,
            fault=f"is no field of a {hub.__name__}, and an API server would drop it",
            remedy="correct its name or remove it; docs/kinds.md lists all fields",
        )
        for field in unknown_fields(kind, body)
    ]
    if kind is hub:
        return dict(body), unknown
    try:
        return convert(defaulted(dict(body), defaults(kind)), to=hub.version), unknown
    except ConversionError as error:
        return None, [*unknown, Problem(field="spec", fault=str(error), remedy=as_stored)]


# --- control planes ---------------------------------------------------------------------------------------------------


def _view(body: Object, kind: type[Kind], whole: Manifest, settings: Settings) -> TenantView | Problem:
    """What the planner sees of an object that asks for a tenant."""
    if kind is Cluster:
        owner = _observed(body, Cluster, uid=_UID)
        parsed = parse_cluster(body)
        return TenantView(
            now=_NOW, owner=owner, name=owner.ref.name, spec=parsed.spec, problems=parsed.problems, settings=settings
        )
    cluster = whole.cluster_of(body)
    if cluster is None:
        return Problem(
            field="metadata.ownerReferences",
            fault="no Cluster of Cluster API in this file names it, and everything is named after that",
            remedy=f"add the Cluster ({CORE}/v1beta2) with this object as spec.controlPlaneRef",
        )
    return _owned(body, cluster, settings)


def _owned(body: Object, cluster: Object, settings: Settings) -> TenantView:
    """A control plane as it will be once Cluster API has put the owner reference of its Cluster onto it."""
    name = name_of(cluster)
    reference = {"apiVersion": f"{CORE}/v1beta2", "kind": "Cluster", "name": name, "uid": _CLUSTER_UID}
    owner = _observed(body, K0smotronControlPlane, uid=_UID, owners=(reference,))
    parsed = parse_control_plane(body)
    tenant = TenantView(now=_NOW, owner=owner, name=name, spec=None, problems=parsed.problems, settings=settings)
    core = _observed(cluster, None, uid=_CLUSTER_UID)
    return control_plane.as_tenant(control_plane.ControlPlaneView(tenant=tenant, spec=parsed.spec, cluster=core))


def _tenant(view: TenantView | Problem, kind: type[Kind], marks: Mapping[str | int, str] | None = None) -> _Made:
    if isinstance(view, Problem):
        return [], [view]
    wanted, problems = rehearse(view)
    return [_printed(each, kind, marks or {}) for each in wanted], problems


def _of_template(body: Object, whole: Manifest, settings: Settings) -> _Made:
    """What a control plane that is made from a template comes to: that of the Cluster in the file that leads to it, or
    of one of which nothing is known but that its topology says a version."""
    template = mapping(mapping(body.get("spec")).get("template"))
    cluster = whole.cluster_of_class(body)
    topology = mapping(mapping(mapping(cluster).get("spec")).get("topology"))
    # Whatever version the template says is not used.
    spec = {key: each for key, each in mapping(template.get("spec")).items() if key != "version"}
    said = {"version": topology.get("version"), "replicas": mapping(topology.get("controlPlane")).get("replicas")}
    namespace = namespace_of(body)
    kind = K0smotronControlPlane
    made = {
        "apiVersion": f"{kind.group}/{kind.version}",
        "kind": kind.__name__,
        "metadata": {**mapping(template.get("metadata")), "name": _UNNAMED_CONTROL_PLANE, "namespace": namespace},
        "spec": {**spec, **{key: each for key, each in said.items() if each is not None}},
    }
    unnamed = {"apiVersion": f"{CORE}/v1beta2", "kind": "Cluster",
               "metadata": {"name": _UNNAMED_CLUSTER, "namespace": namespace}}  # fmt: skip
    view = _owned(made, cluster or unnamed, settings)
    documents, problems = _tenant(view, kind, _NAMES if said["version"] else {**_NAMES, **_of_default(settings)})
    return documents, [str(each).replace("spec.", "spec.template.spec.", 1) for each in problems]


def _of_default(settings: Settings) -> Mapping[str | int, str]:
    """Marks for the version that stands for one that is not known."""
    default = str(settings.catalogue["k0s"]["default"])
    return dict.fromkeys((default, default.replace("+", "-")), "<version of the Cluster>")


# --- tokens -----------------------------------------------------------------------------------------------------------


def _token(body: Object, whole: Manifest, settings: Settings) -> _Made:
    """The Secret with the token. Where it leads to is known if the tenant is in the file."""
    parsed = parse_join_token_request(body)
    tenant = _named(parsed.spec.cluster_name, namespace_of(body), whole, settings) if parsed.spec else None
    made, said = token_rehearsal.rehearse(_observed(body, JoinTokenRequest, uid=_UID), parsed, tenant=tenant)
    return [made] if made is not None else [], [said] if said else []


def _named(name: str, namespace: str, whole: Manifest, settings: Settings) -> TenantView | None:
    """The tenant of this name, if the file asks for it in a way that can be read."""
    for kind in (Cluster, K0smotronControlPlane):
        for each in whole.of(kind.group, kind.__name__, namespace=namespace):
            current, _ = _current(each, _VERSIONS[kind.group, kind.__name__])
            view = _view(current, kind, whole, settings) if current is not None else None
            if isinstance(view, TenantView) and view.name == name:
                return view
    return None


def _observed(
    body: Object, kind: type[Kind] | None, *, uid: str, owners: tuple[Mapping[str, Any], ...] = ()
) -> Observed:
    """The object as it would be seen; `kind` where it is ours."""
    metadata = mapping(body.get("metadata"))
    ref = Ref(
        api_version=f"{kind.group}/{kind.version}" if kind is not None else str(body.get("apiVersion")),
        kind=str(body.get("kind")),
        namespace=namespace_of(body),
        name=name_of(body),
    )
    return Observed(
        ref=ref,
        uid=uid,
        resource_version="",
        generation=1,
        labels=mapping(metadata.get("labels")),
        annotations=mapping(metadata.get("annotations")),
        owner_references=owners,
        raw=orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS),
    )


# --- workers ----------------------------------------------------------------------------------------------------------


def _worker(body: Object, kind: type[Kind], whole: Manifest, settings: Settings) -> _Made:
    """The bootstrap Secret of one machine of this config, or of one that is made from this template."""
    template = kind is K0sWorkerConfigTemplate
    spec = body.get("spec")
    if template:
        spec = mapping(mapping(spec).get("template")).get("spec")
    parsed = parse_worker_config({"spec": spec})
    user, machine = whole.machine_of(body) or ({}, {})
    owner = str(user.get("kind", MACHINE))
    cluster = whole.cluster_named(str(machine.get("clusterName")), namespace=namespace_of(body)) or {}
    ref = Ref(
        api_version=f"{K0sWorkerConfig.group}/{K0sWorkerConfig.version}",
        kind=K0sWorkerConfig.__name__,
        namespace=namespace_of(body),
        name=machines.UNNAMED_MACHINE if template else name_of(body),
    )
    given = machines.Given(
        machine_kind=MACHINE_POOL if owner == MACHINE_POOL else MACHINE,
        machine_name=name_of(user) if owner in (MACHINE, MACHINE_POOL) else "",
        machine=machine,
        cluster=mapping(cluster.get("spec")),
        control_plane_version=_version_of(cluster, whole),
    )
    made, said = machines.rehearse(
        ref, parsed.spec, problems=parsed.problems, given=given, catalogue=settings.catalogue
    )
    if template and made is None:
        said = said.replace("spec.", "spec.template.spec.", 1)
    return [made] if made is not None else [], [said] if said else []


def _version_of(cluster: Object, whole: Manifest) -> str:
    """What the control plane of a Cluster is asked to run; "" if the file does not say."""
    reference = mapping(mapping(cluster.get("spec")).get("controlPlaneRef"))
    kind = K0smotronControlPlane
    for each in whole.of(kind.group, kind.__name__, namespace=namespace_of(cluster)):
        if name_of(each) == reference.get("name"):
            return str(mapping(each.get("spec")).get("version") or "")
    return ""


# --- as text ----------------------------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """YAML for people: texts of several lines as such."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _printed(wanted: Wanted, kind: type[Kind], more: Mapping[str | int, str]) -> Object:
    """The object as a reader wants it: plain data, recipes in place of secrets, unknown facts marked."""
    body = dict(wanted.body)
    if wanted.recipe is not None:
        body["data"] = {"<made by>": marked(wanted.recipe.printed())}
    return dict(marks.marked(body, {_UID: f"<UID of the {kind.__name__}>", **_NOW_MARKED, **more}))
