"""`hgraph evaluate`: the figures of a run again, from its files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgraph.cli.choices import CLASSIFIERS
from hgraph.cli.common import LOG, JsonOption, QuietOption, RootOption, device_of, load, plain_errors, say
from hgraph.cli.recommenders import evaluate_recommender
from hgraph.cli.teachers import MLP, Setting, Student, networks_of, prepare, split_of
from hgraph.cli.train import figures_of, network_of
from hgraph.errors import ArgumentError, DataError
from hgraph.models.registry import find

if TYPE_CHECKING:
    from torch import nn

    from hgraph.data import Data

_KEPT = ("test_accuracy", "ece", "parameters", "unseen_accuracy")  # what both kinds of run say of a network


@plain_errors
def evaluate(
    run: Annotated[Path, typer.Argument(help="A folder that `hgraph train` or `hgraph distill` wrote.")],
    dataset: Annotated[
        str | None,
        typer.Option(help="Other data with the same columns, encoded as those of the run; default: those of the run."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:0.")] = "cpu",
    root: RootOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Test trained networks again, on the data they were trained on or on another data set of the same features.

    Of a run of `hgraph distill`: the MLP, the teacher and the student.
    """
    config = _config(run)
    if config.get("kind") == "recommender":
        if dataset is not None:
            raise ArgumentError("dataset", "nothing, as a recommender knows its own users alone", repr(dataset))
        evaluate_recommender(run, device, root, as_json)
        return
    try:
        facts = config.get("run", config)
        source = facts["dataset" if "run" in config else "source"]
        kind, setting, seed = facts["teacher" if "run" in config else "model"], Setting(facts["setting"]), facts["seed"]
        if kind not in CLASSIFIERS:
            raise ValueError(f"a classifier, got {kind!r}")
        model, student = find(kind), Student(facts.get("student", Student.PUBLISHED.value))
        shape: dict[str, Any] = {name: facts[name] for name in ("hidden", "dropout") if name in facts}
    except (KeyError, ValueError, TypeError) as error:
        raise _no_run(run, error) from error
    loaded = load(dataset or source, root=root, seed=seed)
    data = _as_trained(run, prepare(loaded, model, setting, seed), dataset, source, root, seed).to(device_of(device))
    distilled = networks_of(data, model, student, seed) if "run" in config else {}
    networks = distilled or {"model": network_of(model, data, seed, **shape)}
    found: dict[str, dict[str, Any]] = {}
    for name, made in networks.items():
        network = _filled(made, run, name, data, loaded.name)
        sees = model if name in ("model", "teacher") else MLP
        found[name], _ = figures_of(network, data, sees, split_of(setting))
    head = {"dataset": loaded.name, "setting": setting.value, "seed": seed}
    if "model" in found:
        say(found["model"], {**head, "model": model.name}, as_json)
        return
    found = {name: {key: figures[key] for key in _KEPT if key in figures} for name, figures in found.items()}
    if as_json:
        typer.echo(json.dumps(head | found, allow_nan=False))
    else:
        for name, figures in found.items():
            texts = (f"{key.replace('_', ' ')} {value:.4g}" for key, value in figures.items())
            typer.echo("  ".join([name.ljust(7), *texts]))


def _config(run: Path) -> dict[str, Any]:
    try:
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        return dict(config)
    except (OSError, ValueError, TypeError) as error:
        raise _no_run(run, error) from error


def _as_trained(run: Path, data: Data, dataset: str | None, source: str, root: Path | None, seed: int) -> Data:
    """The data with the features and classes that the run's network was trained on."""
    from hgraph.datasets import Inputs

    found = Inputs.load(run) or Inputs.load(run / "student")
    if found is None:  # a run of before, which did not keep them: its data may still be there
        if dataset is None:
            return data
        found = Inputs.of(load(source, root=root, seed=seed)[0])
    if dataset is not None and found.encoder is None and found.feature_names is None:
        LOG.warning("%s: its features have no names; they are taken in their order", dataset)
    try:
        return found.applied(data, str(dataset or source))
    except DataError as error:
        raise DataError(f"{run}: its network does not fit {dataset or source!r} ({error})") from error


def _filled(network: nn.Module, run: Path, name: str, data: Data, dataset: str) -> nn.Module:
    """The network with the weights of the run, in eval mode."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        network.load_state_dict(load_file(run / f"{name}.safetensors"))
    except (OSError, SafetensorError) as error:
        raise _no_run(run, error) from error
    except RuntimeError as error:
        wanted = f"{data.num_features} features and {data.num_classes} classes"
        raise DataError(f"{run}: its network does not fit {dataset!r} with {wanted} ({error})") from error
    return network.eval()


def _no_run(run: Path, error: Exception) -> DataError:
    reason = f"its config.json has no {error}" if isinstance(error, KeyError) else error
    return DataError(f"{run}: not a finished run of `hgraph train` or `hgraph distill` ({reason})")
