"""`hgraph train` for data sets of many graphs: batches, run folders, and loading them again."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from hgraph.cli.choices import CLASSIFIERS, listed
from hgraph.cli.common import device_of, environment_info, print_results, run_folder
from hgraph.cli.node_runs import class_names
from hgraph.cli.numbers import MANY, SEEDS, SETTINGS
from hgraph.cli.run_files import check_finished, check_unchanged, load_weights_of, write_files
from hgraph.cli.runs import check_folder, check_source, running
from hgraph.cli.teachers import as_graph, as_hypergraph
from hgraph.cli.threads import training_threads
from hgraph.errors import ArgumentError, DataError
from hgraph.models.registry import ModelEntry, find
from hgraph.report import Report
from hgraph.schema import Span, fields_of, parse

if TYPE_CHECKING:
    from torch import Tensor

    from hgraph.data import Data, Dataset
    from hgraph.models import GraphClassifier
    from hgraph.train import NodeTask

__all__ = ["KIND", "Reduce", "evaluate_graphs", "is_of_graphs", "train_graphs"]

KIND, TASKS = "graphs", ("graph classification", "graph regression")


class Reduce(Enum):
    """Readouts by name."""

    SUM = "sum"
    MEAN = "mean"
    MAX = "max"


def is_of_graphs(dataset: str) -> bool:
    """Whether this is a listed data set with one label per graph."""
    from hgraph import datasets

    return dataset in datasets.names() and datasets.info(dataset).task in TASKS


def train_graphs(
    dataset: str,
    model: ModelEntry,
    *,
    readout: str,
    batch: int,
    seed: int,
    epochs: int,
    hidden: int | None,
    dropout: float,
    lr: float,
    weight_decay: float,
    patience: int | None,
    schedule: str,
    select: str | None,
    out: Path | None,
    overwrite: bool,
    device: str,
    threads: int | str | None,
    root: Path | None,
    quiet: bool,
) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """Train on batches of graphs, test, and write the run folder; resumes a stopped run.

    Returns:
        The first printed lines, the metrics, and the report.
    """
    from hgraph.train import cosine, fit_graphs
    from hgraph.train.graphs import graphs_digest
    from hgraph.train.plots import learning_curve

    _check_model(model)
    folder = run_folder(out, dataset, model.name, seed)
    check_folder(folder, overwrite=overwrite)
    where = device_of(device)
    loaded = _load(dataset, model, root, seed)
    seen, task = graphs_digest(loaded, loaded.split()), _task(loaded, select)
    options: dict[str, Any] = {"epochs": epochs, "batch": batch, "lr": lr, "weight_decay": weight_decay}
    options |= {"patience": patience, "schedule": schedule}
    shape: dict[str, Any] = {"hidden": hidden, "dropout": dropout, "readout": readout}
    settings = {"dataset": dataset, "model": model.name, "seed": seed, "select": task.select, **shape, **options}
    try:
        with running(folder, settings | {"data_sha256": seen}, overwrite=overwrite) as place:
            network = network_of(model, loaded[0], seed, **shape).to(where)
            with training_threads(threads, place, _step(network, loaded, task, batch)):
                files: dict[str, Any] = {"checkpoint": place / "model.safetensors", "log": folder / "metrics.jsonl"}
                files |= {"progress": False if quiet else None, "label": model.name, "seed": seed}
                options["schedule"] = cosine if schedule == "cosine" else None
                fit = fit_graphs(network, loaded, loaded.split(), task=task, **files, **options)
                figures, outputs = figures_of(network, loaded, task)
                figures |= {"best_epoch": fit.best_epoch, "seconds": round(fit.seconds, 3)}
                command = _command(settings, device, folder)
                config = settings | {"source": dataset, "command": command, "device": str(where), "kind": KIND}
                config |= {"data_sha256": seen} | environment_info()
                title = f"{loaded.name}: {model.title} with the {readout} of its nodes (seed {seed})"
                curve = learning_curve({"teacher": fit}, {"teacher": model.name}, title, task=task)
                pictures = _draw(folder, loaded, task, outputs, title)
                report = _report(loaded, task, title, figures, config, pictures)
                written = write_files(folder, config, curve, network, report)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error})") from error
    return {"dataset": loaded.name, "model": model.name, "seed": seed}, figures, written


def network_of(
    model: ModelEntry, example: Data, seed: int, *, hidden: int | None, dropout: float, readout: Any
) -> GraphClassifier:
    """A network of nodes with a readout, initialized under the seed."""
    from hgraph.models import GraphClassifier
    from hgraph.train import build_model

    return GraphClassifier(build_model(model, example, seed=seed, hidden_size=hidden, dropout=dropout), readout)


def _check_model(model: ModelEntry) -> None:
    if model.data not in ("graph", "hypergraph") or model.of_one_graph:
        expected = "a network over graphs or hypergraphs without parameters per node, such as gin, gcn or hgnn"
        raise ArgumentError("model", expected, model.name)


def figures_of(network: GraphClassifier, loaded: Dataset[Data], task: NodeTask) -> tuple[dict[str, Any], Tensor]:
    """Metrics on the test graphs, and their outputs."""
    from hgraph.train import graph_labels, graph_outputs

    parts, y = loaded.split(), graph_labels(loaded)
    outputs = graph_outputs(network, loaded, parts.test).cpu()
    figures: dict[str, Any] = {f"test_{name}": v for name, v in task.metrics(outputs, y[parts.test]).items()}
    figures |= task.baseline(y[parts.train], y[parts.test]) | task.calibration(outputs, y[parts.test])
    return figures | {"parameters": sum(p.numel() for p in network.parameters())}, outputs


def evaluate_graphs(run: Path, device: str, root: Path | None, as_json: bool) -> None:
    """Print the metrics of a run, computed from its files.

    Raises:
        DataError: the run is not finished, or its data has changed since training.
    """
    from hgraph.train.graphs import graphs_digest

    check_finished(run)
    file = run / "config.json"
    settings = fields_of(_Config, parse(file.read_bytes(), file), file)
    if settings.model not in CLASSIFIERS:
        raise DataError(f"{file}: model: expected {listed(CLASSIFIERS)}, got {settings.model[:60]!r}")
    check_source(run, settings.source)
    loaded = _load(settings.source, find(settings.model), root, settings.seed)
    check_unchanged(run, settings.source, settings.data_sha256, graphs_digest(loaded, loaded.split()))
    shape: dict[str, Any] = {"hidden": settings.hidden, "dropout": settings.dropout, "readout": settings.readout}
    network = network_of(find(settings.model), loaded[0], settings.seed, **shape)
    load_weights_of(run, network)
    figures, _ = figures_of(network.to(device_of(device)), loaded, _task(loaded, settings.select))
    print_results(figures, {"dataset": loaded.name, "model": settings.model, "seed": settings.seed}, as_json)


@dataclass(frozen=True)
class _Config:
    """The keys of the config.json of such a run that are read back."""

    source: str
    model: str
    seed: Annotated[int, Span(0, SEEDS)]
    data_sha256: str
    select: str
    readout: str
    batch: Annotated[int, Span(1, MANY)]
    dropout: Annotated[float, Span(SETTINGS["dropout"].low, SETTINGS["dropout"].high)]
    hidden: Annotated[int, Span(1, SETTINGS["hidden"].high)] | None = None


def _load(dataset: str, model: ModelEntry, root: Path | None, seed: int) -> Dataset[Data]:
    """The data set, with structures of the kind that the model needs."""
    from hgraph import datasets
    from hgraph.data import Dataset

    if not is_of_graphs(dataset):
        hint = "Run hgraph datasets list --task 'graph classification' to see them"
        raise ArgumentError("dataset", "a data set with one label per graph", repr(dataset), hint)
    loaded = datasets.load(dataset, root=root, seed=seed)
    adapt = as_graph if model.data == "graph" else as_hypergraph
    return Dataset(
        loaded.name, [replace(data, structure=adapt(data.structure)) for data in loaded], task=loaded.task,
        target_spec=loaded.target_spec, license=loaded.license, redistribute=loaded.redistribute,
        citation=loaded.citation, caveats=loaded.caveats, splits=loaded.splits,
    )  # fmt: skip


def _task(loaded: Dataset[Data], select: str | None) -> NodeTask:
    from hgraph.train import graph_labels, task_of

    return task_of(graph_labels(loaded), loaded.split().train, select=select)


def _step(network: GraphClassifier, loaded: Dataset[Data], task: NodeTask, batch: int) -> Callable[[], object]:
    """One batch of a copy of the network, for `training_threads`."""
    import torch

    from hgraph.data import collate

    trial, where = copy.deepcopy(network).train(), next(network.parameters()).device
    part = collate([loaded[i] for i in loaded.split().train[:batch].tolist()]).to(where)
    loss = task.loss(part.y, torch.arange(len(part.y), device=where))
    return lambda: loss(trial(part.x, part.structure, part.items)).backward()


def _draw(folder: Path, loaded: Dataset[Data], task: NodeTask, outputs: Tensor, title: str) -> list[str]:
    """Write the plots of the predictions; their names."""
    from hgraph.files import write_atomically
    from hgraph.train import graph_labels
    from hgraph.train.plots import task_plots

    y = graph_labels(loaded)[loaded.split().test]
    pictures = task_plots(task, outputs, y, class_names(loaded[0]), f"{title}: test graphs")
    for name, content in pictures.items():
        write_atomically(folder / name, content)
    return list(pictures)


def _report(
    loaded: Dataset[Data],
    task: NodeTask,
    title: str,
    figures: dict[str, Any],
    config: dict[str, Any],
    pictures: list[str],
) -> Report:
    from hgraph.train.plots import CAPTIONS

    parts = loaded.split()
    report = Report(title).text(
        f"{len(parts.train):,} graphs for training, {len(parts.val):,} for validation, {len(parts.test):,} for testing."
    )
    report.figures(figures).picture(f"Validation {task.select} over epochs", "learning_curve.png")
    for name in pictures:
        report.picture(CAPTIONS[name], name)
    report.section("The data")
    report.bullets([f"License: {loaded.license}.", f"Citation: {loaded.citation}", *loaded.caveats])
    return report.settings(config).command(config["command"])


def _command(settings: dict[str, Any], device: str, folder: Path) -> str:
    words = ["hgraph", "train", settings["dataset"]]
    names = ("model", "readout", "batch", "seed", "epochs", "hidden", "dropout", "lr", "weight_decay", "patience")
    for name in (*names, "schedule", "select"):
        words += [] if settings[name] is None else [f"--{name.replace('_', '-')}", str(settings[name])]
    return shlex.join([*words, "--device", device, "--out", str(folder)])
