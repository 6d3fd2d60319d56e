"""`hgraph tune`: searches for hyperparameters."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgraph.cli.choices import RECOMMENDERS, Network
from hgraph.cli.common import JsonOption, QuietOption, RootOption, device_of, load, plain_errors
from hgraph.cli.numbers import SETTINGS, whole
from hgraph.cli.runs import check_folder
from hgraph.cli.teachers import Setting, prepare, split_of
from hgraph.errors import ArgumentError, DataError, did_you_mean
from hgraph.models.registry import ModelEntry, find

if TYPE_CHECKING:
    from hgraph.train.tune import Choice, Range

SPACE = "lr=log:0.001:0.1,weight_decay=log:0.00001:0.01,hidden=choice:16:32:64:128,dropout=range:0:0.8"
NAMES = ("lr", "weight_decay", "hidden", "dropout")
RECOMMENDER_SPACE = "lr=log:0.0005:0.02,l2=log:0.0001:1,hidden=choice:16:32:64"
RECOMMENDER_NAMES = ("lr", "l2", "hidden")


@plain_errors
def tune(
    dataset: Annotated[str, typer.Argument(help="A name from `hgraph datasets list`, or a folder you built.")],
    model: Annotated[Network, typer.Option(help="Network or recommender.")] = Network("hgnn+"),
    space: Annotated[
        str | None,
        typer.Option(
            help=f"Search space: name=log:low:high, range:low:high, whole:low:high or choice:a:b; default {SPACE}"
        ),
    ] = None,
    trials: Annotated[int, whole(help="Total number of trials, including those of a stopped search.")] = 30,
    epochs: Annotated[int, whole(help="Largest number of epochs per trial.")] = 200,
    seed: Annotated[int, whole(low=0, high=2**32 - 1, help="Seed of the suggestions, the weights and dropout.")] = 0,
    setting: Annotated[
        Setting, typer.Option(help="transductive: training uses all nodes; production: some test nodes are left out.")
    ] = Setting.TRANSDUCTIVE,
    out: Annotated[
        Path | None, typer.Option(help="Output folder; default: runs/tune-<dataset>-<model>-<seed>.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:0.")] = "cpu",
    root: RootOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Search for the best hyperparameters of a network, and test them once.

    Trials are compared by their accuracy on the validation nodes, and poor trials are stopped early. The test nodes are
    used only once, at the end. The same command resumes a stopped search. Trials of a recommender are compared by the
    recall of the validation items, and are not stopped early.
    """
    from hgraph.files import write_atomically
    from hgraph.train.tune import tune as search

    folder = out or Path("runs") / f"tune-{Path(dataset).resolve().name}-{model.value}-{seed}"
    check_folder(folder)
    recommends = model.value in RECOMMENDERS
    space = space or (RECOMMENDER_SPACE if recommends else SPACE)
    kinds = space_of(space, RECOMMENDER_NAMES if recommends else NAMES)
    kind = _Recommending if recommends else _Training
    loaded, run = kind.of(dataset, model.value, setting, epochs, seed, device, root)
    about = {"dataset": dataset, "model": model.value, "setting": setting.value, "epochs": epochs, "seed": seed}
    found = search(run, kinds, trials=trials, folder=folder, seed=seed, about=about)
    figures = {f"validation_{run.measure}": found.score, f"test_{run.measure}": run.test(found.settings)}
    figures |= found.settings
    words = ["hgraph", "train", dataset, "--model", model.value, "--seed", str(seed)]
    words += [] if recommends else ["--setting", setting.value]
    words += ["--epochs", str(epochs), *(f"--{n.replace('_', '-')}={v}" for n, v in found.settings.items())]
    command = shlex.join(words)
    head = {"dataset": loaded.name, "model": model.value, "seed": seed, "trials": len(found.trials)}
    try:
        write_atomically(folder / "report.md", _report(head, figures, found.trials, space, command).encode())
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error})") from error
    if as_json:
        typer.echo(json.dumps(head | figures))
    else:
        width = max(map(len, figures))
        typer.echo("\n".join(f"{k.replace('_', ' ').ljust(width)}  {_shown(v)}" for k, v in figures.items()))
        typer.echo(f"to train it: {command}\nreport: {folder / 'report.md'}")


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


class _Training:
    """Trains a classifier with given settings, for `hgraph.train.tune.tune`."""

    measure = "accuracy"

    @classmethod
    def of(
        cls, dataset: str, model: str, setting: Setting, epochs: int, seed: int, device: str, root: Path | None
    ) -> tuple[Any, _Training]:
        """Load the data set; returns it with an object that trains on it."""
        loaded = load(dataset, root=root, seed=seed)
        entry = find(model)
        data = prepare(loaded, entry, setting, seed)
        return loaded, cls(data.to(device_of(device)), entry, split_of(setting), epochs, seed)

    def __init__(self, data: Any, model: ModelEntry, split: str, epochs: int, seed: int) -> None:
        self.data, self.model, self.split, self.epochs, self.seed = data, model, split, epochs, seed
        self.count = 0
        if not len(data.split(split).val):
            raise ArgumentError(
                "dataset", "a data set with validation nodes, which are needed to compare trials", "none"
            )

    def __call__(self, settings: dict[str, Any], report: Any) -> float:
        self.count += 1
        return self._fit(settings, report, f"training {self.count}")[1]

    def test(self, settings: dict[str, Any]) -> float:
        """Train with the settings, and return the accuracy on the test nodes."""
        from hgraph.cli.train import figures_of

        network, _ = self._fit(settings, lambda epoch, score: None, "best settings")
        return figures_of(network, self.data, self.model, self.split)[0]["test_accuracy"]

    def _fit(self, settings: dict[str, Any], report: Any, label: str) -> tuple[Any, float]:
        from hgraph.cli.train import network_of
        from hgraph.train import classification_loss, fit, training_view

        part = training_view(self.data, self.split)
        loss, validate = classification_loss(part)
        shape = {name: settings[name] for name in ("hidden", "dropout") if name in settings}
        network = network_of(self.model, self.data, self.seed, **shape)
        epoch = 0

        def validate_and_report(logits: Any) -> float:
            nonlocal epoch
            epoch += 1
            score = validate(logits)  # type: ignore[misc]
            report(epoch, score)
            return score

        inputs = (part.x,) if self.model.data == "features" else (part.x, part.structure)
        options: dict[str, Any] = {name: settings[name] for name in ("lr", "weight_decay") if name in settings}
        options |= {"epochs": self.epochs, "seed": self.seed, "progress": False, "label": label}
        result = fit(network, inputs, loss, validate=validate_and_report, **options)
        return network, result.best["validation"]


class _Recommending:
    """Trains a recommender with given settings."""

    measure = "recall"

    @classmethod
    def of(
        cls, dataset: str, model: str, setting: Setting, epochs: int, seed: int, device: str, root: Path | None
    ) -> tuple[Any, _Recommending]:
        """Load the data set; returns it with an object that trains on it."""
        from hgraph.cli.recommenders import load_interactions

        if setting is not Setting.TRANSDUCTIVE:
            raise ArgumentError("setting", f"no value, because {model} has no such setting here", "a value")
        loaded = load_interactions(dataset, root, seed)
        return loaded, cls(loaded[0], model, epochs, seed, device)

    def __init__(self, data: Any, model: str, epochs: int, seed: int, device: str) -> None:
        self.data, self.model, self.epochs, self.seed, self.device = data, model, epochs, seed, device_of(device)
        self.count = 0
        if not data.val.num_edges:
            raise ArgumentError(
                "dataset", "a data set with validation items, which are needed to compare trials", "none"
            )

    def __call__(self, settings: dict[str, Any], report: Any) -> float:
        self.count += 1
        return self._fit(settings, f"training {self.count}")[1]

    def test(self, settings: dict[str, Any]) -> float:
        """Train with the settings, and return the recall of the test items."""
        from hgraph.cli.recommenders import CUT, figures_of

        figures = figures_of(self._fit(settings, "best settings")[0], self.data)
        return figures[f"recall@{min(CUT, self.data.num_items)}"]

    def _fit(self, settings: dict[str, Any], label: str) -> tuple[Any, float]:
        from hgraph.cli.recommenders import network_of
        from hgraph.train import fit_recommender

        network = network_of(self.model, self.data, self.seed, settings.get("hidden")).to(self.device)
        options: dict[str, Any] = {name: settings[name] for name in ("lr", "l2") if name in settings}
        options |= {"epochs": self.epochs, "seed": self.seed, "progress": False, "label": label}
        result = fit_recommender(network, self.data, **options)
        return network, result.best["validation"]


def _report(
    head: dict[str, Any], figures: dict[str, Any], trials: list[dict[str, Any]], space: str, command: str
) -> str:
    names = list(trials[0]["settings"])
    lines = [f"# {head['dataset']}: {head['model']} tuned with {head['trials']} trials (seed {head['seed']})", ""]
    lines += ["| figure | value |", "|---|---:|"]
    lines += [f"| {name.replace('_', ' ')} | {_shown(value)} |" for name, value in figures.items()]
    lines += ["", "To train a network with these settings:", "", "```", command, "```", ""]
    lines += [f"Search space: `{space}`", "", f"| trial | state | validation | {' | '.join(names)} |"]
    lines += ["|---" * (3 + len(names)) + "|"]
    for trial in sorted(trials, key=lambda t: -(t["score"] or 0)):
        cells = [str(trial["number"]), trial["state"], "" if trial["score"] is None else f"{trial['score']:.4f}"]
        lines.append("| " + " | ".join([*cells, *(_shown(trial["settings"].get(n, "")) for n in names)]) + " |")
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
