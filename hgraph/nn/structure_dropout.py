"""Dropout of edges, incidences and hyperedges; the remaining weights are rescaled."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import torch

from hgraph.checks import real
from hgraph.errors import ArgumentTypeError
from hgraph.structure import Adjacency, Graph, Hypergraph

__all__ = ["drop_edges", "drop_hyperedges"]

S = TypeVar("S", bound="Graph | Hypergraph")


def drop_edges(structure: S, p: float, *, training: bool = True) -> S:
    r"""Remove each edge (or incidence) with probability p, and divide the weights of the remaining ones by 1 - p.

    Use it in training against overfitting and oversmoothing: each step sees a different structure.

    .. math:: w'_e = \frac{w_e\, b_e}{1 - p}, \qquad b_e \sim \mathrm{Bernoulli}(1 - p)

    so that weighted sums keep their expectation; means and softmax attention do not change with the scale. The two
    directions of an edge are drawn separately. The number of remaining edges is random.

    Args:
        structure: the graph or hypergraph; it is not changed.
        p: probability, 0 .. 1.
        training: False returns the structure itself.

    Raises:
        ArgumentError: p is not between 0 and 1.
        ArgumentTypeError: the structure is neither a `Graph` nor a `Hypergraph`.

    Source: Rong et al., "DropEdge: Towards Deep Graph Convolutional Networks on Node Classification", ICLR 2020,
    without rescaling.

    >>> g = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=True)
    >>> drop_edges(g, 0.0) is g, drop_edges(g, 1.0).num_edges
    (True, 0)
    """
    if not _drops(structure, p, training):
        return structure
    if isinstance(structure, Graph):
        return dataclasses.replace(structure, adj=_thinned(structure.adj, p))
    return dataclasses.replace(structure, v2e=_thinned(structure.v2e, p))


def drop_hyperedges(hypergraph: Hypergraph, p: float, *, training: bool = True) -> Hypergraph:
    r"""Empty each hyperedge with probability p, and divide the weights of the others by 1 - p.

    Use it in training, where whole hyperedges are redundant. Hyperedges keep their ids.

    Args:
        hypergraph: the hypergraph; it is not changed.
        p: probability, 0 .. 1.
        training: False returns the hypergraph itself.

    Raises:
        ArgumentError: p is not between 0 and 1.
        ArgumentTypeError: the structure is not a `Hypergraph`.

    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> drop_hyperedges(hg, 1.0).to_lists()
    [[], []]
    """
    if not isinstance(hypergraph, Hypergraph):
        raise ArgumentTypeError("hypergraph", "a Hypergraph", type(hypergraph).__name__)
    if not _drops(hypergraph, p, training):
        return hypergraph
    v2e = hypergraph.v2e
    keep = torch.rand(v2e.num_targets, device=v2e.device) >= p
    weight = hypergraph.hyperedge_weight
    weight = torch.ones(v2e.num_targets, device=v2e.device) if weight is None else weight
    kept = v2e.keep(keep[v2e.target.long()])
    return dataclasses.replace(hypergraph, v2e=kept, hyperedge_weight=weight / max(1 - p, 1e-6))


def _drops(structure: object, p: float, training: bool) -> bool:
    real("p", p, "a probability, 0 .. 1", 0.0, 1.0)
    if not isinstance(structure, (Graph, Hypergraph)):
        raise ArgumentTypeError("structure", "a Graph or Hypergraph", type(structure).__name__)
    return training and p > 0


def _thinned(adj: Adjacency, p: float) -> Adjacency:
    keep = torch.rand(adj.num_edges, device=adj.device) >= p
    weight = torch.ones(adj.num_edges, device=adj.device) if adj.weight is None else adj.weight
    return adj.with_weight(weight / max(1 - p, 1e-6)).keep(keep)
