"""`knowledge_graph`: a knowledge graph from labeled data whose edges have relations."""

from __future__ import annotations

from hgraph.data.data import Data
from hgraph.errors import ArgumentError
from hgraph.structure.graph import Graph
from hgraph.structure.knowledge_graph import KnowledgeGraph

__all__ = ["knowledge_graph"]


def knowledge_graph(data: Data) -> KnowledgeGraph:
    """The `KnowledgeGraph` of data with one relation per edge, which `hgraph.datasets.from_tables` builds from triples.

    Use it for networks that take relations and node types, such as `RGCN`, `HGT` and `HAN`.

    Args:
        data: a graph with an edge from tail to head for each triple. ``meta["relation"]`` [E] has the relations in the
            order of the edges, ``meta["relation_names"]`` their names. ``meta["node_type"]`` [N] and
            ``meta["type_names"]`` are optional.

    Raises:
        ArgumentError: the edges have no relations.

    >>> import torch
    >>> graph = Graph.from_edge_index([[1, 2], [0, 0]], num_nodes=3, directed=True)
    >>> meta = {"relation": torch.tensor([1, 0]), "relation_names": ("by", "cites")}
    >>> knowledge_graph(Data(graph, torch.eye(3), torch.zeros(3).long(), meta=meta)).find_triples()
    [Triple(head=0, relation='cites', tail=1), Triple(head=0, relation='by', tail=2)]
    """
    structure, meta = data.structure, data.meta
    if not isinstance(structure, Graph) or not {"relation", "relation_names"} <= set(meta):
        hint = "Build it from a table of triples: hgraph datasets build --nodes nodes.csv --edges triples.csv --label y"
        raise ArgumentError("dataset", "data with a relation for each edge", f"a {type(structure).__name__}", hint)
    names = tuple(map(str, meta["relation_names"]))
    source, target = structure.edge_index
    return KnowledgeGraph.from_triples(
        head=target,
        relation=meta["relation"],
        tail=source,
        num_nodes=data.num_nodes,
        num_relations=len(names),
        node_type=meta.get("node_type"),
        relation_names=names,
        type_names=meta.get("type_names"),
        duplicates="keep",
    )
