"""Reads CSV files in chunks of rows; errors give the line."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hgraph.errors import ArgumentError, DataError
from hgraph.files import valid_path

_ROWS, _CHARACTERS = 16_384, 1 << 20  # size of a chunk: the cells of a column that exist as Python strings at once

_ATOMIC = (".inter", ".user", ".item", ".kg", ".link", ".net")
_TYPES = ("token", "token_seq", "float", "float_seq")
_KINDS = {"token": "categorical", "token_seq": "text", "float": "numeric"}

__all__ = ["Reader", "chunks", "header", "is_typed", "line_of", "not_csv", "opened", "types_of"]


@dataclass
class Reader:
    """A CSV file being read."""

    path: Path
    delimiter: str
    file: IO[str]
    rows: Any
    lines: int = 0  # lines before those of `rows`
    titled: bool = True  # whether the first line after comments has the column names


@contextmanager
def opened(path: Path, delimiter: str | None, *, titled: bool = True) -> Iterator[Reader]:
    """Open a CSV file; errors inside the block become a `DataError` that gives the line.

    Lines at the start that begin with ``#`` or ``%`` are comments. If ``titled``, the last of them is the header if it
    has as many fields as the next line.
    """
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n\0'):
        raise ArgumentError("delimiter", "one character, not a quote or a line break", repr(delimiter))
    valid_path(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            comments, first = _after_comments(file, path, delimiter, titled)
            if delimiter is None:
                delimiter = _delimiter(path, first)
            rows = csv.reader(file, delimiter=delimiter, strict=True)
            reader = Reader(path, delimiter, file, rows, comments, titled)
            try:
                yield reader
            except csv.Error as error:
                last = reader.lines + reader.rows.line_num
                raise DataError(f"{path}:{not_csv(path, delimiter, last, error)}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{_undecodable_line(path)}: not UTF-8 text. Save the table as CSV in UTF-8") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def not_csv(path: Path, delimiter: str, last: int, error: csv.Error) -> str:
    """The line and the message for a record in which the csv module gave up at line ``last``.

    The line is that where the quote at fault opens: a quote that is not closed takes in all lines up to the next one.
    """
    hint = "Check for a quote that is not closed or is followed by text; double the quotes inside a field"
    with open(path, encoding="utf-8-sig", newline="") as file:
        text = "".join(itertools.islice(file, last))
    ends = re.escape(delimiter) + r"\r\n"
    for match in re.finditer(rf'(?<![^{ends}])"(?:[^"]|"")*("?)([^{ends}]?)', text):
        if not match[1] or match[2]:
            last = text.count("\n", 0, match.start()) + 1
            break
    return f"{last}: not CSV ({error}). {hint}"


def _after_comments(file: IO[str], path: Path, delimiter: str | None, titled: bool) -> tuple[int, str]:
    """The number of comment lines, and the first line after them; leaves the file position after the comments."""
    places, count = [file.tell()], 0
    while (line := file.readline(1 << 20)).startswith(("#", "%")):
        places.append(file.tell())
        count += 1
    file.seek(places[-1])
    if count and not titled and line:  # a row that starts with # or % has as many cells as the other rows
        sign = delimiter or _delimiter(path, line)
        for i in range(count):
            file.seek(places[i])
            text = file.readline(1 << 20)  # "#a,1" is a row, "# a,1" a comment
            if text[1:2].strip() and text.count(sign) == line.count(sign) > 0:
                file.seek(places[i])
                first = file.readline(1 << 20)
                file.seek(places[i])
                return i, first
        file.seek(places[-1])
        return count, line
    if count and titled and line:
        sign = delimiter or _delimiter(path, line)
        file.seek(places[-2])
        title = file.readline(1 << 20)
        header = line.count(sign) == title.count(sign) > 0
        file.seek(places[-2] if header else places[-1])
        return (count - 1, title) if header else (count, line)
    return count, line


def header(reader: Reader) -> list[str]:
    """The first row, without the comment sign if the header is a comment."""
    row = next(reader.rows, None)
    if not row:
        got = "an empty file" if row is None else "an empty line"
        raise DataError(f"{reader.path}:{reader.lines + 1}: expected the column names, got {got}")
    if is_typed(reader.path):
        return [_untyped(reader, field)[0] for field in row]
    return [row[0].lstrip("#%").strip() or row[0], *row[1:]]


def is_typed(path: Path) -> bool:
    """Whether this is an atomic file of RecBole, whose columns are separated by tabs and called ``name:type``."""
    return path.suffix.lower() in _ATOMIC


def types_of(path: Path) -> dict[str, str]:
    """The kinds of the columns that the header of an atomic file names; empty for other files."""
    if not is_typed(path):
        return {}
    with opened(path, None) as reader:
        found = [_untyped(reader, field) for field in next(reader.rows, [])]
    return {name: _KINDS[kind] for name, kind in found if kind in _KINDS}


def _untyped(reader: Reader, field: str) -> tuple[str, str]:
    name, colon, kind = field.strip().rpartition(":")
    if not (name and colon and kind in _TYPES):
        hint = "This extension is for RecBole files; if the columns have plain names, rename the file to .tsv"
        expected = f"columns called name:type, with a type among {', '.join(_TYPES)}"
        raise DataError(f"{reader.path}:{reader.lines + 1}: expected {expected}, got {field[:60]!r}. {hint}")
    return name, kind


def chunks(reader: Reader, width: int) -> Iterator[list[Sequence[str]]]:
    """The rows in chunks, each as ``width`` columns; empty lines are skipped.

    Lines before the first quote are split in bulk, three times as fast as with the csv module.
    """
    reader.lines += reader.rows.line_num
    lines = reader.file.readlines(_CHARACTERS)
    while lines and (columns := _split_fields(lines, reader.delimiter, width)):
        reader.lines += len(lines)
        yield columns
        lines = reader.file.readlines(_CHARACTERS)
    reader.rows = csv.reader(itertools.chain(lines, reader.file), delimiter=reader.delimiter, strict=True)
    while rows := list(itertools.islice(reader.rows, _ROWS)):
        rows = [row for row in rows if row]
        if set(map(len, rows)) - {width}:
            _refuse_ragged(reader, width)
        if rows:
            cells = list(itertools.chain.from_iterable(rows))
            yield [cells[i::width] for i in range(width)]


def _split_fields(lines: list[str], delimiter: str, width: int) -> list[Sequence[str]] | None:
    """The columns of lines of ``width`` plain fields, or None if the csv module has to parse them."""
    block = "".join(lines)
    if '"' in block or "\0" in block or max(map(len, lines)) > csv.field_size_limit():
        return None
    block = block.replace("\r\n", "\n").removesuffix("\n")
    if "\r" in block or "\n\n" in block or block.startswith("\n") or not block or block.endswith("\n"):
        return None
    cells = block.replace("\n", f"{delimiter}\n").split(delimiter)
    columns: list[Sequence[str]] = [cells[i::width] for i in range(width)]
    # the first field of every line now begins with a line break: unless all are in the first column, lines are ragged
    first = "\0".join(columns[0])
    if len(cells) != width * len(lines) or first.count("\0\n") != len(lines) - 1:
        return None
    columns[0] = first.replace("\0\n", "\0").split("\0")
    return columns


def line_of(path: Path, delimiter: str, row: int, *, header: bool) -> int:
    """The line where a row (from 0) starts, found by reading the file again, so that no line numbers are stored."""
    with opened(path, delimiter, titled=header) as reader:
        line, index = reader.lines + 1, -int(header)
        for cells in reader.rows:
            if cells and index == row:
                break
            index += bool(cells) or index < 0
            line = reader.lines + reader.rows.line_num + 1
    return line


def _refuse_ragged(reader: Reader, width: int) -> None:
    with opened(reader.path, reader.delimiter, titled=reader.titled) as second:
        line = second.lines + 1
        for row in second.rows:
            if row and len(row) != width:
                hint = f"Fields are separated by {reader.delimiter!r}; quote a field that contains it"
                raise DataError(
                    f"{reader.path}:{line}: expected {width} field(s), one per column, got {len(row)}. {hint}"
                )
            line = second.lines + second.rows.line_num + 1


def _delimiter(path: Path, first: str) -> str:
    """The most frequent candidate in the first line; the comma if several are equally frequent or none occurs."""
    if path.suffix.lower() == ".tsv" or is_typed(path):
        return "\t"
    return max(",;\t|", key=first.count)


def _undecodable_line(path: Path) -> int:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1
