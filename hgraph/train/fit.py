"""`fit`: full-batch training that restores the state with the best validation score."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hgraph.checks import real, whole
from hgraph.data import Data
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.nn import aux_losses
from hgraph.train.checkpoint import Checkpoint
from hgraph.train.loop import FitResult, TrainingError, score_of, train_loop
from hgraph.train.view import of_data

__all__ = ["cosine", "fit"]

Schedule = Callable[[int, int], float]  # epoch (from 1), epochs -> factor of lr


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
    eval_every: int = 1,
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

    An epoch is one step on ``loss(model(*inputs))``, plus the `hgraph.nn.aux_losses` of the model's layers. Every
    ``eval_every`` epochs, the model is scored in eval mode, ``validate(model(*inputs))``. The state with the highest
    score is restored at the end (the first of equal ones); without ``validate``, the last state stays. The same seed
    gives the same result, bit for bit, on the same machine with the same number of threads; the caller's random state
    is neither used nor changed. The caller initializes the model: see `seeded`.

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
        eval_every: epochs between two scores; the last epoch has one too.
        patience: stop after this many scores without a better one; None never stops early.
        clip: clip the norm of all gradients to this value; None does not clip.
        schedule: factor of ``lr`` in each epoch, see `cosine`; None is always 1.
        precision: ``"bfloat16"`` runs the model under autocast; weights, loss and optimizer stay float32.
        fabric: a launched `lightning.fabric.Fabric`, which then determines device, precision and processes. Processes
            may have different or equal ``inputs``; gradients, losses and scores are means over processes, and the
            first process writes the files.
        checkpoint: a file to save the state to. If it exists, training resumes from it, with the same result as without
            a stop; a finished training continues if ``epochs`` or ``patience`` is larger, and keeps the score of its
            former last epoch.
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
    >>> from hgraph.train import seeded
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
    _check(epochs, lr, weight_decay, eval_every, patience, validate, clip, precision, save_every)
    planned = None if schedule is None else [getattr(schedule, "__name__", repr(schedule)), epochs]
    settings = {"seed": seed, "lr": lr, "weight_decay": weight_decay, "clip": clip, "precision": precision}
    if eval_every != 1:
        settings["eval_every"] = eval_every
    file = Checkpoint(checkpoint, {**settings, "schedule": planned}, fabric)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer: torch.optim.Optimizer | None = None
    if parameters:
        optimizer = torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay)
    if fabric is not None:
        model, optimizer, inputs = _with_fabric(fabric, model, optimizer, inputs)
    step = _Step(model, tuple(inputs), loss, optimizer, lr, clip, schedule, epochs, precision, fabric)
    return train_loop(
        model, step, None if validate is None else partial(step.score, validate), file,
        optimizer=optimizer, devices=_devices(model, inputs), epochs=epochs, seed=seed, label=label,
        eval_every=eval_every, patience=patience, save_every=save_every, log=log, progress=progress,
    )  # fmt: skip


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
    def score(self, validate: Callable[[Any], float], epoch: int) -> float:
        self.model.eval()
        return self._mean(score_of(self._output(), validate, epoch))

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
    eval_every: int,
    patience: int | None,
    validate: Any,
    clip: float | None,
    precision: str,
    save_every: int,
) -> None:
    whole("epochs", epochs)
    real("lr", lr, "a finite number, 0 or more")
    real("weight_decay", weight_decay, "a finite number, 0 or more")
    whole("eval_every", eval_every, 1)
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


def _devices(model: nn.Module, inputs: Sequence[Any]) -> set[torch.device]:
    """All devices of the model and its inputs, where random numbers may be drawn."""
    found = {p.device for p in model.parameters()} | {b.device for b in model.buffers()}
    return found | {d for d in (getattr(i, "device", None) for i in inputs) if isinstance(d, torch.device)}
