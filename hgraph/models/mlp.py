"""Multilayer perceptron: message passing over the empty structure."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["MLP"]


class MLP(nn.Module):
    r"""Linear, ReLU, BatchNorm, Dropout, Linear: the student of LightHGNN, which needs no structure.

    .. math:: Z = \mathrm{BN}(\mathrm{ReLU}(X \Theta_1 + b_1)) \, \Theta_2 + b_2

    Args:
        in_channels: F, features of a vertex.
        hidden_channels: width of the hidden layer.
        num_classes: C.
        dropout: probability, after the normalisation.
        norm: whether there is the BatchNorm, as published; on few labels the network is stronger without.

    Shapes:
        x [N, F] -> logits [N, C].

    Source: Feng et al., "LightHGNN", ICLR 2024 (card 04, eq. 2).

    >>> import torch
    >>> MLP(8, 16, 3)(torch.randn(5, 8)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, num_classes: int, *, dropout: float = 0.5, norm: bool = True
    ) -> None:
        super().__init__()
        self.hidden = nn.Linear(in_channels, hidden_channels)
        self.norm = nn.BatchNorm1d(hidden_channels) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class logits from features alone."""
        return self.out(self.dropout(self.norm(self.hidden(x).relu())))
