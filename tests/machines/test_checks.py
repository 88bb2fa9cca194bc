"""Problems: each names its field, what is wrong with it and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from hosted_cp.k0s.versions import parse
from hosted_cp.machines.checks import problems
from hosted_cp.machines.worker import File, Format, Ignition, Platform, SecretValue
from tests.machines.workers import VARIANTS, worker

WINDOWS = {"platform": Platform.WINDOWS}
FCOS = {"format": Format.IGNITION, "ignition": Ignition(variant="fcos", version="1.5.0")}


def additional(text: str) -> dict[str, Any]:
    return {
        "format": Format.IGNITION,
        "ignition": Ignition(variant="fcos", version="1.5.0", additional_config=text),
    }


def file(**changes: Any) -> dict[str, Any]:
    return {"files": (File(**{"path": "/a", "content": b"", **changes}),)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_good_workers_have_none(variant: str) -> None:
    assert problems(VARIANTS[variant]) == []


@pytest.mark.parametrize(
    ("changes", "field", "fault"),
    [
        ({"format": Format.POWERSHELL}, "spec.provisioner.platform", "is linux, which does not run"),
        ({**WINDOWS, **FCOS}, "spec.provisioner.platform", "no Ignition"),
        ({**WINDOWS, "version": parse("v1.34.1+k0s.9")}, "spec.version", "has no workers on Windows"),
        ({"format": Format.IGNITION}, "spec.provisioner.ignition", "is missing"),
        (
            {"format": Format.IGNITION, "ignition": Ignition(variant="x", version="1.5.0")},
            "spec.provisioner.ignition.variant",
            "'x'",
        ),
        (
            {"format": Format.IGNITION, "ignition": Ignition(variant="fcos", version="9.9.9")},
            "spec.provisioner.ignition.version",
            "'9.9.9' of fcos is unknown",
        ),
        (additional("a: ["), "spec.provisioner.ignition.additionalConfig", "neither YAML nor JSON"),
        (additional("- a"), "spec.provisioner.ignition.additionalConfig", "no object"),
        (additional("variant: fcos\nversion: 1.0.0"), "spec.provisioner.ignition.additionalConfig", "mismatched"),
        ({"download_url": "ftp://x/y"}, "spec.downloadURL", "no URL of scheme http, https or oci"),
        ({**WINDOWS, "download_url": "oci://x/y"}, "spec.downloadURL", "no URL of scheme http or https"),
        ({"download_url": "https://"}, "spec.downloadURL", "no URL"),
        ({"download_url": "https://[x/y"}, "spec.downloadURL", "no URL"),
        ({"download_url": "https://x/y z"}, "spec.downloadURL", "no URL"),
        ({"checksum": "abc"}, "spec.downloadSHA256", "no SHA-256"),
        ({"install_dir": "bin"}, "spec.k0sInstallDir", "no absolute path"),
        ({"install_dir": ""}, "spec.k0sInstallDir", "is missing"),
        ({"working_dir": "tmp"}, "spec.workingDir", "no absolute path"),
        ({"install_dir": r"C:\k0s"}, "spec.k0sInstallDir", "no absolute path"),
        ({"pre_commands": ("ls", "a\0b")}, "spec.preK0sCommands[1]", "is no command"),
        ({"post_commands": ("\ud800",)}, "spec.postK0sCommands[0]", "is no command"),
        (file(path=""), "spec.files[0].path", "is missing"),
        (file(path="etc/x"), "spec.files[0].path", "no absolute path"),
        (file(path="/etc/k0s.token"), "spec.files[0].path", "where the join token is put"),
        (file(permissions="rw-r--r--"), "spec.files[0].permissions", "no mode in octal"),
        (file(permissions="0800"), "spec.files[0].permissions", "no mode in octal"),
        ({**FCOS, **file(permissions="4755")}, "spec.files[0].permissions", "special bit"),
        (
            {**WINDOWS, "format": Format.POWERSHELL_XML, "custom": b"</PowerShell >"},
            "spec.provisioner.customUserDataRef",
            "would end",
        ),
        ({**WINDOWS, "format": Format.POWERSHELL, "custom": b"\xff"}, "spec.provisioner.customUserDataRef", "no text"),
        ({"args": ("--x='",)}, "spec.args[0]", "not closed"),
    ],
)
def test_problems(changes: dict[str, Any], field: str, fault: str) -> None:
    found = problems(worker(**changes))
    assert [each.field for each in found if fault in each.fault] == [field], found
    assert all(each.remedy for each in found)


def test_the_same_path_twice_is_one_too_many() -> None:
    twice = worker(files=(File(path="/a", content=b""), File(path="/a", content=SecretValue(secret="s", key="k"))))
    assert [each.field for each in problems(twice)] == ["spec.files[1].path"]


def test_the_fields_of_templates_can_be_named() -> None:
    assert problems(worker(install_dir="x"), field="spec.template.spec")[0].field == "spec.template.spec.k0sInstallDir"
