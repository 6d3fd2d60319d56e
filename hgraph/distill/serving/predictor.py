"""Answers of an exported student: from features, from raw rows, from files of any length."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hgraph.distill.serving.export import CARD
from hgraph.distill.serving.programs import Layers, Onnx
from hgraph.errors import ArgumentError, DataError, MissingPackageError

__all__ = ["Answer", "Predictor", "delimiter_of"]

_PARQUET = (".parquet", ".pq")
_MOST_UNSEEN = 1000  # categories of a column whose counts are kept


@dataclass(frozen=True)
class Answer:
    """What a student says of one row.

    Args:
        label: the name of the class.
        probability: how sure it is.
    """

    label: str
    probability: float


class Predictor:
    """An exported student, ready to answer; ``unseen`` counts the categories that its encoder never saw, by column.

    Args:
        folder: what `export` wrote.
        program: ``"layers"``, ``"onnx"`` or ``"int8"``; None takes the first of these that the folder has. An
            exported torch program is for others to load: loading it may execute what it holds.

    Raises:
        DataError: no exported student there, or files that changed since.
        ArgumentError: a program the folder does not have.

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
        self.classes: tuple[str, ...] = tuple(card["classes"])
        self.feature_names: tuple[str, ...] = tuple(card["features"])
        self.notes: tuple[str, ...] = tuple(map(str, card.get("notes", ())))
        for name, expected in card["sha256"].items():
            path = self.folder / name
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
                raise DataError(f"{path}: missing, or changed since the student was exported. Export it again")
        here = [p for p in ("layers", "onnx", "int8") if p in card["programs"]]
        if not here or (program is not None and program not in here):
            hint = (
                f"`hgraph export RUN --format {program}` writes it, into RUN/export"
                if program in ("onnx", "int8")
                else ""
            )
            raise ArgumentError("program", f"one of {here}", repr(program), hint)
        self.program = here[0] if program is None else program
        path = self.folder / card["programs"][self.program]
        self._run: Callable[[Tensor], Tensor] = Layers(path) if self.program == "layers" else Onnx(path)
        self.unseen: dict[str, dict[str, int]] = {}
        self.encoder: Any = None
        if card["encoder"]:
            from hgraph.datasets.tables import Encoder

            self.encoder = Encoder.load(self.folder)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns a row must have: those of the encoder, or the features themselves."""
        return self.feature_names if self.encoder is None else tuple(c.name for c in self.encoder.codings)

    def logits(self, x: Tensor) -> Tensor:
        """Logits [N, C] of features [N, F].

        Raises:
            ArgumentError: another number of features.
        """
        if x.dim() != 2 or x.shape[1] != len(self.feature_names):
            raise ArgumentError("x", f"shape [N, {len(self.feature_names)}]", f"shape {list(x.shape)}")
        with torch.inference_mode():
            return self._run(x.float().contiguous())

    def probabilities(self, x: Tensor) -> Tensor:
        """Probabilities [N, C] of all classes, of features [N, F].

        Raises:
            DataError: features so large that the logits are not finite; names the first row.
        """
        logits = self.logits(x)
        finite = logits.isfinite().all(-1)
        if not bool(finite.all()):
            row = int((~finite).nonzero()[0, 0])
            raise DataError(f"row {row}: its features are too large, up to {x[row].abs().max():.3g}, to predict from")
        return logits.softmax(-1)

    def answers(self, x: Tensor) -> list[Answer]:
        """The most probable class of each row of features [N, F]."""
        return self._best(self.probabilities(x))

    def _best(self, probabilities: Tensor) -> list[Answer]:
        probability, best = probabilities.max(-1)
        pairs = zip(best.tolist(), probability.tolist(), strict=True)
        return [Answer(self.classes[b], p) for b, p in pairs]

    def features(self, columns: Mapping[str, Sequence[Any]]) -> Tensor:
        """Features [R, F] of raw columns; without an encoder the columns are the features, and cells numbers.

        Raises:
            DataError: a missing column, a cell that is not what its column holds.
        """
        if self.encoder is not None:
            from hgraph.datasets import read_table

            table = read_table(columns, name="rows")
            x = self.encoder.transform(table)
            for name, counts in self.encoder.unseen(table).items():
                _add(self.unseen.setdefault(name, {}), counts)
            return x
        for name in self.columns:
            if name not in columns:
                raise DataError(f"rows: column {name!r} is missing, got {list(columns)[:20]}")
        try:
            numbers = [[float(v) for v in columns[name]] for name in self.columns]
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"rows: a cell that is not a number ({error})") from None
        x = torch.tensor(numbers, dtype=torch.float32).view(len(self.columns), -1).T.contiguous()
        if not bool(x.isfinite().all()):
            row, column = (~x.isfinite()).nonzero()[0].tolist()
            got = columns[self.columns[column]][row]
            raise DataError(f"row {row}: column {self.columns[column]!r}: expected a finite number, got {got!r}")
        return x

    def stream(
        self, path: str | os.PathLike[str], *, rows: int = 4096, delimiter: str | None = None
    ) -> Iterator[list[Answer]]:
        """Answers to a CSV or Parquet file, ``rows`` at a time, so that memory does not grow with the file.

        Args:
            path: a file with a header line, or one that ends in ``.parquet``.
            rows: how many at a time.
            delimiter: between fields; None as `delimiter_of` finds it.

        Raises:
            DataError: a file that is missing or not such a table; names file and line.
            MissingPackageError: Parquet without pyarrow.
        """
        for _, probabilities in self.blocks(path, rows=rows, delimiter=delimiter):
            yield self._best(probabilities)

    def blocks(
        self, path: str | os.PathLike[str], *, rows: int = 4096, delimiter: str | None = None
    ) -> Iterator[tuple[Mapping[str, Sequence[Any]], Tensor]]:
        """The columns of some rows and the probabilities [R, C] of all classes, as `stream` reads them."""
        path = Path(path)
        if path.suffix.lower() in _PARQUET:
            yield from self._parquet(path, rows)
            return
        sign = delimiter_of(path) if delimiter is None else delimiter
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                yield from self._answer_all(csv.reader(file, delimiter=sign), path, rows)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
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
                    columns = batch.to_pydict()
                    yield columns, self.probabilities(self.features(columns))
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{path}: cannot be read as Parquet ({error})") from error

    def _answer_all(self, lines: Any, path: Path, rows: int) -> Iterator[tuple[Mapping[str, Sequence[Any]], Tensor]]:
        header = [name.strip() for name in next(lines, [])]
        first = 2
        while block := list(islice(_whole(lines, len(header), path), rows)):
            columns = {name: [row[i] for row in block] for i, name in enumerate(header)}
            try:
                probabilities = self.probabilities(self.features(columns))
            except DataError as error:
                raise DataError(f"{path}, within lines {first} to {lines.line_num}: {error}") from error
            yield columns, probabilities
            first = lines.line_num + 1


def delimiter_of(path: str | os.PathLike[str]) -> str:
    """A tab for ``.tsv``, else whichever of comma, semicolon, tab and bar is most frequent in the first line."""
    path = Path(path)
    if path.suffix.lower() in (".tsv", *_PARQUET):
        return "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return max(",;\t|", key=file.readline(1 << 20).count)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error})") from error


def _add(total: dict[str, int], counts: Mapping[str, int]) -> None:
    for word, count in counts.items():
        if word in total or len(total) < _MOST_UNSEEN:
            total[word] = total.get(word, 0) + count


def _whole(lines: Any, width: int, path: Path) -> Iterable[list[str]]:
    for row in lines:
        if len(row) == 0:
            continue
        if len(row) != width:
            raise DataError(f"{path}:{lines.line_num}: expected {width} fields as the header has, got {len(row)}")
        yield [cell.strip() for cell in row]


def _card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: no exported student ({error}). `hgraph export RUN` writes one") from error
    if not isinstance(card, dict) or (card.get("format"), card.get("version")) != ("hgraph student", 1):
        raise DataError(f"{path}: not an exported student of this version of hgraph")
    return card
