"""Playing a pod without a kubelet: its containers' environment and command, as the kubelet would make them.

Only what the kubelet does is done here, from the planned object alone: values of Secrets and of the downward API are
put in, and `$(NAME)` in commands is expanded by Kubernetes' rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class CannotStart(Exception):
    """The kubelet would say CreateContainerConfigError: a Secret or a key of it does not exist."""


def expand(text: str, environment: Mapping[str, str]) -> str:
    """`$(NAME)` becomes its value if there is one, `$$` becomes `$`, all else stays (k8s.io/kubernetes expansion)."""
    made = []
    position = 0
    while position < len(text):
        char = text[position]
        if char != "$" or position + 1 == len(text):
            made.append(char)
            position += 1
        elif text[position + 1] == "$":
            made.append("$")
            position += 2
        elif text[position + 1] == "(" and (end := text.find(")", position)) >= 0:
            name = text[position + 2 : end]
            made.append(environment.get(name, text[position : end + 1]))
            position = end + 1
        else:
            # An operator before anything else is taken as it is, together with what follows it.
            made.append(text[position : position + 2])
            position += 2
    return "".join(made)


def environment(
    container: Mapping[str, Any], *, pod: str, secrets: Mapping[str, Mapping[str, bytes]]
) -> dict[str, str]:
    """The container's variables for a pod of this name."""
    made: dict[str, str] = {}
    for variable in container.get("env", []):
        source = variable.get("valueFrom", {})
        if "value" in variable:
            made[variable["name"]] = expand(variable["value"], made)
        elif "fieldRef" in source:
            assert source["fieldRef"]["fieldPath"] == "metadata.name"
            made[variable["name"]] = pod
        else:
            reference = source["secretKeyRef"]
            value = secrets.get(reference["name"], {}).get(reference["key"])
            if value is None and not reference.get("optional"):
                raise CannotStart(f"Secret {reference['name']} has no key {reference['key']}")
            if value is not None:
                made[variable["name"]] = value.decode()
    return made


def command(container: Mapping[str, Any], variables: Mapping[str, str]) -> list[str]:
    """The expanded words of the container's command and arguments."""
    return [expand(word, variables) for word in [*container.get("command", []), *container.get("args", [])]]
