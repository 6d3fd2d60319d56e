"""Norms: GraphNorm (Cai et al., ICML 2021), PairNorm (Zhao and Akoglu, ICLR 2020), SimpleRMSNorm (Qin et al., 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels, real
from hgraph.errors import ArgumentError
from hgraph.ops.sparse.linear import upcast

__all__ = ["BatchNorm", "GraphNorm", "PairNorm", "SimpleRMSNorm"]


class BatchNorm(nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d` over all nodes of all examples.

    Use it where features are [..., N, D]: `torch.nn.BatchNorm1d` expects the channels in the second dimension.

    Shapes:
        x [..., N, D] -> [..., N, D].

    >>> BatchNorm(3)(torch.randn(2, 4, 3)).shape
    torch.Size([2, 4, 3])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalize each channel."""
        return super().forward(input.flatten(0, -2)).view(input.shape)


class GraphNorm(nn.Module):
    r"""Normalize each channel over the nodes, after a learned part of its mean is subtracted.

    Use it between layers in place of batch norm. It can learn to keep the mean, which is informative on regular graphs.

    .. math:: x'_{id} = \gamma_d \frac{x_{id} - \alpha_d \mu_d}{\sqrt{\hat\sigma_d^2 + \epsilon}} + \beta_d, \qquad
              \hat\sigma_d^2 = \operatorname{mean}_i (x_{id} - \alpha_d \mu_d)^2

    with :math:`\mu_d` the mean over the nodes of an example.

    Args:
        channels: D.
        eps: epsilon.

    Shapes:
        x [..., N, D] -> [..., N, D]; the leading dimensions are examples.

    Source: Cai et al., "GraphNorm: A Principled Approach to Accelerating Graph Neural Network Training", ICML 2021,
    eq. 6.

    >>> GraphNorm(2)(torch.tensor([[1.0, 5.0], [3.0, 5.0]])).round(decimals=3).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """

    def __init__(self, channels: int, *, eps: float = 1e-5) -> None:
        check_channels(channels=channels)
        super().__init__()
        self.channels, self.eps = channels, real("eps", eps, "a finite number, 0 or more")
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.mean_scale = nn.Parameter(torch.ones(channels))

    def extra_repr(self) -> str:
        """The size."""
        return f"{self.channels}"

    def reset_parameters(self) -> None:
        """Reset to scale 1, shift 0, and subtraction of the whole mean."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)
        nn.init.ones_(self.mean_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize over the nodes."""
        _check(x, self.channels)
        wide = upcast(x)  # squares overflow float16 from 256 on
        moved = wide - self.mean_scale.to(wide.dtype) * wide.mean(-2, keepdim=True)
        spread = moved.square().mean(-2, keepdim=True)
        out = self.weight.to(wide.dtype) * moved * (spread + self.eps).rsqrt() + self.bias.to(wide.dtype)
        return out.to(x.dtype)


class PairNorm(nn.Module):
    r"""Center the nodes and keep the mean of all squared distances between them constant.

    Use it in deep networks whose node features become equal.

    .. math:: \tilde x_i = x_i - \operatorname{mean}_j x_j, \qquad
              x'_i = s \frac{\tilde x_i}{\sqrt{\epsilon + \operatorname{mean}_j \lVert \tilde x_j \rVert^2}}

    It has no parameters.

    Args:
        scale: s.
        individually: whether each node is divided by its own length (PairNorm-SI).
        eps: epsilon.

    Shapes:
        x [..., N, D] -> [..., N, D]; the leading dimensions are examples.

    Source: Zhao and Akoglu, "PairNorm: Tackling Oversmoothing in GNNs", ICLR 2020, eq. 10 and 11.

    >>> PairNorm()(torch.tensor([[0.0], [4.0]])).round(decimals=3).tolist()
    [[-1.0], [1.0]]
    """

    def __init__(self, scale: float = 1.0, *, individually: bool = False, eps: float = 1e-5) -> None:
        super().__init__()
        self.scale = real("scale", scale, "a finite number, 0 or more")
        self.individually, self.eps = individually, real("eps", eps, "a finite number, 0 or more")

    def extra_repr(self) -> str:
        """The settings."""
        return f"scale={self.scale}, individually={self.individually}"

    def forward(self, x: Tensor) -> Tensor:
        """Center and scale."""
        _check(x, None)
        wide = upcast(x)  # squares overflow float16 from 256 on
        moved = wide - wide.mean(-2, keepdim=True)
        length = moved.square().sum(-1, keepdim=True)
        if not self.individually:
            length = length.mean(-2, keepdim=True)
        return (self.scale * moved * (length + self.eps).rsqrt()).to(x.dtype)


def _check(x: Tensor, channels: int | None) -> None:
    if x.dim() < 2 or channels not in (None, x.shape[-1]):
        raise ArgumentError("x", f"shape [..., N, {'D' if channels is None else channels}]", f"shape {list(x.shape)}")


class SimpleRMSNorm(nn.Module):
    r"""Divide features by their root mean square; there are no parameters.

    Use it in place of layer norm where a scale per channel is not needed.

    .. math:: y = \frac{x}{\sqrt{\operatorname{mean}(x^2) + \epsilon}}

    Args:
        eps: epsilon.

    Shapes:
        x [..., D] -> [..., D], computed in at least float32.

    Source: Qin et al., "Various Lengths, Constant Speed: Efficient Language Modeling with Lightning Attention", ICML
    2024, section 3.

    >>> SimpleRMSNorm()(torch.tensor([3.0, -3.0])).round(decimals=3).tolist()
    [1.0, -1.0]
    """

    def __init__(self, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = real("eps", eps, "a finite number, 0 or more")

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the last dimension."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)
