"""`docs/kinds.md`: the reference of our kinds for users, made from the same models as the CRDs.

python -m hosted_cp.api.docs                        # print it
python -m hosted_cp.api.docs --write docs/kinds.md  # write it
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hosted_cp.api import core
from hosted_cp.api.base import Kind
from hosted_cp.api.cluster import Cluster
from hosted_cp.api.kinds import VERSIONED, Versions
from hosted_cp.api.schema import openapi
from hosted_cp.api.worker_config import K0sWorkerConfig


@dataclass(frozen=True, kw_only=True)
class DroppedDefault:
    """A default of k0smotron's schema that ours leaves out."""

    field: str
    default: str
    instead: str
    why: str


DROPPED_DEFAULTS = (
    DroppedDefault(
        field="Cluster `spec.service.apiPort`",
        default="`30443`",
        instead="6443; for NodePort, a port that the management cluster allocates",
        why="a second NodePort tenant in the same cluster could never be created",
    ),
    DroppedDefault(
        field="Cluster `spec.service.konnectivityPort`",
        default="`30132`",
        instead="8132; for NodePort, a port that the management cluster allocates",
        why="the same",
    ),
    DroppedDefault(
        field="Cluster `spec.storage.etcd.image`",
        default="`quay.io/k0sproject/etcd:v3.7.1`",
        instead="the image of the catalogue of the operator's release",
        why="a default in the schema is written into every stored object, so no tenant would ever get a fixed etcd",
    ),
    DroppedDefault(
        field="K0smotronControlPlane `status`",
        default="a condition that a topology is waited for, of 1970",
        instead="nothing, until the operator reports",
        why="it is a claim, and false where there is no topology",
    ),
    DroppedDefault(
        field="K0smotronControlPlaneTemplate `spec.template.spec.replicas`",
        default="`1`",
        instead="the topology's; 1 if it has none",
        why="a topology would copy it into every control plane and own it there, against every autoscaler",
    ),
    DroppedDefault(
        field="JoinTokenRequest `spec.expiry`",
        default="`0s`, which means never",
        instead="one hour, also for `0s`",
        why="a token that never expires is a password to the tenant that nobody remembers",
    ),
)

#: Fields that are read and answered with the condition `FieldNotSupported`.
NOT_YET = (
    "spec.ingress", "spec.monitoring.enabled", "spec.remoteHostCluster", "spec.storage.nats",
    "spec.storage.etcd.defragJob.enabled",
)  # fmt: skip

_CORE_TYPES: Mapping[str, Mapping[str, Any]] = {
    "core `ResourceRequirements`": core.RESOURCES,
    "core `TopologySpreadConstraint`": core.TOPOLOGY_SPREAD_CONSTRAINT,
    "core `Volume`": core.VOLUME,
    "core `PersistentVolumeClaim`": core.PERSISTENT_VOLUME_CLAIM,
    "k0s `ClusterConfig`": core.K0S_CONFIG,
}

_INTRODUCTION = """\
# The kinds

Made by `make docs` from `hosted_cp/api`; do not edit.

Fields, types, enums and defaults are those of k0smotron, so that its manifests apply unchanged; what is an addition
says so. Every kind is stored as `v1beta2` and served as `v1beta1` as well, [converted without loss](webhook.md).
`kubectl explain kmc.spec` (or `k0smotroncontrolplane.spec`) shows the same as this page. A field that is misspelt is
refused by `kubectl apply`; what is wrong beyond that is named by admission, and by a condition, with field, cause and
remedy.
"""


def page() -> str:
    """The whole page."""
    parts = [_INTRODUCTION, _index(), _dropped(), _not_yet()]
    for versions in VERSIONED:
        parts += [_kind(versions.hub), _old(versions)]
    return "\n".join(parts)


def _index() -> str:
    rows = [
        f"| [{each.hub.__name__}](#{each.hub.__name__.lower()}) | `{each.hub.group}` |"
        f" {openapi(each.hub)['description']} | [v1beta1](#{each.hub.__name__.lower()}-at-v1beta1) |"
        for each in VERSIONED
    ]
    return "\n".join(["| kind | group | | |", "|---|---|---|---|", *rows, ""])


def _dropped() -> str:
    rows = [f"| {each.field} | {each.default} | {each.instead} | {each.why} |" for each in DROPPED_DEFAULTS]
    head = [
        "## Defaults that differ from k0smotron",
        "",
        "Six defaults of its schema are left out on purpose. (Those of Cluster also in K0smotronControlPlane.)",
        "",
    ]
    return "\n".join([*head, "| field | there | here, if unset | why |", "|---|---|---|---|", *rows, ""])


def _not_yet() -> str:
    fields = "\n".join(f"* `{each}`" for each in NOT_YET)
    return (
        "## Fields that are not acted on yet\n\nThey are never ignored in silence: a Cluster or K0smotronControlPlane"
        f" that sets one of them is not `Available`, with reason `FieldNotSupported`.\n\n{fields}\n"
    )


#: Kind -> the kind whose spec it has, where its own spec begins, and how that is said.
_SPEC_OF: Mapping[str, tuple[type[Kind], str, str]] = {
    "K0smotronControlPlane": (Cluster, "spec", "The spec is that of [Cluster](#cluster-spec), and:"),
    "K0smotronControlPlaneTemplate": (
        Cluster,
        "spec.template.spec",
        "`spec.template.spec` is the spec of [Cluster](#cluster-spec), and:",
    ),
    "K0sWorkerConfigTemplate": (
        K0sWorkerConfig,
        "spec.template.spec",
        "`spec.template.spec` is the spec of [K0sWorkerConfig](#k0sworkerconfig-spec), and:",
    ),
}


def _kind(kind: type[Kind]) -> str:
    schema = openapi(kind)
    lines = [f"## {kind.__name__}", "", f"{schema['description']} {_names(kind)}"]
    if kind.spec_default is not None:
        lines[-1] += f" Without any `spec` it reads as `{json.dumps(kind.spec_default)}`."
    fields = _fields(schema["properties"]["spec"], "spec")
    lines += ["", f"### {kind.__name__} spec", ""]
    if (like := _SPEC_OF.get(kind.__name__)) is not None:
        other, root, said = like
        shared = {
            path.replace("spec", root, 1): row
            for path, row in _fields(openapi(other)["properties"]["spec"], "spec").items()
        }
        fields = {path: row for path, row in fields.items() if shared.get(path) != row and path != root}
        lines += [said, ""]
    lines += _table(fields)
    if status := _fields(schema["properties"]["status"], "status"):
        lines += ["", f"### {kind.__name__} status (written by the operator)", "", *_table(status)]
    rules = list(_rules(schema["properties"]["spec"], "spec"))
    if rules:
        same = like is not None and rules == list(_rules(openapi(like[0])["properties"]["spec"], "spec"))
        told = ["What it refuses of Cluster."] if same else rules
        lines += ["", f"### {kind.__name__}: what the API server refuses", "", *told]
    return "\n".join([*lines, ""])


def _names(kind: type[Kind]) -> str:
    shorts = ", ".join(f"`{each}`" for each in kind.short_names)
    short = f"Short name {shorts}; plural" if shorts else "Plural"
    scaled = " `kubectl scale` and autoscalers work on it." if kind.scale else ""
    return f"{short} `{kind.plural}`, group `{kind.group}`.{scaled}"


def _old(versions: Versions) -> str:
    """What is different at v1beta1."""
    name = versions.hub.__name__
    new, old = (
        {
            path: row
            for part in ("spec", "status")
            for path, row in _fields(openapi(kind)["properties"][part], part).items()
        }
        for kind in (versions.hub, versions.v1beta1)
    )
    lines = [f"### {name} at v1beta1", ""]
    different = {path: row for path, row in old.items() if new.get(path) != row}
    gone = [path for path in new if path not in old and _parent(path) in {*old, "spec", "status"}]
    if not different and not gone:
        return "\n".join([*lines, "The same fields.", ""])
    if different:
        lines += ["What v1beta1 alone has, or has differently:", "", *_table(different), ""]
    if gone:
        lines += [f"v1beta2 alone has {', '.join(f'`{each}`' for each in gone)}.", ""]
    return "\n".join(lines)


def _parent(path: str) -> str:
    return path.rpartition(".")[0].removesuffix("[]")


def _table(fields: Mapping[str, str]) -> list[str]:
    return ["| field | type | default | |", "|---|---|---|---|", *(f"| `{path}` {row}" for path, row in fields.items())]


def _fields(schema: Mapping[str, Any], path: str) -> dict[str, str]:
    """Field -> the rest of its row, in the order of the schema."""
    return dict(_rows(schema, path))


def _rows(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    required = set(schema.get("required", ()))
    for name, inner in schema.get("properties", {}).items():
        field = f"{path}.{name}"
        if name in core.VOLUME_SOURCES and path.rpartition(".")[2] in ("manifests[]", "mounts[]"):
            continue
        text = [inner.get("description", "")]
        if name in required and "default" not in inner:
            text.insert(0, "**Required.**")
        if "enum" in inner:
            text.append("One of " + ", ".join(f"`{each}`" for each in inner["enum"]) + ".")
        default = f"`{json.dumps(inner['default'])}`" if "default" in inner else ""
        cells = (_type(inner), default, " ".join(each for each in text if each))
        yield field, "| " + " | ".join(each.replace("|", "\\|") for each in cells) + " |"
        if not _core_type(inner):
            yield from _rows(inner, field)
        if inner.get("type") == "array" and not _core_type(inner["items"]):
            yield from _rows(inner["items"], f"{field}[]")


def _core_type(schema: Mapping[str, Any]) -> str:
    """Kubernetes' name of a core type, which its own reference describes; else ""."""
    plain = {key: value for key, value in schema.items() if key != "description"}
    return next((name for name, core_schema in _CORE_TYPES.items() if plain == core_schema), "")


def _type(schema: Mapping[str, Any]) -> str:
    if name := _core_type(schema):
        return name
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity" if "pattern" in schema else "integer or string"
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map of {_type(schema['additionalProperties'])}"
    if schema.get("format") == "date-time":
        return "time"
    return str(schema["type"])


def _rules(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield f"* `{path}{rule.get('fieldPath', '')}`: {rule['message']}."
    for name, inner in schema.get("properties", {}).items():
        yield from _rules(inner, f"{path}.{name}")
        if inner.get("type") == "array":
            yield from _rules(inner["items"], f"{path}.{name}[]")


def main(arguments: list[str]) -> int:
    """The command; see above."""
    match arguments:
        case []:
            sys.stdout.write(page())
        case ["--write", file]:
            Path(file).write_text(page(), encoding="utf-8")
        case _:
            sys.stderr.write("usage: python -m hosted_cp.api.docs [--write FILE]\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
