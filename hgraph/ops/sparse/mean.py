r"""The mean of each target's messages, :math:`y_t = \frac{1}{|N(t)|} \sum_{e: t \leftarrow s} w_e x_s`; 0 if empty.

Half precision accumulates in float32, where a sum beyond the half range still has a valid mean.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hgraph.ops.dispatch.register import register
from hgraph.ops.sparse.linear import Rows, spmm_kernel, sum_grads, upcast

__all__ = ["divided", "mean"]


def divided(adj: Rows, total: Tensor) -> Tensor:
    """``total`` [..., T, D] divided by the number of each target's edges, in at least float32."""
    total = upcast(total)
    return total / adj[0].diff().clamp(min=1).to(total.dtype).unsqueeze(-1)


def _kernel(adj: Rows, weight: Tensor | None, x: Tensor) -> Tensor:
    return divided(adj, spmm_kernel(adj, weight, upcast(x))).to(x.dtype)


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
