"""Which image etcd runs: the user's, else the administrator's, else the one that was decided before.

It is a decision (`hosted_cp.hosting.tenant.Decisions`): a new release of the operator restarts nobody's etcd without
need, and what somebody writes into the StatefulSet by hand is a drift like any other. Only of a tenant whose decisions
say nothing of it (lost, or older than this one) what runs is taken for what was decided.
"""

from __future__ import annotations

from hosted_cp.api.cluster import ClusterSpec
from hosted_cp.api.problems import Problem
from hosted_cp.hosting.etcd import flags
from hosted_cp.hosting.names import Names
from hosted_cp.hosting.view import TenantView

FIELD = "spec.storage.etcd.image"


def chosen(view: TenantView, spec: ClusterSpec, *, decided: str) -> tuple[str, Problem | None]:
    """The image to run, and why it is not the one asked for. `decided`: the one chosen before ("" if none is known)."""
    catalogue = view.settings.catalogue
    default = f"{catalogue['etcd']['repository']}:{catalogue['etcd']['default']}"
    before = decided or in_template(view)
    asked = (spec.storage.etcd.image if spec.storage else None) or view.settings.etcd_image
    if not asked:
        sound = before and flags.release_problem(before, catalogue, field=FIELD) is None
        asked = before if sound else default
    refusal = flags.release_problem(asked, catalogue, field=FIELD)
    if refusal is None and before:
        refusal = flags.change_problem(before, asked, field=FIELD)
    return (before or default, refusal) if refusal is not None else (asked, None)


def in_template(view: TenantView) -> str:
    """The image that the live StatefulSet asks for, whoever wrote it there; "" if there is none."""
    live = view.own("StatefulSet", Names(view.name).etcd)
    containers = live.get("spec", "template", "spec", "containers", default=[]) if live is not None else []
    return next((str(each.get("image", "")) for each in containers if each.get("name") == "etcd"), "")
