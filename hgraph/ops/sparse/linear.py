r"""The two linear operators, each the gradient of the other, so derivatives of every order exist.

With a structure :math:`A` and weights :math:`w` per edge and head, where heads act on equal channel blocks:

- ``spmm``: :math:`y_t = \sum_{e: t \leftarrow s} w_e x_s`
- ``sddmm``: :math:`g_e = \langle a_t, b_s \rangle` for :math:`e: t \leftarrow s`

Operators take a structure as the list of its eight index tensors (`rows`), whose transpose is the same
list permuted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import ref

import torch
import torch.nn.functional as F
from torch import Tensor

from hgraph._torch import is_eager, is_transformed, version
from hgraph.cache import TensorTable, can_cache_compiled, permuted
from hgraph.ops.dispatch.register import register
from hgraph.structure import Adjacency

Rows = list[Tensor]  # indptr, indices, target, t_indptr, t_indices, source, perm, inv_perm

# embedding_bag adds a row's entries sequentially; longer rows are split so that the float32 error stays small.
_LONGEST_RUN = 2048
# Edge-sized temporaries have at most this many numbers: 1 MB of float32 stays in a core's cache, which is twice as
# fast as 16 MB.
CHUNK_NUMBERS = 2**18


def flatten_batch(x: Tensor) -> Tensor:
    """[B, N, D]: x [..., N, D] with its batch flattened to one dimension, including empty dimensions."""
    return x.unsqueeze(0).flatten(0, -3)


def is_half(dtype: torch.dtype) -> bool:
    """Whether sums of this dtype accumulate in float32."""
    return dtype in (torch.float16, torch.bfloat16)


def upcast(x: Tensor) -> Tensor:
    """``x`` upcast to float32 if it is half precision."""
    return x.float() if is_half(x.dtype) else x


def add_rows(total: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """Add ``values`` to the rows ``index`` of ``total``, in place if possible, in a deterministic order."""
    if total.is_cuda:  # index_add is atomic there
        return total.index_put_((index.long(),), values, accumulate=True)
    if is_transformed():  # batched values must not be added to an unbatched total
        return total.index_add(0, index, values)
    return total.index_add_(0, index, values)


# ---------------------------------------------------------------------- structures as lists


def rows(adj: Adjacency) -> Rows:
    """The index tensors of a structure, in the order that operators expect."""
    return [
        adj.indptr,
        adj.indices,
        adj.target,
        adj.t_indptr,
        adj.t_indices,
        adj.source,
        adj.perm,
        adj.inv_perm,
    ]


def transpose(adj: Rows) -> Rows:
    """The list of the transposed structure."""
    indptr, indices, target, t_indptr, t_indices, source, perm, inv_perm = adj
    return [t_indptr, t_indices, source, indptr, indices, target, inv_perm, perm]


def edges_to_targets(adj: Rows) -> Rows:
    """The T x E structure where every target lists its own edges: ``spmm`` then sums rows of edge values."""
    indptr, _, target, *_ = adj
    each = torch.arange(target.shape[0] + 1, dtype=target.dtype, device=target.device)
    return [indptr, each[:-1], target, each, target, each[:-1], each[:-1], each[:-1]]


def edges_to_sources(adj: Rows) -> Rows:
    """The S x E structure where every source lists its own edges."""
    _, indices, _, t_indptr, _, source, perm, inv_perm = adj
    each = torch.arange(source.shape[0] + 1, dtype=source.dtype, device=source.device)
    return [t_indptr, perm, source, each, indices, each[:-1], inv_perm, perm]


def row_sum(adj: Rows, values: Tensor) -> Tensor:
    """[T, H]: sum of per-edge values [E, H] for each target."""
    return spmm(edges_to_targets(adj), None, values)


def at_target(adj: Rows, x: Tensor) -> Tensor:
    """[E, H]: the row of ``x`` [T, H] of each edge's target; its gradient is a row sum."""
    return spmm(transpose(edges_to_targets(adj)), None, x)


def at_source(adj: Rows, x: Tensor) -> Tensor:
    """[E, H]: the row of ``x`` [S, H] of each edge's source; its gradient is a row sum of the transpose."""
    return spmm(transpose(edges_to_sources(adj)), None, x)


# ---------------------------------------------------------------------- spmm


def spmm_kernel(adj: Rows, weight: Tensor | None, x: Tensor) -> Tensor:
    """``spmm`` itself, below autograd."""
    indptr, indices = adj[0], adj[1]
    if weight is not None:
        weight = weight.to(x.dtype)
    if x.dim() == 2 and (weight is None or weight.dim() == 1) and x.numel() and indices.numel():
        return _bag(indptr, indices, x, weight)
    out = x.new_empty((*x.shape[:-2], indptr.shape[0] - 1, x.shape[-1]))
    if out.numel() == 0 or indices.shape[0] == 0:
        return out.zero_()
    columns = [weight] if weight is None or weight.dim() == 1 else weight.unbind(1)
    for x_one, out_one in zip(flatten_batch(x), flatten_batch(out), strict=True):
        blocks = zip(x_one.chunk(len(columns), -1), out_one.chunk(len(columns), -1), columns, strict=True)
        for x_block, out_block, column in blocks:
            out_block.copy_(_bag(indptr, indices, x_block, column))
    return out


def _bag(indptr: Tensor, indices: Tensor, x: Tensor, weight: Tensor | None) -> Tensor:
    """Weighted row sums with torch's fused gather-reduce: accumulates half precision in float32, one thread per row."""
    x = x.contiguous()
    weight = None if weight is None else weight.contiguous()
    may_be_long = indices.shape[0] > _LONGEST_RUN and x.dtype == torch.float32 and not x.is_cuda
    cut = _cut_long_rows(indptr) if may_be_long else None
    if cut is None:
        return F.embedding_bag(indices, x, indptr, mode="sum", per_sample_weights=weight, include_last_offset=True)
    if cut.rows is None:
        return _bag_in_runs(cut, indices, x, weight)
    out = F.embedding_bag(indices, x, indptr, mode="sum", per_sample_weights=weight, include_last_offset=True)
    out[cut.rows] = _bag_in_runs(cut, indices[cut.entries], x, None if weight is None else weight[cut.entries])
    return out


class _Cut(NamedTuple):
    """Long rows split into runs: ``runs`` is the start of each run, ``run_ptr`` each row's first run."""

    rows: Tensor | None  # the rows that are split; None: all rows, with the structure's own entries
    entries: Tensor | None
    runs: Tensor
    run_ptr: Tensor


def _bag_in_runs(cut: _Cut, indices: Tensor, x: Tensor, weight: Tensor | None) -> Tensor:
    partial = F.embedding_bag(indices, x, cut.runs, mode="sum", per_sample_weights=weight, include_last_offset=True)
    each = torch.arange(partial.shape[0], dtype=indices.dtype)
    return F.embedding_bag(each, partial, cut.run_ptr, mode="sum", include_last_offset=True)


_CUTS: TensorTable[tuple[_Cut | None]] = TensorTable()


def _cut_long_rows(indptr: Tensor) -> _Cut | None:
    """How to split rows longer than `_LONGEST_RUN`, None if there are none; cached."""
    found = _CUTS.get(indptr)
    if found is None:
        found = (_find_cut(indptr),)
        _CUTS.put(indptr, found)
    return found[0]


def _find_cut(indptr: Tensor) -> _Cut | None:
    length = indptr.diff().long()
    if indptr.shape[0] < 2 or int(length.max()) <= _LONGEST_RUN:
        return None
    rows = (length > _LONGEST_RUN).nonzero().flatten()
    if 4 * int(length[rows].sum()) > int(length.sum()):  # adding most entries twice costs more than copying short rows
        return _Cut(None, None, *_runs(length, indptr.dtype))
    length = length[rows]
    first = length.cumsum(0) - length
    entries = torch.arange(int(length.sum())) + (indptr[rows].long() - first).repeat_interleave(length)
    return _Cut(rows, entries, *_runs(length, indptr.dtype))


def _runs(length: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(start of each run, each row's first run) for contiguous rows of these lengths."""
    count = (length + _LONGEST_RUN - 1) // _LONGEST_RUN
    run_ptr, row = F.pad(count.cumsum(0), (1, 0)), torch.arange(len(length)).repeat_interleave(count)
    starts = (length.cumsum(0) - length)[row] + (torch.arange(len(row)) - run_ptr[row]) * _LONGEST_RUN
    return F.pad(starts, (0, 1), value=int(length.sum())).to(dtype), run_ptr.to(dtype)


_TRANSPOSED: TensorTable[tuple[ref[Tensor], int, Tensor]] = TensorTable()


def transposed_weight(weight: Tensor | None, perm: Tensor) -> Tensor | None:
    """Permute weights to the order of the transpose; cached for constant weights, a tenth of a small sum's gradient.

    Writes are detected by the tensor's version; writes through ``.data`` or a shared numpy array are not.
    """
    if weight is None:
        return None
    if can_cache_compiled([weight, perm]):
        return permuted(weight, perm)
    if weight.requires_grad or not is_eager() or weight.is_inference() or perm.is_inference():
        return weight.index_select(0, perm)
    found = _TRANSPOSED.get(weight)
    if found is None or found[0]() is not perm or found[1] != version(perm):
        with torch.inference_mode(False), torch.no_grad():  # the cached tensor must also work in training
            found = ref(perm), version(perm), weight.index_select(0, perm)
        _TRANSPOSED.put(weight, found)
    return found[2]


def _spmm_fake(adj: Rows, weight: Tensor | None, x: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-2], adj[0].shape[0] - 1, x.shape[-1]))


def _save_spmm(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    adj, weight, x = inputs
    # x is only needed for the gradient of the weights: for constant weights it is not saved.
    ctx.save_for_backward(*adj, weight, x if ctx.needs_input_grad[1] else None)


def _backward_spmm(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return sum_grads(ctx.saved_tensors, ctx.needs_input_grad, grad)


def sum_grads(saved: Sequence[Any], needed: Sequence[bool], grad: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of structure, weights and x from the gradient of the weighted sums.

    Args:
        saved: the lists of the structure, the weights, and x if the weights need a gradient.
        needed: for structure, weights and x.
        grad: gradient of the sums.
    """
    *adj, weight, x = saved
    grad_weight = grad_x = None
    if needed[1]:
        grad_weight = sddmm(adj, grad, x, 1 if weight.dim() == 1 else weight.shape[1])
        grad_weight = grad_weight.view(weight.shape).to(weight.dtype)
    if needed[2]:
        grad_x = spmm(transpose(adj), transposed_weight(weight, adj[6]), grad)
    return None, grad_weight, grad_x


spmm = register(
    "spmm(Tensor[] adj, Tensor? weight, Tensor x) -> Tensor", spmm_kernel, _spmm_fake, _save_spmm, _backward_spmm
)


# ---------------------------------------------------------------------- sddmm


def _sddmm_kernel(adj: Rows, a: Tensor, b: Tensor, heads: int) -> Tensor:
    source, target = adj[1], adj[2]
    wide = torch.float32 if is_half(a.dtype) else a.dtype
    out = a.new_zeros((target.shape[0], heads), dtype=wide)
    step = max(1, CHUNK_NUMBERS // max(a.shape[-1], 1))
    for a_one, b_one in zip(flatten_batch(a), flatten_batch(b), strict=True):
        for first in range(0, target.shape[0], step):
            at = slice(first, first + step)
            product = a_one.index_select(0, target[at]).to(wide).mul_(b_one.index_select(0, source[at]).to(wide))
            out[at] += product.unflatten(-1, (heads, a.shape[-1] // max(heads, 1))).sum(-1)
    return out.to(a.dtype)


def _sddmm_fake(adj: Rows, a: Tensor, b: Tensor, heads: int) -> Tensor:
    return a.new_empty((adj[1].shape[0], heads))


def _save_sddmm(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    adj, a, b, _ = inputs
    ctx.save_for_backward(*adj, a, b)


def _backward_sddmm(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    *adj, a, b = ctx.saved_tensors
    grad_a = spmm(adj, grad, b) if ctx.needs_input_grad[1] else None
    grad_b = spmm(transpose(adj), grad.index_select(0, adj[6]), a) if ctx.needs_input_grad[2] else None
    return None, grad_a, grad_b, None


sddmm = register(
    "sddmm(Tensor[] adj, Tensor a, Tensor b, int heads) -> Tensor",
    _sddmm_kernel,
    _sddmm_fake,
    _save_sddmm,
    _backward_sddmm,
)


def row_dots(a: Tensor, b: Tensor, heads: int) -> Tensor:
    """[T, H]: inner products of corresponding rows of a and b [T, D] per head, without T x D products."""
    each = torch.arange(a.shape[0] + 1, device=a.device)
    own = each[:-1]
    return sddmm([each, own, own, each, own, own, own, own], a, b, heads)
