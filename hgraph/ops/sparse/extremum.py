r"""The maximum or minimum message of each target: :math:`y_t = \max_e w_e x_s`.

Messages are rounded to x's dtype before they are compared. Ties split the gradient equally, as in `torch.amax`.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from torch import Tensor

from hgraph.ops.dispatch.register import register
from hgraph.ops.sparse.linear import CHUNK_NUMBERS, Rows, add_rows, flatten_batch, is_half, upcast


def _columns(weight: Tensor | None, x: Tensor, num_edges: int) -> Tensor:
    """[K, E]: the weights of each channel block; ones if unweighted."""
    if weight is None:
        return x.new_ones(1, num_edges)
    return upcast(weight.to(x.dtype)).unsqueeze(-1).flatten(1).T.contiguous()


def _kernel(adj: Rows, weight: Tensor | None, x: Tensor, largest: bool) -> Tensor:
    indptr, indices = adj[0], adj[1]
    out = x.new_zeros((*x.shape[:-2], indptr.shape[0] - 1, x.shape[-1]))
    if out.numel() == 0 or indices.shape[0] == 0:
        return out
    columns = _columns(weight, upcast(x), indices.shape[0])
    for x_one, out_one in zip(flatten_batch(x), flatten_batch(out), strict=True):
        blocks = zip(upcast(x_one).chunk(len(columns), -1), out_one.chunk(len(columns), -1), columns, strict=True)
        for x_block, out_block, column in blocks:
            out_block.copy_(_reduce(indptr, indices, column, x_block.contiguous(), largest))
    return out


def _reduce(indptr: Tensor, indices: Tensor, weight: Tensor, x: Tensor, largest: bool) -> Tensor:
    """One channel block; rows without edges give 0."""
    if x.is_cuda:  # torch has no sparse extremum on CUDA
        message = weight.unsqueeze(1) * x.index_select(0, indices)
        name, start = ("max", float("-inf")) if largest else ("min", float("inf"))
        out = torch.segment_reduce(message, name, offsets=indptr.long(), axis=0, unsafe=True, initial=start)
        return torch.where((indptr.diff() == 0).unsqueeze(1), 0.0, out)
    size = (indptr.shape[0] - 1, x.shape[0])
    _consume_beta_warning_once()
    matrix = torch.sparse_csr_tensor(indptr, indices, weight, size, check_invariants=False)
    return torch.sparse.mm(matrix, x, "amax" if largest else "amin")


@functools.cache
def _consume_beta_warning_once() -> None:
    """Trigger torch's beta warning for CSR tensors with warnings disabled; it is irrelevant to the caller."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(torch.tensor([0, 0]), torch.tensor([], dtype=torch.long), torch.tensor([]), (1, 1))


def _grads(
    adj: Rows, weight: Tensor | None, x: Tensor, out: Tensor, grad: Tensor, of_weight: bool, of_x: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of x [..., S, D] and of the weights [E, K], in chunks of edges; [0] for gradients not needed.

    Plain differentiable torch: the registered operator runs it without autograd, second order with it.
    """
    source, target = adj[1], adj[2]
    columns = _columns(weight, upcast(x), source.shape[0])
    step = max(1, CHUNK_NUMBERS // max(x.shape[-1], 1))
    chunks = [slice(i, i + step) for i in range(0, source.shape[0], step)]
    grad_x, grad_weight = [], columns.new_zeros(columns.shape[::-1])
    flat = [flatten_batch(t) for t in (x, out, grad)]
    for x_one, out_one, grad_one in zip(*flat, strict=True):
        ties = torch.zeros_like(upcast(out_one))
        for at in chunks:
            tie = _tie(columns[:, at], x_one[source[at]], out_one[target[at]])
            ties = add_rows(ties, target[at], tie.to(ties.dtype))
        per_tie = upcast(grad_one) / ties.clamp(min=1)
        total, per_edge = torch.zeros_like(upcast(x_one)), []
        for at in chunks:
            x_edge = x_one[source[at]]
            tie = _tie(columns[:, at], x_edge, out_one[target[at]])
            # select instead of multiplying by 0: other entries may be infinite or NaN and must not affect the result
            flow = torch.where(tie, per_tie[target[at]], 0.0)
            if of_x:
                total = add_rows(total, source[at], flow * torch.where(tie, _spread(columns[:, at], x.shape[-1]), 0.0))
            if of_weight:
                by_edge = flow * torch.where(tie, upcast(x_edge), 0.0)
                by_head = by_edge.unflatten(1, (len(columns), x.shape[-1] // len(columns)))
                per_edge.append(by_head.sum(-1))
        grad_x.append(total)
        grad_weight = grad_weight + torch.cat(per_edge) if per_edge else grad_weight
    all_x = torch.stack(grad_x).view(x.shape) if grad_x else torch.zeros_like(x)
    return all_x.to(x.dtype) if of_x else x.new_empty(0), grad_weight if of_weight else grad_weight.new_empty(0)


def _tie(columns: Tensor, x_edge: Tensor, out_edge: Tensor) -> Tensor:
    """Whether an edge's message is the extremum of its target; constant under differentiation."""
    message = _spread(columns.detach(), x_edge.shape[-1]) * upcast(x_edge.detach())
    return message.to(out_edge.dtype) == out_edge.detach()


def _spread(columns: Tensor, channels: int) -> Tensor:
    """[E, D]: each of K columns repeated over its block of channels."""
    return columns.T.repeat_interleave(channels // columns.shape[0], dim=1)


def _grads_fake(
    adj: Rows, weight: Tensor | None, x: Tensor, out: Tensor, grad: Tensor, of_weight: bool, of_x: bool
) -> tuple[Tensor, Tensor]:
    heads = 1 if weight is None or weight.dim() == 1 else weight.shape[1]
    dtype = torch.float32 if is_half(x.dtype) else x.dtype
    shape = (adj[1].shape[0], heads) if of_weight else (0,)
    return x.new_empty(x.shape if of_x else 0), x.new_empty(shape, dtype=dtype)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    adj, weight, x, _ = inputs
    ctx.save_for_backward(*adj, weight, x, output)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    *adj, weight, x, out = ctx.saved_tensors
    compute = _grads if torch.is_grad_enabled() else extremum_grads
    _, of_weight, of_x, _ = ctx.needs_input_grad
    grad_x, grad_weight = compute(adj, weight, x, out, grad, of_weight, of_x)
    given = grad_weight.view(weight.shape).to(weight.dtype) if of_weight else None
    return None, given, grad_x if of_x else None, None


extremum = register(
    "extremum(Tensor[] adj, Tensor? weight, Tensor x, bool largest) -> Tensor",
    _kernel,
    lambda adj, weight, x, largest: x.new_empty((*x.shape[:-2], adj[0].shape[0] - 1, x.shape[-1])),
    _save,
    _backward,
)
extremum_grads = register(
    "extremum_grads(Tensor[] adj, Tensor? weight, Tensor x, Tensor out, Tensor grad, bool of_weight, bool of_x)"
    " -> (Tensor, Tensor)",
    _grads,
    _grads_fake,
)
