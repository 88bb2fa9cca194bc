"""What is wrong with something that a user wrote: field, fault and remedy, in one form everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One fault. `str()` is the sentence for a condition: `spec.replicas: is -1; set 1 or more`."""

    #: Path as a user would write it: `spec.mounts[2].path`, or `Secret demo-ca`.
    field: str
    #: What is wrong, continuing the field: "is -1". Never quotes what may be secret.
    fault: str
    #: What to do about it, as an imperative: "set 1 or more".
    remedy: str

    def __str__(self) -> str:
        return f"{self.field}: {self.fault}; {self.remedy}"


_ELSE = "see docs/kinds.md for what the field takes"
_REMEDIES = {
    "missing": "add it",
    "string_type": "write a string (in quotes, if it looks like a number)",
    "int_type": "write a whole number without quotes",
    "bool_type": "write true or false without quotes",
    "dict_type": "write an object",
    "model_type": "write an object",
    "tuple_type": "write a list",
    "list_type": "write a list",
    "literal_error": "use one of the allowed values",
}


def of_validation(error: ValidationError, *, root: str) -> tuple[Problem, ...]:
    """The problems behind a failed pydantic validation. Values are not quoted: a DSN may be among them."""
    found = []
    for each in error.errors(include_url=False, include_input=False):
        context = each.get("ctx", {})
        fault, remedy = re.sub(r"^\w+ should", "should", each["msg"]), _REMEDIES.get(each["type"], _ELSE)
        match each["type"]:
            case "missing":
                fault = "is missing"
            case "greater_than_equal":
                fault, remedy = f"is below {context['ge']}", f"use {context['ge']} or more"
            case "less_than_equal":
                fault, remedy = f"is above {context['le']}", f"use {context['le']} or less"
        found.append(Problem(field=path(root, each["loc"]), fault=fault, remedy=remedy))
    return tuple(found)


def path(root: str, steps: Iterable[str | int]) -> str:
    """`spec`, `["mounts", 2, "path"]` -> `spec.mounts[2].path`."""
    return root + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
