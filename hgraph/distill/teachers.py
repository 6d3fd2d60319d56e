"""Teachers: a network, a function, an ensemble, or a file of logits."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hgraph.distill.foreign import adapted, foreign_layers
from hgraph.distill.objectives.lesson import Teach
from hgraph.errors import ArgumentError, ArgumentTypeError, DataError
from hgraph.train import TrainingView, eval_mode
from hgraph.train.metrics import scored_rows

__all__ = ["Teacher", "calibrated", "ensemble", "fit_temperature", "resolve_teacher"]

Teacher = Tensor | str | os.PathLike[str] | Callable[[Tensor, Any], Tensor]


def resolve_teacher(teacher: Teacher | None, part: TrainingView) -> tuple[Teach | None, Tensor | None]:
    """Convert a teacher to a function of features on the training structure, and its logits on the observed nodes.

    Args:
        teacher: a function ``teacher(x, structure)`` that returns logits, run in eval mode if it is a module; a
            network class of PyG or DHG, which gets the structure in its form; logits [N', C]; a file of logits,
            ``.npy`` or ``.safetensors`` with one tensor; or None.
        part: the observed nodes.

    Raises:
        ArgumentError: the logits are not one finite row per observed node.
        DataError: the file does not contain such a tensor.
    """
    if teacher is None:
        return None, None
    if isinstance(teacher, (str, os.PathLike)):
        teacher = _read(Path(teacher))
    if isinstance(teacher, Tensor):
        return None, _checked(teacher.detach().to(part.x.device), part)
    if not callable(teacher):
        raise ArgumentTypeError("teacher", "a module, a callable, logits or a file of logits", type(teacher).__name__)
    call = adapted(teacher)

    @torch.no_grad()
    def teach(x: Tensor) -> Tensor:
        with eval_mode(call):
            return _checked(_called(call, x, part.structure), part)

    return teach, teach(part.x)


def ensemble(teachers: Sequence[Callable[[Tensor, Any], Tensor]]) -> Callable[[Tensor, Any], Tensor]:
    r"""Combine several teachers: the logarithm of their mean probabilities.

    .. math:: z_v = \ln \frac{1}{K} \sum_k \mathrm{softmax}(z^k_v)

    >>> both = ensemble([lambda x, s: torch.tensor([[0.0, 0.0]]), lambda x, s: torch.tensor([[99.0, 0.0]])])
    >>> both(torch.zeros(1, 1), None).exp()
    tensor([[0.7500, 0.2500]])
    """
    members = [adapted(teacher) for teacher in teachers]
    if not members:
        raise ArgumentError("teachers", "at least one", "none")

    def mean_teacher(x: Tensor, structure: Any) -> Tensor:
        log_probabilities = []
        for member in members:
            with eval_mode(member):
                log_probabilities.append(member(x, structure).log_softmax(-1))
        return torch.stack(log_probabilities).logsumexp(0) - torch.tensor(float(len(members))).log()

    return mean_teacher


def calibrated(teacher: Callable[[Tensor, Any], Tensor], temperature: float) -> Callable[[Tensor, Any], Tensor]:
    """The same teacher with its logits divided by a temperature, see `fit_temperature`.

    >>> calibrated(lambda x, structure: x, 2.0)(torch.tensor([[4.0, 2.0]]), None)
    tensor([[2., 1.]])
    """
    if not temperature > 0:
        raise ArgumentError("temperature", "a number above 0", temperature)

    call = adapted(teacher)

    def tempered(x: Tensor, structure: Any) -> Tensor:
        with eval_mode(call):
            return call(x, structure) / temperature

    return tempered


def fit_temperature(logits: Tensor, y: Tensor) -> float:
    r"""The temperature for calibrated probabilities: the minimizer of the negative log-likelihood.

    .. math:: T = \arg\min_T \; -\frac{1}{N} \sum_i \ln \mathrm{softmax}(z_i / T)_{y_i}

    Found by bisection of the derivative in 1/T, which increases with 1/T, within 1/100 .. 100. It does not change the
    accuracy.

    Args:
        logits: [N, C] of nodes outside the training part, usually the validation nodes.
        y: [N] labels; rows with missing labels (-1, NaN) are ignored.

    Source: Guo et al., On Calibration of Modern Neural Networks (2017).

    >>> z = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
    >>> round(fit_temperature(z, torch.tensor([0, 0, 0, 1])), 3)  # right in 3 of 4: 2 / T = ln 3
    1.82
    """
    logits, y = scored_rows(logits, y)
    z = logits.detach().double()
    correct = z.gather(1, y[:, None]).mean()

    def slope(inverse: float) -> Tensor:
        return ((z * inverse).softmax(-1) * z).sum(-1).mean() - correct

    low, high = 0.01, 100.0
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 1 / low


def _called(call: Callable[[Tensor, Any], Tensor], x: Tensor, structure: Any) -> Tensor:
    try:
        return call(x, structure)
    except Exception as error:
        wrapper = foreign_layers(call)
        if wrapper is None:
            raise
        hint = f"If it takes another form of structure, pass hgraph.distill.{wrapper}(teacher)"
        got = f"{type(error).__name__}: {error}"
        raise ArgumentError("teacher", "a callable of (x, structure)", got, hint) from error


def _checked(logits: Tensor, part: TrainingView) -> Tensor:
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(part.x):
        hint = "For a production split, pass logits computed on its training structure, without unseen nodes"
        shape = f"shape {list(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise ArgumentError("teacher", f"logits [{len(part.x)}, C], one row per observed node", shape, hint)
    if not bool(logits.isfinite().all()):
        row = int((~logits.isfinite()).any(1).nonzero()[0, 0])
        raise ArgumentError("teacher", "finite logits", f"NaN or infinity in row {row}")
    return logits


def _read(path: Path) -> Tensor:
    if not path.is_file():
        raise DataError(f"{path}: no such file of teacher logits")
    if path.suffix == ".npy":
        import numpy as np

        try:
            return torch.from_numpy(np.load(path, allow_pickle=False)).float()
        except (ValueError, EOFError, TypeError) as error:
            raise DataError(f"{path}: not a numeric array ({error})") from None
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors = load_file(path)
        except SafetensorError as error:
            raise DataError(f"{path}: not a safetensors file ({error})") from None
        if len(tensors) != 1:
            raise DataError(f"{path}: expected one tensor of logits, got {len(tensors)} ({sorted(tensors)})")
        return next(iter(tensors.values())).float()
    raise DataError(f"{path}: expected teacher logits as .npy or .safetensors")
