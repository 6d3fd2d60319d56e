"""New nodes beside those that a network was trained on: their features, and their hyperedges or edges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hgraph.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from hgraph.data import Data
    from hgraph.structure import Graph, Hypergraph

__all__ = ["with_new_nodes"]


def with_new_nodes(
    data: Data, nodes: Path, links: dict[str, Path | None], columns: dict[str, str], delimiter: str | None = None
) -> Data:
    """The data with the rows of a table as further nodes, after the others, without splits.

    Args:
        data: as the network reads it, with the ``encoder`` and the ``node_names`` of the tables it was built from.
        nodes: one row per new node: its id, and the columns that the network reads.
        links: ``hyperedges`` or ``edges`` of the new nodes, among themselves and with known ones; both None leaves
            them alone. A hyperedge of a known name gets further members.
        columns: which column plays which role, as `from_tables` takes it.
        delimiter: of the nodes' file.

    Raises:
        ArgumentError: data without named columns and nodes, or a new node of a known id.
        DataError: a table that cannot be read, or names nodes that are in neither.
    """
    import dataclasses

    import torch

    from hgraph.datasets import from_tables, read_table
    from hgraph.datasets.tables.ids import unique
    from hgraph.datasets.tables.roles import Roles
    from hgraph.structure import Graph

    encoder, names = data.meta.get("encoder"), data.meta.get("node_names")
    if encoder is None or names is None:
        hint = "Build the data set with `hgraph datasets build --nodes NODES`"
        raise ArgumentError("run", "a network trained on the columns of named nodes", "none of them", hint)
    table = read_table(nodes, delimiter=delimiter)
    key = Roles(table, {k: v for k, v in columns.items() if k == "id"}).need("id")[0]
    own = list(unique(table, key, "node"))
    known = set(map(str, names))
    if again := [name for name in own if name in known]:
        raise ArgumentError("rows", "ids of new nodes", f"{again[0]!r}, which the run knows")
    missing = [c.name for c in encoder.codings if c.name not in table.columns]
    if missing:
        raise DataError(f"{nodes}: expected the columns {missing} that the network reads, got {list(table.columns)}")
    is_graph, ids = isinstance(data.structure, Graph), [*map(str, names), *own]
    kind = "edges" if is_graph else "hyperedges"
    further: tuple[Any, Any] = (_empty(is_graph, len(ids)), ())
    if any(links.values()):
        if links[kind] is None:
            raise ArgumentError(kind, f"the {kind} of the new nodes, as the run has {kind}", "the other kind")
        others = {role: column for role, column in columns.items() if role != "id"}
        directed = isinstance(data.structure, Graph) and data.structure.directed
        given: Any = {kind: links[kind], "columns": others, "directed": directed}
        made = from_tables({"id": ids}, **given)[0]
        further = made.structure, made.meta.get("hyperedge_names", ())
    x = torch.cat([data.x, encoder.transform(table).to(data.x)])
    y = torch.cat(
        [data.y, data.y.new_full((len(own), *data.y.shape[1:]), torch.nan if data.y.is_floating_point() else -1)]
    )
    structure: Any = data.structure
    if is_graph:
        whole: Graph | Hypergraph = _joined_graphs(structure, further[0])
    else:
        whole = _joined_hypergraphs(structure, further[0], data.meta.get("hyperedge_names", ()), further[1])
    meta = dict(data.meta) | {"node_names": ids}
    return dataclasses.replace(data, structure=whole, x=x, y=y, meta=meta, splits={})


def _empty(is_graph: bool, num_nodes: int) -> Graph | Hypergraph:
    from hgraph.structure import Graph, Hypergraph

    if is_graph:
        return Graph.from_edge_index([[], []], num_nodes=num_nodes, directed=True)
    return Hypergraph.from_lists([], num_nodes=num_nodes)


def _joined_graphs(one: Graph, two: Graph) -> Graph:
    """The edges of both on the nodes of the second; an edge of both counts once, with the weight of the first."""
    import torch

    from hgraph.structure import Graph

    edges = torch.cat([one.edge_index, two.edge_index], 1)
    weight = _weights(one.adj.weight, one.num_edges, two.adj.weight, two.num_edges)
    first = _first(edges[0] * two.num_nodes + edges[1])
    return Graph.from_edge_index(
        edges[:, first], num_nodes=two.num_nodes, directed=True, weight=None if weight is None else weight[first]
    )


def _joined_hypergraphs(one: Hypergraph, two: Hypergraph, names: Sequence[str], further: Sequence[str]) -> Hypergraph:
    """The members of both on the nodes of the second; hyperedges of one name are one."""
    import torch

    from hgraph.structure import Hypergraph

    place = {str(name): i for i, name in enumerate(names)}
    ids: list[int] = []
    fresh: list[int] = []
    for at in range(two.num_hyperedges):
        known = place.get(str(further[at])) if further else None
        if known is None:
            known = one.num_hyperedges + len(fresh)
            fresh.append(at)
        ids.append(known)
    node = torch.cat([one.v2e.indices.long(), two.v2e.indices.long()])
    hyperedge = torch.cat([one.v2e.target.long(), torch.tensor(ids, dtype=torch.long)[two.v2e.target.long()]])
    weight = _weights(one.v2e.weight, one.num_incidences, two.v2e.weight, two.num_incidences)
    later = None if two.hyperedge_weight is None else two.hyperedge_weight[fresh]
    first = _first(hyperedge * two.num_nodes + node)
    return Hypergraph.from_coo(
        node=node[first],
        hyperedge=hyperedge[first],
        num_nodes=two.num_nodes,
        num_hyperedges=one.num_hyperedges + len(fresh),
        weight=None if weight is None else weight[first],
        hyperedge_weight=_weights(one.hyperedge_weight, one.num_hyperedges, later, len(fresh)),
        node_weight=_weights(one.node_weight, one.num_nodes, None, two.num_nodes - one.num_nodes),
    )


def _first(code: Any) -> Any:
    """Positions of the first of each number, in their order."""
    import torch

    order = torch.sort(code, stable=True)
    new = torch.ones_like(code, dtype=torch.bool)
    new[1:] = order.values[1:] != order.values[:-1]
    return order.indices[new].sort().values


def _weights(one: Any, count: int, two: Any, further: int) -> Any:
    """Weights of both, ones where one has none; None where neither has."""
    import torch

    if one is None and two is None:
        return None
    return torch.cat([torch.ones(n) if w is None else w.float() for w, n in ((one, count), (two, further))])
