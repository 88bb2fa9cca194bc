"""`hosted-cp render`: everything is shown, what is unknown is marked, and what would be refused is said and counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from hosted_cp.cli.main import main

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
API = "k0smotron.io/v1beta2"


def render(manifest: str) -> Result:
    return CliRunner().invoke(main, ["render", "-f", "-"], input=manifest)


def cluster(*, api: str = API, metadata: Any = None, **spec: Any) -> str:
    name = {"name": "demo"} if metadata is None else metadata
    return yaml.safe_dump({"apiVersion": api, "kind": "Cluster", "metadata": name, "spec": spec})


def shown(result: Result) -> dict[tuple[str, str], Any]:
    return {
        (each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(result.stdout) if each is not None
    }


FROM_SECRET = {"type": "kine", "kine": {"dataSourceSecretName": "database"}}


def test_a_database_in_a_secret_is_marked_and_everything_else_is_shown() -> None:
    result = render(cluster(storage=FROM_SECRET, replicas=2))
    assert (result.exit_code, result.stderr) == (0, "")
    objects = shown(result)
    assert {("Secret", "kmc-demo-config"), ("StatefulSet", "kmc-demo"), ("PodDisruptionBudget", "kmc-demo")} <= set(
        objects
    )
    config = objects["Secret", "kmc-demo-config"]["data"]["<made by>"]["k0s.yaml"]
    assert config["spec"]["storage"]["kine"]["dataSource"] == (
        "<K0SMOTRON_KINE_DATASOURCE_URL of Secret database, digest unknown>"
    )


def test_authorities_that_the_user_brings_are_taken_for_granted() -> None:
    result = render(cluster(certificateRefs=[{"type": "ca", "name": "my-ca"}]))
    assert (result.exit_code, result.stderr) == (0, "")
    objects = shown(result)
    assert ("Secret", "demo-ca") not in objects
    assert {("Secret", "demo-kubeconfig"), ("Secret", "kmc-demo-config"), ("StatefulSet", "kmc-demo")} <= set(objects)
    assert objects["Secret", "demo-kubeconfig"]["data"]["<made by>"]["signer"] == "my-ca"


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_every_example(file: Path) -> None:
    result = render(file.read_text(encoding="utf-8"))
    assert (result.exit_code, result.stderr) == (0, "")
    objects = shown(result)
    assert objects
    tenants = {
        each["metadata"]["labels"]["cluster"] for each in objects.values() if "cluster" in each["metadata"]["labels"]
    }
    for tenant in tenants:
        expected = {
            ("Secret", f"{tenant}-ca"), ("Secret", f"{tenant}-kubeconfig"), ("Secret", f"kmc-{tenant}-config"),
            ("StatefulSet", f"kmc-{tenant}"),
        }  # fmt: skip
        assert expected <= set(objects)
    assert "00000000-0000-0000-0000" not in result.stdout
    assert "192.0.2.10" not in result.stdout
    assert "6490" not in result.stdout


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"replica": 3}, "spec.replica"),
        ({"service": {"type": "NodePort", "apiport": 30443}}, "spec.service.apiport"),
        ({"storage": {"type": "etcd", "etcd": {"persistence": {"sice": "1Gi"}}}}, "spec.storage.etcd.persistence.sice"),
        ({"patches": [{"targets": {}}]}, "spec.patches[0].targets"),
    ],
)
def test_a_field_that_nobody_knows(spec: Any, field: str) -> None:
    result = render(cluster(**spec))
    assert result.exit_code == 1
    assert f"Cluster demo: {field}: is no field of a Cluster" in result.stderr
    assert "correct its name or remove it" in result.stderr


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ("{", "the manifest is no YAML"),
        ("", "the manifest has no Cluster"),
        ("kind: Cluster\napiVersion: cluster.x-k8s.io/v1beta2\nmetadata: {name: a}\n", "the manifest has no Cluster"),
        (cluster(api="k0smotron.io/v1beta7"), "apiVersion: k0smotron.io/v1beta7 is not served"),
        (cluster(replicas="three"), "spec.replicas: "),
        (cluster(replicas=0), "spec.replicas: is 0"),
        (cluster(version="v1.99.0"), "spec.version: "),
        (cluster(metadata={}), "metadata.name: "),
        (cluster(metadata="x"), "metadata.name: "),
        (cluster(metadata={"name": "demo", "labels": "x"}, replicas=0), "spec.replicas: is 0"),
        (cluster(storage={"type": "nats"}), "spec.storage.nats: is not supported"),
        (cluster(monitoring={"enabled": True}), "spec.monitoring: is not supported"),
        (
            cluster(patches=[{"target": {"kind": "x", "component": "y"}, "patch": {"type": "merge", "content": "{}"}}]),
            "spec.patches[0].target: no object of this tenant",
        ),
        ("kind: Cluster\napiVersion: k0smotron.io/v1beta2\nmetadata: {name: a}\nspec: 5\n", "spec"),
    ],
)
def test_what_would_be_refused_counts(manifest: str, words: str) -> None:
    result = render(manifest)
    assert result.exit_code == 1, result.output
    assert words in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_a_good_cluster_beside_a_bad_one_is_shown() -> None:
    result = render(cluster(replicas=0) + "---\n" + cluster(metadata={"name": "good"}))
    assert result.exit_code == 1
    assert ("StatefulSet", "kmc-good") in shown(result)
    assert ("StatefulSet", "kmc-demo") not in shown(result)


def test_a_manifest_of_the_old_version_comes_to_the_same() -> None:
    new = cluster(storage={"type": "etcd", "etcd": {"args": ["--x=1"]}}, service={"type": "NodePort"})
    old = cluster(api="k0smotron.io/v1beta1", etcd={"args": ["--x=1"]}, service={"type": "NodePort"})
    result = render(old)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == render(new).stdout
    unknown = render(cluster(api="k0smotron.io/v1beta1", storage={"type": "etcd"}))
    assert "spec.storage: is no field of a Cluster" in unknown.stderr
    for odd in (cluster(api="k0smotron.io/v1beta1", metadata="x"), cluster(api="k0smotron.io/v1beta1", replicas="x")):
        assert render(odd).exit_code == 1
