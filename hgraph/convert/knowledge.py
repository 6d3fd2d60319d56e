"""Knowledge graphs as networkx ``MultiDiGraph`` and PyG ``HeteroData``, in both directions."""

from __future__ import annotations

from typing import Any

import torch

from hgraph.convert.converted import require
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure.knowledge_graph import KnowledgeGraph

__all__ = ["from_networkx_triples", "from_pyg_triples", "to_networkx_triples", "to_pyg_triples"]


def from_networkx_triples(graph: Any, *, relation: str = "relation") -> KnowledgeGraph:
    """Convert a ``networkx.MultiDiGraph`` (or ``DiGraph``): an edge u -> v of relation r is the triple ``(u, r, v)``.

    Nodes are in networkx's order, relations in order of appearance; names are their texts. The node
    attribute ``"type"``, if every node has it, becomes the type. Other attributes are rejected.

    Args:
        graph: the graph.
        relation: the edge attribute for the relation; None uses a multigraph's key.

    Raises:
        ArgumentError: an edge without a relation, another attribute, or nodes with the same text.

    >>> import networkx as nx
    >>> graph = nx.MultiDiGraph()
    >>> _ = graph.add_edge("Dune", "Herbert", relation="by")
    >>> from_networkx_triples(graph).find_triples()
    [Triple(head='Dune', relation='by', tail='Herbert')]
    """
    import networkx as nx

    if not isinstance(graph, nx.Graph) or not graph.is_directed():
        raise ArgumentTypeError("graph", "a directed networkx graph", type(graph).__name__)
    index = {node: i for i, node in enumerate(graph)}
    triples: list[tuple[int, int, int]] = []
    kinds: dict[str, int] = {}
    for u, v, key, given in _edges(graph):
        rest = dict(given)
        name = key if relation is None else rest.pop(relation, None)
        if name is None or rest:
            got = f"{sorted(map(str, given))} at {(u, v)!r}"
            raise ArgumentError("graph", f"edges with only the attribute {relation!r}", got)
        triples.append((index[u], kinds.setdefault(str(name), len(kinds)), index[v]))
    types = [data.get("type") for _, data in graph.nodes(data=True)]
    typed = bool(types) and all(t is not None for t in types)
    names = {str(t): None for t in types} if typed else {}
    rank = {name: i for i, name in enumerate(names)}
    head, relation_ids, tail = torch.tensor(triples, dtype=torch.long).reshape(-1, 3).unbind(1)
    return KnowledgeGraph.from_triples(
        head=head,
        relation=relation_ids,
        tail=tail,
        num_nodes=len(index),
        num_relations=len(kinds),
        node_type=[rank[str(t)] for t in types] if typed else None,
        node_names=[str(node) for node in graph],
        relation_names=kinds,
        type_names=names if typed else None,
        duplicates="keep",
    )


def to_networkx_triples(kg: KnowledgeGraph, *, relation: str = "relation") -> Any:
    """Convert to a ``networkx.MultiDiGraph``, with edges from head to tail; weights become ``"weight"``.

    Raises:
        ArgumentError: nodes with the same name, which networkx would merge.

    >>> graph = to_networkx_triples(KnowledgeGraph.from_names([("Dune", "by", "Herbert")]))
    >>> list(graph.edges(data="relation"))
    [('Dune', 'Herbert', 'by')]
    """
    import networkx as nx

    names = list(range(kg.num_nodes)) if kg.node_names is None else list(kg.node_names)
    if len(set(names)) < len(names):
        raise ArgumentError("kg", "distinct node names", "repeated names", "Drop them with node_names=None")
    out = nx.MultiDiGraph()
    for i, name in enumerate(names):
        if kg.node_type is None:
            out.add_node(name)
        else:
            kind = int(kg.node_type[i])
            out.add_node(name, type=kind if kg.type_names is None else kg.type_names[kind])
    weight = None if kg.adj.weight is None else kg.adj.weight.tolist()
    for e, (h, r, t) in enumerate(kg.triples.tolist()):
        extra = {} if weight is None else {"weight": weight[e]}
        name = r if kg.relation_names is None else kg.relation_names[r]
        out.add_edge(names[h], names[t], **{relation: name}, **extra)
    return out


def _edges(graph: Any) -> Any:
    if graph.is_multigraph():
        return graph.edges(keys=True, data=True)
    return ((u, v, None, data) for u, v, data in graph.edges(data=True))


def from_pyg_triples(data: Any) -> KnowledgeGraph:
    """Convert a PyG ``HeteroData`` of any types; an edge of type (a, r, b) is a triple with head a and tail b.

    Node types become node types, with ids type by type; an edge type is a relation, named
    ``"r"``, or ``"a r b"`` if several edge types have that word. Features are dropped: take them from ``data``.

    Raises:
        ArgumentError: a node type of unknown size.
    """
    pyg = require("torch_geometric.data", "pyg")
    if not isinstance(data, pyg.HeteroData):
        raise ArgumentTypeError("data", "a torch_geometric.data.HeteroData", type(data).__name__)
    sizes = {}
    for kind in data.node_types:
        store = data[kind]
        if "num_nodes" not in store and not any(hasattr(v, "shape") for v in store.values()):
            raise ArgumentError("data", f"num_nodes or features of {kind!r}", "neither")
        sizes[kind] = int(store.num_nodes)
    first, total = {}, 0
    for kind, size in sizes.items():
        first[kind], total = total, total + size
    words = [r for _, r, _ in data.edge_types]
    names = [r if words.count(r) == 1 else f"{a} {r} {b}" for a, r, b in data.edge_types]
    ends = [data[edge_type].edge_index.cpu() for edge_type in data.edge_types]
    none = [torch.empty(0, dtype=torch.long)]
    return KnowledgeGraph.from_triples(
        head=torch.cat(none + [e[0] + first[t[0]] for e, t in zip(ends, data.edge_types, strict=True)]),
        relation=torch.cat(none + [torch.full((e.shape[1],), i) for i, e in enumerate(ends)]),
        tail=torch.cat(none + [e[1] + first[t[2]] for e, t in zip(ends, data.edge_types, strict=True)]),
        num_nodes=total,
        num_relations=len(names),
        node_type=torch.arange(len(sizes)).repeat_interleave(torch.tensor(list(sizes.values()), dtype=torch.long)),
        relation_names=names,
        type_names=list(sizes),
        duplicates="keep",
    )


def to_pyg_triples(kg: KnowledgeGraph) -> Any:
    """Convert to PyG ``HeteroData``: one node type per type (``"node"`` without types), one edge type per (type,
    relation, type) that occurs; ``data[type].node_id`` has the ids of the graph.

    Node names are lost in PyG, because ``HeteroData`` cannot store them, and
    `from_pyg_triples` numbers the nodes type by type: keep ``kg.node_names``. Type names are preserved, and names of
    relations that join one pair of types. networkx preserves all names: `to_networkx_triples`.
    """  # noqa: D205
    pyg = require("torch_geometric.data", "pyg")
    out = pyg.HeteroData()
    kinds = torch.zeros(kg.num_nodes, dtype=torch.long) if kg.node_type is None else kg.node_type.cpu()
    count = int(kinds.max()) + 1 if len(kinds) else 0
    names = ["node"] if kg.node_type is None else [str(i) for i in range(count)]
    names = names if kg.type_names is None else list(kg.type_names)
    place = torch.zeros(kg.num_nodes, dtype=torch.long)
    for i, name in enumerate(names):
        own = (kinds == i).nonzero().flatten()
        place[own] = torch.arange(len(own))
        out[name].num_nodes, out[name].node_id = len(own), own
    head, relation, tail = kg.triples.cpu().unbind(1)
    code = (kinds[head] * max(kg.num_relations, 1) + relation) * max(count, 1) + kinds[tail]
    for value in code.unique().tolist():
        own = (code == value).nonzero().flatten()
        a, r, b = int(kinds[head[own[0]]]), int(relation[own[0]]), int(kinds[tail[own[0]]])
        word = str(r) if kg.relation_names is None else kg.relation_names[r]
        store = out[names[a], word, names[b]]
        store.edge_index = torch.stack([place[head[own]], place[tail[own]]])
        if kg.adj.weight is not None:
            store.edge_weight = kg.adj.weight.detach().cpu()[own]
    return out
