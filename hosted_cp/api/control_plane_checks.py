"""What the spec of a `K0smotronControlPlane`, or of its template, means: faults with field and remedy, as in `checks`.

Nearly all is the same as for `Cluster` and asked there. Different are the name, which is the Cluster API cluster's, and
the forms of a version, of which Cluster API has one more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from hosted_cp.api import checks
from hosted_cp.api.cluster import ClusterSpec, Network
from hosted_cp.api.control_plane import ControlPlaneTemplateSpec, K0smotronControlPlaneSpec
from hosted_cp.api.problems import Problem

#: `v1.36.3+k0s` (the form to write), `v1.36.3+k0s.2`, `v1.36.3-k0s.2` and `v1.36.3`.
VERSION = re.compile(r"v?\d{1,4}\.\d{1,4}\.\d{1,4}(\+k0s|[-+]k0s\.\d{1,4})?", re.ASCII)

Support = Callable[[str], Problem | None]


def problems(
    spec: K0smotronControlPlaneSpec,
    *,
    cluster: str,
    old: Network | None = None,
    old_storage: str = "",
    support: Support | None = None,
) -> tuple[Problem, ...]:
    """Everything that is wrong with the spec of the control plane of the Cluster API cluster of this name.

    As `checks.problems`; `support` is asked about versions of any of the forms
    (`hosted_cp.k0s.capi_versions.support_problem`).
    """
    shared = checks.problems(_without_version(spec), name=cluster, old=old, old_storage=old_storage)
    named = (replace(each, field=f"Cluster {cluster}") if each.field == "metadata.name" else each for each in shared)
    return (*version_problems(spec.version, support=support), *named, *endpoint_problems(spec))


def template_problems(spec: ControlPlaneTemplateSpec, *, support: Support | None = None) -> tuple[Problem, ...]:
    """Everything that is wrong with a template, for clusters of whatever name."""
    shared = checks.problems(_without_version(spec), name="any")
    found = (*version_problems(spec.version, support=support), *shared)
    return tuple(replace(each, field=each.field.replace("spec.", "spec.template.spec.", 1)) for each in found)


def _without_version(spec: ClusterSpec) -> ClusterSpec:
    return spec.model_copy(update={"version": None})


def version_problems(version: str | None, *, support: Support | None = None) -> Iterator[Problem]:
    """Whether `spec.version` of any kind of Cluster API is a version, and supported."""
    if not version:
        return
    if not VERSION.fullmatch(version):
        yield Problem(
            field="spec.version",
            fault=f"{version[:64]!r} is no version of k0s",
            remedy="write it as the kubelet reports it, like v1.36.3+k0s",
        )
    elif support is not None and (problem := support(version)) is not None:
        yield problem


def endpoint_problems(spec: K0smotronControlPlaneSpec) -> Iterator[Problem]:
    """Whether an endpoint that is given could be one."""
    endpoint = spec.control_plane_endpoint
    if endpoint is not None and not checks.is_host(endpoint.host):
        yield Problem(
            field="spec.controlPlaneEndpoint.host",
            fault=f"{endpoint.host[:253]!r} is neither an IP address nor a DNS name",
            remedy="write the address alone, without https:// and without a port; or leave the endpoint out",
        )
