"""`distill`: trains a student without structure on the predictions of a teacher."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hgraph.data import Data
from hgraph.distill.foreign import adapted
from hgraph.distill.objectives import lighthgnn
from hgraph.distill.objectives.activations import penultimate
from hgraph.distill.objectives.high_order import HighOrder
from hgraph.distill.objectives.lesson import Lesson, Sum, Term
from hgraph.distill.objectives.reliable import NoisyFeatures, ReliableLabels
from hgraph.distill.teachers import Teacher, resolve_teacher
from hgraph.errors import ArgumentError
from hgraph.train import FitResult, NodeTask, TrainingView, fit, seeded, task_loss, training_view

__all__ = ["check_objective", "distill"]


def distill(
    teacher: Teacher | None,
    student: nn.Module,
    data: Data,
    *,
    objective: Term | None = None,
    split: str = "default",
    task: NodeTask | None = None,
    validate: Callable[[Tensor], float] | None = None,
    positions: Tensor | None = None,
    seed: int = 0,
    label: str = "student",
    **options: Any,
) -> FitResult:
    """Train a student, which uses only features, on a teacher's predictions for the observed nodes.

    Observed nodes are those in the training structure of the split: all nodes if it is transductive, all but the unseen
    nodes if it is a production split. The teacher runs in eval mode on that structure. The student gets the weights of
    the epoch with the best accuracy on the validation nodes, or the best ``validate``.

    Args:
        teacher: a module or function ``teacher(x, structure)`` that returns logits [N', C], see also `ensemble`; a
            network class of PyG or DHG (wrap other classes with `pyg_teacher` or `dhg_teacher`); logits with one row
            per observed node; a file of logits (``.npy``, ``.safetensors``); or None if the objective needs no teacher.
        student: a module from ``x`` [N', F] to logits [N', C].
        data: features, labels and splits.
        objective: the loss, see `hgraph.distill.objectives`; None is `lighthgnn`, soft labels only.
        split: name of the split.
        task: how labels are learned and scored; None derives it from the labels, see `hgraph.train.task_of`.
        validate: score of the student's outputs [N', C] to select the best epoch, higher is better; None is the
            score of the task on the validation nodes. Needed if outputs are embeddings (`PairwiseRanking`).
        positions: [N, P] features that only the student gets, after those of ``data``; see `position_features`.
        seed: random seed of dropout, noise and sampling.
        label: name of this training in the progress bar and the log.
        **options: ``epochs``, ``lr``, ``weight_decay``, ``patience``, ``progress`` and the other options of `fit`.

    Raises:
        ArgumentError: the objective needs a teacher, or logits have a wrong shape.
        DataError: a file of logits cannot be read.

    Defaults follow LightHGNN (ICLR 2024): the student uses no labels, only the teacher; 200 epochs of Adam at
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
    part = training_view(data, split, task=task)
    check_objective(objective, part)
    teacher_fn, teacher_logits = resolve_teacher(teacher, part)
    embed = partial(_embedding, teacher, part) if isinstance(teacher, nn.Module) else None
    x = part.x
    part = part if positions is None else _with_positions(part, positions, data.split(split).observed)
    lesson = Lesson(part, student, teacher_fn, teacher_logits, embed, x)
    if validate is None:
        _, validate = task_loss(part)
    try:
        with seeded(seed, {part.x.device}):
            loss = (lighthgnn() if objective is None else objective).bind(lesson)
        learner = _Learner(student, lesson.learned) if len(lesson.learned) else student
        return fit(learner, (part.x,), loss, validate=validate, seed=seed, label=label, **options)
    finally:
        for hook in lesson.hooks:
            hook.remove()


def _embedding(teacher: nn.Module, part: TrainingView) -> Tensor:
    """What enters the teacher's last layer, a row per node."""
    found = penultimate(teacher, part.x, part.structure, call=adapted(teacher))
    if found.dim() != 2 or len(found) != len(part.x):
        given = f"{type(teacher).__name__}, whose last layer gets shape {list(found.shape)}"
        hint = "Leave the term out (nosmog(similarity=0)), or pass target= to MatchSimilarity"
        raise ArgumentError("teacher", f"a network with an embedding [{len(part.x)}, D]", given, hint)
    return found


def _with_positions(part: TrainingView, positions: Tensor, observed: Tensor | None) -> TrainingView:
    positions = positions if observed is None else positions[observed]
    if positions.dim() != 2 or len(positions) != len(part.x):
        raise ArgumentError("positions", f"shape [{len(part.x)}, P]", f"shape {list(positions.shape)}")
    return dataclasses.replace(part, x=torch.cat([part.x, positions.to(part.x)], 1))


def check_objective(objective: Term | None, part: TrainingView) -> None:
    """Check that an objective has no terms that are defined for classes only, if the task is another one.

    Raises:
        ArgumentError: it has one.
    """
    terms = objective.terms if isinstance(objective, Sum) else ((1.0, objective),)
    for _, term in terms if part.task.kind != "classification" else ():
        if isinstance(term, (HighOrder, NoisyFeatures, ReliableLabels)):
            hint = "Use lighthgnn or glnn, whose terms Labels and SoftLabels suit every task"
            raise ArgumentError("objective", f"terms for {part.task.title}", type(term).__name__, hint)


class _Learner(nn.Module):
    """The student and the modules that terms train with it."""

    def __init__(self, student: nn.Module, learned: nn.ModuleDict) -> None:
        super().__init__()
        self.student, self.learned = student, learned

    def forward(self, x: Tensor) -> Tensor:
        return self.student(x)
