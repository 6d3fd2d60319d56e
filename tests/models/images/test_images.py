"""Networks that write images pixel by pixel: their losses."""

from __future__ import annotations

import math

import torch

from tests.models.cases import VISION

CASE = VISION["AxialTransformer"]


def test_starts_with_even_logits():
    torch.manual_seed(0)
    model = CASE.build().eval()
    (x,) = CASE.inputs(1)
    assert abs(float(model.loss(x).detach()) - math.log2(model.num_classes)) < 1e-3


def test_same_seed_same_loss():
    model = CASE.module()
    x, losses = CASE.inputs(1)[0].repeat(4, 1, 1, 1), []
    for _ in range(2):
        loss = model.loss(x, generator=torch.Generator().manual_seed(3))
        losses.append((loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))))
    assert all(torch.equal(a, b) for a, b in zip(*losses, strict=True))
