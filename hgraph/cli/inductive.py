"""Appends new nodes, with their features and hyperedges or edges, to the data of a trained network."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hgraph.cli.reading import TableOptions
from hgraph.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from hgraph.data import Data
    from hgraph.datasets.tables.table import Table
    from hgraph.structure import Graph, Hypergraph

__all__ = ["joins_neighbors", "with_new_nodes"]


def with_new_nodes(data: Data, nodes: Path, links: dict[str, Path | None], reading: TableOptions | None = None) -> Data:
    """Append the rows of a table to the data as new nodes; the result has no splits.

    Args:
        data: the network's input, with the ``encoder`` and the ``node_names`` of the tables it was built from.
        nodes: one row per new node, with its id and the columns of the features.
        links: ``hyperedges`` or ``edges`` among new nodes and between new and known nodes; with both None, the new
            nodes are isolated, or, where hyperedges join nearest neighbors (`joins_neighbors`), each gets a hyperedge
            with the known nodes of the nearest features. A hyperedge with a known name gets additional members.
        reading: how the tables are read; its columns are roles of all tables, or features of the nodes file. Its
            delimiter is that of the nodes file.

    Raises:
        ArgumentError: the data has no named columns and nodes, or a new node has the id of a known one.
        DataError: a table cannot be read, or refers to nodes that are neither known nor new.
    """
    import dataclasses

    import torch

    from hgraph.datasets import from_tables, read_table
    from hgraph.datasets.tables.ids import unique
    from hgraph.datasets.tables.roles import ROLES, Roles
    from hgraph.structure import Graph

    encoder, names = data.meta.get("encoder"), data.meta.get("node_names")
    if encoder is None or names is None:
        hint = "Build the data set with `hgraph datasets build --nodes NODES`"
        raise ArgumentError("run", "a run trained on a data set built with node ids and columns", "another run", hint)
    reading = reading or TableOptions()
    missing_texts = reading.missing_with(encoder.missing)
    columns, encoder = reading.columns, encoder.read_with(decimal=reading.decimal, missing=missing_texts)
    features = {c.name for c in encoder.codings} - set(ROLES)
    for name in columns:
        if name not in features and name not in ROLES:
            raise ArgumentError("column", f"roles or columns of the network: {sorted(features)}", repr(name))
    table = read_table(nodes, delimiter=reading.delimiter, decimal=encoder.decimal)
    table = table.renamed({new: old for new, old in columns.items() if new in features})
    columns = _as_built(data, table, ("id",)) | columns
    key = Roles(table, {k: v for k, v in columns.items() if k == "id"}).need("id")[0]
    new_names = list(unique(table, key, "node"))
    known = set(map(str, names))
    if duplicates := [name for name in new_names if name in known]:
        raise ArgumentError("rows", "ids of new nodes only", f"{duplicates[0]!r}, a node of the training data")
    missing = [c.name for c in encoder.codings if c.name not in table.columns]
    if missing:
        raise DataError(f"{nodes}: expected the columns {missing} of the network, got {list(table.columns)}")
    is_graph, ids = isinstance(data.structure, Graph), [*map(str, names), *new_names]
    kind = "edges" if is_graph else "hyperedges"
    added: tuple[Any, Any] = (_empty(is_graph, len(ids)), ())
    if any(links.values()):
        if links[kind] is None:
            raise ArgumentError(kind, f"the {kind} of the new nodes, because the network uses {kind}", "the other kind")
        linked = _links(links[kind])
        saved = {} if isinstance(linked, Path) else _as_built(data, linked, set(ROLES) - {"id"})
        others = saved | {role: column for role, column in columns.items() if role != "id" and role in ROLES}
        directed = isinstance(data.structure, Graph) and data.structure.directed
        options: Any = {kind: linked, "columns": others, "directed": directed, "decimal": reading.decimal}
        made = from_tables({"id": ids}, **options)[0]
        added = made.structure, made.meta.get("hyperedge_names") or ()
    x = torch.cat([data.x, encoder.transform(table).to(data.x)])
    if joins_neighbors(data) and not any(links.values()):
        added = _nearest(data, x[data.num_nodes :]), ()
    y = torch.cat(
        [data.y, data.y.new_full((len(new_names), *data.y.shape[1:]), torch.nan if data.y.is_floating_point() else -1)]
    )
    structure: Any = data.structure
    if is_graph:
        joined: Graph | Hypergraph = _joined_graphs(structure, added[0])
    else:
        joined = _joined_hypergraphs(structure, added[0], data.meta.get("hyperedge_names") or (), added[1])
    meta = dict(data.meta) | {
        "columns": columns,
        "node_names": ids,
        "node_name_type": "integer" if table[key].whole else "text",
    }
    return dataclasses.replace(data, structure=joined, x=x, y=y, meta=meta, splits={})


def _as_built(data: Data, table: Table, roles: Collection[str]) -> dict[str, str]:
    """Role -> the column that had it when the data set was built, if the table has this column."""
    saved = dict(data.meta.get("columns") or {})
    return {role: column for role, column in saved.items() if role in roles and column in table.columns}


def _links(path: Path | None) -> Table | Path:
    """The table of links, or the path of a file of another form, which has no columns."""
    from hgraph.datasets import read_table

    assert path is not None  # noqa: S101 - checked by the caller
    is_table = path.suffix.lower() in (".csv", ".tsv", ".txt", ".parquet", ".pq")
    return read_table(path, name=str(path)) if is_table else path


def joins_neighbors(data: Data) -> bool:
    """Whether the hyperedges were made from the features, one per node with its nearest neighbors."""
    from hgraph.data.derived import STRUCTURE_FROM

    recipe = data.meta.get(STRUCTURE_FROM)
    return isinstance(recipe, dict) and recipe.get("builder") == "knn_hypergraph"


def _nearest(data: Data, x: Any) -> Hypergraph:
    """A hyperedge per new node: itself and its nearest known nodes, so that rows do not depend on each other."""
    import torch

    from hgraph.builders.points import nearest_to
    from hgraph.data.derived import STRUCTURE_FROM
    from hgraph.structure import Hypergraph

    recipe = data.meta[STRUCTURE_FROM]
    near = nearest_to(x.cpu(), data.x.cpu(), recipe["k"], metric=recipe.get("metric", "euclidean"))
    own = torch.arange(data.num_nodes, data.num_nodes + len(x))
    return Hypergraph.from_lists(torch.cat([own[:, None], near], 1).tolist(), num_nodes=data.num_nodes + len(x))


def _empty(is_graph: bool, num_nodes: int) -> Graph | Hypergraph:
    from hgraph.structure import Graph, Hypergraph

    if is_graph:
        return Graph.from_edge_index([[], []], num_nodes=num_nodes, directed=True)
    return Hypergraph.from_lists([], num_nodes=num_nodes)


def _joined_graphs(one: Graph, two: Graph) -> Graph:
    """Union of the edges on the nodes of the second graph; an edge in both keeps the weight of the first."""
    import torch

    from hgraph.structure import Graph

    edges = torch.cat([one.edge_index, two.edge_index], 1)
    weight = _weights(one.adj.weight, one.num_edges, two.adj.weight, two.num_edges)
    first = _first(edges[0] * two.num_nodes + edges[1])
    return Graph.from_edge_index(
        edges[:, first], num_nodes=two.num_nodes, directed=True, weight=None if weight is None else weight[first]
    )


def _joined_hypergraphs(one: Hypergraph, two: Hypergraph, names: Sequence[str], new_names: Sequence[str]) -> Hypergraph:
    """Union of the memberships on the nodes of the second hypergraph; hyperedges with equal names are merged."""
    import torch

    from hgraph.structure import Hypergraph

    place = {str(name): i for i, name in enumerate(names)}
    ids: list[int] = []
    fresh: list[int] = []
    for at in range(two.num_hyperedges):
        known = place.get(str(new_names[at])) if new_names else None
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
    """Positions of the first occurrence of each number, ascending."""
    import torch

    order = torch.sort(code, stable=True)
    new = torch.ones_like(code, dtype=torch.bool)
    new[1:] = order.values[1:] != order.values[:-1]
    return order.indices[new].sort().values


def _weights(one: Any, count: int, two: Any, num_new: int) -> Any:
    """Concatenated weights, with 1 for a structure without weights; None if neither has weights."""
    import torch

    if one is None and two is None:
        return None
    return torch.cat([torch.ones(n) if w is None else w.float() for w, n in ((one, count), (two, num_new))])
