"""YAML that programs in Go read as it was meant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Quotes `y` and `n`, which are texts to Python and truth values to others."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if value in ("y", "Y", "n", "N") else None)


_Dumper.add_representer(str, _text)


def dump(document: Any, *, sort: bool = False) -> str:
    """One document as YAML."""
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=sort))


def dump_all(documents: Iterable[Any]) -> str:
    """Several documents as YAML."""
    return str(yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False))
