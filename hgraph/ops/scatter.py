"""`gather`, `scatter` and `segment_reduce`, for those who come from torch_scatter: by index, without a structure.

The same index used again and again is better made an `Adjacency` once, for these sort it each time.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.ops import _check
from hgraph.ops.extremum import extremum
from hgraph.ops.linear import Rows, spmm, transpose
from hgraph.ops.mean import mean
from hgraph.structure import _coo

__all__ = ["gather", "scatter", "segment_reduce"]

Reduction = Literal["sum", "mean", "max", "min"]


def scatter(src: Tensor, index: Tensor, dim: int = -1, *, dim_size: int, reduce: Reduction = "sum") -> Tensor:
    r"""Reduce all entries of equal index: :math:`y_i = \operatorname{reduce}_{j : \mathrm{index}_j = i} x_j`.

    Unlike torch_scatter's it is deterministic, its size is given and not read off the largest index, and it
    differentiates twice; ties of ``"max"`` and ``"min"`` share the gradient.

    Args:
        src: [..., J, ...] numbers, J along ``dim``.
        index: [J] integers in 0 .. dim_size - 1, in any order.
        dim: the dimension that is reduced.
        dim_size: entries of the result along ``dim``.
        reduce: ``"sum"``, ``"mean"``, ``"max"`` or ``"min"``.

    Returns:
        [..., dim_size, ...] in src's dtype; 0 where nothing arrives.

    Raises:
        ArgumentError: wrong shapes, an unknown reduction, an index out of range (seen on a CPU alone).
        ArgumentTypeError: src not floating-point, index not integers.

    >>> scatter(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2, 0, 2]), dim_size=4).tolist()
    [2.0, 0.0, 5.0, 0.0]
    """
    _checked(src, index, dim, reduce)
    _coo.check_size("dim_size", dim_size)
    _in_range(index, dim_size)
    return _reduce(_rows_of(index, dim_size), src, dim, reduce)


def gather(src: Tensor, index: Tensor, dim: int = -1) -> Tensor:
    r"""The entries that an index names, :math:`y_j = x_{\mathrm{index}_j}`; the gradient is a deterministic sum.

    Args:
        src: [..., I, ...] numbers, I along ``dim``.
        index: [J] integers in 0 .. I - 1.
        dim: the dimension that is indexed.

    Returns:
        [..., J, ...].

    >>> gather(torch.tensor([5.0, 7.0]), torch.tensor([1, 1, 0])).tolist()
    [7.0, 7.0, 5.0]
    """
    _kinds(src, index)
    _in_range(index, src.shape[dim])
    x = src.movedim(dim, 0)
    out = spmm(transpose(_rows_of(index, x.shape[0])), None, x.flatten(1) if x.dim() > 1 else x.unsqueeze(1))
    return out.view(len(index), *x.shape[1:]).movedim(0, dim)


def segment_reduce(src: Tensor, indptr: Tensor, *, reduce: Reduction = "sum") -> Tensor:
    r"""Reduce consecutive entries, those from ``indptr[i]`` to ``indptr[i + 1]``: torch_scatter's ``segment_csr``.

    Args:
        src: [J, ...] numbers.
        indptr: [I + 1] integers ascending from 0 to J.
        reduce: ``"sum"``, ``"mean"``, ``"max"`` or ``"min"``.

    Returns:
        [I, ...]; 0 for an empty segment.

    >>> segment_reduce(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 2, 2, 3]), reduce="max").tolist()
    [2.0, 0.0, 4.0]
    """
    _kinds(src, indptr, "indptr")
    _check.shape("indptr", indptr, ["I + 1"])
    if reduce not in ("sum", "mean", "max", "min"):
        raise ArgumentError("reduce", "'sum', 'mean', 'max' or 'min'", repr(reduce))
    each = torch.arange(len(src) + 1, device=src.device)
    target = torch.searchsorted(indptr.long(), each[:-1], right=True) - 1
    place = each[:-1]
    return _reduce([indptr.long(), place, target, each, target, place, place, place], src, 0, reduce)


def _kinds(src: Tensor, index: Tensor, name: str = "index") -> None:
    if not isinstance(src, Tensor):
        raise ArgumentTypeError("src", "a floating-point tensor", type(src).__name__)
    _check.floating("src", src, src.device)
    if src.dim() == 0:
        raise ArgumentError("src", "one dimension at least", "a single number")
    _check.integers(name, index, src.device)


def _checked(src: Tensor, index: Tensor, dim: int, reduce: str) -> None:
    _kinds(src, index)
    if not -src.dim() <= dim < src.dim():
        raise ArgumentError("dim", f"a dimension of src, {-src.dim()} .. {src.dim() - 1}", dim)
    _check.shape("index", index, [src.shape[dim]], "One entry for each of src along dim")
    if reduce not in ("sum", "mean", "max", "min"):
        raise ArgumentError("reduce", "'sum', 'mean', 'max' or 'min'", repr(reduce))


def _in_range(index: Tensor, size: int) -> None:
    """Refuse what would read or write elsewhere, where looking costs nobody a wait."""
    if not index.is_cuda and not torch.compiler.is_compiling():
        _coo.check_range("index", index, size, "entries")


def _rows_of(index: Tensor, size: int) -> Rows:
    """The size x J structure in which each entry of the result lists the entries of src that it hears."""
    index = index.long()
    target, order = torch.sort(index, stable=True)
    each = torch.arange(len(index) + 1, device=index.device)
    back = torch.empty_like(order).index_put((order,), each[:-1])
    return [_coo.pointers(target, size), order, target, each, index, each[:-1], back, order]


def _reduce(adj: Rows, src: Tensor, dim: int, reduce: str) -> Tensor:
    x = src.movedim(dim, 0)
    flat = x.flatten(1) if x.dim() > 1 else x.unsqueeze(1)
    if reduce in ("max", "min"):
        out = extremum(adj, None, flat, reduce == "max")
    else:
        out = (spmm if reduce == "sum" else mean)(adj, None, flat)
    return out.view(len(out), *x.shape[1:]).movedim(0, dim)
