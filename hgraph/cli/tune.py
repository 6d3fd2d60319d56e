"""`hgraph tune`: searches for hyperparameters."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgraph.cli.choices import RECOMMENDERS, ClassWeight, PairSplit, Select, Tunable, named, value_of
from hgraph.cli.common import JsonOption, QuietOption, RootOption, device_of, plain_errors, short_name
from hgraph.cli.node_runs import (
    METRICS,
    Prepared,
    config_of_run,
    figures_of,
    fit_network,
    network_of,
    prepared,
    write_run,
)
from hgraph.cli.numbers import SETTINGS, real, whole
from hgraph.cli.reading import TableOptions
from hgraph.cli.runs import REPORT, check_folder, running
from hgraph.cli.teachers import Setting
from hgraph.cli.threads import ThreadsOption, node_step, training_threads
from hgraph.errors import ArgumentError, DataError, did_you_mean
from hgraph.models.registry import find
from hgraph.report import Report, escaped, format_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from hgraph.train import FitResult
    from hgraph.train.tune import Choice, Range

SPACE = "lr=log:0.001:0.1,weight_decay=log:0.00001:0.01,hidden=choice:16:32:64:128,dropout=range:0:0.8"
NAMES = ("lr", "weight_decay", "hidden", "dropout")
RECOMMENDER_SPACE = "lr=log:0.0005:0.02,l2=log:0.0001:1,hidden=choice:16:32:64"
RECOMMENDER_NAMES = ("lr", "l2", "hidden")


@plain_errors
def tune(
    dataset: Annotated[
        str,
        typer.Argument(
            help="A name from `hgraph datasets list`, a folder you built, or one that holds interactions.csv."
        ),
    ],
    model: Annotated[Tunable, named(Tunable, "Network or recommender.")] = Tunable("hgnn+"),
    space: Annotated[
        str | None,
        typer.Option(
            help="Search space, NAME=KIND separated by commas; KIND is log:low:high, range:low:high (uniform), "
            f"whole:low:high (integers) or choice:a:b; default {SPACE}"
        ),
    ] = None,
    trials: Annotated[int, whole(help="Total number of trials, including those of a stopped search.")] = 30,
    epochs: Annotated[int, whole(help="Maximum number of epochs per trial.")] = 200,
    seed: Annotated[int, whole(low=0, high=2**32 - 1, help="Seed of the search, the weights and dropout.")] = 0,
    setting: Annotated[
        Setting, typer.Option(help="transductive: training uses all nodes; production: some test nodes are left out.")
    ] = Setting.TRANSDUCTIVE,
    select: Annotated[
        Select | None,
        typer.Option(
            help="Validation score of epochs and trials; default: accuracy for classes, mae for regression, "
            "f1 for multi-label."
        ),
    ] = None,
    class_weight: Annotated[
        ClassWeight | None, typer.Option(help="balanced: rare classes weigh as much as frequent ones in the loss.")
    ] = None,
    min_rating: Annotated[
        float | None, real(low=-1e12, high=1e12, help="Leave out pairs of interactions.csv with lower ratings.")
    ] = None,
    split: Annotated[
        PairSplit | None, typer.Option(help="How pairs of interactions.csv are split; default random.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="ROLE=COLUMN, if a column of interactions.csv or triples.csv has another name than its role; "
            "repeatable."
        ),
    ] = None,
    delimiter: Annotated[str | None, typer.Option(help="Delimiter of interactions.csv and triples.csv.")] = None,
    decimal: Annotated[str | None, typer.Option(help="Decimal separator of ratings, . or , (default .).")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output folder; default: runs/tune-<dataset>-<model>-<seed>.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:0.")] = "cpu",
    threads: ThreadsOption = None,
    root: RootOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Search for the best hyperparameters of a network, and test them once.

    Trials are compared by their validation score (--select), and poor trials are stopped early. The test nodes are used
    only once, at the end. The folder has the weights of the best trial, so `hgraph evaluate`, `hgraph predict` and
    `hgraph distill` accept it as input. The same command resumes a stopped search. Trials of a recommender are compared
    by recall on the validation items, and are not stopped early.
    """
    from hgraph.files import write_atomically
    from hgraph.train.tune import require_optuna
    from hgraph.train.tune import tune as search

    folder = out or Path("runs") / f"tune-{short_name(dataset)}-{model.value}-{seed}"
    check_folder(folder)
    recommends = model.value in RECOMMENDERS
    space = (RECOMMENDER_SPACE if recommends else SPACE) if space is None else space
    kinds = space_of(space, RECOMMENDER_NAMES if recommends else NAMES)
    require_optuna()
    about = {"dataset": dataset, "model": model.value, "setting": setting.value, "epochs": epochs, "seed": seed}
    task = {"select": value_of(select), "class_weight": value_of(class_weight)}
    about |= {name: value for name, value in task.items() if value is not None}
    reading = TableOptions.of(column, delimiter, decimal).given()
    reading |= {} if min_rating is None else {"min_rating": min_rating}
    reading |= {} if split is None else {"split": split.value}
    about |= reading
    run: _Training | _Recommending
    if recommends:
        _reject_other_options(model.value, setting, task)
        run = _Recommending.of(dataset, model.value, epochs, seed, device, root, **reading)
    else:
        for name in reading:
            raise ArgumentError(name, f"no value, because this option does not apply to {model.value}", "a value")
        where = device_of(device)
        run = _Training(
            prepared(dataset, find(model.value), setting, seed, root=root, device=where, **task), epochs, seed
        )
    about["data_sha256"] = run.data_sha256
    with running(folder, {}, overwrite=False):
        with training_threads(threads, folder, run.step()):
            found = search(run, kinds, trials=trials, folder=folder, seed=seed, about=about)
            tested, test = run.test(found.settings, folder)
        figures = {f"validation_{run.measure}": run.shown(found.score), **tested, **found.settings}
        command = _command(about, found.settings)
        head = {"dataset": run.name, "model": model.value, "seed": seed, "trials": len(found.trials)}
        report = _report(head, figures, found.trials, space, command, run.shown)
        (folder / REPORT).unlink(missing_ok=True)  # until all files are those of the new best trial
        try:
            if test is None:
                write_atomically(folder / REPORT, report.encode())
            else:
                _write_best(folder, found.settings, test, figures, command, about, str(device_of(device)), report)
        except OSError as error:
            raise DataError(f"{folder}: cannot be written ({error})") from error
    if as_json:
        typer.echo(json.dumps(head | figures))
    else:
        width = max(map(len, figures))
        typer.echo("\n".join(f"{k.replace('_', ' ').ljust(width)}  {format_value(v)}" for k, v in figures.items()))
        typer.echo(f"to train this network: {command}\nreport: {folder / REPORT}")


def _reject_other_options(model: str, setting: Setting, task: dict[str, Any]) -> None:
    """Reject options that do not apply to recommenders."""
    for name, value in {"setting": None if setting is Setting.TRANSDUCTIVE else setting, **task}.items():
        if value is not None:
            raise ArgumentError(name, f"no value, because this option does not apply to {model}", "a value")


def _command(about: dict[str, Any], settings: dict[str, Any]) -> str:
    """The command that trains a network with the best settings."""
    words = ["hgraph", "train", about["dataset"], "--model", about["model"], "--seed", str(about["seed"])]
    words += [] if about["model"] in RECOMMENDERS else ["--setting", about["setting"]]
    words += ["--epochs", str(about["epochs"])]
    names = ("select", "class_weight", "min_rating", "split", "delimiter", "decimal")
    options = settings | {name: about[name] for name in names if name in about}
    words += [f"--column={role}={column}" for role, column in about.get("columns", {}).items()]
    return shlex.join([*words, *(f"--{n.replace('_', '-')}={v}" for n, v in options.items())])


def _write_best(
    folder: Path,
    settings: dict[str, Any],
    test: _Test,
    figures: dict[str, Any],
    command: str,
    about: dict[str, Any],
    device: str,
    report: str,
) -> None:
    """Write the network with the best settings as a run folder."""
    options = {"hidden": None, "dropout": 0.5, "lr": 0.01, "weight_decay": 5e-4} | settings
    options |= {"epochs": about["epochs"], "seed": about["seed"], "device": device}
    config = config_of_run(test.on, options, command, about["dataset"])
    write_run(folder, test.on, test.network, test.fit, figures, config, test.outputs, report)


def space_of(text: str, names: tuple[str, ...] = NAMES) -> dict[str, Range | Choice]:
    """Parse a search space.

    >>> space_of("lr=log:0.001:0.1,hidden=choice:16:32")["hidden"]
    Choice(values=(16, 32))
    """
    from hgraph.train.tune import Choice, Range

    found: dict[str, Range | Choice] = {}
    for part in filter(None, text.split(",")):
        name, _, rest = part.partition("=")
        kind, *values = rest.split(":")
        if name not in names:
            raise ArgumentError("space", f"settings among {', '.join(names)}", repr(name), did_you_mean(name, names))
        try:
            numbers = [SETTINGS[name](v) for v in values]
            if kind == "choice":
                found[name] = Choice(tuple(numbers))
            else:
                low, high = numbers
                if not low < high or (kind == "log" and not low > 0):
                    order = "0 < low < high" if kind == "log" else "low < high"
                    raise ArgumentError("space", f"{name}={kind}:low:high with {order}", repr(part))
                options = {"log": {"log": True}, "range": {}, "whole": {"whole": True}}[kind]
                found[name] = Range(low, high, **options)
        except ArgumentError:
            raise
        except typer.BadParameter as error:
            raise ArgumentError("space", f"{name} in {SETTINGS[name]}", repr(part)) from error
        except (ValueError, KeyError):
            expected = f"{name}=log:low:high, range:low:high, whole:low:high or choice:a:b:..."
            raise ArgumentError("space", expected, repr(part)) from None
    return found


@dataclass(frozen=True)
class _Test:
    """A network with the best settings, how it was trained, and its outputs."""

    on: Prepared
    network: nn.Module
    fit: FitResult
    outputs: Tensor


class _Training:
    """Trains a network of labeled nodes with given settings, for `hgraph.train.tune.tune`."""

    def __init__(self, on: Prepared, epochs: int, seed: int) -> None:
        self.on, self.epochs, self.seed = on, epochs, seed
        self.measure, self.shown, self.name = on.task.select, on.task.shown, on.dataset.name
        self.count = 0
        if on.task.score(on.data.y, on.data.split(on.split).val) is None:
            raise ArgumentError(
                "dataset", "a data set with validation nodes, which are needed to compare trials", "none"
            )

    def __call__(self, settings: dict[str, Any], report: Any) -> float:
        self.count += 1
        return self._fit(settings, f"training {self.count}", report=report)[1].best["validation"]

    @property
    def data_sha256(self) -> str:
        """A hash of the data: scores on others are not comparable."""
        return self.on.data_sha256

    def step(self) -> Callable[[], object]:
        """One training step with the default settings."""
        return node_step(network_of(self.on.model, self.on.data, self.seed), self.on)

    def test(self, settings: dict[str, Any], folder: Path) -> tuple[dict[str, Any], _Test | None]:
        """Train with the settings, which gives the weights of their trial again, and measure the test nodes once."""
        network, fit = self._fit(settings, "best settings", log=folder / METRICS)
        figures, outputs = figures_of(network, self.on.data, self.on.model, self.on.split, self.on.task)
        return {k: v for k, v in figures.items() if k.startswith("test_")}, _Test(self.on, network, fit, outputs)

    def _fit(self, settings: dict[str, Any], label: str, **more: Any) -> tuple[nn.Module, FitResult]:
        shape = {name: settings[name] for name in ("hidden", "dropout") if name in settings}
        network = network_of(self.on.model, self.on.data, self.seed, **shape)
        options: dict[str, Any] = {name: settings[name] for name in ("lr", "weight_decay") if name in settings}
        options |= {"epochs": self.epochs, "seed": self.seed, "progress": False, "label": label}
        return network, fit_network(network, self.on, **options, **more)


class _Recommending:
    """Trains a recommender with given settings."""

    measure = "recall"

    @classmethod
    def of(
        cls, dataset: str, model: str, epochs: int, seed: int, device: str, root: Path | None, **reading: Any
    ) -> _Recommending:
        """Load the data set, and make the object that trains on it."""
        from hgraph.cli.recommenders import load_interactions

        loaded = load_interactions(dataset, root, seed, **reading)
        return cls(loaded[0], loaded.name, model, epochs, seed, device)

    def __init__(self, data: Any, name: str, model: str, epochs: int, seed: int, device: str) -> None:
        from hgraph.data import fingerprint

        self.name, self.data_sha256 = name, fingerprint(data)
        self.data, self.model, self.epochs, self.seed, self.device = data, model, epochs, seed, device_of(device)
        self.count = 0
        if not data.val.num_edges:
            raise ArgumentError(
                "dataset", "a data set with validation items, which are needed to compare trials", "none"
            )

    def __call__(self, settings: dict[str, Any], report: Any) -> float:
        self.count += 1
        return self._fit(settings, f"training {self.count}")[1]

    def shown(self, score: float) -> float:
        """The recall is shown as it is."""
        return score

    def step(self) -> Callable[[], object]:
        """One pass over the structure with the default settings."""
        from hgraph.cli.recommenders import network_of, recommender_step

        return recommender_step(network_of(self.model, self.data, self.seed).to(self.device), self.data)

    def test(self, settings: dict[str, Any], folder: Path) -> tuple[dict[str, Any], None]:
        """Train with the settings, and measure the recall of the test items."""
        from hgraph.cli.recommenders import CUT, figures_of

        figures = figures_of(self._fit(settings, "best settings")[0], self.data)
        return {"test_recall": figures[f"recall@{min(CUT, self.data.num_items)}"]}, None

    def _fit(self, settings: dict[str, Any], label: str) -> tuple[Any, float]:
        from hgraph.cli.recommenders import network_of
        from hgraph.train import fit_recommender

        network = network_of(self.model, self.data, self.seed, settings.get("hidden")).to(self.device)
        options: dict[str, Any] = {name: settings[name] for name in ("lr", "l2") if name in settings}
        options |= {"epochs": self.epochs, "seed": self.seed, "progress": False, "label": label}
        result = fit_recommender(network, self.data, **options)
        return network, result.best["validation"]


def _report(
    head: dict[str, Any],
    figures: dict[str, Any],
    trials: list[dict[str, Any]],
    space: str,
    command: str,
    shown: Callable[[float], float],
) -> str:
    names = list(trials[0]["settings"])
    rows = [["trial", "state", "validation", *names]]
    for trial in sorted(trials, key=lambda t: (t["score"] is None, -(t["score"] or 0))):
        score = "" if trial["score"] is None else format_value(shown(trial["score"]))
        settings = (format_value(trial["settings"].get(name, "")) for name in names)
        rows.append([str(trial["number"]), trial["state"], score, *settings])
    title = f"{head['dataset']}: {head['model']} tuned with {head['trials']} trials (seed {head['seed']})"
    report = Report(title).figures(figures).command(command, "To train a network with these settings:")
    return str(report.text(f"Search space: {escaped(space)}").table(rows, align="left"))
