"""The CustomResourceDefinitions, made from the models. `crds/` is their output, and never edited.

python -m hosted_cp.api.crds                # print them
python -m hosted_cp.api.crds --write crds/  # write one file each
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hosted_cp.api.base import Column, Kind
from hosted_cp.api.kinds import VERSIONED, Versions
from hosted_cp.api.schema import openapi

#: All kinds, as they are stored and worked on.
KINDS: tuple[type[Kind], ...] = tuple(each.hub for each in VERSIONED)

_HEADER = "# Made by `make crds` from hosted_cp/api; do not edit.\n"


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """Who converts between versions (`hosted_cp.webhooks`): a Service, or a URL where there is none."""

    service: str = ""
    namespace: str = ""
    port: int = 443
    path: str = "/convert"
    #: Instead of a Service; `path` is part of it.
    url: str = ""
    #: PEM. "" where it is written later, by the leader.
    ca_bundle: str = ""

    def stanza(self) -> dict[str, Any]:
        """For `spec.conversion` of a definition."""
        client: dict[str, Any] = (
            {"url": self.url}
            if self.url
            else {"service": {"name": self.service, "namespace": self.namespace, "port": self.port, "path": self.path}}
        )
        if self.ca_bundle:
            client["caBundle"] = base64.b64encode(self.ca_bundle.encode()).decode()
        return {"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]}}


#: Of `deploy/webhook.yaml`. Whom to trust is written by the operator's leader.
SHIPPED = Webhook(service="hosted-cp-webhook", namespace="hosted-cp")


def generate(*, conversion: Webhook = SHIPPED) -> tuple[dict[str, Any], ...]:
    """All definitions, with all versions. They need somebody who converts: without one an API server would prune, in
    silence, what the stored version calls by another name."""
    return tuple(versioned(each, conversion=conversion) for each in VERSIONED)


def versioned(kind: Versions, *, conversion: Webhook) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind with all its versions."""
    made = definition(kind.hub)
    made["spec"]["versions"] += [_version(each, storage=False) for each in kind.all if each is not kind.hub]
    made["spec"]["conversion"] = conversion.stanza()
    return made


def definition(kind: type[Kind]) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind in its stored version alone."""
    name = kind.__name__
    names: dict[str, Any] = {
        "kind": name,
        "listKind": f"{name}List",
        "plural": kind.plural,
        "singular": name.lower(),
    }
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    if kind.categories:
        names["categories"] = list(kind.categories)
    metadata: dict[str, Any] = {"name": f"{kind.plural}.{kind.group}"}
    if kind.labels:
        metadata["labels"] = dict(kind.labels)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": "Namespaced",
            "versions": [_version(kind, storage=True)],
        },
    }


def _version(kind: type[Kind], *, storage: bool) -> dict[str, Any]:
    subresources: dict[str, Any] = {"status": {}}
    if kind.scale:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    made: dict[str, Any] = {
        "name": kind.version,
        "served": True,
        "storage": storage,
        "schema": {"openAPIV3Schema": openapi(kind)},
        "subresources": subresources,
    }
    if kind.columns:
        made["additionalPrinterColumns"] = [_column(each) for each in kind.columns]
    if kind.deprecated:
        made["deprecated"] = True
        made["deprecationWarning"] = f"{kind.group}/{kind.version} {kind.__name__} is deprecated; use v1beta2"
    return made


def _column(column: Column) -> dict[str, Any]:
    made: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.description:
        made["description"] = column.description
    return {**made, "priority": column.priority} if column.priority else made


def files() -> Mapping[str, str]:
    """File name -> text, one for each kind."""
    return {
        f"{each['spec']['group']}_{each['spec']['names']['plural']}.yaml": _HEADER + as_text(each)
        for each in generate()
    }


def manifests() -> str:
    """All definitions as one YAML text."""
    return "---\n".join(as_text(each) for each in generate())


class _Plain(yaml.SafeDumper):
    """No anchors: equal parts are written out."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def as_text(document: Mapping[str, Any]) -> str:
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
