"""`hgraph datasets ...`."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from hgraph.cli.common import JsonOption, plain_errors

app = typer.Typer(help="The data sets hgraph knows. Example: hgraph datasets list", no_args_is_help=True)


@app.command("list", epilog="Example: hgraph datasets list --json")
@plain_errors
def list_(as_json: JsonOption = False) -> None:
    """List the names of the data sets."""
    from hgraph import datasets

    names = list(datasets.names())
    typer.echo(json.dumps(names) if as_json else "\n".join(names))


@app.command("info", epilog="Example: hgraph datasets info digits")
@plain_errors
def info(name: Annotated[str, typer.Argument(help="Name of a data set.")], as_json: JsonOption = False) -> None:
    """Show a data set's card: task, sizes, licence, citation, quirks."""
    from hgraph import datasets

    card = dataclasses.asdict(datasets.info(name))
    if as_json:
        typer.echo(json.dumps(card))
        return
    width = max(map(len, card))
    for key, value in card.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {number}" for name, number in value.items())
        elif isinstance(value, (list, tuple)):
            value = " ".join(map(str, value))
        typer.echo(f"{key.ljust(width)}  {value}")
