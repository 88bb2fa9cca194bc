"""Bad input of the kinds of Cluster API: each fault is named with its field, cause and remedy, and nothing raises."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hosted_cp.api import control_plane_checks, machine_rules, worker_config_checks
from hosted_cp.api.cluster import Network
from hosted_cp.api.control_plane import ControlPlaneTemplateSpec, K0smotronControlPlane, parse_control_plane
from hosted_cp.api.problems import Problem
from hosted_cp.api.worker_config import K0sWorkerConfig, K0sWorkerConfigSpec, parse_worker_config
from tests.api.generated import JSON, objects


def worker(spec: dict[str, Any], **arguments: Any) -> dict[str, str]:
    """Field -> what is wrong."""
    parsed = parse_worker_config({"spec": spec})
    assert parsed.spec is not None, parsed.problems
    return {each.field: str(each) for each in worker_config_checks.problems(parsed.spec, **arguments)}


def plane(spec: dict[str, Any], *, cluster: str = "demo", **arguments: Any) -> dict[str, str]:
    parsed = parse_control_plane({"spec": spec})
    assert parsed.spec is not None, parsed.problems
    return {each.field: str(each) for each in control_plane_checks.problems(parsed.spec, cluster=cluster, **arguments)}


IGNITION = {"variant": "flatcar", "version": "1.1.0"}
FLATCAR = "variant: flatcar\nversion: 1.1.0\n"
KEY = {"name": "a", "key": "b"}
FILE = {"path": "/etc/a", "content": "x"}


def provisioner(**fields: Any) -> dict[str, Any]:
    return {"provisioner": fields}


GOOD: list[dict[str, Any]] = [
    {},
    *({"version": each} for each in ("v1.36.3+k0s", "v1.36.3+k0s.2", "v1.36.3-k0s.2", "1.36.3", "v1.36.3")),
    {"files": [FILE, {"path": "/etc/b", "content": "", "permissions": "0644"}]},
    *({"files": [{**FILE, "permissions": each}]} for each in ("644", "0600", "1777", "0o0644", "")),
    {"files": [{"path": "/a b'$(x)", "contentFrom": {"secretRef": {"name": "a", "key": "b"}}}]},
    {"preK0sCommands": ["echo '{{ x }}' > /a; %h"], "postK0sCommands": ["true\nfalse"]},
    {"args": ["--debug", "--labels", "a=b"], "workingDir": "/opt/x", "k0sInstallDir": "/opt/bin/"},
    *({"downloadURL": f"{each}://example.org/k0s"} for each in ("http", "https", "oci")),
    {"downloadURL": "https://example.org/k0s", "downloadSHA256": "a" * 64},
    {"provisioner": {"instanceData": True}, "args": ["--labels=zone={{ v1.availability_zone }}"]},
    {"downloadURL": "", "preInstalledK0s": True},
    provisioner(type="ignition", ignition=IGNITION),
    provisioner(type="ignition", ignition={**IGNITION, "additionalConfig": "variant: flatcar\nversion: 1.1.0\n"}),
    provisioner(type="cloud-config", customUserDataRef={"configMapRef": {"name": "a", "key": "b"}}),
    provisioner(type="powershell-xml", platform="windows"),
    {
        **provisioner(type="powershell", platform="windows"),
        "version": "v1.34.2+k0s",
        "files": [{**FILE, "path": "C:\\a"}],
    },
    {**provisioner(platform="windows"), "workingDir": "D:/x", "k0sInstallDir": "C:\\k0s"},
    {"secretMetadata": {"labels": {"a": "b"}, "annotations": {"a.b/c": "anything at all"}}},
]


@pytest.mark.parametrize("spec", GOOD)
def test_what_is_good_has_no_problems(spec: dict[str, Any]) -> None:
    assert worker(spec) == {}


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"version": "latest"}, "spec.version", "'latest' is no version of k0s; write it as the kubelet reports it"),
    ({"version": "v1.36.3+k3s1"}, "spec.version", "is no version"),
    ({"files": [{"content": "x"}]}, "spec.files[0].path", "is missing; write the absolute path of the file"),
    ({"files": [{"path": "a", "content": "x"}]}, "spec.files[0].path", "'a' is no absolute path"),
    ({"files": [{"path": "/a/../b", "content": "x"}]}, "spec.files[0].path", "without .."),
    ({"files": [{"path": "C:\\a", "content": "x"}]}, "spec.files[0].path", "no absolute path"),
    ({"files": [{"path": "/a\nb", "content": "x"}]}, "spec.files[0].path", "control character"),
    ({"files": [FILE, FILE]}, "spec.files[1].path", "/etc/a is also that of spec.files[0]"),
    ({"files": [{**FILE, "path": "/etc/k0s.token"}]}, "spec.files[0].path", "is where the join token is put"),
    ({"files": [{**FILE, "path": "/x/k0s.token"}], "workingDir": "/x/"}, "spec.files[0].path", "join token"),
    ({"files": [{**FILE, "permissions": "rw"}]}, "spec.files[0].permissions", "'rw' is no mode in octal; write one"),
    ({"files": [{**FILE, "permissions": "0888"}]}, "spec.files[0].permissions", "no mode in octal"),
    ({"files": [{"path": "/a"}]}, "spec.files[0]", "has neither content nor contentFrom"),
    ({"files": [{**FILE, "contentFrom": {}}]}, "spec.files[0]", "has both content and contentFrom"),
    ({"files": [{"path": "/a", "contentFrom": {}}]}, "spec.files[0].contentFrom", "neither a Secret nor a ConfigMap"),
    (
        {"files": [{"path": "/a", "contentFrom": {"secretRef": KEY, "configMapRef": KEY}}]},
        "spec.files[0].contentFrom",
        "names both",
    ),
    (
        {"files": [{"path": "/a", "contentFrom": {"secretRef": {"name": "", "key": "b"}}}]},
        "spec.files[0].contentFrom.secretRef.name",
        "is empty",
    ),
    (provisioner(type="ignition"), "spec.provisioner.ignition", "is missing, and type ignition needs it"),
    (
        provisioner(type="ignition", ignition={**IGNITION, "version": "one"}),
        "spec.provisioner.ignition.version",
        "'one' of flatcar is unknown; use one of 1.0.0, 1.1.0",
    ),
    (
        provisioner(type="ignition", ignition={**IGNITION, "additionalConfig": "a: ["}),
        "spec.provisioner.ignition.additionalConfig",
        "neither YAML nor JSON",
    ),
    (
        provisioner(type="ignition", ignition={**IGNITION, "additionalConfig": "text"}),
        "spec.provisioner.ignition.additionalConfig",
        "is no object",
    ),
    (
        provisioner(type="ignition", ignition={**IGNITION, "additionalConfig": "version: 1.1.0"}),
        "spec.provisioner.ignition.additionalConfig",
        "has no variant, and is a Butane config of its own; write variant: flatcar",
    ),
    (
        provisioner(type="ignition", ignition={**IGNITION, "additionalConfig": "variant: fcos\nversion: 1.0.0\n"}),
        "spec.provisioner.ignition.additionalConfig",
        "mismatched Ignition versions",
    ),
    (
        provisioner(type="ignition", ignition={**IGNITION, "additionalConfig": f"{FLATCAR}storage: {{trees: []}}"}),
        "spec.provisioner.ignition.additionalConfig",
        "storage.trees: there is no folder to take a tree from; write storage.files",
    ),
    (
        provisioner(type="ignition", instanceData=True, ignition=IGNITION),
        "spec.provisioner.instanceData",
        "nothing fills in data of the instance in type ignition on linux",
    ),
    (provisioner(platform="windows", instanceData=True), "spec.provisioner.instanceData", "on windows"),
    (provisioner(customUserDataRef={}), "spec.provisioner.customUserDataRef", "names neither"),
    (provisioner(type="powershell"), "spec.provisioner.platform", "is linux, which does not run"),
    (provisioner(type="ignition", platform="windows", ignition=IGNITION), "spec.provisioner.platform", "no Ignition"),
    ({**provisioner(platform="windows"), "version": "v1.34.1+k0s"}, "spec.version", "use v1.34.2+k0s or newer"),
    (
        {**provisioner(platform="windows"), "files": [{**FILE, "path": "C:\\A"}, {**FILE, "path": "c:/a"}]},
        "spec.files[1].path",
        "is also that of",
    ),
    ({"k0sInstallDir": "bin"}, "spec.k0sInstallDir", "'bin' is no absolute path"),
    ({"k0sInstallDir": ""}, "spec.k0sInstallDir", "is missing"),
    ({"workingDir": "x"}, "spec.workingDir", "no absolute path"),
    ({"downloadURL": "ftp://x/k0s"}, "spec.downloadURL", "no URL of scheme http, https or oci"),
    ({"downloadURL": "https://"}, "spec.downloadURL", "no URL"),
    ({"downloadURL": "https://[x/k0s"}, "spec.downloadURL", "no URL"),
    ({"downloadURL": "https://x/k 0s"}, "spec.downloadURL", "no URL"),
    ({"args": ["--token-file=/x"]}, "spec.args[0]", "sets --token-file, which is set already"),
    ({"args": ["--debug", ""]}, "spec.args[1]", "no argument"),
    ({"preK0sCommands": [" "]}, "spec.preK0sCommands[0]", "is no command"),
    ({"postK0sCommands": ["true", "a\0b"]}, "spec.postK0sCommands[1]", "is no command"),
    ({"secretMetadata": {"labels": {"a": "b c"}}}, "spec.secretMetadata.labels[a]", "no value of a label"),
    ({"secretMetadata": {"annotations": {"a b": ""}}}, "spec.secretMetadata.annotations[a b]", "no key"),
    (
        {"secretMetadata": {"labels": {"cluster.x-k8s.io/cluster-name": "x"}}},
        "spec.secretMetadata.labels[cluster.x-k8s.io/cluster-name]",
        "is set by the operator",
    ),
]


@pytest.mark.parametrize(("spec", "field", "says"), BAD, ids=[f"{field}-{says[:20]}" for _, field, says in BAD])
def test_every_fault_names_field_cause_and_remedy(spec: dict[str, Any], field: str, says: str) -> None:
    named = worker(spec)
    assert list(named) == [field], named
    assert says in named[field]
    assert named[field].count("; ") >= 1
    parsed = parse_worker_config({"spec": spec}).spec
    assert parsed is not None
    [template] = worker_config_checks.template_problems(parsed)
    assert template.field == field.replace("spec.", "spec.template.spec.", 1)


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        ({"provisioner": {"type": "ignition", "ignition": {"variant": "x", "version": "1"}}},
         "spec.provisioner.ignition.variant", "should be 'fcos', 'flatcar', 'openshift', 'r4e' or 'fiot'"),
        ({"provisioner": {"type": "tape"}}, "spec.provisioner.type", "use one of the allowed values"),
        ({"files": {}}, "spec.files", "write a list"),
        ({"args": [1]}, "spec.args[0]", "write a string"),
        ([], "spec", "write an object"),
        ({"files": [{"permissions": 420}]}, "spec.files[0].permissions", "in quotes"),
        ({"downloadSHA256": "x"}, "spec.downloadSHA256", "should match pattern"),
    ],
)  # fmt: skip
def test_what_cannot_even_be_read_is_named(spec: Any, field: str, says: str) -> None:
    parsed = parse_worker_config({"spec": spec})
    assert parsed.spec is None
    [problem] = parsed.problems
    assert problem.field == field
    assert says in str(problem)


@pytest.mark.parametrize(
    ("spec", "field", "says"),
    [
        (provisioner(ignition=IGNITION), "spec.provisioner.ignition", "type cloud-config does not use it; set type"),
        (
            provisioner(type="ignition", ignition=IGNITION, customUserDataRef={"secretRef": KEY}),
            "spec.provisioner.customUserDataRef",
            "type ignition does not use it",
        ),
        ({"downloadSHA256": "a" * 64, "preInstalledK0s": True}, "spec.downloadSHA256", "nothing is downloaded"),
        ({"downloadURL": "https://x/k0s", "preInstalledK0s": True}, "spec.downloadURL", "nothing is downloaded"),
    ],
)
def test_what_does_nothing_is_a_warning_and_no_fault(spec: dict[str, Any], field: str, says: str) -> None:
    parsed = parse_worker_config({"spec": spec}).spec
    assert parsed is not None
    [warning] = worker_config_checks.warnings(parsed)
    assert warning.field == field
    assert says in str(warning)
    assert worker(spec) == {}


@pytest.mark.parametrize("spec", GOOD)
def test_what_is_good_has_no_warnings(spec: dict[str, Any]) -> None:
    parsed = parse_worker_config({"spec": spec}).spec
    assert parsed is not None
    assert worker_config_checks.warnings(parsed) == ()


def test_where_the_token_is_put() -> None:
    for folder, path in (("", "/etc"), ("/opt/", "/opt")):
        assert machine_rules.token_path(folder, windows=False) == f"{path}/k0s.token"
    for folder, path in (("C:\\x\\", "C:\\x\\k0s.token"), ("D:/x", "D:/x/k0s.token")):
        assert machine_rules.token_path(folder, windows=True) == path


def test_versions_of_machines_on_windows() -> None:
    assert list(machine_rules.windows_problems("v1.36.3+k0s")) == []
    [problem] = machine_rules.windows_problems("v1.33.9+k0s", field="Machine spec.version")
    assert str(problem).startswith("Machine spec.version: v1.33.9+k0s has no workers on Windows")
    assert list(machine_rules.windows_problems(None)) == []


def support(version: str) -> Problem | None:
    return Problem(field="spec.version", fault="is old", remedy="take v1.36") if "1.20" in version else None


def test_support_is_asked_for_versions_only() -> None:
    for check in (worker, plane):
        assert check({"version": "v1.20.0+k0s"}, support=support) == {
            "spec.version": "spec.version: is old; take v1.36"
        }
        assert check({"version": "v1.36.3+k0s"}, support=support) == {}
        assert "no version" in check({"version": "1.20"}, support=support)["spec.version"]
        assert check({}, support=support) == {}


# --- control planes ---------------------------------------------------------------------------------------------------


def test_control_planes_are_judged_as_clusters_are() -> None:
    for version in ("v1.36.3+k0s", "v1.36.3+k0s.2", "v1.36.3-k0s.2", "v1.36.3"):
        assert plane({"version": version, "controlPlaneEndpoint": {"host": "cp.example", "port": 6443}}) == {}
    bad = plane({"replicas": 0, "storage": {"type": "kine"}, "persistence": {"type": "tape"}}, cluster="x" * 60)
    assert bad.keys() == {f"Cluster {'x' * 60}", "spec.replicas", "spec.storage.kine", "spec.persistence.type"}
    assert "at most 43 characters" in bad[f"Cluster {'x' * 60}"]
    endpoint = plane({"controlPlaneEndpoint": {"host": "https://x", "port": 1}})
    assert "without https://" in endpoint["spec.controlPlaneEndpoint.host"]
    changed = plane({"storage": {"type": "etcd"}}, old=Network.of(None), old_storage="kine")
    assert changed.keys() == {"spec.storage.type"}


def test_templates_of_control_planes() -> None:
    def template(spec: dict[str, Any]) -> list[str]:
        found = control_plane_checks.template_problems(ControlPlaneTemplateSpec.model_validate(spec), support=support)
        return [each.field for each in found]

    assert template({}) == template({"version": "v1.36.3+k0s"}) == []
    assert template({"replicas": 0, "version": "v1.20.0"}) == [
        "spec.template.spec.version",
        "spec.template.spec.replicas",
    ]


@settings(max_examples=50)
@given(obj=objects(K0smotronControlPlane), cluster=st.text(string.printable, max_size=60))
def test_any_control_plane_is_judged_without_an_exception(obj: dict[str, Any], cluster: str) -> None:
    parsed = parse_control_plane(obj)
    if parsed.spec is not None:
        found = control_plane_checks.problems(parsed.spec, cluster=cluster, old=Network.of(None), old_storage="etcd")
        assert all(each.field and each.fault and each.remedy for each in found)


@settings(max_examples=100)
@given(obj=objects(K0sWorkerConfig), junk=st.dictionaries(st.sampled_from([*K0sWorkerConfigSpec.model_fields]), JSON))
def test_any_worker_config_is_judged_without_an_exception(obj: dict[str, Any], junk: dict[str, Any]) -> None:
    for body in (obj, {"spec": junk}):
        parsed = parse_worker_config(body)
        assert (parsed.spec is None) == bool(parsed.problems)
        if parsed.spec is not None:
            found = worker_config_checks.problems(parsed.spec)
            assert all(each.field and each.fault and each.remedy for each in found)
