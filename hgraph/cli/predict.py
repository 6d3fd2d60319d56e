"""`hgraph predict`: predictions of a student or of the trained network."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hgraph.cli.common import LOG, QuietOption, RootOption, check_file, device_of, plain_errors
from hgraph.cli.completions import Query, complete, is_triples_run
from hgraph.cli.completions import describe as describe_triples
from hgraph.cli.node_runs import class_names
from hgraph.cli.numbers import whole
from hgraph.cli.predictions import prediction_writer
from hgraph.cli.reading import ColumnOption, DecimalOption, MissingOption, TableOptions
from hgraph.cli.students import Program, ProgramOption, predictor_of, student_of
from hgraph.cli.teachers import structure_for
from hgraph.cli.towers import is_run
from hgraph.cli.trained import RunSettings, check_run, config_of, encode_for_run, load_weights, read_settings, source_of
from hgraph.errors import ArgumentError, DataError
from hgraph.schema import naming

if TYPE_CHECKING:
    from torch import Tensor

    from hgraph.data import Data
    from hgraph.distill import Predictor
    from hgraph.train import NodeTask

RunArgument = Annotated[
    Path, typer.Argument(help="Folder written by `hgraph train`, `hgraph distill` or `hgraph export`.")
]
_MAX_SHOWN = 10  # categories per column that --describe prints


@plain_errors
def predict(
    run: RunArgument,
    rows: Annotated[
        Path | None,
        typer.Argument(
            help="CSV or Parquet file of rows, or of triples to complete; default: the unlabeled nodes of the data set."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write (.csv, .tsv or .parquet); default: standard output.")
    ] = None,
    proba: Annotated[bool, typer.Option("--proba", help="Also write the probability of every class.")] = False,
    key: Annotated[
        str | None,
        typer.Option("--id", help="Column of ids to copy to the output; default: id, node or node_id, if present."),
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="Delimiter of input and output; default: that of the input, else a comma.")
    ] = None,
    hyperedges: Annotated[
        Path | None,
        typer.Option(help="Hyperedges of new nodes; the rows are then predicted by the network, not by a student."),
    ] = None,
    edges: Annotated[
        Path | None, typer.Option(help="Edges of new nodes; the rows are then predicted by the network.")
    ] = None,
    column: ColumnOption = None,
    decimal: DecimalOption = None,
    missing: MissingOption = None,
    head: Annotated[
        str | None, typer.Option(help="For a run on triples: the head whose tails are to be found; needs --relation.")
    ] = None,
    relation: Annotated[str | None, typer.Option(help="For a run on triples: the relation.")] = None,
    tail: Annotated[
        str | None, typer.Option(help="For a run on triples: the tail whose heads are to be found; needs --relation.")
    ] = None,
    k: Annotated[
        int | None, whole("-k", help="For a run on triples: number of nodes found per triple; default 10.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Other data with the same columns; its unlabeled nodes are predicted.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Without rows: also predict labeled nodes.")] = False,
    describe: Annotated[bool, typer.Option("--describe", help="Print the columns that a row needs, and exit.")] = False,
    program: ProgramOption = None,
    device: Annotated[str, typer.Option(help="Device of the network: cpu, cuda or cuda:0.")] = "cpu",
    root: RootOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print predictions as JSON, one object per line.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Predict the labels of nodes: rows of a file, nodes of a data set, or new nodes with their hyperedges.

    The student of a run of `hgraph distill` predicts the rows of a file of any length in bounded memory. Without rows,
    the trained network (for `hgraph distill`: the teacher) predicts the unlabeled nodes of its data set. With rows and
    --hyperedges or --edges, the trained network predicts new nodes, which may be connected to known nodes.

    The output has one row per input row, in order (without rows: one per predicted node), with the columns id (if
    present), label and probability. For regression, a column `prediction` replaces label and probability; for several
    labels per node, a column `labels` replaces them.

    A run on triples (transe, rotate and the like) completes triples. Pass a file with the columns head, relation and
    tail, in which either the head or the tail is empty or ?, or pass one triple by --relation and either --head or
    --tail. The -k best nodes are written with their scores, except those that form a known triple.

    A file given with --out appears only when it is complete. The number of unknown categories is printed to stderr.
    """
    reading = TableOptions.of(column, delimiter, decimal, missing)
    query = Query(head, relation, tail, k)
    if is_triples_run(run):
        others = {"proba": proba, "id": key, "hyperedges": hyperedges, "edges": edges, "dataset": dataset}
        _reject(
            others | {"all": every, "program": program, "decimal": decimal, "missing": missing},
            "a run on triples only completes triples",
        )
        if describe:
            describe_triples(run, root, as_json)
            return
        complete(run, rows, query, reading, out=out, device=device, root=root, as_json=as_json)
        return
    _reject(query.given(), "only a run on triples completes triples")
    if describe:
        _describe(run, as_json)
        return
    links = {"hyperedges": hyperedges, "edges": edges}
    if hyperedges is not None and edges is not None:
        raise ArgumentError("edges", "either --hyperedges or --edges", "both")
    has_links = hyperedges is not None or edges is not None
    if has_links and rows is None:
        raise ArgumentError("rows", "a file of the new nodes, in addition to their hyperedges or edges", "none")
    inputs = [path for path in (rows, hyperedges, edges) if path is not None]
    if out is not None and str(out) != "-":
        check_file("out", out, *inputs, run=run)
    if rows is not None and not has_links and not _is_without_student(run):
        if dataset is not None or every:
            raise ArgumentError(
                "dataset" if every is False else "all", "no file of rows together with this option", str(rows)
            )
        predictor = predictor_of(run, program)
        named = dict(reading.columns)
        if predictor.ids and key is not None:
            named, key = {"id": key} | named, None
        if key is None and "id" not in predictor.columns:
            key = named.pop("id", None)
        known = () if predictor.encoder is None else predictor.encoder.missing
        predictor.reading(columns=named, decimal=decimal, missing=reading.missing_with(known))
        task, classes = predictor.task, predictor.classes
        blocks = _student_blocks(predictor, rows, key, delimiter)
    else:
        predictor = None
        if key is not None:
            reading = dataclasses.replace(reading, columns=reading.columns | {"id": key})
        blocks, task, classes = _network_blocks(run, rows, links, reading, dataset, every, device, root, program)
    output_delimiter = delimiter or (_delimiter(rows) if rows is not None else ",")
    name = next(blocks)
    style: dict[str, Any] = {"proba": proba, "as_json": as_json, "delimiter": output_delimiter}
    with prediction_writer(out, task, classes, key=name, **style) as file:
        for ids, predicted in blocks:
            file.add(predicted, ids)
        count = file.count
    LOG.info("%s rows predicted", f"{count:,}")
    if predictor is not None:
        _warn_unseen(predictor)


def _reject(given: dict[str, Any], reason: str) -> None:
    for name in (name for name, value in given.items() if value not in (None, False)):
        raise ArgumentError(name, f"no value, because {reason}", "a value")


def _is_without_student(run: Path) -> bool:
    """Whether a run has a network but no student."""
    if any((folder / "student.json").is_file() for folder in (run, run / "student")) or is_run(str(run)):
        return False
    return (run / "model.safetensors").is_file()


def _delimiter(rows: Path) -> str:
    from hgraph.distill.serving.predictor import delimiter_of

    return delimiter_of(rows)


# ---------------------------------------------------------------------- a student

Blocks = Iterator[Any]  # first the name of the id column or None, then blocks of (ids, predictions)


def _student_blocks(predictor: Predictor, rows: Path, key: str | None, delimiter: str | None) -> Blocks:
    found = predictor.blocks(rows, delimiter=delimiter)
    first = next(found, None)
    names = [] if first is None else list(first[0])
    if key is not None and first is not None and key not in names:
        raise ArgumentError("id", f"a column of {rows}: {names}", repr(key))
    name = key if key is not None else _default_id(names, () if predictor.ids else predictor.columns)
    if name is None and first is not None and (others := [n for n in names if n not in predictor.columns]):
        LOG.info("no column of ids was found, so predictions are in the order of the rows; choose one of %s with "
                 "--column id=NAME", ", ".join(others[:10]))  # fmt: skip
    yield name
    for columns, probabilities in itertools.chain([] if first is None else [first], found):
        yield None if name is None else list(columns[name]), probabilities


def _default_id(names: Iterable[str], features: Iterable[str]) -> str | None:
    from hgraph.datasets.tables.roles import ROLES

    used = set(features)
    found = [name for name in names if name.lower() in ROLES["id"] and name not in used]
    return found[0] if len(found) == 1 else None


def _warn_unseen(predictor: Predictor) -> None:
    from hgraph.distill.serving.predictor import MOST_UNSEEN

    for column, counts in predictor.unseen.items():
        words = ", ".join(f"{word!r} {n:,} times" for word, n in list(counts.items())[:5])
        more = f" and {len(counts) - 5:,} more" if len(counts) > 5 else ""
        number = f"{len(counts):,}{' or more' if len(counts) >= MOST_UNSEEN else ''} categories"
        what = predictor.encoder.describe_unknown(column)
        LOG.warning("column %r: %s %s, encoded as no category: %s%s", column,
                    "a category" if len(counts) == 1 else number, what, words, more)  # fmt: skip


# ---------------------------------------------------------------------- the trained network


def _network_blocks(
    run: Path,
    rows: Path | None,
    links: dict[str, Path | None],
    reading: TableOptions,
    dataset: str | None,
    every: bool,
    device: str,
    root: Path | None,
    program: Program | None,
) -> tuple[Blocks, NodeTask, tuple[str, ...]]:
    """The predictions of the network, the task, and the names of the classes."""
    import torch

    from hgraph import datasets
    from hgraph.cli.inductive import joins_neighbors, with_new_nodes
    from hgraph.data.labels import labeled

    if is_run(str(run)):
        student_of(run)  # raises an error that names the right command
    if program is not None:
        raise ArgumentError(
            "program", "no value, because the trained network predicts", program.value, "Only a student has formats"
        )
    check_run(run)
    if not (run / "config.json").is_file():
        raise ArgumentError("rows", "a file of rows", "none", f"{run} contains an exported student but no data set")
    settings = read_settings(run, config_of(run))
    place, where = source_of(run, settings, dataset), device_of(device)
    with nullcontext() if dataset is not None else naming("source", run / "config.json"):
        card = datasets.info(place)
        options: dict[str, Any] = {"seed": settings.seed} if "seed" in card.options else {}
        loaded = datasets.load(place, root=root, **options)
    if settings.model.data == "knowledge graph" and (dataset is not None or rows is not None):
        name, given = ("dataset", dataset) if rows is None else ("rows", rows)
        hint = (
            "Add new nodes and their triples to the tables, and build and train again; `hgraph distill RUN` trains a "
        )
        hint += "student that needs only rows"
        expected = f"no value, because {settings.model.title} has weights only for the relations of its own data set"
        raise ArgumentError(name, expected, str(given), hint)
    data = _without_classes(run, loaded[0])
    data = encode_for_run(run, data, dataset, settings.source, root, settings.seed)
    name = "teacher" if settings.distilled else "model"
    sizes = data
    if settings.model.data == "knowledge graph":
        sizes = dataclasses.replace(data, structure=structure_for(settings.model, data))  # type: ignore[arg-type]
    network = load_weights(settings.networks(sizes)[name], run, name, data, place)
    classes = tuple(class_names(data))
    kind = settings.model.data
    if rows is not None and kind != "features" and not any(links.values()) and not joins_neighbors(data):
        raise ArgumentError("hyperedges", "--hyperedges or --edges of the new nodes", "none", _no_links(run))
    chosen = torch.ones(data.num_nodes, dtype=torch.bool) if every else ~labeled(data.y) & _may_have_labels(data)
    if rows is not None:
        known = data.num_nodes
        data = with_new_nodes(data, rows, links, reading)
        chosen = torch.arange(data.num_nodes) >= known
    if not bool(chosen.any()):
        raise ArgumentError(
            "rows", "nodes without a label", "none in the data set", "Pass --all to predict labeled nodes, too"
        )
    predicted = settings.task.activate(_outputs(network, data, settings, where)[chosen])
    names = data.meta.get("node_names")
    at = chosen.nonzero().flatten().tolist()
    ids: list[Any] = [str(i if names is None else names[i]) for i in at]
    if data.meta.get("node_name_type") == "integer":  # as in the table of the nodes
        ids = [int(name) for name in ids]
    key = reading.columns.get("id") or dict(data.meta.get("columns") or {}).get("id", "id")
    return iter([key, (ids, predicted)]), settings.task, classes


def _may_have_labels(data: Data) -> Tensor:
    """[N] whether some node of the same type has a label, as papers but not authors; True if there are no types."""
    import torch

    from hgraph.data.labels import labeled

    types = data.meta.get("node_type")
    if types is None:
        return torch.ones(data.num_nodes, dtype=torch.bool)
    found = torch.isin(types, types[labeled(data.y)])
    if bool((~found).any()):
        LOG.info("%s nodes are left out, because no node of their type has a label; --all predicts them, too",
                 f"{int((~found).sum()):,}")  # fmt: skip
    return found


def _without_classes(run: Path, data: Data) -> Data:
    """The data; if it has no labels at all, with the class names of the run."""
    from hgraph.data.labels import labeled
    from hgraph.datasets import Inputs

    found = Inputs.load(run) or Inputs.load(run / "student")
    if found is None or bool(labeled(data.y).any()):
        return data
    return dataclasses.replace(data, meta={**data.meta, "class_names": found.class_names})


def _no_links(run: Path) -> str:
    student = run / "student"
    if (student / "student" / "student.json").is_file():
        return f"{run} is a network that needs a structure; for its student, which needs only rows, pass {student}"
    return f"{run} is a network that needs a structure; `hgraph distill {run}` trains a student that needs only rows"


def _outputs(network: Any, data: Data, settings: RunSettings, where: Any) -> Tensor:
    import torch

    structure = structure_for(settings.model, data)
    inputs = (data.x.to(where), *(() if structure is None else (structure.to(where),)))
    with torch.inference_mode():
        return network.to(where).eval()(*inputs).cpu()


# ---------------------------------------------------------------------- the columns of a row


def _describe(run: Path, as_json: bool) -> None:
    from hgraph.datasets import Inputs

    try:
        predictor = predictor_of(run, None)
        encoder, features, classes = predictor.encoder, predictor.feature_names, predictor.classes
        classes, ids = classes if predictor.task.has_classes else (), predictor.ids
    except DataError:
        found = None if is_run(str(run)) else Inputs.load(run)
        if found is None:
            raise
        encoder, features, classes, ids = found.encoder, found.feature_names or (), found.class_names or (), ()
    columns = columns_of(encoder, features)
    if ids:
        columns = {"id": {"kind": f"one of {len(ids):,} nodes, such as {ids[0]}"}}
    if as_json:
        typer.echo(json.dumps({"columns": columns, "classes": list(classes)}))
        return
    for name, column in columns.items():
        words = column.get("categories", [])
        more = f", ... ({len(words)} in total)" if len(words) > _MAX_SHOWN else ""
        text = f": {', '.join(words[:_MAX_SHOWN])}{more}" if words else ""
        typer.echo(f"{name}  {column['kind']}{text}")
    typer.echo(f"classes: {', '.join(map(str, classes))}" if classes else "prediction: a number")


def columns_of(encoder: Any, features: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Column -> kind and, for categorical columns, categories; without an encoder all features are numeric."""
    if encoder is None:
        return {name: {"kind": "numeric"} for name in features}
    return {
        c.name: {"kind": c.kind} | ({"categories": list(c.words)} if c.kind == "categorical" else {})
        for c in encoder.codings
    }
