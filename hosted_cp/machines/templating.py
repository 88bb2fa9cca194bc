"""jinja2 for texts of units and scripts: only what has been quoted can be put in.

A template names the quoting function as a filter (`{{ path | powershell }}`). A value without one does not become part
of the text by mistake; it raises.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

import jinja2

from hosted_cp.machines import quoting


class Quoted(str):
    """Text that is safe in the language of the template."""

    __slots__ = ()


def _marking(quote: Callable[[str], str]) -> Callable[[str], Quoted]:
    return lambda text: Quoted(quote(text))


def _finalize(value: Any) -> Quoted:
    if not isinstance(value, Quoted):
        raise TypeError("a value without a quoting filter stands in a template")
    return value


# What comes out is no HTML, whose escaping is what autoescape means.
_ENVIRONMENT = jinja2.Environment(  # noqa: S701
    undefined=jinja2.StrictUndefined, finalize=_finalize, trim_blocks=True, lstrip_blocks=True,
    keep_trailing_newline=True,
)  # fmt: skip
_ENVIRONMENT.filters.update(
    shell=_marking(quoting.shell), systemd=_marking(quoting.systemd), powershell=_marking(quoting.powershell)
)


def template(name: str) -> jinja2.Template:
    """One of the files in `templates`."""
    return _ENVIRONMENT.from_string(files(__package__).joinpath("templates", name).read_text())
