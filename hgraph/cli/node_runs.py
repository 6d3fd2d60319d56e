"""Networks of labeled nodes: how a run builds, trains and tests one, and the files that it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hgraph.cli.common import absolute, environment_info, load
from hgraph.cli.teachers import Setting, added, prepare, split_of
from hgraph.errors import ArgumentError
from hgraph.models.registry import ModelEntry
from hgraph.report import Report

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from hgraph.data import Data, Dataset
    from hgraph.train import FitResult, NodeTask

__all__ = [
    "METRICS",
    "Prepared",
    "class_names",
    "config_of_run",
    "figures_of",
    "fit_network",
    "network_of",
    "prepared",
    "write_run",
]

METRICS = "metrics.jsonl"  # one line per epoch, written during training
_NOTES = {
    "majority_accuracy": "**Majority accuracy** is the accuracy of always predicting the most frequent training class.",
    "mean_mae": "**Mean MAE** is the error of always predicting the mean of the training targets.",
}


@dataclass(frozen=True)
class Prepared:
    """A data set that is ready for the training of a network.

    Args:
        dataset: the data set.
        data: its data, with the structure that the network takes.
        model: the network.
        setting: which nodes are in training.
        task: the loss, the metrics and the answers for the labels.
    """

    dataset: Dataset
    data: Data
    model: ModelEntry
    setting: Setting
    task: NodeTask

    @property
    def split(self) -> str:
        """The name of the split."""
        return split_of(self.setting)

    @cached_property
    def data_sha256(self) -> str:
        """A hash of the data: a stopped run must not continue with others."""
        from hgraph.data.io import data_digest

        return data_digest(self.data)


def prepared(
    dataset: str,
    model: ModelEntry,
    setting: Setting,
    seed: int,
    *,
    root: Path | None,
    device: torch.device,
    select: str | None = None,
    class_weight: str | None = None,
) -> Prepared:
    """Load a data set for a network, and find the task of its labels.

    Raises:
        ArgumentError: a part of the split has no labels, or the task has no such score or weights.
    """
    from hgraph.train import task_of

    loaded = load(dataset, root=root, seed=seed)
    data = prepare(loaded, model, setting, seed).to(device)
    _check_parts(data, split_of(setting))
    train = data.split(split_of(setting)).train
    return Prepared(loaded, data, model, setting, task_of(data.y, train, select=select, class_weight=class_weight))


def _check_parts(data: Data, split: str) -> None:
    from hgraph.data.labels import labeled

    for part in ("train", "test"):
        if not bool(labeled(data.y[getattr(data.split(split), part)]).any()):
            hint = "Unlabeled rows are in no part of a split; see --shares and --split of `hgraph datasets build`"
            raise ArgumentError("dataset", f"at least one {part} node with a label", "none", hint)


def network_of(model: ModelEntry, data: Data, seed: int, *, hidden: int | None = None, **options: Any) -> nn.Module:
    """The network for the data, initialized under the seed; with ``hidden`` None, of its default width."""
    from hgraph.train import build_model

    return build_model(model, data, seed=seed, hidden_size=hidden, **{"dropout": 0.5} | options).to(data.x.device)


def fit_network(
    network: nn.Module,
    on: Prepared,
    *,
    report: Callable[[int, float], None] | None = None,
    schedule: str = "constant",
    **options: Any,
) -> FitResult:
    """Train a network with the options of `fit`; ``report`` is called with each epoch and its validation score."""
    from hgraph.train import cosine, fit, task_loss, training_view

    part = training_view(on.data, on.split, task=on.task)
    inputs = (part.x,) if on.model.data == "features" else (part.x, part.structure)
    loss, validate = task_loss(part)
    if report is not None and validate is not None:
        validate = _reporting(validate, report)
    return fit(network, inputs, loss, validate=validate, schedule=cosine if schedule == "cosine" else None, **options)


def _reporting(validate: Callable[[Tensor], float], report: Callable[[int, float], None]) -> Callable[[Tensor], float]:
    epoch = 0

    def validate_and_report(outputs: Tensor) -> float:
        nonlocal epoch
        epoch += 1
        score = validate(outputs)
        report(epoch, score)
        return score

    return validate_and_report


def figures_of(
    network: nn.Module, data: Data, model: ModelEntry, split: str, task: NodeTask
) -> tuple[dict[str, Any], Tensor]:
    """Metrics of a trained network on a split, and its outputs [N, C]."""
    import torch

    from hgraph.data.labels import labeled

    parts, y = data.split(split), data.y
    with torch.inference_mode():
        outputs = network(data.x, *(() if model.data == "features" else (data.structure,)))
    test, unseen = (ids[labeled(y[ids])] for ids in (parts.test, parts.unseen))
    figures: dict[str, Any] = {f"test_{name}": value for name, value in task.metrics(outputs[test], y[test]).items()}
    if len(unseen):
        figures[f"unseen_{task.main}"] = task.metric(task.main, outputs[unseen], y[unseen])
    validate = task.score(y, parts.val)
    figures[f"validation_{task.select}"] = None if validate is None else task.shown(validate(outputs))
    figures |= task.baseline(y[parts.train], y[test]) | task.calibration(outputs[test], y[test])
    figures["parameters"] = sum(p.numel() for p in network.parameters())
    return figures, outputs


def class_names(data: Data) -> list[str]:
    """The names of the classes or labels, by default their numbers."""
    return [str(name) for name in data.meta.get("class_names") or range(data.num_outputs)]


# ---------------------------------------------------------------------- the run folder


def config_of_run(on: Prepared, options: dict[str, Any], command: str, source: str) -> dict[str, Any]:
    """The content of config.json: the data, all options, and the command that reproduces the run."""
    data, parts = on.data, on.data.split(on.split)
    kept = f"state of best validation {on.task.select}" if len(parts.val) else "state of the last epoch"
    return {
        "dataset": on.dataset.name,
        "structure": repr(data.structure),
        "features": data.num_features,
        **({"classes": data.num_classes} if on.task.has_classes else {}),
        "train / validation / test": f"{len(parts.train)} / {len(parts.val)} / {len(parts.test)}",
        "setting": on.setting.value,
        "model": on.model.name,
        "optimizer": f"Adam; {kept}",
        **options,
        "task": on.task.settings(),
        "data_sha256": on.data_sha256,
        **environment_info(),
        "command": command,
        "source": absolute(source),
    }


def write_run(
    folder: Path,
    on: Prepared,
    network: nn.Module,
    fit: FitResult,
    figures: dict[str, Any],
    config: dict[str, Any],
    outputs: Tensor,
    report: str | None = None,
) -> Path:
    """Write all files of a run, each atomically; the report is last because it marks the run as finished.

    ``report`` is the text of report.md; None writes the report of a training.
    """
    from hgraph.datasets import Inputs
    from hgraph.files import write_atomically
    from hgraph.train.checkpoint import weights_file
    from hgraph.train.plots import learning_curve, structure_picture, task_plots

    title = f"{on.dataset.name}: {on.model.name} (seed {config['seed']}, {on.setting.value})"
    test = on.data.split(on.split).test
    pictures = task_plots(
        on.task, outputs[test].cpu(), on.data.y[test].cpu(), class_names(on.data), f"{title}: test nodes"
    )
    text = _markdown(on, title, figures, config, pictures) if report is None else report
    content: dict[str, bytes] = {
        "config.json": (json.dumps(config, ensure_ascii=False, allow_nan=False, indent=2) + "\n").encode(),
        "learning_curve.png": learning_curve({"teacher": fit}, {"teacher": on.model.name}, title, task=on.task),
        "structure.png": structure_picture(on.data),
        **pictures,
        "model.safetensors": weights_file(network),
        "report.md": text.encode(),
    }
    Inputs.of(on.data).save(folder)
    for name, data in content.items():
        write_atomically(folder / name, data)
    return folder / "report.md"


def _markdown(
    on: Prepared, title: str, figures: dict[str, Any], config: dict[str, Any], pictures: dict[str, bytes]
) -> str:
    from hgraph.train.plots import CAPTIONS

    report = Report(title).figures(figures).text(*(_NOTES[name] for name in figures if name in _NOTES))
    report.picture(f"Validation {on.task.select} over epochs", "learning_curve.png")
    for name in pictures:
        report.picture(CAPTIONS[name], name)
    about, notes = on.dataset, added(on.dataset, on.model)
    report.section("The data").picture("The structure", "structure.png")
    report.bullets([f"License: {about.license}.", f"Citation: {about.citation}", *about.caveats, *notes])
    if config.get("hidden", 0) is None:
        config = config | {"hidden": on.model.width}  # the default of the network
    return str(report.settings(config).command(config["command"]))
