"""Golden files: the user data of every variant, as the machine gets it, and what is packed inside of it.

`HOSTED_CP_GOLDEN=write pytest tests/machines/test_golden.py` writes them anew, and the difference is for the reviewer.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from hosted_cp.machines.checks import problems
from hosted_cp.machines.render import render
from hosted_cp.machines.windows import install_script
from hosted_cp.machines.worker import Format, Platform, Worker
from tests.machines.workers import VARIANTS, resolved

FOLDER = Path(__file__).parent / "golden"


def golden(worker: Worker) -> str:
    data = render(worker, resolved())
    text = data.value.decode()
    assert "\r" not in text
    parts = [f"format: {data.format}", *(f"warning: {each}" for each in data.warnings), "", _readable(worker, text)]
    if worker.platform is Platform.WINDOWS:
        parts += ["", r"=== C:\bootstrap\k0s_install.ps1 ===", install_script(worker).decode("utf-8-sig")]
    return "\n".join(parts)


def _readable(worker: Worker, text: str) -> str:
    if worker.format is not Format.IGNITION:
        return text
    document = json.loads(text)
    found = [json.dumps(document, indent=2)]
    for each in document["ignition"].get("config", {}).get("merge", ()):
        inner = json.loads(base64.b64decode(each["source"].removeprefix("data:;base64,")))
        found += ["=== merged ===", json.dumps(inner, indent=2)]
        document = inner if "k0s-bootstrap.service" in json.dumps(inner) else document
    found += ["=== k0s-bootstrap.service ===", document["systemd"]["units"][0]["contents"]]
    return "\n".join(found)


@pytest.mark.parametrize("variant", VARIANTS)
def test_golden(variant: str) -> None:
    worker = VARIANTS[variant]
    assert problems(worker) == []
    file = FOLDER / f"{variant}.txt"
    text = golden(worker)
    if os.environ.get("HOSTED_CP_GOLDEN") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert file.exists(), "run with HOSTED_CP_GOLDEN=write and look at what it wrote"
    assert text == file.read_text()


def test_no_file_is_left_over() -> None:
    assert {each.stem for each in FOLDER.iterdir()} == set(VARIANTS)


def test_every_format_has_variants() -> None:
    assert {each.format for each in VARIANTS.values()} == set(Format)
