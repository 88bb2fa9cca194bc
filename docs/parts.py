"""Draws docs/parts.svg, the picture of the parts. Run `python docs/parts.py` with the project's environment."""

from __future__ import annotations

import sys
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
    ax.text(x + 1.2, y + height - 4.1, lines, va="top", ha="left", color=INK, fontsize=8.5, linespacing=1.45)


def arrow(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    text: str = "",
    *,
    at: tuple[float, float] | None = None,
    dashed: bool = False,
    bend: float = 0.0,
) -> None:
    """An arrow in the direction in which the connection is opened, or things are carried (dashed)."""
    ax.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=11, lw=1.1, color=INK, ls="--" if dashed else "-",
            connectionstyle=f"arc3,rad={bend}",
        )
    )  # fmt: skip
    if text:
        x, y = at or ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        ax.text(x, y, text, ha="center", va="center", fontsize=8.5, color=INK, linespacing=1.35)


def draw(file: Path) -> None:
    """Write the picture; the file's ending decides the format."""
    figure, ax = plt.subplots(figsize=(11.8, 5.7))
    ax.set(xlim=(0, 121), ylim=(0, 58))
    ax.axis("off")
    _management_cluster(ax)
    _outside(ax)
    figure.savefig(
        file,
        bbox_inches="tight",
        pad_inches=0.05,
        metadata={"Date": None, "Creator": None} if file.suffix == ".svg" else {},
    )
    plt.close(figure)


def _management_cluster(ax: Axes) -> None:
    box(ax, 1, 1, 77, 56, title="management cluster", fill=FRAME)
    written = "Cluster\nJoinTokenRequest\n\nstatus, conditions and\nEvents come back"
    box(ax, 3, 32, 20, 18, title="what you write", lines=written, fill=USER)
    loop = "watch\n→ queue\n→ view\n→ plan (pure)\n→ execute\n→ status"
    box(ax, 3, 4, 20, 21, title="hosted-cp", lines=loop, fill=OURS)
    box(ax, 34, 3.5, 42, 49.5, title="one tenant", fill="#ffffff")
    service = "API server and konnectivity:\nClusterIP, NodePort or LoadBalancer"
    box(ax, 36, 37.5, 38, 11.5, title="Service  kmc-<name>…", lines=service, fill=PODS)
    box(ax, 36, 21.5, 17, 13, title="StatefulSet", lines="kmc-<name>\n1, 2, 3… k0s\ncontrollers", fill=PODS)
    store = "kmc-<name>-etcd\n1 or 3 members\n(or your database)"
    box(ax, 56, 21.5, 18, 13, title="StatefulSet", lines=store, fill=PODS)
    secrets = "CAs, certificates, k0s config, permit,\n<name>-kubeconfig,\njoin tokens"
    box(ax, 36, 5.5, 38, 13, title="Secrets", lines=secrets, fill=PODS)
    arrow(ax, (11, 25), (11, 32), "watches", at=(16.2, 28.5))
    arrow(ax, (23, 17), (34, 22), "creates,\nrepairs", at=(28, 23.6))
    arrow(ax, (23, 9), (34, 9), "signs", at=(28.4, 10.6))
    arrow(ax, (44.5, 37.5), (44.5, 34.5))
    arrow(ax, (53, 28), (56, 28))


def _outside(ax: Axes) -> None:
    box(ax, 91, 31, 29, 22, title="another network", fill=EDGE)
    worker = "k0s worker --token-file …\nkubelet, containerd,\nkonnectivity agent, pods"
    box(ax, 93, 33, 25, 14.5, title="worker", lines=worker, fill="#ffffff")
    box(
        ax,
        91,
        4,
        29,
        15,
        title="you, or a pipeline",
        lines="kubectl get, logs, exec\nwith the tenant's kubeconfig",
        fill=EDGE,
    )
    arrow(ax, (93, 44.5), (74, 44.5), "outgoing only,\nto both ports", at=(84.6, 48))
    arrow(ax, (93, 19), (74, 40), "the published\naddress", at=(84.2, 24.6))
    arrow(ax, (74, 9), (91, 9), "kubeconfig,\njoin token", at=(84.6, 12.2), dashed=True)
    arrow(ax, (106, 19), (106, 33), "join token", at=(111.4, 26), dashed=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg"))
