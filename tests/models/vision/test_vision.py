"""Networks over images: gradients of the whole network, and training."""

from __future__ import annotations

import pytest
import torch

from tests.models.cases import VISION

NETWORKS = {name: VISION[name] for name in ("ViT", "YOLOv13")}
ALL = pytest.mark.parametrize("case", NETWORKS.values(), ids=NETWORKS)


def parts(found):
    """The tensors of what a network says of images."""
    return [found] if isinstance(found, torch.Tensor) else [found.boxes, found.logits]


@ALL
def test_gradients(case):
    """Along a random direction: the slope of the loss is the product of the gradient and the direction."""
    model, (x,) = case.module(dtype=torch.float64), case.inputs(1)
    loss = lambda: sum(part.square().mean() for part in parts(model(x)))  # noqa: E731
    trained = [p for p in model.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss(), trained)
    generator = torch.Generator().manual_seed(1)
    step = [1e-6 * torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in trained]
    expected = sum((g * s).sum() for g, s in zip(grads, step, strict=True))
    with torch.no_grad():
        ends = []
        for sign in (1, -2):
            torch._foreach_add_(trained, step, alpha=sign)
            ends.append(loss())
    torch.testing.assert_close((ends[0] - ends[1]) / 2, expected, rtol=1e-6, atol=0)


@ALL
def test_overfits_a_picture(case):
    model, (x,) = case.module(training=True), case.inputs(1, dtype=torch.float32)
    target = (torch.rand(parts(model(x))[-1].shape, generator=torch.Generator().manual_seed(2)) < 0.2).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        losses.append(torch.nn.functional.binary_cross_entropy_with_logits(parts(model(x))[-1], target))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1].item() < 0.5 * losses[0].item()
