"""What every network over images owes."""

from __future__ import annotations

import copy

import pytest
import torch


def images(case, seed=0, dtype=torch.float32):
    return torch.rand(2, 3, *case[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def made(case, seed=0):
    """As it starts, but with less to normalise away: else nothing of an image is left after thirty layers."""
    torch.manual_seed(seed)
    model = case[0]()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.fill_(0.3)
    return model


def parts(found):
    """The tensors of what a network says of images."""
    return [found] if isinstance(found, torch.Tensor) else [found.boxes, found.logits]


def test_gradients(case):
    """Along random directions: the slope of the loss is the gradient's share of them."""
    model, x = made(case).double().eval(), images(case, dtype=torch.float64)
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


def test_state_dict_round_trip(case, tmp_path):
    one, other, x = made(case, 0).eval(), made(case, 1).eval(), images(case)
    with torch.no_grad():
        assert not torch.equal(parts(one(x))[-1], parts(other(x))[-1])
        torch.save(one.state_dict(), tmp_path / "state.pt")
        other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        for again in (other, copy.deepcopy(one)):
            assert all(torch.equal(a, b) for a, b in zip(parts(one(x)), parts(again(x)), strict=True))


def test_images_do_not_hear_each_other(case):
    model, x = made(case).double().eval(), images(case, dtype=torch.float64)
    with torch.no_grad():
        for both, alone in zip(parts(model(x)), parts(model(x[:1])), strict=True):
            torch.testing.assert_close(both[:1], alone, rtol=1e-10, atol=1e-10)


def test_learns_a_picture_by_heart(case):
    model, x = made(case).train(), images(case)
    target = (torch.rand(parts(model(x))[-1].shape, generator=torch.Generator().manual_seed(2)) < 0.2).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        losses.append(torch.nn.functional.binary_cross_entropy_with_logits(parts(model(x))[-1], target))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1].item() < 0.5 * losses[0].item()


@pytest.mark.slow
def test_compiles_without_a_break(case):
    model, x = made(case).eval(), images(case)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(parts(compiled(x)), parts(model(x)))
