"""`hgraph train` for recommenders: writes run folders and loads them again."""

from __future__ import annotations

import copy
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from hgraph.cli.choices import RECOMMENDERS, listed
from hgraph.cli.common import device_of, environment_info, print_results, run_folder
from hgraph.cli.numbers import MANY, SEEDS, SETTINGS
from hgraph.cli.reading import TableOptions
from hgraph.cli.run_files import check_finished, check_unchanged, load_weights_of, write_files
from hgraph.cli.runs import check_folder, check_source, running
from hgraph.cli.threads import training_threads
from hgraph.errors import ArgumentError, DataError
from hgraph.models.registry import find
from hgraph.report import Report, escaped
from hgraph.schema import Span, fields_of, naming, parse

if TYPE_CHECKING:
    from hgraph.data import Dataset, Interactions
    from hgraph.models.recommend.base import Recommender

__all__ = [
    "evaluate_recommender",
    "load_interactions",
    "load_run",
    "network_of",
    "recommender_step",
    "train_recommender",
]

FILES = ("config.json", "metrics.jsonl", "learning_curve.png", "model.safetensors", "report.md")
READING = ("min_rating", "split", "columns", "delimiter", "decimal")  # options of `load_interactions`
CUT = 20
L2 = 1e-5  # penalty on the embeddings of a batch


def load_interactions(
    name: str,
    root: Path | None,
    seed: int,
    *,
    min_rating: float | None = None,
    split: str | None = None,
    **reading: Any,
) -> Dataset[Interactions]:
    """Load the interactions of a listed data set, or of a folder with ``interactions.csv``.

    ``reading`` has columns, delimiter and decimal of the files, see `from_interactions`.
    """
    from hgraph import datasets
    from hgraph.datasets.own_interactions import from_interactions, is_own

    if is_own(name):
        return from_interactions(name, seed=seed, min_rating=min_rating, split=split or "random", **reading)  # type: ignore[arg-type]
    for option, value in (("min_rating", min_rating), ("split", split), *reading.items()):
        if value is not None:
            raise ArgumentError(option, "no value, because a listed data set has a fixed form", repr(value))
    card = datasets.info(name)
    if card.task != "recommendation":
        hint = "Or use a folder with interactions.csv (user,item) and, optionally, triples.csv (head,relation,tail)"
        raise ArgumentError("dataset", "a data set for recommendation", f"{name!r}, which is for {card.task}", hint)
    return datasets.load(name, root=root, seed=seed)


def network_of(model: str, data: Interactions, seed: int, width: int | None = None) -> Recommender:
    """The model of that name for the data, initialized under the seed."""
    from hgraph.train import build_model

    return build_model(model, data, seed=seed, hidden_size=width)  # type: ignore[return-value]


def train_recommender(
    dataset: str,
    model: str,
    *,
    seed: int,
    epochs: int,
    hidden: int | None,
    lr: float,
    patience: int | None,
    l2: float | None,
    pretrain: str | None,
    validate_users: int | None,
    min_rating: float | None,
    split: str | None,
    tables: TableOptions,
    out: Path | None,
    overwrite: bool,
    device: str,
    threads: int | str | None,
    root: Path | None,
    quiet: bool,
) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """Train, rank all items for the test users, and write the run folder; resumes a stopped run.

    Returns:
        The first printed lines, the metrics, and the report.

    With ``pretrain``, that model first learns the embeddings of users and items, for the same number of epochs.
    """
    if pretrain is not None and pretrain not in find(model).starts_from:
        raise ArgumentError("pretrain", f"no value, because {model} cannot start from other embeddings", repr(pretrain))
    from hgraph import train
    from hgraph.data.io import fingerprint
    from hgraph.train.plots import learning_curve

    folder = run_folder(out, dataset, model, seed)
    check_folder(folder, overwrite=overwrite)
    where = device_of(device)
    loaded = load_interactions(dataset, root, seed, min_rating=min_rating, split=split, **tables.given())
    data: Interactions = loaded[0]
    options: dict[str, Any] = {"epochs": epochs, "lr": lr, "patience": 10 if patience is None else patience}
    options |= {"l2": L2 if l2 is None else l2, "validate_users": validate_users}
    try:
        settings = {"dataset": dataset, "model": model, "seed": seed, "hidden": hidden, "pretrain": pretrain, **options}
        settings |= {"min_rating": min_rating, "split": split} | tables.given()
        seen = fingerprint(data)
        with running(folder, settings | {"data": repr(data), "data_sha256": seen}, overwrite=overwrite) as place:
            network = network_of(model, data, seed, hidden).to(where)
            with training_threads(threads, place, recommender_step(network, data)):
                files: dict[str, Any] = {"checkpoint": place / "model.safetensors", "log": folder / "metrics.jsonl"}
                shown = False if quiet else None
                if pretrain is not None and not files["checkpoint"].exists():
                    first = network_of(pretrain, data, seed, hidden).to(where)
                    first_files: dict[str, Any] = {"checkpoint": place / f"{pretrain}.safetensors", "progress": shown}
                    train.fit_recommender(first, data, seed=seed, label=pretrain, **first_files, **options)
                    network.take_factors(first.embedding)  # type: ignore[operator]
                fit = train.fit_recommender(network, data, seed=seed, label=model, progress=shown, **files, **options)
                figures = figures_of(network, data)
                figures |= {"best_epoch": fit.best_epoch, "seconds": round(fit.seconds, 3)}
                source = str(Path(dataset).resolve()) if os.path.isdir(dataset) else dataset
                command = _command(settings, device, folder)
                config = settings | {"source": source, "command": command, "device": str(where), "kind": "recommender"}
                config["data_sha256"] = seen
                config |= environment_info()
                title = f"{loaded.name}: {model} (seed {seed})"
                curve = learning_curve({"teacher": fit}, {"teacher": model}, title, f"recall@{CUT}")
                report = write_files(folder, config, curve, network, _report(loaded, title, figures, config))
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error})") from error
    return {"dataset": loaded.name, "model": model, "seed": seed}, figures, report


def recommender_step(network: Recommender, data: Interactions) -> Callable[[], object]:
    """One step on pairs of a copy of the network, for `training_threads`."""
    from hgraph.train import PairSampler

    trial, device = copy.deepcopy(network).train(), next(network.parameters()).device
    structure = trial.start(trial.structure(data).to(device))
    pairs = PairSampler(data.train.to(device))
    return lambda: trial.pair_loss(structure, *pairs.draw(512)).backward()


def figures_of(network: Recommender, data: Interactions, score: Any = None) -> dict[str, Any]:
    """Metrics of a trained model that ranks all items for users with test items, and recall of a popularity ranking.

    ``score`` is the `hgraph.train.scorer` of the model; None creates it.
    """
    from hgraph import train

    figures: dict[str, Any] = {}
    if data.test.num_edges:
        where = next(network.parameters()).device
        score = train.scorer(network, train.structure_of(network, data)) if score is None else score
        test, *known = (p.to(where) for p in (data.test, data.train, data.val))
        cut = min(CUT, data.num_items)
        figures = train.full_ranking(score, test, known, ks=[cut])
        baseline = train.full_ranking(train.popularity_baseline(known[0]), test, known, ks=[cut])
        figures[f"recall@{cut}_by_popularity"] = baseline[f"recall@{cut}"]
        cold = int(((known[0].indptr.diff() == 0) & (test.indptr.diff() > 0)).sum())
        figures |= {"test_users_without_training": cold} if cold else {}
    return figures | {"parameters": sum(p.numel() for p in network.parameters())}


def evaluate_recommender(run: Path, device: str, root: Path | None, as_json: bool) -> None:
    """Print the metrics of a run, computed from its files."""
    network, data, config = load_run(run, root)
    head = {name: config[name] for name in ("dataset", "model", "seed")}
    print_results(figures_of(network.to(device_of(device)), data), head, as_json)


def _command(settings: dict[str, Any], device: str, folder: Path) -> str:
    words = ["hgraph", "train", settings["dataset"]]
    names = ["model", "seed", "epochs", "lr", "patience", "hidden", "l2", "pretrain"]
    for name in (*names, "validate_users", "min_rating", "split"):
        words += [] if settings[name] is None else [f"--{name.replace('_', '-')}", str(settings[name])]
    for role, column in settings.get("columns", {}).items():
        words += ["--column", f"{role}={column}"]
    for name in ("delimiter", "decimal"):
        words += [f"--{name}", settings[name]] if name in settings else []
    return shlex.join([*words, "--device", device, "--out", str(folder)])


@dataclass(frozen=True)
class _Config:
    """The keys of the config.json of a recommender that are read back."""

    dataset: str
    source: str
    model: str
    seed: Annotated[int, Span(0, SEEDS)]
    data_sha256: str
    hidden: Annotated[int, Span(1, SETTINGS["hidden"].high)] | None = None
    min_rating: float | None = None
    split: Literal["random", "time", "last"] | None = None
    columns: dict[str, str] | None = None
    delimiter: str | None = None
    decimal: Literal[".", ","] | None = None
    epochs: Annotated[int, Span(1, MANY)] = 1  # missing in older runs, but never null, as lr
    lr: Annotated[float, Span(0, SETTINGS["lr"].high)] = 0.01
    l2: Annotated[float, Span(0, SETTINGS["l2"].high)] | None = None
    patience: Annotated[int, Span(1, MANY)] | None = None
    validate_users: Annotated[int, Span(1, MANY)] | None = None


def load_run(run: Path, root: Path | None) -> tuple[Recommender, Interactions, dict[str, Any]]:
    """The trained model of a run folder, the data that it was trained on, and its settings.

    Raises:
        DataError: the run is not finished, or its data has changed since training.
    """
    from hgraph.data.io import fingerprint

    check_finished(run)
    file = run / "config.json"
    try:
        config = parse(file.read_bytes(), file)
        if not isinstance(config, dict):
            raise DataError(f"{file}: expected an object with keys, got {type(config).__name__}")
        if config.get("kind") != "recommender" or config.get("model") not in list(RECOMMENDERS):
            key = "model" if config.get("kind") == "recommender" else "kind"
            what = f"a run of {str(config.get('model'))[:60]!r}, which is not a recommender ({listed(RECOMMENDERS)})"
            raise DataError(f"{file}: {key}: {what}")
        settings = fields_of(_Config, config, file)
        check_source(run, settings.source)
        reading: dict[str, Any] = {name: getattr(settings, name) for name in READING}
        with naming(f"source, {', '.join(READING)}", file):
            data = load_interactions(settings.source, root, settings.seed, **reading)[0]
        check_unchanged(run, settings.source, settings.data_sha256, fingerprint(data))
        network = network_of(settings.model, data, settings.seed, settings.hidden)
        load_weights_of(run, network)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, (DataError, ArgumentError)):
            raise
        raise DataError(f"{run}: no finished run of a recommender ({error})") from error
    return network.eval(), data, config


def _report(dataset: Dataset[Interactions], title: str, figures: dict[str, Any], config: dict[str, Any]) -> str:
    report = Report(title).text(escaped(f"{dataset[0]}")).figures(figures)
    report.text(
        "All items are ranked for each user, except those of the training and validation pairs. The popularity "
        "baseline (`by popularity`) ranks items by their number of training users; a useful model beats it."
    )
    caption = "Validation recall" if dataset[0].val.num_edges else "Training loss"
    report.picture(f"{caption} over epochs", "learning_curve.png")
    report.bullets([f"License: {dataset.license}.", f"Citation: {dataset.citation}", *dataset.caveats])
    return str(report.settings(config).command(config["command"]))
