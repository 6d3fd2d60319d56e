"""`attend`: score, softmax and weighted sum over each target's edges."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hgraph import checks
from hgraph.cache import cached
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.ops.edge import Dot, Score, check_scores, head_axis
from hgraph.ops.random import draw_seed, dropout_mask
from hgraph.ops.soft import soft_attend, soft_score
from hgraph.ops.sparse.additive import additive
from hgraph.ops.sparse.attention import attend as attend_op
from hgraph.ops.sparse.attention import logits as score_logits
from hgraph.ops.sparse.linear import Rows, at_target, rows, upcast
from hgraph.ops.tiles.tokens import Relative, attend_tokens, edge_bias, is_scattered
from hgraph.structure import Adjacency, BlockAdjacency, SoftAdjacency, TokenGraph

__all__ = ["AttendResult", "attend", "attention_weights"]


class AttendResult(NamedTuple):
    """What attention gives.

    Attributes:
        out: [..., T, H, D]; 0 for a target without (unmasked) edges.
        lse: [..., T, H], the log of the sum of exponentiated scores; -inf for a target without (unmasked)
            edges, so sum it only after masking. Float32 where the inputs are half.

    >>> adj = Adjacency.from_coo(target=[0, 0], source=[0, 1], num_targets=2, num_sources=2)
    >>> zeros, v = torch.zeros(2, 1, 1), torch.tensor([[[1.0]], [[3.0]]])
    >>> out, lse = attend(adj, zeros, zeros, v)
    >>> out.flatten().tolist(), lse.flatten()  # the log of 2 equal terms; target 1 has no edge
    ([2.0, 0.0], tensor([0.6931,   -inf]))
    """

    out: Tensor
    lse: Tensor


def attend(
    adj: Adjacency | SoftAdjacency | TokenGraph | BlockAdjacency,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    score: Score | None = None,
    bias: Tensor | Relative | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
    head_mask: Tensor | None = None,
    mask: Tensor | None = None,
) -> AttendResult:
    r"""Softmax attention of every target over its own sources.

    Use it when targets weight their sources by a score of both, as in GAT or a transformer.

    .. math:: s_e = c \cdot \mathrm{score}(q_t, k_s) + b_e, \qquad
              \mathrm{lse}_t = \log \sum_{e \to t} \exp s_e, \qquad
              y_t = \sum_{e: t \leftarrow s} \exp(s_e - \mathrm{lse}_t) \, v_s

    Args:
        adj: the edges; its weights are not read (a multiplicity w is ``bias=log(w)``). Over a `SoftAdjacency` this is
            dense attention under its mask: T x S scores are stored. Over a `TokenGraph` or its tiles it is dense within
            tiles of tokens, with inner products only.
        q: [..., T, H, D] queries ([..., T, H] for ``Additive()``).
        k: [..., S, H_kv, D] keys ([..., S, H_kv] for ``Additive()``); H_kv divides H, and each key head serves
            H / H_kv neighboring query heads.
        v: [..., S, H_kv, D_v] values.
        score: `Dot` (default) or `Additive`.
        bias: [E], [E, H] or, with the batch dimensions of q, [..., E, H], added to the scores, in row-sorted order
            ([..., T, S, H or 1] for a `SoftAdjacency`); -inf masks an edge. A `Relative` for token graphs.
        scale: c; by default :math:`1/\sqrt{D}` for `Dot` and 1 for `Additive`.
        dropout: probability with which an attention weight is dropped; the others are scaled by 1 / (1 - p). Always
            applied when above 0: pass 0 in evaluation.
        generator: the random numbers of the dropout.
        head_mask: boolean [..., T or 1, H]; False where a head gives a target no output. On tiled graphs on a CPU,
            without bias or dropout, long rows skip masked heads entirely.
        mask: boolean [..., S], True at real sources. Padding (False) gets no attention and no gradient, even if it
            contains NaN. A target whose sources are all padding is treated as a target without edges.

    Returns:
        `AttendResult` ``(out [..., T, H, D_v], lse [..., T, H])``, differentiable in q, k, v, bias and a, through
        ``lse`` too. Scores and sums are float32 for half inputs. A NaN or infinity in k or v reaches only the targets
        of its edges over an `Adjacency`; over a `TokenGraph` or its tiles it reaches every target of the tiles that
        list its source, whether there is an edge or not, so use ``mask`` for padding. One in q reaches its own target.

    Raises:
        ArgumentError: shapes, devices, heads or probabilities that do not fit.
        ArgumentTypeError: tensors that are not floating-point, or an unknown score.

    >>> adj = Adjacency.from_coo(target=[0, 0], source=[0, 1], num_targets=2, num_sources=2)
    >>> q, v = torch.zeros(2, 1, 1), torch.tensor([[[1.0]], [[3.0]]])
    >>> result = attend(adj, q, q, v)
    >>> result.out.flatten().tolist(), result.lse.flatten().tolist()
    ([2.0, 0.0], [0.6931471824645996, -inf])
    """
    score = Dot() if score is None else score
    check_scores(adj, q, k, score, TokenGraph, BlockAdjacency)
    batch, heads = _batch(q, score), _heads(q, score)
    checks.floating("v", v, adj.device)
    kv_heads = k.shape[head_axis(score)]
    checks.shape("v", v, [*batch, adj.num_sources, kv_heads, "D_v"], "One row per source, heads as k has")
    if head_mask is not None:
        _check_head_mask(adj, head_mask, batch, heads)
    if mask is not None:
        _check_mask(adj, mask, batch)
        k, v = (torch.where(_beside(mask, x, v.dim() - 3), x, 0.0) for x in (k, v))
    if not 0 <= dropout < 1:
        raise ArgumentError("dropout", "a probability in [0, 1)", dropout)
    call = _Call(score, scale, dropout, generator, head_mask, mask)
    if isinstance(adj, SoftAdjacency):
        out, lse = _over_soft(adj, q, k, v, bias, call)
    elif isinstance(adj, Adjacency):
        out, lse = _over_edges(adj, q, k, v, bias, call)
    elif isinstance(adj, TokenGraph) and _is_edge_by_edge(adj, score):
        edges = cached(adj, "adjacency", adj.adjacency)
        out, lse = _over_edges(edges, q, k, v, edge_bias(adj, bias, heads), call)
    else:
        out, lse = attend_tokens(adj, q, k, v, bias=bias, **call._asdict())
    return _masked(out, lse, head_mask)


class _Call(NamedTuple):
    """The arguments of `attend` that do not depend on the kind of structure."""

    score: Score
    scale: float | None
    dropout: float
    generator: torch.Generator | None
    head_mask: Tensor | None
    mask: Tensor | None


def _is_edge_by_edge(adj: TokenGraph, score: Score) -> bool:
    """Whether the edges of a token graph lie too far apart for tiles; a compiler cannot ask."""
    if not isinstance(score, Dot) or torch.compiler.is_compiling():
        return False
    return cached(adj, "scattered", lambda: is_scattered(adj))


def _over_soft(adj: SoftAdjacency, q: Tensor, k: Tensor, v: Tensor, bias: Any, call: _Call) -> tuple[Tensor, Tensor]:
    heads = _heads(q, call.score)
    _check_bias(adj, bias, heads)
    logits = _soft_logits(q, k, call.score, call.scale, bias)
    if call.mask is not None:
        logits = torch.where(call.mask.unsqueeze(-2).unsqueeze(-2), logits, float("-inf"))
    keep = None
    if call.dropout > 0:
        keep = dropout_mask(draw_seed(call.generator, adj.device), logits, call.dropout)
    return soft_attend(adj, logits, v.repeat_interleave(heads // v.shape[-2], dim=-2), keep)


def _over_edges(adj: Adjacency, q: Tensor, k: Tensor, v: Tensor, bias: Any, call: _Call) -> tuple[Tensor, Tensor]:
    batch, heads = _batch(q, call.score), _heads(q, call.score)
    _check_bias(adj, bias, heads, batch)
    if bias is not None and bias.dim() > 2:
        bias = bias.movedim(-2, 0).flatten(1)  # [E, B * H], as the operators take it
    if call.mask is not None:
        bias = _with_padding(adj, bias, call.mask, batch, heads, q)
    seed = draw_seed(call.generator, adj.device) if call.dropout > 0 else None
    operands = _operands(rows(adj), q, k, call.score, call.scale, bias)
    folded_v = v.movedim(-3, 0).flatten(1, -2)
    out, lse = attend_op(rows(adj), *operands[:2], folded_v, operands[2], seed, call.dropout, *operands[3:])
    return out.unflatten(1, (*batch, heads)).movedim(0, -3), lse.unflatten(1, (*batch, heads)).movedim(0, -2)


def _with_padding(
    adj: Adjacency, bias: Tensor | None, mask: Tensor, batch: torch.Size, heads: int, like: Tensor
) -> Tensor:
    """A bias by edge that is -inf at edges from masked sources: [E, H or 1], by example [E, B * H]."""
    there = mask.expand(*batch, -1) if mask.dim() > 1 else mask
    edges = there.movedim(-1, 0)[adj.indices.long()].flatten(1) if there.dim() > 1 else there[adj.indices.long()]
    more = torch.zeros_like(edges, dtype=upcast(like[:0]).dtype).masked_fill(~edges, float("-inf"))
    if more.dim() == 1:
        more = more.unsqueeze(1)
    else:
        more = more.repeat_interleave(heads, dim=1)
        if bias is not None and (
            bias.dim() == 1 or bias.shape[1] != more.shape[1]
        ):  # else it already has a column per example and head
            bias = _by_head(bias, heads).repeat(1, more.shape[1] // max(heads, 1))
    return more if bias is None else more + (bias.unsqueeze(1) if bias.dim() == 1 else bias)


def _by_head(bias: Tensor, heads: int) -> Tensor:
    """[E, H] of [E] or [E, H]."""
    return bias.unsqueeze(1).expand(-1, heads) if bias.dim() == 1 else bias


def _beside(mask: Tensor, x: Tensor, batch: int) -> Tensor:
    """A mask [..., S] as it multiplies x [..., S, (H, (D))] that has so many batch dimensions."""
    return mask.view(*mask.shape, *(1,) * (x.dim() - batch - 1))


def _masked(out: Tensor, lse: Tensor, head_mask: Tensor | None) -> AttendResult:
    if head_mask is not None:
        out = torch.where(head_mask.unsqueeze(-1), out, 0.0)
        lse = torch.where(head_mask, lse, float("-inf"))
    return AttendResult(out, lse)


def attention_weights(
    adj: Adjacency,
    q: Tensor,
    k: Tensor,
    lse: Tensor,
    *,
    score: Score | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    r"""The attention weights :math:`\alpha_e = \exp(s_e - \mathrm{lse}_t)` that `attend` used but did not return.

    Use it to inspect the weights of an attention that was computed with `attend`.

    Args:
        adj: as given to `attend`, like q, k, score, bias and scale; without batch dimensions.
        q: [T, H, D] or [T, H].
        k: [S, H_kv, D] or [S, H_kv].
        lse: [T, H] of `attend`, or of `merge`, whose weights then sum to 1 over the union.
        score: `Dot` (default) or `Additive`.
        bias: [E] or [E, H].
        scale: as in `attend`.

    Returns:
        [E, H] in row-sorted order, before dropout; 0 on masked edges.

    >>> adj = Adjacency.from_coo(target=[0, 0], source=[0, 1], num_targets=1, num_sources=2)
    >>> q, k, v = torch.zeros(1, 1, 1), torch.zeros(2, 1, 1), torch.zeros(2, 1, 1)
    >>> attention_weights(adj, q, k, attend(adj, q, k, v).lse).flatten().tolist()
    [0.5, 0.5]
    """
    checks.structure(adj, Adjacency)
    score = Dot() if score is None else score
    check_scores(adj, q, k, score)
    if _batch(q, score):
        raise ArgumentError("q", "no batch dimensions", f"shape {list(q.shape)}", "Call it once per example")
    _check_bias(adj, bias, _heads(q, score))
    checks.floating("lse", lse, adj.device)
    checks.shape("lse", lse, [adj.num_targets, _heads(q, score)])
    operands = _operands(rows(adj), q, k, score, scale, bias)
    logits = score_logits(rows(adj), *operands, _heads(q, score))
    lse = torch.where(lse == float("-inf"), float("inf"), lse)  # targets without edges and masked heads
    return torch.exp(logits - at_target(rows(adj), lse.to(logits.dtype)))


def _soft_logits(q: Tensor, k: Tensor, score: Score, scale: float | None, bias: Tensor | None) -> Tensor:
    """Scaled and biased scores [..., H, T, S], float32 at least."""
    q, k = upcast(q), upcast(k)
    k = k.repeat_interleave(q.shape[head_axis(score)] // k.shape[head_axis(score)], dim=head_axis(score))
    if isinstance(score, Dot):
        logits = soft_score(q * (q.shape[-1] ** -0.5 if scale is None else scale), k, slope=None, a=None)
    else:
        logits = soft_score(q, k, slope=score.slope, a=score.a) * (1.0 if scale is None else scale)
    return logits if bias is None else logits + bias.to(logits.dtype).movedim(-1, -3)


class _Operands(NamedTuple):
    """Arguments of the operators (`hgraph.ops.sparse.attention`): batch in the heads, kind of score in the shapes."""

    q: Tensor | None
    k: Tensor | None
    bias: Tensor | None
    scale: float
    slope: float | None


def _operands(adj: Rows, q: Tensor, k: Tensor, score: Score, scale: float | None, bias: Tensor | None) -> _Operands:
    axis = head_axis(score)
    if scale is None:
        scale = q.shape[-1] ** -0.5 if isinstance(score, Dot) else 1.0
    bias = bias.unsqueeze(1) if bias is not None and bias.dim() == 1 else bias
    q, k = q.movedim(axis - 1, 0).flatten(1, axis), k.movedim(axis - 1, 0).flatten(1, axis)
    if isinstance(score, Dot):
        return _Operands(q, k, bias, scale, None)
    if score.a is None:
        return _Operands(q, k, bias, scale, score.slope)
    heads, own = q.shape[1], score.a.shape[0]
    q, k = upcast(q), upcast(k.repeat_interleave(heads // max(k.shape[1], 1), dim=1))
    logits = additive(adj, q, k.to(q.dtype), (score.a.to(q.dtype) * scale).repeat(heads // own, 1), score.slope)
    if bias is not None:
        logits = logits + bias.repeat(1, heads // bias.shape[1]).to(logits.dtype)
    return _Operands(None, None, logits, 1.0, None)


def _heads(q: Tensor, score: Score) -> int:
    return q.shape[head_axis(score)]


def _batch(q: Tensor, score: Score) -> torch.Size:
    return q.shape[: head_axis(score) - 1]


def _flat(q: Tensor, k: Tensor, score: Score) -> tuple[Tensor, Tensor]:
    """q and k with key heads repeated and the batch folded into the heads: [T, B * H(, D)] and [S, B * H(, D)]."""
    axis = head_axis(score)
    k = k.repeat_interleave(q.shape[axis] // k.shape[axis], dim=axis)
    return q.movedim(axis - 1, 0).flatten(1, axis), k.movedim(axis - 1, 0).flatten(1, axis)


def _check_bias(
    adj: Adjacency | SoftAdjacency, bias: Tensor | Relative | None, heads: int, batch: torch.Size = torch.Size()
) -> None:
    if isinstance(bias, Relative):
        raise ArgumentTypeError("bias", "a tensor with the exact edges", "Relative", "It goes with token graphs")
    if bias is not None:
        checks.floating("bias", bias, adj.device)
        if isinstance(adj, SoftAdjacency):
            checks.shape("bias", bias, ["...", *adj.shape, "H or 1"])
            if bias.shape[-1] not in (1, heads):
                raise ArgumentError("bias", f"1 or {heads} heads, the last dimension", bias.shape[-1])
            return
        if bias.dim() not in (1, 2, 2 + len(batch)):
            raise ArgumentError("bias", f"shape [{adj.num_edges}] or [{adj.num_edges}, {heads}]", list(bias.shape))
        own = [*batch, adj.num_edges, heads] if bias.dim() > 2 else [adj.num_edges, heads][: bias.dim()]
        checks.shape("bias", bias, own, "Biases come in row-sorted order")


def _check_mask(adj: Adjacency | SoftAdjacency | TokenGraph | BlockAdjacency, mask: Tensor, batch: torch.Size) -> None:
    checks.booleans("mask", mask, adj.device)
    full = (*batch, adj.num_sources)
    own = (1,) * (len(full) - mask.dim()) + tuple(mask.shape)
    fits = mask.dim() >= 1 and len(own) == len(full) and own[-1] == full[-1]
    if not fits or any(m not in (1, n) for m, n in zip(own, full, strict=True)):
        raise ArgumentError("mask", f"shape [..., {adj.num_sources}]", f"shape {list(mask.shape)}")


def _check_head_mask(
    adj: Adjacency | SoftAdjacency | TokenGraph | BlockAdjacency, head_mask: Tensor, batch: torch.Size, heads: int
) -> None:
    checks.booleans("head_mask", head_mask, adj.device)
    full = (*batch, adj.num_targets, heads)
    own = (1,) * (len(full) - head_mask.dim()) + head_mask.shape
    fits = head_mask.dim() >= 2 and len(own) == len(full) and own[-1] == heads
    if not fits or any(m not in (1, n) for m, n in zip(own, full, strict=True)):
        raise ArgumentError("head_mask", f"shape [..., {adj.num_targets} or 1, {heads}]", list(head_mask.shape))
