"""From a K0sWorkerConfig and the Machine that owns it to the worker that is to be rendered, or why it cannot be.

What stands in Secrets and ConfigMaps is looked up only as far as facts go: whether it is there, under which digest. The
content is brought in when the recipe is fulfilled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from hosted_cp.api.problems import Problem
from hosted_cp.api.worker_config import ContentSource, K0sWorkerConfigSpec, Provisioner
from hosted_cp.k0s import capi_versions
from hosted_cp.k0s.versions import KNOWN_MINORS, Version, VersionError
from hosted_cp.machines.view import ControlPlane, WorkerView
from hosted_cp.machines.worker import File, Format, Ignition, Platform, SecretValue, Worker
from hosted_cp.planning.observed import Observed

#: By how many minors a kubelet may be older than its API server (Kubernetes' version skew policy).
_OLDEST_KUBELET = 3


@dataclass(frozen=True, kw_only=True)
class Unclear:
    """The worker cannot be told yet: what it takes from others is missing or wrong."""

    reason: str
    problems: tuple[Problem, ...]
    #: Whether it is on its way, so that nobody has done anything wrong.
    starting: bool = False


def worker_of(view: WorkerView, spec: K0sWorkerConfigSpec) -> Worker | Unclear:
    """The worker of a config that has a machine and a readable spec."""
    assert view.machine is not None
    version = version_of(view, spec)
    if isinstance(version, Unclear):
        return version
    missing = tuple(_missing(view, spec))
    if missing:
        return Unclear(reason="SourceMissing", problems=missing)
    given = spec.provisioner or Provisioner()
    ignition = given.ignition
    return Worker(
        name=view.machine.ref.name,
        pool=view.pool,
        version=version,
        format=Format(given.type),
        platform=Platform(given.platform),
        download_url=spec.download_url or "",
        checksum=spec.download_sha256 or "",
        pre_installed=bool(spec.pre_installed_k0s),
        install_dir=spec.k0s_install_dir,
        working_dir=spec.working_dir or "",
        use_system_hostname=spec.use_system_hostname,
        args=spec.args,
        pre_commands=spec.pre_k0s_commands,
        post_commands=spec.post_k0s_commands,
        files=tuple(
            File(
                path=file.path or "",
                permissions=file.permissions or "",
                content=(file.content or "").encode()
                if file.content_from is None or file.content
                else _value(view, file.content_from),
            )
            for file in spec.files or ()
        ),
        provider_id=view.asks("providerID"),
        ignition=None
        if ignition is None
        else Ignition(
            variant=ignition.variant, version=ignition.version, additional_config=ignition.additional_config or ""
        ),
        instance_data=bool(given.instance_data),
        custom=None if given.custom_user_data_ref is None else _value(view, given.custom_user_data_ref),
    )


# --- content of others -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Named:
    kind: Literal["Secret", "ConfigMap"]
    name: str
    key: str


def sources_of(spec: K0sWorkerConfigSpec) -> frozenset[tuple[str, str]]:
    """(kind, name) of every object that the spec takes content from."""
    return frozenset((named.kind, named.name) for _, source in _sources(spec) if (named := _named(source)) is not None)


def _sources(spec: K0sWorkerConfigSpec) -> Iterator[tuple[str, ContentSource]]:
    for index, file in enumerate(spec.files or ()):
        if file.content_from is not None:
            yield f"spec.files[{index}].contentFrom", file.content_from
    if spec.provisioner is not None and spec.provisioner.custom_user_data_ref is not None:
        yield "spec.provisioner.customUserDataRef", spec.provisioner.custom_user_data_ref


def _named(source: ContentSource) -> _Named | None:
    """What a source names; None where it names nothing (`worker_config_checks` says so)."""
    if source.secret_ref is not None:
        return _Named(kind="Secret", name=source.secret_ref.name, key=source.secret_ref.key)
    if source.config_map_ref is not None:
        return _Named(kind="ConfigMap", name=source.config_map_ref.name, key=source.config_map_ref.key)
    return None


def _digests(seen: Observed | None) -> Mapping[str, str]:
    return seen.secret.digests if seen is not None and seen.secret is not None else {}


def _value(view: WorkerView, source: ContentSource) -> SecretValue:
    named = _named(source)
    assert named is not None
    digest = _digests(view.sources.get((named.kind, named.name)))[named.key]
    return SecretValue(kind=named.kind, secret=named.name, key=named.key, digest=digest)


def _missing(view: WorkerView, spec: K0sWorkerConfigSpec) -> Iterator[Problem]:
    for field, source in _sources(spec):
        named = _named(source)
        if named is None:
            continue
        seen = view.sources.get((named.kind, named.name))
        field = f"{field}.{'secretRef' if named.kind == 'Secret' else 'configMapRef'}"
        if seen is None:
            yield Problem(
                field=f"{field}.name",
                fault=f"{named.kind} {named.name} does not exist in namespace {view.owner.ref.namespace}",
                remedy="create it there, or correct the name",
            )
        elif named.key not in _digests(seen):
            yield Problem(
                field=f"{field}.key",
                fault=f"{named.kind} {named.name} has no key {named.key[:253]!r}",
                remedy="add it there, or correct the key",
            )


# --- the version -----------------------------------------------------------------------------------------------------


def version_of(view: WorkerView, spec: K0sWorkerConfigSpec) -> Version | Unclear:
    """The release to install: the config's own, else the Machine's, else the control plane's.

    A version without packaging is of the release that the control plane runs, if that is the same Kubernetes.
    """
    assert view.machine is not None
    runs = view.control_plane
    machine = f"{view.machine.ref.kind} {view.machine.ref.name}"
    inner = "spec.template.spec.version" if view.pool else "spec.version"
    asked = (
        (spec.version or "", "spec.version"),
        (view.asks("version"), f"{inner} of {machine}"),
        (runs.version if runs is not None else "", "the control plane's version"),
    )
    text, field = next((each for each in asked if each[0]), ("", ""))
    if not text:
        foreign = runs is not None and runs.foreign
        unknown = Problem(
            field="spec.version",
            fault=f"is not set, nor is that of {machine}, and the control plane"
            + (" is not one of ours to ask for it" if foreign else " reports none yet"),
            remedy=("" if foreign else "wait for it, or ") + f"set {inner} of the {view.machine.ref.kind}",
        )
        return Unclear(reason="VersionUnknown", problems=(unknown,), starting=not foreign)
    unsupported = capi_versions.support_problem(text, field=field)
    if unsupported is not None and not _is_old(text):
        return Unclear(reason="VersionNotSupported", problems=(unsupported,))
    release = _release(runs)
    found = capi_versions.release(
        capi_versions.parse(text), catalogue=view.catalogue, decided=str(release) if release is not None else ""
    )
    newer = _newer(found, release, field) if release is not None else None
    return found if newer is None else Unclear(reason="VersionSkew", problems=(newer,))


def _is_old(text: str) -> bool:
    """Whether it is a version from before those that can be hosted. Workers of it can be made all the same."""
    try:
        return capi_versions.parse(text).named.release < KNOWN_MINORS[0]
    except VersionError:
        return False


def _release(runs: ControlPlane | None) -> Version | None:
    """What the control plane runs, as exactly as it says."""
    for text in (runs.release, runs.version) if runs is not None else ():
        try:
            return capi_versions.parse(text).named
        except VersionError:
            continue
    return None


def _newer(worker: Version, control_plane: Version, field: str) -> Problem | None:
    """Kubernetes' rule: a kubelet is never newer than its API server."""
    if worker.release <= control_plane.release:
        return None
    return Problem(
        field=field,
        fault=f"{worker} is newer than the control plane, which runs {control_plane}",
        remedy="upgrade the control plane first, or take a worker of its version",
    )


def age_warning(worker: Worker, runs: ControlPlane | None) -> str:
    """What is to be said of a worker that is more than three minors older than its control plane; "" of others.

    By Kubernetes' rules nobody answers for such a pair. Many work all the same, and k0smotron's users have them: it is
    theirs to decide, unlike a worker that is too new, which the control plane's upgrade makes possible.
    """
    release, version = _release(runs), worker.version
    if release is None or (version.major == release.major and version.minor >= release.minor - _OLDEST_KUBELET):
        return ""
    return (
        f"{version} is too old for the control plane, which runs {release}: use"
        f" v{release.major}.{release.minor - _OLDEST_KUBELET} or newer"
    )
