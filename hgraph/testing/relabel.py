"""Structures with renumbered nodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hgraph.structure import Graph, Hypergraph, KnowledgeGraph

__all__ = ["relabel"]


def relabel(structure: Any, node: Tensor, hyperedge: Tensor | None = None) -> Any:
    """The same structure, where node v gets the id ``node[v]`` and hyperedge e the id ``hyperedge[e]``.

    Use it to test that a layer is equivariant under permutations.

    Args:
        structure: a `Graph`, `Hypergraph` or `KnowledgeGraph`, or a list of them.
        node: a permutation of the nodes.
        hyperedge: a permutation of the hyperedges; by default their ids are unchanged.

    >>> graph = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=True)
    >>> relabel(graph, torch.tensor([2, 0, 1])).edge_index.tolist()
    [[2, 0], [0, 1]]
    """
    if isinstance(structure, (list, tuple)):
        return [relabel(one, node, hyperedge) for one in structure]
    if isinstance(structure, Graph):
        return Graph.from_edge_index(
            node[structure.edge_index],
            num_nodes=structure.num_nodes,
            directed=True,
            weight=structure.adj.weight,
            duplicates="keep",
        )
    if isinstance(structure, KnowledgeGraph):
        head, relation, tail = structure.triples.unbind(1)
        kg = KnowledgeGraph.from_triples(
            head=node[head],
            relation=relation,
            tail=node[tail],
            num_nodes=structure.num_nodes,
            num_relations=structure.num_relations,
            duplicates="keep",
        )
        if structure.node_type is not None:
            kg = replace(kg, node_type=_moved(structure.node_type, node))
        weight = structure.adj.weight
        return kg if weight is None else kg.with_weight(kg.adj.sort_edges(weight))
    hyperedge = torch.arange(structure.num_hyperedges) if hyperedge is None else hyperedge
    return Hypergraph.from_coo(
        node=node[structure.v2e.indices.long()],
        hyperedge=hyperedge[structure.v2e.target.long()],
        weight=structure.v2e.weight,
        num_nodes=structure.num_nodes,
        num_hyperedges=structure.num_hyperedges,
        hyperedge_weight=_moved(structure.hyperedge_weight, hyperedge),
        node_weight=_moved(structure.node_weight, node),
    )


def _moved(values: Tensor | None, order: Tensor) -> Any:
    return None if values is None else torch.empty_like(values).index_copy(0, order, values)
