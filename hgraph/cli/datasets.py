"""`hgraph datasets list|info`."""

from __future__ import annotations

import dataclasses
import json
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgraph.cli.common import JsonOption, QuietOption, RootOption, check_picture, plain_errors
from hgraph.errors import ArgumentError, did_you_mean

if TYPE_CHECKING:
    from hgraph.data import Data, Dataset
    from hgraph.datasets import Card
    from hgraph.structure import Statistics

app = typer.Typer(help="List, inspect and build data sets. Example: hgraph datasets list", no_args_is_help=True)


@app.command("list", epilog="Example: hgraph datasets list --json")
@plain_errors
def list_(
    task: Annotated[
        str | None, typer.Option(help='Only data sets for this task, such as "node classification".')
    ] = None,
    root: RootOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List the data sets with kind, task, sizes, download size, terms and files.

    Terms: "free" means that the license allows redistribution, "ask" that it does not or that none is stated.
    Files: "built in": included in an installed package; "here": already on this machine; "-": downloaded on first use.
    """
    from hgraph import datasets

    cards = [datasets.info(name) for name in datasets.names()]
    if task is not None:
        tasks = sorted({card.task for card in cards})
        if task not in tasks:
            raise ArgumentError("task", f"one of {', '.join(tasks)}", repr(task), did_you_mean(task, tasks))
        cards = [card for card in cards if card.task == task]
    if as_json:
        fields = ("name", "description", "kind", "task", "sizes", "download", "license", "redistribute")
        typer.echo(json.dumps([{f: getattr(c, f) for f in fields} | {"cached": _is_local(c, root)} for c in cards]))
        return
    rows: list[tuple[str, ...]] = [("name", "kind", "task", "sizes", "download", "terms", "files")]
    rows += [_row(card, root) for card in cards]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command("info", epilog="Example: hgraph datasets info karate --out karate.png")
@plain_errors
def info(
    name: Annotated[str, typer.Argument(help="Name of a data set, or a folder of your own data.")],
    out: Annotated[Path | None, typer.Option(help="Write histograms to this file (.png, .svg or .pdf).")] = None,
    root: RootOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show the properties of a data set, and statistics of its structure if its files are on this machine.

    With --out, missing files are downloaded.
    """
    from hgraph import datasets

    card = datasets.info(name)
    if out is not None:
        check_picture("out", out)
    loaded = datasets.load(name, root) if out is not None or _is_local(card, root) else None
    found = None if loaded is None else _measured(loaded)
    if out is not None and found is None:
        raise ArgumentError("out", "a data set of graphs or hypergraphs", f"{name!r}, whose kind is {card.kind}")
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(card) | {"measured": None if found is None else found.as_dict()}))
    else:
        _print_card(card)
        _print_measured(found, loaded, name)
    if found is not None and out is not None:
        from hgraph.files import write_atomically

        write_atomically(out, _picture(found, name, out.suffix[1:]))


# ---------------------------------------------------------------------- local files and statistics


def _is_local(card: Card, root: Path | None) -> bool:
    """Whether every file of the data set is below the root, so that loading needs no network."""
    from hgraph.datasets.download import data_root

    if card.download is None:
        return False  # the files are not known before the download
    return all((data_root(root) / file).is_file() for file in card.files)


def _measured(dataset: Dataset[Any]) -> Statistics | None:
    """Statistics of one structure or of a batch of all; None for tables, triples, texts and images."""
    from hgraph.data import Data, collate
    from hgraph.structure import Graph, Hypergraph, statistics

    if not len(dataset) or not isinstance(first := dataset[0], Data):
        return None
    if not isinstance(first.structure, (Graph, Hypergraph)):
        return None
    data: Data = first if len(dataset) == 1 else collate(list(dataset))
    labels = data.y if data.target == "node" and data.y.dim() == 1 and not data.y.is_floating_point() else None
    return statistics(data.structure, labels)


def _picture(found: Statistics, title: str, form: str) -> bytes:
    import io

    content = io.BytesIO()
    found.draw(title).savefig(content, format=form, dpi=150)
    return content.getvalue()


# ---------------------------------------------------------------------- printing


def _row(card: Card, root: Path | None) -> tuple[str, ...]:
    main = [k for k in card.sizes if k not in ("incidences", "features", "classes")]
    sizes = ", ".join(f"{card.sizes[k]:,} {k}" for k in main[:3])
    files = "built in" if card.download == 0 else "here" if _is_local(card, root) else "-"
    terms = "free" if card.redistribute else "ask"
    return card.name, card.kind, card.task, sizes, _bytes(card.download), terms, files


def _bytes(count: int | None) -> str:
    if not count:
        return "-" if count == 0 else "?"
    return (
        f"{count / 1e9:.1f} GB"
        if count >= 1e9
        else f"{count / 1e6:.1f} MB"
        if count >= 1e5
        else f"{count / 1e3:.1f} kB"
    )


def _print_card(card: Card) -> None:
    lines = {
        "name": card.name,
        "description": card.description,
        "kind": card.kind,
        "task": card.task,
        "target": ", ".join(f"{k} {v}" for k, v in card.target_spec.items()),
        "sizes": ", ".join(f"{number:,} {what}" for what, number in card.sizes.items()),
        "license": card.license,
        "redistribute": "allowed under this license"
        if card.redistribute
        else "not allowed by any stated terms, also not for works derived from it",
        "citation": card.citation,
        "options": ", ".join(f"{k}={v!r}" for k, v in card.options.items()) or "none",
        "download": f"{_bytes(card.download)} in {len(card.files)} file(s)"
        if card.files
        else "none"
        if card.download == 0
        else "an archive of unknown size",
    }
    for key, value in lines.items():
        _print_field(key, value)
    for i, caveat in enumerate(card.caveats):
        _print_field("" if i else "caveats", f"- {caveat}")


def _print_measured(found: Statistics | None, loaded: Dataset[Any] | None, name: str) -> None:
    if loaded is None:
        _print_field("measured", f"nothing; hgraph.datasets.load({name!r}) downloads the files")
        return
    if found is None:
        _print_field("measured", f"{len(loaded):,} example(s)")
        return
    counts = {k: v for k, v in found.counts.items() if k != "directed"}
    counted = ", ".join(f"{number:,} {what.replace('_', ' ')}" for what, number in counts.items())
    _print_field("measured", counted + (", directed" if found.counts.get("directed") else ""))
    values = found.as_dict()
    for what in ("degree", "hyperedge_size"):
        if what in values:
            m = values[what]
            text = f"min {m['min']}, mean {m['mean']:.3f}, median {m['median']}, max {m['max']}"
            _print_field(what.replace("_", " ").replace("hyperedge size", "size"), text)
    if found.homophily is not None and found.chance is not None:
        _print_field(
            "homophily", f"{found.homophily:.3f} of connected pairs have equal labels; random pairs: {found.chance:.3f}"
        )
        _print_field("classes", " ".join(map(str, found.class_sizes or ())))


def _print_field(key: str, text: str) -> None:
    """Print an aligned field, wrapped to the width of the terminal."""
    width = max(60, min(120, shutil.get_terminal_size().columns))
    indent = " " * 13
    typer.echo(
        textwrap.fill(text, width, initial_indent=key.ljust(13), subsequent_indent=indent, break_on_hyphens=False)
    )
