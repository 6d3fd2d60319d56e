"""The encoder: fitted on training rows, saved without pickle, gives the same features for new rows later."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from hgraph.datasets.tables import kinds, quantities
from hgraph.datasets.tables.cells import canonical
from hgraph.datasets.tables.table import Table, read_table, wrong
from hgraph.errors import ArgumentError, DataError
from hgraph.files import write_atomically
from hgraph.schema import read

__all__ = ["Coding", "Encoder"]

_VERSION = 1
_FORMAT = "hgraph encoder"
MOST = 1000  # categories of a column that become features
_WORDS, _LIMIT = 256, 1e6  # words of a text column; standardized values are clipped to this many standard deviations


@dataclass(frozen=True)
class Coding:
    """How one column is encoded as features.

    Args:
        name: name of the column.
        kind: ``"numeric"``, ``"boolean"``, ``"categorical"``, ``"text"`` or ``"date"``.
        words: the categories, or the words of a text, in the order of their features; for numbers their unit (``%``,
            ``kg``), if they have one.
        numbers: mean and scale (numeric, date), or the weight of each word (text).
        missing: whether the last feature marks missing cells.
    """

    name: str
    kind: str
    words: tuple[str, ...] = ()
    numbers: tuple[float, ...] = ()
    missing: bool = False

    def features(self) -> list[str]:
        """The names of its features."""
        if self.kind in ("categorical", "text"):
            names = [f"{self.name}={word}" for word in self.words]
        elif self.kind == "date":
            parts = ("time", "sin year", "cos year", "sin week", "cos week")
            names = [f"{self.name} ({part})" for part in parts]
        else:
            names = [self.name]
        return names + [f"{self.name} (missing)"] * self.missing


class Encoder:
    """Encodes columns of a table as features [R, F], float32.

    Statistics (means, scales, categories, words and their weights) are computed only from the rows given to `fit`, the
    training rows, so that no information of other rows leaks into the features.

    ============  ============================================================  =======================================
    kind          features                                                      unknown or missing
    ============  ============================================================  =======================================
    numeric       (v - mean) / deviation, clipped to 1e6                       missing: 0, the mean
    boolean       1 or 0                                                        missing: 0
    categorical   one per category, by name; the 1000 most frequent             unseen or missing: all 0
    text          tf-idf of the 256 most frequent words of two or more rows    unseen words: 0; missing: all 0
    date          standardized time; sine and cosine of the year and the week   missing: all 0
    ============  ============================================================  =======================================

    Categories are compared by their canonical text: 1 and 1.0 are equal, True and true are equal, Red and red are not.
    So a column of whole numbers that pandas turned into 1.0 because of a missing cell gives the same features.

    A column with missing cells in training rows has one more feature, 1 if the cell is missing (except text columns).

    Args:
        codings: one per column, in the order of the features.
        missing: texts that mean a missing cell.
        decimal: the decimal separator, "." or ","; None means a period, and a comma is refused.

    >>> table = {"color": ["red", "blue", "red", "green"], "size": [1.0, 3.0, None, 9.0]}
    >>> encoder = Encoder.fit(table, {"color": "categorical", "size": "numeric"}, rows=[0, 1, 2])
    >>> encoder.feature_names
    ('color=blue', 'color=red', 'size', 'size (missing)')
    >>> encoder.transform(table).tolist()
    [[0.0, 1.0, -1.0, 0.0], [1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 7.0, 0.0]]
    """

    def __init__(
        self, codings: Collection[Coding], missing: Collection[str] = kinds.MISSING, decimal: str | None = None
    ) -> None:
        self.codings, self.missing, self.decimal = tuple(codings), tuple(missing), decimal

    @classmethod
    def fit(
        cls,
        table: Any,
        columns: Mapping[str, str],
        *,
        rows: Any = None,
        missing: Collection[str] = kinds.MISSING,
        decimal: str | None = None,
    ) -> Encoder:
        """Fit an encoder on rows of a table.

        Args:
            table: any table that `read_table` takes.
            columns: column -> kind, as `from_tables` infers them; ``"ignore"`` skips a column.
            rows: indices of the training rows; None means all rows.
            missing: texts that mean a missing cell.
            decimal: the decimal sign of numbers.

        Raises:
            DataError: a cell does not fit the kind; the message gives file, line and column.
        """
        table = dataclasses.replace(read_table(table, decimal=decimal), decimal=decimal)
        chosen = np.ones(table.num_rows, bool)
        if rows is not None:
            chosen[:] = False
            chosen[np.asarray(rows, np.int64)] = True
        codings = [_fit(table, name, kind, chosen, missing) for name, kind in columns.items() if kind != "ignore"]
        return cls(codings, missing, decimal)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """F names, in order."""
        return tuple(name for coding in self.codings for name in coding.features())

    def transform(self, table: Any) -> Tensor:
        """Encode the rows of a table as features [R, F]; columns unknown to the encoder are ignored.

        Args:
            table: any table that `read_table` takes.

        Raises:
            DataError: a column is missing, or a cell does not fit its kind; the message gives file, line and column.
        """
        table = dataclasses.replace(read_table(table, decimal=self.decimal), decimal=self.decimal)
        for coding in self.codings:
            if coding.name not in table.columns:
                raise wrong(table.source, f"a column {coding.name!r}", f"columns {list(table.columns)}")
        out = np.zeros((table.num_rows, len(self.feature_names)), np.float32)
        start = 0
        for coding in self.codings:
            width = len(coding.features())
            _encode(table, coding, self.missing, out[:, start : start + width])
            start += width
        return torch.from_numpy(out)

    def unseen(self, table: Any) -> dict[str, dict[str, int]]:
        """Counts of categories without a feature, by column: not in the rows of `fit`, or not among the most frequent.

        >>> Encoder.fit({"a": ["x", "y"]}, {"a": "categorical"}).unseen({"a": ["z", "x", "z"]})
        {'a': {'z': 2}}
        """
        table, found = read_table(table, decimal=self.decimal), {}
        for coding in self.codings:
            if coding.kind == "categorical" and coding.name in table.columns:
                known, counts = _keys(coding).keys() | set(self.missing), dict[str, int]()
                for cells in table[coding.name]:
                    for cell in cells:
                        if cell not in known and (key := canonical(cell)) not in known:
                            counts[key] = counts.get(key, 0) + 1
                if counts:
                    found[coding.name] = counts
        return found

    def read_with(self, *, decimal: str | None = None, missing: Collection[str] | None = None) -> Encoder:
        """The same features for tables with another decimal sign or other texts of missing cells; None changes nothing.

        >>> people = Encoder.fit({"size": ["1.5", "2.5"]}, {"size": "numeric"})
        >>> people.read_with(decimal=",").transform({"size": ["2,5"]}).tolist()
        [[1.0]]
        """
        missing = self.missing if missing is None else missing
        return Encoder(self.codings, missing, self.decimal if decimal is None else decimal)

    def describe_unknown(self, name: str) -> str:
        """What is known about an unknown category of a column: it was not in training, or it was too rare there.

        >>> Encoder.fit({"a": ["x", "y"]}, {"a": "categorical"}).describe_unknown("a")
        'not in the training data'
        """
        words = next(coding.words for coding in self.codings if coding.name == name)
        rare = f" or not among its {MOST:,} most frequent categories" if len(words) >= MOST else ""
        return f"not in the training data{rare}"

    def same_as(self, other: Encoder | None) -> bool:
        """Whether both encode the same cells as the same features."""
        state = (self.codings, set(self.missing), self.decimal)
        return other is not None and state == (other.codings, set(other.missing), other.decimal)

    # ------------------------------------------------------------------ on disk

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``encoder.json`` and ``encoder.safetensors`` into a folder."""
        from safetensors.numpy import save

        columns = [{"name": c.name, "kind": c.kind, "words": c.words, "missing": c.missing} for c in self.codings]
        head = {"format": _FORMAT, "version": _VERSION, "missing": self.missing, "decimal": self.decimal}
        head |= {"columns": columns}
        numbers = {str(i): np.array(c.numbers) for i, c in enumerate(self.codings)}
        write_atomically(Path(folder) / "encoder.safetensors", save(numbers))
        write_atomically(Path(folder) / "encoder.json", json.dumps(head, ensure_ascii=True, indent=1).encode())

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Encoder:
        """Load an encoder written by `save`; nothing in the files is executed or trusted.

        Raises:
            DataError: the files are missing, damaged or contradictory.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = Path(folder) / "encoder.json"
        head = read(path, _File)
        try:
            numbers = load_file(path.with_suffix(".safetensors"))
            values = [tuple(float(v) for v in numbers[str(i)].reshape(-1)) for i in range(len(head.columns))]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise DataError(
                f"{path.with_suffix('.safetensors')}: not readable numbers of an encoder ({error})"
            ) from error
        codings = [Coding(c.name, c.kind, c.words, v, c.missing) for c, v in zip(head.columns, values, strict=True)]
        for coding in codings:
            _check(coding, path)
        if len({coding.name for coding in codings}) < len(codings):
            raise DataError(f"{path}: columns: expected different names, got one of them twice")
        return cls(codings, head.missing, head.decimal)

    def __repr__(self) -> str:
        """Numbers of columns and features."""
        return f"Encoder({len(self.codings)} columns, {len(self.feature_names)} features)"


@dataclass(frozen=True)
class _Column:
    """A column in ``encoder.json``; its numbers are in the other file."""

    name: str
    kind: str
    words: tuple[str, ...]
    missing: bool


@dataclass(frozen=True)
class _File:
    """The content of ``encoder.json``."""

    format: Literal["hgraph encoder"]
    version: Literal[1]
    missing: tuple[str, ...]
    columns: tuple[_Column, ...]
    decimal: Literal[".", ","] | None = None


def _check(coding: Coding, path: Path) -> None:
    """Refuse a coding whose numbers do not fit its kind."""
    expected = {"numeric": 2, "date": 2, "text": len(coding.words)}.get(coding.kind, 0)
    known = coding.kind in get_args(kinds.Kind) and coding.kind != "ignore"
    finite = np.isfinite(coding.numbers).all() and (coding.kind not in ("numeric", "date") or coding.numbers[1:] > (0,))
    if not known:
        got = repr(coding.kind)[:60]
        raise DataError(f"{path}: columns: expected a known kind of column {coding.name[:60]!r}, got {got}")
    if len(coding.numbers) != expected or not finite or len(set(coding.words)) < len(coding.words):
        what = "words and numbers that fit its kind"
        raise DataError(f"{path}: columns: expected {what} for column {coding.name[:60]!r} ({coding.kind}), got others")


# ---------------------------------------------------------------------- fitting


def _fit(table: Table, name: str, kind: str, chosen: np.ndarray, missing: Collection[str]) -> Coding:
    if name not in table.columns:
        raise ArgumentError("columns", f"columns of {table.source}: {list(table.columns)}", repr(name))
    if kind == "text":
        words, weights = _fit_words([c for cells, _ in _training(table, name, chosen) for c in cells], missing)
        return Coding(name, kind, words, weights)
    if kind == "categorical":
        count: dict[str, int] = {}
        has_missing = False
        missing_texts = frozenset(missing)
        for cells, _ in _training(table, name, chosen):
            for cell in cells:
                if cell in missing_texts:
                    has_missing = True
                else:
                    key = canonical(cell)
                    count[key] = count.get(key, 0) + 1
        frequent = sorted(count, key=lambda word: (-count[word], word))[:MOST]
        return Coding(name, kind, tuple(sorted(frequent)), missing=has_missing)
    mark = _mark(table, name, missing) if kind == "numeric" else ""
    values = kinds.read(table, name, kind, missing, mark=mark)[chosen]
    present = values[~np.isnan(values)]
    has_missing = len(present) < len(values)
    return Coding(name, kind, (mark,) if mark else (), () if kind == "boolean" else _moments(present), has_missing)


def _mark(table: Table, name: str, missing: Collection[str]) -> str:
    """The unit of the numbers of a column, such as %."""
    words = (list(set(chunk).difference(missing)) for chunk in table[name])
    # plain numbers, the most frequent case, have no unit: check only one of them per chunk
    cells = (cell for some in words for cell in (some if kinds.floats(some) is None else some[:1]))
    marks = quantities.mark_of(cells)
    return next(iter(marks)) if marks is not None and len(marks) == 1 else ""


def _training(table: Table, name: str, chosen: np.ndarray) -> Iterator[tuple[list[str], int]]:
    """The training cells of each chunk, and the first row of the chunk."""
    start = 0
    for cells in table[name]:
        mask = chosen[start : start + len(cells)]
        yield cells if mask.all() else [cells[i] for i in np.flatnonzero(mask)], start
        start += len(cells)


def _moments(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation (1 if it is 0); the squares of the values may overflow float64."""
    size = float(np.abs(values).max(initial=0.0)) or 1.0
    mean = float((values / size).mean()) if len(values) else 0.0
    deviation = float(np.sqrt((((values / size) - mean) ** 2).mean())) if len(values) else 0.0
    # equal values may have a deviation of about 1e-17 by rounding
    return mean * size, deviation * size if deviation > 1e-12 and deviation * size > 0 else 1.0


def _fit_words(cells: list[str], missing: Collection[str]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(max_features=_WORDS, min_df=2)
    try:
        vectorizer.fit(cell for cell in cells if cell not in missing)
    except ValueError:  # no word occurs in two rows
        return (), ()
    return tuple(vectorizer.get_feature_names_out().tolist()), tuple(vectorizer.idf_.tolist())


# ---------------------------------------------------------------------- applying


def _encode(table: Table, coding: Coding, missing: Collection[str], out: np.ndarray) -> None:
    """Write the features of a column to ``out`` [R, width], which contains zeros."""
    if coding.kind == "categorical":
        column = _keys(coding) | dict.fromkeys(missing, len(coding.words) if coding.missing else -1)
        start = 0
        for cells in table[coding.name]:
            for cell in set(cells).difference(column):  # each distinct text once
                column[cell] = column.get(canonical(cell), -1)
            at = np.fromiter(map(column.__getitem__, cells), np.int64, len(cells))
            rows = np.flatnonzero(at >= 0)
            out[rows + start, at[rows]] = 1
            start += len(cells)
        return
    if coding.kind == "text":
        _encode_words(table, coding, missing, out)
        return
    mark = coding.words[0] if coding.words else ""
    values = kinds.read(table, coding.name, coding.kind, missing, mark=mark)
    present = ~np.isnan(values)
    if coding.missing:
        out[:, -1] = ~present
    if coding.kind == "boolean":
        out[:, 0] = np.where(present, values, 0)
        return
    mean, scale = coding.numbers
    with np.errstate(over="ignore"):  # clipped
        out[:, 0] = np.where(present, np.clip((values - mean) / scale, -_LIMIT, _LIMIT), 0)
    if coding.kind == "date":
        for i, period in ((1, 365.2425), (3, 7.0)):
            angle = 2 * np.pi / period * values
            out[:, i] = np.where(present, np.sin(angle), 0)
            out[:, i + 1] = np.where(present, np.cos(angle), 0)


def _keys(coding: Coding) -> dict[str, int]:
    """Map of category to feature index, by original and by canonical text."""
    index = {word: i for i, word in enumerate(coding.words)}
    return {canonical(word): i for word, i in index.items()} | index


def _encode_words(table: Table, coding: Coding, missing: Collection[str], out: np.ndarray) -> None:
    if not coding.words:
        return
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize

    vectorizer, weight, start = CountVectorizer(vocabulary=list(coding.words)), np.array(coding.numbers), 0
    for cells in table[coding.name]:
        counts = vectorizer.transform(["" if cell in missing else cell for cell in cells])
        out[start : start + len(cells)] = normalize(counts.multiply(weight).tocsr()).toarray()
        start += len(cells)
