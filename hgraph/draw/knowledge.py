"""Plots of knowledge graphs: one color per relation, arrows from head to tail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hgraph.draw import marks as draw
from hgraph.errors import ArgumentError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hgraph.structure.knowledge_graph import KnowledgeGraph

__all__ = ["draw_knowledge_graph"]

_STYLES = ("-", "--", ":", "-.")  # further relations reuse the palette with another line style


def draw_knowledge_graph(
    kg: KnowledgeGraph,
    ax: Axes | None = None,
    *,
    labels: Any = None,
    names: Sequence[Any] | None = None,
    positions: Any = None,
    seed: int = 0,
    largest: float | None = None,
    title: str | None = None,
) -> Axes:
    """Nodes and triples; messages flow against the arrows. Line widths show weights; colors show relations.

    Args:
        kg: at most 1,500 nodes.
        ax: axes to draw into, or None for new ones.
        labels: [N] classes: colors, and a legend; None takes the node types.
        names: [N] texts; None takes the names of the graph.
        positions: [N, 2] node positions; None uses a spring layout.
        seed: fixes the layout.
        largest: the weight of the widest line; None takes the maximum.
        title: the title, or None.

    Returns:
        The axes.

    Raises:
        ArgumentError: too many nodes, or labels or names of the wrong length.
    """
    if labels is None and kg.node_type is not None:
        kinds = kg.node_type.tolist()
        labels = kinds if kg.type_names is None else [kg.type_names[k] for k in kinds]
    names = list(kg.node_names) if names is None and kg.node_names is not None else names
    labels, names = draw.check_labels(kg.num_nodes, labels, names, "kg.subgraph(nodes).draw()")
    ax = draw.new_axes(ax)
    head, relation, tail = kg.triples.cpu().numpy().T
    if positions is None:
        at = draw.layout_of(kg.num_nodes, np.stack([head, tail], 1), seed)
    else:
        at = _placed(positions, kg.num_nodes)
    size = draw.node_radius(at, names)
    weight = None if kg.adj.weight is None else kg.adj.weight.detach().double().cpu().numpy()
    width = draw.scaled(weight, len(head), 1.2, 0.5, 3.5, largest)
    first = 0 if labels is None else len(set(labels.tolist()))  # earlier colors are for nodes
    lines, points = _draw_triples(ax, kg, at, (head, relation, tail), width, size, first)
    draw.finish(ax, at, size, labels, names, title, [], points)
    _legend(ax, lines)
    return ax


def _draw_triples(
    ax: Axes,
    kg: KnowledgeGraph,
    at: np.ndarray,
    triples: tuple[np.ndarray, ...],
    width: np.ndarray,
    size: np.ndarray,
    first: int,
) -> tuple[list[Any], np.ndarray]:
    """Draw arrows; returns their legend entries and points along them [K, 2].

    Triples with the same two nodes are drawn side by side.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import FancyArrowPatch

    head, relation, tail = triples
    bend, handles, points = _bends(head, tail), {}, [np.empty((0, 2))]
    radius = float(size.mean()) if len(size) else 0.0
    # a subgraph of a graph of many relations has few of them: only these need different colors
    few = kg.num_relations <= len(draw.PALETTE)
    rank = {r: r if few else i for i, r in enumerate(np.unique(relation).tolist())}
    for h, r, t, curve, line in zip(head, relation, tail, bend, width, strict=True):
        turn, kind = divmod(rank[int(r)], len(draw.PALETTE))
        color, style = draw.PALETTE[(first + kind) % len(draw.PALETTE)], _STYLES[turn % len(_STYLES)]
        name = str(r) if kg.relation_names is None else kg.relation_names[int(r)]
        handles[r] = Line2D([], [], color=color, ls=style, label=draw.literal(name))
        if h == t:
            draw.draw_edges(ax, at, np.array([h]), np.array([t]), np.array([line]), size, True, color)
            continue
        start, end = at[h], at[t]
        along = end - start
        length = max(float(np.hypot(*along)), 1e-9)
        gap = along / length * min(1.3 * radius, 0.4 * length)
        arrow = FancyArrowPatch(
            start + gap, end - gap, connectionstyle=f"arc3,rad={curve}", arrowstyle="-|>",
            mutation_scale=7 + 2 * line,  # wider lines have wider tips
            shrinkA=0, shrinkB=0, color=color, linestyle=style, linewidth=line, alpha=0.85, zorder=1,
        )  # fmt: skip
        ax.add_patch(arrow)
        points.append(_along(start + gap, end - gap, curve, max(radius, length / 60)))
    return [handles[r] for r in sorted(handles)], np.concatenate(points)


def _along(start: np.ndarray, end: np.ndarray, curve: float, step: float) -> np.ndarray:
    """[K, 2] points on the parabola of matplotlib's arc3, about ``step`` apart."""
    across = (end - start)[::-1] * [1, -1]
    middle = (start + end) / 2 + curve * across
    t = np.linspace(0, 1, 2 + int(np.hypot(*(end - start)) / step))[:, None]
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end


def _placed(positions: Any, count: int) -> np.ndarray:
    at = np.asarray(positions, dtype=float)
    if at.shape != (count, 2):
        raise ArgumentError("positions", f"shape [{count}, 2]", f"shape {list(at.shape)}")
    return at


def _legend(ax: Axes, lines: list[Any]) -> None:
    """One legend below the plot, where no name reaches: the existing one of the nodes, and the relations."""
    from matplotlib.transforms import ScaledTranslation

    dots = ax.get_legend()
    if dots is not None:
        lines = [*dots.legend_handles, *lines]
    if lines:
        line = ScaledTranslation(0, -18 / 72, ax.figure.dpi_scale_trans)  # names may extend below the lowest nodes
        ax.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=ax.transAxes + line,
                  ncols=min(len(lines), 3), frameon=False, fontsize=8.5, labelcolor=draw.INK)  # fmt: skip


def _bends(head: np.ndarray, tail: np.ndarray) -> np.ndarray:
    """The curvature of each arrow: parallel arrows between the same two nodes get increasing curvature."""
    met: dict[tuple[int, int], int] = {}
    pairs = [(min(h, t), max(h, t)) for h, t in zip(head.tolist(), tail.tolist(), strict=True)]
    total = {pair: pairs.count(pair) for pair in set(pairs)} if len(pairs) < 3000 else dict.fromkeys(pairs, 1)
    out = np.zeros(len(head))
    for i, pair in enumerate(pairs):
        number = met[pair] = met.get(pair, -1) + 1
        middle = (total[pair] - 1) / 2
        turn = 1 if head[i] <= tail[i] else -1  # the same side in both directions
        out[i] = turn * 0.22 * (number - middle)
    return out
