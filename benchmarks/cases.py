"""The seeded inputs of all benchmarks."""

from __future__ import annotations

import torch
from torch import Tensor

from hgraph.structure import Adjacency, Graph, Hypergraph


def _weighted(adj: Adjacency, generator: torch.Generator) -> Adjacency:
    return adj.with_weight(torch.rand(adj.num_edges, generator=generator) + 0.5)


def uniform(targets: int, sources: int, edges: int, seed: int) -> Adjacency:
    """Weighted edges between random nodes, without duplicates."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(targets, (edges,), generator=generator)
    source = torch.randint(sources, (edges,), generator=generator)
    keys = (target * sources + source).unique()
    adj = Adjacency.from_coo(target=keys // sources, source=keys % sources, num_targets=targets, num_sources=sources)
    return _weighted(adj, generator)


def hyper64() -> tuple[Adjacency, Tensor]:
    """The nodes-to-hyperedges half of HGNN: 20,000 x 50,000, 490 k incidences, F = 64."""
    adj = uniform(20_000, 50_000, 490_000, seed=0)
    return adj, torch.randn(50_000, 64, generator=torch.Generator().manual_seed(1))


def big64() -> tuple[Adjacency, Tensor]:
    """500,000 x 1,000,000, 4.78 M edges, F = 64."""
    adj = uniform(500_000, 1_000_000, 4_780_000, seed=0)
    return adj, torch.randn(1_000_000, 64, generator=torch.Generator().manual_seed(1))


def arxiv128(nodes: int = 169_343, edges: int = 1_430_000, channels: int = 128) -> tuple[Adjacency, Tensor]:
    """The size of ogbn-arxiv: power law on both ends, random node order, self-loops, F = 128."""
    generator = torch.Generator().manual_seed(0)

    def draw() -> Tensor:  # ranks with P(rank) ~ rank^-0.6, shuffled
        rank = (torch.rand(edges, generator=generator).pow(1 / 0.4) * nodes).long().clamp(max=nodes - 1)
        return torch.randperm(nodes, generator=generator)[rank]

    loops = torch.arange(nodes) * (nodes + 1)
    keys = torch.cat([draw() * nodes + draw(), loops]).unique()
    extra = len(keys) - edges
    if extra > 0:
        drop = keys // nodes != keys % nodes
        at = drop.nonzero().flatten()
        keep = torch.ones(len(keys), dtype=torch.bool)
        keep[at[torch.randperm(len(at), generator=generator)[:extra]]] = False
        keys = keys[keep]
    adj = Adjacency.from_coo(target=keys // nodes, source=keys % nodes, num_targets=nodes, num_sources=nodes)
    return _weighted(adj, generator), torch.randn(nodes, channels, generator=torch.Generator().manual_seed(1))


def cora16() -> tuple[Adjacency, Tensor]:
    """A graph of Cora's size with its self-loops, F = 16: measures the overhead of a call."""
    edge_index, _, _ = cora()
    loops = torch.arange(2708).expand(2, -1)
    source, target = torch.cat([edge_index, loops], 1)
    adj = Adjacency.from_coo(target=target, source=source, num_targets=2708, num_sources=2708)
    generator = torch.Generator().manual_seed(1)
    return _weighted(adj, generator), torch.randn(2708, 16, generator=generator)


SUMS = {"cora16": cora16, "hyper64": hyper64, "arxiv128": arxiv128, "big64": big64}


def arxiv() -> tuple[Tensor, Tensor, Tensor]:
    """The graph of `arxiv128`: edge_index with loops, features [N, 128], labels of 40 classes."""
    adj, x = arxiv128()
    y = torch.randint(40, (len(x),), generator=torch.Generator().manual_seed(2))
    return torch.stack([adj.indices, adj.target]).long(), x, y


def grown(edges: int, channels: int = 32) -> tuple[Adjacency, Tensor]:
    """Ten edges per node, uniform, random order: the same kind of graph at any size."""
    nodes = edges // 10
    adj = uniform(nodes, nodes, edges, seed=0)
    return adj, torch.randn(nodes, channels, generator=torch.Generator().manual_seed(1))


def mesh(side: int = 700) -> Graph:
    """Eight neighbors on a side x side torus with random node ids: locality hidden by the numbering."""
    at = torch.arange(side * side).view(side, side)
    steps = ((0, 1), (1, 0), (1, 1), (1, -1))
    edges = torch.cat([torch.stack([at.flatten(), at.roll((-a, -b), (0, 1)).flatten()]) for a, b in steps], 1)
    name = torch.randperm(side * side, generator=torch.Generator().manual_seed(0))
    return Graph.from_edge_index(name[edges], num_nodes=side * side, directed=False)


def communities(nodes: int = 400_000, size: int = 200, degree: int = 10) -> Graph:
    """Groups of ``size`` nodes with random node ids; nine of ten edges are inside a group."""
    generator = torch.Generator().manual_seed(0)
    one = torch.arange(nodes).repeat_interleave(degree // 2)
    near = one // size * size + torch.randint(size, one.shape, generator=generator)
    far = torch.randint(nodes, one.shape, generator=generator)
    other = torch.where(torch.rand(one.shape, generator=generator) < 0.9, near, far)
    keep = one != other
    pairs = torch.stack([torch.minimum(one, other), torch.maximum(one, other)])[:, keep].unique(dim=1)
    name = torch.randperm(nodes, generator=generator)
    return Graph.from_edge_index(name[pairs], num_nodes=nodes, directed=False)


def hypergraph50k() -> tuple[Hypergraph, Tensor, Tensor]:
    """50,000 nodes, 20,000 hyperedges, 490 k incidences; features [N, 64], labels of 16 classes."""
    adj, x = hyper64()
    y = torch.randint(16, (50_000,), generator=torch.Generator().manual_seed(2))
    return Hypergraph(adj.with_weight(None)), x, y


def cora() -> tuple[Tensor, Tensor, Tensor]:
    """A graph of Cora's size: edge_index of 10,556 directed edges, features [2708, 1433] (1.3 % ones), labels."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randint(2708, (2, 8000), generator=generator)
    pairs = torch.stack([pairs.amin(0), pairs.amax(0)])
    pairs = pairs[:, pairs[0] != pairs[1]].unique(dim=1)
    pairs = pairs[:, torch.randperm(pairs.shape[1], generator=generator)[:5278]]
    x = (torch.rand(2708, 1433, generator=generator) < 0.0127).float()
    y = torch.randint(7, (2708,), generator=generator)
    return torch.cat([pairs, pairs.flip(0)], 1), x / x.sum(1, keepdim=True).clamp(min=1), y
