"""Files of triples and of interactions, in the formats that data sets come in; a bad line is refused by its number.

==============  ===================================================================================================
TSV, ConvE, CSV ``read_triples``: head, relation, tail, in words, parted by tabs or, in ``.csv``, by commas
KGAT            ``read_kgat``: ``kg_final.txt``, three numbers a line, parted by blanks
KGCN, RippleNet ``read_kgcn``: head number, tab, relation in words or a number, tab, tail number
RecBole         ``read_recbole``: a typed header, ``head_id:token``, then tab-separated rows
OpenKE          ``read_openke``: ``entity2id.txt``, ``relation2id.txt`` and a list of head, **tail**, relation
==============  ===================================================================================================
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from hgraph.convert.words import facts
from hgraph.errors import ArgumentError, DataError
from hgraph.structure.knowledge_graph import KnowledgeGraph
from hgraph.structure.names import Names

__all__ = [
    "numbered_triples",
    "read_kgat",
    "read_kgcn",
    "read_openke",
    "read_recbole",
    "read_triples",
    "recbole_columns",
    "rows",
    "write_triples",
]

File = str | os.PathLike[str]
_LARGEST = 2**62


@overload
def read_triples(path: File, *, delimiter: str | None = ..., duplicates: str = ...) -> KnowledgeGraph: ...
@overload
def read_triples(
    path: list[File] | tuple[File, ...], *, delimiter: str | None = ..., duplicates: str = ...
) -> tuple[KnowledgeGraph, ...]: ...
def read_triples(
    path: File | list[File] | tuple[File, ...], *, delimiter: str | None = None, duplicates: str = "error"
) -> KnowledgeGraph | tuple[KnowledgeGraph, ...]:
    r"""A file of facts in words, ``head<tab>relation<tab>tail`` a line, as ConvE's sets have them, or CSV.

    Use it with several files for a split: ``TripleSplit(*read_triples([train, valid, test]))``. They share one
    numbering of nodes and relations; files read one by one number their names each by itself, and a split of them is
    refused.

    A first line such as ``head,relation,tail`` or ``subject,predicate,object`` is a header and gives the order of the
    columns; comment lines (``#``, ``%``) are skipped, blanks around fields dropped. Each is logged.

    Args:
        path: the file, UTF-8; CRLF line ends are read, too. Or several.
        delimiter: one sign; None is a comma for a file that ends in ``.csv``, else a tab. With another sign than a tab
            fields may stand in double quotes.
        duplicates: of facts within a file, as `KnowledgeGraph.from_triples` has it.

    Raises:
        ArgumentError: a delimiter that is not one sign, or is a quote or a line end; or no file.
        DataError: a line without three fields, with an empty one, with a quote left open, or not UTF-8; the message has
            its number.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "facts.csv").write_text("head,relation,tail\nDune,by,Herbert\n")
    ...     read_triples(f"{folder}/facts.csv").facts()
    [Triple(head='Dune', relation='by', tail='Herbert')]
    """
    several = not isinstance(path, (str, os.PathLike))
    files: list[File] = list(path) if several else [path]  # type: ignore[arg-type, list-item]
    if not files:
        raise ArgumentError("path", "a file, or several", "none")
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n'):
        raise ArgumentError("delimiter", "one sign, no quote and no line end", repr(delimiter))
    found = []
    for file in files:
        sign = ("," if str(file).lower().endswith(".csv") else "\t") if delimiter is None else delimiter
        found.append(facts(_text(file), sign, str(file)))
    graphs = _of_names(found, duplicates)
    return graphs if several else graphs[0]


def _of_names(parts: list[list[tuple[str, str, str]]], duplicates: str) -> tuple[KnowledgeGraph, ...]:
    """A graph of each part, over one numbering in the order of appearance."""
    nodes: dict[str, int] = {}
    kinds: dict[str, int] = {}
    numbered = [
        [
            (nodes.setdefault(h, len(nodes)), kinds.setdefault(r, len(kinds)), nodes.setdefault(t, len(nodes)))
            for h, r, t in part
        ]
        for part in parts
    ]
    node_names, relation_names = Names.of(nodes), Names.of(kinds)
    made = []
    for part in numbered:
        head, relation, tail = torch.tensor(part, dtype=torch.long).reshape(-1, 3).unbind(1)
        made.append(
            KnowledgeGraph.from_triples(
                head=head, relation=relation, tail=tail, num_nodes=len(nodes), num_relations=len(kinds),
                node_names=node_names, relation_names=relation_names, duplicates=duplicates,  # type: ignore[arg-type]
            )
        )  # fmt: skip
    return tuple(made)


def write_triples(kg: KnowledgeGraph, path: File) -> None:
    r"""The facts as :func:`read_triples` reads them, in names where the graph has some, else in numbers.

    Raises:
        ArgumentError: a name with a tab or a line end in it, or an empty one.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_triples(KnowledgeGraph.from_names([("Dune", "by", "Herbert")]), f"{folder}/facts.tsv")
    ...     Path(folder, "facts.tsv").read_text()
    'Dune\tby\tHerbert\n'
    """
    from hgraph.files import write_atomically

    lines = []
    for fact in kg.facts():
        fields = [str(field) for field in fact]
        if any(not f or len(f.splitlines()) != 1 or "\t" in f for f in fields):
            raise ArgumentError("names", "texts without tabs and line ends, none empty", repr(tuple(fields)))
        lines.append("\t".join(fields) + "\n")
    write_atomically(path, "".join(lines).encode())


def read_kgat(
    path: File, *, num_nodes: int | None = None, num_relations: int | None = None, duplicates: str = "error"
) -> KnowledgeGraph:
    r"""KGAT's ``kg_final.txt``: ``head relation tail`` in numbers, parted by blanks.

    Args:
        path: the file.
        num_nodes: N; None is the largest number + 1, as the format itself counts.
        num_relations: R, likewise.
        duplicates: of repeated triples, as `KnowledgeGraph.from_triples` has it.

    Raises:
        DataError: a line without three numbers, or with one beyond the sizes; the message has its number.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "kg_final.txt").write_text("0 0 2\n1 0 2\n")
    ...     read_kgat(f"{folder}/kg_final.txt")
    KnowledgeGraph(3 nodes, 2 triples, 1 relations, cpu)
    """
    return numbered_triples(_text(path), None, str(path)).graph(num_nodes, num_relations, duplicates)


def read_kgcn(path: File, *, num_nodes: int | None = None, duplicates: str = "error") -> KnowledgeGraph:
    r"""The ``kg.txt`` or ``kg_final.txt`` of KGCN, RippleNet and MKR: numbers, but relations may be words.

    Relations in words are numbered in order of appearance and keep their names.

    Args:
        path: the file.
        num_nodes: N; None is the largest number + 1.
        duplicates: of repeated triples, as `KnowledgeGraph.from_triples` has it.

    Raises:
        DataError: a bad line, or one with a number beyond ``num_nodes``; the message has its number.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "kg.txt").write_text("0\tby\t1\n")
    ...     read_kgcn(f"{folder}/kg.txt").relation_names[0]
    'by'
    """
    return kgcn_graph(_text(path), str(path), num_nodes, duplicates)


def kgcn_graph(text: str, source: str, num_nodes: int | None = None, duplicates: str = "error") -> KnowledgeGraph:
    """:func:`read_kgcn` of a text."""
    known: dict[str, int] = {}
    triples, lines = [], []
    for number, (h, r, t) in rows(text, "\t", 3, source):
        triples.append((_integer(h, source, number), known.setdefault(r, len(known)), _integer(t, source, number)))
        lines.append(number)
    found, size, names = _Numbered.of(triples, lines, source), len(known), list(known)
    if not all(name.isdecimal() and len(name) < 18 for name in known):
        return found.graph(num_nodes, size, duplicates, relation_names=names)
    if names:  # the numbers are meant, not their order
        found.triples[:, 1] = torch.tensor([int(name) for name in names])[found.triples[:, 1]]
    return found.graph(num_nodes, duplicates=duplicates)


def read_recbole(path: File, *, duplicates: str = "error") -> KnowledgeGraph:
    r"""RecBole's ``.kg`` file; vertices and relations are numbered in order of appearance and keep their tokens.

    Raises:
        DataError: no header with the three columns, or a bad line; the message has its number.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.kg").write_text("head_id:token\trelation_id:token\ttail_id:token\na\tby\tb\n")
    ...     read_recbole(f"{folder}/a.kg").facts()
    [Triple(head='a', relation='by', tail='b')]
    """
    columns = recbole_columns(_text(path), str(path), ("head_id", "relation_id", "tail_id"))
    return KnowledgeGraph.from_names(list(zip(*columns, strict=True)), duplicates=duplicates)


def recbole_columns(text: str, source: str, wanted: tuple[str, ...]) -> list[list[str]]:
    """The columns of those names of a RecBole atomic file, as texts."""
    head, _, body = text.partition("\n")
    header = [field.partition(":")[0] for field in head.rstrip("\r").split("\t")]
    missing = [name for name in wanted if name not in header]
    if missing:
        raise DataError(f"{source}, line 1: expected a header with {missing[0]}:token, got {head[:80]!r}")
    at = [header.index(name) for name in wanted]
    columns: list[list[str]] = [[] for _ in wanted]
    for _, fields in rows(body, "\t", len(header), source, first=2, empty=True):
        for column, i in zip(columns, at, strict=True):
            column.append(fields[i])
    return columns


def read_openke(folder: File, name: str = "train2id.txt", *, duplicates: str = "error") -> KnowledgeGraph:
    r"""A folder of OpenKE: names in ``entity2id.txt`` and ``relation2id.txt``, facts as head, tail, relation.

    Args:
        folder: the folder; each file begins with a line that counts the others.
        name: the file of facts.
        duplicates: of repeated triples, as `KnowledgeGraph.from_triples` has it; the published WN11 has some.

    Raises:
        DataError: a bad line, numbers that are no ids, or another number of lines than the first line says.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "entity2id.txt").write_text("2\nDune\t0\nHerbert\t1\n")
    ...     _ = Path(folder, "relation2id.txt").write_text("1\nby\t0\n")
    ...     _ = Path(folder, "train2id.txt").write_text("1\n0 1 0\n")  # head, tail, relation
    ...     read_openke(folder).facts()
    [Triple(head='Dune', relation='by', tail='Herbert')]
    """
    place = Path(folder)
    entities, relations = (_openke_names(place / f"{kind}2id.txt") for kind in ("entity", "relation"))
    source = str(place / name)
    count, body = _counted(_text(place / name), source)
    found = numbered_triples(body, None, source, first=2)
    if len(found.triples) != count:
        raise DataError(f"{source}: line 1 says {count} facts, there are {len(found.triples)}")
    found = dataclasses.replace(found, triples=found.triples[:, [0, 2, 1]])
    return found.graph(len(entities), len(relations), duplicates, node_names=entities, relation_names=relations)


def _openke_names(path: Path) -> list[str]:
    source = str(path)
    count, body = _counted(_text(path), source)
    names: dict[int, str] = {}
    for number, line in _lines(body, first=2):
        name, _, identity = line.replace("\t", " ").rstrip().rpartition(" ")
        found = _integer(identity, source, number)
        if found in names or found >= count:
            known = "one that has a name already" if found in names else str(found)
            raise DataError(f"{source}, line {number}: expected an id of its own in 0 .. {count - 1}, got {known}")
        names[found] = name.rstrip()
    if len(names) != count:
        raise DataError(f"{source}: line 1 says {count} names, there are {len(names)}")
    return [names[i] for i in range(count)]


def _counted(text: str, source: str) -> tuple[int, str]:
    head, _, body = text.partition("\n")
    return _integer(head.strip(), source, 1), body


# ---------------------------------------------------------------------- lines


def rows(
    text: str, separator: str | None, width: int, source: str, *, first: int = 1, empty: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each line that is not blank; ``separator`` None parts at blanks.

    Raises:
        DataError: another number of fields, or an empty one unless ``empty``.
    """
    what = {None: "blanks", "\t": "tabs"}.get(separator, repr(separator))
    for number, line in _lines(text, first):
        fields = line.split(separator)
        if len(fields) != width:
            raise DataError(f"{source}, line {number}: expected {width} fields parted by {what}, got {len(fields)}")
        if not empty and not all(fields):
            raise DataError(f"{source}, line {number}: expected no empty field, got {line[:80]!r}")
        yield number, fields


@dataclass(frozen=True)
class _Numbered:
    """Facts in numbers, and where each stands: a number beyond a size is refused by its line."""

    triples: Tensor  # [K, 3] head, relation, tail
    lines: Tensor  # [K]
    source: str

    @classmethod
    def of(cls, triples: Sequence[Sequence[int]], lines: list[int], source: str) -> _Numbered:
        return cls(torch.tensor(triples, dtype=torch.long).reshape(-1, 3), torch.tensor(lines), source)

    def graph(
        self,
        num_nodes: int | None = None,
        num_relations: int | None = None,
        duplicates: str = "error",
        **names: list[str] | None,
    ) -> KnowledgeGraph:
        """The graph of so many vertices and relations; None is the largest number + 1."""
        head, relation, tail = self.triples.unbind(1)
        nodes = _size(torch.cat([head, tail])) if num_nodes is None else num_nodes
        relations = _size(relation) if num_relations is None else num_relations
        for name, size in (("num_nodes", nodes), ("num_relations", relations)):
            if isinstance(size, bool) or not isinstance(size, int) or size < 0:
                raise ArgumentError(name, "a whole number, 0 or more", repr(size))
        sizes = torch.tensor([nodes, relations, nodes])
        wrong = (self.triples >= sizes).nonzero()  # line by line
        if len(wrong):
            fact, column = wrong[0].tolist()
            what, got = ("head", "relation", "tail")[column], int(self.triples[fact, column])
            place = f"{self.source}, line {int(self.lines[fact])}"
            raise DataError(f"{place}: expected a {what} in 0 .. {int(sizes[column]) - 1}, got {got}")
        return KnowledgeGraph.from_triples(
            head=head, relation=relation, tail=tail, num_nodes=nodes, num_relations=relations,
            duplicates=duplicates, **names,  # type: ignore[arg-type]
        )  # fmt: skip


def _size(numbers: Tensor) -> int:
    return int(numbers.max()) + 1 if len(numbers) else 0


def numbered_triples(text: str, separator: str | None, source: str, *, first: int = 1) -> _Numbered:
    """Lines of three numbers."""
    triples, lines = [], []
    for number, fields in rows(text, separator, 3, source, first=first):
        triples.append(tuple(_integer(field, source, number) for field in fields))
        lines.append(number)
    return _Numbered.of(triples, lines, source)


def _lines(text: str, first: int = 1) -> Iterable[tuple[int, str]]:
    """Lines that are not blank, without their ends; not splitlines, which also parts at other signs."""
    for number, line in enumerate(text.split("\n"), first):
        if line.strip():
            yield number, line.rstrip("\r")


def _integer(field: str, source: str, number: int) -> int:
    if not (field.isascii() and field.isdigit()) or len(field) > 19 or int(field) > _LARGEST:
        raise DataError(f"{source}, line {number}: expected a whole number, 0 or more, got {field[:40]!r}")
    return int(field)


def _text(path: File) -> str:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8 ({error.reason})") from error
