"""`K0sWorkerConfig` and its template.

| v1beta1 | v1beta2 |
|---|---|
| `preStartCommands`, `postStartCommands` | `preK0sCommands`, `postK0sCommands` |
| `ignition` | `provisioner.type: ignition` and `provisioner.ignition` |
| no `ignition` | `provisioner.type: cloud-config` |
| `customUserDataRef` | `provisioner.customUserDataRef` |
| `status.ready` | `status.initialization.dataSecretCreated` |
"""

from __future__ import annotations

from collections.abc import Callable

from hosted_cp.api.conversions.trees import Tree, mapping, rename

_COMMANDS = {"preStartCommands": "preK0sCommands", "postStartCommands": "postK0sCommands"}


def up(tree: Tree) -> Tree:
    """At v1beta2."""
    if isinstance(tree.get("spec"), dict):
        tree = {**tree, "spec": _spec_up(tree["spec"])}
    if isinstance(tree.get("status"), dict) and "ready" in tree["status"]:
        status = dict(tree["status"])
        created = {"dataSecretCreated": status.pop("ready")}
        tree = {**tree, "status": {**status, "initialization": created}}
    return tree


def down(tree: Tree) -> Tree:
    """At v1beta1."""
    if isinstance(tree.get("spec"), dict):
        tree = {**tree, "spec": _spec_down(tree["spec"])}
    if isinstance(tree.get("status"), dict):
        initialization = mapping(tree["status"].get("initialization"))
        if "dataSecretCreated" in initialization:
            tree = {**tree, "status": {**tree["status"], "ready": initialization["dataSecretCreated"]}}
    return tree


def template_up(tree: Tree) -> Tree:
    """A template at v1beta2."""
    return _template(tree, _spec_up)


def template_down(tree: Tree) -> Tree:
    """A template at v1beta1."""
    return _template(tree, _spec_down)


def _template(tree: Tree, translate: Callable[[Tree], Tree]) -> Tree:
    template = mapping(mapping(tree.get("spec")).get("template"))
    if not isinstance(template.get("spec"), dict):
        return tree
    template["spec"] = translate(template["spec"])
    return {**tree, "spec": {**tree["spec"], "template": template}}


def _spec_up(given: Tree) -> Tree:
    spec = dict(given)
    for old, new in _COMMANDS.items():
        rename(spec, old, new)
    provisioner = {key: spec.pop(key) for key in ("ignition", "customUserDataRef") if key in spec}
    spec["provisioner"] = {"type": "ignition" if "ignition" in provisioner else "cloud-config", **provisioner}
    return spec


def _spec_down(given: Tree) -> Tree:
    spec = dict(given)
    for old, new in _COMMANDS.items():
        rename(spec, new, old)
    provisioner = mapping(spec.pop("provisioner", None))
    if "customUserDataRef" in provisioner:
        spec["customUserDataRef"] = provisioner["customUserDataRef"]
    # Data for Ignition that another type leaves unused would at v1beta1 select Ignition.
    if provisioner.get("type") == "ignition" and "ignition" in provisioner:
        spec["ignition"] = provisioner["ignition"]
    return spec
