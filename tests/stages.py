"""`make test` and its parts: runs stages one after another and prints each one's share of the time.

A stage that fails does not keep the others from running (a broken unit test should not hide a broken worker), except
that without `lint`, `unit` and `build` being green the expensive ones are not begun.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

#: pytest's exit code when it has run and tests have failed.
_TESTS_FAILED = 1

#: Files of tests side by side: most of the time they wait for real processes. Each worker has servers of its own. They
#: are begun in the order in which they are collected, the longest first (xdist would begin with those of most tests).
_SIDE_BY_SIDE = ("-n", "3", "--dist", "loadfile", "--no-loadscope-reorder")

#: The same with a lab for each of two: more would only wait for this machine's processors.
_IN_TWO_LABS = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")

_PYTEST = (sys.executable, "-m", "pytest", "--durations=5", "--durations-min=5")


#: The older series of Cluster API that is supported, and the tests that run its core manager.
_FORMER_CORE = "1.13"
_ON_CORE = tuple(
    f"tests/component/test_{name}.py"
    for name in (
        "control_planes", "worker_configs", "cluster_class", "capi_deletion", "capi_steady", "seeds", "clusterctl",
        "foreign_control_planes", "machine_pools", "invariants_capi",
    )
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Some commands; the first that fails ends the stage."""

    commands: tuple[tuple[str, ...], ...]
    usually: str
    #: Without it being green, stages that are not cheap are not begun.
    cheap: bool = False
    #: Real processes on a busy machine: what failed is run once more, alone, and told apart from what never failed.
    once_more: bool = False


STAGES = {
    "lint": Stage(
        commands=(
            ("ruff", "check", "."),
            ("ruff", "format", "--check", "."),
            ("mypy",),
            ("lint-imports",),
        ),
        usually="1 min",
        cheap=True,
    ),
    "unit": Stage(
        commands=((*_PYTEST, "-n", "2", "tests", "-m", "not component and not e2e and not sweep"),),
        usually="1 min",
        cheap=True,
    ),
    "build": Stage(commands=((sys.executable, "-m", "e2e.prepare"),), usually="5 s; the first time 25 min", cheap=True),
    "component": Stage(
        commands=(
            (sys.executable, "-m", "e2e.prepare", "servers"),
            (*_PYTEST, *_SIDE_BY_SIDE, "tests/component", "-m", "component and not sweep"),
        ),
        usually="10 min",
        once_more=True,
    ),
    "contract": Stage(
        commands=(
            (sys.executable, "-m", "e2e.prepare", "control-planes"),
            (*_PYTEST, *_SIDE_BY_SIDE, "e2e/contract", "-m", "not sweep"),
        ),
        usually="3 min",
        once_more=True,
    ),
    "e2e": Stage(
        commands=(
            (sys.executable, "-m", "e2e.prepare"),
            (*_PYTEST, *_IN_TWO_LABS, "e2e", "tests/k0s_images", "-m", "e2e and not sweep"),
        ),
        usually="9 min",
        once_more=True,
    ),
    "examples": Stage(
        commands=(
            ("env", "HOSTED_CP_NEW_EXAMPLES=1", *_PYTEST, "tests", "-m", "not component and not e2e and not sweep"),
        ),
        usually="10 min",
    ),
    "sweep": Stage(commands=((*_PYTEST, "tests", "e2e", "-m", "sweep"),), usually="an hour"),
    "former-core": Stage(
        commands=(
            (sys.executable, "-m", "e2e.capi.programs", _FORMER_CORE),
            ("env", f"HOSTED_CP_CORE={_FORMER_CORE}", *_PYTEST, *_SIDE_BY_SIDE, *_ON_CORE, "-m", "not sweep"),
        ),
        usually="10 min",
        once_more=True,
    ),
}


def main(names: Sequence[str]) -> int:
    """Run the named stages; returns 1 if one has failed."""
    os.environ.pop("KUBECONFIG", None)
    taken: list[tuple[str, float, bool]] = []
    for name in names:
        stage = STAGES[name]
        if not stage.cheap and any(not good and STAGES[done].cheap for done, _, good in taken):
            print(f"== {name}: not begun, because a cheap stage has failed", flush=True)
            taken.append((name, 0.0, False))
            continue
        print(f"== {name} (usually {stage.usually})", flush=True)
        begun = time.monotonic()
        good = all(_passes(command, once_more=stage.once_more) for command in stage.commands)
        taken.append((name, time.monotonic() - begun, good))
    total = sum(seconds for _, seconds, _ in taken) or 1.0
    print("\nstage       seconds  share")
    for name, seconds, good in taken:
        print(f"{name:<10} {seconds:8.0f}  {100 * seconds / total:4.0f} %  {'ok' if good else 'FAILED'}")
    return 0 if all(good for _, _, good in taken) else 1


def _passes(command: Sequence[str], *, once_more: bool) -> bool:
    code = subprocess.run(command, check=False).returncode
    if code == _TESTS_FAILED and once_more and "pytest" in command:
        print("== once more, what has failed (a second failure counts)", flush=True)
        code = subprocess.run((*command, "--last-failed", "--last-failed-no-failures=none"), check=False).returncode
    return code == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
