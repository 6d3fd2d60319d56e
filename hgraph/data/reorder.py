"""`reorder`: renumber the nodes of a structure for better memory locality."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor

from hgraph.data.data import Data
from hgraph.data.split import Split
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import coo
from hgraph.structure.adjacency import Adjacency
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["Reordered", "reorder"]

T = TypeVar("T", Graph, Hypergraph, Data)

_ROUNDS = 10  # maximum rounds of label propagation; stops early if at most this fraction still changes
_STILL = 0.01


@dataclass(frozen=True, eq=False)
class Reordered(Generic[T]):
    """A renumbered structure, with its permutations.

    Args:
        result: the renumbered input.
        order: [N], the old number of each node: new node i is old node ``order[i]``.
        hyperedge_order: [M], the same for hyperedges; None for a graph.
        edge_order: [E], the same for edges or incidences, both numbered by rows (of ``adj``, of ``v2e``).

    >>> path = Graph.from_edge_index([[0, 2], [2, 1]], num_nodes=3, directed=False)
    >>> new, x = reorder(path), torch.tensor([[0.0], [1.0], [2.0]])
    >>> torch.equal(new.unsort(new.sort(x)), x)
    True
    """

    result: T
    order: Tensor
    hyperedge_order: Tensor | None
    edge_order: Tensor

    def sort(self, x: Tensor) -> Tensor:
        """Permute node rows [N, ...] from the old to the new numbering."""
        return self._rows("x", x).index_select(0, self.order)

    def unsort(self, y: Tensor) -> Tensor:
        """Permute node rows [N, ...] from the new to the old numbering."""
        return self._rows("y", y).index_select(0, coo.inverse(self.order))

    def new_ids(self, nodes: Tensor) -> Tensor:
        """The new ids of old node ids."""
        return coo.inverse(self.order)[nodes.long()]

    def _rows(self, name: str, values: Tensor) -> Tensor:
        if values.dim() == 0 or values.shape[0] != len(self.order):
            got = f"shape {list(values.shape)}"
            raise ArgumentError(name, f"{len(self.order)} rows (one per node)", got)
        return values


def reorder(structure: T, method: Literal["rcm", "degree", "cluster"] = "rcm") -> Reordered[T]:
    r"""Renumber nodes (and hyperedges) so that messages come from nearby rows.

    A sum over neighbors reads rows of ``x`` in the order of the neighbors' ids. If a structure has locality
    (meshes, roads, nearest neighbors, communities) but random ids, renumbering it once keeps those
    rows in cache. Without locality nothing is gained: benchmarks/README.md lists the gain of each method.

    Args:
        structure: a `Graph` (directed ones are ordered as if undirected), a `Hypergraph` (ordered as its
            bipartite graph), or `Data` of either: x, y, splits, and per-node, per-hyperedge or per-edge entries of
            ``meta`` are permuted too.
        method: ``"rcm"``, reverse Cuthill-McKee: neighbors get numbers close to one another, for meshes and nearest
            neighbors. ``"cluster"``: groups from label propagation become contiguous, for communities. ``"degree"``:
            nodes of high degree first, for graphs with hubs.

    Returns:
        `Reordered`: the ``result`` with the permutations; ``sort`` and ``unsort`` permute rows.
        ``sort_edges`` of the result still expects values in the original input order of ``from_coo``.

    Raises:
        ArgumentError: an unknown method; ``Data`` with node numbers in its ``meta`` that cannot be renumbered.
        ArgumentTypeError: not a `Graph`, a `Hypergraph` or `Data`.

    >>> path = Graph.from_edge_index([[0, 3, 1], [3, 1, 2]], num_nodes=4, directed=False)     # 0 - 3 - 1 - 2
    >>> moved = reorder(path)
    >>> moved.result.edge_index.tolist(), moved.order.tolist()
    ([[1, 0, 2, 1, 3, 2], [0, 1, 1, 2, 2, 3]], [2, 1, 3, 0])
    >>> moved.unsort(moved.sort(torch.arange(4))).tolist()
    [0, 1, 2, 3]
    """
    if method not in ("rcm", "degree", "cluster"):
        raise ArgumentError("method", "'rcm', 'degree' or 'cluster'", repr(method))
    if isinstance(structure, Data):
        return _reorder_data(structure, method)
    if isinstance(structure, Graph):
        order = _ORDERS[method](*_both_ways(structure.adj, 0), structure.num_nodes).to(structure.device)
        adj, edges = _renumbered(structure.adj, order, order)
        return Reordered(Graph(adj), order, None, edges)
    if isinstance(structure, Hypergraph):
        return _reorder_hypergraph(structure, method)
    raise ArgumentTypeError("structure", "Graph, Hypergraph or Data", type(structure).__name__)


def _reorder_hypergraph(hg: Hypergraph, method: str) -> Reordered[Hypergraph]:
    n = hg.num_nodes
    both = _ORDERS[method](*_both_ways(hg.v2e, n), n + hg.num_hyperedges).to(hg.device)
    order, hyperedges = both[both < n], both[both >= n] - n
    v2e, edges = _renumbered(hg.v2e, hyperedges, order)
    weight = None if hg.hyperedge_weight is None else hg.hyperedge_weight[hyperedges]
    node_weight = None if hg.node_weight is None else hg.node_weight[order]
    return Reordered(Hypergraph(v2e, weight, node_weight), order, hyperedges, edges)


def _renumbered(adj: Adjacency, targets: Tensor, sources: Tensor) -> tuple[Adjacency, Tensor]:
    """The structure whose row i is old row ``targets[i]`` and whose column j is old column ``sources[j]``, and the old
    ids of its edges."""  # noqa: D205, D209
    new = Adjacency.from_coo(
        target=coo.inverse(targets)[adj.target.long()],
        source=coo.inverse(sources)[adj.indices.long()],
        weight=adj.weight,
        num_targets=adj.num_targets,
        num_sources=adj.num_sources,
        duplicates="keep",
    )
    place = new.input_order  # position of each old edge; the caller's own entries come first
    assert place is not None  # noqa: S101 - from_coo sets it
    first = place if adj.input_order is None else place[adj.input_order.long()]
    return dataclasses.replace(new, input_order=first), coo.inverse(place.long())


# ---------------------------------------------------------------------- orders


def _both_ways(adj: Adjacency, shift: int) -> tuple[Tensor, Tensor]:
    """Every edge in both directions; targets of a bipartite structure are numbered after its sources."""
    target, source = adj.target.long().cpu() + shift, adj.indices.long().cpu()
    return torch.cat([target, source]), torch.cat([source, target])


def _rcm(target: Tensor, source: Tensor, size: int) -> Tensor:
    """Reverse Cuthill-McKee, from scipy."""
    import numpy as np
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    if size == 0:
        return torch.empty(0, dtype=torch.long)
    ones = np.ones(len(target), dtype=np.int8)
    matrix = csr_matrix((ones, (target.numpy(), source.numpy())), shape=(size, size))
    return torch.from_numpy(reverse_cuthill_mckee(matrix, symmetric_mode=True).astype(np.int64))


def _by_degree(target: Tensor, source: Tensor, size: int) -> Tensor:
    """Highest degree first; ties by id."""
    return torch.bincount(target, minlength=size).sort(descending=True, stable=True).indices


def _by_cluster(target: Tensor, source: Tensor, size: int) -> Tensor:
    """Label propagation that updates half of the nodes per round; groups and their members in the order of `_rcm`."""
    import numpy as np

    draw = np.random.default_rng(0)  # which half: random, but reproducible
    rank = coo.inverse(_rcm(target, source, size))
    ends, others, label = target.numpy(), source.numpy(), np.arange(size)
    for _ in range(_ROUNDS):
        found = _commonest(ends, label[others], label)
        differ = found != label
        if differ.sum() <= _STILL * size:
            break
        label = np.where(differ & (draw.random(size) < 0.5), found, label)
    group = torch.from_numpy(label)
    first = torch.full((size,), size).scatter_reduce_(0, group, rank, "amin")  # start of each group
    return coo.lexsort(first[group], rank)


def _commonest(target: Any, label: Any, default: Any) -> Any:
    """The most common label among each node's neighbors (ties: the smallest); the default without neighbors.

    Packs both keys into one number and sorts once, which is several times faster than a sort by two keys.
    """
    import numpy as np

    size = len(default)
    keys = np.sort(target * size + label)
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    if len(starts) == 0:
        return default
    rows, labels = np.divmod(keys[starts], size)
    votes = np.diff(starts, append=len(keys)) * size + (size - 1 - labels)
    begins = np.flatnonzero(np.diff(rows, prepend=-1))
    found = default.copy()
    found[rows[begins]] = size - 1 - np.maximum.reduceat(votes, begins) % size
    return found


_ORDERS = {"rcm": _rcm, "degree": _by_degree, "cluster": _by_cluster}


# ---------------------------------------------------------------------- labeled structures


def _reorder_data(data: Data, method: str) -> Reordered[Data]:
    if "links" in data.meta:
        hint = "Reorder data.structure, and renumber the links with new_ids()"
        raise ArgumentError("structure", "data without node numbers in its meta", "meta['links']", hint)
    moved: Reordered[Any] = reorder(data.structure, method)  # type: ignore[arg-type]
    order, hyperedges, edges = moved.order, moved.hyperedge_order, moved.edge_order
    orders = {"node": order, "hyperedge": hyperedges, "edge": edges}
    of_target = orders.get(data.target)
    new = dataclasses.replace(
        data,
        structure=moved.result,
        x=data.x[order],
        y=data.y if of_target is None else data.y[of_target],
        splits={},
        meta=_meta(data.meta, order, hyperedges, edges),
    )
    splits = {name: _split(data.split(name), new, order, of_target) for name in data.splits}
    return Reordered(dataclasses.replace(new, splits=splits), order, hyperedges, edges)


def _split(split: Split, new: Data, order: Tensor, of_target: Tensor | None) -> Split:
    parts = [split.train, split.val, split.test]
    if of_target is not None:
        parts = [coo.inverse(of_target)[part.long()] for part in parts]
    observed = split.observed
    if observed is not None:
        observed = coo.inverse(order)[observed.long()].sort().values
    return Split(new.structure, parts[0], parts[1], parts[2], observed).rebuilt(new)


def _meta(meta: Mapping[str, Any], order: Tensor, hyperedges: Tensor | None, edges: Tensor) -> dict[str, Any]:
    """Permute the entries of ``meta`` that belong to nodes, hyperedges or edges, by their name and length."""
    heads = {"node_": order, "batch": order, "hyperedge_": hyperedges, "edge_": edges,
             "incidence_": edges, "relation": edges}  # fmt: skip

    def sorted_value(name: str, value: Any) -> Any:
        if name == "node_cells":  # each column is stored as one text, see hgraph.datasets.from_tables
            columns = {column: text.split("\0") for column, text in value.items()}
            return {column: "\0".join(cells[i] for i in order.tolist()) for column, cells in columns.items()}
        by = next((o for head, o in heads.items() if name.startswith(head)), None)
        if by is None or not isinstance(value, (Tensor, list, tuple)) or len(value) != len(by):
            return value
        return value[by] if isinstance(value, Tensor) else type(value)(value[i] for i in by.tolist())

    return {name: sorted_value(name, value) for name, value in meta.items()}
