"""`hgraph reproduce`: runs a published experiment and compares the results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hgraph.cli.common import LOG, JsonOption, QuietOption, RootOption, device_of, plain_errors
from hgraph.cli.numbers import whole
from hgraph.cli.runs import check_folder, running


@plain_errors
def reproduce(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe; `hgraph reproduce list` names them.")],
    out: Annotated[
        Path | None, typer.Option(help="Run folder; default runs/<recipe>. An existing run is resumed.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Data set or model of the recipe to run; repeatable.")] = None,
    seeds: Annotated[int | None, whole(high=10_000, help="Run seeds 0 to SEEDS-1; default: set by the recipe.")] = None,
    epochs: Annotated[int | None, whole(help="Epochs of each training; default: set by the recipe.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:0.")] = "cpu",
    root: RootOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a published experiment and compare the results with the published ones.

    Each result is saved when it is ready; the same command resumes a stopped run.
    """
    from hgraph import recipes

    if recipe == "list":
        titles = {name: recipes.published(name)["title"] for name in recipes.names()}
        typer.echo(json.dumps(titles) if as_json else "\n".join(f"{k}  {title}" for k, title in titles.items()))
        return
    recipes.published(recipe)
    folder = out or Path("runs") / recipe
    check_folder(folder)
    options = {"only": only or (), "seeds": seeds, "epochs": epochs, "device": device_of(device), "root": root}
    with running(folder, {"recipe": recipe}, overwrite=False):
        report = recipes.reproduce(recipe, folder, progress=LOG.info, **options)
    if as_json:
        results = map(json.loads, (folder / "results.jsonl").read_text(encoding="utf-8").splitlines())
        typer.echo(json.dumps({"recipe": recipe, "report": str(report), "results": list(results)}))
    else:
        typer.echo(report.read_text(encoding="utf-8"))
