"""`collate`: many small structures as one block-diagonal structure, for DataLoaders."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hgraph.data.data import Data
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure.adjacency import Adjacency
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph
from hgraph.structure.knowledge_graph import KnowledgeGraph
from hgraph.structure.names import Names

__all__ = ["collate"]


def collate(items: Sequence[Any]) -> Any:
    """Join examples into one, without edges between them: a ``collate_fn`` for `torch.utils.data.DataLoader`.

    Nodes (and hyperedges) of item i come after those of earlier items. Missing weights count as ones
    if other items have weights. Concatenated per-edge values of the items are in the order that
    ``sort_edges`` of the result expects.

    Args:
        items: one or more `Data`, `Graph`, `Hypergraph`, `KnowledgeGraph` or `Adjacency`, all of one type; knowledge
            graphs must have the same relations.

    Returns:
        The block-diagonal structure, or a `Data` of it: concatenated ``x`` and ``y`` (``y`` of whole graphs
        stacked), ``meta["batch"]`` [N] the item of each node, ``meta["num_items"]``, and ``meta["class_names"]``
        where all agree. Splits belong to single structures and are dropped.

    Raises:
        ArgumentError: no items, different targets, or knowledge graphs with different relations.
        ArgumentTypeError: items of different or unsupported types.

    >>> both = collate([Hypergraph.from_lists([[0, 1]], num_nodes=2), Hypergraph.from_lists([[2]], num_nodes=3)])
    >>> both.to_lists()
    [[0, 1], [4]]
    """
    if isinstance(items, (Data, Graph, Hypergraph, KnowledgeGraph, Adjacency)):
        raise ArgumentTypeError("items", "a list of examples", f"one {type(items).__name__}", "Give [item, ...]")
    items = list(items)
    if not items:
        raise ArgumentError("items", "at least one example", "none")
    join: dict[type, Callable[[list[Any]], Any]] = {
        Data: _data,
        Graph: lambda graphs: Graph(_adjacency([g.adj for g in graphs])),
        Hypergraph: _hypergraph,
        KnowledgeGraph: _knowledge_graph,
        Adjacency: _adjacency,
    }
    kinds = {type(item) for item in items}
    if len(kinds) > 1 or not kinds <= set(join):
        got = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ArgumentError("items", "Data, Graph, Hypergraph, KnowledgeGraph or Adjacency, all of one type", got)
    return join[kinds.pop()](items)


def _data(items: list[Data]) -> Data:
    sizes = torch.tensor([item.num_nodes for item in items])
    batch = torch.arange(len(items)).repeat_interleave(sizes).to(items[0].x.device)
    meta: dict[str, Any] = {"batch": batch, "num_items": len(items)}
    names = [item.meta.get("class_names") for item in items]
    if names[0] is not None and all(name is not None and list(name) == list(names[0]) for name in names):
        meta["class_names"] = names[0]
    labels, targets = [item.y for item in items], sorted({item.target for item in items})
    if len(targets) > 1:
        raise ArgumentError("items", "examples with the same target", ", ".join(targets))
    y = torch.stack(labels) if labels[0].dim() == 0 or targets == ["graph"] else torch.cat(labels)
    structure, x = collate([item.structure for item in items]), torch.cat([item.x for item in items])
    return Data(structure, x, y, meta=meta, target=items[0].target)


def _hypergraph(items: list[Hypergraph]) -> Hypergraph:
    return Hypergraph(
        _adjacency([hg.v2e for hg in items]),
        _weights([hg.hyperedge_weight for hg in items], [hg.num_hyperedges for hg in items]),
        _weights([hg.node_weight for hg in items], [hg.num_nodes for hg in items]),
    )


def _knowledge_graph(items: list[KnowledgeGraph]) -> KnowledgeGraph:
    """All items share one set of relations; node types and names are used if all items have them."""
    first, numbers = items[0], [kg.num_relations for kg in items]
    if len(set(numbers)) > 1:
        raise ArgumentError("items", "knowledge graphs of the same relations", f"{numbers} relations")
    texts = [kg.relation_names for kg in items]
    if any((t is None) != (texts[0] is None) or (t and not t.equal(texts[0])) for t in texts):  # type: ignore[arg-type]
        raise ArgumentError("items", "knowledge graphs of the same relations", "other relation_names")
    relation = torch.cat([kg.relation for kg in items])
    types = [kg.node_type for kg in items]
    names = [kg.node_names for kg in items]
    kinds = [kg.type_names for kg in items]
    same = all(k is not None and kinds[0] is not None and k.equal(kinds[0]) for k in kinds)
    return KnowledgeGraph.complete(
        _adjacency([kg.adj for kg in items]),
        relation,
        first.num_relations,
        node_type=None if any(t is None for t in types) else torch.cat(types),  # type: ignore[arg-type]
        node_names=None if any(n is None for n in names) else Names.of(t for n in names if n for t in n),
        relation_names=first.relation_names,
        type_names=first.type_names if same else None,
    )


def _adjacency(items: list[Adjacency]) -> Adjacency:
    indptr, indices, order = [torch.zeros(1, dtype=torch.long, device=items[0].device)], [], []
    edges = sources = 0
    for adj in items:
        indptr.append(adj.indptr[1:].long() + edges)
        indices.append(adj.indices.long() + sources)
        own = torch.arange(adj.num_edges, device=adj.device) if adj.input_order is None else adj.input_order.long()
        order.append(own + edges)
        edges, sources = edges + adj.num_edges, sources + adj.num_sources
    weight = _weights([adj.weight for adj in items], [adj.num_edges for adj in items])
    joined = Adjacency.trusted(indptr=torch.cat(indptr), indices=torch.cat(indices), num_sources=sources, weight=weight)
    return dataclasses.replace(joined, input_order=torch.cat(order).to(joined.indices.dtype))


def _weights(weights: list[Tensor | None], sizes: list[int]) -> Tensor | None:
    """Concatenate weights, with ones for missing ones; None if all are missing."""
    given = [w for w in weights if w is not None]
    if not given:
        return None
    return torch.cat([given[0].new_ones(n) if w is None else w for w, n in zip(weights, sizes, strict=True)])
