r"""The mean of each target's messages, :math:`y_t = \frac{1}{|N(t)|} \sum_{e: t \leftarrow s} w_e x_s`; 0 if empty.

Half precision accumulates in float32. Where a sum is beyond its range although the mean is not, messages are first
multiplied by a power of two of at most :math:`1 / |N(t)|`, which changes no other bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hgraph._torch import is_transformed
from hgraph.ops.dispatch.register import register
from hgraph.ops.sparse.linear import Rows, spmm_kernel, sum_grads, upcast

__all__ = ["divided", "mean", "mean_of_sums"]


def divided(adj: Rows, total: Tensor) -> Tensor:
    """``total`` [..., T, D] divided by the number of each target's edges, in at least float32."""
    total = upcast(total)
    return total / _counts(adj, total.dtype)


def _counts(adj: Rows, dtype: torch.dtype) -> Tensor:
    """[T, 1]: the number of each target's edges, at least 1."""
    return adj[0].diff().clamp(min=1).to(dtype).unsqueeze(-1)


def mean_of_sums(
    adj: Rows, weight: Tensor | None, x: Tensor, spmm: Callable[[Rows, Tensor | None, Tensor], Tensor]
) -> Tensor:
    """The mean by an operator for sums; only sums that overflow are computed again, from scaled messages."""
    wide = upcast(x)
    # Reading a value synchronizes other devices, and transforms do not allow it: messages are always scaled there.
    if not wide.is_cuda and not is_transformed():
        total = spmm(adj, weight, wide)
        if math.isfinite(total.sum().item()):
            return total.div_(_counts(adj, total.dtype)).to(x.dtype)
    fraction, exponent = torch.frexp(_counts(adj, wide.dtype))
    scale = torch.ldexp(torch.ones_like(fraction), -exponent).squeeze(-1).index_select(0, adj[2])
    if weight is not None:
        scale = weight.to(wide.dtype) * (scale if weight.dim() == 1 else scale.unsqueeze(-1))
    return (spmm(adj, scale, wide) / fraction).to(x.dtype)


def _kernel(adj: Rows, weight: Tensor | None, x: Tensor) -> Tensor:
    return mean_of_sums(adj, weight, x, spmm_kernel)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    adj, weight, x = inputs
    ctx.save_for_backward(*adj, weight, x if ctx.needs_input_grad[1] else None)
    ctx.dtype = x.dtype


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # read once: under activation checkpointing a second read recomputes
    return sum_grads(saved, ctx.needs_input_grad, divided(saved[:-2], grad).to(ctx.dtype))


mean = register(
    "mean(Tensor[] adj, Tensor? weight, Tensor x) -> Tensor",
    _kernel,
    lambda adj, weight, x: x.new_empty((*x.shape[:-2], adj[0].shape[0] - 1, x.shape[-1])),
    _save,
    _backward,
)
