"""Every example of Cluster API: what is ours in it is accepted, what is referred to is there, and all of it renders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from hosted_cp.api.conversion import convert
from hosted_cp.api.kinds import VERSIONED
from hosted_cp.api.schema import unknown_fields
from hosted_cp.cli.render import catalogue, render_manifest
from hosted_cp.webhooks.admission import Context, review

FOLDER = Path(__file__).parents[2] / "examples" / "capi"
FILES = sorted(FOLDER.glob("*.yaml"))
CLUSTER = FOLDER / "hosted.yaml"
KINDS = {(each.group, each.version, each.__name__): each for versions in VERSIONED for each in versions.all}
EACH = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def documents(file: Path) -> list[dict[str, Any]]:
    return [body for body in yaml.safe_load_all(file.read_text()) if body]


def key(body: Mapping[str, Any]) -> tuple[str, str, str]:
    group, _, version = body["apiVersion"].rpartition("/")
    return group, version, body["kind"]


def test_there_is_one_for_each_way_and_each_says_what_it_is() -> None:
    assert {file.stem for file in FILES} == {
        *("hosted", "machine", "cloud-config", "ignition", "windows", "cluster-class", "v1beta1")
    }
    for file in FILES:
        assert file.read_text().startswith("# ")
        assert all(body["metadata"]["namespace"] == "default" for body in documents(file))


@EACH
def test_what_is_ours_is_accepted_without_a_word(file: Path) -> None:
    ours = [(body, KINDS[key(body)]) for body in documents(file) if key(body) in KINDS]
    assert ours
    for body, kind in ours:
        assert unknown_fields(kind, body) == ()
        hub = convert(body, to="v1beta2")
        group, _, version = hub["apiVersion"].rpartition("/")
        asked = {"kind": {"group": group, "version": version, "kind": hub["kind"]}, "operation": "CREATE"}
        answer = review({"request": {**asked, "uid": "u", "object": hub}}, Context(catalogue=catalogue()))["response"]
        assert answer == {"uid": "u", "allowed": True}


def references(value: Any) -> Iterator[tuple[str, str, str]]:
    """(group, kind, name) of everything that an object refers to."""
    if isinstance(value, Mapping):
        if {"kind", "name"} <= value.keys() and ("apiGroup" in value or "apiVersion" in value):
            yield str(value.get("apiGroup") or value["apiVersion"].partition("/")[0]), value["kind"], value["name"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


@EACH
def test_what_is_referred_to_is_in_the_file(file: Path) -> None:
    bodies = documents(file)
    there = {(body["apiVersion"].rpartition("/")[0], body["kind"], body["metadata"]["name"]) for body in bodies}
    for body in bodies:
        for reference in references(body.get("spec", {})):
            assert reference in there or reference[1] == "ExampleMachineTemplate"
    named = {
        (kind, source[ref]["name"])
        for body in bodies
        for each in body.get("spec", {}).get("template", {}).get("spec", {}).get("files", ())
        if (source := each.get("contentFrom"))
        for kind, ref in (("Secret", "secretRef"), ("ConfigMap", "configMapRef"))
        if ref in source
    }
    assert named <= {(kind, name) for _, kind, name in there}


@EACH
def test_it_renders_beside_the_cluster_that_it_belongs_to(file: Path) -> None:
    bodies = documents(file) if file == CLUSTER else [*documents(CLUSTER), *documents(file)]
    text, problems = render_manifest(yaml.safe_dump_all(bodies).encode(), k0s_image=None, etcd_image=None)
    assert problems == []
    secrets = [each for each in yaml.safe_load_all(text) if each["kind"] == "Secret" and "value" in each["data"]]
    configs = [body for body in bodies if body["kind"] in ("K0sWorkerConfig", "K0sWorkerConfigTemplate")]
    assert len(secrets) == len(configs) > 0
    formats = {each["data"]["format"] for each in secrets}
    expected = {"ignition": {"ignition"}, "windows": {"powershell-xml"}}.get(file.stem, set())
    assert formats == {"cloud-config", *expected}


def test_the_examples_name_releases_of_the_catalogue() -> None:
    released = {
        release["version"].rpartition(".")[0]
        for minor in catalogue()["k0s"]["minors"].values()
        for release in minor["releases"]
    }
    for file in FILES:
        for word in file.read_text().split():
            if word.startswith("v1.") and "+k0s" in word:
                assert word.partition("+")[0] in {each.partition("+")[0] for each in released}, f"{file.name}: {word}"


def test_the_examples_of_k0smotron_are_of_v1beta1() -> None:
    bodies = documents(FOLDER / "v1beta1.yaml")
    kinds = [(body["kind"], body["apiVersion"].rpartition("/")[2]) for body in bodies]
    assert kinds == [
        ("Machine", "v1beta1"), ("K0sWorkerConfig", "v1beta1"), ("AWSMachine", "v1beta2"),
        ("MachineDeployment", "v1beta1"), ("K0sWorkerConfigTemplate", "v1beta1"), ("AWSMachineTemplate", "v1beta2"),
    ]  # fmt: skip
