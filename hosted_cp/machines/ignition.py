"""Ignition, which Fedora CoreOS, Flatcar and their relatives read once, before their first start.

Files, and one unit that runs the commands of `commands`, each in a shell of its own, until one fails. Shells and
variables do not carry over from one command to the next, as in k0smotron.
"""

from __future__ import annotations

import json
from typing import Any

from hosted_cp.api.butane import ButaneError, data_url, ignition_config, ignition_version
from hosted_cp.api.machine_rules import mode
from hosted_cp.machines.commands import linux_commands
from hosted_cp.machines.files import Written, written
from hosted_cp.machines.templating import template
from hosted_cp.machines.worker import Resolved, Worker, WorkerError

UNIT = "k0s-bootstrap.service"

_UNIT = template(f"{UNIT}.j2")


def ignition(worker: Worker, resolved: Resolved) -> bytes:
    """The user data. Raises `WorkerError`."""
    if worker.ignition is None:
        raise WorkerError("spec.provisioner.ignition: is missing")
    try:
        version = ignition_version(worker.ignition.variant, worker.ignition.version)
        additional = ignition_config(worker.ignition.additional_config) if worker.ignition.additional_config else None
    except ButaneError as error:
        raise WorkerError(f"spec.provisioner.ignition: {error}") from None
    ours = {
        "ignition": {"version": version},
        "storage": {"files": [_file(each) for each in written(worker, resolved)]},
        "systemd": {"units": [{"name": UNIT, "enabled": True, "contents": unit(worker)}]},
    }
    if additional is None:
        return _text(ours)
    theirs = additional["ignition"]["version"]
    if theirs != version:
        raise WorkerError(
            "spec.provisioner.ignition.additionalConfig: mismatched Ignition versions between initial config"
            f" ({version}) and additional config ({theirs})"
        )
    merged = [{"source": data_url(_text(each))} for each in (ours, additional)]
    return _text({"ignition": {"version": version, "config": {"merge": merged}}})


def unit(worker: Worker) -> str:
    """The unit that runs the commands: at every start of the machine, until k0s has been installed as a service."""
    return _UNIT.render(commands=linux_commands(worker, systemd=True))


def _file(file: Written) -> dict[str, Any]:
    found = {"path": file.path, "overwrite": True, "contents": {"source": data_url(file.content)}}
    value = mode(file.permissions) if file.permissions else None
    return found if value is None else {**found, "mode": value}


def _text(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
