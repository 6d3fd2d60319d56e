"""`hgraph train`: trains and tests a network, and writes its run folder."""

from __future__ import annotations

import json
import shlex
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgraph.cli.choices import CLASSIFIERS, RECOMMENDERS, STARTERS, Network, Pretrained, listed
from hgraph.cli.common import (
    JsonOption,
    OverwriteOption,
    QuietOption,
    RootOption,
    device_of,
    environment_info,
    format_value,
    load,
    plain_errors,
    print_results,
    run_folder,
)
from hgraph.cli.numbers import SEEDS, real, setting, whole
from hgraph.cli.recommenders import train_recommender
from hgraph.cli.runs import check_folder, running
from hgraph.cli.teachers import Setting, added, prepare, split_of
from hgraph.errors import ArgumentError, DataError
from hgraph.models.registry import ModelEntry, find

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hgraph.data import Data, Dataset
    from hgraph.train import FitResult


class Schedule(Enum):
    """Learning-rate schedules."""

    CONSTANT = "constant"
    COSINE = "cosine"


class PairSplit(Enum):
    """How interactions are split: at random, by time (latest held out), or by the last ones of each user."""

    RANDOM = "random"
    TIME = "time"
    LAST = "last"


class Precision(Enum):
    """Number format of the computation; weights are always float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


# "width of models; ..." for the help text
_WIDTHS = "; ".join(
    f"{width} of {listed(tuple(n for n in (*CLASSIFIERS, *RECOMMENDERS) if find(n).width == width))}"
    for width in dict.fromkeys(find(n).width for n in (*CLASSIFIERS, *RECOMMENDERS))
)
# report.md is written last and removed first, so a folder that contains it is complete
FILES = (
    "config.json",
    "learning_curve.png",
    "structure.png",
    "confusion_matrix.png",
    "reliability.png",
    "model.safetensors",
    "report.md",
)
METRICS = "metrics.jsonl"  # one line per epoch, written during training


@plain_errors
def train(
    dataset: Annotated[str, typer.Argument(help="A name from `hgraph datasets list`, or a folder you built.")],
    network_name: Annotated[
        Network, typer.Option("--model", help=f"{listed(CLASSIFIERS)} classify nodes; the others recommend items.")
    ] = Network("hgnn+"),
    seed: Annotated[int, whole(low=0, high=SEEDS, help="Seed of the weights, dropout and random splits.")] = 0,
    setting: Annotated[
        Setting, typer.Option(help="transductive: training uses all nodes; production: some test nodes are left out.")
    ] = Setting.TRANSDUCTIVE,
    epochs: Annotated[int, whole(help="Largest number of epochs.")] = 200,
    hidden: Annotated[int | None, setting("hidden", help=f"Hidden width; default {_WIDTHS}.")] = None,
    dropout: Annotated[float, setting("dropout", help="Dropout probability.")] = 0.5,
    lr: Annotated[float, setting("lr", help="Adam's learning rate.")] = 0.01,
    weight_decay: Annotated[float, setting("weight_decay", help="Adam's L2 penalty.")] = 5e-4,
    patience: Annotated[
        int | None, whole(help="Stop after this many epochs without a better validation score.")
    ] = None,
    l2: Annotated[
        float | None,
        setting(
            "l2", help="L2 penalty on a recommender's embeddings; default 0.00001 as in KGAT; 0.01 is often better."
        ),
    ] = None,
    pretrain: Annotated[
        Pretrained | None, typer.Option(help=f"Model whose trained embeddings {listed(STARTERS)} starts from.")
    ] = None,
    validate_users: Annotated[
        int | None, whole(help="Number of users, sampled at random, that validate a recommender; default all.")
    ] = None,
    min_rating: Annotated[
        float | None, real(low=-1e12, high=1e12, help="Leave out pairs of interactions.csv with lower ratings.")
    ] = None,
    split: Annotated[
        PairSplit | None, typer.Option(help="How pairs of interactions.csv are split; default random.")
    ] = None,
    clip: Annotated[
        float | None, real(low=1e-12, high=1e12, help="Clip the norm of all gradients to this value.")
    ] = None,
    schedule: Annotated[Schedule, typer.Option(help="Learning-rate schedule.")] = Schedule.CONSTANT,
    precision: Annotated[Precision, typer.Option(help="Number format of the computation.")] = Precision.FLOAT32,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/<dataset>-<model>-<seed>.")] = None,
    overwrite: OverwriteOption = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:0.")] = "cpu",
    root: RootOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a network on a data set and test it.

    Trains on the default split, restores the state with the best validation accuracy, prints metrics on the test
    nodes, and writes a run folder with the weights, the metrics of every epoch, plots and report.md. The same command
    resumes a stopped run. A recommender needs interactions: a data set for recommendation, or a folder with
    interactions.csv (user,item) and, optionally, triples.csv (head,relation,tail).
    """
    if network_name.value in RECOMMENDERS:
        _reject_other_options(network_name, setting, dropout, clip, weight_decay, schedule, precision)
        train_recommender(
            dataset, network_name.value, seed=seed, epochs=epochs, hidden=hidden, lr=lr, patience=patience, l2=l2,
            pretrain=None if pretrain is None else pretrain.value, validate_users=validate_users, out=out,
            min_rating=min_rating, split=None if split is None else split.value,
            overwrite=overwrite, device=device, root=root, as_json=as_json, quiet=quiet,
        )  # fmt: skip
        return
    for name, given in (("l2", l2), ("pretrain", pretrain), ("validate_users", validate_users),
                        ("min_rating", min_rating), ("split", split)):  # fmt: skip
        if given is not None:
            raise ArgumentError(name, f"no value, because {network_name.value} has no such setting", "a value")
    model = find(network_name.value)
    folder = run_folder(out, dataset, model.name, seed)
    check_folder(folder, overwrite=overwrite)
    where = device_of(device)
    loaded = load(dataset, root=root, seed=seed)
    data = prepare(loaded, model, setting, seed).to(where)
    part = split_of(setting)
    _check_parts(data, part)
    options: dict[str, Any] = {"epochs": epochs, "lr": lr, "weight_decay": weight_decay, "patience": patience}
    options |= {"clip": clip, "schedule": schedule.value, "precision": precision.value}
    try:
        shape: dict[str, Any] = {"hidden": hidden, "dropout": dropout}
        settings = {"dataset": dataset, "model": model.name, "setting": setting.value, "seed": seed, **shape, **options}
        with running(folder, settings | {"data": repr(data)}, overwrite=overwrite) as place:
            network = network_of(model, data, seed, **shape)
            fit = _fit(network, data, model, part, seed, place, progress=False if quiet else None, **options)
            figures, logits = figures_of(network, data, model, part)
            figures |= {"best_epoch": fit.best_epoch, "seconds": round(fit.seconds, 3)}
            chosen = shape | options | {"seed": seed, "device": str(where)}
            config = _config(loaded, data, model, setting, part, chosen)
            command = _command(dataset, model, seed, setting, shape | options, device, folder)
            config |= {"command": command, "source": dataset}
            report = _write(folder, loaded, network, fit, figures, config, model, data, part, logits)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error})") from error
    print_results(
        figures, {"dataset": loaded.name, "model": model.name, "setting": setting.value, "seed": seed}, as_json
    )
    if not as_json:
        typer.echo(f"report: {report}")


def _reject_other_options(
    network: Network,
    setting: Setting,
    dropout: float,
    clip: float | None,
    weight_decay: float,
    schedule: Schedule,
    precision: Precision,
) -> None:
    """Reject options that do not apply to recommenders."""
    is_default = {"setting": setting is Setting.TRANSDUCTIVE, "dropout": dropout == 0.5, "clip": clip is None}
    is_default |= {"weight_decay": weight_decay == 5e-4, "schedule": schedule is Schedule.CONSTANT}
    is_default |= {"precision": precision is Precision.FLOAT32}
    for name in (name for name, default in is_default.items() if not default):
        raise ArgumentError(name, f"no value, because {network.value} has no such setting here", "a value")


def _check_parts(data: Data, split: str) -> None:
    from hgraph.data.labels import labeled

    for part in ("train", "test"):
        if not bool(labeled(data.y[getattr(data.split(split), part)]).any()):
            hint = "Unlabeled rows are in no part of a split; see --shares and --split of `hgraph datasets build`"
            raise ArgumentError("dataset", f"at least one {part} node with a label", "none", hint)


def _command(
    dataset: str, model: ModelEntry, seed: int, setting: Setting, settings: dict[str, Any], device: str, folder: Path
) -> str:
    words = ["hgraph", "train", dataset, "--model", model.name, "--seed", str(seed), "--setting", setting.value]
    for name, value in settings.items():
        words += [] if value is None else [f"--{name.replace('_', '-')}", f"{value}"]
    return shlex.join([*words, "--device", device, "--out", str(folder)])


def network_of(model: ModelEntry, data: Data, seed: int, *, hidden: int | None = None, **options: Any) -> nn.Module:
    """The network for the data, initialized under the seed; with ``hidden`` None, of its default width."""
    from hgraph.train import build_model

    return build_model(model, data, seed=seed, hidden_size=hidden, **{"dropout": 0.5} | options).to(data.x.device)


def _fit(
    network: nn.Module, data: Data, model: ModelEntry, split: str, seed: int, place: Path, **options: Any
) -> FitResult:
    from hgraph.train import classification_loss, cosine, fit, training_view

    part = training_view(data, split)
    structure = () if model.data == "features" else (part.structure,)
    loss, validate = classification_loss(part)
    options["schedule"] = cosine if options["schedule"] == "cosine" else None
    files: dict[str, Any] = {"checkpoint": place / "model.safetensors", "log": place.parent / METRICS}
    label = model.name
    return fit(network, (part.x, *structure), loss, validate=validate, seed=seed, label=label, **files, **options)


def figures_of(network: nn.Module, data: Data, model: ModelEntry, split: str) -> tuple[dict[str, Any], torch.Tensor]:
    """Metrics of a trained network on a split, and its logits [N, C]."""
    import torch

    from hgraph.data.labels import labeled
    from hgraph.train import accuracy, expected_calibration_error, f1

    parts = data.split(split)
    with torch.inference_mode():
        logits = network(data.x, *(() if model.data == "features" else (data.structure,)))
    test, unseen, val = (ids[labeled(data.y[ids])] for ids in (parts.test, parts.unseen, parts.val))
    figures: dict[str, Any] = {"test_accuracy": accuracy(logits[test], data.y[test])}
    figures["test_f1"] = f1(logits[test], data.y[test])
    if len(unseen):
        figures["unseen_accuracy"] = accuracy(logits[unseen], data.y[unseen])
    figures["validation_accuracy"] = accuracy(logits[val], data.y[val]) if len(val) else None
    figures["majority_accuracy"] = _majority(data.y[parts.train], data.y[test])
    figures["ece"] = expected_calibration_error(logits[test], data.y[test])
    figures["parameters"] = sum(p.numel() for p in network.parameters())
    return figures, logits


def _majority(train: torch.Tensor, test: torch.Tensor) -> float | None:
    """The accuracy of always predicting the most frequent training class, a baseline for any model.

    None if the data has no training part.
    """
    if not bool((train >= 0).any()):
        return None
    return float((test == train[train >= 0].bincount().argmax()).double().mean())


# ---------------------------------------------------------------------- the run folder


def _config(
    dataset: Dataset, data: Data, model: ModelEntry, setting: Setting, split: str, options: dict[str, Any]
) -> dict[str, Any]:
    parts = data.split(split)
    return {
        "dataset": dataset.name,
        "structure": repr(data.structure),
        "features": data.num_features,
        "classes": data.num_classes,
        "train / validation / test": f"{len(parts.train)} / {len(parts.val)} / {len(parts.test)}",
        "setting": setting.value,
        "model": model.name,
        "optimiser": "Adam; state of best validation accuracy" if len(parts.val) else "Adam; state of the last epoch",
        **options,
        **environment_info(),
    }


def _write(
    folder: Path,
    dataset: Dataset,
    network: nn.Module,
    fit: FitResult,
    figures: dict[str, Any],
    config: dict[str, Any],
    model: ModelEntry,
    data: Data,
    split: str,
    logits: torch.Tensor,
) -> Path:
    """Write all files of the run, each atomically; the report is last because it marks the run as finished."""
    from hgraph.datasets import Inputs
    from hgraph.files import write_atomically
    from hgraph.train.checkpoint import weights_file
    from hgraph.train.plots import confusion_matrix, learning_curve, reliability_diagram, structure_picture

    title = f"{dataset.name}: {model.name} (seed {config['seed']}, {config['setting']})"
    test = data.split(split).test
    predicted, true = logits[test].cpu(), data.y[test].cpu()
    classes = [str(name) for name in data.meta.get("class_names") or range(data.num_classes)]
    content: dict[str, str | bytes] = {
        "config.json": json.dumps(config, ensure_ascii=False, allow_nan=False, indent=2) + "\n",
        "learning_curve.png": learning_curve({"teacher": fit}, {"teacher": model.name}, title),
        "structure.png": structure_picture(data),
        "confusion_matrix.png": confusion_matrix(predicted, true, classes, f"{title}: test nodes"),
        "reliability.png": reliability_diagram(predicted, true, f"{title}: test nodes"),
        "model.safetensors": weights_file(network),
        "report.md": _markdown(dataset, title, figures, config, added(dataset, model)),
    }
    Inputs.of(data).save(folder)
    for name in FILES:
        text = content[name]
        write_atomically(folder / name, text.encode() if isinstance(text, str) else text)
    return folder / "report.md"


def _markdown(dataset: Dataset, title: str, figures: dict[str, Any], config: dict[str, Any], notes: list[str]) -> str:
    def rows(values: dict[str, Any]) -> list[str]:
        return [
            f"| {key.replace('_', ' ')} | {str(value).replace('|', chr(92) + '|')} |" for key, value in values.items()
        ]

    lines = [
        f"# {title}",
        "",
        "| figure | value |",
        "|---|---:|",
        *rows({k: format_value(v) for k, v in figures.items()}),
    ]
    lines += ["", "**Majority accuracy** is the accuracy of always predicting the most frequent training class."]
    lines += ["", "![Validation accuracy over epochs](learning_curve.png)"]
    lines += ["", "![Confusion matrix: true and predicted classes](confusion_matrix.png)"]
    lines += ["", "![Reliability diagram: accuracy over confidence](reliability.png)"]
    lines += ["", "## The data", "", "![The structure](structure.png)", ""]
    notes_of_data = (f"License: {dataset.license}.", f"Citation: {dataset.citation}", *dataset.caveats, *notes)
    lines += [f"- {note}" for note in notes_of_data]
    lines += ["", "## Settings", "", "| setting | value |", "|---|---|"]
    lines += rows({key: value for key, value in config.items() if key != "command"})
    lines += ["", "## Reproduce", "", "```", config["command"], "```", ""]
    return "\n".join(lines)
