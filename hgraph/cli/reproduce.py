"""`hgraph reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hgraph.cli.common import RootOption, check_folder, plain_errors


@plain_errors
def reproduce(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe; `hgraph reproduce list` names them.")],
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/<recipe>. Continued if it exists.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="A data set of the recipe; may be repeated.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds 0 .. SEEDS-1; default the recipe's.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Steps of each training.")] = 200,
    root: RootOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No notes on stderr.")] = False,
) -> None:
    """Run a published experiment again and set its figures beside the published ones.

    Results are kept as they come: a run that was stopped goes on where it was.
    """
    from hgraph import recipes

    if recipe == "list":
        for name in recipes.names():
            typer.echo(f"{name}  {recipes.published(name)['title']}")
        return
    recipes.published(recipe)
    folder = out or Path("runs") / recipe
    check_folder(folder)

    def note(text: str) -> None:
        if not quiet:
            typer.echo(text, err=True)

    options = {"only": only or (), "seeds": seeds, "epochs": epochs, "root": root, "progress": note}
    typer.echo(recipes.reproduce(recipe, folder, **options).read_text(encoding="utf-8"))
