"""YOLOv13: a detector that connects features with a soft hypergraph (Lei et al., 2025)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.nn.vision import A2C2f, ConvBlock, Detect, Detections, DSC3k2, DSConv, FullPAD, HyperACE

__all__ = ["YOLOv13"]


@dataclass(frozen=True)
class _Scale:
    """The parameters of the four model sizes."""

    depth: float
    width: float
    max_channels: int
    num_hyperedges: int
    large: bool  # residual attention stages, DSC3k everywhere, P5 no wider than P4

    def channels(self, published: int) -> int:
        """Channels of a layer, a multiple of 8."""
        return -int(-min(published, self.max_channels) * self.width // 8) * 8

    def blocks(self, published: int) -> int:
        """How often a block is repeated."""
        return max(round(published * self.depth), 1)


_SCALES = {
    "n": _Scale(0.5, 0.25, 1024, 4, large=False),
    "s": _Scale(0.5, 0.50, 1024, 8, large=False),
    "l": _Scale(1.0, 1.00, 512, 8, large=True),
    "x": _Scale(1.0, 1.50, 512, 12, large=True),
}


class _Concat(nn.Module):
    """Concatenate maps."""

    def forward(self, *maps: Tensor) -> Tensor:
        return torch.cat(maps, 1)


class _Down(nn.Module):
    """Halve the side; double the channels if P5 has them."""

    def __init__(self, channels: int, *, widen: bool) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(2)
        self.channel_adjust = ConvBlock(channels, 2 * channels) if widen else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.channel_adjust(self.pool(x))


# Input layers of each layer; -1 is the image.
_INPUTS: tuple[tuple[int, ...], ...] = (
    (-1,), (0,), (1,), (2,), (3,), (4,), (5,), (6,), (7,),  # backbone: 4 is P3, 6 is P4, 8 is P5
    (4, 6, 8), (9,), (9,),                                  # HyperACE, and its output on the other two grids
    (6, 9), (4, 10), (8, 11),                               # tunnels into the backbone's maps
    (14,), (15, 12), (16,), (17, 9),                        # up to P4
    (17,), (19, 13), (20,), (10,), (21, 22),                # up to P3
    (23,), (24, 18), (25,), (26, 9),                        # down to P4
    (26,), (28, 14), (29,), (30, 11),                       # down to P5
    (23, 27, 31),
)  # fmt: skip


def _layers(scale: _Scale, num_classes: int) -> list[nn.Module]:
    """The 33 layers, in the order of the published table."""
    c: Callable[[int], int] = scale.channels
    n = scale.blocks(2)
    p3, p4, p5 = c(512), c(512), c(1024)

    def stage(inputs: int, outputs: int, *, expansion: float = 0.5, dsc3k: bool = True) -> nn.Module:
        return DSC3k2(inputs, outputs, n, dsc3k=dsc3k or scale.large, expansion=expansion)

    def attention(channels: int, area: int) -> nn.Module:
        ratio = 1.5 if scale.large else 2.0
        return A2C2f(channels, channels, scale.blocks(4), area=area, residual=scale.large, mlp_ratio=ratio)

    def up() -> nn.Module:
        return nn.Upsample(scale_factor=2)

    return [
        ConvBlock(3, c(64), 3, stride=2),
        ConvBlock(c(64), c(128), 3, stride=2, groups=2),
        stage(c(128), c(256), expansion=0.25, dsc3k=False),
        ConvBlock(c(256), c(256), 3, stride=2, groups=4),
        stage(c(256), p3, expansion=0.25, dsc3k=False),
        DSConv(p3, p4, 3, stride=2),
        attention(p4, 4),
        DSConv(p4, p5, 3, stride=2),
        attention(p5, 1),
        HyperACE((p3, p4, p5), p4, n, num_hyperedges=scale.num_hyperedges),
        up(),
        _Down(p4, widen=not scale.large),
        FullPAD(), FullPAD(), FullPAD(),
        up(), _Concat(), stage(p5 + p4, p4), FullPAD(),
        up(), _Concat(), stage(p4 + p3, c(256)), ConvBlock(p4, c(256)), FullPAD(),
        ConvBlock(c(256), c(256), 3, stride=2), _Concat(), stage(c(256) + p4, p4), FullPAD(),
        ConvBlock(p4, p4, 3, stride=2), _Concat(), stage(p4 + p5, p5), FullPAD(),
        Detect((c(256), p4, p5), num_classes),
    ]  # fmt: skip


class YOLOv13(nn.Module):
    r"""Object detector: a backbone, `HyperACE` over its three scales, and seven gates that add its output.

    Use it to detect objects in images.

    .. math:: H = \mathrm{HyperACE}(P_3, P_4, P_5), \qquad X' = X + g \, \mathrm{resample}(H)

    at seven places X of backbone, neck and head, each with its own gate g that starts at 0. Layers have the
    numbers and state-dict keys of the published networks, so published tensors load unchanged
    (`hgraph.models.load_published`).

    Args:
        scale: ``"n"``, ``"s"``, ``"l"`` or ``"x"``: 2.5, 9.1, 27.6 or 64.1 million parameters at 80 classes.
        num_classes: C.

    Shapes:
        images [B, 3, H, W], values 0 .. 1, sides multiples of 32 -> `Detections` over (H / 8) (W / 8) (1 + 1/4 + 1/16)
        cells: boxes [B, A, 4] in pixels and scores [B, A, C].

    Source: Lei et al., "YOLOv13" (arXiv 2506.17733): its layer table and equations.

    >>> net = YOLOv13("n").eval()
    >>> with torch.no_grad():
    ...     found = net(torch.rand(1, 3, 64, 64))
    >>> found.boxes.shape, found.scores.shape
    (torch.Size([1, 84, 4]), torch.Size([1, 84, 80]))
    """

    def __init__(self, scale: Literal["n", "s", "l", "x"] = "n", num_classes: int = 80) -> None:
        if scale not in _SCALES:
            raise ArgumentError("scale", "one of n, s, l, x", repr(scale))
        super().__init__()
        self.scale, self.num_classes = scale, num_classes
        self.model = nn.ModuleList(_layers(_SCALES[scale], num_classes))

    def forward(self, images: Tensor) -> Detections:
        """Boxes and scores of every cell."""
        if not isinstance(images, Tensor):
            raise ArgumentTypeError("images", "a tensor", type(images).__name__)
        if images.dim() != 4 or images.shape[1] != 3 or images.shape[2] % 32 or images.shape[3] % 32:
            expected = "shape [B, 3, H, W] with H and W multiples of 32"
            raise ArgumentError("images", expected, f"shape {list(images.shape)}", "Pad them with gray, 114 / 255")
        outputs: dict[int, Tensor] = {-1: images}
        for number, (layer, inputs) in enumerate(zip(self.model, _INPUTS, strict=True)):
            outputs[number] = layer(*(outputs[i] for i in inputs))
            for i in inputs:
                if _LAST_USE[i] == number:
                    del outputs[i]
        return outputs[len(self.model) - 1]  # type: ignore[return-value]


_LAST_USE = {i: number for number, inputs in enumerate(_INPUTS) for i in inputs}
