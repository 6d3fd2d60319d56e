"""`hgraph reproduce`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hgraph.cli.common import LOG, JsonOption, QuietOption, RootOption, device_of, plain_errors
from hgraph.cli.numbers import whole
from hgraph.cli.runs import check_folder


@plain_errors
def reproduce(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe; `hgraph reproduce list` names them.")],
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/<recipe>. Continued if it exists.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="A data set of the recipe; may be repeated.")] = None,
    seeds: Annotated[int | None, whole(high=10_000, help="Seeds 0 .. SEEDS-1; default the recipe's.")] = None,
    epochs: Annotated[int, whole(help="Steps of each training.")] = 200,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:0.")] = "cpu",
    root: RootOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a published experiment again and set its figures beside the published ones.

    Results are kept as they come: a run that was stopped goes on where it was.
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
    report = recipes.reproduce(recipe, folder, progress=LOG.info, **options)
    if as_json:
        results = map(json.loads, (folder / "results.jsonl").read_text(encoding="utf-8").splitlines())
        typer.echo(json.dumps({"recipe": recipe, "report": str(report), "results": list(results)}))
    else:
        typer.echo(report.read_text(encoding="utf-8"))
