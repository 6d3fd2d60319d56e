"""`aggregate`: sums of messages that are any function of an edge's target, source and own features."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hgraph import checks
from hgraph._torch import is_eager
from hgraph.cache import TensorTable
from hgraph.errors import ArgumentError
from hgraph.ops.propagate import check_weight
from hgraph.ops.sparse.extremum import extremum
from hgraph.ops.sparse.linear import at_source, at_target, edges_to_targets, rows, spmm, upcast
from hgraph.ops.sparse.mean import mean
from hgraph.structure import Adjacency

__all__ = ["aggregate"]

_NUMBERS = 1 << 20  # in the messages of one chunk
_REDUCTIONS = ("sum", "mean", "max", "min", "none")
_Chunk = tuple[slice, slice, Adjacency]
# Row pointers, which no chunk holds, -> size of a chunk -> chunks: an entry dies with its structure.
_CHUNKS: TensorTable[dict[int, tuple[weakref.ref[Tensor], list[_Chunk]]]] = TensorTable()


def aggregate(
    adj: Adjacency,
    message: Callable[..., Tensor],
    *,
    target: Tensor | None = None,
    source: Tensor | None = None,
    edge: Tensor | None = None,
    weight: Tensor | None = None,
    reduce: Literal["sum", "mean", "max", "min", "none"] = "sum",
    chunked: bool = True,
) -> Tensor:
    r"""Compute a message for every edge, and aggregate the messages at each target.

    Use it when a message is a nonlinear function of both ends or of the edge; `propagate` and `attend` are much faster
    where they suffice.

    .. math:: y_t = \operatorname{reduce}_{e: t \leftarrow s} w_e \, \phi(x_t, x_s, z_e)

    In eager mode, messages are computed in chunks of whole targets and recomputed in the backward pass, so nothing per
    edge is stored. Compiled code computes all messages at once. Gradients of float16 and bfloat16 features are summed
    over the chunks in float32.

    Args:
        adj: the structure.
        message: :math:`\phi`, a function of the features passed, in the order target, source, edge, each [..., E', D],
            to [..., E', D']. It must treat each row independently, unless ``chunked`` is False.
        target: [..., T, D_t] features of the targets.
        source: [..., S, D_s] features of the sources.
        edge: [..., E, D_e] features of the edges, in row-sorted order.
        weight: [E] or [E, K] in row-sorted order, in place of ``adj.weight``, as in `propagate`.
        reduce: as in `propagate`; ``"none"`` returns the messages, which is useful for few channels, such as scores.
        chunked: False computes all messages at once, for a message that depends on other rows, such as batch norm.

    Returns:
        [..., T, D']; 0 for a target without edges. With ``"none"`` [..., E, D'], without weights.

    Raises:
        ArgumentError: a wrong shape or device, also of the messages, no features, or an unknown reduction.
        ArgumentTypeError: tensors that are not floating-point.

    >>> adj = Adjacency.from_coo(target=[0, 0, 1], source=[0, 1, 1], num_targets=3, num_sources=2)
    >>> x = torch.tensor([[1.0], [2.0]])
    >>> aggregate(adj, lambda s: s**2, source=x).flatten().tolist()
    [5.0, 4.0, 0.0]
    """
    checks.structure(adj, Adjacency)
    if reduce not in _REDUCTIONS:
        raise ArgumentError("reduce", f"one of {', '.join(_REDUCTIONS)}", repr(reduce))
    given = {"target": (target, adj.num_targets), "source": (source, adj.num_sources), "edge": (edge, adj.num_edges)}
    for name, (x, size) in given.items():
        if x is not None:
            checks.floating(name, x, adj.device)
            if x.dim() < 2 or x.shape[-2] != size:
                checks.shape(name, x, ["...", size, "D"])
    features = [x for x, _ in given.values() if x is not None]
    if not features:
        raise ArgumentError("target, source, edge", "at least one", "none")
    weight = adj.weight if weight is None else weight
    if weight is not None:
        check_weight(adj, weight)
    size = _edges_per_chunk(adj, features)
    at_once = not chunked or not is_eager() or adj.num_edges <= size
    if not at_once and torch.is_grad_enabled():
        # every chunk adds to these gradients: sums in half precision would be rounded once per chunk
        message = _narrowing(message, target, source, edge)
        target, source, edge = (None if x is None else upcast(x) for x in (target, source, edge))
    one = (message, target, source, edge, weight, reduce)
    if at_once:
        return _aggregated(adj, slice(None), slice(None), *one)
    parts = []
    for targets, edges, part in _chunks(adj, size):
        if torch.is_grad_enabled():
            parts.append(checkpoint(_aggregated, part, targets, edges, *one, use_reentrant=False))
        else:
            parts.append(_aggregated(part, targets, edges, *one))
    return torch.cat(parts, -2)


def _aggregated(
    part: Adjacency,
    targets: slice,
    edges: slice,
    message: Callable[..., Tensor],
    target: Tensor | None,
    source: Tensor | None,
    edge: Tensor | None,
    weight: Tensor | None,
    reduce: str,
) -> Tensor:
    """The result at some targets; ``part`` has their edges."""
    index, given = rows(part), []
    if target is not None:
        given.append(at_target(index, target if targets == slice(None) else target[..., targets, :]))
    if source is not None:
        given.append(at_source(index, source))
    if edge is not None:
        given.append(edge if edges == slice(None) else edge[..., edges, :])
    sent, own = message(*given), edges_to_targets(index)
    checks.floating("message", sent, part.device)
    if sent.dim() < 2 or sent.shape[-2] != part.num_edges:
        checks.shape("message", sent, ["...", part.num_edges, "D'"], "It returns one row for each given row")
    if reduce == "none":
        return sent
    if weight is not None:
        weight = weight[edges].to(sent.dtype)
        check_weight(part, weight, sent.shape[-1])
    if reduce == "sum":
        return spmm(own, weight, sent)
    return mean(own, weight, sent) if reduce == "mean" else extremum(own, weight, sent, reduce == "max")


def _narrowing(message: Callable[..., Tensor], *features: Tensor | None) -> Callable[..., Tensor]:
    """The message of rows that are given in float32, at the dtypes of the features."""
    dtypes = [x.dtype for x in features if x is not None]
    return lambda *given: message(*(x.to(dtype) for x, dtype in zip(given, dtypes, strict=True)))


def _edges_per_chunk(adj: Adjacency, features: list[Tensor]) -> int:
    """As many as there are rows at least: the backward pass of every chunk adds to the gradients of all rows."""
    width = sum(x.shape[-1] * max(x.shape[:-2].numel(), 1) for x in features)
    return max(_NUMBERS // max(width, 1), adj.num_targets + adj.num_sources)


def _chunks(adj: Adjacency, size: int) -> list[_Chunk]:
    """Ranges of targets, of their edges, and these edges as a structure; about ``size`` edges, one target at least."""
    by_size = _CHUNKS.get(adj.indptr) or {}
    found = by_size.get(size)
    if found is not None and found[0]() is adj.indices:  # structures may share their row pointers
        return found[1]
    pointers, out, first = adj.indptr.tolist(), [], 0
    while first < adj.num_targets:
        last = first + 1
        while last < adj.num_targets and pointers[last + 1] - pointers[first] <= size:
            last += 1
        edges = slice(pointers[first], pointers[last])
        own = adj.indptr[first : last + 1] - adj.indptr[first]
        part = Adjacency.trusted(indptr=own, indices=adj.indices[edges], num_sources=adj.num_sources)
        out.append((slice(first, last), edges, part))
        first = last
    if not adj.indptr.is_inference():
        _CHUNKS.put(adj.indptr, {**by_size, size: (weakref.ref(adj.indices), out)})
    return out
