"""Convolution blocks of the YOLOv13 family: plain and depthwise separable."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels

__all__ = ["ConvBlock", "DSBottleneck", "DSC3k", "DSC3k2", "DSConv"]


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with the constants of the published networks."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)


class _DenseGradient(torch.autograd.Function):
    """The identity, with a contiguous gradient.

    torch's CPU backward pass of batch norm assumes channels-last data for a single example whatever the strides of
    its gradient, and returns wrong numbers for (C, 1, W * C, C); observed in torch 2.13 and 2.14.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Nothing is needed."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.contiguous()

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent.view_as(tangent)


def normalized(norm: nn.Module, x: Tensor) -> Tensor:
    """Batch norm of maps [B, C, H, W] with correct gradients for every memory layout of the incoming gradient."""
    y = cast(Tensor, norm(x))
    return cast(Tensor, _DenseGradient.apply(y)) if y.requires_grad and y.shape[0] == 1 and not y.is_cuda else y


def reset_maps(layer: nn.Module) -> None:
    """Reinitialize convolutions, linear maps and normalizations, as torch does."""
    for module in layer.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.BatchNorm2d)):
            module.reset_parameters()


class ConvBlock(nn.Module):
    r"""Convolution without bias, batch norm, SiLU.

    Use it as the basic block of a detector.

    .. math:: Y = \mathrm{SiLU}(\mathrm{BN}(W * X))

    Args:
        in_channels: :math:`C_1`.
        out_channels: :math:`C_2`.
        kernel_size: k, padded by k // 2.
        stride: of the convolution.
        groups: of the convolution.
        activation: False disables SiLU.

    Shapes:
        x [B, C_1, H, W] -> [B, C_2, H / stride, W / stride], rounded up.

    Source: Lei et al., "YOLOv13" (arXiv 2506.17733), block "Conv".

    >>> ConvBlock(4, 8, 3, stride=2)(torch.randn(2, 4, 6, 6)).shape
    torch.Size([2, 8, 3, 3])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
    ) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size)
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
        )
        self.bn = batch_norm(out_channels)
        self.act: nn.Module = nn.SiLU() if activation else nn.Identity()

    def reset_parameters(self) -> None:
        """As torch."""
        reset_maps(self)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, normalize, activate."""
        return self.act(normalized(self.bn, self.conv(x)))


class DSConv(nn.Module):
    r"""Depthwise separable convolution: per channel, then across the channels of each pixel.

    Use it in place of `ConvBlock` to save parameters and operations.

    .. math:: Y = \mathrm{SiLU}(\mathrm{BN}(W_{1 \times 1} (W_{\mathrm{dw}} * X)))

    There is no normalization or activation between the two convolutions.

    Args:
        in_channels: :math:`C_1`.
        out_channels: :math:`C_2`.
        kernel_size: k of the depthwise convolution, padded by k // 2.
        stride: of the depthwise convolution.

    Shapes:
        x [B, C_1, H, W] -> [B, C_2, H / stride, W / stride], rounded up.

    Source: Lei et al., "YOLOv13" (arXiv 2506.17733), block "DSConv".

    >>> DSConv(4, 8, 3)(torch.randn(2, 4, 6, 6)).shape
    torch.Size([2, 8, 6, 6])
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, *, stride: int = 1) -> None:
        check_channels(in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size)
        super().__init__()
        padding = kernel_size // 2
        self.dw = nn.Conv2d(in_channels, in_channels, kernel_size, stride, padding, groups=in_channels, bias=False)
        self.pw = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = batch_norm(out_channels)

    def reset_parameters(self) -> None:
        """As torch."""
        reset_maps(self)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve in two steps, normalize, activate."""
        return nn.functional.silu(normalized(self.bn, self.pw(self.dw(x))))


class DSBottleneck(nn.Module):
    r"""Two depthwise separable convolutions with a residual connection.

    Use it inside `DSC3k2`.

    .. math:: Y = X + \mathrm{DSConv}_{k_2}(\mathrm{DSConv}_{k_1}(X))

    Args:
        channels: C.
        kernel_sizes: :math:`(k_1, k_2)`.

    Shapes:
        x [B, C, H, W] -> the same.

    Source: Lei et al., "YOLOv13" (arXiv 2506.17733), eq. 5.

    >>> DSBottleneck(4)(torch.randn(2, 4, 6, 6)).shape
    torch.Size([2, 4, 6, 6])
    """

    def __init__(self, channels: int, *, kernel_sizes: tuple[int, int] = (3, 7)) -> None:
        super().__init__()
        self.cv1 = DSConv(channels, channels, kernel_sizes[0])
        self.cv2 = DSConv(channels, channels, kernel_sizes[1])

    def reset_parameters(self) -> None:
        """As torch."""
        reset_maps(self)

    def forward(self, x: Tensor) -> Tensor:
        """Two convolutions and the identity."""
        return x + self.cv2(self.cv1(x))


class DSC3k(nn.Module):
    r"""Bottlenecks on one branch, the identity on the other.

    Use it inside `DSC3k2` in place of single bottlenecks.

    .. math:: Y = \mathrm{cv}_3([B_2(B_1(\mathrm{cv}_1 X)) ; \mathrm{cv}_2 X])

    Args:
        channels: C.
        expansion: e, hidden channels divided by C.
        kernel_sizes: of the bottlenecks B.

    Shapes:
        x [B, C, H, W] -> the same.

    Source: Lei et al., "YOLOv13" (arXiv 2506.17733), eq. 5.

    >>> DSC3k(8, expansion=0.5)(torch.randn(2, 8, 6, 6)).shape
    torch.Size([2, 8, 6, 6])
    """

    def __init__(
        self, channels: int, *, expansion: float = 1.0, kernel_sizes: tuple[int, int] = (3, 7), num_blocks: int = 2
    ) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.cv1 = ConvBlock(channels, hidden)
        self.cv2 = ConvBlock(channels, hidden)
        self.cv3 = ConvBlock(2 * hidden, channels)
        self.m = nn.Sequential(*(DSBottleneck(hidden, kernel_sizes=kernel_sizes) for _ in range(num_blocks)))

    def reset_parameters(self) -> None:
        """As torch."""
        reset_maps(self)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate both branches."""
        return self.cv3(torch.cat([self.m(self.cv1(x)), self.cv2(x)], 1))


class DSC3k2(nn.Module):
    r"""Split the channels, send one half through a chain of blocks, concatenate all intermediate maps.

    Use it as a stage of a backbone.

    .. math:: (z_0, z_1) = \mathrm{chunk}(\mathrm{cv}_1 X), \qquad z_{i+1} = B_i(z_i), \qquad
              Y = \mathrm{cv}_2([z_0 ; z_1 ; \ldots ; z_{n+1}])

    Args:
        in_channels: :math:`C_1`.
        out_channels: :math:`C_2`.
        num_blocks: n.
        dsc3k: whether the blocks are `DSC3k` (two bottlenecks each) or single `DSBottleneck`.
        expansion: e, channels of each :math:`z` divided by :math:`C_2`.
        kernel_sizes: of the bottlenecks.

    Shapes:
        x [B, C_1, H, W] -> [B, C_2, H, W].

    Source: Lei et al., "YOLOv13" (arXiv 2506.17733), eq. 5.

    >>> DSC3k2(4, 8)(torch.randn(2, 4, 6, 6)).shape
    torch.Size([2, 8, 6, 6])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_blocks: int = 1,
        *,
        dsc3k: bool = False,
        expansion: float = 0.5,
        kernel_sizes: tuple[int, int] = (3, 7),
    ) -> None:
        check_channels(num_blocks=num_blocks)
        super().__init__()
        width, block = int(out_channels * expansion), DSC3k if dsc3k else DSBottleneck
        self.cv1 = ConvBlock(in_channels, 2 * width)
        self.cv2 = ConvBlock((2 + num_blocks) * width, out_channels)
        self.m = nn.ModuleList(block(width, kernel_sizes=kernel_sizes) for _ in range(num_blocks))

    def reset_parameters(self) -> None:
        """As torch."""
        reset_maps(self)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate all intermediate maps."""
        parts = list(cast(tuple[Tensor, Tensor], self.cv1(x).chunk(2, 1)))
        for block in self.m:
            parts.append(block(parts[-1]))
        return self.cv2(torch.cat(parts, 1))
