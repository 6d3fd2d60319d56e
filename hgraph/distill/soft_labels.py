"""Soft-label distillation: a student without structure learns a teacher's probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hgraph.errors import ArgumentError
from hgraph.structure import Data
from hgraph.train import FitResult, Observed, accuracy, fit, observed

__all__ = ["distill", "soft_label_loss", "supervised"]

Teacher = Tensor | Callable[[Tensor, Any], Tensor]


def soft_label_loss(student_logits: Tensor, teacher_probabilities: Tensor, *, temperature: float = 1.0) -> Tensor:
    r"""How far a student's class probabilities are from its teacher's.

    .. math:: \frac{T^2}{N} \sum_v \mathrm{KL}(t_v \,\|\, s_v)
              = \frac{T^2}{N} \sum_v \sum_c t_{vc} (\ln t_{vc} - \ln s_{vc}), \quad s_v = \mathrm{softmax}(z_v / T)

    A class of teacher probability 0 adds 0. The gradient in the logits z is :math:`T (s - t) / N`; dividing by T
    twice in the softmax makes it shrink with :math:`1 / T^2` (T squared outside undoes that: Hinton et al., 2015).

    Args:
        student_logits: z [N, C], N at least 1.
        teacher_probabilities: t [N, C], rows that sum to one, made at the same temperature; no gradient flows there.
        temperature: T > 0.

    Returns:
        A scalar, 0 exactly when both agree.

    Raises:
        ArgumentError: shapes that differ or are empty, a temperature that is not positive.

    Source: LightHGNN (ICLR 2024), the soft-label term of its loss, at T = 1. The released code calls ``kl_div`` with
    ``log_target=True`` on probabilities, whose optimum is softmax(t) rather than t; this is the form of the paper.

    >>> z = torch.tensor([[0.0, 0.0]])
    >>> soft_label_loss(z, torch.tensor([[0.5, 0.5]])).item(), round(soft_label_loss(z, torch.eye(2)[:1]).item(), 4)
    (0.0, 0.6931)
    """
    if student_logits.shape != teacher_probabilities.shape or student_logits.dim() != 2 or not len(student_logits):
        expected = f"shape {list(student_logits.shape)} as student_logits has, [N, C] with N at least 1"
        raise ArgumentError("teacher_probabilities", expected, f"shape {list(teacher_probabilities.shape)}")
    _check_temperature(temperature)
    t, log_s = teacher_probabilities.detach(), (student_logits / temperature).log_softmax(-1)
    return temperature**2 * (torch.xlogy(t, t) - t * log_s).sum(-1).mean()


def distill(
    teacher: Teacher | None,
    student: nn.Module,
    data: Data,
    *,
    split: str = "default",
    lam: float = 0.0,
    temperature: float = 1.0,
    epochs: int = 200,
    lr: float = 0.01,
    weight_decay: float = 5e-4,
    patience: int | None = None,
    seed: int = 0,
    progress: bool | None = None,
    label: str = "student",
) -> FitResult:
    r"""Train a student, which sees features alone, on the soft labels of a teacher.

    .. math:: \lambda \frac{1}{|V_L|} \sum_{v \in V_L} \mathrm{CE}(s_v, y_v)
              + (1 - \lambda) \frac{T^2}{N'} \sum_v \mathrm{KL}(t_v \,\|\, s_v)

    The second sum runs over the N' vertices that the split's training structure holds: all when transductive, the
    observed ones in production. The teacher speaks once, in eval mode, on that structure. The state with the best
    accuracy on the validation vertices is kept.

    Args:
        teacher: logits [N', C], one row a vertex of the training structure in its order; or ``teacher(x, structure)``
            that returns them; None with ``lam=1``.
        student: any module called with ``x`` [N', F] that returns logits [N', C].
        data: features, labels and splits.
        split: the name of the split to train under.
        lam: weight of the training labels; 0 leaves them to the teacher, 1 is plain supervised training.
        temperature: T, divides the logits of both.
        epochs: see `fit`, as for the arguments that follow.
        lr: Adam's step size.
        weight_decay: Adam's L2 penalty.
        patience: epochs without a better validation accuracy before stopping; None never stops early.
        seed: what dropout draws from.
        progress: show a progress bar; None shows it on a terminal only.
        label: what the progress bar and the log call this training.

    Raises:
        ArgumentError: ``lam`` outside 0 .. 1, no teacher with ``lam`` below 1, teacher logits of a wrong shape.

    Source: LightHGNN (ICLR 2024): lam 0, T 1, 200 epochs of Adam at 0.01 with weight decay 5e-4.

    >>> from hgraph.structure import Hypergraph, Split
    >>> hg, y = Hypergraph.from_lists([[0, 1], [2, 3]], num_vertices=4), torch.tensor([0, 0, 1, 1])
    >>> split = Split(hg, train=torch.tensor([0, 2]), val=torch.tensor([1]), test=torch.tensor([3]))
    >>> result = distill(5 * torch.eye(2)[y], nn.Linear(4, 2), Data(hg, torch.eye(4), y, {"default": split}), epochs=5)
    >>> len(result.history)
    5
    """
    if not 0 <= lam <= 1:
        raise ArgumentError("lam", "a number in 0 .. 1", lam)
    if teacher is None and lam < 1:
        raise ArgumentError("teacher", "logits or a callable", None, "Only lam=1 (labels alone) goes without a teacher")
    _check_temperature(temperature)
    part = observed(data, split)
    targets = None if lam == 1 else (_logits(teacher, part) / temperature).softmax(-1)  # type: ignore[arg-type]
    labels, validate = supervised(part)

    def loss(logits: Tensor) -> Tensor:
        if targets is None:
            return labels(logits)
        soft = (1 - lam) * soft_label_loss(logits, targets, temperature=temperature)
        return soft + lam * labels(logits) if lam else soft

    return fit(
        student,
        (part.x,),
        loss,
        validate=validate,
        epochs=epochs,
        lr=lr,
        weight_decay=weight_decay,
        patience=patience,
        seed=seed,
        progress=progress,
        label=label,
    )


def supervised(part: Observed) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], float] | None]:
    """The mean cross-entropy on the training vertices, and the accuracy on the validation vertices (None if none)."""
    validate = None
    if len(part.val):

        def validate(logits: Tensor) -> float:
            return accuracy(logits[part.val], part.y[part.val])

    return lambda logits: F.cross_entropy(logits[part.train], part.y[part.train]), validate


@torch.no_grad()
def _logits(teacher: Teacher, part: Observed) -> Tensor:
    """The teacher's logits on the training structure, in eval mode; its mode is given back."""
    if isinstance(teacher, Tensor):
        logits = teacher.detach().to(part.x.device)
    else:
        module = teacher if isinstance(teacher, nn.Module) else None
        training = module is not None and module.training
        try:
            if module is not None:
                module.eval()
            logits = teacher(part.x, part.structure)
        finally:
            if module is not None:
                module.train(training)
    if logits.dim() != 2 or len(logits) != len(part.x):
        hint = "In production, give the logits of the split's own structure: others would know of unseen vertices"
        raise ArgumentError(
            "teacher", f"logits [{len(part.x)}, C], one row an observed vertex", f"shape {list(logits.shape)}", hint
        )
    return logits


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ArgumentError("temperature", "a number above 0", temperature)
