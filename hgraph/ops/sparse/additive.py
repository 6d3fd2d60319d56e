r"""The additive score with an attention vector: :math:`s_e = a \cdot \mathrm{LeakyReLU}(q_t + k_s)` per edge and head.

Computed in chunks of edges, forward and backward, so that nothing of size E x D is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hgraph.ops.dispatch.register import register
from hgraph.ops.sparse.linear import CHUNK_NUMBERS, Rows, add_rows, upcast


def _chunks(adj: Rows, a: Tensor) -> Iterator[slice]:
    num_edges, step = adj[1].shape[0], max(1, CHUNK_NUMBERS // max(a.numel(), 1))
    return (slice(first, min(first + step, num_edges)) for first in range(0, num_edges, step))


def _kernel(adj: Rows, q: Tensor, k: Tensor, a: Tensor, slope: float) -> Tensor:
    source, target = adj[1], adj[2]
    wide_a = upcast(a)
    out = q.new_empty((source.shape[0], a.shape[0]))
    for at in _chunks(adj, a):
        reach = upcast(q.index_select(0, target[at])) + upcast(k.index_select(0, source[at]))
        out[at] = (F.leaky_relu(reach, slope) * wide_a).sum(-1)
    return out


def _grads(adj: Rows, q: Tensor, k: Tensor, a: Tensor, slope: float, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and a. Plain differentiable torch: second order runs it with autograd."""
    source, target = adj[1], adj[2]
    q, k, a, grad = upcast(q), upcast(k), upcast(a), upcast(grad).unsqueeze(-1)
    grad_q, grad_k, grad_a = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(a)
    for at in _chunks(adj, a):
        reach = q.index_select(0, target[at]) + k.index_select(0, source[at])
        grad_a = grad_a + (grad[at] * F.leaky_relu(reach, slope)).sum(0)
        flow = grad[at] * a
        flow = torch.where(reach > 0, flow, flow * slope)
        grad_q = add_rows(grad_q, target[at], flow)
        grad_k = add_rows(grad_k, source[at], flow)
    return grad_q, grad_k, grad_a


def _grads_fake(
    adj: Rows, q: Tensor, k: Tensor, a: Tensor, slope: float, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.zeros_like(upcast(q)), torch.zeros_like(upcast(k)), torch.zeros_like(upcast(a))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    adj, q, k, a, ctx.slope = inputs
    ctx.save_for_backward(*adj, q, k, a)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    *adj, q, k, a = ctx.saved_tensors
    compute = _grads if torch.is_grad_enabled() else additive_grads
    grads = compute(adj, q, k, a, ctx.slope, grad)
    return None, *(g.to(t.dtype) for g, t in zip(grads, (q, k, a), strict=True)), None


additive = register(
    "additive(Tensor[] adj, Tensor q, Tensor k, Tensor a, float slope) -> Tensor",
    _kernel,
    lambda adj, q, k, a, slope: q.new_empty((adj[1].shape[0], a.shape[0])),
    _save,
    _backward,
)
additive_grads = register(
    "additive_grads(Tensor[] adj, Tensor q, Tensor k, Tensor a, float slope, Tensor grad) -> (Tensor, Tensor, Tensor)",
    _grads,
    _grads_fake,
)
