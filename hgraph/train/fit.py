"""`fit`: full-batch training that restores the state with the best validation score."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hgraph.checks import real, whole
from hgraph.data import Data
from hgraph.errors import ArgumentError, ArgumentTypeError, HgraphError
from hgraph.files import write_atomically
from hgraph.nn import aux_losses
from hgraph.train.checkpoint import Checkpoint, stopwatch
from hgraph.train.seed import seeded
from hgraph.train.view import of_data

__all__ = ["FitResult", "TrainingError", "cosine", "fit"]

Schedule = Callable[[int, int], float]  # epoch (from 1), epochs -> factor of lr

_LOG = logging.getLogger("hgraph")


class TrainingError(HgraphError, ValueError):
    """The training failed: a loss or a score is not finite."""


@dataclass(frozen=True)
class FitResult:
    """The history of a training.

    Args:
        history: one dict per epoch with ``epoch`` (from 1), ``loss`` and, if there is a score, ``validation``.
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


def fit(
    model: nn.Module,
    inputs: Sequence[Any] | Data,
    loss: Callable[[Any], Tensor] | None = None,
    *,
    validate: Callable[[Any], float] | None = None,
    split: str = "default",
    epochs: int = 200,
    lr: float = 0.01,
    weight_decay: float = 5e-4,
    patience: int | None = None,
    clip: float | None = None,
    schedule: Schedule | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    fabric: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    save_every: int = 50,
    log: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: bool | None = None,
    label: str = "fit",
) -> FitResult:
    """Train a model on one full batch with Adam, then restore its best state and set it to eval mode.

    Use it when a classifier or another network is trained on a whole graph at once.

    ``fit(model, data)`` trains on the training nodes of a `Data` and scores the accuracy on its validation nodes.

    An epoch is one step on ``loss(model(*inputs))``, plus the `hgraph.nn.aux_losses` of the model's layers, and, in
    eval mode, one score ``validate(model(*inputs))``. The state with the highest score is restored at the end (the
    first of equal ones); without ``validate``, the last state stays. The same seed gives the same result, bit for bit,
    on the same machine with the same number of threads; the caller's random state is neither used nor changed. The
    caller initializes the model: see `seeded`.

    Args:
        model: any module.
        inputs: its positional arguments; or a `Data`, of which the model gets the features and, if it has a second
            argument, the structure of the `training_view`.
        loss: a function from the model's output to a finite scalar; with a `Data`, None is the loss that suits its
            labels, see `task_of`.
        validate: a function from the output to a score, higher is better; with a `Data`, None is the accuracy on the
            validation nodes (for numbers the negative MAE, for several labels micro F1).
        split: the name of the split of a `Data`.
        epochs: maximum number of epochs, each one step.
        lr: Adam's learning rate.
        weight_decay: Adam's L2 penalty.
        patience: stop after this many epochs without a better score; None never stops early.
        clip: clip the norm of all gradients to this value; None does not clip.
        schedule: factor of ``lr`` in each epoch, see `cosine`; None is always 1.
        precision: ``"bfloat16"`` runs the model under autocast; weights, loss and optimizer stay float32.
        fabric: a launched `lightning.fabric.Fabric`, which then determines device, precision and processes. Processes
            may have different or equal ``inputs``; gradients, losses and scores are means over processes, and the
            first process writes the files.
        checkpoint: a file to save the state to. If it exists, training resumes from it, with the same result as without
            a stop; a finished training continues if ``epochs`` is larger.
        save_every: epochs between two checkpoints; a single process also writes one after 30 s.
        log: a JSON lines file for the history, one line per epoch.
        seed: seed of dropout and other random operations.
        progress: show a progress bar on stderr; None shows it on a terminal only.
        label: name of this training in the progress bar and the log.

    Raises:
        ArgumentError: the number of epochs is negative, patience is given without ``validate``, the loss is not a
            scalar, or the checkpoint has other settings.
        TrainingError: a loss or score is NaN or infinite; names the epoch and what to try.
        DataError: the checkpoint is damaged, or belongs to another model.

    Defaults follow LightHGNN (ICLR 2024): Adam, lr 0.01, weight decay 5e-4, 200 epochs, first best state.

    >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])
    >>> with seeded(0):
    ...     model = nn.Linear(1, 2)
    >>> result = fit(model, (x,), lambda out: nn.functional.cross_entropy(out, y), epochs=3)
    >>> result.best_epoch, result.history[2]["loss"] < result.history[0]["loss"], model.training
    (3, True, False)
    """
    if isinstance(inputs, Data):
        inputs, loss, validate = of_data(model, inputs, split, loss, validate)
    if not isinstance(inputs, Sequence) or not callable(loss):
        hint = "fit(model, (x, structure), loss), or fit(model, data) with a Data"
        name, expected, got = "inputs", "a sequence of the model's arguments, or a Data", type(inputs).__name__
        if isinstance(inputs, Sequence):
            name, expected, got = "loss", "a function of the model's output", type(loss).__name__
        raise ArgumentTypeError(name, expected, got, hint)
    _check(epochs, lr, weight_decay, patience, validate, clip, precision, save_every)
    planned = None if schedule is None else [getattr(schedule, "__name__", repr(schedule)), epochs]
    settings = {"seed": seed, "lr": lr, "weight_decay": weight_decay, "clip": clip, "precision": precision}
    file = Checkpoint(checkpoint, {**settings, "schedule": planned}, fabric)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer: torch.optim.Optimizer | None = None
    if parameters:
        optimizer = torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay)
    if fabric is not None:
        model, optimizer, inputs = _with_fabric(fabric, model, optimizer, inputs)
    step = _Step(model, tuple(inputs), loss, optimizer, lr, clip, schedule, epochs, precision, fabric)
    devices = _devices(model, inputs)
    try:
        with seeded(seed, devices):
            done = _Progress(**file.restore(model, optimizer, devices))
            spent = stopwatch(done.seconds, done.cpu_seconds)
            first = fabric is None or fabric.is_global_zero
            with _lines(log if first else None, done.history) as write:
                for epoch in _bar(len(done.history) + 1, epochs, label, progress if first else False, done.stopped):
                    record = {"epoch": epoch, "loss": step(epoch)} | step.scores(validate, epoch)
                    done.add(record, model, patience)
                    write(record)
                    done.seconds, done.cpu_seconds = spent()
                    if epoch % save_every == 0 or epoch == epochs or done.stopped or file.overdue:
                        file.save(model, optimizer, devices, done.best_state, done.plain())
                    if done.stopped:
                        break
    finally:
        model.eval()
    if done.best_state is not None:
        model.load_state_dict(done.best_state)
    best = done.best_epoch, len(done.history), "" if validate is None else f", validation {done.best_score:.4f}"
    if first:
        _LOG.info("%s: epoch %d of %d restored%s, %.1f s", label, *best, done.seconds)
    return FitResult(done.history, done.best_epoch, done.seconds, done.cpu_seconds)


@dataclass
class _Progress:
    """Progress of a training, saved in the checkpoint along with the states."""

    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float = -math.inf
    best_state: dict[str, Tensor] | None = None
    stopped: bool = False
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def add(self, record: dict[str, float], model: nn.Module, patience: int | None) -> None:
        self.history.append(record)
        score = record.get("validation")
        if score is None:
            self.best_epoch = int(record["epoch"])
        elif score > self.best_score:
            self.best_epoch, self.best_score = int(record["epoch"]), score
            self.best_state = copy.deepcopy(model.state_dict())
        self.stopped = patience is not None and int(record["epoch"]) - self.best_epoch >= patience

    def plain(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "best_state"}


@dataclass
class _Step:
    """One training step, and one evaluation."""

    model: nn.Module
    inputs: tuple[Any, ...]
    loss: Callable[[Any], Tensor]
    optimizer: torch.optim.Optimizer | None
    lr: float
    clip: float | None
    schedule: Schedule | None
    epochs: int
    precision: str
    fabric: Any

    def __call__(self, epoch: int) -> float:
        self.model.train()
        value = self.loss(self._output())
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = f"shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ArgumentError("loss", "a function that returns a scalar tensor", got)
        extra = aux_losses(self.model)
        value = value + extra.to(value) if extra.requires_grad else value
        number = self._mean(float(value.detach()))
        if not math.isfinite(number):
            hint = f"try a smaller lr than {self.lr:g}, and look for NaN or very large values in the inputs and labels"
            raise TrainingError(f"the loss is {number} in epoch {epoch}: {hint}")
        if self.optimizer is not None:
            self._descend(value, self.optimizer, epoch)
        return number

    def _descend(self, value: Tensor, optimizer: torch.optim.Optimizer, epoch: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        if self.fabric is None:
            value.backward()
        else:
            self.fabric.backward(value)
        if self.clip is not None and self.fabric is None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        elif self.clip is not None:  # only the fabric knows the gradient scale of its precision
            self.fabric.clip_gradients(self.model, optimizer, max_norm=self.clip, error_if_nonfinite=False)
        if self.schedule is not None:
            for group in optimizer.param_groups:
                group["lr"] = self.lr * self.schedule(epoch, self.epochs)
        optimizer.step()

    @torch.no_grad()
    def scores(self, validate: Callable[[Any], float] | None, epoch: int) -> dict[str, float]:
        if validate is None:
            return {}
        self.model.eval()
        output = self._output()
        try:
            score = self._mean(float(validate(output)))
        except ArgumentError as error:  # metrics refuse NaN, which comes from the training and not from an argument
            if not isinstance(output, Tensor) or not bool(output.isnan().any()):
                raise
            hint = f"try a smaller lr than {self.lr:g}, and look for NaN or very large values in the inputs"
            raise TrainingError(f"the outputs are NaN in epoch {epoch}: {hint}") from error
        if not math.isfinite(score):
            hint = "try a smaller lr, and look for an empty validation part"
            raise TrainingError(f"the validation score is {score} in epoch {epoch}: {hint}")
        return {"validation": score}

    def _mean(self, number: float) -> float:
        """Mean over processes, so that all choose the same best epoch, and stop or fail together."""
        if self.fabric is None or self.fabric.world_size == 1:
            return number
        value = torch.tensor(number, dtype=torch.float64, device=self.fabric.device)
        return float(self.fabric.all_reduce(value, reduce_op="mean"))

    def _output(self) -> Any:
        if self.precision == "float32":
            return self.model(*self.inputs)
        device = next((d for d in _devices(self.model, self.inputs)), torch.device("cpu"))
        with torch.autocast(device.type, dtype=torch.bfloat16):
            output = self.model(*self.inputs)
        return output.float() if isinstance(output, Tensor) else output


def cosine(epoch: int, epochs: int) -> float:
    r"""Cosine learning-rate schedule from 1 to 0: :math:`\tfrac12 (1 + \cos(\pi (t - 1) / T))`.

    Use it when the learning rate should decrease to zero: ``fit(..., schedule=cosine)``.

    >>> [round(cosine(epoch, 4), 3) for epoch in (1, 2, 3, 4)]
    [1.0, 0.854, 0.5, 0.146]
    """
    return 0.5 * (1 + math.cos(math.pi * (epoch - 1) / epochs))


def _check(
    epochs: int,
    lr: float,
    weight_decay: float,
    patience: int | None,
    validate: Any,
    clip: float | None,
    precision: str,
    save_every: int,
) -> None:
    whole("epochs", epochs)
    real("lr", lr, "a finite number, 0 or more")
    real("weight_decay", weight_decay, "a finite number, 0 or more")
    if patience is not None and validate is None:
        raise ArgumentError("patience", "None, or 1 or more together with validate=", f"{patience} without validate=")
    if patience is not None:
        whole("patience", patience, 1)
    if clip is not None and not clip > 0:
        raise ArgumentError("clip", "None, or a norm above 0", clip)
    if precision not in ("float32", "bfloat16"):
        raise ArgumentError("precision", "'float32' or 'bfloat16'", repr(precision))
    if save_every < 1:
        raise ArgumentError("save_every", "1 or more", save_every)


def _with_fabric(
    fabric: Any, model: nn.Module, optimizer: torch.optim.Optimizer | None, inputs: Sequence[Any]
) -> tuple[nn.Module, torch.optim.Optimizer | None, Sequence[Any]]:
    """Move model, optimizer and inputs to the devices of the fabric."""
    if optimizer is None:
        return fabric.setup(model), None, [fabric.to_device(i) for i in inputs]
    model, optimizer = fabric.setup(model, optimizer)
    return model, optimizer, [fabric.to_device(i) for i in inputs]


def _bar(first: int, last: int, label: str, progress: bool | None, stopped: bool) -> Iterable[int]:
    """The remaining epochs with a progress bar, by default only on a terminal."""
    from tqdm import tqdm

    hidden = None if progress is None else not progress  # tqdm's None: hidden unless on a terminal
    epochs = range(0) if stopped else range(first, last + 1)
    return tqdm(epochs, desc=label, initial=first - 1, total=last, disable=hidden, leave=False, unit="epoch")


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


def _devices(model: nn.Module, inputs: Sequence[Any]) -> set[torch.device]:
    """All devices of the model and its inputs, where random numbers may be drawn."""
    found = {p.device for p in model.parameters()} | {b.device for b in model.buffers()}
    return found | {d for d in (getattr(i, "device", None) for i in inputs) if isinstance(d, torch.device)}
