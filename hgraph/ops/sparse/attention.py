r"""The operators behind `hgraph.attend`: score, softmax and weighted sum in one operator.

A backend that gets q, k and v can visit each row once and store nothing per edge. The reference here is the
composition in plain torch. For an edge e from source s to target t and a head h:

.. math:: s_{eh} = c \cdot \mathrm{score}(q_{th}, k_{sg}) + b_{eh}, \qquad
          \mathrm{lse}_{th} = \log \sum_{e \to t} \exp s_{eh}, \qquad
          y_{th} = \sum_{e \to t} \kappa_{eh} \exp(s_{eh} - \mathrm{lse}_{th}) \, v_{sg}

``attend(adj, q, k, v, bias, seed, dropout, scale, slope) -> (out, lse)``

========= ======================== =========================================================================
adj       8 index tensors          `hgraph.ops.sparse.linear.rows`
q, k      [T, H, D], [S, K, D]     the inner product, ``slope`` None
..        [T, H], [S, K]           LeakyReLU(q + k) with ``slope``
..        None, None               no score: s = b, and B = H
v         [S, K, V]                K divides H; head h reads key head g = h // (H / K)
bias      [E, B] or None           B divides H; head h reads column h % B; row-sorted; -inf masks an edge
seed      [1] int64 or None        None: no dropout
dropout   p                        kappa = 0 or 1 / (1 - p) by `hgraph.ops.random.dropout_mask`; 1 without a seed
scale     c
slope     float or None
out       [T, H, V], dtype of v    0 for a row without (unmasked) edges
lse       [T, H], float32 or wider -inf for such a row; not affected by dropout
========= ======================== =========================================================================

A batch is folded into the heads: H = (examples) x (heads), K likewise. Tensors may have any strides, and any dimension
may be 0 (H = K = 0 is an empty batch). Half inputs are computed in float32.

``attend_grads(<as above>, lse, delta, grad) -> (grad_q, grad_k, grad_v, grad_bias)``

with grad [T, H, V] the gradient of out and delta [T, H] = sum(grad * out) - (gradient of lse), in lse's dtype.
Gradients have the shapes of their inputs and are at least float32; for an input that is None, an empty tensor [0].

.. math:: \alpha = \exp(s - \mathrm{lse}), \qquad ds = \kappa \alpha \langle \mathrm{grad}, v \rangle - \alpha \, \delta

gives the gradient of b (summed over the heads that share a column), the gradients of q and k by the derivative of the
score (the LeakyReLU's at 0 is ``slope``), and :math:`dv_s = \sum_e \kappa \alpha \, \mathrm{grad}_t`. This operator
runs without autograd; second order runs `_grads`, which is differentiable, on the saved inputs and outputs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hgraph.ops.dispatch.register import register
from hgraph.ops.random import dropout_mask
from hgraph.ops.sparse.linear import (
    Rows,
    at_source,
    at_target,
    row_dots,
    row_sum,
    sddmm,
    spmm,
    spmm_kernel,
    transpose,
    upcast,
)
from hgraph.ops.sparse.softmax import exponentials

__all__ = ["attend", "logits"]


def logits(
    adj: Rows, q: Tensor | None, k: Tensor | None, bias: Tensor | None, scale: float, slope: float | None, heads: int
) -> Tensor:
    """s [E, H], at least float32; arguments as in `attend`. Differentiable."""
    if q is None or k is None:
        assert bias is not None  # noqa: S101 - see `_heads`
        return upcast(bias)
    q, k = upcast(q), _grouped(upcast(k), heads)
    if slope is None:
        score = sddmm(adj, (q * scale).flatten(1), k.flatten(1), heads)  # scaled on T rows, not on E edges
    else:
        score = F.leaky_relu(at_target(adj, q) + at_source(adj, k), slope)
        score = score if scale == 1.0 else score * scale
    return score if bias is None else score + _columns(bias, heads).to(score.dtype)


def _grouped(k: Tensor, heads: int) -> Tensor:
    """Repeat key heads for the query heads that use them: [S, K(, D)] -> [S, H(, D)]."""
    return k if k.shape[1] == heads else k.repeat_interleave(heads // k.shape[1], dim=1)


def _columns(bias: Tensor, heads: int) -> Tensor:
    """[E, H] of [E, B]."""
    return bias if bias.shape[1] == heads else bias.repeat(1, heads // bias.shape[1])


def _kernel(
    adj: Rows,
    q: Tensor | None,
    k: Tensor | None,
    v: Tensor,
    bias: Tensor | None,
    seed: Tensor | None,
    dropout: float,
    scale: float,
    slope: float | None,
) -> tuple[Tensor, Tensor]:
    heads = _heads(q, bias)
    score = logits(adj, q, k, bias, scale, slope, heads)
    each, total, shift = exponentials(adj, score)
    lse = shift + total.log()
    if seed is not None:
        each = each * dropout_mask(seed, score, dropout)
    values = _grouped(upcast(v), heads)
    out = spmm_kernel(adj, each, values.flatten(1)).view(len(total), heads, v.shape[2])
    return (out / torch.where(total == 0, 1.0, total).unsqueeze(-1)).to(v.dtype), lse


def _heads(q: Tensor | None, bias: Tensor | None) -> int:
    given = bias if q is None else q
    assert given is not None  # noqa: S101 - with neither there is nothing to take a softmax of
    return given.shape[1]


def _grads(
    adj: Rows,
    q: Tensor | None,
    k: Tensor | None,
    v: Tensor,
    bias: Tensor | None,
    seed: Tensor | None,
    dropout: float,
    scale: float,
    slope: float | None,
    lse: Tensor,
    delta: Tensor,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    heads = lse.shape[1]
    score = logits(adj, q, k, bias, scale, slope, heads)
    # Rows without a finite score have lse = -inf; their exponentials must become 0, not NaN.
    alpha = torch.exp(score - at_target(adj, torch.where(lse == float("-inf"), 0.0, lse)))
    prob = alpha if seed is None else alpha * dropout_mask(seed, score, dropout)
    grad, values = upcast(grad).flatten(1), _grouped(upcast(v), heads).flatten(1)
    flow = prob * sddmm(adj, grad, values, heads).to(score.dtype) - alpha * at_target(adj, delta)
    grad_v = spmm(transpose(adj), prob.index_select(0, adj[6]), grad).unflatten(1, (heads, v.shape[2]))
    grad_q, grad_k = _score_grads(adj, q, k, flow, scale, slope)
    return (
        v.new_empty(0) if grad_q is None else grad_q,
        v.new_empty(0) if grad_k is None or k is None else _ungrouped(grad_k, k.shape[1]),
        _ungrouped(grad_v, v.shape[1]),
        v.new_empty(0) if bias is None else _uncolumned(flow, bias.shape[1]),
    )


def _score_grads(
    adj: Rows, q: Tensor | None, k: Tensor | None, flow: Tensor, scale: float, slope: float | None
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of q and of the repeated key heads, from those of the scores [E, H]."""
    if q is None or k is None:
        return None, None
    heads = q.shape[1]
    q, k = upcast(q), _grouped(upcast(k), heads)
    flow = flow if scale == 1.0 else flow * scale
    if slope is None:
        grad_q = spmm(adj, flow, k.flatten(1)).view(q.shape)
        return grad_q, spmm(transpose(adj), flow.index_select(0, adj[6]), q.flatten(1)).view(k.shape)
    reach = at_target(adj, q) + at_source(adj, k)
    flow = torch.where(reach > 0, flow, flow * slope)
    return row_sum(adj, flow), row_sum(transpose(adj), flow.index_select(0, adj[6]))


def _ungrouped(grad: Tensor, key_heads: int) -> Tensor:
    """[S, K(, D)]: gradients [S, H(, D)] summed over the query heads that share a key head."""
    return grad if grad.shape[1] == key_heads else grad.unflatten(1, (key_heads, -1)).sum(2)


def _uncolumned(flow: Tensor, columns: int) -> Tensor:
    """[E, B]: gradients [E, H] summed over the heads that share a column."""
    return flow if flow.shape[1] == columns else flow.unflatten(1, (-1, columns)).sum(1)


def _fake(
    adj: Rows, q: Tensor | None, k: Tensor | None, v: Tensor, bias: Tensor | None, *_: Any
) -> tuple[Tensor, Tensor]:
    targets, heads = adj[0].shape[0] - 1, _heads(q, bias)
    given = bias if q is None else q
    assert given is not None  # noqa: S101 - as above
    return v.new_empty((targets, heads, v.shape[2])), upcast(given.new_empty((targets, heads)))


def _grads_fake(
    adj: Rows, q: Tensor | None, k: Tensor | None, v: Tensor, bias: Tensor | None, *_: Any
) -> tuple[Tensor, ...]:
    return tuple(v.new_empty(0) if t is None else upcast(t.new_empty(t.shape)) for t in (q, k, v, bias))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    adj, q, k, v, bias, seed, *ctx.numbers = inputs
    ctx.save_for_backward(*adj, q, k, v, bias, seed, *output)


def _backward(ctx: Any, grad: Tensor, grad_lse: Tensor) -> tuple[Tensor | None, ...]:
    *adj, q, k, v, bias, seed, out, lse = ctx.saved_tensors
    dots = row_dots(upcast(grad).flatten(1), upcast(out).flatten(1), lse.shape[1])
    delta = dots.to(lse.dtype) - grad_lse
    compute = _grads if torch.is_grad_enabled() else attend_grads
    dropout, scale, slope = ctx.numbers
    grads = compute(adj, q, k, v, bias, seed, dropout, scale, slope, lse, delta, grad)
    inputs = (q, k, v, bias)
    return None, *(None if t is None else g.to(t.dtype) for g, t in zip(grads, inputs, strict=True)), *(None,) * 4


_GIVEN = (
    "Tensor[] adj, Tensor? q, Tensor? k, Tensor v, Tensor? bias, Tensor? seed, float dropout, float scale, float? slope"
)
attend = register(f"attend({_GIVEN}) -> (Tensor, Tensor)", _kernel, _fake, _save, _backward)
attend_grads = register(
    f"attend_grads({_GIVEN}, Tensor lse, Tensor delta, Tensor grad) -> (Tensor, Tensor, Tensor, Tensor)",
    _grads,
    _grads_fake,
)
