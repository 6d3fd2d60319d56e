"""`Data`, `Split`, `Dataset`: labelled structures, how they are divided, and sets of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from hgraph.errors import ArgumentError, DataError
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["Data", "Dataset", "Parts", "Split"]

T = TypeVar("T")


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
        if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= data.num_targets):
            raise DataError(f"split: ids must lie in 0 .. {data.num_targets - 1}")
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

    def __repr__(self) -> str:
        counts = f"train {len(self.train):,}, val {len(self.val):,}, test {len(self.test):,}"
        return f"Split({counts}, {self.setting})"

    def to(self, device: torch.device | str) -> Split:
        """The same split on another device."""
        return _moved(self, device)


@dataclass(frozen=True, eq=False)
class Data:
    """One labelled structure: a big graph or hypergraph, or one example of many.

    Args:
        structure: the whole structure.
        x: [N, F] vertex features; F = 0 where there are none.
        y: one row for each thing that ``target`` names: class numbers (-1 is missing), booleans [., C] where a thing
            may have several labels, or numbers. Of ``"graph"``: [] or [C], since this is one example of many.
        splits: named `Split` s; ``"default"`` is used where none is named.
        meta: names of vertices, classes, features and other facts beside the tensors.
        target: what ``y`` is of: vertices [N], hyperedges [M], edges [E] (in the order of the structure's rows), or
            the whole graph or hypergraph.

    >>> baskets = Hypergraph.from_lists([[0, 1], [1, 2], [0, 2]], num_vertices=3)
    >>> data = Data(baskets, torch.ones(3, 1), torch.tensor([0, 1, 1]), target="hyperedge").validate()
    >>> data.num_targets, data.num_classes
    (3, 2)
    """

    structure: Graph | Hypergraph
    x: Tensor
    y: Tensor
    splits: Mapping[str, Split] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    target: Literal["vertex", "hyperedge", "edge", "graph"] = "vertex"

    @property
    def num_vertices(self) -> int:
        """N."""
        s = self.structure
        return s.num_nodes if isinstance(s, Graph) else s.num_vertices

    @property
    def num_targets(self) -> int:
        """How many things ``y`` labels: N, M, E, or the number of examples (one, or as many as were collated)."""
        if self.target == "vertex":
            return self.num_vertices
        if self.target == "graph":
            return int(self.meta.get("num_items", 1))
        name = "num_hyperedges" if self.target == "hyperedge" else "num_edges"
        if not hasattr(self.structure, name):
            kind = type(self.structure).__name__
            raise ArgumentError("target", f"something that a {kind} has", repr(self.target))
        return int(getattr(self.structure, name))

    @property
    def num_features(self) -> int:
        """F."""
        return self.x.shape[-1]

    @property
    def num_classes(self) -> int:
        """C: the named classes, the columns of ``y``, or one more than the largest label."""
        names = self.meta.get("class_names")
        if names:
            return len(names)
        if self.y.dim() > self._has_rows:
            return self.y.shape[-1]
        return int(self.y.max()) + 1 if self.y.numel() else 0

    @property
    def _has_rows(self) -> bool:
        """Whether the first axis of ``y`` counts targets; the label of a single graph stands alone."""
        return self.target != "graph" or "num_items" in self.meta

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
        if self.x.shape[0] != self.num_vertices:
            raise ArgumentError("x", f"{self.num_vertices} rows (one a vertex)", self.x.shape[0])
        if self._has_rows and (self.y.dim() == 0 or self.y.shape[0] != self.num_targets):
            rows = self.y.shape[0] if self.y.dim() else "a number"
            raise ArgumentError("y", f"{self.num_targets} rows (one a {self.target})", rows)
        if self.x.is_floating_point() and bool(self.x.isnan().any()):
            raise ArgumentError("x", "features without NaN", f"{int(self.x.isnan().sum())} NaN")
        for split in self.splits.values():
            split.check(self)
        return self

    def __repr__(self) -> str:
        parts = [repr(self.structure), f"x={list(self.x.shape)}", f"y={list(self.y.shape)}"]
        parts += [f"splits={sorted(self.splits)}"] if self.splits else []
        parts += [f"target={self.target!r}"] if self.target != "vertex" else []
        return f"Data({', '.join(parts)})"

    def to(self, device: torch.device | str) -> Data:
        """The same data on another device."""
        return _moved(self, device)


@dataclass(frozen=True, eq=False)
class Parts:
    """Which examples of a `Dataset` train, validate and test: for sets of many graphs, rows or pictures.

    Args:
        train: [.] numbers of examples, as are ``val`` and ``test``; no two share an example.
        val: validation examples.
        test: test examples.
    """

    train: Tensor
    val: Tensor
    test: Tensor

    def check(self, length: int) -> None:
        """Prove that the parts are disjoint and name examples that there are.

        Raises:
            DataError: they are not.
        """
        ids = torch.cat([self.train, self.val, self.test])
        if len(torch.unique(ids)) != len(ids):
            raise DataError("split: an example stands in two of train, val and test, or twice in one")
        if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= length):
            raise DataError(f"split: examples must lie in 0 .. {length - 1}")


class Dataset(Sequence[T]):
    """A sequence of examples (`Data`, rows of a table, pictures, texts) with its card: task, licence, quirks.

    Args:
        name: what `hgraph.datasets.load` calls it.
        items: the examples, or a function that makes example i (then ``length`` says how many).
        task: ``"vertex classification"`` and so on.
        target_spec: what the target holds, for instance ``{"kind": "class", "num_classes": 7}``.
        licence: the terms as published, or ``"none stated"``.
        redistribute: False where the terms forbid passing on the data or anything made from it.
        citation: whom to cite.
        quirks: surprises a user should know of, one sentence each.
        length: the number of examples, where ``items`` is a function.
        splits: named `Parts` over the examples; empty where each example has splits of its own.

    >>> card = {"task": "t", "target_spec": {}, "licence": "CC0", "redistribute": True, "citation": "none"}
    >>> half = Parts(torch.tensor([2, 0]), torch.tensor([1]), torch.tensor([3]))
    >>> words = Dataset("words", ["a", "b", "c", "d"], splits={"default": half}, **card)
    >>> list(words.select(words.split().train))
    ['c', 'a']
    """

    def __init__(
        self,
        name: str,
        items: Sequence[T] | Callable[[int], T],
        *,
        task: str,
        target_spec: Mapping[str, Any],
        licence: str,
        redistribute: bool,
        citation: str,
        quirks: Sequence[str] = (),
        length: int | None = None,
        splits: Mapping[str, Parts] | None = None,
    ) -> None:
        self.name, self.task, self.target_spec = name, task, dict(target_spec)
        self.licence, self.redistribute, self.citation, self.quirks = licence, redistribute, citation, tuple(quirks)
        if callable(items):
            if length is None:
                raise ArgumentError("length", "the number of examples when items is a function", None)
            self._get, self._length = items, length
        else:
            self._get, self._length = items.__getitem__, len(items)
        self.splits = dict(splits or {})
        for parts in self.splits.values():
            parts.check(self._length)

    def split(self, name: str = "default") -> Parts:
        """The division of the examples of that name.

        Raises:
            ArgumentError: there is none; the message lists those there are.
        """
        if name not in self.splits:
            raise ArgumentError("split", f"one of {sorted(self.splits)}", repr(name))
        return self.splits[name]

    def select(self, numbers: Tensor | Sequence[int]) -> Dataset[T]:
        """The examples of those numbers, in that order, under the same card; splits do not carry over."""
        chosen = [int(i) for i in numbers]
        for i in chosen:
            if not -self._length <= i < self._length:
                raise ArgumentError("numbers", f"examples in 0 .. {self._length - 1}", i)
        return Dataset(
            self.name,
            _Chosen(self, chosen),
            task=self.task,
            target_spec=self.target_spec,
            licence=self.licence,
            redistribute=self.redistribute,
            citation=self.citation,
            quirks=self.quirks,
        )

    def __len__(self) -> int:
        """How many examples there are."""
        return self._length

    def __getitem__(self, index: int) -> T:  # type: ignore[override]
        """Example ``index``; negative numbers count from the end."""
        if not -self._length <= index < self._length:
            raise IndexError(f"{self.name} has {self._length} examples, there is no number {index}")
        return self._get(index % self._length)

    def __iter__(self) -> Iterator[T]:
        """The examples in order."""
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        """The card in one line."""
        return f"Dataset({self.name!r}, {len(self)} example(s), {self.task}, licence: {self.licence})"


class _Chosen(Sequence[T]):
    """Some examples of a set, made only when asked for."""

    def __init__(self, whole: Dataset[T], numbers: list[int]) -> None:
        self.whole, self.numbers = whole, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> T:  # type: ignore[override]
        return self.whole[self.numbers[index]]


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
