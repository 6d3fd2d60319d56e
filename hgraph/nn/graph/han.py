"""Heterogeneous graph attention (Wang et al., WWW 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.graph.by_type import TypeLinear
from hgraph.nn.graph.gat import GATConv
from hgraph.structure import Graph

__all__ = ["HANConv"]


class HANConv(nn.Module):
    r"""Attend over the neighbors along each meta-path, then over the meta-paths.

    Use it when nodes of one type are connected by several meta-paths of different importance.

    .. math:: z^p = \mathrm{ELU}(\mathrm{GAT}_p(x; G_p)), \qquad
              \beta = \operatorname{softmax}_p \frac1N \sum_i q \cdot \tanh(W z^p_i + b), \qquad
              x' = \sum_p \beta_p z^p

    If each node type has its own number of features, :math:`x_v` stands for :math:`W_{\tau(v)} x_v + b_{\tau(v)}`,
    with H * F' features. The graph of a meta-path joins its end nodes: one relation's `KnowledgeGraph.view`, or the
    composition of several, ``Graph(a.adj @ b.adj)``.

    Args:
        in_channels: F, features of a node, or a list of the widths F_t, one per node type.
        out_channels: F', features per head.
        num_paths: P.
        num_heads: number of heads H of each meta-path.
        semantic_channels: width of the attention over the meta-paths.
        dropout: of the attention weights, in training.

    Shapes:
        x [..., N, F] and P `Graph`s of N nodes -> [..., N, H * F'].

        With one width per type, x is a list of [N_t, F_t], where row n of x[t] belongs to the n-th node of type t, and
        ``node_type`` [N] is the type of each node.

    Source: Wang et al., "Heterogeneous Graph Attention Network", eq. 1 to 9 (eq. 1 with one width per type). As in the
    published code, every meta-path has its own projection.

    >>> from hgraph.structure import KnowledgeGraph
    >>> kg = KnowledgeGraph.from_names([("a", "r", "b"), ("b", "s", "c")])
    >>> paths = [kg.view("r"), Graph(kg.view("r").adj @ kg.view("s").adj)]
    >>> HANConv(4, 2, num_paths=2, num_heads=3)(torch.randn(3, 4), paths).shape
    torch.Size([3, 6])
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        out_channels: int,
        num_paths: int,
        *,
        num_heads: int = 1,
        semantic_channels: int = 128,
        dropout: float = 0.0,
    ) -> None:
        check_channels(num_paths=num_paths, semantic_channels=semantic_channels)
        super().__init__()
        self.input = None if isinstance(in_channels, int) else TypeLinear(in_channels, num_heads * out_channels)
        in_channels = in_channels if isinstance(in_channels, int) else num_heads * out_channels
        self.paths = nn.ModuleList(
            GATConv(in_channels, out_channels, num_heads=num_heads, dropout=dropout) for _ in range(num_paths)
        )
        self.weight = nn.Parameter(torch.empty(num_heads * out_channels, semantic_channels))
        self.bias = nn.Parameter(torch.empty(semantic_channels))
        self.query = nn.Parameter(torch.empty(semantic_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot-uniform, zero bias."""
        if self.input is not None:
            self.input.reset_parameters()
        for path in self.paths:
            path.reset_parameters()  # type: ignore[operator]
        nn.init.xavier_uniform_(self.weight)
        nn.init.xavier_uniform_(self.query.data.view(1, -1))
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor | Sequence[Tensor], graphs: Sequence[Graph], node_type: Tensor | None = None) -> Tensor:
        """Attend along every meta-path, then over the meta-paths."""
        several = isinstance(graphs, Sequence)
        if not several or len(graphs) != len(self.paths):
            got, hint = (
                (len(graphs), "")
                if several
                else (f"one {type(graphs).__name__}", "Use kg.view(relation) for one relation")
            )
            raise ArgumentError("graphs", f"{len(self.paths)} graphs, one per meta-path", got, hint)
        x = x if self.input is None else self.input(x, node_type)
        z = torch.stack([F.elu(path(x, graph)) for path, graph in zip(self.paths, graphs, strict=True)])
        score = torch.tanh(z @ self.weight + self.bias) @ self.query  # [P, N]
        total = score.sum(-1, dtype=torch.promote_types(score.dtype, torch.float32))  # 65,504 is all float16 can hold
        beta = torch.softmax(total / max(score.shape[-1], 1), 0).to(z.dtype)
        return torch.einsum("p...,p...nf->...nf", beta, z)
