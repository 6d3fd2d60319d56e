"""Stopped and resumed trainings give the same bits as trainings without a stop."""

from __future__ import annotations

import copy
import json
import os
import random
import signal
import time
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hgraph.errors import ArgumentError, DataError
from hgraph.train import cosine, fit, seeded

OPTIONS = {"epochs": 30, "clip": 1.0, "schedule": cosine, "save_every": 7, "seed": 3}


class Killed(Exception):
    """Stops a training in these tests."""


def task():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(60, 5, generator=generator)
    return x, (x[:, 0] + x[:, 1] > 0).long()


def network():
    with seeded(0):
        return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 2))


def train(model, stop_at=None, **options):
    x, y = task()
    seen = 0

    def validate(z):
        nonlocal seen
        seen += 1
        if seen == stop_at:
            raise Killed
        return float((z.argmax(1) == y)[40:].float().mean())

    return fit(model, (x,), lambda z: F.cross_entropy(z[:40], y[:40]), validate=validate, **{**OPTIONS, **options})


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("stop_at", [1, 7, 8, 20, 29, 30])
def test_a_resumed_training_gives_the_same_bits(tmp_path, stop_at):
    whole, resumed = network(), network()
    expected = train(whole)
    with pytest.raises(Killed):
        train(resumed, stop_at, checkpoint=tmp_path / "c", log=tmp_path / "log.jsonl")
    resumed = network()  # a new process would begin with one
    result = train(resumed, checkpoint=tmp_path / "c", log=tmp_path / "log.jsonl")
    assert result.history == expected.history
    assert result.best_epoch == expected.best_epoch
    assert same(whole, resumed)
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == result.history


def test_checkpoints_are_written_by_time_too(tmp_path, monkeypatch):
    """With long epochs, the training stops before ``save_every`` epochs but after 30 s."""
    whole, resumed = network(), network()
    expected = train(whole)
    with pytest.raises(Killed):
        train(network(), 20, checkpoint=tmp_path / "c", save_every=1000)
    assert not (tmp_path / "c").exists()
    monkeypatch.setattr("hgraph.train.checkpoint._SECONDS", 0.0)
    with pytest.raises(Killed):
        train(network(), 20, checkpoint=tmp_path / "c", save_every=1000)
    # 19 of the 30 epochs are saved, so 11 remain; it would be stopped if it started over
    assert train(resumed, 12, checkpoint=tmp_path / "c", save_every=1000).history == expected.history
    assert same(whole, resumed)


def test_without_the_random_state_it_would_differ(tmp_path, monkeypatch):
    """The test above can fail: resuming without the random state of dropout gives other bits."""
    whole, resumed = network(), network()
    train(whole)
    with pytest.raises(Killed):
        train(resumed, 20, checkpoint=tmp_path / "c")
    resumed = network()
    monkeypatch.setattr(torch, "set_rng_state", lambda state: None)
    train(resumed, checkpoint=tmp_path / "c")
    assert not same(whole, resumed)


def test_a_finished_training_is_read_not_run(tmp_path):
    first, second = network(), network()
    expected = train(first, checkpoint=tmp_path / "c")
    result = train(second, stop_at=1, checkpoint=tmp_path / "c")  # a single look would stop it
    assert result.history == expected.history
    assert same(first, second)


def test_more_epochs_continue(tmp_path):
    whole, longer = network(), network()
    expected = train(whole, schedule=None)
    train(longer, schedule=None, epochs=11, checkpoint=tmp_path / "c")
    longer = network()
    assert train(longer, schedule=None, checkpoint=tmp_path / "c").history == expected.history
    assert same(whole, longer)


def test_early_stopping_is_saved(tmp_path):
    first, second = network(), network()
    expected = train(first, patience=3, checkpoint=tmp_path / "c")
    assert len(expected.history) < 30
    assert train(second, patience=3, checkpoint=tmp_path / "c").history == expected.history
    assert same(first, second)


@pytest.mark.parametrize("change", [{"seed": 4}, {"lr": 0.02}, {"clip": None}, {"schedule": None}, {"epochs": 31}])
def test_other_settings_are_refused(tmp_path, change):
    train(network(), checkpoint=tmp_path / "c")
    before = (tmp_path / "c").read_bytes()
    with pytest.raises(ArgumentError, match=f"{'schedule' if 'epochs' in change else next(iter(change))}: expected"):
        train(network(), checkpoint=tmp_path / "c", **change)
    assert (tmp_path / "c").read_bytes() == before


def test_another_model_and_damage_are_refused(tmp_path):
    train(network(), checkpoint=tmp_path / "c")
    with pytest.raises(DataError, match="does not match this model"):
        fit(nn.Linear(5, 2), (task()[0],), lambda z: z.sum(), checkpoint=tmp_path / "c", **OPTIONS)
    content = (tmp_path / "c").read_bytes()
    for damaged in (b"", content[:-9], content[:200], b"\x80\x04N."):
        (tmp_path / "c").write_bytes(damaged)
        with pytest.raises(DataError, match="not a readable checkpoint"):
            train(network(), checkpoint=tmp_path / "c")


CHANGES = {
    "a weight of a model": lambda h, t: t.update({"model.0.weight": t["model.0.weight"] + 1}),
    "NaN": lambda h, t: t.update({"model.0.weight": t["model.0.weight"] * float("nan")}),
    "a tensor that is missing": lambda h, t: t.pop("model.0.bias"),
    "a best tensor that is missing": lambda h, t: t.pop("best.0.bias"),
    "another shape": lambda h, t: t.update({"best.0.bias": t["best.0.bias"][:1].clone()}),
    "the random state": lambda h, t: t.update({"random.cpu": t["random.cpu"].flip(0)}),
    "the optimizer": lambda h, t: t.pop(next(k for k in t if k.startswith("optimizer."))),
    "the history": lambda h, t: h["progress"].update(history=[]),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_checkpoint_is_refused(kind, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    train(network(), epochs=9, checkpoint=tmp_path / "c")
    with safe_open(tmp_path / "c", framework="pt") as file:
        header_fields, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = json.loads(header_fields["hgraph training"])
    CHANGES[kind](header, tensors)
    save_file(tensors, tmp_path / "c", metadata=header_fields | {"hgraph training": json.dumps(header)})
    with pytest.raises(DataError, match="its checksum is wrong.*Delete it to start over"):
        train(network(), checkpoint=tmp_path / "c")


def test_tied_weights(tmp_path):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(5, 5)
            self.second = nn.Linear(5, 5)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(self.first(x))[:, :2]

    with seeded(0):
        a = Both()
    b = copy.deepcopy(a)
    expected = train(a, schedule=None)
    train(b, schedule=None, epochs=9, checkpoint=tmp_path / "c")
    assert train(b, schedule=None, checkpoint=tmp_path / "c").history == expected.history


FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
FORK_WARNS = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@FORKS
@FORK_WARNS
@pytest.mark.parametrize("moment", ["half written", "written", "replaced"])
def test_killed_within_the_write_of_a_checkpoint(tmp_path, moment):
    """The third write is killed: after half of its bytes, after all of them, or just after replacing the old file."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        count = {"fsync": 0, "replace": 0}
        fsync, replace = os.fsync, os.replace

        def die_in_fsync(file):
            count["fsync"] += 1
            if count["fsync"] == 3 and moment != "replaced":
                if moment == "half written":
                    os.ftruncate(file, os.fstat(file).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            fsync(file)

        def die_after_replace(source, target):
            replace(source, target)
            count["replace"] += 1
            if count["replace"] == 3:
                os.kill(os.getpid(), signal.SIGKILL)

        os.fsync, os.replace = die_in_fsync, die_after_replace
        try:
            train(network(), checkpoint=tmp_path / "c")
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status)
    assert len(list(tmp_path.iterdir())) == (1 if moment == "replaced" else 2)  # the checkpoint, and what was begun
    resumed, whole = network(), network()
    with on_one_thread():
        result, expected = train(resumed, checkpoint=tmp_path / "c"), train(whole)
    assert result.history == expected.history
    assert same(whole, resumed)


@contextmanager
def on_one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@FORKS
@FORK_WARNS
def test_killed_twenty_times_and_still_the_same_bits(tmp_path):
    """SIGKILL at random moments, with a checkpoint written every epoch: most kills happen near or during a write."""
    options = {
        "checkpoint": tmp_path / "c",
        "log": tmp_path / "log.jsonl",
        "save_every": 1,
        "epochs": 400,
        "schedule": None,
    }
    random.seed(0)
    alive = 0
    for _ in range(20):
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)
            try:
                train(network(), **options)
            finally:
                os._exit(0)
        time.sleep(random.uniform(0.02, 0.15))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        alive += os.WIFSIGNALED(status)
    assert alive > 10  # most died at work
    resumed, whole = network(), network()
    with on_one_thread():
        result, expected = train(resumed, **options), train(whole, epochs=400, schedule=None)
    assert result.history == expected.history
    assert same(whole, resumed)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 400
