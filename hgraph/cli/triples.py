"""`hgraph train` for embeddings of knowledge graphs: reads triples, writes run folders and loads them again."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from hgraph.cli.choices import TRIPLES, listed
from hgraph.cli.common import LOG, device_of, environment_info, print_results, run_folder
from hgraph.cli.numbers import SEEDS, SETTINGS
from hgraph.cli.run_files import check_finished, check_unchanged, load_weights_of, write_files
from hgraph.cli.runs import check_folder, check_source, running
from hgraph.cli.threads import training_threads
from hgraph.errors import ArgumentError, DataError
from hgraph.files import valid_path
from hgraph.report import Report, escaped
from hgraph.schema import Span, fields_of, parse

if TYPE_CHECKING:
    from hgraph.data import TripleSplit
    from hgraph.models.triples.kge import TripleModel

__all__ = ["KIND", "evaluate_triples", "load_run", "load_triples", "train_triples"]

PARTS = ("train", "valid", "test")  # the names of the files of a split, as ConvE has them
ENDINGS = (".txt", ".tsv", ".csv")
KIND = "triples"


def load_triples(source: str, root: Path | None, seed: int) -> tuple[str, TripleSplit, list[str]]:
    """The name of a set, its triples in three parts, and notes about it.

    Args:
        source: the name of a listed data set; a file of triples (also .nt), which is split at random; or a folder with
            the files train, valid and test, ending in .txt, .tsv or .csv.
        root: folder for data files.
        seed: seed of a random split.

    Raises:
        ArgumentError: the data set has no triples, or there is no such file, or two files for one part.
        DataError: a file cannot be read (the message gives the line), or all triples of a part are training triples.
    """
    from hgraph import datasets
    from hgraph.convert import read_ntriples, read_triples
    from hgraph.data import TripleSplit
    from hgraph.data.leaks import repeated_triples

    place = valid_path(source, "dataset")
    if place.is_file():
        kg = read_ntriples(place) if place.suffix.lower() == ".nt" else read_triples(place, duplicates="drop")
        split = TripleSplit.random(kg, val_fraction=0.1, test_fraction=0.1, seed=seed, cover=True)
        return place.stem, split, ["A tenth of the triples is for validation and a tenth for testing, at random."]
    if place.is_dir():
        split = _split_of([_file_of(place, part) for part in PARTS])
        return place.resolve().name, split, repeated_triples(split)
    card = datasets.info(source)
    if card.task != "triple prediction":
        hint = "Pass a file of triples with the columns head,relation,tail instead"
        raise ArgumentError("dataset", "a data set of triples", f"{source!r}, which is for {card.task}", hint)
    loaded = datasets.load(source, root=root)
    notes = [f"License: {loaded.license}.", f"Citation: {loaded.citation}", *loaded.caveats]
    return loaded.name, loaded[0], notes


def _file_of(folder: Path, part: str) -> Path:
    """The file of one part; backups such as train.bak and train.txt~ do not count."""
    found = [folder / f"{part}{ending}" for ending in ENDINGS if (folder / f"{part}{ending}").is_file()]
    if len(found) == 1:
        return found[0]
    got = f"{str(folder)!r}, which lacks {part}.txt"
    if found:
        got = f"{' and '.join(file.name for file in found)} in {str(folder)!r}"
    expected = f"a folder with one file per part: train, valid and test, ending in {listed(ENDINGS)}"
    raise ArgumentError("dataset", expected, got, "Remove or rename all but one" if found else "")


def _split_of(files: list[Path]) -> TripleSplit:
    """The parts in three files; a part whose triples are all in training is refused."""
    from hgraph.convert import read_triples
    from hgraph.data import TripleSplit
    from hgraph.data.leaks import num_repeated

    split = TripleSplit(*read_triples(list(files), duplicates="drop"))
    for part, file in ((split.val, files[1]), (split.test, files[2])):
        if part.num_edges and num_repeated(part, split.train) == part.num_edges:
            hint = f"If {files[0].name} has all triples, pass only {str(files[0])!r}: a single file is split at random"
            raise DataError(f"{file}: expected triples that are not in {files[0].name}, got only those in it. {hint}")
    return split


def train_triples(
    dataset: str,
    model: str,
    *,
    seed: int,
    epochs: int,
    hidden: int | None,
    lr: float,
    patience: int | None,
    l2: float | None,
    out: Path | None,
    overwrite: bool,
    device: str,
    threads: int | str | None,
    root: Path | None,
    quiet: bool,
) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """Train, rank the test triples, and write the run folder; resumes a stopped run.

    Returns:
        The first printed lines, the metrics, and the report.
    """
    from hgraph import train
    from hgraph.data.io import fingerprint
    from hgraph.train.plots import learning_curve

    folder = run_folder(out, dataset, model, seed)
    check_folder(folder, overwrite=overwrite)
    where = device_of(device)
    name, split, notes = load_triples(dataset, root, seed)
    options: dict[str, Any] = {"epochs": epochs, "lr": lr, "patience": 5 if patience is None else patience}
    options |= {"l2": 0.0 if l2 is None else l2}
    settings = {"dataset": dataset, "model": model, "seed": seed, "hidden": hidden, **options}
    seen = fingerprint(split)
    try:
        with running(folder, settings | {"data": repr(split), "data_sha256": seen}, overwrite=overwrite) as place:
            network = network_of(model, split, seed, hidden).to(where)
            with training_threads(threads, place, _step(network, split)):
                files: dict[str, Any] = {"checkpoint": place / "model.safetensors", "log": folder / "metrics.jsonl"}
                files |= {"progress": False if quiet else None, "label": model, "seed": seed}
                fit = train.fit_triples(network, split, **files, **options)
                figures = figures_of(network, split)
                figures |= {"best_epoch": fit.best_epoch, "seconds": round(fit.seconds, 3)}
                place_of = valid_path(dataset, "dataset")
                source = str(place_of.resolve()) if place_of.exists() else dataset
                command = _command(settings, device, folder)
                config = settings | {"source": source, "command": command, "device": str(where), "kind": KIND}
                config |= {"data_sha256": seen} | environment_info()
                title = f"{name}: {model} (seed {seed})"
                curve = learning_curve({"teacher": fit}, {"teacher": model}, title, "MRR")
                report = Report(title).text(escaped(f"{split}")).figures(figures)
                report.text(
                    "For each test triple, all nodes are ranked as its tail and as its head, except those that form "
                    "another known triple. Ties get the mean of their ranks."
                )
                curve_of = "Validation MRR" if len(split.val.triples) else "Training loss"
                report.picture(f"{curve_of} over epochs", "learning_curve.png").bullets(notes)
                written = write_files(folder, config, curve, network, report.settings(config).command(command))
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error})") from error
    return {"dataset": name, "model": model, "seed": seed}, figures, written


def network_of(model: str, split: TripleSplit, seed: int, width: int | None) -> TripleModel:
    """The model of that name for the triples, initialized under the seed."""
    from hgraph.train import build_model

    return build_model(model, split, seed=seed, hidden_size=width)  # type: ignore[return-value]


def _step(network: TripleModel, split: TripleSplit) -> Callable[[], object]:
    """One batch of a copy of the network, for `training_threads`."""
    trial = copy.deepcopy(network).train()
    head, relation, tail = split.train.triples[:512].to(trial.entity.device).unbind(1)
    return lambda: trial.loss(head, relation, tail, 0.0).backward()


def figures_of(network: TripleModel, split: TripleSplit) -> dict[str, Any]:
    """Filtered metrics on the test triples, and the number of parameters."""
    from hgraph.train import triple_ranking

    figures: dict[str, Any] = {}
    if len(split.test.triples):
        figures |= triple_ranking(network, split.test.triples, split.known())
    else:
        LOG.warning("no test triples, so nothing is ranked")
    return figures | {"parameters": sum(p.numel() for p in network.parameters())}


def evaluate_triples(run: Path, device: str, root: Path | None, as_json: bool) -> None:
    """Print the metrics of a run, computed from its files; raises as `load_run`."""
    network, split, head = load_run(run, root)
    print_results(figures_of(network.to(device_of(device)), split), head, as_json)


def load_run(run: Path, root: Path | None) -> tuple[TripleModel, TripleSplit, dict[str, Any]]:
    """The trained model of a run, its triples, and the head of printed results.

    Raises:
        DataError: the run is not finished, or its data has changed since training.
    """
    from hgraph.data.io import fingerprint

    check_finished(run)
    file = run / "config.json"
    config = parse(file.read_bytes(), file)
    settings = fields_of(_Config, config, file)
    if settings.model not in TRIPLES:
        raise DataError(f"{file}: model: expected {listed(TRIPLES)}, got {settings.model[:60]!r}")
    check_source(run, settings.source)
    name, split, _ = load_triples(settings.source, root, settings.seed)
    check_unchanged(run, settings.source, settings.data_sha256, fingerprint(split))
    network = network_of(settings.model, split, settings.seed, settings.hidden)
    load_weights_of(run, network)
    head = {"dataset": name, "model": settings.model, "seed": settings.seed}
    return network.eval(), split, head


@dataclass(frozen=True)
class _Config:
    """The keys of the config.json of such a run that are read back."""

    source: str
    model: str
    seed: Annotated[int, Span(0, SEEDS)]
    data_sha256: str
    hidden: Annotated[int, Span(1, SETTINGS["hidden"].high)] | None = None


def _command(settings: dict[str, Any], device: str, folder: Path) -> str:
    words = ["hgraph", "train", settings["dataset"]]
    for name in ("model", "seed", "epochs", "lr", "patience", "hidden", "l2"):
        words += [] if settings[name] is None else [f"--{name}", str(settings[name])]
    return shlex.join([*words, "--device", device, "--out", str(folder)])
