"""Positions of nodes in a structure, as features for networks without a structure."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hgraph.errors import ArgumentError
from hgraph.ops import propagate
from hgraph.structure import Adjacency, Graph, Hypergraph

__all__ = ["WithPositions", "extend_positions", "position_features"]


def position_features(structure: Graph | Hypergraph, dim: int = 64, *, num_steps: int = 4, seed: int = 0) -> Tensor:
    r"""Vectors that are similar for nodes connected by short random walks: random vectors, averaged over neighbors.

    Use it to give a network without structure the positions of nodes, see `distill` and its ``positions``.

    .. math:: P = \mathrm{unit}\Big(\sum_{k=1}^{K} \mathrm{unit}(S^k R)\Big), \qquad
              S = D^{-1} A \text{ or } D_v^{-1} H W D_e^{-1} H^\top

    with R [N, dim] normally distributed and unit the division of rows by their length. The inner product of two rows
    estimates how similar the walks from both nodes are.

    Args:
        structure: its weights are used.
        dim: number of coordinates.
        num_steps: K, the length of the walks.
        seed: of R.

    Returns:
        [N, dim] float32 on the structure's device, rows of length 1; 0 for a node without neighbors. Coordinates of
        different structures are not comparable; for nodes that come later see `extend_positions`.

    Raises:
        ArgumentError: fewer than one coordinate or step.

    Source: Chen et al., "Fast and Accurate Network Embeddings via Very Sparse Random Projection", CIKM 2019; NOSMOG
    (Tian et al., ICLR 2023) uses DeepWalk instead.

    >>> two = Hypergraph.from_lists([[0, 1], [2, 3]], num_nodes=5)
    >>> p = position_features(two, 8)
    >>> p.shape, bool(torch.allclose(p[0], p[1], atol=1e-5)), bool((p[4] == 0).all())
    (torch.Size([5, 8]), True, True)
    """
    for name, value in (("dim", dim), ("num_steps", num_steps)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ArgumentError(name, "a whole number, 1 or more", value)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(structure.num_nodes, dim, generator=generator).to(structure.device)
    total = torch.zeros_like(x)
    steps = _walk(structure)
    for _ in range(num_steps):
        for step in steps:
            x = propagate(step, x)
        total += nn.functional.normalize(x)
    return nn.functional.normalize(total)


def _walk(structure: Graph | Hypergraph) -> list[Adjacency]:
    """One step of a random walk as averages, one after the other."""
    if isinstance(structure, Graph):
        return [structure.adj.normalize("row", dtype=torch.float32)]
    e2v, w = structure.e2v, structure.hyperedge_weight
    if w is not None:
        e2v = e2v.with_weight(w[e2v.indices] if e2v.weight is None else w[e2v.indices] * e2v.weight)
    return [structure.v2e.normalize("row", dtype=torch.float32), e2v.normalize("row", dtype=torch.float32)]


def extend_positions(structure: Graph | Hypergraph, positions: Tensor, known: Tensor) -> Tensor:
    r"""Positions of all nodes: unknown ones get the mean of the known nodes around them.

    Use it for nodes that join a structure later, with their edges.

    .. math:: p_v = \operatorname{mean}_{u \sim v,\, u \text{ known}} p_u, \qquad
              p_v = \operatorname{mean}_{e \ni v} \operatorname{mean}_{u \in e,\, u \text{ known}} p_u

    for graphs and hypergraphs; hyperedges without a known node are left out.

    Args:
        structure: on N nodes, known and unknown.
        positions: [N', P] of the known nodes, in the order of ``known``.
        known: [N'] their ids.

    Returns:
        [N, P]; 0 for an unknown node without known neighbors.

    Source: NOSMOG (Tian et al., ICLR 2023), positions of nodes unseen in training.

    >>> path = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
    >>> extend_positions(path, torch.tensor([[2.0], [4.0]]), torch.tensor([0, 2])).flatten().tolist()
    [2.0, 3.0, 4.0]
    """
    placed = positions.new_zeros(structure.num_nodes, positions.shape[1] + 1)
    placed[known] = torch.cat([positions, positions.new_ones(len(known), 1)], 1)  # the last column counts known nodes

    def mean(sums: Tensor) -> Tensor:
        count = sums[:, -1:]
        return torch.cat([sums[:, :-1] / count.clamp(min=1), (count > 0).to(sums.dtype)], 1)

    if isinstance(structure, Graph):
        around = mean(propagate(structure.adj.with_weight(None), placed))
    else:
        hyperedges = mean(propagate(structure.v2e.with_weight(None), placed))
        around = mean(propagate(structure.e2v.with_weight(None), hyperedges))
    out = around[:, :-1]
    out[known] = positions
    return out


class WithPositions(nn.Module):
    """A student of features and positions that also answers rows of features alone: they get position 0.

    Use it to train with `compare` or `distill` and ``positions``; export it as any student.

    Args:
        student: a network of F + P features.
        num_features: F.

    Shapes:
        x [N, F + P] or [N, F] -> [N, C].

    >>> WithPositions(nn.Linear(5, 2), num_features=3)(torch.ones(4, 3)).shape
    torch.Size([4, 2])
    """

    def __init__(self, student: nn.Module, num_features: int) -> None:
        super().__init__()
        self.student, self.num_features = student, num_features
        self.num_positions = next(student.parameters()).shape[-1] - num_features

    def forward(self, x: Tensor) -> Tensor:
        """Logits of rows with or without positions."""
        if x.shape[-1] == self.num_features:
            x = nn.functional.pad(x, (0, self.num_positions))
        return self.student(x)

    @torch.no_grad()
    def folded(self) -> nn.Sequential:
        """The function of rows without positions as Linear and ReLU layers, see `hgraph.models.MLP`."""
        fold: Any = getattr(self.student, "folded", None)
        layers: list[nn.Module] = list(self.student.children() if fold is None else fold())
        at, first = next((i, layer) for i, layer in enumerate(layers) if isinstance(layer, nn.Linear))
        cut = nn.Linear(self.num_features, first.out_features, bias=first.bias is not None)
        cut.load_state_dict(first.state_dict() | {"weight": first.weight[:, : self.num_features]})
        layers[at] = cut.to(first.weight.device, first.weight.dtype)
        return nn.Sequential(*layers)
