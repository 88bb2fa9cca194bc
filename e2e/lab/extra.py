"""Processes that a lab runs on demand, beside those of its management cluster; recorded and removed like them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.lab import edge, netns, processes, state
from e2e.lab.handle import Lab
from e2e.lab.processes import Place, Ready

#: The checkout: where a process of ours finds our packages.
ROOT = Path(__file__).parents[2]


def keep(
    lab: Lab, name: str, argv: Sequence[str | Path], *, inputs: Sequence[str] = (), on_node: bool = False,
    notifies: bool = False, seconds: float = 60.0, env: Mapping[str, str] | None = None,
) -> bool:  # fmt: skip
    """Let a process run, in the node's network or in this machine's; True if it had to be started (again).

    A process that runs with the same command line and `inputs` (its files' texts) is left alone. `notifies` if it says
    on NOTIFY_SOCKET when it is ready, which is then waited for.
    """
    with state.locked(lab.folder, wait=True):
        journal = edge.journal_of(lab.folder)
        if processes.is_current(journal, name, argv, inputs):
            return False
        ready = Ready(journal.folder, name, seconds=seconds) if notifies else None
        process = processes.start(
            journal, name, argv, place=Place(netns=str(netns.namespace_file(lab.folder, "node"))) if on_node else None,
            env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **(ready.environment if ready else {}),
                 **(env or {})},
            inputs=inputs,
        )  # fmt: skip
    if ready:
        # Not under the lock: it may need the lock to become ready.
        ready.wait(process, log=processes.log_file(lab.folder, name))
    return True


def end(lab: Lab, name: str) -> None:
    """End such a process, if there is one."""
    with state.locked(lab.folder, wait=True):
        processes.stop(edge.journal_of(lab.folder), name)


def require(lab: Lab, name: str) -> None:
    """`LabError` with the end of its log if the process does not run."""
    processes.require(edge.journal_of(lab.folder), name)
