"""Whatever stands in a K0sWorkerConfig: there are user data of it, or a condition names field, cause and remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hosted_cp.api.worker_config import parse_worker_config
from hosted_cp.machines.plan import plan
from hosted_cp.machines.recipes import WorkerDataRecipe
from hosted_cp.machines.render import preview
from hosted_cp.machines.view import WorkerView
from hosted_cp.planning.actions import Create, Plan
from tests.machines.hostile import PAYLOADS
from tests.machines.worker_world import ready

IGNITION = {"variant": "fcos", "version": "1.5.0"}


def ignition(**changes: Any) -> dict[str, Any]:
    return {"provisioner": {"type": "ignition", "ignition": {**IGNITION, **changes}}}


def file(**changes: Any) -> dict[str, Any]:
    return {"files": [{"path": "/etc/a", "content": "x", **changes}]}


def source(**reference: Any) -> dict[str, Any]:
    return {"files": [{"path": "/etc/a", "contentFrom": {"secretRef": {"name": "site", "key": "k", **reference}}}]}


def planned(view: WorkerView, spec: dict[str, Any]) -> Plan:
    parsed = parse_worker_config({"spec": spec})
    return plan(replace(view, spec=parsed.spec, problems=parsed.problems))


def why(made: Plan) -> str:
    assert made.status is not None
    [found] = [each for each in made.status["conditions"] if each["type"] == "Ready"]
    return f"{found['status']} {found['reason']}: {found['message']}"


BAD: list[tuple[dict[str, Any], str, str]] = [
    (ignition(variant="suse"), "SpecInvalid: spec.provisioner.ignition.variant: should be 'fcos'", "; use one of"),
    (ignition(version="9.9.9"), "SpecInvalid: spec.provisioner.ignition.version: ", "'9.9.9' of fcos is unknown; "),
    (file(path=None), "SpecInvalid: spec.files[0].path: is missing", "write the absolute path"),
    (file(permissions="rwx"), "SpecInvalid: spec.files[0].permissions: ", 'write one such as "0644"'),
    (
        source(),
        "SourceMissing: spec.files[0].contentFrom.secretRef.name: Secret site does not exist",
        "create it there",
    ),
    # A reference has no namespace; whoever writes one is told where the Secret is looked for.
    (source(namespace="other"), "SourceMissing: ", "does not exist in namespace tenants; create it there"),
    ({"downloadURL": "ftp://x/k0s"}, "SpecInvalid: spec.downloadURL: is no URL", "write one such as https://"),
    ({"version": "newest"}, "SpecInvalid: spec.version: 'newest' is no version of k0s", "write it as the kubelet"),
    ({"version": "v1.99.0+k0s"}, "VersionNotSupported: spec.version: ", "; "),
    ({"args": ["--labels='a"]}, "SpecInvalid: spec.args[0]: a quotation mark is not closed", "close it"),
    ({"preK0sCommands": "reboot"}, "SpecInvalid: spec.preK0sCommands: ", "write a list"),
]


@pytest.mark.parametrize(("spec", "says", "remedy"), BAD)
def test_what_is_wrong_is_named_with_a_remedy(spec: dict[str, Any], says: str, remedy: str) -> None:
    made = planned(ready().view(), spec)
    assert why(made).startswith(f"False {says}")
    assert remedy in why(made)
    assert not made.actions


#: Every field that a user may write a string into, and that reaches the machine or its Secret.
FIELDS: dict[str, Callable[[str], dict[str, Any]]] = {
    "path": lambda text: file(path=f"/srv/{text}"),
    "bare path": lambda text: file(path=text),
    "permissions": lambda text: file(permissions=text),
    "content": lambda text: file(content=text),
    "source": lambda text: source(name=text),
    "key of a source": lambda text: source(key=text),
    "pre command": lambda text: {"preK0sCommands": [text]},
    "post command": lambda text: {"postK0sCommands": [text]},
    "argument": lambda text: {"args": [f"--labels=a={text}"]},
    "bare argument": lambda text: {"args": [text]},
    "URL": lambda text: {"downloadURL": f"https://example.org/{text}"},
    "bare URL": lambda text: {"downloadURL": text},
    "checksum": lambda text: {"downloadURL": "https://example.org/k0s", "downloadSHA256": text},
    "install folder": lambda text: {"k0sInstallDir": f"/opt/{text}"},
    "working folder": lambda text: {"workingDir": f"/opt/{text}"},
    "version": lambda text: {"version": text},
    "variant": lambda text: ignition(variant=text),
    "Butane's version": lambda text: ignition(version=text),
    "more Ignition": lambda text: ignition(additionalConfig=text),
    "label": lambda text: {"secretMetadata": {"labels": {"a": text}}},
    "name of a label": lambda text: {"secretMetadata": {"labels": {text: "a"}}},
    "annotation": lambda text: {"secretMetadata": {"annotations": {"a": text}}},
    "platform": lambda text: {"provisioner": {"platform": text}},
    "type": lambda text: {"provisioner": {"type": text}},
}


@pytest.mark.parametrize("field", FIELDS)
def test_no_string_is_too_much_for_any_field(field: str) -> None:
    view = ready().view()
    for payload in PAYLOADS:
        made = planned(view, FIELDS[field](payload))
        *_, last = made.actions or (None,)
        if isinstance(last, Create):
            assert isinstance(last.recipe, WorkerDataRecipe)
            assert preview(last.recipe.worker).value, payload
        else:
            assert why(made).startswith(("False SpecInvalid: ", "False SourceMissing: ", "False Version")), payload
            assert "; " in why(made)
            assert not made.actions
