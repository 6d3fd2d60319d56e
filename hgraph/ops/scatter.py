"""`gather`, `scatter` and `segment_reduce`, for users of torch_scatter: by index, without a structure.

For an index that is used repeatedly build an `Adjacency` once, because these functions sort it in each call.
"""

from __future__ import annotations

import math
import numbers
from typing import Literal

import torch
from torch import Tensor

from hgraph import checks
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.ops.sparse.extremum import extremum
from hgraph.ops.sparse.linear import Rows, spmm, transpose
from hgraph.ops.sparse.mean import mean
from hgraph.structure import coo

__all__ = ["gather", "scatter", "segment_reduce"]

Reduction = Literal["sum", "mean", "max", "min"]

_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)
_NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64, *_INTEGERS)


def scatter(src: Tensor, index: Tensor, dim: int = -1, *, dim_size: int, reduce: Reduction = "sum") -> Tensor:
    r"""Reduce all entries of equal index: :math:`y_i = \operatorname{reduce}_{j : \mathrm{index}_j = i} x_j`.

    Use it when entries have group ids but no structure; for a structure, use `propagate`.

    Like torch_scatter's, with these intentional differences:

    - deterministic, and twice differentiable; ties of ``"max"`` and ``"min"`` split the gradient (torch_scatter gives
        it to
      one of them), so there is no argmax to return
    - ``dim_size`` is required: torch_scatter infers it from the largest index, which synchronizes with a GPU
    - NaN propagates through ``"max"`` and ``"min"``; torch_scatter skips it
    - no ``"mul"``, no ``"add"`` (it is ``"sum"``), no ``out=`` (add to the result, or take its maximum)
    - integers have no ``"mean"`` (torch_scatter rounds down); their sums are int64 (torch_scatter's wrap around);
      booleans are not supported

    Args:
        src: [..., J, ...] numbers, J along ``dim``; integers are reduced exactly, by torch on every backend.
        index: integers in 0 .. dim_size - 1, in any order: [J], or J along ``dim`` and in the other dimensions as src
            or 1 (trailing ones may be omitted); then each list of J entries has its own index.
        dim: the dimension that is reduced.
        dim_size: entries of the result along ``dim``.
        reduce: ``"sum"``, ``"mean"``, ``"max"`` or ``"min"``.

    Returns:
        [..., dim_size, ...] in src's dtype, int64 for sums of integers as in `torch.sum`; 0 for empty entries.
        Half precision accumulates in float32.

    Raises:
        ArgumentError: wrong shapes, an unknown reduction, an index out of range (checked on CPUs only).
        ArgumentTypeError: src not numbers, index not integers, dim or dim_size not an integer, a mean of integers.

    >>> scatter(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2, 0, 2]), dim_size=4).tolist()
    [2.0, 0.0, 5.0, 0.0]
    >>> scatter(torch.tensor([[1, 2], [4, 8]]), torch.tensor([[0, 0], [1, 0]]), dim_size=2).tolist()
    [[3, 0], [8, 4]]
    """
    index = _kinds(src, index)
    dim = _dimension(src, dim)
    _reduction(src, reduce)
    coo.check_size("dim_size", dim_size)
    index = _as_wide(index, src, dim)
    _in_range(index, dim_size)
    own = [d for d in range(src.dim()) if d != dim and index.shape[d] != 1]  # dimensions with separate indices
    rest = [d for d in range(src.dim()) if d != dim and d not in own]
    order = [*own, dim, *rest]
    lists = math.prod([src.shape[d] for d in own])
    index = index.permute(order).reshape(lists, src.shape[dim])
    if own:
        index = index + dim_size * torch.arange(lists, device=index.device).unsqueeze(1)
    entries = src.permute(order).flatten(0, len(own))
    out = _reduced(index.flatten(), entries, lists * dim_size, reduce)
    out = out.view([*[src.shape[d] for d in own], dim_size, *entries.shape[1:]])
    return out.permute([order.index(d) for d in range(src.dim())])


def gather(src: Tensor, index: Tensor, dim: int = -1) -> Tensor:
    r"""Select entries by index, :math:`y_j = x_{\mathrm{index}_j}`; the gradient is a deterministic sum.

    Use it to read rows by index when gradients must be deterministic.

    torch_scatter's ``gather_coo`` for an index [J], along any dimension and in any order.

    Args:
        src: [..., I, ...] numbers, I along ``dim``.
        index: [J] integers in 0 .. I - 1.
        dim: the dimension that is indexed.

    Returns:
        [..., J, ...].

    Raises:
        ArgumentError: wrong shapes, an index out of range (checked on CPUs only).
        ArgumentTypeError: src not numbers, index not integers, dim not an integer.

    >>> gather(torch.tensor([5.0, 7.0]), torch.tensor([1, 1, 0])).tolist()
    [7.0, 7.0, 5.0]
    """
    index = _kinds(src, index)
    dim = _dimension(src, dim)
    checks.shape("index", index, ["J"])
    _in_range(index, src.shape[dim])
    if not src.is_floating_point():
        return src.index_select(dim, index)
    x = src.movedim(dim, 0)
    out = spmm(transpose(_rows_of(index, x.shape[0])), None, x.flatten(1) if x.dim() > 1 else x.unsqueeze(1))
    return out.view(len(index), *x.shape[1:]).movedim(0, dim)


def segment_reduce(src: Tensor, indptr: Tensor, *, reduce: Reduction = "sum") -> Tensor:
    r"""Reduce consecutive entries from ``indptr[i]`` to ``indptr[i + 1]``: torch_scatter's ``segment_csr``.

    Use it when the entries of each group are contiguous.

    Along the first dimension, with one list of pointers that covers all entries; otherwise it differs from
    torch_scatter as `scatter` does.

    Args:
        src: [J, ...] numbers; integers are reduced exactly, by torch on every backend.
        indptr: [I + 1] integers ascending from 0 to J (checked on CPUs only).
        reduce: ``"sum"``, ``"mean"``, ``"max"`` or ``"min"``.

    Returns:
        [I, ...] in src's dtype, for sums of integers in int64; 0 for an empty segment.

    Raises:
        ArgumentError: indptr that is empty, not 1-D, or not ascending from 0 to J (checked on CPUs only); an
            unknown reduction.
        ArgumentTypeError: src not numbers, indptr not integers, a mean of integers.

    >>> segment_reduce(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 2, 2, 3]), reduce="max").tolist()
    [2.0, 0.0, 4.0]
    """
    indptr = _kinds(src, indptr, "indptr")
    checks.shape("indptr", indptr, ["I + 1"])
    _reduction(src, reduce)
    _covers(indptr, len(src))
    each = torch.arange(len(src) + 1, device=src.device)
    place = each[:-1]
    target = torch.searchsorted(indptr, place, right=True) - 1
    if not src.is_floating_point():
        return _whole(target, src, len(indptr) - 1, reduce)
    return _reduce([indptr, place, target, each, target, place, place, place], src, reduce)


def _kinds(src: Tensor, index: Tensor, name: str = "index") -> Tensor:
    """The index in int64, where differences cannot overflow."""
    if not isinstance(src, Tensor) or src.dtype not in _NUMBERS:
        given = src.dtype if isinstance(src, Tensor) else type(src).__name__
        hint = "float16 to float64, int8 to int64 or uint8"
        raise ArgumentTypeError("src", "a tensor of floating-point numbers or integers", given, hint)
    if src.dim() == 0:
        raise ArgumentError("src", "at least one dimension", "a single number")
    checks.integers(name, index, src.device)
    if index.dtype not in _INTEGERS:
        raise ArgumentTypeError(name, "an integer tensor", index.dtype, "Convert it with .long()")
    return index.long()


def _dimension(src: Tensor, dim: int) -> int:
    if not isinstance(dim, (numbers.Integral, torch.SymInt)) or isinstance(dim, bool):
        raise ArgumentTypeError("dim", "an integer", type(dim).__name__)
    if not -src.dim() <= dim < src.dim():
        raise ArgumentError("dim", f"a dimension of src, {-src.dim()} .. {src.dim() - 1}", dim)
    return dim % src.dim()


def _reduction(src: Tensor, reduce: str) -> None:
    if reduce not in ("sum", "mean", "max", "min"):
        hint = "torch_scatter's 'add' is 'sum'" if reduce == "add" else ""
        raise ArgumentError("reduce", "'sum', 'mean', 'max' or 'min'", repr(reduce), hint)
    if reduce == "mean" and not src.is_floating_point():
        raise ArgumentTypeError(
            "src", "floating-point numbers to take a mean of", src.dtype, "Convert it with .float()"
        )


def _as_wide(index: Tensor, src: Tensor, dim: int) -> Tensor:
    """Expand an index to all dimensions of src, as torch_scatter does: J along dim, and src's size or 1 elsewhere."""
    wide = index
    if index.dim() == 1:
        wide = index.view([-1 if d == dim else 1 for d in range(src.dim())])
    elif index.dim() < src.dim():
        wide = index.view(*index.shape, *[1] * (src.dim() - index.dim()))
    fits = wide.dim() == src.dim() and wide.shape[dim] == src.shape[dim]
    if not fits or any([wide.shape[d] not in (1, src.shape[d]) for d in range(src.dim())]):
        hint = "One entry per entry of src along dim; other dimensions match src, are 1, or are omitted at the end"
        raise ArgumentError(
            "index", f"shape [{src.shape[dim]}] or {list(src.shape)}", f"shape {list(index.shape)}", hint
        )
    return wide


def _in_range(index: Tensor, size: int) -> None:
    """Reject out-of-range indices where checking does not synchronize."""
    if _seen(index):
        coo.check_range("index", index.flatten(), size, "entries")


def _covers(indptr: Tensor, size: int) -> None:
    expected = f"numbers ascending from 0 to {size}"
    if len(indptr) == 0:
        raise ArgumentError("indptr", expected, "an empty list", "Pass [0] for zero segments")
    if not _seen(indptr):
        return
    falls = bool((indptr.diff() < 0).any())
    if falls or int(indptr[0]) != 0 or int(indptr[-1]) != size:
        raise ArgumentError("indptr", expected, f"{indptr[0]} .. {indptr[-1]}" + ", not ascending" * falls)


def _seen(index: Tensor) -> bool:
    return index.is_cpu and not torch.compiler.is_compiling()


def _rows_of(index: Tensor, size: int) -> Rows:
    """The size x J structure where each entry of the result lists its entries of src."""
    target, order = torch.sort(index, stable=True)
    each = torch.arange(len(index) + 1, device=index.device)
    back = torch.empty_like(order).index_put((order,), each[:-1])
    return [coo.pointers(target, size), order, target, each, index, each[:-1], back, order]


def _reduced(index: Tensor, x: Tensor, size: int, reduce: str) -> Tensor:
    """[size, ...]: reduce x [J, ...] by index [J]."""
    return _reduce(_rows_of(index, size), x, reduce) if x.is_floating_point() else _whole(index, x, size, reduce)


def _reduce(adj: Rows, x: Tensor, reduce: str) -> Tensor:
    flat = x.flatten(1) if x.dim() > 1 else x.unsqueeze(1)
    if reduce in ("max", "min"):
        out = extremum(adj, None, flat, reduce == "max")
    else:
        out = (spmm if reduce == "sum" else mean)(adj, None, flat)
    return out.view(len(out), *x.shape[1:])


def _whole(index: Tensor, x: Tensor, size: int, reduce: str) -> Tensor:
    """Reduce integers, where the order of summation does not matter."""
    if reduce == "sum":  # in int64, as torch.sum: 600 is no uint8
        return torch.zeros((size, *x.shape[1:]), dtype=torch.int64, device=x.device).index_add_(0, index, x.long())
    index = index.view(-1, *[1] * (x.dim() - 1)).expand(x.shape)
    return x.new_zeros((size, *x.shape[1:])).scatter_reduce_(0, index, x, f"a{reduce}", include_self=False)
