"""The anchor-free detection head of YOLOv13."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hgraph.checks import check_channels
from hgraph.nn.vision.blocks import ConvBlock, reset_maps

__all__ = ["Detect", "Detections"]


class Detections(NamedTuple):
    """Predictions for the A cells of all maps, concatenated.

    Attributes:
        boxes: [B, A, 4], left, top, right and bottom in pixels of the image.
        scores: [B, A, C], probability of each class.
        logits: [B, A, C], the scores before the sigmoid.
        bins: [B, A, 4, 16], logits of the distances from the cell's center to the four sides, in strides.
    """

    boxes: Tensor
    scores: Tensor
    logits: Tensor
    bins: Tensor


class Distances(nn.Module):
    """Expected distance from logits over its bins; the bin values are a parameter, as in published checkpoints."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(bins, 1, 1, bias=False).requires_grad_(False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.conv.weight.copy_(torch.arange(self.conv.in_channels).view(1, -1, 1, 1))

    def forward(self, bins: Tensor) -> Tensor:
        return bins.softmax(-1) @ self.conv.weight.flatten().to(bins.dtype)


class Detect(nn.Module):
    r"""Box and class predictions for every cell of three maps.

    Use it as the head of a detector.

    .. math:: d_s = \sum_{i=0}^{15} i \operatorname{softmax}(\mathrm{bins}_s)_i, \qquad
              \mathrm{box} = \mathrm{stride} \, (x - d_l, \, y - d_t, \, x + d_r, \, y + d_b)

    with (x, y) the center of the cell.

    Args:
        in_channels: channels of the maps.
        num_classes: C.
        strides: image pixels per cell, for each map.

    Shapes:
        a map [B, C_i, H_i, W_i] for each of ``in_channels`` -> `Detections` over :math:`\sum_i H_i W_i` cells.

    Source: Lei et al., "YOLOv13" (arXiv 2506.17733), eq. 8.

    >>> maps = [torch.randn(2, 8, n, n) for n in (4, 2, 1)]
    >>> Detect((8, 8, 8), 5)(*maps).boxes.shape
    torch.Size([2, 21, 4])
    """

    bins = 16

    def __init__(self, in_channels: Sequence[int], num_classes: int = 80, *, strides: Sequence[int] = (8, 16, 32)):
        check_channels(num_classes=num_classes)
        super().__init__()
        self.num_classes, self.strides = num_classes, tuple(strides)
        box, cls = max(16, in_channels[0] // 4, 4 * self.bins), max(in_channels[0], min(num_classes, 100))
        self.cv2 = nn.ModuleList(
            nn.Sequential(ConvBlock(c, box, 3), ConvBlock(box, box, 3), nn.Conv2d(box, 4 * self.bins, 1))
            for c in in_channels
        )
        self.cv3 = nn.ModuleList(
            nn.Sequential(
                nn.Sequential(ConvBlock(c, c, 3, groups=c), ConvBlock(c, cls)),
                nn.Sequential(ConvBlock(cls, cls, 3, groups=cls), ConvBlock(cls, cls)),
                nn.Conv2d(cls, num_classes, 1),
            )
            for c in in_channels
        )
        self.dfl = Distances(self.bins)
        self._start_low()

    def reset_parameters(self) -> None:
        """As torch; biases start with small boxes and rare objects."""
        reset_maps(self)
        self.dfl.reset_parameters()
        self._start_low()

    def _start_low(self) -> None:
        """Start with about five objects per image of 640 x 640."""
        for box, cls, stride in zip(self.cv2, self.cv3, self.strides, strict=True):
            nn.init.ones_(box[-1].bias)  # type: ignore[index]
            nn.init.constant_(cls[-1].bias, math.log(5 / self.num_classes / (640 / stride) ** 2))  # type: ignore[index]

    def forward(self, *maps: Tensor) -> Detections:
        """Boxes and scores of all cells."""
        pairs = [(box(x), cls(x)) for box, cls, x in zip(self.cv2, self.cv3, maps, strict=True)]
        bins = torch.cat([box.flatten(2) for box, _ in pairs], -1).mT.unflatten(-1, (4, self.bins))
        logits = torch.cat([cls.flatten(2) for _, cls in pairs], -1).mT
        center, stride = self.cells(maps)
        left_top, right_bottom = self.dfl(bins).chunk(2, -1)
        boxes = torch.cat([center - left_top, center + right_bottom], -1) * stride
        return Detections(boxes, logits.sigmoid(), logits, bins)

    def cells(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Center [A, 2] of each cell, in cells, and its stride [A, 1]."""
        centers, strides = [], []
        for x, stride in zip(maps, self.strides, strict=True):
            rows, columns = (torch.arange(n, device=x.device, dtype=x.dtype) + 0.5 for n in x.shape[-2:])
            centers.append(torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).flatten(0, 1))
            strides.append(torch.full_like(centers[-1][:, :1], stride))
        return torch.cat(centers), torch.cat(strides)
