"""The user's `spec.patches`: changes of generated objects, and what they may not change.

A patch is the user's way to what the spec has no field for. It runs with the operator's rights, so it must not become a
way to what the user may not do: whose an object is, where it stands and what it selects stay ours, nothing refers to
another namespace, and what reaches the node or other identities needs a namespace that the administrator opened. A
patch that breaks one of these rules, or does not apply, is refused by its index, and nothing is changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hosted_cp.api.cluster import Patch
from hosted_cp.api.problems import Problem
from hosted_cp.api.text import TextError, load
from hosted_cp.hosting import budget, patch_types
from hosted_cp.hosting.names import COMPONENT
from hosted_cp.hosting.patch_types import PatchError
from hosted_cp.hosting.privileges import identities
from hosted_cp.hosting.tenant import Tenant
from hosted_cp.hosting.wanted import Wanted
from hosted_cp.planning.actions import Object, Target

#: Labels by which we, the selectors and k0smotron's tools find objects; and prefixes of keys that are ours alone.
_OUR_LABELS = ("app", "cluster", "component", COMPONENT, "cluster.x-k8s.io/control-plane")
_OUR_PREFIXES = ("hosted-cp.io/", "k0smotron.io/")

#: What identifies an object, whose it is, and what it selects.
_FIXED = (
    ("apiVersion",),
    ("kind",),
    ("metadata", "name"),
    ("metadata", "namespace"),
    ("metadata", "generateName"),
    ("metadata", "ownerReferences"),
    ("metadata", "finalizers"),
    ("metadata", "uid"),
    ("metadata", "resourceVersion"),
    ("spec", "selector"),
    ("spec", "podSelector"),
    ("spec", "serviceName"),
)


def apply_patches(t: Tenant, wanted: Sequence[Wanted]) -> tuple[list[Wanted], list[Problem]]:
    """The wanted objects with the user's patches applied in their order, and why some could not be."""
    patches = t.spec.patches or ()
    if not patches:
        return list(wanted), []
    problems: list[Problem] = []
    patched = []
    for each in wanted:
        body, found = _patched(each, patches, privileged=t.view.privileged)
        problems += found
        patched.append(dataclasses.replace(each, body=body))
    return patched, problems


def problems_of_later(t: Tenant, wanted: Sequence[Wanted], later: Sequence[Wanted]) -> list[Problem]:
    """Why patches do not fit what is wanted `later`, and which fit nothing of either."""
    if not t.spec.patches:
        return []
    # With one replica there is no budget, but a tenant whose replicas change must not be refused for what it has ready.
    there = [*wanted, *later]
    spare = [each for each in budget.at_most(t) if each.ref not in {other.ref for other in there}]
    _, problems = apply_patches(t, [*later, *spare])
    targets = {_target(each.body) for each in [*there, *spare] if each.target is not Target.TENANT}
    shown = ", ".join(sorted(f"{kind} {component}" for kind, component in targets if kind != "Secret"))
    for index, patch in enumerate(t.spec.patches):
        asked = (patch.target.kind, patch.target.component)
        if asked not in targets:
            problems.append(
                Problem(
                    field=f"spec.patches[{index}].target",
                    fault=f"no object of this tenant is of kind {asked[0][:64]} and component {asked[1][:64]}",
                    remedy=f"name one of those that there are ({shown}), or remove the patch",
                )
            )
    return problems


def _target(body: Object) -> tuple[str, str]:
    """Kind and component, by which patches find their objects."""
    return body["kind"], str((body["metadata"].get("labels") or {}).get(COMPONENT))


def _patched(each: Wanted, patches: Sequence[Patch], *, privileged: bool) -> tuple[Object, list[Problem]]:
    body = each.body
    problems = []
    for index, patch in enumerate(patches):
        if (patch.target.kind, patch.target.component) != _target(each.body):
            continue
        try:
            if each.recipe is not None:
                raise PatchError("Secrets that the operator fills cannot be patched")
            body = apply_patch(body, type=patch.patch.type, content=patch.patch.content, privileged=privileged)
        except PatchError as error:
            problems.append(
                Problem(
                    field=f"spec.patches[{index}]",
                    fault=f"apply patch at index {index} (type={patch.patch.type}, kind={patch.target.kind}, "
                    f"component={patch.target.component}): {error}",
                    remedy="correct or remove the patch",
                )
            )
    return body, problems


def apply_patch(body: Object, *, type: str, content: str, privileged: bool = False) -> dict[str, Any]:
    """The object after one patch (`json`, `merge` or `strategic`; YAML or JSON), within the guard rails.

    Raises `PatchError` if the patch cannot be read, does not apply, or changes what it may not. `privileged`: the
    administrator opened the namespace for what reaches the node.
    """
    try:
        patch = load(content)
    except TextError as error:
        raise PatchError(f"its content cannot be read: {error}") from None
    patched = patch_types.apply(body, type=type, patch=patch)
    broken = next(_broken_rails(body, patched, privileged=privileged), None)
    if broken:
        raise PatchError(broken)
    return patched


# --- guard rails -----------------------------------------------------------------------------------------------------


def _broken_rails(before: Object, after: Object, *, privileged: bool) -> Iterator[str]:
    if not isinstance(after.get("metadata"), Mapping) or not isinstance(after.get("spec", {}), Mapping):
        yield "it leaves no metadata or spec"
        return
    for path in _FIXED:
        if _at(before, *path) != _at(after, *path):
            yield f"it changes {'.'.join(path)}, which is the operator's"
    yield from _labels(before, after)
    yield from _claims(after)
    if not privileged:
        yield from _reaches(before, after)


def _labels(before: Object, after: Object) -> Iterator[str]:
    selected = _at(before, "spec", "selector", "matchLabels") or {}
    for path, ours in (
        (("metadata", "labels"), _OUR_LABELS),
        (("metadata", "annotations"), ()),
        (("spec", "template", "metadata", "labels"), (*_OUR_LABELS, *selected)),
        (("spec", "template", "metadata", "annotations"), ()),
    ):
        old, new = _at(before, *path) or {}, _at(after, *path) or {}
        if not isinstance(new, Mapping):
            yield f"{'.'.join(path)} is no mapping any more"
            continue
        for key in sorted({*old, *new}, key=str):
            if (key in ours or str(key).startswith(_OUR_PREFIXES)) and old.get(key) != new.get(key):
                yield f"it changes {'.'.join(path)}[{key}], which is the operator's"


def _claims(after: Object) -> Iterator[str]:
    """Volumes filled from another namespace."""
    claims = [("spec.volumeClaimTemplates", claim) for claim in _items(after, "spec", "volumeClaimTemplates")]
    claims += [
        (f"{where}.volumes[{volume.get('name')}].ephemeral", _at(volume, "ephemeral", "volumeClaimTemplate") or {})
        for where, pod in _pods(after)
        for volume in _items(pod, "volumes")
    ]
    for where, claim in claims:
        if _at(claim, "spec", "dataSourceRef", "namespace") or _at(claim, "metadata", "namespace"):
            yield f"{where} refers to another namespace"


def _pods(body: Object) -> list[tuple[str, Mapping[str, Any]]]:
    spec = _at(body, "spec", "template", "spec")
    return [("spec.template.spec", spec)] if isinstance(spec, Mapping) else []


_HOST = ("hostNetwork", "hostPID", "hostIPC")
_IDENTITY = ("serviceAccountName", "serviceAccount", "automountServiceAccountToken", "nodeName", "runtimeClassName")
_NEEDS = "which needs a namespace that the administrator opened (--privileged-namespace)"


def _reaches(before: Object, after: Object) -> Iterator[str]:
    """What reaches the node, other identities or other traffic."""
    for name in ("externalIPs", "externalName"):
        if _at(before, "spec", name) != _at(after, "spec", name):
            yield f"it sets spec.{name}, {_NEEDS}"
    old = dict(_pods(before)).get("spec.template.spec", {})
    for where, pod in _pods(after):
        for name in _HOST:
            if pod.get(name):
                yield f"it sets {where}.{name}, {_NEEDS}"
        for name in _IDENTITY:
            if pod.get(name) != old.get(name):
                yield f"it sets {where}.{name}, {_NEEDS}"
        yield from _volumes(where, old, pod)
        yield from _weaker(
            f"{where}.securityContext", old.get("securityContext") or {}, pod.get("securityContext") or {}
        )
        for group in ("initContainers", "containers", "ephemeralContainers"):
            known = {container.get("name"): container for container in _items(old, group)}
            for container in _items(pod, group):
                place = f"{where}.{group}[{container.get('name')}]"
                former = known.get(container.get("name"))
                yield from _container(place, former, container)


def _volumes(where: str, old: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[str]:
    known = {volume.get("name"): volume for volume in _items(old, "volumes")}
    for volume in _items(pod, "volumes"):
        former = known.get(volume.get("name"))
        reaching = [*(["hostPath"] if "hostPath" in volume else []), *identities(volume)]
        if reaching and volume != former:
            yield f"it sets {where}.volumes[{volume.get('name')}] to {reaching[0]}, {_NEEDS}"


def _container(place: str, former: Mapping[str, Any] | None, container: Mapping[str, Any]) -> Iterator[str]:
    if any(port.get("hostPort") for port in _items(container, "ports")):
        yield f"it sets {place}.ports.hostPort, {_NEEDS}"
    old = (former or {}).get("securityContext") or {}
    new = container.get("securityContext") or {}
    yield from _weaker(f"{place}.securityContext", old, new)
    if former is not None:
        for name, strict in (("allowPrivilegeEscalation", False), ("readOnlyRootFilesystem", True)):
            if old.get(name) is strict and new.get(name) is not strict:
                yield f"it changes {place}.securityContext.{name}, {_NEEDS}"


def _weaker(place: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """A security context that gives more than the one before. Of a new container: more than a plain one."""
    for name in ("privileged", "allowPrivilegeEscalation"):
        if new.get(name) and not old.get(name):
            yield f"it sets {place}.{name}, {_NEEDS}"
    for name in ("procMount", "windowsOptions", "seLinuxOptions", "appArmorProfile", "sysctls", "supplementalGroups"):
        if name in new and new[name] != old.get(name):
            yield f"it sets {place}.{name}, {_NEEDS}"
    for name in ("seccompProfile", "runAsUser", "runAsGroup", "runAsNonRoot", "fsGroup"):
        harmless = name in ("runAsUser", "runAsGroup", "fsGroup") and new.get(name)  # to be somebody, and not root
        if name in old and new.get(name) != old[name] and not harmless:
            yield f"it changes {place}.{name}, {_NEEDS}"
        if name not in old and name in new and not harmless and new[name] not in (True, {"type": "RuntimeDefault"}):
            yield f"it sets {place}.{name}, {_NEEDS}"
    added = set(_at(new, "capabilities", "add") or ()) - set(_at(old, "capabilities", "add") or ())
    if added or set(_at(old, "capabilities", "drop") or ()) - set(_at(new, "capabilities", "drop") or ()):
        yield f"it changes {place}.capabilities, {_NEEDS}"


def _at(value: Any, *path: str) -> Any:
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _items(value: Any, *path: str) -> list[Mapping[str, Any]]:
    found = _at(value, *path)
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []
