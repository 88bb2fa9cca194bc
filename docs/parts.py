"""Draws the pictures of the pages: docs/parts.svg (the parts) and docs/cluster-api.svg (who waits for whom).

Run `python docs/parts.py` with the project's environment; with a file's name it draws that one alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
# Text stays text: it can be searched, and the file is small. A fixed salt makes equal pictures equal files.
mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "hosted-cp", "font.family": "sans-serif", "font.size": 9.5}

from matplotlib import pyplot as plt  # noqa: E402 - the backend comes first
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch  # noqa: E402

FRAME, USER, OURS, PODS, EDGE = "#f4f5f7", "#fff4d6", "#dce9ff", "#dff3e4", "#f9e2e2"
INK = "#22272e"


def box(ax: Axes, x: float, y: float, width: float, height: float, *, title: str, lines: str = "", fill: str) -> None:
    """A rounded box with a bold title on top and further lines below it."""
    shape = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.8", fc=fill, ec=INK, lw=0.9)
    ax.add_patch(shape)
    ax.text(x + 1.2, y + height - 1.1, title, weight="bold", va="top", ha="left", color=INK)
    # Each by itself: the pitch of a text of several lines would depend on which letters are in them.
    for number, line in enumerate(lines.splitlines()):
        ax.text(x + 1.2, y + height - 5.4 - 2.3 * number, line, va="baseline", ha="left", color=INK, fontsize=8.5)


def arrow(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    text: str = "",
    *,
    at: tuple[float, float] | None = None,
    dashed: bool = False,
    bend: float = 0.0,
    ground: str = "#ffffff",
) -> None:
    """An arrow in the direction in which the connection is opened, or things are carried (dashed).

    Its text stands on a `ground` of its own, so that no line runs through it.
    """
    ax.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=11, lw=1.1, color=INK, ls="--" if dashed else "-",
            connectionstyle=f"arc3,rad={bend}",
        )
    )  # fmt: skip
    if text:
        x, y = at or ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        ax.text(
            x, y, text, ha="center", va="center", fontsize=8.5, color=INK, linespacing=1.35,
            bbox={"facecolor": ground, "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip


def draw(file: Path) -> None:
    """Write the picture of this name; the file's ending decides the format."""
    width, height, picture = PICTURES[file.stem]
    figure, ax = plt.subplots(figsize=(width * 11.8 / 121, height * 5.7 / 58))
    ax.set(xlim=(0, width), ylim=(0, height))
    ax.axis("off")
    picture(ax)
    figure.savefig(
        file,
        bbox_inches="tight",
        pad_inches=0.05,
        metadata={"Date": None, "Creator": None} if file.suffix == ".svg" else {},
    )
    plt.close(figure)


def _parts(ax: Axes) -> None:
    _management_cluster(ax)
    _outside(ax)


def _management_cluster(ax: Axes) -> None:
    box(ax, 1, 1, 77, 56, title="management cluster", fill=FRAME)
    written = "Cluster\nJoinTokenRequest\n(kinds of Cluster API)\n\nstatus, conditions and\nEvents come back"
    box(ax, 3, 31, 21, 22, title="what you write", lines=written, fill=USER)
    loop = "event\n→ queue\n→ view\n→ plan (pure)\n→ execute\n→ status"
    box(ax, 3, 3.5, 21, 21, title="hosted-cp", lines=loop, fill=OURS)
    box(ax, 34, 3.5, 42, 49.5, title="one tenant", fill="#ffffff")
    service = "API server and konnectivity:\nClusterIP, NodePort or LoadBalancer"
    box(ax, 36, 37.5, 38, 11.5, title="Service  kmc-<name>…", lines=service, fill=PODS)
    box(ax, 36, 21.5, 17, 13, title="StatefulSet", lines="kmc-<name>\n1, 2, 3… k0s\ncontrollers", fill=PODS)
    store = "kmc-<name>-etcd\n1 or 3 members\n(or your database)"
    box(ax, 56, 21.5, 18, 13, title="StatefulSet", lines=store, fill=PODS)
    secrets = "authorities, certificates, k0s config,\n<name>-kubeconfig, join tokens"
    box(ax, 36, 6.5, 38, 11, title="Secrets", lines=secrets, fill=PODS)
    arrow(ax, (13.5, 24.5), (13.5, 31), "watches", at=(18.6, 27.8), ground=FRAME)
    arrow(ax, (24, 17.5), (34, 17.5), "creates,\nrepairs", at=(29, 21), ground=FRAME)
    arrow(ax, (24, 11), (34, 11), "signs", at=(29, 12.7), ground=FRAME)
    arrow(ax, (44.5, 37.5), (44.5, 34.5))
    arrow(ax, (53, 28), (56, 28))


def _outside(ax: Axes) -> None:
    box(ax, 91, 31, 29, 22, title="another network", fill=EDGE)
    worker = "k0s worker --token-file …\nkubelet, containerd,\nkonnectivity agent, pods"
    box(ax, 93, 33, 25, 14.5, title="worker", lines=worker, fill="#ffffff")
    tools = "kubectl get, logs, exec\nwith the tenant's kubeconfig"
    box(ax, 91, 6.5, 29, 11, title="you, or a pipeline", lines=tools, fill=EDGE)
    arrow(ax, (93, 44.5), (74, 44.5), "outgoing only,\nto both ports", at=(84.6, 48))
    arrow(ax, (95, 17.5), (74, 39.5), "the published\naddress", at=(84.5, 28.5))
    arrow(ax, (74, 10), (91, 10), "kubeconfig,\njoin token", at=(84.6, 13.4), dashed=True)
    arrow(ax, (108, 17.5), (108, 33), "join token", at=(108, 24.3), dashed=True)


# --- Cluster API: who waits for whom ----------------------------------------------------------------------------------

_LANES = (
    ("Cluster API's core", OURS),
    ("hosted-cp:\ncontrol plane", PODS),
    ("hosted-cp:\nbootstrap", PODS),
    ("infrastructure\nprovider", USER),
    ("machine", EDGE),
)
_WIDE, _APART, _TOP = 22.0, 25.0, 93.0


def _cluster_api(ax: Axes) -> None:
    for lane, (title, fill) in enumerate(_LANES):
        ax.plot([_middle(lane)] * 2, [1, _TOP], color=INK, lw=0.6, ls=":", zorder=0)
        ax.add_patch(
            FancyBboxPatch(
                (_middle(lane) - _WIDE / 2, _TOP), _WIDE, 7, boxstyle="round,pad=0,rounding_size=0.8", fc=fill, ec=INK
            )
        )
        ax.text(_middle(lane), _TOP + 3.5, title, weight="bold", ha="center", va="center", color=INK, fontsize=9)
    for level, lane, text in (
        (0, 0, "owner references on\ncontrol plane and\ninfrastructure cluster"),
        (1, 1, "pods; the API answers:\ninitialized, endpoint"),
        (1, 3, "network, if any:\nprovisioned"),
        (2, 0, "endpoint into the Cluster;\nstatus.initialization"),
        (3, 0, "control plane stable:\nMachine, its config and\ninfrastructure machine"),
        (4, 2, "token in the tenant,\nSecret with user data"),
        (5, 0, "name of the Secret\ninto the Machine"),
        (6, 3, "host with the\nuser data"),
        (7, 4, "k0s worker joins:\na Node"),
        (8, 0, "finds the Node by its\nproviderID, takes the\ntaint away"),
        (8, 2, "revokes the token"),
    ):
        _step(ax, level, lane, text)
    for start, end, text in (
        ((0, 0), (1, 1), ""),
        ((0, 0), (1, 3), ""),
        ((1, 1), (2, 0), ""),
        ((1, 3), (2, 0), ""),
        ((2, 0), (3, 0), ""),
        ((3, 0), (4, 2), "owner"),
        ((4, 2), (5, 0), "dataSecretName"),
        ((5, 0), (6, 3), "bootstrap.dataSecretName"),
        ((6, 3), (7, 4), "boots"),
        ((7, 4), (8, 0), "Node"),
        ((8, 0), (8, 2), "nodeRef"),
    ):
        _leads(ax, start, end, text)


def _middle(lane: int) -> float:
    return 12 + lane * _APART


def _height(level: int) -> float:
    return _TOP - 6 - level * 10.1


def _step(ax: Axes, level: int, lane: int, text: str) -> None:
    x, y = _middle(lane), _height(level)
    shape = FancyBboxPatch(
        (x - _WIDE / 2, y - 3.9), _WIDE, 7.8, boxstyle="round,pad=0,rounding_size=0.8", fc="#ffffff", ec=INK, lw=0.9
    )
    ax.add_patch(shape)
    ax.text(x, y, text, ha="center", va="center", fontsize=8.2, color=INK, linespacing=1.25)


def _leads(ax: Axes, start: tuple[int, int], end: tuple[int, int], text: str) -> None:
    (level, lane), (to_level, to_lane) = start, end
    if lane == to_lane:
        arrow(ax, (_middle(lane), _height(level) - 3.9), (_middle(lane), _height(to_level) + 3.9), text)
        return
    side = 1 if to_lane > lane else -1
    begin = (_middle(lane) + side * _WIDE / 2, _height(level))
    finish = (_middle(to_lane) - side * _WIDE / 2, _height(to_level) + (0 if side > 0 else 2))
    if to_level != level and side > 0:
        finish = (_middle(to_lane), _height(to_level) + 3.9)
    # Upon the arrow, a third of the way along, where neither a lifeline nor another arrow crosses it.
    where = (begin[0] + (finish[0] - begin[0]) * 0.3, begin[1] + (finish[1] - begin[1]) * 0.3)
    arrow(ax, begin, finish, text, at=where)


#: Name of the file -> width and height in units of the drawing, and what draws it.
PICTURES: Mapping[str, tuple[float, float, Callable[[Axes], None]]] = {
    "parts": (121, 58, _parts),
    "cluster-api": (124, 101, _cluster_api),
}


if __name__ == "__main__":
    for each in (
        [Path(sys.argv[1])] if len(sys.argv) > 1 else [Path(__file__).with_name(f"{name}.svg") for name in PICTURES]
    ):
        draw(each)
