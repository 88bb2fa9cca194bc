"""What is published for `clusterctl` keeps its rules: A of the contract's list, over the files as they are written.

(That the program itself takes them, and what they then amount to: `tests/component/test_clusterctl_install.py`.)
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from hosted_cp.api.kinds import PROVIDERS, VERSIONED
from hosted_cp.kube.definitions import resources
from hosted_cp.kube.webhook_names import names, serving_secret
from release import components as published

Object = dict[str, Any]

FILES = published.files()
VERSION = published.version()
#: As a YAML reader sees them, before clusterctl fills anything in.
BODIES: dict[str, list[Object]] = {
    each: list(yaml.safe_load_all(FILES[f"{each}-hosted-cp/{VERSION}/{each}-components.yaml"])) for each in PROVIDERS
}
SHIPPED: list[Object] = [
    body
    for file in ("operator.yaml", "webhook.yaml")
    for body in yaml.safe_load_all((published.ROOT / "deploy" / file).read_text(encoding="utf-8"))
]
NOT_IN_NAMESPACES = {
    "Namespace", "ClusterRole", "ClusterRoleBinding", "ValidatingWebhookConfiguration", "CustomResourceDefinition",
}  # fmt: skip


def of(provider: str, kind: str) -> list[Object]:
    return [each for each in BODIES[provider] if each["kind"] == kind]


def rights(bodies: list[Object]) -> set[tuple[str, str, str, str]]:
    """(group, resource, name or "", verb)."""
    return {
        (group, resource, name, verb)
        for body in bodies
        if body["kind"] in ("Role", "ClusterRole")
        for rule in body["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }


def test_a_version_of_a_provider_is_two_files() -> None:
    assert set(FILES) == {
        f"{each}-hosted-cp/{VERSION}/{file}"
        for each in PROVIDERS
        for file in (f"{each}-components.yaml", "metadata.yaml")
    }


@pytest.mark.parametrize("provider", PROVIDERS)
def test_metadata_say_the_contract_of_this_version_as_the_definitions_do(provider: str) -> None:
    metadata = yaml.safe_load(FILES[f"{provider}-hosted-cp/{VERSION}/metadata.yaml"])
    assert (metadata["apiVersion"], metadata["kind"]) == ("clusterctl.cluster.x-k8s.io/v1alpha3", "Metadata")
    major, minor, _ = VERSION.removeprefix("v").split(".")
    series = [(each["major"], each["minor"]) for each in metadata["releaseSeries"]]
    assert (int(major), int(minor)) == series[-1] == max(series)
    assert len(set(series)) == len(series)
    contract = metadata["releaseSeries"][-1]["contract"]
    for each in of(provider, "CustomResourceDefinition"):
        labels = each["metadata"]["labels"]
        if each["spec"]["group"].endswith("cluster.x-k8s.io"):
            [said] = [key for key in labels if key.startswith("cluster.x-k8s.io/v1")]
            assert said == f"cluster.x-k8s.io/{contract}"
            assert set(labels[said].split("_")) <= {one["name"] for one in each["spec"]["versions"] if one["served"]}
            assert labels["clusterctl.cluster.x-k8s.io"] == ""


@pytest.mark.parametrize("provider", PROVIDERS)
def test_everything_is_in_one_namespace_and_bears_the_providers_label(provider: str) -> None:
    [namespace] = of(provider, "Namespace")
    for body in BODIES[provider]:
        metadata = body["metadata"]
        assert metadata["labels"]["cluster.x-k8s.io/provider"] == f"{provider}-hosted-cp"
        if body["kind"] not in NOT_IN_NAMESPACES:
            assert metadata["namespace"] == namespace["metadata"]["name"], body["kind"]
        # By this beginning clusterctl finds it when it deletes.
        if body["kind"] in ("ClusterRole", "ClusterRoleBinding"):
            assert metadata["name"].startswith(f"{namespace['metadata']['name']}-")


def test_the_two_have_nothing_of_the_same_name_not_even_in_one_namespace() -> None:
    one, other = (
        {(each["kind"], each["metadata"]["name"]) for each in BODIES[provider]} for provider in BODIES
    )  # fmt: skip
    assert not one & other
    leases, secrets = (
        [{name for _, each, name, _ in rights(BODIES[provider]) if each == resource and name} for provider in BODIES]
        for resource in ("leases", "secrets")
    )
    assert [len(each) for each in leases] == [1, 1]
    assert not leases[0] & leases[1]
    assert not secrets[0] & secrets[1]


def test_together_they_are_what_is_shipped() -> None:
    """No kind is left out, no webhook, and no right; and none is there that is not."""
    both = [body for some in BODIES.values() for body in some]
    definitions = [each["metadata"]["name"] for each in both if each["kind"] == "CustomResourceDefinition"]
    assert Counter(definitions) == Counter(f"{each.hub.plural}.{each.hub.group}" for each in VERSIONED)
    asked = [hook["name"] for each in both for hook in each.get("webhooks", ())]
    assert Counter(asked) == Counter(hook["name"] for each in SHIPPED for hook in each.get("webhooks", ()))
    theirs = {(group, resource, verb) for group, resource, _, verb in rights(both)}
    assert theirs == {(group, resource, verb) for group, resource, _, verb in rights(SHIPPED)}
    kinds = {each["kind"] for each in SHIPPED}
    assert all({each["kind"] for each in some} == {*kinds, "CustomResourceDefinition"} for some in BODIES.values())


@pytest.mark.parametrize("provider", PROVIDERS)
def test_nobody_may_write_what_is_the_others(provider: str) -> None:
    others = {group for each, groups in PROVIDERS.items() if each != provider for group in groups}
    granted = rights(BODIES[provider])
    assert {verb for group, _, _, verb in granted if group in others} <= {"get", "list", "watch"}
    named = {name for group, _, name, _ in granted if group == "apiextensions.k8s.io" and name}
    assert named == set(resources(provider))
    if provider == "bootstrap":
        # It makes no control planes.
        made = {resource for _, resource, _, verb in granted if verb in ("create", "delete")}
        assert made == {"secrets", "events", "leases"}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_names_lead_to_one_another(provider: str) -> None:
    there = {(each["kind"], each["metadata"]["name"]) for each in BODIES[provider]}
    own = names(provider)
    for body in BODIES[provider]:
        if "roleRef" in body:
            assert (body["roleRef"]["kind"], body["roleRef"]["name"]) in there
            for subject in body["subjects"]:
                assert (subject["kind"], subject["name"]) in there
        if body["kind"] == "Deployment":
            assert ("ServiceAccount", body["spec"]["template"]["spec"]["serviceAccountName"]) in there
            labels = body["spec"]["template"]["metadata"]["labels"]
            assert body["spec"]["selector"]["matchLabels"] == labels
            if body["metadata"]["name"] == own.service:
                [service] = of(provider, "Service")
                assert service["spec"]["selector"] == labels
    clients = [each["clientConfig"] for body in BODIES[provider] for each in body.get("webhooks", ())]
    clients += [
        each["spec"]["conversion"]["webhook"]["clientConfig"] for each in of(provider, "CustomResourceDefinition")
    ]
    [namespace] = of(provider, "Namespace")
    where = (own.service, namespace["metadata"]["name"])
    assert {(each["service"]["name"], each["service"]["namespace"]) for each in clients} == {where}
    assert ("ValidatingWebhookConfiguration", own.configuration) in there
    held = {name for _, resource, name, _ in rights(BODIES[provider]) if resource == "secrets" and name}
    assert held == {own.ca_secret, serving_secret(own.service)}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_containers_are_managers_of_this_version(provider: str) -> None:
    told = {}
    for each in of(provider, "Deployment"):
        [container] = each["spec"]["template"]["spec"]["containers"]
        assert container["name"] == "manager"
        # One image, by its whole name, which `images` of clusterctl's configuration exchanges.
        assert container["image"] == f"ghcr.io/hosted-cp/hosted-cp:{VERSION}"
        told[container["args"][0]] = container["args"][1:]
    assert told == {"run": [f"--provider={provider}"], "webhook": [f"--service={names(provider).service}"]}


def test_what_is_filled_in_are_two_images() -> None:
    texts = {each: FILES[f"{each}-hosted-cp/{VERSION}/{each}-components.yaml"] for each in PROVIDERS}
    assert "$" in texts["bootstrap"]  # in patterns, which stay
    assert "${" not in texts["bootstrap"]
    assert texts["control-plane"].count("${") == len(published.VARIABLES) == 2
    for each in published.VARIABLES:
        assert f'name: {each}\n          value: ${{{each}:=""}}\n' in texts["control-plane"]


def test_what_only_looks_like_a_variable_stays_text() -> None:
    text = published._text([{"a": "${HOME} ${HOSTED_CP_K0S_IMAGE}", "b": '${HOSTED_CP_K0S_IMAGE:=""}'}])
    assert text == 'a: $${HOME} $${HOSTED_CP_K0S_IMAGE}\nb: ${HOSTED_CP_K0S_IMAGE:=""}\n'


def test_the_command_writes_a_repository_that_its_configuration_leads_to(tmp_path: Path) -> None:
    assert published.main(["--write", str(tmp_path)]) == 0
    configuration = yaml.safe_load((tmp_path / "clusterctl.yaml").read_text())
    assert [(each["name"], each["type"]) for each in configuration["providers"]] == [
        ("hosted-cp", "ControlPlaneProvider"), ("hosted-cp", "BootstrapProvider")
    ]  # fmt: skip
    for each in configuration["providers"]:
        path = Path(each["url"].removeprefix("file://"))
        assert FILES[str(path.relative_to(tmp_path))] == path.read_text()
    assert published.main([]) == 2
