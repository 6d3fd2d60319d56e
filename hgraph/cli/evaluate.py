"""`hgraph evaluate`: computes the metrics of a run from its files."""

from __future__ import annotations

import dataclasses
import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgraph.cli import graphs
from hgraph.cli.common import LOG, JsonOption, QuietOption, RootOption, device_of, load, plain_errors, print_results
from hgraph.cli.node_runs import figures_of
from hgraph.cli.recommenders import evaluate_recommender
from hgraph.cli.teachers import MLP, positions_of, prepare, split_of
from hgraph.cli.trained import config_of, encode_for_run, load_weights, read_settings, source_of
from hgraph.cli.triples import KIND, evaluate_triples
from hgraph.errors import ArgumentError
from hgraph.report import format_value
from hgraph.schema import naming

if TYPE_CHECKING:
    from hgraph.data import Data


@plain_errors
def evaluate(
    run: Annotated[Path, typer.Argument(help="A folder that `hgraph train` or `hgraph distill` wrote.")],
    dataset: Annotated[
        str | None,
        typer.Option(help="Other data with the same columns; default: the data of the run."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:0.")] = "cpu",
    root: RootOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Evaluate trained networks on the data of their run, or on other data with the same features.

    For a run of `hgraph distill`, the MLP, the teacher and the student are evaluated.
    """
    config = config_of(run)
    if config.get("kind") == "recommender":
        if dataset is not None:
            raise ArgumentError(
                "dataset", "no value, because a recommender has embeddings only for the users of its run", repr(dataset)
            )
        evaluate_recommender(run, device, root, as_json)
        return
    if config.get("kind") == graphs.KIND:
        if dataset is not None:
            raise ArgumentError("dataset", "no value, because this run was trained on graphs", repr(dataset))
        graphs.evaluate_graphs(run, device, root, as_json)
        return
    if config.get("kind") == KIND:
        if dataset is not None:
            raise ArgumentError(
                "dataset", "no value, because the embeddings belong to the nodes of this run", repr(dataset)
            )
        evaluate_triples(run, device, root, as_json)
        return
    run_of = read_settings(run, config)
    if dataset is not None and run_of.model.data == "knowledge graph":
        expected = f"no value, because {run_of.model.title} has weights only for the relations of its own data set"
        raise ArgumentError("dataset", expected, repr(dataset))
    with nullcontext() if dataset is not None else naming("source", run / "config.json"):
        loaded = load(source_of(run, run_of, dataset), root=root, seed=run_of.seed)
    data = prepare(loaded, run_of.model, run_of.setting, run_of.seed)
    if dataset is None:
        _warn_if_changed(config.get("data_sha256"), data, run_of.source)
    data = encode_for_run(run, data, dataset, run_of.source, root, run_of.seed).to(device_of(device))
    networks, model, setting, seed = run_of.networks(data), run_of.model, run_of.setting, run_of.seed
    found: dict[str, dict[str, Any]] = {}
    positioned, positions = data, positions_of(data, split_of(setting), run_of.positions)
    if positions is not None:
        import torch

        positioned = dataclasses.replace(data, x=torch.cat([data.x, positions.to(data.x)], 1))
    for name, made in networks.items():
        network = load_weights(made, run, name, data, loaded.name)
        entry = model if name in ("model", "teacher") else MLP
        inputs = positioned if name == "student" else data
        found[name], _ = figures_of(network, inputs, entry, split_of(setting), run_of.task)
    head = {"dataset": loaded.name, "setting": setting.value, "seed": seed}
    if "model" in found:
        print_results(found["model"], {**head, "model": model.name}, as_json)
        return
    main = run_of.task.main
    shown = (f"test_{main}", "ece", "parameters", f"unseen_{main}")
    found = {name: {key: figures[key] for key in shown if key in figures} for name, figures in found.items()}
    if as_json:
        typer.echo(json.dumps(head | found, allow_nan=False))
    else:
        for name, figures in found.items():
            texts = (f"{key.replace('_', ' ')} {format_value(value)}" for key, value in figures.items())
            typer.echo("  ".join([name.ljust(7), *texts]))


def _warn_if_changed(before: object, data: Data, source: str) -> None:
    """Older runs have no hash of their data."""
    from hgraph.data.io import data_digest

    if before is not None and before != data_digest(data):
        LOG.warning("%s has changed since this run was trained: its test nodes may have been in training", source)
