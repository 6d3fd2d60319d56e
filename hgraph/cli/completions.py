"""`hgraph predict` for embeddings of triples: completes (head, relation, ?) and (?, relation, tail)."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hgraph.cli.common import LOG, check_file, device_of, written
from hgraph.cli.reading import TableOptions
from hgraph.cli.triples import KIND, load_run
from hgraph.errors import ArgumentError, DataError
from hgraph.files import writing
from hgraph.schema import parse

if TYPE_CHECKING:
    from hgraph.structure import KnowledgeGraph

__all__ = ["Query", "complete", "describe", "is_triples_run"]

_PARTS = ("head", "relation", "tail")
_UNKNOWN = ("", "?")
_SHOWN = 10  # names that --describe prints


@dataclass(frozen=True)
class Query:
    """The triple to complete, from the options, and the number of nodes to print."""

    head: str | None = None
    relation: str | None = None
    tail: str | None = None
    k: int | None = None

    def given(self) -> dict[str, Any]:
        """The options that are set."""
        return {name: value for name, value in vars(self).items() if value is not None}


def is_triples_run(run: Path) -> bool:
    """Whether a folder is a run of embeddings of triples."""
    try:
        config = parse((run / "config.json").read_bytes(), run / "config.json")
    except (OSError, ValueError, DataError):
        return False
    return isinstance(config, dict) and config.get("kind") == KIND


def complete(
    run: Path,
    rows: Path | None,
    query: Query,
    reading: TableOptions,
    *,
    out: Path | None,
    device: str,
    root: Path | None,
    as_json: bool,
) -> None:
    """Write the nodes that best complete the triples of a file, or the triple of the options.

    Raises:
        ArgumentError: both a file and the options, neither of them, or an unknown name.
        DataError: a row without a relation, or with both head and tail, or neither; the message gives the line number.
    """
    from hgraph.train import complete_triples

    if out is not None and str(out) != "-":
        check_file("out", out, *([] if rows is None else [rows]), run=run)
    _check_one_source(rows, query)
    network, split, _ = load_run(run, root)
    kg = split.train
    queries = [_numbers(kg, (query.head, query.relation, query.tail))] if rows is None else _read(kg, rows, reading)
    import torch

    asked = torch.tensor(queries, dtype=torch.long).reshape(-1, 3)
    found = complete_triples(network.to(device_of(device)), asked, split.known(), top_k=query.k or 10)
    lines = _lines(kg, queries, found.nodes.tolist(), found.scores.tolist())
    sign = reading.delimiter or ("\t" if out is not None and out.suffix.lower() == ".tsv" else ",")
    _write(lines, out, rows, run, as_json, sign)
    LOG.info("%s queries completed; known triples are left out", f"{len(queries):,}")


def describe(run: Path, root: Path | None, as_json: bool) -> None:
    """Print the names that a query may contain."""
    _, split, _ = load_run(run, root)
    kg = split.train
    nodes, relations = (list(names or map(str, range(n))) for names, n in (
        (kg.node_names, kg.num_nodes), (kg.relation_names, kg.num_relations),
    ))  # fmt: skip
    if as_json:
        typer.echo(json.dumps({"columns": list(_PARTS), "relations": relations, "num_nodes": len(nodes)}))
        return
    some, more = ", ".join(relations[:_SHOWN]), len(relations) - _SHOWN
    typer.echo(f"head      one of {len(nodes):,} nodes, such as {nodes[0]}; empty or ? if it is to be found")
    typer.echo(f"relation  {some}" + (f", ... ({len(relations):,} in total)" if more > 0 else ""))
    typer.echo("tail      as head; exactly one of the two must be empty or ?")


def _check_one_source(rows: Path | None, query: Query) -> None:
    names = {name: value for name, value in query.given().items() if name != "k"}
    if rows is not None and names:
        raise ArgumentError(next(iter(names)), "no value together with a file of triples", str(rows))
    if rows is None and (query.relation is None or (query.head is None) == (query.tail is None)):
        got = " and ".join(f"--{name}" for name in names) or "none"
        hint = "You can also pass a file with the columns head, relation and tail, where either head or tail is empty"
        raise ArgumentError("rows", "--head and --relation, or --relation and --tail", got, hint)


def _numbers(kg: KnowledgeGraph, names: tuple[str | None, ...]) -> tuple[int, int, int]:
    head, relation, tail = names
    return _id(kg, head), _id(kg, relation, relation=True), _id(kg, tail)


def _id(kg: KnowledgeGraph, name: str | None, *, relation: bool = False) -> int:
    """The number of a node or relation; -1 for None."""
    if name is None:
        return -1
    known = kg.relation_names if relation else kg.node_names
    find = kg.relation_of if relation else kg.node
    return find(name if known is not None or not name.isdecimal() else int(name))


def _read(kg: KnowledgeGraph, rows: Path, reading: TableOptions) -> list[tuple[int, int, int]]:
    from hgraph.datasets import read_table
    from hgraph.datasets.tables.roles import Roles
    from hgraph.datasets.tables.table import wrong

    table = read_table(rows, delimiter=reading.delimiter)
    roles = Roles(table, reading.columns)
    roles.need("relation")
    names = [roles.find(part) for part in _PARTS]
    columns = [[""] * table.num_rows if name is None else table[name].cells() for name in names]
    queries = []
    for row, cells in enumerate(zip(*columns, strict=True)):
        head, relation, tail = (None if cell in _UNKNOWN else cell for cell in cells)
        if relation is None or (head is None) == (tail is None):
            expected = "a relation and either a head or a tail; the other is empty or ?"
            raise wrong(table.place(row), expected, ", ".join(map(repr, cells)))
        try:
            queries.append(_numbers(kg, (head, relation, tail)))
        except ArgumentError as error:
            raise DataError(f"{table.place(row)}: {error}") from error
    return queries


def _lines(kg: KnowledgeGraph, queries: Any, nodes: Any, scores: Any) -> Iterator[dict[str, Any]]:
    def name(names: Any, number: int) -> str:
        return str(number) if names is None else names[number]

    for (head, relation, tail), best, values in zip(queries, nodes, scores, strict=True):
        for rank, (node, score) in enumerate(zip(best, values, strict=True), 1):
            if node >= 0:
                ends = (node if head < 0 else head, node if tail < 0 else tail)
                yield {
                    "head": name(kg.node_names, ends[0]),
                    "relation": name(kg.relation_names, relation),
                    "tail": name(kg.node_names, ends[1]),
                    "found": "head" if head < 0 else "tail",
                    "rank": rank,
                    "score": score,
                }


def _write(
    lines: Iterator[dict[str, Any]], out: Path | None, rows: Path | None, run: Path, as_json: bool, sign: str
) -> None:
    header = [*_PARTS, "found", "rank", "score"]
    if out is not None and out.suffix.lower() in (".parquet", ".pq"):
        import pyarrow
        import pyarrow.parquet

        content = list(lines)
        table = pyarrow.table({name: [line[name] for line in content] for name in header})
        with writing(out, "wb") as file:
            pyarrow.parquet.write_table(table, file)
        return
    with written(out, *([] if rows is None else [rows]), run=run) as file:
        if as_json:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            return
        writer = csv.writer(file, delimiter=sign, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([*list(line.values())[:-1], f"{line['score']:.6g}"] for line in lines)
