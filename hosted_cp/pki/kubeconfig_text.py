"""The kubeconfigs that we hand out, as text: one form, written from six values and read back into them.

Nearly every kubeconfig that the operator sees is one of its own. To dump one as YAML and to load it again, twice, was a
tenth of the CPU of a new tenant. What is in any other form, or holds anything that YAML could take for something else
than the text that stands there, is not read here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

#: libyaml where it is there: ten times faster.
_Dumper: type[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_TEXT = """\
apiVersion: v1
kind: Config
clusters:
- name: {cluster}
  cluster:
    server: {server}
    certificate-authority-data: {authority}
contexts:
- name: {context}
  context:
    cluster: {cluster}
    user: {user}
current-context: {context}
preferences: {{}}
users:
- name: {user}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
"""

#: A name ends so that it can be no number, date or truth value. Data is the base64 of PEM.
_FORMS = {
    "cluster": r"[a-z0-9][a-z0-9.-]{0,252}-k0s",
    "user": r"[a-z0-9][a-z0-9.-]{0,252}-admin",
    "context": r"[a-z0-9][a-z0-9.-]{0,252}-admin@[a-z0-9][a-z0-9.-]{0,252}-k0s",
    "server": r"https://[\[\]A-Za-z0-9.:-]{0,300}[\]A-Za-z0-9.-]",
    **dict.fromkeys(("authority", "certificate", "key"), r"LS0t[A-Za-z0-9+/]+={0,2}"),
}


def _pattern() -> re.Pattern[str]:
    """The text as a pattern: each value in its form, and the same wherever it stands again."""
    found: set[str] = set()

    def group(place: re.Match[str]) -> str:
        name = place[1]
        if name in found:
            return f"(?P={name})"
        found.add(name)
        return f"(?P<{name}>{_FORMS[name]})"

    return re.compile(re.sub(r"\\\{(\w+)\\\}", group, re.escape(_TEXT.replace("{{}}", "<>"))).replace("<>", r"\{\}"))


_PATTERN = _pattern()


@dataclass(frozen=True, kw_only=True)
class Written:
    """What stands in one of our kubeconfigs. Data are base64."""

    cluster: str
    user: str
    context: str
    server: str
    authority: str
    certificate: str
    key: str = field(repr=False)


def write(values: Written) -> bytes:
    """The kubeconfig with these values."""
    given = vars(values)
    if all(re.fullmatch(form, given[name]) for name, form in _FORMS.items()):
        return _TEXT.format(**given).encode()
    cluster = {"server": values.server, "certificate-authority-data": values.authority}
    user = {"client-certificate-data": values.certificate, "client-key-data": values.key}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": values.cluster, "cluster": cluster}],
        "contexts": [{"name": values.context, "context": {"cluster": values.cluster, "user": values.user}}],
        "current-context": values.context,
        "preferences": {},
        "users": [{"name": values.user, "user": user}],
    }
    return yaml.dump(config, Dumper=_Dumper, sort_keys=False, width=2**30).encode()


def read(text: bytes) -> Written | None:
    """What was written, if it is in our form to the letter; None for everything else."""
    try:
        found = _PATTERN.fullmatch(text.decode("ascii"))
    except UnicodeDecodeError:
        return None
    return Written(**found.groupdict()) if found is not None else None
