"""N-Triples: knowledge graphs as lines of IRIs, blank nodes and literals."""

from __future__ import annotations

import logging
import os
import re
from typing import Literal

from hgraph.convert.triples import _text
from hgraph.errors import ArgumentError, DataError
from hgraph.structure.knowledge_graph import KnowledgeGraph

__all__ = ["ntriples", "read_ntriples"]

_LOG = logging.getLogger("hgraph")
_IRI = r"<([^\x00-\x20<>\"{}|^`]*)>"
_BLANK = r"(_:[^\s<>\"]+)"
_LITERAL = r"(\"(?:[^\"\\\n\r]|\\.)*\")(@[A-Za-z]+(?:-[A-Za-z0-9]+)*|\^\^<[^\x00-\x20<>\"{}|^`]*>)?"
_LINE = re.compile(rf"[ \t]*(?:{_IRI}|{_BLANK})[ \t]*{_IRI}[ \t]*(?:{_IRI}|{_BLANK}|{_LITERAL})[ \t]*\.[ \t]*(?:#.*)?")
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.)|)", re.DOTALL)
_CHARACTERS = {"t": "\t", "b": "\b", "n": "\n", "r": "\r", "f": "\f", '"': '"', "'": "'", "\\": "\\"}


def read_ntriples(
    path: str | os.PathLike[str],
    *,
    literals: Literal["keep", "drop"] = "keep",
    duplicates: Literal["error", "drop", "keep"] = "drop",
) -> KnowledgeGraph:
    r"""Read a file of RDF in the N-Triples format: subject, predicate and object of each line are a triple.

    Use it for exports of RDF stores; `read_triples` reads tables of triples.

    A node is named by its IRI without angle brackets, ``_:label`` of a blank node, or the literal in quotes with its
    language or type. Nodes and relations are numbered in order of appearance. Escapes are resolved.

    Args:
        path: the file, in UTF-8.
        literals: ``"keep"`` makes each literal a node, ``"drop"`` leaves their triples out and logs how many.
        duplicates: what to do with repeated triples, as in `KnowledgeGraph.from_triples`; the default keeps one.

    Raises:
        ArgumentError: an unknown value of ``literals``.
        DataError: the file cannot be read, or a line is not a triple; the message gives the line number.

    Source: W3C, "RDF 1.1 N-Triples".

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.nt").write_text('<urn:Dune> <urn:name> "Dune"@en .\n')
    ...     read_ntriples(f"{folder}/a.nt").find_triples()
    [Triple(head='urn:Dune', relation='urn:name', tail='"Dune"@en')]
    """
    return KnowledgeGraph.from_names(ntriples(path, literals=literals), duplicates=duplicates)


def ntriples(path: str | os.PathLike[str], *, literals: str = "keep") -> list[tuple[str, str, str]]:
    """The names of the triples of a file, see `read_ntriples`."""
    if literals not in ("keep", "drop"):
        raise ArgumentError("literals", "'keep' or 'drop'", repr(literals))
    found, dropped = [], 0
    for number, line in enumerate(_text(path).split("\n"), 1):
        line = line.rstrip("\r")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            hint = 'Write each line as <subject> <predicate> <object> . with a period; the object may be a "literal"'
            raise DataError(f"{path}, line {number}: expected an N-Triples statement, got {line[:80]!r}. {hint}")
        iri, blank, relation, other, other_blank, literal, kind = match.groups()
        if literal is not None and literals == "drop":
            dropped += 1
            continue
        head = _unescaped(iri, path, number) if blank is None else blank
        if literal is not None:
            tail = _unescaped(literal, path, number) + (kind or "")
        else:
            tail = _unescaped(other, path, number) if other_blank is None else other_blank
        found.append((head, _unescaped(relation, path, number), tail))
    if dropped:
        _LOG.warning("%s: left out %s triples with a literal", path, f"{dropped:,}")
    return found


def _unescaped(text: str, path: object, number: int) -> str:
    def character(match: re.Match[str]) -> str:
        code = match[1] or match[2]
        if code is None:
            if match[3] not in _CHARACTERS:
                raise DataError(f"{path}, line {number}: expected an escape such as \\n or \\u00e9, got {match[0]!r}")
            return _CHARACTERS[match[3]]
        value = int(code, 16)
        if value > 0x10FFFF or 0xD800 <= value < 0xE000:
            raise DataError(f"{path}, line {number}: expected a valid Unicode code point, got {match[0]!r}")
        return chr(value)

    return _ESCAPE.sub(character, text) if "\\" in text else text
