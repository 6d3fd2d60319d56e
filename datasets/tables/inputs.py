"""The input and output format of a trained network, and the conversion of other data to it."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hgraph.data import Data
from hgraph.data.derived import log_degree
from hgraph.data.labels import labeled
from hgraph.datasets.tables.cells import canonical
from hgraph.datasets.tables.encoder import Encoder
from hgraph.datasets.tables.table import cells_of, read_table
from hgraph.errors import DataError
from hgraph.files import write_atomically
from hgraph.schema import read

__all__ = ["DEGREE", "IDENTITY", "Inputs"]

_LOG = logging.getLogger("hgraph")
_FILE = "inputs.json"
IDENTITY = "node "  # prefix of the names of one-hot features of nodes
DEGREE = ("one", "log degree")  # the features of many nodes without columns


@dataclass(frozen=True)
class _File:
    """The content of ``inputs.json``."""

    features: tuple[str, ...] | None
    classes: tuple[str, ...] | None
    degree: tuple[float, ...] | None
    encoder: bool


@dataclass(frozen=True)
class Inputs:
    """The encoder, feature names and class names of the data a network was trained on.

    Use it to apply a trained network to other data: features use the statistics of the training data, and classes are
    matched by name.

    Args:
        encoder: the encoder of the columns, or None.
        feature_names: F names, or None if the features have no names.
        class_names: C names, or None.
        degree: mean and standard deviation that standardize the logarithm of the degree, if it is a feature: 0 and 1
            for data of this version, which does not standardize it.

    >>> from hgraph.datasets.tables import from_tables
    >>> people = {"id": ["ada", "ben"], "age": [20, 40], "team": ["a", "b"]}
    >>> others = {"id": ["cleo", "dan"], "age": [40, 60], "team": ["b", "b"]}
    >>> one, two = (from_tables(t, {"members": [t["id"]]}, label="team")[0] for t in (people, others))
    >>> found = Inputs.of(one).applied(two, "others")
    >>> found.x.tolist(), found.y.tolist(), found.meta["class_names"]
    ([[1.0], [3.0]], [1, 1], ('a', 'b'))
    """

    encoder: Encoder | None = None
    feature_names: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
    degree: tuple[float, float] | None = None

    @classmethod
    def of(cls, data: Data) -> Inputs:
        """The inputs of the data that a network is trained on."""
        features, classes, degree = (data.meta.get(n) for n in ("feature_names", "class_names", "degree_moments"))
        return cls(
            data.meta.get("encoder"),
            None if features is None else tuple(map(str, features)),
            None if classes is None else tuple(map(str, classes)),
            None if degree is None else (float(degree[0]), float(degree[1])),
        )

    # ------------------------------------------------------------------ on disk

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``inputs.json``, and the encoder's files if there is one, into a folder."""
        if self.encoder is not None:
            self.encoder.save(folder)
        content: dict[str, Any] = {"features": self.feature_names, "classes": self.class_names, "degree": self.degree}
        content["encoder"] = self.encoder is not None
        write_atomically(Path(folder) / _FILE, json.dumps(content, indent=1).encode())

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Inputs | None:
        """Load inputs written by `save`; None if the folder has none.

        Raises:
            DataError: the files are damaged.
        """
        path = Path(folder) / _FILE
        if not path.is_file():
            return None
        found = read(path, _File)
        if found.degree is not None and (len(found.degree) != 2 or not found.degree[1] >= 0):
            raise DataError(f"{path}: degree: expected a mean and a standard deviation, got {list(found.degree)[:5]}")
        for name in ("features", "classes"):
            texts = getattr(found, name)
            if texts is not None and len(set(texts)) < len(texts):
                raise DataError(f"{path}: {name}: expected different names, got one of them twice")
        encoder = Encoder.load(folder) if found.encoder else None
        if encoder is not None and found.features is not None and encoder.feature_names != found.features:
            raise DataError(f"{path}: features: expected the features in encoder.json, got different ones")
        degree = None if found.degree is None else (found.degree[0], found.degree[1])
        return cls(encoder, found.features, found.classes, degree)

    # ------------------------------------------------------------------ other data

    def applied(self, data: Data, name: str) -> Data:
        """The data with the features and class ids of the network.

        Args:
            data: other data, with a split or without.
            name: the name used in errors.

        Raises:
            DataError: missing or unknown columns or features, or a class unknown to the network.
        """
        x, y = self._features(data, name), self._labels(data, name)
        meta = {k: v for k, v in dict(data.meta).items() if k != "encoder"}
        meta |= {"feature_names": self.feature_names, "class_names": self.class_names}
        meta |= {} if self.encoder is None else {"encoder": self.encoder}
        return dataclasses.replace(data, x=x, y=y, meta=meta)

    def _features(self, data: Data, name: str) -> Tensor:
        encoder: Encoder | None = data.meta.get("encoder")
        if self.encoder is not None:
            return data.x if self.encoder.same_as(encoder) else self._encoded(data, name, encoder)
        if encoder is not None:
            columns = [c.name for c in encoder.codings]
            raise _unknown(name, "columns", columns, "The network was trained without columns")
        names = data.meta.get("feature_names")
        theirs = None if names is None else tuple(map(str, names))
        if self.degree is not None and theirs == DEGREE:
            # the structure may have been adapted to a network since x was computed, for example by self-loops
            plain = tuple(data.meta.get("degree_moments") or ()) == (0.0, 1.0)
            degree = data.x[:, 1] if plain else log_degree(data.structure)
            degree = (degree - self.degree[0]) / max(self.degree[1], 1e-6)
            return torch.stack([torch.ones_like(degree), degree], 1).to(data.x)
        if theirs == self.feature_names:
            return data.x
        if theirs is None or self.feature_names is None:
            got = "features without names" if theirs is None else f"features such as {theirs[0]!r}"
            expected = "features without names" if self.feature_names is None else f"{self.feature_names[0]!r}, ..."
            raise DataError(f"{name}: expected {expected}, as in the training data, got {got}")
        return self._by_name(data.x, theirs, name)

    def _encoded(self, data: Data, name: str, encoder: Encoder | None) -> Tensor:
        assert self.encoder is not None  # noqa: S101 - checked by the caller
        cells = data.meta.get("node_cells")
        theirs = list(cells or ([] if encoder is None else [c.name for c in encoder.codings]))
        wanted = [c.name for c in self.encoder.codings]
        missing = [c for c in wanted if c not in theirs]
        if missing:
            got = f"columns {theirs}" if theirs else "no columns"
            raise DataError(f"{name}: expected the columns {missing} of the network, got {got}")
        if cells is None:
            hint = "Build it again with `hgraph datasets build`, which now saves the cells"
            raise DataError(
                f"{name}: expected the cells of its columns, to encode them like the training data, got none. {hint}"
            )
        table = read_table({c: cells_of(cells[c]) for c in wanted}, name=name)
        # the cells have the decimal sign of their own tables
        known = (
            self.encoder if encoder is None else Encoder(self.encoder.codings, self.encoder.missing, encoder.decimal)
        )
        for column, counts in known.unseen(table).items():
            listed = ", ".join(f"{word!r} {count:,} times" for word, count in list(counts.items())[:5])
            what = self.encoder.describe_unknown(column)
            _LOG.warning("%s: column %r has categories that are %s: %s", name, column, what, listed)
        if more := [c for c in theirs if c not in wanted]:
            _LOG.warning("%s: columns that the network does not use: %s", name, ", ".join(more))
        return known.transform(table).to(data.x)

    def _by_name(self, x: Tensor, theirs: Sequence[str], name: str) -> Tensor:
        wanted = self.feature_names or ()
        place = {feature: i for i, feature in enumerate(theirs)}
        if unknown := [f for f in theirs if f not in set(wanted)]:
            raise _unknown(name, "features", unknown, "They are not in the training data")
        missing = [f for f in wanted if f not in place]
        if missing and not all(f.startswith(IDENTITY) for f in wanted):
            raise DataError(f"{name}: expected the features {missing[:5]} of the network, got none with these names")
        out = x.new_zeros(len(x), len(wanted))
        at = [i for i, feature in enumerate(wanted) if feature in place]
        out[:, at] = x[:, [place[wanted[i]] for i in at]]
        return out

    def _labels(self, data: Data, name: str) -> Tensor:
        names = data.meta.get("class_names")
        theirs = None if names is None else tuple(map(str, names))
        if theirs != self.class_names and data.y.dim() == 2 and theirs is not None and self.class_names is not None:
            if set(theirs) != set(self.class_names):
                raise DataError(f"{name}: expected the labels {list(self.class_names)}, got {list(theirs)}")
            return data.y[:, [theirs.index(c) for c in self.class_names]]
        if theirs == self.class_names or data.y.dim() != 1 or data.y.is_floating_point():
            return data.y
        if theirs is None or self.class_names is None:
            got = "none" if theirs is None else f"{list(theirs)[:5]}"
            wanted = "no class names" if self.class_names is None else f"classes {list(self.class_names)[:5]}"
            raise DataError(f"{name}: expected {wanted}, as in the training data, got {got}")
        known = {canonical(c): i for i, c in enumerate(self.class_names)}
        number = torch.tensor([known.get(canonical(c), -1) for c in theirs], device=data.y.device)
        known_rows = labeled(data.y)
        unknown = [theirs[c] for c in data.y[known_rows].unique().tolist() if number[c] < 0]
        if unknown:
            raise _unknown(name, "classes", unknown, f"The network has {list(self.class_names)[:10]}")
        return torch.where(known_rows, number[data.y.clamp(min=0)], -1) if len(theirs) else data.y


def _unknown(name: str, what: str, found: Sequence[str], why: str) -> DataError:
    more = f" and {len(found) - 10} more" if len(found) > 10 else ""
    return DataError(f"{name}: expected {what} of the network, got {list(found)[:10]}{more}. {why}")
