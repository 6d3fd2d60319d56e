"""Files with one edge or one hyperedge per line: SNAP's edge lists, and lists of members."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Literal

import torch

from hgraph.convert.converted import Converted
from hgraph.convert.triples import _text
from hgraph.errors import ArgumentError, DataError
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["read_edge_list", "read_hyperedges"]

_LOG = logging.getLogger("hgraph")


def read_edge_list(
    path: str | os.PathLike[str],
    *,
    directed: bool,
    delimiter: str | None = None,
    weighted: bool = False,
    duplicates: Literal["error", "sum", "keep"] = "error",
) -> Converted:
    r"""Read a list of edges as SNAP publishes them: source and target of one edge per line, after comments.

    Use it for edge lists without a header; `hgraph.datasets.from_tables` reads tables of edges with columns.

    Args:
        path: a file in UTF-8; lines that begin with ``#`` or ``%`` are comments.
        directed: if False, each missing reverse edge is added.
        delimiter: the string between fields; None separates at blanks and tabs.
        weighted: whether a third field is the weight of the edge.
        duplicates: what to do with repeated edges, as in `Graph.from_edge_index`.

    Returns:
        The `Graph`, with its ids as texts in ``node_ids``, in order of appearance.

    Raises:
        DataError: the file cannot be read, or a line has the wrong number of fields or no weight; the message gives
            the line number.
        ArgumentError: an empty delimiter, or repeated edges under ``"error"``.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "ca.txt").write_text("# FromNodeId\tToNodeId\n30\t10\n10\t20\n")
    ...     c = read_edge_list(f"{folder}/ca.txt", directed=True)
    >>> c.node_ids, c.structure.edge_index.tolist()
    (['30', '10', '20'], [[0, 1], [1, 2]])
    """
    index: dict[str, int] = {}
    ends: list[tuple[int, int]] = []
    weights: list[float] = []
    width = 3 if weighted else 2
    for number, fields in _fields(path, delimiter):
        if len(fields) != width or not all(fields):
            what = "source, target and weight" if weighted else "source and target"
            hint = "" if len(fields) != 3 or weighted else ". Pass weighted=True if the third is a weight"
            raise DataError(f"{path}, line {number}: expected {what}, got {len(fields)} field(s){hint}")
        ends.append((index.setdefault(fields[0], len(index)), index.setdefault(fields[1], len(index))))
        if weighted:
            weights.append(_number(fields[2], path, number))
    graph = Graph.from_edge_index(
        torch.tensor(ends, dtype=torch.long).reshape(-1, 2).T,
        num_nodes=len(index),
        directed=directed,
        weight=torch.tensor(weights) if weighted else None,
        duplicates=duplicates,
    )
    if graph.adj.weight is not None and not bool(graph.adj.weight.isfinite().all()):
        raise DataError(
            f"{path}: expected repeated edges whose weights have a sum that float32 can hold, got a larger one"
        )
    return Converted(graph, list(index))


def read_hyperedges(
    path: str | os.PathLike[str], *, delimiter: str | None = None, repeated: Literal["error", "once"] = "once"
) -> Converted:
    r"""Read a list of hyperedges: the members of one hyperedge per line.

    Use it for lists of simplices, baskets or groups without ids; `read_hif` and `read_xgi` read JSON files.

    Args:
        path: a file in UTF-8; lines that begin with ``#`` or ``%`` are comments, empty lines are skipped.
        delimiter: the text between members; None takes the first of tab, semicolon, bar and comma that occurs in the
            file, else blanks.
        repeated: what to do with a member that occurs twice in a line: ``"once"`` counts it once, ``"error"`` raises.

    Returns:
        The `Hypergraph`, with ids as texts in ``node_ids``, in order of appearance.

    Raises:
        DataError: the file cannot be read, a member is empty, or repeated under ``"error"``; the message gives the
            line number.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "meetings.txt").write_text("ann, ben, cleo\ncleo, dan\n")
    ...     c = read_hyperedges(f"{folder}/meetings.txt")
    >>> c.node_ids, c.structure.to_lists()
    (['ann', 'ben', 'cleo', 'dan'], [[0, 1, 2], [2, 3]])
    """
    if repeated not in ("error", "once"):
        raise ArgumentError("repeated", "'error' or 'once'", repr(repeated))
    if delimiter is None:
        lines = list(_lines(path))
        delimiter = next((sign for sign in "\t;|," if any(sign in line for _, line in lines)), None)
    index: dict[str, int] = {}
    members: list[list[int]] = []
    count = 0
    for number, fields in _fields(path, delimiter):
        if not all(fields):
            got = f"an empty name in {(delimiter or ' ').join(fields)[:80]!r}"
            raise DataError(f"{path}, line {number}: expected a name for each member, got {got}")
        once = list(dict.fromkeys(fields))
        if len(once) < len(fields) and repeated == "error":
            twice = next(f for i, f in enumerate(fields) if f in fields[:i])
            raise DataError(f"{path}, line {number}: expected each member once, got {twice!r} twice")
        count += len(once) < len(fields)
        members.append([index.setdefault(field, len(index)) for field in once])
    if count:
        _LOG.warning("%s: %s lines list a member more than once; it is counted once", path, f"{count:,}")
    return Converted(Hypergraph.from_lists(members, num_nodes=len(index)), list(index))


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """(line number, text) of each line that is neither empty nor a comment."""
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip() and not line.lstrip().startswith(("#", "%")):
            yield number, line.strip("\r\n ")


def _fields(path: str | os.PathLike[str], delimiter: str | None) -> Iterator[tuple[int, list[str]]]:
    if delimiter is not None and (not isinstance(delimiter, str) or not delimiter or "\n" in delimiter):
        raise ArgumentError("delimiter", "a string without line breaks, or None", repr(delimiter))
    for number, line in _lines(path):
        yield number, [field.strip() for field in line.split(None if delimiter == " " else delimiter)]


def _number(field: str, path: str | os.PathLike[str], number: int) -> float:
    try:
        value = float(field)
    except ValueError:
        value = float("nan")
    if not abs(value) <= torch.finfo(torch.float32).max:
        raise DataError(f"{path}, line {number}: expected a finite weight that float32 can hold, got {field[:40]!r}")
    return value
