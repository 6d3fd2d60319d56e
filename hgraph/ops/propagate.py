"""`propagate`: gather from the sources, reduce at the targets."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from hgraph import checks
from hgraph.errors import ArgumentError
from hgraph.ops.soft import soft_propagate
from hgraph.ops.sparse.extremum import extremum
from hgraph.ops.sparse.linear import rows, spmm
from hgraph.ops.sparse.mean import mean
from hgraph.structure import Adjacency, SoftAdjacency

__all__ = ["check_weight", "propagate"]

_REDUCTIONS = ("sum", "mean", "max", "min")


def propagate(
    adj: Adjacency | SoftAdjacency,
    x: Tensor,
    *,
    weight: Tensor | None = None,
    reduce: Literal["sum", "mean", "max", "min"] = "sum",
) -> Tensor:
    r"""Aggregate the weighted messages of the sources at each target.

    Use it to aggregate over any structure: it is the message-passing step of a layer whose edge weights are known.

    .. math:: y_t = \operatorname{reduce}_{e: t \leftarrow s} w_e x_s

    Args:
        adj: the structure. A `SoftAdjacency` is used as a dense matrix.
        x: [..., S, D] messages of the sources; leading dimensions are a batch that shares the structure.
        weight: [E] or [E, K] in row-sorted order, in place of ``adj.weight``; column k acts on the k-th of K
            equal channel blocks (heads), so K divides D. Cast to x's dtype.
        reduce: ``"sum"``; ``"mean"`` divides the sum by the number of edges (a weighted average is
            ``adj.normalize("row")`` with ``"sum"``); ``"max"`` and ``"min"`` split the gradient among ties.

    Returns:
        [..., T, D] in x's dtype; 0 for a target without edges. Half precision accumulates in float32. Results are
        bitwise reproducible for the same inputs. Nothing of size E x D is stored. A NaN or an infinity reaches only the
        targets of its edges. A mean
        is finite if it is in the range of the dtype, even if the sum of the messages is not.

    Raises:
        ArgumentError: a wrong shape or device, an unknown reduction.
        ArgumentTypeError: tensors that are not floating-point.

    >>> import torch
    >>> adj = Adjacency.from_coo(target=[0, 0, 1], source=[0, 1, 1], num_targets=3, num_sources=2)
    >>> propagate(adj, torch.tensor([[1.0], [2.0]])).flatten().tolist()
    [3.0, 2.0, 0.0]
    """
    if reduce not in _REDUCTIONS:
        raise ArgumentError("reduce", f"one of {', '.join(_REDUCTIONS)}", repr(reduce))
    checks.structure(adj, Adjacency, SoftAdjacency)
    checks.floating("x", x, adj.device)
    if x.dim() < 2 or x.shape[-2] != adj.num_sources:
        checks.shape("x", x, ["...", adj.num_sources, "D"], "One row per source; is the structure transposed?")
    if isinstance(adj, SoftAdjacency):
        return soft_propagate(adj, x, weight, reduce)
    weight = adj.weight if weight is None else weight
    if weight is not None:
        check_weight(adj, weight, x.shape[-1])
        weight = weight if weight.dtype == x.dtype else weight.to(x.dtype)
    if reduce == "sum":
        return spmm(rows(adj), weight, x)
    if reduce == "mean":
        return mean(rows(adj), weight, x)
    return extremum(rows(adj), weight, x, reduce == "max")


def check_weight(adj: Adjacency, weight: Tensor, channels: int | None = None) -> None:
    """Check weights [E] or [E, K] of edges; K divides the channels, if they are known.

    Raises:
        ArgumentError: a wrong shape or device.
        ArgumentTypeError: not floating-point.
    """
    checks.floating("weight", weight, adj.device)
    if weight.shape == adj.indices.shape:  # the common case needs no further checks
        return
    num_edges, hint = adj.num_edges, "Weights are in row-sorted order: use adj.sort_edges(weight)"
    if weight.dim() not in (1, 2):
        raise ArgumentError("weight", f"shape [{num_edges}] or [{num_edges}, K]", f"shape {list(weight.shape)}", hint)
    checks.shape("weight", weight, (num_edges, "K")[: weight.dim()], hint)
    if weight.dim() == 2 and channels is not None and (weight.shape[1] == 0 or channels % weight.shape[1] != 0):
        raise ArgumentError("weight", f"K columns that divide the {channels} channels of x", weight.shape[1])
