"""`statistics`: summary numbers of a structure, and a plot of its distributions."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hgraph.errors import ArgumentError
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Statistics", "statistics"]

_BAR, _INK = "#0072B2", "#222222"


@dataclass(frozen=True, eq=False)
class Statistics:
    """The result of `statistics`.

    Args:
        counts: numbers of nodes, edges or hyperedges, isolated nodes, and so on, by name.
        degree: [d_max + 1] the number of nodes of degree 0, 1, 2, ...
        size: [s_max + 1] the number of hyperedges with 0, 1, 2, ... members; None for graphs.
        homophily: the fraction of joined pairs with equal labels, or None without labels.
        chance: the expected homophily of randomly permuted labels, or None.
        class_sizes: the number of nodes with label 0, 1, ...; None without labels.

    >>> found = statistics(Graph.from_edge_index([[0], [1]], num_nodes=3, directed=False))
    >>> found.degree.tolist()  # one node of degree 0, two of degree 1
    [1, 2]
    """

    counts: dict[str, int]
    degree: Tensor
    size: Tensor | None
    homophily: float | None = None
    chance: float | None = None
    class_sizes: tuple[int, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON; histograms as ``[[value, count], ...]`` without zero counts."""
        found: dict[str, Any] = dict(self.counts)
        for name, histogram in (("degree", self.degree), ("hyperedge_size", self.size)):
            if histogram is not None:
                found[name] = {**_moments(histogram), "histogram": _pairs(histogram)}
        found["homophily"], found["homophily_by_chance"] = self.homophily, self.chance
        found["class_sizes"] = None if self.class_sizes is None else list(self.class_sizes)
        return found

    def draw(self, title: str = "") -> Figure:
        """Plot histograms of degrees and hyperedge sizes: save with ``figure.savefig("picture.png")``."""
        from matplotlib.figure import Figure

        panels = [("degree", "nodes", self.degree), ("hyperedge size", "hyperedges", self.size)]
        shown = [(x, y, h) for x, y, h in panels if h is not None]
        figure = Figure(figsize=(4.6 * len(shown), 3.4), layout="constrained")
        for ax, (label, what, histogram) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            _bars(ax, histogram)
            moments = _moments(histogram)
            ax.set_xlabel(label)
            ax.set_ylabel(what)
            about = f"mean {moments['mean']:.4g}, median {moments['median']}, largest {moments['max']}"
            ax.set_title(about, fontsize=9, color=_INK)
            ax.spines[["top", "right"]].set_visible(False)
        if title:
            figure.suptitle(title, fontsize=11, color=_INK)
        return figure


def statistics(structure: Graph | Hypergraph, y: Tensor | None = None) -> Statistics:
    r"""Count isolated nodes, degrees, sizes and homophily. Use it before choosing a model.

    .. math:: h = \frac{\sum_e \#\{(u, v) \in e \times e : u \ne v,\; y_u = y_v\}}{\sum_e |e| (|e| - 1)}

    is the homophily of a hypergraph: among all pairs in a common hyperedge (counted once per hyperedge), the fraction
    with equal labels. For a graph it is the fraction of edges with equal labels at both ends, without self-loops. Nodes
    without a label are skipped. Weights are ignored: degrees and sizes are counts.

    Args:
        structure: a graph or hypergraph.
        y: [N] class numbers of nodes, -1 where missing, or None.

    Returns:
        The `Statistics`. ``counts`` of a graph: ``nodes``, ``edges`` (directed), ``self_loops``, ``isolated``
        (no neighbor except itself), ``directed`` (0 or 1); of a hypergraph: ``nodes``, ``hyperedges``,
        ``incidences``, ``isolated`` (in no hyperedge), ``empty`` and ``single`` (hyperedges with no or one member),
        ``repeated`` (hyperedges that equal an earlier one as a set).

    Raises:
        ArgumentError: labels of the wrong shape.

    >>> hg = Hypergraph.from_lists([[0, 1, 2], [1, 0, 2], [3]], num_nodes=5)
    >>> found = statistics(hg, torch.tensor([0, 0, 1, 1, 1]))
    >>> found.counts["isolated"], found.counts["repeated"], found.degree.tolist(), round(found.homophily, 3)
    (1, 1, [1, 1, 3], 0.333)
    """
    n = structure.num_nodes
    if y is not None and (y.dim() != 1 or len(y) != n or y.is_floating_point() or y.dtype == torch.bool):
        raise ArgumentError("y", f"class numbers [{n}] of the nodes", f"{y.dtype} {list(y.shape)}")
    counts, degree, size = _graph(structure) if isinstance(structure, Graph) else _hypergraph(structure)
    if y is None or not bool((y >= 0).any()):
        return Statistics(counts, degree, size)
    same, pairs = _graph_pairs(structure, y) if isinstance(structure, Graph) else _hypergraph_pairs(structure, y)
    sizes = y[y >= 0].bincount().double()
    chance = float((sizes * (sizes - 1)).sum() / (sizes.sum() * (sizes.sum() - 1))) if sizes.sum() > 1 else None
    return Statistics(counts, degree, size, same / pairs if pairs else None, chance, tuple(sizes.long().tolist()))


# ---------------------------------------------------------------------- counting


def _graph(graph: Graph) -> tuple[dict[str, int], Tensor, None]:
    source, target = graph.edge_index
    loops = source == target
    alone = torch.ones(graph.num_nodes, dtype=torch.bool, device=source.device)
    alone[source[~loops]] = False
    alone[target[~loops]] = False
    counts = {
        "nodes": graph.num_nodes,
        "edges": graph.num_edges,
        "self_loops": int(loops.sum()),
        "isolated": int(alone.sum()),
        "directed": int(graph.directed),
    }
    return counts, _histogram(graph.adj.indptr.diff()), None


def _hypergraph(hypergraph: Hypergraph) -> tuple[dict[str, int], Tensor, Tensor]:
    size, degree = hypergraph.v2e.indptr.diff(), hypergraph.e2v.indptr.diff()
    counts = {
        "nodes": hypergraph.num_nodes,
        "hyperedges": hypergraph.num_hyperedges,
        "incidences": hypergraph.num_incidences,
        "isolated": int((degree == 0).sum()),
        "empty": int((size == 0).sum()),
        "single": int((size == 1).sum()),
        "repeated": _repeated(hypergraph),
    }
    return counts, _histogram(degree), _histogram(size)


def _repeated(hypergraph: Hypergraph) -> int:
    """Members are sorted, so two hyperedges are equal as sets exactly if their bytes are."""
    ends = hypergraph.v2e.indptr.tolist()
    members = hypergraph.v2e.indices.cpu().contiguous().numpy()
    seen = {members[a:b].tobytes() for a, b in itertools.pairwise(ends)}
    return hypergraph.num_hyperedges - len(seen)


def _graph_pairs(graph: Graph, y: Tensor) -> tuple[int, int]:
    source, target = graph.edge_index
    known = (source != target) & (y[source] >= 0) & (y[target] >= 0)
    return int((y[source] == y[target])[known].sum()), int(known.sum())


def _hypergraph_pairs(hypergraph: Hypergraph, y: Tensor) -> tuple[int, int]:
    """Ordered pairs of members with equal labels, and all pairs; counts labels, so no pair is materialized."""
    label, edge = y[hypergraph.v2e.indices.long()], hypergraph.v2e.target.long()
    edge, label = edge[label >= 0], label[label >= 0]
    together = torch.unique(edge * (int(y.max()) + 1) + label, return_counts=True)[1]
    labeled = edge.bincount()
    return int((together * (together - 1)).sum()), int((labeled * (labeled - 1)).sum())


# ---------------------------------------------------------------------- histograms


def _histogram(values: Tensor) -> Tensor:
    return values.long().bincount().cpu()


def _pairs(histogram: Tensor) -> list[list[int]]:
    values = histogram.nonzero().flatten()
    return torch.stack([values, histogram[values]], 1).tolist()


def _moments(histogram: Tensor) -> dict[str, float]:
    """Smallest, mean, median and largest value; zeros for an empty histogram."""
    total = int(histogram.sum())
    if not total:
        return {"min": 0, "mean": 0.0, "median": 0, "max": 0}
    values = histogram.nonzero().flatten()
    middle = int((histogram.cumsum(0) >= (total + 1) // 2).nonzero()[0])
    mean = float((histogram.double() * torch.arange(len(histogram))).sum() / total)
    return {"min": int(values[0]), "mean": mean, "median": middle, "max": int(values[-1])}


def _bars(ax: Any, histogram: Tensor) -> None:
    """Bars for short histograms; otherwise dots on logarithmic axes."""
    values, counts = histogram.nonzero().flatten(), histogram[histogram > 0]
    if len(histogram) <= 40:
        ax.bar(values.numpy(), counts.numpy(), color=_BAR, width=0.85)
        least = int(values[0]) if len(values) else 0
        ax.set_xlim(max(min(least, len(histogram) - 4) - 1, -0.75), len(histogram))  # a single bar stays narrow
        ax.xaxis.get_major_locator().set_params(integer=True)
        return
    ax.plot(values.numpy(), counts.numpy(), "o", color=_BAR, markersize=3, alpha=0.7)
    ax.set_xscale("symlog", linthresh=1)  # shows zero: isolated nodes
    if math.log10(max(int(counts.max()), 1)) > 1:
        ax.set_yscale("log")
