"""Instances of algorithms on numbers, inside and outside the range of a training (Back de Luca et al., ICML 2025)."""

from __future__ import annotations

import torch
from torch import Tensor

from hgraph.checks import whole
from hgraph.errors import ArgumentError

__all__ = ["ALGORITHMS", "algorithmic_task"]

ALGORITHMS = ("sum", "min", "median", "sort", "max_subarray")


def algorithmic_task(
    name: str,
    batch: int,
    num_tokens: int,
    *,
    scale: float = 1.0,
    train_range: float = 2.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Random numbers and the result of an algorithm at every token.

    Use it to train and test networks that imitate algorithms, such as `hgraph.models.PositionalTransformer`.

    ``"sum"``, ``"min"``, ``"median"`` and ``"max_subarray"`` are cumulative: token i has the result for the first i
    numbers. Each instance draws two bounds from :math:`[-f r, f r]`, then its numbers between them; for a scale f above
    1, bounds that are both in the training range :math:`[-r, r]` are drawn again.

    Args:
        name: one of `ALGORITHMS`.
        batch: B, number of instances.
        num_tokens: n.
        scale: f, at least 1.
        train_range: r.
        generator: random number generator; None uses torch's default.

    Returns:
        x [B, n + 1, 1] and y [B, n + 1, 1]; the last token is a scratch token, with 0 in both.

    Raises:
        ArgumentError: an unknown name, or a scale below 1.

    Source: Back de Luca et al., "Positional Attention: Expressivity and Learnability of Algorithmic Computation", ICML
    2025, section 6 and appendix.

    >>> x, y = algorithmic_task("sum", 2, 8)
    >>> bool((y[:, :-1] - x[:, :-1].cumsum(1)).abs().max() < 1e-6), x.shape
    (True, torch.Size([2, 9, 1]))
    """
    if name not in ALGORITHMS:
        raise ArgumentError("name", f"one of {', '.join(ALGORITHMS)}", repr(name))
    if not scale >= 1:
        raise ArgumentError("scale", "1 or more", scale)
    whole("batch", batch), whole("num_tokens", num_tokens, 1)
    bounds = _bounds(batch, scale, train_range, generator)
    low, high = bounds.amin(1, keepdim=True), bounds.amax(1, keepdim=True)
    x = low + (high - low) * torch.rand(batch, num_tokens, generator=generator)
    padded = torch.zeros(2, batch, num_tokens + 1, 1)
    padded[:, :, :-1, 0] = torch.stack([x, _RESULT[name](x)])
    return padded[0], padded[1]


def _bounds(batch: int, scale: float, train_range: float, generator: torch.Generator | None) -> Tensor:
    """[B, 2] bounds; of a scale above 1, at least one is outside the training range."""

    def draw(count: int) -> Tensor:
        return scale * train_range * (2 * torch.rand(count, 2, generator=generator) - 1)

    found = draw(batch)
    while scale > 1:
        inside = (found.abs() <= train_range).all(1)
        if not bool(inside.any()):
            break
        found[inside] = draw(int(inside.sum()))
    return found


def _median(x: Tensor) -> Tensor:
    parts = [x[:, : i + 1].sort(1).values for i in range(x.shape[1])]
    return torch.stack([(part[:, i // 2] + part[:, (i + 1) // 2]) / 2 for i, part in enumerate(parts)], 1)


def _max_subarray(x: Tensor) -> Tensor:
    """The largest sum of consecutive numbers, at least one."""
    ending, best, out = x[:, 0], x[:, 0], [x[:, 0]]
    for column in x[:, 1:].unbind(1):
        ending = torch.maximum(column, ending + column)
        best = torch.maximum(best, ending)
        out.append(best)
    return torch.stack(out, 1)


_RESULT = {
    "sum": lambda x: x.cumsum(1),
    "min": lambda x: x.cummin(1).values,
    "median": _median,
    "sort": lambda x: x.sort(1).values,
    "max_subarray": _max_subarray,
}
