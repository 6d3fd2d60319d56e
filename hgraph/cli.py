"""The `hgraph` command."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgraph import __version__
from hgraph.errors import ArgumentError, DataError, HgraphError

# torch and all that needs it are imported inside the commands: `hgraph --help` answers at once
if TYPE_CHECKING:
    import torch

    from hgraph.distill import Comparison
    from hgraph.structure import Data, Dataset, Graph, Hypergraph

app = typer.Typer(
    help="Learning on graphs and hypergraphs: pick a structure, pick a message.",
    epilog="Example: hgraph distill digits --teacher hgnn+ --seed 0 --out runs/demo",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
datasets_app = typer.Typer(help="The data sets hgraph knows. Example: hgraph datasets list", no_args_is_help=True)
app.add_typer(datasets_app, name="datasets")

_LOG = logging.getLogger("hgraph")


class Teacher(Enum):
    """Which network teaches."""

    HGNN = "hgnn"
    HGNNP = "hgnn+"
    GCN = "gcn"
    GAT = "gat"


class Setting(Enum):
    """What training may see: every vertex, or all but a share of the test vertices."""

    TRANSDUCTIVE = "transductive"
    PRODUCTION = "production"


# teacher -> (class in hgraph.models, what it says of itself, whether it takes a hypergraph)
_TEACHERS = {
    Teacher.HGNN: ("HGNN", "HGNN", True),
    Teacher.HGNNP: ("HGNNP", "HGNN+", True),
    Teacher.GCN: ("GCN", "GCN", False),
    Teacher.GAT: ("GAT", "GAT", False),
}
_TEACHER_HIDDEN, _STUDENT_HIDDEN, _UNSEEN = 32, 128, 0.2  # LightHGNN's sizes; GLNN's share of unseen test vertices

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")]
RootOption = Annotated[Path | None, typer.Option(help="Where data files are kept; default $HGRAPH_DATA.")]


def main() -> None:
    """Entry point of the ``hgraph`` command."""
    app(prog_name="hgraph")


def _plain_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Errors raised on purpose become one line on stderr and exit code 2; others are bugs and show where."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except HgraphError as error:
            typer.echo("hgraph: error: " + " ".join(str(error).split()), err=True)
            raise typer.Exit(2) from None

    return wrapped


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hgraph {__version__}")
        raise typer.Exit


@app.callback()
def _hgraph(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: hgraph distill digits --teacher hgnn+ --seed 0 --out runs/demo")
@_plain_errors
def distill(
    dataset: Annotated[str, typer.Argument(help="Name of a data set, see `hgraph datasets list`.")],
    teacher: Annotated[Teacher, typer.Option(help="The network that teaches.")] = Teacher.HGNN,
    seed: Annotated[int, typer.Option(help="Draws the split, the weights, the dropout.")] = 0,
    setting: Annotated[Setting, typer.Option(help="What training may see.")] = Setting.TRANSDUCTIVE,
    epochs: Annotated[int, typer.Option(min=1, help="Steps of each of the three trainings.")] = 200,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/<dataset>-<teacher>-<seed>.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:0.")] = "cpu",
    root: RootOption = None,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no notes on stderr.")] = False,
) -> None:
    """Distill a (hyper)graph network into an MLP, and compare both with the MLP alone.

    Trains a teacher on the structure, a student MLP on the teacher's soft labels, and the same MLP on labels alone;
    prints test accuracy, size and latency, and writes report.md with plots.
    """
    folder = out or Path("runs") / f"{dataset}-{teacher.value}-{seed}"
    _check_folder(folder)
    where = _device(device)
    loaded = _load(dataset, root=root, seed=seed)

    from hgraph.distill import write_report
    from hgraph.distill.report import holds_run, table

    names = {"mlp": "MLP", "teacher": f"{_TEACHERS[teacher][1]} (teacher)", "student": "student"}
    data = _prepare(loaded, teacher, setting, seed).to(where)
    with _notes(quiet):
        if holds_run(folder):
            _LOG.info("%s holds a run already: its files will be replaced, others stay", folder)
        comparison, student = _compare(data, teacher, setting, seed, epochs, progress=False if quiet else None)
    command = ["hgraph", "distill", dataset, "--teacher", teacher.value, "--seed", str(seed)]
    command += ["--setting", setting.value, "--epochs", str(epochs), "--device", device, "--out", str(folder)]
    try:
        report = write_report(
            folder,
            comparison,
            student,
            names=names,
            title=f"{loaded.name}: {_TEACHERS[teacher][1]} distilled into an MLP (seed {seed}, {setting.value})",
            config=_config(loaded, data, teacher, setting, seed, epochs, where) | {"command": shlex.join(command)},
            notes=_about(loaded),
        )
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error})") from error
    if as_json:
        figures = {key: model.figures() for key, model in comparison.items()}
        head = {"dataset": loaded.name, "setting": setting.value, "seed": seed}
        typer.echo(json.dumps(head | figures, allow_nan=False))
    else:
        typer.echo(f"{table(comparison, names)}\n\nreport: {report}")


@datasets_app.command("list", epilog="Example: hgraph datasets list --json")
@_plain_errors
def datasets_list(as_json: JsonOption = False) -> None:
    """List the names of the data sets."""
    from hgraph import datasets

    names = list(datasets.names())
    typer.echo(json.dumps(names) if as_json else "\n".join(names))


@datasets_app.command("info", epilog="Example: hgraph datasets info digits")
@_plain_errors
def datasets_info(
    name: Annotated[str, typer.Argument(help="Name of a data set.")], as_json: JsonOption = False
) -> None:
    """Show a data set's card: task, sizes, licence, citation, quirks."""
    from hgraph import datasets

    card = dataclasses.asdict(datasets.info(name))
    if as_json:
        typer.echo(json.dumps(card))
        return
    width = max(map(len, card))
    for key, value in card.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {number}" for name, number in value.items())
        elif isinstance(value, (list, tuple)):
            value = " ".join(map(str, value))
        typer.echo(f"{key.ljust(width)}  {value}")


# ---------------------------------------------------------------------- what `distill` is made of


def _compare(
    data: Data, teacher: Teacher, setting: Setting, seed: int, epochs: int, progress: bool | None
) -> tuple[Comparison, torch.nn.Module]:
    """Make the three networks under the seed, train and measure them."""
    from hgraph import models
    from hgraph.distill import compare
    from hgraph.train import seeded

    def made(name: str, hidden: int, **options: Any) -> torch.nn.Module:
        with seeded(seed):
            network = getattr(models, name)(data.num_features, hidden, data.num_classes, **options)
        return network.to(data.x.device)

    name = _TEACHERS[teacher][0]
    # a GAT's width is a head's: 8 heads of 4
    tutor = made(name, 4, heads=8, dropout=0.5) if teacher is Teacher.GAT else made(name, _TEACHER_HIDDEN)
    mlp, student = made("MLP", _STUDENT_HIDDEN), made("MLP", _STUDENT_HIDDEN)
    split = "default" if setting is Setting.TRANSDUCTIVE else setting.value
    result = compare(tutor, mlp, student, data, split=split, seed=seed, epochs=epochs, progress=progress)
    return result, student


def _prepare(dataset: Dataset, teacher: Teacher, setting: Setting, seed: int) -> Data:
    """The data with the split of the setting and structures of the kind the teacher takes."""
    from hgraph.structure import Split

    data = dataset[0]
    if "default" not in data.splits:
        raise ArgumentError("dataset", "one with a split to train and test on", repr(dataset.name))
    splits = {"default": data.split()}
    if setting is Setting.PRODUCTION:
        splits["production"] = Split.production(data, data.split(), unseen=_UNSEEN, seed=seed)
    adapt = _as_hypergraph if _TEACHERS[teacher][2] else _as_graph
    whole = adapt(data.structure)
    for name, split in splits.items():
        structure = whole if split.structure is data.structure else adapt(split.structure)
        splits[name] = dataclasses.replace(split, structure=structure)
    return dataclasses.replace(data, structure=whole, splits=splits)


def _as_hypergraph(structure: Graph | Hypergraph) -> Hypergraph:
    """A hypergraph without isolated vertices: of a graph, each edge (both directions one) becomes a hyperedge."""
    import torch

    from hgraph.structure import Graph, Hypergraph

    if isinstance(structure, Graph):
        edges, weight = structure.edge_index, structure.adj.weight
        pairs, first = torch.unique(edges.sort(0).values, dim=1, return_inverse=True)
        if weight is not None:
            weight = weight.new_zeros(pairs.shape[1]).scatter_reduce(0, first, weight, "amax", include_self=False)
        ids, proper = torch.arange(pairs.shape[1]), pairs[0] != pairs[1]
        structure = Hypergraph.from_coo(
            vertex=torch.cat([pairs[0], pairs[1][proper]]),
            hyperedge=torch.cat([ids, ids[proper]]),
            num_vertices=structure.num_nodes,
            num_hyperedges=len(ids),
            hyperedge_weight=weight,
        )
    return structure.with_singletons()


def _as_graph(structure: Graph | Hypergraph) -> Graph:
    """A graph as it is; a hypergraph's clique expansion."""
    from hgraph.structure import Hypergraph

    return structure.clique() if isinstance(structure, Hypergraph) else structure


def _config(
    dataset: Dataset, data: Data, teacher: Teacher, setting: Setting, seed: int, epochs: int, device: torch.device
) -> dict[str, Any]:
    import platform

    import torch

    parts = data.split("default" if setting is Setting.TRANSDUCTIVE else setting.value)
    return {
        "dataset": dataset.name,
        "structure": repr(data.structure),
        "features": data.num_features,
        "classes": data.num_classes,
        "train / validation / test": f"{len(parts.train)} / {len(parts.val)} / {len(parts.test)}",
        "setting": setting.value + (f", {len(parts.unseen)} test vertices unseen" if len(parts.unseen) else ""),
        "teacher": f"{_TEACHERS[teacher][1]}, width {_TEACHER_HIDDEN}, dropout 0.5",
        "student": f"MLP, width {_STUDENT_HIDDEN}, dropout 0.5",
        "soft labels": "lam 0 (no training labels), temperature 1",
        "training": f"Adam, lr 0.01, weight decay 0.0005, {epochs} epochs, best validation accuracy (first) kept",
        "seed": seed,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "versions": f"hgraph {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _about(dataset: Dataset) -> list[str]:
    notes = [f"Licence: {dataset.licence}.", f"Citation: {dataset.citation}", *dataset.quirks]
    if not dataset.redistribute:
        notes.append(
            "The terms of this data set do not allow passing it on, nor what is made from it: keep this folder "
            "(plots, student weights) to yourself."
        )
    return notes


# ---------------------------------------------------------------------- arguments, versions, notes


def _load(name: str, root: Path | None, seed: int) -> Dataset:
    from hgraph import datasets

    card = datasets.info(name)
    if card.task != "vertex classification":
        raise ArgumentError("dataset", "one for vertex classification", f"{name!r}, which is for {card.task}")
    return datasets.load(name, root=root, **({"seed": seed} if "seed" in card.options else {}))


def _device(name: str) -> torch.device:
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise ArgumentError("device", "cpu, cuda or cuda:0", repr(name)) from None
    if device.type not in ("cpu", "cuda"):
        raise ArgumentError("device", "cpu, cuda or cuda:0", repr(name))
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ArgumentError("device", f"one of the {torch.cuda.device_count()} CUDA devices here", repr(name))
    return device


def _check_folder(folder: Path) -> None:
    """Refuse, before any work, a run folder that could not be written."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise ArgumentError("out", "a folder", f"{place}, which is a file")
    if not os.access(place, os.W_OK):
        raise ArgumentError("out", "a folder that can be written", str(place))


@contextmanager
def _notes(quiet: bool) -> Iterator[None]:
    """What the library logs, as plain lines on stderr."""
    if quiet:
        yield
        return
    handler, level = logging.StreamHandler(sys.stderr), _LOG.level
    handler.setFormatter(logging.Formatter("%(message)s"))
    _LOG.addHandler(handler)
    _LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        _LOG.removeHandler(handler)
        _LOG.setLevel(level)


if __name__ == "__main__":
    main()
