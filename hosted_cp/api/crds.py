"""The CustomResourceDefinitions, made from the models. `crds/` is their output, and never edited.

python -m hosted_cp.api.crds                # print them
python -m hosted_cp.api.crds --write crds/  # write one file each
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hosted_cp.api.base import Column, Kind
from hosted_cp.api.cluster import Cluster
from hosted_cp.api.join_token_request import JoinTokenRequest
from hosted_cp.api.schema import openapi

KINDS: tuple[type[Kind], ...] = (Cluster, JoinTokenRequest)

_HEADER = "# Made by `make crds` from hosted_cp/api; do not edit.\n"


def definition(kind: type[Kind]) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind."""
    name = kind.__name__
    subresources: dict[str, Any] = {"status": {}}
    if kind.scale:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "plural": kind.plural,
                "singular": name.lower(),
                "shortNames": list(kind.short_names),
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": kind.version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": openapi(kind)},
                    "subresources": subresources,
                    "additionalPrinterColumns": [_column(each) for each in kind.columns],
                }
            ],
        },
    }


def _column(column: Column) -> dict[str, Any]:
    made: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.description:
        made["description"] = column.description
    return {**made, "priority": column.priority} if column.priority else made


def files() -> Mapping[str, str]:
    """File name -> text, one for each kind."""
    return {f"{each.group}_{each.plural}.yaml": _HEADER + _yaml(definition(each)) for each in KINDS}


def manifests() -> str:
    """All definitions as one YAML text."""
    return "---\n".join(_yaml(definition(each)) for each in KINDS)


class _Plain(yaml.SafeDumper):
    """No anchors: equal parts are written out."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(document: Mapping[str, Any]) -> str:
    return str(yaml.dump(document, Dumper=_Plain, sort_keys=True, allow_unicode=True, width=120))


def main(arguments: list[str]) -> int:
    """The command; see above."""
    match arguments:
        case []:
            sys.stdout.write(manifests())
        case ["--write", folder]:
            wanted = files()
            target = Path(folder)
            target.mkdir(parents=True, exist_ok=True)
            for stale in target.glob("*.yaml"):
                if stale.name not in wanted:
                    stale.unlink()
            for name, text in wanted.items():
                (target / name).write_text(text, encoding="utf-8")
        case _:
            sys.stderr.write("usage: python -m hosted_cp.api.crds [--write FOLDER]\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
