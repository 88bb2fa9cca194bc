"""The API server's question whether an object may be stored (`AdmissionReview`), answered: a dict in, a dict out.

Nothing is judged here that the planners do not judge, too, by the same functions: admission tells a user at once what
a condition would tell him a moment later, and an operator relies on none of it. That is why the configuration lets
objects in while nobody answers (`hosted_cp.webhooks.configuration`). The one rule that stands here alone is that
templates do not change.

What was stored once can be kept: faults that the stored object has already are warned of and refuse nothing, and an
update that leaves the spec alone is always allowed. So a release that judges more strictly stops nobody from changing
metadata, from taking a finalizer off, or from mending one fault of two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from hosted_cp.api import checks, control_plane_checks, worker_config_checks
from hosted_cp.api.cluster import ClusterSpec, parse_cluster
from hosted_cp.api.control_plane import ControlPlaneTemplateSpec, parse_control_plane
from hosted_cp.api.join_token_request import parse_join_token_request
from hosted_cp.api.problems import Problem, of_validation
from hosted_cp.api.worker_config import K0sWorkerConfigSpec, parse_worker_config
from hosted_cp.hosting import unsupported
from hosted_cp.hosting.etcd import flags as etcd_flags
from hosted_cp.k0s import capi_versions, versions
from hosted_cp.k0s.command import flag_problems
from hosted_cp.k0s.config import problems as config_problems

API_VERSION = "admission.k8s.io/v1"

#: Set by Cluster API on what it only tries out (dry runs), and on nothing else.
TOPOLOGY_DRY_RUN = "topology.cluster.x-k8s.io/dry-run"
_CLUSTER_NAME = "cluster.x-k8s.io/cluster-name"

#: So deep may a spec be nested. Kubernetes' own kinds need 30, k0s' config 20; what is much deeper is stored without a
#: word and can then be read at one version only, which ends every list at the other.
DEEPEST = 100

#: So many faults are told in a refusal; more would not fit onto anybody's screen.
_MOST = 20
#: Kubernetes cuts a warning off where it is longer.
_WARNING = 250

Object = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What there is to say about one object."""

    problems: tuple[Problem, ...] = ()
    #: What does nothing, or leads somewhere where the user may not want to go. Refuses nothing.
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Context:
    """What an object is judged with."""

    #: Parsed `catalogue.json`.
    catalogue: Mapping[str, Any] = field(repr=False)


#: (object, the stored object or None) -> what there is to say.
_Judge = Callable[[Object, Object | None, Context], Found]


def review(body: object, context: Context) -> dict[str, Any]:
    """The answer to an AdmissionReview. What is no review, or about another kind, is refused with a message."""
    request = body.get("request") if isinstance(body, dict) else None
    if not isinstance(request, dict):
        return _answer("", refusal="this is no AdmissionReview with a request")
    uid = str(request.get("uid", ""))
    obj, old = request.get("object"), request.get("oldObject")
    if request.get("operation") not in ("CREATE", "UPDATE") or request.get("subResource"):
        return _answer(uid)  # nothing that a spec can be at fault for
    kind = _mapping(request.get("kind"))
    judge = _JUDGES.get((str(kind.get("group")), str(kind.get("version")), str(kind.get("kind"))))
    if judge is None or not isinstance(obj, dict):
        named = f"{kind.get('group')}/{kind.get('version')} {kind.get('kind')}"
        return _answer(
            uid, refusal=f"hosted-cp does not judge {named}: its webhook configuration is of another release"
        )
    old = old if isinstance(old, dict) else None
    if (too_deep := _too_deep(obj.get("spec"))) is not None:
        # One that is stored is looked at no further, not even compared: that would need as many levels of our own.
        if old is not None and _too_deep(old.get("spec")) is not None:
            return _answer(uid, warnings=[f"{too_deep} (as before)"])
        return _answer(uid, problems=[too_deep], about=_about(kind, obj))
    if old is not None and (
        old.get("spec") == obj.get("spec") or _mapping(obj.get("metadata")).get("deletionTimestamp")
    ):
        return _answer(uid)
    found = judge(obj, old, context)
    standing = frozenset(_identity(each) for each in judge(old, None, context).problems) if old is not None else ()
    refused = [each for each in found.problems if _identity(each) not in standing]
    kept = [f"{each} (as before)" for each in found.problems if _identity(each) in standing]
    if _is_template(kind) and old is not None and not _tried_out(request, obj):
        refused += _changed_template(obj, old)
    return _answer(uid, problems=refused, warnings=[*kept, *found.warnings], about=_about(kind, obj))


def _too_deep(spec: object) -> Problem | None:
    """Whether a spec is nested deeper than `DEEPEST`, and where that begins. Level by level, so that no depth hurts."""
    fields = spec.items() if isinstance(spec, dict) else ()
    for name, value in fields:
        level = [value]
        for _ in range(DEEPEST):
            level = [inner for each in level for inner in _inside(each)]
        if level:
            fault = f"is nested more than {DEEPEST} levels deep"
            return Problem(field=f"spec.{name[:253]}", fault=fault, remedy="write it flatter")
    return None


def _inside(value: object) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _about(kind: Mapping[str, Any], obj: Object) -> dict[str, str]:
    """By these kubectl says which object of a manifest is refused."""
    metadata = _mapping(obj.get("metadata"))
    name = metadata.get("name") or metadata.get("generateName") or ""
    return {"group": str(kind.get("group")), "kind": str(kind.get("kind")), "name": str(name)}


def _identity(problem: Problem) -> tuple[str, str]:
    return problem.field, problem.fault


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


# --- each kind --------------------------------------------------------------------------------------------------------


def _cluster(obj: Object, old: Object | None, context: Context) -> Found:
    parsed = parse_cluster(obj)
    if parsed.spec is None:
        return Found(problems=parsed.problems)
    before = parse_cluster(old).spec if old is not None else None
    spec = parsed.spec
    meant = checks.problems(spec, name=_name(obj), support=versions.support_problem, **_former(before))
    problems = (
        *meant,
        *_of_programs(spec, version=_release(spec.version, old, context), told=meant),
        *_way_to(spec.version, old),
    )
    return Found(problems=problems, warnings=tuple(_not_yet(spec)))


def _control_plane(obj: Object, old: Object | None, context: Context) -> Found:
    parsed = parse_control_plane(obj)
    if parsed.spec is None:
        return Found(problems=parsed.problems)
    before = parse_control_plane(old).spec if old is not None else None
    spec = parsed.spec
    meant = control_plane_checks.problems(
        spec, cluster=_capi_cluster(obj), support=capi_versions.support_problem, **_former(before)
    )
    problems = (
        *meant,
        *_of_programs(spec, version=_capi_release(spec.version, old, context), told=meant),
        *_capi_way_to(spec.version, old, context),
    )
    return Found(problems=problems, warnings=(*_advice(spec.version), *_not_yet(spec)))


def _control_plane_template(obj: Object, old: Object | None, context: Context) -> Found:
    spec = _template_spec(obj, ControlPlaneTemplateSpec)
    if isinstance(spec, Found):
        return spec
    problems = control_plane_checks.template_problems(spec, support=capi_versions.support_problem)
    return Found(problems=problems, warnings=tuple(_not_yet(spec, field="spec.template.spec")))


def _join_token_request(obj: Object, old: Object | None, context: Context) -> Found:
    return Found(problems=parse_join_token_request(obj).problems)


def _worker_config(obj: Object, old: Object | None, context: Context) -> Found:
    parsed = parse_worker_config(obj)
    if parsed.spec is None:
        return Found(problems=parsed.problems)
    # Workers may be older than any control plane that can be hosted: no question of support.
    problems = worker_config_checks.problems(parsed.spec)
    return Found(problems=problems, warnings=tuple(map(str, worker_config_checks.warnings(parsed.spec))))


def _worker_config_template(obj: Object, old: Object | None, context: Context) -> Found:
    spec = _template_spec(obj, K0sWorkerConfigSpec)
    if isinstance(spec, Found):
        return spec
    said = (str(each).replace("spec.", "spec.template.spec.", 1) for each in worker_config_checks.warnings(spec))
    return Found(problems=worker_config_checks.template_problems(spec), warnings=tuple(said))


_CONTROL_PLANE = "controlplane.cluster.x-k8s.io"
_BOOTSTRAP = "bootstrap.cluster.x-k8s.io"
#: Requests in other versions are converted before we are asked (`matchPolicy: Equivalent`).
_JUDGES: Mapping[tuple[str, str, str], _Judge] = {
    ("k0smotron.io", "v1beta2", "Cluster"): _cluster,
    ("k0smotron.io", "v1beta2", "JoinTokenRequest"): _join_token_request,
    (_CONTROL_PLANE, "v1beta2", "K0smotronControlPlane"): _control_plane,
    (_CONTROL_PLANE, "v1beta2", "K0smotronControlPlaneTemplate"): _control_plane_template,
    (_BOOTSTRAP, "v1beta2", "K0sWorkerConfig"): _worker_config,
    (_BOOTSTRAP, "v1beta2", "K0sWorkerConfigTemplate"): _worker_config_template,
}


def _name(obj: Object) -> str:
    metadata = _mapping(obj.get("metadata"))
    # An object that asks for a generated name has none yet; only its length can be judged, with the five that come.
    return str(metadata.get("name") or f"{metadata.get('generateName', '')}xxxxx")


def _capi_cluster(obj: Object) -> str:
    """The name of the Cluster API cluster, after which the control plane is named; "any" where nobody has said."""
    metadata = _mapping(obj.get("metadata"))
    owners = metadata.get("ownerReferences")
    for owner in owners if isinstance(owners, list) else ():
        group = str(_mapping(owner).get("apiVersion", "")).partition("/")[0]
        if group == "cluster.x-k8s.io" and owner.get("kind") == "Cluster":
            return str(owner.get("name"))
    return str(_mapping(metadata.get("labels")).get(_CLUSTER_NAME) or "any")


def _former(before: ClusterSpec | None) -> dict[str, Any]:
    """For `checks.problems`: what a running tenant keeps."""
    return {} if before is None else {"old": before.network, "old_storage": before.storage_kind}


def _of_programs(spec: ClusterSpec, *, version: versions.Version, told: Iterable[Problem]) -> Iterator[Problem]:
    """What k0s of this version, or etcd, would not take or must not be given; of a field that is `told` no more."""
    fields = {each.field for each in told}
    yield from flag_problems(spec.control_plane_flags, version=version)
    for each in config_problems(spec.k0s_config, version=version):
        if each.field not in fields:
            yield each
    if spec.storage_kind == "etcd" and spec.storage is not None and spec.storage.etcd is not None:
        yield from (problem for _, problem in etcd_flags.denied(spec.storage.etcd.args))


def _release(version: str | None, old: Object | None, context: Context) -> versions.Version:
    """The release that a Cluster runs by its spec: where none is named, the one that it has, or a new one gets. One
    that is none, or cannot be hosted, is said to be so by `checks`."""
    if not version or versions.support_problem(version) is not None:
        version = _served(old, "version") or versions.default(context.catalogue)
    return versions.parse(version)


def _capi_release(version: str | None, old: Object | None, context: Context) -> versions.Version:
    """The same for a control plane of Cluster API."""
    running = _served(old, "k0sVersion")
    if not version or capi_versions.support_problem(version) is not None:
        return versions.parse(running or versions.default(context.catalogue))
    return capi_versions.release(capi_versions.parse(version), catalogue=context.catalogue, decided=running)


def _not_yet(spec: ClusterSpec, *, field: str = "spec") -> Iterator[str]:
    for each in unsupported.problems(spec):
        yield str(each).replace("spec", field, 1)


def _advice(version: str | None) -> Iterator[str]:
    try:
        said = capi_versions.advice(capi_versions.parse(version)) if version else ""
    except versions.VersionError:
        return
    if said:
        yield said


def _way_to(version: str | None, old: Object | None) -> Iterator[Problem]:
    """Why a Cluster that has served cannot become this version."""
    running = _served(old, "version")
    if not running or not version or versions.support_problem(version) is not None:
        return
    if (problem := versions.upgrade_problem(running, versions.parse(version))) is not None:
        yield problem


def _capi_way_to(version: str | None, old: Object | None, context: Context) -> Iterator[Problem]:
    """The same for a control plane of Cluster API."""
    running = _served(old, "k0sVersion")
    if not running or not version or capi_versions.support_problem(version) is not None:
        return
    wanted = capi_versions.release(capi_versions.parse(version), catalogue=context.catalogue, decided=running)
    if (problem := capi_versions.change_problem(running, wanted)) is not None:
        yield problem


def _served(old: Object | None, field: str) -> str:
    """The release that runs, once its API has answered; "" before that, when a version can still be corrected."""
    status = _mapping(_mapping(old).get("status"))
    answered = status.get("initialized") or _mapping(status.get("initialization")).get("controlPlaneInitialized")
    try:
        return str(versions.parse(str(status.get(field)))) if answered is True else ""
    except versions.VersionError:
        return ""


# --- templates --------------------------------------------------------------------------------------------------------


_Spec = TypeVar("_Spec", bound=BaseModel)


def _template_spec(obj: Object, model: type[_Spec]) -> _Spec | Found:
    try:
        return model.model_validate(_made_from(obj) or {})
    except ValidationError as error:
        return Found(problems=of_validation(error, root="spec.template.spec"))


def _made_from(obj: Object) -> Any:
    return _mapping(_mapping(obj.get("spec")).get("template")).get("spec")


def _is_template(kind: Mapping[str, Any]) -> bool:
    return str(kind.get("kind")).endswith("Template")


def _tried_out(request: Mapping[str, Any], obj: Object) -> bool:
    """Whether Cluster API's topology only asks what a change would come to: it makes another template then.

    Source: Cluster API's book, "Contract rules for ControlPlaneTemplate" (SSA dry run).
    """
    annotations = _mapping(_mapping(obj.get("metadata")).get("annotations"))
    return request.get("dryRun") is True and TOPOLOGY_DRY_RUN in annotations


def _changed_template(obj: Object, old: Object) -> Iterator[Problem]:
    if _made_from(obj) != _made_from(old):
        yield Problem(
            field="spec.template.spec",
            fault="cannot be changed: what was made from it would not follow",
            remedy=f"create another {obj.get('kind')} and refer to that",
        )


# --- the answer -------------------------------------------------------------------------------------------------------


def _answer(
    uid: str,
    *,
    refusal: str = "",
    problems: Sequence[Problem] = (),
    warnings: Iterable[str] = (),
    about: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    response: dict[str, Any] = {"uid": uid, "allowed": not (refusal or problems)}
    if refusal:
        response["status"] = {"status": "Failure", "code": 400, "reason": "BadRequest", "message": refusal}
    elif problems:
        told = [str(each) for each in problems[:_MOST]]
        if len(problems) > _MOST:
            told.append(f"and {len(problems) - _MOST} more faults")
        response["status"] = {
            "status": "Failure",
            "code": 422,
            "reason": "Invalid",
            "message": "; ".join(told),
            "details": {
                **(about or {}),
                "causes": [
                    {"reason": "FieldValueInvalid", "field": each.field, "message": f"{each.fault}; {each.remedy}"}
                    for each in problems[:_MOST]
                ],
            },
        }
    if said := [each if len(each) <= _WARNING else f"{each[: _WARNING - 1]}…" for each in warnings][:_MOST]:
        response["warnings"] = said
    return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}
