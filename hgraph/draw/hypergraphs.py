"""Plots of graphs, and of hypergraphs with a rounded hull around each hyperedge; matrices are in `draw_matrix`.

Without ``ax`` the plot goes to a new figure. In a notebook, and wherever pyplot is already imported, that is a
pyplot figure, so it is displayed automatically; elsewhere (scripts, servers, threads) it is a plain figure without
a window or global state: save it with ``ax.figure.savefig("picture.png")``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hgraph.draw.layout import rounded_hull, seriate
from hgraph.draw.marks import (
    INK,
    LINE,
    add_to_legend,
    check_labels,
    draw_edges,
    draw_hulls,
    figure_size,
    finish,
    layout_of,
    new_axes,
    node_radius,
    scaled,
)
from hgraph.draw.matrix import draw_adjacency
from hgraph.errors import ArgumentError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hgraph.structure.graph import Graph
    from hgraph.structure.hypergraph import Hypergraph

__all__ = ["draw_graph", "draw_hypergraph"]

_MAX_DOTS = 150  # nodes and hyperedges of a picture with dots
_COVERED = 0.35  # nodes under a hull that are not members, over the incidences
_DEPTH = 3.5  # hulls over a node, on average


# ---------------------------------------------------------------------- the two pictures


def draw_graph(
    graph: Graph,
    ax: Axes | None = None,
    *,
    labels: Any = None,
    names: Sequence[Any] | None = None,
    seed: int = 0,
    title: str | None = None,
) -> Axes:
    """Nodes and edges in a spring layout; heavier edges are wider, arrows show directions.

    Args:
        graph: at most 1,500 nodes.
        ax: axes to draw into, or None for new ones.
        labels: [N] classes (integers, -1 is missing, or texts): colors, and a legend.
        names: [N] texts; short ones are drawn inside the nodes, longer ones above.
        seed: fixes the layout.
        title: the title, or None.

    Returns:
        The axes.

    Raises:
        ArgumentError: too many nodes, or labels or names of the wrong length.
    """
    labels, names = check_labels(graph.num_nodes, labels, names, "graph.subgraph(nodes).draw()")
    ax = new_axes(ax, figure_size(names))
    source, target = graph.edge_index.cpu().numpy()
    at = layout_of(graph.num_nodes, np.stack([source, target], 1), seed)
    size = node_radius(at, names)
    weight = None if graph.adj.weight is None else graph.adj.weight.detach().double().abs().cpu().numpy()
    width = scaled(weight, len(source), 0.8, 0.4, 3.5)
    draw_edges(ax, at, source, target, width, size, graph.directed)
    finish(ax, at, size, labels, names, title, [])
    return ax


def draw_hypergraph(
    hg: Hypergraph,
    ax: Axes | None = None,
    *,
    labels: Any = None,
    names: Sequence[Any] | None = None,
    hyperedge_names: Sequence[Any] | None = None,
    form: Literal["auto", "hulls", "bipartite", "matrix"] = "auto",
    seed: int = 0,
    max_hyperedges: int = 50,
    title: str | None = None,
) -> Axes:
    """Nodes with a soft hull around the members of each hyperedge: circle, capsule, or rounded polygon.

    Where hulls would cover many nodes that are not members, hyperedges are drawn as squares with lines to their members
    (``"bipartite"``). Beyond 150 nodes and hyperedges, the incidence matrix is drawn (``"matrix"``).

    Nodes with common hyperedges are close together (spring layout of the star expansion). Hyperedges with common
    members get different colors as far as possible. Line widths follow the hyperedge weights, dot sizes the node
    weights. A hull may cover nodes that are not members: thin lines join the actual members to the center of their
    hyperedge.

    Args:
        hg: at most 1,500 nodes.
        ax: axes to draw into, or None for new ones.
        labels: [N] classes (integers, -1 is missing, or texts): colors, and a legend.
        names: [N] texts; short ones are drawn inside the nodes, longer ones above.
        hyperedge_names: [M] texts, for squares; hulls have no names.
        form: ``"hulls"``, ``"bipartite"``, ``"matrix"``, or ``"auto"`` for the first of them that is readable.
        seed: fixes the layout.
        max_hyperedges: only this many get a hull, and the title says so; all hyperedges affect the layout.
        title: the title, or None.

    Returns:
        The axes.

    Raises:
        ArgumentError: too many nodes, labels or names of the wrong length, or an unknown form.
    """
    if max_hyperedges < 0:
        raise ArgumentError("max_hyperedges", "a number >= 0", max_hyperedges)
    if form not in ("auto", "hulls", "bipartite", "matrix"):
        raise ArgumentError("form", "'auto', 'hulls', 'bipartite' or 'matrix'", repr(form))
    if hyperedge_names is not None and len(hyperedge_names) != hg.num_hyperedges:
        raise ArgumentError("hyperedge_names", f"{hg.num_hyperedges} strings", len(hyperedge_names))
    if form == "matrix" or (form == "auto" and hg.num_nodes + hg.num_hyperedges > _MAX_DOTS):
        check_labels(hg.num_nodes, labels, names, None)
        return _draw_matrix(hg, ax, title, labels is not None or names is not None or hyperedge_names is not None)
    labels, names = check_labels(hg.num_nodes, labels, names, "hg.subhypergraph(nodes).draw()")
    node, hyperedge = hg.v2e.indices.cpu().numpy().astype(int), hg.v2e.target.cpu().numpy().astype(int)
    pairs = np.stack([node, hyperedge + hg.num_nodes], 1)
    at = layout_of(hg.num_nodes + hg.num_hyperedges, pairs, seed, keep=hg.num_nodes)
    members = [np.asarray(e) for e in hg.to_lists()[:max_hyperedges]]
    if form == "bipartite" or (form == "auto" and _hides(at, members)):
        return _draw_bipartite(hg, ax, pairs, labels, names, hyperedge_names, seed, title)
    ax = new_axes(ax, figure_size(names))
    size = node_radius(at, names)
    weight = None if hg.hyperedge_weight is None else hg.hyperedge_weight.detach().double().abs().cpu().numpy()
    width = scaled(weight, hg.num_hyperedges, 1.4, 0.6, 3.6)
    outlines = draw_hulls(ax, at, members, width, size)
    if hg.node_weight is not None:
        size = size * scaled(hg.node_weight.detach().double().abs().cpu().numpy(), len(at), 1.0, 0.6, 1.5)
    notes = [] if title is None else [title]
    if hg.num_hyperedges > max_hyperedges:
        notes.append(f"the first {max_hyperedges} of {hg.num_hyperedges} hyperedges")
    if empty := sum(len(m) == 0 for m in members):
        notes.append(f"{empty} hyperedge{'s' * (empty > 1)} without members, not shown")
    finish(ax, at, size, labels, names, "\n".join(notes) or None, outlines)
    return ax


def _hides(at: np.ndarray, members: list[np.ndarray]) -> bool:
    """Whether so many hulls lie over each other, or over nodes that are not members, that they cannot be read."""
    from matplotlib.path import Path

    wide = [own for own in members if len(own) > 2]
    covered = sum(int(Path(rounded_hull(at[own], 1e-6)).contains_points(at).sum()) - len(own) for own in wide)
    incidences = max(sum(map(len, wide)), 1)
    return covered > _COVERED * incidences or (bool(wide) and covered + incidences > _DEPTH * len(at))


def _draw_bipartite(
    hg: Hypergraph,
    ax: Axes | None,
    pairs: np.ndarray,
    labels: np.ndarray | None,
    names: list[str] | None,
    hyperedge_names: Sequence[Any] | None,
    seed: int,
    title: str | None,
) -> Axes:
    """Nodes as dots and hyperedges as squares, with a line for each incidence."""
    from matplotlib.collections import LineCollection, PatchCollection
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    n = hg.num_nodes
    ax = new_axes(ax, figure_size(names, hg.num_hyperedges))
    at = layout_of(n + hg.num_hyperedges, pairs, seed)
    size = node_radius(at, names)
    lines = list(np.stack([at[pairs[:, 0]], at[pairs[:, 1]]], 1))
    ax.add_collection(LineCollection(lines, colors=LINE, linewidths=0.8, alpha=0.6, zorder=1), autolim=False)
    side = float(size.mean()) * 0.9 if len(size) else 0.1
    squares = [Rectangle(p - side, 2 * side, 2 * side) for p in at[n:]]
    ax.add_collection(PatchCollection(squares, facecolor="white", edgecolor=INK, linewidth=1.2, zorder=2), False)
    texts = None if names is None else [*names, *map(str, hyperedge_names or [""] * hg.num_hyperedges)]
    if names is None and hyperedge_names is not None:
        texts = [*[""] * n, *map(str, hyperedge_names)]
    finish(ax, at, size, labels, texts, title, [], dots=n)
    square = Line2D([], [], ls="", marker="s", ms=7, mec=INK, color="white", label="hyperedge")
    add_to_legend(ax, square)
    return ax


def _draw_matrix(hg: Hypergraph, ax: Axes | None, title: str | None, more: bool) -> Axes:
    """The incidence matrix, rows and columns ordered so that hyperedges with common nodes are close."""
    from hgraph.structure.adjacency import Adjacency

    node, hyperedge = hg.v2e.indices.cpu().numpy().astype(int), hg.v2e.target.cpu().numpy().astype(int)
    rows, columns = seriate(hyperedge, node, hg.num_hyperedges, hg.num_nodes)
    weight = None if hg.v2e.weight is None else hg.v2e.weight.detach().cpu()
    ordered = Adjacency.from_coo(
        target=rows[hyperedge], source=columns[node], weight=weight, num_targets=hg.num_hyperedges,
        num_sources=hg.num_nodes, duplicates="keep",
    )  # fmt: skip
    text = f"{hg.num_nodes:,} nodes, {hg.num_hyperedges:,} hyperedges, {hg.num_incidences:,} incidences"
    text = text if title is None else title
    ax = draw_adjacency(ordered, ax, title=text + "\n(a matrix shows no labels or names)" * more)
    ax.set_xlabel("node (reordered)")
    ax.set_ylabel("hyperedge (reordered)")
    return ax
