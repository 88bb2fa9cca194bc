"""The command line of a hosted k0s controller, and the files that have to lie in its data directory before it starts.

An argument vector, never a line for a shell: no string of the user is interpreted by anything but k0s. k0smotron passes
`controlPlaneFlags` through a shell; so that what is quoted for it means the same here, each entry is split as a shell
would split it, and nothing is expanded.

Disabled unless the user names components himself: `control-api` (it hands the CA keys to whoever holds a controller
token, and nobody joins controllers here), `update-prober` (calls home), `autopilot` (would replace the program in the
container), `windows-node`, and `helm` where the config says nothing of it.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hosted_cp.api.problems import Problem
from hosted_cp.k0s.versions import Version

#: Never started in a hosted controller, whatever the user asks for.
_ALWAYS_DISABLED = ("control-api",)
_DISABLED = (*_ALWAYS_DISABLED, "update-prober", "autopilot", "windows-node")

_DATA = "/var/lib/k0s"
_ADDITIVE = "disable-components"

#: flag -> why it cannot be used, and what to do instead.
_REFUSED = {
    "config": ("the config is made by the operator", "write the settings to spec.k0sConfig"),
    "enable-worker": ("a hosted control plane runs no workers", "join workers with a JoinTokenRequest"),
    "single": ("a hosted control plane runs no workers", "remove it"),
    "init-only": ("k0s would end at once", "remove it"),
    "token-file": ("hosted controllers share their PKI and store and do not join", "remove it"),
    "enable-dynamic-config": (
        "the config of a hosted control plane is static: spec.k0sConfig is the one place for changes",
        "remove it",
    ),
    "data-dir": (f"the data directory is {_DATA}", "remove it"),
}
_SWITCHES = frozenset(
    {"enable-worker", "single", "init-only", "enable-dynamic-config", "no-taints", "enable-k0s-cloud-provider"}
    | {"enable-cloud-provider", "enable-metrics-scraper", "ignore-pre-flight-checks", "debug", "verbose"}
)
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_SHORT = {"c": "config", "d": "debug", "v": "verbose", "l": "logging"}

# --- add-ons that must not be pruned ---------------------------------------------------------------------------------

#: What `pending_manifests` hold. It is YAML and no Kubernetes object, which the applier refuses as a whole.
PENDING = "placeholder: k0s replaces this file. Until then its stack must not be taken for an empty one.\n"

_CALICO = ("calico/calico-ServiceAccount-calico-node.yaml", "calico_init/calico-crd-tiers.crd.projectcalico.org.yaml")


def pending_manifests(*, k0s_config: Mapping[str, Any] | None, flags: Sequence[str] | None = ()) -> tuple[str, ...]:
    """Files, relative to the `manifests` folder, that have to exist with content `PENDING` before k0s starts.

    k0s makes the folder of an add-on early and writes its manifest up to ten seconds later. If the applier looks in
    between, it sees an empty stack and deletes the add-on from the tenant (k0s issue 8214): so it happens when a pod
    restarts whose data directory is not kept. A file with the name of the manifest that the applier cannot read stops
    it until k0s has written the real one over it. See docs/decisions/0003-pruned-addons.md.

    Only for add-ons that k0s is going to write, or the file would stay. Files that exist are to be left alone.
    """
    off = set(disabled_components(k0s_config=k0s_config, flags=flags))
    network = _at(k0s_config, "spec", "network")
    provider = network.get("provider") or "kuberouter"
    found = []
    if "coredns" not in off:
        found.append("coredns/coredns.yaml")
    if "kube-proxy" not in off and not _at(network, "kubeProxy").get("disabled"):
        found.append("kubeproxy/kube-proxy.yaml")
    if "metrics-server" not in off:
        found.append("metricserver/metric_server.yaml")
    if "network-provider" not in off:
        found += {"kuberouter": ("kuberouter/kube-router.yaml",), "calico": _CALICO}.get(provider, ())
    if any(name == "enable-metrics-scraper" and value not in _FALSE for _, name, value in _parsed(flags)):
        found.append("metrics/pushgateway.yaml")
    return tuple(sorted(found))


# --- the command line ------------------------------------------------------------------------------------------------


def controller_argv(
    *, version: Version, config: str, k0s_config: Mapping[str, Any] | None = None, flags: Sequence[str] | None = ()
) -> list[str]:
    """The argument vector of the controller container, beginning with `k0s`.

    `config` is the path of k0s.yaml, `flags` are the user's (checked by `flag_problems`), which come last and so win.
    """
    components = [
        name
        for name in disabled_components(k0s_config=k0s_config, flags=flags)
        if name in version.components | version.ignored_components
    ]
    argv = ["k0s", "controller", f"--config={config}", f"--disable-components={','.join(components)}"]
    for _, name, value in _parsed(flags):
        if name in (_ADDITIVE, *_REFUSED):  # the first is merged above, the others can only be harmless here
            continue
        dashes = "--" if len(name) > 1 else "-"
        argv.append(f"{dashes}{name}" if value is None else f"{dashes}{name}={value}")
    return argv


def disabled_components(*, k0s_config: Mapping[str, Any] | None, flags: Sequence[str] | None = ()) -> tuple[str, ...]:
    """The components that are not started: those the user names, or else ours; `control-api` in any case.

    `helm` stays where the config has a helm section, even an empty one: k0s uninstalls charts that leave it.
    """
    named = [
        component.strip()
        for _, name, value in _parsed(flags)
        if name == _ADDITIVE
        for component in (value or "").split(",")
    ]
    if any(name == _ADDITIVE for _, name, _ in _parsed(flags)):
        return tuple(sorted({*_ALWAYS_DISABLED, *filter(None, named)}))
    helm = () if "helm" in _at(k0s_config, "spec", "extensions") else ("helm",)
    return tuple(sorted({*_DISABLED, *helm}))


def flag_problems(
    flags: Sequence[str] | None, *, version: Version, field: str = "spec.controlPlaneFlags"
) -> list[Problem]:
    """Why k0s of this version would not start with these flags, or could not be hosted with them."""
    found: list[Problem] = []
    for index, entry in enumerate(flags or ()):
        place = f"{field}[{index}]"
        try:
            words = shlex.split(entry)
        except ValueError:
            found.append(Problem(field=place, fault="a quotation mark is not closed", remedy="close it"))
            continue
        if words and not words[0].startswith("-"):
            found.append(
                Problem(
                    field=place, fault=f"{words[0][:64]!r} is no flag", remedy="write one flag per entry: --name=value"
                )
            )
            continue
        for _, name, value in _parsed([entry]):
            found += _flag_problems(name, value, version=version, place=place)
    return found


def _flag_problems(name: str, value: str | None, *, version: Version, place: str) -> Iterator[Problem]:
    long = _SHORT.get(name, name)
    if long not in version.flags:
        close = difflib.get_close_matches(long, sorted(version.flags), n=1)
        yield Problem(
            field=place,
            fault=f"k0s {version} does not know the flag {('--' if len(name) > 1 else '-')}{name[:64]}",
            remedy=f"did you mean --{close[0]}?" if close else "remove it",
        )
    elif long in _REFUSED and not _harmless(long, value):
        fault, remedy = _REFUSED[long]
        yield Problem(field=place, fault=f"--{long} cannot be used: {fault}", remedy=remedy)
    elif long == _ADDITIVE:
        known = version.components | version.ignored_components
        for component in filter(None, (part.strip() for part in (value or "").split(","))):
            if component not in known:
                close = difflib.get_close_matches(component, sorted(known), n=1)
                yield Problem(
                    field=place,
                    fault=f"k0s {version} has no component {component[:64]!r}",
                    remedy=f"did you mean {close[0]}?" if close else f"use some of {', '.join(sorted(known))}",
                )


def _harmless(name: str, value: str | None) -> bool:
    """A refused flag that says what is so anyway."""
    return value is not None and (
        (name in _SWITCHES and value in _FALSE) or (name == "data-dir" and value.rstrip("/") == _DATA)
    )


def _parsed(flags: Sequence[str] | None) -> Iterator[tuple[str, str, str | None]]:
    """(entry, name without dashes, value or None) of every flag. Entries may hold several, and `--name value`."""
    for entry in flags or ():
        try:
            words = shlex.split(entry)
        except ValueError:
            continue  # reported by `flag_problems`
        index = 0
        while index < len(words):
            word = words[index]
            index += 1
            if not word.startswith("-"):
                continue
            name, equals, value = word.lstrip("-").partition("=")
            if equals:
                yield entry, name, value
            elif _SHORT.get(name, name) not in _SWITCHES and index < len(words) and not words[index].startswith("-"):
                yield entry, name, words[index]
                index += 1
            else:
                yield entry, name, None


def _at(value: Any, *path: str) -> Mapping[str, Any]:
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}
