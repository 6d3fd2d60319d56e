"""Plots of token graphs: the matrix, arcs over a line of tokens, and layers with one token's receptive field."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hgraph.checks import whole
from hgraph.draw.marks import INK, LINE, PALETTE, new_axes
from hgraph.draw.matrix import draw_adjacency, percent_ticks
from hgraph.errors import ArgumentError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hgraph.structure.token_graph import TokenGraph

__all__ = ["draw_tokens", "pixel_densities"]

_MAX_TOKENS = 128
_FAINT = "#DDDDDD"


def draw_tokens(
    graph: TokenGraph, ax: Axes | None = None, *, kind: str = "matrix", example: int = 0, head: int = 0, **options: Any
) -> Axes:
    """Draw one head of one example (see `TokenGraph.draw`)."""
    kinds: dict[str, Callable[..., Axes]] = {"matrix": _matrix, "graph": _arcs, "layers": _layers}
    if kind not in kinds:
        raise ArgumentError("kind", "'matrix', 'graph' or 'layers'", repr(kind))
    one = graph.of(example=example, head=head)
    if kind != "matrix" and max(graph.num_targets, graph.num_sources) > _MAX_TOKENS:
        hint = "Draw the matrix, or a smaller graph of the same pattern"
        raise ArgumentError("structure", f"at most {_MAX_TOKENS} tokens to draw", graph.shape[2:], hint)
    return kinds[kind](one, ax, **options)


def _matrix(graph: TokenGraph, ax: Axes | None, *, bins: int = 256, title: str | None = None) -> Axes:
    """Rows are targets; beyond ``bins`` a pixel shows the fraction of its pairs that are edges."""
    targets, sources = graph.shape[2:]
    text = f"{targets:,} targets x {sources:,} sources, {graph.num_edges:,} edges ({100 * graph.density:.3g} %)"
    title = text if title is None else title
    if max(targets, sources) <= whole("bins", bins, 1) or not graph.num_edges:
        return draw_adjacency(graph.adjacency(), ax, bins=bins, title=title)
    from matplotlib.colors import LogNorm

    ax = new_axes(ax, size=(5.2, 4.6))
    share = pixel_densities(graph.natural(), bins)
    low = float(share[share > 0].min())
    picture = ax.imshow(
        np.ma.masked_equal(share, 0), cmap="cividis_r", norm=LogNorm(low * 0.1, max(1.0, low)), interpolation="nearest",
        extent=(-0.5, sources - 0.5, targets - 0.5, -0.5),
        aspect="auto" if max(targets, sources) > 4 * min(targets, sources) else "equal",
    )  # fmt: skip
    bar = ax.figure.colorbar(picture, ax=ax, shrink=0.8, pad=0.03)
    percent_ticks(bar.ax.yaxis)
    bar.set_label("fraction of pairs that are edges", color=INK)
    bar.outline.set_visible(False)
    ax.set(xlabel="source", ylabel="target")
    ax.set_title(title, fontsize=10, color=INK)
    ax.tick_params(length=0, labelsize=8, labelcolor=INK)
    ax.spines[:].set_color("#D0D0D0")
    return ax


def pixel_densities(graph: TokenGraph, bins: int) -> np.ndarray:
    """The fraction of pairs that are edges in each pixel, for at most ``bins`` pixels per side.

    A run adds its partial overlap to its first and last pixel, and all pixels between by differences that are summed
    up: the cost is linear in the number of runs, however long they are.
    """
    rows, columns = (min(n, bins) for n in graph.shape[2:])
    edges = [-(-np.arange(p + 1) * n // p) for p, n in zip((rows, columns), graph.shape[2:], strict=True)]
    width = np.diff(edges[1])
    row = np.searchsorted(edges[0], graph.row().cpu().numpy(), "right") - 1
    start, stop = graph.start.cpu().numpy().astype(np.int64), graph.stop.cpu().numpy().astype(np.int64)
    first, last = (np.searchsorted(edges[1], at, "right") - 1 for at in (start, stop - 1))
    count = np.zeros((rows, columns + 1))
    np.add.at(count, (row, first), 1.0)
    np.add.at(count, (row, last + 1), -1.0)
    count = np.cumsum(count, 1)[:, :columns] * width
    np.add.at(count, (row, first), -(start - edges[1][first]).astype(float))
    np.add.at(count, (row, last), -(edges[1][last + 1] - stop).astype(float))
    return count / np.outer(np.diff(edges[0]), width)


def _arcs(graph: TokenGraph, ax: Axes | None, *, target: int | None = None, title: str | None = None) -> Axes:
    """Tokens on a line, one arc per edge: to the past above, to the future below; the arcs of one target in color."""
    from matplotlib.collections import LineCollection

    if not graph.is_square:
        raise ArgumentError("kind", "'matrix' or 'layers' for a rectangular graph", "'graph'")
    n = graph.num_targets
    target = n - 1 if target is None else whole("target", target, most=n - 1)
    ax = new_axes(ax, size=(8.0, 3.2))
    source, targets = (t.cpu().numpy() for t in (graph.adjacency().indices, graph.adjacency().target))
    angle = np.linspace(0, np.pi, 40)
    lines, colors, widths = [], [], []
    for s, t in sorted(zip(source, targets, strict=True), key=lambda e: e[1] == target):
        middle, radius = (s + t) / 2, abs(s - t) / 2
        if s != t:
            up = 1 if s < t else -1
            lines.append(np.stack([middle + radius * np.cos(angle), up * 0.9 * radius**0.8 * np.sin(angle)], 1))
            colors.append(PALETTE[0] if t == target else _FAINT)
            widths.append(1.6 if t == target else 0.8)
    ax.add_collection(LineCollection(lines, colors=colors, linewidths=widths, zorder=1))
    visible = set(source[targets == target].tolist())
    face = [PALETTE[1] if v == target else PALETTE[0] if v in visible else "white" for v in range(n)]
    ax.scatter(np.arange(n), np.zeros(n), s=min(60, 2400 / max(n, 1)), c=face, edgecolors=INK, linewidths=0.6, zorder=2)
    _finish(ax, title if title is not None else f"sources of token {target}, of {graph.num_edges:,} edges")
    ax.autoscale_view()
    return ax


def _layers(
    graph: TokenGraph, ax: Axes | None, *, layers: int = 2, target: int | None = None, title: str | None = None
) -> Axes:
    """Layers of tokens; the receptive field of one target at the top is in color, the rest is faint."""
    from matplotlib.collections import LineCollection

    whole("layers", layers, 1)
    if layers > 1 and not graph.is_square:
        raise ArgumentError("layers", "1 for a rectangular graph", layers)
    top, bottom = graph.shape[2:]
    target = top - 1 if target is None else whole("target", target, most=top - 1)
    ax = new_axes(ax, size=(8.0, 0.8 + 1.1 * layers))
    adj = graph.adjacency()
    source, targets = adj.indices.cpu().numpy(), adj.target.cpu().numpy()
    active, size = np.zeros(top, bool), min(45, 2400 / max(top, bottom, 1))
    active[target] = True
    for layer in range(layers, -1, -1):
        count = top if layer == layers else bottom
        face = [
            PALETTE[1] if layer == layers and v == target else PALETTE[0] if active[v] else "white"
            for v in range(count)
        ]
        rim = [INK if active[v] else LINE for v in range(count)]
        ax.scatter(np.arange(count), np.full(count, layer), s=size, c=face, edgecolors=rim, linewidths=0.6, zorder=3)
        if layer:
            lit = active[targets]
            ends = np.stack(
                [
                    np.stack([source, np.full_like(source, layer - 1)], 1),
                    np.stack([targets, np.full_like(source, layer)], 1),
                ],
                1,
            )
            ax.add_collection(LineCollection(list(ends[~lit]), colors=_FAINT, linewidths=0.4, zorder=1))
            ax.add_collection(LineCollection(list(ends[lit]), colors=PALETTE[0], linewidths=0.9, alpha=0.8, zorder=2))
            below = np.zeros(bottom, bool)
            below[source[lit]] = True
            if graph.is_square:
                below |= active  # residual connections
            active = below
    count = int(active.sum())
    text = f"{layers} layer{'s' * (layers > 1)}: token {target} receives from {count} of {bottom}"
    _finish(ax, text if title is None else title)
    ax.set_ylim(-0.4, layers + 0.4)
    return ax


def _finish(ax: Axes, title: str) -> None:
    ax.set_axis_off()
    ax.set_title(title, fontsize=10, color=INK)
