"""`hgraph datasets build`."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgraph.cli.common import JsonOption, QuietOption, plain_errors
from hgraph.cli.numbers import SEEDS, whole
from hgraph.cli.reading import ColumnOption, DecimalOption, DelimiterOption, MissingOption, TableOptions, pairs
from hgraph.errors import ArgumentError

if TYPE_CHECKING:
    from hgraph.data import Data, Dataset


class Split(Enum):
    """How nodes are divided into train, validation and test."""

    STRATIFIED = "stratified"
    TEMPORAL = "temporal"
    GIVEN = "given"


class Duplicates(Enum):
    """What to do with pairs that appear more than once."""

    ERROR = "error"
    SUM = "sum"
    FIRST = "first"


class Task(Enum):
    """Kind of the label."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class Metric(Enum):
    """Distances of features."""

    EUCLIDEAN = "euclidean"
    COSINE = "cosine"


@plain_errors
def build(
    out: Annotated[
        Path | None,
        typer.Option(help="New folder for the data set (required); with --force it may hold an older data set."),
    ] = None,
    nodes: Annotated[
        Path | None, typer.Option(help="CSV or Parquet with one row per node and a column of ids.")
    ] = None,
    hyperedges: Annotated[
        Path | None,
        typer.Option(
            help="CSV or Parquet with columns node,hyperedge[,weight][,time] or [hyperedge,]members, "
            "or a JSON file (HIF, XGI)."
        ),
    ] = None,
    edges: Annotated[
        Path | None,
        typer.Option(
            help="CSV or Parquet with columns source,target[,weight][,time] or head,relation,tail, or a .graphml, .gml "
            "or .nt file."
        ),
    ] = None,
    node_type: Annotated[
        str | None, typer.Option(help="With triples: column of the nodes file with the type of each node, used by hgt.")
    ] = None,
    knn: Annotated[
        int | None,
        whole(help="Number of neighbors: one hyperedge per node joins it with the nodes of the nearest features."),
    ] = None,
    metric: Annotated[Metric | None, typer.Option(help="Distance of --knn; default euclidean.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="Column of the nodes file to predict; for several labels per node, repeat it with columns of 1/0 or "
            "yes/no."
        ),
    ] = None,
    column: ColumnOption = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--type", help="column=numeric|boolean|categorical|text|date|ignore, to correct an inferred type."
        ),
    ] = None,
    header: Annotated[
        str | None,
        typer.Option(
            help="Column names of a hyperedges or edges file without a header line, separated by commas: "
            "source,target for edge lists, members for lists of hyperedges."
        ),
    ] = None,
    missing: MissingOption = None,
    decimal: DecimalOption = None,
    delimiter: DelimiterOption = None,
    task: Annotated[
        Task | None, typer.Option(help="Default: regression for labels with fractions, else classification.")
    ] = None,
    directed: Annotated[bool, typer.Option("--directed", help="Messages flow from source to target only.")] = False,
    duplicates: Annotated[Duplicates, typer.Option(help="What to do with repeated pairs.")] = Duplicates.ERROR,
    separator: Annotated[
        str | None,
        typer.Option(
            help="Separator of members; default: the first that occurs of semicolon, bar, tab, comma and space."
        ),
    ] = None,
    split: Annotated[
        Split, typer.Option(help="How nodes are divided into train, validation and test.")
    ] = Split.STRATIFIED,
    split_column: Annotated[
        str | None, typer.Option(help="Column of times, or of the values train, val and test.")
    ] = None,
    shares: Annotated[str, typer.Option(help="Fractions of train, validation and test nodes.")] = "0.6,0.2,0.2",
    seed: Annotated[int, whole(low=0, high=SEEDS, help="Seed of the stratified split.")] = 0,
    license: Annotated[str, typer.Option(help="License of your data.")] = "not stated",
    redistribute: Annotated[
        bool, typer.Option("--redistribute", help="State that the license allows redistribution.")
    ] = False,
    citation: Annotated[str, typer.Option(help="Citation of your data.")] = "not stated",
    force: Annotated[bool, typer.Option("--force", help="Replace a data set in the folder.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Build a data set from your own tables; `hgraph train` and every other command accept the new folder.

    Columns of numbers, booleans, categories, dates and text become features. The encoder is fitted on the training
    nodes only and saved in the folder. The folder appears only when it is complete.
    """
    from hgraph.datasets import from_tables, read_table, save
    from hgraph.datasets.folder import check_place
    from hgraph.datasets.tables.hif import is_graph_file
    from hgraph.datasets.tables.kinds import MISSING

    reading = TableOptions.of(column, delimiter, decimal, missing)
    has_nodes = nodes is not None or hyperedges is not None or is_graph_file(edges)
    uses_columns = bool(label or kind or node_type) or split is not Split.STRATIFIED
    needed = {
        "--out": out is None,
        "--hyperedges, --edges or --knn": hyperedges is None and edges is None and knn is None,
        "--nodes": not has_nodes and (knn is not None or uses_columns),
        "--split-column": split_column is None and split is not Split.STRATIFIED,
    }
    if metric is not None and knn is None:
        raise ArgumentError("metric", "no value without --knn", metric.value)
    if out is None or any(needed.values()):
        raise _missing_options([name for name, asked in needed.items() if asked])
    place = check_place(out, force=force)
    links: dict[str, Any] = {"hyperedges": hyperedges, "edges": edges}
    if header is not None:
        options: dict[str, Any] = {"names": header.split(","), "delimiter": delimiter}
        links = {k: v if v is None else read_table(v, **options) for k, v in links.items()}
    dataset = from_tables(
        nodes,
        **links,
        label=label,
        columns=reading.columns,
        types=pairs("type", kind),
        task=None if task is None else task.value,
        directed=directed,
        duplicates=duplicates.value,
        separator=separator,
        node_type=node_type,
        knn=knn,
        metric="euclidean" if metric is None else metric.value,
        missing=reading.missing_with(MISSING) or MISSING,
        decimal=decimal,  # type: ignore[arg-type]
        delimiter=delimiter,
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
    summary = _summary(dataset, out)
    if as_json:
        typer.echo(json.dumps(summary))
        return
    for key, value in summary.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        typer.echo(f"{key.ljust(9)}  {text}")
    typer.echo(f"\nto train:  hgraph train {_argument(out)} --model {_model_for(dataset[0])}" if label else "")


def _model_for(data: Data) -> str:
    from hgraph.structure import Graph

    if "relation" in data.meta:
        return "hgt" if "node_type" in data.meta else "rgcn"
    return "gcn" if isinstance(data.structure, Graph) else "hgnn+"


def _missing_options(names: list[str]) -> ArgumentError:
    """Name all missing options at once, with a complete command as an example."""
    hint = "For example: hgraph datasets build --nodes nodes.csv --hyperedges he.csv --label y --out my-set"
    if "--hyperedges, --edges or --knn" in names:
        hint += ". To connect similar rows, pass --knn 10 instead of --hyperedges"
    return ArgumentError("options", ", ".join(names), "none of them" if len(names) > 1 else "none", hint)


def _summary(dataset: Dataset, out: Path) -> dict[str, Any]:
    from hgraph.data.labels import labeled

    data: Data = dataset[0]
    encoder = data.meta.get("encoder")
    summary: dict[str, Any] = {
        "folder": str(out),
        "structure": repr(data.structure),
        "task": dataset.task,
        "features": data.num_features,
        "columns": {} if encoder is None else {c.name: c.kind for c in encoder.codings},
    }
    # a column of dirty numbers becomes categories or text: this must not be lost in a long list of columns
    words = {} if encoder is None else {c.name: c for c in encoder.codings if c.kind in ("categorical", "text")}
    if words:
        what = {"categorical": "categories", "text": "words"}
        summary["as words"] = {name: f"({len(c.words):,} {what[c.kind]})" for name, c in words.items()}
    if data.meta.get("class_names"):
        if data.y.dim() > 1:
            counts = (data.y == 1).sum(0).tolist()
        else:
            counts = data.y[data.y >= 0].bincount(minlength=data.num_classes).tolist()
        summary["labels" if data.y.dim() > 1 else "classes"] = dict(zip(data.meta["class_names"], counts, strict=True))
    if dataset.target_spec.get("kind") != "none" and (missing := int((~labeled(data.y)).sum())):
        summary["no label"] = missing
    if "default" in data.splits:
        parts = data.split()
        summary["split"] = {name: len(getattr(parts, name)) for name in ("train", "val", "test")}
    return summary


def _argument(out: Path) -> str:
    """The folder as an argument that cannot be confused with the name of a listed data set."""
    from hgraph.datasets import names

    text = str(out)
    return text if "/" in text or text not in names() else f"./{text}"


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentError(name, "numbers separated by commas, such as 0.6,0.2,0.2", repr(text)) from None
