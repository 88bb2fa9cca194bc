"""Every example is accepted, means something without a cluster, and comes to a whole control plane."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hosted_cp.api import checks
from hosted_cp.api.cluster import Cluster, parse_cluster
from hosted_cp.api.join_token_request import JoinTokenRequest, parse_join_token_request
from hosted_cp.api.schema import unknown_fields
from hosted_cp.cli.render import catalogue, render_manifest
from hosted_cp.hosting.names import Names
from hosted_cp.k0s import versions

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


def documents(file: Path) -> list[dict[str, Any]]:
    return [body for body in yaml.safe_load_all(file.read_text()) if body]


def of_kind(kind: str) -> list[Any]:
    return [
        pytest.param(body, id=f"{file.name}:{body['metadata']['name']}")
        for file in EXAMPLES
        for body in documents(file)
        if body["kind"] == kind
    ]


def test_there_are_examples_and_each_says_what_it_is() -> None:
    assert {file.name for file in EXAMPLES} >= {"cluster.yaml", "join-token.yaml", "sqlite.yaml", "postgres.yaml"}
    for file in EXAMPLES:
        assert file.read_text().startswith("# "), f"{file.name} has no comment at its head"
        for body in documents(file):
            assert body["kind"] in ("Cluster", "JoinTokenRequest", "Secret")


@pytest.mark.parametrize("body", of_kind("Cluster"))
def test_a_cluster_is_accepted(body: dict[str, Any]) -> None:
    assert body["apiVersion"] == f"{Cluster.group}/{Cluster.version}"
    assert unknown_fields(Cluster, body) == ()
    parsed = parse_cluster(body)
    assert parsed.spec is not None, parsed.problems
    name = body["metadata"]["name"]
    assert checks.problems(parsed.spec, name=name, support=versions.support_problem) == ()


@pytest.mark.parametrize("body", of_kind("Cluster"))
def test_a_cluster_names_a_release_of_the_catalogue(body: dict[str, Any]) -> None:
    minors = catalogue()["k0s"]["minors"].values()
    released = {release["version"] for minor in minors for release in minor["releases"]}
    assert body["spec"]["version"] in released


@pytest.mark.parametrize("body", of_kind("Cluster"))
def test_a_cluster_renders_its_objects(body: dict[str, Any]) -> None:
    text, problems = render_manifest(yaml.safe_dump(body).encode(), k0s_image=None, etcd_image=None)
    assert problems == []
    objects = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text)}
    name, spec = body["metadata"]["name"], body["spec"]
    names = Names(name)
    assert ("Service", names.service(spec["service"]["type"])) in objects
    assert ("Secret", names.kubeconfig) in objects
    assert (("StatefulSet", names.etcd) in objects) == (spec["storage"]["type"] == "etcd")
    assert (("PodDisruptionBudget", names.control_plane) in objects) == (spec["replicas"] > 1)
    if spec["storage"].get("kine", {}).get("dataSourceSecretName"):
        return  # what is in that Secret is known in a cluster only
    controllers = objects["StatefulSet", names.control_plane]
    assert controllers["spec"]["replicas"] == spec["replicas"]
    image = controllers["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == f"{catalogue()['k0s']['repository']}:{spec['version'].replace('+', '-')}"


@pytest.mark.parametrize("body", of_kind("JoinTokenRequest"))
def test_a_join_token_request_is_accepted_and_has_its_cluster(body: dict[str, Any]) -> None:
    assert unknown_fields(JoinTokenRequest, body) == ()
    assert parse_join_token_request(body).problems == ()
    clusters = {each.values[0]["metadata"]["name"] for each in of_kind("Cluster")}
    assert body["spec"]["clusterName"] in clusters


def test_a_secret_that_a_cluster_names_is_in_the_same_file() -> None:
    for file in EXAMPLES:
        bodies = documents(file)
        given = {body["metadata"]["name"] for body in bodies if body["kind"] == "Secret"}
        kine = [(body["spec"].get("storage") or {}).get("kine") or {} for body in bodies if body["kind"] == "Cluster"]
        named = {each["dataSourceSecretName"] for each in kine if "dataSourceSecretName" in each}
        assert named == given
