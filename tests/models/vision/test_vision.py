"""What every network over images owes."""

from __future__ import annotations

import copy

import pytest
import torch


def images(seed=0, dtype=torch.float32):
    return torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def made(case, seed=0):
    """As it starts, but with less to normalise away: else nothing of an image is left after thirty layers."""
    torch.manual_seed(seed)
    model = case()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.fill_(0.3)
    return model


def test_gradients(case):
    """Along random directions: the slope of the loss is the gradient's share of them."""
    model, x = made(case).double().eval(), images(dtype=torch.float64)
    loss = lambda: model(x).boxes.mean() + model(x).logits.square().mean()  # noqa: E731
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


def test_state_dict_round_trip(case, tmp_path):
    one, other, x = made(case, 0).eval(), made(case, 1).eval(), images()
    with torch.no_grad():
        assert not torch.equal(one(x).scores, other(x).scores)
        torch.save(one.state_dict(), tmp_path / "state.pt")
        other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        assert torch.equal(one(x).scores, other(x).scores)
        assert torch.equal(one(x).boxes, copy.deepcopy(one)(x).boxes)


def test_images_do_not_hear_each_other(case):
    model, x = made(case).double().eval(), images(dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(x).scores[:1], model(x[:1]).scores, rtol=1e-10, atol=1e-10)


def test_learns_a_picture_by_heart(case):
    model, x = made(case).train(), images()
    target = (torch.rand(model(x).logits.shape, generator=torch.Generator().manual_seed(2)) < 0.2).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        losses.append(torch.nn.functional.binary_cross_entropy_with_logits(model(x).logits, target))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1].item() < 0.5 * losses[0].item()


@pytest.mark.slow
def test_compiles_without_a_break(case):
    model, x = made(case).eval(), images()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(x).scores, model(x).scores)
