"""Layers that make their own structure of the features: gradients of single maps, and dtypes of participation."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.nn.cases import SOFT, VISION

MAPS = {name: case for name, case in VISION.items() if name != "Detect"}


class ChannelsLastGradient(torch.autograd.Function):
    """The identity; the gradient of a single map arrives at strides (C, 1, W * C, C)."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        _, channels, height, width = grad.shape
        dense = grad.permute(0, 2, 3, 1).contiguous()
        return dense.as_strided((1, channels, height, width), (channels, 1, width * channels, channels))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("case", MAPS.values(), ids=MAPS)
def test_gradients_of_one_map_that_arrive_channels_last(case, training):
    layer = case.module(dtype=torch.float64, training=training)
    inputs = [t[:1] for t in case.inputs(4, seed=1)]
    names, parameters = zip(*((n, p) for n, p in layer.named_parameters() if p.requires_grad), strict=True)

    def call(*parameters):
        own = dict(zip(names, parameters, strict=True))
        return ChannelsLastGradient.apply(torch.func.functional_call(layer, own, tuple(inputs)))

    assert torch.autograd.gradcheck(call, parameters, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_participation_of_half_features_is_float32(dtype):
    case = SOFT["SoftHyperedges"]
    layer, (x, mask) = case.module(dtype=dtype), case.inputs(8, seed=2, dtype=dtype)
    found = layer(x, mask).participation
    exact = copy.deepcopy(layer).double()(x.double(), mask).participation
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() <= case.roundings * torch.finfo(dtype).eps * exact.abs().max()
