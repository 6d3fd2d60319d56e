"""Parse files of triples of names: detects headers and comments, strips blanks around fields."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator

from hgraph.errors import DataError

__all__ = ["parse_triples"]

_LOG = logging.getLogger("hgraph")
# header names of the three columns, case-insensitive, with or without RecBole's ":token"
_HEADER = (
    frozenset({"head", "h", "subject", "subj", "s", "source", "from", "head_id"}),
    frozenset({"relation", "rel", "r", "predicate", "pred", "p", "relation_id", "type"}),
    frozenset({"tail", "t", "object", "obj", "o", "target", "to", "tail_id"}),
)


def parse_triples(text: str, delimiter: str, source: str) -> list[tuple[str, str, str]]:
    """Head, relation and tail of each line, in that order even if a header has another order.

    A line is a comment if it begins with ``#`` or ``%`` followed by a blank, the same character or nothing, or if it
    does not have three fields. Skipped lines are logged.

    Raises:
        DataError: a line without three fields, with an empty field or an open quote; the message gives the line number.
    """
    order, comments, trimmed = (0, 1, 2), 0, 0
    found: list[tuple[str, str, str]] = []
    first = True
    for number, fields in _tabbed(text) if delimiter == "\t" else _quoted(text, delimiter, source):
        plain = [field.strip() for field in fields]
        titles = _titles(plain) if first else None
        if titles is not None:
            order, first = titles, False
            _LOG.info("%s: line %d is a header, not a triple: %s", source, number, ", ".join(plain))
            continue
        if _is_comment(plain):
            comments += 1
            continue
        first = False
        if len(plain) != 3:
            what = "tabs" if delimiter == "\t" else repr(delimiter)
            raise DataError(f"{source}, line {number}: expected 3 fields separated by {what}, got {len(plain)}")
        if not all(plain):
            raise DataError(f"{source}, line {number}: expected no empty field, got {delimiter.join(fields)[:80]!r}")
        trimmed += plain != fields
        found.append((plain[order[0]], plain[order[1]], plain[order[2]]))
    if comments:
        _LOG.warning("%s: skipped %s comment lines that begin with # or %%", source, f"{comments:,}")
    if trimmed:
        _LOG.warning("%s: stripped blanks around fields of %s lines", source, f"{trimmed:,}")
    return found


def _titles(fields: list[str]) -> tuple[int, int, int] | None:
    """The columns of head, relation and tail in a header, also in a commented one; None if it is not a header."""
    words = [field.lower().partition(":")[0].strip() for field in fields]
    words[0] = words[0].lstrip("#%").strip()
    if len(words) != 3:
        return None
    at = [[i for i, word in enumerate(words) if word in names] for names in _HEADER]
    places = tuple(found[0] if len(found) == 1 else -1 for found in at)
    return (places[0], places[1], places[2]) if sorted(places) == [0, 1, 2] else None


def _is_comment(fields: list[str]) -> bool:
    head = fields[0]
    if not head.startswith(("#", "%")):
        return False
    return len(fields) != 3 or len(head) == 1 or head[1].isspace() or head[1] == head[0]


def _tabbed(text: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each nonblank line; not splitlines, which also splits at other characters."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.rstrip("\r").split("\t")


def _quoted(text: str, delimiter: str, source: str) -> Iterator[tuple[int, list[str]]]:
    """Like `_tabbed`, for quoted fields; a record has the number of its first line."""
    reader, number = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), 1
    try:
        for fields in reader:
            line, number = number, reader.line_num + 1
            if len(fields) >= 2 or "".join(fields).strip():  # skip blank lines
                yield line, fields
    except csv.Error as error:
        raise DataError(f"{source}, line {number}: invalid CSV from here on ({error})") from error
