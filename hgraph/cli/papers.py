"""`hgraph papers`: lists the implemented papers and their status."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from hgraph.cli.common import JsonOption, QuietOption, plain_errors
from hgraph.errors import ArgumentError, did_you_mean


@plain_errors
def papers(
    name: Annotated[str | None, typer.Argument(help="Number, or part of a name; default: all papers.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List the papers of the library with their status, or show the modules, tests and results of one paper."""
    from hgraph.papers import papers as listed

    found = listed()
    if name is not None:
        found = [p for p in found if p["id"] == name.zfill(2) or name.lower() in p["name"].lower()]
        if not found:
            hint = did_you_mean(name, [word for p in listed() for word in p["name"].split()])
            raise ArgumentError("name", "a number 01 .. 40 or a part of a paper's name", repr(name), hint)
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
    elif name is None:
        places = (f" (arXiv {p['arxiv']})" if "arxiv" in p else "" for p in found)
        typer.echo(
            "\n".join(f"{p['id']}  {p['status']:8} {p['name']}{at}" for p, at in zip(found, places, strict=True))
        )
    else:
        typer.echo("\n\n".join("\n".join(f"{key}: {value}" for key, value in p.items()) for p in found))
