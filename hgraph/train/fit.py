"""`fit`: full-batch training with the best state on validation kept."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hgraph.errors import ArgumentError, HgraphError
from hgraph.train.seed import seeded

__all__ = ["FitResult", "TrainingError", "fit"]

_LOG = logging.getLogger("hgraph")


class TrainingError(HgraphError, ValueError):
    """Training went wrong in a way that more of it cannot mend: a loss or a score that is not finite."""


@dataclass(frozen=True)
class FitResult:
    """What a training left behind, beside the trained model.

    Args:
        history: one dict an epoch: ``epoch`` (from 1), ``loss`` and, where there is one, ``validation``.
        best_epoch: the epoch whose state the model now has; 0 when no epoch was run.
        seconds: wall-clock time.
    """

    history: list[dict[str, float]]
    best_epoch: int
    seconds: float

    @property
    def best(self) -> dict[str, float]:
        """The history's entry of the best epoch."""
        return self.history[self.best_epoch - 1] if self.best_epoch else {}


def fit(
    model: nn.Module,
    inputs: Sequence[Any],
    loss: Callable[[Any], Tensor],
    *,
    validate: Callable[[Any], float] | None = None,
    epochs: int = 200,
    lr: float = 0.01,
    weight_decay: float = 5e-4,
    patience: int | None = None,
    seed: int = 0,
    progress: bool | None = None,
    label: str = "fit",
) -> FitResult:
    """Train a model on one full batch with Adam and leave it, in eval mode, with its best state.

    An epoch is one step on ``loss(model(*inputs))`` and, in eval mode, one score ``validate(model(*inputs))``.
    The state with the highest score is kept (of equal ones the first); without ``validate`` the last one is.
    The same seed gives the same result, bit for bit, on the same machine with the same threads; the caller's
    random state is neither used nor changed. How the model was initialised is the caller's: see `seeded`.

    Args:
        model: any module.
        inputs: its positional arguments.
        loss: makes a finite scalar from the model's output.
        validate: makes a score from the output, higher is better.
        epochs: at most so many steps.
        lr: Adam's step size.
        weight_decay: Adam's L2 penalty.
        patience: stop after so many epochs without a better score; None never stops early.
        seed: what dropout and the like draw from.
        progress: show a progress bar on stderr; None shows it on a terminal only.
        label: what the bar and the log call this training.

    Raises:
        ArgumentError: a negative number of epochs, patience without ``validate``, a loss that is not a scalar.
        TrainingError: a loss or score that is NaN or infinite; says in which epoch and what to try.

    Defaults follow LightHGNN (ICLR 2024): Adam, lr 0.01, weight decay 5e-4, 200 epochs, first best kept.

    >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])
    >>> with seeded(0):
    ...     model = nn.Linear(1, 2)
    >>> result = fit(model, (x,), lambda out: nn.functional.cross_entropy(out, y), epochs=3)
    >>> result.best_epoch, result.history[2]["loss"] < result.history[0]["loss"], model.training
    (3, True, False)
    """
    if epochs < 0:
        raise ArgumentError("epochs", "0 or more", epochs)
    if patience is not None and (validate is None or patience < 1):
        given = patience if validate is not None else f"{patience} without validate="
        raise ArgumentError("patience", "None, or 1 or more together with validate=", given)
    from tqdm import tqdm

    hidden = None if progress is None else not progress  # tqdm's None: hidden unless on a terminal
    start, history = time.perf_counter(), []
    best_epoch, best_score, best_state = 0, -math.inf, None
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay) if parameters else None
    bar = tqdm(range(1, epochs + 1), desc=label, disable=hidden, leave=False, unit="epoch")
    try:
        with seeded(seed, _devices(model, inputs)), bar:
            for epoch in bar:
                record = {"epoch": epoch, "loss": _step(model, inputs, loss, optimizer, epoch, lr)}
                history.append(record)
                if validate is None:
                    best_epoch = epoch
                    continue
                score = record["validation"] = _score(model, inputs, validate, epoch)
                if score > best_score:
                    best_epoch, best_score, best_state = epoch, score, copy.deepcopy(model.state_dict())
                elif patience is not None and epoch - best_epoch >= patience:
                    break
    finally:
        model.eval()
    if best_state is not None:
        model.load_state_dict(best_state)
    result = FitResult(history, best_epoch, time.perf_counter() - start)
    score_text = "" if best_state is None else f", validation {best_score:.4f}"
    _LOG.info("%s: epoch %d of %d kept%s, %.1f s", label, best_epoch, len(history), score_text, result.seconds)
    return result


def _step(
    model: nn.Module,
    inputs: Sequence[Any],
    loss: Callable[[Any], Tensor],
    optimizer: torch.optim.Optimizer | None,
    epoch: int,
    lr: float,
) -> float:
    model.train()
    value = loss(model(*inputs))
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = f"shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ArgumentError("loss", "a function that returns a scalar tensor", got)
    number = float(value.detach())
    if not math.isfinite(number):
        hint = f"try a smaller lr than {lr:g}, and look for NaN or very large values in the inputs and labels"
        raise TrainingError(f"the loss is {number} in epoch {epoch}: {hint}")
    if optimizer is not None:
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
    return number


@torch.no_grad()
def _score(model: nn.Module, inputs: Sequence[Any], validate: Callable[[Any], float], epoch: int) -> float:
    model.eval()
    score = float(validate(model(*inputs)))
    if math.isnan(score):
        hint = "try a smaller lr, and look for an empty validation part"
        raise TrainingError(f"the validation score is NaN in epoch {epoch}: {hint}")
    return score


def _devices(model: nn.Module, inputs: Sequence[Any]) -> set[torch.device]:
    """Every device the model or its inputs live on: where random numbers may be drawn."""
    found = {p.device for p in model.parameters()} | {b.device for b in model.buffers()}
    return found | {d for d in (getattr(i, "device", None) for i in inputs) if isinstance(d, torch.device)}
