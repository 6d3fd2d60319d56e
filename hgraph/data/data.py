"""`Data`, `Dataset`: labeled structures and sets of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol, TypeVar, overload

import torch
from torch import Tensor

from hgraph.data.items import items_of
from hgraph.data.labels import class_labels, labeled, target_kind
from hgraph.data.split import Parts, Split
from hgraph.errors import ArgumentError, ArgumentTypeError
from hgraph.structure.adjacency import Adjacency
from hgraph.structure.base import moved
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["Data", "Dataset", "Divides"]

T = TypeVar("T")


class Divides(Protocol):
    """Common interface of all splits (nodes, links, hyperedges, triples): prove that held-out data is hidden."""

    def validate(self, data: Any, /) -> None:
        """Raise `DataError` if held-out items are visible in training."""


S = TypeVar("S", bound=Divides)


@dataclass(frozen=True, eq=False)
class Data:
    """One labeled structure: one large graph or hypergraph, or one example of many.

    Args:
        structure: the whole structure.
        x: [N, F] node features; F = 0 where there are none.
        y: one row per target: class numbers (-1 is missing), booleans [., C] for multi-label targets,
            or numbers (NaN is missing). Class numbers [., 1] become [.]. For ``"graph"``:
            [] or [C], since this is one example of many.
        splits: one split, or named splits, of nodes (`Split`), or of prediction targets (`LinkSplit`,
            `HyperedgeSplit`); ``"default"`` is used if no name is given, and is the name of a single one.
        meta: names of nodes, classes, features and other information.
        target: what ``y`` labels: nodes [N], hyperedges [M], edges [E] (in the order of the structure's rows), or
            the whole graph or hypergraph.

    >>> baskets = Hypergraph.from_lists([[0, 1], [1, 2], [0, 2]], num_nodes=3)
    >>> data = Data(baskets, torch.ones(3, 1), torch.tensor([0, 1, 1]), target="hyperedge").validate()
    >>> data.num_targets, data.num_classes
    (3, 2)
    """

    structure: Graph | Hypergraph
    x: Tensor
    y: Tensor
    splits: Mapping[str, Divides] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    target: Literal["node", "hyperedge", "edge", "graph"] = "node"

    def __post_init__(self) -> None:
        """Normalize the shape of class numbers, and name a single split."""
        if self.structure is None or isinstance(self.structure, (Tensor, list, tuple, dict)):
            hint = "The order is Data(structure, x, y); Graph.from_edge_index and Hypergraph.from_lists make structures"
            raise ArgumentTypeError("structure", "a Graph or a Hypergraph", type(self.structure).__name__, hint)
        if isinstance(self.splits, Split):
            object.__setattr__(self, "splits", {"default": self.splits})
        if self._has_rows:
            object.__setattr__(self, "y", class_labels(self.y))

    @classmethod
    def from_masks(
        cls,
        structure: Graph | Hypergraph,
        x: Tensor,
        y: Tensor,
        *,
        train_mask: Tensor,
        val_mask: Tensor | None = None,
        test_mask: Tensor | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Data:
        """Labeled nodes with their default split from boolean masks [N], as other libraries have them.

        Args:
            structure: the whole structure.
            x: [N, F] node features.
            y: [N] or [N, C] labels.
            train_mask: [N] booleans, as are ``val_mask`` and ``test_mask``; None is a part without nodes.
            val_mask: as above.
            test_mask: as above.
            meta: names and other metadata, as in `Data`.

        Raises:
            ArgumentError: a mask that is not boolean [N].
            DataError: masks that overlap.

        >>> graph, on = Graph.from_edge_index([[0], [1]], num_nodes=2, directed=False), torch.tensor([True, False])
        >>> Data.from_masks(graph, torch.eye(2), torch.tensor([0, 1]), train_mask=on, test_mask=~on).split()
        Split(train 1, val 0, test 1, transductive)
        """
        split = Split.from_masks(structure, train_mask, val_mask, test_mask)
        return cls(structure, x, y, {"default": split}, dict(meta or {})).validate()

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.structure.num_nodes

    @property
    def num_targets(self) -> int:
        """The number of targets of ``y``: N, M, E, or the number of examples (1, or as many as were collated)."""
        if self.target == "node":
            return self.num_nodes
        if self.target == "graph":
            return int(self.meta.get("num_items", 1))
        name = "num_hyperedges" if self.target == "hyperedge" else "num_edges"
        if not hasattr(self.structure, name):
            kind = type(self.structure).__name__
            raise ArgumentError("target", f"a target of a {kind}", repr(self.target))
        return int(getattr(self.structure, name))

    @cached_property
    def items(self) -> Adjacency:
        """The `Adjacency` from nodes to their examples, B targets by N sources; one example if this is no batch."""
        batch = self.meta.get("batch")
        if batch is None:
            batch = torch.zeros(self.num_nodes, dtype=torch.long, device=self.x.device)
        return items_of(batch, int(self.meta.get("num_items", 1)))

    @property
    def num_features(self) -> int:
        """F."""
        return self.x.shape[-1]

    @property
    def num_classes(self) -> int:
        """C: the number of class names, the columns of ``y``, or the largest label plus one."""
        names = self.meta.get("class_names")
        if names:
            return len(names)
        if self.y.dim() > self._has_rows:
            return self.y.shape[-1]
        known = self.y[labeled(self.y)] if self._has_rows else self.y
        return int(known.max()) + 1 if known.numel() else 0

    @property
    def num_outputs(self) -> int:
        """The number of outputs of a network for ``y``: C for classes and labels, T for T numbers per target."""
        if self._has_rows and target_kind(self.y) == "regression":
            return self.y.shape[1] if self.y.dim() > 1 else 1
        return self.num_classes

    @property
    def _has_rows(self) -> bool:
        """Whether the first axis of ``y`` counts targets; the label of a single graph has no such axis."""
        return self.target != "graph" or "num_items" in self.meta

    @overload
    def split(self, name: str = ...) -> Split: ...

    @overload
    def split(self, name: str, kind: type[S]) -> S: ...

    def split(self, name: str = "default", kind: type[Any] = Split) -> Any:
        """The split of that name.

        Args:
            name: of the split.
            kind: the expected type: `Split` for nodes, `LinkSplit` for links, `HyperedgeSplit` for hyperedges.

        Raises:
            ArgumentError: an unknown name (the message lists the known ones), or a split of the wrong type.
        """
        if name not in self.splits:
            expected = f"one of {sorted(self.splits)}" if self.splits else "data with a split"
            hint = "" if self.splits else "Data.from_masks, Split.per_class and Split.by_time make splits of nodes"
            raise ArgumentError("split", expected, repr(name) if self.splits else "none", hint)
        found = self.splits[name]
        if not isinstance(found, kind):
            raise ArgumentError("split", f"a {kind.__name__}", f"{name!r}, a {type(found).__name__}")
        return found

    def validate(self) -> Data:
        """Check sizes, features without NaN, and every split; returns the data itself."""
        if self.x.shape[0] != self.num_nodes:
            raise ArgumentError("x", f"{self.num_nodes} rows (one per node)", self.x.shape[0])
        if self._has_rows and (self.y.dim() == 0 or self.y.shape[0] != self.num_targets):
            rows = self.y.shape[0] if self.y.dim() else "a number"
            raise ArgumentError("y", f"{self.num_targets} rows (one per {self.target})", rows)
        if self.x.is_floating_point() and bool(self.x.isnan().any()):
            raise ArgumentError("x", "features without NaN", f"{int(self.x.isnan().sum())} NaN")
        for split in self.splits.values():
            split.validate(self)
        return self

    def __repr__(self) -> str:
        parts = [repr(self.structure), f"x={list(self.x.shape)}", f"y={list(self.y.shape)}"]
        parts += [f"splits={sorted(self.splits)}"] if self.splits else []
        parts += [f"target={self.target!r}"] if self.target != "node" else []
        return f"Data({', '.join(parts)})"

    def to(self, device: torch.device | str) -> Data:
        """The same data on another device."""
        return moved(self, device)


class Dataset(Sequence[T]):
    """A sequence of examples (`Data`, table rows, images, texts) with its card: task, license, caveats.

    Args:
        name: the name for `hgraph.datasets.load`.
        items: the examples, or a function that returns example i (then pass ``length``).
        task: ``"node classification"`` and so on.
        target_spec: a description of the target, for instance ``{"kind": "class", "num_classes": 7}``.
        license: the terms as published, or ``"none stated"``.
        redistribute: False if the terms forbid redistribution of the data or anything derived from it.
        citation: the work to cite.
        caveats: caveats for users, one sentence each.
        length: the number of examples, if ``items`` is a function.
        splits: named `Parts` of the examples; empty if each example has its own splits.

    >>> card = {"task": "t", "target_spec": {}, "license": "CC0", "redistribute": True, "citation": "none"}
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
        license: str,
        redistribute: bool,
        citation: str,
        caveats: Sequence[str] = (),
        length: int | None = None,
        splits: Mapping[str, Parts] | None = None,
    ) -> None:
        self.name, self.task, self.target_spec = name, task, dict(target_spec)
        self.license, self.redistribute, self.citation, self.caveats = license, redistribute, citation, tuple(caveats)
        if callable(items):
            if length is None:
                raise ArgumentError("length", "the number of examples when items is a function", None)
            self._get, self._length = items, length
        else:
            self._get, self._length = items.__getitem__, len(items)
        self.splits = dict(splits or {})
        for parts in self.splits.values():
            parts.validate(self._length)

    def split(self, name: str = "default") -> Parts:
        """The split of the examples with that name.

        Raises:
            ArgumentError: an unknown name; the message lists the known ones.
        """
        if name not in self.splits:
            raise ArgumentError("split", f"one of {sorted(self.splits)}", repr(name))
        return self.splits[name]

    def select(self, numbers: Tensor | Sequence[int]) -> Dataset[T]:
        """The given examples, in that order, with the same card; drops the splits."""
        chosen = [int(i) for i in numbers]
        for i in chosen:
            if not -self._length <= i < self._length:
                raise ArgumentError("numbers", f"examples in 0 .. {self._length - 1}", i)
        return Dataset(
            self.name,
            _Chosen(self, chosen),
            task=self.task,
            target_spec=self.target_spec,
            license=self.license,
            redistribute=self.redistribute,
            citation=self.citation,
            caveats=self.caveats,
        )

    def __len__(self) -> int:
        """The number of examples."""
        return self._length

    def __getitem__(self, index: int) -> T:  # type: ignore[override]
        """Example ``index``; negative numbers count from the end."""
        if not -self._length <= index < self._length:
            raise IndexError(f"index {index} is out of range: {self.name} has {self._length} examples")
        return self._get(index % self._length)

    def __iter__(self) -> Iterator[T]:
        """The examples in order."""
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        """The card in one line."""
        return f"Dataset({self.name!r}, {len(self)} example(s), {self.task}, license: {self.license})"


class _Chosen(Sequence[T]):
    """A subset of the examples, loaded lazily."""

    def __init__(self, whole: Dataset[T], numbers: list[int]) -> None:
        self.whole, self.numbers = whole, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> T:  # type: ignore[override]
        return self.whole[self.numbers[index]]
