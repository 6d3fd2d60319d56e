"""Operations on hypergraphs: clique, star and line graphs, sub-hypergraphs, singletons."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure import algebra, coo
from hgraph.structure.adjacency import Adjacency
from hgraph.structure.graph import Graph
from hgraph.structure.incidence_list import IncidenceList

H = TypeVar("H", bound=IncidenceList)


def clique(hg: IncidenceList) -> Graph:
    """Members of a hyperedge joined pairwise (see `Hypergraph.clique`)."""
    weight = _or_ones(hg.hyperedge_weight, hg.num_hyperedges, hg)[hg.e2v.indices]
    weight = weight if hg.e2v.weight is None else weight * hg.e2v.weight
    return Graph(_without_loops(hg.e2v.with_weight(weight) @ hg.v2e))


def line(hg: IncidenceList) -> Graph:
    """Hyperedges joined by common members (see `Hypergraph.line`)."""
    ones = torch.ones(hg.num_incidences, device=hg.device)
    return Graph(_without_loops(hg.v2e.with_weight(ones) @ hg.e2v.with_weight(None)))


def star(hg: IncidenceList) -> Graph:
    """The bipartite graph of nodes and hyperedges (see `Hypergraph.star`)."""
    node, hyperedge = hg.v2e.indices.long(), hg.v2e.target.long() + hg.num_nodes
    size = hg.num_nodes + hg.num_hyperedges
    weight = None if hg.v2e.weight is None else hg.v2e.weight.repeat(2)
    return Graph(
        Adjacency.from_coo(
            target=torch.cat([hyperedge, node]),
            source=torch.cat([node, hyperedge]),
            weight=weight,
            num_targets=size,
            num_sources=size,
            duplicates="keep",
        )
    )


def touching(hg: IncidenceList, nodes: Tensor) -> Tensor:
    """Hyperedges with at least one member among the nodes (see `Hypergraph.touching`)."""
    nodes = coo.as_indices("nodes", nodes).to(hg.device)
    coo.check_range("nodes", nodes, hg.num_nodes, "nodes")
    _, incidence = algebra.edges_of_rows(hg.e2v, nodes)
    return torch.unique(hg.e2v.indices[incidence]).long()


def subhypergraph(hg: H, nodes: Tensor) -> H:
    """The sub-hypergraph on some nodes (see `Hypergraph.subhypergraph`)."""
    kept = touching(hg, nodes)
    nodes = coo.as_indices("nodes", nodes).to(hg.device)
    if len(torch.unique(nodes)) < len(nodes):
        raise ArgumentError("nodes", "distinct nodes", "repeated nodes")
    v2e = hg.e2v.select(nodes).transpose().select(kept)
    return type(hg)(
        v2e,
        None if hg.hyperedge_weight is None else hg.hyperedge_weight[kept],
        None if hg.node_weight is None else hg.node_weight[nodes],
    )


def with_singletons(hg: H) -> H:
    """Add a singleton hyperedge for every isolated node (see `Hypergraph.with_singletons`)."""
    lonely = (hg.v2e.t_indptr.diff() == 0).nonzero().flatten()
    edges, weight = hg.v2e, hg.v2e.weight
    v2e = Adjacency.from_coo(
        target=torch.cat([edges.target.long(), torch.arange(len(lonely), device=hg.device) + hg.num_hyperedges]),
        source=torch.cat([edges.indices.long(), lonely]),
        weight=None if weight is None else torch.cat([weight, weight.new_ones(len(lonely))]),
        num_targets=hg.num_hyperedges + len(lonely),
        num_sources=hg.num_nodes,
        duplicates="keep",
    )
    weight = hg.hyperedge_weight
    weight = None if weight is None else torch.cat([weight, weight.new_ones(len(lonely))])
    return type(hg)(v2e, weight, hg.node_weight)


def without_repeats(hg: H) -> H:
    """Keep the first of hyperedges with the same members (see `Hypergraph.without_repeats`)."""
    first: dict[tuple[int, ...], int] = {}
    for e, members in enumerate(hg.to_lists()):
        first.setdefault(tuple(members), e)
    kept = torch.tensor(list(first.values()), dtype=torch.long, device=hg.device)
    weight = None if hg.hyperedge_weight is None else hg.hyperedge_weight[kept]
    return type(hg)(hg.v2e.select(kept), weight, hg.node_weight)


def incidence_entries(incidence: Any) -> tuple[Tensor, Tensor, Tensor | None, tuple[int, int]]:
    """(node, hyperedge, weight or None, (N, M)) of a dense, torch-sparse or scipy-sparse incidence matrix."""
    if hasattr(incidence, "tocoo"):  # scipy sparse, without importing it
        coo = incidence.tocoo(copy=True)
        coo.sum_duplicates()  # as scipy reads repeated entries, and torch below
        node, hyperedge = torch.as_tensor(coo.row).long(), torch.as_tensor(coo.col).long()
        values, shape = torch.as_tensor(coo.data), tuple(coo.shape)
    else:
        matrix = torch.as_tensor(incidence)
        if matrix.dim() != 2:
            raise ArgumentError("incidence", "an N x M matrix", f"shape {list(matrix.shape)}")
        matrix = matrix.to_sparse_coo().coalesce()
        (node, hyperedge), values, shape = matrix.indices(), matrix.values(), tuple(matrix.shape)
    if values.is_complex():
        raise ArgumentTypeError("incidence", "real numbers", values.dtype)
    present = values != 0
    node, hyperedge, values = node[present], hyperedge[present], values[present]
    if bool((values == 1).all()):
        return node, hyperedge, None, shape
    return node, hyperedge, values if values.is_floating_point() else values.float(), shape


def _or_ones(weight: Tensor | None, size: int, hg: IncidenceList) -> Tensor:
    return torch.ones(size, device=hg.device) if weight is None else weight


def _without_loops(adj: Adjacency) -> Adjacency:
    keep = adj.indices != adj.target
    return Adjacency.from_coo(
        target=adj.target[keep],
        source=adj.indices[keep],
        weight=None if adj.weight is None else adj.weight[keep],
        num_targets=adj.num_targets,
        num_sources=adj.num_sources,
    )
