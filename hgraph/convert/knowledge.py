"""Knowledge graphs as networkx ``MultiDiGraph`` and PyG ``HeteroData``, both ways."""

from __future__ import annotations

from typing import Any

import torch

from hgraph.convert.converted import require
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure.knowledge_graph import KnowledgeGraph

__all__ = ["from_networkx_triples", "from_pyg_triples", "to_networkx_triples", "to_pyg_triples"]


def from_networkx_triples(graph: Any, *, relation: str = "relation") -> KnowledgeGraph:
    """A ``networkx.MultiDiGraph`` (or ``DiGraph``) as facts: the edge u -> v of relation r is ``(u, r, v)``.

    Nodes are numbered in networkx's order, relations in order of appearance; both are named by their texts. A node
    attribute ``"type"``, where every node has one, becomes the type. Other attributes have no place and are refused.

    Args:
        graph: the graph.
        relation: the edge attribute that is the relation; None takes a multigraph's key.

    Raises:
        ArgumentError: an edge without a relation, an attribute beside it, or nodes of the same text.

    >>> import networkx as nx
    >>> graph = nx.MultiDiGraph()
    >>> _ = graph.add_edge("Dune", "Herbert", relation="by")
    >>> from_networkx_triples(graph).facts()
    [Triple(head='Dune', relation='by', tail='Herbert')]
    """
    import networkx as nx

    if not isinstance(graph, nx.Graph) or not graph.is_directed():
        raise ArgumentTypeError("graph", "a directed networkx graph", type(graph).__name__)
    index = {node: i for i, node in enumerate(graph)}
    facts: list[tuple[int, int, int]] = []
    kinds: dict[str, int] = {}
    for u, v, key, given in _edges(graph):
        rest = dict(given)
        name = key if relation is None else rest.pop(relation, None)
        if name is None or rest:
            got = f"{sorted(map(str, given))} at {(u, v)!r}"
            raise ArgumentError("graph", f"edges with the attribute {relation!r} and no other", got)
        facts.append((index[u], kinds.setdefault(str(name), len(kinds)), index[v]))
    types = [data.get("type") for _, data in graph.nodes(data=True)]
    typed = bool(types) and all(t is not None for t in types)
    names = {str(t): None for t in types} if typed else {}
    rank = {name: i for i, name in enumerate(names)}
    head, relation_ids, tail = torch.tensor(facts, dtype=torch.long).reshape(-1, 3).unbind(1)
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
    """The ``networkx.MultiDiGraph`` of the facts, an edge from head to tail; weights become ``"weight"``.

    Raises:
        ArgumentError: vertices of one name, which networkx would take for one.

    >>> graph = to_networkx_triples(KnowledgeGraph.from_names([("Dune", "by", "Herbert")]))
    >>> list(graph.edges(data="relation"))
    [('Dune', 'Herbert', 'by')]
    """
    import networkx as nx

    names = list(range(kg.num_nodes)) if kg.node_names is None else list(kg.node_names)
    if len(set(names)) < len(names):
        raise ArgumentError("kg", "vertices whose names differ", "repeated names", "Drop them with node_names=None")
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
    """A PyG ``HeteroData`` of any number of node and edge types; an edge (a, r, b) is a fact with head a and tail b.

    Node types become the types of the vertices, numbered one type after the other; an edge type is a relation, named
    ``"r"``, or ``"a r b"`` where several edge types share the word. Features are not kept: take them from ``data``.

    Raises:
        ArgumentError: a node type whose size is not certain.
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
    """The PyG ``HeteroData`` of the facts: a node type a type (``"node"`` without types), an edge type a (type,
    relation, type) that occurs; ``data[type].node_id`` has the ids of the graph.

    Names of vertices do not survive the way to PyG and back, for ``HeteroData`` has no place for them, and
    `from_pyg_triples` numbers the vertices type by type: keep ``kg.node_names``. Names of types survive, and those of
    relations that join one pair of types. networkx keeps all names: `to_networkx_triples`.
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
