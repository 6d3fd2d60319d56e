"""Area attention: the tokens of a map attend within horizontal bands (YOLOv12; YOLOv13's backbone)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.errors import ArgumentError
from hgraph.nn.vision.blocks import ConvBlock, reset_maps
from hgraph.structure import Adjacency

__all__ = ["A2C2f", "AreaAttention", "area_adjacency"]


class AreaAttention(nn.Module):
    r"""Softmax attention within each of ``area`` equal runs of a map's pixels, row by row.

    Use it for attention over large feature maps, where full attention is too expensive.

    .. math:: [Q ; K] = W_{qk} X, \quad V = W_v X, \qquad
              Y = W_o \left( \operatorname{attend}(Q, K, V) + W_{\mathrm{pe}} * V \right)

    This is `hgraph.attend` over the token graph `area_adjacency`, whose ``area`` blocks are complete and disjoint.
    Because the blocks are equal, it is computed as a batch of dense attentions.

    Args:
        channels: C, a multiple of ``num_heads``.
        num_heads: h.
        area: number of bands; 1 is attention over the whole map.

    Shapes:
        x [B, C, H, W] with H * W a multiple of ``area`` -> the same.

    Source: Lei et al., "YOLOv13" (arXiv 2506.17733), eq. 6. Maps are convolutions with batch norm and no activation:
    1 x 1, and depthwise 5 x 5 for the positional term.

    >>> AreaAttention(8, 2, area=4)(torch.randn(2, 8, 4, 4)).shape
    torch.Size([2, 8, 4, 4])
    """

    def __init__(self, channels: int, num_heads: int, *, area: int = 1) -> None:
        check_channels(channels=channels, num_heads=num_heads, area=area)
        if channels % num_heads:
            raise ArgumentError("num_heads", f"a divisor of channels, {channels}", num_heads)
        super().__init__()
        self.num_heads, self.area = num_heads, area
        self.qk = ConvBlock(channels, 2 * channels, activation=False)
        self.v = ConvBlock(channels, channels, activation=False)
        self.proj = ConvBlock(channels, channels, activation=False)
        self.pe = ConvBlock(channels, channels, 5, groups=channels, activation=False)

    def reset_parameters(self) -> None:
        """As torch."""
        reset_maps(self)

    def forward(self, x: Tensor) -> Tensor:
        """Attend within the bands."""
        height, width = x.shape[-2:]
        if height * width % self.area:
            raise ArgumentError("x", f"a map whose pixels divide into {self.area} areas", f"{height} x {width}")
        v = self.v(x)
        q, k = self.qk(x).chunk(2, 1)
        out = F.scaled_dot_product_attention(self._tokens(q), self._tokens(k), self._tokens(v))  # scale d^-1/2
        out = out.transpose(1, 2).flatten(2).unflatten(0, (-1, self.area)).flatten(1, 2)  # [B, H * W, C]
        return self.proj(out.mT.unflatten(-1, (height, width)) + self.pe(v))

    def _tokens(self, x: Tensor) -> Tensor:
        """[B, C, H, W] as [B * area, heads, tokens, d]; channels of a head are contiguous."""
        tokens = x.flatten(2).mT.unflatten(1, (self.area, -1)).flatten(0, 1)
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class AreaBlock(nn.Module):
    """Attention and a pixelwise MLP, both residual; initial weights are truncated normal with deviation 0.02."""

    def __init__(self, channels: int, num_heads: int, *, mlp_ratio: float = 1.2, area: int = 1) -> None:
        super().__init__()
        hidden = int(channels * mlp_ratio)
        self.attn = AreaAttention(channels, num_heads, area=area)
        self.mlp = nn.Sequential(ConvBlock(channels, hidden), ConvBlock(hidden, channels, activation=False))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Convolutions from a truncated normal."""
        reset_maps(self)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


class A2C2f(nn.Module):
    r"""Stages of two area-attention blocks; concatenates all intermediate maps.

    Use it as a stage of a backbone.

    .. math:: z_0 = \mathrm{cv}_1 X, \qquad z_{i+1} = B_i(z_i), \qquad
              Y = \mathrm{cv}_2([z_0 ; \ldots ; z_n]) \ \text{ or } \ X + \gamma \, \mathrm{cv}_2([z_0 ; \ldots ; z_n])

    with :math:`B(z) = u + \mathrm{MLP}(u), u = z + \mathrm{Attention}(z)`, twice.

    Args:
        in_channels: :math:`C_1`.
        out_channels: :math:`C_2`; the blocks have half as many channels, in heads of 32.
        num_blocks: n stages.
        area: bands of the attention.
        residual: whether to add the input, :math:`\gamma` being a learned number per channel that starts at 0.01 (the
            larger networks).
        mlp_ratio: hidden channels of the MLP divided by its input channels.

    Shapes:
        x [B, C_1, H, W] -> [B, C_2, H, W].

    Source: Lei et al., "YOLOv13" (arXiv 2506.17733), eq. 6.

    >>> A2C2f(8, 64, area=4)(torch.randn(2, 8, 4, 4)).shape
    torch.Size([2, 64, 4, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_blocks: int = 1,
        *,
        area: int = 1,
        residual: bool = False,
        mlp_ratio: float = 2.0,
    ) -> None:
        check_channels(num_blocks=num_blocks)
        hidden = out_channels // 2
        if hidden % 32 or not hidden:
            expected = "a multiple of 64, because half of the channels form heads of width 32"
            raise ArgumentError("out_channels", expected, out_channels)
        if residual and in_channels != out_channels:
            raise ArgumentError("residual", "in_channels equal to out_channels", f"{in_channels} and {out_channels}")
        super().__init__()
        self.cv1 = ConvBlock(in_channels, hidden)
        self.cv2 = ConvBlock((1 + num_blocks) * hidden, out_channels)
        self.gamma = nn.Parameter(torch.full((out_channels,), 0.01)) if residual else None
        self.m = nn.ModuleList(
            nn.Sequential(*(AreaBlock(hidden, hidden // 32, mlp_ratio=mlp_ratio, area=area) for _ in range(2)))
            for _ in range(num_blocks)
        )

    def reset_parameters(self) -> None:
        """As torch; blocks from a truncated normal, gamma 0.01."""
        reset_maps(self)
        for module in self.modules():
            if isinstance(module, AreaBlock):
                module.reset_parameters()
        if self.gamma is not None:
            nn.init.constant_(self.gamma, 0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the outputs of all stages."""
        parts = [self.cv1(x)]
        for stage in self.m:
            parts.append(stage(parts[-1]))
        out = self.cv2(torch.cat(parts, 1))
        return out if self.gamma is None else x + self.gamma.to(out.dtype)[:, None, None] * out


def area_adjacency(height: int, width: int, area: int) -> Adjacency:
    """The token graph of `AreaAttention`: pixels in row-major order, ``area`` complete blocks on the diagonal.

    >>> area_adjacency(2, 2, 2).dense().tolist()
    [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]
    """
    check_channels(height=height, width=width, area=area)
    if height * width % area:
        raise ArgumentError("area", f"a divisor of {height} x {width} pixels", area)
    tokens, run = height * width, height * width // area
    target = torch.arange(tokens).repeat_interleave(run)
    source = torch.arange(tokens).view(area, 1, run).expand(area, run, run).flatten()
    return Adjacency.from_coo(target=target, source=source, num_targets=tokens, num_sources=tokens)
