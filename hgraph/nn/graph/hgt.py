"""Heterogeneous graph transformer (Hu et al., WWW 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.cache import cached
from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.graph.by_relation import propagate_by_relation
from hgraph.nn.graph.by_type import TypeLinear, inputs_by_type, map_by_type, types_of
from hgraph.nn.inputs import check_inputs
from hgraph.ops import edge_score, edge_softmax
from hgraph.ops.sparse.linear import upcast
from hgraph.structure import KnowledgeGraph

__all__ = ["HGTConv"]


class HGTConv(nn.Module):
    r"""Attend over all triples of a head, with a map per node type and a matrix per relation.

    Use it on graphs with several node and edge types.

    .. math:: s_{hrt} = \frac{\mu_r}{\sqrt{D}}\, (K_{\tau(t)} x_t)\, W^a_r \cdot Q_{\tau(h)} x_h, \qquad
              \alpha_{hrt} = \operatorname{softmax}_{(r', t') \in \mathcal N_h} s_{hr't'}, \qquad
              x'_h = x_h + A_{\tau(h)}\, \mathrm{GELU} \sum_{(h, r, t)} \alpha_{hrt}\, (M_{\tau(t)} x_t)\, W^m_r

    for each of H heads of width D = F / H; :math:`\tau` is the type of a node. K, Q, M, A are linear maps with a
    bias, one per type. With ``in_channels``, :math:`x_v` stands for :math:`W_{\tau(v)} x_v + b_{\tau(v)}`, which maps
    the F_t features of each type to F. Triples are processed by relation, and nodes are transformed once per relation,
    so only scores are stored per edge.

    Args:
        channels: F, a multiple of num_heads.
        num_relations: R.
        num_types: number of node types. The default is one per width in ``in_channels``, or 1, which ignores types.
        num_heads: H.
        in_channels: the width of the features of each type, or None if all have F features.

    Shapes:
        x [N, F] and a `KnowledgeGraph` of N nodes and R relations -> [N, F]. Its weights are ignored.

        With ``in_channels``, x is a list of [N_t, F_t]: row n of x[t] belongs to the n-th node of type t.

    Raises:
        ArgumentError: features of the wrong width, or a graph with a different number of relations or with more types.

    Source: Hu et al., "Heterogeneous Graph Transformer", eq. 3 to 5, with a prior :math:`\mu` for each relation. The
    published code adds a learned residual weight and layer norm.

    >>> kg = KnowledgeGraph.from_names([("a", "r", "b"), ("b", "s", "c")])
    >>> HGTConv(4, num_relations=2, num_heads=2)(torch.randn(3, 4), kg).shape
    torch.Size([3, 4])
    >>> kg = KnowledgeGraph.from_triples(
    ...     head=[0, 2], relation=[0, 0], tail=[1, 1], num_nodes=3, num_relations=1, node_type=[0, 1, 0]
    ... )
    >>> HGTConv(4, num_relations=1, in_channels=[3, 5])([torch.randn(2, 3), torch.randn(1, 5)], kg).shape
    torch.Size([3, 4])
    """

    def __init__(
        self,
        channels: int,
        num_relations: int,
        *,
        num_types: int | None = None,
        num_heads: int = 1,
        in_channels: Sequence[int] | None = None,
    ) -> None:
        num_types = types_of(num_types, in_channels)
        check_channels(channels=channels, num_relations=num_relations, num_types=num_types, num_heads=num_heads)
        if channels % num_heads:
            raise ArgumentError("num_heads", f"a divisor of {channels} (channels)", num_heads)
        super().__init__()
        self.channels, self.num_relations, self.num_types, self.num_heads = (
            channels,
            num_relations,
            num_types,
            num_heads,
        )
        width = channels // num_heads
        self.input = None if in_channels is None else TypeLinear(in_channels, channels)
        self.weight = nn.Parameter(torch.empty(4, num_types, channels, channels))  # K, Q, M, A
        self.bias = nn.Parameter(torch.empty(4, num_types, channels))
        self.attention = nn.Parameter(torch.empty(num_relations, num_heads, width, width))
        self.message = nn.Parameter(torch.empty(num_relations, num_heads, width, width))
        self.prior = nn.Parameter(torch.empty(num_relations, num_heads))
        self.reset_parameters()

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.channels}, {self.num_relations}, num_types={self.num_types}, num_heads={self.num_heads}"

    def reset_parameters(self) -> None:
        """Glorot-uniform per matrix; zero biases, priors of one."""
        for stack in (self.weight, self.attention, self.message):
            for matrix in stack.data.flatten(0, -3):
                nn.init.xavier_uniform_(matrix)
        nn.init.zeros_(self.bias)
        nn.init.ones_(self.prior)
        if self.input is not None:
            self.input.reset_parameters()

    def forward(self, x: Tensor | Sequence[Tensor], kg: KnowledgeGraph) -> Tensor:
        """Attend by relation."""
        x = inputs_by_type(x, kg, self.input)
        check_inputs(x, kg, KnowledgeGraph, self.channels, self.weight)
        if x.dim() != 2:
            raise ArgumentError("x", f"shape [N, {self.channels}]", f"shape {list(x.shape)}")
        if kg.num_relations != self.num_relations:
            raise ArgumentError("kg", f"{self.num_relations} relations, as in the layer", kg.num_relations)
        key, query, value = (self._typed(x, kg, which).unflatten(-1, (self.num_heads, -1)) for which in range(3))
        alpha = self._attention(key, query, kg)
        messages = self.message.unbind(0)

        def turn(rows: Tensor, relation: int) -> Tensor:
            return torch.einsum("phd,hde->phe", rows.unflatten(-1, (self.num_heads, -1)), messages[relation]).flatten(1)

        # the map is applied to the sum over a relation's tails, not to each tail
        received = propagate_by_relation(kg, value.flatten(1), alpha, turn)
        return x + self._typed(F.gelu(received), kg, 3)

    def _typed(self, x: Tensor, kg: KnowledgeGraph, which: int) -> Tensor:
        return map_by_type(kg, x, self.weight[which], self.bias[which])

    def _attention(self, key: Tensor, query: Tensor, kg: KnowledgeGraph) -> Tensor:
        """[E, H] the attention weights over each head's triples."""
        key, query = upcast(key), upcast(query)  # a score above 65,504 would be infinite in float16, and its weight NaN
        scores, matrices = [], upcast(self.attention).unbind(0)
        for block in kg.blocks():
            turned = torch.einsum("nhd,hde->nhe", key.index_select(0, block.tail), matrices[block.relation])
            turned = turned * self.prior[block.relation].unsqueeze(-1) / key.shape[-1] ** 0.5
            scores.append(edge_score(block.adj, query.index_select(0, block.head), turned))
        if not scores:
            return key.new_zeros(0, self.num_heads)
        place = cached(kg, "place_in_by_relation", lambda: torch.argsort(kg.by_relation.long()))
        return edge_softmax(kg.adj, torch.cat(scores).index_select(0, place))
