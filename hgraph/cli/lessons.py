"""The teacher of `hgraph distill`: a network that is still to be trained, or the trained one of a run folder."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hgraph.cli.choices import CLASSIFIERS
from hgraph.cli.node_runs import METRICS, Prepared, prepared
from hgraph.cli.teachers import MLP, Student, networks_of
from hgraph.cli.threads import node_step
from hgraph.cli.trained import config_of, encode_for_run, load_weights, read_settings, source_of
from hgraph.errors import ArgumentError
from hgraph.schema import parse, read_lines

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hgraph.train import FitResult

__all__ = ["Lesson", "is_node_run"]


def is_node_run(place: str) -> bool:
    """Whether a folder is a run of `hgraph train`, `hgraph tune` or `hgraph distill` on labeled nodes."""
    try:
        config = parse((Path(place) / "config.json").read_bytes(), "config.json")
        return "run" in config or config["model"] in list(CLASSIFIERS)
    except (OSError, ValueError, KeyError, TypeError):
        return False


@dataclass(frozen=True)
class Lesson:
    """What a student learns from.

    Args:
        source: name or folder of the data set.
        on: the data set, the teacher and the task.
        seed: the seed of weights and dropout.
        run: the run folder whose network is the teacher; None if the teacher is still to be trained.
        shape: width and dropout of the teacher, if the run has saved them.
        options: the options of the teacher's training.
        fit: the teacher's training.
    """

    source: str
    on: Prepared
    seed: int
    run: Path | None = None
    shape: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    fit: FitResult | None = None

    @classmethod
    def of_run(cls, run: Path, where: torch.device, root: Path | None) -> Lesson:
        """The trained network of a run folder.

        Raises:
            ArgumentError: the run has a student already, or its network does not use a structure.
            DataError: the run is not finished, or its data has changed.
        """
        import dataclasses

        from hgraph.train import cosine

        settings = read_settings(run, config_of(run))
        if settings.distilled or settings.model.data == "features":
            what = "a run of `hgraph distill`" if settings.distilled else f"a run of {settings.model.name}"
            hint = "Use `hgraph predict` with it, or pass a run of another model"
            raise ArgumentError("dataset", "a run whose network uses a structure", f"{run}, {what}", hint)
        source = source_of(run, settings)
        on = prepared(source, settings.model, settings.setting, settings.seed, root=root, device=where)
        data = encode_for_run(run, on.data, None, settings.source, root, settings.seed)
        on = dataclasses.replace(on, data=data, task=settings.task)
        options = dict(settings.options)
        if "schedule" in options:
            options["schedule"] = cosine if options["schedule"] == "cosine" else None
        return cls(settings.source, on, settings.seed, run, settings.shape, options, _fit_of(run))

    def networks(self, student: Student, positions: int = 0) -> dict[str, nn.Module]:
        """The teacher, trained if it comes from a run, the MLP and the student, by name."""
        made = networks_of(self.on.data, self.on.model, student, self.seed, positions=positions, **self.shape)
        if self.run is not None:
            load_weights(made["teacher"], self.run, "model", self.on.data, self.source)
        return made

    def step(self, networks: dict[str, nn.Module]) -> Callable[[], object]:
        """One step of what is trained first: the teacher, or the MLP if the teacher is trained already."""
        if self.fit is None:
            return node_step(networks["teacher"], self.on)
        return node_step(networks["mlp"], replace(self.on, model=MLP))


@dataclass(frozen=True)
class _Epoch:
    """The keys of a line of ``metrics.jsonl`` that plots read."""

    loss: float | None = None
    validation: float | None = None


def _fit_of(run: Path) -> FitResult:
    """The history of a run, without times; empty if it has none."""
    from hgraph.train import FitResult

    if not (run / METRICS).is_file():
        return FitResult([], 0, 0.0)
    history = [record for _, record in read_lines(run / METRICS, _Epoch, hint="Train again with --overwrite")]
    scores = [-math.inf if record.get("validation") is None else float(record["validation"]) for record in history]
    scored = any(score > -math.inf for score in scores)
    best = scores.index(max(scores)) + 1 if scored else len(history)
    return FitResult(history, best, 0.0)
