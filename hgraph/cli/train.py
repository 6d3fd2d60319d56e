"""`hgraph train`."""

from __future__ import annotations

import json
import platform
import shlex
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgraph import __version__
from hgraph.cli.common import LOG, JsonOption, RootOption, check_folder, device_of, load, notes, plain_errors
from hgraph.cli.teachers import STUDENT_HIDDEN, TEACHER_HIDDEN, TEACHERS, Setting, Teacher, prepare
from hgraph.errors import DataError

if TYPE_CHECKING:
    import torch

    from hgraph.structure import Data, Dataset
    from hgraph.train import FitResult


class Model(Enum):
    """Which network is trained: one of the teachers, or an MLP that does not look at the structure."""

    HGNN = "hgnn"
    HGNNP = "hgnn+"
    GCN = "gcn"
    GAT = "gat"
    MLP = "mlp"


# report.md is written last and removed first: a folder that has one is whole
FILES = ("config.json", "metrics.jsonl", "learning_curve.png", "model.safetensors", "report.md")


@plain_errors
def train(
    dataset: Annotated[str, typer.Argument(help="A name of `hgraph datasets list`, or a folder you built.")],
    model: Annotated[Model, typer.Option(help="The network.")] = Model.HGNNP,
    seed: Annotated[int, typer.Option(help="Draws the weights, the dropout, and splits that are drawn.")] = 0,
    setting: Annotated[Setting, typer.Option(help="What training may see.")] = Setting.TRANSDUCTIVE,
    epochs: Annotated[int, typer.Option(min=1, help="Steps at most.")] = 200,
    lr: Annotated[float, typer.Option(help="Adam's step size.")] = 0.01,
    weight_decay: Annotated[float, typer.Option(min=0, help="Adam's L2 penalty.")] = 5e-4,
    patience: Annotated[int | None, typer.Option(min=1, help="Stop after so many epochs without a better one.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/<dataset>-<model>-<seed>.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:0.")] = "cpu",
    root: RootOption = None,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no notes on stderr.")] = False,
) -> None:
    """Train a network on a data set and test it.

    Trains on the default split, keeps the state that was best on the validation vertices, prints how good it is on
    the test vertices, and writes a run folder with the weights, the metrics of every epoch, a plot and report.md.
    """
    folder = out or Path("runs") / f"{Path(dataset).resolve().name}-{model.value}-{seed}"
    check_folder(folder)
    where = device_of(device)
    loaded = load(dataset, root=root, seed=seed)
    data = prepare(loaded, Teacher.HGNN if model is Model.MLP else Teacher(model.value), setting, seed).to(where)
    split = "default" if setting is Setting.TRANSDUCTIVE else setting.value
    with notes(quiet):
        if any((folder / name).exists() for name in FILES):
            LOG.info("%s holds a run already: its files will be replaced, others stay", folder)
        options: dict[str, Any] = {"epochs": epochs, "lr": lr, "weight_decay": weight_decay, "patience": patience}
        network, fit, figures = _train(data, model, split, seed, progress=False if quiet else None, **options)
    command = ["hgraph", "train", dataset, "--model", model.value, "--seed", str(seed), "--setting", setting.value]
    command += ["--epochs", str(epochs), "--lr", f"{lr:g}", "--weight-decay", f"{weight_decay:g}"]
    command += [] if patience is None else ["--patience", str(patience)]
    command += ["--device", device, "--out", str(folder)]
    config = _config(loaded, data, model, setting, split, options | {"seed": seed, "device": str(where)})
    config["command"] = shlex.join(command)
    try:
        report = _write(folder, loaded, network, fit, figures, config, model)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error})") from error
    if as_json:
        head = {"dataset": loaded.name, "model": model.value, "setting": setting.value, "seed": seed}
        typer.echo(json.dumps(head | figures, allow_nan=False))
    else:
        width = max(map(len, figures))
        typer.echo("\n".join(f"{key.replace('_', ' ').ljust(width)}  {_shown(v)}" for key, v in figures.items()))
        typer.echo(f"report: {report}")


def _train(
    data: Data, model: Model, split: str, seed: int, progress: bool | None, **options: Any
) -> tuple[torch.nn.Module, FitResult, dict[str, Any]]:
    """The trained network, its history, and its figures on the test vertices."""
    import torch

    from hgraph import models
    from hgraph.errors import ArgumentError
    from hgraph.train import accuracy, expected_calibration_error, fit, observed, seeded, supervised

    parts, part = data.split(split), observed(data, split)
    for name in ("train", "test"):
        if not len(getattr(parts, name)):
            hint = "Rows without a label are in no part; see the shares and the split of `hgraph datasets build`"
            raise ArgumentError("dataset", f"at least one {name} vertex", "none", hint)
    with seeded(seed):
        if model is Model.MLP:
            network: torch.nn.Module = models.MLP(data.num_features, STUDENT_HIDDEN, data.num_classes)
        elif model is Model.GAT:  # its width is a head's: 8 heads of 4
            network = models.GAT(data.num_features, 4, data.num_classes, heads=8, dropout=0.5)
        else:
            kind = getattr(models, TEACHERS[Teacher(model.value)][0])
            network = kind(data.num_features, TEACHER_HIDDEN, data.num_classes)
    network = network.to(data.x.device)
    structure = () if model is Model.MLP else (part.structure,)
    loss, validate = supervised(part)
    result = fit(
        network,
        (part.x, *structure),
        loss,
        validate=validate,
        seed=seed,
        progress=progress,
        label=model.value,
        **options,
    )
    with torch.inference_mode():
        logits = network(data.x, *(() if model is Model.MLP else (data.structure,)))
    test, unseen = parts.test, parts.unseen
    figures: dict[str, Any] = {"test_accuracy": accuracy(logits[test], data.y[test])}
    if len(unseen):
        figures["unseen_accuracy"] = accuracy(logits[unseen], data.y[unseen])
    figures["validation_accuracy"] = result.best.get("validation")
    figures["majority_accuracy"] = _majority(data.y[parts.train], data.y[test])
    figures["ece"] = expected_calibration_error(logits[test], data.y[test])
    figures["parameters"] = sum(p.numel() for p in network.parameters())
    figures["best_epoch"], figures["seconds"] = result.best_epoch, round(result.seconds, 3)
    return network, result, figures


def _majority(train: torch.Tensor, test: torch.Tensor) -> float:
    """The accuracy of always answering the class that is most frequent in training: what any model should beat."""
    return float((test == train.bincount().argmax()).double().mean())


# ---------------------------------------------------------------------- the run folder


def _config(
    dataset: Dataset, data: Data, model: Model, setting: Setting, split: str, options: dict[str, Any]
) -> dict[str, Any]:
    import torch

    parts = data.split(split)
    return {
        "dataset": dataset.name,
        "structure": repr(data.structure),
        "features": data.num_features,
        "classes": data.num_classes,
        "train / validation / test": f"{len(parts.train)} / {len(parts.val)} / {len(parts.test)}",
        "setting": setting.value,
        "model": model.value,
        "optimiser": "Adam; best validation accuracy (first) kept" if len(parts.val) else "Adam; the last epoch kept",
        **options,
        "threads": torch.get_num_threads(),
        "versions": f"hgraph {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _write(
    folder: Path,
    dataset: Dataset,
    network: torch.nn.Module,
    fit: FitResult,
    figures: dict[str, Any],
    config: dict[str, Any],
    model: Model,
) -> Path:
    """Every file of the run, each whole or not at all, the report last."""
    from safetensors.torch import save

    from hgraph.distill.plots import learning_curve
    from hgraph.structure.io import write_atomically

    title = f"{dataset.name}: {model.value} (seed {config['seed']}, {config['setting']})"
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    content: dict[str, str | bytes] = {
        "config.json": json.dumps(config, ensure_ascii=False, allow_nan=False, indent=2) + "\n",
        "metrics.jsonl": "".join(json.dumps(record, allow_nan=False) + "\n" for record in fit.history),
        "learning_curve.png": learning_curve({"teacher": fit}, {"teacher": model.value}, title),
        "model.safetensors": save(weights),
        "report.md": _markdown(dataset, title, figures, config),
    }
    (folder / "report.md").unlink(missing_ok=True)
    for name in FILES:
        text = content[name]
        write_atomically(folder / name, text.encode() if isinstance(text, str) else text)
    return folder / "report.md"


def _markdown(dataset: Dataset, title: str, figures: dict[str, Any], config: dict[str, Any]) -> str:
    def rows(facts: dict[str, Any]) -> list[str]:
        return [
            f"| {key.replace('_', ' ')} | {str(value).replace('|', chr(92) + '|')} |" for key, value in facts.items()
        ]

    lines = [f"# {title}", "", "| figure | value |", "|---|---:|", *rows({k: _shown(v) for k, v in figures.items()})]
    lines += ["", "**Majority accuracy** is what the most frequent training class, always answered, would reach."]
    lines += ["", "![Validation accuracy over epochs](learning_curve.png)", "", "## The data", ""]
    lines += [
        f"- {note}" for note in (f"Licence: {dataset.licence}.", f"Citation: {dataset.citation}", *dataset.quirks)
    ]
    lines += ["", "## Settings", "", "| setting | value |", "|---|---|"]
    lines += rows({key: value for key, value in config.items() if key != "command"})
    lines += ["", "## Again", "", "```", config["command"], "```", ""]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
