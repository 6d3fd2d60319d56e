"""Parts that plots share: figures, colors, dots, edges, hulls, names and legends."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from hgraph.errors import ArgumentError, ArgumentTypeError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "INK",
    "LINE",
    "MAX_NODES",
    "MISSING",
    "PALETTE",
    "RIMS",
    "add_to_legend",
    "check_labels",
    "draw_edges",
    "draw_hulls",
    "figure_size",
    "finish",
    "layout_of",
    "literal",
    "new_axes",
    "node_radius",
    "scaled",
]

# Okabe and Ito's palette, distinguishable with common color blindness; black is for text.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
MISSING, INK, LINE = "#B8B8B8", "#222222", "#8C8C8C"
RIMS = ("white", INK, "#A0A0A0")  # further classes reuse the palette with another rim
MAX_NODES = 1500


# ---------------------------------------------------------------------- figures and arguments


def add_to_legend(ax: Axes, handle: Any) -> None:
    """Add an entry to the legend beside the axes."""
    legend = ax.get_legend()
    handles = [*(legend.legend_handles if legend is not None else []), handle]
    set_legend(ax, handles)


def literal(text: str) -> str:
    """Escape dollar signs, so that matplotlib does not read text between two of them as a formula."""
    return text.replace("$", r"\$")


def set_legend(ax: Axes, handles: list[Any]) -> None:
    """Put a legend of these entries beside the axes."""
    ax.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=9, labelcolor=INK,
        handletextpad=0.2,
    )  # fmt: skip


def figure_size(names: list[str] | None, more: int = 0) -> tuple[float, float]:
    """Room for the names: pictures of many of them are larger."""
    count = 0 if names is None or max(map(len, names), default=0) <= _INSIDE else len(names) + more
    scale = float(np.clip((count / 25) ** 0.5, 1, 2.2))
    return 6.4 * scale, 5.6 * scale


def new_axes(ax: Axes | None, size: tuple[float, float] = (6.4, 5.6)) -> Axes:
    """The given axes, or those of a new figure (see the module docstring)."""
    if ax is not None:
        if not hasattr(ax, "add_patch"):
            hint = 'To save the picture: structure.draw().figure.savefig("picture.png")'
            raise ArgumentTypeError("ax", "matplotlib axes or None", repr(ax), hint)
        return ax
    ipython = sys.modules.get("IPython")
    if "matplotlib.pyplot" in sys.modules or (ipython is not None and ipython.get_ipython() is not None):
        from matplotlib import pyplot

        return pyplot.subplots(figsize=size, layout="constrained")[1]
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure.subplots()


def check_labels(
    count: int, labels: Any, names: Any, instead: str | None
) -> tuple[np.ndarray | None, list[str] | None]:
    """Labels and names as array and list; raises if they are invalid, or for many nodes if ``instead`` is a text."""
    if instead is not None and count > MAX_NODES:
        hint = f"Draw a part of it: {instead}"
        raise ArgumentError("structure", f"at most {MAX_NODES:,} nodes to draw", f"{count:,}", hint)
    if labels is not None:
        labels = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
        if labels.shape != (count,):
            raise ArgumentError("labels", f"{count} entries (one per node)", f"shape {list(labels.shape)}")
    if names is not None:
        names = [str(name) for name in names]
        if len(names) != count:
            raise ArgumentError("names", f"{count} strings (one per node)", len(names))
    return labels, names


def scaled(
    values: np.ndarray | None, count: int, plain: float, low: float, high: float, largest: float | None = None
) -> np.ndarray:
    """Widths between low and high in proportion to the values; ``plain`` if all values are equal.

    ``largest`` is the value that gets width ``high``; None takes the maximum.
    """
    if values is None or not len(values) or not np.isfinite(values).all():
        return np.full(count, plain)
    if largest is None and values.max() == values.min():
        return np.full(count, plain)
    return low + (high - low) * np.minimum(values / max(largest or values.max(), 1e-300), 1.0)


def layout_of(count: int, pairs: np.ndarray, seed: int, keep: int | None = None) -> np.ndarray:
    """Positions of the first ``keep`` of ``count`` nodes."""
    from hgraph.draw.layout import spring

    keep = count if keep is None else keep
    alone = np.setdiff1d(np.arange(keep, count), pairs)  # hyperedges without members take no space
    number = np.cumsum(~np.isin(np.arange(count), alone)) - 1
    return spring(count - len(alone), number[pairs], seed)[:keep]


def node_radius(at: np.ndarray, names: list[str] | None) -> np.ndarray:
    """Radii of the dots in layout units: as large as close neighbors allow."""
    if len(at) < 2:
        return np.full(len(at), 0.16)
    from scipy.spatial import cKDTree

    near = cKDTree(at).query(at, k=2)[0][:, 1]
    span = float(np.ptp(at, axis=0).max())
    inside = names is not None and max(map(len, names), default=0) <= _INSIDE
    wanted = span * (0.026 if inside else 0.015 / figure_size(names)[0] * figure_size(None)[0])
    return np.full(len(at), min(max(wanted, 0.05), max(0.45 * float(np.quantile(near, 0.1)), span * 0.004)))


# ---------------------------------------------------------------------- ink

_INSIDE, _POINTS = 3, 7.5  # names of at most this many letters are inside their node; font size of longer ones
_ALIGN = {-1: ("right", "top"), 0: ("center", "center"), 1: ("left", "bottom")}


def draw_edges(
    ax: Axes,
    at: np.ndarray,
    source: np.ndarray,
    target: np.ndarray,
    width: np.ndarray,
    size: np.ndarray,
    arrows: bool,
    color: str = LINE,
) -> None:
    """Lines, with arrow heads at the targets for directed graphs, and rings for self-loops."""
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.patches import Circle

    loop = source == target
    shown, alpha = ~loop if arrows else source < target, float(np.clip(900 / max(len(source), 1), 0.15, 0.75))
    start, end, width_of = at[source[shown]], at[target[shown]], width[shown]
    along = end - start
    length = np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    along = along / length
    radius = float(size.mean()) if len(size) else 0.0
    if arrows:
        tip = end - along * radius * 1.25
        head = np.minimum(radius * 1.5, 0.4 * length) * (0.7 + 0.3 * width_of[:, None])
        base, side = tip - along * head, along[:, ::-1] * [-1, 1] * head * 0.38
        heads = PolyCollection(
            list(np.stack([tip, base + side, base - side], 1)), facecolor=color, alpha=alpha, zorder=1
        )
        ax.add_collection(heads, autolim=False)
        end = base
    lines = LineCollection(list(np.stack([start, end], 1)), linewidths=width_of, colors=color, alpha=alpha, zorder=1)
    ax.add_collection(lines, autolim=False)
    for v, w in zip(source[loop], width[loop], strict=True):
        middle = at[v] + [0, radius * 1.5]
        ax.add_patch(Circle(middle, radius * 1.1, fill=False, edgecolor=color, linewidth=w, alpha=alpha, zorder=1))


def draw_hulls(
    ax: Axes, at: np.ndarray, members: list[np.ndarray], width: np.ndarray, size: np.ndarray
) -> list[np.ndarray]:
    """Hulls, large ones below, each wider where several overlap; returns their outlines."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Polygon

    from hgraph.draw.layout import hull_colors, rounded_hull

    outlines, colors = list[np.ndarray](), [PALETTE[c] for c in hull_colors(members, len(PALETTE))]
    rank = np.zeros(len(at), dtype=int)  # how many hulls cover a node already: the next one is drawn outside them
    base = float(size.mean()) * 2.0 if len(size) else 0.0
    small_first = sorted((i for i, m in enumerate(members) if len(m)), key=lambda i: len(members[i]))
    fill = float(np.clip(2.2 / max(len(small_first), 1), 0.07, 0.22))
    for i in small_first:
        own = members[i]
        radius = base * (1 + 0.22 * min(int(rank[own].max()), 8))
        rank[own] += 1
        outline = rounded_hull(at[own], radius)
        outlines.append(outline)
        z = 0.9 - 0.5 * len(own) / max(len(at), 1)
        ax.add_patch(Polygon(outline, facecolor=colors[i], alpha=fill, linewidth=0, zorder=z - 0.5))
        ax.add_patch(Polygon(outline, fill=False, edgecolor=colors[i], linewidth=width[i], alpha=0.9, zorder=z))
        if len(own) > 2:
            spokes = np.stack([at[own], np.broadcast_to(at[own].mean(0), (len(own), 2))], 1)
            ax.add_collection(
                LineCollection(list(spokes), colors=colors[i], linewidths=0.7, alpha=0.45, zorder=z), False
            )
    return outlines


def finish(
    ax: Axes,
    at: np.ndarray,
    size: np.ndarray,
    labels: np.ndarray | None,
    names: list[str] | None,
    title: str | None,
    outlines: list[np.ndarray],
    lines: np.ndarray | None = None,
    dots: int | None = None,
) -> None:
    """Nodes, names (next to the points of ``lines``, not over them), legend, title; equal aspect, no axes.

    ``dots`` is how many of the points are nodes; the others have only names.
    """
    ax.set_aspect("equal")
    ax.set_axis_off()
    _draw_nodes(ax, at[:dots], size[:dots], labels)
    if title:
        ax.set_title(title, fontsize=10, color=INK)
    corners = np.concatenate([at - size[:, None] * 2, at + size[:, None] * 2, *outlines]) if len(at) else at
    if len(corners):
        middle, half = (corners.min(0) + corners.max(0)) / 2, np.ptp(corners, axis=0) / 2
        half = np.maximum(half + 0.03 * half.max(), 0.8)  # a single node does not fill the plot
        ax.set_xlim(middle[0] - half[0], middle[0] + half[0])
        ax.set_ylim(middle[1] - half[1], middle[1] + half[1])
        if names is not None:
            _write_names(ax, at, size, names, lines)
    else:
        ax.text(0.5, 0.5, "no nodes", ha="center", va="center", color=LINE, transform=ax.transAxes)


def _draw_nodes(ax: Axes, at: np.ndarray, size: np.ndarray, labels: np.ndarray | None) -> None:
    """Dots colored by class, with a legend."""
    from matplotlib.collections import PatchCollection
    from matplotlib.lines import Line2D
    from matplotlib.patches import Circle

    kinds = [None] if labels is None else sorted(set(labels.tolist()), key=lambda v: (isinstance(v, str), v))
    handles, rank = [], 0
    for kind in kinds:
        own = np.ones(len(at), bool) if labels is None else labels == kind
        missing = labels is not None and not isinstance(kind, str) and kind is not None and kind < 0
        color = MISSING if missing else INK if labels is None else PALETTE[rank % len(PALETTE)]
        rim = RIMS[rank // len(PALETTE) % len(RIMS)]
        dots = [Circle(p, r) for p, r in zip(at[own], size[own], strict=True)]
        ax.add_collection(PatchCollection(dots, facecolor=color, edgecolor=rim, linewidth=0.8, zorder=3), False)
        if labels is not None:
            name = "missing" if missing else literal(kind) if isinstance(kind, str) else f"class {kind}"
            handles.append(Line2D([], [], ls="", marker="o", ms=8, mec=rim, color=color, label=name))
        rank += not missing
    if handles:
        set_legend(ax, handles)


def _write_names(ax: Axes, at: np.ndarray, size: np.ndarray, names: list[str], lines: np.ndarray | None = None) -> None:
    """Short names inside the dots, longer ones beside them where they cover least, with a white rim."""
    from matplotlib.patheffects import withStroke

    from hgraph.draw.layout import place_names

    if max(map(len, names)) <= _INSIDE:
        for p, name in zip(at, names, strict=True):
            ax.text(p[0], p[1], literal(name), ha="center", va="center_baseline", fontsize=7, color="white", zorder=4)
        return
    rim = [withStroke(linewidth=2.2, foreground="white", alpha=0.85)]
    box = ax.get_window_extent()  # before constrained layout: accurate enough to see which names would overlap
    unit = max(np.ptp(ax.get_xlim()) / box.width, np.ptp(ax.get_ylim()) / box.height) * ax.figure.dpi / 72
    extents = np.array([[0.56 * _POINTS * len(name), 1.25 * _POINTS] for name in names]) * unit
    for (left, bottom), (x, y), name in zip(*place_names(at, size, extents, lines), names, strict=True):
        ax.text(
            left, bottom, literal(name), ha=_ALIGN[x][0], va=_ALIGN[y][1], fontsize=_POINTS, color=INK, zorder=4,
            path_effects=rim,
        )  # fmt: skip
