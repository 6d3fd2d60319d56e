"""A table as columns of text, from a CSV or Parquet file or from memory, with the source position of each cell."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hgraph.datasets.tables import text_rows
from hgraph.datasets.tables.cells import items, text
from hgraph.errors import ArgumentError, ArgumentTypeError, DataError, HgraphError, MissingPackageError
from hgraph.files import valid_path
from hgraph.memory import check_memory

__all__ = ["Column", "Table", "cells_of", "joined", "read_table", "wrong"]

_LOG = logging.getLogger("hgraph")
_ROWS = 16_384  # size of a chunk: the cells of a column that exist as Python strings at once
_END = "\0"  # separates cells in a chunk; not allowed in cells
MEMBER = "\x1f"  # joins the items of a cell that is a sequence: the ASCII unit separator


def joined(column: Column) -> str:
    """The cells of a column as one text, which `cells_of` splits."""
    return _END.join(column.chunks)


def cells_of(text: str) -> list[str]:
    """Split the text of `joined` into cells."""
    return text.split(_END)


@dataclass
class Column:
    """The cells of one column, as text; each chunk is one string, to save memory.

    Args:
        name: the name in the header.
        chunks: cells joined by a zero character.
        listed: whether cells were sequences, now joined by `MEMBER`.
        whole: whether all cells were integers, not texts of digits.
    """

    name: str
    chunks: list[str] = field(default_factory=list)
    listed: bool = False
    whole: bool = False

    def add(self, cells: Sequence[str]) -> bool:
        """Append cells (at least one), without surrounding spaces; False if one contains a zero character."""
        chunk = _END.join(cells)
        if " " in chunk and (chunk[0] == " " or chunk[-1] == " " or " \0" in chunk or "\0 " in chunk):
            chunk = _END.join([cell.strip(" ") for cell in cells])
        self.chunks.append(chunk)
        return chunk.count(_END) == len(cells) - 1

    def __iter__(self) -> Iterator[list[str]]:
        """The cells, in chunks."""
        return (chunk.split(_END) for chunk in self.chunks)

    def cells(self) -> list[str]:
        """All cells in one list."""
        return list(itertools.chain.from_iterable(self))


@dataclass
class Table:
    """Columns of equal length, with the source position of each row.

    Args:
        source: the path of the file, or the name of the table: ``"nodes"``.
        columns: by name, in order.
        num_rows: R.
        place: function of a row (from 0) to its position, such as ``"nodes.csv:2"``.
        parsed: cached numbers by (column, kind).
        decimal: the decimal separator, "." or ","; None means a period, and a comma is refused.
        types: column -> the kind that the file itself states.
    """

    source: str
    columns: dict[str, Column]
    num_rows: int
    place: Callable[[int], str]
    parsed: dict[tuple[str, str], np.ndarray] = field(default_factory=dict, repr=False)
    decimal: str | None = None
    types: dict[str, str] = field(default_factory=dict)

    def where(self, row: int, column: str) -> str:
        """The position of a cell, for errors: ``nodes.csv:2: column 'age'``."""
        return f"{self.place(row)}: column {column!r}"

    def __getitem__(self, name: str) -> Column:
        """A column by name."""
        return self.columns[name]

    def renamed(self, names: Mapping[str, str]) -> Table:
        """The table with other column names, given as new name -> old name.

        Raises:
            ArgumentError: a column does not exist, or its new name is taken.
        """
        if not names:
            return self
        for new, old in names.items():
            if old not in self.columns:
                got = f"{new}={old}"
                raise ArgumentError("columns", f"NEW=OLD with a column of {self.source}: {list(self.columns)}", got)
            if new in self.columns:
                hint = f"Leave out {new!r}, or choose another name"
                raise ArgumentError("columns", f"a name that {self.source} does not have yet", repr(new), hint)
        by_old = {old: new for new, old in names.items()}
        found = {by_old.get(name, name): column for name, column in self.columns.items()}
        columns = {name: dataclasses.replace(column, name=name) for name, column in found.items()}
        types = {by_old.get(name, name): kind for name, kind in self.types.items()}
        return dataclasses.replace(self, columns=columns, parsed={}, types=types)


def wrong(where: str, expected: str, got: object, hint: str = "") -> DataError:
    """The error of a cell, a line or a file."""
    return DataError(f"{where}: expected {expected}, got {got}" + (f". {hint}" if hint else ""))


def read_table(
    source: Any,
    *,
    name: str = "table",
    names: Sequence[str] | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
) -> Table:
    """Read a table; every cell becomes text, which `from_tables` interprets.

    A CSV file is UTF-8; its first line after comments (``#``, ``%``) is the header, and every later line is a row with
    the same number of fields. Empty lines and spaces around fields are dropped, quotes follow RFC 4180, and a field
    has at most 131,072 characters. RecBole's atomic files (``.inter``, ``.user``, ``.item``, ``.kg``) have typed
    headers, ``age:token``, and tabs.

    Args:
        source: path to a ``.csv``, ``.tsv``, ``.txt``, ``.parquet`` or atomic file; a mapping of column names to
            sequences; a pandas DataFrame; a pyarrow Table; or a `Table`, which is returned as it is.
        name: the name used in errors for a table without a file.
        names: the columns of a CSV file without a header line. With one name and no ``delimiter``, each line is one
            cell.
        delimiter: the character between fields; None chooses a tab for ``.tsv``, else the most frequent of comma,
            semicolon, tab and bar in the first line.
        decimal: the decimal sign of numbers in texts, "." or ","; None: the point, and a comma is refused. Numbers that
            are no texts, as in Parquet files, are themselves with either sign. A `Table` has its own, unless this is
            given.

    Raises:
        ArgumentError: columns of different lengths, a wrong delimiter.
        ArgumentTypeError: a source of an unsupported type.
        DataError: the file is missing or is not such a table; the message gives file, line and column.
        MissingPackageError: Parquet without pyarrow.

    >>> table = read_table({"id": ["a", "b"], "age": [31, None]})
    >>> table.num_rows, table["age"].cells()
    (2, ['31', ''])
    """
    if isinstance(source, Table):
        return source if decimal is None else dataclasses.replace(source, decimal=decimal)
    return dataclasses.replace(_read(source, name, names, delimiter, decimal), decimal=decimal)


def _read(source: Any, name: str, names: Sequence[str] | None, delimiter: str | None, decimal: str | None) -> Table:
    if isinstance(source, (str, os.PathLike)):
        path = valid_path(source)
        if path.suffix.lower() in (".parquet", ".pq"):
            return _read_parquet(path, decimal)
        if names is not None and len(names) == 1 and delimiter is None:
            return _read_lines(path, names[0])
        return _read_csv(path, names, delimiter)
    if isinstance(source, Mapping):
        columns = {str(key): _values(values, f"{name}[{key!r}]") for key, values in source.items()}
        return _from_columns(columns, name, decimal)
    module = type(source).__module__.split(".")[0]
    if module == "pandas" and hasattr(source, "columns"):
        header = _checked_header([str(c) for c in source.columns], name)
        series = [source.iloc[:, i] for i in range(len(header))]
        present = [s.notna().tolist() for s in series]
        filled = [
            [v if p else None for v, p in zip(s.tolist(), ps, strict=True)]
            for s, ps in zip(series, present, strict=True)
        ]
        return _from_columns(dict(zip(header, filled, strict=True)), name, decimal)
    if module == "pyarrow" and hasattr(source, "to_batches"):
        return _from_batches(source.schema.names, source.to_batches(max_chunksize=_ROWS), name, decimal)
    hint = "Pass a path to CSV or Parquet, a dict of columns, a pandas DataFrame or a pyarrow Table"
    raise ArgumentTypeError(name, "a table", type(source).__name__, hint)


def _read_csv(path: Path, names: Sequence[str] | None, delimiter: str | None) -> Table:
    with text_rows.opened(path, delimiter, titled=names is None) as reader:
        if reader.lines:
            _LOG.warning("%s: %d comment line(s) before the table are skipped", path, reader.lines)
        header = text_rows.header(reader) if names is None else [str(n) for n in names]
        where = f"{path}:{reader.lines + 1}" if names is None else str(path)
        columns = [Column(n) for n in _checked_header(header, where)]
        count = 0
        for fields in text_rows.chunks(reader, len(columns)):
            for column, cells in zip(columns, fields, strict=True):
                if not column.add(cells):
                    row = count + next(i for i, cell in enumerate(cells) if _END in cell)
                    line = text_rows.line_of(path, reader.delimiter, row, header=names is None)
                    raise wrong(
                        f"{path}:{line}: column {column.name!r}",
                        "text",
                        "a zero byte",
                        "Check that this is a text file",
                    )
            count += len(fields[0])
        delimiter = reader.delimiter

    def place(row: int) -> str:
        return f"{path}:{text_rows.line_of(path, delimiter, row, header=names is None)}"

    types = {} if names is not None else text_rows.types_of(path)
    return Table(str(path), {c.name: c for c in columns}, count, place, types=types)


def _read_lines(path: Path, name: str) -> Table:
    """A file without a header whose lines are the cells of one column; comments and empty lines are skipped."""
    column = Column(name)
    lines: list[int] = []
    with text_rows.opened(path, ",", titled=False) as reader:
        reader.file.seek(0)
        cells = []
        for number, line in enumerate(reader.file, 1):
            cell = line.strip("\r\n ")
            if cell and not cell.startswith(("#", "%")):
                lines.append(number)
                cells.append(cell)
                if _END in cell:
                    raise wrong(
                        f"{path}:{number}: column {name!r}", "text", "a zero byte", "Check that this is a text file"
                    )
        if cells:
            column.add(cells)
    return Table(str(path), {name: column}, len(cells), lambda row: f"{path}:{lines[row]}")


def _checked_header(header: list[str], where: str) -> list[str]:
    """The column names without surrounding spaces; refuses missing, empty and repeated names."""
    header = [n.strip() for n in header]
    if not header:
        raise wrong(where, "at least one column", "none")
    seen = set()
    for i, n in enumerate(header):
        if not n:
            hint = "If pandas wrote it, use to_csv(index=False)"
            raise wrong(where, f"a name for column {i + 1}", "an empty one", hint)
        if n in seen:
            raise wrong(where, "unique column names", f"{n!r} twice")
        seen.add(n)
    return header


def _read_parquet(path: Path, decimal: str | None) -> Table:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingPackageError("pyarrow", "io", f"{path}: reading Parquet") from error
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names, rows = list(file.schema_arrow.names), file.metadata.num_rows
            check_memory(str(path), 8 * rows * len(names), f"{rows:,} rows of {len(names):,} columns")
            return _from_batches(names, file.iter_batches(batch_size=_ROWS), str(path), decimal)
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        if isinstance(error, HgraphError):
            raise
        raise DataError(f"{path}: damaged Parquet file ({' '.join(str(error).split())[:200]})") from error


def _from_batches(names: Sequence[str], batches: Any, source: str, decimal: str | None) -> Table:
    """Build a table from Arrow record batches."""
    columns = [Column(n) for n in _checked_header(list(names), source)]
    count = 0
    for batch in batches:
        if batch.num_rows == 0:
            continue
        for column, array in zip(columns, batch.columns, strict=True):
            column.whole = _is_whole(array) and (column.whole or not count)
            _fill(column, _arrow_cells(array, decimal), source, count, decimal)
        count += batch.num_rows
    return Table(source, {c.name: c for c in columns}, count, lambda row: f"{source}, row {row} (from 0)")


def _is_whole(array: Any) -> bool:
    import pyarrow as pa

    kind = array.type
    return bool(pa.types.is_integer(kind.value_type if pa.types.is_dictionary(kind) else kind)) and not array.null_count


def _arrow_cells(array: Any, decimal: str | None) -> list[Any]:
    """The cells of an Arrow array; numbers are converted to text by Arrow."""
    import pyarrow as pa

    kind = array.type
    if pa.types.is_dictionary(kind):
        array, kind = array.dictionary_decode(), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return array.fill_null("").to_pylist()
    if pa.types.is_floating(kind):
        import pyarrow.compute

        array = pyarrow.compute.if_else(pyarrow.compute.is_nan(array), None, array)
        if decimal == ",":
            return array.to_pylist()
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return array.cast(pa.string()).fill_null("").to_pylist()
    return array.to_pylist()


def _values(values: Any, name: str) -> list[Any]:
    """The items of a column in memory."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "M":
        values = values.astype("datetime64[us]")  # finer resolutions would become integers
    if isinstance(values, (str, bytes)) or not (hasattr(values, "tolist") or hasattr(values, "__iter__")):
        raise ArgumentTypeError(name, "a sequence of cells", type(values).__name__)
    items = values.tolist() if hasattr(values, "tolist") else list(values)
    if not isinstance(items, list):
        raise ArgumentTypeError(name, "a sequence of cells", "a single value")
    return items


def _from_columns(columns: dict[str, list[Any]], source: str, decimal: str | None) -> Table:
    header = _checked_header(list(columns), source)
    lengths = {n: len(values) for n, values in zip(header, columns.values(), strict=True)}
    if len(set(lengths.values())) > 1:
        raise ArgumentError(source, "columns of equal length", lengths)
    made = {}
    for n, values in zip(header, columns.values(), strict=True):
        made[n] = Column(n, whole=all(type(value) is int for value in values))
        for start in range(0, len(values), _ROWS):
            _fill(made[n], values[start : start + _ROWS], source, start, decimal)
    rows = next(iter(lengths.values()))
    return Table(source, made, rows, lambda row: f"{source}, row {row} (from 0)")


def _fill(column: Column, values: list[Any], source: str, first: int, decimal: str | None) -> None:
    """Append cells of any type as text, with that decimal sign; ``first`` is the row of the first of them."""

    def refuse(row: int, expected: str, got: object, hint: str = "") -> DataError:
        return wrong(f"{source}, row {first + row} (from 0): column {column.name!r}", expected, got, hint)

    cells: list[str] = []
    before = not column.listed and any(chunk.strip(_END) for chunk in column.chunks)  # earlier chunks contain text
    for row, value in enumerate(values):
        try:
            inside = None if isinstance(value, str) else items(value)
            cell = text(value, decimal) if inside is None else MEMBER.join(text(item, decimal) for item in inside)
        except TypeError as error:
            raise refuse(row, "text, a number, a date or a sequence of these", error) from None
        mixed = inside is None and column.listed and cell != ""
        if inside is not None and not column.listed:
            mixed, column.listed = before or any(cells), True
        if mixed:
            raise refuse(
                row, "sequences in all cells of a column or in none", "both", "Convert the text cells to lists too"
            )
        cells.append(cell)
    if not column.add(cells):
        raise refuse(next(i for i, cell in enumerate(cells) if _END in cell), "text", "a zero character")
