"""What a trained network reads and answers, and other data brought into that form."""

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
from hgraph.data.labels import labeled
from hgraph.datasets.tables.cells import canonical
from hgraph.datasets.tables.encoder import Encoder
from hgraph.datasets.tables.table import cells_of, read_table
from hgraph.errors import DataError
from hgraph.files import write_atomically
from hgraph.structure import Graph

__all__ = ["DEGREE", "IDENTITY", "Inputs", "log_degree"]

_LOG = logging.getLogger("hgraph")
_FILE = "inputs.json"
IDENTITY = "node "  # begins the name of a feature that tells who a node is
DEGREE = ("one", "log degree")  # the features of many nodes without any column


@dataclass(frozen=True)
class Inputs:
    """The encoder, the features and the classes of the data a network was trained on.

    Use it to give a trained network other data: features by the statistics of the training data, class numbers by name.

    Args:
        encoder: of the columns, or None.
        feature_names: F names, or None where the data name none.
        class_names: C names, or None.
        degree: mean and deviation of the logarithm of the degree, where that is a feature.

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
        """Those of data that a network is trained on."""
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
        facts: dict[str, Any] = {"features": self.feature_names, "classes": self.class_names, "degree": self.degree}
        facts["encoder"] = self.encoder is not None
        write_atomically(Path(folder) / _FILE, json.dumps(facts, indent=1).encode())

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Inputs | None:
        """Read what `save` wrote; None where there is nothing.

        Raises:
            DataError: files that are damaged.
        """
        path = Path(folder) / _FILE
        if not path.is_file():
            return None
        try:
            facts = json.loads(path.read_bytes())
            names = [None if facts[n] is None else tuple(map(str, facts[n])) for n in ("features", "classes")]
            degree = None if facts["degree"] is None else (float(facts["degree"][0]), float(facts["degree"][1]))
            encoder = Encoder.load(folder) if facts["encoder"] else None
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(f"{path}: cannot be read ({error})") from error
        return cls(encoder, names[0], names[1], degree)

    # ------------------------------------------------------------------ other data

    def applied(self, data: Data, name: str) -> Data:
        """The data with the features and the class numbers that the network knows.

        Args:
            data: other data, with a split or without.
            name: what errors call it.

        Raises:
            DataError: columns or features that are missing or foreign, a class that the network does not know.
        """
        x, y = self._features(data, name), self._labels(data, name)
        meta = {k: v for k, v in dict(data.meta).items() if k != "encoder"}
        meta |= {"feature_names": self.feature_names, "class_names": self.class_names}
        meta |= {} if self.encoder is None else {"encoder": self.encoder}
        return dataclasses.replace(data, x=x, y=y, meta=meta)

    def _features(self, data: Data, name: str) -> Tensor:
        own: Encoder | None = data.meta.get("encoder")
        if self.encoder is not None:
            return data.x if self.encoder.same_as(own) else self._encoded(data, name, own)
        if own is not None:
            raise _foreign(name, "columns", [c.name for c in own.codings], "the network was trained without columns")
        given = data.meta.get("feature_names")
        theirs = None if given is None else tuple(map(str, given))
        if self.degree is not None and theirs == DEGREE:
            degree = (log_degree(data.structure) - self.degree[0]) / max(self.degree[1], 1e-6)
            return torch.stack([torch.ones_like(degree), degree], 1).to(data.x)
        if theirs == self.feature_names:
            return data.x
        if theirs is None or self.feature_names is None:
            got = "features without names" if theirs is None else f"features such as {theirs[0]!r}"
            expected = "features without names" if self.feature_names is None else f"{self.feature_names[0]!r}, ..."
            raise DataError(f"{name}: expected {expected}, as the network was trained on, got {got}")
        return self._by_name(data.x, theirs, name)

    def _encoded(self, data: Data, name: str, own: Encoder | None) -> Tensor:
        assert self.encoder is not None  # noqa: S101 - the caller has looked
        cells = data.meta.get("node_cells")
        theirs = list(cells or ([] if own is None else [c.name for c in own.codings]))
        wanted = [c.name for c in self.encoder.codings]
        missing = [c for c in wanted if c not in theirs]
        if missing:
            got = f"columns {theirs}" if theirs else "no columns"
            raise DataError(f"{name}: expected the columns {missing} that the network reads, got {got}")
        if cells is None:
            hint = "Build it again: `hgraph datasets build` now keeps the cells"
            raise DataError(f"{name}: its cells are needed to encode it as the network reads it. {hint}")
        table = read_table({c: cells_of(cells[c]) for c in wanted}, name=name)
        for column, counts in self.encoder.unseen(table).items():
            said = ", ".join(f"{word!r} {count:,} times" for word, count in list(counts.items())[:5])
            _LOG.warning("%s: column %r has categories that training never saw: %s", name, column, said)
        if more := [c for c in theirs if c not in wanted]:
            _LOG.warning("%s: columns that the network does not read: %s", name, ", ".join(more))
        return self.encoder.transform(table).to(data.x)

    def _by_name(self, x: Tensor, theirs: Sequence[str], name: str) -> Tensor:
        wanted = self.feature_names or ()
        place = {feature: i for i, feature in enumerate(theirs)}
        if foreign := [f for f in theirs if f not in set(wanted)]:
            raise _foreign(name, "features", foreign, "the network never saw them")
        missing = [f for f in wanted if f not in place]
        if missing and not all(f.startswith(IDENTITY) for f in wanted):
            raise DataError(f"{name}: expected the features {missing[:5]} that the network reads, got none of the name")
        out = x.new_zeros(len(x), len(wanted))
        at = [i for i, feature in enumerate(wanted) if feature in place]
        out[:, at] = x[:, [place[wanted[i]] for i in at]]
        return out

    def _labels(self, data: Data, name: str) -> Tensor:
        given = data.meta.get("class_names")
        theirs = None if given is None else tuple(map(str, given))
        if theirs == self.class_names or data.y.dim() != 1 or data.y.is_floating_point():
            return data.y
        if theirs is None or self.class_names is None:
            got = "none" if theirs is None else f"{list(theirs)[:5]}"
            wanted = "no names of classes" if self.class_names is None else f"classes {list(self.class_names)[:5]}"
            raise DataError(f"{name}: expected {wanted}, as the network was trained on, got {got}")
        known = {canonical(c): i for i, c in enumerate(self.class_names)}
        number = torch.tensor([known.get(canonical(c), -1) for c in theirs], device=data.y.device)
        there = labeled(data.y)
        foreign = [theirs[c] for c in data.y[there].unique().tolist() if number[c] < 0]
        if foreign:
            raise _foreign(name, "classes", foreign, f"the network knows {list(self.class_names)[:10]}")
        return torch.where(there, number[data.y.clamp(min=0)], -1) if len(theirs) else data.y


def log_degree(structure: Any) -> Tensor:
    """[N] logarithm of one more than the number of neighbors, or of hyperedges."""
    adjacency = structure.adj if isinstance(structure, Graph) else structure.e2v
    return adjacency.indptr.diff().float().log1p()


def _foreign(name: str, what: str, found: Sequence[str], why: str) -> DataError:
    more = f" and {len(found) - 10} more" if len(found) > 10 else ""
    return DataError(f"{name}: {what} that are foreign to the network: {list(found)[:10]}{more}; {why}")
