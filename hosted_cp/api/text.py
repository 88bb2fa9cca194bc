"""Reading YAML and JSON that somebody else wrote: kubeconfigs in Secrets, patches in a spec.

libyaml composes nested nodes recursively in C, so 100 KB of `[` end the whole process with a segmentation fault, and a
dozen lines of aliases expand to gigabytes when they are written out again. Both are refused here by looking at the
(flat) event stream first. Nothing else in this program may hand such text to a YAML loader.
"""

from __future__ import annotations

from typing import Any

import yaml

#: Far more than any Kubernetes object needs.
MAX_DEPTH = 100

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class TextError(ValueError):
    """The text cannot be read; the message says why and where, and quotes nothing of it."""


def load(text: str | bytes, *, limit: int = 1 << 20) -> Any:
    """The one document in a YAML or JSON text of at most `limit` bytes (characters of a str). Raises TextError."""
    if len(text) > limit:
        raise TextError(f"it is longer than {limit} bytes")
    depth = 0
    try:
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    raise TextError(f"it is nested deeper than {MAX_DEPTH} levels{_where(event.start_mark)}")
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            elif isinstance(event, yaml.AliasEvent):
                raise TextError(f"it uses a YAML alias, which is not supported{_where(event.start_mark)}")
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        raise TextError(f"it is neither YAML nor JSON{_where(error.problem_mark)}") from None
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, TextError):
            raise
        # Characters that YAML forbids, or a date that does not exist.
        raise TextError("it is neither YAML nor JSON") from None


def _where(mark: Any) -> str:
    return f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
