"""Files of triples and of interactions, in common data set formats; errors name the line.

==============  ===================================================================================================
TSV, ConvE, CSV ``read_triples``: head, relation, tail, as names, separated by tabs or, in ``.csv``, by commas
KGAT            ``read_kgat``: ``kg_final.txt``, three numbers per line, separated by blanks
KGCN, RippleNet ``read_kgcn``: head number, tab, relation name or number, tab, tail number
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

from hgraph.convert.words import parse_triples
from hgraph.errors import ArgumentError, DataError
from hgraph.files import valid_path
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
    r"""Read triples of names, one ``head<tab>relation<tab>tail`` per line, as in ConvE's data sets, or CSV.

    Use it with several files for a split: ``TripleSplit(*read_triples([train, valid, test]))``. The parts then have the
    same node and relation ids; files read separately get different ids, and a split of them is
    rejected.

    A first line such as ``head,relation,tail`` or ``subject,predicate,object`` is a header and sets the order of the
    columns; comment lines (``#``, ``%``) are skipped, blanks around fields are stripped. Each is logged.

    Args:
        path: the file, UTF-8, with LF or CRLF line ends. Or several files.
        delimiter: one character; None is a comma for files ending in ``.csv``, else a tab. With other delimiters than a
            tab, fields may be quoted with double quotes.
        duplicates: what to do with repeated triples in a file, as in `KnowledgeGraph.from_triples`.

    Raises:
        ArgumentError: a delimiter that is not one character, or is a quote or a line end; or no file.
        DataError: a line without three fields, with an empty field or an open quote, or not UTF-8; the message has
            the line number.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "triples.csv").write_text("head,relation,tail\nDune,by,Herbert\n")
    ...     read_triples(f"{folder}/triples.csv").find_triples()
    [Triple(head='Dune', relation='by', tail='Herbert')]
    """
    several = not isinstance(path, (str, os.PathLike))
    files: list[File] = list(path) if several else [path]  # type: ignore[arg-type, list-item]
    if not files:
        raise ArgumentError("path", "one or more files", "none")
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n'):
        raise ArgumentError("delimiter", "one character other than a quote or line end", repr(delimiter))
    found = []
    for file in files:
        sign = ("," if str(file).lower().endswith(".csv") else "\t") if delimiter is None else delimiter
        found.append(parse_triples(_text(file), sign, str(file)))
    graphs = _of_names(found, duplicates)
    return graphs if several else graphs[0]


def _of_names(parts: list[list[tuple[str, str, str]]], duplicates: str) -> tuple[KnowledgeGraph, ...]:
    """One graph per part, with shared ids in the order of appearance."""
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
    r"""Write triples in the format of :func:`read_triples`, as names if the graph has names, else as numbers.

    Raises:
        ArgumentError: an empty name, one with a tab, a line end or blanks around it, or a head that begins as a
            comment.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_triples(KnowledgeGraph.from_names([("Dune", "by", "Herbert")]), f"{folder}/triples.tsv")
    ...     Path(folder, "triples.tsv").read_text()
    'Dune\tby\tHerbert\n'
    """
    from hgraph.files import write_atomically

    lines = []
    for triple in kg.find_triples():
        fields = [str(field) for field in triple]
        if any(not f or len(f.splitlines()) != 1 or "\t" in f for f in fields):
            raise ArgumentError("names", "nonempty texts without tabs and line ends", repr(tuple(fields)))
        if any(f != f.strip() for f in fields) or fields[0].startswith(("#", "%")):
            hint = "read_triples would strip the blanks, or skip the line as a comment"
            raise ArgumentError("names", "texts without blanks around them or # or % at the start", fields[0], hint)
        lines.append("\t".join(fields) + "\n")
    write_atomically(path, "".join(lines).encode())


def read_kgat(
    path: File, *, num_nodes: int | None = None, num_relations: int | None = None, duplicates: str = "error"
) -> KnowledgeGraph:
    r"""Read KGAT's ``kg_final.txt``: ``head relation tail`` as numbers, separated by blanks.

    Args:
        path: the file.
        num_nodes: N; None is the largest number + 1, as the format defines it.
        num_relations: R, likewise.
        duplicates: of repeated triples, as `KnowledgeGraph.from_triples` has it.

    Raises:
        DataError: a line without three numbers, or with one out of range; the message gives the line number.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "kg_final.txt").write_text("0 0 2\n1 0 2\n")
    ...     read_kgat(f"{folder}/kg_final.txt")
    KnowledgeGraph(3 nodes, 2 triples, 1 relations, cpu)
    """
    return numbered_triples(_text(path), None, str(path)).graph(num_nodes, num_relations, duplicates)


def read_kgcn(path: File, *, num_nodes: int | None = None, duplicates: str = "error") -> KnowledgeGraph:
    r"""Read ``kg.txt`` or ``kg_final.txt`` of KGCN, RippleNet and MKR: numbers, but relations may be names.

    Named relations are numbered in order of appearance.

    Args:
        path: the file.
        num_nodes: N; None is the largest number + 1.
        duplicates: of repeated triples, as `KnowledgeGraph.from_triples` has it.

    Raises:
        DataError: an invalid line, or a number beyond ``num_nodes``; the message has the line number.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "kg.txt").write_text("0\tby\t1\n")
    ...     read_kgcn(f"{folder}/kg.txt").relation_names[0]
    'by'
    """
    return kgcn_graph(_text(path), str(path), num_nodes, duplicates)


def kgcn_graph(text: str, source: str, num_nodes: int | None = None, duplicates: str = "error") -> KnowledgeGraph:
    """Parse the text of a :func:`read_kgcn` file."""
    known: dict[str, int] = {}
    triples, lines = [], []
    for number, (h, r, t) in rows(text, "\t", 3, source):
        triples.append((_integer(h, source, number), known.setdefault(r, len(known)), _integer(t, source, number)))
        lines.append(number)
    found, size, names = _Numbered.of(triples, lines, source), len(known), list(known)
    if not all(name.isdecimal() and len(name) < 18 for name in known):
        return found.graph(num_nodes, size, duplicates, relation_names=names)
    if names:  # numeric names are ids, whatever their order
        found.triples[:, 1] = torch.tensor([int(name) for name in names])[found.triples[:, 1]]
    return found.graph(num_nodes, duplicates=duplicates)


def read_recbole(path: File, *, duplicates: str = "error") -> KnowledgeGraph:
    r"""Read RecBole's ``.kg`` file; nodes and relations are numbered in order of appearance and named by their tokens.

    Raises:
        DataError: no header with the three columns, or an invalid line; the message gives the line number.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.kg").write_text("head_id:token\trelation_id:token\ttail_id:token\na\tby\tb\n")
    ...     read_recbole(f"{folder}/a.kg").find_triples()
    [Triple(head='a', relation='by', tail='b')]
    """
    columns = recbole_columns(_text(path), str(path), ("head_id", "relation_id", "tail_id"))
    return KnowledgeGraph.from_names(list(zip(*columns, strict=True)), duplicates=duplicates)


def recbole_columns(text: str, source: str, wanted: tuple[str, ...]) -> list[list[str]]:
    """The named columns of a RecBole atomic file, as texts."""
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
    r"""Read a folder of OpenKE: names in ``entity2id.txt`` and ``relation2id.txt``, triples as head, tail, relation.

    Args:
        folder: the folder; each file begins with a line that has the number of other lines.
        name: the file of triples.
        duplicates: of repeated triples, as `KnowledgeGraph.from_triples` has it; the published WN11 has some.

    Raises:
        DataError: an invalid line, unknown ids, or a number of lines that differs from the first line.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "entity2id.txt").write_text("2\nDune\t0\nHerbert\t1\n")
    ...     _ = Path(folder, "relation2id.txt").write_text("1\nby\t0\n")
    ...     _ = Path(folder, "train2id.txt").write_text("1\n0 1 0\n")  # head, tail, relation
    ...     read_openke(folder).find_triples()
    [Triple(head='Dune', relation='by', tail='Herbert')]
    """
    place = Path(folder)
    entities, relations = (_openke_names(place / f"{kind}2id.txt") for kind in ("entity", "relation"))
    source = str(place / name)
    count, body = _counted(_text(place / name), source)
    found = numbered_triples(body, None, source, first=2)
    if len(found.triples) != count:
        raise DataError(f"{source}: line 1 says {count} triples, there are {len(found.triples)}")
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
            known = "an id that is already used" if found in names else str(found)
            raise DataError(f"{source}, line {number}: expected a unique id in 0 .. {count - 1}, got {known}")
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
    """(line number, fields) of each nonblank line; ``separator`` None splits at blanks.

    Raises:
        DataError: a wrong number of fields, or an empty one unless ``empty``.
    """
    what = {None: "blanks", "\t": "tabs"}.get(separator, repr(separator))
    for number, line in _lines(text, first):
        fields = line.split(separator)
        if len(fields) != width:
            raise DataError(f"{source}, line {number}: expected {width} fields separated by {what}, got {len(fields)}")
        if not empty and not all(fields):
            raise DataError(f"{source}, line {number}: expected no empty field, got {line[:80]!r}")
        yield number, fields


@dataclass(frozen=True)
class _Numbered:
    """Triples as numbers with their line numbers, for errors about numbers out of range."""

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
        """Build the graph with these sizes; None is the largest number + 1."""
        head, relation, tail = self.triples.unbind(1)
        nodes = _size(torch.cat([head, tail])) if num_nodes is None else num_nodes
        relations = _size(relation) if num_relations is None else num_relations
        for name, size in (("num_nodes", nodes), ("num_relations", relations)):
            if isinstance(size, bool) or not isinstance(size, int) or size < 0:
                raise ArgumentError(name, "a whole number, 0 or more", repr(size))
        sizes = torch.tensor([nodes, relations, nodes])
        wrong = (self.triples >= sizes).nonzero()  # in order of lines
        if len(wrong):
            row, column = wrong[0].tolist()
            what, got = ("head", "relation", "tail")[column], int(self.triples[row, column])
            place = f"{self.source}, line {int(self.lines[row])}"
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
    """Nonblank lines, without their ends; not splitlines, which also splits at other characters."""
    for number, line in enumerate(text.split("\n"), first):
        if line.strip():
            yield number, line.rstrip("\r")


def _integer(field: str, source: str, number: int) -> int:
    if not (field.isascii() and field.isdigit()) or len(field) > 19 or int(field) > _LARGEST:
        raise DataError(f"{source}, line {number}: expected a whole number, 0 or more, got {field[:40]!r}")
    return int(field)


def _text(path: File) -> str:
    try:
        content = valid_path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8 ({error.reason})") from error
