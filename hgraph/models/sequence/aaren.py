"""`AarenEncoder`: a Transformer encoder whose attention is a recurrence (Feng et al., 2024)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.checks import check_channels, real
from hgraph.nn.padding import without_padding
from hgraph.nn.recurrent.aaren import Aaren
from hgraph.nn.recurrent.state import ChainState, StackState, states_of
from hgraph.nn.reset import reset

__all__ = ["AarenEncoder"]


class AarenEncoder(nn.Module):
    r"""Layers of `hgraph.nn.Aaren` and an MLP, each with a residual and a layer norm.

    Use it in place of a causal Transformer encoder for sequences that arrive token by token: the size of the state is
    fixed.

    .. math:: h = \operatorname{norm}_1(x + \mathrm{Aaren}(x)), \qquad
              y = \operatorname{norm}_2\big(h + W_2 \operatorname{ReLU}(W_1 h + b_1) + b_2\big)

    With ``norm_first``, :math:`h = x + \mathrm{Aaren}(\operatorname{norm}_1 x)` and likewise for the MLP. A layer has
    the parameters of a `torch.nn.TransformerEncoderLayer` and one learned token.

    Args:
        dim: features per token.
        num_heads: H.
        num_layers: L.
        hidden_channels: hidden width of the MLP.
        dropout: dropout probability in and after the MLP, and after the attention.
        norm_first: whether the norms are applied before Aaren and the MLP, instead of after the residuals.

    Shapes:
        x [..., N, dim] -> [..., N, dim]; ``mask`` [..., N] as in `hgraph.nn.Aaren`; ``state`` is a `StackState`.

    Source: Feng et al., "Attention as an RNN", sections 3.3 and 4; with dim 512 and 2,048 hidden channels one layer has
    3,152,896 parameters.

    >>> import torch
    >>> AarenEncoder(8, 2, num_layers=2, hidden_channels=16)(torch.randn(3, 10, 8)).shape
    torch.Size([3, 10, 8])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        num_layers: int = 1,
        hidden_channels: int = 2048,
        dropout: float = 0.0,
        norm_first: bool = False,
    ) -> None:
        check_channels(dim=dim, num_heads=num_heads, num_layers=num_layers, hidden_channels=hidden_channels)
        real("dropout", dropout, "a probability, 0 .. 1", 0.0, 1.0)
        super().__init__()
        self.layers = nn.ModuleList(
            _Layer(dim, num_heads, hidden_channels, dropout, norm_first) for _ in range(num_layers)
        )

    def reset_parameters(self) -> None:
        """Reset all layers."""
        reset(self)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, state: StackState | None = None) -> Tensor:
        """Encode every prefix."""
        for layer, own in zip(self.layers, states_of(state, len(self.layers)), strict=True):
            x = layer(x, mask, own)
        return x


class _Layer(nn.Module):
    def __init__(self, dim: int, num_heads: int, hidden_channels: int, dropout: float, norm_first: bool) -> None:
        super().__init__()
        self.attention, self.norm_first, self.dropout = Aaren(dim, num_heads), norm_first, dropout
        self.linear1, self.linear2 = nn.Linear(dim, hidden_channels), nn.Linear(hidden_channels, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor, mask: Tensor | None, state: ChainState | None) -> Tensor:
        x = without_padding(x, mask)
        if self.norm_first:
            x = x + self._drop(self.attention(self.norm1(x), mask, state=state))
            x = x + self._mlp(self.norm2(x))
        else:
            x = self.norm1(x + self._drop(self.attention(x, mask, state=state)))
            x = self.norm2(x + self._mlp(x))
        return without_padding(x, mask)

    def _mlp(self, x: Tensor) -> Tensor:
        return self._drop(self.linear2(self._drop(F.relu(self.linear1(x)))))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)
