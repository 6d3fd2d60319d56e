"""The multilayer perceptron inside set functions over hyperedges."""

from __future__ import annotations

from torch import nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError

__all__ = ["set_mlp"]


def set_mlp(
    in_channels: int,
    hidden_channels: int,
    out_channels: int,
    num_layers: int,
    *,
    dropout: float,
    norm: bool,
    input_norm: bool = True,
) -> nn.Sequential:
    """A multilayer perceptron as AllSet and ED-HNN use it: layer norm on the input and after each hidden layer.

    Args:
        in_channels: input features.
        hidden_channels: features between the linear maps.
        out_channels: output features.
        num_layers: number of linear maps; 0 is the identity.
        dropout: dropout probability after each hidden layer.
        norm: whether to use layer norm.
        input_norm: whether to use it on the input too; the MLPs that classify do not.

    Raises:
        ArgumentError: sizes that are not positive, or an identity between different sizes.

    >>> set_mlp(8, 16, 4, 1, dropout=0.5, norm=False)
    Sequential(
      (0): Linear(in_features=8, out_features=4, bias=True)
    )
    """
    check_channels(in_channels=in_channels, hidden_channels=hidden_channels, out_channels=out_channels)
    if num_layers == 0:
        if in_channels != out_channels:
            hint = "An MLP without layers is the identity"
            raise ArgumentError("out_channels", f"{in_channels}, like in_channels", out_channels, hint)
        return nn.Sequential()
    layers: list[nn.Module] = [nn.LayerNorm(in_channels)] if norm and input_norm else []
    for width in [in_channels, *[hidden_channels] * (num_layers - 2)][: num_layers - 1]:
        layers += [nn.Linear(width, hidden_channels), nn.ReLU()]
        layers += [nn.LayerNorm(hidden_channels)] if norm else []
        layers += [nn.Dropout(dropout)] if dropout else []
    layers.append(nn.Linear(in_channels if num_layers == 1 else hidden_channels, out_channels))
    return nn.Sequential(*layers)
