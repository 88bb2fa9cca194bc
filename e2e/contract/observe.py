"""Keeps what a k0s does as facts of its version: `python -m e2e.contract.observe /path/to/k0s`."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import yaml

from e2e.contract.conftest import controller_on_machine
from e2e.contract.installation import installation
from e2e.contract.k0s import Subject
from e2e.contract.observations import OBSERVATIONS, SPEC, complete
from k0s_images.golang import components


def observe(binary: Path) -> Path:
    """Run a controller and write the facts; the folder they are in. `ValueError` for the stand-in."""
    subject = Subject.of(binary, components)
    if subject.stand_in:
        raise ValueError("facts are observed on k0s itself, never on the stand-in")
    folder = Path(__file__).parent / "facts" / subject.version
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="observe-") as place, ExitStack() as stack:
        _keep(folder / "installation.yaml", installation(subject, Path(place)))
        controller = controller_on_machine(stack, subject, Path(place), spec=SPEC)
        print(f"ready after {controller.ready():.1f} s")
        controller.wait_for(lambda: complete(controller), within=30, what="the stacks")
        for name, look in OBSERVATIONS.items():
            _keep(folder / f"{name}.yaml", look(controller))
    return folder


def _keep(file: Path, facts: object) -> None:
    file.write_text(yaml.safe_dump(facts, sort_keys=True, width=120))


if __name__ == "__main__":
    for each in sys.argv[1:]:
        print(observe(Path(each)))
