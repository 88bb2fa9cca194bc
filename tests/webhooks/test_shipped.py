"""`deploy/webhook.yaml` fits the program and the definitions, and asks about nothing that could hold somebody up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from hosted_cp.api.kinds import VERSIONED
from hosted_cp.cli.main import main
from hosted_cp.kube.definitions import RESOURCES
from hosted_cp.kube.webhook_names import CA_SECRET, CONFIGURATION, SERVICE, SERVING_SECRET
from hosted_cp.webhooks import server

FILE = Path(__file__).parents[2] / "deploy" / "webhook.yaml"
BODIES: list[dict[str, Any]] = list(yaml.safe_load_all(FILE.read_text(encoding="utf-8")))
WEBHOOKS: list[dict[str, Any]] = next(
    each["webhooks"] for each in BODIES if each["kind"] == "ValidatingWebhookConfiguration"
)


def only(kind: str, name: str) -> dict[str, Any]:
    [found] = [each for each in BODIES if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def test_each_kind_is_judged_where_it_is_answered() -> None:
    asked = {}
    for each in WEBHOOKS:
        [rule] = each["rules"]
        service = each["clientConfig"]["service"]
        assert (service["name"], service["namespace"], service["port"]) == (SERVICE, "hosted-cp", 443)
        assert rule["apiVersions"] == ["v1beta2"]
        for operation in rule["operations"]:
            [group], [plural] = rule["apiGroups"], rule["resources"]
            assert (f"{plural}.{group}", operation) not in asked
            asked[f"{plural}.{group}", operation] = service["path"]
    assert asked == {
        (f"{each.hub.plural}.{each.hub.group}", operation): server.validate_path(each.hub.group, each.hub.__name__)
        for each in VERSIONED
        for operation in ("CREATE", "UPDATE")
    }
    assert only("ValidatingWebhookConfiguration", CONFIGURATION)["webhooks"] == WEBHOOKS


@pytest.mark.parametrize("webhook", WEBHOOKS, ids=lambda each: each["name"].partition(".")[0])
def test_an_absent_webhook_holds_up_nobody_but_who_changes_a_template(webhook: dict[str, Any]) -> None:
    [rule] = webhook["rules"]
    # No subresource (status, scale), no deletion.
    assert "/" not in rule["resources"][0]
    assert "*" not in rule["resources"][0]
    assert set(rule["operations"]) <= {"CREATE", "UPDATE"}
    closed = webhook["failurePolicy"] == "Fail"
    assert closed == (rule["operations"] == ["UPDATE"] and rule["resources"][0].endswith("templates"))
    conditions = {each["name"]: each["expression"] for each in webhook.get("matchConditions", ())}
    if "UPDATE" in rule["operations"]:
        assert "object.spec != oldObject.spec" in conditions["the-spec-is-new-or-changed"]
        assert conditions["it-is-not-being-deleted"] == "!has(object.metadata.deletionTimestamp)"
    assert webhook["sideEffects"] == "None"  # else dry runs would be refused
    assert webhook["timeoutSeconds"] <= 5


def test_rights_name_our_definitions_and_secrets_alone() -> None:
    for each in BODIES:
        for rule in each.get("rules", ()):
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            for resource in rule["resources"]:
                if resource.startswith("customresourcedefinitions") and rule["verbs"] != ["list", "watch"]:
                    assert rule["resourceNames"] == list(RESOURCES)
    assert only("Role", "hosted-cp-webhook")["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": [CA_SECRET, SERVING_SECRET],
            "verbs": ["get", "watch", "update"],
        },
    ]
    bound = [each for each in BODIES if each["kind"] == "ClusterRoleBinding"]
    assert [each["subjects"][0]["name"] for each in bound] == ["hosted-cp"]


def test_the_deployment_is_two_of_what_the_service_leads_to() -> None:
    deployment = only("Deployment", SERVICE)["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["replicas"] == 2
    assert only("Service", SERVICE)["spec"]["selector"] == labels == deployment["selector"]["matchLabels"]
    assert only("PodDisruptionBudget", SERVICE)["spec"]["selector"]["matchLabels"] == labels
    pod = deployment["template"]["spec"]
    [container] = pod["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    [port] = only("Service", SERVICE)["spec"]["ports"]
    environment = {each["name"]: each.get("value", "") for each in container["env"]}
    assert environment["HOSTED_CP_ADDRESS"] == f"0.0.0.0:{ports[port['targetPort']]}"
    assert environment["HOSTED_CP_METRICS_ADDRESS"] == f"0.0.0.0:{ports['metrics']}"
    assert container["args"] == ["webhook"]
    operator = FILE.with_name("operator.yaml")
    [run] = [each for each in yaml.safe_load_all(operator.read_text()) if each["kind"] == "Deployment"]
    [theirs] = run["spec"]["template"]["spec"]["containers"]
    assert container["image"] == theirs["image"]
    assert container["securityContext"] == theirs["securityContext"]
    assert pod["securityContext"] == run["spec"]["template"]["spec"]["securityContext"]
    # No file is written: what TLS needs as a file is one in memory.
    assert "volumes" not in pod


def test_options_and_environment_name_the_same() -> None:
    said = CliRunner().invoke(main, ["webhook", "--help"])
    assert said.exit_code == 0
    for option in ("--address", "--metrics-address", "--cert-file", "--key-file", "--host", "--service", "--drain"):
        assert option in said.output


def test_one_file_without_the_other_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["webhook", "--cert-file", str(tmp_path / "a")])
    assert done.exit_code == 2
