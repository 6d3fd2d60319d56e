"""`train_loop`: the epochs of every training: evaluation, early stopping, checkpoints, log and progress bar."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hgraph.errors import ArgumentError, DataError, HgraphError
from hgraph.files import write_atomically
from hgraph.train.checkpoint import Checkpoint, stopwatch
from hgraph.train.seed import seeded

__all__ = ["FitResult", "Steps", "TrainingError", "bar", "descend", "score_of", "train_loop"]

_LOG = logging.getLogger("hgraph")


class TrainingError(HgraphError, ValueError):
    """The training failed: a loss or a score is not finite."""


@dataclass(frozen=True)
class FitResult:
    """The history of a training.

    Args:
        history: one dict per epoch with ``epoch`` (from 1), ``loss`` and, if the epoch has a score, ``validation``.
        best_epoch: the epoch whose state the model has now; 0 if no epoch was run.
        seconds: wall-clock time, including the time before a stop.
        cpu_seconds: CPU time of the process, including the time before a stop.

    >>> result = FitResult([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}], best_epoch=2, seconds=3.0)
    >>> result, result.best["loss"]
    (FitResult(2 epochs, best: epoch 2, loss 0.25, 3.0 s), 0.25)
    """

    history: list[dict[str, float]]
    best_epoch: int
    seconds: float
    cpu_seconds: float = 0.0

    @property
    def best(self) -> dict[str, float]:
        """The history's entry of the best epoch."""
        return self.history[self.best_epoch - 1] if self.best_epoch else {}

    def __repr__(self) -> str:
        """Shows only the best epoch."""
        best = ", ".join(f"{k} {v:.4g}" for k, v in self.best.items())
        return f"FitResult({len(self.history)} epochs, best: {best or 'none'}, {self.seconds:.1f} s)"


class Steps(Protocol):
    """What a training does in an epoch."""

    def __call__(self, epoch: int) -> float | dict[str, float]:
        """Run the steps of an epoch; returns its ``loss``, or several values for the history."""


def train_loop(
    model: nn.Module,
    steps: Steps,
    score: Callable[[int], float] | None,
    file: Checkpoint,
    *,
    optimizer: Any,
    devices: Iterable[torch.device],
    epochs: int,
    seed: int,
    label: str,
    start: Callable[[bool], None] | None = None,
    eval_every: int = 1,
    patience: int | None = None,
    save_every: int | None = None,
    log: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    unit: str = "epoch",
) -> FitResult:
    """Run epochs, then restore the state with the highest score (the first of equal ones) and set eval mode.

    Use it when a new kind of training is added: it needs only its steps and its score.

    Args:
        model: the module whose state is saved and restored.
        steps: the steps of an epoch.
        score: the score after an epoch, higher is better; None keeps the last state.
        file: the checkpoint to resume from and to write.
        optimizer: anything with ``state_dict`` and ``load_state_dict``; None without parameters.
        devices: all devices on which random numbers are drawn.
        epochs: maximum number of epochs.
        seed: random seed of the training; the caller's random state is neither used nor changed.
        label: name of this training in the progress bar and the log.
        start: called once before the first epoch, after the states are restored; its argument says whether they were.
        eval_every: epochs between two scores; the last epoch has one too.
        patience: stop after this many scores without a better one; None never stops early.
        save_every: epochs between two checkpoints; one is also written after 30 s and after the last epoch.
        log: a JSON lines file for the history, one line per epoch.
        progress: show a progress bar on stderr; None shows it on a terminal only.
        unit: what the progress bar counts.
    """
    devices = list(devices)
    try:
        with seeded(seed, devices):
            done = _Progress.of(file.restore(model, optimizer, devices), file.path)
            if start is not None:
                start(bool(done.history))
            done.stopped = done.is_over(patience)  # the patience of this call, not that of the file
            spent = stopwatch(done.seconds, done.cpu_seconds)
            first, shown = 1 + len(done.history), progress if file.is_first else False
            with _lines(log if file.is_first else None, done.history) as write:
                for epoch in bar(range(first, 1 if done.stopped else epochs + 1), epochs, label, shown, unit=unit):
                    values = steps(epoch)
                    record = {"epoch": epoch, **(values if isinstance(values, dict) else {"loss": values})}
                    if score is not None and (epoch % eval_every == 0 or epoch == epochs):
                        record["validation"] = _scored(score, epoch, model)
                    done.add(record, model, patience)
                    write(record)
                    done.seconds, done.cpu_seconds = spent()
                    due = save_every is not None and epoch % save_every == 0
                    if due or epoch == epochs or done.stopped or file.overdue:
                        file.save(model, optimizer, devices, done.best_state, done.plain())
                    if done.stopped:
                        break
    finally:
        model.eval()
    if done.best_state is not None:
        model.load_state_dict(done.best_state)
    result = FitResult(done.history, done.best_epoch, done.seconds, done.cpu_seconds)
    if file.is_first:
        best = f", validation score {result.best['validation']:.4f}" if "validation" in result.best else ""
        _LOG.info(
            "%s: %s %d of %d restored%s, %.1f s", label, unit, done.best_epoch, len(done.history), best, done.seconds
        )
    return result


def _scored(score: Callable[[int], float], epoch: int, model: nn.Module) -> float:
    """The score, after a check that it is finite."""
    try:
        value = score(epoch)
    except ArgumentError as error:  # metrics refuse NaN, which comes from the training and not from an argument
        if all(bool(p.isfinite().all()) for p in model.parameters()):
            raise
        raise TrainingError(f"the parameters are not finite in epoch {epoch}: try a smaller lr") from error
    if not math.isfinite(value):
        hint = "try a smaller lr, and look for an empty validation part"
        raise TrainingError(f"the validation score is {value} in epoch {epoch}: {hint}")
    return value


def score_of(outputs: Any, measure: Callable[[Any], float], epoch: int) -> float:
    """The score of the outputs of a model.

    Raises:
        TrainingError: a metric refuses them because of NaN, which comes from the training and not from an argument.
    """
    try:
        return float(measure(outputs))
    except ArgumentError as error:
        if not isinstance(outputs, Tensor) or not bool(outputs.isnan().any()):
            raise
        hint = "try a smaller lr, and look for NaN or very large values in the inputs"
        raise TrainingError(f"the outputs are NaN in epoch {epoch}: {hint}") from error


def descend(optimizer: torch.optim.Optimizer, loss: Tensor, epoch: int) -> float:
    """Take a step against the gradient of a loss; returns the loss.

    Raises:
        TrainingError: the loss is NaN or infinite; nothing is changed.
    """
    number = float(loss.detach())
    if not math.isfinite(number):
        raise TrainingError(f"the loss is {number} in epoch {epoch}: try a smaller lr")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return number


@dataclass
class _Progress:
    """Progress of a training, saved in the checkpoint along with the states."""

    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_state: dict[str, Tensor] | None = None
    stopped: bool = False
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @classmethod
    def of(cls, found: dict[str, Any], path: object) -> _Progress:
        """The progress in a checkpoint; one of an earlier version may have fields that are computed now."""
        if found and "history" not in found:
            raise DataError(f"{path}: written by an earlier version of hgraph. Delete it to start over")
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in found.items() if name in known})

    def add(self, record: dict[str, float], model: nn.Module, patience: int | None) -> None:
        """Record an epoch, and copy the state of the model if it is the best so far."""
        self.history.append(record)
        score, best = record.get("validation"), self.history[self.best_epoch - 1].get("validation", -math.inf)
        if score is None:
            if self.best_state is None:
                self.best_epoch = int(record["epoch"])
        elif self.best_state is None or score > best:
            self.best_epoch = int(record["epoch"])
            self.best_state = copy.deepcopy(model.state_dict())
        self.stopped = self.is_over(patience)

    def is_over(self, patience: int | None) -> bool:
        """Whether there were ``patience`` scores since the best one."""
        return patience is not None and sum("validation" in r for r in self.history[self.best_epoch :]) >= patience

    def plain(self) -> dict[str, Any]:
        """All fields except the state, as JSON values."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "best_state"}


def bar(some: Iterable[Any], total: int, label: str, progress: bool | None, *, unit: str = "epoch") -> Any:
    """The items with a progress bar on stderr, by default only on a terminal.

    Args:
        some: the items that are left, in order; the last one has the number ``total``.
        total: the number of all items.
        label: the text in front of the bar.
        progress: show the bar; None shows it on a terminal only.
        unit: what an item is.
    """
    from tqdm import tqdm

    hidden = None if progress is None else not progress  # tqdm's None: hidden unless on a terminal
    some = list(some) if not isinstance(some, range) else some
    return tqdm(some, desc=label, initial=total - len(some), total=total, disable=hidden, leave=False, unit=unit)


@contextmanager
def _lines(path: str | os.PathLike[str] | None, history: list[dict[str, float]]) -> Iterator[Callable[[Any], None]]:
    """A function that appends a JSON line to the file, which starts with the lines of the finished epochs."""
    if path is None:
        yield lambda record: None
        return
    write_atomically(path, "".join(json.dumps(record) + "\n" for record in history).encode())
    with open(path, "a", encoding="utf-8") as file:

        def write(record: Any) -> None:
            file.write(json.dumps(record) + "\n")
            file.flush()

        yield write
