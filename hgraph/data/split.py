"""`Split`, `Parts`: training, validation and test parts of nodes, or of the examples of a dataset."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from hgraph.checks import real
from hgraph.data.derived import STRUCTURE_FROM, Source, restrict
from hgraph.data.labels import class_labels, labeled
from hgraph.errors import ArgumentError, DataError
from hgraph.structure.base import moved
from hgraph.structure.graph import Graph
from hgraph.structure.hypergraph import Hypergraph

__all__ = ["Labeled", "Parts", "Split", "cuts", "in_time"]


class Labeled(Source, Protocol):
    """The part of `Data` that splits use."""

    @property
    def num_nodes(self) -> int:
        """N."""

    @property
    def num_targets(self) -> int:
        """The number of labeled targets."""


@dataclass(frozen=True, eq=False)
class Split:
    """Training, validation and test nodes, and the structure for message passing during training.

    Args:
        structure: the structure for message passing during training. Transductive: the whole structure. Production: the
            sub-structure on ``observed``, or the structure made from their features, so that no information about
            unseen nodes can leak.
        train: [.] node ids of the `Data`, like ``val`` and ``test``; the parts are disjoint.
        val: validation nodes.
        test: test nodes.
        observed: None (transductive), or the ids [N'] of the nodes of ``structure``, in its order.
        x: [N', F] features of the observed nodes if features are computed from the structure (degrees); otherwise None:
            the rows of ``data.x`` are used.

    >>> path = Graph.from_edge_index([[0, 1, 2], [1, 2, 3]], num_nodes=4, directed=False)
    >>> Split(path, train=torch.tensor([0, 1]), val=torch.tensor([2]), test=torch.tensor([3]))
    Split(train 2, val 1, test 1, transductive)
    """

    structure: Graph | Hypergraph
    train: Tensor
    val: Tensor
    test: Tensor
    observed: Tensor | None = None
    x: Tensor | None = None

    @classmethod
    def from_masks(
        cls,
        structure: Graph | Hypergraph,
        train_mask: Tensor,
        val_mask: Tensor | None = None,
        test_mask: Tensor | None = None,
    ) -> Split:
        """Transductive split of boolean masks [N]; None is a part without nodes.

        Raises:
            ArgumentError: a mask that is not boolean [N].

        >>> path = Graph.from_edge_index([[0, 1], [1, 2]], num_nodes=3, directed=False)
        >>> Split.from_masks(path, torch.tensor([True, True, False])).train
        tensor([0, 1])
        """
        parts = []
        for name, mask in (("train_mask", train_mask), ("val_mask", val_mask), ("test_mask", test_mask)):
            mask = torch.zeros(structure.num_nodes, dtype=torch.bool) if mask is None else torch.as_tensor(mask)
            if mask.dtype != torch.bool or mask.shape != (structure.num_nodes,):
                got = f"{mask.dtype} {list(mask.shape)}"
                hint = "Split(structure, train=ids, val=ids, test=ids) takes ids"
                raise ArgumentError(name, f"{structure.num_nodes} booleans (one per node)", got, hint)
            parts.append(mask.nonzero().flatten())
        return cls(structure, *parts)

    @classmethod
    def per_class(
        cls,
        structure: Graph | Hypergraph,
        y: Tensor,
        *,
        num_train_per_class: int = 20,
        num_val_per_class: int = 100,
        seed: int = 0,
    ) -> Split:
        """Transductive split: fixed numbers of random training and validation nodes per class, the rest for testing.

        Labels below 0 are missing: such nodes are in no part.

        Raises:
            ArgumentError: a class too small to leave a test node, or labels that are fractions.
        """
        y, generator = class_labels(y), torch.Generator().manual_seed(seed)
        if y.is_complex() or (y.is_floating_point() and bool((y[labeled(y)] % 1 != 0).any())):
            got = f"{y.dtype}" if y.is_complex() else f"fractions such as {float(y[labeled(y) & (y % 1 != 0)][0]):g}"
            hint = "Split.from_masks takes parts of nodes with numbers as targets"
            raise ArgumentError("y", "class numbers", got, hint)
        empty = torch.empty(0, dtype=torch.long, device=y.device)
        parts: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([empty], [empty], [empty])
        for label in torch.unique(y[y >= 0]).tolist():
            members = (y == label).nonzero().flatten()
            if len(members) <= num_train_per_class + num_val_per_class:
                hint = "Reduce num_train_per_class= or num_val_per_class="
                raise ArgumentError(
                    "y",
                    f"more than {num_train_per_class + num_val_per_class} nodes in class {label}",
                    len(members),
                    hint,
                )
            members = members[torch.randperm(len(members), generator=generator)]
            for part, chosen in zip(
                parts, members.tensor_split([num_train_per_class, num_train_per_class + num_val_per_class]), strict=True
            ):
                part.append(chosen)
        return cls(structure, *(torch.cat(part).sort().values for part in parts))

    @classmethod
    def by_time(
        cls,
        structure: Graph | Hypergraph,
        time: Tensor,
        *,
        y: Tensor | None = None,
        val_fraction: float = 0.2,
        test_fraction: float = 0.2,
    ) -> Split:
        """Hold out the latest nodes; test nodes are not in the training structure.

        For data whose structure was made from features, or whose features are degrees, call `rebuilt` on the result.

        Args:
            structure: the whole structure.
            time: [N] one number per node; nodes of equal time stay together, so parts may be larger.
            y: [N] or [N, C] labels; nodes without one (-1, NaN) are in no part. None: all nodes are labeled.
            val_fraction: fraction of the nodes for validation.
            test_fraction: fraction of the nodes for testing.

        Returns:
            A production split: ``structure`` has only the training and validation nodes.

        >>> path = Graph.from_edge_index([[0, 1, 2, 3], [1, 2, 3, 4]], num_nodes=5, directed=False)
        >>> split = Split.by_time(path, torch.tensor([5, 4, 3, 2, 1]))
        >>> split.train.tolist(), split.val.tolist(), split.test.tolist(), split.structure.num_nodes
        ([2, 3, 4], [1], [0], 4)
        """
        num_nodes = structure.num_nodes
        time = torch.as_tensor(time)
        if time.shape != (num_nodes,):
            raise ArgumentError("time", f"{num_nodes} numbers (one per node)", f"shape {list(time.shape)}")
        parts = in_time(time, val_fraction, test_fraction)
        observed = torch.cat(parts[:2]).sort().values
        if y is not None:
            if len(y) != num_nodes:
                raise ArgumentError("y", f"{num_nodes} rows (one per node)", len(y))
            there = labeled(y)
            parts = [part[there[part]] for part in parts]
        induced = structure.subgraph if isinstance(structure, Graph) else structure.subhypergraph
        return cls(induced(observed), parts[0], parts[1], parts[2], observed)

    @classmethod
    def production(cls, data: Labeled, split: Split, *, unseen_fraction: float = 0.2, seed: int = 0) -> Split:
        """The same split with a fraction of its test nodes removed from training.

        Use it to measure how well a model does on nodes that arrive after training. Nothing of the removed nodes
        reaches training: a structure made from features is made again from the observed rows, and degree features are
        those of the observed structure (see `rebuilt`).
        """
        if not 0 < unseen_fraction < 1:
            raise ArgumentError("unseen_fraction", "a fraction between 0 and 1", unseen_fraction)
        generator = torch.Generator().manual_seed(seed)
        hidden = split.test[
            torch.randperm(len(split.test), generator=generator)[: round(unseen_fraction * len(split.test))]
        ]
        seen = torch.ones(data.num_nodes, dtype=torch.bool)
        if split.observed is not None:  # what is hidden already stays so
            seen = torch.zeros_like(seen)
            seen[split.observed] = True
        seen[hidden] = False
        observed = seen.nonzero().flatten()
        return cls(data.structure, split.train, split.val, split.test, observed).rebuilt(data)

    def rebuilt(self, data: Labeled) -> Split:
        """The same parts, with structure and features computed from the observed nodes only.

        ``data.meta["structure_from"]`` is the recipe of a structure made from features, such as
        ``{"builder": "knn_hypergraph", "k": 10}``; ``data.meta["features_from"]`` names features computed from the
        structure, such as ``"degree"``. Without them, the structure is the induced sub-structure and features are rows
        of ``data.x``.

        >>> from hgraph.builders import knn_hypergraph
        >>> from hgraph.data import Data
        >>> x = torch.tensor([[0.0], [1.0], [5.0], [6.0]])
        >>> meta = {"structure_from": {"builder": "knn_hypergraph", "k": 1}}
        >>> data = Data(knn_hypergraph(x, 1), x, torch.zeros(4).long(), meta=meta)
        >>> parts = {"train": torch.tensor([0]), "val": torch.tensor([2]), "test": torch.tensor([1])}
        >>> Split(data.structure, **parts, observed=torch.tensor([0, 2, 3])).rebuilt(data).structure.to_lists()
        [[0, 1], [1, 2], [1, 2]]
        """
        if self.observed is None:
            return replace(self, structure=data.structure, x=None)
        structure, x = restrict(data, self.observed)
        return replace(self, structure=structure, x=x)

    @property
    def setting(self) -> Literal["transductive", "production"]:
        """``"transductive"`` if the training structure has every node, else ``"production"``."""
        return "transductive" if self.observed is None else "production"

    @property
    def unseen(self) -> Tensor:
        """The test nodes that are not in the training structure; empty for transductive splits."""
        if self.observed is None:
            return self.test[:0]
        return self.test[~torch.isin(self.test, self.observed)]

    def validate(self, data: Labeled) -> None:
        """Prove that the parts are disjoint and that the training structure has no held-out nodes.

        Raises:
            DataError: overlapping parts, ids out of range, or a structure or features that are not exactly the whole
                ones (transductive) or those of ``observed`` (production), as `rebuilt` computes them.
        """
        for name in ("train", "val", "test", "observed"):
            part = getattr(self, name)
            if part is not None and (part.dim() != 1 or part.dtype not in (torch.int64, torch.int32)):
                raise DataError(f"split: {name} must be node ids [.], got {part.dtype} {list(part.shape)}")
        ids = torch.cat([self.train, self.val, self.test])
        if len(torch.unique(ids)) != len(ids):
            raise DataError("split: a node appears more than once in train, val and test")
        if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= data.num_targets):
            raise DataError(f"split: ids must be in 0 .. {data.num_targets - 1}")
        if self.observed is None:
            expected, x = data.structure, None
        else:
            seen = torch.unique(self.observed)
            in_range = len(seen) == 0 or 0 <= int(seen[0]) <= int(seen[-1]) < data.num_nodes
            if len(seen) < len(self.observed) or not in_range:
                raise DataError(f"split: observed must be distinct node ids in 0 .. {data.num_nodes - 1}")
            expected, x = restrict(data, self.observed)
            if not bool(torch.isin(torch.cat([self.train, self.val]), self.observed).all()):
                raise DataError("split: train and validation nodes must be observed")
        hint = "Split.rebuilt(data) computes it from them"
        if self.structure is not expected and not expected.equal(self.structure):  # type: ignore[arg-type]
            kind = "the structure made from the features of" if STRUCTURE_FROM in data.meta else "the sub-structure on"
            raise DataError(f"split: the training structure is not {kind} the observed nodes. {hint}")
        if (self.x is None) != (x is None) or (x is not None and not torch.equal(x, self.x)):  # type: ignore[arg-type]
            raise DataError(f"split: x is not computed from the structure of the observed nodes. {hint}")

    def __repr__(self) -> str:
        counts = f"train {len(self.train):,}, val {len(self.val):,}, test {len(self.test):,}"
        return f"Split({counts}, {self.setting})"

    def to(self, device: torch.device | str) -> Split:
        """The same split on another device."""
        return moved(self, device)


@dataclass(frozen=True, eq=False)
class Parts:
    """Training, validation and test examples of a `Dataset`: for sets of many graphs, rows or images.

    Args:
        train: [.] example numbers, like ``val`` and ``test``; the parts are disjoint.
        val: validation examples.
        test: test examples.

    >>> parts = Parts(train=torch.tensor([0, 1]), val=torch.tensor([2]), test=torch.tensor([3]))
    >>> parts.validate(4)  # disjoint, and all of them there
    """

    train: Tensor
    val: Tensor
    test: Tensor

    def validate(self, length: int) -> None:
        """Prove that the parts are disjoint and all examples exist.

        Raises:
            DataError: overlapping parts, or numbers out of range.
        """
        ids = torch.cat([self.train, self.val, self.test])
        if len(torch.unique(ids)) != len(ids):
            raise DataError("split: an example appears more than once in train, val and test")
        if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= length):
            raise DataError(f"split: examples must be in 0 .. {length - 1}")


def cuts(count: int, val: float, test: float) -> list[int]:
    """Where validation and test begin among ``count`` ordered items, by their fractions."""
    expected = "a non-negative fraction below 1"
    if not real("val_fraction", val, expected) + real("test_fraction", test, expected) < 1:
        raise ArgumentError("val_fraction, test_fraction", "non-negative, with a sum below 1", f"{val}, {test}")
    last = count - round(test * count)
    return [last - round(val * count), last]


def in_time(time: Tensor, val: float, test: float) -> list[Tensor]:
    """Ids of the earliest, the later, and the latest items; equal times are never separated."""
    if not bool(torch.isfinite(time).all()):
        raise ArgumentError("time", "finite numbers", "NaN or infinity")
    in_order = time.sort().values
    begins = [in_order[cut] if cut < len(time) else torch.inf for cut in cuts(len(time), val, test)]
    stage = (time >= begins[0]).long() + (time >= begins[1]).long()
    return [(stage == s).nonzero().flatten() for s in range(3)]
