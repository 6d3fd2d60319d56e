"""ED-HNN convolution (Wang, Yang, Liu, Wang and Li, ICLR 2023)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hgraph._torch import is_eager
from hgraph.cache import TensorTable
from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.hypergraph.all_set import AllDeepSetsConv
from hgraph.nn.hypergraph.hgnnp import HGNNPConv
from hgraph.nn.hypergraph.mlp import reset, set_mlp
from hgraph.nn.hypergraph.two_step import steps_of
from hgraph.nn.inputs import check_inputs
from hgraph.ops import propagate
from hgraph.ops.sparse.linear import edges_to_targets, rows, spmm
from hgraph.structure import Adjacency, Hypergraph

__all__ = ["EDHNNConv"]

_ROWS = 1 << 20  # numbers per chunk of messages
_CHUNKS: TensorTable[tuple[int, list[tuple[slice, slice]]]] = TensorTable()


class EDHNNConv(nn.Module):
    r"""Equivariant diffusion: what a hyperedge sends to a node depends on the node too.

    Use it where one message per hyperedge is not enough. The layer keeps the width, so that one layer can be applied
    several times.

    .. math:: m_e = \operatorname*{AGG}_{v \in e} \mathrm{MLP}_1(x_v), \qquad
              m_v = \operatorname*{AGG}_{e \ni v} \mathrm{MLP}_2([x_v \,|\, m_e]), \qquad
              x'_v = \mathrm{MLP}_3\big((1 - \alpha)\, m_v + \alpha\, x^0_v\big)

    The mean is weighted by :math:`h(v, e)` at hyperedges and :math:`w_e h(v, e)` at nodes, the sum likewise.

    Args:
        channels: F, features per node.
        num_mlp_layers: linear maps in the three MLPs. With 0 layers, MLP_1 and MLP_3 are the identity and MLP_2 returns
            :math:`m_e`.
        hidden_channels: features inside the MLPs; None takes F.
        alpha: weight of the first features x0 in each application.
        reduce: ``"mean"`` or ``"sum"``.
        dropout: dropout probability inside the MLPs.
        norm: whether the MLPs use layer norm.

    Shapes:
        x [..., N, F], a `Hypergraph` with N nodes, and x0 [..., N, F] (None takes x) -> [..., N, F]. Messages of
        incidences are computed in chunks, and again in the backward pass, where they need more memory than the features
        and more than 4 MB; compiled code computes all at once.

    Raises:
        ArgumentError: another ``reduce``, alpha outside 0 .. 1, or not three numbers of layers.

    Source: Wang, Yang, Liu, Wang and Li, "Equivariant Hypergraph Diffusion Neural Operators", ICLR 2023, section 3.

    >>> hg = Hypergraph.from_lists([[0, 1, 2], [2, 3]], num_nodes=4)
    >>> EDHNNConv(5)(torch.randn(4, 5), hg).shape
    torch.Size([4, 5])
    """

    def __init__(
        self,
        channels: int,
        *,
        num_mlp_layers: tuple[int, int, int] = (2, 2, 2),
        hidden_channels: int | None = None,
        alpha: float = 0.5,
        reduce: Literal["mean", "sum"] = "mean",
        dropout: float = 0.5,
        norm: bool = True,
    ) -> None:
        check_channels(channels=channels)
        if reduce not in ("mean", "sum"):
            raise ArgumentError("reduce", "'mean' or 'sum'", repr(reduce))
        if not 0 <= alpha <= 1:
            raise ArgumentError("alpha", "a weight from 0 to 1", alpha)
        if len(num_mlp_layers) != 3:
            raise ArgumentError("num_mlp_layers", "three numbers of layers", list(num_mlp_layers))
        super().__init__()
        self.channels, self.alpha, self.reduce = channels, alpha, reduce
        first, second, third = num_mlp_layers
        hidden = channels if hidden_channels is None else hidden_channels

        def mlp(width: int, layers: int) -> nn.Sequential:
            return set_mlp(width, hidden, channels, layers, dropout=dropout, norm=norm)

        self.node_mlp = mlp(channels, first)
        self.incidence_mlp = mlp(2 * channels, second) if second else None
        self.update_mlp = mlp(channels, third)

    def reset_parameters(self) -> None:
        """Reset all MLPs."""
        reset(self)

    def forward(self, x: Tensor, hypergraph: Hypergraph, x0: Tensor | None = None) -> Tensor:
        """Diffuse once over the hyperedges."""
        check_inputs(x, hypergraph, Hypergraph, self.channels, next(self.parameters(), x))
        if x0 is not None and x0.shape != x.shape:
            raise ArgumentError("x0", f"shape {list(x.shape)}, like x", f"shape {list(x0.shape)}")
        steps = steps_of(HGNNPConv if self.reduce == "mean" else AllDeepSetsConv, x, hypergraph)
        z = propagate(steps.gather, self.node_mlp(x))
        if self.incidence_mlp is None:
            received = propagate(steps.scatter, z)
        else:
            received = _from_incidences(self.incidence_mlp, x, z, steps.scatter)
        return self.update_mlp((1 - self.alpha) * received + self.alpha * (x if x0 is None else x0))


def _from_incidences(mlp: nn.Module, x: Tensor, z: Tensor, adj: Adjacency) -> Tensor:
    """[..., T, F]: weighted sums over the edges of each target of ``mlp([x_target | z_source])``.

    A nonlinear message per edge: its sum is no product with a sparse matrix. In eager mode the edges are taken in
    chunks of whole targets, which the backward pass computes again.
    """
    width = 2 * x.shape[-1] * max(x.shape[:-2].numel(), 1)
    size = _edges_per_chunk(adj, width)
    if not is_eager() or adj.num_edges <= size:
        return _messages(mlp, x, z, adj, slice(None), slice(None))
    parts = []
    for targets, edges in _chunks(adj, size):
        keep = torch.is_grad_enabled()
        one = (mlp, x, z, adj, targets, edges)
        parts.append(checkpoint(_messages, *one, use_reentrant=False) if keep else _messages(*one))
    return torch.cat(parts, -2)


def _edges_per_chunk(adj: Adjacency, width: int) -> int:
    """As many as there are rows at least: the backward pass of every chunk adds to the gradients of all rows."""
    return max(_ROWS // width, adj.num_targets + adj.num_sources)


def _messages(mlp: nn.Module, x: Tensor, z: Tensor, adj: Adjacency, targets: slice, edges: slice) -> Tensor:
    at = adj.target[edges], adj.indices[edges]
    message = mlp(torch.cat([x.index_select(-2, at[0]), z.index_select(-2, at[1])], -1))
    weight = None if adj.weight is None else adj.weight[edges].to(message.dtype)
    if edges == slice(None):
        return spmm(edges_to_targets(rows(adj)), weight, message)
    pointers = adj.indptr[targets.start : targets.stop + 1] - adj.indptr[targets.start]
    part = Adjacency.trusted(
        indptr=pointers,
        indices=torch.arange(message.shape[-2], dtype=pointers.dtype, device=x.device),
        num_sources=message.shape[-2],
    )
    return propagate(part, message, weight=weight)


def _chunks(adj: Adjacency, size: int) -> list[tuple[slice, slice]]:
    """Ranges of targets, and of their edges, with about ``size`` edges each; at least one target."""
    found = _CHUNKS.get(adj.indptr)
    if found is not None and found[0] == size:
        return found[1]
    pointers, out, first = adj.indptr.tolist(), [], 0
    while first < adj.num_targets:
        last = first + 1
        while last < adj.num_targets and pointers[last + 1] - pointers[first] <= size:
            last += 1
        out.append((slice(first, last), slice(pointers[first], pointers[last])))
        first = last
    if not adj.indptr.is_inference():
        _CHUNKS.put(adj.indptr, (size, out))
    return out
