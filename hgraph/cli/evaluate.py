"""`hgraph evaluate`: the figures of a run again, from its files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hgraph.cli.common import JsonOption, RootOption, device_of, load, plain_errors
from hgraph.cli.teachers import Setting, Teacher, prepare
from hgraph.cli.train import Model, figures_of, network_of, say
from hgraph.errors import DataError

_NEEDED = ("source", "model", "setting", "seed")


@plain_errors
def evaluate(
    run: Annotated[Path, typer.Argument(help="A folder that `hgraph train` wrote.")],
    dataset: Annotated[
        str | None, typer.Option(help="Other data with the same columns; default: those of the run.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:0.")] = "cpu",
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Test a trained network again, on the data it was trained on or on another data set of the same features."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        source, model, setting, seed = (config[name] for name in _NEEDED)
        model, setting = Model(model), Setting(setting)
        weights = load_file(run / "model.safetensors")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        reason = f"its config.json has no {error}" if isinstance(error, KeyError) else error
        raise DataError(f"{run}: not a finished run of `hgraph train` ({reason})") from error
    loaded = load(dataset or source, root=root, seed=seed)
    teacher = Teacher.HGNN if model is Model.MLP else Teacher(model.value)
    data = prepare(loaded, teacher, setting, seed).to(device_of(device))
    network = network_of(model, data, seed)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        wanted = f"{data.num_features} features and {data.num_classes} classes"
        raise DataError(f"{run}: its network does not fit {loaded.name!r} with {wanted} ({error})") from error
    figures, _ = figures_of(
        network.eval(), data, model, "default" if setting is Setting.TRANSDUCTIVE else setting.value
    )
    say(figures, {"dataset": loaded.name, "model": model.value, "setting": setting.value, "seed": seed}, as_json)
