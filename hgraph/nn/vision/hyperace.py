"""HyperACE: correlations among all pixels of three scales, with soft hyperedges (YOLOv13, 2025)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.hypergraph.soft import SoftHGNN, reset_soft
from hgraph.nn.vision.blocks import ConvBlock, DSC3k, reset_maps

__all__ = ["C3AH", "FullPAD", "HyperACE"]


class OverMap(nn.Module):
    """`SoftHGNN` over the pixels of a map."""

    def __init__(self, channels: int, num_hyperedges: int, *, dropout: float) -> None:
        super().__init__()
        if channels % 16:
            raise ArgumentError("channels", "a multiple of 16, because each head has width 16", channels)
        self.hgnn = SoftHGNN(channels, num_hyperedges, channels // 16, dropout=dropout, gate=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.hgnn(x.flatten(2).mT).mT.unflatten(-1, x.shape[-2:])


class C3AH(nn.Module):
    r"""A soft hypergraph convolution over the pixels on one branch, the identity on the other.

    Use it inside `HyperACE`.

    .. math:: Y = \mathrm{cv}_3([\mathrm{SoftHGNN}(\mathrm{cv}_1 X) ; \mathrm{cv}_2 X])

    Args:
        in_channels: :math:`C_1`.
        out_channels: :math:`C_2`.
        num_hyperedges: M.
        expansion: e, hidden channels divided by :math:`C_2`; hidden channels are a multiple of 16, in heads of 16.
        dropout: of the participation logits, in training.

    Shapes:
        x [B, C_1, H, W] -> [B, C_2, H, W].

    Source: Lei et al., "YOLOv13" (arXiv 2506.17733), eq. 1 to 3.

    >>> C3AH(8, 16, 4)(torch.randn(2, 8, 6, 6)).shape
    torch.Size([2, 16, 6, 6])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_hyperedges: int = 8,
        *,
        expansion: float = 1.0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        hidden = int(out_channels * expansion)
        self.cv1 = ConvBlock(in_channels, hidden)
        self.cv2 = ConvBlock(in_channels, hidden)
        self.m = OverMap(hidden, num_hyperedges, dropout=dropout)
        self.cv3 = ConvBlock(2 * hidden, out_channels)

    def reset_parameters(self) -> None:
        """As torch, prototypes as `SoftHyperedges`."""
        reset_maps(self)
        reset_soft(self)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate both branches."""
        return self.cv3(torch.cat([self.m(self.cv1(x)), self.cv2(x)], 1))


class Fuse(nn.Module):
    """Resample three scales to the middle grid, concatenate them, and mix them with a 1 x 1 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv_out = ConvBlock(in_channels, out_channels)

    def forward(self, p3: Tensor, p4: Tensor, p5: Tensor) -> Tensor:
        return self.conv_out(torch.cat([F.avg_pool2d(p3, 2), p4, F.interpolate(p5, scale_factor=2.0)], 1))


class HyperACE(nn.Module):
    r"""Correlate all pixels of three scales: two hypergraph branches, a convolution branch, and the identity.

    Use it in a detector to relate objects across three scales.

    .. math:: x = \mathrm{fuse}(P_3, P_4, P_5), \qquad (y_0, y_1, y_2) = \mathrm{chunk}(\mathrm{cv}_1 x), \qquad
              o_i = \mathrm{C3AH}_i(y_1), \qquad z_{j+1} = \mathrm{DSC3k}(z_j), \quad z_0 = y_2

    .. math:: Y = \mathrm{cv}_2([y_0 ; o_1 ; y_2 ; z_1 ; \ldots ; z_n ; o_2])

    Args:
        in_channels: channels of :math:`P_3`, :math:`P_4` and :math:`P_5`; x has those of :math:`P_4`.
        out_channels: C, twice the channels of a branch, which are a multiple of 16.
        num_blocks: n.
        num_hyperedges: M.
        dropout: of the participation logits, in training.

    Shapes:
        p3 [B, C_3, 2H, 2W], p4 [B, C_4, H, W], p5 [B, C_5, H/2, W/2] -> [B, C, H, W].

    Source: Lei et al., "YOLOv13" (arXiv 2506.17733), eq. 4.

    >>> p3, p4, p5 = (torch.randn(2, 8, n, n) for n in (8, 4, 2))
    >>> HyperACE((8, 8, 8), 32)(p3, p4, p5).shape
    torch.Size([2, 32, 4, 4])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_blocks: int = 1,
        *,
        num_hyperedges: int = 8,
        dropout: float = 0.1,
    ) -> None:
        if len(in_channels) != 3:
            raise ArgumentError("in_channels", "three numbers, for P3, P4 and P5", list(in_channels))
        check_channels(num_blocks=num_blocks)
        super().__init__()
        width = out_channels // 2
        self.fuse = Fuse(sum(in_channels), in_channels[1])
        self.cv1 = ConvBlock(in_channels[1], 3 * width)
        self.branch1 = C3AH(width, width, num_hyperedges, dropout=dropout)
        self.branch2 = C3AH(width, width, num_hyperedges, dropout=dropout)
        self.m = nn.ModuleList(DSC3k(width, expansion=0.5) for _ in range(num_blocks))
        self.cv2 = ConvBlock((4 + num_blocks) * width, out_channels)

    def reset_parameters(self) -> None:
        """As torch, prototypes as `SoftHyperedges`."""
        reset_maps(self)
        reset_soft(self)

    def forward(self, p3: Tensor, p4: Tensor, p5: Tensor) -> Tensor:
        """The correlated features of the three scales, on the middle grid."""
        (h3, w3), (h4, w4), (h5, w5) = (p.shape[-2:] for p in (p3, p4, p5))
        if (h3, w3, h4, w4) != (2 * h4, 2 * w4, 2 * h5, 2 * w5):
            expected = f"maps of {2 * h4} x {2 * w4}, {h4} x {w4} and {h4 / 2:g} x {w4 / 2:g}"
            hint = "Use an image whose sides are multiples of 32"
            raise ArgumentError("p3, p4, p5", expected, f"{h3} x {w3}, {h4} x {w4} and {h5} x {w5}", hint)
        y0, y1, y2 = self.cv1(self.fuse(p3, p4, p5)).chunk(3, 1)
        low = [y2]
        for block in self.m:
            low.append(block(low[-1]))
        return self.cv2(torch.cat([y0, self.branch1(y1), *low, self.branch2(y1)], 1))


class FullPAD(nn.Module):
    r"""Add the correlated features to a map, with a learned gate that starts at zero.

    Use it to add the output of `HyperACE` to the maps of a detector.

    .. math:: Y = X + g H

    Args:
        none: g is a scalar, initially 0.

    Shapes:
        x and h [B, C, H, W] -> the same.

    Source: Lei et al., "YOLOv13" (arXiv 2506.17733), eq. 7.

    >>> tunnel, x = FullPAD(), torch.randn(2, 4, 3, 3)
    >>> torch.equal(tunnel(x, torch.ones(2, 4, 3, 3)), x)
    True
    """

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(()))

    def reset_parameters(self) -> None:
        """Set the gate to zero."""
        nn.init.zeros_(self.gate)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Add the gated features."""
        return x + self.gate.to(h.dtype) * h
