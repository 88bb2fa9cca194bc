"""k0s versions, and the one table of what each range of them can do.

Everything in this product that depends on the version of k0s asks here. The table speaks of *ranges*: k0s releases more
often than we do, so a patch that we never heard of is taken as what its minor is known to be. A minor that we do not
know is refused, because a wrong guess (an unknown config field, say) keeps a control plane from starting.

Facts come from k0s itself (flags, config types and component names of each release) and from observation; see the
contract tests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hosted_cp.api.problems import Problem

_FORM = re.compile(r"v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?:[+-]k0s\.(\d{1,4}))?", re.ASCII)

#: The minors that this release of hosted-cp knows, oldest first. Older ones have too few of the means we rely on.
KNOWN_MINORS = ((1, 33), (1, 34), (1, 35), (1, 36))


class VersionError(ValueError):
    """The text is no k0s version; the message quotes it and shows what one looks like."""


@dataclass(frozen=True, order=True)
class Version:
    """A released version of k0s: of Kubernetes `major.minor.patch`, and of k0s' own packaging of it."""

    major: int
    minor: int
    patch: int
    k0s: int = 0

    def __str__(self) -> str:
        """As k0s writes it: `v1.36.3+k0s.2`."""
        return f"v{self.major}.{self.minor}.{self.patch}+k0s.{self.k0s}"

    @property
    def image_tag(self) -> str:
        """As tags and label values allow it: `v1.36.3-k0s.2`."""
        return str(self).replace("+", "-")

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor."""
        return self.major, self.minor

    @property
    def kubernetes_minor(self) -> str:
        """`1.36`: as in the names of worker-config ConfigMaps and in the catalogue."""
        return f"{self.major}.{self.minor}"

    # --- what this version can do --------------------------------------------------------------------------------

    @property
    def takes_host_and_port(self) -> bool:
        """`spec.api.externalAddress` may be `host:port`, and `spec.konnectivity.externalAddress` exists."""
        return self._since({(1, 33): (6, 0), (1, 34): (1, 0)})

    @property
    def probes_by_http(self) -> bool:
        """Anonymous requests can be allowed for the health paths alone, so the kubelet's HTTPS probes are exact.

        Needs an authentication config with conditions for anonymous requests; older versions of k0s set
        `--anonymous-auth=false` even then, and the API server refuses to start with both.
        """
        return self._since({(1, 36): (3, 1)})

    @property
    def ends_watches(self) -> bool:
        """k0s tells the API server to end watches when it ends itself. Otherwise it waits for them for a minute.

        Seen in 1.36.3, and not in 1.35. To say so where k0s does as well harms nobody.
        """
        return self._since({(1, 36): (3, 0)})

    @property
    def components(self) -> frozenset[str]:
        """The names that `--disable-components` knows. k0s does not start with any other."""
        return _COMPONENTS | {"update-prober"} if self._since({(1, 33): (6, 0)}) else _COMPONENTS

    @property
    def ignored_components(self) -> frozenset[str]:
        """Further names that are accepted and do nothing."""
        return frozenset({"worker-config"})

    @property
    def flags(self) -> frozenset[str]:
        """The long flags of `k0s controller`, without dashes."""
        return _FLAGS | {flag for flag, since in _FLAGS_SINCE.items() if self.release >= since}

    def _since(self, first: Mapping[tuple[int, int], tuple[int, int]]) -> bool:
        """Whether this version is at or after the first (patch, k0s) of its minor; minors after the listed ones are,
        minors before them are not."""
        if self.release in first:
            return (self.patch, self.k0s) >= first[self.release]
        return self.release > max(first)


_COMPONENTS = frozenset(
    {"applier-manager", "autopilot", "control-api", "coredns", "csr-approver", "endpoint-reconciler", "helm"}
    | {"konnectivity-server", "kube-controller-manager", "kube-proxy", "kube-scheduler", "metrics-server"}
    | {"network-provider", "node-role", "system-rbac", "windows-node"}
)
_FLAGS = frozenset(
    {
        "cidr-range",
        "config",
        "cri-socket",
        "data-dir",
        "debug",
        "debugListenOn",
        "disable-components",
        "enable-cloud-provider",
    }
    | {"enable-dynamic-config", "enable-k0s-cloud-provider", "enable-metrics-scraper", "enable-worker"}
    | {"ignore-pre-flight-checks", "init-only", "iptables-mode", "k0s-cloud-provider-port"}
    | {"k0s-cloud-provider-update-frequency", "kube-controller-manager-extra-args", "kubelet-extra-args"}
    | {"kubelet-root-dir", "labels", "logging", "no-taints", "profile", "single", "status-socket", "taints"}
    | {"token-file", "verbose"}
)
_FLAGS_SINCE = {"feature-gates": (1, 34), "api-server-stop-timeout": (1, 36)}


def parse(text: str) -> Version:
    """Read a version: `v1.36.3+k0s.2`, the image tag `v1.36.3-k0s.2`, or `1.36.3` (`+k0s.0`, as k0smotron reads it).

    Raises `VersionError`. Whether the minor is known is another question: `support_problem`.
    """
    found = _FORM.fullmatch(text)
    if not found:
        raise VersionError(f"{text[:64]!r} is no released version of k0s, which looks like v1.36.3+k0s.2")
    major, minor, patch, k0s = (int(part or 0) for part in found.groups())
    return Version(major, minor, patch, k0s)


def default(catalogue: Mapping[str, Any]) -> str:
    """The version of a tenant whose user asked for none: the catalogue's, as k0s writes it."""
    return str(parse(catalogue["k0s"]["default"]))


def support_problem(text: str, *, field: str = "spec.version") -> Problem | None:
    """Why this version cannot be hosted, or None. Patches that nobody here has heard of can."""
    try:
        version = parse(text)
    except VersionError as error:
        return Problem(field=field, fault=str(error), remedy=f"use a version of {_known()}")
    if version.release in KNOWN_MINORS:
        return None
    if version.release < KNOWN_MINORS[0]:
        return Problem(
            field=field, fault=f"k0s {version} is older than what can be hosted", remedy=f"use a version of {_known()}"
        )
    return Problem(
        field=field,
        fault=f"k0s {version} is of a minor that this release of hosted-cp does not know",
        remedy=f"use a version of {_known()}, or upgrade hosted-cp",
    )


def upgrade_problem(old: str | Version, new: str | Version, *, field: str = "spec.version") -> Problem | None:
    """Why a control plane of version `old` cannot become one of version `new`, or None.

    Kubernetes and etcd write formats that the previous minor may not read, and API versions are converted from one
    minor to the next only: no downgrade, not even of a patch, and no skipped minor.
    """
    if isinstance(new, str):
        unsupported = support_problem(new, field=field)
        if unsupported:
            return unsupported
        new = parse(new)
    old = parse(old) if isinstance(old, str) else old
    if new < old:
        return Problem(
            field=field,
            fault=f"a control plane cannot go back from {old} to {new}",
            remedy=f"set {old} or newer; to go back, create a new tenant",
        )
    if new.major != old.major or new.minor > old.minor + 1:
        return Problem(
            field=field,
            fault=f"a control plane cannot skip minors on its way from {old} to {new}",
            remedy=f"upgrade to a {old.major}.{old.minor + 1} first, then workers, then go on",
        )
    return None


def _known() -> str:
    return ", ".join(f"{major}.{minor}" for major, minor in KNOWN_MINORS)
