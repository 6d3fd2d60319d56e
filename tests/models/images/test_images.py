"""What every network owes that writes images pixel by pixel."""

from __future__ import annotations

import copy
import math

import torch


def made(case, seed=0):
    """Every parameter random: logits that start even, and branches that start at nothing, would hide what is lost."""
    torch.manual_seed(seed)
    model = case()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.5)
    return model


def images(model, count=2, seed=0):
    shape = (count, model.height, model.width, model.channels)
    return torch.randint(model.num_classes, shape, generator=torch.Generator().manual_seed(seed))


def test_gradients(case):
    model = made(case).double().eval()
    names, parameters = zip(*model.named_parameters(), strict=True)
    x = images(model)

    def call(*parameters):
        return torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, parameters, fast_mode=True)
    call(*parameters).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in parameters)


def test_state_dict_round_trip(case, tmp_path):
    one, other = made(case, 0).eval(), made(case, 1).eval()
    x = images(one)
    assert not torch.equal(one(x), other(x))
    torch.save(one.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(one(x), other(x))
    assert torch.equal(one(x), copy.deepcopy(one)(x))


def test_images_do_not_hear_each_other(case):
    model = made(case).double().eval()
    x = images(model)
    torch.testing.assert_close(model(x)[:1], model(x[:1]), rtol=1e-12, atol=1e-12)
    assert model(x[:0]).shape == (0, *x.shape[1:], model.num_classes)


def test_starts_with_even_logits(case):
    torch.manual_seed(0)
    model = case().eval()
    x = images(model)
    assert abs(float(model.loss(x).detach()) - math.log2(model.num_classes)) < 1e-3


def test_same_seed_same_loss(case):
    model = made(case)
    x, losses = images(model, 8), []
    for _ in range(2):
        loss = model.loss(x, generator=torch.Generator().manual_seed(3))
        losses.append((loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))))
    assert all(torch.equal(a, b) for a, b in zip(*losses, strict=True))


def test_compiles_without_a_break(case):
    """After a first call, which makes the graphs of the lines."""
    model = made(case).eval()
    x = images(model)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(compiled(x), expected)
