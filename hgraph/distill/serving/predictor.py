"""Predictions of an exported student from features, raw rows or files of any length."""

from __future__ import annotations

import csv
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from hgraph.distill.serving.export import CARD
from hgraph.distill.serving.programs import Layers, Onnx
from hgraph.errors import ArgumentError, DataError, MissingPackageError, did_you_mean
from hgraph.schema import read
from hgraph.train import NodeTask, task_from

__all__ = ["Answer", "Predictor", "delimiter_of"]

IDENTITY = "node "  # prefix of the names of one-hot features, as in hgraph.datasets.tables.inputs
_PARQUET = (".parquet", ".pq")
MOST_UNSEEN = 1000  # maximum number of counted categories per column


@dataclass(frozen=True)
class Answer:
    """The prediction for one row.

    Args:
        label: name of the most probable class.
        probability: its probability.
    """

    label: str
    probability: float


class Predictor:
    """An exported student for predictions; ``unseen`` counts categories that its encoder does not know, by column.

    An encoder knows the 1,000 most frequent categories of the training data; ``unseen`` counts at most 1,000 different
    ones per column.

    Args:
        folder: a folder written by `export`.
        program: ``"layers"``, ``"onnx"`` or ``"int8"``; None chooses the first of these in the folder. Exported torch
            programs are not supported, since loading them may execute code.

    Raises:
        DataError: the folder has no exported student, or its files were changed.
        ArgumentError: the folder does not have the program.

    >>> import tempfile
    >>> from torch import nn
    >>> from hgraph.distill import export
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = export(nn.Linear(3, 2), f"{folder}/student", torch.eye(3), class_names=["cat", "dog"])
    ...     predictor = Predictor(f"{folder}/student")
    >>> predictor.classes, predictor.logits(torch.eye(3)).shape
    (('cat', 'dog'), torch.Size([3, 2]))
    """

    def __init__(self, folder: str | os.PathLike[str], *, program: str | None = None) -> None:
        self.folder = Path(folder)
        card = _card(self.folder / CARD)
        self.classes, self.feature_names, self.notes = card.classes, card.features, card.notes
        self.task: NodeTask = task_from(card.task, self.folder / CARD)
        for name, expected in card.sha256.items():
            path = self.folder / name
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
                raise DataError(f"{path}: missing or changed since the export. Export the student again")
        available = [p for p in ("layers", "onnx", "int8") if p in card.programs]
        if not available or (program is not None and program not in available):
            hint = (
                f"Export it with `hgraph export RUN --format {program}`, into RUN/export"
                if program in ("onnx", "int8")
                else ""
            )
            raise ArgumentError("program", f"one of {available}", repr(program), hint)
        self.program = available[0] if program is None else program
        path = self.folder / card.programs[self.program]
        self._run: Callable[[Tensor], Tensor] = Layers(path) if self.program == "layers" else Onnx(path)
        self.unseen: dict[str, dict[str, int]] = {}
        self._lock = threading.Lock()
        self.encoder: Any = None
        # nodes without columns have a one-hot feature each: a row is then the id of a known node
        names = [name.removeprefix(IDENTITY) for name in self.feature_names if name.startswith(IDENTITY)]
        self.ids: tuple[str, ...] = ()
        if not card.encoder and len(names) == len(self.feature_names):
            self.ids = tuple(names)
        self._named: dict[str, str] = {}
        self._decimal: str | None = None
        if card.encoder:
            from hgraph.datasets.tables import Encoder

            self.encoder = Encoder.load(self.folder)
        self._check_program()

    def _check_program(self) -> None:
        """Raise an error if the program or the encoder have other numbers of features or classes than the card."""
        file = self.folder / CARD
        width = len(self.feature_names)
        if self.encoder is not None and len(self.encoder.feature_names) != width:
            got = len(self.encoder.feature_names)
            raise DataError(f"{file}: features: expected {got} names, one per feature of the encoder, got {width}")
        try:
            logits = self._run(torch.zeros(2, width))
        except Exception as error:  # the exceptions of onnxruntime have no common base class but Exception
            raise DataError(
                f"{file}: features: expected as many names as the program has inputs, got {width}"
            ) from error
        if logits.shape != (2, len(self.classes)):
            counts = f"{len(self.classes)}, for logits of shape {list(logits.shape)} for 2 rows"
            raise DataError(f"{file}: classes: expected one name per output of the program, got {counts}")

    def reading(
        self,
        *,
        columns: Mapping[str, str] | None = None,
        decimal: str | None = None,
        missing: Sequence[str] | None = None,
    ) -> None:
        """Set how files of rows are read, if they differ from the tables of the training.

        Args:
            columns: column of the student -> its name in the files.
            decimal: the decimal sign of numbers, "." or ","; None is that of the training.
            missing: texts of missing cells; None are those of the training.

        Raises:
            ArgumentError: the student has no such column, or its features are numbers without missing cells.
        """
        for name in columns or {}:
            if name not in self.columns:
                raise ArgumentError("columns", f"columns of the student: {list(self.columns)[:20]}", repr(name))
        if decimal not in (None, ".", ","):
            raise ArgumentError("decimal", "'.', ',' or None", repr(decimal))
        if missing is not None and self.encoder is None:
            raise ArgumentError("missing", "no value, because every feature of this student is a number", missing)
        self._named = {column: name for name, column in (columns or {}).items()}
        self._decimal = decimal
        if self.encoder is not None:
            self.encoder = self.encoder.read_with(decimal=decimal, missing=missing)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a row must have: those of the encoder, or the features, or ``id`` of a known node."""
        if self.ids:
            return ("id",)
        return self.feature_names if self.encoder is None else tuple(c.name for c in self.encoder.codings)

    def logits(self, x: Tensor) -> Tensor:
        """Logits [N, C] of features [N, F].

        Raises:
            ArgumentError: a wrong number of features.
        """
        if x.dim() != 2 or x.shape[1] != len(self.feature_names):
            raise ArgumentError("x", f"shape [N, {len(self.feature_names)}]", f"shape {list(x.shape)}")
        with torch.inference_mode():
            return self._run(x.float().contiguous())

    def probabilities(self, x: Tensor) -> Tensor:
        """Probabilities [N, C] of all classes or labels, from features [N, F].

        Raises:
            ArgumentError: the student predicts numbers.
            DataError: as `predictions`.
        """
        if not self.task.has_classes:
            raise ArgumentError("student", "a student that predicts classes", self.task.title, "Use predictions(x)")
        return self.predictions(x)

    def predictions(self, x: Tensor) -> Tensor:
        """Probabilities [N, C], or for a regression numbers in the unit of its targets [N, T], of features [N, F].

        Raises:
            DataError: the features are so large that logits are not finite; the message gives the first row.
        """
        logits = self.logits(x)
        finite = logits.isfinite().all(-1)
        if not bool(finite.all()):
            row = int((~finite).nonzero()[0, 0])
            raise DataError(
                f"row {row}: expected features with finite logits, got features up to {x[row].abs().max():.3g}"
            )
        return self.task.activate(logits)

    def answers(self, x: Tensor) -> list[Answer]:
        """The most probable class of each row of features [N, F]; for several labels or numbers, see `predictions`.

        Raises:
            ArgumentError: the student does not predict one class per row.
        """
        if self.task.kind != "classification":
            hint = "Use predictions(x)"
            raise ArgumentError("student", "a student that predicts one class per row", self.task.title, hint)
        return self._best(self.probabilities(x))

    def _best(self, probabilities: Tensor) -> list[Answer]:
        probability, best = probabilities.max(-1)
        pairs = zip(best.tolist(), probability.tolist(), strict=True)
        return [Answer(self.classes[b], p) for b, p in pairs]

    def features(self, columns: Mapping[str, Sequence[Any]]) -> Tensor:
        """Features [R, F] from raw columns; without an encoder, the columns are the features, and cells are numbers.

        Adds the categories that the encoder does not know to ``unseen``; several threads may call it at once.

        Raises:
            DataError: a column is missing, or a cell does not fit its column.
        """
        x, unseen = self.encode(columns)
        with self._lock:
            for name, counts in unseen.items():
                _add(self.unseen.setdefault(name, {}), counts)
        return x

    def encode(self, columns: Mapping[str, Sequence[Any]]) -> tuple[Tensor, dict[str, dict[str, int]]]:
        """Features as `features` returns them, and the counts of unknown categories of these rows, by column.

        Use it in a server, where counts belong to a request.

        Raises:
            DataError: as `features`.
        """
        if self.encoder is not None:
            from hgraph.datasets import read_table

            table = read_table(columns, name="rows", decimal=self.encoder.decimal)
            return self.encoder.transform(table), self.encoder.unseen(table)
        if self.ids and "id" in columns:
            return self._one_hot(columns["id"]), {}
        wanted = self.feature_names if self.ids and set(self.feature_names) <= set(columns) else self.columns
        for name in wanted:
            if name not in columns:
                raise DataError(f"rows: expected a column {name!r}, got {list(columns)[:20]}")
        try:
            numbers = [[self._number(v) for v in columns[name]] for name in wanted]
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"rows: expected numbers in all cells ({error})") from None
        x = torch.tensor(numbers, dtype=torch.float32).view(len(wanted), -1).T.contiguous()
        if not bool(x.isfinite().all()):
            row, column = (~x.isfinite()).nonzero()[0].tolist()
            got = columns[wanted[column]][row]
            raise DataError(f"row {row}: column {wanted[column]!r}: expected a finite number, got {got!r}")
        return x, {}

    def _one_hot(self, names: Sequence[Any]) -> Tensor:
        """One-hot features of known nodes; there are none for other nodes, because nodes have no columns."""
        place = {name: i for i, name in enumerate(self.ids)}
        x = torch.zeros(len(names), len(self.ids))
        for row, name in enumerate(map(str, names)):
            if name not in place:
                hint = did_you_mean(name, self.ids, "A node without columns must have been in training")
                raise DataError(f"row {row}: column 'id': expected a node of the training data, got {name!r}. {hint}")
            x[row, place[name]] = 1
        return x

    def _number(self, cell: Any) -> float:
        if self._decimal == "," and isinstance(cell, str):
            cell = cell.replace(".", "").replace(",", ".")
        return float(cell)

    def _renamed(self, header: Sequence[str], path: Path) -> list[str]:
        """The header of a file with the names of the student."""
        if absent := [name for name in self._named if name not in header]:
            raise DataError(f"{path}: expected a column {absent[0]!r}, got {list(header)[:20]}")
        found = [self._named.get(name, name) for name in header]
        if twice := [name for name in self._named.values() if found.count(name) > 1]:
            raise DataError(f"{path}: expected one column for {twice[0]!r}, got two. Leave one out")
        return found

    def stream(
        self, path: str | os.PathLike[str], *, rows: int = 4096, delimiter: str | None = None
    ) -> Iterator[list[Answer]]:
        """Predictions for a CSV or Parquet file, ``rows`` at a time, so that memory does not grow with the file.

        Args:
            path: a CSV file with a header line, or a file that ends in ``.parquet``.
            rows: number of rows at a time.
            delimiter: separator of fields; None uses `delimiter_of`.

        Raises:
            DataError: the file is missing or is not such a table; the message gives file and line.
            MissingPackageError: Parquet without pyarrow.
        """
        for _, probabilities in self.blocks(path, rows=rows, delimiter=delimiter):
            yield self._best(probabilities)

    def blocks(
        self, path: str | os.PathLike[str], *, rows: int = 4096, delimiter: str | None = None
    ) -> Iterator[tuple[Mapping[str, Sequence[Any]], Tensor]]:
        """Columns and `predictions` [R, C] of each block of rows, with the arguments of `stream`."""
        path = Path(path)
        if path.suffix.lower() in _PARQUET:
            yield from self._parquet(path, rows)
            return
        sign = delimiter_of(path) if delimiter is None else delimiter
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                lines = csv.reader(file, delimiter=sign, strict=True)
                yield from self._csv(lines, path, rows)
        except csv.Error as error:
            from hgraph.datasets.tables.text_rows import not_csv

            raise DataError(f"{path}:{not_csv(path, sign, lines.line_num, error)}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as CSV ({error})") from error

    def _parquet(self, path: Path, rows: int) -> Iterator[tuple[Mapping[str, Sequence[Any]], Tensor]]:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise MissingPackageError("pyarrow", "io", f"{path}: reading Parquet") from error
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=rows):
                    content = batch.to_pydict()
                    columns = dict(zip(self._renamed(list(content), path), content.values(), strict=True))
                    yield columns, self.predictions(self.features(columns))
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{path}: cannot be read as Parquet ({error})") from error

    def _csv(self, lines: Any, path: Path, rows: int) -> Iterator[tuple[Mapping[str, Sequence[Any]], Tensor]]:
        header = self._renamed([name.strip() for name in next(lines, [])], path)
        first = 2
        while block := list(islice(_whole(lines, len(header), path), rows)):
            columns = {name: [row[i] for row in block] for i, name in enumerate(header)}
            try:
                predicted = self.predictions(self.features(columns))
            except DataError as error:
                raise DataError(f"{path}, within lines {first} to {lines.line_num}: {error}") from error
            yield columns, predicted
            first = lines.line_num + 1


def delimiter_of(path: str | os.PathLike[str]) -> str:
    """A tab for ``.tsv``, else the most frequent of comma, semicolon, tab and bar in the first line."""
    path = Path(path)
    if path.suffix.lower() in (".tsv", *_PARQUET):
        return "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return max(",;\t|", key=file.readline(1 << 20).count)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error})") from error


def _add(counted: dict[str, int], counts: Mapping[str, int]) -> None:
    for word, count in counts.items():
        if word in counted or len(counted) < MOST_UNSEEN:
            counted[word] = counted.get(word, 0) + count


def _whole(lines: Any, width: int, path: Path) -> Iterable[list[str]]:
    for row in lines:
        if len(row) == 0:
            continue
        if len(row) != width:
            raise DataError(f"{path}:{lines.line_num}: expected {width} fields as in the header, got {len(row)}")
        yield [cell.strip() for cell in row]


@dataclass(frozen=True)
class _Card:
    """The keys of ``student.json`` that are read back."""

    format: Literal["hgraph student"]
    version: Literal[1, 2]
    features: tuple[str, ...]
    classes: tuple[str, ...]
    encoder: bool
    programs: dict[str, str]
    sha256: dict[str, str]
    notes: tuple[str, ...] = ()
    task: dict[str, Any] | None = None


def _card(path: Path) -> _Card:
    card = read(path, _Card, hint="Export a student with `hgraph export RUN`")
    for file in card.sha256:
        if Path(file).name != file or "\0" in file:
            raise DataError(f"{path}: sha256: expected names of files in the folder, got {file[:60]!r}")
    for name, file in card.programs.items():
        if file not in card.sha256:
            raise DataError(f"{path}: programs.{name[:60]}: expected a file with an entry in sha256, got {file[:60]!r}")
    if not card.programs:
        raise DataError(f"{path}: programs: expected one or more programs, got none")
    for name in ("features", "classes"):
        texts = getattr(card, name)
        if not texts or len(set(texts)) < len(texts):
            raise DataError(f"{path}: {name}: expected one or more different names, got {len(texts)}")
    return card
