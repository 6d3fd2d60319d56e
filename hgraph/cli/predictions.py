"""Writes predictions as CSV with any delimiter, JSON lines or Parquet."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hgraph.errors import ArgumentError, MissingPackageError
from hgraph.files import writing

if TYPE_CHECKING:
    from torch import Tensor

    from hgraph.train import NodeTask

__all__ = ["PredictionWriter", "prediction_writer"]


class PredictionWriter:
    """Writes one row per prediction: the id and the answer of the task, such as label and probability."""

    def __init__(
        self, file: Any, task: NodeTask, classes: Sequence[str], kind: str, delimiter: str, key: str | None, proba: bool
    ) -> None:
        import torch

        self.file, self.task, self.classes, self.kind, self.key, self.proba = file, task, classes, kind, key, proba
        answer = task.columns(torch.zeros(0, len(classes)), classes, proba=proba)
        self.header = [*([] if key is None else [key]), *answer]
        self.count = 0
        self._rows: Any = csv.writer(file, delimiter=delimiter, lineterminator="\n") if kind == "csv" else None
        if self._rows is not None:
            self._rows.writerow(self.header)
        self._table: Any = None
        self._schema: Any = None

    def add(self, predicted: Tensor, ids: Sequence[Any] | None) -> None:
        """Write a block of rows with these probabilities or numbers [R, C]; Parquet keeps the type of the ids."""
        columns: list[Sequence[Any]] = [] if self.key is None else [self._ids(ids or [])]
        columns += self.task.columns(predicted, self.classes, proba=self.proba).values()
        self.count += len(predicted)
        if self.kind == "parquet":
            self._add_arrow(columns)
            return
        texts = [[f"{v:.6g}" if isinstance(v, float) else v for v in column] for column in columns]
        if self.kind == "csv":
            self._rows.writerows(zip(*texts, strict=True))
            return
        for row, values in zip(zip(*texts, strict=True), zip(*columns, strict=True), strict=True):
            cells = (t if isinstance(v, float) else json.dumps(v) for t, v in zip(row, values, strict=True))
            pairs = ", ".join(f"{json.dumps(name)}: {cell}" for name, cell in zip(self.header, cells, strict=True))
            self.file.write(f"{{{pairs}}}\n")

    def close(self) -> None:
        """Finish the file; only Parquet files need this."""
        if self.kind == "parquet":
            if self._table is None:
                self._add_arrow([[] for _ in self.header])
            self._table.close()

    def _ids(self, ids: Sequence[Any]) -> list[Any]:
        from hgraph.datasets.tables.cells import text

        if self.kind == "parquet":
            return list(ids)
        return [cell if self.kind == "json" and type(cell) is int else text(cell) for cell in ids]

    def _add_arrow(self, columns: list[Sequence[Any]]) -> None:
        import pyarrow
        import pyarrow.parquet

        if self._table is None:
            kinds = [pyarrow.string() if n in ("label", "labels") else pyarrow.float64() for n in self.header]
            if self.key is not None:
                found = pyarrow.array(columns[0]).type
                kinds[0] = pyarrow.string() if pyarrow.types.is_null(found) else found
            self._schema = pyarrow.schema(list(zip(self.header, kinds, strict=True)))
            self._table = pyarrow.parquet.ParquetWriter(self.file, self._schema)
        arrays = [pyarrow.array(c, k) for c, k in zip(columns, self._schema.types, strict=True)]
        self._table.write_table(pyarrow.Table.from_arrays(arrays, schema=self._schema))


@contextmanager
def prediction_writer(
    out: Path | None,
    task: NodeTask,
    classes: Sequence[str],
    *,
    key: str | None,
    proba: bool,
    as_json: bool,
    delimiter: str,
) -> Iterator[PredictionWriter]:
    """A writer to standard output, or to a file that appears only when it is complete.

    The caller checks the file before any work, see `check_file`.

    Raises:
        ArgumentError: the file is Parquet, with ``as_json``.
        MissingPackageError: Parquet was asked for, but pyarrow is not installed.
    """
    suffix = "" if out is None else out.suffix.lower()
    kind = "json" if as_json else "parquet" if suffix in (".parquet", ".pq") else "csv"
    delimiter = "\t" if suffix == ".tsv" else delimiter
    if out is not None and suffix in (".parquet", ".pq"):
        if as_json:
            raise ArgumentError("out", "a name not ending in .parquet when --json is used", str(out))
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise MissingPackageError("pyarrow", "io", "writing Parquet") from error
        with writing(out, "wb") as file:
            writer = PredictionWriter(file, task, classes, kind, delimiter, key, proba)
            yield writer
            writer.close()
        return
    with nullcontext(sys.stdout) if out is None or str(out) == "-" else writing(out) as file:
        yield PredictionWriter(file, task, classes, kind, delimiter, key, proba)
