"""Soft hyperedges computed from node features (SoftHGNN, 2025), also used by YOLOv13's HyperACE."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.nn.padding import without_padding
from hgraph.ops import edge_softmax, propagate
from hgraph.ops.sparse.linear import upcast
from hgraph.structure import SoftAdjacency, SoftHypergraph

__all__ = ["SoftHGNN", "SoftHyperedges", "soft_convolve"]

Axis = Literal["node", "edge"]
Context = Literal["both", "mean", "max"]


class SoftHyperedges(nn.Module):
    r"""Compute M soft hyperedges from the features of N nodes, by similarity to learned, context-dependent prototypes.

    .. math:: c = [\operatorname{mean}_n x_n ; \operatorname{max}_n x_n], \qquad
              P = P_0 + \mathrm{reshape}(W_c c + b_c), \qquad Z = X W_z + b_z

    .. math:: S_{nm} = \frac{1}{h} \sum_i \frac{\langle z_n^{(i)}, p_m^{(i)} \rangle}{\sqrt{D / h}}, \qquad
              A = \operatorname{softmax}_n S

    Use it to learn a hypergraph from features.

    Heads are averaged before the softmax, so h only sets the temperature :math:`1 / (h \sqrt{D / h})`;
    ``per_head=True`` (not in the papers) gives each head its own participation. Dropout acts on the logits S.

    Args:
        dim: D, features per node.
        num_hyperedges: M.
        num_heads: h, a divisor of D.
        dropout: dropout probability of the logits; a dropped logit is 0, which does not remove the node.
        context: ``"mean"``, ``"max"`` or ``"both"``.
        normalize: ``"node"``, as published: the softmax is over nodes, the weights of each hyperedge sum to 1, and both
            directions use them, so a node receives a total weight of about M / N. ``"edge"``: the softmax is over
            hyperedges, the weights of each node sum to 1, and a hyperedge gets the weighted mean of its nodes, so no
            direction shrinks as N grows.
        per_head: whether A is [B, h, N, M], one participation per head.
        context_rank: None, or the rank r of a factorized :math:`W_c`, which has nearly all parameters (not in the
            papers).

    Shapes:
        x [..., N, D], mask None or booleans [..., N] (False for padding) -> `SoftHypergraph` of participation
        [..., N, M], float32 at least. Padding has no effect; a sample with only padding has participation 0.

    Source: "SoftHGNN: Soft Hypergraph Neural Networks for General Visual Recognition" (arXiv 2505.15325),
    soft hyperedge generation; Lei et al., "YOLOv13" (arXiv 2506.17733), adaptive hyperedge generation.

    >>> hyperedges = SoftHyperedges(8, 3, num_heads=2)(torch.randn(2, 5, 8))
    >>> hyperedges, hyperedges.participation.sum(1).round(decimals=4).tolist()[0]
    (SoftHypergraph(batch [2], 5 nodes, 3 hyperedges, float32, cpu), [1.0, 1.0, 1.0])
    """

    def __init__(
        self,
        dim: int,
        num_hyperedges: int,
        num_heads: int = 4,
        *,
        dropout: float = 0.1,
        context: Context = "both",
        normalize: Axis = "node",
        per_head: bool = False,
        context_rank: int | None = None,
    ) -> None:
        check_channels(dim=dim, num_hyperedges=num_hyperedges, num_heads=num_heads)
        if dim % num_heads:
            raise ArgumentError("num_heads", f"a divisor of dim, {dim}", num_heads)
        _one_of("context", context, ("both", "mean", "max"))
        _one_of("normalize", normalize, ("node", "edge"))
        super().__init__()
        self.dim, self.num_hyperedges, self.num_heads = dim, num_hyperedges, num_heads
        self.context, self.normalize, self.per_head = context, normalize, per_head
        self.prototype_base = nn.Parameter(torch.empty(num_hyperedges, dim))
        width = 2 * dim if context == "both" else dim
        self.context_net: nn.Module = nn.Linear(width, num_hyperedges * dim)
        if context_rank is not None:
            check_channels(context_rank=context_rank)
            first = nn.Linear(width, context_rank, bias=False)
            self.context_net = nn.Sequential(first, nn.Linear(context_rank, num_hyperedges * dim))
        self.pre_head_proj = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.prototype_base)

    def extra_repr(self) -> str:
        """Sizes and normalization."""
        return f"{self.dim}, {self.num_hyperedges}, num_heads={self.num_heads}, normalize={self.normalize!r}"

    def reset_parameters(self) -> None:
        """Reset prototypes to Xavier-uniform values, and linear layers."""
        nn.init.xavier_uniform_(self.prototype_base)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> SoftHypergraph:
        """The soft hyperedges of the nodes."""
        return self.hyperedges(self.score(x, mask), mask)

    def score(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [..., M, N] ([..., h, M, N] with ``per_head``) after dropout, float32 at least."""
        check_tokens(x, mask, self.dim)
        x = without_padding(x, mask)
        prototypes = self.prototypes(x, mask)
        z, scale = self.pre_head_proj(x), 1 / math.sqrt(self.dim // self.num_heads)
        if self.per_head:
            z, prototypes = split_heads(z, self.num_heads), split_heads(prototypes, self.num_heads)
        else:  # the mean over heads is the inner product divided by the number of heads
            scale = scale / self.num_heads
        return self.dropout(upcast((prototypes * scale).to(z.dtype) @ z.mT))

    def prototypes(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Prototypes P [..., M, D]: the learned base plus the context-dependent offset."""
        parts = []
        if self.context in ("both", "mean"):
            parts.append(_mean(x, mask))
        if self.context in ("both", "max"):
            parts.append(_max(x, mask))
        offset = self.context_net(torch.cat(parts, -1)).unflatten(-1, (self.num_hyperedges, self.dim))
        return self.prototype_base + offset

    def hyperedges(self, score: Tensor, mask: Tensor | None = None) -> SoftHypergraph:
        """The soft hypergraph of logits, by softmax over the axis in ``normalize``."""
        if mask is not None and self.per_head:
            mask = mask.unsqueeze(-2)
        v2e = SoftAdjacency(score, None if mask is None else mask.unsqueeze(-2))
        if self.normalize == "node":
            v2e = SoftAdjacency(edge_softmax(v2e, score), v2e.mask)
            return SoftHypergraph(v2e, v2e.transpose())
        weight = edge_softmax(v2e.transpose(), score.mT).mT
        mass = weight.sum(-1, keepdim=True)
        mean = weight / torch.where(mass == 0, 1.0, mass)
        return SoftHypergraph(SoftAdjacency(mean, v2e.mask), SoftAdjacency(weight, v2e.mask).transpose())


class SoftHGNN(nn.Module):
    r"""Pass messages from nodes to soft hyperedges computed from their features, and back.

    Use it when no structure is known, for example over image patches or the pixels of a feature map.

    .. math:: H = \mathrm{GELU}(A^\top X W_e + b_e), \qquad X' = X + g \, \mathrm{GELU}(A H W_v + b_v)

    with the participation A of `SoftHyperedges`. The messages are the features themselves. Entries of A are about 1 / N
    and A H is not normalized, so with ``normalize="node"`` the update shrinks as N grows. The cost is linear in N.

    Args:
        dim: D, features per node.
        num_hyperedges: M.
        num_heads: h, a divisor of D.
        dropout: dropout probability of the logits.
        context: see `SoftHyperedges`, also for normalize, per_head and context_rank.
        normalize: ``"node"`` or ``"edge"``.
        per_head: whether each head has its own participation.
        context_rank: None, or the rank of the linear map of the context.
        gate: whether to multiply the update by a learned scalar g, initially 1 (classification, counting); without it,
            this is the block of the detectors, YOLOv13's hypergraph convolution.

    Shapes:
        x [..., N, D], mask None or booleans [..., N] -> [..., N, D]; the mask is True at real nodes. Padding may
        contain any values, also NaN; it is in no hyperedge, and its output is 0.

    Source: "SoftHGNN: Soft Hypergraph Neural Networks for General Visual Recognition" (arXiv 2505.15325); Lei et al.,
    "YOLOv13" (arXiv 2506.17733), hypergraph convolution.

    >>> SoftHGNN(8, num_hyperedges=3)(torch.randn(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        dim: int,
        num_hyperedges: int = 16,
        num_heads: int = 4,
        *,
        dropout: float = 0.1,
        context: Context = "both",
        normalize: Axis = "node",
        per_head: bool = False,
        context_rank: int | None = None,
        gate: bool = True,
    ) -> None:
        super().__init__()
        self.edge_generator = SoftHyperedges(
            dim, num_hyperedges, num_heads, dropout=dropout, context=context, normalize=normalize, per_head=per_head,
            context_rank=context_rank,
        )  # fmt: skip
        self.edge_proj = nn.Sequential(nn.Linear(dim, dim), nn.GELU())
        self.node_proj = nn.Sequential(nn.Linear(dim, dim), nn.GELU())
        self.gate = nn.Parameter(torch.ones(())) if gate else None

    def reset_parameters(self) -> None:
        """Reset `SoftHyperedges` and linear layers, and set the gate to 1."""
        reset_soft(self)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pass messages to hyperedges and back."""
        check_tokens(x, mask, self.edge_generator.dim)
        x = without_padding(x, mask)
        update = soft_convolve(x, self.edge_generator(x, mask), self.edge_proj, self.node_proj)
        if self.gate is not None:
            update = update * self.gate.to(update.dtype)
        return x + without_padding(update, mask)


def soft_convolve(x: Tensor, soft: SoftHypergraph, edge_proj: nn.Module, node_proj: nn.Module) -> Tensor:
    """Nodes -> hyperedges -> nodes over a soft hypergraph; per head if its participation has heads."""
    heads = soft.participation.shape[-3] if soft.participation.dim() > x.dim() else 0
    y = propagate(soft.v2e, split_heads(x, heads) if heads else x)
    y = edge_proj(join_heads(y) if heads else y)
    out = propagate(soft.e2v, split_heads(y, heads) if heads else y)
    return node_proj(join_heads(out) if heads else out)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[..., N, h * d] to [..., h, N, d]."""
    return x.unflatten(-1, (heads, -1)).movedim(-2, -3)


def join_heads(x: Tensor) -> Tensor:
    """[..., h, N, d] to [..., N, h * d]."""
    return x.movedim(-3, -2).flatten(-2)


def reset_soft(layer: nn.Module) -> None:
    """Reset the parameters of a layer with soft hyperedges."""
    for module in layer.modules():
        if isinstance(module, (SoftHyperedges, nn.Linear)):
            module.reset_parameters()
    if getattr(layer, "gate", None) is not None:
        nn.init.ones_(layer.gate)  # type: ignore[arg-type]


def check_tokens(x: Tensor, mask: Tensor | None, dim: int) -> None:
    """Check the width of features and the shape of masks."""
    if not isinstance(x, Tensor):
        raise ArgumentTypeError("x", "a tensor of features", type(x).__name__)
    if x.dim() < 2 or x.shape[-1] != dim:
        raise ArgumentError("x", f"shape [..., N, {dim}]", f"shape {list(x.shape)}")
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise ArgumentTypeError("mask", "booleans, False for padding", got)
    if mask.shape != x.shape[:-1]:
        raise ArgumentError("mask", f"shape {list(x.shape[:-1])}", f"shape {list(mask.shape)}")


def _mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over nodes, summed in float32 at least; 0 without nodes."""
    wide = torch.promote_types(x.dtype, torch.float32)
    if mask is None:
        return (x.sum(-2, dtype=wide) / max(x.shape[-2], 1)).to(x.dtype)
    count = mask.sum(-1, keepdim=True).clamp(min=1)
    return (torch.where(mask.unsqueeze(-1), x, 0.0).sum(-2, dtype=wide) / count).to(x.dtype)


def _max(x: Tensor, mask: Tensor | None) -> Tensor:
    """Maximum over nodes; 0 without nodes. Equal maxima share the gradient."""
    if not x.shape[-2]:
        return x.sum(-2)
    if mask is None:
        return x.amax(-2)
    top = torch.where(mask.unsqueeze(-1), x, float("-inf")).amax(-2)
    return torch.where(mask.any(-1, keepdim=True), top, 0.0)


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ArgumentError(name, " or ".join(map(repr, allowed)), repr(value))
