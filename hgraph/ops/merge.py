"""`merge`: one softmax over several disjoint edge sets."""

from __future__ import annotations

import torch

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.ops.attend import AttendResult

__all__ = ["merge"]


def merge(a: AttendResult, b: AttendResult) -> AttendResult:
    r"""Attention over the union of two disjoint edge sets, from the results over each.

    Use it when the sources of a target are split over two structures but share one softmax.

    .. math:: \mathrm{lse} = \log(e^{\mathrm{lse}_a} + e^{\mathrm{lse}_b}), \qquad
              y = e^{\mathrm{lse}_a - \mathrm{lse}} y_a + e^{\mathrm{lse}_b - \mathrm{lse}} y_b

    Args:
        a: result of `attend` over the first edge set.
        b: the same targets and heads over the second. An edge in both counts twice.

    Returns:
        `AttendResult`; 0 and -inf where both are empty, with finite gradients.

    Raises:
        ArgumentError: results of different shapes.
        ArgumentTypeError: not results of `attend`.

    >>> one = AttendResult(torch.tensor([[[1.0]]]), torch.tensor([[0.0]]))
    >>> none = AttendResult(torch.tensor([[[0.0]]]), torch.tensor([[-torch.inf]]))
    >>> merge(one, none).out.item(), merge(one, one).lse.item()
    (1.0, 0.6931471824645996)
    """
    for name, value in (("a", a), ("b", b)):
        if not isinstance(value, AttendResult):
            raise ArgumentTypeError(name, "an AttendResult", type(value).__name__)
    if a.out.shape != b.out.shape or a.lse.shape != b.lse.shape:
        got = f"{list(a.out.shape)} and {list(b.out.shape)}"
        raise ArgumentError("a, b", "results of the same shape", got)
    top = torch.maximum(a.lse, b.lse).detach()
    top = torch.where(top == float("-inf"), 0.0, top)  # both sides empty: the shift must stay finite
    share_a, share_b = torch.exp(a.lse - top), torch.exp(b.lse - top)
    total = share_a + share_b
    empty = total == 0
    total = torch.where(empty, 1.0, total)
    lse = torch.where(empty, float("-inf"), top + total.log())
    out = (share_a / total).unsqueeze(-1) * a.out + (share_b / total).unsqueeze(-1) * b.out
    return AttendResult(out.to(a.out.dtype), lse)
