"""Relational graph convolution (Schlichtkrull et al., ESWC 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.graph.by_relation import inverse_counts, propagate_by_relation
from hgraph.nn.inputs import check_inputs
from hgraph.ops import propagate
from hgraph.structure import KnowledgeGraph

__all__ = ["RGCNConv"]


class RGCNConv(nn.Module):
    r"""Mean over the triples of each relation, through a matrix of that relation, plus the head itself.

    Use it on graphs with several edge types; with many relations, pass a basis or block-diagonal decomposition.

    .. math:: x'_h = W_0 x_h + b + \sum_r \sum_{(h, r, t)} \frac{1}{c_{hr}} W_r x_t

    with :math:`c_{hr}` the number of triples of h under r; on a weighted graph the weights replace :math:`1 / c`. Many
    relations share parameters in one of two ways: :math:`W_r = \sum_b a_{rb} V_b` (``num_bases``), or :math:`W_r` is
    block-diagonal (``num_blocks``).

    With bases the triples are summed once per basis, weighted by :math:`a_{rb} / c`: memory per edge is a few
    numbers. Otherwise memory is one row for each head of each relation.

    Args:
        in_channels: F.
        out_channels: F'.
        num_relations: R.
        num_bases: B, or None.
        num_blocks: Q, which divides F and F', or None.
        root: whether to add the term W_0 of the head itself.
        bias: whether to add b.

    Shapes:
        x [..., N, F] and a `KnowledgeGraph` of N nodes and R relations -> [..., N, F'].

    Source: Schlichtkrull et al., "Modeling Relational Data with Graph Convolutional Networks", eq. 2 to 4.
    Add the inverse relations of the paper with `KnowledgeGraph.with_inverses`.

    >>> kg = KnowledgeGraph.from_names([("a", "r", "b"), ("b", "s", "c")])
    >>> RGCNConv(4, 2, num_relations=2, num_bases=1)(torch.randn(3, 4), kg).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_relations: int,
        *,
        num_bases: int | None = None,
        num_blocks: int | None = None,
        root: bool = True,
        bias: bool = True,
    ) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels, num_relations=num_relations)
        if num_bases is not None and num_blocks is not None:
            raise ArgumentError("num_bases, num_blocks", "at most one of the two", f"{num_bases} and {num_blocks}")
        blocks = 1 if num_blocks is None else num_blocks
        if blocks < 1 or in_channels % blocks or out_channels % blocks:
            raise ArgumentError("num_blocks", f"a divisor of {in_channels} and {out_channels}", num_blocks)
        if num_bases is not None and num_bases < 1:
            raise ArgumentError("num_bases", "1 or more", num_bases)
        super().__init__()
        self.in_channels, self.out_channels, self.num_relations = in_channels, out_channels, num_relations
        matrices = num_relations if num_bases is None else num_bases
        self.weight = nn.Parameter(torch.empty(matrices, blocks, in_channels // blocks, out_channels // blocks))
        self.share = None if num_bases is None else nn.Parameter(torch.empty(num_relations, num_bases))
        self.root = nn.Parameter(torch.empty(in_channels, out_channels)) if root else None
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def extra_repr(self) -> str:
        """The sizes."""
        matrices, blocks = self.weight.shape[:2]
        return f"{self.in_channels}, {self.out_channels}, {self.num_relations}, matrices={matrices}, blocks={blocks}"

    def reset_parameters(self) -> None:
        """Glorot-uniform per matrix; zero bias."""
        for matrix in [*self.weight.data.flatten(0, 1), self.share, self.root]:
            if matrix is not None:
                nn.init.xavier_uniform_(matrix)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, kg: KnowledgeGraph) -> Tensor:
        """Aggregate by relation."""
        check_inputs(x, kg, KnowledgeGraph, self.in_channels, self.weight)
        if kg.num_relations != self.num_relations:
            raise ArgumentError("kg", f"{self.num_relations} relations, as in the layer", kg.num_relations)
        norm = inverse_counts(kg).to(x.dtype) if kg.adj.weight is None else kg.adj.weight
        out = self._by_relation(x, kg, norm) if self.share is None else self._by_basis(x, kg, norm, self.share)
        out = out if self.root is None else out + x @ self.root
        return out if self.bias is None else out + self.bias.to(out.dtype)

    def _by_basis(self, x: Tensor, kg: KnowledgeGraph, norm: Tensor, share: Tensor) -> Tensor:
        relation, outputs = kg.relation.long(), []
        for column in share.unbind(1):
            outputs.append(propagate(kg.adj, x, weight=norm.to(column.dtype) * column.index_select(0, relation)))
        return torch.cat(outputs, -1) @ self.weight[:, 0].flatten(0, 1)

    def _by_relation(self, x: Tensor, kg: KnowledgeGraph, norm: Tensor) -> Tensor:
        matrices = self.weight.unbind(0)  # one gradient for all: indexing would allocate a full-size one for each
        return propagate_by_relation(kg, x, norm, lambda rows, relation: _through(rows, matrices[relation]))


def _through(rows: Tensor, blocks: Tensor) -> Tensor:
    """Multiply rows [..., P, F] by a block-diagonal matrix, given as its blocks [Q, F/Q, F'/Q]."""
    if len(blocks) == 1:
        return rows @ blocks[0]
    return (rows.unflatten(-1, (len(blocks), -1)).unsqueeze(-2) @ blocks).flatten(-3)
