"""The fit loop: seeds, the restored state, early stopping, clear errors."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hgraph.errors import ArgumentError
from hgraph.train import TrainingError, fit, seeded


@pytest.fixture
def task():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(60, 5, generator=generator)
    y = (x[:, 0] + x[:, 1] > 0).long()
    return x, y


def network(seed=0):
    with seeded(seed):
        return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 2))


def train(task, model, **options):
    x, y = task
    return fit(model, (x,), lambda z: F.cross_entropy(z, y), **{"epochs": 12, **options})


def states_equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_same_seed_same_bits_other_seed_other_bits(task):
    a, b, c = network(), network(), network()
    first = train(task, a, seed=3)
    torch.rand(7)  # the caller's random state must not matter
    second, third = train(task, b, seed=3), train(task, c, seed=4)
    assert first.history == second.history != third.history
    assert states_equal(a, b)
    assert not states_equal(a, c)


def test_callers_random_state_is_untouched(task):
    before = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    train(task, network())
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all()  # noqa: NPY002


def test_random_state_is_restored_after_an_error():
    before = torch.random.get_rng_state()

    def fails():
        with seeded(5):
            torch.rand(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert torch.equal(before, torch.random.get_rng_state())


def test_training_learns_and_ends_in_eval_mode(task):
    model = network()
    result = train(task, model, epochs=60)
    x, y = task
    assert not model.training
    assert result.best_epoch == len(result.history) == 60  # nothing to choose by: the last state
    assert "validation" not in result.best
    assert (model(x).argmax(-1) == y).float().mean() > 0.9


@pytest.mark.parametrize("scores", [[0.1, 0.7, 0.3, 0.7, 0.2], [0.5] * 5, [0.1, 0.2, 0.3, 0.4, 0.5]])
def test_first_best_state_is_restored(task, scores):
    model, states, given = network(), [], iter(scores)

    def validate(_):
        states.append(copy.deepcopy(model.state_dict()))
        assert not model.training
        assert not torch.is_grad_enabled()
        return next(given)

    result = train(task, model, epochs=5, validate=validate)
    best = scores.index(max(scores))
    assert result.best_epoch == best + 1
    assert result.best["validation"] == max(scores)
    assert [r["validation"] for r in result.history] == scores
    assert all(torch.equal(states[best][name], value) for name, value in model.state_dict().items())


def test_patience_stops_after_epochs_without_a_better_score(task):
    given = iter([0.1, 0.5, 0.4, 0.5, 0.5, 0.9])
    result = train(task, network(), epochs=6, validate=lambda _: next(given), patience=3)
    assert len(result.history) == 5
    assert result.best_epoch == 2


def test_loss_is_that_of_plain_adam(task):
    x, y = task
    model, reference = nn.Linear(5, 2), nn.Linear(5, 2)
    reference.load_state_dict(model.state_dict())
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.02, weight_decay=0.1)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = F.cross_entropy(reference(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert [r["loss"] for r in train(task, model, epochs=6, lr=0.02, weight_decay=0.1).history] == losses


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_the_epoch_and_what_to_try(task, bad):
    x, y = task
    factors = iter([1.0, 1.0, bad])
    model = network()
    with pytest.raises(TrainingError, match=r"epoch 3: try a smaller lr"):
        fit(model, (x,), lambda z: F.cross_entropy(z, y) * next(factors))
    assert not model.training


def test_a_nan_score_is_an_error(task):
    with pytest.raises(TrainingError, match="validation score is nan in epoch 1"):
        train(task, network(), validate=lambda _: float("nan"))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"epochs": -1}, "epochs"),
        ({"patience": 3}, "validate="),
        ({"patience": 0, "validate": lambda _: 1.0}, "patience"),
    ],
)
def test_wrong_arguments_are_named(task, options, match):
    with pytest.raises(ArgumentError, match=match):
        train(task, network(), **options)


def test_a_loss_of_many_numbers_is_refused(task):
    x, y = task
    with pytest.raises(ArgumentError, match=r"scalar tensor, got shape \[60\]"):
        fit(network(), (x,), lambda z: F.cross_entropy(z, y, reduction="none"))


def test_no_epochs_and_no_parameters_are_legal(task):
    result = train(task, network(), epochs=0)
    assert (result.history, result.best_epoch, result.best) == ([], 0, {})
    x, _ = task
    assert len(fit(nn.Identity(), (x,), lambda z: z.mean(), epochs=2).history) == 2


def test_progress_goes_to_stderr_when_asked_for(task, capsys):
    train(task, network(), progress=True, label="teacher")
    shown = capsys.readouterr()
    assert "teacher" in shown.err
    assert shown.out == ""
    train(task, network())  # not a terminal
    assert capsys.readouterr().err == ""
