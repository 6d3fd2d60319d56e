"""`Data`, `Split`, `Dataset`: labelled structures, how they are divided, and sets of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from hgraph.errors import ArgumentError, DataError
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["Data", "Dataset", "Split"]


@dataclass(frozen=True, eq=False)
class Split:
    """Which vertices train, validate and test, and the structure messages may use while training.

    Args:
        structure: what messages flow over in training. Transductive: the whole structure. Production: the
            sub-structure on ``observed``, so that nothing about unseen vertices can leak.
        train: [.] vertex ids of the `Data`, as are ``val`` and ``test``; no two share a vertex.
        val: validation vertices.
        test: test vertices.
        observed: None (transductive), or the ids [N'] that ``structure`` holds, in its order.
    """

    structure: Graph | Hypergraph
    train: Tensor
    val: Tensor
    test: Tensor
    observed: Tensor | None = None

    @classmethod
    def per_class(
        cls,
        structure: Graph | Hypergraph,
        y: Tensor,
        *,
        train: int = 20,
        val: int = 100,
        seed: int = 0,
    ) -> Split:
        """Transductive split: of each class ``train`` and ``val`` vertices drawn under a seed, the others test.

        Labels below 0 count as missing: such vertices are in no part.

        Raises:
            ArgumentError: a class too small to leave a test vertex.
        """
        generator = torch.Generator().manual_seed(seed)
        nobody = torch.empty(0, dtype=torch.long, device=y.device)
        parts: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([nobody], [nobody], [nobody])
        for label in torch.unique(y[y >= 0]).tolist():
            members = (y == label).nonzero().flatten()
            if len(members) <= train + val:
                hint = "Ask for fewer with train= and val="
                raise ArgumentError("y", f"more than {train + val} vertices in class {label}", len(members), hint)
            members = members[torch.randperm(len(members), generator=generator)]
            for part, chosen in zip(parts, members.tensor_split([train, train + val]), strict=True):
                part.append(chosen)
        return cls(structure, *(torch.cat(part).sort().values for part in parts))

    @classmethod
    def production(cls, data: Data, split: Split, *, unseen: float = 0.2, seed: int = 0) -> Split:
        """The same split with a share of its test vertices taken out of the training structure."""
        if not 0 < unseen < 1:
            raise ArgumentError("unseen", "a share between 0 and 1", unseen)
        generator = torch.Generator().manual_seed(seed)
        hidden = split.test[torch.randperm(len(split.test), generator=generator)[: round(unseen * len(split.test))]]
        seen = torch.ones(data.num_vertices, dtype=torch.bool)
        seen[hidden] = False
        observed = seen.nonzero().flatten()
        return cls(_restrict(data.structure, observed), split.train, split.val, split.test, observed)

    @property
    def setting(self) -> Literal["transductive", "production"]:
        """``"transductive"`` when the training structure holds every vertex, else ``"production"``."""
        return "transductive" if self.observed is None else "production"

    @property
    def unseen(self) -> Tensor:
        """The test vertices that the training structure does not hold; empty when transductive."""
        if self.observed is None:
            return self.test[:0]
        return self.test[~torch.isin(self.test, self.observed)]

    def check(self, data: Data) -> None:
        """Prove that the parts are disjoint and that the training structure holds nothing held out.

        Raises:
            DataError: overlapping parts, ids out of range, or a structure that is not exactly the whole one
                (transductive) or the sub-structure on ``observed`` (production).
        """
        for name in ("train", "val", "test", "observed"):
            part = getattr(self, name)
            if part is not None and (part.dim() != 1 or part.dtype not in (torch.int64, torch.int32)):
                raise DataError(f"split: {name} must be vertex ids [.], got {part.dtype} {list(part.shape)}")
        ids = torch.cat([self.train, self.val, self.test])
        if len(torch.unique(ids)) != len(ids):
            raise DataError("split: a vertex stands in two of train, val and test, or twice in one")
        if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= data.num_vertices):
            raise DataError(f"split: ids must lie in 0 .. {data.num_vertices - 1}")
        if self.observed is None:
            if self.structure is data.structure:
                return
            expected = data.structure
        else:
            seen = torch.unique(self.observed)
            in_range = len(seen) == 0 or 0 <= int(seen[0]) <= int(seen[-1]) < data.num_vertices
            if len(seen) < len(self.observed) or not in_range:
                raise DataError(f"split: observed must name vertices in 0 .. {data.num_vertices - 1}, each once")
            expected = _restrict(data.structure, self.observed)
            if not bool(torch.isin(torch.cat([self.train, self.val]), self.observed).all()):
                raise DataError("split: train and validation vertices must be observed")
        if not expected.equal(self.structure):  # type: ignore[arg-type]
            raise DataError("split: the training structure holds more, or other, than the observed vertices' own")

    def to(self, device: torch.device | str) -> Split:
        """The same split on another device."""
        return _moved(self, device)


@dataclass(frozen=True, eq=False)
class Data:
    """One labelled structure: a big graph or hypergraph, or one example of many.

    Args:
        structure: the whole structure.
        x: [N, F] vertex features.
        y: [N] labels (-1 is missing), or whatever the task predicts.
        splits: named `Split` s; ``"default"`` is used where none is named.
        meta: names of vertices, classes, features and other facts beside the tensors.
    """

    structure: Graph | Hypergraph
    x: Tensor
    y: Tensor
    splits: Mapping[str, Split] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def num_vertices(self) -> int:
        """N."""
        s = self.structure
        return s.num_nodes if isinstance(s, Graph) else s.num_vertices

    @property
    def num_features(self) -> int:
        """F."""
        return self.x.shape[-1]

    @property
    def num_classes(self) -> int:
        """C, the named classes, or one more than the largest label."""
        names = self.meta.get("class_names")
        return len(names) if names else int(self.y.max()) + 1 if len(self.y) else 0

    def split(self, name: str = "default") -> Split:
        """The split of that name.

        Raises:
            ArgumentError: there is none; the message lists those there are.
        """
        if name not in self.splits:
            raise ArgumentError("split", f"one of {sorted(self.splits)}", repr(name))
        return self.splits[name]

    def validate(self) -> Data:
        """Check sizes, features without NaN, and every split; returns the data itself."""
        for name, tensor in (("x", self.x), ("y", self.y)):
            if tensor.shape[0] != self.num_vertices:
                raise ArgumentError(name, f"{self.num_vertices} rows (one a vertex)", tensor.shape[0])
        if self.x.is_floating_point() and bool(self.x.isnan().any()):
            raise ArgumentError("x", "features without NaN", f"{int(self.x.isnan().sum())} NaN")
        for split in self.splits.values():
            split.check(self)
        return self

    def to(self, device: torch.device | str) -> Data:
        """The same data on another device."""
        return _moved(self, device)


class Dataset(Sequence[Data]):
    """A sequence of `Data` with its card: task, licence, citation, quirks.

    Args:
        name: what `hgraph.datasets.load` calls it.
        items: the examples, or a function that makes example i (then ``length`` says how many).
        task: ``"vertex classification"`` and so on.
        target_spec: what ``y`` holds, for instance ``{"kind": "class", "num_classes": 7}``.
        licence: the terms as published, or ``"none stated"``.
        redistribute: False where the terms forbid passing on the data or anything made from it.
        citation: whom to cite.
        quirks: surprises a user should know of, one sentence each.
    """

    def __init__(
        self,
        name: str,
        items: Sequence[Data] | Callable[[int], Data],
        *,
        task: str,
        target_spec: Mapping[str, Any],
        licence: str,
        redistribute: bool,
        citation: str,
        quirks: Sequence[str] = (),
        length: int | None = None,
    ) -> None:
        self.name, self.task, self.target_spec = name, task, dict(target_spec)
        self.licence, self.redistribute, self.citation, self.quirks = licence, redistribute, citation, tuple(quirks)
        if callable(items):
            if length is None:
                raise ArgumentError("length", "the number of examples when items is a function", None)
            self._get, self._length = items, length
        else:
            self._get, self._length = items.__getitem__, len(items)

    def __len__(self) -> int:
        """How many examples there are."""
        return self._length

    def __getitem__(self, index: int) -> Data:  # type: ignore[override]
        """Example ``index``; negative numbers count from the end."""
        if not -self._length <= index < self._length:
            raise IndexError(f"{self.name} has {self._length} examples, there is no number {index}")
        return self._get(index % self._length)

    def __iter__(self) -> Iterator[Data]:
        """The examples in order."""
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        """The card in one line."""
        return f"Dataset({self.name!r}, {len(self)} example(s), {self.task}, licence: {self.licence})"


def _restrict(structure: Graph | Hypergraph, vertices: Tensor) -> Graph | Hypergraph:
    if isinstance(structure, Graph):
        return structure.subgraph(vertices)
    return structure.subhypergraph(vertices)


def _moved(record: Any, device: torch.device | str) -> Any:
    done: dict[int, Any] = {}  # what splits and data share stays shared, so nothing is copied twice

    def move(value: Any) -> Any:
        if id(value) not in done:
            done[id(value)] = move_once(value)
        return done[id(value)]

    def move_once(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: move(v) for k, v in value.items()}
        if isinstance(value, (Data, Split)):
            return dataclasses.replace(
                value, **{f.name: move(getattr(value, f.name)) for f in dataclasses.fields(value)}
            )
        return value.to(device) if hasattr(value, "to") else value

    return move(record)
