"""`hgraph datasets build`."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgraph.cli.common import JsonOption, QuietOption, plain_errors
from hgraph.cli.numbers import SEEDS, whole
from hgraph.errors import ArgumentError

if TYPE_CHECKING:
    from hgraph.data import Data, Dataset


class Split(Enum):
    """How nodes are divided into train, validation and test."""

    STRATIFIED = "stratified"
    TEMPORAL = "temporal"
    GIVEN = "given"


class Duplicates(Enum):
    """What a pair that stands twice means."""

    ERROR = "error"
    SUM = "sum"
    FIRST = "first"


class Task(Enum):
    """What is predicted."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


@plain_errors
def build(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write, required; there must be nothing, or with --force a data set."),
    ] = None,
    nodes: Annotated[Path | None, typer.Option(help="CSV or Parquet: one row a node, with its id.")] = None,
    hyperedges: Annotated[
        Path | None,
        typer.Option(
            help="CSV or Parquet with columns node,hyperedge[,weight][,time] or [hyperedge,]members; HIF JSON."
        ),
    ] = None,
    edges: Annotated[
        Path | None,
        typer.Option(help="CSV or Parquet with columns source,target[,weight][,time] or head,relation,tail."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="Column of the nodes to predict.")] = None,
    column: Annotated[list[str] | None, typer.Option(help="role=column where a column has another name.")] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--type", help="column=numeric|boolean|categorical|text|date|ignore where it is inferred wrong."),
    ] = None,
    header: Annotated[
        str | None,
        typer.Option(help="Columns of the hyperedges or edges file, by commas, where it has no header line."),
    ] = None,
    missing: Annotated[
        str | None,
        typer.Option(
            help="Cells that mean missing, by commas; '' is the empty cell alone. Default: NA, None, null, ..."
        ),
    ] = None,
    decimal: Annotated[str | None, typer.Option(help="Decimal sign of numbers, . or , (default .).")] = None,
    task: Annotated[Task | None, typer.Option(help="Default: regression for fractions, else classification.")] = None,
    directed: Annotated[bool, typer.Option("--directed", help="Edges are heard in one direction only.")] = False,
    duplicates: Annotated[Duplicates, typer.Option(help="What a repeated pair means.")] = Duplicates.ERROR,
    separator: Annotated[str | None, typer.Option(help="Between members; default ; or | or space.")] = None,
    split: Annotated[Split, typer.Option(help="How nodes are divided.")] = Split.STRATIFIED,
    split_column: Annotated[str | None, typer.Option(help="Column of times, or of the words train, val, test.")] = None,
    shares: Annotated[str, typer.Option(help="Of train, validation and test.")] = "0.6,0.2,0.2",
    seed: Annotated[int, whole(low=0, high=SEEDS, help="Draws the stratified split.")] = 0,
    license: Annotated[str, typer.Option(help="The terms of your data.")] = "not stated",
    redistribute: Annotated[bool, typer.Option("--redistribute", help="The terms allow passing it on.")] = False,
    citation: Annotated[str, typer.Option(help="Whom to cite.")] = "not stated",
    force: Annotated[bool, typer.Option("--force", help="Replace the data set that is there.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Build a data set from your own tables; `hgraph train` and every other command take its folder.

    Columns become features by what they hold: numbers, booleans, categories, dates, text. The encoder learns from the
    training nodes alone and is kept in the folder. The folder appears when it is whole.
    """
    from hgraph.datasets import from_tables, read_table, save
    from hgraph.datasets.folder import check_place

    needed = {
        "--out": out is None,
        "--hyperedges or --edges": hyperedges is None and edges is None,
        "--nodes": nodes is None and hyperedges is None and (bool(label or kind) or split is not Split.STRATIFIED),
        "--split-column": split_column is None and split is not Split.STRATIFIED,
    }
    if out is None or any(needed.values()):
        raise _missing_options([name for name, asked in needed.items() if asked])
    place = check_place(out, force=force)
    links: dict[str, Any] = {"hyperedges": hyperedges, "edges": edges}
    if header is not None:
        links = {k: v if v is None else read_table(v, names=header.split(",")) for k, v in links.items()}
    dataset = from_tables(
        nodes,
        **links,
        label=label,
        columns=_pairs("column", column),
        types=_pairs("type", kind),
        task=None if task is None else task.value,
        directed=directed,
        duplicates=duplicates.value,
        separator=separator,
        **({} if missing is None else {"missing": _missing(missing)}),
        decimal=decimal,  # type: ignore[arg-type]
        split=split.value,
        split_column=split_column,
        shares=_numbers("shares", shares),
        seed=seed,
        name=place.name,
        license=license,
        redistribute=redistribute,
        citation=citation,
    )
    save(dataset, place, force=force)
    facts = _facts(dataset, out)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for key, value in facts.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        typer.echo(f"{key.ljust(9)}  {text}")
    typer.echo(f"\ntrain it:  hgraph train {_argument(out)} --model {'gcn' if edges else 'hgnn+'}" if label else "")


def _missing_options(names: list[str]) -> ArgumentError:
    """All that is missing at once, with a whole command."""
    hint = "For example: hgraph datasets build --nodes nodes.csv --hyperedges he.csv --label y --out my-set"
    if "--hyperedges or --edges" in names:
        hint += ". To join similar rows, see hgraph.builders.knn_hypergraph"
    return ArgumentError("options", ", ".join(names), "none of them" if len(names) > 1 else "none", hint)


def _facts(dataset: Dataset, out: Path) -> dict[str, Any]:
    data: Data = dataset[0]
    encoder = data.meta.get("encoder")
    facts: dict[str, Any] = {
        "folder": str(out),
        "structure": repr(data.structure),
        "task": dataset.task,
        "features": data.num_features,
        "columns": {} if encoder is None else {c.name: c.kind for c in encoder.codings},
    }
    if data.meta.get("class_names"):
        counts = data.y[data.y >= 0].bincount(minlength=data.num_classes).tolist()
        facts["classes"] = dict(zip(data.meta["class_names"], counts, strict=True))
        if missing := int((data.y < 0).sum()):
            facts["no label"] = missing
    if "default" in data.splits:
        parts = data.split()
        facts["split"] = {name: len(getattr(parts, name)) for name in ("train", "val", "test")}
    return facts


def _argument(out: Path) -> str:
    """How a command names the folder so that it cannot be taken for a name."""
    from hgraph.datasets import names

    text = str(out)
    return text if "/" in text or text not in names() else f"./{text}"


def _pairs(name: str, texts: list[str] | None) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts or []]
    for key, sign, value in pairs:
        if not (key and sign and value):
            raise ArgumentError(name, "key=value", repr(key + sign + value))
    return {key: value for key, _, value in pairs}


def _missing(text: str) -> tuple[str, ...]:
    """The empty cell and the texts that were named."""
    return ("", *(part.strip() for part in text.split(",") if part.strip()))


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentError(name, "numbers by commas, as 0.6,0.2,0.2", repr(text)) from None
