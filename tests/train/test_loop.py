"""The loop that every training shares: when it scores, when it stops, what it writes."""

import json

import pytest
import torch
from torch import nn

from hgraph.errors import DataError
from hgraph.train import TrainingError, fit
from hgraph.train.checkpoint import Checkpoint
from hgraph.train.loop import bar, descend, train_loop


def run(scores, path=None, **options):
    """Train a module whose weight counts epochs, with the given scores."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)

    def step(epoch):
        model.weight.data += 1
        return -float(epoch)

    defaults = {"epochs": len(scores), "seed": 0, "label": "test", "progress": False, "optimizer": None, "devices": []}
    result = train_loop(model, step, lambda epoch: scores[epoch - 1], Checkpoint(path, {}), **defaults | options)
    return result, model.weight.item()


def test_the_first_best_state_is_restored():
    result, weight = run([1.0, 3.0, 3.0, 2.0])
    assert (result.best_epoch, weight, result.best) == (2, 2.0, {"epoch": 2, "loss": -2.0, "validation": 3.0})


def test_scores_come_every_few_epochs_and_after_the_last():
    result, _ = run([0.0] * 7, eval_every=3)
    assert [r["epoch"] for r in result.history if "validation" in r] == [3, 6, 7]


def test_patience_counts_scores_and_not_epochs():
    result, weight = run([5.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], eval_every=2, patience=2)
    assert (len(result.history), result.best_epoch, weight) == (6, 2, 2.0)


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 6])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, cut):
    scores = [5.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    options = {"patience": 5, "save_every": 1}
    expected, weight = run(scores, **options)
    run(scores, tmp_path / "c", **options | {"epochs": cut})
    resumed, again = run(scores, tmp_path / "c", log=tmp_path / "log", **options)
    assert (resumed.history, resumed.best_epoch, again) == (expected.history, expected.best_epoch, weight)
    assert [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()] == expected.history


def test_a_stopped_training_continues_with_more_patience(tmp_path):
    scores = [5.0, 1.0, 1.0, 1.0, 9.0, 1.0]
    assert len(run(scores, tmp_path / "c", patience=2)[0].history) == 3
    more, weight = run(scores, tmp_path / "c", patience=4)
    whole, expected = run(scores, patience=4)
    assert (more.history, weight) == (whole.history, expected)
    assert len(run(scores, tmp_path / "c", patience=1)[0].history) == 6  # what was done is not taken back
    assert run(scores, tmp_path / "c")[0].best_epoch == 5


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_ends_the_training(score):
    with pytest.raises(TrainingError, match=f"the validation score is {score} in epoch 2"):
        run([1.0, score, 2.0])


@pytest.mark.parametrize("score", [None, lambda epoch: 1.0])
def test_a_run_that_was_stopped_before_its_first_score_resumes(tmp_path, score):
    model, seen = nn.Linear(1, 1, bias=False), []

    def train(stop):
        def step(epoch):
            seen.append(epoch)
            if epoch == stop:
                raise KeyboardInterrupt
            return 1.0

        return train_loop(
            model, step, score, Checkpoint(tmp_path / "c", {}), optimizer=None, devices=[], epochs=6, seed=0,
            label="test", progress=False, eval_every=5, save_every=1,
        )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        train(stop=3)
    assert len(train(stop=None).history) == 6
    assert seen == [1, 2, 3, 3, 4, 5, 6]


def test_a_checkpoint_without_a_history_is_refused(tmp_path):
    model = nn.Linear(1, 1, bias=False)
    Checkpoint(tmp_path / "c", {}).save(model, None, [], None, {"losses": [1.0]})
    with pytest.raises(DataError, match="earlier version"):
        run([1.0], tmp_path / "c")


def test_a_loss_that_is_not_finite_changes_nothing():
    weight = nn.Parameter(torch.tensor(2.0))
    with pytest.raises(TrainingError, match="nan in epoch 4"):
        descend(torch.optim.SGD([weight], lr=1.0), weight * float("nan"), 4)
    assert weight.item() == 2


def test_a_resumed_bar_starts_where_the_training_stopped(capsys):
    shown = bar(range(4, 11), 10, "fit", True)
    assert (shown.initial, shown.total, list(shown)) == (3, 10, [4, 5, 6, 7, 8, 9, 10])


def test_fit_scores_every_few_epochs():
    x = torch.ones(2, 1)
    result = fit(nn.Linear(1, 1), (x,), lambda out: out.square().mean(), validate=lambda out: 1.0, epochs=5,
                 eval_every=2, patience=2, progress=False)  # fmt: skip
    assert [r["epoch"] for r in result.history if "validation" in r] == [2, 4, 5]
