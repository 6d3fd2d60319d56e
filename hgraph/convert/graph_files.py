"""GraphML and GML files, through networkx."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from hgraph.convert.converted import Converted
from hgraph.convert.networkx import from_networkx
from hgraph.errors import DataError
from hgraph.files import valid_path

__all__ = ["read_gml", "read_graphml"]

_MAX_BYTES = 2**30


def read_graphml(
    path: str | os.PathLike[str],
    *,
    weight: str | None = None,
    x: str | Sequence[str] | None = None,
    y: str | None = None,
    max_bytes: int = _MAX_BYTES,
) -> Converted:
    """Read a GraphML file; the other arguments and the result are those of `from_networkx`.

    Use it for graphs that Gephi, yEd, igraph or networkx exported. Documents with a DTD or with entities are refused.

    Args:
        path: the file; node ids are texts.
        weight: the edge attribute for the weight, required on every edge, or None.
        x: the node attribute or attributes for the features.
        y: the node attribute for the label.
        max_bytes: larger files are rejected.

    Raises:
        DataError: no such file, too large, not GraphML, or with a DTD; the message names the file, and the line where
            it is not XML.
        ArgumentError: a named attribute that is missing or not a number.

    >>> import tempfile, networkx as nx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nx.write_graphml(nx.Graph([("Ann", "Ben", {"w": 2.0})]), f"{folder}/a.graphml")
    ...     c = read_graphml(f"{folder}/a.graphml", weight="w")
    >>> c.node_ids, c.structure.adj.weight.tolist()
    (['Ann', 'Ben'], [2.0, 2.0])
    """
    import networkx as nx

    content = _content(path, max_bytes)
    _refuse_entities(content, path)
    return from_networkx(_parsed(path, "GraphML", lambda: nx.parse_graphml(content)), weight=weight, x=x, y=y)


def read_gml(
    path: str | os.PathLike[str],
    *,
    label: str | None = "label",
    weight: str | None = None,
    x: str | Sequence[str] | None = None,
    y: str | None = None,
    max_bytes: int = _MAX_BYTES,
) -> Converted:
    """Read a GML file; the other arguments and the result are those of `from_networkx`.

    Use it for the graphs of network repositories in this format, such as ``lesmis.gml``.

    Args:
        path: the file.
        label: the node attribute that names the nodes, ``"label"`` (unique texts) or None for their numbers.
        weight: the edge attribute for the weight, required on every edge, or None.
        x: the node attribute or attributes for the features.
        y: the node attribute for the label.
        max_bytes: larger files are rejected.

    Raises:
        DataError: no such file, too large, or not GML; the message names the file and, where known, the line.
        ArgumentError: a named attribute that is missing or not a number.

    >>> import tempfile, networkx as nx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nx.write_gml(nx.DiGraph([("Ann", "Ben")]), f"{folder}/a.gml")
    ...     c = read_gml(f"{folder}/a.gml")
    >>> c.node_ids, c.structure.edge_index.tolist()
    (['Ann', 'Ben'], [[0], [1]])
    """
    import networkx as nx

    try:
        text = _content(path, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason})") from error
    kind = label or "id"
    graph = _parsed(path, "GML", lambda: nx.parse_gml(text.split("\n"), label=kind))
    return from_networkx(graph, weight=weight, x=x, y=y)


def _content(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    try:
        with open(valid_path(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                hint = "Pass a larger max_bytes if you trust the file"
                raise DataError(f"{path}: expected at most {max_bytes} bytes, got {size}. {hint}")
            return file.read(max_bytes)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _refuse_entities(content: bytes, path: str | os.PathLike[str]) -> None:
    """Refuse a DTD before anything of the document is expanded, whatever its encoding."""
    from xml.parsers import expat

    parser = expat.ParserCreate()

    def refuse(*_: Any) -> None:
        got = "a DTD, which may define entities and read other files"
        raise DataError(f"{path}, line {parser.CurrentLineNumber}: expected a document without a DTD, got {got}")

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise DataError(f"{path}, line {error.lineno}: not XML ({expat.ErrorString(error.code)})") from error


def _parsed(path: str | os.PathLike[str], what: str, parse: Callable[[], Any]) -> Any:
    try:
        return parse()
    except RecursionError as error:
        raise DataError(f"{path}: nested too deeply for {what}") from error
    except Exception as error:  # networkx raises errors of many kinds on damaged files
        raise DataError(f"{path}: not a {what} file ({' '.join(str(error).split())[:200]})") from error
