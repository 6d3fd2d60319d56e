"""Clipping, schedules, precision, auxiliary losses, the log, and lightning-fabric."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.models import HGNNP
from hgraph.nn import aux_losses
from hgraph.testing import random_hypergraph
from hgraph.train import cosine, fit, seeded

X = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))


def linear():
    with seeded(0):
        return nn.Linear(3, 1)


def run(model, **options):
    return fit(model, (X,), lambda z: (z - 3).square().mean(), **{"epochs": 6, "weight_decay": 0.0, **options})


def by_hand(model, clip=None, schedule=None, lr=0.01, epochs=6):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(1, epochs + 1):
        optimizer.zero_grad()
        (model(X) - 3).square().mean().backward()
        if clip is not None:
            norm = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))
            for p in model.parameters():
                p.grad *= min(1.0, clip / (norm + 1e-6))
        if schedule is not None:
            optimizer.param_groups[0]["lr"] = lr * schedule(epoch, epochs)
        optimizer.step()


@pytest.mark.parametrize("options", [{}, {"clip": 0.1}, {"schedule": cosine}, {"schedule": lambda t, n: 1 / t}])
def test_steps_follow_the_options(options):
    fitted, expected, without = linear(), linear(), linear()
    run(fitted, **options)
    by_hand(expected, **options)
    by_hand(without)
    torch.testing.assert_close(fitted.weight, expected.weight)
    assert not options or not torch.allclose(fitted.weight, without.weight)


def test_cosine_is_half_a_wave():
    assert cosine(1, 100) == 1.0
    assert cosine(51, 100) == pytest.approx(0.5)
    assert 0 < cosine(100, 100) < 0.001


def test_bfloat16_runs_the_model_and_keeps_weights_in_float32():
    seen = []

    class Watched(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            seen.append(y.dtype)
            return y

    model = Watched(3, 1)
    dtypes = []
    fit(model, (X,), lambda z: dtypes.append(z.dtype) or z.square().mean(), epochs=2, precision="bfloat16")
    assert set(seen) == {torch.bfloat16}
    assert set(dtypes) == {torch.float32}
    assert model.weight.dtype == torch.float32


def test_bfloat16_trains_a_hypergraph_network():
    hg = random_hypergraph(20, 8, 40, seed=0)
    with seeded(0):
        model = HGNNP(3, 8, 2)
    y = (X[:, 0] > 0).long()
    result = fit(model, (X, hg), lambda z: F.cross_entropy(z, y), epochs=30, precision="bfloat16")
    assert result.history[-1]["loss"] < result.history[0]["loss"]


class Pulled(nn.Linear):
    """A layer with an auxiliary loss that pulls its output to zero."""

    def forward(self, x):
        y = super().forward(x)
        self.aux = {"size": 0.5 * y.square().mean()}
        return y


def test_auxiliary_losses_are_added():
    """(z - 3)^2 + z^2 / 2 has its minimum at z = 2."""
    model = nn.Sequential(Pulled(3, 1))
    fit(model, (X * 0,), lambda z: (z - 3).square().mean(), epochs=800, weight_decay=0.0, lr=0.05)
    assert model[0].bias.item() == pytest.approx(2.0, abs=1e-3)


def test_auxiliary_losses_are_found_once_and_checked():
    layer = Pulled(3, 1)
    layer(X)
    both = nn.ModuleList([layer, nn.Sequential(layer)])
    torch.testing.assert_close(aux_losses(both), layer.aux["size"])
    assert aux_losses(nn.Linear(1, 1)) == 0
    layer.aux = {"size": torch.ones(2)}
    with pytest.raises(ArgumentTypeError, match=r"0.aux: expected a mapping"):
        aux_losses(both)


def test_the_log_is_the_history(tmp_path):
    result = run(linear(), validate=lambda z: -float(z.square().mean()), log=tmp_path / "runs" / "log.jsonl")
    lines = (tmp_path / "runs" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.history


@pytest.mark.parametrize(
    ("options", "message"),
    [({"clip": 0}, "clip"), ({"precision": "float16"}, "precision"), ({"save_every": 0}, "save_every")],
)
def test_arguments_are_checked(options, message):
    with pytest.raises(ArgumentError, match=message):
        run(linear(), **options)


def test_fabric_gives_the_same_result_and_resumes(tmp_path):
    fabric = pytest.importorskip("lightning_fabric").Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    hg = random_hypergraph(20, 8, 40, seed=0)
    y = (X[:, 0] > 0).long()

    def trained(**options):
        with seeded(0):
            model = HGNNP(3, 8, 2)
        result = fit(model, (X, hg), lambda z: F.cross_entropy(z, y), validate=lambda z: -float(F.cross_entropy(z, y)),
                     **{"epochs": 12, **options})  # fmt: skip
        return model, result

    plain, expected = trained()
    with_fabric, result = trained(fabric=fabric)
    assert result.history == expected.history
    trained(fabric=fabric, checkpoint=tmp_path / "c", epochs=5)
    resumed, result = trained(fabric=fabric, checkpoint=tmp_path / "c")
    assert result.history == expected.history
    for a, b, c in zip(plain.parameters(), with_fabric.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
