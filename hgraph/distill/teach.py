"""`distill`: a student without structure learns what a teacher knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from hgraph.data import Data
from hgraph.distill.objectives import lighthgnn
from hgraph.distill.objectives.lesson import Lesson, Term
from hgraph.distill.teachers import Teacher, heard
from hgraph.train import FitResult, classification_loss, fit, seeded, training_view

__all__ = ["distill"]


def distill(
    teacher: Teacher | None,
    student: nn.Module,
    data: Data,
    *,
    objective: Term | None = None,
    split: str = "default",
    validate: Callable[[Tensor], float] | None = None,
    seed: int = 0,
    label: str = "student",
    **options: Any,
) -> FitResult:
    """Train a student, which sees features alone, on what a teacher thinks of the observed nodes.

    Observed are the nodes that the split's training structure holds: all when transductive, all but the unseen
    ones in production. The teacher speaks in eval mode on that structure. The state with the best accuracy on the
    validation nodes is kept, or the best ``validate``.

    Args:
        teacher: ``teacher(x, structure)`` that returns logits [N', C]: any module or function, see also `ensemble`; a
            network of PyG or DHG (one of your own class with their layers: `pyg_teacher`, `dhg_teacher`); or logits,
            one row an observed node in its order; or a file of them (``.npy``, ``.safetensors``); None where the
            objective needs no teacher.
        student: any module called with ``x`` [N', F] that returns logits [N', C].
        data: features, labels and splits.
        objective: the loss, see `hgraph.distill.objectives`; None is `lighthgnn`: soft labels alone.
        split: the name of the split to train under.
        validate: the score of the student's outputs [N', C] by which the kept epoch is chosen, higher is better; None
            is the accuracy on the validation nodes. Give one where outputs are embeddings (`PairwiseRanking`).
        seed: what dropout, noise and sampled hyperedges draw from.
        label: what the progress bar and the log call this training.
        **options: ``epochs``, ``lr``, ``weight_decay``, ``patience``, ``progress`` ... of `fit`.

    Raises:
        ArgumentError: a teacher that the objective needs and was not given, or logits of a wrong shape.
        DataError: a file of logits that cannot be read.

    Defaults follow LightHGNN (ICLR 2024): labels reach the student through the teacher alone; 200 epochs of Adam at
    0.01 with weight decay 5e-4.

    >>> import torch
    >>> from hgraph.data import Split
    >>> from hgraph.structure import Hypergraph
    >>> hg, y = Hypergraph.from_lists([[0, 1], [2, 3]], num_nodes=4), torch.tensor([0, 0, 1, 1])
    >>> split = Split(hg, train=torch.tensor([0, 2]), val=torch.tensor([1]), test=torch.tensor([3]))
    >>> result = distill(5 * torch.eye(2)[y], nn.Linear(4, 2), Data(hg, torch.eye(4), y, {"default": split}), epochs=5)
    >>> len(result.history)
    5
    """
    part = training_view(data, split)
    speaks, logits = heard(teacher, part)
    lesson = Lesson(part, student, speaks, logits)
    if validate is None:
        _, validate = classification_loss(part)
    try:
        with seeded(seed, {part.x.device}):
            loss = (lighthgnn() if objective is None else objective).bind(lesson)
        learner = _Learner(student, lesson.learned) if len(lesson.learned) else student
        return fit(learner, (part.x,), loss, validate=validate, seed=seed, label=label, **options)
    finally:
        for hook in lesson.hooks:
            hook.remove()


class _Learner(nn.Module):
    """The student, and what its lesson learns with it."""

    def __init__(self, student: nn.Module, learned: nn.ModuleDict) -> None:
        super().__init__()
        self.student, self.learned = student, learned

    def forward(self, x: Tensor) -> Tensor:
        return self.student(x)
