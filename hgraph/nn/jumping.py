"""Jumping knowledge: combines the outputs of all layers of a network (Xu et al., ICML 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError

__all__ = ["JumpingKnowledge"]


class JumpingKnowledge(nn.Module):
    r"""Combine the outputs of all layers of a node, so that each node can use its own number of hops.

    Use it at the end of a stack of layers.

    .. math:: \text{cat: } [x^{(1)} \Vert \dots \Vert x^{(L)}], \qquad \text{max: } \max_l x^{(l)}, \qquad
              \text{lstm: } \sum_l \alpha^{(l)} x^{(l)}

    with :math:`\alpha` a softmax over the layers of a linear score of a bidirectional LSTM over them.

    Args:
        mode: ``"cat"``, ``"max"`` or ``"lstm"``.
        channels: D, for ``"lstm"``.
        num_layers: L, for ``"lstm"``; each of its two directions has L D // 2 hidden channels.

    Shapes:
        a list of L tensors [..., N, D] -> [..., N, L D] for ``"cat"``, else [..., N, D].

    Raises:
        ArgumentError: an unknown mode, or a size that ``"lstm"`` needs is missing.

    Source: Xu et al., "Representation Learning on Graphs with Jumping Knowledge Networks", ICML 2018, section 4.

    >>> JumpingKnowledge("max")([torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])])
    tensor([[1., 2.]])
    """

    def __init__(
        self, mode: Literal["cat", "max", "lstm"], *, channels: int | None = None, num_layers: int | None = None
    ) -> None:
        super().__init__()
        if mode not in ("cat", "max", "lstm"):
            raise ArgumentError("mode", "'cat', 'max' or 'lstm'", repr(mode))
        self.mode = mode
        self.lstm: nn.LSTM | None = None
        if mode == "lstm":
            if channels is None or num_layers is None:
                raise ArgumentError("channels, num_layers", "both for mode='lstm'", f"{channels}, {num_layers}")
            check_channels(channels=channels, num_layers=num_layers)
            hidden = max(num_layers * channels // 2, 1)
            self.lstm = nn.LSTM(channels, hidden, bidirectional=True, batch_first=True)
            self.score = nn.Linear(2 * hidden, 1)

    def reset_parameters(self) -> None:
        """Reset the LSTM and its score."""
        if self.lstm is not None:
            self.lstm.reset_parameters()
            self.score.reset_parameters()

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        """Combine the outputs of the layers."""
        if self.mode == "cat":
            return torch.cat(list(outputs), -1)
        each = torch.stack(list(outputs), -2)  # [..., N, L, D]
        if self.lstm is None:
            return each.amax(-2)
        found, _ = self.lstm(each.flatten(0, -3))
        weight = self.score(found).softmax(-2)
        return (weight * each.flatten(0, -3)).sum(-2).view_as(outputs[0])
