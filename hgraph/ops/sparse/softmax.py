r"""Softmax over each target's edges: :math:`\alpha_e = \exp(s_e - \mathrm{lse}_t)`.

The backward uses differentiable operators, so second order exists.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hgraph.ops.dispatch.register import register
from hgraph.ops.sparse.linear import Rows, at_target, edges_to_targets, row_sum, spmm_kernel, upcast


def _row_max(adj: Rows, score: Tensor) -> Tensor:
    """[T, H]: the largest score of each target, 0 if there is none or all are -inf, so it is a safe shift."""
    top = torch.segment_reduce(score, "max", offsets=adj[0].long(), axis=0, unsafe=True, initial=float("-inf"))
    return torch.where(top == float("-inf"), 0.0, top)


def exponentials(adj: Rows, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """exp(score - shift) [E, H], its sums [T, H] and the shifts [T, H]."""
    shift = _row_max(adj, score)
    each = torch.exp(score - shift.index_select(0, adj[2]))
    return each, spmm_kernel(edges_to_targets(adj), None, each), shift


def _softmax_kernel(adj: Rows, score: Tensor) -> Tensor:
    each, total, _ = exponentials(adj, upcast(score).contiguous())
    total = torch.where(total == 0, 1.0, total)
    return (each / total.index_select(0, adj[2])).to(score.dtype)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[0], output)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    *adj, alpha = ctx.saved_tensors
    compute = softmax_grads if torch.is_grad_enabled() else softmax_grads_op
    return None, compute(adj, alpha, grad)


def softmax_grads(adj: Rows, alpha: Tensor, grad: Tensor) -> Tensor:
    """Gradient of the scores: the registered operator runs it without autograd, second order with it."""
    flow = (alpha * grad).contiguous()
    return flow - alpha * at_target(adj, row_sum(adj, flow))


softmax = register(
    "softmax(Tensor[] adj, Tensor score) -> Tensor",
    _softmax_kernel,
    lambda adj, s: s.new_empty(s.shape),
    _save,
    _backward,
)
softmax_grads_op = register(
    "softmax_grads(Tensor[] adj, Tensor alpha, Tensor grad) -> Tensor",
    softmax_grads,
    lambda adj, alpha, grad: alpha.new_empty(alpha.shape),
)
