"""Layers over feature maps."""

from hgraph.nn.vision.area import A2C2f, AreaAttention, area_adjacency
from hgraph.nn.vision.blocks import ConvBlock, DSBottleneck, DSC3k, DSC3k2, DSConv
from hgraph.nn.vision.detect import Detect, Detections
from hgraph.nn.vision.hyperace import C3AH, FullPAD, HyperACE

__all__ = [
    "C3AH",
    "A2C2f",
    "AreaAttention",
    "ConvBlock",
    "DSBottleneck",
    "DSC3k",
    "DSC3k2",
    "DSConv",
    "Detect",
    "Detections",
    "FullPAD",
    "HyperACE",
    "area_adjacency",
]
