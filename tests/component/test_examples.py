"""Every example is taken by a real API server, with the real core's kinds, our conversion and our admission."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.capi import core
from tests.component.apiserver import Server
from tests.component.capi import installed

FOLDER = Path(__file__).parents[2] / "examples"
#: Not the class: it is looked at more closely.
EXAMPLES = sorted(each for each in FOLDER.rglob("*.yaml") if each.stem != "cluster-class")
#: (kind, version) of the infrastructure of others, of which nothing is known but that core refers to it.
OTHERS = (("AWSMachine", "v1beta2"), ("AWSMachineTemplate", "v1beta2"))


def bare(kind: str, version: str) -> dict[str, Any]:
    """A definition without anybody behind it."""
    plural = f"{kind.lower()}s"
    group = "infrastructure.cluster.x-k8s.io"
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything, "status": anything}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}", "labels": {"cluster.x-k8s.io/v1beta2": version}},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with installed(tmp_path_factory.mktemp("examples")) as started:
        definitions = core.as_yaml([bare(*each) for each in OTHERS])
        started.kubectl("create", "-f", "-", stdin=definitions)
        started.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", "-", stdin=definitions)
        yield started


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: str(file.relative_to(FOLDER)))
def test_an_example_is_taken(server: Server, file: Path) -> None:
    said = server.kubectl("apply", "--validate=strict", "-f", str(file))
    lines = [line for line in said.decode().splitlines() if line]
    assert lines
    assert all(line.endswith((" created", " unchanged")) for line in lines), said


def test_the_class_is_taken_where_topologies_are_on(server: Server) -> None:
    said = server.kubectl("apply", "--validate=strict", "-f", str(FOLDER / "capi" / "cluster-class.yaml")).decode()
    assert "cluster.cluster.x-k8s.io/of-a-class created" in said
    server.kubectl(
        "wait", "cluster/of-a-class", "--for=jsonpath={.spec.controlPlaneRef.kind}=K0smotronControlPlane",
        "--timeout=60s",
    )  # fmt: skip
